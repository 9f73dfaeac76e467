//! Puts a saved conversation before the messages of a request.

use std::sync::Arc;

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http::request::Parts;
use plimsoll_engine::CheckpointInfo;
use plimsoll_policies::Conversation;

use super::checkpoints::CheckpointError;
use super::{Caller, Kept, KeptError};
use crate::body::Payload;
use crate::live::Embedded;

/// Names the checkpoint that a chat goes on from.
pub const RESUME: &str = "x-plimsoll-resume";

/// A conversation that was resumed.
#[derive(Debug, Clone)]
pub struct Resumed {
    /// The checkpoint.
    pub id: String,
    kv: std::path::PathBuf,
}

/// The request with the saved messages before its own, the system messages of both once, and the saved tools where it
/// names none; none where the head asks for no checkpoint. The head then speaks of the new body.
pub async fn resume(
    head: &mut Parts,
    kept: &Arc<Kept>,
    caller: Caller,
    conversation: &Conversation,
) -> Result<Option<(Conversation, Payload, Resumed)>, KeptError> {
    let Some(id) = head.headers.remove(RESUME) else { return Ok(None) };
    let id = id.to_str().unwrap_or_default().to_owned();
    let checkpoints = kept.checkpoints.clone().ok_or(CheckpointError::Off)?;
    let kv = checkpoints.kv(&caller, &id);
    let name = id.clone();
    let load = move || checkpoints.load(&caller, &name);
    let checkpoint = tokio::task::spawn_blocking(load).await??;
    let before: Vec<&str> = checkpoint.messages.iter().map(|message| message.get()).collect();
    let tools = checkpoint.tools.as_ref().map(|tools| tools.get());
    let whole = conversation.resuming(&before, tools)?;
    let body = bytes::Bytes::from(whole.to_json().as_bytes().to_vec());
    for name in [CONTENT_ENCODING, CONTENT_LENGTH] {
        head.headers.remove(name);
    }
    Ok(Some((whole, Payload { original: body.clone(), decoded: body }, Resumed { id, kv })))
}

impl Resumed {
    /// Gives the engine the keys and values of the conversation where it has them not. Whatever goes wrong costs
    /// computing them anew, nothing else. Says what became of it.
    pub async fn restore(&self, engine: &Arc<Embedded>) -> &'static str {
        let (engine, kv) = (engine.clone(), self.kv.clone());
        let restore = move || {
            let saved = CheckpointInfo::read(&kv)?;
            if engine.engine.resident_prefix(&saved.tokens) as usize >= saved.tokens.len() {
                return Ok("resident");
            }
            engine.engine.restore(&kv).map(|_| "restored")
        };
        match tokio::task::spawn_blocking(restore).await {
            Ok(Ok(how)) => how,
            Ok(Err(error)) => {
                tracing::warn!(target: "plimsoll", %error, id = self.id, "a checkpoint's keys and values were not restored");
                "computed"
            }
            Err(_) => "computed",
        }
    }
}
