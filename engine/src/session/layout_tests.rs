//! Every layout against the truth, below the scheduler: prompts in chunks of every size, alone and in one run.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Loaded, Logits, Plan, Session, Step};
use crate::memory::Holdings;
use crate::model::Model;

/// Folders of fp32 models, and their truth.
const MODELS: [(&str, &str); 6] = [
    ("qwen2/genai", "qwen2"),
    ("qwen2/community-gqa", "qwen2"),
    ("qwen2/optimum", "qwen2"),
    ("llama/genai", "llama"),
    ("llama/optimum", "llama"),
    ("lfm2/genai", "lfm2"),
];

fn variable(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "tests are told by the environment where things are")]
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn models() -> Option<PathBuf> {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/models"));
    if root.is_dir() {
        return Some(root);
    }
    assert!(variable("PLIMSOLL_REQUIRE_SHARED").as_deref() != Some("1"), "{} is missing", root.display());
    println!("skipped: {} is missing", root.display());
    None
}

fn load(folder: &Path) -> Box<dyn Session> {
    start(&Model::read(folder).unwrap()).0
}

fn start(model: &Model) -> (Box<dyn Session>, Holdings) {
    let fetched = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.runtime/libonnxruntime.so"));
    let runtime = variable("ORT_DYLIB_PATH").map_or(fetched, PathBuf::from);
    let plan = Plan { runtime: &runtime, model, threads: Some(1), cuda: None };
    Loaded::load(&plan).unwrap().session(model, 4, 1024).unwrap()
}

/// Prompts, each with what transformers makes of it.
fn truth(models: &Path, name: &str) -> Vec<(Vec<u32>, Vec<u32>)> {
    let bytes = std::fs::read(models.join(format!("truth/{name}.json"))).unwrap();
    let truth: Value = serde_json::from_slice(&bytes).unwrap();
    let ids = |value: &Value| {
        let ids = value.as_array().unwrap().iter();
        ids.map(|id| u32::try_from(id.as_u64().unwrap()).unwrap()).collect::<Vec<_>>()
    };
    truth["cases"].as_array().unwrap().iter().map(|case| (ids(&case["ids"]), ids(&case["greedy"]))).collect()
}

fn likeliest(session: &dyn Session, row: usize) -> u32 {
    let Logits::F32(logits) = session.logits(row) else { panic!("these models are fp32") };
    (0..).zip(logits).max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0
}

/// Computes a prompt into a row; gives the likeliest token after it.
fn prefill(session: &mut dyn Session, row: usize, prompt: &[u32], chunk: usize) -> u32 {
    let mut past = 0;
    for part in prompt.chunks(chunk) {
        session.prefill(row, past, part).unwrap();
        past += part.len();
    }
    likeliest(session, 0)
}

#[test]
fn chunks_of_every_size_give_the_truth() {
    let Some(models) = models() else { return };
    for (folder, name) in MODELS {
        let mut session = load(&models.join(folder));
        for (prompt, greedy) in truth(&models, name) {
            for chunk in [1, 7, 64, session.chunk()] {
                let mut made = vec![prefill(&mut *session, 0, &prompt, chunk)];
                // The whole answer once, its beginning for the other sizes.
                let wanted = if chunk == 7 { greedy.len() } else { 4 };
                while made.len() < wanted {
                    let past = prompt.len() + made.len() - 1;
                    session.decode(&[Step { token: made[made.len() - 1], past }]).unwrap();
                    made.push(likeliest(&*session, 0));
                }
                assert_eq!(made, greedy[..wanted], "{folder}, {} tokens by {chunk}", prompt.len());
            }
        }
    }
}

