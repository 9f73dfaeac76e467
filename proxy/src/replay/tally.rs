//! What replayed conversations add up to.

use plimsoll_policies::Tokens;
use serde::Serialize;

/// Faults that are told in words; the others are only counted.
const TOLD: usize = 5;

/// Sums over conversations.
#[derive(Debug, Default, Clone)]
pub(super) struct Tally {
    pub(super) requests: u64,
    pub(super) sent: Tokens,
    pub(super) prefilled: Tokens,
    pub(super) again: Tokens,
    pub(super) breaks: u64,
    pub(super) cuts: u64,
    pub(super) peak: Tokens,
    /// Recall of each conversation that lost something, added up.
    pub(super) recall: f64,
    pub(super) lossy: u32,
    pub(super) refused: u64,
    pub(super) over: u64,
    pub(super) faults: Vec<String>,
}

impl Tally {
    pub(super) fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.sent += other.sent;
        self.prefilled += other.prefilled;
        self.again += other.again;
        self.breaks += other.breaks;
        self.cuts += other.cuts;
        self.peak = self.peak.max(other.peak);
        self.recall += other.recall;
        self.lossy += other.lossy;
        self.refused += other.refused;
        self.over += other.over;
        self.faults.extend(other.faults);
    }
}

/// One policy at one window.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// The policy's name.
    pub policy: String,
    /// The marks of `fit_context`, where they were tried in place of the policy's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub marks: Option<Marks>,
    /// The window in tokens.
    pub window: Tokens,
    /// Conversations whose part that is never dropped fits the window at every turn.
    pub counted: usize,
    /// Requests of these conversations.
    pub requests: u64,
    /// Tokens of all prompts.
    pub sent: Tokens,
    /// Tokens of them that the conversation's former prompt did not begin with.
    pub prefilled: Tokens,
    /// Tokens of them that are no news: each request's beyond what the client's history grew by. A conversation that is
    /// never cut has none.
    pub again: Tokens,
    /// The share of the tokens sent that the former prompt began with, from 0 to 1.
    pub reuse: f64,
    /// Prompts that do not begin with all of the former one.
    pub breaks: u64,
    /// Requests at which messages were dropped that were still there before.
    pub cuts: u64,
    /// The longest prompt in tokens.
    pub peak: Tokens,
    /// KV cache of the longest prompt, where the tokenizer's folder is a model's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_kv_bytes: Option<u64>,
    /// Of the identifiers in messages that were not sent as they came, the share that the last prompt still has:
    /// the mean over conversations that lost any, from 0 to 1.
    pub recall: f64,
    /// Requests refused.
    pub refused: u64,
    /// Prompts that leave less of the window than is reserved for the answer.
    pub over_window: u64,
    /// Broken invariants.
    pub faults: usize,
    /// The first of them in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub first_faults: Vec<String>,
}

/// Water marks, as shares of the budget.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Marks {
    /// A cut happens above it.
    pub high: f64,
    /// A cut goes down to it.
    pub low: f64,
}

impl Row {
    pub(super) fn new(name: &str, marks: Option<Marks>, window: (Tokens, usize), tally: &Tally) -> Self {
        let (window, counted) = window;
        Self {
            policy: name.to_owned(),
            marks,
            window,
            counted,
            requests: tally.requests,
            sent: tally.sent,
            prefilled: tally.prefilled,
            again: tally.again,
            reuse: if tally.sent == 0 { 0.0 } else { 1.0 - ratio(tally.prefilled, tally.sent) },
            breaks: tally.breaks,
            cuts: tally.cuts,
            peak: tally.peak,
            peak_kv_bytes: None,
            recall: if tally.lossy == 0 { 1.0 } else { tally.recall / f64::from(tally.lossy) },
            refused: tally.refused,
            over_window: tally.over,
            faults: tally.faults.len(),
            first_faults: tally.faults.iter().take(TOLD).cloned().collect(),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "sums of tokens are far below 2^52")]
pub(super) fn ratio(part: Tokens, whole: Tokens) -> f64 {
    part as f64 / whole as f64
}
