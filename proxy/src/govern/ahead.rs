//! Prepares for a conversation's next cut after an answer was sent: has its summary written, and its prompt computed.
//!
//! What the next cut drops is settled by the history alone (`policies`, half way between the marks), so that what is
//! prepared is what will be needed, and nothing but time depends on whether it was.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use plimsoll_engine::{Event, Generate, Sampling};
use plimsoll_policies::{Ask, Conversation, Refusal, SpanKey, Verdict};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Rule, summary};
use crate::body::Observe;
use crate::live::{Embedded, Kind};
use crate::telemetry::FollowUp;

/// Conversations that are prepared for at once; others are, after their next answer.
const AT_ONCE: usize = 4;

/// Work that goes on after answers; it ends with the sidecar.
pub struct Preparer {
    room: Arc<Semaphore>,
    /// Spans that are worked on: the same one stands before each turn until its cut.
    spans: Mutex<HashSet<SpanKey>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Default for Preparer {
    fn default() -> Self {
        Self {
            room: Arc::new(Semaphore::new(AT_ONCE)),
            spans: Mutex::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }
}

impl Preparer {
    /// Ends what runs, and begins nothing more.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Waits until all that answers so far gave to prepare is done.
    pub async fn settled(&self) {
        // Each piece of work holds a place of its own from the moment its answer is out.
        let places = u32::try_from(AT_ONCE).unwrap_or(u32::MAX);
        drop(self.room.acquire_many(places).await);
    }

    fn start(self: &Arc<Self>, next: Box<Next>) {
        let Ok(room) = self.room.clone().try_acquire_owned() else { return };
        let preparer = self.clone();
        let work = async move {
            tokio::select! {
                () = preparer.stop.cancelled() => {}
                () = next.prepare(&preparer) => {}
            }
            drop(room);
        };
        if !self.stop.is_cancelled() {
            self.tasks.spawn(work);
        }
    }

    /// Leave to work on a span; none where somebody does already.
    fn claim(&self, ask: &Ask) -> Option<Claim<'_>> {
        self.spans().insert(ask.key).then(|| Claim { preparer: self, key: ask.key })
    }

    fn spans(&self) -> MutexGuard<'_, HashSet<SpanKey>> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Claim<'a> {
    preparer: &'a Preparer,
    key: SpanKey,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.preparer.spans().remove(&self.key);
    }
}

/// Summaries written ahead of one cut: one, as a rule, and those before it that failed.
const MOST: usize = 8;

/// A conversation whose next cut is to be prepared for once its answer is out.
#[derive(Clone)]
pub struct Next {
    pub(super) rule: Rule,
    /// As it came in.
    pub(super) conversation: Conversation,
    /// As it was sent.
    pub(super) sent: Conversation,
    pub(super) follow_up: FollowUp,
}

impl Next {
    async fn prepare(&self, preparer: &Preparer) {
        for _ in 0..MOST {
            match self.rule.ahead(self.conversation.clone()).await {
                Ok(Ok(Some(Verdict::Ask(ask)))) => {
                    let Some(_claim) = preparer.claim(&ask) else { return };
                    if !self.write(&ask).await {
                        return;
                    }
                }
                Ok(Ok(Some(Verdict::Done { conversation, .. }))) => return self.prefill(&conversation).await,
                // Nothing to prepare, or nothing that could be: the next request will be told why.
                Ok(Ok(None) | Err(Refusal::ContextLength(_) | Refusal::Count(_))) | Err(_) => return,
            }
        }
    }

    /// Has a summary written; false where that failed. A failure that may pass is not remembered: nobody has waited
    /// for it, and the cut will ask again.
    async fn write(&self, ask: &Ask) -> bool {
        let Some(_turn) = self.rule.summaries.turn(ask).await else { return true };
        let span = self.follow_up.summarize(ask.span.len() as u64);
        let origin = span.reference();
        let written = summary::write(&self.rule, ask, span, summary::Haste::Idle).await;
        if written.is_ok() {
            self.rule.summaries.written_under(ask.key, origin);
        }
        let settled = written.as_ref().map_or_else(|failure| !failure.passing, |_| true);
        if settled {
            self.rule.summaries.remember(ask, written);
        }
        settled
    }

    /// Computes the prompt that the cut will leave, where the policy says so and the route's own engine runs it.
    async fn prefill(&self, next: &Conversation) {
        let Kind::Engine(engine) = &self.rule.route.upstream.kind else { return };
        if self.rule.route.chain.prefills_ahead() {
            prefill(engine, next, &self.sent).await;
        }
    }
}

async fn prefill(engine: &Embedded, next: &Conversation, sent: &Conversation) {
    let (Ok(prompt), Ok(sent)) = (engine.counter.ids(next), engine.counter.ids(sent)) else { return };
    let (sampling, tokens) = (Sampling::greedy(), prompt.len());
    let request = Generate { prompt, max_tokens: 0, sampling, ignore_eos: true, ..Generate::default() };
    let Ok(mut generation) = engine.engine.prepare(request, Some(sent), None) else { return };
    while let Some(Ok(event)) = generation.next().await {
        if let Event::Done { reason, usage } = event {
            tracing::debug!(target: "plimsoll", ?reason, tokens, cached = usage.cached, "next prompt computed ahead");
        }
    }
}

/// Sees an answer out.
pub(crate) struct AfterAnswer(Option<(Arc<Preparer>, Box<Next>)>);

impl AfterAnswer {
    pub(crate) fn new(preparer: Arc<Preparer>, next: Box<Next>) -> Self {
        Self(Some((preparer, next)))
    }
}

impl Observe for AfterAnswer {
    fn ended(&mut self) {
        if let Some((preparer, next)) = self.0.take() {
            preparer.start(next);
        }
    }

    fn broken(&mut self) {
        self.0 = None;
    }
}
