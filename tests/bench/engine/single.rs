//! One stream in process, beside onnxruntime-genai: the same file, threads and tokens.

use crate::genai::{Genai, rest};
use crate::ours::{self, Model};
use crate::report::{Report, count, median, millis};

/// Pairs, after one that does not count.
const PAIRS: u32 = 21;
/// Tokens of each answer.
const TOKENS: u32 = 200;
/// Tokens of the prompts: a short one to decode after, and a long one to compute.
const SHORT: u32 = 100;
const LONG: u32 = 1000;

pub(crate) fn run() -> Option<Report> {
    let mut report = Report::new("One stream in process, beside onnxruntime-genai");
    for model in ours::models() {
        for threads in [1, 2] {
            compare(&model, threads, &mut report)?;
        }
    }
    report.note(format!(
        "Answers of {TOKENS} tokens after prompts of {SHORT}, and the prefill of {LONG} tokens; greedy, all tokens equal; medians of {PAIRS} pairs."
    ));
    Some(report)
}

/// Seconds of both for decoding and for prefill.
struct Pair {
    decode: [f64; 2],
    prefill: [f64; 2],
}

fn compare(model: &Model, threads: u32, report: &mut Report) -> Option<()> {
    let mut genai = Genai::load(&model.folder, threads)?;
    let engine = ours::load(&model.folder, 2, threads);
    let runtime = ours::runtime();
    let mut pair = |salt: u32| {
        let (short, long) = (ours::prompt(salt, SHORT), ours::prompt(salt, LONG));
        let (theirs, _) = genai.answer(&[short.clone(), long.clone()], TOKENS);
        rest();
        let decoded = runtime.block_on(ours::ask(&engine, &short, TOKENS));
        ours::forget(&engine);
        let prefilled = runtime.block_on(ours::ask(&engine, &long, TOKENS));
        ours::forget(&engine);
        assert_eq!(decoded.tokens, theirs[0].tokens, "{} answers as onnxruntime-genai does", model.name);
        assert_eq!((decoded.cached, prefilled.cached), (0, 0));
        Pair {
            decode: [theirs[0].decode, decoded.decode()],
            prefill: [theirs[1].prefill, prefilled.prefill()],
        }
    };
    let pairs: Vec<Pair> = (0..=PAIRS).map(&mut pair).skip(1).collect();
    let name = format!("{}, {threads} thread{}", model.name, if threads > 1 { "s" } else { "" });
    let speed = |side: usize| {
        let decode = median(pairs.iter().map(|pair| pair.decode[side]));
        let prefill = median(pairs.iter().map(|pair| pair.prefill[side]));
        format!("{} tokens/s, {}", count(f64::from(TOKENS - 1) / decode), millis(prefill))
    };
    report.row(format!("{name}: genai {}", genai.version), speed(0));
    report.row(format!("{name}: Plimsoll"), speed(1));
    let ratio = |of: fn(&Pair) -> [f64; 2]| median(pairs.iter().map(|pair| of(pair)[0] / of(pair)[1]));
    report.least(format!("{name}: decoding"), ratio(|pair| pair.decode), 0.97);
    report.least(format!("{name}: prefill"), ratio(|pair| pair.prefill), 0.95);
    Some(())
}
