//! The model on its device: tokens in, tokens out, bytes accounted.
//!
//! One thread owns the model. It keeps several conversations in slots of one KV cache that is bound to ONNX Runtime
//! once; requests that run at the same time share each decoding step, and a prompt is computed only from where it
//! differs from what is held. Memory is reserved before a request runs, so nothing fails half way for want of it.
//!
//! ```no_run
//! use std::path::Path;
//! use plimsoll_engine::*;
//!
//! # async fn answer() -> Result<(), Box<dyn std::error::Error>> {
//! let engine = Engine::load(EngineConfig {
//!     model: ModelPaths::one(Path::new("engine/demo/model")),
//!     device: Device::Auto,
//!     memory: MemoryLimit::Auto,
//!     context: ContextLimit::Tokens(1024),
//!     slots: 8,
//!     threads: None,
//!     onnxruntime: ".runtime/libonnxruntime.so".into(),
//!     queue: 64,
//!     keep_alive: KeepAlive::Always,
//!     offload: Offload { host: 2 << 30, disk: None },
//!     kv_dtype: KvDtype::Auto,
//! })?;
//! let prompt = engine.text().encode("<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n")?.ids();
//! let permit = engine.reserve(prompt.len() as u32 + 100).await?;
//! let request = Generate { prompt, max_tokens: 100, sampling: Sampling::greedy(), ..Generate::default() };
//! let mut answer = engine.generate(request, permit);
//! while let Some(event) = answer.next().await {
//!     match event? {
//!         Event::Token(token) => print!("{}", engine.text().decode(&[token], true)),
//!         Event::Done { usage, .. } => println!("\n{} of {} tokens were cached", usage.cached, usage.prompt),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Deliberately absent: HTTP, policies, and any runtime of its own. Graphs that it cannot run exactly are refused when
//! they are loaded, with what to use instead.

mod config;
mod error;
mod request;
mod model;
pub mod text;
mod memory;
mod sample;
mod logprobs;
mod grammar;
mod cache;
mod session;
mod schedule;
mod worker;
mod forecast;
mod load;
mod checkpoint;
mod offload;

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;

pub use checkpoint::{CheckpointError, CheckpointInfo, Restored};
pub use config::{
    ContextLimit, Device, DeviceInfo, EngineConfig, KeepAlive, KvDtype, MemoryLimit, ModelPaths,
};
pub use error::{AdmitError, GenerateError, LoadError, NoShift};
pub use forecast::{Demand, Forecast, SharedPrefix};
pub use grammar::{Bounds, Choice, Format, Function, Grammar, GrammarError, Tools};
pub use logprobs::Logprobs;
pub use memory::{Attribution, COMPONENTS, LeakReport, LeakState, MemoryReading, Permit};
pub use model::{Element, Layout, Model};
pub use offload::{
    Offload, OffloadCounts, OffloadDisk, OffloadMove, OffloadReading, OffloadStep, OffloadedReading,
};
pub use request::{Event, Finish, Generate, Generation, Sampling, Shift, Usage};
pub use worker::{Batch, SharingReading, SlotReading, Tag};

use grammar::Grammars;
use load::Running;
use memory::Ask;
use text::Text;
use worker::{Ahead, Cancel, Command, Order};

/// A loaded model. Clones share it; when the last one is dropped it is unloaded.
#[derive(Debug, Clone)]
pub struct Engine(Arc<Running>);

