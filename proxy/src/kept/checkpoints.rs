//! Saved conversations: one file each in a folder that replicas may share, below the caller's.
//!
//! A file is a line with magic and version, a line with its length and checksum, and JSON. It is written beside its
//! place and renamed; what is torn, foreign or of another version is refused by name.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thiserror::Error;

use super::disk::{private_folder, write_whole};
use super::{Caller, KeptFolderError};
use crate::config;

/// The first word of a file; the version follows.
const MAGIC: &str = "plimsoll-checkpoint";
/// The version that is written and read.
const VERSION: &str = "1";

/// Saved conversations by caller and id.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    dir: PathBuf,
    per_caller: usize,
    /// Held from counting to writing.
    saving: Arc<Mutex<()>>,
}

/// What is known of a saved conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// Its id: `ckpt_` and 32 hexadecimal digits, in the order of their making.
    pub id: String,
    /// `context.checkpoint`
    pub object: String,
    /// Unix time in seconds.
    pub created: u64,
    /// The model that the request named.
    pub model: Option<String>,
    /// Messages after the policy.
    pub messages: usize,
    /// Tokens of the prompt after the policy.
    pub tokens: u64,
}

/// A saved conversation.
#[derive(Debug, Serialize, Deserialize)]
pub struct Checkpoint {
    /// What is known of it.
    pub info: Info,
    /// Its messages, raw.
    pub messages: Vec<Box<RawValue>>,
    /// Its tools, raw.
    pub tools: Option<Box<RawValue>>,
}

/// A conversation cannot be saved, found or read.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// No folder is configured.
    #[error("there are no checkpoints here: `checkpoints.dir` is not set")]
    Off,
    /// None of this id, or somebody else's.
    #[error("no checkpoint `{0}` is yours")]
    NotFound(String),
    /// The caller has as many as it may have.
    #[error("you have {limit} checkpoints, which is the limit: delete one")]
    Full {
        /// `checkpoints.per_caller`
        limit: usize,
    },
    /// Not a file of ours.
    #[error("the file of checkpoint `{id}` is not a checkpoint of Plimsoll")]
    Foreign {
        /// The checkpoint.
        id: String,
    },
    /// Another version of the format.
    #[error("checkpoint `{id}` has version {found} of the format, this build reads {VERSION}: save it again")]
    Version {
        /// The checkpoint.
        id: String,
        /// Its version.
        found: String,
    },
    /// Cut short or altered.
    #[error("checkpoint `{id}` is damaged ({reason}): delete it and save it again")]
    Damaged {
        /// The checkpoint.
        id: String,
        /// What does not fit.
        reason: &'static str,
    },
    /// The operating system refused.
    #[error("the folder of checkpoints cannot be used: {0}")]
    File(#[from] io::Error),
}

impl Checkpoints {
    /// Makes the folder.
    pub(super) fn open(settings: &config::Checkpoints) -> Result<Option<Self>, KeptFolderError> {
        let Some(dir) = settings.dir.clone() else { return Ok(None) };
        private_folder(&dir).map_err(|source| KeptFolderError {
            option: "checkpoints.dir",
            folder: dir.clone(),
            source,
        })?;
        Ok(Some(Self { dir, per_caller: settings.per_caller, saving: Arc::default() }))
    }

    /// A new id and its time.
    pub fn new_id() -> (String, u64) {
        let id = format!("ckpt_{}", uuid::Uuid::now_v7().simple());
        (id, SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
    }

    /// Saves a conversation under the id of its `info`. Blocks.
    pub fn save(&self, caller: &Caller, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        let folder = self.dir.join(caller.as_str());
        private_folder(&folder)?;
        let json = serde_json::to_vec(checkpoint).map_err(io::Error::from)?;
        let _saving = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        // Other processes share the folder; one on a file system without locks is counted without.
        let own = fs::File::open(&folder)?;
        let _ = own.lock();
        if ids(&folder).len() >= self.per_caller {
            return Err(CheckpointError::Full { limit: self.per_caller });
        }
        let head = format!("{MAGIC} {VERSION}\n{} {}\n", json.len(), blake3::hash(&json).to_hex());
        Ok(write_whole(&self.file(caller, &checkpoint.info.id), &[head.as_bytes(), &json])?)
    }

    /// Reads a conversation. Blocks.
    pub fn load(&self, caller: &Caller, id: &str) -> Result<Checkpoint, CheckpointError> {
        let missing = || CheckpointError::NotFound(super::shown(id));
        if !is_id(id) {
            return Err(missing());
        }
        let bytes = match fs::read(self.file(caller, id)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing()),
            read => read?,
        };
        let json = verified(id, &bytes)?;
        serde_json::from_slice(json).map_err(|_| damaged(id, "its content cannot be read"))
    }

