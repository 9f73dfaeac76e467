//! Answers that go on past the window: who may, what stays, and how long they may be.

use plimsoll_engine::Shift;

use super::NotAdmitted;
use crate::config::Keep;
use crate::live::Embedded;
use crate::parse::Options;

/// Windows that an answer may fill where nobody else ends it: as many as Ollama allows.
const MOST: u32 = 10;

/// How the answer to a prompt of so many tokens goes on when its window is full; `None`: it ends there.
///
/// # Errors
/// The request asks for what the model cannot do.
pub(super) fn wanted(
    engine: &Embedded,
    options: &Options,
    prompt: usize,
) -> Result<Option<Shift>, NotAdmitted> {
    let configured = engine.settings.context_shift;
    if !options.shift.unwrap_or(configured.is_some()) {
        return Ok(None);
    }
    engine.engine.shifts().map_err(NotAdmitted::NoShift)?;
    let keep = match options.keep.or(configured).unwrap_or_default() {
        Keep::Prompt => u32::try_from(prompt).unwrap_or(u32::MAX),
        Keep::Tokens(tokens) => tokens,
    };
    Ok(Some(Shift { keep }))
}

/// Tokens that an answer may have which outgrows its window, of those asked for.
pub(super) fn longest(asked: Option<u32>, window: u32) -> u32 {
    let most = window.saturating_mul(MOST);
    asked.map_or(most, |asked| asked.min(most))
}
