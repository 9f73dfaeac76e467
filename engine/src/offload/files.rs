//! The folder of conversations on disk: checkpoints whose names follow from their tokens.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use crate::cache::{Segment, Strip};
use crate::checkpoint::{self, CheckpointError, Header, Opened};
use crate::model::Stamp;

/// The files' ending: no other file of the folder is ever touched.
const ENDING: &str = "offload";
/// The ending of a file that is being written.
const UNFINISHED: &str = "tmp";
/// A file that was not finished for so long never will be.
const STALE: Duration = Duration::from_secs(3600);

/// The name of a conversation: a hash of its tokens.
pub(super) fn name(tokens: &[u32]) -> String {
    let mut hasher = blake3::Hasher::new();
    for token in tokens {
        hasher.update(&token.to_le_bytes());
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

/// A folder, and the model whose conversations are looked for in it.
#[derive(Debug)]
pub(super) struct Folder {
    dir: PathBuf,
    files: Vec<Stamp>,
    strips: Vec<Strip>,
    identity: Arc<OnceLock<[u8; 32]>>,
}

/// A conversation in a file.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) tokens: Arc<[u32]>,
    pub(super) bytes: u64,
    written: SystemTime,
}

impl Folder {
    pub(super) fn new(
        dir: PathBuf,
        files: Vec<Stamp>,
        strips: Vec<Strip>,
        identity: Arc<OnceLock<[u8; 32]>>,
    ) -> Self {
        Self { dir, files, strips, identity }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The digest of the model's files, computed once.
    fn identity(&self) -> Result<[u8; 32], CheckpointError> {
        checkpoint::identity(&self.files, &self.identity)
    }

    fn path(&self, model: &[u8; 32], tokens: &[u32]) -> PathBuf {
        let model = &blake3::Hash::from_bytes(*model).to_hex()[..8];
        self.dir.join(format!("{model}-{}.{ENDING}", name(tokens)))
    }

    /// All conversations of the model, the eldest first. Makes the folder where it is missing.
    pub(super) fn open(&self) -> Result<Vec<Found>, CheckpointError> {
        let failed = |what| move |error| CheckpointError::file(what, &self.dir, &error);
        let mut builder = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.recursive(true).create(&self.dir).map_err(failed("make"))?;
        let model = self.identity()?;
        let (mut found, mut foreign) = (Vec::new(), 0);
        for file in std::fs::read_dir(&self.dir).map_err(failed("read"))? {
            let path = file.map_err(failed("read"))?.path();
            let ending = path.extension().and_then(|ending| ending.to_str());
            match ending {
                Some(UNFINISHED) => remove_stale(&path),
                Some(ENDING) => match self.look(&path, &model) {
                    Ok(one) => found.push(one),
                    Err(CheckpointError::Foreign { .. }) => foreign += 1,
                    Err(error) => {
                        tracing::warn!(target: "plimsoll", %error, "a conversation on disk is ignored");
                    }
                },
                _ => {}
            }
        }
        if foreign > 0 {
            tracing::info!(target: "plimsoll", files = foreign, dir = %self.dir.display(), "conversations of other models are ignored");
        }
        found.sort_by_key(|found| found.written);
        Ok(found)
    }

    fn look(&self, path: &Path, model: &[u8; 32]) -> Result<Found, CheckpointError> {
        let header = checkpoint::header(path)?;
        // A file that stands in another's place would be found under tokens that it does not hold.
        if header.model != *model || header.strips != self.strips || path != self.path(model, &header.tokens)
        {
            let reason = "its name, its weights or its KV cache are other ones".to_owned();
            return Err(CheckpointError::Foreign { path: path.to_owned(), reason });
        }
        let written = std::fs::metadata(path).and_then(|about| about.modified());
        let written = written.unwrap_or(SystemTime::UNIX_EPOCH);
        Ok(Found { bytes: header.file_bytes() as u64, tokens: header.tokens.into(), written })
    }

    fn header(&self, tokens: &[u32]) -> Result<Header, CheckpointError> {
        let (model, strips) = (self.identity()?, self.strips.clone());
        Ok(Header { model, data: [0; 32], strips, tokens: tokens.to_vec() })
    }

    /// Bytes of a conversation's file.
    pub(super) fn bytes(&self, tokens: &[u32]) -> Result<u64, CheckpointError> {
        Ok(self.header(tokens)?.file_bytes() as u64)
    }

    /// Writes a conversation, as a whole or not at all.
    pub(super) fn write(&self, tokens: &[u32], pages: &Segment) -> Result<(), CheckpointError> {
        let header = self.header(tokens)?;
        let path = self.path(&header.model, tokens);
        let failed = |error: std::io::Error| CheckpointError::file("read", &path, &error);
        let heads: Vec<_> = self.strips.iter().map(|strip| strip.heads).collect();
        checkpoint::write(&path, header, |strip, region| {
            // Heads lie in memory as they do in the file.
            let mut bytes = vec![0; heads[strip] * region];
            pages.read(strip, 0, 0, &mut bytes).map_err(failed)?;
            Ok(bytes)
        })?;
        Ok(())
    }

    /// Reads a conversation into memory that rows can share, and verifies it.
    pub(super) fn read(&self, tokens: &[u32]) -> Result<Segment, CheckpointError> {
        let model = self.identity()?;
        let path = self.path(&model, tokens);
        let opened = Opened::open(&path, &model, &self.strips)?;
        if opened.tokens() != tokens {
            let reason = "it holds another conversation than its name says".to_owned();
            return Err(CheckpointError::Foreign { path, reason });
        }
        opened.segment().map_err(|error| CheckpointError::file("map", &path, &error))
    }

    /// Deletes a conversation's file.
    pub(super) fn delete(&self, tokens: &[u32]) {
        let Ok(model) = self.identity() else { return };
        let path = self.path(&model, tokens);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(target: "plimsoll", %error, path = %path.display(), "a conversation on disk is not deleted");
            }
            _ => {}
        }
    }
}

/// Removes what a process left that was ended while it wrote.
fn remove_stale(path: &Path) {
    let ours = path.file_name().is_some_and(|name| name.to_string_lossy().contains(&format!(".{ENDING}.")));
    let modified = std::fs::metadata(path).and_then(|about| about.modified());
    let age = modified.ok().and_then(|modified| modified.elapsed().ok());
    if ours && age.is_some_and(|age| age > STALE) {
        drop(std::fs::remove_file(path));
    }
}
