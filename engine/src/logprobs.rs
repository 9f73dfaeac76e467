//! How likely the model took a token to be.

use half::f16;

use crate::session::Logits;

/// A token that was chosen, and the likeliest ones in its place, by the model's own distribution: before penalties,
/// biases, temperature and cuts.
#[derive(Debug, Clone, PartialEq)]
pub struct Logprobs {
    /// The token.
    pub token: u32,
    /// The natural logarithm of its probability.
    pub logprob: f32,
    /// The likeliest tokens, the likeliest first.
    pub top: Vec<(u32, f32)>,
}

/// The log probabilities of `token` and of the `top` likeliest tokens.
pub(crate) fn tell(logits: Logits<'_>, token: u32, top: usize) -> Logprobs {
    match logits {
        Logits::F32(logits) => read(&logits.iter().copied(), token, top),
        Logits::F16(logits) => read(&logits.iter().copied().map(f16::to_f32), token, top),
    }
}

fn read(logits: &(impl Iterator<Item = f32> + Clone), token: u32, top: usize) -> Logprobs {
    let numbers = || (0..).zip(logits.clone()).filter(|(_, logit): &(u32, f32)| !logit.is_nan());
    let best = numbers().map(|(_, logit)| logit).fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = numbers().map(|(_, logit)| f64::from(logit - best).exp()).sum();
    let all = f64::from(best) + sum.ln();
    let of = |logit: f32| (f64::from(logit) - all) as f32;
    let mut likeliest: Vec<(u32, f32)> = Vec::with_capacity(top + 1);
    for (token, logit) in numbers() {
        // Lower ids first among equals, as the greedy choice has it.
        let place = likeliest.partition_point(|&(_, other)| other >= logit);
        if place < top {
            likeliest.insert(place, (token, logit));
            likeliest.truncate(top);
        }
    }
    let chosen = numbers().find(|&(id, _)| id == token).map_or(f32::NEG_INFINITY, |(_, logit)| logit);
    Logprobs {
        token,
        logprob: of(chosen),
        top: likeliest.into_iter().map(|(token, logit)| (token, of(logit))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_are_those_of_the_softmax() {
        let logits = [1.0, 3.0, f32::NAN, 2.0, 3.0];
        let told = tell(Logits::F32(&logits), 3, 3);
        let sum: f32 = [1.0f32, 3.0, 2.0, 3.0].iter().map(|logit| logit.exp()).sum();
        let of = |logit: f32| (logit.exp() / sum).ln();
        assert!((told.logprob - of(2.0)).abs() < 1e-6, "{told:?}");
        assert_eq!(told.top.iter().map(|(token, _)| *token).collect::<Vec<_>>(), [1, 4, 3]);
        assert!((told.top[0].1 - of(3.0)).abs() < 1e-6, "{told:?}");
        assert!(tell(Logits::F32(&logits), 0, 0).top.is_empty());
    }
}
