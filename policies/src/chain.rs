//! A chain: each step sees a snapshot, its effect is measured, kept or undone, and reported.

mod run;

use serde::Serialize;

use crate::config::Step;
use crate::conversation::Conversation;
use crate::costed::{self, Waits};
pub(crate) use crate::effect::{Change, Effect, Rejection, Snapshot};
use crate::fit_context::{Cuts, FitContext};
use crate::growth_alert::GrowthAlert;
use crate::limits::Limits;
use crate::report::{Outcome, Report};
use crate::reserve_output::ReserveOutput;
use crate::summaries::{Ask, Summaries, Summariser};
use crate::summarize::Summarize;
use crate::tokens::{CountError, CountTokens, Tokens};
use crate::weights::Weights;

use run::Run;

/// What a chain may know besides the conversation.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The window, and what is known of the KV cache. Taken once a request: each try of it sees the same.
    pub limits: Limits,
    /// Counts for the tokenizer that will run the prompt.
    pub counter: &'a dyn CountTokens,
    /// Derived texts the caller has recorded.
    pub summaries: &'a dyn Summaries,
}

/// What a chain came to.
#[derive(Debug)]
pub enum Verdict {
    /// The conversation as it is to be sent, and what was done to it.
    Done {
        /// The conversation; unchanged, its text is the original.
        conversation: Conversation,
        /// What happened.
        report: Report,
    },
    /// A summary is missing: make it, record it, apply the chain again.
    Ask(Ask),
}

/// Why a conversation must not be sent.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Refusal {
    /// It does not fit.
    #[error(transparent)]
    ContextLength(#[from] ContextLength),
    /// It cannot be counted.
    #[error(transparent)]
    Count(#[from] CountError),
}

/// A conversation that cannot be made to fit, in exact tokens. Clients know an overflow by its first words.
#[derive(Debug, Clone, Serialize, thiserror::Error)]
#[error(
    "the prompt is too long: it has {prompt} tokens and may have {budget}; the window is {window} and {reserved} are \
     reserved for the output; {unremovable} of them cannot be dropped"
)]
pub struct ContextLength {
    /// Tokens of the prompt as it reached the guard.
    pub prompt: Tokens,
    /// Tokens it may have: the window less what is reserved, or the ceiling of `reject_over`.
    pub budget: Tokens,
    /// The context window.
    pub window: Tokens,
    /// Tokens kept for the output.
    pub reserved: Tokens,
    /// Tokens of the part that is never dropped.
    pub unremovable: Tokens,
    /// What the chain did before it refused.
    pub report: Box<Report>,
}

/// Steps in order, ready to be applied.
#[derive(Debug, Clone)]
pub struct Chain {
    name: String,
    steps: Vec<Step>,
    guard: FitContext,
    reserve: Option<ReserveOutput>,
    summarize: Option<Summarize>,
    originals: bool,
}

impl Chain {
    /// A chain of these steps, as [`crate::resolve`] gives them. Without steps it changes and refuses nothing.
    #[must_use]
    pub fn build(name: impl Into<String>, steps: &[Step]) -> Self {
        let guard = steps.iter().find_map(|step| match step {
            Step::FitContext(params) => Some(*params),
            _ => None,
        });
        let reserve = steps.iter().find_map(|step| match step {
            Step::ReserveOutput(params) => Some(*params),
            _ => None,
        });
        let summarize = steps.iter().find_map(|step| match step {
            Step::Summarize(params) => Some(params.clone()),
            _ => None,
        });
        let guard = guard.unwrap_or_default();
        Self { name: name.into(), steps: steps.to_vec(), guard, reserve, summarize, originals: false }
    }

    /// Whether shortened tool results name their originals by id: only where somebody keeps them.
    #[must_use]
    pub fn naming_originals(self, kept: bool) -> Self {
        Self { originals: kept, ..self }
    }

    /// The policy's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Who writes its summaries; none where it makes none.
    #[must_use]
    pub fn summariser(&self) -> Option<&Summariser> {
        self.summarize.as_ref().map(|params| &params.with)
    }

