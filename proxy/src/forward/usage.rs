//! Reads the usage that an HTTP upstream reports, while its answer passes through untouched.

use std::borrow::Cow;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use crate::telemetry::ChatFacts;

/// The usage stands at the end of an answer; this much of it is looked at.
const TAIL: usize = 16 * 1024;
/// Some dialects tell of the prompt at the beginning of a stream.
const HEAD: usize = 4 * 1024;

/// Tokens as the upstream counted them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt, cached ones included.
    pub prompt: Option<u64>,
    /// Tokens generated.
    pub completion: Option<u64>,
    /// Prompt tokens that came from a cache.
    pub cached: Option<u64>,
}

impl Usage {
    /// Tells a span.
    pub fn tell(self, facts: &mut ChatFacts) {
        facts.input_tokens = self.prompt;
        facts.output_tokens = self.completion;
        facts.cached_tokens = self.cached;
    }
}

impl<'de> Deserialize<'de> for Usage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let OpenAi { prompt_tokens, completion_tokens, prompt_tokens_details } =
            OpenAi::deserialize(deserializer)?;
        let cached = prompt_tokens_details.and_then(|details| details.cached_tokens);
        Ok(Self { prompt: prompt_tokens, completion: completion_tokens, cached })
    }
}

/// OpenAI's form of it.
#[derive(Deserialize)]
struct OpenAi {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    prompt_tokens_details: Option<Details>,
}

/// How the prompt's tokens divide.
#[derive(Deserialize)]
struct Details {
    cached_tokens: Option<u64>,
}

/// The beginning and the end of a body that passes by.
#[derive(Debug, Default)]
pub struct Seen {
    head: Vec<u8>,
    tail: Vec<u8>,
}

impl Seen {
    /// Looks at a piece of the body.
    pub fn see(&mut self, data: &Bytes) {
        let room = HEAD - self.head.len();
        self.head.extend_from_slice(&data[..data.len().min(room)]);
        let data = &data[data.len().saturating_sub(TAIL)..];
        let excess = (self.tail.len() + data.len()).saturating_sub(TAIL);
        self.tail.drain(..excess.min(self.tail.len()));
        self.tail.extend_from_slice(data);
    }

    /// The first bytes, as text.
    pub fn head(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.head)
    }

    /// The last bytes, as text.
    pub fn tail(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.tail)
    }

    /// The last usage object in what was seen, in OpenAI's form.
    pub fn usage(&self) -> Option<Usage> {
        last_of(&self.tail(), "usage")
    }
}

/// The last member of this name in a text, which may begin and end anywhere.
pub fn last_of<T: DeserializeOwned>(text: &str, name: &str) -> Option<T> {
    value_behind(text.rsplit_once(&format!("\"{name}\""))?.1)
}

/// The first member of this name in a text, which may end anywhere.
pub fn first_of<T: DeserializeOwned>(text: &str, name: &str) -> Option<T> {
    value_behind(text.split_once(&format!("\"{name}\""))?.1)
}

fn value_behind<T: DeserializeOwned>(text: &str) -> Option<T> {
    let value = text.trim_start().strip_prefix(':')?;
    serde_json::Deserializer::from_str(value).into_iter().next()?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(pieces: &[&str]) -> Option<Usage> {
        let mut tail = Seen::default();
        pieces.iter().for_each(|piece| tail.see(&Bytes::from((*piece).to_owned())));
        tail.usage()
    }

    #[test]
    fn finds_the_usage_of_json_and_of_the_last_chunk() {
        let json = r#"{"id":"x","usage": {"prompt_tokens":7,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":4}}}"#;
        let found = usage(&[json]).unwrap();
        assert_eq!((found.prompt, found.completion, found.cached), (Some(7), Some(2), Some(4)));
        let stream =
            ["data: {\"usage\":null}\n\n", "data: {\"usa", "ge\":{\"prompt_tokens\":1}}\n\ndata: [DONE]\n\n"];
        assert_eq!(usage(&stream).unwrap().prompt, Some(1));
    }

    #[test]
    fn finds_none_where_there_is_none() {
        assert_eq!(usage(&["{}"]), None);
        assert_eq!(usage(&["\"usage\""]), None);
        assert_eq!(usage(&["{\"usage\":null}"]), None);
    }

    #[test]
    fn keeps_only_the_end() {
        let long = "x".repeat(TAIL * 3);
        assert_eq!(usage(&[&long, "{\"usage\":{\"prompt_tokens\":3}}"]).unwrap().prompt, Some(3));
    }
}
