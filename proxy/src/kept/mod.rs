//! What is kept for callers: originals of shortened tool results, and saved conversations. Each is given to the caller
//! it was kept for, and to nobody else.

mod answer;
mod artifacts;
mod caller;
mod checkpoints;
mod disk;
mod page;
mod resume;
mod save;

use std::path::PathBuf;

use http::HeaderMap;
use http::header::HeaderName;
use thiserror::Error;

use crate::config::Config;

pub use answer::{KeptError, Wanted, answer};
pub use artifacts::{Artifacts, Readings};
pub use caller::Caller;
pub use checkpoints::{CheckpointError, Checkpoints};
pub use page::{Page, page};
pub use resume::{RESUME, Resumed, resume};
pub use save::{Saving, save};

/// A folder that cannot be used.
#[derive(Debug, Error)]
#[error("`{option}`: the folder `{folder}` cannot be used: {source}")]
pub struct KeptFolderError {
    /// The option that names it.
    pub option: &'static str,
    /// The folder.
    pub folder: PathBuf,
    /// Why.
    pub source: std::io::Error,
}

/// The stores of a process, as it was started.
#[derive(Default)]
pub struct Kept {
    /// Originals of shortened tool results; `None` where none is kept.
    pub artifacts: Option<Artifacts>,
    /// Saved conversations; `None` where there are none.
    pub checkpoints: Option<Checkpoints>,
    caller_header: Option<HeaderName>,
}

impl Kept {
    /// Opens the stores.
    ///
    /// # Errors
    /// A folder cannot be made or written.
    pub fn open(config: &Config) -> Result<Self, KeptFolderError> {
        let artifacts =
            if config.artifacts.kept() { Some(Artifacts::open(&config.artifacts)?) } else { None };
        let checkpoints = Checkpoints::open(&config.checkpoints)?;
        Ok(Self { artifacts, checkpoints, caller_header: config.listen.caller_header.clone() })
    }

    /// Who sends these headers.
    pub fn caller(&self, headers: &HeaderMap) -> Caller {
        Caller::of(headers, self.caller_header.as_ref())
    }
}

/// Whether a text is 32 hexadecimal digits, as the names are that are made here.
fn is_hash(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit))
}

/// A caller's text in an error, cut short.
fn shown(text: &str) -> String {
    text[..text.floor_char_boundary(80)].to_owned()
}
