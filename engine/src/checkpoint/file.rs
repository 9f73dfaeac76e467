//! Checkpoints on disk: written beside their place and moved there whole, mapped and verified when they are read.
#![expect(unsafe_code, reason = "maps a file")]

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{Advice, Mmap};

use super::CheckpointError;
use super::header::Header;
use crate::cache::{Place, Segment, Strip};

/// Tells the files apart that are being written at the same time.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// A file that is removed unless it reaches its place.
struct Temporary {
    path: PathBuf,
    file: File,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Gone where it has reached its place.
        drop(std::fs::remove_file(&self.path));
    }
}

impl Temporary {
    /// Readable by this user only: keys and values tell the conversation.
    fn beside(path: &Path) -> Result<Self, CheckpointError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let beside = path.with_file_name(format!(".{name}.{}.{number}.tmp", std::process::id()));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside);
        let file = file.map_err(|error| CheckpointError::file("write", &beside, &error))?;
        Ok(Self { path: beside, file })
    }

    /// Moves it to its place, where from then on either the old file stands or all of this one.
    fn place(&self, path: &Path) -> std::io::Result<()> {
        self.file.sync_all()?;
        std::fs::rename(&self.path, path)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

/// Writes a checkpoint. `strip` gives each strip's heads, each padded to its region. Returns the file's bytes.
pub(crate) fn write(
    path: &Path,
    mut header: Header,
    mut strip: impl FnMut(usize, usize) -> Result<Vec<u8>, CheckpointError>,
) -> Result<u64, CheckpointError> {
    let failed = |error: std::io::Error| CheckpointError::file("write", path, &error);
    let mut temporary = Temporary::beside(path)?;
    // The header holds the checksum of what follows it.
    temporary.file.write_all(&vec![0; header.data_at()]).map_err(failed)?;
    let mut hasher = blake3::Hasher::new();
    for number in 0..header.strips.len() {
        let bytes = strip(number, header.head_bytes(number))?;
        hasher.update(&bytes);
        temporary.file.write_all(&bytes).map_err(failed)?;
    }
    header.data = *hasher.finalize().as_bytes();
    temporary.file.rewind().map_err(failed)?;
    temporary.file.write_all(&header.encode()).map_err(failed)?;
    temporary.place(path).map_err(failed)?;
    Ok(header.file_bytes() as u64)
}

/// A checkpoint's header alone, which has a checksum of its own.
pub(crate) fn header(path: &Path) -> Result<Header, CheckpointError> {
    let (mut file, length) = open(path)?;
    let mut bytes = Vec::new();
    let failed = |error: std::io::Error| CheckpointError::file("read", path, &error);
    (&mut file).take(16).read_to_end(&mut bytes).map_err(failed)?;
    let size = bytes.get(12..16).and_then(|size| size.try_into().ok()).map_or(0, u32::from_le_bytes);
    file.take(u64::from(size).saturating_sub(16)).read_to_end(&mut bytes).map_err(failed)?;
    Header::decode(&bytes, length, path)
}

fn open(path: &Path) -> Result<(File, u64), CheckpointError> {
    let failed = |error: std::io::Error| CheckpointError::file("read", path, &error);
    let file = File::open(path).map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    if !about.is_file() {
        return Err(CheckpointError::NotACheckpoint { path: path.to_owned() });
    }
    Ok((file, about.len()))
}

/// A checkpoint that is whole and of this model.
#[derive(Debug)]
pub(crate) struct Opened {
    header: Header,
    map: Mmap,
}

impl Opened {
    /// Maps and verifies a file.
    pub(crate) fn open(path: &Path, model: &[u8; 32], strips: &[Strip]) -> Result<Self, CheckpointError> {
        let (file, length) = open(path)?;
        if length == 0 {
            return Err(CheckpointError::NotACheckpoint { path: path.to_owned() });
        }
        // SAFETY: the bytes are only read, and only until they are copied. Plimsoll never alters a checkpoint in its
        // place; what another process does to it meanwhile is found by the checksum, or ends this read.
        let map = unsafe { Mmap::map(&file) };
        let map = map.map_err(|error| CheckpointError::file("map", path, &error))?;
        // Advice that is refused costs speed only.
        drop(map.advise(Advice::Sequential));
        let header = Header::decode(&map, length, path)?;
        let foreign =
            |reason: &str| CheckpointError::Foreign { path: path.to_owned(), reason: reason.to_owned() };
        if header.strips != strips {
            return Err(foreign("its KV cache has another shape"));
        }
        if header.model != *model {
            return Err(foreign("its weights or its graph are other ones"));
        }
        if *blake3::hash(&map[header.data_at()..]).as_bytes() != header.data {
            let reason = "its keys and values do not match their checksum".to_owned();
            return Err(CheckpointError::Damaged { path: path.to_owned(), reason });
        }
        Ok(Self { header, map })
    }

    /// The conversation's tokens.
    pub(crate) fn tokens(&self) -> &[u32] {
        &self.header.tokens
    }

    /// For each head of each strip, its place in a row, and the bytes of all its tokens.
    pub(crate) fn heads(&self, row: usize) -> impl Iterator<Item = (Place, &[u8])> {
        let strips = self.header.strips.iter().enumerate();
        let places = strips
            .flat_map(move |(strip, about)| (0..about.heads).map(move |head| Place { strip, row, head }));
        places.map(|place| (place, self.head(place.strip, place.head)))
    }

    /// The conversation in memory that rows can share.
    pub(crate) fn segment(&self) -> std::io::Result<Segment> {
        Segment::new(&self.header.strips, self.tokens().len(), |strip, head| self.head(strip, head))
    }

    fn head(&self, strip: usize, head: usize) -> &[u8] {
        let header = &self.header;
        let before: usize = (0..strip).map(|one| header.strips[one].heads * header.head_bytes(one)).sum();
        let begin = header.data_at() + before + head * header.head_bytes(strip);
        &self.map[begin..begin + header.tokens.len() * header.strips[strip].token]
    }
}
