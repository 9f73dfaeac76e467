//! The replicas of an upstream: which of them a request goes to, and how they fare.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Uri;
use tokio::time::Instant;

use super::affinity::{Key, seed};
use super::health::{Health, Pass};
use crate::config::{self, Ejection};

/// How an attempt ended, as metrics name it.
pub(super) const RESULTS: [&str; 5] = ["answered", "status", "unreachable", "broken", "timeout"];

/// One replica.
pub(super) struct Endpoint {
    pub(super) url: Uri,
    /// Host and port.
    address: (String, u16),
    seed: u64,
    health: Mutex<Health>,
    in_flight: AtomicUsize,
    results: [AtomicU64; RESULTS.len()],
    ejections: AtomicU64,
}

impl Endpoint {
    fn new(url: &Uri) -> Self {
        let port = url.port_u16().unwrap_or(if url.scheme_str() == Some("https") { 443 } else { 80 });
        Self {
            address: (url.host().unwrap_or_default().to_owned(), port),
            seed: seed(url),
            url: url.clone(),
            health: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            results: Default::default(),
            ejections: AtomicU64::new(0),
        }
    }

    /// Host and port.
    pub(super) fn address(&self) -> (&str, u16) {
        (&self.address.0, self.address.1)
    }

    /// It answered, a request or a health check. Tells whether it had failed before.
    pub(super) fn answered(&self) -> bool {
        self.health().answered()
    }

    /// It failed, a request or a health check.
    pub(super) fn failed(&self, now: Instant, settings: &Ejection) {
        if self.health().failed(now, settings) {
            self.ejections.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(target: "plimsoll", endpoint = %self.url, "the server fails: it is left out for a while");
        }
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        // Each change is whole even after a panic elsewhere.
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn load(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }
}

/// One replica as it stands.
#[derive(Debug, Clone)]
pub struct EndpointState {
    /// Its address.
    pub url: String,
    /// `in`, `out`, or `probing`: the next request, or one under way, finds out.
    pub health: &'static str,
    /// Failures since the last answer.
    pub failures: u32,
    /// For how long it is still left out.
    pub out_for: Option<Duration>,
    /// Requests under way.
    pub in_flight: u64,
    /// Attempts by how they ended: `answered`, `status`, `unreachable`, `broken`, `timeout`.
    pub attempts: Vec<(&'static str, u64)>,
    /// Times that it was put out.
    pub ejections: u64,
}

/// The replicas.
pub(super) struct Endpoints {
    all: Vec<Arc<Endpoint>>,
    ejection: Ejection,
    max_load: Option<f64>,
    /// Whose turn it is among those with as much to do.
    turn: AtomicUsize,
}

impl Endpoints {
    pub(super) fn new(settings: &config::HttpUpstream) -> Self {
        Self {
            all: settings.urls.iter().map(|url| Arc::new(Endpoint::new(url))).collect(),
            ejection: settings.ejection,
            max_load: settings.max_load,
            turn: AtomicUsize::new(0),
        }
    }

    pub(super) fn all(&self) -> &[Arc<Endpoint>] {
        &self.all
    }

    /// Whether a request that these were asked with, in vain, could go to another one.
    pub(super) fn has_other(&self, tried: &[Arc<Endpoint>]) -> bool {
        self.all.iter().any(|endpoint| !is_in(tried, endpoint))
    }

    /// The replica for the next attempt, and leave to send it there. Those that were tried come last, those that are out
    /// only where all are.
    pub(super) fn lease(&self, key: Option<Key>, tried: &[Arc<Endpoint>], now: Instant) -> Lease {
        let mut order = self.order(key);
        // Stable: each part keeps its order.
        order.sort_by_key(|endpoint| is_in(tried, endpoint));
        let fresh = order.partition_point(|endpoint| !is_in(tried, endpoint));
        let candidates = if fresh > 0 { &order[..fresh] } else { &order };
        let most = key.and_then(|_| self.most(now));
        let roomy = |endpoint: &&&Arc<Endpoint>| most.is_none_or(|most| endpoint.load() < most);
        let admit = |endpoint: &Arc<Endpoint>| {
            endpoint.health().admit(now).map(|pass| Lease::new(endpoint, pass, self.ejection))
        };
        let mut leases = candidates.iter().filter(roomy).chain(candidates).filter_map(|one| admit(one));
        let lease = leases.next();
        drop(leases);
        lease.unwrap_or_else(|| Lease::new(candidates[0], Pass::Usual, self.ejection))
    }

