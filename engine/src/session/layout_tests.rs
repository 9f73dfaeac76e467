//! Every layout against the truth, below the scheduler: prompts in chunks of every size, alone and in one run, going on
//! from what is held and after it was cut.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Loaded, Logits, Plan, Session, Step};
use crate::memory::Holdings;
use crate::model::{Element, Model};

/// Folders of the shared models, and their truth.
const SHARED: [(&str, &str); 7] = [
    ("qwen2/genai", "qwen2"),
    ("qwen2/community-gqa", "qwen2"),
    ("qwen2/genai-fp16-cuda", "qwen2"),
    ("qwen2/optimum", "qwen2"),
    ("llama/genai", "llama"),
    ("llama/optimum", "llama"),
    ("lfm2/genai", "lfm2"),
];
/// Folders of our own, each with its truth.
const OWN: [&str; 8] = [
    "mistral-window",
    "qwen2-window",
    "qwen3.5",
    "phi3-longrope",
    "lfm2-plain",
    "llama-merged",
    "llama-int8-kv",
    "llama-q4",
];
/// Sizes of the parts of a prompt.
const CHUNKS: [usize; 4] = [1, 7, 64, usize::MAX];

/// A model, and what something else makes of it.
pub(super) struct Subject {
    pub(super) name: String,
    pub(super) model: Model,
    cases: Vec<Case>,
    extra: Vec<Case>,
}

/// A prompt, and the likeliest tokens after it.
struct Case {
    id: String,
    prompt: Vec<u32>,
    greedy: Vec<u32>,
    margins: Vec<f64>,
    /// The case that it goes on from.
    base: Option<String>,
}

impl Case {
    /// Whether tokens are those of the truth. In half precision a choice between near equals may fall the other way.
    #[track_caller]
    fn check(&self, made: &[u32], subject: &Subject) {
        let half = subject.model.logits_type == Element::F16;
        let differs = made.iter().zip(&self.greedy).position(|(made, truth)| made != truth);
        let excused = differs.is_none_or(|step| half && self.margins[step] < 0.1);
        assert!(excused, "{} {}: other at {differs:?}", subject.name, self.id);
    }
}

fn variable(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "tests are told by the environment where things are")]
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn subject(name: &str, folder: &Path, truth: &Path) -> Subject {
    let truth: Value = serde_json::from_slice(&std::fs::read(truth).unwrap()).unwrap();
    let ids = |value: &Value| -> Vec<u32> { serde_json::from_value(value.clone()).unwrap() };
    let case = |json: &Value| Case {
        id: json["id"].as_str().unwrap().to_owned(),
        prompt: ids(&json["ids"]),
        greedy: ids(&json["greedy"]),
        margins: serde_json::from_value(json["margins"].clone()).unwrap(),
        base: json["base"].as_str().map(str::to_owned),
    };
    let list = |name: &str| truth[name].as_array().unwrap().iter().map(case).collect();
    let model = Model::read(folder).unwrap();
    Subject { name: name.to_owned(), model, cases: list("cases"), extra: list("extra") }
}

pub(super) fn subjects() -> Vec<Subject> {
    let own = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/models"));
    let own = OWN.iter().map(|name| subject(name, &own.join(name), &own.join(name).join("truth.json")));
    let mut all: Vec<_> = own.collect();
    let models = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/models"));
    if models.is_dir() {
        let truth = |name: &str| models.join(format!("truth/{name}.json"));
        all.extend(SHARED.iter().map(|(folder, name)| subject(folder, &models.join(folder), &truth(name))));
    } else {
        let required = variable("PLIMSOLL_REQUIRE_SHARED").as_deref() == Some("1");
        assert!(!required, "{} is missing", models.display());
        println!("skipped: {} is missing", models.display());
    }
    all
}

pub(super) fn start(model: &Model) -> (Box<dyn Session>, Holdings) {
    let fetched = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.runtime/libonnxruntime.so"));
    let runtime = variable("ORT_DYLIB_PATH").map_or(fetched, PathBuf::from);
    let plan = Plan { runtime: &runtime, model, threads: Some(1), cuda: None };
    let context = model.context_length.min(1024);
    Loaded::load(&plan).unwrap().session(model, 4, context).unwrap()
}

