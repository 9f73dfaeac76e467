//! A state as lines for a terminal: what an operator looks at first stands first.

use std::time::Duration;

use bytesize::ByteSize;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use serde_json::{Map, Value};

use crate::commands::ps::{growth, of, text, warnings};

/// Cells of the memory bar.
const BAR: u64 = 60;
/// Finished requests that are shown.
const LAST: usize = 12;
/// A colour and a letter for each component, in order: the bar can be read without colours.
const PARTS: [(Color, char); 6] = [
    (Color::Blue, 'w'),
    (Color::Green, 'k'),
    (Color::Yellow, 'b'),
    (Color::Magenta, 's'),
    (Color::Gray, 'c'),
    (Color::Red, '?'),
];

/// The lines, and how to end it.
pub(super) fn screen<'a>(admin: &str, state: &'a Value, lost: Option<&str>) -> Vec<Line<'a>> {
    let last = match lost {
        Some(reason) => Line::styled(format!("{reason} (figures of the last reading)"), Color::Red),
        None => Line::styled("q ends", Modifier::DIM),
    };
    let mut lines = vec![last];
    lines.extend(self::lines(admin, state));
    lines
}

/// All of a state that is worth a line.
pub(super) fn lines<'a>(admin: &str, state: &'a Value) -> Vec<Line<'a>> {
    let mut lines = vec![head(admin, state)];
    lines.extend(warnings(&state["config"]).into_iter().map(|line| Line::styled(line, Color::Red)));
    for (name, upstream) in object(&state["upstreams"]) {
        lines.push(Line::default());
        match upstream["kind"] == "engine" {
            true => lines.extend(engine(name, upstream)),
            false => lines.push(Line::styled(format!("{name}: a server over HTTP"), Modifier::BOLD)),
        }
    }
    lines.push(Line::default());
    lines.extend(totals(&state["totals"]));
    lines.push(Line::default());
    lines.extend(running(&state["running"]));
    lines.push(Line::default());
    lines.extend(requests(&state["requests"]));
    lines
}

fn head<'a>(admin: &str, state: &Value) -> Line<'a> {
    let up = humantime::format_duration(Duration::from_secs(figure(&state["uptime_seconds"])));
    let config = &state["config"];
    let modes: Vec<_> = array(&state["routes"])
        .map(|route| format!("{} {}:{}", text(&route["name"]), text(&route["policy"]), text(&route["mode"])))
        .collect();
    Line::from(vec![
        Span::styled(format!("plimsoll {}", text(&state["version"])), Modifier::BOLD),
        Span::raw(format!(
            " at {admin}, up {up}, configuration {} ({})",
            config["generation"],
            text(&config["hash"])
        )),
        Span::raw(format!("; routes {}", modes.join(", "))),
    ])
}

fn engine<'a>(name: &str, engine: &Value) -> Vec<Line<'a>> {
    let used: u64 = object(&engine["memory_bytes"]).map(|(_, bytes)| figure(bytes)).sum();
    let title = format!(
        "{name}: {} on {}, memory {}, kv cache {}, {} queued",
        text(&engine["model"]),
        text(&engine["device"]),
        of(&used.into(), &engine["memory_limit_bytes"]),
        of(&engine["kv_used_bytes"], &engine["kv_limit_bytes"]),
        engine["queued"],
    );
    let mut lines = vec![Line::styled(title, Modifier::BOLD)];
    lines.extend(memory(engine));
    lines.push(leak(engine));
    lines.extend(slots(&engine["slots"]));
    lines
}

/// A bar as long as the limit, and what its letters are.
fn memory<'a>(engine: &Value) -> [Line<'a>; 2] {
    let limit = figure(&engine["memory_limit_bytes"]).max(1);
    let (mut bar, mut legend, mut filled) = (vec![Span::raw("  [")], vec![Span::raw("  ")], 0);
    for ((name, bytes), (color, letter)) in object(&engine["memory_bytes"]).zip(PARTS) {
        let bytes = figure(bytes);
        // Whatever there is of a component is seen.
        let cells = (bytes * BAR / limit).max(u64::from(bytes > 0)).min(BAR - filled);
        filled += cells;
        bar.push(Span::styled(letter.to_string().repeat(cells as usize), Style::new().fg(color)));
        legend.push(Span::styled(format!("{letter} "), Style::new().fg(color)));
        legend.push(Span::raw(format!("{name} {}   ", ByteSize::b(bytes))));
    }
    bar.push(Span::raw(format!("{}]", "·".repeat((BAR - filled) as usize))));
    [Line::from(bar), Line::from(legend)]
}

fn leak<'a>(engine: &Value) -> Line<'a> {
    let leak = &engine["leak"];
    let color = match leak["state"].as_str() {
        Some("leak") => Color::Red,
        Some("suspect") => Color::Yellow,
        _ => Color::Green,
    };
    let found = growth(engine).unwrap_or_else(|| text(&leak["state"]).to_owned());
    Line::styled(format!("  leak check: {found} ({} readings while nothing ran)", leak["samples"]), color)
}

