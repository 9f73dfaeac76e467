//! The first bytes of a checkpoint, little-endian:
//!
//! | bytes | |
//! |---|---|
//! | 8 | magic |
//! | 4 | version |
//! | 4 | bytes of the header |
//! | 8 | bytes of the file |
//! | 32 | BLAKE3 of the model's files |
//! | 32 | BLAKE3 of everything after the header |
//! | 4, 4 | strips (a layer's keys or values), tokens |
//! | 12 a strip | heads, numbers of a head and token, bytes of a head and token |
//! | 4 a token | token id |
//! | 32 | BLAKE3 of all of the above |
//!
//! Keys and values follow, strip by strip and head by head. Each head begins on a page.

use std::path::Path;

use super::CheckpointError;
use crate::cache::{PAGE, Strip};

const MAGIC: [u8; 8] = *b"PLIMKV\x1a\n";
/// The version that is written and read.
pub(super) const VERSION: u32 = 1;
/// Bytes before the lists of strips and tokens.
const FIXED: usize = 96;
const HASH: usize = 32;
const STRIP: usize = 12;

/// What a checkpoint says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) model: [u8; HASH],
    /// Of the keys and values.
    pub(crate) data: [u8; HASH],
    pub(crate) strips: Vec<Strip>,
    pub(crate) tokens: Vec<u32>,
}

impl Header {
    /// Where the keys and values begin.
    pub(super) fn data_at(&self) -> usize {
        self.bytes().next_multiple_of(PAGE)
    }

    /// Bytes of one head's region.
    pub(super) fn head_bytes(&self, strip: usize) -> usize {
        (self.tokens.len() * self.strips[strip].token).next_multiple_of(PAGE)
    }

    /// Bytes of the whole file.
    pub(crate) fn file_bytes(&self) -> usize {
        let strips = 0..self.strips.len();
        self.data_at() + strips.map(|strip| self.strips[strip].heads * self.head_bytes(strip)).sum::<usize>()
    }

    fn bytes(&self) -> usize {
        FIXED + self.strips.len() * STRIP + self.tokens.len() * 4 + HASH
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.data_at());
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(number(self.bytes()).to_le_bytes());
        bytes.extend((self.file_bytes() as u64).to_le_bytes());
        bytes.extend(self.model);
        bytes.extend(self.data);
        bytes.extend(number(self.strips.len()).to_le_bytes());
        bytes.extend(number(self.tokens.len()).to_le_bytes());
        for strip in &self.strips {
            for field in [strip.heads, strip.head_dim, strip.token] {
                bytes.extend(number(field).to_le_bytes());
            }
        }
        for token in &self.tokens {
            bytes.extend(token.to_le_bytes());
        }
        let hash = blake3::hash(&bytes);
        bytes.extend(hash.as_bytes());
        bytes
    }

    /// Reads the header of a file of `length` bytes, of which `bytes` are the first ones or all.
    pub(super) fn decode(bytes: &[u8], length: u64, path: &Path) -> Result<Self, CheckpointError> {
        let damaged =
            |reason: &str| CheckpointError::Damaged { path: path.to_owned(), reason: reason.to_owned() };
        let mut reader = Reader(bytes);
        if reader.take(8) != Some(&MAGIC) {
            return Err(CheckpointError::NotACheckpoint { path: path.to_owned() });
        }
        let short = || damaged("its header is cut short");
        let found = reader.u32().ok_or_else(short)?;
        if found != VERSION {
            return Err(CheckpointError::Version { path: path.to_owned(), found, read: VERSION });
        }
        let size = reader.u32().ok_or_else(short)? as usize;
        let hashed = size.checked_sub(HASH).and_then(|end| bytes.get(..end)).ok_or_else(short)?;
        let hash = bytes.get(hashed.len()..size).ok_or_else(short)?;
        if blake3::hash(hashed).as_bytes() != hash {
            return Err(damaged("its header does not match its checksum"));
        }
        let header = Reader(&hashed[16..]).header(size).ok_or_else(|| damaged("its header is malformed"))?;
        if header.file_bytes() as u64 != length {
            let reason = format!("it has {length} bytes, its header tells of {}", header.file_bytes());
            return Err(damaged(&reason));
        }
        Ok(header)
    }
}

/// Sizes of a model and of a conversation are far below this limit.
fn number(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

/// Takes numbers from the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (front, back) = self.0.split_at_checked(count)?;
        self.0 = back;
        Some(front)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn hash(&mut self) -> Option<[u8; HASH]> {
        self.take(HASH)?.try_into().ok()
    }

    /// All after the header's size; `None` where the counts do not agree with it.
    fn header(mut self, size: usize) -> Option<Header> {
        self.take(8)?;
        let (model, data) = (self.hash()?, self.hash()?);
        let (strips, tokens) = (self.u32()? as usize, self.u32()? as usize);
        if tokens == 0 || self.0.len() != strips.checked_mul(STRIP)?.checked_add(tokens.checked_mul(4)?)? {
            return None;
        }
        let mut strip = || {
            let mut field = || self.u32().map(|number| number as usize);
            Some(Strip { heads: field()?, head_dim: field()?, token: field()? })
        };
        let strips = (0..strips).map(|_| strip()).collect::<Option<_>>()?;
        let tokens = (0..tokens).map(|_| self.u32()).collect::<Option<_>>()?;
        let header = Header { model, data, strips, tokens };
        (header.bytes() == size).then_some(header)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header() -> Header {
        let strip = |heads, head_dim| Strip { heads, head_dim, token: head_dim * 4 };
        Header {
            model: [7; 32],
            data: [9; 32],
            strips: vec![strip(2, 32), strip(3, 16)],
            tokens: (0..50).collect(),
        }
    }

    fn decode(bytes: &[u8], length: usize) -> Result<Header, CheckpointError> {
        Header::decode(bytes, length as u64, Path::new("x"))
    }

    #[test]
    fn what_is_written_is_read() {
        let header = header();
        let bytes = header.encode();
        assert_eq!((header.data_at(), header.file_bytes()), (4096, 4096 + 2 * 8192 + 3 * 4096));
        assert_eq!(decode(&bytes, header.file_bytes()), Ok(header.clone()));
        assert!(matches!(decode(&bytes, header.file_bytes() - 1), Err(CheckpointError::Damaged { .. })));
    }

    #[test]
    fn other_versions_and_other_files_are_told_apart() {
        let mut bytes = header().encode();
        bytes[8] = 0;
        let error = decode(&bytes, 1).unwrap_err();
        assert!(matches!(error, CheckpointError::Version { found: 0, read: VERSION, .. }), "{error}");
        bytes[0] = b'x';
        assert!(matches!(decode(&bytes, 1), Err(CheckpointError::NotACheckpoint { .. })));
        assert!(matches!(decode(&[], 0), Err(CheckpointError::NotACheckpoint { .. })));
    }

    proptest! {
        #[test]
        fn no_cut_and_no_altered_byte_passes(at in 8usize..360, flip in 1u8..) {
            let bytes = header().encode();
            prop_assume!(at < bytes.len());
            prop_assert!(decode(&bytes[..at], header().file_bytes()).is_err());
            let mut altered = bytes;
            altered[at] ^= flip;
            prop_assert!(decode(&altered, header().file_bytes()).is_err());
        }

        #[test]
        fn no_bytes_are_read_beyond_the_end(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let forged = [&MAGIC[..], &VERSION.to_le_bytes(), &bytes].concat();
            prop_assert!(decode(&forged, 400).is_err());
        }
    }
}