fn logits(session: &dyn Session, row: usize) -> Vec<f32> {
    match session.logits(row) {
        Logits::F32(logits) => logits.to_vec(),
        Logits::F16(logits) => logits.iter().map(|logit| logit.to_f32()).collect(),
    }
}

pub(super) fn likeliest(session: &dyn Session, row: usize) -> u32 {
    (0..).zip(logits(session, row)).max_by(|a, b| a.1.total_cmp(&b.1)).unwrap().0
}

/// Computes tokens into a row that holds `past`; gives the likeliest token after them.
fn prefill_behind(
    session: &mut dyn Session,
    (row, mut past): (usize, usize),
    tokens: &[u32],
    chunk: usize,
) -> u32 {
    for part in tokens.chunks(chunk.min(session.chunk())) {
        session.prefill(row, past, part).unwrap();
        past += part.len();
    }
    likeliest(session, 0)
}

/// Computes a prompt into a row; gives the likeliest token after it.
fn prefill(session: &mut dyn Session, row: usize, prompt: &[u32], chunk: usize) -> u32 {
    prefill_behind(session, (row, 0), prompt, chunk)
}

/// Goes on in the first row from a token, after `past` others, up to so many tokens.
fn go_on(session: &mut dyn Session, past: usize, first: u32, wanted: usize) -> Vec<u32> {
    let mut made = vec![first];
    while made.len() < wanted {
        session.decode(&[Step { token: made[made.len() - 1], past: past + made.len() - 1 }]).unwrap();
        made.push(likeliest(session, 0));
    }
    made
}

/// All prompts in parts of these sizes; the whole answer for one of the sizes, or for all.
fn chunks(sizes: &[usize], all: bool) {
    for subject in subjects() {
        let mut session = start(&subject.model).0;
        for case in &subject.cases {
            for &chunk in sizes {
                let first = prefill(&mut *session, 0, &case.prompt, chunk);
                let wanted = if all || chunk == 7 { case.greedy.len() } else { 4 };
                let made = go_on(&mut *session, case.prompt.len(), first, wanted);
                case.check(&made, &subject);
            }
        }
    }
}

#[test]
fn chunks_of_every_size_give_the_truth() {
    chunks(&CHUNKS, false);
}

#[test]
#[ignore = "takes long: `make test-long`"]
fn chunks_of_every_size_give_the_whole_truth() {
    chunks(&[1, 2, 3, 7, 16, 31, 63, 64, 65, 128, 255, usize::MAX], true);
}

/// A second turn goes on from the first, and a prompt whose middle is gone from where it was cut: taken back, or
/// computed anew where nothing can be taken back.
fn turns(sizes: &[usize]) {
    for subject in subjects() {
        let mut session = start(&subject.model).0;
        for extra in &subject.extra {
            let base = subject.cases.iter().find(|case| Some(&case.id) == extra.base.as_ref()).unwrap();
            for &chunk in sizes {
                let first = prefill(&mut *session, 0, &base.prompt, chunk);
                // A window may have moved past what is taken back.
                let answer = go_on(&mut *session, base.prompt.len(), first, base.greedy.len());
                let held: Vec<_> = base.prompt.iter().chain(&answer[..answer.len() - 1]).copied().collect();
                let common = held.iter().zip(&extra.prompt).take_while(|(a, b)| a == b).count();
                let past = if session.rewinds() || common == held.len() { common } else { 0 };
                let first = prefill_behind(&mut *session, (0, past), &extra.prompt[past..], chunk);
                let made = go_on(&mut *session, extra.prompt.len(), first, extra.greedy.len());
                extra.check(&made, &subject);
            }
        }
    }
}

#[test]
fn turns_go_on_and_prompts_are_cut() {
    turns(&[7, usize::MAX]);
}

#[test]
#[ignore = "takes long: `make test-long`"]
fn turns_go_on_and_prompts_are_cut_in_chunks_of_every_size() {
    turns(&CHUNKS);
}

