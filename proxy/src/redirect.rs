//! Connections that the kernel redirected here on their way to an upstream (iptables' or nftables' `REDIRECT`): where each
//! was going decides what may become of it.

use std::net::SocketAddr;

use socket2::{SockAddr, SockRef};
use thiserror::Error;
use tokio::net::TcpStream;

use crate::forward::own;
use crate::live::{Kind, Route};

/// How the accepted socket of a redirected connection came here.
#[derive(Debug, Clone, Copy)]
pub struct Redirected {
    /// Where its client believes to be connected to; none where it was not redirected.
    original: Option<SocketAddr>,
    /// Its client's address.
    peer: Option<SocketAddr>,
}

/// A redirected connection whose requests go nowhere.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum RedirectError {
    /// Somebody asks the listener itself.
    #[error(
        "this listener takes connections that the kernel redirected, and this one was not: ask `listen.data`"
    )]
    Direct,
    /// Only upstreams of the configuration are reached through here.
    #[error(
        "`{0}` is no address of an upstream that a route leads to: redirect connections to upstreams alone"
    )]
    NoUpstream(SocketAddr),
    /// Our own connection to the upstream came back to us.
    #[error(
        "the connection to `{0}` is this proxy's own: leave it out of the redirection, as by `-m owner ! --uid-owner`"
    )]
    Loop(SocketAddr),
}

impl Redirected {
    /// Asks the kernel (`SO_ORIGINAL_DST`) where an accepted connection was going.
    pub(crate) fn of(stream: &TcpStream) -> Self {
        let local = stream.local_addr().ok().map(canonical);
        let socket = SockRef::from(stream);
        let original = match local {
            Some(local) if local.is_ipv4() => socket.original_dst_v4(),
            _ => socket.original_dst_v6(),
        };
        let original = original.ok().as_ref().and_then(SockAddr::as_socket).map(canonical);
        // Where connections are tracked, one that was not redirected has its own address as the original one.
        let original = original.filter(|original| Some(*original) != local);
        Self { original, peer: stream.peer_addr().ok().map(canonical) }
    }

    /// Where the connection was going, if its requests may go on.
    ///
    /// # Errors
    /// It was not redirected, or is our own.
    pub(crate) fn original(&self) -> Result<SocketAddr, RedirectError> {
        let original = self.original.ok_or(RedirectError::Direct)?;
        match self.peer {
            Some(peer) if own::is_ours(peer, original) => Err(RedirectError::Loop(original)),
            _ => Ok(original),
        }
    }
}

/// Whether a route leads to the server at an address.
pub(crate) fn leads_to(route: &Route, address: SocketAddr) -> bool {
    match &route.upstream.kind {
        Kind::Http(upstream) => upstream.is_at(address),
        Kind::Engine(_) => false,
    }
}

/// An IPv4 address in its own form, also where the socket is of IPv6.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_connection_that_nobody_redirected_goes_nowhere() {
        for address in ["127.0.0.1:0", "[::]:0"] {
            let listener = TcpListener::bind(address).await.expect("it listens");
            let port = listener.local_addr().expect("an address").port();
            let _client = TcpStream::connect(("127.0.0.1", port)).await.expect("connected");
            let (accepted, _) = listener.accept().await.expect("accepted");
            assert_eq!(Redirected::of(&accepted).original(), Err(RedirectError::Direct), "{address}");
        }
    }

    #[test]
    fn mapped_addresses_are_those_of_ipv4() {
        let mapped: SocketAddr = "[::ffff:10.0.0.1]:80".parse().expect("an address");
        assert_eq!(canonical(mapped).to_string(), "10.0.0.1:80");
    }
}
