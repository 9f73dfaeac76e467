//! Legacy completions: a prompt as text or as token ids.

use std::collections::BTreeMap;

use plimsoll_engine::Sampling;
use plimsoll_policies::ParseError;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::{CallError, OptionError, Options};

/// One prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prompt {
    /// Text, encoded as the model's tokenizer encodes plain text.
    Text(String),
    /// Token ids, run as they are.
    Tokens(Vec<u32>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawPrompt {
    Text(String),
    Tokens(Vec<u32>),
    Texts(Vec<String>),
    Lists(Vec<Vec<u32>>),
}

type Fields = BTreeMap<String, Box<RawValue>>;

/// The model a body names, if it can be read.
pub(super) fn model(body: &[u8]) -> Option<String> {
    let fields: Fields = serde_json::from_slice(body).ok()?;
    serde_json::from_str(fields.get("model")?.get()).ok()
}

/// Whether bytes are JSON, of whatever form.
pub(super) fn check_json(body: &[u8]) -> Result<(), ParseError> {
    let text = std::str::from_utf8(body).map_err(ParseError::not_utf8)?;
    serde_json::from_str::<IgnoredAny>(text).map(drop).map_err(|error| ParseError::from_json(&error))
}

/// Reads a completion request.
pub(super) fn read(body: &[u8], sampling: &Sampling) -> Result<(Prompt, Options), CallError> {
    check_json(body)?;
    let fields: Fields = serde_json::from_slice(body)
        .map_err(|error| OptionError::new("body", format!("the body is not a JSON object: {error}")))?;
    let options = Options::read(fields.iter().map(|(name, raw)| (name.as_str(), raw.get())), sampling)?;
    let prompt = fields.get("prompt").ok_or_else(|| {
        OptionError::new("prompt", "`prompt` is missing: send a string or an array of token ids")
    })?;
    Ok((read_prompt(prompt.get())?, options))
}

fn read_prompt(json: &str) -> Result<Prompt, OptionError> {
    let several = || OptionError::new("prompt", "`prompt` holds several prompts: send one a request");
    let prompt = match serde_json::from_str(json) {
        Ok(RawPrompt::Text(text)) => Prompt::Text(text),
        Ok(RawPrompt::Tokens(tokens)) => Prompt::Tokens(tokens),
        Ok(RawPrompt::Texts(texts)) => {
            Prompt::Text(<[String; 1]>::try_from(texts).map_err(|_| several())?.into_iter().collect())
        }
        Ok(RawPrompt::Lists(lists)) => {
            Prompt::Tokens(<[Vec<u32>; 1]>::try_from(lists).map_err(|_| several())?.concat())
        }
        Err(_) => {
            let form = "`prompt` must be a string or an array of token ids";
            return Err(OptionError::new("prompt", form));
        }
    };
    match &prompt {
        Prompt::Text(text) if text.is_empty() => Err(OptionError::new("prompt", "`prompt` is empty")),
        Prompt::Tokens(tokens) if tokens.is_empty() => Err(OptionError::new("prompt", "`prompt` is empty")),
        _ => Ok(prompt),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_form_of_a_prompt() {
        assert_eq!(read_prompt(r#""hi""#).unwrap(), Prompt::Text("hi".into()));
        assert_eq!(read_prompt("[1,2]").unwrap(), Prompt::Tokens(vec![1, 2]));
        assert_eq!(read_prompt(r#"["hi"]"#).unwrap(), Prompt::Text("hi".into()));
        assert_eq!(read_prompt("[[1,2]]").unwrap(), Prompt::Tokens(vec![1, 2]));
    }

    #[test]
    fn refuses_none_and_several() {
        for json in [r#""""#, "[]", r#"["a","b"]"#, "[[1],[2]]", "{}", "[-1]", "null"] {
            assert_eq!(read_prompt(json).unwrap_err().param, "prompt", "{json}");
        }
    }
}
