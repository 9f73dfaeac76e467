//! From a configuration to a running worker: choose the device, read the folder, load the weights, take the memory.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc as std_mpsc};
use std::thread::JoinHandle;

use tokio::sync::mpsc;

use crate::cache::{Chains, device};
use crate::config::{Device, DeviceInfo, EngineConfig};
use crate::error::{LoadError, NoShift};
use crate::forecast::{self, Asked};
use crate::grammar::Grammars;
use crate::memory::{self, Budget, Holdings, Ledger, Limits, Meter};
use crate::model::{self, Element, Layout, Model};
use crate::offload;
use crate::session::{self, Loaded, Plan, Session};
use crate::text::Text;
use crate::worker::{Board, Command, Current, Facts, Life, Worker};

/// Places in the worker's channel beside one for each slot: for a shutdown, and for whoever asks something else.
const KEPT_PLACES: usize = 2;

/// ONNX Runtime's name of the provider that runs on the CPU.
pub(crate) const CPU: &str = "CPUExecutionProvider";

/// A model with its thread.
pub(crate) struct Running {
    pub(crate) model: Model,
    pub(crate) text: Arc<Text>,
    pub(crate) device: DeviceInfo,
    pub(crate) context: u32,
    pub(crate) budget: Budget,
    pub(crate) meter: Meter,
    pub(crate) board: Arc<Board>,
    pub(crate) chains: Chains,
    pub(crate) current: Arc<Current>,
    /// Whether its context can be shifted.
    pub(crate) shifts: Result<(), NoShift>,
    pub(crate) commands: mpsc::Sender<Command>,
    /// Held by who asks the worker for something other than an answer.
    pub(crate) asking: Mutex<()>,
    /// The digest of the model's files, once somebody needs it.
    pub(crate) identity: Arc<OnceLock<[u8; 32]>>,
    /// Where conversations are that left their slots.
    pub(crate) offload: offload::Kept,
    /// Made for the first answer that is bound to a format.
    pub(crate) grammars: OnceLock<Grammars>,
    thread: Mutex<Option<JoinHandle<()>>>,
    requests: AtomicU64,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("folder", &self.model.folder)
            .field("device", &self.device.name)
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}

impl Running {
    /// A number for a request, never 0.
    pub(crate) fn next_request(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn shutdown(&self) {
        self.budget.close();
        // One place in the channel is kept for this; where it is taken, somebody else has said it.
        drop(self.commands.try_send(Command::Shutdown));
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the engine's thread has panicked");
        }
        self.offload.close();
        self.meter.unload();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown();
    }
}

/// Where a model may run, and why.
struct Candidate<'a> {
    folder: &'a Path,
    cuda: Option<u32>,
    reason: String,
}

pub(crate) fn load(config: &EngineConfig) -> Result<Running, LoadError> {
    if config.slots == 0 {
        return Err(LoadError::Setting { name: "slots", value: 0, range: "at least 1" });
    }
    let cpu = || config.model.cpu.as_deref().ok_or(LoadError::NoFolder { device: "cpu" });
    let cuda = || config.model.cuda.as_deref().ok_or(LoadError::NoFolder { device: "cuda" });
    match config.device {
        Device::Cpu => start(config, &on_cpu(cpu()?, "asked for".to_owned())),
        Device::Cuda(ordinal) => start(config, &on_cuda(cuda()?, ordinal, "asked for")),
        Device::Auto => {
            let Ok(folder) = cuda() else {
                return start(config, &on_cpu(cpu()?, "no folder for CUDA is given".to_owned()));
            };
            let refused = match start(config, &on_cuda(folder, 0, "CUDA loads")) {
                Ok(running) => return Ok(running),
                Err(refused) => refused,
            };
            let Ok(folder) = cpu() else { return Err(refused) };
            start(config, &on_cpu(folder, refused.to_string()))
        }
    }
}

fn on_cpu(folder: &Path, reason: String) -> Candidate<'_> {
    Candidate { folder, cuda: None, reason }
}

fn on_cuda<'a>(folder: &'a Path, ordinal: u32, reason: &str) -> Candidate<'a> {
    Candidate { folder, cuda: Some(ordinal), reason: reason.to_owned() }
}

/// What the thread answers once it has loaded.
struct Ready {
    limits: Limits,
    budget: Budget,
    meter: Meter,
    board: Arc<Board>,
    chains: Chains,
    current: Arc<Current>,
    identity: Arc<OnceLock<[u8; 32]>>,
    offload: offload::Kept,
    shifts: Result<(), NoShift>,
}

