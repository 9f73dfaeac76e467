//! `reserve_output`: the output is part of the window, so the prompt may not have all of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::chain::Snapshot;
use crate::fit_context::{self, FitContext};
use crate::tokens::{CountError, Tokens};

/// Ceilings of the defaults; each is also held to a share of the window.
const DEFAULT: Tokens = 1024;
const MIN_OUTPUT: Tokens = 256;

/// Keeps room for the answer: the budget of the prompt is the window less the request's own output limit, or less
/// `default` where it has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReserveOutput {
    /// Tokens kept for the answer of a request that names no limit. Default: 1024, at most a quarter of the window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<Tokens>,
    /// Lower a request's limit where prompt and answer cannot both have what they need. Otherwise such a request
    /// is refused. Default: true.
    pub clamp: bool,
    /// The least a limit is lowered to. Default: 256, at most an eighth of the window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_output: Option<Tokens>,
}

impl Default for ReserveOutput {
    fn default() -> Self {
        Self { default: None, clamp: true, min_output: None }
    }
}

/// How a window is shared out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reserve {
    /// Tokens the prompt may have.
    pub(crate) budget: Tokens,
    /// Tokens kept for the output.
    pub(crate) reserved: Tokens,
}

impl Reserve {
    pub(crate) fn reason(self, requested: Option<Tokens>) -> String {
        let Self { budget, reserved } = self;
        match requested {
            Some(requested) if requested > reserved => {
                format!("output limit lowered from {requested} to {reserved}: the prompt may have {budget}")
            }
            Some(_) => format!("{reserved} asked for: the prompt may have {budget}"),
            None => format!("{reserved} by default: the prompt may have {budget}"),
        }
    }
}

impl ReserveOutput {
    /// What is wrong with the parameters, if anything.
    pub(crate) fn fault(self) -> Option<String> {
        (self.default == Some(0))
            .then(|| "`default: 0` leaves no room for an answer; use 1 or more".to_owned())
    }

    /// `room` is what prompt and output may have together, at most the window.
    pub(crate) fn reserve(self, room: Tokens, requested: Option<Tokens>) -> Reserve {
        let reserved = requested.unwrap_or_else(|| self.default_for(room));
        Reserve { budget: room.saturating_sub(reserved), reserved }
    }

    fn default_for(self, window: Tokens) -> Tokens {
        self.default.unwrap_or_else(|| DEFAULT.min(window / 4))
    }

    fn min_output_for(self, window: Tokens) -> Tokens {
        self.min_output.unwrap_or_else(|| MIN_OUTPUT.min(window / 8))
    }
}

/// A smaller reserve where the limit asked for leaves too little for what is never dropped.
///
/// It is the default reserve while that leaves enough, so that the budget is the same at every turn.
///
/// # Errors
/// The conversation cannot be counted.
pub(crate) fn clamp(
    params: ReserveOutput,
    guard: FitContext,
    snapshot: &Snapshot,
) -> Result<Option<Reserve>, CountError> {
    let (room, tokens) = (snapshot.room, snapshot.tokens + snapshot.trailing);
    let Some(requested) = snapshot.conversation.output_limit() else { return Ok(None) };
    if !params.clamp || tokens.saturating_add(requested) <= room {
        return Ok(None);
    }
    let unremovable = if guard.cut { fit_context::unremovable(snapshot)? } else { snapshot.tokens };
    let unremovable = unremovable + snapshot.trailing;
    let left = room.saturating_sub(unremovable);
    let least = params.min_output_for(room);
    let limit = left.min(params.default_for(room)).max(least);
    Ok((requested > left && limit < requested).then(|| params.reserve(room, Some(limit))))
}

#[cfg(test)]
#[path = "reserve_output_tests.rs"]
mod tests;
