//! The folder of what an engine saved of its slots: conversations by name, one file each.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use plimsoll_engine::{CheckpointError, CheckpointInfo};
use thiserror::Error;

/// The files' ending.
const ENDING: &str = "kv";
/// Characters of a name at most.
const LONGEST: usize = 64;

/// A name is no name of a checkpoint, or the folder cannot be used.
#[derive(Debug, Error)]
pub enum FolderError {
    /// It could lead out of the folder, or hide in it.
    #[error(
        "`{0}` cannot be a checkpoint's name: 1 to {LONGEST} of A-Z, a-z, 0-9, `.`, `_` and `-`, not first a `.`"
    )]
    Name(String),
    /// There is no such checkpoint.
    #[error("there is no checkpoint `{0}`")]
    Unknown(String),
    /// The operating system refused.
    #[error("cannot {what} `{}`: {source}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
}

/// A folder of checkpoints. It is made when the first one is saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder(PathBuf);

/// A checkpoint in a folder.
#[derive(Debug)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// When it was saved.
    pub saved: Option<SystemTime>,
    /// What it says of itself, or why it cannot be read.
    pub info: Result<CheckpointInfo, CheckpointError>,
}

impl Folder {
    /// The folder at a path.
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// The folder's path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Where a new checkpoint goes; makes the folder, for this user only.
    pub fn place(&self, name: &str) -> Result<PathBuf, FolderError> {
        let path = self.file(name)?;
        let failed = |source| FolderError::File { what: "make", path: self.0.clone(), source };
        let mut builder = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.recursive(true).create(&self.0).map_err(failed)?;
        Ok(path)
    }

    /// Where a checkpoint is.
    pub fn find(&self, name: &str) -> Result<PathBuf, FolderError> {
        let path = self.file(name)?;
        if path.is_file() { Ok(path) } else { Err(FolderError::Unknown(name.to_owned())) }
    }

    /// Deletes a checkpoint.
    pub fn delete(&self, name: &str) -> Result<(), FolderError> {
        let path = self.find(name)?;
        std::fs::remove_file(&path).map_err(|source| FolderError::File { what: "delete", path, source })
    }

    /// All checkpoints, by name.
    pub fn list(&self) -> Result<Vec<Entry>, FolderError> {
        let failed = |source| FolderError::File { what: "read", path: self.0.clone(), source };
        let files = match std::fs::read_dir(&self.0) {
            Ok(files) => files,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut entries = Vec::new();
        for file in files {
            let path = file.map_err(failed)?.path();
            let name = path.file_stem().and_then(|stem| stem.to_str()).filter(|name| is_name(name));
            if let Some(name) = name.filter(|_| path.extension().is_some_and(|ending| ending == ENDING)) {
                let saved = std::fs::metadata(&path).and_then(|about| about.modified()).ok();
                entries.push(Entry { name: name.to_owned(), saved, info: CheckpointInfo::read(&path) });
            }
        }
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn file(&self, name: &str) -> Result<PathBuf, FolderError> {
        if !is_name(name) {
            return Err(FolderError::Name(name.chars().take(80).collect()));
        }
        Ok(self.0.join(format!("{name}.{ENDING}")))
    }
}

fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=LONGEST).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_lead_out_of_the_folder() {
        let folder = Folder::new("folder".into());
        let long = "x".repeat(65);
        for name in ["", ".", "..", "../x", "a/b", "/etc/passwd", "a\\b", ".hidden", "a\0b", "ä", " ", &long]
        {
            assert!(matches!(folder.find(name), Err(FolderError::Name(_))), "{name:?}");
            assert!(matches!(folder.place(name), Err(FolderError::Name(_))), "{name:?}");
        }
        for name in ["a", "A-1_b.c", "..."].into_iter().filter(|name| !name.starts_with('.')) {
            assert_eq!(folder.file(name).unwrap(), Path::new("folder").join(format!("{name}.kv")));
        }
        assert!(!Path::new("folder").exists());
    }

    #[test]
    fn only_checkpoints_are_listed() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::new(temporary.path().join("kv"));
        assert!(folder.list().unwrap().is_empty());
        for file in
            [folder.place("b").unwrap(), folder.place("a").unwrap(), folder.path().join(".x.kv.1.tmp")]
        {
            std::fs::write(file, "no checkpoint").unwrap();
        }
        std::fs::write(folder.path().join("notes.txt"), "").unwrap();
        let listed = folder.list().unwrap();
        assert_eq!(listed.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert!(matches!(listed[0].info, Err(CheckpointError::NotACheckpoint { .. })));
        folder.delete("a").unwrap();
        assert!(matches!(folder.delete("a"), Err(FolderError::Unknown(_))));
        assert_eq!(folder.list().unwrap().len(), 1);
    }
}
