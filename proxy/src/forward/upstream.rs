//! Forwards a call to an HTTP upstream: the original bytes where nothing was changed, a stream passed on as it comes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::uri::{PathAndQuery, Uri};
use http::{Extensions, Response, Version};
use http_body_util::BodyExt;
use plimsoll_policies::Conversation;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::addresses::Addresses;
use super::affinity::Key;
use super::belonging;
use super::client::{Client, client};
use super::endpoints::{Endpoint, Endpoints, Lease};
use super::headers::{credential, join_cookies, strip_hop_by_hop};
use super::keepalive::Keepalive;
use super::send::{Answered, Content, Outbound};
use super::tokens::LearntForm;
use super::unasked::without_usage;
use super::usage::Seen;
use super::window::LearntWindow;
use crate::admit::Sending;
use crate::body::{Body, BrokenOff, Observe, impatient, observed, within};
use crate::config::{self, Affinity, HttpVersions};
use crate::dialect::{Dialect, Original};
use crate::parse::{BYPASS, Chat, Envelope, Outgoing};
use crate::redirect::Redirected;
use crate::stamp;
use crate::telemetry::{ChatRequest, ChatSpan, Operation, Said, Settings};

pub use super::client::ClientError;
pub use super::endpoints::EndpointState;
pub use super::send::UpstreamError;

/// A server that speaks OpenAI's API, in one replica or several, and the connections to it.
pub struct HttpUpstream {
    pub(super) name: String,
    pub(super) settings: config::HttpUpstream,
    pub(super) client: Client,
    pub(super) endpoints: Endpoints,
    /// What its names resolve to, where redirected connections are taken.
    pub(super) addresses: Addresses,
    /// Told where a replica answers again after it had failed.
    pub(super) returned: Arc<Notify>,
    pub(super) window: LearntWindow,
    /// Which server's form its `/tokenize` has.
    pub(super) form: LearntForm,
    watched: AtomicBool,
    /// What watches it ends with it.
    pub(super) stop: CancellationToken,
}

impl Drop for HttpUpstream {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl HttpUpstream {
    /// An upstream whose replicas nobody has asked yet.
    ///
    /// # Errors
    /// Certificates cannot be read.
    pub fn new(name: &str, settings: config::HttpUpstream) -> Result<Self, ClientError> {
        Ok(Self {
            name: name.to_owned(),
            client: client(&settings)?,
            endpoints: Endpoints::new(&settings),
            addresses: Addresses::default(),
            returned: Arc::default(),
            window: LearntWindow::default(),
            form: LearntForm::default(),
            watched: AtomicBool::new(false),
            stop: CancellationToken::new(),
            settings,
        })
    }

    /// What it was configured by.
    pub fn settings(&self) -> &config::HttpUpstream {
        &self.settings
    }

    /// Whether it is watched already; from now on it is.
    pub(super) fn is_watched(&self) -> bool {
        self.watched.swap(true, Ordering::Relaxed)
    }

    /// How its replicas fare.
    pub fn states(&self) -> Vec<EndpointState> {
        self.endpoints.states(Instant::now())
    }

    /// Whether the beginning of a conversation decides where it goes.
    pub fn has_affinity(&self) -> bool {
        self.settings.urls.len() > 1 && self.settings.affinity == Affinity::Prefix
    }

    /// The request as its replicas get it.
    async fn outbound(
        &self,
        head: Parts,
        outgoing: Outgoing,
        original: Option<&dyn Original>,
        limit: usize,
    ) -> Result<Outbound, http::Error> {
        let mut headers = head.headers;
        strip_hop_by_hop(&mut headers);
        // The client's Host names us, where it was not redirected; hyper writes the upstream's.
        let host = self.kept_host(&head.extensions, &head.uri, &headers);
        headers.remove(header::HOST);
        headers.extend(host.map(|host| (header::HOST, host)));
        // hyper has answered it already.
        headers.remove(header::EXPECT);
        headers.remove(BYPASS);
        if !self.settings.forward_baggage {
            headers.remove("baggage");
        }
        join_cookies(&mut headers);
        if let Some(key) = &self.settings.api_key {
            let (name, value) = credential(self.settings.dialect, key)?;
            headers.remove(header::AUTHORIZATION);
            headers.insert(name, value);
        }
        let path = head.uri.into_parts().path_and_query;
        let asks = path.as_ref().is_some_and(|path| belonging::asks(path.path()));
        let repeatable = asks || head.method.is_idempotent();
        let (content, key) = match outgoing {
            Outgoing::Raw(body) => {
                let content = Content::of(body);
                let key = match &content {
                    Content::Whole(bytes) if asks && self.has_affinity() => {
                        belonging::key(&headers, bytes, limit).await
                    }
                    _ => None,
                };
                (content, key)
            }
            Outgoing::Chat(chat) => {
                let key = if self.has_affinity() { Key::of(&chat.conversation) } else { None };
                (Content::Whole(chat_body(chat, original, &mut headers)), key)
            }
        };
        Ok(Outbound { method: head.method, path, headers, content, key, repeatable })
    }

