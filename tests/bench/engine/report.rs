//! What was measured, against its target: on the terminal, and in the file that is kept.

use std::fmt::Write;
use std::fs;
use std::process::Command;

use plimsoll_tests::shared::root;

/// The file that all benchmarks may write to, each between marks of its own.
const FILE: &str = "tests/bench/RESULTS.md";
/// Around all parts of this benchmark.
const SECTION: &str = "engine";

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
        let mut text = format!("### {}\n\n| what | measured | target | |\n|---|---|---|---|\n", self.title);
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
        let path = root().join(FILE);
        let had = fs::read_to_string(&path).unwrap_or_else(|_| "# Measured\n".to_owned());
        let (before, section, after) = cut(&had, SECTION);
        let (first, _, rest) = cut(&section, &format!("{SECTION} {part}"));
        let head = "## The engine, by `make bench-engine`\n\nRatios are medians over pairs taken by turns in one run; \
                    only they say something on a shared machine.";
        let first = if section.is_empty() { head } else { first.trim() };
        let part = marked(&format!("{SECTION} {part}"), &self.markdown());
        let section = marked(SECTION, &format!("{first}\n\n{part}\n{}", rest.trim_start()));
        let text = format!("{}\n\n{section}{after}", before.trim_end());
        fs::write(&path, text).unwrap_or_else(|error| eprintln!("{}: {error}", path.display()));
    }
}

fn marks(name: &str) -> (String, String) {
    (format!("<!-- {name}: begin -->"), format!("<!-- {name}: end -->"))
}

fn marked(name: &str, text: &str) -> String {
    let (begin, end) = marks(name);
    format!("{begin}\n{}\n{end}\n", text.trim_end())
}

/// What stands before the marks of this name, between and behind them; without marks, all stands before.
fn cut(text: &str, name: &str) -> (String, String, String) {
    let (begin, end) = marks(name);
    let found = text.split_once(&begin).and_then(|(before, rest)| {
        let (within, after) = rest.split_once(&end)?;
        Some((before.to_owned(), within.to_owned(), after.trim_start_matches('\n').to_owned()))
    });
    found.unwrap_or_else(|| (text.to_owned(), String::new(), String::new()))
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
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share).round() as usize]
}

/// A count with commas, as `4,614`.
pub(crate) fn count(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Seconds, as milliseconds.
pub(crate) fn millis(seconds: f64) -> String {
    format!("{:.2} ms", seconds * 1e3)
}
