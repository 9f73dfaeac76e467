//! Where a token's keys and values lie in the buffers.

use super::Place;
use crate::model::{Cache, Model};

/// Bytes of a page: what memory is given back in.
pub(crate) const PAGE: usize = 4096;

/// One buffer for each layer and side, `[slots, heads, capacity, head_dim]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Rows of each buffer.
    pub(crate) slots: usize,
    /// Tokens of a row, at least the context.
    pub(crate) capacity: usize,
    /// Keys and values of each layer, in the order of the graph's wiring.
    pub(crate) strips: Vec<Strip>,
}

/// The part of a buffer's shape that differs between layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Strip {
    /// Heads of keys or values.
    pub(crate) heads: usize,
    /// Numbers of a head and token.
    pub(crate) head_dim: usize,
    /// Bytes of a head and token.
    pub(crate) token: usize,
}

impl Shape {
    /// The strips of a model.
    pub(crate) fn strips(model: &Model) -> Vec<Strip> {
        let strip = |cache: &Cache| Strip {
            heads: cache.heads,
            head_dim: cache.head_dim,
            token: cache.head_dim * model.kv_type.bytes(),
        };
        model.wiring.caches.iter().map(strip).collect()
    }

    /// Rounds the context up so that a head's tokens fill whole pages: rows can then be moved and freed by pages.
    pub(crate) fn new(model: &Model, slots: usize, context: usize) -> Self {
        let strips = Self::strips(model);
        Self { slots, capacity: context.next_multiple_of(step(&strips)), strips }
    }

    /// Tokens that fill whole pages in every strip.
    pub(super) fn step(&self) -> usize {
        step(&self.strips)
    }

    /// Bytes of one row of a buffer.
    pub(crate) fn row_bytes(&self, strip: usize) -> usize {
        self.strips[strip].heads * self.head_bytes(strip)
    }

    /// Bytes of one head of a row.
    pub(crate) fn head_bytes(&self, strip: usize) -> usize {
        self.capacity * self.strips[strip].token
    }

    /// Where a head begins in its buffer, in bytes.
    pub(crate) fn offset(&self, place: Place) -> usize {
        place.row * self.row_bytes(place.strip) + place.head * self.head_bytes(place.strip)
    }

    /// Bytes of a buffer.
    pub(crate) fn buffer_bytes(&self, strip: usize) -> usize {
        self.slots * self.row_bytes(strip)
    }
}

/// Pages are a power of two, so the largest step of a strip is a multiple of the others.
fn step(strips: &[Strip]) -> usize {
    strips.iter().map(|strip| PAGE / gcd(PAGE, strip.token)).max().unwrap_or(1)
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
