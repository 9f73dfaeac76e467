//! What an answer is held to: its format, its calls, and the grammar of both.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use plimsoll_engine::{Bounds, Choice, Function, Grammar, Tools};
use plimsoll_policies::Conversation;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::NotAdmitted;
use crate::cut::cut;
use crate::live::Embedded;
use crate::parse::{CallMode, LONGEST_FORMAT, Options};

/// One schema is compiled at a time: each may take much memory and a core.
static COMPILER: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(1)));

/// The functions that a chat offers.
pub(super) fn offered(chat: Option<&Conversation>) -> Vec<Function> {
    let tools = chat.and_then(Conversation::tools);
    let tools: Vec<Value> = tools.and_then(|tools| serde_json::from_str(tools).ok()).unwrap_or_default();
    let function = |tool: &Value| {
        let function = &tool["function"];
        Some(Function {
            name: function["name"].as_str()?.to_owned(),
            parameters: function.get("parameters").filter(|schema| !schema.is_null()).cloned(),
            strict: function["strict"].as_bool().unwrap_or(false),
        })
    };
    tools.iter().filter_map(function).collect()
}

/// What the answer to `prompt` is held to.
pub(super) fn bounds(
    engine: &Embedded,
    options: &Options,
    chat: Option<&Conversation>,
    prompt: &[u32],
) -> Result<Bounds, NotAdmitted> {
    let text = &engine.counter.text;
    let thinking = chat.and(text.thinking()).map(|_| text.opens_thoughts(prompt));
    let format = options.format.as_deref().cloned();
    let offered = offered(chat);
    let tools = match options.tool_choice.mode {
        CallMode::Required => Some(chosen(options, offered, Choice::Required)?),
        // Without a form for calls there are none.
        CallMode::Auto if offered.is_empty() || text.tool_calls().is_none() => None,
        CallMode::Auto => Some(chosen(options, offered, Choice::Auto)?),
        CallMode::None => None,
    };
    let bounds = Bounds { format, tools, thinking };
    let bytes = chat.and_then(Conversation::tools).map_or(0, str::len);
    if bytes > LONGEST_FORMAT && bounds.tools.as_ref().is_some_and(|tools| !tools.free()) {
        return Err(NotAdmitted::ToolsTooLong { bytes, most: LONGEST_FORMAT });
    }
    if options.min_tokens > 0 && bounds.hold() {
        return Err(NotAdmitted::LeastBesideGrammar);
    }
    Ok(bounds)
}

/// The functions of `tool_choice`.
fn chosen(options: &Options, offered: Vec<Function>, choice: Choice) -> Result<Tools, NotAdmitted> {
    let wanted = &options.tool_choice;
    let missing = |name: &&String| offered.iter().all(|function| function.name != **name);
    if let Some(name) = wanted.only.iter().flatten().find(missing) {
        return Err(NotAdmitted::UnknownTool(cut(name).into_owned()));
    }
    let may = |function: &Function| wanted.only.as_ref().is_none_or(|only| only.contains(&function.name));
    let all = offered.len();
    let functions: Vec<Function> = offered.into_iter().filter(may).collect();
    if functions.is_empty() {
        return Err(NotAdmitted::NoTools);
    }
    Ok(Tools { only: functions.len() < all, functions, choice, parallel: wanted.parallel })
}

/// Compiling takes milliseconds or more, by the schema: not on a thread that serves others.
pub(super) async fn grammar(
    engine: &Arc<Embedded>,
    bounds: Bounds,
    wait: Duration,
) -> Result<Option<Grammar>, NotAdmitted> {
    if !bounds.hold() {
        return Ok(None);
    }
    let turn = turn(COMPILER.clone(), wait).await?;
    let engine = engine.clone();
    let compile = move || {
        // A caller that leaves does not end what has begun.
        let _turn = turn;
        engine.engine.grammar(&bounds)
    };
    let compiled = tokio::task::spawn_blocking(compile).await;
    Ok(compiled.map_err(|_| NotAdmitted::FormatCrashed)??)
}

/// The turn to compile, behind those who asked before.
async fn turn(compiler: Arc<Semaphore>, wait: Duration) -> Result<OwnedSemaphorePermit, NotAdmitted> {
    match tokio::time::timeout(wait, compiler.acquire_owned()).await {
        Ok(turn) => turn.map_err(|_| NotAdmitted::FormatCrashed),
        Err(_) => Err(NotAdmitted::CompilerBusy(wait)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn schemas_are_compiled_one_at_a_time() {
        let compiler = Arc::new(Semaphore::new(1));
        let first = turn(compiler.clone(), Duration::ZERO).await.expect("nobody compiles");
        let busy = turn(compiler.clone(), Duration::ZERO).await.expect_err("somebody compiles");
        assert!(matches!(busy, NotAdmitted::CompilerBusy(Duration::ZERO)), "{busy}");
        let second = tokio::spawn(turn(compiler.clone(), Duration::MAX));
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        drop(first);
        drop(second.await.expect("a task").expect("its turn has come"));
    }
}
