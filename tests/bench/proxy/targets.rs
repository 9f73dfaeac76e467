//! What Plimsoll is to cost at most, and what it costs.

use crate::results::Part;

/// A bound and what was measured.
pub(crate) struct Target {
    what: &'static str,
    bound: String,
    measured: Option<String>,
    met: bool,
}

impl Target {
    /// A row of the table.
    pub(crate) fn line(&self) -> String {
        let (measured, met) = match &self.measured {
            Some(measured) => (measured.as_str(), if self.met { "met" } else { "missed" }),
            None => ("", "not measured"),
        };
        format!("| {} | {} | {measured} | {met} |", self.what, self.bound)
    }

    fn at_most(what: &'static str, bound: f64, unit: &str, measured: Option<f64>) -> Self {
        Self::new(
            what,
            format!("<= {bound}{unit}"),
            unit,
            measured,
            measured.is_some_and(|measured| measured <= bound),
        )
    }

    fn at_least(what: &'static str, bound: f64, unit: &str, measured: Option<f64>) -> Self {
        Self::new(
            what,
            format!(">= {bound}{unit}"),
            unit,
            measured,
            measured.is_some_and(|measured| measured >= bound),
        )
    }

    fn new(what: &'static str, bound: String, unit: &str, measured: Option<f64>, met: bool) -> Self {
        Self { what, bound, measured: measured.map(|measured| format!("{measured:.2}{unit}")), met }
    }
}

/// All targets, against the parts that were measured.
pub(crate) fn all(parts: &[Part]) -> Vec<Target> {
    let figure =
        |part: &str, who: &str, name: &str| parts.iter().find(|one| one.name == part)?.row(who)?.figure(name);
    let ratio =
        |part: &str, name: &str| Some(figure(part, PASSING, name)? / figure(part, "bare hyper proxy", name)?);
    vec![
        Target::at_most(
            "passed through, 1 KB: added p50, against the bare hyper proxy's",
            1.3,
            " x",
            ratio("1 KB", "added p50"),
        ),
        Target::at_least(
            "passed through, 1 KB: requests/s of a closed loop, against the same",
            0.8,
            " x",
            ratio("throughput", "rate"),
        ),
        Target::at_most(
            "governed, 256 KB, warm: added p50",
            1.0,
            " ms",
            figure("256 KB", GOVERNED, "added p50"),
        ),
        Target::at_most(
            "governed, 256 KB, warm: CPU a request",
            1.5,
            " ms",
            figure("256 KB", GOVERNED, "cpu"),
        ),
        Target::at_most(
            "governed stream: added to the first event, p50",
            0.2,
            " ms",
            figure("streams", GOVERNED, "added first"),
        ),
        Target::at_most(
            "governed stream: added between events, p50",
            0.1,
            " ms",
            figure("streams", GOVERNED, "added between"),
        ),
        Target::at_most(
            "memory without an engine, idle, counting by a model folder",
            40.0,
            " MB",
            figure("memory", GOVERNED, "idle"),
        ),
        Target::at_most(
            "the same, with tiktoken's table of 200,000 tokens",
            40.0,
            " MB",
            figure("memory", ESTIMATED, "idle"),
        ),
        Target::at_most(
            "memory, governed, bodies of 1 MB in flight: all of it, against the bodies",
            3.0,
            " x",
            figure("memory", GOVERNED, "ratio"),
        ),
        Target::at_most(
            "start to ready without an engine",
            150.0,
            " ms",
            figure("start", "Plimsoll", "ready"),
        ),
    ]
}

const PASSING: &str = "Plimsoll, pass-through";
const GOVERNED: &str = "Plimsoll, governed";
const ESTIMATED: &str = "Plimsoll, governed, tiktoken";
