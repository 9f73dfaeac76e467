//! KV memory on the CPU: reserved, not allocated. The kernel gives a page when a token is first written to it, and
//! takes it back when the row is freed; rows change places by page tables.
//!
//! A row may begin with pages of segments, which other rows map too. Each head is then two or more pieces of memory:
//! those of the segments, and behind them one of its own.

mod share;

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::maps::Maps;
use super::pages::Pages;
use super::segment::Segment;
use super::shape::{PAGE, Shape};
use super::store::{Place, Sharing, Store, StoreError};
use super::{Extent, SegmentId};

/// Reservations for each layer and side, and one row to move through.
#[derive(Debug)]
pub(crate) struct Host {
    shape: Shape,
    buffers: Vec<Pages>,
    spare: Pages,
    rows: Vec<Row>,
    segments: BTreeMap<SegmentId, Arc<Segment>>,
    maps: Maps,
    /// Whether the kernel moves pages (Linux 5.7 and later); where it does not, rows are copied.
    moves: bool,
    /// Whether it did at first: rows of several pieces cannot do without.
    shares: bool,
}

/// How a row is mapped.
#[derive(Debug, Clone, Default)]
struct Row {
    /// What it shares, from the first token on.
    path: Vec<Extent>,
    /// Each head is of pieces of its own; else the whole row is one piece.
    split: bool,
}

impl Row {
    /// Tokens that it shares.
    fn shared(&self) -> usize {
        self.path.last().map_or(0, |extent| extent.to)
    }
}

/// A piece that has been moved: from buffer or spare, to buffer or spare.
#[derive(Debug, Clone)]
enum Move {
    Out(Range<usize>, usize),
    Within(Range<usize>, usize),
    Back(Range<usize>, usize),
}

impl Host {
    /// Reserves address space for all rows.
    pub(crate) fn new(shape: Shape) -> Result<Self, StoreError> {
        let strips = 0..shape.strips.len();
        let buffers = strips
            .clone()
            .map(|strip| Pages::reserve(shape.buffer_bytes(strip)))
            .collect::<Result<_, _>>()?;
        let spare = Pages::reserve(strips.map(|strip| shape.row_bytes(strip)).max().unwrap_or(PAGE))?;
        let rows = vec![Row::default(); shape.slots];
        let (segments, maps) = (BTreeMap::new(), Maps::new());
        let mut host = Self { shape, buffers, spare, rows, segments, maps, moves: true, shares: true };
        // Tried once: a kernel that cannot do it says so at every call.
        if host.shape.slots > 1 {
            host.moves =
                (0..host.shape.strips.len()).take(1).all(|strip| host.move_rows(strip, 0, 1).is_ok());
            host.shares = host.moves;
        }
        Ok(host)
    }

    /// The pieces of a row that are its own, as bytes of its buffer.
    fn pieces(&self, strip: usize, row: usize) -> Vec<Range<usize>> {
        let (bytes, head) = (self.shape.row_bytes(strip), self.shape.head_bytes(strip));
        let begin = row * bytes;
        if !self.rows[row].split {
            return std::iter::once(begin..begin + bytes).collect();
        }
        let shared = self.rows[row].shared() * self.shape.strips[strip].token;
        let heads = (begin..begin + bytes).step_by(head);
        heads.map(|at| at + shared..at + head).filter(|piece| !piece.is_empty()).collect()
    }

    /// Exchanges what two rows of a buffer hold for themselves, piece by piece. Where it fails all is as before.
    fn move_rows(&mut self, strip: usize, a: usize, b: usize) -> io::Result<()> {
        let bytes = self.shape.row_bytes(strip);
        let (first, second) = (self.pieces(strip, a), self.pieces(strip, b));
        let out = first.iter().map(|piece| Move::Out(piece.clone(), piece.start - a * bytes));
        let within =
            second.iter().map(|piece| Move::Within(piece.clone(), piece.start - b * bytes + a * bytes));
        let back = first.iter().map(|piece| {
            let at = piece.start - a * bytes;
            Move::Back(at..at + piece.len(), at + b * bytes)
        });
        let moves: Vec<_> = out.chain(within).chain(back).collect();
        for (done, step) in moves.iter().enumerate() {
            if let Err(error) = self.step(strip, step) {
                for step in moves[..done].iter().rev() {
                    self.step(strip, &step.undone())?;
                }
                return Err(error);
            }
        }
        Ok(())
    }

    fn step(&mut self, strip: usize, step: &Move) -> io::Result<()> {
        let (buffer, spare) = (&mut self.buffers[strip], &mut self.spare);
        match step.clone() {
            Move::Out(piece, to) => buffer.give(piece, Some(spare), to),
            Move::Within(piece, to) => buffer.give(piece, None, to),
            Move::Back(piece, to) => spare.give(piece, Some(buffer), to),
        }
    }

    /// Exchanges the filled part of two rows of a buffer by copying. Neither shares anything.
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

    /// Exchanges two rows of a buffer.
    fn exchange(&mut self, strip: usize, a: usize, b: usize, tokens: usize) -> io::Result<()> {
        if self.rows[a].shared() + self.rows[b].shared() > 0 {
            self.move_rows(strip, a, b)?;
            return self.exchange_shares(strip, a, b);
        }
        // A kernel that is out of mappings may refuse at any time; each failure leaves the rows as they were.
        self.moves = self.moves && self.move_rows(strip, a, b).is_ok();
        if !self.moves {
            self.exchange_bytes(strip, a, b, tokens);
        }
        Ok(())
    }
}

impl Move {
    fn undone(&self) -> Self {
        match self.clone() {
            Self::Out(piece, to) => Self::Back(to..to + piece.len(), piece.start),
            Self::Within(piece, to) => Self::Within(to..to + piece.len(), piece.start),
            Self::Back(piece, to) => Self::Out(to..to + piece.len(), piece.start),
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
            if let Err(error) = self.exchange(strip, a, b, tokens) {
                // Some buffers are exchanged and some are not.
                self.broken(a);
                self.broken(b);
                return Err(failed("exchanging rows of KV memory", &error));
            }
        }
        self.rows.swap(a, b);
        Ok(())
    }

    fn copy(&mut self, source: usize, target: usize, from: usize, to: usize) -> Result<(), StoreError> {
        debug_assert!(from >= self.rows[target].shared());
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
        debug_assert!(at >= self.rows[place.row].shared() * self.shape.strips[place.strip].token);
        let at = self.shape.offset(place) + at;
        self.buffers[place.strip][at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn release(&mut self, row: usize, from: usize, to: usize) {
        debug_assert!(from >= self.rows[row].shared());
        for strip in 0..self.buffers.len() {
            let (bytes, head) = (self.shape.row_bytes(strip), self.shape.head_bytes(strip));
            let token = self.shape.strips[strip].token;
            for start in (0..bytes).step_by(head) {
                let begin = (from * token).next_multiple_of(PAGE);
                let end = (to * token).next_multiple_of(PAGE).min(head);
                if begin < end {
                    let head = row * bytes + start;
                    self.buffers[strip].free(head + begin..head + end);
                }
            }
        }
    }

    fn sharing(&mut self) -> Result<&mut dyn Sharing, &'static str> {
        if self.shares { Ok(self) } else { Err("this kernel moves no pages (Linux does from 5.7 on)") }
    }
}

fn failed(what: &'static str, error: &io::Error) -> StoreError {
    StoreError { what, reason: error.to_string() }
}

#[cfg(test)]
#[path = "host_tests.rs"]
mod tests;
