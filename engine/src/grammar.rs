//! Answers bound to a format or to calls: at each step only tokens that keep the answer in its grammar may be chosen.

mod tools;
mod lark;
mod watch;
mod guard;

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use serde_json::{Value, json};
use thiserror::Error;

use crate::error::GenerateError;
use crate::text::{Text, ToolCallFormat};

use guard::{Guard, Phase, Thinking};
use lark::{Lark, Trigger, spaced};
pub use tools::{Choice, Function, Tools};
use watch::{Mark, Marks, Watch};

/// Room for an indented line: without a bound, a model that is unsure makes spaces until its tokens are used up.
const WHITESPACE: &str = r"(\n {0,16}| )?";

/// Longer messages quote the whole schema.
const LONGEST_MESSAGE: usize = 300;

/// Compiled grammars that are kept for requests that ask for the same.
const KEPT: usize = 8;

/// What an answer must be.
#[derive(Debug, Clone, PartialEq)]
pub enum Format {
    /// Any JSON object.
    JsonObject,
    /// JSON that this schema allows.
    JsonSchema(Value),
}

/// What an answer is held to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Bounds {
    /// What a text must be.
    pub format: Option<Format>,
    /// The functions that may or must be called.
    pub tools: Option<Tools>,
    /// Where thoughts are told apart: whether the answer begins inside of them ([`Text::opens_thoughts`]).
    pub thinking: Option<bool>,
}

impl Bounds {
    /// Whether anything is to be held.
    pub fn hold(&self) -> bool {
        self.format.is_some() || self.tools.as_ref().is_some_and(|tools| !tools.free())
    }
}

/// A format that cannot be made into a grammar.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{param}`: {message}")]
pub struct GrammarError {
    /// What of the request is at fault: `response_format`, `tools` or `tool_choice`.
    pub param: &'static str,
    /// Why.
    pub message: String,
}

impl GrammarError {
    fn new(param: &'static str, message: impl Into<String>) -> Self {
        Self { param, message: message.into() }
    }
}

/// A format as this model's tokens write it, at the answer's beginning.
#[derive(Clone)]
pub struct Grammar(Box<Guard>);

impl fmt::Debug for Grammar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Grammar")
    }
}

/// Makes grammars for one model.
pub(crate) struct Grammars {
    factory: Result<ParserFactory, GrammarError>,
    text: Arc<Text>,
    /// The newest at the end.
    kept: Mutex<VecDeque<(Bounds, Grammar)>>,
}

impl Grammars {
    /// Sorts the vocabulary of `vocab` ids into a tree; about 50 ms for 150,000 tokens.
    pub(crate) fn new(text: &Arc<Text>, vocab: u32, eos: &[u32]) -> Self {
        let fault = |message: &str| GrammarError::new("response_format", message);
        let factory = || {
            let words: Option<Vec<_>> = (0..vocab).map(|id| text.token_word(id)).collect();
            let first =
                eos.first().ok_or_else(|| fault("the model folder names no token that ends an answer"))?;
            let words =
                words.ok_or_else(|| fault("this tokenizer does not tell what its tokens stand for"))?;
            let trie = TokTrie::from(&TokRxInfo::new(vocab, *first), &words);
            let tokens: TokEnv = Arc::new(ApproximateTokEnv::new(trie.with_eos_tokens(eos)));
            let mut factory = ParserFactory::new_simple(&tokens).map_err(|error| fault(&refused(&error)))?;
            factory.quiet();
            factory.limits_mut().verbose_errors = false;
            Ok(factory)
        };
        Self { factory: factory(), text: text.clone(), kept: Mutex::default() }
    }

