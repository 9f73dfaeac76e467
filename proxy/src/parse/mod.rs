//! Reads a request's body, chooses its route by model, and makes a typed call of it over the original bytes.

mod call;
mod chat;
mod completion;
mod error;
mod options;

use std::sync::Arc;

use http::request::Parts;
use percent_encoding::percent_decode_str;

use crate::body::{Payload, Unread, full, read_body};
use crate::config::{Mode, OnUnparsable};
use crate::cut::cut;
use crate::dialect::{DialectError, Instead, Original};
use crate::forward::upstream::HttpUpstream;
use crate::identify::{Api, Identified};
use crate::inquiry::{self, Asked, Inquiry};
use crate::kept::{self, KeptError, RESUME, Wanted};
use crate::live::{Embedded, Kind, Live, Route};

pub use call::{Call, Envelope, Input, Loading, Outgoing, Work};
use chat::Read;
pub use chat::{Chat, MessageError};
pub use completion::Prompt;
pub use error::CallError;
pub use options::{CallMode, LONGEST_FORMAT, OptionError, Options, ToolChoice};

/// The caller's wish to be left alone, honoured only where the route allows it.
pub const BYPASS: &str = "x-plimsoll-bypass";

/// Turns an identified request into a call.
pub async fn parse(mut request: Identified) -> Result<Call, CallError> {
    if let Some(wanted) = Wanted::of(&request.head, &request.live.kept)? {
        return Ok(for_kept(request, wanted));
    }
    let resumes = request.head.headers.contains_key(RESUME);
    let saves = request.api == Api::SaveCheckpoint && request.live.kept.checkpoints.is_some();
    // Where no policy runs and no model is asked for, not even the body needs to be read.
    let unread = request.candidates.first().and_then(|route| route.unread());
    if let Some(upstream) = unread.filter(|_| !resumes && !saves) {
        let route = request.candidates.swap_remove(0);
        request.bearer.may_take(&route)?;
        let outgoing = Outgoing::Raw(std::mem::replace(&mut request.body, full("")));
        return Ok(call(request, route, Mode::Off, Work::Send { upstream, outgoing }));
    }
    match request.api {
        Api::Completions | Api::Inquiry(_) | Api::Other if resumes => Err(CallError::ResumesNothing),
        Api::SaveCheckpoint if !saves && resumes => Err(KeptError::from(kept::CheckpointError::Off).into()),
        Api::SaveCheckpoint if !saves => without_body(request),
        Api::Inquiry(inquiry) => ask(request, inquiry).await,
        Api::ChatCompletions
        | Api::SaveCheckpoint
        | Api::Completions
        | Api::OllamaChat
        | Api::OllamaGenerate
        | Api::Messages
        | Api::CountMessages
        | Api::Responses
        | Api::ResponsesInputTokens
        | Api::ResponsesCompact => {
            request.record.record().dialect = Some(request.dialect.as_str());
            let payload = match body(&mut request).await {
                Ok(payload) => payload,
                Err(unread) => return undecodable(request, unread),
            };
            if request.api == Api::Completions {
                completion(request, payload)
            } else {
                chat(request, payload).await
            }
        }
        Api::Models | Api::Artifact | Api::Checkpoints | Api::Other => without_body(request),
    }
}

/// The whole body, decoded.
async fn body(request: &mut Identified) -> Result<Payload, Unread> {
    let body = std::mem::replace(&mut request.body, full(""));
    let limit = usize::try_from(request.live.limits.body).unwrap_or(usize::MAX);
    read_body(&request.head.headers, body, limit).await
}

