//! What a long prompt does to those who read along: the gaps between their tokens before it and while it is computed.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Instant;

use plimsoll_engine::{Engine, Event, Generate, Sampling};
use tokio::sync::Notify;

use crate::genai::rest;
use crate::ours;
use crate::report::{Report, count, median, millis, quantile};

/// Rounds, after one that does not count.
const ROUNDS: u32 = 6;
/// Conversations that decode.
const STREAMS: u32 = 4;
/// Tokens of a long prompt: what fits into the models at hand.
const LONG: u32 = 4000;
/// Long prompts, one after the other.
const PROMPTS: u32 = 2;
/// Tokens of all conversations before the long prompts.
const ALONE: u32 = 2400;
/// Tokens of each conversation at most: more than it takes.
const MOST: u32 = 4000;

pub(crate) fn run() -> Option<Report> {
    let mut report = Report::new(format!(
        "{STREAMS} streams while {PROMPTS} prompts of {} tokens are computed, one after the other",
        count(f64::from(LONG))
    ));
    for model in ours::models() {
        let engine = ours::load(&model.folder, STREAMS + 1, 2);
        let runtime = ours::runtime();
        let rounds = (0..=ROUNDS).map(|round| {
            ours::forget(&engine);
            rest();
            let measured = runtime.block_on(round_of(&engine, round));
            let prompt = ours::prompt(900 + round, LONG);
            (measured, runtime.block_on(ours::ask(&engine, &prompt, 1)).first())
        });
        let rounds: Vec<_> = rounds.skip(1).collect();
        let both = |gaps: Vec<f64>| {
            let quantile = |share| millis(quantile(gaps.iter().copied(), share));
            format!("{}, {}", quantile(0.5), quantile(0.99))
        };
        let all =
            |of: fn(&Round) -> &Vec<f64>| rounds.iter().flat_map(|(round, _)| of(round)).copied().collect();
        report.row(format!("{}: gap alone, median and p99", model.name), both(all(|r| &r.alone)));
        report.row(format!("{}: gap beside a prefill, median and p99", model.name), both(all(|r| &r.beside)));
        let first = median(rounds.iter().map(|(round, _)| round.prompt));
        let undisturbed = median(rounds.iter().map(|(_, alone)| *alone));
        let prompt = format!("{}, {}", millis(undisturbed), millis(first));
        report.row(format!("{}: the prompt's first token, alone and beside them", model.name), prompt);
        let ratio = median(rounds.iter().map(|(r, _)| p99(&r.beside) / p99(&r.alone)));
        report.most(format!("{}: p99 beside a prefill, of p99 alone", model.name), ratio, 3.0);
    }
    report.note(format!(
        "In process, 2 threads, {ROUNDS} rounds. The models at hand have windows of 4,096 tokens: two prompts of 4,000 stand for one of 8,000."
    ));
    Some(report)
}

fn p99(gaps: &[f64]) -> f64 {
    quantile(gaps.iter().copied(), 0.99)
}

/// Gaps between tokens, and seconds to a long prompt's first token.
struct Round {
    alone: Vec<f64>,
    beside: Vec<f64>,
    prompt: f64,
}

/// What the streams and the one who sends long prompts tell each other.
#[derive(Default)]
struct Told {
    tokens: Cell<u32>,
    enough: Notify,
    end: Cell<bool>,
}

async fn round_of(engine: &Engine, round: u32) -> Round {
    let told = Told::default();
    let long = async {
        told.enough.notified().await;
        let started = Instant::now();
        for prompt in 0..PROMPTS {
            ours::ask(engine, &ours::prompt(200 + round * PROMPTS + prompt, LONG), 1).await;
        }
        told.end.set(true);
        (started, Instant::now())
    };
    let read = |stream: u32| read_along(engine, round * STREAMS + stream, &told);
    let (a, b, c, d, (from, to)) = tokio::join!(read(0), read(1), read(2), read(3), long);
    let gaps = |within: &dyn Fn(Instant, Instant) -> bool| {
        let pairs = [&a, &b, &c, &d].into_iter().flat_map(|came| came.windows(2));
        pairs
            .filter(|pair| within(pair[0], pair[1]))
            .map(|p| p[1].duration_since(p[0]).as_secs_f64())
            .collect()
    };
    // Before all have begun, some are held up by the others' prompts.
    let begun = [&a, &b, &c, &d].into_iter().map(|came| came[8]).max().expect("there are some");
    Round {
        alone: gaps(&|one, next| one > begun && next < from),
        beside: gaps(&|one, next| next > from && one < to),
        prompt: to.duration_since(from).as_secs_f64() / f64::from(PROMPTS),
    }
}

/// When tokens came, until it is told to end.
async fn read_along(engine: &Engine, salt: u32, told: &Told) -> Vec<Instant> {
    let prompt: Arc<[u32]> = ours::prompt(salt, 20).into();
    let permit = engine.reserve_for(&prompt, 20 + MOST).await.expect("there is room");
    let sampling = Sampling::greedy();
    let request = Generate { prompt, max_tokens: MOST, sampling, ignore_eos: true, ..Generate::default() };
    let mut answer = engine.generate(request, permit);
    let mut came = Vec::with_capacity(MOST as usize);
    while let Some(event) = answer.next().await {
        if told.end.get() {
            break;
        }
        if let Event::Token(_) = event.expect("the model answers") {
            came.push(Instant::now());
            told.tokens.set(told.tokens.get() + 1);
            if told.tokens.get() == ALONE {
                told.enough.notify_one();
            }
        }
    }
    came
}
