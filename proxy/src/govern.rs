//! Applies the route's policy to a counted call, and runs the summaries it asks for.

mod ahead;
mod facts;
mod memo;
mod patience;
mod resident;
mod summary;

use std::sync::Arc;
use std::time::Instant;

use plimsoll_policies::{
    Ask, Chain, Context, Conversation, Limits, NoSummaries, Refusal, Report, Tokens, Verdict,
};
use thiserror::Error;
use tokio::task::JoinError;

use crate::config::Mode;
use crate::count::{Counted, Counter};
use crate::explain::Entry;
use crate::live::{Live, Route, mode_name};
use crate::parse::{Call, Envelope, Work};
use crate::telemetry::{PolicySpan, RequestSpan, SpanRef};

pub(crate) use ahead::AfterAnswer;
pub use ahead::{Next, Preparer};
use memo::Given;
pub use memo::{Failure, SummaryMemo};
use patience::Patience;
use resident::Resident;
use summary::{Caller, Haste};

/// Bodies below this many bytes are governed on the spot; longer ones would hold up other requests of the thread.
const INLINE: usize = 16 * 1024;

/// A call as the policy leaves it.
pub struct Governed {
    /// What is known of the request around its body.
    pub envelope: Envelope,
    /// What is asked, its conversation edited where the mode enforces.
    pub work: Work,
    /// What the policy did, or in shadow mode would have done; `None` where none ran.
    pub report: Option<Report>,
}

/// The policy refuses the call, or could not run.
#[derive(Debug, Error)]
pub enum GovernError {
    /// Refused with figures, or the prompt could not be counted.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A policy asks for a summary though nobody writes one any more.
    #[error("the policy `{policy}` did not settle without a summary")]
    Unsettled {
        /// The policy's name.
        policy: String,
    },
    /// A policy panicked.
    #[error("the policy failed: {0}")]
    Crashed(#[from] JoinError),
}

/// Runs the policy of a call's route.
pub async fn govern(counted: Counted) -> Result<Governed, GovernError> {
    let Counted { call: Call { mut envelope, mut work }, counter } = counted;
    let mut report = None;
    if let (Some(chat), Some(counter)) = (work.chat_mut(), counter) {
        if !envelope.edits.is_empty() {
            let (edited, report) = own_edits(&envelope, chat.conversation.clone(), counter.clone()).await?;
            (chat.conversation, envelope.edited) = (edited, Some(report));
        }
        let summaries = envelope.live.summaries.clone();
        let rule = Rule {
            route: envelope.route.clone(),
            live: envelope.live.clone(),
            limits: limits(&envelope),
            summaries,
            counter,
            caller: Caller::of(&envelope, chat.model.clone()),
            mode: envelope.mode,
        };
        let before = chat.conversation.clone();
        let told = envelope.mode == Mode::Shadow || envelope.api.counts();
        let (conversation, made) = run(&rule, before.clone(), &envelope.record, told).await?;
        report = made;
        if let Some(field) =
            report.as_ref().and_then(|report| forbidden(&envelope, rule.limits.window, &before, report))
        {
            (report, envelope.ungoverned) = (None, Some(field));
            envelope.record.record().ungoverned = Some(field);
        } else if envelope.mode == Mode::Enforce {
            keep_originals(&envelope, &conversation);
            chat.conversation = conversation;
            let nears = report.as_ref().is_some_and(|report| rule.route.chain.nears_cut(report));
            if nears && !envelope.api.counts() {
                let (sent, follow_up) = (chat.conversation.clone(), envelope.record.follow_up());
                envelope.next = Some(Box::new(Next { rule, conversation: before, sent, follow_up }));
            }
        }
    }
    Ok(Governed { envelope, work, report })
}

/// What is known of the place where the prompt will run; the request may ask for a smaller window.
fn limits(envelope: &Envelope) -> Limits {
    let limits = envelope.route.limits();
    let asked = envelope.original.as_ref().and_then(|original| original.window());
    Limits { window: limits.window.min(asked.unwrap_or(limits.window)), ..limits }
}

/// The field by which a caller forbids to cut a conversation that does not fit.
fn forbidden(
    envelope: &Envelope,
    window: Tokens,
    before: &Conversation,
    report: &Report,
) -> Option<&'static str> {
    let field = envelope.original.as_ref()?.forbids_cuts().filter(|_| envelope.mode == Mode::Enforce)?;
    let answer = before.output_limit().unwrap_or(1);
    (report.tokens_before.saturating_add(answer) > window).then_some(field)
}

