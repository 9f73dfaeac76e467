//! Watches upstreams' servers beside the requests: their windows, where they are asked for them, and their health.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::Method;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::endpoints::Endpoint;
use super::upstream::HttpUpstream;
use crate::config::HealthCheck;
use crate::live::{Kind, Live};

/// How long the start waits for servers to tell their windows, and for their names.
const START: Duration = Duration::from_secs(2);
/// A server that told its window is asked again after this: it may have been started anew, otherwise.
const REFRESH: Duration = Duration::from_secs(300);
/// One that did not is asked again after this, then after ever longer,
const FIRST: Duration = Duration::from_secs(1);
/// up to this.
const LONGEST: Duration = Duration::from_secs(60);
/// Names are resolved this often.
const NAMES: Duration = Duration::from_secs(5);

/// Begins to watch the upstreams that are not watched yet; `named`: what their names resolve to, too. Returns when servers
/// have told their windows and names are resolved, or that took too long.
pub async fn begin(live: &Live, named: bool) {
    let (mut learning, mut resolving) = (Vec::new(), Vec::new());
    for upstream in &live.upstreams {
        let Kind::Http(server) = &upstream.kind else { continue };
        if server.is_watched() {
            continue;
        }
        if let Some(health) = server.settings.health.clone() {
            tokio::spawn(checks(Arc::downgrade(server), server.stop.clone(), health));
        }
        if named && server.has_names() {
            resolving.push(resolve(server.clone()));
        }
        if server.settings.ask_context {
            learning.push(learn(server.clone()));
        }
    }
    let (learning, resolving) = (join_all(learning), join_all(resolving));
    futures_util::future::join(learning, resolving).await;
}

/// Resolves a server's names, and goes on doing so.
async fn resolve(server: Arc<HttpUpstream>) {
    // Whoever is asked may be slow to answer; the next time comes soon.
    let _ = tokio::time::timeout(START, server.resolve()).await;
    let (weak, stop) = (Arc::downgrade(&server), server.stop.clone());
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(NAMES) => {}
            }
            let Some(server) = weak.upgrade() else { return };
            server.resolve().await;
        }
    });
}

/// Asks a server for its window, and goes on asking.
async fn learn(server: Arc<HttpUpstream>) {
    let known = tokio::time::timeout(START, server.learn_window()).await.unwrap_or(false);
    if !known {
        tracing::warn!(target: "plimsoll", upstream = server.name, fallback = server.settings.context,
            "the server does not tell its window: it will be asked again");
    }
    let (weak, stop, returned) = (Arc::downgrade(&server), server.stop.clone(), server.returned.clone());
    tokio::spawn(async move {
        let mut pause = if known { REFRESH } else { FIRST };
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = returned.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
            let Some(server) = weak.upgrade() else { return };
            pause = if server.learn_window().await { REFRESH } else { (pause * 2).min(LONGEST) };
        }
    });
}

/// Asks the replicas of a server whether they are well, again and again.
async fn checks(server: Weak<HttpUpstream>, stop: CancellationToken, settings: HealthCheck) {
    let mut ticks = tokio::time::interval(settings.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let Some(server) = server.upgrade() else { return };
        let checks = server.endpoints.all().iter().map(|endpoint| server.check(endpoint, &settings));
        join_all(checks).await;
    }
}

impl HttpUpstream {
    async fn check(&self, endpoint: &Endpoint, settings: &HealthCheck) {
        let Some(request) = self.question(endpoint, Method::GET, &settings.path, Bytes::new()) else {
            return;
        };
        let answer = tokio::time::timeout(settings.timeout, self.client.request(request)).await;
        if !matches!(answer, Ok(Ok(response)) if response.status().is_success()) {
            endpoint.failed(Instant::now(), &self.settings.ejection);
        } else if endpoint.answered() {
            self.returned.notify_one();
        }
    }
}