/// Inquiries are an upstream's to answer, or told of an engine.
async fn ask(mut request: Identified, inquiry: Inquiry) -> Result<Call, CallError> {
    let mut payload = None;
    if inquiry.has_body() {
        payload = match body(&mut request).await {
            Ok(payload) => Some(payload),
            Err(unread) => return undecodable(request, unread),
        };
    }
    if let Some(payload) = payload.as_ref().filter(|_| inquiry == Inquiry::Tokenize)
        && inquiry::has_messages(&payload.decoded)?
    {
        let payload = payload.clone();
        return chat(request, payload).await;
    }
    let model = payload.as_ref().and_then(|payload| inquiry::model(&payload.decoded));
    let route = choose(&request, model.as_deref())?;
    let work = match &route.upstream.kind {
        Kind::Http(upstream) => {
            let unread = std::mem::replace(&mut request.body, full(""));
            let outgoing = Outgoing::Raw(payload.map_or(unread, |payload| full(payload.original)));
            Work::Send { upstream: upstream.clone(), outgoing }
        }
        Kind::Engine(engine) => {
            if model.is_some() && inquiry.is_of_a_model() {
                check_model(&request.live, engine, &route, model.as_deref())?;
            }
            let body = payload.map(|payload| payload.decoded).unwrap_or_default();
            Work::Tell(Asked { inquiry, body, engine: engine.clone() })
        }
    };
    Ok(call(request, route, Mode::Off, work))
}

async fn chat(mut request: Identified, mut payload: Payload) -> Result<Call, CallError> {
    let Read { mut conversation, original } = match chat::read(&request, &payload) {
        Ok(read) => read,
        Err(error) => return unparsable(request, payload, error),
    };
    let found =
        kept::resume(&mut request.head, &request.live.kept, request.caller.clone(), &conversation).await?;
    let resumed = found.map(|(whole, body, resumed)| {
        (conversation, payload) = (whole, body);
        resumed
    });
    let model = chat::model(&conversation);
    let route = choose(&request, model.as_deref())?;
    // Who asks for a conversation in short asks for all of it.
    let compacts = request.api == Api::ResponsesCompact;
    let mode = if compacts { Mode::Off } else { mode(&request.head, &route) };
    let (mut how, mut edits, mut ungoverned) = (None, Vec::new(), None);
    let saves = request.api == Api::SaveCheckpoint;
    let chat = Chat { payload, conversation, model };
    let work = match &route.upstream.kind {
        Kind::Http(_) if saves => Work::Save { engine: None, chat },
        Kind::Http(_) if original.is_some() && resumed.is_some() => return Err(CallError::ResumesElsewhere),
        Kind::Http(upstream) => {
            ungoverned = original.as_deref().and_then(Original::ungoverned).filter(|_| mode != Mode::Off);
            send(&request, upstream, if ungoverned.is_some() { Mode::Off } else { mode }, chat)?
        }
        Kind::Engine(engine) => {
            check_model(&request.live, engine, &route, chat.model.as_deref())?;
            if let Some(original) = &original {
                original.unserved().map_or(Ok(()), Err)?;
                edits = original.edits();
            }
            let instead = match original.as_deref() {
                Some(original) => original.instead(engine)?,
                None => None,
            };
            if (instead.is_some() || compacts) && resumed.is_some() {
                return Err(CallError::ResumesNothing);
            }
            let run = match instead {
                Some(instead) => run_instead(engine, &chat, instead),
                None => run(request.api, engine, chat),
            };
            let run = run.map_err(|error| placed(error, original.as_deref()))?;
            if let Some(resumed) = &resumed {
                how = Some(resumed.restore(engine).await);
            }
            run
        }
    };
    let mut call = call(request, route, mode, work);
    let envelope = &mut call.envelope;
    (envelope.resumed, envelope.original, envelope.edits) = (how, original, edits);
    envelope.ungoverned = ungoverned;
    envelope.record.record().ungoverned = ungoverned;
    Ok(call)
}

/// Where no policy runs the bytes are the server's to judge; a policy acts in the server's own dialect alone.
fn send(
    request: &Identified,
    upstream: &Arc<HttpUpstream>,
    mode: Mode,
    chat: Chat,
) -> Result<Work, CallError> {
    let outgoing = match mode {
        Mode::Off => Outgoing::Raw(full(chat.payload.original)),
        _ if upstream.speaks(request.dialect) => Outgoing::Chat(chat),
        _ => {
            let (upstream, its) = upstream.name_and_dialect();
            return Err(CallError::OtherDialect {
                upstream: upstream.to_owned(),
                its,
                dialect: request.dialect.as_str(),
            });
        }
    };
    Ok(Work::Send { upstream: upstream.clone(), outgoing })
}

