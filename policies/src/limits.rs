//! What is known of the place where a prompt will run: numbers, taken once a request.

use serde::Serialize;

use crate::tokens::Tokens;

/// Limits of the model that will run the prompt, as data: a chain applied twice with the same limits does the same.
/// Only the window is known everywhere; the rest is an embedded engine's to tell.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Limits {
    /// Tokens that prompt and output may have together.
    pub window: Tokens,
    /// Bytes of KV cache that no running request has reserved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free_kv: Option<u64>,
    /// Bytes of KV cache there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_kv: Option<u64>,
    /// Bytes of KV cache that one token takes, over all layers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_token: Option<u64>,
    /// Tokens at the start of the prompt, as it is sent, whose KV is held: they need not be computed. Told by the
    /// counter in the end, where the chain has a use for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resident_prefix: Option<Tokens>,
    /// Measured seconds that computing one token of a prompt takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefill_seconds_per_token: Option<f64>,
}

impl Limits {
    /// A window of tokens, and nothing else known: what an upstream over HTTP tells.
    #[must_use]
    pub const fn tokens(window: Tokens) -> Self {
        Self {
            window,
            free_kv: None,
            total_kv: None,
            bytes_per_token: None,
            resident_prefix: None,
            prefill_seconds_per_token: None,
        }
    }

    /// Whether nothing but the window is known: reports name the window anyway.
    pub(crate) fn only_window(&self) -> bool {
        *self == Self::tokens(self.window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_name_what_is_known() {
        let plain = Limits::tokens(100);
        assert!(plain.only_window());
        let known = Limits { free_kv: Some(1 << 20), bytes_per_token: Some(512), ..plain };
        assert!(!known.only_window());
        let json = serde_json::json!({"window": 100, "free_kv": 1_048_576, "bytes_per_token": 512});
        assert_eq!(serde_json::to_value(known).unwrap(), json);
    }
}
