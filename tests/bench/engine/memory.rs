//! What a token of a resting conversation holds, by the kernel's count, against the formula.

use crate::ours;
use crate::report::{Report, count};

/// Conversations that rest.
const CONVERSATIONS: u32 = 4;
/// Tokens of each prompt and of its answer.
const PROMPT: u32 = 3500;
const ANSWER: u32 = 101;

pub(crate) fn run() -> Option<Report> {
    let mut report = Report::new("Resident memory of a cached token");
    for model in ours::models() {
        let (engine, runtime) = (ours::load(&model.folder, CONVERSATIONS, 2), ours::runtime());
        for salt in 0..CONVERSATIONS {
            runtime.block_on(ours::ask(&engine, &ours::prompt(salt, PROMPT), ANSWER));
        }
        let held = ours::besides_runs(&engine);
        // The last token of an answer is never computed.
        let tokens = u64::from(CONVERSATIONS * (PROMPT + ANSWER - 1));
        let formula = engine.model().kv_bytes_per_token;
        assert_eq!(engine.memory().kv_used, tokens * formula);
        ours::forget(&engine);
        let measured = (held - ours::besides_runs(&engine)) as f64 / tokens as f64;
        let name = model.name;
        report.row(
            format!("{name}: 2 x layers x heads x head size x bytes"),
            format!("{} bytes", count(formula as f64)),
        );
        report.row(format!("{name}: by the kernel's count"), format!("{} bytes", count(measured)));
        report.most(format!("{name}: kernel's count, of the formula"), measured / formula as f64, 1.05);
        report.least(format!("{name}: kernel's count, of the formula"), measured / formula as f64, 0.95);
    }
    report.note(format!(
        "{CONVERSATIONS} conversations of {} tokens: what the kernel counts (`Pss`) before they are erased, less what it counts behind that.",
        count(f64::from(PROMPT + ANSWER - 1))
    ));
    Some(report)
}
