//! What is kept for callers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Size, Time};

/// Originals of shortened tool results, kept for their callers: `GET /v1/context/artifacts/{id}`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Artifacts {
    /// Memory for them; 0 keeps none, and none is named. Default `64MiB`.
    pub(in crate::config) memory: Size,
    /// Folder that keeps them beyond memory and restarts, for nothing else; replicas may share it. Default none.
    pub(in crate::config) disk: Option<String>,
    /// Bytes in that folder; the oldest go first. Default `1GiB`.
    pub(in crate::config) disk_limit: Size,
    /// How long one is kept after it was last sent. Default `1h`.
    pub(in crate::config) ttl: Time,
}

impl Default for Artifacts {
    fn default() -> Self {
        Self {
            memory: Size("64MiB".into()),
            disk: None,
            disk_limit: Size("1GiB".into()),
            ttl: Time("1h".to_owned()),
        }
    }
}

/// Saved conversations: `POST /v1/context/checkpoints`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Checkpoints {
    /// Folder that holds them; replicas may share it. Default none: there are no checkpoints.
    #[schemars(example = &"/var/lib/plimsoll/checkpoints")]
    pub(in crate::config) dir: Option<String>,
    /// Checkpoints that one caller may have. Default 100.
    #[schemars(range(min = 1, max = 100_000))]
    pub(in crate::config) per_caller: u32,
}

impl Default for Checkpoints {
    fn default() -> Self {
        Self { dir: None, per_caller: 100 }
    }
}