    /// The grammar of an answer; none where nothing is to be held. What shows only where an answer begins, such as a
    /// schema that refers to nothing but itself, shows here.
    pub(crate) fn compile(&self, bounds: &Bounds) -> Result<Option<Grammar>, GrammarError> {
        if !bounds.hold() {
            return Ok(None);
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, grammar)) = kept.iter().find(|(known, _)| known == bounds) {
            return Ok(Some(grammar.fresh()));
        }
        drop(kept);
        let grammar = self.made(bounds)?;
        kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        kept.push_back((bounds.clone(), grammar.fresh()));
        Ok(Some(grammar))
    }

    fn made(&self, bounds: &Bounds) -> Result<Grammar, GrammarError> {
        let tokens = self.factory()?.tok_env().clone();
        let thinks = self.text.thinking().filter(|_| bounds.thinking.is_some());
        let (matcher, calls) = self.held(bounds, thinks.is_some())?;
        let thinking = thinks.map(|format| Thinking {
            opening: self.text.added_token(format.opening()),
            closing: Arc::new(Marks::new(vec![mark(format.closing(), false)], tokens.tok_trie())),
        });
        let phase = match &thinking {
            Some(thinking) if bounds.thinking == Some(true) => {
                Phase::Thinking(Watch::new(thinking.closing.clone()))
            }
            _ => Guard::begin(calls.as_ref(), true),
        };
        Ok(Grammar(Box::new(Guard { matcher, tokens, phase, thinking, calls })))
    }

    /// What the answer is held to behind its thoughts, and the marks from which on it is. `layout`: white space may
    /// come first.
    fn held(&self, bounds: &Bounds, layout: bool) -> Result<(Matcher, Option<Arc<Marks>>), GrammarError> {
        let factory = self.factory()?;
        let format = bounds.format.as_ref().map(|format| match format {
            Format::JsonObject => json!({"type": "object"}),
            Format::JsonSchema(schema) => schema.clone(),
        });
        let tools = bounds.tools.as_ref().filter(|tools| !tools.functions.is_empty());
        let grammar = match (tools, format) {
            (Some(tools), format) => {
                let text = format.filter(|_| tools.choice == Choice::Auto);
                let lazy = tools.choice == Choice::Auto && text.is_none();
                let matcher = self.calls(tools, text.as_ref(), layout && !lazy)?;
                let marks = call_marks(self.form()?);
                let marks = lazy.then(|| Arc::new(Marks::new(marks, factory.tok_env().tok_trie())));
                return Ok((matcher, marks));
            }
            (None, Some(schema)) if layout => TopLevelGrammar::from_lark(format!(
                "start: layout? other\nother: %json {}\nlayout: /[ \\n\\r\\t]{{1,8}}/",
                spaced(schema)
            )),
            (None, Some(schema)) => TopLevelGrammar::from_json_schema(spaced(schema)),
            (None, None) => return Err(GrammarError::new("tool_choice", "a call needs `tools`")),
        };
        Ok((matcher(factory, grammar).map_err(in_format)?, None))
    }

    fn factory(&self) -> Result<&ParserFactory, GrammarError> {
        self.factory.as_ref().map_err(Clone::clone)
    }

    /// How the model writes calls.
    fn form(&self) -> Result<ToolCallFormat, GrammarError> {
        self.text.tool_calls().ok_or_else(|| {
            let message = "this model's chat template shows no tools: no call can be held to a form";
            GrammarError::new("tool_choice", message)
        })
    }

    /// Calls, or calls and a text.
    fn calls(&self, tools: &Tools, text: Option<&Value>, layout: bool) -> Result<Matcher, GrammarError> {
        let (factory, form) = (self.factory()?, self.form()?);
        let of_function = |(name, message): (String, String)| {
            GrammarError::new("tools", format!("function `{name}`: {message}"))
        };
        let lark = || Lark::new(&self.text, form, tools);
        let grammar = lark().grammar(text, layout).map_err(of_function)?;
        let whole = matcher(factory, TopLevelGrammar::from_lark(grammar));
        let Err(message) = whole else { return whole.map_err(|message| GrammarError::new("tools", message)) };
        // Which part is at fault shows where each stands alone.
        for function in &tools.functions {
            let fault = |message| of_function((function.name.clone(), format!("`parameters`: {message}")));
            let alone = lark().arguments_alone(function).map_err(fault)?;
            matcher(factory, TopLevelGrammar::from_lark(alone)).map_err(fault)?;
        }
        if let Some(schema) = text {
            matcher(factory, TopLevelGrammar::from_json_schema(spaced(schema.clone()))).map_err(in_format)?;
        }
        Err(GrammarError::new("tools", message))
    }
}

fn in_format(message: String) -> GrammarError {
    GrammarError::new("response_format", message)
}

fn mark(text: &str, at_start: bool) -> Mark {
    Mark { bytes: text.as_bytes().to_vec(), at_start }
}

fn call_marks(form: ToolCallFormat) -> Vec<Mark> {
    lark::triggers(form).into_iter().map(|Trigger { mark: text, at_start }| mark(text, at_start)).collect()
}

/// A matcher that has been tried at its beginning.
fn matcher(factory: &ParserFactory, grammar: TopLevelGrammar) -> Result<Matcher, String> {
    let parser = factory.create_parser(grammar).map_err(|error| refused(&error))?;
    let mut matcher = Matcher::new(Ok(parser));
    matcher.compute_mask_or_eos().map_err(|error| refused(&error))?;
    Ok(matcher)
}

fn refused(error: &impl fmt::Display) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().chars().take(LONGEST_MESSAGE).collect()
}

fn broken(error: &impl fmt::Display) -> GenerateError {
    GenerateError::Grammar(refused(error))
}

impl Grammar {
    /// The same grammar, sharing nothing that grows with use.
    fn fresh(&self) -> Self {
        let guard = Guard { matcher: self.0.matcher.deep_clone(), ..(*self.0).clone() };
        Self(Box::new(guard))
    }

    /// Takes away the logits of all tokens that may not come next.
    pub(crate) fn bar(&mut self, logits: &mut [f32]) -> Result<(), GenerateError> {
        self.0.bar(logits)
    }

    /// Goes on by a token. True: the answer is complete, nothing may follow.
    pub(crate) fn take(&mut self, token: u32) -> Result<bool, GenerateError> {
        self.0.take(token)
    }
}

#[cfg(test)]
#[path = "grammar/tests.rs"]
mod tests;
