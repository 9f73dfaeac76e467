//! Address space whose pages are zeros until they are written to, and what can be done to its pages without copying.
#![expect(unsafe_code, reason = "maps, moves and frees pages of its own reservations")]

use std::fs::File;
use std::io;
use std::ops::{Deref, DerefMut, Range};
use std::os::fd::AsRawFd;

use memmap2::{MmapMut, MmapOptions, UncheckedAdvice};

use super::shape::PAGE;
use super::store::StoreError;

/// A reservation. Its bytes can be read and written wherever they come from.
#[derive(Debug)]
pub(crate) struct Pages(MmapMut);

impl Pages {
    /// Reserves address space; memory is taken page by page.
    pub(super) fn reserve(bytes: usize) -> Result<Self, StoreError> {
        reserve(bytes).map(Self)
    }

    /// Gives memory back: these pages are zeros again. They must be of no file.
    pub(super) fn free(&mut self, range: Range<usize>) {
        debug_assert!(range.start.is_multiple_of(PAGE) && range.end <= self.0.len());
        // SAFETY: whole pages of this object's own anonymous memory; they read as zeros from now on.
        let freed =
            unsafe { self.0.unchecked_advise_range(UncheckedAdvice::DontNeed, range.start, range.len()) };
        // Refused: the pages stay, which costs memory and nothing else.
        drop(freed);
    }

    /// Puts fresh pages in the place of whatever is mapped there, in one piece.
    pub(super) fn renew(&mut self, range: Range<usize>) -> io::Result<()> {
        self.put(range, None)
    }

    /// Puts a file's pages, from its byte `from` on, in the place of whatever is mapped there. Whoever writes to them
    /// gets a copy of the page; the file stays as it is.
    pub(super) fn show(&mut self, range: Range<usize>, file: &File, from: usize) -> io::Result<()> {
        self.put(range, Some((file, from)))
    }

    fn put(&mut self, range: Range<usize>, file: Option<(&File, usize)>) -> io::Result<()> {
        let sound = range.start.is_multiple_of(PAGE) && range.end.is_multiple_of(PAGE);
        if !sound || range.is_empty() || range.end > self.0.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let source = file.map_or(libc::MAP_ANONYMOUS, |_| 0);
        let flags = libc::MAP_PRIVATE | libc::MAP_FIXED | libc::MAP_NORESERVE | source;
        let (fd, from) = file.map_or((-1, 0), |(file, from)| (file.as_raw_fd(), from));
        let from = libc::off_t::try_from(from).map_err(|_| io::ErrorKind::InvalidInput)?;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: whole pages inside this object's own reservation, which nobody borrows now; they stay readable and
        // writable.
        let mapped = unsafe {
            let address = self.0.as_mut_ptr().add(range.start);
            libc::mmap(address.cast(), range.len(), access, flags, fd, from)
        };
        if mapped == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Moves pages within, or to `other`, by page tables: what was there is gone, and fresh pages are left behind. Both
    /// places must lie apart, and the pages must be of one piece. At no time is an address unmapped, where another
    /// thread could map something of its own.
    pub(super) fn give(
        &mut self,
        range: Range<usize>,
        other: Option<&mut Self>,
        to: usize,
    ) -> io::Result<()> {
        let bytes = range.len();
        let apart = other.is_some() || to >= range.end || to + bytes <= range.start;
        let room = other.as_ref().map_or(self.0.len(), |other| other.0.len());
        if range.end > self.0.len() || to + bytes > room || !apart {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let from = self.0.as_mut_ptr().wrapping_add(range.start);
        let target = other.map_or(self.0.as_mut_ptr(), |other| other.0.as_mut_ptr()).wrapping_add(to);
        // SAFETY: two ranges of reservations that are borrowed for this call, which do not overlap.
        unsafe { move_pages(from.cast(), target.cast(), bytes) }
    }
}

impl Deref for Pages {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// Address space whose pages are zeros until they are written to.
pub(crate) fn reserve(bytes: usize) -> Result<MmapMut, StoreError> {
    let map = MmapOptions::new().len(bytes.max(PAGE)).no_reserve_swap().map_anon();
    map.map_err(|e| StoreError { what: "reserving address space for the KV cache", reason: e.to_string() })
}

/// Moves pages to `to`; `from` stays mapped, empty.
#[cfg(target_os = "linux")]
unsafe fn move_pages(from: *mut libc::c_void, to: *mut libc::c_void, bytes: usize) -> io::Result<()> {
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED | libc::MREMAP_DONTUNMAP;
    // SAFETY: the caller gives two mapped ranges of its own that do not overlap.
    let moved = unsafe { libc::mremap(from, bytes, bytes, flags, to) };
    if moved == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(not(target_os = "linux"))]
unsafe fn move_pages(_: *mut libc::c_void, _: *mut libc::c_void, _: usize) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
