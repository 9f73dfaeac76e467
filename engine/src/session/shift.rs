//! A row whose window is full loses the older part of its tokens: what stays moves to the front, and its keys are turned
//! to their new positions.

use super::{RunError, Session};
use crate::cache::{Place, Shape, Store, StoreError, Strip};
use crate::error::NoShift;
use crate::model::{Element, Model, Turns};

/// What a row loses: `drop` of its `held` tokens, those behind the first `keep`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) keep: usize,
    pub(crate) drop: usize,
    pub(crate) held: usize,
}

/// Takes tokens out of a row. Only tokens behind the first `keep` are written to.
pub(super) fn shift(
    store: &mut dyn Store,
    shape: &Shape,
    turns: &Turns,
    row: usize,
    cut: Cut,
) -> Result<(), StoreError> {
    let positions = -i64::try_from(cut.drop).unwrap_or(i64::MAX);
    for (number, strip) in shape.strips.iter().enumerate() {
        let mut held = vec![0; cut.held * strip.token];
        for head in 0..strip.heads {
            let place = Place { strip: number, row, head };
            store.read(place, &mut held)?;
            let stays = &mut held[(cut.keep + cut.drop) * strip.token..];
            if let Some(rope) = &turns[number] {
                rope.turn(stays, strip.head_dim, element(*strip), positions);
            }
            store.write(place, cut.keep * strip.token, stays)?;
        }
    }
    Ok(())
}

/// The type of a strip's numbers, of those that can be turned.
fn element(strip: Strip) -> Element {
    if strip.token == strip.head_dim * Element::F16.bytes() { Element::F16 } else { Element::F32 }
}

/// Tokens of the first trial, and how many of them are dropped.
const TOKENS: usize = 12;
const DROPPED: usize = 5;
/// The position of the second trial, at most.
const FAR: usize = 256;

/// Tries whether keys that are turned back are those of the earlier position.
///
/// A row of one and the same token has the same values at each position in every layer, so that nothing but the position
/// tells its keys apart. A single token far behind the first one shows slow frequencies, in the first layer.
///
/// # Errors
/// They are not, or cannot be turned.
pub(crate) fn proven(session: &mut dyn Session, model: &Model, context: u32) -> Result<(), NoShift> {
    let turns = model.turns.as_ref().map_err(Clone::clone)?;
    let window = context as usize;
    if window <= TOKENS {
        return Err(NoShift::Small { context });
    }
    let tried = Trial { session: &mut *session, model, turns }.run(window);
    session.release(0, 0, window);
    let Some(strip) = tried.map_err(|error| NoShift::Unknown { what: error.0 })? else { return Ok(()) };
    Err(NoShift::Unproven { cache: model.wiring.caches[strip].past.clone() })
}

struct Trial<'a> {
    session: &'a mut dyn Session,
    model: &'a Model,
    turns: &'a Turns,
}

impl Trial<'_> {
    /// The first strip that is not what it should be.
    fn run(mut self, window: usize) -> Result<Option<usize>, RunError> {
        // The first ids are often special, and may be embedded as zeros.
        let token = self.model.vocab / 2;
        self.session.prefill(0, 0, &[token; TOKENS])?;
        let before = self.all(TOKENS)?;
        self.session.shift(0, Cut { keep: 0, drop: DROPPED, held: TOKENS })?;
        let after = self.all(TOKENS - DROPPED)?;
        let differs = (0..before.len()).find(|&strip| !self.alike(strip, &before[strip], &after[strip]));
        let Some(keys) = self.turns.iter().position(Option::is_some).filter(|_| differs.is_none()) else {
            return Ok(differs);
        };
        let far = FAR.min(window - 1);
        self.session.prefill(0, far, &[token])?;
        self.session.shift(0, Cut { keep: 0, drop: far, held: far + 1 })?;
        let moved = self.heads(keys, 1)?;
        Ok(Some(keys).filter(|_| !self.alike(keys, &before[keys], &moved)))
    }

    /// The first tokens of all strips, head by head.
    fn all(&mut self, tokens: usize) -> Result<Vec<Vec<Vec<f32>>>, RunError> {
        (0..self.turns.len()).map(|strip| self.heads(strip, tokens)).collect()
    }

    fn heads(&mut self, strip: usize, tokens: usize) -> Result<Vec<Vec<f32>>, RunError> {
        let cache = &self.model.wiring.caches[strip];
        let element = self.model.kv_type;
        let mut bytes = vec![0; tokens * cache.head_dim * element.bytes()];
        let mut heads = Vec::with_capacity(cache.heads);
        for head in 0..cache.heads {
            self.session.read(Place { strip, row: 0, head }, &mut bytes)?;
            heads.push(element.numbers(&bytes));
        }
        Ok(heads)
    }

    /// Whether heads begin with the same numbers, but for what rounding does.
    fn alike(&self, strip: usize, before: &[Vec<f32>], after: &[Vec<f32>]) -> bool {
        let rounding = if self.model.kv_type == Element::F16 { 2e-2 } else { 2e-3 };
        let largest = |numbers: &[f32]| numbers.iter().fold(0.0_f32, |most, n| most.max(n.abs()));
        debug_assert_eq!(before.len(), self.model.wiring.caches[strip].heads);
        before.iter().zip(after).all(|(before, after)| {
            let most = rounding * largest(before);
            before.iter().zip(after).all(|(a, b)| (a - b).abs() <= most)
        })
    }
}

#[cfg(test)]
#[path = "shift_tests.rs"]
mod tests;
