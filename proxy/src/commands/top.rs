//! `plimsoll top`

mod view;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::widgets::Paragraph;
use serde_json::Value;

use super::admin::Sidecar;
use super::{ps, say};

#[derive(clap::Args)]
// The arguments within are a group `Args` of their own.
#[group(id = "top")]
pub(crate) struct Args {
    #[command(flatten)]
    sidecar: ps::Args,
    /// Print one reading and end
    #[arg(long)]
    once: bool,
    /// Time between two readings, like 500ms
    #[arg(long, default_value = "2s", value_name = "TIME")]
    interval: humantime::Duration,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let sidecar = args.sidecar.sidecar()?;
    let interval = (*args.interval).max(Duration::from_millis(100));
    match (args.sidecar.json, args.once) {
        (true, true) => say(serde_json::to_string(&sidecar.state()?)?),
        (true, false) => loop {
            // One reading a line; it ends with its reader, or by a signal.
            print_line(&sidecar.state()?)?;
            wait(interval);
        },
        (false, true) => {
            for line in view::lines(&sidecar.url, &sidecar.state()?) {
                say(line.to_string().trim_end());
            }
        }
        (false, false) if !std::io::stdout().is_terminal() => {
            bail!(
                "standard output is no terminal: say `--once` for one reading, `--json` for a line of JSON each"
            )
        }
        (false, false) => watch(&sidecar, interval)?,
    }
    Ok(ExitCode::SUCCESS)
}

#[expect(
    clippy::disallowed_methods,
    reason = "time between two readings is what was asked for: there is no event"
)]
fn wait(interval: Duration) {
    std::thread::sleep(interval);
}

fn print_line(state: &Value) -> anyhow::Result<()> {
    use std::io::Write;
    writeln!(std::io::stdout(), "{}", serde_json::to_string(state)?).context("nobody reads any more")
}

/// Draws readings until somebody ends it.
fn watch(sidecar: &Sidecar, interval: Duration) -> anyhow::Result<()> {
    let mut state = sidecar.state()?;
    let mut terminal = ratatui::try_init().context("the terminal cannot be drawn on")?;
    let watched = (|| -> anyhow::Result<()> {
        let mut lost = None;
        let mut read = Instant::now();
        loop {
            terminal.draw(|frame| {
                let lines = view::screen(&sidecar.url, &state, lost.as_deref());
                frame.render_widget(Paragraph::new(lines), frame.area());
            })?;
            if event::poll(interval.saturating_sub(read.elapsed()))? && ends(&event::read()?) {
                return Ok(());
            }
            if read.elapsed() >= interval {
                // What was read last stays, with a note.
                match sidecar.state() {
                    Ok(fresh) => (state, lost) = (fresh, None),
                    Err(error) => lost = Some(format!("{error:#}")),
                }
                read = Instant::now();
            }
        }
    })();
    ratatui::try_restore().context("the terminal cannot be set back")?;
    watched
}

fn ends(event: &Event) -> bool {
    let Event::Key(KeyEvent { code, modifiers, kind: KeyEventKind::Press, .. }) = event else { return false };
    match code {
        KeyCode::Char('c') => modifiers.contains(KeyModifiers::CONTROL),
        code => matches!(code, KeyCode::Char('q') | KeyCode::Esc),
    }
}

#[cfg(test)]
#[path = "top/tests.rs"]
mod tests;
