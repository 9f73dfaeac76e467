//! What a summary says.

use crate::chain::Snapshot;
use crate::conversation::Message;
use crate::extract::{also_named, extract, identifiers};
use crate::summaries::{Ask, Recorded, SUMMARY_HEADER, SpanKey, Summariser, body_of, with_header};
use crate::tokens::Tokens;

use super::epochs::{Epoch, History};
use super::{OnFailure, Place, Summarize};

/// The summary after the last epoch.
pub(super) struct Written {
    /// Below the header; empty where there is nothing to say.
    pub(super) body: String,
    /// Who wrote it.
    pub(super) by: &'static str,
}

/// Writes the summary of the last epoch, or says what must be asked first.
pub(super) fn write(
    params: &Summarize,
    snapshot: &Snapshot,
    history: &History,
    place: Place,
) -> Result<Written, Box<Ask>> {
    let writer = Writer { params, snapshot, anchor: history.anchor, place };
    let keys = writer.keys(history);
    let finished = writer.finished(history, &keys);
    let known = |index: &usize| match snapshot.summaries.get(&finished[*index]) {
        Some(Recorded::Text(text)) => Some((*index + 1, text)),
        _ => None,
    };
    let newest = keys.len().saturating_sub(1);
    // A cut moves the prefix: the time to try again what failed before it.
    let again = (0..newest).find(|index| known(&newest).is_none() && writer.may_pass(history, &keys, *index));
    let start = (0..again.unwrap_or(keys.len())).rev().find_map(|index| known(&index));
    let (start, mut body) = start.unwrap_or_else(|| (0, history.previous.clone().unwrap_or_default()));
    for index in start..keys.len() {
        body = writer.next(&history.epochs[index], &keys[index], body, index < newest)?;
        snapshot.summaries.record(&finished[index], &body);
    }
    let last = history.epochs.iter().zip(&keys).next_back();
    Ok(Written { body, by: last.map_or("", |(epoch, key)| writer.author(epoch, key)) })
}

/// The most valuable part of a summary, for a turn that leaves it at most `limit` tokens.
pub(super) fn shortened(params: &Summarize, snapshot: &Snapshot, body: &str, limit: Tokens) -> String {
    let nothing_new = Epoch { span: Vec::new(), tokens: 0, limit };
    Writer { params, snapshot, anchor: None, place: Place::Message }.extracted(&nothing_new, body)
}

/// A text that ends in a summary: what it says itself, and what the summary says.
pub(super) fn merged(text: &str) -> Option<(&str, &str)> {
    let at = text.rfind(&format!("\n\n{SUMMARY_HEADER}\n"))?;
    Some((&text[..at], body_of(&text[at + 2..])?))
}

struct Writer<'a> {
    params: &'a Summarize,
    snapshot: &'a Snapshot<'a>,
    /// Slot of the message that the summary follows.
    anchor: Option<usize>,
    place: Place,
}