    /// The steps in order.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Whether a conversation may be near enough to its next cut that [`ahead`](Self::ahead) finds it settled.
    #[must_use]
    pub fn nears_cut(&self, report: &Report) -> bool {
        self.plans() && report.tokens_after > self.guard.marks(report.budget).low
    }

    fn plans(&self) -> bool {
        self.summarize.as_ref().is_some_and(Summarize::plans)
    }

    /// Whether the prompt that the next cut will leave is to be computed before it comes.
    #[must_use]
    pub fn prefills_ahead(&self) -> bool {
        self.summarize.as_ref().is_some_and(|params| params.prefill_ahead)
    }

    /// Applies the steps in order.
    ///
    /// # Errors
    /// The conversation cannot be counted, or cannot be made to fit.
    pub fn apply(&self, conversation: &Conversation, context: &Context) -> Result<Verdict, Refusal> {
        let mut verdict = match self.guard.cuts {
            Cuts::Tokens => self.run(conversation, context, &Waits::default(), false)?,
            Cuts::Costed => costed::apply(self, conversation, context)?,
        };
        if let Verdict::Done { conversation, report } = &mut verdict {
            self.tell_residency(conversation, report, context.counter);
        }
        Ok(verdict)
    }

    /// Says how much of the prompt as it is sent is held, where a step has a use for it.
    fn tell_residency(&self, sent: &Conversation, report: &mut Report, counter: &dyn CountTokens) {
        let alert = self.steps.iter().find_map(|step| match step {
            Step::GrowthAlert(params) => Some(*params),
            _ => None,
        });
        if alert.is_none() && self.guard.cuts == Cuts::Tokens {
            return;
        }
        let Some(held) = counter.resident(sent) else { return };
        report.limits.resident_prefix = Some(held);
        let lost = alert.and_then(|params: GrowthAlert| params.reuse(sent, held, counter));
        let row = report.rows.iter_mut().find(|row| row.policy == "growth_alert");
        if let (Some(row), Some(reason)) = (row, lost) {
            row.alert("reuse", &reason);
        }
    }

    /// Applies the steps as if the next cut came now: what it would leave, or the summary to be written for it. None
    /// where it is not settled yet what that cut drops.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn ahead(&self, conversation: &Conversation, context: &Context) -> Result<Option<Verdict>, Refusal> {
        if !self.plans() {
            return Ok(None);
        }
        let waits = match self.guard.cuts {
            Cuts::Tokens => Waits::default(),
            Cuts::Costed => costed::recorded(self, conversation, context),
        };
        let verdict = self.run(conversation, context, &waits, true)?;
        let planned = match &verdict {
            Verdict::Ask(_) => true,
            Verdict::Done { report, .. } => {
                report.rows.iter().any(|row| row.policy == "summarize" && row.outcome == Outcome::Applied)
            }
        };
        Ok(planned.then_some(verdict))
    }

    /// The guard that stands last.
    pub(crate) fn guard(&self) -> FitContext {
        self.guard
    }

    /// Applies the steps, with cuts that wait where `waits` says so.
    pub(crate) fn run(
        &self,
        conversation: &Conversation,
        context: &Context,
        waits: &Waits,
        ahead: bool,
    ) -> Result<Verdict, Refusal> {
        let tokens = context.counter.prompt(conversation)?;
        let mut run = Run {
            chain: self,
            context,
            waits,
            ahead,
            weights: Weights::new(context.counter),
            conversation: conversation.clone(),
            tokens,
            reserve: None,
            ceiling: Tokens::MAX,
            trailing: None,
            rows: Vec::with_capacity(self.steps.len()),
        };
        for step in &self.steps {
            if let Some(ask) = run.step(step, conversation, tokens)? {
                return Ok(Verdict::Ask(ask));
            }
        }
        run.settle_reserve()?;
        run.settle_trailing()?;
        let report = run.report(conversation, tokens);
        Ok(Verdict::Done { conversation: run.conversation, report })
    }
}

#[cfg(test)]
#[path = "chain_tests.rs"]
mod tests;
