//! Answers bound to a format: at each step only tokens that keep the answer in its grammar may be chosen.

use std::fmt;
use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, SimpleVob, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use serde_json::{Value, json};
use thiserror::Error;

use crate::error::GenerateError;
use crate::text::Text;

/// Room for an indented line: without a bound, a model that is unsure makes spaces until its tokens are used up.
const WHITESPACE: &str = r"(\n {0,16}| )?";

/// Longer messages quote the whole schema.
const LONGEST_MESSAGE: usize = 300;

/// What an answer must be.
#[derive(Debug, Clone, PartialEq)]
pub enum Format {
    /// Any JSON object.
    JsonObject,
    /// JSON that this schema allows.
    JsonSchema(Value),
}

/// A format that cannot be made into a grammar.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct GrammarError(String);

/// A format as this model's tokens write it, at the answer's beginning.
#[derive(Clone)]
pub struct Grammar(Box<Matcher>);

impl fmt::Debug for Grammar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Grammar")
    }
}

/// Makes grammars for one model.
pub(crate) struct Grammars(Result<ParserFactory, GrammarError>);

impl Grammars {
    /// Sorts the vocabulary of `vocab` ids into a tree; about 50 ms for 150,000 tokens.
    pub(crate) fn new(text: &Text, vocab: u32, eos: &[u32]) -> Self {
        let factory = || {
            let missing =
                || GrammarError("this tokenizer does not tell what its tokens stand for".to_owned());
            let words: Option<Vec<_>> = (0..vocab).map(|id| text.token_word(id)).collect();
            let first = *eos.first().ok_or_else(|| {
                GrammarError("the model folder names no token that ends an answer".to_owned())
            })?;
            let info = TokRxInfo::new(vocab, first);
            let trie = TokTrie::from(&info, &words.ok_or_else(missing)?);
            let tokens: TokEnv = Arc::new(ApproximateTokEnv::new(trie.with_eos_tokens(eos)));
            let mut factory = ParserFactory::new_simple(&tokens).map_err(|error| refused(&error))?;
            factory.quiet();
            factory.limits_mut().verbose_errors = false;
            Ok(factory)
        };
        Self(factory())
    }

    /// The grammar of a format. What shows only where an answer begins, such as a schema that refers to nothing but
    /// itself, shows here.
    pub(crate) fn compile(&self, format: &Format) -> Result<Grammar, GrammarError> {
        let factory = self.0.as_ref().map_err(Clone::clone)?;
        let mut schema = match format {
            Format::JsonObject => json!({"type": "object"}),
            Format::JsonSchema(schema) => schema.clone(),
        };
        if let Some(schema) = schema.as_object_mut() {
            schema.insert("x-guidance".to_owned(), json!({"whitespace_pattern": WHITESPACE}));
        }
        let parser = factory.create_parser(TopLevelGrammar::from_json_schema(schema));
        let mut matcher = Matcher::new(Ok(parser.map_err(|error| refused(&error))?));
        matcher.compute_mask_or_eos().map_err(|error| refused(&error))?;
        Ok(Grammar(Box::new(matcher)))
    }
}

fn refused(error: &impl fmt::Display) -> GrammarError {
    let text = error.to_string();
    GrammarError(text.lines().next().unwrap_or_default().chars().take(LONGEST_MESSAGE).collect())
}

impl Grammar {
    /// Takes away the logits of all tokens that may not come next.
    pub(crate) fn bar(&mut self, logits: &mut [f32]) -> Result<(), GenerateError> {
        let allowed: SimpleVob = self.0.compute_mask_or_eos().map_err(|error| broken(&error))?;
        let barred = |token: usize| token >= allowed.len() || !allowed[token];
        for (token, logit) in logits.iter_mut().enumerate() {
            if barred(token) {
                *logit = f32::NEG_INFINITY;
            }
        }
        Ok(())
    }

    /// Goes on by a token. True: the answer is complete, nothing may follow.
    pub(crate) fn take(&mut self, token: u32) -> Result<bool, GenerateError> {
        self.0.consume_token(token).map_err(|error| broken(&error))?;
        Ok(self.0.is_stopped())
    }
}

fn broken(error: &impl fmt::Display) -> GenerateError {
    GenerateError::Grammar(refused(error).0)
}
