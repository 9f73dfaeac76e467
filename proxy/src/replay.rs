//! Replays recorded conversations as they grew: what a policy would have sent, and what a prefix cache would have
//! had to compute anew.
//!
//! A recording is a chat request whose messages hold the answers too. A client sends a request wherever an assistant
//! message follows, with all of the history before it; the policy sees each of them as it would have come.

mod checks;
mod prompt;
mod tally;
mod tune;

use std::collections::HashSet;
use std::sync::Arc;

use plimsoll_policies::config::{FitContext, ReserveOutput, Step};
use plimsoll_policies::extract::{identifiers, recall};
use plimsoll_policies::{Chain, Context, Conversation, Limits, Message, ParseError, Role, Tokens};

use crate::count::Counter;
use crate::explain;
use prompt::Prompt;
use tally::Tally;

pub use checks::faults;
pub use tally::{Marks, Row};
pub use tune::{best, grid};

/// The name of the row that others are compared with: the oldest messages go at every turn until the rest fits.
pub const NAIVE: &str = "trim just enough";

/// A policy to be replayed.
#[derive(Clone)]
pub struct Candidate {
    /// What it does.
    pub chain: Chain,
    /// The marks of its `fit_context`, where they are tried in place of its own.
    pub marks: Option<Marks>,
}

/// Conversations replayed through policies at one window.
pub struct Replay<'a> {
    counter: &'a Counter,
    window: Tokens,
    counted: usize,
    naive: Entry,
    entries: Vec<Entry>,
}

struct Entry {
    candidate: Candidate,
    tally: Tally,
}

impl Entry {
    fn new(candidate: Candidate) -> Self {
        Self { candidate, tally: Tally::default() }
    }
}

impl<'a> Replay<'a> {
    /// Nothing replayed yet.
    pub fn new(counter: &'a Counter, window: Tokens, candidates: Vec<Candidate>) -> Self {
        let naive = Entry::new(Candidate { chain: naive(), marks: None });
        let entries = candidates.into_iter().map(Entry::new).collect();
        Self { counter, window, counted: 0, naive, entries }
    }

    /// Replays a conversation through every policy, if what is never dropped fits the window; `name` is what faults
    /// call it.
    pub fn add(&mut self, name: &str, requests: &[Conversation]) {
        let play = |chain: &Chain| Play::new(self.counter, self.window, name).all(chain, requests);
        let naive = play(&self.naive.candidate.chain);
        if naive.refused > 0 || requests.is_empty() {
            return;
        }
        self.counted += 1;
        self.naive.tally.add(naive);
        for entry in &mut self.entries {
            entry.tally.add(play(&entry.candidate.chain));
        }
    }

    /// One row a policy, the naive one first.
    pub fn rows(&self) -> Vec<Row> {
        let row = |entry: &Entry| {
            let Candidate { chain, marks } = &entry.candidate;
            Row::new(chain.name(), *marks, (self.window, self.counted), &entry.tally)
        };
        std::iter::once(&self.naive).chain(&self.entries).map(row).collect()
    }
}

fn naive() -> Chain {
    let guard = FitContext { high: 1.0, low: 1.0, min_progress: 0.0, ..FitContext::default() };
    Chain::build(NAIVE, &[Step::ReserveOutput(ReserveOutput::default()), Step::FitContext(guard)])
}

/// The requests of a recording, each with the history before an answer.
///
/// # Errors
/// The recording is no chat request.
pub fn requests(recording: &Arc<str>) -> Result<Vec<Conversation>, ParseError> {
    let whole = Conversation::parse_chat(recording.clone())?;
    let messages = whole.messages();
    let answered = |end: &usize| messages.get(*end).is_none_or(|next| next.role() == Role::Assistant);
    let asks = |end: &usize| messages[..*end].last().is_some_and(|last| last.role() != Role::Assistant);
    let ends = (1..=messages.len()).filter(answered).filter(asks);
    ends.map(|end| Conversation::parse_chat(request(&whole, end).into())).collect()
}

