//! Log probabilities in OpenAI's two shapes.

use plimsoll_engine::Logprobs;
use plimsoll_engine::text::Text;
use serde_json::{Map, Value, json};

/// What JSON says in place of minus infinity, as OpenAI's API does.
const IMPOSSIBLE: f32 = -9999.0;

/// How likely a token of the answer was, and what was likeliest in its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Likelihood {
    chosen: Likely,
    top: Vec<Likely>,
}

#[derive(Debug, Clone, PartialEq)]
struct Likely {
    text: String,
    /// Where the vocabulary tells them.
    bytes: Option<Vec<u8>>,
    logprob: f32,
}

impl Likelihood {
    /// The engine's figures with the tokens' texts.
    pub fn new(logprobs: &Logprobs, text: &Text) -> Self {
        let likely = |(token, logprob): (u32, f32)| {
            let bytes = text.token_bytes(token);
            let text = match &bytes {
                Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                None => text.decode(&[token], false),
            };
            Likely { text, bytes, logprob: logprob.max(IMPOSSIBLE) }
        };
        Self {
            chosen: likely((logprobs.token, logprobs.logprob)),
            top: logprobs.top.iter().copied().map(likely).collect(),
        }
    }
}

impl Likely {
    fn json(&self) -> Value {
        json!({"token": self.text, "logprob": self.logprob, "bytes": self.bytes})
    }
}

/// One object a token, as chat completions and responses have it.
pub fn likelihoods(list: &[Likelihood]) -> Vec<Value> {
    let one = |likelihood: &Likelihood| {
        let mut json = likelihood.chosen.json();
        json["top_logprobs"] = likelihood.top.iter().map(Likely::json).collect();
        json
    };
    list.iter().map(one).collect()
}

/// As chat completions have it.
pub(super) fn chat(list: &[Likelihood]) -> Value {
    json!({"content": likelihoods(list), "refusal": null})
}

/// As legacy completions have it. `offset` is where the list's text begins in the answer, in characters, and is moved
/// to its end.
pub(super) fn text(list: &[Likelihood], offset: &mut usize) -> Value {
    let offsets: Vec<_> = list
        .iter()
        .map(|likelihood| {
            let begin = *offset;
            *offset += likelihood.chosen.text.chars().count();
            begin
        })
        .collect();
    let top = |likelihood: &Likelihood| -> Map<String, Value> {
        // The likelier one of two tokens that read alike stands.
        likelihood.top.iter().rev().map(|likely| (likely.text.clone(), likely.logprob.into())).collect()
    };
    json!({
        "tokens": list.iter().map(|likelihood| &likelihood.chosen.text).collect::<Vec<_>>(),
        "token_logprobs": list.iter().map(|likelihood| likelihood.chosen.logprob).collect::<Vec<_>>(),
        "top_logprobs": list.iter().map(top).collect::<Vec<_>>(),
        "text_offset": offsets,
    })
}
