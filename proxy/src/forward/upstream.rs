//! Forwards a call to an HTTP upstream: the original bytes where nothing was changed, a stream passed on as it comes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::uri::{PathAndQuery, Uri};
use http::{Request, Response, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use plimsoll_policies::Conversation;
use thiserror::Error;
use tokio::net::TcpStream;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, ServiceBuilder};

use super::headers::{credential, join_cookies, strip_hop_by_hop};
use super::unasked::without_usage;
use super::usage::Seen;
use crate::admit::Sending;
use crate::body::{Body, BrokenOff, Observe, full, impatient, observed, paused};
use crate::config;
use crate::dialect::{Dialect, Original};
use crate::parse::{BYPASS, Chat, Envelope, Outgoing};
use crate::stamp;
use crate::telemetry::{ChatRequest, ChatSpan, Operation, Said, Settings};

/// Idle connections are dropped well before most servers drop them (5 s and more).
const POOL_IDLE: Duration = Duration::from_secs(4);

/// The upstream gave no answer.
#[derive(Debug, Error)]
pub enum UpstreamError {
    /// Nobody answers at its address.
    #[error("the upstream `{name}` cannot be reached")]
    Unreachable {
        /// The upstream's name.
        name: String,
        /// Why; for the log.
        #[source]
        source: BoxError,
    },
    /// It broke off.
    #[error("the upstream `{name}` broke off before it answered")]
    Broken {
        /// The upstream's name.
        name: String,
        /// Why; for the log.
        #[source]
        source: BoxError,
    },
    /// It took too long.
    #[error("the upstream `{name}` did not answer within {}", humantime::format_duration(*after))]
    Timeout {
        /// The upstream's name.
        name: String,
        /// The time it had.
        after: Duration,
    },
    /// The client paused in its request's body for longer than `limits.body_idle`.
    #[error(
        "nothing came of the request body for {}: send it without such a pause",
        humantime::format_duration(*.after)
    )]
    Idle {
        /// The time it had.
        after: Duration,
    },
    /// The path asked for cannot be appended to the upstream's address.
    #[error("the path does not make a valid upstream URL: {0}")]
    Address(#[from] http::Error),
}

impl UpstreamError {
    /// The error in a word, for clients and traces.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "upstream_unreachable",
            Self::Broken { .. } => "upstream_broken",
            Self::Timeout { .. } => "upstream_timeout",
            Self::Idle { .. } => "request_timeout",
            Self::Address(_) => "invalid_url",
        }
    }
}

/// Makes connections, TLS included, within `timeouts.connect`.
type Connector = BoxCloneSyncService<Uri, MaybeHttpsStream<TokioIo<TcpStream>>, BoxError>;

/// A server that speaks OpenAI's API, and the connections to it.
pub struct HttpUpstream {
    name: String,
    pub(super) settings: config::HttpUpstream,
    client: Client<Connector, Body>,
}

/// The upstream's client cannot be built.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The system has no usable certificates.
    #[error("no certificates of the system can be read: {0}")]
    Roots(std::io::Error),
    /// The certificates of `ca_file` cannot be used.
    #[error("the certificates of `{path}` cannot be used: {source}")]
    CaFile {
        /// The file.
        path: String,
        /// Why.
        source: BoxError,
    },
}

