//! Summaries that a policy asks for: written by an embedded engine, or by a server over HTTP.

use std::sync::Arc;

use http::HeaderMap;
use plimsoll_engine::{AdmitError, Event, Finish, Generate, Permit, Sampling, Tag};
use plimsoll_policies::{Ask, Conversation, SUMMARY_HEADER};

use super::Rule;
use super::memo::Failure;
use crate::forward::ask::Question;
use crate::forward::headers::for_own_questions;
use crate::forward::upstream::HttpUpstream;
use crate::identify::Api;
use crate::live::{Embedded, Kind};
use crate::parse::Envelope;
use crate::telemetry::{ChatRequest, Operation, Settings, SummarizeSpan};

/// What the summariser is asked, in the words that the bundled demo model was trained on.
const REQUEST: &str = "Summarise the conversation so far. Keep names, numbers and paths exactly.";

/// What a request lends to the summaries that are written for it.
#[derive(Clone, Default)]
pub(super) struct Caller {
    /// The model it names.
    pub(super) model: Option<String>,
    /// The path it came by, where that is OpenAI's for chats.
    pub(super) path: Option<String>,
    /// Its credentials, which only its own upstream may see.
    pub(super) credentials: HeaderMap,
}

impl Caller {
    pub(super) fn of(envelope: &Envelope, model: Option<String>) -> Self {
        Self {
            model,
            path: (envelope.api == Api::ChatCompletions).then(|| envelope.head.uri.path().to_owned()),
            credentials: for_own_questions(&envelope.head.headers),
        }
    }
}

/// Whether a summary stands in a conversation: the guard may have dropped it again.
pub(super) fn is_in(conversation: &Conversation) -> bool {
    conversation.messages().iter().any(|message| message.json().contains(SUMMARY_HEADER))
}

/// Whether somebody waits for a summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Haste {
    /// A request does.
    Now,
    /// Nobody does: only what is idle is used.
    Idle,
}

/// A summary, and the tokens that its model took for it.
type Written = (String, Option<u64>);

/// Has a summary written, within the time that the policy gives it.
pub(super) async fn write(
    rule: &Rule,
    ask: &Ask,
    span: SummarizeSpan,
    haste: Haste,
) -> Result<String, Failure> {
    let written = match tokio::time::timeout(ask.timeout, written(rule, ask, &span, haste)).await {
        Ok(written) => written.and_then(worded),
        Err(_) => Err(Failure::passing("timeout")),
    };
    match written {
        Ok((text, tokens)) => {
            span.completed(tokens);
            Ok(text)
        }
        Err(failure) => {
            let (code, policy) = (failure.code, &*rule.route.policy);
            tracing::warn!(target: "plimsoll", code, policy, "a summary failed: what `on_failure` says stands in for it");
            span.failed(failure.code);
            Err(failure)
        }
    }
}

async fn written(rule: &Rule, ask: &Ask, span: &SummarizeSpan, haste: Haste) -> Result<Written, Failure> {
    let Some(upstream) = &rule.route.summariser else { return Err(Failure::lasting("no_summariser")) };
    match &upstream.kind {
        Kind::Engine(engine) => by_engine(engine, ask, span, haste).await,
        Kind::Http(server) => {
            let own = Arc::ptr_eq(upstream, &rule.route.upstream);
            by_server(server, ask, span, own.then_some(&rule.caller)).await
        }
    }
}

/// The text without what a model thought before it.
fn worded((text, tokens): Written) -> Result<Written, Failure> {
    let text = text.rsplit_once("</think>").map_or(text.as_str(), |(_, text)| text).trim();
    if text.is_empty() { Err(Failure::lasting("empty")) } else { Ok((text.to_owned(), tokens)) }
}

async fn by_server(
    server: &HttpUpstream,
    ask: &Ask,
    span: &SummarizeSpan,
    caller: Option<&Caller>,
) -> Result<Written, Failure> {
    let model = ask.model.as_deref().or_else(|| caller?.model.as_deref());
    let Some(model) = model else { return Err(Failure::lasting("no_model")) };
    let question = Question {
        path: caller.and_then(|caller| caller.path.as_deref()),
        credentials: caller.map(|caller| caller.credentials.clone()).unwrap_or_default(),
        model,
        messages: &ask.messages(REQUEST),
        tools: ask.tools.as_deref(),
        max_tokens: ask.max_tokens,
    };
    let answer = server.ask(question, span).await?;
    if answer.cut { Err(Failure::lasting("too_long")) } else { Ok((answer.text, answer.tokens)) }
}

async fn by_engine(
    engine: &Arc<Embedded>,
    ask: &Ask,
    span: &SummarizeSpan,
    haste: Haste,
) -> Result<Written, Failure> {
    let prompt = engine.counter.ids_with(&ask.messages(REQUEST), ask.tools.as_deref());
    let prompt = prompt.map_err(|_| Failure::lasting("template"))?;
    let max_tokens = u32::try_from(ask.max_tokens).unwrap_or(u32::MAX);
    let needed = u32::try_from(prompt.len()).unwrap_or(u32::MAX).saturating_add(max_tokens);
    if needed > engine.engine.context() {
        return Err(Failure::lasting("span_too_long"));
    }
    let input_tokens = prompt.len() as u64;
    let room = (prompt.clone(), needed);
    let request = Generate { prompt, max_tokens, sampling: Sampling::greedy(), ..Generate::default() };
    let refused = |error: AdmitError| match error {
        AdmitError::TooLarge { .. } => Failure::lasting("no_memory"),
        _ => Failure::passing("no_memory"),
    };
    // A permit of its own, taken before the call's: two requests cannot wait for each other.
    let permit = match haste {
        Haste::Now => Some(waited(engine, room, span).await.map_err(refused)?),
        Haste::Idle => None,
    };
    let mut call = span.chat(&ChatRequest {
        operation: Operation::Chat,
        provider: "plimsoll",
        model: &engine.name,
        server: None,
        stream: false,
        compacted: false,
        settings: Settings { max_tokens: Some(ask.max_tokens), ..Settings::default() },
    });
    call.facts().input_tokens = Some(input_tokens);
    let tag = call.reference().map(|call| Arc::new(call) as Tag);
    let mut generation = match permit {
        Some(permit) => engine.engine.generate_tagged(request, permit, tag),
        None => engine.engine.prepare(request, None, tag).map_err(refused)?,
    };
    let mut tokens = Vec::new();
    while let Some(event) = generation.next().await {
        match event.map_err(|_| Failure::passing("engine_failed"))? {
            Event::Started { cached, computed, .. } => call.prefill(cached.into(), computed.into()),
            Event::Prefilled => call.prefilled(),
            // Not asked for.
            Event::Logprobs(_) | Event::Shifted { .. } => {}
            Event::Token(token) => {
                call.token();
                tokens.push(token);
            }
            Event::Done { reason: Finish::Length, .. } => return Err(Failure::lasting("too_long")),
            Event::Done { reason: Finish::Cancelled, .. } => return Err(Failure::passing("cancelled")),
            Event::Done { .. } => break,
        }
    }
    call.facts().output_tokens = Some(tokens.len() as u64);
    call.completed();
    Ok((engine.counter.text.decode(&tokens, true), Some(tokens.len() as u64)))
}

async fn waited(
    engine: &Embedded,
    (prompt, tokens): (Arc<[u32]>, u32),
    span: &SummarizeSpan,
) -> Result<Permit, AdmitError> {
    let _waiting = span.wait();
    engine.engine.reserve_for(&prompt, tokens).await
}
