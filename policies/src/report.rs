//! What a chain did: for headers, spans and the table of `plimsoll explain`.

use serde::Serialize;

use crate::limits::Limits;
use crate::tokens::Tokens;

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It changed the conversation.
    Applied,
    /// There was nothing to change.
    Unchanged,
    /// It would have made the prompt larger: taken back.
    Undone,
    /// It could not do its work: skipped.
    Failed,
    /// It refused the request.
    Rejected,
    /// It changed nothing and says that somebody should look.
    Alert,
}

/// One step of a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The policy's name.
    pub policy: &'static str,
    /// What it does, in a word: `sort`, `reserve`, `cap`, `clear`, `drop`, `summarize`, `alert`,
    /// `limit`, `point`, `reject`, `fit`.
    pub action: &'static str,
    /// Messages (or tools) touched.
    pub messages: usize,
    /// Tokens of the whole prompt before the step.
    pub tokens_before: Tokens,
    /// Tokens of the whole prompt after it.
    pub tokens_after: Tokens,
    /// Why, for people; never the text of a message.
    pub reason: String,
    /// Leading messages that the step left as they were.
    pub prefix_kept: usize,
    /// What became of it.
    pub outcome: Outcome,
    /// The tool whose results were touched, where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// Kinds of alert: `growth`, `size`, `reuse`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alerts: Vec<&'static str>,
}

impl Row {
    /// Adds an alert of this kind.
    pub(crate) fn alert(&mut self, kind: &'static str, reason: &str) {
        self.reason =
            if self.alerts.is_empty() { reason.to_owned() } else { format!("{}; {reason}", self.reason) };
        self.alerts.push(kind);
        self.outcome = Outcome::Alert;
    }
}

/// What a chain did to a conversation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The policy's name: what the route calls the chain.
    pub policy: String,
    /// Tokens that prompt and output may have together: the context window, or less by `memory_budget`.
    pub window: Tokens,
    /// What the chain was told of the place where the prompt runs. Left out of the JSON where that is the window alone.
    #[serde(skip_serializing_if = "Limits::only_window")]
    pub limits: Limits,
    /// Tokens the prompt may have: the window less what is reserved.
    pub budget: Tokens,
    /// Tokens kept for the output.
    pub reserved: Tokens,
    /// Tokens of the prompt as it came in.
    pub tokens_before: Tokens,
    /// Tokens of the prompt as it goes out.
    pub tokens_after: Tokens,
    /// Messages as they came in.
    pub messages_before: usize,
    /// Messages as they go out.
    pub messages_after: usize,
    /// Whether counts are estimates.
    pub estimated: bool,
    /// The tokenizer's name.
    pub tokenizer: String,
    /// One row a step, in order.
    pub rows: Vec<Row>,
}

impl Report {
    /// Policies that changed something and how many messages each touched, in order.
    #[must_use]
    pub fn actions(&self) -> Vec<(&'static str, u64)> {
        let applied = self.rows.iter().filter(|row| row.outcome == Outcome::Applied);
        applied.map(|row| (row.policy, row.messages as u64)).collect()
    }

    /// What somebody should look at: kinds of alert with the reasons for them, in order.
    pub fn alerts(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.rows.iter().flat_map(|row| row.alerts.iter().map(|kind| (*kind, row.reason.as_str())))
    }
}
