//! Addresses of this process's own connections to upstreams, as long as they are open: one that is redirected to our own
//! listener would be answered by itself, again and again.

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

/// Of the whole process: what any of its upstreams opened is its own.
static OPEN: LazyLock<Mutex<HashSet<SocketAddr>>> = LazyLock::new(Mutex::default);

fn open() -> MutexGuard<'static, HashSet<SocketAddr>> {
    // Each change is whole even after a panic elsewhere.
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a client's address is that of a connection of ours. Such a connection is noted before a byte is sent over it.
pub(crate) fn is_ours(client: SocketAddr) -> bool {
    open().contains(&client)
}

/// A connection to an upstream, noted while it is open.
pub(super) struct Own {
    stream: TokioIo<TcpStream>,
    address: Option<SocketAddr>,
}

impl Own {
    /// Notes a connection.
    pub(super) fn of(stream: TokioIo<TcpStream>) -> Self {
        let address = stream.inner().local_addr().ok().map(canonical);
        open().extend(address);
        Self { stream, address }
    }

    fn stream(self: Pin<&mut Self>) -> Pin<&mut TokioIo<TcpStream>> {
        Pin::new(&mut self.get_mut().stream)
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // The port is taken until the stream is dropped, which comes after this.
        if let Some(address) = self.address {
            open().remove(&address);
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
        assert!(!is_ours(client));
        let own = Own::of(TokioIo::new(stream));
        assert!(is_ours(client) && !is_ours(address));
        drop(own);
        assert!(!is_ours(client));
    }
}
