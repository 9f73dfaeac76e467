//! A connection as hyper gets it. Its first bytes, which tell the version of HTTP, are read under a time limit: until
//! they are there none of hyper's timers runs. And it ends where its client takes nothing of an answer for too long.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::listen::GiveUp;

/// What an HTTP/2 connection begins with (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection whose first bytes were read already, and are read again.
pub(super) struct Connection<S> {
    first: [u8; PREFACE.len()],
    read: usize,
    given: usize,
    stream: S,
    patience: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S: AsyncRead + Unpin> Connection<S> {
    /// Reads until the version is clear. Fails where the client leaves before. Later, a write fails that waits for
    /// longer than `patience`.
    pub(super) async fn open(mut stream: S, patience: Duration) -> io::Result<Self> {
        let mut first = [0; PREFACE.len()];
        let mut read = 0;
        while first[..read] == PREFACE[..read] && read < PREFACE.len() {
            match stream.read(&mut first[read..]).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                more => read += more,
            }
        }
        Ok(Self { first, read, given: 0, stream, patience, stalled: None })
    }

    /// Whether it begins as a TLS handshake does (RFC 8446, section 5.1): a record of type 22, version 3.
    pub(super) fn speaks_tls(&self) -> bool {
        self.first[0] == 22 && (self.read < 2 || self.first[1] == 3)
    }
}

impl<S: GiveUp + Unpin> Connection<S> {
    /// A write that waits does so only for as long as the patience lasts.
    fn written<T>(&mut self, polled: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.stalled = None;
            return polled;
        }
        let patience = self.patience;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        stalled.as_mut().poll(cx).map(|()| {
            self.stream.give_up();
            Err(io::ErrorKind::TimedOut.into())
        })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let rest = &self.first[self.given..self.read];
        if rest.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let count = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..count]);
        self.given += count;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + GiveUp + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.written(polled, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.written(polled, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    impl GiveUp for tokio::io::DuplexStream {
        fn give_up(&self) {}
    }

    #[tokio::test]
    async fn what_was_read_is_read_again() {
        for sent in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"P",
            b"PRIVATE / HTTP/1.1",
            &PREFACE[..],
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0",
        ] {
            let (mut client, server) = tokio::io::duplex(64);
            client.write_all(sent).await.expect("it fits");
            client.shutdown().await.expect("closed");
            let opened = Connection::open(server, Duration::from_secs(60)).await;
            if sent == b"P" {
                assert!(opened.is_err(), "it could have become either");
                continue;
            }
            let mut read = Vec::new();
            opened.expect("a version").read_to_end(&mut read).await.expect("read");
            assert_eq!(read, sent);
        }
    }

    #[tokio::test]
    async fn a_handshake_of_tls_is_known_by_its_first_bytes() {
        for (sent, tls) in
            [(&b"\x16\x03\x01\x02\x00\x01"[..], true), (b"\x16", true), (b"GET / HTTP/1.1", false)]
        {
            let (mut client, server) = tokio::io::duplex(64);
            client.write_all(sent).await.expect("it fits");
            let opened = Connection::open(server, Duration::from_secs(60)).await.expect("its first bytes");
            assert_eq!(opened.speaks_tls(), tls, "{sent:?}");
        }
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_left() {
        let (mut client, server) = tokio::io::duplex(16);
        client.write_all(b"GET").await.expect("it fits");
        let mut opened = Connection::open(server, Duration::from_millis(1)).await.expect("a version");
        opened.write_all(&[0; 16]).await.expect("it fits");
        let error = opened.write_all(&[1; 16]).await.expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
