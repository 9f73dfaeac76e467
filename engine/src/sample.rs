//! Logits to token.

use std::cmp::Ordering;
use std::collections::HashMap;

use half::f16;
use half::slice::HalfFloatSliceExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::error::GenerateError;
use crate::grammar::Grammar;
use crate::logprobs::{self, Logprobs};
use crate::request::{Generate, Sampling};
use crate::session::Logits;

/// Candidates are put in order so many at a time.
const SORTED_AT_ONCE: usize = 64;

/// Chooses the tokens of one request.
#[derive(Debug)]
pub(crate) struct Sampler {
    settings: Sampling,
    rng: ChaCha8Rng,
    /// Tokens seen: how often in the answer, 0 where only the prompt has it. Empty where no penalty is asked for.
    seen: HashMap<u32, u32>,
    penalised: bool,
    /// Tokens that may not come yet, and how many tokens must come before.
    barred: (Vec<u32>, u32),
    grammar: Option<Grammar>,
    logprobs: Option<u32>,
}

/// A token that was chosen.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Choice {
    pub(crate) token: u32,
    /// Where they were asked for.
    pub(crate) logprobs: Option<Logprobs>,
    /// The grammar allows nothing after it.
    pub(crate) last: bool,
}

/// Memory that is used again for each choice.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    logits: Vec<f32>,
    candidates: Vec<Candidate>,
}

#[derive(Debug, Clone, Copy)]
struct Candidate {
    token: u32,
    /// A logit, later its weight: the probability before it is normalised.
    weight: f32,
}

impl Sampler {
    /// `seed` is for requests that bring none; `stops` are the tokens that end the answer.
    pub(crate) fn new(request: &Generate, stops: &[u32], seed: u64) -> Self {
        let (settings, prompt) = (request.sampling.clone(), &request.prompt);
        let penalised = settings.repetition_penalty != 1.0
            || settings.presence_penalty != 0.0
            || settings.frequency_penalty != 0.0;
        let repeated = settings.repetition_penalty != 1.0;
        let seen = prompt.iter().filter(|_| repeated).map(|&token| (token, 0)).collect();
        let rng = ChaCha8Rng::seed_from_u64(settings.seed.unwrap_or(seed));
        let barred = (stops.to_vec(), request.min_tokens);
        let (grammar, logprobs) = (request.grammar.clone(), request.logprobs);
        Self { settings, rng, seen, penalised, barred, grammar, logprobs }
    }

    /// The next token; an error where no logit is a number.
    pub(crate) fn choose(
        &mut self,
        logits: Logits<'_>,
        scratch: &mut Scratch,
    ) -> Result<Choice, GenerateError> {
        let token = self.pick(logits, scratch)?.ok_or(GenerateError::NoLogits)?;
        if self.penalised {
            *self.seen.entry(token).or_default() += 1;
        }
        self.barred.1 = self.barred.1.saturating_sub(1);
        let last = self.grammar.as_mut().map_or(Ok(false), |grammar| grammar.take(token))?;
        let logprobs = self.logprobs.map(|top| logprobs::tell(logits, token, top as usize));
        Ok(Choice { token, logprobs, last })
    }

    fn pick(&mut self, logits: Logits<'_>, scratch: &mut Scratch) -> Result<Option<u32>, GenerateError> {
        let temperature = self.settings.temperature;
        let greedy = temperature.is_nan() || temperature <= 0.0 || self.settings.top_k == 1;
        let free = self.grammar.is_none() && self.barred.1 == 0;
        if greedy && free && !self.penalised && self.settings.logit_bias.is_empty() {
            return Ok(match logits {
                Logits::F32(logits) => largest(logits.iter().copied()),
                Logits::F16(logits) => largest(logits.iter().copied().map(f16::to_f32)),
            });
        }
        self.weigh(logits, &mut scratch.logits);
        if let Some(grammar) = &mut self.grammar {
            grammar.bar(&mut scratch.logits)?;
        }
        for &stop in self.barred.0.iter().filter(|_| self.barred.1 > 0) {
            if let Some(logit) = scratch.logits.get_mut(stop as usize) {
                *logit = f32::NEG_INFINITY;
            }
        }
        Ok(if greedy { largest(scratch.logits.iter().copied()) } else { self.draw(scratch) })
    }

