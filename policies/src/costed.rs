//! Engine-costed cuts: while the budget still holds, a cut at the high mark waits where it would cost more than going on.
//!
//! Both candidates are made whole, by the same steps: the conversation cut now, and cut not yet. What each would compute
//! before its first token is what it has beyond the KV that is held. The smaller one goes out; of equals the one with
//! fewer tokens, which takes fewer bytes of KV.
//!
//! What was decided is recorded under the history that it was decided for, so that later requests of the conversation
//! replay it: a cut that waited moves to a later arrival, and none that was made moves at all. Where the record is lost,
//! or another process answers, cuts fall at the mark as without costs: another choice, and a valid one.

use std::ops::RangeInclusive;

use crate::chain::{Chain, Context, Refusal, Verdict};
use crate::conversation::{Conversation, Message, Role, last_answer};
use crate::report::Report;
use crate::summaries::{Recorded, SpanKey, Summaries};
use crate::tokens::{Tokens, grouped};

/// Arrivals on which a cut waits until the budget is reached, as places in the client's history.
#[derive(Debug, Clone, Default)]
pub(crate) struct Waits(Vec<RangeInclusive<usize>>);

impl Waits {
    pub(crate) fn cover(&self, slot: usize) -> bool {
        self.0.iter().any(|range| range.contains(&slot))
    }

    fn and(&self, range: RangeInclusive<usize>) -> Self {
        Self(self.0.iter().cloned().chain([range]).collect())
    }
}

/// What was decided for a request, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Decision {
    /// The first arrival that waits; none where the cut is made.
    waits_from: Option<usize>,
    reason: String,
}

impl Decision {
    fn to_text(&self) -> String {
        let from = self.waits_from.map_or_else(|| "-".to_owned(), |slot| slot.to_string());
        format!("{from} {}", self.reason)
    }

    fn parse(text: &str) -> Option<Self> {
        let (from, reason) = text.split_once(' ')?;
        let waits_from = if from == "-" { None } else { Some(from.parse().ok()?) };
        Some(Self { waits_from, reason: reason.to_owned() })
    }
}

/// What is known of a conversation's decisions.
struct History {
    /// Where this request's own decision is recorded.
    key: Option<SpanKey>,
    /// Place of the first message that no earlier request held.
    open: usize,
    /// Of this request, where it was asked before.
    decided: Option<Decision>,
    waits: Waits,
}

impl History {
    fn read(chain: &Chain, conversation: &Conversation, context: &Context) -> Self {
        let messages = conversation.messages();
        let open = last_answer(messages).unwrap_or(0);
        let mut history = Self { key: None, open, decided: None, waits: Waits::default() };
        for (end, key) in ends(chain, conversation, context) {
            let decision = recorded_under(&key, context.summaries);
            if let Some(from) = decision.as_ref().and_then(|decision| decision.waits_from) {
                history.waits = history.waits.and(from..=end);
            }
            if end + 1 == messages.len() {
                (history.key, history.decided) = (Some(key), decision);
            }
        }
        history
    }
}

fn recorded_under(key: &SpanKey, summaries: &dyn Summaries) -> Option<Decision> {
    match summaries.get(key)? {
        Recorded::Text(text) => Decision::parse(&text),
        Recorded::Failed { .. } => None,
    }
}

/// The requests that a history shows, each as the place of its last message and a key over all up to there.
fn ends(chain: &Chain, conversation: &Conversation, context: &Context) -> Vec<(usize, SpanKey)> {
    let by = format!("{:?} {} {}", chain.guard(), context.limits.window, context.counter.name());
    let tools = conversation.tools().unwrap_or_default();
    let mut key = SpanKey::of([b"plimsoll costed cut 1".as_slice(), by.as_bytes(), tools.as_bytes()]);
    let messages = conversation.messages();
    let mut ends = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        key = SpanKey::of([key.as_bytes().as_slice(), message.json().as_bytes()]);
        let answered = |next: &Message| next.role() == Role::Assistant;
        if messages.get(index + 1).is_none_or(answered) {
            ends.push((index, key));
        }
    }
    ends
}

/// The arrivals on which cuts waited so far.
pub(crate) fn recorded(chain: &Chain, conversation: &Conversation, context: &Context) -> Waits {
    History::read(chain, conversation, context).waits
}

