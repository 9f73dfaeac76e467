//! Makes a configuration live: acquire what can fail, then assemble what cannot. The same way at start and at reload.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use plimsoll_engine::text::{Certificate, Text, TextError};
use plimsoll_engine::{
    Batch, ContextLimit, Device, Engine, EngineConfig, KvDtype, LoadError, MemoryLimit, ModelPaths, NoShift,
    OffloadMove,
};
use plimsoll_policies::{Chain, Summariser};
use thiserror::Error;

use crate::config::{self, Config, EngineUpstream, Loaded, Tokenizer, needs_restart};
use crate::count::{Exact, Server};
use crate::forward::upstream::{ClientError, HttpUpstream};
use crate::keys::Keys;
use crate::live::{Counting, Embedded, Kind, Live, Revision, Route, Shared, Upstream};
use crate::readings::SlotNotes;
use crate::slot_files::Folder;
use crate::telemetry::{BatchFacts, LoadFacts, SpanRef, Telemetry};

/// A configuration that is valid but cannot be made live.
#[derive(Debug, Error)]
pub enum AcquireError {
    /// No ONNX Runtime was found, and an engine needs it.
    #[error(
        "upstream `{upstream}`: ONNX Runtime was not found: run `make runtime`, or set `runtime.onnxruntime` \
         or ORT_DYLIB_PATH to libonnxruntime.so"
    )]
    NoRuntime {
        /// The upstream's name.
        upstream: String,
    },
    /// The model cannot be loaded.
    #[error("upstream `{upstream}`: {source}")]
    Model {
        /// The upstream's name.
        upstream: String,
        /// Why.
        source: LoadError,
    },
    /// Its answers are to go on past their window.
    #[error(
        "upstream `{upstream}`: the context of this model cannot be shifted: {source}; leave `context_shift` out"
    )]
    Shift {
        /// The upstream's name.
        upstream: String,
        /// Why not.
        source: NoShift,
    },
    /// The tokenizer folder cannot be read.
    #[error("upstream `{upstream}`: {source}")]
    Tokenizer {
        /// The upstream's name.
        upstream: String,
        /// Why.
        source: TextError,
    },
    /// The HTTP client cannot be built.
    #[error("upstream `{upstream}`: {source}")]
    Client {
        /// The upstream's name.
        upstream: String,
        /// Why.
        source: ClientError,
    },
}

/// Loads what a configuration needs. Engines that are loaded already are taken over: one that changed keeps its
/// former settings until a restart. Blocks while models load.
pub fn acquire(loaded: &Loaded, shared: &Shared) -> Result<Live, AcquireError> {
    let (config, former, telemetry) = (&loaded.config, shared.live.load_full(), &shared.telemetry);
    let mut upstreams = BTreeMap::new();
    for (name, settings) in &config.upstreams {
        let kept = former.upstreams.iter().find(|upstream| &*upstream.name == name);
        let upstream = match (settings, kept) {
            (config::Upstream::Engine(_), Some(kept)) if matches!(kept.kind, Kind::Engine(_)) => kept.clone(),
            (config::Upstream::Engine(settings), _) => Arc::new(engine(name, settings, config, telemetry)?),
            (config::Upstream::Http(settings), Some(kept)) if stays(kept, settings) => kept.clone(),
            (config::Upstream::Http(settings), _) => Arc::new(http(name, settings)?),
        };
        upstreams.insert(name.as_str(), upstream);
    }
    let in_force = |name: &str| match &upstreams.get(name)?.kind {
        Kind::Engine(engine) => Some(&engine.settings),
        Kind::Http(_) => None,
    };
    let needs_restart = needs_restart(&shared.started, config, in_force);
    let routes = config.routes.iter().map(|settings| Arc::new(route(settings, config, &upstreams))).collect();
    Ok(Live {
        routes,
        upstreams: upstreams.into_values().collect(),
        keys: Keys::new(&config.keys),
        limits: config.limits,
        summaries: former.summaries.clone(),
        kept: shared.kept.clone(),
        explained: former.explained.clone(),
        explain: config.explain,
        preparer: former.preparer.clone(),
        revision: Revision {
            generation: former.revision.generation + 1,
            hash: loaded.hash.clone(),
            redacted: loaded.redacted.clone(),
            needs_restart,
        },
    })
}