/// Does what the caller asks for itself. These steps ask for no summary.
async fn own_edits(
    envelope: &Envelope,
    conversation: Conversation,
    counter: Counter,
) -> Result<(Conversation, Report), GovernError> {
    const NAME: &str = "context_management";
    let (chain, limits) = (Chain::build(NAME, &envelope.edits), envelope.route.limits());
    let apply = move || {
        let context = Context { limits, counter: counter.as_dyn(), summaries: &NoSummaries };
        chain.apply(&conversation, &context)
    };
    match tokio::task::spawn_blocking(apply).await?? {
        Verdict::Done { conversation, report } => Ok((conversation, report)),
        Verdict::Ask(_) => Err(GovernError::Unsettled { policy: NAME.to_owned() }),
    }
}

/// Keeps the originals that the conversation names, for its caller. Disks are written beside the request.
fn keep_originals(envelope: &Envelope, governed: &Conversation) {
    let kept = &envelope.live.kept;
    let Some(artifacts) = &kept.artifacts else { return };
    if let Some(write) = artifacts.keep(&envelope.caller, governed) {
        tokio::task::spawn_blocking(write);
    }
}

/// Runs a rule under its span. A refusal may be told, not enforced: in shadow mode, and where only the count is asked
/// for, which is then that of the conversation as it came.
async fn run(
    rule: &Rule,
    conversation: Conversation,
    record: &RequestSpan,
    told: bool,
) -> Result<(Conversation, Option<Report>), GovernError> {
    let started = Instant::now();
    let mut span = record.policy(&rule.route.policy);
    match rule.settle(&conversation, &span).await {
        Ok((governed, report)) => {
            rule.explain(record, &conversation, Ok((&governed, &report)));
            let enforced = rule.mode == Mode::Enforce;
            let (sent, tokens) = if enforced {
                (&governed, report.tokens_after)
            } else {
                (&conversation, report.tokens_before)
            };
            span.segments(tokens, || facts::segments(sent));
            span.finish(facts::of(&report, rule.mode, started.elapsed()));
            Ok((governed, Some(report)))
        }
        Err(GovernError::Refused(refusal)) => {
            rule.explain(record, &conversation, Err(&refusal));
            span.finish(facts::refused(&refusal, rule, started.elapsed()));
            if told { Ok((conversation, None)) } else { Err(refusal.into()) }
        }
        Err(error) => {
            span.finish(facts::failed(rule, started.elapsed()));
            Err(error)
        }
    }
}

