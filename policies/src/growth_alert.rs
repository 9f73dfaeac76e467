//! `growth_alert`: says when the context grows fast, passes a size, or loses its cached prefix.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::chain::{Effect, Snapshot};
use crate::conversation::{Conversation, Role, last_answer};
use crate::fit_context::share;
use crate::tokens::{CountError, CountTokens, Tokens, grouped};
use crate::weights::Weights;

/// Default of `tokens`, held to three quarters of the window.
const TOKENS: Tokens = 30_000;

/// Tells of a conversation that somebody should look at, and changes nothing: in the header `x-plimsoll-alerts`, an
/// event of the span, a metric and the report. It compares the prompt at this place of the list with the one before:
/// the same conversation as it was before the last answer. Each is told once, when it happens.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GrowthAlert {
    /// `growth`: the prompt is over so many times the one before, and has a tenth of `tokens` more. Default: 1.5.
    pub factor: f64,
    /// `size`: the prompt has passed this many tokens. Default: 30000, at most three quarters of the window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Tokens>,
    /// `reuse`: much of the prompt before has to be computed again.
    pub collapse: Collapse,
}

/// How much of the prompt before, as it was sent, may be missing from the KV that is held. Both must be passed. Only on
/// the embedded engine, and not where the policy itself has changed the prompt since: that is what a cut is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Collapse {
    /// A share of it. Default: 0.05.
    pub share: f64,
    /// Tokens of it. Default: 2000.
    pub tokens: Tokens,
}

impl Default for GrowthAlert {
    fn default() -> Self {
        Self { factor: 1.5, tokens: None, collapse: Collapse::default() }
    }
}

impl Default for Collapse {
    fn default() -> Self {
        Self { share: 0.05, tokens: 2000 }
    }
}

impl GrowthAlert {
    /// What is wrong with the parameters, if anything.
    pub(crate) fn fault(self) -> Option<String> {
        if !(self.factor > 1.0 && self.factor.is_finite()) {
            return Some(format!("`factor: {}` must be over 1", self.factor));
        }
        if self.tokens == Some(0) {
            return Some("`tokens: 0` is passed by every prompt; use 1 or more".to_owned());
        }
        let share = self.collapse.share;
        (!(0.0..=1.0).contains(&share)).then(|| format!("`collapse.share: {share}` must be from 0 to 1"))
    }

    fn tokens_for(self, window: Tokens) -> Tokens {
        self.tokens.unwrap_or_else(|| TOKENS.min(window / 4 * 3))
    }

    /// Why the prompt before this one is not what is held, of a conversation as it is sent.
    pub(crate) fn reuse(
        self,
        sent: &Conversation,
        held: Tokens,
        counter: &dyn CountTokens,
    ) -> Option<String> {
        let messages = sent.messages();
        let arrived = messages[last_answer(messages)?].slot()?;
        let edited = |message| sent.replaced(message).iter().any(|edit| edit.at >= arrived);
        if sent.dropped().iter().any(|gone| gone.at >= arrived) || messages.iter().any(edited) {
            return None;
        }
        let previous = previous(sent, &Weights::new(counter)).ok()??;
        let missing = previous.saturating_sub(held);
        let lost = missing > share(previous, self.collapse.share) && missing >= self.collapse.tokens.max(1);
        let (missing, previous) = (grouped(missing), grouped(previous));
        lost.then(|| format!("{missing} of the {previous} tokens before are not held any more"))
    }
}

/// Applies the policy.
pub(crate) fn apply(params: GrowthAlert, snapshot: &Snapshot) -> Effect {
    let previous = match previous(snapshot.conversation, snapshot.weights) {
        Ok(previous) => previous,
        Err(refused) => return Effect::Failed(refused.to_string()),
    };
    let mut alerts = Alerts { kinds: Vec::new(), reasons: Vec::new() };
    let (now, most) = (snapshot.tokens, params.tokens_for(snapshot.limits.window));
    if now > most && previous.unwrap_or(0) <= most {
        alerts.add("size", format!("{} tokens have passed {}", grouped(now), grouped(most)));
    }
    if let Some(previous) = previous {
        let grown = now.saturating_sub(previous) > most / 10;
        if grown && share(previous, params.factor) < now {
            let (now, previous) = (grouped(now), grouped(previous));
            alerts.add("growth", format!("{now} tokens after {previous} are over {} times", params.factor));
        }
    }
    if alerts.kinds.is_empty() {
        let previous =
            previous.map_or_else(|| "the first prompt".to_owned(), |before| format!("{before} before"));
        return Effect::Unchanged(format!("{now} tokens, {previous}"));
    }
    Effect::Alert(alerts.kinds, alerts.reasons.join("; "))
}

struct Alerts {
    kinds: Vec<&'static str>,
    reasons: Vec<String>,
}

impl Alerts {
    fn add(&mut self, kind: &'static str, reason: String) {
        self.kinds.push(kind);
        self.reasons.push(reason);
    }
}

/// Tokens of the prompt before: all up to the last answer, which it led to. None where nothing was answered yet.
fn previous(conversation: &Conversation, weights: &Weights) -> Result<Option<Tokens>, CountError> {
    let messages = conversation.messages();
    let Some(answer) = last_answer(messages) else { return Ok(None) };
    let head = &messages[..answer];
    let asked = head.iter().any(|message| matches!(message.role(), Role::User | Role::Tool));
    if !asked {
        return Ok(None);
    }
    let each = head.iter().map(|message| weights.of(std::slice::from_ref(message)));
    Ok(Some(weights.overhead(conversation)? + each.sum::<Tokens>()))
}

#[cfg(test)]
#[path = "growth_alert_tests.rs"]
mod tests;
