//! The `x-plimsoll-*` headers: what a response tells of its governance.

use http::{HeaderMap, HeaderName, HeaderValue};
use plimsoll_policies::Report;

use crate::config::Mode;
use crate::live::mode_name;
use crate::parse::Envelope;

const ROUTE: HeaderName = HeaderName::from_static("x-plimsoll-route");
const POLICY: HeaderName = HeaderName::from_static("x-plimsoll-policy");
const MODE: HeaderName = HeaderName::from_static("x-plimsoll-mode");
const BEFORE: HeaderName = HeaderName::from_static("x-plimsoll-tokens-before");
const AFTER: HeaderName = HeaderName::from_static("x-plimsoll-tokens-after");
const ACTIONS: HeaderName = HeaderName::from_static("x-plimsoll-actions");
const ALERTS: HeaderName = HeaderName::from_static("x-plimsoll-alerts");
const ESTIMATED: HeaderName = HeaderName::from_static("x-plimsoll-tokens-estimated");
const WOULD_AFTER: HeaderName = HeaderName::from_static("x-plimsoll-would-tokens-after");
const RESUMED: HeaderName = HeaderName::from_static("x-plimsoll-resumed");
const UNGOVERNED: HeaderName = HeaderName::from_static("x-plimsoll-ungoverned");
const TOTAL_BYTES: HeaderName = HeaderName::from_static("x-plimsoll-total-bytes");
const NEXT_OFFSET: HeaderName = HeaderName::from_static("x-plimsoll-next-offset");
const SHIFT: HeaderName = HeaderName::from_static("x-plimsoll-context-shift");
const WOULD_ACTIONS: HeaderName = HeaderName::from_static("x-plimsoll-would-actions");

/// The headers of an answer.
pub fn stamp(envelope: &Envelope, report: Option<&Report>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    text(&mut headers, ROUTE, &envelope.route.name);
    headers.insert(MODE, HeaderValue::from_static(mode_name(envelope.mode)));
    if let Some(how) = envelope.resumed {
        headers.insert(RESUMED, HeaderValue::from_static(how));
    }
    if let Some(field) = envelope.ungoverned {
        headers.insert(UNGOVERNED, HeaderValue::from_static(field));
    }
    if envelope.mode == Mode::Off {
        return headers;
    }
    text(&mut headers, POLICY, &envelope.route.policy);
    if let Some(report) = report {
        counts(&mut headers, report, envelope.mode);
    }
    headers
}

/// Whether an answer went on past its window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shifted {
    /// It may, and its head goes out before.
    Perhaps,
    /// It did: so many tokens were dropped for it.
    Dropped(u64),
}

/// The header of an answer that goes on past its window: `possible`, or `dropped=512` tokens.
pub fn shifted(how: Shifted) -> (HeaderName, HeaderValue) {
    let value = match how {
        Shifted::Perhaps => HeaderValue::from_static("possible"),
        Shifted::Dropped(tokens) => HeaderValue::try_from(format!("dropped={tokens}"))
            .unwrap_or_else(|_| HeaderValue::from_static("dropped")),
    };
    (SHIFT, value)
}

/// The headers of a part of an original: how long the whole is, and where the next part begins.
pub fn part(total: usize, next: Option<usize>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(TOTAL_BYTES, total.into());
    if let Some(next) = next {
        headers.insert(NEXT_OFFSET, next.into());
    }
    headers
}

/// Whether content was taken out of what runs.
pub fn compacted(mode: Mode, report: Option<&Report>) -> bool {
    mode == Mode::Enforce && report.is_some_and(|report| report.tokens_after < report.tokens_before)
}

fn counts(headers: &mut HeaderMap, report: &Report, mode: Mode) {
    headers.insert(BEFORE, report.tokens_before.into());
    if mode == Mode::Enforce {
        headers.insert(AFTER, report.tokens_after.into());
        text(headers, ACTIONS, &actions(report));
    } else {
        // In shadow mode what came in is what ran.
        headers.insert(AFTER, report.tokens_before.into());
        text(headers, ACTIONS, "none");
        headers.insert(WOULD_AFTER, report.tokens_after.into());
        text(headers, WOULD_ACTIONS, &actions(report));
    }
    let alerts: Vec<&str> = report.alerts().map(|(kind, _)| kind).collect();
    if !alerts.is_empty() {
        text(headers, ALERTS, &alerts.join(", "));
    }
    if report.estimated {
        headers.insert(ESTIMATED, HeaderValue::from_static("true"));
    }
}

/// `cap_tool_output=3, trim_turns=12`, or `none`.
pub fn actions(report: &Report) -> String {
    let actions: Vec<_> =
        report.actions().into_iter().map(|(policy, messages)| format!("{policy}={messages}")).collect();
    if actions.is_empty() { "none".to_owned() } else { actions.join(", ") }
}

/// Names come from the config, which allows what a header cannot hold: such a name is left out.
fn text(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
