//! An answer in the making, in a dialect.

use serde_json::Value;

use super::Framing;
use crate::forward::{End, Part};
use crate::respond::Fault;

/// Writes one answer of the engine: streamed by `opening`, `started`, `chunks` and `closing`, or gathered by `started` and
/// `collect` and written by `whole`.
pub trait Reply: Send {
    /// The form of its stream.
    fn framing(&self) -> Framing;

    /// The events that go out at once.
    fn opening(&mut self) -> Vec<Value> {
        Vec::new()
    }

    /// The events when the engine has begun: tokens of the prompt, and those of them that it held already.
    fn started(&mut self, _prompt: u64, _cached: u64) -> Vec<Value> {
        Vec::new()
    }

    /// The events of a part.
    fn chunks(&mut self, part: &Part) -> Vec<Value>;

    /// The events after the last token.
    fn closing(&mut self, end: &End) -> Vec<Value>;

    /// The event of a failure after the status was sent.
    fn failed(&mut self, fault: &Fault) -> Value;

    /// Adds a part to the whole.
    fn collect(&mut self, part: Part);

    /// The whole answer.
    fn whole(self: Box<Self>, end: &End) -> Value;
}
