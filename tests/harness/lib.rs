//! What the tests lean on: a sidecar in this process, a recording upstream, a collector, ground truth.

#![expect(clippy::panic, reason = "what a test cannot do without ends the test")]

pub mod browser;
pub mod collector;
pub mod fuzz;
pub mod http;
pub mod mock;
pub mod process;
pub mod results;
pub mod shared;
mod sidecar;

pub use http::{Reply, get, post, post_with};
pub use sidecar::{Sidecar, plimsoll};
