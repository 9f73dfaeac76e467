use proptest::prelude::*;

use super::*;

fn sampler(settings: Sampling) -> Sampler {
    Sampler::new(&Generate { sampling: settings, ..Generate::default() }, &[], 0)
}

fn choose(sampler: &mut Sampler, logits: &[f32]) -> Option<u32> {
    sampler.choose(Logits::F32(logits), &mut Scratch::default()).ok().map(|choice| choice.token)
}

/// How often each token comes in many draws.
fn shares(settings: &Sampling, logits: &[f32]) -> Vec<f64> {
    const DRAWS: u32 = 20_000;
    let mut counts = vec![0u32; logits.len()];
    let mut sampler = sampler(Sampling { seed: Some(5), ..settings.clone() });
    for _ in 0..DRAWS {
        counts[choose(&mut sampler, logits).unwrap() as usize] += 1;
    }
    counts.iter().map(|&count| f64::from(count) / f64::from(DRAWS)).collect()
}

fn close(shares: &[f64], expected: &[f64]) {
    for (share, expected) in shares.iter().zip(expected) {
        assert!((share - expected).abs() < 0.015, "{shares:?} is not {expected:?}");
    }
}

/// Logits of these probabilities.
fn logits(probabilities: &[f32]) -> Vec<f32> {
    probabilities.iter().map(|p| p.ln()).collect()
}

#[test]
fn greedy_takes_the_first_of_the_largest() {
    let mut greedy = sampler(Sampling::greedy());
    assert_eq!(choose(&mut greedy, &[1.0, 3.0, 3.0, f32::NAN]), Some(1));
    let half = [1.0, -2.0, 5.0].map(f16::from_f32);
    assert_eq!(greedy.choose(Logits::F16(&half), &mut Scratch::default()).unwrap().token, 2);
    assert_eq!(choose(&mut greedy, &[f32::NAN, f32::NEG_INFINITY]), None);
}

#[test]
fn no_number_is_no_token() {
    assert_eq!(choose(&mut sampler(Sampling::default()), &[f32::NAN, f32::NAN]), None);
}

#[test]
fn draws_follow_the_probabilities() {
    close(&shares(&Sampling::default(), &logits(&[0.5, 0.2, 0.3])), &[0.5, 0.2, 0.3]);
}

#[test]
fn temperature_sharpens() {
    let hot = Sampling { temperature: 0.5, ..Sampling::default() };
    // Squares of 0.6 and 0.4.
    close(&shares(&hot, &logits(&[0.6, 0.4])), &[0.692, 0.308]);
}

#[test]
fn cuts_keep_the_likeliest() {
    let all = logits(&[0.1, 0.4, 0.2, 0.3]);
    let with = |settings| shares(&settings, &all);
    let default = Sampling::default();
    close(&with(Sampling { top_k: 2, ..default.clone() }), &[0.0, 0.571, 0.0, 0.429]);
    close(&with(Sampling { top_p: 0.65, ..default.clone() }), &[0.0, 0.571, 0.0, 0.429]);
    close(&with(Sampling { top_p: 0.0, ..default.clone() }), &[0.0, 1.0, 0.0, 0.0]);
    close(&with(Sampling { min_p: 0.45, ..default }), &[0.0, 0.444, 0.222, 0.333]);
}

#[test]
fn the_nucleus_is_found_among_many() {
    // 1,000 equal tokens: half of them is the half with the lower ids.
    let shares = shares(&Sampling { top_p: 0.5, ..Sampling::default() }, &[0.0; 1000]);
    assert!(shares[..500].iter().filter(|&&share| share > 0.0).count() > 490);
    assert!(shares[501..].iter().all(|&share| share == 0.0));
}

#[test]
fn penalties_and_bias_move_logits() {
    let penalised = |settings: Sampling| {
        let mut sampler = Sampler::new(
            &Generate {
                sampling: Sampling { temperature: 0.0, ..settings },
                prompt: [0][..].into(),
                ..Generate::default()
            },
            &[],
            0,
        );
        (0..3).map(|_| choose(&mut sampler, &[2.0, 1.9, 1.0]).unwrap()).collect::<Vec<_>>()
    };
    let default = Sampling::default();
    // The prompt counts for repetition, not for presence and frequency.
    assert_eq!(penalised(Sampling { repetition_penalty: 1.5, ..default.clone() }), [1, 0, 0]);
    assert_eq!(penalised(Sampling { presence_penalty: 0.5, ..default.clone() }), [0, 1, 0]);
    assert_eq!(penalised(Sampling { frequency_penalty: 0.6, ..default.clone() }), [0, 1, 0]);
    assert_eq!(penalised(Sampling { frequency_penalty: 1.0, ..default.clone() }), [0, 1, 0]);
    assert_eq!(penalised(Sampling { logit_bias: vec![(2, 5.0), (99, 9.0)], ..default }), [2, 2, 2]);
}

#[test]
fn a_negative_logit_is_pushed_down_too() {
    let mut sampler = Sampler::new(
        &Generate {
            sampling: Sampling { temperature: 0.0, repetition_penalty: 2.0, ..Sampling::default() },
            prompt: [0][..].into(),
            ..Generate::default()
        },
        &[],
        0,
    );
    assert_eq!(choose(&mut sampler, &[-1.0, -1.5]), Some(1));
}

proptest! {
    /// A seed decides, whatever memory was used before.
    #[test]
    fn seeds_decide(seed: u64, logits in prop::collection::vec(-8f32..8.0, 1..200), top_p in 0f32..1.0, top_k in 0u32..50) {
        let settings = Sampling { seed: Some(seed), top_p, top_k, ..Sampling::default() };
        let (mut one, mut other) = (sampler(settings.clone()), sampler(settings));
        let mut used = Scratch { logits: vec![3.0; 7], candidates: vec![Candidate { token: 3, weight: 1.0 }] };
        for _ in 0..5 {
            let token = one.choose(Logits::F32(&logits), &mut used).ok().map(|choice| choice.token);
            prop_assert_eq!(token, choose(&mut other, &logits));
            prop_assert!((token.unwrap() as usize) < logits.len());
        }
    }
}
