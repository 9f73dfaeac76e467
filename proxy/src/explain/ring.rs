//! Reports of the last requests, to be read by their id. In memory alone, and without content unless it is asked for.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use plimsoll_policies::{Conversation, Refusal, Report};
use serde_json::{Value, json};

use super::{Show, add_content, refused, reported};
use crate::config;

/// What became of one request.
pub struct Entry {
    /// The request's id.
    pub id: String,
    /// The route that took it.
    pub route: Arc<str>,
    /// `enforce`, `shadow` or `off`.
    pub mode: &'static str,
    /// What the policy did, or why it refused.
    pub outcome: Result<Report, Refusal>,
    /// Whether anything of the request was changed.
    pub changed: bool,
    /// What was sent, and what the policy made of it; nothing unless it is captured.
    content: Option<(Conversation, Conversation)>,
    bytes: u64,
}

impl Entry {
    /// A request, and what a policy made of `before`.
    pub fn new(
        id: String,
        route: Arc<str>,
        mode: &'static str,
        before: &Conversation,
        outcome: Result<(&Conversation, &Report), &Refusal>,
    ) -> Self {
        let (outcome, after) = match outcome {
            Ok((after, report)) => (Ok(report.clone()), after),
            Err(refusal) => (Err(refusal.clone()), before),
        };
        let content = Some((before.clone(), after.clone()));
        Self { id, route, mode, outcome, changed: after.is_changed(), content, bytes: 0 }
    }

    /// As `GET /explain/{request-id}` answers.
    pub fn to_json(&self, show: Show) -> Value {
        let mut value = match &self.outcome {
            Ok(report) => reported(&self.route, report, self.changed),
            Err(refusal) => refused(&self.route, refusal),
        };
        value["id"] = self.id.as_str().into();
        value["mode"] = self.mode.into();
        match &self.content {
            Some((before, after)) => add_content(&mut value, before, after, show),
            None if show.messages || show.diff => {
                value["content"] =
                    json!("not kept: set `explain.capture`, such as 64MiB, to keep the text of messages");
            }
            None => {}
        }
        value
    }
}

/// The last requests' reports.
#[derive(Default)]
pub struct Ring(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    /// Newest first.
    last: VecDeque<Arc<Entry>>,
    /// Bytes of the conversations in them.
    captured: u64,
}

impl Ring {
    /// Keeps a request's report, and its content where it is captured; what exceeds the limits goes, oldest first.
    pub fn keep(&self, limits: config::Explain, mut entry: Entry) {
        if limits.keep == 0 {
            return;
        }
        entry.bytes = match &entry.content {
            Some((before, after)) if limits.capture > 0 => {
                let edited = if entry.changed { after.to_json().len() } else { 0 };
                (before.to_json().len() + edited) as u64
            }
            _ => 0,
        };
        if entry.bytes == 0 {
            entry.content = None;
        }
        let mut kept = self.kept();
        kept.captured += entry.bytes;
        kept.last.push_front(Arc::new(entry));
        kept.shrink(limits);
    }

    /// The report of a request.
    pub fn get(&self, id: &str) -> Option<Arc<Entry>> {
        self.kept().last.iter().find(|entry| entry.id == id).cloned()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Figures for people: after a panic elsewhere they are still the best there are.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn shrink(&mut self, limits: config::Explain) {
        while self.last.len() > limits.keep {
            self.captured -= self.last.pop_back().map_or(0, |entry| entry.bytes);
        }
        // Reports stay longer than content does.
        for entry in self.last.iter_mut().rev() {
            if self.captured <= limits.capture {
                break;
            }
            if entry.bytes > 0 {
                self.captured -= entry.bytes;
                *entry = Arc::new(entry.without_content());
            }
        }
    }
}

impl Entry {
    fn without_content(&self) -> Self {
        Self {
            id: self.id.clone(),
            route: self.route.clone(),
            mode: self.mode,
            outcome: self.outcome.clone(),
            changed: self.changed,
            content: None,
            bytes: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use plimsoll_policies::CountError;

    use super::*;

    const CANARY: &str = "tell nobody of the canary";

    fn entry(id: usize) -> Entry {
        let body = json!({"messages": [{"role": "user", "content": CANARY}]}).to_string();
        let before = Conversation::parse_chat(body.into()).expect("a chat request");
        let refusal = Refusal::Count(CountError::new("odd".to_owned()));
        Entry::new(id.to_string(), "r".into(), "enforce", &before, Err(&refusal))
    }

    const SHOW: Show = Show { messages: true, diff: true };

    #[test]
    fn the_last_ones_are_kept_without_content() {
        let ring = Ring::default();
        for id in 0..5 {
            ring.keep(config::Explain { keep: 3, capture: 0 }, entry(id));
        }
        assert!(ring.get("1").is_none() && ring.get("2").is_some());
        let told = ring.get("4").expect("the last one").to_json(SHOW);
        assert!(told["content"].as_str().is_some_and(|text| text.contains("explain.capture")), "{told}");
        assert!(!told.to_string().contains("canary"), "{told}");
        assert!(ring.get("4").expect("the last one").content.is_none());
        ring.keep(config::Explain { keep: 0, capture: 0 }, entry(9));
        assert!(ring.get("9").is_none());
    }

    #[test]
    fn content_is_bounded_by_its_bytes() {
        let ring = Ring::default();
        let one = entry(0).content.map_or(0, |(before, _)| before.to_json().len() as u64);
        for id in 0..5 {
            ring.keep(config::Explain { keep: 4, capture: 2 * one }, entry(id));
        }
        let has = |id: &str| ring.get(id).expect("a report").content.is_some();
        assert_eq!([has("1"), has("2"), has("3"), has("4")], [false, false, true, true]);
        assert_eq!(ring.kept().captured, 2 * one);
        let told = ring.get("4").expect("a report").to_json(SHOW);
        assert_eq!(told["messages"][0]["content"], CANARY);
        assert_eq!(told["diff"], "", "{told}");
        assert!(told["refused"].as_str().is_some_and(|why| why.contains("odd")), "{told}");
        // Switched off, it goes with the next request.
        ring.keep(config::Explain { keep: 4, capture: 0 }, entry(5));
        assert!(!has("4") && ring.kept().captured == 0);
    }
}
