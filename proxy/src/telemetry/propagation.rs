//! W3C trace context in and out of HTTP headers, and baggage in. Baggage goes out only where an upstream's configuration
//! says so, and then as it came.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::baggage::BaggageExt as _;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{SpanContext, TraceContextExt};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::propagation::{BaggagePropagator, TraceContextPropagator};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const BAGGAGE: HeaderName = HeaderName::from_static("baggage");

/// Bytes of a baggage value that become an attribute: ids are short.
const MAX_VALUE: usize = 256;

/// The caller's span, or an invalid one where the headers name none.
pub(super) fn extract(headers: &HeaderMap) -> SpanContext {
    if !headers.contains_key(&TRACEPARENT) {
        return SpanContext::empty_context();
    }
    let found = TraceContextPropagator::new().extract_with_context(&Context::new(), &Incoming::read(headers));
    found.span().span_context().clone()
}

/// The members of the caller's baggage that `allowed` names, as attributes of the same names.
pub(super) fn baggage(headers: &HeaderMap, allowed: &[String]) -> Vec<KeyValue> {
    if allowed.is_empty() || !headers.contains_key(&BAGGAGE) {
        return Vec::new();
    }
    let found = BaggagePropagator::new().extract_with_context(&Context::new(), &Incoming::read(headers));
    let value = |key: &String| {
        let value = found.baggage().get(key)?.as_str();
        let end = value.floor_char_boundary(MAX_VALUE.min(value.len()));
        Some(KeyValue::new(key.clone(), value[..end].to_owned()))
    };
    allowed.iter().filter_map(value).collect()
}

/// Makes `headers` name `span` as the caller. Another trace context in them is removed even where `span` is invalid, so
/// that what was not trusted on the way in is not passed on.
pub(super) fn inject(span: &SpanContext, headers: &mut HeaderMap) {
    headers.remove(&TRACEPARENT);
    headers.remove(&TRACESTATE);
    if !span.is_valid() {
        return;
    }
    headers.insert(TRACEPARENT, traceparent(span));
    if let Ok(state) = HeaderValue::from_str(&span.trace_state().header())
        && !state.is_empty()
    {
        headers.insert(TRACESTATE, state);
    }
}

/// Version 00 of the header. The SDK's propagator goes through a map of strings, which takes three times as long.
fn traceparent(span: &SpanContext) -> HeaderValue {
    let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
    let written = const_hex::encode_to_slice(span.trace_id().to_bytes(), &mut text[3..35])
        .and_then(|()| const_hex::encode_to_slice(span.span_id().to_bytes(), &mut text[36..52]));
    written.expect("ids have the lengths of their fields. This is a bug.");
    text[54] += u8::from(span.is_sampled());
    HeaderValue::from_bytes(&text).expect("hex digits and dashes are a header. This is a bug.")
}

/// The headers, read by the rules of W3C trace context and W3C baggage.
struct Incoming<'a> {
    traceparent: Option<&'a str>,
    tracestate: Option<String>,
    baggage: Option<String>,
}

impl<'a> Incoming<'a> {
    fn read(headers: &'a HeaderMap) -> Self {
        let mut parents = headers.get_all(&TRACEPARENT).iter();
        // More than one traceparent is invalid; more than one of the others is one list.
        let parent = parents.next().filter(|_| parents.next().is_none());
        Self {
            traceparent: parent.and_then(|value| value.to_str().ok()),
            tracestate: list(headers, &TRACESTATE),
            baggage: list(headers, &BAGGAGE),
        }
    }
}

fn list(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let parts: Vec<&str> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    (!parts.is_empty()).then(|| parts.join(","))
}

impl Extractor for Incoming<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            "traceparent" => self.traceparent,
            "tracestate" => self.tracestate.as_deref(),
            "baggage" => self.baggage.as_deref(),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent", "tracestate", "baggage"]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn a_context_survives_the_way_through() {
        let span =
            extract(&headers(&[("traceparent", PARENT), ("tracestate", "a=1"), ("tracestate", "b=2")]));
        let mut out = headers(&[("traceparent", "junk"), ("baggage", "user=1")]);
        inject(&span, &mut out);
        assert_eq!(out["traceparent"], PARENT);
        assert_eq!(out["tracestate"], "a=1,b=2");
        assert_eq!(out["baggage"], "user=1");
    }

    #[test]
    fn invalid_contexts_are_none() {
        for bad in ["", "junk", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", "ff-1-2-3"] {
            assert!(!extract(&headers(&[("traceparent", bad)])).is_valid(), "{bad}");
        }
        assert!(!extract(&headers(&[("traceparent", PARENT), ("traceparent", PARENT)])).is_valid());
    }

    #[test]
    fn only_listed_baggage_is_read() {
        let sent = headers(&[("baggage", "session.id=a%20b;ttl=1,user=xyzzy"), ("baggage", "team=search")]);
        let found = |allowed: &[&str]| -> Vec<String> {
            let allowed: Vec<String> = allowed.iter().map(|&key| key.to_owned()).collect();
            let pair = |pair: KeyValue| format!("{}={}", pair.key, pair.value);
            baggage(&sent, &allowed).into_iter().map(pair).collect()
        };
        assert_eq!(found(&["team", "session.id", "absent"]), ["team=search", "session.id=a b"]);
        assert_eq!(found(&[]), [""; 0]);
    }

    #[test]
    fn a_long_value_is_cut_between_characters() {
        let long = format!("key={}", "é".repeat(1000));
        let sent = HeaderMap::from_iter([(
            HeaderName::from_static("baggage"),
            HeaderValue::from_bytes(long.replace('é', "%C3%A9").as_bytes()).unwrap(),
        )]);
        let [pair] = &baggage(&sent, &["key".to_owned()])[..] else { panic!("one member") };
        assert_eq!(pair.value.as_str(), "é".repeat(MAX_VALUE / 2));
    }

    #[test]
    fn nothing_of_the_caller_is_passed_on_when_there_is_no_span() {
        let mut out = headers(&[("traceparent", PARENT), ("tracestate", "a=1")]);
        inject(&SpanContext::empty_context(), &mut out);
        assert!(out.is_empty());
    }
}
