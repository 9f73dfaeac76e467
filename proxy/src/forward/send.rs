//! Sends a request to a replica, and once more where nothing of an answer has come.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use thiserror::Error;
use tokio::time::Instant;
use tower::BoxError;
use tower::timeout::error::Elapsed;

use super::affinity::Key;
use super::endpoints::{Endpoint, Lease, Verdict};
use super::upstream::HttpUpstream;
use crate::body::{Body, begun, broke_off, full, paused};

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
    /// The connection took too long.
    #[error("the upstream `{name}` took no connection within {}", humantime::format_duration(*after))]
    ConnectTimeout {
        /// The upstream's name.
        name: String,
        /// The time it had.
        after: Duration,
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
    /// All attempts together took too long.
    #[error("the request to the upstream `{name}` took longer than {}", humantime::format_duration(*after))]
    TotalTimeout {
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
    /// The client's request broke off, or was no HTTP.
    #[error("the request body ended early")]
    BrokenRequest {
        /// Why; for the log.
        #[source]
        source: BoxError,
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
            Self::ConnectTimeout { .. } => "upstream_connect_timeout",
            Self::Broken { .. } => "upstream_broken",
            Self::Timeout { .. } => "upstream_timeout",
            Self::TotalTimeout { .. } => "upstream_total_timeout",
            Self::Idle { .. } => "request_timeout",
            Self::BrokenRequest { .. } => "invalid_body",
            Self::Address(_) => "invalid_url",
        }
    }

    /// What it says of the server; nothing where the client or its request is at fault.
    fn verdict(&self) -> Option<Verdict> {
        match self {
            Self::Unreachable { .. } | Self::ConnectTimeout { .. } => Some(Verdict::Unreachable),
            Self::Broken { .. } => Some(Verdict::Broken),
            Self::Timeout { .. } => Some(Verdict::Timeout),
            Self::TotalTimeout { .. } | Self::Idle { .. } | Self::BrokenRequest { .. } | Self::Address(_) => {
                None
            }
        }
    }
}

/// A request, before it is known where it goes.
pub(super) struct Outbound {
    pub(super) method: Method,
    pub(super) path: Option<PathAndQuery>,
    pub(super) headers: HeaderMap,
    pub(super) content: Content,
    /// The conversation it belongs to.
    pub(super) key: Option<Key>,
    /// Whether a server may work on it twice.
    pub(super) repeatable: bool,
}

/// A request's body.
pub(super) enum Content {
    /// Here, to be sent as often as it takes.
    Whole(Bytes),
    /// On its way from the client.
    Passing(Body),
}

impl Content {
    /// What is here of a body already is kept; one that is still on its way goes through once.
    pub(super) fn of(mut body: Body) -> Self {
        use http_body::Body as _;
        if body.is_end_stream() {
            return Self::Whole(Bytes::new());
        }
        // A body that is here as one piece gives it at once, and has its end in sight.
        if body.size_hint().exact().is_none() {
            return Self::Passing(body);
        }
        let Some(frame) = futures_util::FutureExt::now_or_never(body.frame()) else {
            return Self::Passing(body);
        };
        match frame {
            None => Self::Whole(Bytes::new()),
            Some(Ok(frame)) if body.is_end_stream() && frame.is_data() => {
                Self::Whole(frame.into_data().unwrap_or_default())
            }
            Some(frame) => Self::Passing(begun(frame, body)),
        }
    }

    /// The body of an attempt; of one that passes there is one attempt.
    fn next(&mut self) -> Body {
        match self {
            Self::Whole(bytes) => full(bytes.clone()),
            Self::Passing(body) => std::mem::replace(body, full("")),
        }
    }
}

/// An answer's head, its body still to come.
pub(super) struct Answered {
    pub(super) response: Response<Incoming>,
    /// To be held until the body's end.
    pub(super) lease: Lease,
    /// When the body must have ended.
    pub(super) deadline: Option<Instant>,
}

impl HttpUpstream {
    /// Sends a request until it is answered, or may not be sent again. `attempt` is told of each replica before it is
    /// asked.
    pub(super) async fn send(
        &self,
        outbound: Outbound,
        attempt: impl FnMut(&Endpoint),
    ) -> Result<Answered, UpstreamError> {
        let Some(total) = self.settings.timeouts.total else {
            return self.attempts(outbound, attempt).await;
        };
        let deadline = Instant::now() + total;
        match tokio::time::timeout_at(deadline, self.attempts(outbound, attempt)).await {
            Ok(answered) => Ok(Answered { deadline: Some(deadline), ..answered? }),
            Err(_) => Err(UpstreamError::TotalTimeout { name: self.name.clone(), after: total }),
        }
    }

    async fn attempts(
        &self,
        mut outbound: Outbound,
        mut attempt: impl FnMut(&Endpoint),
    ) -> Result<Answered, UpstreamError> {
        let mut tried: Vec<Arc<Endpoint>> = Vec::new();
        loop {
            let mut lease = self.endpoints.lease(outbound.key, &tried, Instant::now());
            attempt(lease.endpoint());
            let request = outbound.request(lease.endpoint())?;
            let result = self.once(request).await;
            let verdict = match &result {
                Ok(response) if failing(response.status()) => Some(Verdict::Status),
                Ok(_) => Some(Verdict::Answered),
                Err(error) => error.verdict(),
            };
            if verdict.is_some_and(|verdict| lease.settle(verdict, Instant::now())) {
                self.returned.notify_one();
            }
            tried.push(lease.endpoint().clone());
            let pause = self.pause(&outbound, &tried, &result);
            let Some(pause) = pause else {
                return result.map(|response| Answered { response, lease, deadline: None });
            };
            drop((result, lease));
            tokio::time::sleep(pause).await;
        }
    }

