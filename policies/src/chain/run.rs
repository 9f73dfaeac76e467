//! One pass of a chain over a conversation.

use crate::config::Step;
use crate::conversation::Conversation;
use crate::costed::Waits;
use crate::report::{Outcome, Report, Row};
use crate::reserve_output::Reserve;
use crate::summaries::Ask;
use crate::tokens::{CountError, Tokens};
use crate::trailing::Trailing;
use crate::weights::Weights;
use crate::{
    cap_tool_output, clear_thinking, clear_tool_uses, dedupe, drop_images, fit_context, growth_alert,
    memory_budget, normalize_prefix, rag_budget, reject_over, reserve_output, summarize, trim_turns,
};

use super::{Chain, Change, Context, ContextLength, Effect, Refusal, Rejection, Snapshot};

/// A conversation on its way through the steps.
pub(super) struct Run<'a> {
    pub(super) chain: &'a Chain,
    pub(super) context: &'a Context<'a>,
    pub(super) waits: &'a Waits,
    pub(super) ahead: bool,
    pub(super) weights: Weights<'a>,
    pub(super) conversation: Conversation,
    pub(super) tokens: Tokens,
    pub(super) reserve: Option<Reserve>,
    /// What `memory_budget` allows prompt and output together.
    pub(super) ceiling: Tokens,
    /// What is added to the last user message in the end.
    pub(super) trailing: Option<Trailing>,
    pub(super) rows: Vec<Row>,
}

