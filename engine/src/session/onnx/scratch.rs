//! Memory that runs of a growing cache read and write: a past and a present, which change sides after each run.

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{MmapMut, UncheckedAdvice};

use crate::cache::{StoreError, Strip, reserve};
use crate::memory::{ArenaReading, ArenaStats};

/// Two sides, each with a buffer for each strip. Reserved for the largest run, taken page by page.
pub(super) struct Scratch {
    sides: [Vec<MmapMut>; 2],
    /// Tokens, those of padding included, that each side has held since the last release.
    used: [usize; 2],
    /// Bytes of a token in all strips.
    token: usize,
    bytes: Arc<AtomicU64>,
}

impl Scratch {
    /// For runs over as many rows, of as many tokens each, at most.
    pub(super) fn new(strips: &[Strip], rows: usize, tokens: usize) -> Result<Self, StoreError> {
        let side = || {
            strips
                .iter()
                .map(|strip| reserve(rows * tokens * strip.heads * strip.token))
                .collect::<Result<_, _>>()
        };
        let token = strips.iter().map(|strip| strip.heads * strip.token).sum();
        Ok(Self { sides: [side()?, side()?], used: [0; 2], token, bytes: Arc::default() })
    }

    /// A strip's buffer, about to be filled by so many tokens in all its rows.
    pub(super) fn fill(&mut self, side: usize, strip: usize, tokens: usize) -> &mut [u8] {
        self.note(side, tokens);
        &mut self.sides[side][strip]
    }

    pub(super) fn get(&self, side: usize, strip: usize) -> &[u8] {
        &self.sides[side][strip]
    }

    /// Where a strip's buffer begins, about to be filled by so many tokens in all its rows.
    pub(super) fn address(&mut self, side: usize, strip: usize, tokens: usize) -> *mut c_void {
        self.fill(side, strip, tokens).as_mut_ptr().cast()
    }

    fn note(&mut self, side: usize, tokens: usize) {
        if tokens > self.used[side] {
            self.used[side] = tokens;
            let bytes = self.used.iter().sum::<usize>() * self.token;
            self.bytes.store(bytes as u64, Ordering::Relaxed);
        }
    }

    /// Gives all pages back.
    pub(super) fn release(&mut self) {
        for buffer in self.sides.iter_mut().flatten() {
            // SAFETY: this object's own anonymous memory, which reads as zeros from now on.
            let freed = unsafe { buffer.unchecked_advise(UncheckedAdvice::DontNeed) };
            // Refused: the pages stay, which costs memory and nothing else.
            drop(freed);
        }
        self.used = [0; 2];
        self.bytes.store(0, Ordering::Relaxed);
    }

    /// The runtime's allocator and this memory, as one account; `loaded` are the bytes of an allocator that keeps none.
    pub(super) fn account(&self, arena: Option<Arc<dyn ArenaStats>>, loaded: u64) -> Arc<dyn ArenaStats> {
        Arc::new(WithScratch { arena, loaded, bytes: self.bytes.clone() })
    }
}

/// What a session's runs have taken.
#[derive(Debug)]
struct WithScratch {
    arena: Option<Arc<dyn ArenaStats>>,
    loaded: u64,
    bytes: Arc<AtomicU64>,
}

impl ArenaStats for WithScratch {
    fn read(&self) -> Option<ArenaReading> {
        let none = ArenaReading { in_use: self.loaded, held: self.loaded };
        let arena = self.arena.as_ref().map_or(Some(none), |arena| arena.read())?;
        let bytes = self.bytes.load(Ordering::Relaxed);
        Some(ArenaReading { in_use: arena.in_use + bytes, held: arena.held + bytes })
    }
}
