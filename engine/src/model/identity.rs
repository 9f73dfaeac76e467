//! Which model this is: its graph and weights, byte for byte.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Bytes that are read at once.
const PIECE: usize = 1 << 20;

/// A file of the model as it was when the folder was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stamp {
    path: PathBuf,
    bytes: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let about = std::fs::metadata(path)?;
        Ok(Self { path: path.to_owned(), bytes: about.len(), modified: about.modified().ok() })
    }
}

/// The first file that is not as it was.
pub(crate) fn changed(stamps: &[Stamp]) -> Option<PathBuf> {
    let same = |stamp: &&Stamp| Stamp::of(&stamp.path).is_ok_and(|now| now == **stamp);
    stamps.iter().find(|stamp| !same(stamp)).map(|stamp| stamp.path.clone())
}

/// BLAKE3 of all files, each with its length: a second or less for each gigabyte.
pub(crate) fn digest(stamps: &[Stamp]) -> Result<[u8; 32], (PathBuf, io::Error)> {
    let mut hasher = blake3::Hasher::new();
    let mut piece = vec![0; PIECE];
    for stamp in stamps {
        hasher.update(&stamp.bytes.to_le_bytes());
        read(&stamp.path, &mut piece, &mut hasher).map_err(|error| (stamp.path.clone(), error))?;
    }
    Ok(*hasher.finalize().as_bytes())
}

fn read(path: &Path, piece: &mut [u8], hasher: &mut blake3::Hasher) -> io::Result<()> {
    let mut file = File::open(path)?;
    loop {
        match file.read(piece)? {
            0 => return Ok(()),
            count => hasher.update(&piece[..count]),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_changes_is_noticed_and_changes_the_digest() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["a", "b"].map(|name| folder.path().join(name));
        let write = |contents: [&str; 2]| {
            paths.iter().zip(contents).for_each(|(path, text)| std::fs::write(path, text).unwrap());
            paths.iter().map(|path| Stamp::of(path).unwrap()).collect::<Vec<_>>()
        };
        let stamps = write(["12", "3"]);
        let first = digest(&stamps).unwrap();
        assert_eq!(changed(&stamps), None);
        // The same bytes, cut elsewhere.
        let cut = write(["1", "23"]);
        assert_ne!(digest(&cut).unwrap(), first);
        assert_eq!(changed(&stamps), Some(paths[0].clone()));
        assert_eq!(digest(&write(["12", "3"])).unwrap(), first);
        std::fs::remove_file(&paths[1]).unwrap();
        assert_eq!(digest(&stamps).unwrap_err().0, paths[1]);
    }
}
