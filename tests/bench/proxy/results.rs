//! Results by part: kept as JSON, and written as tables.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use plimsoll_tests::figures::grouped;
use plimsoll_tests::results;
use serde::{Deserialize, Serialize};

use crate::bodies::SIZES;
use crate::subjects::Cast;

/// Figures of one of the compared; times in ms, memory in MB.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) who: String,
    figures: BTreeMap<String, f64>,
}

impl Row {
    pub(crate) fn of(who: &str, figures: &[(&str, f64)]) -> Self {
        // What was not measured is left out.
        let known = figures.iter().filter(|(_, figure)| figure.is_finite());
        Self {
            who: who.to_owned(),
            figures: known.map(|(name, figure)| ((*name).to_owned(), *figure)).collect(),
        }
    }

    pub(crate) fn figure(&self, name: &str) -> Option<f64> {
        self.figures.get(name).copied()
    }
}

/// One measurement of all.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) name: String,
    date: String,
    pub(crate) rows: Vec<Row>,
    missing: Vec<(String, String)>,
    about: BTreeMap<String, f64>,
}

impl Part {
    pub(crate) fn new(name: &str, rows: Vec<Row>, cast: &Cast, about: &[(&str, f64)]) -> Self {
        let date = Command::new("date").args(["-u", "+%F %H:%M UTC"]).output().expect("`date` runs");
        Self {
            name: name.to_owned(),
            date: String::from_utf8_lossy(&date.stdout).trim().to_owned(),
            rows,
            missing: cast.missing.iter().map(|(who, why)| (who.name().to_owned(), why.clone())).collect(),
            about: about.iter().map(|(name, figure)| ((*name).to_owned(), *figure)).collect(),
        }
    }

    pub(crate) fn row(&self, who: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.who == who)
    }

    fn about(&self, name: &str) -> f64 {
        self.about.get(name).copied().unwrap_or_default()
    }

    /// The table as Markdown: a column for each figure, by its head and decimals.
    fn table(&self, columns: &[(&str, &str, usize)]) -> String {
        let mut text = String::from("| |");
        columns.iter().for_each(|(_, head, _)| text += &format!(" {head} |"));
        text += "\n|---|";
        columns.iter().for_each(|_| text += "---:|");
        text.push('\n');
        for row in &self.rows {
            let _ = write!(text, "| {} |", row.who);
            for (name, _, decimals) in columns {
                let _ = match row.figure(name) {
                    Some(figure) => write!(text, " {} |", grouped(figure, *decimals)),
                    None => write!(text, " |"),
                };
            }
            text.push('\n');
        }
        for (who, why) in &self.missing {
            let _ = writeln!(text, "| {who} | {why} |{}", " |".repeat(columns.len().saturating_sub(1)));
        }
        text
    }
}

/// The parts that were measured here last, by name.
pub(crate) fn load(folder: &Path) -> Vec<Part> {
    let names = SIZES.map(|size| size.name).into_iter().chain(["throughput", "streams", "memory", "start"]);
    let read = |name: &str| serde_json::from_slice(&fs::read(file(folder, name)).ok()?).ok();
    names.filter_map(read).collect()
}

/// Keeps a part.
pub(crate) fn keep(folder: &Path, part: &Part) {
    let json = serde_json::to_vec_pretty(part).expect("a part is JSON");
    fs::write(file(folder, &part.name), json).expect("a result can be written");
}

fn file(folder: &Path, name: &str) -> std::path::PathBuf {
    folder.join(format!("{}.json", name.replace(' ', "")))
}

/// A part as its table.
pub(crate) fn shown(part: &Part) -> String {
    part.table(columns(part))
}

/// Writes what is known into tests/bench/RESULTS.md, in place of what stood there.
pub(crate) fn write(parts: &[Part], versions: &[(String, String)]) {
    results::write("bench-proxy", &section(parts, versions));
}

