//! Keys that were turned back, against those that a fresh prefill computes at the same place. In the first layer they
//! depend on token and position alone.

use std::f64::consts::TAU;
use std::path::Path;

use super::*;
use crate::session::Step;
use crate::session::layout_tests::{likeliest, start, subjects};

/// Keys of the first layer's first head.
fn keys(session: &mut dyn Session, model: &Model, row: usize, tokens: usize) -> Vec<f32> {
    let first = model.turns.as_ref().unwrap().iter().position(Option::is_some).unwrap();
    heads(session, model, (first, row), tokens)
}

fn heads(session: &mut dyn Session, model: &Model, (strip, row): (usize, usize), tokens: usize) -> Vec<f32> {
    let cache = &model.wiring.caches[strip];
    let mut bytes = vec![0; tokens * cache.head_dim * model.kv_type.bytes()];
    let mut all = Vec::new();
    for head in 0..cache.heads {
        session.read(Place { strip, row, head }, &mut bytes).unwrap();
        all.extend(model.kv_type.numbers(&bytes));
    }
    all
}

fn prompt(length: u32) -> Vec<u32> {
    (0..length).map(|n| 20 + (n * 37 + n * n) % 400).collect()
}

/// The largest difference, by the largest number.
fn off(one: &[f32], other: &[f32]) -> f32 {
    assert_eq!(one.len(), other.len());
    let largest = other.iter().fold(0.0_f32, |most, n| most.max(n.abs()));
    one.iter().zip(other).fold(0.0_f32, |most, (a, b)| most.max((a - b).abs())) / largest
}

fn check(name: &str, model: &Model) {
    let (mut session, _) = start(model);
    let session = &mut *session;
    let tokens = prompt(240);
    let cut = Cut { keep: 7, drop: 90, held: 240 };
    let fill = |session: &mut dyn Session, row: usize, tokens: &[u32]| {
        for (part, past) in tokens.chunks(60).zip((0..).step_by(60)) {
            session.prefill(row, past, part).unwrap();
        }
    };
    fill(session, 0, &tokens);
    let unturned = keys(session, model, 0, 240);
    session.shift(0, cut).unwrap();
    let left = [&tokens[..7], &tokens[97..]].concat();
    fill(session, 1, &left);
    // 32 bits: to their last digits; 16 bits: to theirs.
    let rounding = if model.kv_type == Element::F16 { 2e-3 } else { 1e-5 };
    let (shifted, fresh) = (keys(session, model, 0, 150), keys(session, model, 1, 150));
    let far = off(&shifted, &fresh);
    assert!(far < rounding, "{name}: {far}");
    // It was no trifle.
    assert!(off(&unturned[unturned.len() - fresh.len()..], &fresh) > 0.1, "{name}");
    // Values of the first layer are those of their tokens, wherever they are.
    let values = model.turns.as_ref().unwrap().iter().position(Option::is_none).unwrap();
    let (moved, computed) =
        (heads(session, model, (values, 0), 150), heads(session, model, (values, 1), 150));
    assert!(off(&moved, &computed) < rounding, "{name}");
    // It goes on, and shifts again.
    session.decode(&[Step { token: 30, past: 150 }]).unwrap();
    assert!(likeliest(session, 0) < model.vocab);
    session.shift(0, Cut { keep: 0, drop: 100, held: 151 }).unwrap();
    fill(session, 1, &[&left[100..], &[30]].concat());
    assert!(off(&keys(session, model, 0, 51), &keys(session, model, 1, 51)) < 2.0 * rounding, "{name}");
    assert_eq!(proven(session, model, model.context_length.min(1024)), Ok(()), "{name}");
}

#[test]
fn turned_keys_are_those_of_the_new_position() {
    let (mut checked, mut refused) = (Vec::new(), Vec::new());
    for subject in subjects() {
        let (name, model) = (subject.name, subject.model);
        match &model.turns {
            Ok(_) => {
                check(&name, &model);
                checked.push(name);
            }
            Err(reason) => refused.push((name, reason.to_string())),
        }
    }
    println!("checked {checked:?}, refused {refused:?}");
    assert!(checked.iter().any(|name| name == "llama-q4"));
    let reason = |name: &str| &refused.iter().find(|(other, _)| other == name).unwrap().1;
    for (name, expected) in [
        ("mistral-window", "a state or a window"),
        ("qwen2-window", "a state or a window"),
        ("qwen3.5", "a state or a window"),
        ("lfm2-plain", "a state or a window"),
        ("phi3-longrope", "longrope"),
        ("llama-int8-kv", "quantised (int8)"),
    ] {
        assert!(reason(name).contains(expected), "{name}: {}", reason(name));
    }
}

/// Where a copy of `llama-q4` has its tables, `[1024, 8]`, cosines and then sines.
const TABLES: [usize; 2] = [65_664, 98_432];
const POSITIONS: usize = 1024;
const PAIRS: usize = 8;

