//! What models wrote and where they failed, remembered by what it is made of.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use plimsoll_policies::{Ask, Recorded, SpanKey, Summaries};
use quick_cache::sync::Cache;
use tokio::sync::OwnedMutexGuard;

use crate::telemetry::SpanRef;

/// Texts kept: a few epochs of some thousand conversations.
const KEPT: usize = 8_192;

/// Remembers summaries by the hash of what they are made of, the same for every caller.
pub struct SummaryMemo {
    known: Cache<SpanKey, Recorded>,
    /// The spans that they were written under, for the traces of later turns.
    origins: Cache<SpanKey, SpanRef>,
    /// Summaries that somebody is having written right now.
    asked: Mutex<HashMap<SpanKey, Arc<tokio::sync::Mutex<()>>>>,
}

impl Default for SummaryMemo {
    fn default() -> Self {
        Self { known: Cache::new(KEPT), origins: Cache::new(KEPT), asked: Mutex::default() }
    }
}

/// A summary could not be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// Why, in a word.
    pub code: &'static str,
    /// Whether the reason may pass, so that a later cut asks once more.
    pub passing: bool,
}

impl Failure {
    /// The same would fail again.
    pub(crate) const fn lasting(code: &'static str) -> Self {
        Self { code, passing: false }
    }

    /// It may work at another time.
    pub(crate) const fn passing(code: &'static str) -> Self {
        Self { code, passing: true }
    }
}

impl SummaryMemo {
    /// Remembers what became of an [`Ask`]. A text that somebody else wrote meanwhile stays: prompts with it are out
    /// already. A second failure is the last.
    pub fn remember(&self, ask: &Ask, written: Result<String, Failure>) {
        let known = self.known.get(&ask.key);
        let recorded = match (written, known) {
            (_, Some(Recorded::Text(_))) => return,
            (Ok(text), _) => Recorded::Text(text),
            (Err(failure), _) => Recorded::Failed { passing: failure.passing && !ask.again },
        };
        self.known.insert(ask.key, recorded);
    }

    /// Remembers the span that a summary was written under, where it is exported.
    pub fn written_under(&self, key: SpanKey, origin: Option<SpanRef>) {
        if let Some(origin) = origin {
            self.origins.insert(key, origin);
        }
    }

    /// Waits until nobody else has this summary written. `None` where it is settled by then.
    pub(super) async fn turn(&self, ask: &Ask) -> Option<Turn<'_>> {
        let lock = self.asked().entry(ask.key).or_default().clone();
        let guard = lock.lock_owned().await;
        let turn = Turn { memo: self, key: ask.key, _guard: guard };
        let open = match self.known.get(&ask.key) {
            None => true,
            Some(Recorded::Failed { passing }) => passing && ask.again,
            Some(Recorded::Text(_)) => false,
        };
        open.then_some(turn)
    }

    fn asked(&self) -> MutexGuard<'_, HashMap<SpanKey, Arc<tokio::sync::Mutex<()>>>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Summaries for SummaryMemo {
    fn get(&self, key: &SpanKey) -> Option<Recorded> {
        self.known.get(key)
    }

    fn record(&self, key: &SpanKey, text: &str) {
        self.known.insert(*key, Recorded::Text(text.to_owned()));
    }
}

/// A memo that notes which summary it gave last: the one that stands in the prompt.
pub(super) struct Given<'a> {
    memo: &'a SummaryMemo,
    /// Nobody waits any more: what is not known is recorded as failed for good, so that its stand-in stays.
    spent: bool,
    last: Mutex<Option<SpanKey>>,
}

impl<'a> Given<'a> {
    pub(super) fn of(memo: &'a SummaryMemo, spent: bool) -> Self {
        Self { memo, spent, last: Mutex::new(None) }
    }

    /// The span that the last summary was written under.
    pub(super) fn origin(&self) -> Option<SpanRef> {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        self.memo.origins.get(&last?)
    }
}

