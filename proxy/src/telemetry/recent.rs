//! The last finished requests and the sums over all of them, for people who look at `/state`. Never message content.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};

use super::record::{Action, Outcome, PolicyFacts, PolicyOutcome, RequestRecord};
use super::request::method_label;

/// Finished requests that are kept.
const KEPT: usize = 64;
/// Tools whose sums are kept.
const TOOLS: usize = 64;

/// One finished request. Names are configured ones, the texts are ours.
#[derive(Debug, Clone, Serialize)]
pub struct RequestSummary {
    /// Our id of the request, as in `x-plimsoll-request-id`.
    pub id: String,
    /// The trace that holds its spans, in hex; nothing where there is none.
    pub trace_id: Option<String>,
    /// When it ended, in milliseconds of Unix time.
    pub ended_ms: u64,
    /// HTTP method.
    pub method: &'static str,
    /// The path's template; nothing where the path is none of ours.
    pub path: Option<&'static str>,
    /// The route that took it.
    #[serde(serialize_with = "text")]
    pub route: Option<Arc<str>>,
    /// The route's policy.
    #[serde(serialize_with = "text")]
    pub policy: Option<Arc<str>>,
    /// `enforce`, `shadow` or `off`.
    pub mode: Option<&'static str>,
    /// Where it went.
    #[serde(serialize_with = "text")]
    pub upstream: Option<Arc<str>>,
    /// The configured model name.
    #[serde(serialize_with = "text")]
    pub model: Option<Arc<str>>,
    /// HTTP status sent to the client.
    pub status: Option<u16>,
    /// `completed`, `rejected`, `failed` or `disconnected`.
    pub outcome: &'static str,
    /// Error code of what was refused or failed.
    pub error: Option<&'static str>,
    /// Prompt tokens as the client sent it.
    pub tokens_before: Option<u64>,
    /// Prompt tokens after the policy; in shadow mode what they would be.
    pub tokens_after: Option<u64>,
    /// Whether the two are estimates.
    pub estimated: bool,
    /// Why the prompt came out as it did, in figures.
    pub context: Option<ContextSummary>,
    /// The rules that fired.
    pub actions: Vec<ActionSummary>,
    /// Prompt tokens that the model reported.
    pub input_tokens: Option<u64>,
    /// Prompt tokens that came from a cache.
    pub cached_tokens: Option<u64>,
    /// Bytes of keys and values that the call held at its end, on the embedded engine.
    pub kv_bytes: Option<u64>,
    /// Bytes of the model's memory when the call was admitted, on the embedded engine.
    pub memory_before_bytes: Option<u64>,
    /// The highest reading during the call.
    pub memory_peak_bytes: Option<u64>,
    /// Tokens generated.
    pub output_tokens: Option<u64>,
    /// Time in the admission queue.
    pub queued_ms: Option<f64>,
    /// From arrival to the first token.
    pub first_token_ms: Option<f64>,
    /// From arrival to the last byte.
    pub took_ms: f64,
}

/// The sizes that a policy worked with.
#[derive(Debug, Clone, Serialize)]
pub struct ContextSummary {
    /// The model's window in tokens.
    pub window: u64,
    /// Tokens that the prompt might have.
    pub budget: u64,
    /// Tokens kept free for the answer.
    pub reserved: u64,
    /// Messages as the client sent them.
    pub messages_before: u64,
    /// Messages after the policy.
    pub messages_after: u64,
    /// Who counted.
    pub tokenizer: String,
    /// `unchanged`, `modified`, `rejected` or `failed_open`.
    pub outcome: &'static str,
    /// Milliseconds that the policy took.
    pub took_ms: f64,
}

/// What one rule did with a request.
#[derive(Debug, Clone, Serialize)]
pub struct ActionSummary {
    /// The rule's name in the configuration.
    pub policy: String,
    /// Messages touched.
    pub messages: u64,
    /// Tokens that left the prompt.
    pub tokens_removed: u64,
    /// Tokens that came into the prompt.
    pub tokens_added: u64,
    /// Why, in words of ours.
    pub reason: String,
    /// The tool whose output was touched, where it was one.
    pub tool: Option<String>,
}

/// Sums over all finished requests since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Requests.
    pub requests: u64,
    /// Requests by how they ended.
    pub by_outcome: BTreeMap<&'static str, u64>,
    /// Prompt tokens that clients sent and that were sent on, whole or cut.
    pub tokens_before: u64,
    /// Prompt tokens that were sent on in their place.
    pub tokens_sent: u64,
    /// Prompt tokens that came from a cache.
    pub tokens_cached: u64,
    /// Tokens removed by each rule, shadow mode left out.
    pub removed_by_action: BTreeMap<String, u64>,
    /// Tokens of tools' outputs that were removed, by tool, shadow mode left out.
    pub removed_by_tool: BTreeMap<String, u64>,
    /// How far our counts were from what models reported, by upstream.
    pub drift_by_upstream: BTreeMap<String, Drift>,
}

