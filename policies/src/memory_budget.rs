//! `memory_budget`: a conversation may have so many bytes of KV cache.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::chain::{Effect, Snapshot};
use crate::fit_context::{share, unremovable};
use crate::reserve_output::Reserve;
use crate::tokens::grouped;

/// Share of all KV bytes where neither parameter is written.
const SHARE: f64 = 0.25;
/// What is free now counts in this many steps of the limit, so that the marks move seldom.
const STEPS: u64 = 8;

/// Holds prompt and answer to bytes of KV cache, turned into tokens by the model's own bytes a token: the same file
/// fits another model or a larger GPU. Where less than the limit is free now, older messages make room sooner; for
/// want of free memory nothing is refused that the limit allows. The steps after it see the smaller budget. Needs the
/// embedded engine: servers over HTTP do not tell what a token takes there.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MemoryBudget {
    /// Bytes of KV cache that prompt and answer may take together, such as `2GiB`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv: Option<Bytes>,
    /// The same as a share of all KV bytes of the engine. Default where `kv` is not written: 0.25.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
}

impl MemoryBudget {
    /// What is wrong with the parameters, if anything.
    pub(crate) fn fault(self) -> Option<String> {
        match self {
            Self { kv: Some(_), share: Some(_) } => {
                Some("`kv` and `share` both say how much: keep one".to_owned())
            }
            Self { kv: Some(Bytes(0)), .. } => {
                Some("`kv: 0` has no room for a token; write `2GiB`".to_owned())
            }
            Self { share: Some(share), .. } if !(share > 0.0 && share <= 1.0) => {
                Some(format!("`share: {share}` must be over 0 and at most 1"))
            }
            _ => None,
        }
    }

    /// The bytes, where there are `total`.
    fn bytes(self, total: u64) -> u64 {
        self.kv.map_or_else(|| share(total, self.share.unwrap_or(SHARE)), |Bytes(bytes)| bytes.min(total))
    }
}

/// Applies the policy; `reserve` is how the window is shared out so far.
pub(crate) fn apply(params: MemoryBudget, reserve: Reserve, snapshot: &Snapshot) -> Effect {
    let limits = snapshot.limits;
    let (Some(total), Some(free), Some(per_token)) =
        (limits.total_kv, limits.free_kv, limits.bytes_per_token)
    else {
        return Effect::Unchanged("not applicable: the upstream does not tell its KV cache".to_owned());
    };
    let per_token = per_token.max(1);
    let bytes = params.bytes(total);
    let limit = bytes / per_token;
    let now = steps_of(free.min(bytes), bytes) / per_token;
    let ceiling = match unremovable(snapshot) {
        // The guard counts anew: what stays gets a little more than it is thought to weigh.
        Ok(tokens) => now.max(tokens + tokens / 16 + 16 + reserve.reserved).min(limit),
        Err(_) => limit,
    };
    let mut reason = format!("{} of KV cache hold {} tokens", Bytes(bytes), grouped(limit));
    if ceiling < limit {
        reason = format!("{reason}; {} are free: {} now", Bytes(free), grouped(ceiling));
    }
    if ceiling >= limits.window {
        reason = format!("{reason}, the window is {}", grouped(limits.window));
    }
    Effect::Ceiling(ceiling, reason)
}

/// A number of bytes rounded down to a whole step of `whole`.
fn steps_of(bytes: u64, whole: u64) -> u64 {
    let step = (whole / STEPS).max(1);
    if bytes >= whole { whole } else { bytes / step * step }
}

/// A number of bytes, written as `2GiB`, `512MiB` or `1048576`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        bytesize::ByteSize(self.0).display().iec().fmt(f)
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a number of bytes, such as `2GiB`")]
        enum Written {
            Number(u64),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Number(bytes) => Ok(Self(bytes)),
            Written::Text(text) => {
                text.parse::<bytesize::ByteSize>().map(|size| Self(size.0)).map_err(|_| {
                    serde::de::Error::custom(format!(
                        "`{text}` is not a number of bytes; write it like `2GiB`"
                    ))
                })
            }
        }
    }
}

impl JsonSchema for Bytes {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Bytes".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({
            "type": ["string", "integer"],
            "description": "A number of bytes, such as `2GiB`, `512MiB` or `1048576`.",
        })
    }
}

#[cfg(test)]
#[path = "memory_budget_tests.rs"]
mod tests;