impl Summaries for Given<'_> {
    fn get(&self, key: &SpanKey) -> Option<Recorded> {
        let found = self.memo.get(key);
        if matches!(found, Some(Recorded::Text(_))) {
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(*key);
        }
        match found {
            Some(Recorded::Text(_)) => found,
            _ if !self.spent => found,
            Some(Recorded::Failed { .. }) => Some(Recorded::Failed { passing: false }),
            None => {
                self.memo.known.insert(*key, Recorded::Failed { passing: false });
                Some(Recorded::Failed { passing: false })
            }
        }
    }

    fn record(&self, key: &SpanKey, text: &str) {
        self.memo.record(key, text);
    }
}

/// Leave to have a summary written, alone.
pub(super) struct Turn<'a> {
    memo: &'a SummaryMemo,
    key: SpanKey,
    _guard: OwnedMutexGuard<()>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut asked = self.memo.asked();
        // The map's own handle and this one's: nobody waits.
        if asked.get(&self.key).is_some_and(|lock| Arc::strong_count(lock) <= 2) {
            asked.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use plimsoll_policies::{Chain, Context, Conversation, Limits, Verdict, resolve};

    use super::*;
    use crate::count::Estimate;

    fn ask(again: bool) -> Ask {
        let filler = "and so on ".repeat(40);
        let turn = |role| format!(r#"{{"role":"{role}","content":"{filler}"}}"#);
        let messages = [turn("user"), turn("assistant")].join(",");
        let body = format!(r#"{{"messages":[{}]}}"#, vec![messages; 12].join(","));
        let steps = r#"{"steps":[{"summarize":{"with":"engine"}}]}"#;
        let policies = [("p".to_owned(), serde_json::from_str(steps).unwrap())].into();
        let chain = Chain::build("p", &resolve("p", &policies).unwrap());
        let counter = Estimate::new("o200k_base");
        let context = Context {
            limits: Limits::tokens(1000),
            counter: &counter,
            summaries: &plimsoll_policies::NoSummaries,
        };
        let conversation = Conversation::parse_chat(body.into()).unwrap();
        match chain.apply(&conversation, &context).unwrap() {
            Verdict::Ask(ask) => Ask { again, timeout: Duration::ZERO, ..ask },
            Verdict::Done { report, .. } => panic!("{report:?}"),
        }
    }

    #[test]
    fn a_text_stays_and_a_second_failure_is_the_last() {
        let (memo, first, again) = (SummaryMemo::default(), ask(false), ask(true));
        let known = |key| memo.get(&key);
        memo.remember(&first, Err(Failure::passing("timeout")));
        assert_eq!(known(first.key), Some(Recorded::Failed { passing: true }));
        memo.remember(&again, Err(Failure::passing("timeout")));
        assert_eq!(known(first.key), Some(Recorded::Failed { passing: false }));
        memo.remember(&again, Ok("one".to_owned()));
        memo.remember(&again, Ok("two".to_owned()));
        memo.remember(&again, Err(Failure::lasting("empty")));
        assert_eq!(known(first.key), Some(Recorded::Text("one".to_owned())));
    }

    #[tokio::test]
    async fn one_writes_and_the_others_wait_for_it() {
        let (memo, ask) = (SummaryMemo::default(), ask(false));
        let turn = memo.turn(&ask).await.unwrap();
        let mut other = Box::pin(memo.turn(&ask));
        assert!(futures_util::poll!(&mut other).is_pending());
        memo.remember(&ask, Ok("told".to_owned()));
        drop(turn);
        assert!(other.await.is_none());
        assert!(memo.asked().is_empty());
    }

    #[tokio::test]
    async fn who_leaves_hands_its_turn_on() {
        let (memo, ask) = (SummaryMemo::default(), ask(false));
        let turn = memo.turn(&ask).await;
        let other = memo.turn(&ask);
        drop(turn);
        assert!(other.await.is_some());
        assert!(memo.asked().is_empty());
    }
}
