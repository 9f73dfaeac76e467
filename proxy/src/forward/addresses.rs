//! The addresses of a server's replicas: what redirected connections were going to.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::endpoints::Endpoint;
use super::upstream::HttpUpstream;
use crate::redirect::canonical;

/// How long an address counts after a name last had it: clients keep what they resolved for a while.
const KNOWN: Duration = Duration::from_secs(300);

/// Addresses that names had, and when they last did.
#[derive(Default)]
pub(super) struct Addresses(Mutex<HashMap<SocketAddr, Instant>>);

impl Addresses {
    fn seen(&self, found: impl Iterator<Item = SocketAddr>, now: Instant) {
        let mut known = self.known();
        known.retain(|_, seen| now.duration_since(*seen) < KNOWN);
        known.extend(found.map(|address| (canonical(address), now)));
    }

    fn has(&self, address: SocketAddr, now: Instant) -> bool {
        self.known().get(&address).is_some_and(|seen| now.duration_since(*seen) < KNOWN)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<SocketAddr, Instant>> {
        // Each change is whole even after a panic elsewhere.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a redirected connection can have been going to: no TLS is spoken here, and no path goes before its requests' own.
fn is_plain(endpoint: &Endpoint) -> bool {
    endpoint.url.scheme_str() == Some("http") && matches!(endpoint.url.path(), "" | "/")
}

/// The address in an URL that has no name.
fn literal(endpoint: &Endpoint) -> Option<SocketAddr> {
    let (host, port) = endpoint.address();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Some(canonical(SocketAddr::new(host.parse::<IpAddr>().ok()?, port)))
}

impl HttpUpstream {
    /// Whether one of its replicas has an address, as far as is known.
    pub(crate) fn is_at(&self, address: SocketAddr) -> bool {
        let mut plain = self.endpoints.all().iter().filter(|endpoint| is_plain(endpoint));
        plain.any(|endpoint| literal(endpoint) == Some(address))
            || self.addresses.has(address, Instant::now())
    }

    /// Whether names have to be resolved to know its addresses.
    pub(super) fn has_names(&self) -> bool {
        self.endpoints.all().iter().any(|endpoint| is_plain(endpoint) && literal(endpoint).is_none())
    }

    /// Asks for the addresses of its replicas' names.
    pub(super) async fn resolve(&self) {
        for endpoint in self.endpoints.all().iter().filter(|endpoint| is_plain(endpoint)) {
            if literal(endpoint).is_some() {
                continue;
            }
            match tokio::net::lookup_host(endpoint.address()).await {
                Ok(found) => self.addresses.seen(found, Instant::now()),
                Err(error) => {
                    tracing::warn!(target: "plimsoll", upstream = self.name, endpoint = %endpoint.url, %error,
                        "the server's name is not resolved: connections redirected on their way there may be refused");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_counts_for_a_while() {
        let addresses = Addresses::default();
        let [first, second] =
            ["10.0.0.1:80", "[::ffff:10.0.0.2]:80"].map(|text| text.parse().expect("an address"));
        let start = Instant::now();
        addresses.seen([first].into_iter(), start);
        addresses.seen([second].into_iter(), start + KNOWN / 2);
        let has = |address, later| addresses.has(address, start + later);
        assert!(has(first, KNOWN / 2) && has(canonical(second), KNOWN / 2));
        assert!(!has(first, KNOWN) && has(canonical(second), KNOWN));
        assert!(!has("10.0.0.2:81".parse().expect("an address"), KNOWN));
    }
}
