//! A model without weights: each row remembers the very tokens that were put into it, and the next token is a hash of
//! them. Whatever is put into a wrong row or place shows in the next token.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::cache::{Extent, Place, Segment, SegmentId, Sharing, StoreError, Strip};

use super::{Cut, Interrupt, Logits, RunError, Session, Step};

/// One head of one strip, whose numbers are the tokens themselves.
pub(crate) const STRIPS: [Strip; 1] = [Strip { heads: 1, head_dim: 1, token: 4 }];
/// Tokens of its vocabulary.
pub(crate) const VOCAB: u32 = 97;
/// A run that contains this token fails.
pub(crate) const POISON: u32 = 96;
/// After this token no logit is a number.
pub(crate) const BLANK: u32 = 95;
/// Ids that ordinary answers consist of.
const ORDINARY: u32 = 90;

/// What was run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Run {
    Prefill { tokens: usize },
    Decode { rows: usize },
    Copy { tokens: usize },
    Share { tokens: usize },
    Shift { tokens: usize },
}

/// The model without weights.
#[derive(Debug)]
pub(crate) struct Mock {
    rows: Vec<Vec<u32>>,
    logits: Vec<Vec<f32>>,
    chunk: usize,
    /// Rows go on from their ends or begin anew.
    whole: bool,
    /// A run that fails spoils its rows.
    fragile: bool,
    /// Rows cannot be shifted.
    stuck: bool,
    /// Tokens of a step; 0: rows share nothing.
    step: usize,
    /// Rows that may share.
    room: usize,
    /// What each row shares.
    shared: Vec<usize>,
    segments: BTreeMap<SegmentId, Vec<u32>>,
    pub(crate) runs: Arc<Mutex<Vec<Run>>>,
    pub(crate) interrupted: Arc<Flag>,
}

/// Remembers whether it is to stop.
#[derive(Debug, Default)]
pub(crate) struct Flag(pub(crate) AtomicBool);

impl Interrupt for Flag {
    fn set(&self, on: bool) {
        self.0.store(on, Ordering::SeqCst);
    }
}

impl Mock {
    pub(crate) fn new(slots: usize, chunk: usize) -> Self {
        Self {
            rows: vec![Vec::new(); slots],
            logits: Vec::new(),
            chunk,
            whole: false,
            fragile: false,
            stuck: false,
            step: 0,
            room: usize::MAX,
            shared: vec![0; slots],
            segments: BTreeMap::new(),
            runs: Arc::default(),
            interrupted: Arc::default(),
        }
    }

    /// Whose rows go on from their ends or begin anew.
    pub(crate) fn whole(self) -> Self {
        Self { whole: true, ..self }
    }

    /// Whose rows hold nothing of use after a run that failed.
    pub(crate) fn fragile(self) -> Self {
        Self { fragile: true, ..self.whole() }
    }

    /// Whose memory fails where rows are shifted.
    pub(crate) fn stuck(self) -> Self {
        Self { stuck: true, ..self }
    }

    /// Of which so many rows share what they begin with, by steps of so many tokens.
    pub(crate) fn sharing(self, rows: usize, step: usize) -> Self {
        Self { step, room: rows, ..self }
    }

    fn write(&mut self, row: usize, past: usize, tokens: &[u32]) -> Result<(), RunError> {
        assert!(past >= self.shared[row], "row {row} shares {} tokens, {past} is written", self.shared[row]);
        assert!(self.rows[row].len() >= past, "row {row} holds {} of {past} tokens", self.rows[row].len());
        assert!(
            !self.whole || past == 0 || past == self.rows[row].len(),
            "row {row} is taken back to {past}"
        );
        if tokens.contains(&POISON) {
            if self.fragile {
                self.rows.iter_mut().for_each(|row| row.fill(POISON));
            }
            return Err(RunError("poison".to_owned()));
        }
        self.rows[row].truncate(past);
        self.rows[row].extend_from_slice(tokens);
        self.logits.push(logits(&self.rows[row]));
        Ok(())
    }
}

impl Session for Mock {
    fn prefill(&mut self, row: usize, past: usize, tokens: &[u32]) -> Result<(), RunError> {
        assert!(tokens.len() <= self.chunk && !tokens.is_empty());
        self.runs.lock().unwrap().push(Run::Prefill { tokens: tokens.len() });
        self.logits.clear();
        if self.interrupted.0.load(Ordering::SeqCst) {
            return Err(RunError("interrupted".to_owned()));
        }
        self.write(row, past, tokens)
    }

    fn decode(&mut self, steps: &[Step]) -> Result<(), RunError> {
        self.runs.lock().unwrap().push(Run::Decode { rows: steps.len() });
        self.logits.clear();
        steps.iter().enumerate().try_for_each(|(row, step)| self.write(row, step.past, &[step.token]))
    }

