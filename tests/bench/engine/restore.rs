//! The first token of a long conversation: computed, and restored from a checkpoint in an engine that held nothing.

use std::time::Instant;

use crate::genai::rest;
use crate::ours;
use crate::report::{Report, count, median, millis};

const PAIRS: usize = 15;
/// Tokens of the conversation.
const TOKENS: u32 = 4000;

pub(crate) fn run() -> Option<Report> {
    let mut report = Report::new(format!("A checkpoint of {} tokens", count(f64::from(TOKENS))));
    for model in ours::models() {
        let (engine, runtime) = (ours::load(&model.folder, 2, 2), ours::runtime());
        let folder = tempfile::tempdir().expect("a folder can be made");
        let path = folder.path().join("conversation");
        let prompt = ours::prompt(1, TOKENS);
        let mut pairs = Vec::new();
        for _ in 0..=PAIRS {
            ours::forget(&engine);
            rest();
            let computed = runtime.block_on(ours::ask(&engine, &prompt, 1));
            assert_eq!(computed.cached, 0);
            engine.save(&prompt, &path).expect("it is held");
            ours::forget(&engine);
            rest();
            let started = Instant::now();
            engine.restore(&path).expect("it is whole");
            let restored = runtime.block_on(ours::ask(&engine, &prompt, 1));
            assert_eq!((restored.cached, &restored.tokens), (TOKENS - 1, &computed.tokens));
            pairs.push((computed.first(), restored.came[0].duration_since(started).as_secs_f64()));
        }
        let pairs = &pairs[1..];
        report.row(
            format!("{}: first token, computed", model.name),
            millis(median(pairs.iter().map(|pair| pair.0))),
        );
        report.row(
            format!("{}: first token, restored", model.name),
            millis(median(pairs.iter().map(|pair| pair.1))),
        );
        let ratio = median(pairs.iter().map(|(computed, restored)| restored / computed));
        report.most(format!("{}: restored, of computed", model.name), ratio, 0.05);
    }
    report.note(format!("In process, 2 threads, the checksum verified each time; medians of {PAIRS} pairs."));
    Some(report)
}