impl Writer<'_> {
    /// A key for each epoch over all that its summary is made of: each holds the one before it.
    fn keys(&self, history: &History) -> Vec<SpanKey> {
        let (with, upstream) = match &self.params.with {
            Summariser::Extract => ("extract", ""),
            Summariser::Engine => ("engine", ""),
            Summariser::Upstream(name) => ("upstream", name.as_str()),
        };
        let model = self.params.model.as_deref().unwrap_or_default();
        let previous = history.previous.as_deref().unwrap_or_default();
        let by = [with, upstream, model, previous].map(str::as_bytes);
        let mut key = SpanKey::of([b"plimsoll summarize 2".as_slice()].into_iter().chain(by));
        let next = |epoch: &Epoch| {
            let limit = epoch.limit.to_le_bytes();
            let span = epoch.span.iter().map(|message| message.json().as_bytes());
            key = SpanKey::of([key.as_bytes().as_slice(), &limit].into_iter().chain(span));
            key
        };
        history.epochs.iter().map(next).collect()
    }

    /// Where the finished texts are remembered: checked, completed and within their limits. What stands in for a
    /// failure has a place of its own, and so has all that is built on it.
    fn finished(&self, history: &History, keys: &[SpanKey]) -> Vec<SpanKey> {
        let Summarize { verify, on_failure, .. } = *self.params;
        let numbers = [verify.to_bits(), self.min_span(), on_failure as u64];
        let numbers: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        let name = self.snapshot.counter.name().as_bytes();
        let mut last = SpanKey::of([b"plimsoll finished summary 1".as_slice(), name, &numbers]);
        let next = |(epoch, key): (&Epoch, &SpanKey)| {
            let failed = self.by_model(epoch) && self.failed(key);
            last = SpanKey::of([last.as_bytes().as_slice(), key.as_bytes(), &[u8::from(failed)]]);
            last
        };
        history.epochs.iter().zip(keys).map(next).collect()
    }

    fn failed(&self, key: &SpanKey) -> bool {
        matches!(self.snapshot.summaries.get(key), Some(Recorded::Failed { .. }))
    }

    /// Whether a model failed at this epoch for a reason that may be gone.
    fn may_pass(&self, history: &History, keys: &[SpanKey], index: usize) -> bool {
        let passing = Some(Recorded::Failed { passing: true });
        self.by_model(&history.epochs[index]) && self.snapshot.summaries.get(&keys[index]) == passing
    }

    fn min_span(&self) -> Tokens {
        self.params.min_span_for(self.snapshot.limits.window, self.snapshot.marks)
    }

    /// Whether a model is to write this one.
    fn by_model(&self, epoch: &Epoch) -> bool {
        self.params.with.is_model() && epoch.tokens >= self.min_span()
    }

    fn author(&self, epoch: &Epoch, key: &SpanKey) -> &'static str {
        match (self.by_model(epoch), self.params.on_failure) {
            (false, _) => "by extract",
            (true, OnFailure::Extract) if self.failed(key) => "by extract: the model failed",
            (true, OnFailure::Trim) if self.failed(key) => "without the last span: the model failed",
            (true, _) => "by the model",
        }
    }

    /// The summary after an epoch; `earlier`: the prompts of its time are out of use.
    fn next(
        &self,
        epoch: &Epoch,
        key: &SpanKey,
        previous: String,
        earlier: bool,
    ) -> Result<String, Box<Ask>> {
        if !self.by_model(epoch) {
            return Ok(self.extracted(epoch, &previous));
        }
        match (self.snapshot.summaries.get(key), self.params.on_failure) {
            (Some(Recorded::Text(text)), _) => Ok(self.checked(epoch, &previous, &text)),
            (Some(Recorded::Failed { passing: true }), _) if earlier => {
                Err(self.ask(epoch, key, previous, true))
            }
            (Some(Recorded::Failed { .. }), OnFailure::Extract) => Ok(self.extracted(epoch, &previous)),
            (Some(Recorded::Failed { .. }), OnFailure::Trim) => Ok(previous),
            (None, _) => Err(self.ask(epoch, key, previous, false)),
        }
    }

    fn ask(&self, epoch: &Epoch, key: &SpanKey, previous: String, again: bool) -> Box<Ask> {
        let previous = Some(previous).filter(|text| !text.is_empty());
        Box::new(Ask {
            key: *key,
            with: self.params.with.clone(),
            model: self.params.model.clone(),
            head: self.head(previous.as_deref()),
            tools: self.snapshot.conversation.tools().map(str::to_owned),
            span: epoch.span.clone(),
            alternate: self.place == Place::PinnedUser,
            previous,
            // A quarter is left for what it may forget.
            max_tokens: (self.room(epoch) * 3 / 4).max(1),
            timeout: self.params.timeout.0,
            again,
        })
    }

    /// The instructions, the pinned user message and the summary before this one, as they were sent.
    fn head(&self, previous: Option<&str>) -> Vec<Message> {
        let is_anchor = |message: &Message| self.anchor.is_some() && message.slot() == self.anchor;
        let leading = |message: &&Message| message.role().is_system() || is_anchor(message);
        let mut head: Vec<Message> =
            self.snapshot.conversation.messages().iter().take_while(leading).cloned().collect();
        let Some(previous) = previous else { return head };
        let summary = with_header(previous);
        match head.pop_if(|last| self.place == Place::PinnedUser && is_anchor(last)) {
            Some(last) => {
                let own = merged(last.text()).map_or(last.text(), |(own, _)| own);
                head.push(Message::user(&format!("{own}\n\n{summary}")));
            }
            None => head.push(Message::user(&summary)),
        }
        head
    }

    /// Tokens below the header.
    fn room(&self, epoch: &Epoch) -> Tokens {
        epoch.limit.saturating_sub(self.weigh(""))
    }

    fn weigh(&self, body: &str) -> Tokens {
        self.snapshot.counter.messages(&[Message::user(&with_header(body))])
    }

    /// The built-in summary of a span and the summary before it.
    fn extracted(&self, epoch: &Epoch, previous: &str) -> String {
        let previous = Some(previous).filter(|text| !text.is_empty());
        let mut room = self.room(epoch);
        let mut body = String::new();
        for _ in 0..3 {
            body = extract(&epoch.span, previous, room, self.snapshot.counter);
            let weight = self.weigh(&body);
            if weight <= epoch.limit {
                break;
            }
            room = room.saturating_sub(weight - epoch.limit);
        }
        self.clipped(if body.is_empty() { previous.unwrap_or_default() } else { &body }, epoch.limit)
    }

    /// A model's summary within its limit; where it names too few identifiers, with lines that hold the missing ones.
    fn checked(&self, epoch: &Epoch, previous: &str, text: &str) -> String {
        let text = text.trim();
        let text = text.strip_prefix(SUMMARY_HEADER).unwrap_or(text).trim();
        let source = Source::new(&epoch.span, previous);
        let missing = source.missing(text);
        if 1.0 - missing.len() as f64 / source.identifiers.len().max(1) as f64 >= self.params.verify {
            return self.clipped(text, epoch.limit);
        }
        // The model had three quarters: what it took beyond them makes room for the ledger.
        let most = epoch.limit - self.room(epoch) / 4;
        let text = self.clipped(text, most.max(self.weigh("")));
        let ledger = self.ledger(epoch, previous, &text);
        self.clipped(&format!("{text}\n{ledger}"), epoch.limit)
    }

    /// Lines of the built-in summary that hold what a text does not name, then the bare identifiers.
    fn ledger(&self, epoch: &Epoch, previous: &str, text: &str) -> String {
        let source = Source::new(&epoch.span, previous);
        let room = epoch.limit.saturating_sub(self.weigh(text));
        let quoted =
            extract(&epoch.span, Some(previous).filter(|p| !p.is_empty()), room, self.snapshot.counter);
        let missing = source.missing(text);
        let names_one = |line: &&str| identifiers(line).iter().any(|name| missing.contains(name));
        let quoted: Vec<&str> = quoted.lines().filter(names_one).collect();
        let quoted = quoted.join("\n");
        let bare = source.missing(&format!("{text}\n{quoted}"));
        let left = room.saturating_sub(self.snapshot.counter.text(&quoted));
        let bare = also_named(&bare, left, self.snapshot.counter);
        [Some(quoted).filter(|lines| !lines.is_empty()), bare]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// As many whole lines as the limit allows; of a single line as many characters.
    fn clipped(&self, body: &str, limit: Tokens) -> String {
        if self.weigh(body) <= limit {
            return body.to_owned();
        }
        let ends: Vec<usize> = body.match_indices('\n').map(|(at, _)| at).collect();
        let lines = ends.partition_point(|end| self.weigh(&body[..*end]) <= limit);
        if lines > 0 {
            return body[..ends[lines - 1]].to_owned();
        }
        let bytes: Vec<usize> = body.char_indices().map(|(at, _)| at).collect();
        let fitting = bytes.partition_point(|at| self.weigh(&body[..*at]) <= limit);
        fitting.checked_sub(1).map(|last| body[..bytes[last]].trim_end().to_owned()).unwrap_or_default()
    }
}

/// What a summary must name.
struct Source<'a> {
    /// Each once, those of users first.
    identifiers: Vec<&'a str>,
}

impl<'a> Source<'a> {
    fn new(span: &'a [Message], previous: &'a str) -> Self {
        let (users, others): (Vec<&Message>, Vec<&Message>) =
            span.iter().partition(|message| message.role() == crate::Role::User);
        let calls = span.iter().flat_map(Message::tool_calls).map(|call| call.arguments.as_str());
        let texts = users.into_iter().chain(others).map(Message::text);
        let mut seen = std::collections::HashSet::new();
        let all = std::iter::once(previous).chain(texts).chain(calls).flat_map(identifiers);
        Self { identifiers: all.filter(|name| seen.insert(*name)).collect() }
    }

    fn missing(&self, text: &str) -> Vec<&'a str> {
        let named: std::collections::HashSet<&str> = identifiers(text).into_iter().collect();
        self.identifiers.iter().filter(|name| !named.contains(*name)).copied().collect()
    }
}
