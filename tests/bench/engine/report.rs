//! What was measured, against its target: on the terminal, and in the file that is kept.

use std::fmt::Write;
use std::process::Command;

use plimsoll_tests::{figures, results};

/// One part's table.
pub(crate) struct Report {
    title: String,
    rows: Vec<Row>,
    notes: Vec<String>,
}

struct Row {
    what: String,
    measured: String,
    target: Option<(String, bool)>,
}

impl Report {
    pub(crate) fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), rows: Vec::new(), notes: Vec::new() }
    }

    /// A number that has no target.
    pub(crate) fn row(&mut self, what: impl Into<String>, measured: impl Into<String>) {
        self.rows.push(Row { what: what.into(), measured: measured.into(), target: None });
    }

    /// A number that is to be at least `target`.
    pub(crate) fn least(&mut self, what: impl Into<String>, measured: f64, target: f64) {
        self.judged(what.into(), measured, (">=", target, measured >= target));
    }

    /// A number that is to be at most `target`.
    pub(crate) fn most(&mut self, what: impl Into<String>, measured: f64, target: f64) {
        self.judged(what.into(), measured, ("<=", target, measured <= target));
    }

    fn judged(&mut self, what: String, measured: f64, (sign, target, met): (&str, f64, bool)) {
        let target = Some((format!("{sign} {target} x"), met));
        self.rows.push(Row { what, measured: format!("{measured:.3} x"), target });
    }

    /// A sentence below the table.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    fn markdown(&self) -> String {
        let mut text =
            format!("## Engine: {}\n\n| what | measured | target | |\n|---|---|---|---|\n", self.title);
        for Row { what, measured, target } in &self.rows {
            let (target, met) = target
                .as_ref()
                .map_or(("", ""), |(target, met)| (target.as_str(), if *met { "met" } else { "**missed**" }));
            writeln!(text, "| {what} | {measured} | {target} | {met} |").expect("a string takes it");
        }
        let place = machine();
        let notes = self.notes.iter().map(String::as_str).chain([place.as_str()]);
        writeln!(text, "\n{}", notes.collect::<Vec<_>>().join(" ")).expect("a string takes it");
        text
    }

    pub(crate) fn print(&self) {
        println!("{}", self.markdown());
    }

    /// Puts the table in the place of the part's former one.
    pub(crate) fn write(&self, part: &str) {
        results::write(&format!("engine-{part}"), &self.markdown());
    }
}

/// When and where.
fn machine() -> String {
    let date = Command::new("date").args(["-u", "+%F"]).output();
    let date =
        date.map_or_else(|_| String::new(), |said| String::from_utf8_lossy(&said.stdout).trim().to_owned());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("({date}, {cores} cores)")
}

/// The middle one.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    quantile(values, 0.5)
}

/// The value below which this share of them lies.
pub(crate) fn quantile(values: impl IntoIterator<Item = f64>, share: f64) -> f64 {
    let values: Vec<f64> = values.into_iter().collect();
    figures::quantile(&values, share).expect("something was measured")
}

/// A count with commas, as `4,614`.
pub(crate) fn count(number: f64) -> String {
    figures::grouped(number, 0)
}

/// Seconds, as milliseconds.
pub(crate) fn millis(seconds: f64) -> String {
    format!("{:.2} ms", seconds * 1e3)
}
