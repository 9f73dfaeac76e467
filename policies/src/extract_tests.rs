use proptest::prelude::*;

use super::*;
use crate::{Conversation, CountError};

/// A token for every third byte: what a text costs follows from its length, so that expected cuts can be reckoned.
struct ByBytes;

impl CountTokens for ByBytes {
    fn prompt(&self, _: &Conversation) -> Result<Tokens, CountError> {
        Err(CountError::new("not asked here"))
    }

    fn messages(&self, _: &[Message]) -> Tokens {
        0
    }

    fn text(&self, text: &str) -> Tokens {
        text.len().div_ceil(3) as Tokens
    }

    fn name(&self) -> &'static str {
        "bytes"
    }

    fn estimated(&self) -> bool {
        true
    }
}

const ROOM: Tokens = 10_000;

fn user(text: &str) -> Message {
    Message::user(text)
}

fn tool(text: &str) -> Message {
    let json = serde_json::json!({"role": "tool", "tool_call_id": "c1", "content": text});
    Message::from_json(json.to_string())
}

fn assistant(text: &str) -> Message {
    Message::from_json(serde_json::json!({"role": "assistant", "content": text}).to_string())
}

fn call(name: &str, arguments: &str) -> Message {
    let call = serde_json::json!({"id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}});
    Message::from_json(
        serde_json::json!({"role": "assistant", "content": null, "tool_calls": [call]}).to_string(),
    )
}

fn summed(messages: &[Message]) -> String {
    extract(messages, None, ROOM, &ByBytes)
}

#[test]
fn users_facts_are_quoted_and_small_talk_is_not() {
    let messages = [
        user("Hello there! My name is Maria Lopez."),
        assistant("Nice to meet you, Maria!"),
        user("It rained the whole afternoon. My order number is ORD-48213, please keep it."),
        assistant("Thanks, I have noted that."),
        user("The deploy key is stored in /srv/keys/alpha-7."),
        user("Thanks, that was all of it."),
    ];
    assert_eq!(
        summed(&messages),
        "- user: My name is Maria Lopez.\n\
         - user: My order number is ORD-48213, please keep it.\n\
         - user: The deploy key is stored in /srv/keys/alpha-7."
    );
}

#[test]
fn many_ways_to_tell_a_fact_are_known() {
    for fact in [
        "You will need my seat number. It is 14F.",
        "4711 is my locker code.",
        "Team lead: Ana Silva",
        "Briwi Ali is the owner of project Kritith.",
        "The database name is orders.",
        "As my order number I have 4711.",
        "I am allergic to nuts.",
        "We keep the backup in /mnt/backup.",
        "port = 8080",
        "For later: the release version is 2.11.0.",
        "I live in Porto.",
        "We decided to use PostgreSQL.",
    ] {
        assert_eq!(summed(&[user(fact)]), format!("- user: {fact}"));
    }
}

#[test]
fn a_correction_takes_out_what_it_corrects_and_nothing_else() {
    let messages = [
        user("My deadline is 12 May."),
        user("My budget is 500 euros."),
        assistant("Your deadline is 12 May."),
        user("My manager is called Ana Silva and my deadline is firm."),
        user("Actually, my deadline is 19 June."),
        user("I live in Porto."),
        user("I have moved to Lisbon."),
    ];
    assert_eq!(
        summed(&messages),
        "- user: My budget is 500 euros.\n\
         - user: My manager is called Ana Silva and my deadline is firm.\n\
         - user: Actually, my deadline is 19 June.\n\
         - user: I have moved to Lisbon."
    );
}

#[test]
fn a_later_value_without_a_word_of_correction_leaves_the_earlier_one() {
    let summary = summed(&[user("My order number is ORD-1."), user("My order number is ORD-2.")]);
    assert_eq!(summary, "- user: My order number is ORD-1.\n- user: My order number is ORD-2.");
}

#[test]
fn the_error_at_the_end_of_a_long_log_is_kept() {
    let rows: String =
        (0..40).map(|row| format!("08:{row:02} INFO exporter: wrote part-{row}.csv\n")).collect();
    let log = tool(&format!("{rows}08:41 ERROR exporter: E4512 disk full on node-07"));
    let summary = extract(&[log], None, 100, &ByBytes);
    assert!(summary.contains("E4512 disk full on node-07"), "{summary}");
}

#[test]
fn tools_give_their_errors_and_what_only_they_name() {
    let messages = [
        user("Which error is in /var/logs/amber-3.log?"),
        call("read_file", r#"{"path": "/var/logs/amber-3.log"}"#),
        tool(
            "ok\n12.0\n08:45 ERROR billing: E4512 disk full on node-07\n[plimsoll: 8 of 9 tokens omitted]\njob amber-12",
        ),
        assistant("The log shows error E4512: disk full on node-07."),
        tool("job amber-12"),
    ];
    assert_eq!(
        summed(&messages),
        "- user asked: Which error is in /var/logs/amber-3.log?\n\
         - assistant called read_file {\"path\": \"/var/logs/amber-3.log\"}\n\
         - tool: 08:45 ERROR billing: E4512 disk full on node-07\n\
         - assistant: The log shows error E4512: disk full on node-07.\n\
         - tool: job amber-12\n\
         - also named: 12.0"
    );
}

#[test]
fn names_without_a_line_of_their_own_share_one() {
    let rows: String =
        (0..60).map(|row| format!("{{\"flight\": \"HAT{row:03}\", \"price\": {}}}\n", 100 + row)).collect();
    let messages = [user("My user ID is mia_12."), tool(&rows)];
    let first = extract(&messages, None, 100, &ByBytes);
    let (facts, named) = first.split_once("\n- also named: ").unwrap();
    assert!(facts.starts_with("- user: My user ID is mia_12.") && named.ends_with("HAT059"), "{first}");
    assert!(!first.contains("HAT000"), "new ones come before old ones: {first}");
    // A later summary carries them on, and a line that quotes one leaves it out of the list.
    let next = extract(&[user("My flight is HAT059.")], Some(&first), 100, &ByBytes);
    assert_eq!(next.matches("HAT059").count(), 1, "{next}");
    assert!(next.contains("HAT058") && next.matches("also named").count() == 1, "{next}");
    assert!(ByBytes.text(&first) <= 100 && ByBytes.text(&next) <= 100);
}

#[test]
fn only_the_newest_requests_stay() {
    let messages: Vec<Message> = (0..20).map(|n| user(&format!("What is the sum of case {n}?"))).collect();
    let summary = summed(&messages);
    assert_eq!(summary.lines().filter(|line| line.starts_with("- user asked: ")).count(), 6);
    assert!(summary.starts_with("- user asked: What is the sum of case 14?"));
    assert!(summary.contains("case 19?\n- also named: 10 11 12 13"), "{summary}");
}

#[test]
fn facts_outlast_details_when_room_is_short_and_nothing_is_promised_when_there_is_none() {
    let messages =
        [tool("job amber-12 on node-07"), user("My name is Maria Lopez."), tool("job beta-13 on node-08")];
    let fact = "- user: My name is Maria Lopez.";
    assert_eq!(extract(&messages, None, ByBytes.text(fact) + 1, &ByBytes), fact);
    assert_eq!(extract(&messages, None, 3, &ByBytes), "");
    assert_eq!(extract(&[], None, ROOM, &ByBytes), "");
    assert_eq!(extract(&[user("Thanks")], Some(""), ROOM, &ByBytes), "");
}

#[test]
fn identical_lines_stand_once_and_system_messages_are_not_read() {
    let system = Message::from_json(r#"{"role":"system","content":"My name is Bot-17."}"#);
    let messages = [system, user("My name is Ana."), user("my name is ana."), user("My  name is\tAna.")];
    assert_eq!(summed(&messages), "- user: My name is Ana.");
}

#[test]
fn a_former_summary_comes_first_without_what_is_corrected() {
    let previous = "Summary of the earlier conversation:\n[plimsoll: 8 messages summarised]\n- The user's name is Maria Lopez.\n\
                    * The user's deadline is 12 May.\n2. user: My port is 8080.\n- user asked: What is my name?";
    let messages = [user("Correction: my deadline is 19 June."), user("My port is 8080.")];
    assert_eq!(
        extract(&messages, Some(previous), ROOM, &ByBytes),
        "- The user's name is Maria Lopez.\n- user: My port is 8080.\n- user asked: What is my name?\n\
         - user: Correction: my deadline is 19 June."
    );
}

#[test]
fn other_languages_are_kept_by_identifiers_and_plain_sentences() {
    let messages = [
        user("Mein Name ist Jürgen Groß."),
        user("注文番号はORD-48213です。よろしく。"),
        user("Мой рейс SU1234!"),
    ];
    let summary = summed(&messages);
    for kept in ["Jürgen Groß", "ORD-48213", "SU1234"] {
        assert!(summary.contains(kept), "{summary}");
    }
}

#[test]
fn a_pasted_page_does_not_crowd_out_the_facts() {
    let page: String = (0..400).map(|n| format!("my value {n} is {n}{n}\n")).collect();
    let messages = [user(&page), user("My name is Maria Lopez."), tool(&page.replace("my", "error"))];
    let summary = extract(&messages, None, 200, &ByBytes);
    assert!(summary.contains("My name is Maria Lopez."), "{summary}");
}

fn sayings() -> impl Strategy<Value = Vec<Message>> {
    let words = prop::sample::select(vec![
        "My order number is ORD-{}.",
        "Actually, my order number is ORD-{}.",
        "What is {}?",
        "I live in Porto{}.",
        "ok",
        "The log is in /var/log/x{}.log",
        "error E{} happened",
        "Ничего {}",
        "- user: note {}",
        "a\nb {}\n\nc",
        "“{}”",
    ]);
    let one = (0..4usize, words, 0..99u32).prop_map(|(speaker, text, n)| {
        let text = text.replace("{}", &n.to_string());
        match speaker {
            0 | 1 => user(&text),
            2 => assistant(&text),
            _ => tool(&text),
        }
    });
    prop::collection::vec(one, 0..30)
}

proptest! {
    #[test]
    fn never_over_the_limit_and_always_the_same(messages in sayings(), limit in 0..200u64) {
        let summary = extract(&messages, None, limit, &ByBytes);
        prop_assert!(ByBytes.text(&summary) <= limit);
        prop_assert_eq!(&summary, &extract(&messages, None, limit, &ByBytes));
    }

    #[test]
    fn a_summary_without_news_stays_as_it_is(messages in sayings(), limit in 0..200u64) {
        let summary = extract(&messages, None, limit, &ByBytes);
        prop_assert_eq!(&summary, &extract(&[], Some(&summary), limit, &ByBytes));
    }

    #[test]
    fn summing_up_in_steps_keeps_the_facts(messages in sayings(), cut in 0..30usize) {
        let (early, late) = messages.split_at(cut.min(messages.len()));
        let steps = extract(late, Some(&summed(early)), ROOM, &ByBytes);
        for line in summed(&messages).lines().filter(|line| line.starts_with("- user: ")) {
            prop_assert!(steps.lines().any(|kept| kept == line), "{line} is not in {steps}");
        }
    }
}
