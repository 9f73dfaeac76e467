//! What a policy did, as its span, the metrics and the log are told. Never the text of a message.

use std::time::Duration;

use plimsoll_policies::{Conversation, Outcome, Refusal, Report, Role, Row};

use super::Rule;
use crate::config::Mode;
use crate::telemetry::{Action, Alert, PolicyFacts, PolicyOutcome, Segments};

/// The facts of a policy that ran.
pub(super) fn of(report: &Report, mode: Mode, took: Duration) -> PolicyFacts {
    let actions: Vec<_> =
        report.rows.iter().filter(|row| row.outcome == Outcome::Applied).map(action).collect();
    let failed = report.rows.iter().any(|row| row.outcome == Outcome::Failed);
    let outcome = match actions.is_empty() {
        _ if failed => PolicyOutcome::FailedOpen,
        true => PolicyOutcome::Unchanged,
        false => PolicyOutcome::Modified,
    };
    PolicyFacts {
        window: report.window,
        budget: report.budget,
        reserved: report.reserved,
        tokens_before: report.tokens_before,
        tokens_after: report.tokens_after,
        messages_before: report.messages_before as u64,
        messages_after: report.messages_after as u64,
        estimated: report.estimated,
        tokenizer: report.tokenizer.clone(),
        outcome,
        error: None,
        actions,
        alerts: report.alerts().map(|(kind, reason)| Alert { kind, reason: reason.to_owned() }).collect(),
        enforced: mode != Mode::Shadow,
        took,
    }
}

/// The facts of a policy that refused.
pub(super) fn refused(refusal: &Refusal, rule: &Rule, took: Duration) -> PolicyFacts {
    let empty = nothing(rule, PolicyOutcome::Rejected, took);
    match refusal {
        Refusal::ContextLength(figures) => PolicyFacts {
            window: figures.window,
            budget: figures.budget,
            reserved: figures.reserved,
            tokens_before: figures.prompt,
            tokens_after: figures.prompt,
            error: Some("context_length_exceeded"),
            ..empty
        },
        Refusal::Count(_) => PolicyFacts { error: Some("invalid_messages"), ..empty },
    }
}

/// The facts of a policy that could not run to its end.
pub(super) fn failed(rule: &Rule, took: Duration) -> PolicyFacts {
    PolicyFacts { error: Some("policy_failed"), ..nothing(rule, PolicyOutcome::Rejected, took) }
}

/// What a conversation consists of, in bytes.
pub(super) fn segments(conversation: &Conversation) -> Segments {
    let tools = conversation.tools().map_or(0, str::len) as u64;
    let mut segments = Segments { tools, ..Segments::default() };
    let messages = conversation.messages();
    let last_user = messages.iter().rposition(|message| message.role() == Role::User);
    for (index, message) in messages.iter().enumerate() {
        let segment = match message.role() {
            role if role.is_system() => &mut segments.system,
            Role::Tool => &mut segments.tool_results,
            Role::User if Some(index) == last_user => &mut segments.user,
            _ => &mut segments.history,
        };
        *segment += message.json().len() as u64;
    }
    segments
}

fn nothing(rule: &Rule, outcome: PolicyOutcome, took: Duration) -> PolicyFacts {
    let counter = rule.counter.as_dyn();
    PolicyFacts {
        window: rule.route.window(),
        budget: 0,
        reserved: 0,
        tokens_before: 0,
        tokens_after: 0,
        messages_before: 0,
        messages_after: 0,
        estimated: counter.estimated(),
        tokenizer: counter.name().to_owned(),
        outcome,
        error: None,
        actions: Vec::new(),
        alerts: Vec::new(),
        enforced: rule.mode != Mode::Shadow,
        took,
    }
}

fn action(row: &Row) -> Action {
    Action {
        policy: row.policy.to_owned(),
        reason: row.reason.clone(),
        tokens_removed: row.tokens_before.saturating_sub(row.tokens_after),
        tokens_added: row.tokens_after.saturating_sub(row.tokens_before),
        messages: row.messages as u64,
        tool: row.tool.clone(),
    }
}