/// What the embedded engine is to do with a chat.
fn run(api: Api, engine: &Arc<Embedded>, chat: Chat) -> Result<Work, CallError> {
    chat::check_messages(&chat.conversation)?;
    chat::check_tools(&chat.conversation)?;
    chat::check_kwargs(&chat.conversation)?;
    let options = Options::read(chat.conversation.fields(), engine.sampling())?;
    let engine = engine.clone();
    Ok(match api {
        Api::SaveCheckpoint => Work::Save { engine: Some(engine), chat },
        api if api.counts() => Work::Count { engine, chat },
        Api::ResponsesCompact => Work::Compact { engine, chat },
        _ => Work::Generate { engine, input: Input::Chat(chat), options },
    })
}

/// What the embedded engine does in place of answering a chat.
fn run_instead(engine: &Arc<Embedded>, chat: &Chat, instead: Instead) -> Result<Work, CallError> {
    let options = Options::read(chat.conversation.fields(), engine.sampling())?;
    let engine = engine.clone();
    Ok(match instead {
        Instead::Text(prompt) => Work::Generate { engine, input: Input::Text(prompt), options },
        Instead::Continued(tokens) => Work::Generate { engine, input: Input::Continued(tokens), options },
        Instead::Load(answer) => Work::Load(Loading { engine, keep_alive: options.keep_alive, answer }),
    })
}

/// Places are told as the caller's body has them.
fn placed(error: CallError, original: Option<&dyn Original>) -> CallError {
    let Some(original) = original else { return error };
    match error {
        CallError::Option(OptionError { param, message }) => {
            let place = original.place(&param);
            let message = message.replace(&format!("`{param}`"), &format!("`{place}`"));
            CallError::Option(OptionError { param: place, message })
        }
        CallError::Message(MessageError { param, message }) => {
            CallError::Message(MessageError { param: original.place(&param), message })
        }
        error => error,
    }
}

/// Bytes that are no chat request: the route says whether its upstream shall judge them.
fn unparsable(request: Identified, payload: Payload, error: DialectError) -> Result<Call, CallError> {
    let route = choose(&request, None)?;
    if request.head.headers.contains_key(RESUME) {
        return Err(CallError::ResumesNothing);
    }
    match &route.upstream.kind {
        // No upstream knows how to save.
        _ if request.api == Api::SaveCheckpoint => Err(told(error)),
        Kind::Http(upstream) if error.is_json() || route.on_unparsable == OnUnparsable::Pass => {
            let work =
                Work::Send { upstream: upstream.clone(), outgoing: Outgoing::Raw(full(payload.original)) };
            Ok(call(request, route, Mode::Off, work))
        }
        _ => Err(told(error)),
    }
}

/// A body that cannot be decoded: one whose coding is not understood may be its upstream's to judge, too.
fn undecodable(request: Identified, Unread { error, body }: Unread) -> Result<Call, CallError> {
    let (Some(body), Ok(route)) = (body, choose(&request, None)) else { return Err(error.into()) };
    let plain = request.api != Api::SaveCheckpoint && !request.head.headers.contains_key(RESUME);
    match &route.upstream.kind {
        Kind::Http(upstream) if plain && route.on_unparsable == OnUnparsable::Pass => {
            let work = Work::Send { upstream: upstream.clone(), outgoing: Outgoing::Raw(body) };
            Ok(call(request, route, Mode::Off, work))
        }
        _ => Err(error.into()),
    }
}

/// OpenAI's form is told as it always was.
fn told(error: DialectError) -> CallError {
    match error {
        DialectError::Json(error) => error.into(),
        error => error.into(),
    }
}

