//! A sidecar in operation: both listeners, the configuration in force, reload and drain.

use std::sync::Arc;

use arc_swap::ArcSwap;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::mpsc::Receiver;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::accept;
use crate::admin::{self, Admin};
use crate::assemble::{AcquireError, acquire};
use crate::config::{self, Address, Change, Loaded, Sources, Watch};
use crate::forward::watch;
use crate::kept::{Kept, KeptFolderError};
use crate::listen::{Listener, Listeners};
use crate::live::{Live, Shared};
use crate::readings;
use crate::stack::stack;
use crate::telemetry::{GenAi, Otlp, Protocol, Telemetry, TelemetryConfig, TelemetryError};

/// The sidecar cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on `{address}` (`{option}`): {source}")]
    Listen {
        /// The option that holds the address.
        option: &'static str,
        /// The address.
        address: Address,
        /// Why.
        source: std::io::Error,
    },
    /// Telemetry cannot start.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// A model, tokenizer or client is not to be had.
    #[error(transparent)]
    Acquire(#[from] AcquireError),
    /// Loading panicked.
    #[error("loading failed: {0}")]
    Crashed(#[from] JoinError),
    /// A folder of what is kept cannot be used.
    #[error(transparent)]
    Kept(#[from] KeptFolderError),
    /// The configuration's folder cannot be watched.
    #[error("the configuration cannot be watched for changes: {0}")]
    Watch(String),
}

/// A sidecar that serves.
pub struct Running {
    /// Where clients connect.
    pub data: Address,
    /// Where redirected connections come in.
    pub transparent: Option<Address>,
    /// Where operators connect.
    pub admin: Address,
    shared: Arc<Shared>,
    stop: CancellationToken,
    serving: JoinHandle<()>,
    administering: JoinHandle<()>,
    // Dropping it ends the watch.
    _reloading: Option<Watch>,
}

/// Starts a sidecar: the admin listener first, so that probes see it load; the data listener when it is ready.
/// With `sources`, their file is watched and reloaded.
pub async fn start(loaded: Loaded, sources: Option<Sources>) -> Result<Running, StartError> {
    let config = loaded.config.clone();
    let (data, data_address) = listen("listen.data", &config.listen.data, &config.listen).await?;
    let (redirected, transparent) = transparent(&config.listen).await?.unzip();
    let (admin, admin_address) = listen("listen.admin", &config.listen.admin, &config.listen).await?;
    let telemetry = Telemetry::start(&telemetry_config(&config.telemetry))?;
    let kept = Arc::new(Kept::open(&config)?);
    let shared = Arc::new(Shared {
        live: ArcSwap::from_pointee(Live::nothing(&config)),
        started: config.clone(),
        telemetry,
        kept,
    });
    readings::observe(&shared);
    let stop = CancellationToken::new();
    let reloads = sources.map(|sources| Watch::start(sources, &loaded)).transpose();
    let (watch, changes) = reloads.map_err(|error| StartError::Watch(error.to_string()))?.unzip();
    let admin_state = Admin::new(shared.clone(), config.listen.clone(), watch.as_ref(), stop.clone());
    let administering = tokio::spawn(admin::serve(admin, admin_state, stop.clone()));
    activate(&shared, loaded).await?;
    if let (Some(changes), Some(watch)) = (changes, &watch) {
        tokio::spawn(reload(shared.clone(), changes, watch.refuser()));
    }
    let serving = tokio::spawn(accept::serve(
        Listeners { data, redirected },
        stack(shared.clone()),
        accept::Settings::from(&config.limits),
        stop.clone().cancelled_owned(),
    ));
    Ok(Running {
        data: data_address,
        transparent,
        admin: admin_address,
        shared,
        stop,
        serving,
        administering,
        _reloading: watch,
    })
}

impl Running {
    /// Stops accepting, lets open requests finish within `limits.drain`, and delivers what telemetry is left.
    pub async fn drain(self) {
        self.stop.cancel();
        let _ = self.serving.await;
        let preparer = self.shared.live.load().preparer.clone();
        preparer.stop().await;
        let telemetry = self.shared.telemetry.clone();
        let delivered = tokio::task::spawn_blocking(move || telemetry.shutdown()).await;
        if let Ok(Err(undelivered)) = delivered {
            tracing::warn!(target: "plimsoll", %undelivered, "telemetry was not delivered");
        }
        self.administering.abort();
        // Its socket's file goes with it.
        let _ = self.administering.await;
    }

    /// The configuration in force.
    pub fn live(&self) -> Arc<Live> {
        self.shared.live.load_full()
    }
}

async fn listen(
    option: &'static str,
    address: &Address,
    settings: &config::Listen,
) -> Result<(Listener, Address), StartError> {
    let fault = |source| StartError::Listen { option, address: address.clone(), source };
    Listener::bind(address, settings.socket_mode).await.map_err(fault)
}

/// The listener for redirected connections, where there is one.
async fn transparent(settings: &config::Listen) -> Result<Option<(TcpListener, Address)>, StartError> {
    let Some(address) = settings.transparent else { return Ok(None) };
    let listening = TcpListener::bind(address).await;
    let listening = listening.and_then(|listener| Ok((listener.local_addr()?, listener)));
    let option = "listen.transparent";
    let (bound, listener) =
        listening.map_err(|source| StartError::Listen { option, address: Address::Tcp(address), source })?;
    Ok(Some((listener, Address::Tcp(bound))))
}

/// Loads a configuration beside the one in force, and swaps.
async fn activate(shared: &Arc<Shared>, loaded: Loaded) -> Result<(), StartError> {
    let acquiring = shared.clone();
    let live = tokio::task::spawn_blocking(move || acquire(&loaded, &acquiring)).await??;
    watch::begin(&live, shared.started.listen.transparent.is_some()).await;
    shared.telemetry.config_loaded(live.revision.generation);
    shared.live.store(Arc::new(live));
    Ok(())
}

async fn reload(shared: Arc<Shared>, mut changes: Receiver<Change>, refuse: impl Fn(&str)) {
    while let Some(change) = changes.recv().await {
        let result = match change {
            Ok(loaded) => activate(&shared, loaded).await.map_err(|error| {
                refuse(&error.to_string());
                error.to_string()
            }),
            Err(faults) => Err(faults.to_string()),
        };
        if let Err(error) = result {
            shared.telemetry.config_refused();
            tracing::error!(target: "plimsoll", "the changed configuration is refused, the former stays: {error}");
            continue;
        }
        let revision = &shared.live.load().revision;
        tracing::info!(target: "plimsoll", generation = revision.generation, hash = revision.hash,
            needs_restart = ?revision.needs_restart, "configuration reloaded");
    }
}

fn telemetry_config(settings: &config::Telemetry) -> TelemetryConfig {
    TelemetryConfig {
        service_name: settings.service_name.clone(),
        instance_id: uuid::Uuid::now_v7().to_string(),
        version: env!("CARGO_PKG_VERSION"),
        otlp: settings.otlp.as_ref().map(|otlp| Otlp {
            endpoint: otlp.endpoint.to_string(),
            protocol: match otlp.protocol {
                config::OtlpProtocol::Http => Protocol::Http,
                config::OtlpProtocol::Grpc => Protocol::Grpc,
            },
            headers: otlp
                .headers
                .iter()
                .map(|(name, value)| (name.clone(), value.expose().to_owned()))
                .collect(),
        }),
        sample_ratio: settings.sample,
        trust_incoming: settings.trust_incoming,
        baggage: settings.baggage.clone(),
        capture_content: settings.capture_content,
        gen_ai: match settings.gen_ai {
            config::GenAiNames::Latest => GenAi::Latest,
            config::GenAiNames::V1_36 => GenAi::V1_36,
        },
    }
}