    /// All of them, best first: by the conversation, or by what they have to do.
    fn order(&self, key: Option<Key>) -> Vec<&Arc<Endpoint>> {
        let mut order: Vec<_> = self.all.iter().collect();
        if let Some(key) = key {
            order.sort_by_key(|endpoint| std::cmp::Reverse(key.score(endpoint.seed)));
        } else {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) % order.len();
            order.rotate_left(turn);
            order.sort_by_key(|endpoint| endpoint.load());
        }
        order
    }

    /// Requests that one may have under way before its conversations go elsewhere: consistent hashing with bounded
    /// loads (Mirrokni, Thorup, Zadimoghaddam 2016), over those that are not out.
    fn most(&self, now: Instant) -> Option<usize> {
        let bound = self.max_load?;
        let well = self.all.iter().filter(|endpoint| endpoint.health().word(now) != "out").count().max(1);
        let load = self.all.iter().map(|endpoint| endpoint.load()).sum::<usize>() + 1;
        // Loads are far below 2^52, and the bound is positive.
        Some((bound * load as f64 / well as f64).ceil() as usize)
    }

    /// How each of them fares.
    pub(super) fn states(&self, now: Instant) -> Vec<EndpointState> {
        let state = |endpoint: &Arc<Endpoint>| {
            let health = endpoint.health();
            let counts = RESULTS.iter().zip(&endpoint.results);
            EndpointState {
                url: endpoint.url.to_string().trim_end_matches('/').to_owned(),
                health: health.word(now),
                failures: health.failures(),
                out_for: health.out_for(now),
                in_flight: endpoint.load() as u64,
                attempts: counts.map(|(name, count)| (*name, count.load(Ordering::Relaxed))).collect(),
                ejections: endpoint.ejections.load(Ordering::Relaxed),
            }
        };
        self.all.iter().map(state).collect()
    }
}

fn is_in(tried: &[Arc<Endpoint>], endpoint: &Arc<Endpoint>) -> bool {
    tried.iter().any(|one| Arc::ptr_eq(one, endpoint))
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// With an answer that says nothing against the server.
    Answered,
    /// With 502, 503 or 504.
    Status,
    /// Without a connection.
    Unreachable,
    /// It broke off.
    Broken,
    /// It took too long.
    Timeout,
}

/// A request's stay at a replica, from its being sent to the last byte of the answer.
pub(super) struct Lease {
    endpoint: Arc<Endpoint>,
    pass: Pass,
    ejection: Ejection,
    settled: bool,
}

impl Lease {
    fn new(endpoint: &Arc<Endpoint>, pass: Pass, ejection: Ejection) -> Self {
        endpoint.in_flight.fetch_add(1, Ordering::Relaxed);
        Self { endpoint: endpoint.clone(), pass, ejection, settled: false }
    }

    pub(super) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Tells how the attempt ended. True where the server answers again after it had failed.
    pub(super) fn settle(&mut self, verdict: Verdict, now: Instant) -> bool {
        self.settled = true;
        self.endpoint.results[verdict as usize].fetch_add(1, Ordering::Relaxed);
        if verdict == Verdict::Answered {
            return self.endpoint.answered();
        }
        self.endpoint.failed(now, &self.ejection);
        false
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.endpoint.in_flight.fetch_sub(1, Ordering::Relaxed);
        if self.pass == Pass::Probe && !self.settled {
            self.endpoint.health().abandoned();
        }
    }
}

#[cfg(test)]
#[path = "endpoints_tests.rs"]
mod tests;
