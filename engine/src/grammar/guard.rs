//! What an answer is held to at each of its tokens: nothing while the model thinks or just talks, then its grammar.

use std::sync::Arc;

use llguidance::Matcher;
use llguidance::toktrie::{SimpleVob, TokEnv};

use super::watch::{Found, Marks, Watch, text_of};
use super::{broken, refused};
use crate::error::GenerateError;

/// An answer's grammar and where the answer stands.
#[derive(Clone)]
pub(super) struct Guard {
    pub(super) matcher: Matcher,
    pub(super) tokens: TokEnv,
    pub(super) phase: Phase,
    pub(super) thinking: Option<Thinking>,
    /// Marks from which on the answer is held; none: from its beginning.
    pub(super) calls: Option<Arc<Marks>>,
}

/// How the model thinks.
#[derive(Clone)]
pub(super) struct Thinking {
    /// The token that begins the thoughts, where it is one.
    pub(super) opening: Option<u32>,
    pub(super) closing: Arc<Marks>,
}

/// Where an answer stands.
#[derive(Clone)]
pub(super) enum Phase {
    /// In the thoughts.
    Thinking(Watch),
    /// In text that may become a call; `first`: at its beginning.
    Free { watch: Watch, first: bool },
    /// In the grammar.
    Held { first: bool },
}

impl Guard {
    /// The phase behind the thoughts, or without any.
    pub(super) fn begin(calls: Option<&Arc<Marks>>, first: bool) -> Phase {
        match calls {
            Some(marks) => Phase::Free { watch: Watch::new(marks.clone()), first },
            None => Phase::Held { first },
        }
    }

    /// Takes away the logits of all tokens that may not come next.
    pub(super) fn bar(&mut self, logits: &mut [f32]) -> Result<(), GenerateError> {
        let trie = self.tokens.tok_trie();
        let unfit = match &self.phase {
            Phase::Held { first } => {
                let opening = self.thinking.as_ref().and_then(|thinking| thinking.opening).filter(|_| *first);
                return bar_all_but(&mut self.matcher, opening, logits);
            }
            Phase::Thinking(watch) if self.calls.is_none() => {
                // An answer that is held cannot end in its thoughts.
                let mut unfit =
                    watch.unfit(trie, |found| fits(&mut self.matcher, &self.tokens, &found.behind));
                unfit.extend(trie.eos_tokens());
                unfit
            }
            Phase::Thinking(_) => Vec::new(),
            Phase::Free { watch, .. } => {
                watch.unfit(trie, |found| fits(&mut self.matcher, &self.tokens, &found.from_mark))
            }
        };
        for token in unfit {
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit = f32::NEG_INFINITY;
            }
        }
        Ok(())
    }

    /// Goes on by a token. True: the answer is complete, nothing may follow.
    pub(super) fn take(&mut self, token: u32) -> Result<bool, GenerateError> {
        let opening = self.thinking.as_ref().filter(|thinking| thinking.opening == Some(token));
        match (&mut self.phase, opening) {
            (Phase::Held { first: true } | Phase::Free { first: true, .. }, Some(thinking)) => {
                self.phase = Phase::Thinking(Watch::new(thinking.closing.clone()));
                Ok(false)
            }
            (Phase::Held { first }, _) => {
                *first = false;
                self.matcher.consume_token(token).map_err(|error| broken(&error))?;
                Ok(self.matcher.is_stopped())
            }
            (Phase::Thinking(watch), _) => match watch.push(text_of(self.tokens.tok_trie(), token)) {
                None => Ok(false),
                Some(Found { behind, .. }) => self.behind_thoughts(&behind),
            },
            (Phase::Free { watch, first }, _) => {
                let trie = self.tokens.tok_trie();
                let found = watch.push(text_of(trie, token));
                *first &= watch.blank();
                match found {
                    None => Ok(false),
                    // A special token is no text of the grammar's.
                    Some(_) if trie.is_special_token(token) => self.hold(&[token]),
                    Some(found) => self.hold(&trie.greedy_tokenize(&found.from_mark)),
                }
            }
        }
    }

    fn behind_thoughts(&mut self, behind: &[u8]) -> Result<bool, GenerateError> {
        self.phase = Self::begin(self.calls.as_ref(), false);
        let Phase::Free { watch, .. } = &mut self.phase else {
            return self.hold(&self.tokens.tok_trie().greedy_tokenize(behind));
        };
        match watch.push(behind) {
            None => Ok(false),
            Some(found) => self.hold(&self.tokens.tok_trie().greedy_tokenize(&found.from_mark)),
        }
    }

    /// From here on the grammar counts; `tokens` are of it already.
    fn hold(&mut self, tokens: &[u32]) -> Result<bool, GenerateError> {
        self.phase = Phase::Held { first: false };
        if !tokens.is_empty() {
            self.matcher.consume_tokens(tokens).map_err(|error| broken(&error))?;
        }
        Ok(self.matcher.is_stopped())
    }
}

fn fits(matcher: &mut Matcher, tokens: &TokEnv, bytes: &[u8]) -> bool {
    let ids = tokens.tok_trie().greedy_tokenize(bytes);
    matcher.validate_tokens(&ids).is_ok_and(|valid| valid == ids.len())
}

fn bar_all_but(matcher: &mut Matcher, spared: Option<u32>, logits: &mut [f32]) -> Result<(), GenerateError> {
    let allowed: SimpleVob =
        matcher.compute_mask_or_eos().map_err(|error| GenerateError::Grammar(refused(&error)))?;
    let barred = |token: usize| token >= allowed.len() || !allowed[token];
    let spared = spared.map(|token| token as usize);
    for (token, logit) in logits.iter_mut().enumerate() {
        if barred(token) && spared != Some(token) {
            *logit = f32::NEG_INFINITY;
        }
    }
    Ok(())
}
