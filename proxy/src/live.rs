//! What requests see of the configuration: routes, upstreams, engines. Swapped as a whole on reload.

use std::convert::Infallible;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::HeaderMap;
use http::request::Parts;
use plimsoll_engine::text::Certificate;
use plimsoll_engine::{Engine, Sampling};
use plimsoll_policies::{Chain, Tokens};
use quick_cache::sync::Cache;

use crate::config::{Config, EngineUpstream, Explain, Limits, Match, Mode, OnUnparsable};
use crate::count::{Asked, Counter, Estimate, Exact, Server};
use crate::explain::Ring;
use crate::forward::tokens::Asker;
use crate::forward::upstream::HttpUpstream;
use crate::govern::{Preparer, SummaryMemo};
use crate::kept::Kept;
use crate::keys::Keys;
use crate::readings::SlotNotes;
use crate::slot_files::Folder;
use crate::telemetry::{RouteFacts, Telemetry};

/// What all requests share, across reloads.
pub struct Shared {
    /// The configuration in force.
    pub live: ArcSwap<Live>,
    /// The configuration that this process was started with: what a reload cannot change stays as it says.
    pub started: Config,
    /// Spans, metrics and logs.
    pub telemetry: Telemetry,
    /// What is kept for callers.
    pub kept: Arc<Kept>,
}

/// One configuration in force.
pub struct Live {
    /// First match wins.
    pub routes: Vec<Arc<Route>>,
    /// Where requests go.
    pub upstreams: Vec<Arc<Upstream>>,
    /// Keys of callers.
    pub keys: Keys,
    /// What a request may take.
    pub limits: Limits,
    /// Summaries written so far; they outlive a reload.
    pub summaries: Arc<SummaryMemo>,
    /// What is kept for callers.
    pub kept: Arc<Kept>,
    /// Reports of the last requests; they outlive a reload.
    pub explained: Arc<Ring>,
    /// What is kept of requests.
    pub explain: Explain,
    /// Work that goes on after answers; it outlives a reload, too.
    pub preparer: Arc<Preparer>,
    /// Which configuration this is.
    pub revision: Revision,
}

/// Names a configuration.
#[derive(Debug, Clone)]
pub struct Revision {
    /// Counts up with each reload, from 1.
    pub generation: u64,
    /// Hash of the merged configuration.
    pub hash: String,
    /// The merged configuration without its secrets.
    pub redacted: serde_json::Value,
    /// Options of it that wait for a restart.
    pub needs_restart: Vec<String>,
}

impl Live {
    /// The embedded engines.
    pub fn engines(&self) -> impl Iterator<Item = &Arc<Embedded>> {
        self.upstreams.iter().filter_map(|upstream| match &upstream.kind {
            Kind::Engine(engine) => Some(engine),
            Kind::Http(_) => None,
        })
    }

    /// Ids of the models that the embedded engines serve.
    pub fn served_models(&self) -> Vec<String> {
        self.engines().map(|engine| engine.name.clone()).collect()
    }
}

/// A route, ready to be taken.
pub struct Route {
    /// Its name.
    pub name: Arc<str>,
    /// What it takes.
    pub matches: Match,
    /// Where it leads.
    pub upstream: Arc<Upstream>,
    /// The policy's name.
    pub policy: Arc<str>,
    /// The policy.
    pub chain: Chain,
    /// Who writes the policy's summaries; none where no model does.
    pub summariser: Option<Arc<Upstream>>,
    /// A chain without a step, for calls that are counted and left alone.
    pub counting: Chain,
    /// Whether the policy's edits are sent.
    pub mode: Mode,
    /// Whether callers may go round the policy.
    pub allow_bypass: bool,
    /// Whether an engine answers for models that are not its own.
    pub any_model: bool,
    /// What happens to bytes that are not JSON.
    pub on_unparsable: OnUnparsable,
    /// Window in tokens in place of the upstream's.
    pub given_window: Option<Tokens>,
    /// Whether the model may read originals by `plimsoll_read`.
    pub read_tool: bool,
    /// Names of the keys of which a request must bear one; empty: none is asked for.
    pub keys: Vec<String>,
}

impl Route {
    /// Whether path and headers match; of the path's spellings only the `plain` one counts.
    pub fn takes(&self, plain: &str, head: &Parts) -> bool {
        let slash = head.uri.path().ends_with('/').then(|| format!("{plain}/"));
        let takes = |path: &str| self.matches.takes_head(path, &head.headers);
        slash.is_some_and(|path| takes(&path)) || (!plain.is_empty() && takes(plain))
    }

    /// Whether the model matches; a route that asks for a model takes no request without one.
    pub fn takes_model(&self, model: Option<&str>) -> bool {
        self.matches.takes_model(model)
    }

    /// The upstream, where not even the body has to be read to forward a request.
    pub fn unread(&self) -> Option<Arc<HttpUpstream>> {
        match &self.upstream.kind {
            // Where replicas keep conversations, it must be known which one a request belongs to.
            Kind::Http(upstream)
                if self.mode == Mode::Off && !self.matches.asks_model() && !upstream.has_affinity() =>
            {
                Some(upstream.clone())
            }
            _ => None,
        }
    }

