//! What is kept for callers: originals of shortened tool results, and saved conversations. Each is given to the caller
//! it was kept for, and to nobody else.

mod answer;
mod artifacts;
mod caller;
mod disk;
mod page;

use std::path::PathBuf;

use http::HeaderMap;
use http::header::HeaderName;
use thiserror::Error;

use crate::config::Config;

pub use answer::{KeptError, Wanted, answer};
pub use artifacts::{Artifacts, Readings};
pub use caller::Caller;
pub use page::{Page, page};

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
        Ok(Self { artifacts, caller_header: config.listen.caller_header.clone() })
    }

    /// Who sends these headers.
    pub fn caller(&self, headers: &HeaderMap) -> Caller {
        Caller::of(headers, self.caller_header.as_ref())
    }
}