impl Run<'_> {
    pub(super) fn step(
        &mut self,
        step: &Step,
        original: &Conversation,
        tokens_before: Tokens,
    ) -> Result<Option<Ask>, Refusal> {
        if step.needs_budget() {
            self.settle_reserve()?;
        }
        let effect = match step {
            // Settled when the first step asks for the budget: what a cap saves may make room for the output.
            Step::ReserveOutput(_) => Effect::Unchanged(String::new()),
            Step::NormalizePrefix(params) => normalize_prefix::apply(params, &self.snapshot()),
            Step::CapToolOutput(params) => cap_tool_output::apply(params, &self.snapshot()),
            Step::ClearToolUses(params) => clear_tool_uses::apply(params, &self.snapshot()),
            Step::ClearThinking(params) => clear_thinking::apply(*params, &self.snapshot()),
            Step::Dedupe(params) => dedupe::apply(params, &self.snapshot()),
            Step::RagBudget(params) => rag_budget::apply(params, &self.snapshot()),
            Step::GrowthAlert(params) => growth_alert::apply(*params, &self.snapshot()),
            Step::MemoryBudget(params) => {
                memory_budget::apply(*params, self.plain_reserve(), &self.snapshot())
            }
            Step::DropImages(params) => drop_images::apply(*params, &self.snapshot()),
            Step::TrimTurns(params) => trim_turns::apply(*params, &self.snapshot()),
            Step::Summarize(params) => summarize::apply(params, &self.snapshot()),
            Step::RejectOver(params) => reject_over::apply(*params, &self.snapshot()),
            Step::FitContext(params) => fit_context::apply(*params, &self.snapshot()),
        };
        match effect {
            Effect::Unchanged(reason) => self.row(step, Outcome::Unchanged, reason),
            Effect::Failed(reason) => self.row(step, Outcome::Failed, reason),
            Effect::Changed(change) => drop(self.keep_or_undo(step, change)),
            Effect::Trailing(change, text) => self.keep_with_trailing(step, change, text),
            Effect::Ceiling(tokens, reason) => {
                self.lower(tokens);
                self.row(step, Outcome::Unchanged, reason);
            }
            Effect::Alert(kinds, reason) => self.alert(step, kinds, reason),
            Effect::Ask(ask) => return Ok(Some(ask)),
            Effect::Reject(rejection) => {
                self.row(step, Outcome::Rejected, rejection.reason.clone());
                return Err(self.refusal(&rejection, original, tokens_before));
            }
        }
        Ok(None)
    }

    fn snapshot(&self) -> Snapshot<'_> {
        let reserve = self.reserve.unwrap_or_else(|| self.plain_reserve());
        let trailing = self.trailing.as_ref().map_or(0, Trailing::room);
        Snapshot {
            conversation: &self.conversation,
            tokens: self.tokens,
            limits: self.context.limits,
            room: self.room(),
            trailing,
            marks: self.chain.guard.marks(reserve.budget.saturating_sub(trailing)),
            waits: self.waits,
            summary: self
                .chain
                .summarize
                .as_ref()
                .map(|params| params.max_tokens_for(self.context.limits.window)),
            weights: &self.weights,
            counter: self.context.counter,
            summaries: self.context.summaries,
            originals: self.chain.originals,
            ahead: self.ahead,
        }
    }

    fn room(&self) -> Tokens {
        self.ceiling.min(self.context.limits.window)
    }

    fn plain_reserve(&self) -> Reserve {
        let params = self.chain.reserve.unwrap_or_default();
        params.reserve(self.room(), self.conversation.output_limit())
    }

    fn lower(&mut self, ceiling: Tokens) {
        self.ceiling = self.ceiling.min(ceiling);
        let room = self.room();
        if let Some(reserve) = &mut self.reserve {
            reserve.budget = reserve.budget.min(room.saturating_sub(reserve.reserved));
        }
    }

    fn alert(&mut self, step: &Step, kinds: Vec<&'static str>, reason: String) {
        self.row(step, Outcome::Alert, reason);
        if let Some(row) = self.rows.last_mut() {
            row.alerts = kinds;
        }
    }

    /// Fixes the budget, with a smaller output limit where the one asked for cannot be had.
    pub(super) fn settle_reserve(&mut self) -> Result<(), CountError> {
        if self.reserve.is_some() {
            return Ok(());
        }
        let plain = self.plain_reserve();
        let clamped = match self.chain.reserve {
            Some(params) => reserve_output::clamp(params, self.chain.guard, &self.snapshot())?,
            None => None,
        };
        let row = self.rows.iter_mut().find(|row| row.policy == "reserve_output");
        let reserve = clamped.unwrap_or(plain);
        if let Some(row) = row {
            row.reason = reserve.reason(self.conversation.output_limit());
            if clamped.is_some() {
                (row.outcome, row.messages) = (Outcome::Applied, 1);
            }
        }
        if clamped.is_some() {
            self.conversation = self.conversation.with_output_limit(reserve.reserved);
        }
        self.reserve = Some(reserve);
        Ok(())
    }

    /// What leaves the instructions is said elsewhere, or it stays there.
    fn keep_with_trailing(&mut self, step: &Step, change: Change, text: String) {
        let trailing = Trailing::measured(text, &change.conversation, self.context.counter);
        let Some(trailing) = trailing else {
            return self.row(
                step,
                Outcome::Failed,
                "no user message has room for what would move".to_owned(),
            );
        };
        if self.keep_or_undo(step, change) {
            self.trailing = Some(trailing);
        }
    }

    /// Adds what was moved to the last user message that is left.
    pub(super) fn settle_trailing(&mut self) -> Result<(), CountError> {
        if let Some(trailing) = self.trailing.take() {
            self.conversation = trailing.added(&self.conversation);
            self.tokens = self.context.counter.prompt(&self.conversation)?;
        }
        Ok(())
    }

    /// Whether it was kept.
    fn keep_or_undo(&mut self, step: &Step, change: Change) -> bool {
        let measured = change.tokens.map_or_else(|| self.context.counter.prompt(&change.conversation), Ok);
        let after = match measured {
            Ok(after) => after,
            Err(error) => {
                self.row(step, Outcome::Failed, error.to_string());
                return false;
            }
        };
        if after > self.tokens && !change.may_grow {
            let reason = format!("{}; undone: {after} tokens instead of {}", change.reason, self.tokens);
            self.row(step, Outcome::Undone, reason);
            return false;
        }
        let kept = prefix_kept(&self.conversation, &change.conversation);
        let before = std::mem::replace(&mut self.tokens, after);
        self.conversation = change.conversation;
        // What it edits may all have been cleared or dropped by now.
        let outcome = if change.touched == 0 { Outcome::Unchanged } else { Outcome::Applied };
        self.row(step, outcome, change.reason);
        if let Some(row) = self.rows.last_mut() {
            row.messages = change.touched;
            row.tokens_before = before;
            row.prefix_kept = kept;
            row.tool = change.tool;
        }
        true
    }

    fn row(&mut self, step: &Step, outcome: Outcome, reason: String) {
        self.rows.push(Row {
            policy: step.name(),
            action: step.action(),
            messages: 0,
            tokens_before: self.tokens,
            tokens_after: self.tokens,
            reason,
            prefix_kept: self.conversation.messages().len(),
            outcome,
            tool: None,
            alerts: Vec::new(),
        });
    }

    fn refusal(&self, rejection: &Rejection, original: &Conversation, tokens_before: Tokens) -> Refusal {
        let report = self.report(original, tokens_before);
        let (window, reserved) = (report.window, report.reserved);
        let budget = rejection.ceiling.unwrap_or(report.budget);
        let trailing = self.trailing.as_ref().map_or(0, Trailing::room);
        let (prompt, unremovable) = (self.tokens + trailing, rejection.unremovable + trailing);
        let report = Box::new(report);
        ContextLength { prompt, budget, window, reserved, unremovable, report }.into()
    }

    pub(super) fn report(&self, original: &Conversation, tokens_before: Tokens) -> Report {
        let reserve = self.reserve.unwrap_or_else(|| self.plain_reserve());
        Report {
            policy: self.chain.name.clone(),
            window: self.room(),
            limits: self.context.limits,
            budget: reserve.budget,
            reserved: reserve.reserved,
            tokens_before,
            tokens_after: self.tokens,
            messages_before: original.messages().len(),
            messages_after: self.conversation.messages().len(),
            estimated: self.context.counter.estimated(),
            tokenizer: self.context.counter.name().to_owned(),
            rows: self.rows.clone(),
        }
    }
}

/// Leading messages that are the same in both.
fn prefix_kept(before: &Conversation, after: &Conversation) -> usize {
    let pairs = before.messages().iter().zip(after.messages());
    pairs.take_while(|(before, after)| before.is(after)).count()
}
