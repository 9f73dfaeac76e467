//! Where an engine's idle conversations go.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Size;

/// Where conversations go whose slot or memory another request needs: their keys and values are brought back where that
/// is measured to be cheaper than computing them again.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Offload {
    /// Main memory for them, at most half of what `memory` leaves free; null: they are forgotten. Default `2GiB`.
    pub(in crate::config) host: Option<Size>,
    /// Files that hold them too, beyond main memory, the model's unloading and restarts. Default null: none are written.
    pub(in crate::config) disk: Option<OffloadDisk>,
}

/// A folder of idle conversations.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["dir"]))]
pub(in crate::config) struct OffloadDisk {
    /// Folder, made when it is missing. Its files tell what was said: they are readable by this user only.
    #[schemars(example = &"/var/lib/plimsoll/idle")]
    pub(in crate::config) dir: String,
    /// Bytes of all files in it; the longest unused go first. Default `10GiB`.
    pub(in crate::config) limit: Size,
}

impl Default for Offload {
    fn default() -> Self {
        Self { host: Some(Size("2GiB".into())), disk: None }
    }
}

impl Default for OffloadDisk {
    fn default() -> Self {
        Self { dir: String::new(), limit: Size("10GiB".into()) }
    }
}