fn completion(request: Identified, payload: Payload) -> Result<Call, CallError> {
    let model = completion::model(&payload.decoded);
    let route = choose(&request, model.as_deref())?;
    let mode = mode(&request.head, &route);
    let work = match &route.upstream.kind {
        Kind::Http(upstream) => {
            if route.on_unparsable == OnUnparsable::Reject {
                completion::check_json(&payload.decoded)?;
            }
            Work::Send { upstream: upstream.clone(), outgoing: Outgoing::Raw(full(payload.original)) }
        }
        Kind::Engine(engine) => {
            let (prompt, options) = completion::read(&payload.decoded, engine.sampling())?;
            check_model(&request.live, engine, &route, model.as_deref())?;
            Work::Generate { engine: engine.clone(), input: Input::Text(prompt), options }
        }
    };
    Ok(call(request, route, mode, work))
}

fn without_body(mut request: Identified) -> Result<Call, CallError> {
    let route = choose(&request, None)?;
    let path = request.head.uri.path();
    let work = match &route.upstream.kind {
        Kind::Http(upstream) => {
            let outgoing = Outgoing::Raw(std::mem::replace(&mut request.body, full("")));
            Work::Send { upstream: upstream.clone(), outgoing }
        }
        Kind::Engine(_) if request.api == Api::Models => Work::Models { id: model_id(path) },
        Kind::Engine(_) => {
            return Err(CallError::UnknownUrl {
                method: request.head.method.to_string(),
                path: cut(path).into_owned(),
            });
        }
    };
    Ok(call(request, route, Mode::Off, work))
}

/// What is kept belongs to no route; the last one takes every request.
fn for_kept(request: Identified, wanted: Wanted) -> Call {
    let route =
        request.candidates.last().expect("no request goes on without a route. This is a bug.").clone();
    Call { envelope: Envelope::of(request, route, Mode::Off), work: Work::Kept { wanted } }
}

/// The id behind `/v1/models/`, in whatever spelling of the path; ids may have slashes.
fn model_id(path: &str) -> Option<String> {
    let mut parts = path.trim_start_matches('/').splitn(2, '/');
    let behind = parts.nth(1)?.trim_start_matches('/').strip_prefix("models")?.trim_start_matches('/');
    let id = percent_decode_str(behind).decode_utf8_lossy();
    (!id.is_empty()).then(|| id.into_owned())
}

/// The first route whose head matched and that takes this model. One that asks for another key is refused, not gone
/// round.
fn choose(request: &Identified, model: Option<&str>) -> Result<Arc<Route>, CallError> {
    let route = request.candidates.iter().find(|route| route.takes_model(model)).cloned();
    let route = route.ok_or_else(|| unserved(&request.live, model))?;
    request.bearer.may_take(&route)?;
    Ok(route)
}

/// An engine answers for its own model, and for others only where the route says so.
fn check_model(live: &Live, engine: &Embedded, route: &Route, model: Option<&str>) -> Result<(), CallError> {
    let its_own = model.is_some_and(|model| engine.answers_to(model));
    if its_own || route.any_model { Ok(()) } else { Err(unserved(live, model)) }
}

fn unserved(live: &Live, model: Option<&str>) -> CallError {
    let served = live.served_models().join(", ");
    match model {
        Some(model) => CallError::UnknownModel { model: cut(model).into_owned(), served },
        None => CallError::NoModel { served },
    }
}

fn mode(head: &Parts, route: &Route) -> Mode {
    let bypassed = route.allow_bypass && head.headers.get(BYPASS).is_some_and(|value| value == "true");
    if bypassed { Mode::Off } else { route.mode }
}

fn call(request: Identified, route: Arc<Route>, mode: Mode, work: Work) -> Call {
    request.record.routed(route.facts(mode));
    Call { envelope: Envelope::of(request, route, mode), work }
}

#[cfg(test)]
mod tests {
    use super::model_id;

    #[test]
    fn a_models_id_is_read_in_every_spelling() {
        for (path, id) in [
            ("/v1/models/demo", Some("demo")),
            ("//v1//models//demo", Some("demo")),
            ("/v1/models/Qwen%2FQwen2.5%20B", Some("Qwen/Qwen2.5 B")),
            ("/v1/models/Qwen/Qwen2.5", Some("Qwen/Qwen2.5")),
            ("/v1/models/a%zz", Some("a%zz")),
            ("/v1/models", None),
            ("/v1/models/", None),
        ] {
            assert_eq!(model_id(path).as_deref(), id, "{path}");
        }
    }
}
