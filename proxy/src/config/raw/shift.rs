//! What an engine does when a window is full.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Answers go on past the window: half of the tokens behind the first `keep` is dropped, the others move up.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct ContextShift {
    /// Tokens from the first one on that stay; -1: the whole prompt. Default 4.
    #[schemars(range(min = -1))]
    pub(in crate::config) keep: i32,
}

impl Default for ContextShift {
    fn default() -> Self {
        Self { keep: 4 }
    }
}
