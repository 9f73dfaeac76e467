//! A call whose name stands before its arguments: `name[ARGS]{..}` and the like.

use super::Piece;
use super::body::Step;
use super::json::{Invalid, JsonScan, State};

/// Longer heads are no names.
const LONGEST_HEAD: usize = 256;

/// Follows one call.
#[derive(Debug)]
pub(super) struct Framed {
    index: usize,
    name_of: fn(&str) -> Option<&str>,
    /// What was read before the arguments.
    head: String,
    /// The arguments, once they have begun.
    scan: Option<JsonScan>,
}

impl Framed {
    pub(super) fn new(index: usize, name_of: fn(&str) -> Option<&str>) -> Self {
        Self { index, name_of, head: String::new(), scan: None }
    }

    pub(super) fn push(&mut self, c: char, out: &mut Vec<Piece>) -> Result<Step, Invalid> {
        if self.scan.is_none() {
            if c != '{' {
                return self.in_head(c);
            }
            let name = (self.name_of)(&self.head).ok_or(Invalid)?.to_owned();
            out.push(Piece::CallStart { index: self.index, name });
        }
        let scan = self.scan.get_or_insert_with(JsonScan::new);
        scan.push(c)?;
        out.push(Piece::CallArguments { index: self.index, json_fragment: c.to_string() });
        if scan.state() == State::End {
            out.push(Piece::CallEnd { index: self.index });
            return Ok(Step::Done);
        }
        Ok(Step::More)
    }

    fn in_head(&mut self, c: char) -> Result<Step, Invalid> {
        if self.head.len() > LONGEST_HEAD {
            return Err(Invalid);
        }
        self.head.push(c);
        Ok(Step::More)
    }

    pub(super) fn called(&self) -> bool {
        self.scan.is_some()
    }

    pub(super) fn into_raw(self) -> String {
        self.head
    }
}