    /// The host that a redirected client believes to ask. HTTP/2 has it as the authority, by which hyper pools connections.
    fn kept_host(&self, extensions: &Extensions, uri: &Uri, headers: &HeaderMap) -> Option<HeaderValue> {
        if extensions.get::<Redirected>().is_none() || self.settings.http == HttpVersions::Http2 {
            return None;
        }
        let named = uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
        named.or_else(|| headers.get(header::HOST).cloned())
    }

    /// Whether the server has a dialect's paths.
    pub fn speaks(&self, dialect: Dialect) -> bool {
        self.settings.dialect == dialect.server()
    }

    /// The upstream's name, and its dialect as the configuration spells it.
    pub fn name_and_dialect(&self) -> (&str, &'static str) {
        (&self.name, self.settings.dialect.as_str())
    }

    /// A chat's span; what is passed on unread has none, and what is only counted.
    fn span(&self, sending: &Sending) -> Option<ChatSpan> {
        let Outgoing::Chat(chat) = &sending.outgoing else { return None };
        if sending.envelope.api.counts() {
            return None;
        }
        let mut span = sending.envelope.record.chat(&ChatRequest {
            operation: Operation::Chat,
            provider: self.settings.dialect.as_str(),
            model: chat.model.as_deref().unwrap_or("unknown"),
            server: Some(self.endpoints.all()[0].address()),
            stream: chat.conversation.field("stream") == Some("true"),
            compacted: stamp::compacted(sending.envelope.mode, sending.report.as_ref()),
            settings: settings(&chat.conversation),
        });
        span.sent(chat.conversation.messages());
        Some(span)
    }

    /// A streamed request that a policy edited asks for its usage as well. The answer must not be encoded then: the
    /// chunk is taken out of it again.
    fn ask_usage(&self, head: &mut Parts, outgoing: &mut Outgoing) -> bool {
        let Outgoing::Chat(chat) = outgoing else { return false };
        if !self.settings.ask_usage || !chat.conversation.is_changed() {
            return false;
        }
        let Some(asking) = chat.conversation.asking_usage() else { return false };
        chat.conversation = asking;
        head.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        true
    }

    fn pass_back(&self, answered: Answered, way: Way) -> Response<Body> {
        let Answered { response, lease, deadline } = answered;
        let (mut head, body) = response.into_parts();
        // The version is the upstream's own; the client has the one it speaks.
        head.version = Version::HTTP_11;
        strip_hop_by_hop(&mut head.headers);
        head.headers.extend(way.stamps);
        let body = impatient(body.map_err(BrokenOff::new).boxed_unsync(), self.settings.timeouts.idle);
        let body = match deadline {
            Some(deadline) => within(body, deadline),
            None => body,
        };
        let mut body = observed(body, Watch::new(way.span, way.original, lease));
        if way.usage_asked && is_event_stream(&head.headers) {
            head.headers.remove(header::CONTENT_LENGTH);
            body = without_usage(body);
        }
        Response::from_parts(head, body)
    }
}

/// A replica's address with a path appended.
pub(super) fn appended(base: &Uri, path: Option<&PathAndQuery>) -> Result<Uri, http::Error> {
    let path = path.cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let mut parts = base.clone().into_parts();
    parts.path_and_query = Some(match base.path().trim_end_matches('/') {
        "" => path,
        before => format!("{before}{path}").parse()?,
    });
    Ok(Uri::from_parts(parts)?)
}

/// What an answer is handled by.
struct Way {
    /// Headers for the client.
    stamps: HeaderMap,
    /// The call's span.
    span: Option<ChatSpan>,
    /// What the request was, where it was of another dialect than OpenAI's.
    original: Option<Arc<dyn Original>>,
    /// Whether we asked for usage and the client did not.
    usage_asked: bool,
}

/// Events that can be read.
pub(super) fn is_event_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let coding = headers.get(header::CONTENT_ENCODING);
    kind.starts_with("text/event-stream") && coding.is_none_or(|coding| coding == "identity")
}

/// Forwards a request. Dropping the future, or the answer's body, cancels the work upstream.
pub async fn forward(mut sending: Sending) -> Result<Response<Body>, UpstreamError> {
    match Keepalive::of(&mut sending) {
        Some(keepalive) => keepalive.around(answer(sending)).await,
        None => answer(sending).await,
    }
}

