//! What the tests lean on: a sidecar in this process, a recording upstream, a collector, a load generator, ground truth.

#![expect(clippy::panic, reason = "what a test cannot do without ends the test")]

pub mod agent;
pub mod browser;
pub mod collector;
pub mod figures;
pub mod fuzz;
pub mod http;
pub mod load;
pub mod mock;
pub mod process;
pub mod results;
pub mod shared;
mod sidecar;

pub use http::{Reply, get, post, post_with};
pub use sidecar::{Sidecar, plimsoll};
