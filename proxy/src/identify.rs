//! Tells from a request's head which API it speaks and which routes may take it.

mod head;

use std::net::SocketAddr;
use std::sync::Arc;

use http::Method;
use http::header::ORIGIN;
use http::request::Parts;
use percent_encoding::percent_decode_str;
use thiserror::Error;

use crate::body::{Body, impatient};
use crate::config::Hosts;
use crate::cors;
use crate::cut::cut;
use crate::dialect::Dialect;
use crate::inquiry::Inquiry;
use crate::kept::Caller;
use crate::keys::{Bearer, KeyError};
use crate::live::{Live, Route, Shared};
use crate::record::Received;
use crate::redirect::{RedirectError, Redirected, leads_to};
use crate::telemetry::RequestSpan;

pub use head::HeadError;

/// The paths of conversations, which policies act on.
pub const CONVERSATIONS: [&str; 5] =
    ["/v1/chat/completions", "/v1/messages", "/v1/responses", "/api/chat", "/api/generate"];

/// The API that a method and path name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// `POST /v1/chat/completions`
    ChatCompletions,
    /// `POST /v1/completions`
    Completions,
    /// `POST /api/chat`
    OllamaChat,
    /// `POST /api/generate`
    OllamaGenerate,
    /// `POST /v1/messages`
    Messages,
    /// `POST /v1/messages/count_tokens`
    CountMessages,
    /// `POST /v1/responses`
    Responses,
    /// `POST /v1/responses/input_tokens`
    ResponsesInputTokens,
    /// `POST /v1/responses/compact`
    ResponsesCompact,
    /// `GET /v1/models` and `GET /v1/models/{id}`
    Models,
    /// `GET /v1/context/artifacts/{id}`
    Artifact,
    /// `POST /v1/context/checkpoints`
    SaveCheckpoint,
    /// `GET /v1/context/checkpoints`, `GET` and `DELETE /v1/context/checkpoints/{id}`
    Checkpoints,
    /// Something asked of an embedded engine besides an answer.
    Inquiry(Inquiry),
    /// Anything else: an HTTP upstream may know it.
    Other,
}

impl Api {
    /// Reads a request line, its path in the plain spelling. `HEAD` asks as `GET` does; hyper leaves the body out.
    pub fn of(method: &Method, path: &str) -> Self {
        let method = if method == Method::HEAD { &Method::GET } else { method };
        if let Some(inquiry) = Inquiry::of(method, if path.is_empty() { "/" } else { path }) {
            return Self::Inquiry(inquiry);
        }
        match (method, path) {
            (&Method::POST, "/v1/chat/completions") => Self::ChatCompletions,
            (&Method::POST, "/v1/completions") => Self::Completions,
            (&Method::POST, "/api/chat") => Self::OllamaChat,
            (&Method::POST, "/api/generate") => Self::OllamaGenerate,
            (&Method::POST, "/v1/messages") => Self::Messages,
            (&Method::POST, "/v1/messages/count_tokens") => Self::CountMessages,
            (&Method::POST, "/v1/responses") => Self::Responses,
            (&Method::POST, "/v1/responses/input_tokens") => Self::ResponsesInputTokens,
            (&Method::POST, "/v1/responses/compact") => Self::ResponsesCompact,
            (&Method::GET, "/v1/models") => Self::Models,
            (&Method::GET, path) if path.starts_with("/v1/models/") => Self::Models,
            (&Method::GET, path) if path.starts_with("/v1/context/artifacts/") => Self::Artifact,
            (&Method::POST, "/v1/context/checkpoints") => Self::SaveCheckpoint,
            (&Method::GET, "/v1/context/checkpoints") => Self::Checkpoints,
            (&Method::GET | &Method::DELETE, path) if path.starts_with("/v1/context/checkpoints/") => {
                Self::Checkpoints
            }
            _ => Self::Other,
        }
    }

    /// Whether only the tokens of a conversation are asked for.
    pub fn counts(self) -> bool {
        matches!(self, Self::CountMessages | Self::ResponsesInputTokens | Self::Inquiry(Inquiry::Tokenize))
    }

    /// The path's template, as traces and metrics name it.
    pub fn template(self) -> Option<&'static str> {
        match self {
            Self::ChatCompletions => Some("/v1/chat/completions"),
            Self::Completions => Some("/v1/completions"),
            Self::OllamaChat => Some("/api/chat"),
            Self::OllamaGenerate => Some("/api/generate"),
            Self::Messages => Some("/v1/messages"),
            Self::CountMessages => Some("/v1/messages/count_tokens"),
            Self::Responses => Some("/v1/responses"),
            Self::ResponsesInputTokens => Some("/v1/responses/input_tokens"),
            Self::ResponsesCompact => Some("/v1/responses/compact"),
            Self::Models => Some("/v1/models"),
            Self::Artifact => Some("/v1/context/artifacts/{id}"),
            Self::SaveCheckpoint | Self::Checkpoints => Some("/v1/context/checkpoints"),
            Self::Inquiry(inquiry) => Some(inquiry.path()),
            Self::Other => None,
        }
    }
}

/// A path in one spelling. Many servers read `//v1/`, `/v1/./`, `/x/../v1/` and `/%761/` as `/v1/`: another spelling
/// must not lead round a policy.
pub fn plain(path: &str) -> String {
    if is_plain(path) {
        return path.to_owned();
    }
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    let mut parts = Vec::new();
    for part in decoded.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.into_iter().flat_map(|part| ["/", part]).collect()
}