async fn answer(sending: Sending) -> Result<Response<Body>, UpstreamError> {
    let stamps = stamp::stamp(&sending.envelope, sending.report.as_ref());
    let upstream = sending.upstream.clone();
    let mut span = upstream.span(&sending);
    let Sending { envelope: Envelope { mut head, original, record, live, .. }, mut outgoing, .. } = sending;
    // Other dialects' streams tell it unasked.
    let usage_asked = original.is_none() && upstream.ask_usage(&mut head, &mut outgoing);
    let limit = usize::try_from(live.limits.body).unwrap_or(usize::MAX);
    let mut outbound = upstream.outbound(head, outgoing, original.as_deref(), limit).await?;
    match &span {
        Some(span) => span.inject(&mut outbound.headers),
        None => record.inject(&mut outbound.headers),
    }
    let attempt = |endpoint: &Endpoint| {
        let (host, port) = endpoint.address();
        if let Some(span) = &mut span {
            span.attempt(host, port);
        }
    };
    let answered = match upstream.send(outbound, attempt).await {
        Ok(answered) => answered,
        Err(error) => {
            fail(span, error.code());
            return Err(error);
        }
    };
    if !answered.response.status().is_success() {
        fail(span.take(), "upstream_status");
    }
    Ok(upstream.pass_back(answered, Way { stamps, span, original, usage_asked }))
}

/// What the policy left alone goes out in its original, still encoded, bytes.
fn chat_body(chat: Chat, original: Option<&dyn Original>, headers: &mut HeaderMap) -> Bytes {
    if !chat.conversation.is_changed() {
        return chat.payload.original;
    }
    headers.remove(header::CONTENT_ENCODING);
    headers.remove(header::CONTENT_LENGTH);
    match original {
        Some(original) => original.write(&chat.conversation).into(),
        None => chat.conversation.to_json().as_bytes().to_vec().into(),
    }
}

/// The generation settings that a body names, for the trace.
fn settings(conversation: &Conversation) -> Settings {
    fn number<N: std::str::FromStr>(conversation: &Conversation, name: &str) -> Option<N> {
        conversation.field(name)?.parse().ok()
    }
    Settings {
        max_tokens: conversation.output_limit(),
        temperature: number(conversation, "temperature"),
        top_p: number(conversation, "top_p"),
        top_k: number(conversation, "top_k"),
        seed: number(conversation, "seed"),
        presence_penalty: number(conversation, "presence_penalty"),
        frequency_penalty: number(conversation, "frequency_penalty"),
    }
}

pub(super) fn fail(span: Option<ChatSpan>, code: &'static str) {
    if let Some(span) = span {
        span.failed(code);
    }
}

/// Reads the usage of an answer as it passes.
struct Watch {
    seen: Seen,
    /// What the request was, where it was of another dialect than OpenAI's.
    original: Option<Arc<dyn Original>>,
    /// The whole answer, where it is wanted for the trace.
    whole: Option<Vec<u8>>,
    span: Option<ChatSpan>,
    /// Ends with the answer.
    _lease: Lease,
}

/// Bytes of an answer that are kept for its trace: a stream spends some hundred on each token.
const WHOLE: usize = 4 * 1024 * 1024;

impl Watch {
    fn new(span: Option<ChatSpan>, original: Option<Arc<dyn Original>>, lease: Lease) -> Self {
        let wanted = span.as_ref().is_some_and(ChatSpan::captures);
        Self { seen: Seen::default(), original, whole: wanted.then(Vec::new), span, _lease: lease }
    }
}

impl Observe for Watch {
    fn data(&mut self, piece: &Bytes) {
        if let Some(span) = &mut self.span {
            span.token();
            self.seen.see(piece);
            if let Some(whole) = self.whole.as_mut().filter(|whole| whole.len() < WHOLE) {
                whole.extend_from_slice(piece);
            }
        }
    }

    fn ended(&mut self) {
        let Some(mut span) = self.span.take() else { return };
        let usage = match &self.original {
            Some(original) => original.usage(&self.seen),
            None => self.seen.usage(),
        };
        usage.unwrap_or_default().tell(span.facts());
        if let Some(whole) = self.whole.take() {
            let mut said = Said::default();
            let whole = String::from_utf8_lossy(&whole);
            match &self.original {
                Some(original) => original.said(&whole, &mut said),
                None => said.read(&whole),
            }
            span.said(&[said]);
        }
        span.completed();
    }

    fn broken(&mut self) {
        fail(self.span.take(), "upstream_broken");
    }

    fn broken_by(&mut self, why: &BrokenOff) {
        fail(self.span.take(), why.code());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_appended_to_the_servers_own() {
        for (base, path, uri) in [
            ("http://a:8000", Some("/v1/chat?x=1"), "http://a:8000/v1/chat?x=1"),
            ("http://a:8000/", Some("/v1"), "http://a:8000/v1"),
            ("https://a/openai/", Some("/v1?x"), "https://a/openai/v1?x"),
            ("http://a/base", None, "http://a/base/"),
        ] {
            let path = path.map(|path| path.parse().expect("a path"));
            assert_eq!(appended(&base.parse().expect("a URL"), path.as_ref()).unwrap(), uri);
        }
    }
}
