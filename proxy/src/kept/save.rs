//! Saves the governed conversation of a call, and on the embedded engine its keys and values.

use std::path::Path;
use std::sync::Arc;

use http::Response;
use plimsoll_engine::{CheckpointError as KvError, Generate, Sampling};
use plimsoll_policies::{Conversation, Report};
use serde_json::json;
use serde_json::value::RawValue;

use super::checkpoints::{Checkpoint, CheckpointError, Checkpoints, Info};
use super::{Caller, KeptError};
use crate::body::Body;
use crate::config::Mode;
use crate::live::Embedded;
use crate::parse::{Chat, Envelope};
use crate::{respond, stamp};

/// A conversation to be saved.
pub struct Saving {
    /// The request around its body.
    pub envelope: Envelope,
    /// What the policy did.
    pub report: Option<Report>,
    /// The governed conversation.
    pub chat: Chat,
    /// The engine that its route leads to.
    pub engine: Option<Arc<Embedded>>,
}

/// Saves and answers with what was saved.
pub async fn save(saving: Saving) -> Result<Response<Body>, KeptError> {
    let Saving { envelope, report, chat, engine } = saving;
    let kept = envelope.live.kept.clone();
    let caller = envelope.caller.clone();
    let checkpoints = kept.checkpoints.clone().ok_or(CheckpointError::Off)?;
    let enforced = envelope.mode == Mode::Enforce;
    let tokens =
        report.as_ref().map_or(0, |report| if enforced { report.tokens_after } else { report.tokens_before });
    let checkpoint = checkpoint(&chat, tokens)?;
    let mut answer = json!(checkpoint.info);
    let path = checkpoints.kv(&caller, &checkpoint.info.id);
    write(checkpoints, caller, checkpoint).await?;
    answer["kv"] = match engine {
        None => json!({"saved": false, "reason": "the upstream keeps its own"}),
        Some(engine) => match save_kv(&engine, &chat.conversation, &path).await {
            Ok(bytes) => json!({"saved": true, "bytes": bytes}),
            Err(reason) => {
                tracing::warn!(target: "plimsoll", reason, "keys and values of a checkpoint were not saved");
                json!({"saved": false, "reason": reason})
            }
        },
    };
    let mut response = respond::json(&answer);
    response.headers_mut().extend(stamp::stamp(&envelope, report.as_ref()));
    Ok(response)
}

fn checkpoint(chat: &Chat, tokens: u64) -> Result<Checkpoint, CheckpointError> {
    let raw = |json: &str| RawValue::from_string(json.to_owned()).map_err(std::io::Error::from);
    let messages = chat.conversation.messages().iter().map(|message| raw(message.json()));
    let messages: Vec<_> = messages.collect::<Result<_, _>>()?;
    let (id, created) = Checkpoints::new_id();
    let object = "context.checkpoint".to_owned();
    let info = Info { id, object, created, model: chat.model.clone(), messages: messages.len(), tokens };
    Ok(Checkpoint { info, messages, tools: chat.conversation.tools().map(raw).transpose()? })
}

async fn write(checkpoints: Checkpoints, caller: Caller, checkpoint: Checkpoint) -> Result<(), KeptError> {
    let save = move || checkpoints.save(&caller, &checkpoint);
    Ok(tokio::task::spawn_blocking(save).await??)
}

/// Saves what the engine holds of the conversation's prompt; computes it first where it does not. Gives the bytes.
async fn save_kv(engine: &Arc<Embedded>, conversation: &Conversation, path: &Path) -> Result<u64, String> {
    let prompt = engine.counter.ids(conversation).map_err(|error| error.to_string())?;
    let save = || {
        let (engine, prompt, path) = (engine.clone(), prompt.clone(), path.to_owned());
        tokio::task::spawn_blocking(move || engine.engine.save(&prompt, &path))
    };
    let first = save().await.map_err(|error| error.to_string())?;
    if !matches!(first, Err(KvError::NotResident { .. })) {
        return first.map(|info| info.bytes).map_err(|error| error.to_string());
    }
    compute(engine, prompt.clone()).await?;
    let second = save().await.map_err(|error| error.to_string())?;
    second.map(|info| info.bytes).map_err(|error| error.to_string())
}

/// Runs a prompt for a single token, so that the engine holds it.
async fn compute(engine: &Embedded, prompt: Arc<[u32]>) -> Result<(), String> {
    let tokens = u32::try_from(prompt.len()).unwrap_or(u32::MAX).saturating_add(1);
    let permit = engine.engine.reserve_for(&prompt, tokens).await.map_err(|error| error.to_string())?;
    let request = Generate { prompt, max_tokens: 1, sampling: Sampling::greedy(), ..Generate::default() };
    let mut generation = engine.engine.generate(request, permit);
    while let Some(event) = generation.next().await {
        event.map_err(|error| error.to_string())?;
    }
    Ok(())
}
