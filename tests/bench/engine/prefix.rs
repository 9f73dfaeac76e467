//! Fifty sessions over one system prompt: what they hold, and what a decoding step of theirs takes against one over
//! prompts of their own, as copies of one would be.

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use plimsoll_engine::{Batch, Engine};

use crate::genai::rest;
use crate::ours::{self, demo};
use crate::report::{Report, median, millis};

const SESSIONS: u32 = 50;
/// Tokens that all of them begin with.
const PREFIX: u32 = 800;
/// Tokens of each one's own.
const OWN: u32 = 20;
/// Tokens of each answer.
const ANSWER: u32 = 100;
/// Pairs, after two that do not count.
const PAIRS: u32 = 7;

pub(crate) fn run() -> Option<Report> {
    let mut report = Report::new(format!("{SESSIONS} sessions over a prompt of {PREFIX} tokens"));
    let model = plimsoll_tests::shared::shared("models/qwen2/genai");
    let others = model.map(|folder| ours::Model { name: "qwen2", folder });
    for model in std::iter::once(demo()).chain(others) {
        held(&model, &mut report);
        steps(&model, 2, &mut report);
    }
    report.note(format!(
        "In process; each session has {OWN} tokens and an answer of {ANSWER} of its own. Memory is what the kernel counts (`Pss`) before the sessions are erased, less what it counts behind that and with the one segment that stays. Copied: prompts with nothing in common. Medians of {PAIRS} pairs. A page holds 16 tokens of a head (32 of qwen2's): 119 own tokens take the room of 128."
    ));
    Some(report)
}

/// Sessions and the steps that they share.
struct Side {
    engine: Engine,
    batches: Receiver<Batch>,
    /// Whether each prompt is its own.
    own: bool,
}

impl Side {
    fn new(model: &ours::Model, threads: u32, own: bool) -> Self {
        let engine = ours::load(&model.folder, SESSIONS, threads);
        let (sender, batches) = channel();
        engine.watch_batches(move |batch| drop(sender.send(batch)));
        Self { engine, batches, own }
    }

    fn prompt(&self, session: u32) -> Vec<u32> {
        let salt = if self.own { session } else { 0 };
        let mut prompt = ours::prompt(salt, PREFIX);
        prompt.extend(ours::prompt(session + 500, OWN));
        prompt
    }

    /// All at once.
    async fn answer(&self) {
        let mut all = tokio::task::JoinSet::new();
        for session in 0..SESSIONS {
            let (engine, prompt) = (self.engine.clone(), self.prompt(session));
            all.spawn(async move { ours::ask(&engine, &prompt, ANSWER).await });
        }
        all.join_all().await;
    }

    /// Seconds of a step with all sessions in it.
    fn step(&self, runtime: &tokio::runtime::Runtime) -> f64 {
        rest();
        runtime.block_on(self.answer());
        let whole = self.batches.try_iter().filter(|batch| batch.rows == SESSIONS);
        let (time, steps) = whole.fold((Duration::ZERO, 0), |(time, steps), batch| {
            (time + batch.ended.duration_since(batch.started).unwrap_or_default(), steps + batch.steps)
        });
        time.as_secs_f64() / steps.max(1) as f64
    }
}

/// What the sessions hold, by the kernel's count and by their tokens.
fn held(model: &ours::Model, report: &mut Report) {
    let side = Side::new(model, 2, false);
    ours::runtime().block_on(side.answer());
    let (held, used) = (ours::besides_runs(&side.engine), side.engine.memory().kv_used);
    ours::forget(&side.engine);
    let given_back = held - ours::besides_runs(&side.engine);
    let token = side.engine.model().kv_bytes_per_token;
    let own = u64::from(SESSIONS * (OWN + ANSWER - 1)) * token;
    let expected = u64::from(PREFIX) * token + own;
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    let name = model.name;
    report.row(format!("{name}: one prefix and each one's own tokens"), mib(expected));
    report.row(format!("{name}: held by the engine's account"), mib(used));
    report.row(format!("{name}: held by the kernel's count"), mib(given_back));
    report.most(format!("{name}: kernel's count, of the tokens"), given_back as f64 / expected as f64, 1.05);
}

fn steps(model: &ours::Model, threads: u32, report: &mut Report) {
    let runtime = ours::runtime();
    let [shared, copied] = [false, true].map(|own| Side::new(model, threads, own));
    let pairs: Vec<_> =
        (0..PAIRS + 2).map(|_| (shared.step(&runtime), copied.step(&runtime))).skip(2).collect();
    let name = format!("{}, {threads} threads", model.name);
    report.row(format!("{name}: step, copied"), millis(median(pairs.iter().map(|pair| pair.1))));
    report.row(format!("{name}: step, shared"), millis(median(pairs.iter().map(|pair| pair.0))));
    report.most(format!("{name}: shared, of copied"), median(pairs.iter().map(|(s, c)| s / c)), 1.0);
}
