//! Conversations' keys and values in files: saved, and restored by mapping instead of being computed again. Whatever is
//! not whole, or was made by another model, is refused.

mod error;
mod header;
mod file;
mod api;

pub(crate) use api::identity;
pub use api::{CheckpointInfo, Restored};
pub use error::CheckpointError;
pub(crate) use file::{Opened, header, write};
pub(crate) use header::Header;