/// Whether a path surely is in the plain spelling, as almost all are.
fn is_plain(path: &str) -> bool {
    path.starts_with('/') && !path.ends_with('/') && !["%", "//", "/."].iter().any(|odd| path.contains(odd))
}

/// A request whose head is understood.
pub struct Identified {
    /// Method, URL and headers as they came.
    pub head: Parts,
    /// The body, unread.
    pub body: Body,
    /// The API it speaks.
    pub api: Api,
    /// The dialect of its path.
    pub dialect: Dialect,
    /// Routes whose path and headers match, in order; the model, once read, chooses among them.
    pub candidates: Vec<Arc<Route>>,
    /// The key that it bears.
    pub bearer: Bearer,
    /// Whose request it is, as far as what is kept is concerned.
    pub caller: Caller,
    /// The configuration this request runs under, however often it is reloaded meanwhile.
    pub live: Arc<Live>,
    /// What is told of the request at its end.
    pub record: RequestSpan,
}

/// The head asks for something that is not served here.
#[derive(Debug, Error)]
pub enum IdentifyError {
    /// A head that is not served, whoever asks.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// No route takes this path and these headers.
    #[error("no route takes `{path}`")]
    NoRoute {
        /// The path asked for.
        path: String,
    },
    /// A page of an origin that may not ask.
    #[error("pages of `{0}` may not ask here: `listen.cors.origins` says which may")]
    ForeignOrigin(String),
    /// No key, or none that opens a route which takes the path.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// It was redirected on its way to a place where it may not go on.
    #[error(transparent)]
    Redirect(#[from] RedirectError),
    /// As many requests as `limits.requests` allows are in flight.
    #[error("{limit} requests are in flight, which is the limit")]
    Full {
        /// Requests in flight.
        limit: usize,
    },
}

/// Finds the API and the candidate routes of a request.
pub fn identify(shared: &Shared, received: Received) -> Result<Identified, IdentifyError> {
    let live = shared.live.load_full();
    let Received { request, path, api, dialect, span, in_flight } = received;
    if in_flight > live.limits.requests {
        return Err(IdentifyError::Full { limit: live.limits.requests });
    }
    let (mut head, body) = request.into_parts();
    let listen = &shared.started.listen;
    // A redirected client asks for its server, by whatever name: where it was going is known better than by a name.
    let going = head.extensions.get::<Redirected>().map(Redirected::original).transpose()?;
    head::check(&head, if going.is_some() { &Hosts::Any } else { &listen.hosts })?;
    if cors::is_foreign(&head.headers, listen.cors.as_ref()) {
        let origin = head.headers.get(ORIGIN).and_then(|origin| origin.to_str().ok()).unwrap_or_default();
        return Err(IdentifyError::ForeignOrigin(cut(origin).into_owned()));
    }
    let bearer = live.keys.take(&mut head.headers);
    span.record().caller.clone_from(&bearer.name);
    let caller = match &bearer.name {
        Some(name) => Caller::named(name),
        None => live.kept.caller(&head.headers),
    };
    let mut routes = open_to(&live, going)?;
    routes.retain(|route| route.takes(&path, &head));
    let candidates: Vec<_> = routes.into_iter().cloned().collect();
    if candidates.is_empty() {
        return Err(IdentifyError::NoRoute { path: cut(head.uri.path()).into_owned() });
    }
    may_enter(&candidates, &bearer)?;
    let body = impatient(body, live.limits.body_idle);
    Ok(Identified { head, body, api, dialect, candidates, bearer, caller, live, record: span })
}

/// The routes that may be taken: of a redirected connection those that lead to where it was going.
fn open_to(live: &Live, going: Option<SocketAddr>) -> Result<Vec<&Arc<Route>>, RedirectError> {
    let Some(address) = going else { return Ok(live.routes.iter().collect()) };
    let routes: Vec<_> = live.routes.iter().filter(|route| leads_to(route, address)).collect();
    if routes.is_empty() { Err(RedirectError::NoUpstream(address)) } else { Ok(routes) }
}

/// Whether any route that can still be chosen may be taken; which one it is the model may have to tell. Behind the first
/// that asks for no model none is chosen.
fn may_enter(candidates: &[Arc<Route>], bearer: &Bearer) -> Result<(), KeyError> {
    let last = candidates.iter().position(|route| !route.matches.asks_model());
    let reachable = &candidates[..last.map_or(candidates.len(), |last| last + 1)];
    let mut refused = Ok(());
    for route in reachable {
        match bearer.may_take(route) {
            Ok(()) => return Ok(()),
            Err(error) => refused = refused.and(Err(error)),
        }
    }
    refused
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn every_spelling_of_a_path_is_read_as_the_plain_one() {
        for spelling in [
            "/v1/chat",
            "//v1/chat",
            "/v1//chat",
            "/v1/./chat",
            "/x/../v1/chat",
            "/%761/chat",
            "/v1/chat/",
            "/v1/chat/.",
            "/v1%2fchat",
        ] {
            assert_eq!(plain(spelling), "/v1/chat", "{spelling}");
        }
        for (path, read) in
            [("/", ""), ("/.well-known/x", "/.well-known/x"), ("/a.b/c", "/a.b/c"), ("/..", "")]
        {
            assert_eq!(plain(path), read);
        }
    }
}
