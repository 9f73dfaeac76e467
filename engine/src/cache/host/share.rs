//! Rows that map the pages of segments.

use std::io;
use std::sync::Arc;

use super::{Host, Row, failed};
use crate::cache::segment::Segment;
use crate::cache::store::{Place, Sharing, StoreError};
use crate::cache::{Extent, SegmentId};

impl Host {
    /// Pieces of memory that rows take beyond what one that is whole does.
    fn cost(&self, rows: usize, extents: usize) -> usize {
        rows * (extents + 1) * self.shape.strips.iter().map(|strip| strip.heads).sum::<usize>()
    }

    fn taken(&self, row: &Row) -> usize {
        if row.split { self.cost(1, row.path.len()) } else { 0 }
    }

    /// Notes how a row is mapped now.
    fn note(&mut self, row: usize, mapped: Row) {
        self.maps.exchange(self.taken(&self.rows[row]), self.taken(&mapped));
        self.rows[row] = mapped;
    }

    /// A row is of pieces that nobody knows any more.
    pub(super) fn broken(&mut self, row: usize) {
        let path = self.rows[row].path.clone();
        self.note(row, Row { path, split: true });
    }

    /// All heads of a row.
    fn heads(&self, row: usize) -> impl Iterator<Item = Place> + use<> {
        let strips: Vec<_> = self.shape.strips.iter().map(|strip| strip.heads).collect();
        let heads =
            move |(strip, heads): (usize, usize)| (0..heads).map(move |head| Place { strip, row, head });
        strips.into_iter().enumerate().flat_map(heads)
    }

    /// Maps an extent's pages into a head.
    fn show(&mut self, place: Place, extent: Extent) -> io::Result<()> {
        let token = self.shape.strips[place.strip].token;
        let segment = self.segments.get(&extent.segment).ok_or(io::ErrorKind::NotFound)?;
        let (file, begin) = segment.head(place.strip, place.head);
        let at = self.shape.offset(place) + extent.from * token;
        let from = begin + (extent.from - extent.first) * token;
        self.buffers[place.strip].show(at..at + (extent.to - extent.from) * token, file, from)
    }

    /// Gives a head a new path; `kept` is where its own tokens end that must stay.
    fn reshare(&mut self, place: Place, path: &[Extent], kept: usize) -> io::Result<()> {
        let token = self.shape.strips[place.strip].token;
        let head = self.shape.offset(place);
        let former = &self.rows[place.row];
        let (end, before) = (path.last().map_or(0, |extent| extent.to), former.shared());
        let stays = path
            .iter()
            .zip(&former.path)
            .take_while(|(new, old)| (new.segment, new.from) == (old.segment, old.from) && new.to <= old.to);
        let stays = stays.count();
        if end < before {
            // The last page is shared no more, but its first tokens are needed; so is all behind it, in one piece.
            let buffer = &mut self.buffers[place.strip];
            let own = buffer[head + end * token..head + kept.max(end) * token].to_vec();
            buffer.renew(head + end * token..head + self.shape.head_bytes(place.strip))?;
            buffer[head + end * token..][..own.len()].copy_from_slice(&own);
        }
        path[stays..].iter().try_for_each(|extent| self.show(place, *extent))
    }

    /// Empties a row: one piece for each buffer, as at first.
    fn empty(&mut self, row: usize) -> io::Result<()> {
        for strip in 0..self.buffers.len() {
            let bytes = self.shape.row_bytes(strip);
            self.buffers[strip].renew(row * bytes..(row + 1) * bytes)?;
        }
        self.note(row, Row::default());
        Ok(())
    }

    /// After two rows of a buffer have exchanged what is their own: has each share what the other shared.
    pub(super) fn exchange_shares(&mut self, strip: usize, a: usize, b: usize) -> io::Result<()> {
        if self.rows[a].path == self.rows[b].path {
            return Ok(());
        }
        for (row, other) in [(a, b), (b, a)] {
            let path = self.rows[other].path.clone();
            for head in 0..self.shape.strips[strip].heads {
                let place = Place { strip, row, head };
                path.iter().try_for_each(|extent| self.show(place, *extent))?;
            }
        }
        Ok(())
    }
}

impl Sharing for Host {
    fn step(&self) -> usize {
        self.shape.step()
    }

    fn keep(&mut self, id: SegmentId, row: usize, from: usize, to: usize) -> Result<(), StoreError> {
        let bytes = |strip: usize, head: usize| {
            let token = self.shape.strips[strip].token;
            let at = self.shape.offset(Place { strip, row, head });
            &self.buffers[strip][at + from * token..at + to * token]
        };
        let segment = Segment::new(&self.shape.strips, to - from, bytes);
        let segment = segment.map_err(|e| failed("making a segment of KV memory", &e))?;
        self.segments.insert(id, Arc::new(segment));
        Ok(())
    }

    fn adopt(&mut self, id: SegmentId, segment: Arc<Segment>) {
        self.segments.insert(id, segment);
    }

    fn discard(&mut self, id: SegmentId) -> Option<Arc<Segment>> {
        debug_assert!(self.rows.iter().flat_map(|row| &row.path).all(|extent| extent.segment != id));
        self.segments.remove(&id)
    }

    fn affords(&self, rows: usize, extents: usize) -> bool {
        self.maps.fit(0, self.cost(rows, extents))
    }

    fn share(&mut self, row: usize, path: &[Extent], held: usize) -> Result<(), StoreError> {
        let refused = |error: io::Error| failed("mapping a segment of KV memory", &error);
        if path.is_empty() && held == 0 {
            return self.empty(row).map_err(refused);
        }
        if path == self.rows[row].path {
            return Ok(());
        }
        for place in self.heads(row) {
            if let Err(error) = self.reshare(place, path, held) {
                self.broken(row);
                return Err(refused(error));
            }
        }
        self.note(row, Row { path: path.to_vec(), split: true });
        Ok(())
    }

    fn fill(&mut self, row: usize, extent: Extent) -> Result<(), StoreError> {
        let missing = StoreError { what: "reading a segment", reason: "it is gone".to_owned() };
        for place in self.heads(row) {
            let token = self.shape.strips[place.strip].token;
            let at = self.shape.offset(place) + extent.from * token;
            let bytes = &mut self.buffers[place.strip][at..at + (extent.to - extent.from) * token];
            let segment = self.segments.get(&extent.segment).ok_or_else(|| missing.clone())?;
            let read = segment.read(place.strip, place.head, (extent.from - extent.first) * token, bytes);
            read.map_err(|e| failed("reading a segment of KV memory", &e))?;
        }
        Ok(())
    }

    fn maps(&self) -> (usize, usize) {
        self.maps.count()
    }
}

#[cfg(test)]
#[path = "share_tests.rs"]
mod tests;
