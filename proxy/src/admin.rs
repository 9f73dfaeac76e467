//! The admin listener: status page, health, metrics, state, configuration, explain, slots. Never on the data port, never traced.

mod explain;
mod guard;
mod page;
mod slots;

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::config::{Listen, Watch};
use crate::listen::Listener;
use crate::live::{Live, Shared};
use crate::readings;

/// What the admin listener knows.
#[derive(Clone)]
pub struct Admin(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    listen: Listen,
    reloads: Box<dyn Fn() -> Value + Send + Sync>,
    stop: CancellationToken,
    started: Instant,
}

impl Admin {
    /// An admin listener's view of a sidecar.
    pub fn new(shared: Arc<Shared>, listen: Listen, watch: Option<&Watch>, stop: CancellationToken) -> Self {
        let reader = watch.map(Watch::reader);
        let reloads = Box::new(move || reader.as_ref().map_or(Value::Null, |reader| json!(reader())));
        Self(Arc::new(Inner { shared, listen, reloads, stop, started: Instant::now() }))
    }

    fn live(&self) -> Arc<Live> {
        self.0.shared.live.load_full()
    }
}

/// Serves until `stop`, and through the drain: probes want to see it.
pub async fn serve(listener: Listener, admin: Admin, stop: CancellationToken) {
    let limit = usize::try_from(admin.live().limits.body).unwrap_or(usize::MAX);
    let guarded = Router::new()
        .route("/state", get(state))
        .route("/config", get(config))
        .route("/explain", post(explain::posted))
        .route("/explain/{id}", get(explain::kept))
        .route("/slots", get(slots::list))
        .route("/slots/{action}", post(slots::act))
        .layer(DefaultBodyLimit::max(limit))
        .layer(middleware::from_fn_with_state(admin.clone(), guard::token));
    let open = Router::new()
        .route("/", get(page::page))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics));
    let router = open
        .merge(guarded)
        .layer(middleware::from_fn_with_state(admin.clone(), guard::host))
        .with_state(admin);
    let served = match listener {
        Listener::Tcp(listener) => axum::serve(listener, router).await,
        Listener::Unix(listener, _file) => axum::serve(listener, router).await,
    };
    if let Err(error) = served {
        tracing::error!(target: "plimsoll", %error, "the admin listener failed");
    }
    drop(stop);
}

/// Ready once the configuration is live, until the drain begins.
async fn ready(State(admin): State<Admin>) -> Response {
    if admin.0.stop.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response();
    }
    if admin.live().revision.generation == 0 {
        return (StatusCode::SERVICE_UNAVAILABLE, "loading\n").into_response();
    }
    "ready\n".into_response()
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let content_type = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (content_type, admin.0.shared.telemetry.prometheus()).into_response()
}

async fn state(State(admin): State<Admin>) -> Json<Value> {
    let live = admin.live();
    let routes: Vec<_> = live
        .routes
        .iter()
        .map(|route| {
            json!({
                "name": &*route.name,
                "upstream": &*route.upstream.name,
                "policy": &*route.policy,
                "mode": route.mode,
                "window_tokens": route.window(),
            })
        })
        .collect();
    let (requests, totals) = admin.0.shared.telemetry.recent();
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": admin.0.started.elapsed().as_secs(),
        "config": {
            "generation": live.revision.generation,
            "hash": live.revision.hash,
            "needs_restart": live.revision.needs_restart,
            "file": (admin.0.reloads)(),
        },
        "routes": routes,
        "upstreams": readings::state(&live),
        "totals": totals,
        "running": admin.0.shared.telemetry.running(),
        "requests": requests,
        "trace_url": admin.0.shared.started.telemetry.trace_url,
    }))
}

async fn config(State(admin): State<Admin>) -> Json<Value> {
    Json(admin.live().revision.redacted.clone())
}
