//! KV memory on the CPU: reserved, not allocated. The kernel gives a page when a token is first written to it, and
//! takes it back when the row is freed; rows change places by page tables.
#![expect(unsafe_code, reason = "maps, moves and frees pages of its own reservations")]

use std::ffi::c_void;
use std::io;

use memmap2::{MmapMut, MmapOptions, UncheckedAdvice};

use super::shape::{PAGE, Shape};
use super::store::{Place, Store, StoreError};

/// Reservations for each layer and side, and one row to move through.
#[derive(Debug)]
pub(crate) struct Host {
    shape: Shape,
    buffers: Vec<MmapMut>,
    spare: MmapMut,
    /// Whether the kernel moves pages (Linux 5.7 and later); where it does not, rows are copied.
    moves: bool,
}

impl Host {
    /// Reserves address space for all rows.
    pub(crate) fn new(shape: Shape) -> Result<Self, StoreError> {
        let strips = 0..shape.strips.len();
        let buffers =
            strips.clone().map(|strip| reserve(shape.buffer_bytes(strip))).collect::<Result<_, _>>()?;
        let spare = reserve(strips.map(|strip| shape.row_bytes(strip)).max().unwrap_or(PAGE))?;
        let mut host = Self { shape, buffers, spare, moves: true };
        // Tried once: a kernel that cannot do it says so at every call.
        if host.shape.slots > 1 {
            host.moves =
                (0..host.shape.strips.len()).take(1).all(|strip| host.exchange_pages(strip, 0, 1).is_ok());
        }
        Ok(host)
    }

    /// Exchanges two rows of a buffer by page tables. At no time is an address unmapped, where another thread could
    /// map something of its own.
    fn exchange_pages(&mut self, strip: usize, a: usize, b: usize) -> io::Result<()> {
        let bytes = self.shape.row_bytes(strip);
        let (a, b) = (self.address(strip, a), self.address(strip, b));
        let spare = self.spare.as_mut_ptr().cast();
        // SAFETY: three distinct, page-aligned ranges of `bytes` inside this object's own reservations.
        unsafe {
            move_pages(a, spare, bytes)?;
            if let Err(error) = move_pages(b, a, bytes) {
                move_pages(spare, a, bytes)?;
                return Err(error);
            }
            if let Err(error) = move_pages(spare, b, bytes) {
                move_pages(a, b, bytes)?;
                move_pages(spare, a, bytes)?;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Exchanges the filled part of two rows of a buffer by copying.
    fn exchange_bytes(&mut self, strip: usize, a: usize, b: usize, tokens: usize) {
        let (row, head) = (self.shape.row_bytes(strip), self.shape.head_bytes(strip));
        let filled = tokens * self.shape.strips[strip].token;
        let (low, high) = (a.min(b), a.max(b));
        let (front, back) = self.buffers[strip].split_at_mut(high * row);
        let heads = front[low * row..][..row].chunks_mut(head).zip(back[..row].chunks_mut(head));
        for (one, other) in heads {
            one[..filled].swap_with_slice(&mut other[..filled]);
        }
    }
}

impl Store for Host {
    fn address(&self, strip: usize, row: usize) -> *mut c_void {
        let offset = row * self.shape.row_bytes(strip);
        debug_assert!(offset < self.buffers[strip].len());
        self.buffers[strip].as_ptr().wrapping_add(offset).cast_mut().cast()
    }

    fn swap(&mut self, a: usize, b: usize, tokens: usize) -> Result<(), StoreError> {
        for strip in 0..self.buffers.len() {
            // A kernel that is out of mappings may refuse at any time; each failure leaves the rows as they were.
            self.moves = self.moves && self.exchange_pages(strip, a, b).is_ok();
            if !self.moves {
                self.exchange_bytes(strip, a, b, tokens);
            }
        }
        Ok(())
    }

    fn copy(&mut self, source: usize, target: usize, from: usize, to: usize) -> Result<(), StoreError> {
        for strip in 0..self.buffers.len() {
            let (row, head) = (self.shape.row_bytes(strip), self.shape.head_bytes(strip));
            let token = self.shape.strips[strip].token;
            for start in (0..row).step_by(head) {
                let begin = source * row + start;
                let range = begin + from * token..begin + to * token;
                self.buffers[strip].copy_within(range, target * row + start + from * token);
            }
        }
        Ok(())
    }

    fn read(&self, place: Place, bytes: &mut [u8]) -> Result<(), StoreError> {
        let at = self.shape.offset(place);
        bytes.copy_from_slice(&self.buffers[place.strip][at..at + bytes.len()]);
        Ok(())
    }

    fn write(&mut self, place: Place, at: usize, bytes: &[u8]) -> Result<(), StoreError> {
        let at = self.shape.offset(place) + at;
        self.buffers[place.strip][at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn release(&mut self, row: usize, from: usize, to: usize) {
        for strip in 0..self.buffers.len() {
            let (bytes, head) = (self.shape.row_bytes(strip), self.shape.head_bytes(strip));
            let token = self.shape.strips[strip].token;
            for start in (0..bytes).step_by(head) {
                let begin = (from * token).next_multiple_of(PAGE);
                let end = (to * token).next_multiple_of(PAGE).min(head);
                if begin < end {
                    let offset = row * bytes + start + begin;
                    // SAFETY: whole pages of this object's own anonymous memory; they read as zeros from now on.
                    let freed = unsafe {
                        let advice = UncheckedAdvice::DontNeed;
                        self.buffers[strip].unchecked_advise_range(advice, offset, end - begin)
                    };
                    // Refused: the pages stay, which costs memory and nothing else.
                    drop(freed);
                }
            }
        }
    }
}

/// Address space whose pages are zeros until they are written to.
pub(crate) fn reserve(bytes: usize) -> Result<MmapMut, StoreError> {
    let map = MmapOptions::new().len(bytes.max(PAGE)).no_reserve_swap().map_anon();
    map.map_err(|e| failed("reserving address space for the KV cache", &e))
}

fn failed(what: &'static str, error: &io::Error) -> StoreError {
    StoreError { what, reason: error.to_string() }
}

/// Moves pages to `to`; `from` stays mapped, empty.
#[cfg(target_os = "linux")]
unsafe fn move_pages(from: *mut c_void, to: *mut c_void, bytes: usize) -> io::Result<()> {
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED | libc::MREMAP_DONTUNMAP;
    // SAFETY: the caller gives two mapped ranges of its own that do not overlap.
    let moved = unsafe { libc::mremap(from, bytes, bytes, flags, to) };
    if moved == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(not(target_os = "linux"))]
unsafe fn move_pages(_: *mut c_void, _: *mut c_void, _: usize) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
#[path = "host_tests.rs"]
mod tests;