impl HttpUpstream {
    /// A client of its own: pools are not shared between upstreams.
    pub fn new(name: &str, settings: config::HttpUpstream) -> Result<Self, ClientError> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let https = match &settings.ca_file {
            None => HttpsConnectorBuilder::new().with_native_roots().map_err(ClientError::Roots)?,
            Some(path) => {
                let source = |source| ClientError::CaFile { path: path.display().to_string(), source };
                HttpsConnectorBuilder::new().with_tls_config(super::tls::with_ca_file(path).map_err(source)?)
            }
        };
        let https = https.https_or_http().enable_all_versions().wrap_connector(tcp);
        // Around both: a server that takes the connection and never answers the handshake is unreachable, too.
        let connector = ServiceBuilder::new().timeout(settings.timeouts.connect).service(https);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE)
            .build(Connector::new(connector));
        Ok(Self { name: name.to_owned(), settings, client })
    }

    pub(super) async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, UpstreamError> {
        let name = || self.name.clone();
        let after = self.settings.timeouts.first_byte;
        match tokio::time::timeout(after, self.client.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) if error.is_connect() => {
                Err(UpstreamError::Unreachable { name: name(), source: error.into() })
            }
            Ok(Err(error)) => Err(match paused(&error) {
                Some(after) => UpstreamError::Idle { after },
                None => UpstreamError::Broken { name: name(), source: error.into() },
            }),
            Err(_) => Err(UpstreamError::Timeout { name: name(), after }),
        }
    }

    fn request(
        &self,
        head: Parts,
        outgoing: Outgoing,
        original: Option<&dyn Original>,
        trace: impl FnOnce(&mut HeaderMap),
    ) -> Result<Request<Body>, http::Error> {
        let uri = self.uri(head.uri.path_and_query())?;
        let mut headers = head.headers;
        strip_hop_by_hop(&mut headers);
        // The client's Host names us; hyper writes the upstream's.
        headers.remove(header::HOST);
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
        trace(&mut headers);
        let body = match outgoing {
            Outgoing::Raw(body) => body,
            Outgoing::Chat(chat) => chat_body(chat, original, &mut headers),
        };
        let mut request = Request::builder().method(head.method).uri(uri).body(body)?;
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// Whether the server has a dialect's paths.
    pub fn speaks(&self, dialect: Dialect) -> bool {
        self.settings.dialect == dialect.server()
    }

    /// The upstream's name, and its dialect as the configuration spells it.
    pub fn name_and_dialect(&self) -> (&str, &'static str) {
        (&self.name, self.settings.dialect.as_str())
    }

    /// The upstream's address with the caller's path appended.
    pub(super) fn uri(&self, path: Option<&PathAndQuery>) -> Result<Uri, http::Error> {
        let base = &self.settings.url;
        let path = format!("{}{}", base.path().trim_end_matches('/'), path.map_or("/", PathAndQuery::as_str));
        Uri::builder()
            .scheme(base.scheme_str().unwrap_or("http"))
            .authority(base.authority().map_or("", |authority| authority.as_str()))
            .path_and_query(path)
            .build()
    }

    /// Host and port, for traces.
    pub(super) fn address(&self) -> Option<(&str, u16)> {
        let base = &self.settings.url;
        let port = base.port_u16().unwrap_or(if base.scheme_str() == Some("https") { 443 } else { 80 });
        base.host().map(|host| (host, port))
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
            server: self.address(),
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

    fn pass_back(&self, response: Response<Incoming>, way: Way) -> Response<Body> {
        let (mut head, body) = response.into_parts();
        // The version is the upstream's own; the client has the one it speaks.
        head.version = Version::HTTP_11;
        strip_hop_by_hop(&mut head.headers);
        head.headers.extend(way.stamps);
        let body = impatient(body.map_err(BrokenOff::new).boxed_unsync(), self.settings.timeouts.idle);
        let mut body = observed(body, way.watch);
        if way.usage_asked && is_event_stream(&head.headers) {
            head.headers.remove(header::CONTENT_LENGTH);
            body = without_usage(body);
        }
        Response::from_parts(head, body)
    }
}

/// What an answer is handled by.
struct Way {
    /// Headers for the client.
    stamps: HeaderMap,
    /// What reads it as it passes.
    watch: Watch,
    /// Whether we asked for usage and the client did not.
    usage_asked: bool,
}

/// Events that can be read.
fn is_event_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let coding = headers.get(header::CONTENT_ENCODING);
    kind.starts_with("text/event-stream") && coding.is_none_or(|coding| coding == "identity")
}

/// Forwards a request. Dropping the future, or the answer's body, cancels the work upstream.
pub async fn forward(sending: Sending) -> Result<Response<Body>, UpstreamError> {
    let stamps = stamp::stamp(&sending.envelope, sending.report.as_ref());
    let upstream = sending.upstream.clone();
    let mut span = upstream.span(&sending);
    let Sending { envelope: Envelope { mut head, original, record, .. }, mut outgoing, .. } = sending;
    // Other dialects' streams tell it unasked.
    let usage_asked = original.is_none() && upstream.ask_usage(&mut head, &mut outgoing);
    let trace = |headers: &mut HeaderMap| match &span {
        Some(span) => span.inject(headers),
        None => record.inject(headers),
    };
    let request = upstream.request(head, outgoing, original.as_deref(), trace)?;
    let response = match upstream.send(request).await {
        Ok(response) => response,
        Err(error) => {
            fail(span, error.code());
            return Err(error);
        }
    };
    if !response.status().is_success() {
        fail(span.take(), "upstream_status");
    }
    Ok(upstream.pass_back(response, Way { stamps, watch: Watch::new(span, original), usage_asked }))
}

/// What the policy left alone goes out in its original, still encoded, bytes.
fn chat_body(chat: Chat, original: Option<&dyn Original>, headers: &mut HeaderMap) -> Body {
    if !chat.conversation.is_changed() {
        return full(chat.payload.original);
    }
    headers.remove(header::CONTENT_ENCODING);
    headers.remove(header::CONTENT_LENGTH);
    match original {
        Some(original) => full(original.write(&chat.conversation)),
        None => full(chat.conversation.to_json().as_bytes().to_vec()),
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
}

/// Bytes of an answer that are kept for its trace: a stream spends some hundred on each token.
const WHOLE: usize = 4 * 1024 * 1024;

impl Watch {
    fn new(span: Option<ChatSpan>, original: Option<Arc<dyn Original>>) -> Self {
        let wanted = span.as_ref().is_some_and(ChatSpan::captures);
        Self { seen: Seen::default(), original, whole: wanted.then(Vec::new), span }
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
}