impl Engine {
    /// Loads a model, tries it once and starts its thread. Blocks for as long as the weights take to load.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a caller builds it for this call and has no more use for it"
    )]
    pub fn load(config: EngineConfig) -> Result<Self, LoadError> {
        load::load(&config).map(|running| Self(Arc::new(running)))
    }

    /// What the model folder says.
    pub fn model(&self) -> &Model {
        &self.0.model
    }

    /// Tokens of one conversation, prompt and answer together.
    pub fn context(&self) -> u32 {
        self.0.context
    }

    /// The device it runs on, and why.
    pub fn device(&self) -> &DeviceInfo {
        &self.0.device
    }

    /// Tokenizer, chat template and tool-call format of the folder.
    pub fn text(&self) -> &Arc<Text> {
        &self.0.text
    }

    /// Tokens of a prompt whose keys and values some slot or shared segment holds now, or that would be brought back of
    /// an idle conversation that is put by: what a request started at once would report as cached. Known before
    /// admission; costs one comparison for each slot.
    pub fn resident_prefix(&self, prompt: &[u32]) -> u32 {
        let resident = self.0.chains.prefix(prompt);
        u32::try_from(resident.max(self.put_by_prefix(prompt, resident))).unwrap_or(u32::MAX)
    }

    /// The grammar of an answer, for [`Generate::grammar`]; none where nothing is to be held. Takes milliseconds, the
    /// first time longer: not for tasks of an async runtime. Those last asked for are kept.
    pub fn grammar(&self, bounds: &Bounds) -> Result<Option<Grammar>, GrammarError> {
        let model = self.model();
        let grammars = self.0.grammars.get_or_init(|| Grammars::new(&self.0.text, model.vocab, &model.eos));
        grammars.compile(bounds)
    }

    /// Reserves KV memory for `tokens` (prompt and answer together) and a slot to run in. Waits for both behind those
    /// who asked before; dropping the future leaves the queue. A task that holds a permit must not wait for another.
    pub async fn reserve(&self, tokens: u32) -> Result<Permit, AdmitError> {
        self.0.budget.reserve(tokens).await
    }

    /// As [`Engine::reserve`], for a prompt that is known: what it begins with and shares with others is not reserved
    /// another time, and what is on disk of it is read.
    pub async fn reserve_for(&self, prompt: &Arc<[u32]>, tokens: u32) -> Result<Permit, AdmitError> {
        self.fetch(prompt).await;
        self.0.budget.reserve(Ask::new(tokens, prompt.clone())).await
    }

    /// As [`Engine::reserve_for`], `count` times at once: all permits come together, or none.
    pub async fn reserve_all(
        &self,
        prompt: &Arc<[u32]>,
        tokens: u32,
        count: u32,
    ) -> Result<Vec<Permit>, AdmitError> {
        self.fetch(prompt).await;
        self.0.budget.reserve_all(Ask::new(tokens, prompt.clone()).times(count)).await
    }

    /// Whether answers can go on past their window, by [`Generate::shift`]: tried with the model's own keys when it was
    /// loaded.
    ///
    /// # Errors
    /// They cannot, and why.
    pub fn shifts(&self) -> Result<(), NoShift> {
        self.0.shifts.clone()
    }

    /// Starts a request. The permit is given back when it ends. Events wait for their reader, at most one for each
    /// token and a few more: a slow reader holds up nobody.
    pub fn generate(&self, request: Generate, permit: Permit) -> Generation {
        self.generate_tagged(request, permit, None)
    }

    /// As [`Engine::generate`], with a name for the request in the batches that it has a part in.
    pub fn generate_tagged(&self, request: Generate, permit: Permit, tag: Option<Tag>) -> Generation {
        self.order(request, permit, tag, None)
    }

    /// Starts a request that nobody waits for: in a spare slot, its prompt only while nothing else runs. It pushes no
    /// conversation out and gives way to whoever waits, and ends with [`Finish::Cancelled`] then.
    ///
    /// With `max_tokens: 0` it computes a prompt before it is asked for, so that a request that begins with it finds it
    /// in the cache. `replaces` is then the prompt of the same conversation as it is now: once the conversation goes
    /// on from the new prompt, what is held of `replaces` is the first to go. Without `replaces` what is computed is
    /// not needed again.
    ///
    /// # Errors
    /// Memory or a slot is not free right now.
    pub fn prepare(
        &self,
        request: Generate,
        replaces: Option<Arc<[u32]>>,
        tag: Option<Tag>,
    ) -> Result<Generation, AdmitError> {
        let tokens = u32::try_from(request.prompt.len()).unwrap_or(u32::MAX);
        let (tokens, prompt) = (tokens.saturating_add(request.max_tokens), request.prompt.clone());
        let permit = self.0.budget.try_reserve(Ask::new(tokens, prompt))?;
        Ok(self.order(request, permit, tag, Some(Ahead { replaces })))
    }

    /// Seconds that computing one token of a prompt takes, as lately measured; none before the first prompt.
    pub fn prefill_seconds_per_token(&self) -> Option<f64> {
        self.0.board.seconds_per_token()
    }

    fn order(&self, request: Generate, permit: Permit, tag: Option<Tag>, ahead: Option<Ahead>) -> Generation {
        let (sender, events) = mpsc::unbounded_channel();
        let id = self.0.next_request();
        let generation =
            Generation { events, ended: false, _cancel: Cancel::new(self.0.current.clone(), id) };
        if let Err(refused) = self.check(&request, &permit) {
            drop(permit);
            drop(sender.send(Err(refused)));
            return generation;
        }
        let order = Order { id, request, permit, events: sender, asked: Instant::now(), tag, ahead };
        // Refused only where the worker is gone: there is room for as many orders as there are permits. The order
        // is dropped with its sender then, which the generation reads as `Gone`.
        drop(self.0.commands.try_send(Command::Generate(Box::new(order))));
        generation
    }

    /// Tells `sink` of each run of decoding steps that the same requests shared, where one of them has a tag. It is
    /// called on the engine's thread and must be quick. Only the first sink counts; without one this costs nothing.
    pub fn watch_batches(&self, sink: impl Fn(Batch) + Send + Sync + 'static) {
        self.0.board.watch(Box::new(sink));
    }

    /// Memory by component, as it is now.
    pub fn memory(&self) -> MemoryReading {
        self.0.meter.read()
    }

    /// Bytes of KV cache that running requests have not reserved, and bytes there are. Cheaper than
    /// [`Engine::memory`]: no driver is asked.
    pub fn kv_room(&self) -> (u64, u64) {
        let limit = self.0.budget.limit();
        (limit.saturating_sub(self.0.budget.reserved()), limit)
    }

    /// Whether weights and KV memory are held now; where not, the next request loads the model again.
    pub fn loaded(&self) -> bool {
        self.0.meter.loaded()
    }

    /// Loads the model where it is unloaded, and keeps it as a request with this `keep_alive` would that ends now
    /// (`None`: as configured); zero unloads it as soon as nothing runs. Blocks until the worker's turn is over and the
    /// weights are there: not for tasks of an async runtime.
    ///
    /// # Errors
    /// The weights cannot be loaded, or the engine was shut down.
    pub fn keep_loaded(&self, keep_alive: Option<KeepAlive>) -> Result<(), GenerateError> {
        let stayed = self.ask(move |worker| worker.stay(keep_alive)).map_err(|_| GenerateError::Gone)?;
        stayed.map_err(GenerateError::Load)
    }

    /// When the model will be unloaded if nobody needs it before; `None`: it stays, or it is not loaded. Blocks until
    /// the worker's turn is over.
    pub fn unloads_at(&self) -> Option<Instant> {
        self.ask(|worker| worker.ends()).ok().flatten()
    }

    /// The slots, as they were after the worker's last turn.
    pub fn slots(&self) -> Vec<SlotReading> {
        self.0.board.read()
    }

    /// How slots share what their conversations begin with alike.
    pub fn sharing(&self) -> SharingReading {
        self.0.board.sharing()
    }

    /// Requests that wait for memory.
    pub fn queue_depth(&self) -> usize {
        self.0.budget.waiting()
    }

    /// Unloads the model: ends what runs with [`Finish::Cancelled`], refuses what waits, frees all memory. Blocks
    /// until it is done, for one run at most.
    pub fn shutdown(&self) {
        self.0.shutdown();
    }

    fn check(&self, request: &Generate, permit: &Permit) -> Result<(), GenerateError> {
        let (prompt, vocab) = (&request.prompt, self.0.model.vocab);
        if prompt.is_empty() {
            return Err(GenerateError::EmptyPrompt);
        }
        let length = u32::try_from(prompt.len()).unwrap_or(u32::MAX);
        if length > permit.tokens() {
            return Err(GenerateError::PermitTooSmall { prompt: length, reserved: permit.tokens() });
        }
        if request.shift.is_some() {
            self.shifts()?;
        }
        match prompt.iter().find(|&&token| token >= vocab) {
            Some(&token) => Err(GenerateError::UnknownToken { token, vocab }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_go_between_threads() {
        fn shared<T: Send + Sync + 'static>() {}
        fn sent<T: Send + Unpin + 'static>() {}
        fn future<T: Send>(_: fn(&'static Engine) -> T) {}
        shared::<Engine>();
        sent::<Generation>();
        sent::<Permit>();
        future(|engine| engine.reserve(1));
    }
}
