//! This process's own connections to upstreams, as long as they are open: one that is redirected to our own listener would
//! be answered by itself, again and again.

use std::collections::HashSet;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::redirect::canonical;

/// A connection's two ends, as it was opened: one alone may be that of several.
type Ends = (SocketAddr, SocketAddr);

/// Of the whole process: what any of its upstreams opened is its own.
static OPEN: LazyLock<Mutex<HashSet<Ends>>> = LazyLock::new(Mutex::default);

fn open() -> MutexGuard<'static, HashSet<Ends>> {
    // Each change is whole even after a panic elsewhere.
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a client's connection to a server is ours. Such a connection is noted before a byte is sent over it.
pub(crate) fn is_ours(client: SocketAddr, server: SocketAddr) -> bool {
    open().contains(&(client, server))
}

/// A connection to an upstream, noted while it is open.
pub(super) struct Own {
    stream: TokioIo<TcpStream>,
    ends: Option<Ends>,
}

impl Own {
    /// Notes a connection.
    pub(super) fn of(stream: TokioIo<TcpStream>) -> Self {
        let (client, server) = (stream.inner().local_addr().ok(), stream.inner().peer_addr().ok());
        let ends = client.map(canonical).zip(server.map(canonical));
        open().extend(ends);
        Self { stream, ends }
    }

    fn stream(self: Pin<&mut Self>) -> Pin<&mut TokioIo<TcpStream>> {
        Pin::new(&mut self.get_mut().stream)
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // Nobody else has these ends until the stream is dropped, which comes after this.
        if let Some(ends) = &self.ends {
            open().remove(ends);
        }
    }
}

impl Connection for Own {
    fn connected(&self) -> Connected {
        self.stream.connected()
    }
}

impl Read for Own {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_read(cx, buf)
    }
}

impl Write for Own {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.stream().poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write_vectored(cx, bufs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_is_ours_while_it_is_open() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("it listens");
        let address = listener.local_addr().expect("an address");
        let stream = TcpStream::connect(address).await.expect("connected");
        let (_accepted, client) = listener.accept().await.expect("accepted");
        assert!(!is_ours(client, address));
        let own = Own::of(TokioIo::new(stream));
        assert!(is_ours(client, address) && !is_ours(address, client));
        drop(own);
        assert!(!is_ours(client, address));
    }
}
