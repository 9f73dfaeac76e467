//! The prefix-stability certificate of a chat template: whether a conversation that grows keeps the start of its prompt.
//!
//! A prompt's KV is reused as far as the next prompt begins with the same tokens. A template that writes the date, or
//! that writes a turn otherwise once it is no longer the last, breaks this at every turn, and nothing says so: each
//! answer is right, only slow. So each template is tried at load, over the shapes that clients send.

use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::text::template::Prompt;
use crate::text::{Text, wire};

/// Tokens of a divergence that are shown.
const SHOWN: usize = 8;
/// Far enough from the first date that weekday, day, month and year all differ.
const LATER: Duration = Duration::from_secs(400 * 24 * 3600);
/// A thought that no template writes by itself.
const THOUGHT: &str = "plimsoll-thought";

/// What became of a model's chat template when conversations grew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Certificate {
    /// Whether every shape that the template takes is stable, without and with the generation prompt.
    pub stable: bool,
    /// What a date does to the prompt: where two days' prompts part; `None` where the template asks for none.
    pub date: Option<Divergence>,
    /// What the template does with the reasoning of earlier answers.
    pub reasoning: Reasoning,
    /// The shapes of conversation that were tried.
    pub shapes: Vec<Shape>,
}

/// One shape of conversation, each request compared with the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shape {
    /// What it holds: `chat`, `system`, `tools`, ...
    pub name: &'static str,
    /// Whether the prompt without the beginning of an answer starts the next one.
    pub without_generation_prompt: Stability,
    /// Whether the prompt with the beginning of an answer, as it runs, starts the next one.
    pub with_generation_prompt: Stability,
}

/// Whether prompts grow by their end alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Stability {
    /// Each prompt is the start of the next, token by token.
    Stable,
    /// The first place where one is not.
    Diverges(Divergence),
    /// The template does not take the shape, in its own words.
    Refused {
        /// Why.
        reason: String,
    },
}

/// Where two prompts part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Divergence {
    /// The request whose prompt does not start the next one, from 1.
    pub request: usize,
    /// Index of the first token that differs: so many are reused.
    pub token: usize,
    /// Tokens of that request's prompt.
    pub of: usize,
    /// Its text from there, a few tokens of it.
    pub before: String,
    /// The next prompt's text from there.
    pub after: String,
}

/// What a template does with the reasoning (`reasoning_content`) of earlier answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reasoning {
    /// It is never written.
    Ignored,
    /// It is always written.
    Kept,
    /// It is written while its turn goes on, and left out afterwards.
    Dropped,
}

impl Shape {
    /// Whether it is stable or not taken at all.
    pub fn holds(&self) -> bool {
        [&self.without_generation_prompt, &self.with_generation_prompt]
            .iter()
            .all(|stability| !matches!(stability, Stability::Diverges(_)))
    }
}

/// A conversation to try, with what else its requests hold.
struct Trial {
    name: &'static str,
    messages: Vec<Value>,
    tools: Option<Value>,
    kwargs: Map<String, Value>,
}

/// Tries the template of `text`; `None` where the model has none.
pub(super) fn certify(text: &Text) -> Option<Certificate> {
    if text.templates().is_empty() {
        return None;
    }
    let trials = corpus();
    let shapes: Vec<Shape> = trials.iter().map(|trial| trial.shape(text)).collect();
    Some(Certificate {
        stable: shapes.iter().all(Shape::holds),
        date: trials.iter().find_map(|trial| trial.date(text)),
        reasoning: reasoning(text, &trials),
        shapes,
    })
}

impl Trial {
    fn new(name: &'static str, messages: &Value) -> Self {
        let messages = messages.as_array().cloned().unwrap_or_default();
        Self { name, messages, tools: None, kwargs: Map::new() }
    }

    fn with_tools(self) -> Self {
        Self { tools: Some(wire::probe_tools()), ..self }
    }

    fn shape(&self, text: &Text) -> Shape {
        Shape {
            name: self.name,
            without_generation_prompt: self.stability(text, false),
            with_generation_prompt: self.stability(text, true),
        }
    }

    /// Each request compared with the one after it.
    fn stability(&self, text: &Text, generation_prompt: bool) -> Stability {
        let mut former: Option<Vec<u32>> = None;
        for (number, end) in self.requests().into_iter().enumerate() {
            let ids = match self.ids(text, end, generation_prompt, SystemTime::UNIX_EPOCH) {
                Ok(ids) => ids,
                Err(reason) => return Stability::Refused { reason },
            };
            if let Some(found) = former.and_then(|former| divergence(text, number, &former, &ids)) {
                return Stability::Diverges(found);
            }
            former = Some(ids);
        }
        Stability::Stable
    }

    /// Where the prompts of two days part.
    fn date(&self, text: &Text) -> Option<Divergence> {
        let end = self.messages.len();
        let ids = |now| self.ids(text, end, true, now).ok();
        divergence(text, 1, &ids(SystemTime::UNIX_EPOCH)?, &ids(SystemTime::UNIX_EPOCH + LATER)?)
    }