    /// Copies the logits and applies penalties and biases.
    fn weigh(&self, logits: Logits<'_>, own: &mut Vec<f32>) {
        own.clear();
        match logits {
            Logits::F32(logits) => own.extend_from_slice(logits),
            Logits::F16(logits) => {
                own.resize(logits.len(), 0.0);
                logits.convert_to_f32_slice(own);
            }
        }
        let Sampling { repetition_penalty, frequency_penalty, presence_penalty, .. } = self.settings;
        for (&token, &count) in &self.seen {
            let Some(logit) = own.get_mut(token as usize) else { continue };
            // CTRL (Keskar et al. 2019), as in transformers.
            *logit = if *logit > 0.0 { *logit / repetition_penalty } else { *logit * repetition_penalty };
            if count > 0 {
                *logit -= frequency_penalty * count as f32 + presence_penalty;
            }
        }
        for &(token, bias) in &self.settings.logit_bias {
            if let Some(logit) = own.get_mut(token as usize) {
                *logit += bias;
            }
        }
    }

    /// Draws from what temperature, `top_k`, `top_p` and `min_p` leave.
    fn draw(&mut self, scratch: &mut Scratch) -> Option<u32> {
        let Scratch { logits, candidates } = scratch;
        let best = logits.iter().copied().filter(|logit| !logit.is_nan()).fold(f32::NEG_INFINITY, f32::max);
        if best == f32::NEG_INFINITY {
            return None;
        }
        let temperature = self.settings.temperature;
        candidates.clear();
        candidates.extend(logits.iter().zip(0..).filter(|(logit, _)| !logit.is_nan()).map(
            |(&logit, token)| {
                // An infinite best logit beats all others; a plain difference of infinities would not be a number.
                let below = if logit == best { 0.0 } else { (logit - best) / temperature };
                Candidate { token, weight: below.exp() }
            },
        ));
        let Sampling { top_k, top_p, min_p, .. } = self.settings;
        if top_k > 0 && (top_k as usize) < candidates.len() {
            candidates.select_nth_unstable_by(top_k as usize, likelier);
            candidates.truncate(top_k as usize);
        }
        if top_p < 1.0 {
            nucleus(candidates, top_p);
        }
        if min_p > 0.0 {
            // The likeliest weighs 1.
            candidates.retain(|candidate| candidate.weight >= min_p);
        }
        // The same order however it was cut, so that a seed gives the same token.
        candidates.sort_unstable_by_key(|candidate| candidate.token);
        Some(pick(candidates, self.unit()))
    }

    /// A number in `[0, 1)`.
    fn unit(&mut self) -> f64 {
        (self.rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The first of the largest numbers.
fn largest(logits: impl Iterator<Item = f32>) -> Option<u32> {
    let (mut best, mut at) = (f32::NEG_INFINITY, None);
    for (token, logit) in (0..).zip(logits) {
        if logit > best {
            (best, at) = (logit, Some(token));
        }
    }
    at
}

/// Likelier ones first, lower ids first among equals.
fn likelier(a: &Candidate, b: &Candidate) -> Ordering {
    b.weight.total_cmp(&a.weight).then(a.token.cmp(&b.token))
}

/// Keeps the likeliest whose weights together reach `share` of the sum, at least one.
fn nucleus(candidates: &mut Vec<Candidate>, share: f32) {
    let enough =
        f64::from(share) * candidates.iter().map(|candidate| f64::from(candidate.weight)).sum::<f64>();
    let (mut sum, mut sorted, mut kept) = (0.0, 0, 0);
    while kept < candidates.len() && (kept == 0 || sum < enough) {
        if kept == sorted {
            // Only as much is sorted as is looked at.
            let rest = &mut candidates[sorted..];
            let more = rest.len().min(SORTED_AT_ONCE.max(sorted));
            if more < rest.len() {
                rest.select_nth_unstable_by(more, likelier);
            }
            rest[..more].sort_unstable_by(likelier);
            sorted += more;
        }
        sum += f64::from(candidates[kept].weight);
        kept += 1;
    }
    candidates.truncate(kept);
}

/// The candidate at `unit` of the sum of all weights.
fn pick(candidates: &[Candidate], unit: f64) -> u32 {
    let sum: f64 = candidates.iter().map(|candidate| f64::from(candidate.weight)).sum();
    let mut left = unit * sum;
    for candidate in candidates {
        left -= f64::from(candidate.weight);
        if left < 0.0 {
            return candidate.token;
        }
    }
    // Rounding may leave a rest beyond the last one that counts.
    let last = candidates.iter().rev().find(|candidate| candidate.weight > 0.0).or(candidates.last());
    last.map_or(0, |candidate| candidate.token)
}

#[cfg(test)]
#[path = "sample_tests.rs"]
mod tests;
