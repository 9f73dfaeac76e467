//! Answers how many tokens a conversation has, as the policy would send it.

use http::Response;
use plimsoll_policies::{CountTokens, Report};
use serde_json::json;

use crate::admit::{AdmitFault, Counting};
use crate::body::Body;
use crate::config::Mode;
use crate::identify::Api;
use crate::inquiry::{self, Inquiry};
use crate::respond;
use crate::stamp;

/// Counts by the engine that would run it.
pub(super) fn answer(counting: &Counting) -> Result<Response<Body>, AdmitFault> {
    let Counting { engine, envelope, report, conversation } = counting;
    let before = match report {
        Some(Report { tokens_before, .. }) => *tokens_before,
        None => engine
            .counter
            .prompt(conversation)
            .map_err(|error| AdmitFault { param: "messages", why: error.into() })?,
    };
    let sent = report.as_ref().filter(|_| envelope.mode == Mode::Enforce);
    let tokens = sent.map_or(before, |report| report.tokens_after);
    if envelope.api == Api::Inquiry(Inquiry::Tokenize) {
        let ids = engine.counter.ids(conversation);
        let ids = ids.map_err(|error| AdmitFault { param: "messages", why: error.into() })?;
        let mut response = respond::json(&inquiry::counted(engine, &ids, None));
        response.headers_mut().extend(stamp::stamp(envelope, report.as_ref()));
        return Ok(response);
    }
    let before = envelope.edited.as_ref().map_or(before, |edited| edited.tokens_before);
    let answer = envelope.original.as_ref().map(|original| original.counted(tokens, before));
    let mut response = respond::json(&answer.unwrap_or_else(|| json!({"input_tokens": tokens})));
    response.headers_mut().extend(stamp::stamp(envelope, report.as_ref()));
    Ok(response)
}