/// Applies the steps, and decides where the high mark is crossed by what has arrived since the last answer.
pub(crate) fn apply(
    chain: &Chain,
    conversation: &Conversation,
    context: &Context,
) -> Result<Verdict, Refusal> {
    let history = History::read(chain, conversation, context);
    if let Some(decision) = &history.decided {
        return Ok(told(chain.run(conversation, context, &history.waits, false)?, &decision.reason));
    }
    let cut = chain.run(conversation, context, &history.waits, false)?;
    let (Some(last), Some(key)) = (conversation.messages().len().checked_sub(1), history.key) else {
        return Ok(cut);
    };
    let waits = history.waits.and(history.open..=last);
    if !cuts_since(&cut, history.open) {
        return Ok(cut);
    }
    let Ok(waiting) = chain.run(conversation, context, &waits, false) else { return Ok(cut) };
    let Some(decision) = decide(&cut, &waiting, history.open, context) else { return Ok(cut) };
    context.summaries.record(&key, &decision.to_text());
    let chosen = if decision.waits_from.is_some() { waiting } else { cut };
    Ok(told(chosen, &decision.reason))
}

/// What a candidate would cost.
#[derive(Debug, Clone, Copy)]
struct Cost {
    tokens: Tokens,
    held: Tokens,
}

impl Cost {
    fn of(conversation: &Conversation, report: &Report, context: &Context) -> Option<Self> {
        let tokens = report.tokens_after;
        let held = context.counter.resident(conversation)?.min(tokens);
        Some(Self { tokens, held })
    }

    fn computed(self) -> Tokens {
        self.tokens - self.held
    }

    /// By tokens to compute, then by tokens to hold: each takes the same time, and the same bytes of KV.
    fn is_under(self, other: Self) -> bool {
        (self.computed(), self.tokens) < (other.computed(), other.tokens)
    }
}

/// Which candidate goes out. None where it is not known what is held, or where waiting would cut as well.
fn decide(cut: &Verdict, waiting: &Verdict, open: usize, context: &Context) -> Option<Decision> {
    let Verdict::Done { conversation, report } = waiting else { return None };
    if cuts_since(waiting, open) {
        return None;
    }
    let wait = Cost::of(conversation, report, context)?;
    let held = format!("{} of {} tokens are resident", grouped(wait.held), grouped(wait.tokens));
    let rest = time(wait.computed(), context);
    let waits = |reason| Decision { waits_from: Some(open), reason };
    let (conversation, report) = match cut {
        // Writing it takes longer than to compute what it is written of.
        Verdict::Ask(_) => {
            return Some(waits(format!(
                "waits: {held}; a cut needs a summary that is not written yet, waiting computes {rest}"
            )));
        }
        Verdict::Done { conversation, report } => (conversation, report),
    };
    let cut = Cost::of(conversation, report, context)?;
    let new = time(cut.computed(), context);
    Some(if wait.is_under(cut) {
        waits(format!("waits: {held}; a cut would compute {new}, waiting {rest}"))
    } else {
        let reason = format!("cuts: {held}; the cut computes {new}, waiting would compute {rest}");
        Decision { waits_from: None, reason }
    })
}

/// Tokens to compute, and how long that takes where it was measured.
fn time(tokens: Tokens, context: &Context) -> String {
    let seconds = context.limits.prefill_seconds_per_token.map(|each| each * tokens as f64);
    let seconds = seconds.map(|seconds| format!(" ({seconds:.2} s)")).unwrap_or_default();
    format!("{}{seconds}", grouped(tokens))
}

/// Whether what arrived from this place on brought a cut, or may have: a summary is asked for.
fn cuts_since(verdict: &Verdict, open: usize) -> bool {
    match verdict {
        Verdict::Ask(_) => true,
        Verdict::Done { conversation, .. } => {
            let marks = |by| matches!(by, "summarize" | "fit_context");
            conversation.dropped().iter().any(|gone| marks(gone.by) && gone.at >= open)
        }
    }
}

/// With the decision in the guard's row.
fn told(mut verdict: Verdict, reason: &str) -> Verdict {
    if let Verdict::Done { report, .. } = &mut verdict
        && let Some(row) = report.rows.iter_mut().find(|row| row.policy == "fit_context")
    {
        row.reason = format!("{}; {reason}", row.reason);
    }
    verdict
}

#[cfg(test)]
#[path = "costed_tests.rs"]
mod tests;