/// The request with the first `end` messages and every other member of the recording.
fn request(whole: &Conversation, end: usize) -> String {
    let messages: Vec<&str> = whole.messages()[..end].iter().map(Message::json).collect();
    let mut text = String::from("{");
    for (name, raw) in whole.fields() {
        text.extend(["\"", name, "\":", raw, ","]);
    }
    text + "\"messages\":[" + &messages.join(",") + "]}"
}

/// One conversation through one policy.
struct Play<'a> {
    counter: &'a Counter,
    window: Tokens,
    name: &'a str,
    former: Option<Prompt>,
    /// Tokens of the last request as it came.
    history: Tokens,
    dropped: usize,
    tally: Tally,
}

impl<'a> Play<'a> {
    fn new(counter: &'a Counter, window: Tokens, name: &'a str) -> Self {
        Self { counter, window, name, former: None, history: 0, dropped: 0, tally: Tally::default() }
    }

    fn all(mut self, chain: &Chain, requests: &[Conversation]) -> Tally {
        let mut last = None;
        for (index, before) in requests.iter().enumerate() {
            if let Some(after) = self.one(chain, before, index + 1) {
                last = Some((before, after));
            }
        }
        if let Some(recall) = last.and_then(|(before, after)| recall_of(before, &after)) {
            self.tally.recall = recall;
            self.tally.lossy = 1;
        }
        self.tally
    }

    /// What is sent for a request; nothing where it is refused.
    fn one(&mut self, chain: &Chain, before: &Conversation, number: usize) -> Option<Conversation> {
        self.tally.requests += 1;
        let counter = self.counter.as_dyn();
        let context = Context { limits: Limits::tokens(self.window), counter, summaries: &explain::NONE };
        let applied = explain::apply(chain, before, &context).ok();
        let sent = applied.and_then(|(after, report)| {
            let prompt = Prompt::new(self.counter, &after).ok()?;
            Some((after, report, prompt))
        });
        let Some((after, report, prompt)) = sent else {
            self.tally.refused += 1;
            return None;
        };
        self.tally.over += u64::from(prompt.tokens > report.budget);
        let faults = faults(before, &after);
        let place = |fault| format!("{}, request {number}: {fault}", self.name);
        self.tally.faults.extend(faults.into_iter().map(place));
        self.tally.cuts += u64::from(after.dropped().len() > self.dropped);
        self.dropped = after.dropped().len();
        let news = report.tokens_before.saturating_sub(self.history);
        self.history = report.tokens_before;
        self.send(prompt, news);
        Some(after)
    }

    /// Sends a prompt to a cache that holds the former one; `news` is what the client's history grew by.
    fn send(&mut self, prompt: Prompt, news: Tokens) {
        let former = self.former.as_ref();
        let (shared, whole) = former.map_or((0, true), |former| prompt.shared(former));
        let prefilled = prompt.tokens.saturating_sub(shared);
        self.tally.sent += prompt.tokens;
        self.tally.prefilled += prefilled;
        self.tally.again += prefilled.saturating_sub(news);
        self.tally.breaks += u64::from(!whole);
        self.tally.peak = self.tally.peak.max(prompt.tokens);
        self.former = Some(prompt);
    }
}

/// The share of the identifiers of messages that were not sent as they came that the prompt still has; none where no
/// identifier was lost sight of.
fn recall_of(before: &Conversation, after: &Conversation) -> Option<f64> {
    let sent: HashSet<&str> = after.messages().iter().map(Message::json).collect();
    let lost = before.messages().iter().filter(|message| !sent.contains(message.json()));
    let lost: Vec<String> = lost.map(said).filter(|text| !identifiers(text).is_empty()).collect();
    let kept: Vec<String> = after.messages().iter().map(said).collect();
    let lost: Vec<&str> = lost.iter().map(String::as_str).collect();
    (!lost.is_empty()).then(|| recall(&lost, &kept.join("\n")))
}

/// The text of a message and of its tool calls.
pub(crate) fn said(message: &Message) -> String {
    let calls = message.tool_calls().iter();
    calls.fold(message.text().to_owned(), |text, call| format!("{text}\n{} {}", call.name, call.arguments))
}

#[cfg(test)]
#[path = "replay_tests.rs"]
mod tests;
