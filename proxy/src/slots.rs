//! The engines' conversations as an operator sees and moves them: listed, saved, restored, branched, erased.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use plimsoll_engine::{CheckpointError, OffloadedReading, SlotReading};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thiserror::Error;

use crate::live::{Embedded, Live};
use crate::slot_files::{Entry, Folder, FolderError};

/// What to do with a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// A slot's conversation becomes a checkpoint.
    Save,
    /// A checkpoint's conversation comes into a slot.
    Restore,
    /// A slot's conversation is copied into another slot.
    Branch,
    /// A slot's conversation, a checkpoint, or one that is put by, is forgotten.
    Erase,
}

/// With which conversation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// The upstream whose engine is meant; may be left out where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// The slot's number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<u32>,
    /// The checkpoint's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The name of a conversation that is put by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offloaded: Option<String>,
    /// The first so many tokens of the conversation; default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u32>,
}

/// It cannot be done.
#[derive(Debug, Error)]
pub enum SlotsError {
    /// The target leaves open what it must say, or says what has no meaning here.
    #[error("{0}")]
    Target(String),
    /// No engine is meant.
    #[error("`upstream` must be one of the embedded engines: {}", if .0.is_empty() { "there are none".to_owned() } else { .0.join(", ") })]
    Upstream(Vec<String>),
    /// Checkpoints have no place.
    #[error("checkpoints have no folder: set `upstreams.{0}.engine.checkpoints`")]
    NoFolder(String),
    /// A checkpoint's name or file is at fault.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The engine refuses.
    #[error(transparent)]
    Engine(#[from] CheckpointError),
    /// The work ended without a result.
    #[error("the work ended without a result")]
    Crashed,
}

/// All slots and checkpoints. Reads the checkpoints' headers: blocks.
pub fn list(live: &Live) -> Result<Value, SlotsError> {
    let one = |engine: &Arc<Embedded>| {
        let saved = engine.checkpoints.as_ref().map_or(Ok(Vec::new()), Folder::list)?;
        let slots: Vec<_> = engine.engine.slots().iter().map(slot).collect();
        let saved: Vec<_> = saved.iter().map(checkpoint).collect();
        let folder = engine.checkpoints.as_ref().map(Folder::path);
        let offloaded: Vec<_> = engine.engine.offloaded().iter().map(offloaded).collect();
        let listed = json!({
            "model": engine.name, "slots": slots, "offloaded": offloaded, "folder": folder, "checkpoints": saved,
        });
        Ok((engine.key.clone(), listed))
    };
    let upstreams = live.engines().map(one).collect::<Result<serde_json::Map<_, _>, SlotsError>>()?;
    Ok(json!({"upstreams": upstreams}))
}

fn slot(slot: &SlotReading) -> Value {
    let idle = slot.idle_since.map(|since| since.elapsed().as_secs());
    json!({
        "id": slot.id, "tokens": slot.tokens, "shared_tokens": slot.shared, "limit": slot.limit, "busy": slot.busy, "idle_seconds": idle,
    })
}

fn offloaded(one: &OffloadedReading) -> Value {
    json!({
        "name": one.name, "tokens": one.tokens, "host_bytes": one.host_bytes, "disk_bytes": one.disk_bytes,
        "idle_seconds": one.idle_since.elapsed().as_secs(),
    })
}

fn checkpoint(entry: &Entry) -> Value {
    let since = |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let saved = entry.saved.map(since);
    match &entry.info {
        Ok(info) => {
            json!({"name": entry.name, "saved": saved, "tokens": info.tokens.len(), "bytes": info.bytes})
        }
        Err(error) => json!({"name": entry.name, "saved": saved, "error": error.to_string()}),
    }
}

/// Does something with a conversation. Blocks while files are written or read.
pub fn act(live: &Live, action: Action, target: &Target) -> Result<Value, SlotsError> {
    let engine = engine(live, target.upstream.as_deref())?;
    if action != Action::Erase {
        unused("offloaded", target.offloaded.as_ref(), "it comes back by itself, or is erased")?;
    }
    let done = match action {
        Action::Save => save(engine, target),
        Action::Restore => restore(engine, target),
        Action::Branch => branch(engine, target),
        Action::Erase => erase(engine, target),
    }?;
    let mut answer = json!({"upstream": engine.key});
    if let (Some(answer), Value::Object(done)) = (answer.as_object_mut(), done) {
        answer.extend(done);
    }
    Ok(answer)
}

fn engine<'a>(live: &'a Live, upstream: Option<&str>) -> Result<&'a Embedded, SlotsError> {
    let engines: Vec<_> = live.engines().collect();
    let found = match upstream {
        None if engines.len() == 1 => engines.first(),
        None => None,
        Some(key) => engines.iter().find(|engine| engine.key == key),
    };
    let names = || engines.iter().map(|engine| format!("`{}`", engine.key)).collect();
    found.map(|engine| &***engine).ok_or_else(|| SlotsError::Upstream(names()))
}

