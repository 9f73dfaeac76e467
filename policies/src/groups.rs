//! Units that are kept or dropped as a whole.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use crate::conversation::{Message, Role};
use crate::summaries::is_summary;

/// What a group is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A system or developer message.
    System,
    /// A user message.
    User,
    /// A summary of what came before.
    Summary,
    /// An assistant message with tool calls and all the results that follow it.
    Exchange,
    /// Anything else: an answer without calls, an orphan result, a message of unknown shape.
    Other,
}

/// A run of messages that only goes as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) range: Range<usize>,
    pub(crate) kind: Kind,
}

/// Cuts a history into groups, oldest first. Appending messages moves no boundary, except that results join the
/// exchange that called for them.
pub(crate) fn groups(messages: &[Message]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::with_capacity(messages.len());
    let mut open: HashMap<Cow<'_, str>, usize> = HashMap::new();
    for (index, message) in messages.iter().enumerate() {
        if message.role() == Role::Tool {
            // A result that something else separates from its call still belongs to it.
            let adjacent = groups.last().is_some_and(|group| group.kind == Kind::Exchange);
            let own = message.tool_call_id().and_then(|id| open.remove(id)).filter(|at| *at < groups.len());
            let joins = own.or_else(|| adjacent.then(|| groups.len() - 1));
            if let Some(at) = joins {
                groups.truncate(at + 1);
                groups[at].range.end = index + 1;
                continue;
            }
        }
        let kind = kind_of(message);
        if kind == Kind::Exchange {
            open.extend(message.call_ids().into_iter().map(|id| (id, groups.len())));
        }
        groups.push(Group { range: index..index + 1, kind });
    }
    groups
}

fn kind_of(message: &Message) -> Kind {
    match message.role() {
        Role::System | Role::Developer => Kind::System,
        Role::User if is_summary(message) => Kind::Summary,
        Role::User => Kind::User,
        Role::Assistant if message.has_calls() => Kind::Exchange,
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups_of(messages: &[&str]) -> Vec<(Range<usize>, Kind)> {
        let messages: Vec<Message> = messages.iter().map(|json| Message::from_json(*json)).collect();
        groups(&messages).into_iter().map(|group| (group.range, group.kind)).collect()
    }

    const SYSTEM: &str = r#"{"role":"system","content":"s"}"#;
    const USER: &str = r#"{"role":"user","content":"u"}"#;
    const CALLS: &str = r#"{"role":"assistant","content":null,"tool_calls":[{"id":"a"},{"id":"b"}]}"#;
    const RESULT_A: &str = r#"{"role":"tool","tool_call_id":"a","content":"1"}"#;
    const RESULT_B: &str = r#"{"role":"tool","tool_call_id":"b","content":"2"}"#;
    const NO_CALLS: &str = r#"{"role":"assistant","content":"x","tool_calls": [ ]}"#;

    #[test]
    fn parallel_results_are_one_exchange() {
        let got = groups_of(&[SYSTEM, USER, CALLS, RESULT_B, RESULT_A, NO_CALLS]);
        let want = [(0..1, Kind::System), (1..2, Kind::User), (2..5, Kind::Exchange), (5..6, Kind::Other)];
        assert_eq!(got, want);
    }

    #[test]
    fn a_late_result_joins_its_call() {
        let got = groups_of(&[USER, CALLS, RESULT_A, USER, RESULT_B, USER]);
        assert_eq!(got, [(0..1, Kind::User), (1..5, Kind::Exchange), (5..6, Kind::User)]);
    }

    #[test]
    fn orphans_stand_alone() {
        let got = groups_of(&[USER, RESULT_A, "17", USER]);
        assert_eq!(got, [(0..1, Kind::User), (1..2, Kind::Other), (2..3, Kind::Other), (3..4, Kind::User)]);
    }
}