#[test]
fn rows_of_other_lengths_share_their_steps() {
    for subject in subjects() {
        let mut session = start(&subject.model).0;
        let count = subject.cases.len();
        // Lengths close together, and the longest beside the shortest.
        for cases in [&subject.cases[2..4], &subject.cases[count.saturating_sub(4)..], &subject.cases[..3]] {
            let firsts: Vec<_> =
                (0..cases.len()).map(|row| prefill(&mut *session, row, &cases[row].prompt, 500)).collect();
            let mut made: Vec<_> = firsts.into_iter().map(|token| vec![token]).collect();
            for step in 1..cases[0].greedy.len() {
                let next = |(row, case): (usize, &Case)| Step {
                    token: made[row][step - 1],
                    past: case.prompt.len() + step - 1,
                };
                let steps: Vec<_> = cases.iter().enumerate().map(next).collect();
                session.decode(&steps).unwrap();
                (0..).zip(&mut made).for_each(|(row, made)| made.push(likeliest(&*session, row)));
            }
            made.iter().zip(cases).for_each(|(made, case)| case.check(made, &subject));
        }
    }
}

/// A row that is another conversation's now, of the same length, is not taken for what it was.
#[test]
fn rows_go_on_as_what_they_hold_now() {
    for subject in subjects() {
        let mut session = start(&subject.model).0;
        let (one, other) = match &subject.cases[..] {
            [.., one, other] => (&one.prompt[..100], &other.prompt[..100]),
            _ => panic!("too few cases"),
        };
        let token = subject.cases[2].greedy[0];
        // What is kept in eight bits is not the same however it came there.
        let tolerance = if subject.model.kv_type == Element::F32 { 1e-3 } else { 0.1 };
        let after = |session: &mut dyn Session, prompt: &[u32]| {
            prefill(session, 3, prompt, 512);
            session.prefill(3, 100, &[token]).unwrap();
            logits(session, 0)
        };
        let (of_one, of_other) = (after(&mut *session, one), after(&mut *session, other));
        let close = |session: &dyn Session, expected: &[f32]| {
            logits(session, 0).iter().zip(expected).all(|(a, b)| (a - b).abs() < tolerance)
        };
        let both = |session: &mut dyn Session| {
            prefill(session, 0, one, 512);
            prefill(session, 1, other, 512);
        };
        let name = &subject.name;
        both(&mut *session);
        session.swap(0, 1, 100).unwrap();
        session.prefill(1, 100, &[token]).unwrap();
        assert!(close(&*session, &of_one) && !close(&*session, &of_other), "{name}: swap");
        both(&mut *session);
        session.copy(0, 1, 0, 100).unwrap();
        session.prefill(1, 100, &[token]).unwrap();
        assert!(close(&*session, &of_one), "{name}: copy");
        both(&mut *session);
        session.settle(2, 0).unwrap();
        session.settle(1, 100).unwrap();
        session.prefill(1, 100, &[token]).unwrap();
        assert!(close(&*session, &of_other), "{name}: settle");
    }
}

/// A run that is ended, or that fails, leaves a row as it was, or the session says that it does not.
#[test]
fn a_run_that_is_ended_changes_nothing() {
    for subject in subjects() {
        let mut session = start(&subject.model).0;
        let case = subject.cases.last().unwrap();
        let at = case.prompt.len() / 2;
        let (front, back) = case.prompt.split_at(at);
        session.prefill(0, 0, front).unwrap();
        let interrupt = session.interrupt();
        interrupt.set(true);
        assert!(session.prefill(0, at, back).is_err());
        assert!(session.decode(&[Step { token: 5, past: at }]).is_err());
        interrupt.set(false);
        // No such token.
        assert!(session.prefill(0, at, &[back[0], 1 << 20]).is_err());
        if !session.survives() {
            session.prefill(0, 0, front).unwrap();
        }
        let first = prefill_behind(&mut *session, (0, at), back, 512);
        case.check(&[first], &subject);
    }
}

/// The blocks of a growing cache are on the account while they are held, and given back when nothing runs.
#[test]
fn blocks_are_accounted_for_and_given_back() {
    let subjects = subjects();
    let Some(subject) = subjects.iter().find(|subject| subject.name == "qwen2/optimum") else { return };
    let (mut session, holdings) = start(&subject.model);
    let in_use = || holdings.arena.as_ref().unwrap().read().unwrap().in_use;
    session.settle(1, 0).unwrap();
    let before = in_use();
    let prompt = &subject.cases[4].prompt;
    prefill(&mut *session, 0, prompt, 500);
    // The first chunk as the past of the second, and both as its present.
    let blocks = (500 + prompt.len()) as u64 * subject.model.kv_bytes_per_token;
    assert!(in_use() >= before + blocks, "{} {before} {blocks}", in_use());
    session.settle(1, 0).unwrap();
    assert_eq!(in_use(), before);
}