#[test]
fn rows_of_other_lengths_share_their_steps() {
    let Some(models) = models() else { return };
    for (folder, name) in MODELS {
        let mut session = load(&models.join(folder));
        let truth = truth(&models, name);
        // Lengths close together, and the longest beside the shortest.
        for cases in [&truth[2..4], &truth[1..5]] {
            let firsts: Vec<_> =
                (0..cases.len()).map(|row| prefill(&mut *session, row, &cases[row].0, 500)).collect();
            let mut made: Vec<_> = firsts.into_iter().map(|token| vec![token]).collect();
            for step in 1..cases[0].1.len() {
                let next = |(row, case): (usize, &(Vec<u32>, _))| Step {
                    token: made[row][step - 1],
                    past: case.0.len() + step - 1,
                };
                let steps: Vec<_> = cases.iter().enumerate().map(next).collect();
                session.decode(&steps).unwrap();
                (0..).zip(&mut made).for_each(|(row, made)| made.push(likeliest(&*session, row)));
            }
            for (made, case) in made.iter().zip(cases) {
                assert_eq!(*made, case.1, "{folder}");
            }
        }
    }
}

/// A row that is another conversation's now, of the same length, is not taken for what it was.
#[test]
fn rows_go_on_as_what_they_hold_now() {
    let Some(models) = models() else { return };
    for (folder, name) in MODELS {
        let mut session = load(&models.join(folder));
        let truth = truth(&models, name);
        let (one, other) = (&truth[3].0[..100], &truth[4].0[..100]);
        let token = truth[2].1[0];
        let after = |session: &mut dyn Session, prompt: &[u32]| {
            prefill(session, 3, &[prompt, &[token]].concat(), 512);
            let Logits::F32(logits) = session.logits(0) else { panic!("these models are fp32") };
            logits.to_vec()
        };
        let (of_one, of_other) = (after(&mut *session, one), after(&mut *session, other));
        let close = |session: &dyn Session, expected: &[f32]| {
            let Logits::F32(logits) = session.logits(0) else { panic!("these models are fp32") };
            logits.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-3)
        };
        let both = |session: &mut dyn Session| {
            prefill(session, 0, one, 512);
            prefill(session, 1, other, 512);
        };
        both(&mut *session);
        session.swap(0, 1, 100).unwrap();
        session.prefill(1, 100, &[token]).unwrap();
        assert!(close(&*session, &of_one) && !close(&*session, &of_other), "{folder}: swap");
        both(&mut *session);
        session.copy(0, 1, 0, 100).unwrap();
        session.prefill(1, 100, &[token]).unwrap();
        assert!(close(&*session, &of_one), "{folder}: copy");
        both(&mut *session);
        session.settle(2, 0).unwrap();
        session.prefill(1, 100, &[token]).unwrap();
        assert!(close(&*session, &of_other), "{folder}: settle");
    }
}

/// A run that is ended, or that fails, leaves a row as it was.
#[test]
fn a_run_that_is_ended_changes_nothing() {
    let Some(models) = models() else { return };
    for (folder, name) in MODELS {
        let mut session = load(&models.join(folder));
        let (prompt, greedy) = &truth(&models, name)[3];
        let (front, back) = prompt.split_at(200);
        session.prefill(0, 0, front).unwrap();
        let interrupt = session.interrupt();
        interrupt.set(true);
        assert!(session.prefill(0, 200, back).is_err());
        assert!(session.decode(&[Step { token: 5, past: 200 }]).is_err());
        interrupt.set(false);
        // No such token.
        assert!(session.prefill(0, 200, &[back[0], 1 << 20]).is_err());
        session.prefill(0, 200, back).unwrap();
        assert_eq!(likeliest(&*session, 0), greedy[0], "{folder}");
    }
}

/// The blocks of a growing cache are on the account while they are held, and given back when nothing runs.
#[test]
fn blocks_are_accounted_for_and_given_back() {
    let Some(models) = models() else { return };
    let model = Model::read(&models.join("qwen2/optimum")).unwrap();
    let (mut session, holdings) = start(&model);
    let in_use = || holdings.arena.as_ref().unwrap().read().unwrap().in_use;
    session.settle(1, 0).unwrap();
    let before = in_use();
    let prompt = &truth(&models, "qwen2")[4].0;
    prefill(&mut *session, 0, prompt, 500);
    // The first chunk as the past of the second, and both as its present.
    let blocks = (500 + prompt.len()) as u64 * model.kv_bytes_per_token;
    assert!(in_use() >= before + blocks, "{} {before} {blocks}", in_use());
    session.settle(1, 0).unwrap();
    assert_eq!(in_use(), before);
}
