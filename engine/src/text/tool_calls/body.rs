//! What stands behind a mark, in one of its forms.

use super::Piece;
use super::forms::{Form, Inside, Known, Many};
use super::framed::Framed;
use super::json::Invalid;
use super::objects::Objects;
use super::pythonic::Pythonic;

/// Follows the calls behind one mark.
#[derive(Debug)]
pub(super) enum Body {
    Objects(Objects),
    Framed(Framed),
    Pythonic(Pythonic),
    /// A list of objects or something else: the first characters tell.
    Open {
        index: usize,
        other: Other,
        raw: String,
    },
}

/// What is there where there is no list of objects.
#[derive(Debug, Clone, Copy)]
pub(super) enum Other {
    Framed(fn(&str) -> Option<&str>),
    Pythonic,
}

/// Whether more belongs to the calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    More,
    Done,
}

impl Body {
    pub(super) fn new(form: &'static Form, index: usize, known: Known) -> Self {
        match form.inside_is {
            Inside::Objects { members, many } => Self::Objects(Objects::new(index, members, many, known)),
            Inside::Pythonic => Self::Pythonic(Pythonic::new(index, known)),
            Inside::Framed(name_of) => Self::Framed(Framed::new(index, name_of)),
            Inside::ListOrFramed(name_of) => Self::undecided(index, Other::Framed(name_of)),
            Inside::ListOrPythonic => Self::undecided(index, Other::Pythonic),
        }
    }

    fn undecided(index: usize, other: Other) -> Self {
        Self::Open { index, other, raw: String::new() }
    }

    /// Takes one more character and adds what it tells to `out`. On a fault the character is not taken.
    pub(super) fn push(&mut self, c: char, out: &mut Vec<Piece>) -> Result<Step, Invalid> {
        match self {
            Self::Objects(objects) => objects.push(c, out),
            Self::Framed(framed) => framed.push(c, out),
            Self::Pythonic(pythonic) => pythonic.push(c, out),
            Self::Open { raw, .. } if c.is_whitespace() => {
                raw.push(c);
                Ok(Step::More)
            }
            // Behind the bracket of a list stands an object or a name.
            Self::Open { other: Other::Pythonic, raw, .. } if c == '[' && raw.trim_start().is_empty() => {
                raw.push(c);
                Ok(Step::More)
            }
            Self::Open { index, other, raw } => {
                let (index, raw) = (*index, std::mem::take(raw));
                let decided = match *other {
                    _ if matches!(c, '[' | '{') => {
                        let many = Many::ListOrChained;
                        Self::Objects(Objects::new(index, &["arguments"], many, Known::any()))
                    }
                    Other::Framed(name_of) => Self::Framed(Framed::new(index, name_of)),
                    Other::Pythonic => Self::Pythonic(Pythonic::new(index, Known::any())),
                };
                // What was read opens the list at most: it completes nothing.
                *self = decided;
                for read in raw.chars() {
                    self.push(read, out)?;
                }
                self.push(c, out)
            }
        }
    }

    /// Whether a call has been announced.
    pub(super) fn called(&self) -> bool {
        match self {
            Self::Objects(objects) => objects.called(),
            Self::Framed(framed) => framed.called(),
            Self::Pythonic(pythonic) => pythonic.called(),
            Self::Open { .. } => false,
        }
    }

    /// Whether a call that has been announced has not ended.
    pub(super) fn open(&self) -> bool {
        match self {
            Self::Objects(objects) => objects.open(),
            Self::Framed(framed) => framed.called(),
            Self::Pythonic(pythonic) => pythonic.open(),
            Self::Open { .. } => false,
        }
    }

    /// What was read and is told by no piece.
    pub(super) fn into_raw(self) -> String {
        match self {
            Self::Objects(objects) => objects.into_raw(),
            Self::Framed(framed) => framed.into_raw(),
            Self::Pythonic(pythonic) => pythonic.into_raw(),
            Self::Open { raw, .. } => raw,
        }
    }
}
