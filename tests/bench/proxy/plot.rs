//! The added latencies as a picture: a row for each of the compared, a dot for each size, on a logarithmic scale.

use std::fmt::Write;
use std::fs;

use plimsoll_tests::shared::root;

use crate::bodies::SIZES;
use crate::results::Part;
use crate::subjects::ALL;

const WIDTH: f64 = 860.0;
const LEFT: f64 = 220.0;
const RIGHT: f64 = 30.0;
const TOP: f64 = 64.0;
const ROW: f64 = 30.0;
/// The scale, in ms.
const FROM: f64 = 0.01;
const TO: f64 = 1000.0;

/// Readable on light and on dark pages: colours follow the reader's scheme.
const STYLE: &str = "
text { font: 13px system-ui, sans-serif; fill: #24292f }
.own { font-weight: 600 }
.line { stroke: #d0d7de }
.s0 { fill: #9a6700 } .s1 { fill: #1a7f37 } .s2 { fill: #0969da } .s3 { fill: #8250df }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .line { stroke: #3d444d }
  .s0 { fill: #e3b341 } .s1 { fill: #56d364 } .s2 { fill: #79c0ff } .s3 { fill: #d2a8ff }
}
";

/// Where a time stands.
fn x(millis: f64) -> f64 {
    let share = (millis.clamp(FROM, TO) / FROM).log10() / (TO / FROM).log10();
    LEFT + share * (WIDTH - LEFT - RIGHT)
}

/// Draws docs/proxies.svg of the sizes that were measured.
pub(crate) fn write(parts: &[Part]) {
    let names: Vec<&str> = ALL.iter().map(|who| who.name()).filter(|name| *name != "direct").collect();
    let height = TOP + ROW * names.len() as f64 + 34.0;
    let bottom = height - 30.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n\
         <title>Latency that a proxy adds to a request, median, by the request's size</title>\n<style>{STYLE}</style>\n\
         <text x=\"{LEFT}\" y=\"20\">Added to a request, median, by its size</text>\n"
    );
    for (place, size) in SIZES.iter().enumerate() {
        let at = LEFT + 110.0 * place as f64;
        let _ = writeln!(
            svg,
            "<circle class=\"s{place}\" cx=\"{}\" cy=\"41\" r=\"6\"/><text x=\"{}\" y=\"46\">{}</text>",
            at + 6.0,
            at + 18.0,
            size.name
        );
    }
    for (millis, label) in
        [(0.01, "10 µs"), (0.1, "0.1 ms"), (1.0, "1 ms"), (10.0, "10 ms"), (100.0, "100 ms"), (1000.0, "1 s")]
    {
        let at = x(millis);
        let _ = writeln!(
            svg,
            "<line class=\"line\" x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{bottom}\"/>\
             <text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{label}</text>",
            bottom + 20.0
        );
    }
    for (row, name) in names.iter().enumerate() {
        let y = TOP + ROW * (row as f64 + 0.5);
        let class = if name.starts_with("Plimsoll") { " class=\"own\"" } else { "" };
        let _ = writeln!(
            svg,
            "<text{class} x=\"{}\" y=\"{}\" text-anchor=\"end\">{name}</text>",
            LEFT - 14.0,
            y + 4.5
        );
        let added = |size: &str| parts.iter().find(|part| part.name == size)?.row(name)?.figure("added p50");
        for (place, size) in SIZES.iter().enumerate() {
            if let Some(millis) = added(size.name) {
                let _ = writeln!(
                    svg,
                    "<circle class=\"s{place}\" cx=\"{:.1}\" cy=\"{y}\" r=\"6\"><title>{name}, {}: {millis:.2} ms</title></circle>",
                    x(millis),
                    size.name
                );
            }
        }
    }
    svg += "</svg>\n";
    let path = root().join("docs/proxies.svg");
    fs::write(&path, svg).expect("the picture can be written");
    println!("written: {}", path.display());
}
