//! Calls as objects, alone, one behind the other, or in a list.

use super::Piece;
use super::body::Step;
use super::call::Call;
use super::forms::{Known, Many};
use super::json::Invalid;

/// Follows objects of calls.
#[derive(Debug)]
pub(super) struct Objects {
    /// Number of the call that runs or comes next.
    index: usize,
    members: &'static [&'static str],
    many: Many,
    known: Known,
    /// Inside of a list.
    list: bool,
    call: Option<Box<Call>>,
    /// Whether a call has come to its end.
    ended: bool,
    /// What was read since the last call.
    raw: String,
}

impl Objects {
    pub(super) fn new(index: usize, members: &'static [&'static str], many: Many, known: Known) -> Self {
        Self { index, members, many, known, list: false, call: None, ended: false, raw: String::new() }
    }

    pub(super) fn push(&mut self, c: char, out: &mut Vec<Piece>) -> Result<Step, Invalid> {
        let Some(call) = &mut self.call else { return self.between(c, out) };
        if !call.push(c, out)? {
            return Ok(Step::More);
        }
        self.call = None;
        self.index += 1;
        self.ended = true;
        self.raw.clear();
        Ok(if self.list || self.many != Many::One { Step::More } else { Step::Done })
    }

    /// A character that is in no call.
    fn between(&mut self, c: char, out: &mut Vec<Piece>) -> Result<Step, Invalid> {
        match c {
            '{' => {
                let call = Call::new(self.index, self.members, self.known.clone());
                self.call = Some(Box::new(call));
                return self.push(c, out);
            }
            '[' if self.many == Many::ListOrChained && !self.list && !self.ended => self.list = true,
            ']' if self.list && self.ended => return Ok(Step::Done),
            ',' if self.ended => {}
            ';' if self.ended && !self.list => {}
            ' ' | '\t' | '\n' | '\r' => {}
            _ => return Err(Invalid),
        }
        self.raw.push(c);
        Ok(Step::More)
    }

    pub(super) fn called(&self) -> bool {
        self.ended || self.open()
    }

    pub(super) fn open(&self) -> bool {
        self.call.as_ref().is_some_and(|call| call.started())
    }

    pub(super) fn into_raw(self) -> String {
        let call = self.call.map(|call| call.into_raw());
        self.raw + &call.unwrap_or_default()
    }
}
