//! What no policy may do to a conversation, whatever it drops.

use std::collections::HashSet;

use plimsoll_policies::{Conversation, Message, Role, SUMMARY_HEADER};

/// What is wrong with the result of a policy; nothing, as a rule.
pub fn faults(before: &Conversation, after: &Conversation) -> Vec<String> {
    let mut faults = Vec::new();
    match Conversation::parse_chat(after.to_json()) {
        Err(error) => faults.push(format!("the result does not parse: {error}")),
        Ok(read) if read.messages().len() != after.messages().len() => {
            faults.push("the result parses to other messages".to_owned());
        }
        Ok(_) => {}
    }
    let earlier = orphans(before.messages());
    let new = orphans(after.messages()).into_iter().filter(|orphan| !earlier.contains(orphan));
    faults.extend(new.map(|(what, id)| format!("{what} `{id}` is new")));
    if instructions(after) < instructions(before) {
        faults.push("a system message is gone".to_owned());
    }
    // A policy may move volatile text to the end of what the user said, never change it.
    let asked = last_user(before).map(Message::text);
    if asked.is_some_and(|asked| !last_user(after).is_some_and(|kept| kept.text().contains(asked))) {
        faults.push("the last user message is gone".to_owned());
    }
    faults
}

/// Results without a call before them, and calls without a result after them.
fn orphans(messages: &[Message]) -> HashSet<(&'static str, &str)> {
    let mut open = HashSet::new();
    let mut orphans = HashSet::new();
    for message in messages {
        open.extend(message.tool_calls().iter().filter_map(|call| call.id.as_deref()));
        if let Some(id) = message.tool_call_id()
            && !open.remove(id)
        {
            orphans.insert(("an orphan result of call", id));
        }
    }
    orphans.extend(open.into_iter().map(|id| ("an unanswered call", id)));
    orphans
}

fn instructions(conversation: &Conversation) -> usize {
    conversation.messages().iter().filter(|message| message.role().is_system()).count()
}

fn last_user(conversation: &Conversation) -> Option<&Message> {
    let said =
        |message: &&Message| message.role() == Role::User && !message.text().starts_with(SUMMARY_HEADER);
    conversation.messages().iter().rfind(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYSTEM: &str = r#"{"role":"system","content":"s"}"#;
    const USER: &str = r#"{"role":"user","content":"u"}"#;
    const CALL: &str =
        r#"{"role":"assistant","content":null,"tool_calls":[{"id":"a","function":{"name":"f"}}]}"#;
    const RESULT: &str = r#"{"role":"tool","tool_call_id":"a","content":"1"}"#;

    fn conversation(messages: &[&str]) -> Conversation {
        Conversation::parse_chat(format!(r#"{{"messages":[{}]}}"#, messages.join(",")).into()).unwrap()
    }

    fn told(before: &[&str], after: &[&str]) -> String {
        faults(&conversation(before), &conversation(after)).join("; ")
    }

    #[test]
    fn whole_exchanges_may_go() {
        assert_eq!(told(&[SYSTEM, USER, CALL, RESULT, USER], &[SYSTEM, USER]), "");
        assert_eq!(told(&[USER, RESULT], &[USER, RESULT]), "", "an orphan that came in");
    }

    #[test]
    fn each_fault_is_named() {
        let before = [SYSTEM, USER, CALL, RESULT];
        assert_eq!(told(&before, &[SYSTEM, USER, RESULT]), "an orphan result of call `a` is new");
        assert_eq!(told(&before, &[SYSTEM, USER, CALL]), "an unanswered call `a` is new");
        assert_eq!(told(&before, &[USER, CALL, RESULT]), "a system message is gone");
        assert_eq!(told(&before, &[SYSTEM, CALL, RESULT]), "the last user message is gone");
    }
}
