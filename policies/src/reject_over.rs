//! `reject_over`: a ceiling that nothing may pass.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::chain::{Effect, Rejection, Snapshot};
use crate::tokens::Tokens;

/// Refuses a prompt over a ceiling, as `fit_context` refuses one that cannot fit: with exact numbers. It judges the
/// prompt as it stands at this place of the list: written first, what the client sent; written last, what the other
/// steps left of it. Nothing is dropped for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RejectOver {
    /// Tokens a prompt may have, tools and special tokens included. There is no default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Tokens>,
}

impl RejectOver {
    /// What is wrong with the parameters, if anything.
    pub(crate) fn fault(self) -> Option<String> {
        match self.tokens {
            None => Some("`tokens` is missing: write the ceiling, such as `tokens: 32000`".to_owned()),
            Some(0) => Some("`tokens: 0` refuses everything; use 1 or more".to_owned()),
            Some(_) => None,
        }
    }
}

/// Applies the guard.
pub(crate) fn apply(params: RejectOver, snapshot: &Snapshot) -> Effect {
    let tokens = snapshot.tokens;
    match params.tokens {
        Some(ceiling) if tokens > ceiling => Effect::Reject(Rejection {
            unremovable: tokens,
            ceiling: Some(ceiling),
            reason: format!("{tokens} tokens are over the ceiling of {ceiling}"),
        }),
        Some(ceiling) => Effect::Unchanged(format!("{tokens} of {ceiling} tokens")),
        None => Effect::Unchanged("no ceiling".to_owned()),
    }
}

#[cfg(test)]
#[path = "reject_over_tests.rs"]
mod tests;