/// Prompts that were counted here and by the model, too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Drift {
    /// Requests.
    pub requests: u64,
    /// Tokens of their prompts as counted here.
    pub counted_tokens: u64,
    /// Tokens of the same prompts as the model reported them.
    pub reported_tokens: u64,
}

impl RequestSummary {
    fn of(record: &RequestRecord, took: Duration, trace_id: Option<String>) -> Self {
        let (route, chat) = (record.route.as_ref(), record.chat.as_ref());
        // 0 before: the prompt could not be counted.
        let context = record.context.as_deref().filter(|facts| facts.tokens_before > 0);
        Self {
            id: record.id.clone(),
            trace_id,
            ended_ms: unix_millis(SystemTime::now()),
            method: method_label(&record.method),
            path: record.path,
            route: route.map(|facts| facts.route.clone()),
            policy: route.map(|facts| facts.policy.clone()),
            mode: route.map(|facts| facts.mode),
            upstream: route.map(|facts| facts.upstream.clone()),
            model: route.map(|facts| facts.model.clone()),
            status: record.status,
            outcome: record.outcome.as_str(),
            error: record.error,
            tokens_before: context.map(|facts| facts.tokens_before),
            tokens_after: context.filter(|facts| !refused(facts)).map(|facts| facts.tokens_after),
            estimated: context.is_some_and(|facts| facts.estimated),
            context: context.map(sizes),
            actions: context.map(|facts| facts.actions.iter().map(summary).collect()).unwrap_or_default(),
            input_tokens: chat.and_then(|facts| facts.input_tokens),
            cached_tokens: chat.and_then(|facts| facts.cached_tokens),
            kv_bytes: chat.and_then(|facts| facts.kv).map(|kv| kv.bytes),
            memory_before_bytes: chat.and_then(|facts| facts.memory).map(|memory| memory.before),
            memory_peak_bytes: chat.and_then(|facts| facts.memory).map(|memory| memory.peak),
            output_tokens: chat.and_then(|facts| facts.output_tokens),
            queued_ms: record.queued.map(millis),
            first_token_ms: chat.and_then(|facts| facts.first_token).map(millis),
            took_ms: millis(took),
        }
    }
}

impl Totals {
    fn add(&mut self, record: &RequestRecord) {
        self.requests += 1;
        *self.by_outcome.entry(record.outcome.as_str()).or_default() += 1;
        self.tokens_cached += record.chat.as_ref().and_then(|facts| facts.cached_tokens).unwrap_or_default();
        if let (Some((counted, reported)), Some(route)) = (record.compared(), &record.route) {
            let drift = self.drift_by_upstream.entry(route.upstream.to_string()).or_default();
            drift.requests += 1;
            drift.counted_tokens += counted;
            drift.reported_tokens += reported;
        }
        let sent =
            record.context.as_deref().filter(|facts| record.outcome != Outcome::Rejected && !refused(facts));
        let Some(facts) = sent else { return };
        self.tokens_before += facts.tokens_before;
        self.tokens_sent += facts.sent();
        for action in facts.actions.iter().filter(|_| facts.enforced) {
            *self.removed_by_action.entry(action.policy.clone()).or_default() += action.tokens_removed;
            if let Some(tool) = &action.tool {
                self.offends(tool, action.tokens_removed);
            }
        }
    }
}

impl Totals {
    /// Clients name their tools as they like: only so many are kept, the least of them give way.
    fn offends(&mut self, tool: &str, tokens: u64) {
        if !self.removed_by_tool.contains_key(tool) && self.removed_by_tool.len() >= TOOLS {
            let least = self.removed_by_tool.iter().min_by_key(|(_, removed)| **removed);
            if let Some(least) = least.map(|(tool, _)| tool.clone()) {
                self.removed_by_tool.remove(&least);
            }
        }
        *self.removed_by_tool.entry(tool.to_owned()).or_default() += tokens;
    }
}

fn text<S: Serializer>(text: &Option<Arc<str>>, serializer: S) -> Result<S::Ok, S::Error> {
    text.as_deref().serialize(serializer)
}

fn summary(action: &Action) -> ActionSummary {
    let Action { policy, reason, tokens_removed, tokens_added, messages, tool } = action.clone();
    ActionSummary { policy, messages, tokens_removed, tokens_added, reason, tool }
}

