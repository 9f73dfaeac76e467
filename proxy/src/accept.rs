//! Accepts connections: HTTP/1.1 and h2c, limits, drain.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::body::{Body, BrokenOff};
use crate::config::Limits;
use crate::stack::Stack;

/// How long to wait for others to free what an accept lacked.
const RECOVERY: Duration = Duration::from_millis(100);

/// What a connection may take.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Bytes of a request's head.
    pub head: usize,
    /// How long a client may take to send it.
    pub head_timeout: Duration,
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
            connections: limits.connections,
            drain: limits.drain,
        }
    }
}

/// Serves the data listener until `stop` resolves, then lets open requests finish.
pub async fn serve(listener: TcpListener, stack: Stack, settings: Settings, stop: impl Future<Output = ()>) {
    let server = server(&settings);
    let open = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(settings.connections.min(Semaphore::MAX_PERMITS)));
    let closing = CancellationToken::new();
    let mut stop = pin!(stop);
    loop {
        let (stream, place) = tokio::select! {
            () = &mut stop => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let stack = stack.clone().map_request(received);
        let (server, watcher) = (server.clone(), open.watcher());
        let (closing, patience) = (closing.clone(), settings.head_timeout);
        tokio::spawn(async move {
            let _place = place;
            // Until the first bytes tell the version no timer of hyper's runs.
            let mut first = [0];
            let spoke = tokio::select! {
                spoke = tokio::time::timeout(patience, stream.peek(&mut first)) => matches!(spoke, Ok(Ok(_))),
                () = closing.cancelled() => false,
            };
            if !spoke {
                return;
            }
            let connection = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(stack));
            let connection = watcher.watch(connection.into_owned());
            if let Err(error) = connection.await {
                tracing::debug!(target: "plimsoll", %error, "connection ended early");
            }
        });
    }
    drop(listener);
    closing.cancel();
    if tokio::time::timeout(settings.drain, open.shutdown()).await.is_err() {
        tracing::warn!(target: "plimsoll", drain = ?settings.drain, "requests were still open at the end of the drain");
    }
}

async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> (TcpStream, OwnedSemaphorePermit) {
    let place = places.clone().acquire_owned().await.expect("the semaphore is never closed. This is a bug.");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Tokens leave one by one: do not wait to fill a packet.
                let _ = stream.set_nodelay(true);
                return (stream, place);
            }
            // Out of file descriptors, or the client left already: neither ends the listener.
            Err(error) => {
                tracing::warn!(target: "plimsoll", %error, "could not accept a connection");
                tokio::time::sleep(RECOVERY).await;
            }
        }
    }
}

fn received(request: Request<Incoming>) -> Request<Body> {
    request.map(|body| body.map_err(BrokenOff::new).boxed_unsync())
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