/// Whether an upstream is what it was: its connections, and what is known of its servers, outlive a reload then. Its
/// certificates may have changed in their file.
fn stays(upstream: &Upstream, settings: &config::HttpUpstream) -> bool {
    let same = |server: &HttpUpstream| server.settings() == settings;
    settings.ca_file.is_none() && matches!(&upstream.kind, Kind::Http(server) if same(server))
}

impl Live {
    /// Before the first configuration is live: nothing is served.
    pub fn nothing(config: &Config) -> Self {
        let revision = Revision {
            generation: 0,
            hash: String::new(),
            redacted: serde_json::Value::Null,
            needs_restart: Vec::new(),
        };
        Self {
            routes: Vec::new(),
            upstreams: Vec::new(),
            keys: Keys::default(),
            limits: config.limits,
            summaries: Arc::default(),
            kept: Arc::default(),
            preparer: Arc::default(),
            explained: Arc::default(),
            explain: config.explain,
            revision,
        }
    }
}

fn engine(
    name: &str,
    settings: &EngineUpstream,
    config: &Config,
    telemetry: &Telemetry,
) -> Result<Upstream, AcquireError> {
    let Some(runtime) = &config.runtime.onnxruntime else {
        return Err(AcquireError::NoRuntime { upstream: name.to_owned() });
    };
    let span = telemetry.model_load(&settings.name);
    let engine = match Engine::load(engine_config(settings, runtime)) {
        Ok(engine) => engine,
        Err(source) => {
            span.failed("model_load_failed");
            return Err(AcquireError::Model { upstream: name.to_owned(), source });
        }
    };
    if settings.context_shift.is_some()
        && let Err(source) = engine.shifts()
    {
        span.failed("model_load_failed");
        return Err(AcquireError::Shift { upstream: name.to_owned(), source });
    }
    if telemetry.traces() {
        engine.watch_batches(batches(&settings.name, telemetry.clone()));
        engine.watch_offloads(moves(&settings.name, telemetry.clone()));
    }
    let (model, device) = (engine.model(), engine.device());
    span.completed(&LoadFacts {
        device: device.name.clone(),
        provider: device.provider.to_owned(),
        weights_bytes: model.weights_bytes,
        kv_bytes_per_token: model.kv_bytes_per_token,
        window: u64::from(engine.context()),
    });
    tracing::info!(target: "plimsoll", upstream = name, device = device.name, provider = device.provider,
        reason = device.reason, window = engine.context(), "model loaded");
    let counter = Arc::new(Exact::new(engine.text().clone(), settings.name.clone()));
    let embedded = Embedded {
        name: settings.name.clone(),
        key: name.to_owned(),
        settings: settings.clone(),
        engine,
        counter: counter.clone(),
        checkpoints: settings.checkpoints.clone().map(Folder::new),
        loaded_at: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        slots: SlotNotes::default(),
    };
    let certificate = certify(name, &counter.text);
    Ok(Upstream {
        name: name.into(),
        kind: Kind::Engine(Arc::new(embedded)),
        counting: Counting::Exact(counter),
        certificate,
    })
}

/// Turns the engine's batches into traces.
fn batches(model: &str, telemetry: Telemetry) -> impl Fn(Batch) + Send + Sync + 'static {
    let model = model.to_owned();
    move |batch| {
        // Several answers to one prompt are one call.
        let mut calls: Vec<SpanRef> = Vec::with_capacity(batch.tags.len());
        for call in batch.tags.iter().filter_map(|tag| tag.downcast_ref::<SpanRef>()) {
            if !calls.contains(call) {
                calls.push(call.clone());
            }
        }
        let Batch { rows, steps, started, ended, .. } = batch;
        telemetry.batch(BatchFacts { model: &model, calls, rows: rows.into(), steps, started, ended });
    }
}

/// Turns the ways of conversations out of their slots and back into traces.
fn moves(model: &str, telemetry: Telemetry) -> impl Fn(OffloadMove) + Send + Sync + 'static {
    let model = model.to_owned();
    move |step| telemetry.offloaded(&model, &step)
}