fn sizes(facts: &PolicyFacts) -> ContextSummary {
    ContextSummary {
        window: facts.window,
        budget: facts.budget,
        reserved: facts.reserved,
        messages_before: facts.messages_before,
        messages_after: facts.messages_after,
        tokenizer: facts.tokenizer.clone(),
        outcome: facts.outcome.as_str(),
        took_ms: millis(facts.took),
    }
}

/// A refused prompt has no size after, and was not sent on.
fn refused(facts: &PolicyFacts) -> bool {
    facts.outcome == PolicyOutcome::Rejected
}

/// Milliseconds to three decimals: they are read by people.
pub(super) fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

fn unix_millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// What is kept of finished requests: the last ones, and sums.
#[derive(Default)]
pub(super) struct Recent(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    last: VecDeque<RequestSummary>,
    totals: Totals,
}

impl Recent {
    pub(super) fn finished(&self, record: &RequestRecord, took: Duration, trace_id: Option<String>) {
        let summary = RequestSummary::of(record, took, trace_id);
        let mut kept = self.kept();
        kept.totals.add(record);
        kept.last.truncate(KEPT - 1);
        kept.last.push_front(summary);
    }

    /// The last finished requests, newest first, and the sums, both of the same moment.
    pub(super) fn read(&self) -> (Vec<RequestSummary>, Totals) {
        let kept = self.kept();
        (kept.last.iter().cloned().collect(), kept.totals.clone())
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Figures for people: after a panic elsewhere they are still the best there are.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: usize, enforced: bool) -> RequestRecord {
        let mut record = RequestRecord::new(id.to_string(), http::Method::POST, Some("/v1/chat/completions"));
        record.outcome = Outcome::Completed;
        let action = Action {
            policy: "trim_turns".into(),
            reason: "over budget".into(),
            tokens_removed: 60,
            tokens_added: 0,
            messages: 4,
            tool: None,
        };
        record.context = Some(Arc::new(PolicyFacts {
            window: 200,
            budget: 100,
            reserved: 100,
            tokens_before: 150,
            tokens_after: 90,
            messages_before: 9,
            messages_after: 5,
            estimated: false,
            tokenizer: "demo".into(),
            outcome: PolicyOutcome::Modified,
            error: None,
            actions: vec![action],
            alerts: Vec::new(),
            enforced,
            took: Duration::ZERO,
        }));
        record
    }

    #[test]
    fn the_last_ones_are_kept_newest_first() {
        let recent = Recent::default();
        for id in 0..KEPT + 6 {
            recent.finished(&record(id, true), Duration::from_micros(1500), None);
        }
        let (last, totals) = recent.read();
        assert_eq!((last.len(), totals.requests), (KEPT, KEPT as u64 + 6));
        assert_eq!((last[0].id.as_str(), last[KEPT - 1].id.as_str()), ("69", "6"));
        assert_eq!((last[0].tokens_before, last[0].tokens_after), (Some(150), Some(90)));
        assert_eq!((last[0].took_ms, last[0].actions[0].tokens_removed), (1.5, 60));
    }

    #[test]
    fn tools_are_summed_and_bounded() {
        let mut totals = Totals::default();
        for tool in 0..TOOLS as u64 + 10 {
            totals.offends(&format!("tool-{tool}"), 10 + tool);
        }
        totals.offends("tool-70", 1000);
        assert_eq!((totals.removed_by_tool.len(), totals.removed_by_tool["tool-70"]), (TOOLS, 1080));
        assert!(!totals.removed_by_tool.contains_key("tool-0"), "the least give way");
    }

    #[test]
    fn sums_tell_what_was_sent() {
        let recent = Recent::default();
        recent.finished(&record(1, true), Duration::ZERO, None);
        recent.finished(&record(2, false), Duration::ZERO, None);
        let mut refused = record(3, true);
        refused.outcome = Outcome::Rejected;
        Arc::make_mut(refused.context.as_mut().expect("facts")).outcome = PolicyOutcome::Rejected;
        recent.finished(&refused, Duration::ZERO, None);
        let (last, totals) = recent.read();
        assert_eq!(last[0].tokens_after, None, "a refused prompt has no size after");
        assert_eq!((totals.tokens_before, totals.tokens_sent), (300, 90 + 150));
        assert_eq!(totals.removed_by_action, [("trim_turns".to_owned(), 60)].into());
        assert_eq!(totals.by_outcome, [("completed", 2), ("rejected", 1)].into());
    }
}