fn save(engine: &Embedded, target: &Target) -> Result<Value, SlotsError> {
    let (slot, name) = (needed("slot", target.slot)?, needed("name", target.name.as_deref())?);
    let path = folder(engine)?.place(name)?;
    let mut tokens = held(engine, slot)?;
    if let Some(asked) = target.tokens {
        let short = CheckpointError::Short { slot, asked, held: count(&tokens) };
        if asked == 0 || asked > count(&tokens) {
            return Err(short.into());
        }
        tokens.truncate(asked as usize);
    }
    let info = engine.engine.save(&tokens, &path)?;
    Ok(json!({"slot": slot, "name": name, "tokens": info.tokens.len(), "bytes": info.bytes}))
}

fn held(engine: &Embedded, slot: u32) -> Result<Vec<u32>, SlotsError> {
    let slots = u32::try_from(engine.engine.slots().len()).unwrap_or(u32::MAX);
    let missing = CheckpointError::NoSlot { slot, last: slots.saturating_sub(1) };
    let tokens = engine.engine.slot_tokens(slot).ok_or(missing)?;
    if tokens.is_empty() {
        return Err(SlotsError::Target(format!("`slot`: slot {slot} holds no conversation")));
    }
    Ok(tokens)
}

fn restore(engine: &Embedded, target: &Target) -> Result<Value, SlotsError> {
    unused("slot", target.slot.as_ref(), "a slot is chosen")?;
    unused("tokens", target.tokens.as_ref(), "a checkpoint is restored as a whole")?;
    let name = needed("name", target.name.as_deref())?;
    let restored = engine.engine.restore(&folder(engine)?.find(name)?)?;
    Ok(json!({"name": name, "slot": restored.slot, "tokens": restored.tokens}))
}

fn branch(engine: &Embedded, target: &Target) -> Result<Value, SlotsError> {
    unused("name", target.name.as_ref(), "a branch is a slot")?;
    let from = needed("slot", target.slot)?;
    held(engine, from)?;
    let made = engine.engine.branch(from, target.tokens)?;
    Ok(json!({"from": from, "slot": made.slot, "tokens": made.tokens}))
}

fn erase(engine: &Embedded, target: &Target) -> Result<Value, SlotsError> {
    unused("tokens", target.tokens.as_ref(), "a conversation is erased as a whole")?;
    match (target.slot, target.name.as_deref(), target.offloaded.as_deref()) {
        (Some(slot), None, None) => Ok(json!({"slot": slot, "tokens": engine.engine.erase(slot)?})),
        (None, Some(name), None) => {
            folder(engine)?.delete(name)?;
            Ok(json!({"name": name}))
        }
        (None, None, Some(name)) => {
            Ok(json!({"offloaded": name, "tokens": engine.engine.erase_offloaded(name)?}))
        }
        _ => Err(SlotsError::Target("say `slot`, `name` or `offloaded`, one of them".to_owned())),
    }
}

fn folder(engine: &Embedded) -> Result<&Folder, SlotsError> {
    engine.checkpoints.as_ref().ok_or_else(|| SlotsError::NoFolder(engine.key.clone()))
}

fn needed<T>(field: &str, value: Option<T>) -> Result<T, SlotsError> {
    value.ok_or_else(|| SlotsError::Target(format!("`{field}` is missing")))
}

fn unused<T>(field: &str, value: Option<&T>, why: &str) -> Result<(), SlotsError> {
    if value.is_none() {
        Ok(())
    } else {
        Err(SlotsError::Target(format!("`{field}` has no meaning here: {why}")))
    }
}

fn count(tokens: &[u32]) -> u32 {
    u32::try_from(tokens.len()).unwrap_or(u32::MAX)
}