    /// Where requests end: behind each message that a model is to answer.
    fn requests(&self) -> Vec<usize> {
        let role = |index: usize| self.messages.get(index).and_then(|message| message["role"].as_str());
        let asks = |end: &usize| {
            matches!(role(end - 1), Some("user" | "tool")) && matches!(role(*end), None | Some("assistant"))
        };
        (1..=self.messages.len()).filter(asks).collect()
    }

    fn rendered(&self, text: &Text, end: usize, answer: bool, now: SystemTime) -> Result<String, String> {
        let prompt = Prompt {
            messages: &self.messages[..end],
            tools: self.tools.as_ref(),
            add_generation_prompt: answer,
            kwargs: &self.kwargs,
            now,
        };
        text.render(&prompt).map_err(|error| error.to_string())
    }

    fn ids(&self, text: &Text, end: usize, answer: bool, now: SystemTime) -> Result<Vec<u32>, String> {
        let rendered = self.rendered(text, end, answer, now)?;
        text.encode(&rendered).map(|prompt| prompt.ids().to_vec()).map_err(|error| error.to_string())
    }
}

/// Where `former` does not start `next`.
fn divergence(text: &Text, request: usize, former: &[u32], next: &[u32]) -> Option<Divergence> {
    if next.starts_with(former) {
        return None;
    }
    let token = former.iter().zip(next).take_while(|(one, other)| one == other).count();
    let shown = |ids: &[u32]| text.decode(&ids[token..ids.len().min(token + SHOWN)], false);
    Some(Divergence { request, token, of: former.len(), before: shown(former), after: shown(next) })
}

/// Follows a thought through the requests that come after it.
fn reasoning(text: &Text, trials: &[Trial]) -> Reasoning {
    let mut written = [false, false];
    for trial in trials.iter().filter(|trial| trial.name.starts_with("thinking")) {
        for end in trial.requests().into_iter().skip(1) {
            let rendered = trial.rendered(text, end, false, SystemTime::UNIX_EPOCH).unwrap_or_default();
            written[usize::from(rendered.contains(THOUGHT))] = true;
        }
    }
    match written {
        [false, true] => Reasoning::Kept,
        [true, true] => Reasoning::Dropped,
        [_, false] => Reasoning::Ignored,
    }
}

/// The shapes that clients send.
fn corpus() -> Vec<Trial> {
    let user = |content: &str| json!({"role": "user", "content": content});
    let answer = |content: &str| json!({"role": "assistant", "content": content});
    let thought =
        |content: &str| json!({"role": "assistant", "content": content, "reasoning_content": THOUGHT});
    let system = json!({"role": "system", "content": "Be brief."});
    let chat = json!([user("Hello."), answer("Good day."), user("2 + 2?"), answer("4."), user("Thanks.")]);
    let many: Vec<Value> = std::iter::once(system.clone())
        .chain(
            (1..7).flat_map(|turn| [user(&format!("Question {turn}?")), answer(&format!("It is {turn}."))]),
        )
        .chain([user("And now?")])
        .collect();
    let called = json!([
        user("Look."),
        calls(&["plimsoll1"], None),
        result("plimsoll1"),
        answer("Done."),
        user("Good.")
    ]);
    let both = ["plimsoll1", "plimsoll2"];
    let parallel = json!([
        user("Look."),
        calls(&both, None),
        result(both[0]),
        result(both[1]),
        answer("Done."),
        user("Good.")
    ]);
    let thinking =
        json!([user("Hello."), thought("Good day."), user("2 + 2?"), thought("4."), user("Thanks.")]);
    let thinking_tools = json!([
        user("Look."),
        calls(&both[..1], Some(THOUGHT)),
        result(both[0]),
        calls(&both[1..], Some(THOUGHT)),
        result(both[1]),
        thought("Done."),
        user("Good.")
    ]);
    let switched_off = Map::from_iter([("enable_thinking".to_owned(), Value::Bool(false))]);
    vec![
        Trial::new("chat", &chat),
        Trial::new("system", &json!([system, user("Hello."), answer("Good day."), user("Thanks.")])),
        Trial::new("many_turns", &Value::Array(many)),
        Trial::new("tools", &called).with_tools(),
        Trial::new("parallel_tools", &parallel).with_tools(),
        Trial::new("thinking", &thinking),
        Trial::new("thinking_and_tools", &thinking_tools).with_tools(),
        Trial { kwargs: switched_off, ..Trial::new("no_thinking", &chat) },
    ]
}

/// An answer that calls the probe tool, once an id. Some templates insist on ids of nine letters and digits.
fn calls(ids: &[&str], reasoning: Option<&str>) -> Value {
    let call = |id: &&str| json!({"id": id, "type": "function", "function": {"name": "probe_tool", "arguments": "{\"path\": \"a\"}"}});
    let mut message =
        json!({"role": "assistant", "content": null, "tool_calls": ids.iter().map(call).collect::<Value>()});
    if let Some(reasoning) = reasoning {
        message["reasoning_content"] = reasoning.into();
    }
    message
}

fn result(id: &str) -> Value {
    json!({"role": "tool", "tool_call_id": id, "name": "probe_tool", "content": "nothing found"})
}

#[cfg(test)]
#[path = "certificate_tests.rs"]
mod tests;
