//! What holds for every policy and every chain, whatever comes in.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail that way, their helpers too")]

mod checks;
mod costed;
mod generate;
mod invariants;
mod support;
mod transcripts;
