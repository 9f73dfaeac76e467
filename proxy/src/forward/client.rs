//! The connections to an upstream: TLS, HTTP versions, pools.

use std::time::Duration;

use http::Uri;
use hyper_rustls::{HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use thiserror::Error;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, ServiceBuilder};

use super::own::Own;
use crate::body::Body;
use crate::config::{HttpUpstream, HttpVersions};

/// Idle connections are dropped well before most servers drop them (5 s and more).
const POOL_IDLE: Duration = Duration::from_secs(4);

/// An HTTP/2 connection with a request under way is asked for a sign of life this often: a peer that vanished would
/// hold its requests until their own time is up.
const PING: Duration = Duration::from_secs(30);

/// Makes connections, TLS included, within `timeouts.connect`.
type Connector = BoxCloneSyncService<Uri, MaybeHttpsStream<Own>, BoxError>;

/// A pool of connections.
pub(super) type Client = legacy::Client<Connector, Body>;

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

/// A client of its own: pools are not shared between upstreams.
pub(super) fn client(settings: &HttpUpstream) -> Result<Client, ClientError> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let tcp = ServiceBuilder::new().map_response(Own::of).service(tcp);
    let https = match &settings.ca_file {
        None => HttpsConnectorBuilder::new().with_native_roots().map_err(ClientError::Roots)?,
        Some(path) => {
            let source = |source| ClientError::CaFile { path: path.display().to_string(), source };
            HttpsConnectorBuilder::new().with_tls_config(super::tls::with_ca_file(path).map_err(source)?)
        }
    };
    let https = https.https_or_http();
    let https = match settings.http {
        HttpVersions::Auto => https.enable_all_versions().wrap_connector(tcp),
        HttpVersions::Http1 => https.enable_http1().wrap_connector(tcp),
        HttpVersions::Http2 => https.enable_http2().wrap_connector(tcp),
    };
    // Around both: a server that takes the connection and never answers the handshake is unreachable, too.
    let connector = ServiceBuilder::new().timeout(settings.timeouts.connect).service(https);
    Ok(legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(POOL_IDLE)
        .http2_only(settings.http == HttpVersions::Http2)
        .http2_keep_alive_interval(PING)
        .build(Connector::new(connector)))
}
