//! Accepts connections: HTTP/1.1 and h2c, limits, drain.

mod connection;
mod unread;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::body::Body;
use crate::config::Limits;
use crate::listen::{Listeners, Origin, Stream};
use crate::stack::Stack;

use connection::Connection;

/// How long to wait for others to free what an accept lacked.
const RECOVERY: Duration = Duration::from_millis(100);

/// What a connection may take.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Bytes of a request's head.
    pub head: usize,
    /// How long a client may take to send it.
    pub head_timeout: Duration,
    /// How long a client may take nothing of what it asked for.
    pub answer_idle: Duration,
    /// Open connections; further ones wait to be accepted.
    pub connections: usize,
    /// How long open requests may take after the listener has stopped.
    pub drain: Duration,
}

impl From<&Limits> for Settings {
    fn from(limits: &Limits) -> Self {
        Self {
            head: usize::try_from(limits.head).unwrap_or(usize::MAX),
            head_timeout: limits.head_timeout,
            answer_idle: limits.answer_idle,
            connections: limits.connections,
            drain: limits.drain,
        }
    }
}

/// Serves the listeners of clients until `stop` resolves, then lets open requests finish.
pub async fn serve(listeners: Listeners, stack: Stack, settings: Settings, stop: impl Future<Output = ()>) {
    let server = server(&settings);
    let open = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(settings.connections.min(Semaphore::MAX_PERMITS)));
    let closing = CancellationToken::new();
    let mut stop = pin!(stop);
    loop {
        let (stream, origin, place) = tokio::select! {
            () = &mut stop => break,
            accepted = accept(&listeners, &places) => accepted,
        };
        let stack = stack.clone().map_request(move |request| received(request, origin));
        let (server, watcher) = (server.clone(), open.watcher());
        let closing = closing.clone();
        tokio::spawn(async move {
            let _place = place;
            let opened = tokio::select! {
                opened = tokio::time::timeout(settings.head_timeout, Connection::open(stream, settings.answer_idle)) => opened,
                () = closing.cancelled() => return,
            };
            let Ok(Ok(stream)) = opened else { return };
            if origin.redirected.is_some() && stream.speaks_tls() {
                tracing::warn!(target: "plimsoll", client = ?origin.peer, "a redirected connection speaks TLS: \
                    only plain HTTP is taken, leave its port out of the redirection");
                return;
            }
            let connection = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(stack));
            let connection = watcher.watch(connection.into_owned());
            if let Err(error) = connection.await {
                tracing::debug!(target: "plimsoll", %error, "connection ended early");
            }
        });
    }
    drop(listeners);
    closing.cancel();
    if tokio::time::timeout(settings.drain, open.shutdown()).await.is_err() {
        tracing::warn!(target: "plimsoll", drain = ?settings.drain, "requests were still open at the end of the drain");
    }
}

async fn accept(listeners: &Listeners, places: &Arc<Semaphore>) -> (Stream, Origin, OwnedSemaphorePermit) {
    let place = places.clone().acquire_owned().await.expect("the semaphore is never closed. This is a bug.");
    loop {
        match listeners.accept().await {
            Ok((stream, origin)) => return (stream, origin, place),
            // Out of file descriptors, or the client left already: neither ends a listener.
            Err(error) => {
                tracing::warn!(target: "plimsoll", %error, "could not accept a connection");
                tokio::time::sleep(RECOVERY).await;
            }
        }
    }
}

fn received(request: Request<Incoming>, origin: Origin) -> Request<Body> {
    let mut request = unread::request(request);
    if let Some(peer) = origin.peer {
        // For the record: whose request it is.
        request.extensions_mut().insert(peer);
    }
    if let Some(redirected) = origin.redirected {
        request.extensions_mut().insert(redirected);
    }
    request
}

fn server(settings: &Settings) -> auto::Builder<TokioExecutor> {
    let mut server = auto::Builder::new(TokioExecutor::new());
    // Without a timer hyper's header timeout never fires. Its buffer cannot be smaller than 8 KiB.
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.head_timeout)
        .max_buf_size(settings.head.max(8 * 1024));
    server
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(Duration::from_secs(30)))
        .max_header_list_size(u32::try_from(settings.head).unwrap_or(u32::MAX));
    server
}
