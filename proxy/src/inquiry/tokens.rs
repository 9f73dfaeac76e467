//! Texts to tokens and back, as llama.cpp's server and vLLM do it. Whose form is meant the body tells: llama.cpp calls a
//! text `content`, vLLM `prompt`.

use std::time::SystemTime;

use plimsoll_engine::text::Prompt;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::InquiryError;
use crate::live::Embedded;

/// `/tokenize`
#[derive(Debug, Deserialize)]
pub(super) struct Tokenize {
    /// llama.cpp's text: a string, or strings and tokens mixed.
    content: Option<Content>,
    /// Whether the tokens that begin and end a text are added (llama.cpp).
    #[serde(default)]
    add_special: bool,
    /// Whether special tokens in the text are read as such (llama.cpp).
    #[serde(default = "yes")]
    parse_special: bool,
    /// Whether each token comes with its text (llama.cpp).
    #[serde(default)]
    with_pieces: bool,
    /// vLLM's text.
    prompt: Option<String>,
    /// As `add_special` (vLLM).
    #[serde(default = "yes")]
    add_special_tokens: bool,
    /// As `with_pieces` (vLLM).
    #[serde(default)]
    return_token_strs: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Mixed(Vec<Mixed>),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Mixed {
    Text(String),
    Token(u32),
}

fn yes() -> bool {
    true
}

pub(super) fn tokenize(engine: &Embedded, asked: &Tokenize) -> Result<Value, InquiryError> {
    match (&asked.content, &asked.prompt) {
        (Some(content), None) => llama(engine, asked, content),
        (None, Some(prompt)) => {
            let tokens = encode(engine, "prompt", prompt, asked.add_special_tokens)?;
            let texts = asked.return_token_strs == Some(true);
            let texts = texts.then(|| tokens.iter().map(|token| text_of(engine, *token)).collect::<Vec<_>>());
            Ok(counted(engine, &tokens, texts.as_deref()))
        }
        _ => Err(InquiryError::form(
            "content",
            "send `content` (llama.cpp's form), or `prompt` or `messages` (vLLM's)",
        )),
    }
}

/// vLLM's answer.
pub(crate) fn counted(engine: &Embedded, tokens: &[u32], texts: Option<&[String]>) -> Value {
    json!({
        "count": tokens.len(),
        "max_model_len": engine.engine.context(),
        "tokens": tokens,
        "token_strs": texts,
    })
}

fn llama(engine: &Embedded, asked: &Tokenize, content: &Content) -> Result<Value, InquiryError> {
    if !asked.parse_special {
        let message = "special tokens in a text are always read as such here: leave it out";
        return Err(InquiryError::form("parse_special", message));
    }
    let tokens = match content {
        Content::Text(text) => encode(engine, "content", text, asked.add_special)?,
        Content::Mixed(parts) => {
            let mut tokens = Vec::new();
            for (index, part) in parts.iter().enumerate() {
                match part {
                    // What begins a text stands before the first part alone.
                    Mixed::Text(text) => {
                        tokens.extend(encode(engine, "content", text, asked.add_special && index == 0)?);
                    }
                    Mixed::Token(token) => tokens.push(*token),
                }
            }
            tokens
        }
    };
    if !asked.with_pieces {
        return Ok(json!({"tokens": tokens}));
    }
    let pieces: Vec<_> =
        tokens.iter().map(|token| json!({"id": token, "piece": piece(engine, *token)})).collect();
    Ok(json!({"tokens": pieces}))
}

fn encode(engine: &Embedded, param: &str, text: &str, special: bool) -> Result<Vec<u32>, InquiryError> {
    let tokenizer = engine.engine.text();
    let tokens = if special {
        tokenizer.encode_plain(text)
    } else {
        tokenizer.encode(text).map(|encoded| encoded.ids().to_vec())
    };
    tokens.map_err(|error| InquiryError::form(param, error.to_string()))
}

/// The text of a token, or its bytes where they are no text.
fn piece(engine: &Embedded, token: u32) -> Value {
    match engine.engine.text().token_bytes(token).map(String::from_utf8) {
        Some(Ok(text)) => text.into(),
        Some(Err(bytes)) => json!(bytes.into_bytes()),
        None => text_of(engine, token).into(),
    }
}

fn text_of(engine: &Embedded, token: u32) -> String {
    engine.engine.text().decode(&[token], false)
}

/// `/detokenize`, which both servers ask alike.
#[derive(Debug, Deserialize)]
pub(super) struct Detokenize {
    tokens: Vec<u32>,
}

/// The text by llama.cpp's name and by vLLM's.
pub(super) fn detokenize(engine: &Embedded, asked: &Detokenize) -> Result<Value, InquiryError> {
    let vocab = engine.engine.model().vocab;
    if let Some(place) = asked.tokens.iter().position(|token| *token >= vocab) {
        let token = asked.tokens[place];
        let message = format!("token {token} is not in the model's vocabulary of {vocab} tokens");
        return Err(InquiryError::form(&format!("tokens[{place}]"), message));
    }
    let text = engine.engine.text().decode(&asked.tokens, false);
    Ok(json!({"content": text, "prompt": text}))
}

/// `/apply-template`
#[derive(Debug, Deserialize)]
pub(super) struct Template {
    messages: Vec<Value>,
    tools: Option<Value>,
    #[serde(default = "yes")]
    add_generation_prompt: bool,
    #[serde(default)]
    chat_template_kwargs: Option<Map<String, Value>>,
}

/// The prompt of messages as they are; no policy acts on them.
pub(super) fn template(engine: &Embedded, asked: &Template) -> Result<Value, InquiryError> {
    let kwargs = asked.chat_template_kwargs.clone().unwrap_or_default();
    let prompt = Prompt {
        messages: &asked.messages,
        tools: asked.tools.as_ref().filter(|tools| !tools.is_null()),
        add_generation_prompt: asked.add_generation_prompt,
        kwargs: &kwargs,
        now: SystemTime::now(),
    };
    let rendered = engine.engine.text().render(&prompt);
    rendered
        .map(|prompt| json!({"prompt": prompt}))
        .map_err(|error| InquiryError::form("messages", error.to_string()))
}
