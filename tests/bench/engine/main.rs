//! What the engine promises, measured: beside onnxruntime-genai on the same files, in the same run, by turns.
//!
//! `make bench-engine` runs all parts, each in a process of its own; `make bench-engine PART="single reuse"` runs these.
//! Each target is printed as met or missed, and each part replaces its own table in `tests/bench/RESULTS.md`.

mod allocations;
mod beside;
mod cycles;
mod genai;
mod memory;
mod ours;
mod prefix;
mod report;
mod restore;
mod reuse;
mod single;
mod streams;

use std::process::{Command, ExitCode};

use report::Report;

/// A part's name, and what measures it; `None` where the models that it takes are not there.
type Part = (&'static str, fn() -> Option<Report>);

const PARTS: [Part; 9] = [
    ("single", single::run),
    ("streams", streams::run),
    ("reuse", reuse::run),
    ("restore", restore::run),
    ("beside", beside::run),
    ("prefix", prefix::run),
    ("memory", memory::run),
    ("cycles", cycles::run),
    ("allocations", allocations::run),
];

fn main() -> ExitCode {
    // Cargo adds options of its own.
    let asked: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let unknown = asked.iter().find(|name| PARTS.iter().all(|part| part.0 != *name));
    if let Some(name) = unknown {
        eprintln!("there is no part `{name}`: {}", PARTS.map(|part| part.0).join(", "));
        return ExitCode::FAILURE;
    }
    match &asked[..] {
        [name] => run(name),
        [] => each(PARTS.map(|part| part.0.to_owned()).as_slice()),
        _ => each(&asked),
    }
}

/// Measures one part here.
fn run(name: &str) -> ExitCode {
    for part in PARTS.iter().filter(|part| part.0 == name) {
        if let Some(report) = part.1() {
            report.print();
            report.write(part.0);
        }
    }
    ExitCode::SUCCESS
}

/// Measures parts in processes of their own: what one leaves in memory is not the next one's.
fn each(parts: &[String]) -> ExitCode {
    let program = std::env::current_exe().expect("this bench is a program");
    let failed = |part: &String| !Command::new(&program).arg(part).status().expect("it starts").success();
    if parts.iter().filter(|part| failed(part)).count() > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
