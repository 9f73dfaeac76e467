//! Originals of what policies shortened: how they are named, and which they are.

use crate::conversation::{Conversation, Message, Role};

/// The tool by which a model reads originals where its route allows it; what it returns is never shortened.
pub const READ_TOOL: &str = "plimsoll_read";

/// Bytes of the hash in an id.
const HASH_BYTES: usize = 8;

/// The id of a tool result's original: `ctx_` and 16 hexadecimal digits of the BLAKE3 hash of its raw JSON content, so
/// that every replica names it alike.
#[must_use]
pub fn artifact_id(raw_content: &str) -> String {
    let hash = blake3::hash(raw_content.as_bytes());
    let digits: String = hash.as_bytes()[..HASH_BYTES].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("ctx_{digits}")
}

/// The original of a tool result that a policy shortened.
#[derive(Debug, Clone)]
pub struct Original {
    /// Its id, as the shortened result names it.
    pub id: String,
    /// The result as the client sent it.
    pub message: Message,
}

impl Conversation {
    /// The originals that the edited tool results of this conversation name.
    #[must_use]
    pub fn originals(&self) -> Vec<Original> {
        let edited =
            self.messages().iter().filter(|message| message.role() == Role::Tool && !message.is_original());
        edited
            .filter_map(|message| {
                let original = self.original(message);
                let id = artifact_id(original.raw_content());
                message.raw_content().contains(&id).then_some(Original { id, message: original })
            })
            .collect()
    }
}
