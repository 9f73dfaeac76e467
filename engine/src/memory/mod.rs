//! Bytes of the KV cache: who has reserved how many, who waits for them, and what is in use.

mod budget;
mod limits;
mod reading;
mod system;

pub(crate) use budget::Budget;
pub use budget::Permit;
pub(crate) use limits::{Limits, Wish};
pub use reading::MemoryReading;
pub(crate) use reading::Meter;
pub(crate) use system::{available, settle, trim};