/// Something that a chain does.
type Step<T> = fn(&Chain, &Conversation, &Context<'_>) -> Result<T, Refusal>;

/// What a chain says, and the span of the last summary that it was given.
type Applied = (Verdict, Option<SpanRef>);

/// A route's policy with what it needs to run.
#[derive(Clone)]
struct Rule {
    route: Arc<Route>,
    /// Read once, so that every try sees the same.
    limits: Limits,
    live: Arc<Live>,
    summaries: Arc<SummaryMemo>,
    counter: Counter,
    caller: Caller,
    mode: Mode,
}

impl Rule {
    /// Keeps what was done, for `plimsoll explain --request ID`.
    fn explain(
        &self,
        record: &RequestSpan,
        before: &Conversation,
        outcome: Result<(&Conversation, &Report), &Refusal>,
    ) {
        let (id, route) = (record.record().id.clone(), self.route.name.clone());
        let entry = Entry::new(id, route, mode_name(self.mode), before, outcome);
        self.live.explained.keep(self.live.explain, entry);
    }

    /// Applies the chain until every summary that it asks for is there, or stood in for: a request waits for all of
    /// them together no longer than the policy lets it wait for one, and not again after one that failed for a reason
    /// that may pass.
    async fn settle(
        &self,
        conversation: &Conversation,
        span: &PolicySpan,
    ) -> Result<(Conversation, Report), GovernError> {
        let mut patience = Patience::default();
        loop {
            let (verdict, origin) = self.apply(conversation.clone(), patience.is_spent()).await??;
            match verdict {
                Verdict::Done { conversation, report } => {
                    if let Some(origin) = origin.filter(|_| self.mode == Mode::Enforce)
                        && summary::is_in(&conversation)
                    {
                        span.uses_summary(origin);
                    }
                    return Ok((conversation, report));
                }
                Verdict::Ask(_) if patience.is_spent() => {
                    return Err(GovernError::Unsettled { policy: self.route.policy.to_string() });
                }
                Verdict::Ask(ask) => self.have_written(ask, &mut patience, span).await,
            }
        }
    }

    async fn have_written(&self, mut ask: Ask, patience: &mut Patience, span: &PolicySpan) {
        let Some(left) = patience.left(ask.timeout) else { return };
        ask.timeout = left;
        let Some(_turn) = self.summaries.turn(&ask).await else { return };
        let summarizing = span.summarize(ask.span.len() as u64);
        let written = summary::write(self, &ask, summarizing, Haste::Now).await;
        if written.as_ref().is_err_and(|failure| failure.passing) {
            patience.end();
        }
        self.summaries.remember(&ask, written);
        self.summaries.written_under(ask.key, span.written());
    }

    /// Also gives the span of the last summary that the chain was given.
    async fn apply(
        &self,
        conversation: Conversation,
        spent: bool,
    ) -> Result<Result<Applied, Refusal>, JoinError> {
        self.on_chain(conversation, spent, Chain::apply).await
    }

    /// As if the next cut came now; none where it is not settled yet.
    async fn ahead(&self, conversation: Conversation) -> Result<Result<Option<Verdict>, Refusal>, JoinError> {
        let ahead = self.on_chain(conversation, false, Chain::ahead).await?;
        Ok(ahead.map(|(verdict, _)| verdict))
    }

    /// Where the server that counts fell silent on the way, once more: a cut is decided by counts of one kind.
    async fn on_chain<T: Send + 'static>(
        &self,
        conversation: Conversation,
        spent: bool,
        work: Step<T>,
    ) -> Result<Result<(T, Option<SpanRef>), Refusal>, JoinError> {
        let estimated = self.counter.estimates();
        let done = self.once_on_chain(conversation.clone(), spent, work).await;
        if self.counter.estimates() == estimated {
            return done;
        }
        self.once_on_chain(conversation, spent, work).await
    }

    async fn once_on_chain<T: Send + 'static>(
        &self,
        conversation: Conversation,
        spent: bool,
        work: Step<T>,
    ) -> Result<Result<(T, Option<SpanRef>), Refusal>, JoinError> {
        let (route, summaries, counter) = (self.route.clone(), self.summaries.clone(), self.counter.clone());
        let (off, limits) = (self.mode == Mode::Off, self.limits);
        let inline = conversation.to_json().len() < INLINE && !self.counter.waits();
        let apply = move || {
            let given = Given::of(&summaries, spent);
            let counter = Resident::new(&counter, &route.upstream.kind);
            let context = Context { limits, counter: &counter, summaries: &given };
            let chain = if off { &route.counting } else { &route.chain };
            work(chain, &conversation, &context).map(|done| (done, given.origin()))
        };
        if inline { Ok(apply()) } else { tokio::task::spawn_blocking(apply).await }
    }
}