    fn logits(&self, row: usize) -> Logits<'_> {
        Logits::F32(&self.logits[row])
    }

    fn swap(&mut self, a: usize, b: usize, tokens: usize) -> Result<(), RunError> {
        self.rows.swap(a, b);
        self.shared.swap(a, b);
        self.rows[a].truncate(tokens);
        self.rows[b].truncate(tokens);
        Ok(())
    }

    fn copy(&mut self, source: usize, target: usize, from: usize, to: usize) -> Result<(), RunError> {
        self.runs.lock().unwrap().push(Run::Copy { tokens: to - from });
        assert!(!self.whole || to == self.rows[source].len(), "row {source} is copied up to {to} only");
        assert!(from >= self.shared[target]);
        let tokens = self.rows[source][from..to].to_vec();
        self.rows[target].truncate(from);
        self.rows[target].extend(tokens);
        Ok(())
    }

    fn read(&self, place: Place, bytes: &mut [u8]) -> Result<(), RunError> {
        // One head of one strip, whose numbers are the tokens themselves.
        let tokens = self.rows[place.row].iter().flat_map(|token| token.to_le_bytes());
        bytes.iter_mut().zip(tokens).for_each(|(byte, own)| *byte = own);
        Ok(())
    }

    fn write(&mut self, place: Place, bytes: &[u8]) -> Result<(), RunError> {
        self.rows[place.row] = tokens(bytes);
        Ok(())
    }

    fn sharing(&mut self) -> Result<&mut dyn Sharing, &'static str> {
        if self.step == 0 { Err("this model copies") } else { Ok(self) }
    }

    fn shift(&mut self, row: usize, cut: Cut) -> Result<(), RunError> {
        self.runs.lock().unwrap().push(Run::Shift { tokens: cut.drop });
        assert!(!self.whole && cut.keep >= self.shared[row] && cut.held == self.rows[row].len());
        if self.stuck {
            return Err(RunError("stuck".to_owned()));
        }
        self.rows[row].drain(cut.keep..cut.keep + cut.drop);
        Ok(())
    }

    fn release(&mut self, row: usize, from: usize, _: usize) {
        assert!(from >= self.shared[row]);
        self.rows[row].truncate(from);
    }

    fn rewinds(&self) -> bool {
        !self.whole
    }

    fn survives(&self) -> bool {
        !self.fragile
    }

    fn chunk(&self) -> usize {
        self.chunk
    }

    fn interrupt(&self) -> Arc<dyn Interrupt> {
        self.interrupted.clone()
    }
}

/// A segment is the very tokens that it holds.
impl Sharing for Mock {
    fn step(&self) -> usize {
        self.step
    }

    fn keep(&mut self, id: SegmentId, row: usize, from: usize, to: usize) -> Result<(), StoreError> {
        assert!(from.is_multiple_of(self.step) && to.is_multiple_of(self.step) && from < to);
        assert!(self.segments.insert(id, self.rows[row][from..to].to_vec()).is_none());
        Ok(())
    }

    fn adopt(&mut self, id: SegmentId, segment: Arc<Segment>) {
        let mut bytes = vec![0; 4 * segment.tokens()];
        segment.read(0, 0, 0, &mut bytes).unwrap();
        assert!(self.segments.insert(id, tokens(&bytes)).is_none());
    }

    fn discard(&mut self, id: SegmentId) -> Option<Arc<Segment>> {
        let bytes: Vec<u8> =
            self.segments.remove(&id).unwrap().iter().flat_map(|t| t.to_le_bytes()).collect();
        Some(Arc::new(Segment::new(&STRIPS, bytes.len() / 4, |_, _| &bytes).unwrap()))
    }

    fn affords(&self, rows: usize, _: usize) -> bool {
        self.shared.iter().filter(|tokens| **tokens > 0).count() + rows <= self.room
    }

    fn share(&mut self, row: usize, path: &[Extent], held: usize) -> Result<(), StoreError> {
        let mut tokens = Vec::new();
        for extent in path {
            assert!(
                extent.from == tokens.len()
                    && extent.from == extent.first
                    && extent.to.is_multiple_of(self.step)
            );
            tokens.extend_from_slice(&self.segments[&extent.segment][..extent.to - extent.first]);
        }
        self.runs.lock().unwrap().push(Run::Share { tokens: tokens.len() });
        self.shared[row] = tokens.len();
        if held > tokens.len() {
            tokens.extend_from_slice(&self.rows[row][tokens.len()..held]);
        }
        self.rows[row] = tokens;
        Ok(())
    }

    fn fill(&mut self, row: usize, extent: Extent) -> Result<(), StoreError> {
        assert!(extent.from >= self.shared[row]);
        let part = extent.from - extent.first..extent.to - extent.first;
        let tokens = self.segments[&extent.segment][part].to_vec();
        self.rows[row].truncate(extent.from);
        assert_eq!(self.rows[row].len(), extent.from);
        self.rows[row].extend(tokens);
        Ok(())
    }

    fn maps(&self) -> (usize, usize) {
        (self.shared.iter().filter(|tokens| **tokens > 0).count(), self.room)
    }
}

/// Tokens as [`STRIPS`] hold them.
fn tokens(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|bytes| u32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

fn logits(tokens: &[u32]) -> Vec<f32> {
    if tokens.last() == Some(&BLANK) {
        return vec![f32::NAN; VOCAB as usize];
    }
    let mut logits = vec![0.0; VOCAB as usize];
    logits[next(tokens) as usize] = 9.0;
    logits
}

/// The likeliest token after these.
pub(crate) fn next(tokens: &[u32]) -> u32 {
    // FNV-1a, so that order and place of every token count.
    let hash = tokens.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &token| {
        (hash ^ u64::from(token)).wrapping_mul(0x0100_0000_01b3)
    });
    u32::try_from((hash >> 20) % u64::from(ORDINARY)).unwrap()
}

/// What a greedy answer to a prompt is.
pub(crate) fn answer(prompt: &[u32], tokens: usize) -> Vec<u32> {
    let mut all = prompt.to_vec();
    for _ in 0..tokens {
        all.push(next(&all));
    }
    all.split_off(prompt.len())
}