    async fn once(&self, request: Request<Body>) -> Result<Response<Incoming>, UpstreamError> {
        let name = || self.name.clone();
        let after = self.settings.timeouts.first_byte;
        match tokio::time::timeout(after, self.client.request(request)).await {
            // Nobody asked to switch: what would follow is no HTTP.
            Ok(Ok(response)) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                Err(UpstreamError::Broken { name: name(), source: "it switched protocols".into() })
            }
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) if error.is_connect() && elapsed(&error) => {
                Err(UpstreamError::ConnectTimeout { name: name(), after: self.settings.timeouts.connect })
            }
            Ok(Err(error)) if error.is_connect() => {
                Err(UpstreamError::Unreachable { name: name(), source: error.into() })
            }
            Ok(Err(error)) => Err(match paused(&error) {
                Some(after) => UpstreamError::Idle { after },
                None if broke_off(&error) => UpstreamError::BrokenRequest { source: error.into() },
                None => UpstreamError::Broken { name: name(), source: error.into() },
            }),
            Err(_) => Err(UpstreamError::Timeout { name: name(), after }),
        }
    }

    /// How long to wait before the next attempt; nothing where there shall be none.
    fn pause(
        &self,
        outbound: &Outbound,
        tried: &[Arc<Endpoint>],
        result: &Result<Response<Incoming>, UpstreamError>,
    ) -> Option<Duration> {
        let settings = &self.settings.retries;
        let failed = match result {
            Ok(response) => outbound.repeatable && settings.statuses.contains(&response.status()),
            Err(UpstreamError::Unreachable { .. } | UpstreamError::ConnectTimeout { .. }) => true,
            Err(UpstreamError::Broken { .. }) => outbound.repeatable,
            Err(_) => false,
        };
        let retries = tried.len().saturating_sub(1);
        let whole = matches!(outbound.content, Content::Whole(_));
        if !failed || !whole || retries >= settings.attempts as usize {
            return None;
        }
        if self.endpoints.has_other(tried) {
            return Some(Duration::ZERO);
        }
        let asked = result.as_ref().ok().and_then(|response| retry_after(response.headers()));
        if asked.is_some_and(|asked| asked > settings.longest_pause) {
            return None;
        }
        // The servers that were asked once each cost no pause.
        let round = retries.saturating_sub(self.endpoints.all().len() - 1);
        let doubled = settings.pause.saturating_mul(1_u32.checked_shl(round as u32).unwrap_or(u32::MAX));
        let pause = doubled.min(settings.longest_pause).mul_f64(0.5 + chance() / 2.0);
        Some(asked.map_or(pause, |asked| asked.max(pause)))
    }
}

impl Outbound {
    fn request(&mut self, endpoint: &Endpoint) -> Result<Request<Body>, http::Error> {
        let uri = super::upstream::appended(&endpoint.url, self.path.as_ref())?;
        let request = Request::builder().method(self.method.clone()).uri(uri);
        let mut request = request.body(self.content.next())?;
        *request.headers_mut() = self.headers.clone();
        Ok(request)
    }
}

/// The statuses by which gateways tell that there is no server.
fn failing(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
}

/// Whether the time to connect was up.
fn elapsed(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut chain = std::iter::successors(Some(error), |error| (*error).source());
    chain.any(<dyn std::error::Error>::is::<Elapsed>)
}

/// The pause that an answer asks for: `retry-after-ms`, or `retry-after` in seconds or as a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    if let Some(millis) = text("retry-after-ms").and_then(|text| text.parse::<f64>().ok()) {
        return Duration::try_from_secs_f64(millis / 1000.0).ok();
    }
    let after = text(header::RETRY_AFTER.as_str())?;
    match after.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => {
            let at = httpdate::parse_http_date(after).ok()?;
            Some(at.duration_since(std::time::SystemTime::now()).unwrap_or_default())
        }
    }
}

/// A number from 0 up to 1 by chance: request ids hold 74 random bits.
fn chance() -> f64 {
    let random = uuid::Uuid::now_v7().as_u128() as u32;
    f64::from(random) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(name: &'static str, value: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        retry_after(&headers)
    }

    #[test]
    fn a_pause_is_asked_for_in_three_ways() {
        assert_eq!(asked("retry-after", "7"), Some(Duration::from_secs(7)));
        assert_eq!(asked("retry-after-ms", "1500"), Some(Duration::from_millis(1500)));
        assert_eq!(asked("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        let date = httpdate::fmt_http_date(std::time::SystemTime::now() + Duration::from_secs(3600));
        assert!(asked("retry-after", &date) > Some(Duration::from_secs(3500)));
        for odd in ["-1", "soon", "1e400", ""] {
            assert_eq!(asked("retry-after", odd), None, "{odd}");
        }
    }

    #[test]
    fn chance_is_a_share() {
        let drawn: Vec<f64> = (0..100).map(|_| chance()).collect();
        assert!(drawn.iter().all(|share| (0.0..1.0).contains(share)));
        assert!(drawn.iter().any(|share| *share < 0.5) && drawn.iter().any(|share| *share >= 0.5));
    }

    #[tokio::test]
    async fn only_what_is_here_is_kept() {
        assert!(matches!(Content::of(full("whole")), Content::Whole(bytes) if bytes == "whole"));
        assert!(matches!(Content::of(full("")), Content::Whole(bytes) if bytes.is_empty()));
        // In two pieces: it passes, and nothing of it is lost.
        let rest = full("rest");
        let Content::Passing(body) = Content::of(begun(Ok(http_body::Frame::data("first ".into())), rest))
        else {
            panic!("it is not whole yet")
        };
        assert_eq!(http_body::Body::size_hint(&body).exact(), Some(10));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "first rest");
    }
}
