//! A part of a prompt in memory of its own: pages that many rows map, and that nobody can change any more.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

use super::shape::{PAGE, Strip};

/// Bytes of all segments of this process: each once, however many rows map it.
static BYTES: AtomicU64 = AtomicU64::new(0);

/// Those of them that are of conversations which were put by: no engine's KV memory.
static PUT_BY: AtomicU64 = AtomicU64::new(0);

/// Bytes that the segments of this process hold.
pub(crate) fn held() -> u64 {
    BYTES.load(Ordering::Relaxed)
}

/// Bytes of segments that hold conversations which were put by.
pub(crate) fn put_by() -> u64 {
    PUT_BY.load(Ordering::Relaxed)
}

/// So many bytes are put by now where `before` were.
pub(crate) fn note_put_by(before: u64, now: u64) {
    PUT_BY.fetch_add(now, Ordering::Relaxed);
    PUT_BY.fetch_sub(before, Ordering::Relaxed);
}

/// Bytes of a segment of so many tokens.
pub(crate) fn segment_bytes(strips: &[Strip], tokens: usize) -> u64 {
    strips.iter().map(|strip| (strip.heads * region(strip, tokens)) as u64).sum()
}

/// Bytes of one head's place.
fn region(strip: &Strip, tokens: usize) -> usize {
    (tokens * strip.token).next_multiple_of(PAGE)
}

/// Keys and values of some tokens in a sealed memory file, strip by strip and head by head. Each head begins on a page.
#[derive(Debug)]
pub(crate) struct Segment {
    file: File,
    /// Where each strip begins in the file, and the bytes of one head there.
    strips: Vec<(usize, usize)>,
    #[cfg(test)]
    tokens: usize,
    bytes: u64,
}

impl Segment {
    /// Of so many tokens; `head` gives the bytes of all of them in a strip's head.
    pub(crate) fn new<'a>(
        strips: &[Strip],
        tokens: usize,
        head: impl Fn(usize, usize) -> &'a [u8],
    ) -> io::Result<Self> {
        Self::put(strips, tokens, |file, strip, index, at| file.write_all_at(head(strip, index), at))
    }

    /// Of so many tokens; `read` fills in the bytes of all of them in a strip's head.
    pub(crate) fn collect(
        strips: &[Strip],
        tokens: usize,
        mut read: impl FnMut(usize, usize, &mut [u8]) -> io::Result<()>,
    ) -> io::Result<Self> {
        // A head of it lies in the processor's cache between the two copies.
        let mut bytes = Vec::new();
        Self::put(strips, tokens, |file, strip, index, at| {
            bytes.resize(tokens * strips[strip].token, 0);
            read(strip, index, &mut bytes)?;
            file.write_all_at(&bytes, at)
        })
    }

    fn put(
        strips: &[Strip],
        tokens: usize,
        mut write: impl FnMut(&File, usize, usize, u64) -> io::Result<()>,
    ) -> io::Result<Self> {
        let file = memory()?;
        let mut end = 0;
        let mut placed = Vec::with_capacity(strips.len());
        for strip in strips {
            placed.push((end, region(strip, tokens)));
            end += strip.heads * region(strip, tokens);
        }
        file.set_len(end as u64)?;
        for (number, (begin, region)) in placed.iter().enumerate() {
            for index in 0..strips[number].heads {
                write(&file, number, index, (begin + index * region) as u64)?;
            }
        }
        seal(&file)?;
        BYTES.fetch_add(end as u64, Ordering::Relaxed);
        Ok(Self {
            file,
            strips: placed,
            #[cfg(test)]
            tokens,
            bytes: end as u64,
        })
    }

    /// Tokens that it holds.
    #[cfg(test)]
    pub(crate) fn tokens(&self) -> usize {
        self.tokens
    }

    /// Bytes that it takes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The file whose pages are mapped, and where a head begins in it.
    pub(super) fn head(&self, strip: usize, head: usize) -> (&File, usize) {
        let (begin, bytes) = self.strips[strip];
        (&self.file, begin + head * bytes)
    }

    /// Reads bytes of a head.
    pub(crate) fn read(&self, strip: usize, head: usize, at: usize, bytes: &mut [u8]) -> io::Result<()> {
        let (file, begin) = self.head(strip, head);
        file.read_exact_at(bytes, (begin + at) as u64)
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        BYTES.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// An empty file in memory.
#[cfg(target_os = "linux")]
fn memory() -> io::Result<File> {
    use std::os::fd::{FromRawFd, OwnedFd};

    #[expect(unsafe_code, reason = "takes the descriptor that the kernel has just made")]
    // SAFETY: the name is a C string; a descriptor that is made is new and nobody else's.
    let made = |flags| unsafe {
        let made = libc::memfd_create(c"plimsoll-kv".as_ptr(), flags);
        if made < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(made).into()) }
    };
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // Kernels before 6.3 do not know the second flag, and later ones may insist on it.
    made(flags | libc::MFD_NOEXEC_SEAL).or_else(|_| made(flags))
}

/// Nobody writes to the file any more, nor makes it shorter: pages that are mapped stay what they are.
#[cfg(target_os = "linux")]
fn seal(file: &File) -> io::Result<()> {
    use std::os::fd::AsRawFd;

    let seals = libc::F_SEAL_WRITE | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    #[expect(unsafe_code, reason = "a call of the kernel that takes and returns numbers")]
    // SAFETY: the descriptor is open for as long as `file` is borrowed.
    let sealed = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) };
    if sealed < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(not(target_os = "linux"))]
fn memory() -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(target_os = "linux"))]
fn seal(_: &File) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