fn start(config: &EngineConfig, candidate: &Candidate<'_>) -> Result<Running, LoadError> {
    let model = Model::read(candidate.folder)?.with_kv(config.kv_dtype)?;
    if candidate.cuda.is_some() && model.layout != Layout::SharedBuffer {
        return Err(LoadError::Unsupported {
            path: model.file,
            reason: "its layers do not all keep their cache in GroupQueryAttention, and others run on the CPU only"
                .to_owned(),
            instead: model::CPU_ONLY,
        });
    }
    if candidate.cuda.is_some() && (model.kv_type == Element::F32 || model.halved) {
        return Err(LoadError::Unsupported {
            path: model.file,
            reason: "its KV cache is fp32, and GroupQueryAttention on CUDA takes fp16".to_owned(),
            instead: "export it with `-p fp16 -e cuda` and name that folder as `model.cuda`, or use `device: cpu`",
        });
    }
    let text = Arc::new(Text::load(candidate.folder)?);
    let (commands, orders) = mpsc::channel(config.slots as usize + KEPT_PLACES);
    let (answer, answered) = std_mpsc::channel();
    let (config, cuda, shared) = (config.clone(), candidate.cuda, model.clone());
    let thread = std::thread::Builder::new().name("plimsoll-engine".to_owned()).spawn(move || {
        match prepare(&config, cuda, &shared, orders) {
            Ok((worker, ready)) => {
                drop(answer.send(Ok(ready)));
                worker.run();
            }
            Err(error) => drop(answer.send(Err(error))),
        }
        memory::trim();
    });
    let gone = |reason: String| LoadError::Session { path: model.file.clone(), reason };
    let thread = thread.map_err(|e| gone(format!("no thread could be started ({e})")))?;
    let ready = answered.recv().map_err(|_| gone("the loading thread ended".to_owned()))??;
    let name = candidate.cuda.map_or_else(|| "cpu".to_owned(), |ordinal| format!("cuda:{ordinal}"));
    let provider = if candidate.cuda.is_some() { "CUDAExecutionProvider" } else { CPU };
    Ok(Running {
        device: DeviceInfo { name, provider, reason: candidate.reason.clone() },
        context: ready.limits.context,
        budget: ready.budget,
        meter: ready.meter,
        board: ready.board,
        chains: ready.chains,
        current: ready.current,
        shifts: ready.shifts,
        commands,
        asking: Mutex::default(),
        identity: ready.identity,
        offload: ready.offload,
        grammars: OnceLock::new(),
        thread: Mutex::new(Some(thread)),
        requests: AtomicU64::new(0),
        model,
        text,
    })
}

/// Loads the weights, sees what memory is left, and takes the KV cache's share of it. Runs on the worker's thread.
fn prepare(
    config: &EngineConfig,
    cuda: Option<u32>,
    model: &Model,
    orders: mpsc::Receiver<Command>,
) -> Result<(Worker, Ready), LoadError> {
    memory::settle();
    let plan = Plan { runtime: &config.onnxruntime, model, threads: config.threads, cuda };
    // What the device holds before the model does is not the model's.
    let ledger = Ledger::of(cuda, 0);
    let loaded = Loaded::load(&plan)?;
    let free = cuda.map_or_else(memory::available, device::free);
    let asked = Asked {
        memory: config.memory,
        context: config.context,
        slots: config.slots,
        upfront: cuda.is_some(),
    };
    let limits = forecast::limits(model, &asked, free)?;
    let (mut session, holdings) = loaded.session(model, config.slots, limits.context)?;
    let shifts = session::proven(&mut *session, model, limits.context);
    let per_token = model.kv_bytes_per_token;
    let budget = Budget::new(limits.bytes, per_token, limits.context, config.slots, config.queue);
    let ledger = ledger.or_else(|| Ledger::of(cuda, holdings.known())).unwrap_or_default();
    let meter = Meter::new(budget.clone(), holdings, ledger);
    let board = Arc::new(Board::new(config.slots, limits.context, meter.kv_used()));
    let facts = Facts { eos: model.eos.clone(), kv_bytes_per_token: per_token };
    let again = again(config.clone(), cuda, model.clone(), limits.context);
    let life = Life::new(config.keep_alive, Box::new(again));
    let worker = Worker::new(session, orders, board.clone(), budget.clone(), (facts, life));
    let mut worker = worker.metered(&meter);
    let identity = Arc::new(OnceLock::new());
    // Main memory that neither the model nor its KV cache may need.
    let left =
        if cuda.is_some() { memory::available() } else { free.map(|free| free.saturating_sub(limits.bytes)) };
    let offload = offload::Kept::start(&config.offload, model, left, identity.clone())?;
    if let Ok(store) = &offload.store {
        worker = worker.keeping(store);
    }
    let (chains, current) = (worker.chains(), worker.current());
    Ok((worker, Ready { limits, budget, meter, board, chains, current, identity, offload, shifts }))
}

/// Loads the very same model with the same memory another time.
fn again(
    config: EngineConfig,
    cuda: Option<u32>,
    model: Model,
    context: u32,
) -> impl FnMut() -> Result<(Box<dyn Session>, Holdings), LoadError> + Send {
    move || {
        if let Some(path) = model::changed(&model.files) {
            return Err(LoadError::Changed { path });
        }
        let plan = Plan { runtime: &config.onnxruntime, model: &model, threads: config.threads, cuda };
        Loaded::load(&plan)?.session(&model, config.slots, context)
    }
}
