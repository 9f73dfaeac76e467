//! Real conversations, growing message by message, in small windows.

use std::path::Path;

use plimsoll_policies::{Conversation, CountTokens, Message, Refusal, Role, SUMMARY_HEADER, Tokens};
use serde_json::value::RawValue;

use crate::support::{Counter, Memory, parse, preset, run};

const TRANSCRIPTS: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/transcripts/tau_airline_40.jsonl");
/// The request's own output limit, small enough that the system prompt fits the smallest window.
const OUTPUT: Tokens = 128;

/// The messages of each conversation, or none where the folder is not there.
fn transcripts() -> Option<Vec<Vec<String>>> {
    if !Path::new(TRANSCRIPTS).exists() {
        assert!(
            std::env::var_os("PLIMSOLL_REQUIRE_SHARED").is_none_or(|value| value != "1"),
            "no {TRANSCRIPTS}"
        );
        println!("skipped: no {TRANSCRIPTS}");
        return None;
    }
    #[derive(serde::Deserialize)]
    struct Line {
        messages: Vec<Box<RawValue>>,
    }
    let lines = std::fs::read_to_string(TRANSCRIPTS).unwrap();
    let messages = |line: &str| serde_json::from_str::<Line>(line).unwrap().messages;
    Some(lines.lines().map(|line| messages(line).iter().map(|raw| raw.get().to_owned()).collect()).collect())
}

fn request(messages: &[String]) -> Conversation {
    parse(&format!(r#"{{"messages":[{}],"max_tokens":{OUTPUT}}}"#, messages.join(",")))
}

/// A client asks when the user has spoken or a tool has answered.
fn asks(conversation: &Conversation) -> bool {
    conversation.messages().last().is_some_and(|message| matches!(message.role(), Role::User | Role::Tool))
}

#[derive(Default, Debug)]
struct Tally {
    conversations: usize,
    /// Where what is never dropped fits the budget.
    fit: usize,
    /// Where it leaves room between the marks.
    calm: usize,
    requests: usize,
    cuts: usize,
    refused: usize,
}

/// What of a request is never dropped: instructions, the first user message, the last two groups and the user's last.
fn unremovable(before: &Conversation) -> Tokens {
    let messages = before.messages();
    let start =
        |from: usize| messages[..from].iter().rposition(|message| message.role() != Role::Tool).unwrap_or(0);
    let tail = start(start(messages.len()));
    let last_user = messages.iter().rposition(|message| message.role() == Role::User).unwrap_or(0);
    let kept = (0..messages.len()).filter(|index| *index < 2 || *index >= tail || *index == last_user);
    kept.map(|index| Counter::default().messages(&messages[index..=index])).sum::<Tokens>() + 3
}

fn replay(policy: &str, window: Tokens, tally: &mut Tally, messages: &[String]) {
    let (counter, memory, chain) = (Counter::default(), Memory::default(), preset(policy));
    let budget = window - OUTPUT;
    let requests: Vec<Conversation> =
        (1..=messages.len()).map(|end| request(&messages[..end])).filter(asks).collect();
    let largest = requests.iter().map(unremovable).max().unwrap_or(0);
    let fits = largest <= budget;
    let calm = largest + window / 8 <= budget * 3 / 5;
    tally.conversations += 1;
    tally.fit += usize::from(fits);
    tally.calm += usize::from(calm);
    let (mut last, mut cuts): (Option<Conversation>, Tokens) = (None, 0);
    let mut was_squeezed = false;
    for before in &requests {
        tally.requests += 1;
        let (after, report) = match run(&chain, before, &counter, &memory, window) {
            Ok(done) => done,
            Err(Refusal::ContextLength(length)) => {
                assert!(!fits && length.unremovable > budget, "{length:?}");
                tally.refused += 1;
                last = None;
                continue;
            }
            Err(refusal) => panic!("{refusal}"),
        };
        assert!(report.tokens_after <= budget && report.tokens_after == counter.prompt(&after).unwrap());
        let same = last.as_ref().is_none_or(|last| is_prefix(last, &after));
        cuts += Tokens::from(!same);
        let cut = last
            .as_ref()
            .is_none_or(|last| after.dropped().len() > last.dropped().len() || lines(&after) > lines(last));
        let fewer = last.as_ref().is_some_and(|last| after.dropped().len() < last.dropped().len());
        // The last messages leave a summary less than it had: it is shortened for as long as they are the last.
        let squeezed = squeezed(&report);
        assert!(!squeezed || !calm, "{policy} {window}: too little room for a summary");
        assert!(
            (same || cut || squeezed || was_squeezed) && !fewer,
            "{policy} {window}: prefix changed without a cut"
        );
        (last, was_squeezed) = (Some(after), squeezed);
    }
    tally.cuts += usize::try_from(cuts).unwrap();
    if calm {
        let total = counter.prompt(&request(messages)).unwrap();
        let most = total / (budget * 17 / 20 - budget * 3 / 5) + 1;
        assert!(cuts <= most, "{policy} {window}: {cuts} cuts, at most {most}");
    }
}

/// Results that went down to a line.
fn lines(conversation: &Conversation) -> usize {
    conversation.messages().iter().filter(|message| message.text().contains(" cleared, ")).count()
}

fn is_prefix(old: &Conversation, new: &Conversation) -> bool {
    old.messages().len() <= new.messages().len()
        && old.messages().iter().zip(new.messages()).all(|(old, new)| old.json() == new.json())
}

#[test]
fn fit_small_windows() {
    let Some(transcripts) = transcripts() else { return };
    for policy in ["chat", "agent"] {
        for window in [2048, 4096, 8192] {
            let mut tally = Tally::default();
            transcripts.iter().for_each(|messages| replay(policy, window, &mut tally, messages));
            println!("{policy} {window}: {tally:?}");
            assert!(tally.fit > 0 && (window == 2048 || tally.calm > 0));
            assert!(window > 4096 || tally.cuts > 0);
            assert_eq!(tally.conversations, 40);
        }
    }
}

/// What users told is found again, in what was kept or in the summary.
#[test]
fn identifiers_survive() {
    let Some(transcripts) = transcripts() else { return };
    let (mut dropped, mut found) = (0, 0);
    for messages in &transcripts {
        let before = request(messages);
        let chain = preset("agent");
        let Ok((after, _)) = run(&chain, &before, &Counter::default(), &Memory::default(), 4096) else {
            continue;
        };
        let text: String = after.messages().iter().map(Message::text).collect::<Vec<_>>().join("\n");
        for gone in after.dropped().iter().filter(|gone| gone.message.role() == Role::User) {
            for name in plimsoll_policies::extract::identifiers(gone.message.text()) {
                dropped += 1;
                found += usize::from(text.contains(name));
            }
        }
        let gone = after.dropped().iter().any(|gone| gone.by == "summarize");
        assert_eq!(gone, text.contains(SUMMARY_HEADER));
    }
    println!("{found} of {dropped} identifiers of dropped user messages found again");
    assert!(dropped > 0 && found * 10 >= dropped * 8, "{found} of {dropped}");
}

/// Whether the summary was shortened for this turn alone.
pub(crate) fn squeezed(report: &plimsoll_policies::Report) -> bool {
    report.rows.iter().any(|row| row.policy == "summarize" && row.reason.contains(", shortened to "))
}