/// A model with other rotary tables: of these speeds, scaled.
fn with_tables(folder: &Path, speed: impl Fn(usize) -> f64, scale: f64) -> Model {
    let source = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/models/llama-q4"));
    std::fs::create_dir(folder.join("onnx")).unwrap();
    for file in ["config.json", "onnx/model_q4.onnx", "onnx/model_q4.onnx_data"] {
        std::fs::write(folder.join(file), std::fs::read(source.join(file)).unwrap()).unwrap();
    }
    let weights = folder.join("onnx/model_q4.onnx_data");
    let mut bytes = std::fs::read(&weights).unwrap();
    let first = f32::from_le_bytes(bytes[TABLES[0]..][..4].try_into().unwrap());
    let second = f32::from_le_bytes(bytes[TABLES[0] + 4 * PAIRS..][..4].try_into().unwrap());
    assert!((first - 1.0).abs() < 1e-6 && (second - 1_f32.cos()).abs() < 1e-6, "these are no cosines");
    for (begin, of) in TABLES.into_iter().zip([f64::cos as fn(f64) -> f64, f64::sin]) {
        for (place, number) in bytes[begin..][..4 * POSITIONS * PAIRS].chunks_mut(4).enumerate() {
            let angle = (place / PAIRS) as f64 * speed(place % PAIRS);
            number.copy_from_slice(&((of(angle) * scale) as f32).to_le_bytes());
        }
    }
    std::fs::write(&weights, bytes).unwrap();
    Model::read(folder).unwrap()
}

fn plain(pair: usize) -> f64 {
    1e4_f64.powf(-(pair as f64) / PAIRS as f64)
}

#[test]
fn linear_scaling_is_turned_by_its_own_speeds() {
    let folder = tempfile::tempdir().unwrap();
    check("linear", &with_tables(folder.path(), |pair| plain(pair) / 4.0, 1.0));
}

/// YaRN (arXiv 2309.00071): speeds between two bounds are mixed, keys and queries are scaled.
#[test]
fn yarn_is_turned_without_its_scale() {
    let (factor, context, slow, fast) = (4.0, 256.0, 1.0, 32.0);
    let speed = |pair| {
        let turns = context * plain(pair) / TAU;
        let share = ((turns - slow) / (fast - slow)).clamp(0.0, 1.0);
        (1.0 - share) * plain(pair) / factor + share * plain(pair)
    };
    let folder = tempfile::tempdir().unwrap();
    check("yarn", &with_tables(folder.path(), speed, 0.1 * f64::ln(factor) + 1.0));
}

/// Tables that say one thing, and a graph that does another: the trial finds out.
#[test]
fn keys_that_turn_otherwise_are_found() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let model = with_tables(one.path(), plain, 1.0);
    let wrong = with_tables(other.path(), |pair| plain(pair) * if pair == 5 { 1.1 } else { 1.0 }, 1.0);
    let (mut session, _) = start(&Model { turns: wrong.turns, ..model.clone() });
    let found = proven(&mut *session, &model, 1024);
    assert_eq!(found, Err(NoShift::Unproven { cache: "past_key_values.0.key".to_owned() }));
    assert_eq!(proven(&mut *session, &model, 12), Err(NoShift::Small { context: 12 }));
}

/// Rows that share pages: what one drops stays in the others, byte for byte.
#[test]
fn shared_pages_are_left_alone() {
    let mut subjects = subjects().into_iter().filter(|subject| subject.name == "llama-q4");
    let model = subjects.next().unwrap().model;
    let (mut session, _) = start(&model);
    let session = &mut *session;
    let tokens = prompt(320);
    for (part, past) in tokens.chunks(64).zip((0..).step_by(64)) {
        session.prefill(0, past, part).unwrap();
    }
    let (id, step) = (crate::cache::SegmentId(1), session.sharing().unwrap().step());
    let to = 256 / step * step;
    assert!(to > 100, "pages of {step} tokens");
    let path = [crate::cache::Extent { segment: id, first: 0, from: 0, to }];
    let sharing = session.sharing().unwrap();
    sharing.keep(id, 0, 0, to).unwrap();
    sharing.share(0, &path, 320).unwrap();
    sharing.share(1, &path, 0).unwrap();
    session.copy(0, 1, to, 320).unwrap();
    let all = |session: &mut dyn Session, row: usize, tokens: usize| -> Vec<u32> {
        let strips = 0..model.wiring.caches.len();
        let numbers = strips.flat_map(|strip| heads(session, &model, (strip, row), tokens));
        numbers.map(f32::to_bits).collect()
    };
    let before = all(session, 0, 320);
    assert_eq!(all(session, 1, 320), before);
    // As the worker does: what changes is its own first.
    session.sharing().unwrap().share(1, &[], 320).unwrap();
    session.shift(1, Cut { keep: 20, drop: 150, held: 320 }).unwrap();
    assert_eq!(all(session, 0, 320), before);
    assert_ne!(all(session, 1, 170), all(session, 0, 170));
    let fresh = [&tokens[..20], &tokens[170..]].concat();
    session.prefill(2, 0, &fresh[..85]).unwrap();
    session.prefill(2, 85, &fresh[85..]).unwrap();
    assert!(off(&keys(session, &model, 1, 170), &keys(session, &model, 2, 170)) < 1e-5);
}
