//! What every policy and every chain must keep, of one conversation and of one that grows.

use plimsoll_policies::{
    Chain, Conversation, Limits, Message, NoSummaries, Refusal, Report, Role, SUMMARY_HEADER, Step,
    config::{OnOverflow, Volatile},
};
use proptest::prelude::*;
use serde_json::Value;

use crate::generate::{IMAGE, Unit, body};
use crate::support::{Counter, Memory, parse, run_within};
use crate::transcripts::squeezed;

/// Number of a generated message: whatever else an edit touches, it stays.
fn number(message: &Message) -> Option<usize> {
    let json = message.json();
    let digits = json.find("\"n\":").map_or(json.trim_matches(['[', ']']), |at| &json[at + 4..]);
    digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn is_summary(message: &Message) -> bool {
    message.text().starts_with(SUMMARY_HEADER)
}

pub(crate) fn has(chain: &Chain, policy: &str) -> bool {
    chain.steps().iter().any(|step| step.name() == policy)
}

fn volatile(chain: &Chain) -> Volatile {
    let mut modes = chain.steps().iter().filter_map(|step| match step {
        Step::NormalizePrefix(params) => Some(params.volatile),
        _ => None,
    });
    modes.next().unwrap_or_default()
}

/// Untouched messages keep their bytes; touched ones say less, and say so.
fn check_bytes(chain: &Chain, before: &Conversation, after: &Conversation) -> Result<(), TestCaseError> {
    let last_user = before.messages().iter().rposition(|message| message.role() == Role::User);
    for message in after.messages().iter().filter(|message| !is_summary(message)) {
        let number = number(message).unwrap();
        let original = &before.messages()[number];
        if message.is_original() {
            prop_assert_eq!(message.json(), original.json());
            continue;
        }
        prop_assert_eq!((message.role(), shell(message)), (original.role(), shell(original)));
        if is_cut(message) {
            let fits = chain.steps().iter().any(|step| {
                matches!(step, Step::FitContext(params) if params.on_overflow == OnOverflow::TruncateMiddle)
            });
            prop_assert!(fits);
            continue;
        }
        match message.role() {
            Role::System | Role::Developer => check_instructions(chain, message, original)?,
            Role::User => {
                let noted = Some(number) == last_user && volatile(chain) == Volatile::Relocate;
                let json =
                    message.json().replace(r#"{"type":"text","text":"[plimsoll: image removed]"}"#, IMAGE);
                let named = message.text().contains("[plimsoll: ");
                prop_assert!(json == original.json() || named || noted);
            }
            Role::Assistant => check_inputs(message, original)?,
            _ => {
                prop_assert!(message.json().len() < original.json().len());
                prop_assert!(message.text().contains("[plimsoll: "));
                prop_assert_eq!(message.tool_call_id(), original.tool_call_id());
            }
        }
    }
    Ok(())
}

/// All of a message that no policy touches.
fn shell(message: &Message) -> Option<Value> {
    let mut value: Value = serde_json::from_str(&message.json().replace("\\u", "u")).ok()?;
    for member in ["content", "tool_calls", "reasoning", "reasoning_content", "reasoning_details"] {
        value.as_object_mut()?.shift_remove(member);
    }
    Some(value)
}

pub(crate) fn is_cut(message: &Message) -> bool {
    message.text().contains("tokens cut from the middle of this message]")
}

/// Names stand for what is volatile; nothing else is another.
fn check_instructions(chain: &Chain, message: &Message, original: &Message) -> Result<(), TestCaseError> {
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let (words, originals) = (words(message.text()), words(original.text()));
    prop_assert!(volatile(chain) != Volatile::Warn && words.len() == originals.len());
    for (word, original) in words.iter().zip(&originals) {
        let volatile = original.starts_with("2024-05-15") || original.starts_with("ORD-48213");
        prop_assert!(word == original || (volatile && word.starts_with('[')), "{original} is {word}");
    }
    Ok(())
}

/// Only arguments and reasoning are gone, and the calls are the same.
fn check_inputs(message: &Message, original: &Message) -> Result<(), TestCaseError> {
    prop_assert!(message.text() == original.text() || message.text().contains("[plimsoll: the same "));
    prop_assert_eq!(message.tool_calls().len(), original.tool_calls().len());
    for (call, original) in message.tool_calls().iter().zip(original.tool_calls()) {
        prop_assert_eq!((&call.id, &call.name), (&original.id, &original.name));
        let gone = call.arguments == "{}";
        prop_assert!(gone || call.arguments == original.arguments);
    }
    Ok(())
}

/// Messages that went, and what later turns took out of the first `count`: a cut.
pub(crate) fn cuts(conversation: &Conversation, count: usize) -> (usize, Vec<(usize, usize)>) {
    let marks = |message: &Message| {
        let told = [" cleared, ", "image removed", "document left out"];
        let told: usize = told.iter().map(|mark| message.text().matches(mark).count()).sum();
        told + usize::from(message.role() == Role::Assistant && !message.is_original())
    };
    let early = conversation.messages().iter().filter_map(|message| Some((number(message)?, marks(message))));
    (conversation.dropped().len(), early.filter(|(number, marks)| *marks > 0 && *number < count).collect())
}

/// Results stay with their call, and calls with their results.
pub(crate) fn check_exchanges(before: &Conversation, after: &Conversation) -> Result<(), TestCaseError> {
    let kept: Vec<usize> = after.messages().iter().filter_map(number).collect();
    prop_assert!(kept.is_sorted(), "order changed");
    let mut call = None;
    for (index, message) in before.messages().iter().enumerate() {
        match message.role() {
            Role::Assistant if !message.tool_calls().is_empty() => call = Some(index),
            Role::Tool => {
                if let Some(call) = call {
                    let (call, result) = (kept.contains(&call), kept.contains(&index));
                    prop_assert_eq!(call, result, "message {} torn from its exchange", index);
                }
            }
            _ => call = None,
        }
    }
    Ok(())
}

/// Instructions and the last user message stay.
pub(crate) fn check_kept(before: &Conversation, after: &Conversation) -> Result<(), TestCaseError> {
    let kept: Vec<usize> = after.messages().iter().filter_map(number).collect();
    let last_user = before.messages().iter().rposition(|message| message.role() == Role::User);
    for (index, message) in before.messages().iter().enumerate() {
        if message.role().is_system() || Some(index) == last_user {
            prop_assert!(kept.contains(&index), "message {} is gone", index);
        }
    }
    prop_assert_eq!(kept.last().copied(), before.messages().len().checked_sub(1));
    Ok(())
}

/// What the report says is so.
fn check_report(
    chain: &Chain,
    before: &Conversation,
    after: &Conversation,
    report: &Report,
) -> Result<(), TestCaseError> {
    let counter = Counter::default();
    let count = |conversation| plimsoll_policies::CountTokens::prompt(&counter, conversation).unwrap();
    prop_assert_eq!(report.tokens_before, count(before));
    prop_assert_eq!(report.tokens_after, count(after));
    prop_assert_eq!(report.tokens_after, count(&parse(&after.to_json())));
    prop_assert!(
        report.tokens_after <= report.tokens_before
            || report
                .actions()
                .iter()
                .any(|(by, _)| ["summarize", "drop_images", "normalize_prefix"].contains(by))
    );
    prop_assert!(!has(chain, "fit_context") || report.tokens_after <= report.budget);
    prop_assert_eq!(report.rows.len(), chain.steps().len());
    let dropped =
        before.messages().len() - after.messages().iter().filter(|message| !is_summary(message)).count();
    let gone = after.dropped().iter().filter(|gone| !is_summary(&gone.message)).count();
    prop_assert_eq!(dropped, gone);
    prop_assert_eq!(report.actions().is_empty(), !after.is_changed());
    Ok(())
}

/// Everything outside the messages, the tools and the output limit is as it was.
fn check_rest(before: &str, after: &Conversation) -> Result<(), TestCaseError> {
    if !after.is_changed() {
        prop_assert_eq!(&*after.to_json(), before);
    }
    let json = after.to_json();
    let pieces = [
        json.starts_with("{ \"model\":\"m\", \"messages\": [\n  "),
        json.contains("\n ],\"seed\":1.50,\"x\":1E3, \"seed\": 2,\"tools\":["),
        json.ends_with("} "),
    ];
    prop_assert_eq!(pieces, [true; 3]);
    Ok(())
}

/// One conversation by itself: the invariants that one request shows.
pub(crate) fn check_one(chain: &Chain, text: &str, limits: Limits) -> Result<(), TestCaseError> {
    let before = parse(text);
    let run = |conversation: &Conversation| {
        run_within(chain, conversation, &Counter::default(), &NoSummaries, limits)
    };
    match run(&before) {
        Ok((after, report)) => {
            check_bytes(chain, &before, &after)?;
            check_exchanges(&before, &after)?;
            check_kept(&before, &after)?;
            check_report(chain, &before, &after, &report)?;
            check_rest(text, &after)?;
            let again = run(&parse(&after.to_json()));
            let (again, _) = again.map_err(|refusal| TestCaseError::fail(refusal.to_string()))?;
            let texts = |conversation: &Conversation| {
                conversation.to_json().split('\n').map(str::to_owned).collect::<Vec<_>>()
            };
            for (again, after) in texts(&again).iter().zip(texts(&after)) {
                prop_assert_eq!(again, &after, "not idempotent");
            }
            prop_assert_eq!(again.to_json(), after.to_json(), "not idempotent");
        }
        Err(Refusal::ContextLength(length)) => {
            prop_assert!(has(chain, "fit_context") || has(chain, "reject_over"));
            prop_assert!(length.prompt > length.budget && length.unremovable > length.budget, "{length:?}");
        }
        Err(refusal) => prop_assert!(false, "{refusal}"),
    }
    Ok(())
}

/// A conversation as it grows: between cuts each result begins with the one before.
pub(crate) fn check_growth(chain: &Chain, units: &[Unit], limits: Limits) -> Result<(), TestCaseError> {
    let (memory, counter) = (Memory::default(), Counter::default());
    let mut growth = Growth::of(chain);
    for count in 1..=units.len() {
        let before = parse(&body(&units[..count], Some(50)));
        let Ok((after, report)) = run_within(chain, &before, &counter, &memory, limits) else {
            growth.refused();
            continue;
        };
        if count == units.len() {
            let fresh = run_within(chain, &before, &counter, &NoSummaries, limits).unwrap().0;
            prop_assert_eq!(fresh.to_json(), after.to_json(), "memory changed the result");
        }
        growth.check(&before, after, &report)?;
    }
    Ok(())
}

/// What went out last, to be compared with what goes out next.
pub(crate) struct Growth<'a> {
    chain: &'a Chain,
    /// With whether the guard had acted by force, and the messages that came in.
    last: Option<(Conversation, bool, usize)>,
}

impl<'a> Growth<'a> {
    pub(crate) fn of(chain: &'a Chain) -> Self {
        Self { chain, last: None }
    }

    pub(crate) fn refused(&mut self) {
        self.last = None;
    }

    /// Where nothing was cut since, the result begins with the one before.
    pub(crate) fn check(
        &mut self,
        before: &Conversation,
        after: Conversation,
        report: &Report,
    ) -> Result<(), TestCaseError> {
        // Where even a summary has too little room it is shortened, or the guard cuts by force, each time anew; so it
        // does inside messages. Where what stays leaves no room for the answer, the output limit gives way, and the
        // budget is another each time.
        let acted = |policy| report.actions().iter().any(|(by, _)| *by == policy);
        let fitted = has(self.chain, "summarize") && (acted("fit_context") || squeezed(report));
        let forced = fitted || acted("reserve_output") || after.messages().iter().any(is_cut);
        if let Some((last, false, length)) = &self.last
            && !forced
            && cuts(last, *length) == cuts(&after, *length)
        {
            check_prefix(self.chain, last, &after)?;
        }
        self.last = Some((after, forced, before.messages().len()));
        Ok(())
    }
}

fn check_prefix(chain: &Chain, last: &Conversation, after: &Conversation) -> Result<(), TestCaseError> {
    let said = |message: &Message| message.role() == Role::User && !is_summary(message);
    // What moved out of the instructions stands there for one turn.
    let relocates = volatile(chain) == Volatile::Relocate;
    let noted = last.messages().iter().rposition(said).filter(|_| relocates);
    // Before the first user message it has nowhere to go.
    if relocates
        && !noted.is_some_and(|index| last.messages()[index].json().contains("from the instructions"))
    {
        return Ok(());
    }
    for (index, (old, new)) in last.messages().iter().zip(after.messages()).enumerate() {
        prop_assert!(
            Some(index) == noted || old.json() == new.json(),
            "prefix changed without a cut: {} became {}",
            old.json(),
            new.json()
        );
    }
    prop_assert_eq!(last.tools(), after.tools());
    Ok(())
}