    /// The window in tokens, as it is known now. A route whose policy needs none has none: the configuration asks for one
    /// wherever it matters.
    pub fn window(&self) -> Tokens {
        let upstreams = || match &self.upstream.kind {
            Kind::Engine(engine) => Some(engine.engine.context().into()),
            Kind::Http(server) => server.window(),
        };
        self.given_window.or_else(upstreams).unwrap_or(Tokens::MAX)
    }

    /// What policies may know of the place where this route's prompts run, as it is now.
    pub fn limits(&self) -> plimsoll_policies::Limits {
        let limits = plimsoll_policies::Limits::tokens(self.window());
        match &self.upstream.kind {
            Kind::Http(_) => limits,
            Kind::Engine(embedded) => {
                let (free, total) = embedded.engine.kv_room();
                let bytes_per_token = Some(embedded.engine.model().kv_bytes_per_token);
                plimsoll_policies::Limits {
                    free_kv: Some(free),
                    total_kv: Some(total),
                    bytes_per_token,
                    prefill_seconds_per_token: embedded.engine.prefill_seconds_per_token(),
                    ..limits
                }
            }
        }
    }

    /// The route as spans and metrics name it.
    pub fn facts(&self, mode: Mode) -> RouteFacts {
        RouteFacts {
            route: self.name.clone(),
            policy: self.policy.clone(),
            mode: mode_name(mode),
            upstream: self.upstream.name.clone(),
            model: self.upstream.model_label(),
        }
    }
}

/// A mode as the configuration spells it.
pub fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforce => "enforce",
        Mode::Shadow => "shadow",
        Mode::Off => "off",
    }
}

/// Where requests go, and how they are counted.
pub struct Upstream {
    /// Its name.
    pub name: Arc<str>,
    /// An engine of ours or somebody's server.
    pub kind: Kind,
    /// How its tokens are counted.
    pub counting: Counting,
    /// Whether the template that counts exactly keeps the start of growing prompts; `None` where there is none.
    pub certificate: Option<Certificate>,
}

/// The two kinds of upstream.
pub enum Kind {
    /// A model in this process.
    Engine(Arc<Embedded>),
    /// A server that speaks HTTP.
    Http(Arc<HttpUpstream>),
}

impl Upstream {
    /// The counter for a model.
    pub fn counter(&self, model: Option<&str>) -> Counter {
        self.counting.counter(model)
    }

    /// A model's name as a metric label: configured names only, so that clients cannot make labels.
    fn model_label(&self) -> Arc<str> {
        match &self.kind {
            Kind::Engine(engine) => engine.name.as_str().into(),
            Kind::Http(_) => self.name.clone(),
        }
    }
}

/// How an upstream's tokens are counted.
pub enum Counting {
    /// By its model folder.
    Exact(Arc<Exact>),
    /// By the encoding that each model's name tells.
    Estimated(Cache<&'static str, Arc<Estimate>>),
    /// By its server.
    Asked(Arc<Server>),
}

impl Counting {
    /// Estimates, made as models are asked for.
    pub fn estimated() -> Self {
        Self::Estimated(Cache::new(8))
    }

    /// The counter for a model.
    pub fn counter(&self, model: Option<&str>) -> Counter {
        match self {
            Self::Exact(exact) => Counter::Exact(exact.clone()),
            Self::Estimated(made) => {
                let encoding = Estimate::encoding_for(model);
                let make = || Ok::<_, Infallible>(Arc::new(Estimate::new(encoding)));
                let Ok(estimate) = made.get_or_insert_with(&encoding, make);
                Counter::Estimate(estimate)
            }
            Self::Asked(server) => {
                let asker = Asker { model: model.map(str::to_owned), credentials: HeaderMap::new() };
                Counter::Asked(Arc::new(Asked::new(server.clone(), asker, Vec::new())))
            }
        }
    }
}

/// A model in this process.
pub struct Embedded {
    /// The id that clients ask for.
    pub name: String,
    /// The upstream's key, which is an id too.
    pub key: String,
    /// What it was loaded by; a reload does not change it.
    pub settings: EngineUpstream,
    /// The engine.
    pub engine: Engine,
    /// Counts as the engine runs.
    pub counter: Arc<Exact>,
    /// Where its conversations are saved, where that is configured.
    pub checkpoints: Option<Folder>,
    /// When it was loaded, in Unix seconds.
    pub loaded_at: u64,
    /// Whose conversation is in which slot.
    pub slots: SlotNotes,
}

impl Embedded {
    /// Whether a model id means this engine. Ollama's clients may add a tag that says nothing.
    pub fn answers_to(&self, model: &str) -> bool {
        let is = |model: &str| model == self.name || model == self.key;
        is(model) || model.strip_suffix(":latest").is_some_and(is)
    }

    /// How tokens are chosen where a request does not say: as the model folder says.
    pub fn sampling(&self) -> &Sampling {
        &self.engine.model().sampling
    }
}