fn slots<'a>(slots: &Value) -> Vec<Line<'a>> {
    let mut lines = vec![dim("  slot  state   tokens / limit     used  reused  conversation")];
    lines.extend(array(slots).map(|slot| {
        let (tokens, limit) = (figure(&slot["tokens"]), figure(&slot["limit"]));
        let state = if slot["busy"] == true {
            "busy"
        } else if tokens > 0 {
            "kept"
        } else {
            "empty"
        };
        let conversation = match slot["conversation"].as_str() {
            Some(id) => format!("{}, turn {}", short(id), slot["turns"]),
            None => "-".to_owned(),
        };
        Line::raw(format!(
            "  {:>4}  {state:<5} {tokens:>8} / {limit:<8} {:>6}  {:>6}  {conversation}",
            figure(&slot["id"]),
            percent(tokens, limit),
            percent(figure(&slot["reused_tokens"]), figure(&slot["prompt_tokens"])),
        ))
    }));
    lines
}

fn totals<'a>(totals: &Value) -> Vec<Line<'a>> {
    let outcomes: Vec<_> =
        object(&totals["by_outcome"]).map(|(name, requests)| format!("{requests} {name}")).collect();
    let mut lines = vec![Line::styled(
        format!(
            "requests {} ({}), prompt tokens {} in -> {} out, {} cached",
            totals["requests"],
            outcomes.join(", "),
            totals["tokens_before"],
            totals["tokens_sent"],
            totals["tokens_cached"]
        ),
        Modifier::BOLD,
    )];
    for (title, list) in [("removed by", "removed_by_action"), ("tools that cost", "removed_by_tool")] {
        let mut sums: Vec<_> = object(&totals[list]).map(|(name, tokens)| (figure(tokens), name)).collect();
        sums.sort_unstable_by(|a, b| b.cmp(a));
        let sums: Vec<_> = sums.iter().take(6).map(|(tokens, name)| format!("{name} {tokens}")).collect();
        if !sums.is_empty() {
            lines.push(Line::raw(format!("  {title}: {}", sums.join(", "))));
        }
    }
    lines
}

fn running<'a>(running: &Value) -> Vec<Line<'a>> {
    let mut lines = vec![dim("  running    stage      route             prompt in -> out       age")];
    lines.extend(array(running).map(|flight| {
        Line::raw(format!(
            "  {:<10} {:<10} {:<16} {:>10} -> {:<8} {:>7}",
            short(text(&flight["id"])),
            text(&flight["stage"]),
            cut(text(&flight["route"])),
            count(&flight["tokens_before"]),
            count(&flight["tokens_sent"]),
            time(&flight["age_ms"]),
        ))
    }));
    if lines.len() == 1 {
        lines.push(Line::raw("  nothing"));
    }
    lines
}

fn requests<'a>(requests: &Value) -> Vec<Line<'a>> {
    let title =
        "  request    result        route             prompt in -> out    cached   first     took  rules";
    let mut lines = vec![dim(title)];
    lines.extend(array(requests).take(LAST).map(|request| {
        let color = match request["outcome"].as_str() {
            Some("failed") => Color::Red,
            Some("rejected") => Color::Yellow,
            _ => Color::Reset,
        };
        let rules: Vec<_> = array(&request["actions"])
            .map(|action| format!("{} -{}", text(&action["policy"]), figure(&action["tokens_removed"])))
            .collect();
        let line = format!(
            "  {:<10} {:<13} {:<16} {:>10} -> {:<8} {:>6} {:>7} {:>8}  {}",
            short(text(&request["id"])),
            text(&request["outcome"]),
            cut(text(&request["route"])),
            count(&request["tokens_before"]),
            count(&request["tokens_after"]),
            count(&request["cached_tokens"]),
            time(&request["first_token_ms"]),
            time(&request["took_ms"]),
            rules.join(", "),
        );
        Line::styled(line, color)
    }));
    lines
}

fn dim<'a>(title: &'static str) -> Line<'a> {
    Line::styled(title, Modifier::DIM)
}

fn object(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn figure(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

fn count(value: &Value) -> String {
    value.as_u64().map_or_else(|| "-".to_owned(), |count| count.to_string())
}

fn time(value: &Value) -> String {
    match value.as_f64() {
        Some(millis) if millis < 1000.0 => format!("{millis:.0} ms"),
        Some(millis) => format!("{:.1} s", millis / 1000.0),
        None => "-".to_owned(),
    }
}

fn percent(part: u64, whole: u64) -> String {
    let share = (100 * part + whole / 2).checked_div(whole);
    share.map_or_else(|| "-".to_owned(), |share| format!("{share} %"))
}

/// Ids begin with the time: their ends tell them apart.
fn short(id: &str) -> &str {
    id.get(id.len().saturating_sub(8)..).unwrap_or(id)
}

fn cut(name: &str) -> String {
    name.chars().take(16).collect()
}
