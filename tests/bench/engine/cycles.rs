//! Memory after unloading, again and again.

use std::time::Duration;

use plimsoll_engine::{Engine, EngineConfig, KeepAlive};

use crate::ours::{self, demo};
use crate::report::{Report, median};

const CYCLES: u32 = 50;

pub(crate) fn run() -> Option<Report> {
    let config = ours::config(&demo().folder, 4, 2);
    let engine = Engine::load(EngineConfig { keep_alive: KeepAlive::For(Duration::ZERO), ..config });
    let (engine, runtime) = (engine.expect("the model loads"), ours::runtime());
    let cycle = |salt: u32| {
        let loaded = runtime.block_on(async {
            let answer = ours::ask(&engine, &ours::prompt(salt, 1500), 20).await;
            (answer, ours::pages())
        });
        while engine.loaded() {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        (loaded.1 as f64, ours::pages() as f64)
    };
    let cycles: Vec<_> = (0..CYCLES).map(cycle).collect();
    let mib = |bytes: f64| format!("{:.1} MiB", bytes / f64::from(1 << 20));
    let last = median(cycles[cycles.len() - 5..].iter().map(|cycle| cycle.1));
    let mut report = Report::new(format!("{CYCLES} cycles of load, answer and unload"));
    report.row("the process while it answers", mib(median(cycles.iter().map(|cycle| cycle.0))));
    report.row("after the first unloading", mib(cycles[0].1));
    report.row("after the last ones", mib(last));
    report.most("last ones, of the first", last / cycles[0].1, 1.05);
    report.note("Demo model; `Pss` of the process, the median of the last five.");
    Some(report)
}