fn section(parts: &[Part], versions: &[(String, String)]) -> String {
    let versions: Vec<String> = versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    let mut text = format!("## Beside other proxies: `make bench-proxy`\n\n{}\n\n", machine());
    let _ = writeln!(text, "{}.\n\n{HOW}", versions.join(", "));
    text += "### Targets\n\n| | target | measured | |\n|---|---:|---:|---|\n";
    for target in crate::targets::all(parts) {
        let _ = writeln!(text, "{}", target.line());
    }
    for part in parts {
        let _ = writeln!(
            text,
            "\n### {}\n\n{} {}\n\n{}",
            title(part),
            note(part),
            part.date,
            shown(part).trim_end()
        );
    }
    text
}

const HOW: &str = "\
All stand before one upstream that answers at once, on the machine that the load comes from too. Each block of requests goes
to one of them, then to the next, round after round; a median is one over the blocks, a p99 one over all requests.
Latencies count from when a request was due (open loop); *added* is against `direct` in the same round. Portkey, LiteLLM and
headroom are asked at a lower rate (column requests/s), at which they use up to three quarters of a processor.
*CPU* is the time that the process and its children ran on a processor.
Plimsoll runs on its defaults: the log at `info` to a file, metrics, traces made and not sent (no collector), the last
requests kept for `explain`. Governed is the preset `agent` over a conversation that grew by its last message, within the
window, counted by a model folder. nginx passes bodies on unbuffered; LiteLLM has one worker; headroom neither caches nor
limits rates; Portkey is told its upstream by header.
";

fn machine() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    format!(
        "{} ({cores} cores), a virtual machine shared with others: only the ratios within one table say something.",
        model.trim_start_matches([' ', '\t', ':'])
    )
}

fn title(part: &Part) -> String {
    match part.name.as_str() {
        "throughput" => "Throughput, 1 KB".to_owned(),
        "streams" => "Streams".to_owned(),
        "memory" => "Memory".to_owned(),
        "start" => "Start".to_owned(),
        size => format!("Requests of {size}"),
    }
}

fn note(part: &Part) -> String {
    match part.name.as_str() {
        "throughput" => format!(
            "{} connections, each asks as soon as it has its answer; CPU in ms a request.",
            part.about("connections")
        ),
        "streams" => format!(
            "{} streams a second of {} events, 10 ms apart. *First*: from when the request was due to the first event. *Between*: how \
             long a later event was under way, from the upstream's write to the client's read; what is added to it is added between \
             two events. In ms.",
            part.about("rate"),
            part.about("events")
        ),
        "memory" => format!(
            "Resident memory in MB, all processes of each: a fresh one, and at most while {} chats of 1 MB, each of another \
             conversation, are held by the upstream. Of several processes, shared pages count for each.",
            part.about("bodies")
        ),
        "start" => format!(
            "Plimsoll before HTTP upstreams, without an engine; {} starts, ms from the start of the process.",
            part.about("starts")
        ),
        _ => format!(
            "{} bytes in {} messages; in ms.",
            grouped(part.about("bytes"), 0),
            part.about("messages")
        ),
    }
}

fn columns(part: &Part) -> &'static [(&'static str, &'static str, usize)] {
    match part.name.as_str() {
        "throughput" => &[
            ("rate", "requests/s", 0),
            ("p50", "p50", 2),
            ("p99", "p99", 2),
            ("cpu", "CPU", 3),
            ("failed", "failed", 0),
        ],
        "streams" => &[
            ("first", "first, p50", 3),
            ("added first", "added", 3),
            ("between", "between, p50", 3),
            ("added between", "added", 3),
            ("between p99", "between, p99", 2),
            ("cpu", "CPU a stream", 2),
            ("events", "events", 0),
            ("failed", "failed", 0),
        ],
        "memory" => &[
            ("idle", "idle", 0),
            ("peak", "with bodies in flight", 0),
            ("bodies", "the bodies", 0),
            ("ratio", "times the bodies", 2),
            ("ratio added", "without idle", 2),
            ("held", "held at once", 0),
        ],
        "start" => &[
            ("ready", "ready, p50", 0),
            ("slowest", "slowest", 0),
            ("first answer", "first chat answered, p50", 0),
        ],
        _ => &[
            ("added p50", "added p50", 3),
            ("added p99", "added p99", 2),
            ("p50", "p50", 3),
            ("p99", "p99", 2),
            ("cpu", "CPU", 3),
            ("rate", "requests/s", 0),
            ("requests", "requests", 0),
            ("failed", "failed", 0),
        ],
    }
}