fn engine_config(settings: &EngineUpstream, runtime: &Path) -> EngineConfig {
    EngineConfig {
        model: match &settings.model {
            config::ModelPaths::One(folder) => ModelPaths::one(folder),
            config::ModelPaths::ByDevice { cpu, cuda } => ModelPaths { cpu: cpu.clone(), cuda: cuda.clone() },
        },
        device: match settings.device {
            config::Device::Auto => Device::Auto,
            config::Device::Cpu => Device::Cpu,
            config::Device::Cuda(ordinal) => Device::Cuda(ordinal),
        },
        memory: match settings.memory {
            config::Memory::Auto => MemoryLimit::Auto,
            config::Memory::Bytes(bytes) => MemoryLimit::Bytes(bytes),
            config::Memory::Percent(percent) => MemoryLimit::Percent(percent),
        },
        context: match settings.context {
            config::EngineContext::Auto => ContextLimit::Auto,
            config::EngineContext::Tokens(tokens) => ContextLimit::Tokens(tokens),
        },
        kv_dtype: match settings.kv_dtype {
            config::KvDtype::Auto => KvDtype::Auto,
            config::KvDtype::Fp32 => KvDtype::F32,
            config::KvDtype::Fp16 => KvDtype::F16,
        },
        slots: settings.slots,
        threads: settings.threads,
        onnxruntime: runtime.to_owned(),
        queue: settings.queue,
        keep_alive: settings.keep_alive,
        offload: settings.offload.clone(),
    }
}

fn http(name: &str, settings: &config::HttpUpstream) -> Result<Upstream, AcquireError> {
    let client = HttpUpstream::new(name, settings.clone())
        .map_err(|source| AcquireError::Client { upstream: name.to_owned(), source })?;
    let client = Arc::new(client);
    let (counting, certificate) = match &settings.tokenizer {
        None => (Counting::estimated(), None),
        Some(Tokenizer::Upstream) => (Counting::Asked(Arc::new(Server::new(name, client.clone()))), None),
        Some(Tokenizer::Folder(folder)) => {
            let counter = exact(name, folder)?;
            let certificate = certify(name, &counter.text);
            (Counting::Exact(counter), certificate)
        }
    };
    Ok(Upstream { name: name.into(), kind: Kind::Http(client), counting, certificate })
}

/// Tries a model's template, and tells the log where prompts will not be reused.
fn certify(upstream: &str, text: &Text) -> Option<Certificate> {
    let certificate = text.certificate()?;
    for shape in certificate.shapes.iter().filter(|shape| !shape.holds()) {
        tracing::warn!(target: "plimsoll", upstream, shape = shape.name,
            "the chat template rewrites earlier turns: prompts of this shape are not reused from there on");
    }
    if let Some(date) = &certificate.date {
        tracing::warn!(target: "plimsoll", upstream, token = date.token,
            "the chat template writes the date: no prompt is reused from there on over midnight");
    }
    Some(certificate)
}

/// A counter by a model folder's tokenizer and template alone, for an upstream that judges what it is sent.
pub fn exact(name: &str, folder: &Path) -> Result<Arc<Exact>, AcquireError> {
    let text =
        Text::load(folder).map_err(|source| AcquireError::Tokenizer { upstream: name.to_owned(), source })?;
    Ok(Arc::new(Exact::new(Arc::new(text), folder.display().to_string()).lossy()))
}

fn route(settings: &config::Route, config: &Config, upstreams: &BTreeMap<&str, Arc<Upstream>>) -> Route {
    let upstream = upstreams
        .get(settings.upstream.as_str())
        .expect("a valid configuration's routes lead to its upstreams. This is a bug.")
        .clone();
    let steps = config.policies.get(&settings.policy).map(Vec::as_slice).unwrap_or_default();
    let chain = Chain::build(&settings.policy, steps).naming_originals(config.artifacts.kept());
    let summariser = match chain.summariser() {
        None | Some(Summariser::Extract) => None,
        Some(Summariser::Engine) => Some(upstream.clone()),
        Some(Summariser::Upstream(name)) => upstreams.get(name.as_str()).cloned(),
    };
    Route {
        name: settings.name.as_str().into(),
        matches: settings.matches.clone(),
        given_window: settings.window,
        upstream,
        policy: settings.policy.as_str().into(),
        chain,
        summariser,
        counting: Chain::build("off", &[]),
        mode: settings.mode,
        allow_bypass: settings.allow_bypass,
        any_model: settings.any_model,
        read_tool: settings.read_tool && config.artifacts.kept(),
        keys: settings.keys.clone(),
        on_unparsable: settings.on_unparsable,
    }
}