    /// What the caller has, oldest first; what cannot be read is left out. Blocks.
    pub fn list(&self, caller: &Caller) -> Vec<Info> {
        let mut ids = ids(&self.dir.join(caller.as_str()));
        ids.sort();
        ids.iter().filter_map(|id| self.load(caller, id).ok()).map(|checkpoint| checkpoint.info).collect()
    }

    /// Deletes a conversation, also a damaged one, with its keys and values. Blocks.
    pub fn delete(&self, caller: &Caller, id: &str) -> Result<(), CheckpointError> {
        let missing = || CheckpointError::NotFound(super::shown(id));
        if !is_id(id) {
            return Err(missing());
        }
        let _ = fs::remove_file(self.kv(caller, id));
        match fs::remove_file(self.file(caller, id)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(missing()),
            removed => Ok(removed?),
        }
    }

    fn file(&self, caller: &Caller, id: &str) -> PathBuf {
        self.dir.join(caller.as_str()).join(format!("{id}.json"))
    }

    /// Where the engine keeps the keys and values of a conversation.
    pub fn kv(&self, caller: &Caller, id: &str) -> PathBuf {
        self.dir.join(caller.as_str()).join(format!("{id}.kv"))
    }
}

/// The JSON of a file, after its version, length and checksum are verified.
fn verified<'b>(id: &str, bytes: &'b [u8]) -> Result<&'b [u8], CheckpointError> {
    let line = |bytes: &'b [u8]| {
        let end = bytes.iter().take(200).position(|byte| *byte == b'\n')?;
        Some((std::str::from_utf8(&bytes[..end]).ok()?, &bytes[end + 1..]))
    };
    let foreign = || CheckpointError::Foreign { id: id.to_owned() };
    let (first, rest) = line(bytes).ok_or_else(foreign)?;
    let version = first.strip_prefix(MAGIC).and_then(|rest| rest.strip_prefix(' ')).ok_or_else(foreign)?;
    if version != VERSION {
        return Err(CheckpointError::Version { id: id.to_owned(), found: super::shown(version) });
    }
    let (second, json) = line(rest).ok_or_else(|| damaged(id, "it ends early"))?;
    let (length, hash) = second.split_once(' ').ok_or_else(|| damaged(id, "its head is incomplete"))?;
    if length.parse() != Ok(json.len()) {
        return Err(damaged(id, "its length is another"));
    }
    if blake3::hash(json).to_hex().as_str() != hash {
        return Err(damaged(id, "its checksum is another"));
    }
    Ok(json)
}

fn damaged(id: &str, reason: &'static str) -> CheckpointError {
    CheckpointError::Damaged { id: id.to_owned(), reason }
}

/// The ids in a caller's folder.
fn ids(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter_map(|name| Some(name.strip_suffix(".json")?.to_owned())).filter(|id| is_id(id)).collect()
}

/// Whether a text has the form of an id: anything else never reaches the disk.
fn is_id(id: &str) -> bool {
    id.strip_prefix("ckpt_").is_some_and(super::is_hash)
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    #[test]
    fn the_limit_holds_for_parallel_saves_of_several_processes() {
        let place = tempfile::tempdir().expect("a folder");
        let settings = config::Checkpoints { dir: Some(place.path().to_owned()), per_caller: 3 };
        let open = || Checkpoints::open(&settings).expect("opens").expect("a folder");
        let caller = Caller::of(&HeaderMap::new(), None);
        // As two processes, each of which knows its own lock alone.
        let stores = [open(), open()];
        let save = |store: &Checkpoints| {
            let (id, created) = Checkpoints::new_id();
            let info = Info { id, object: String::new(), created, model: None, messages: 0, tokens: 0 };
            store.save(&caller, &Checkpoint { info, messages: Vec::new(), tools: None })
        };
        let together = std::sync::Barrier::new(16);
        let saved: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..16)
                .map(|n| {
                    let (together, store) = (&together, &stores[n % 2]);
                    scope.spawn(move || {
                        together.wait();
                        save(store)
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        assert_eq!(saved.iter().filter(|saved| saved.is_ok()).count(), 3);
        let full =
            |saved: &&Result<(), CheckpointError>| matches!(saved, Err(CheckpointError::Full { limit: 3 }));
        assert_eq!(saved.iter().filter(full).count(), 13);
        assert_eq!(stores[0].list(&caller).len(), 3);
    }
}
