//! The requests in progress, for people who look at `/state`. Never message content.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use serde::Serialize;

use super::recent::millis;
use super::record::RequestRecord;
use super::request::Request;

/// One request in progress.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunningSummary {
    /// Our id of the request.
    pub id: String,
    /// `reading` its body, `queued` for memory, `running`, or `answering`: its answer has begun.
    pub stage: &'static str,
    /// The path's template; nothing where the path is none of ours.
    pub path: Option<&'static str>,
    /// The route that took it.
    pub route: Option<String>,
    /// Where it goes.
    pub upstream: Option<String>,
    /// Prompt tokens as the client sent it.
    pub tokens_before: Option<u64>,
    /// Prompt tokens that are sent on.
    pub tokens_sent: Option<u64>,
    /// Milliseconds since it arrived.
    pub age_ms: f64,
}

impl RunningSummary {
    fn of(record: &RequestRecord) -> Self {
        let route = record.route.as_ref();
        let context = record.context.as_deref().filter(|facts| facts.tokens_before > 0);
        Self {
            id: record.id.clone(),
            stage: stage(record),
            path: record.path,
            route: route.map(|facts| facts.route.to_string()),
            upstream: route.map(|facts| facts.upstream.to_string()),
            tokens_before: context.map(|facts| facts.tokens_before),
            tokens_sent: context.map(super::record::PolicyFacts::sent),
            age_ms: millis(record.started.elapsed()),
        }
    }
}

fn stage(record: &RequestRecord) -> &'static str {
    match record {
        _ if record.waiting => "queued",
        _ if record.status.is_some() => "answering",
        _ if record.route.is_some() => "running",
        _ => "reading",
    }
}

/// The requests in progress. Their holders are elsewhere: here they are only looked at.
#[derive(Default)]
pub(super) struct Running(Mutex<Vec<Weak<Request>>>);

impl Running {
    pub(super) fn began(&self, request: &Arc<Request>) {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // As many are looked through as are in flight, which `limits.requests` bounds; most are gone soon.
        if running.len() == running.capacity() {
            running.retain(|other| other.strong_count() > 0);
        }
        running.push(Arc::downgrade(request));
    }

    pub(super) fn read(&self) -> Vec<RunningSummary> {
        let running = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // Outside the lock: the last holder of a request writes its record when it lets go.
        running
            .iter()
            .filter_map(Weak::upgrade)
            .map(|request| RunningSummary::of(&request.record()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stage_follows_the_record() {
        let mut record = RequestRecord::new("1".to_owned(), http::Method::POST, Some("/v1/chat/completions"));
        assert_eq!(stage(&record), "reading");
        record.waiting = true;
        assert_eq!(stage(&record), "queued");
        record.waiting = false;
        record.status = Some(200);
        let summary = RunningSummary::of(&record);
        assert_eq!((summary.stage, summary.tokens_before, summary.route), ("answering", None, None));
    }
}
