use std::path::{Path, PathBuf};

use super::*;
use crate::model::Model;

fn demo() -> Onnx {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    #[expect(clippy::disallowed_methods, reason = "tests are told by the environment where things are")]
    let told = std::env::var("ORT_DYLIB_PATH").ok().filter(|path| !path.is_empty());
    let runtime = told.map_or_else(|| root.join(".runtime/libonnxruntime.so"), PathBuf::from);
    assert!(runtime.is_file(), "{} is missing: `make test` fetches it", runtime.display());
    let model = Model::read(&root.join("engine/demo/model")).unwrap();
    let plan = Plan { runtime: &runtime, model: &model, threads: Some(1), cuda: None };
    Loaded::load(&plan).unwrap().with_memory(&model, 4, 1000).unwrap()
}

fn prompt(seed: u32, length: u32) -> Vec<u32> {
    (0..length).map(|i| 100 + (i * 7 + seed * 131) % 1500).collect()
}

fn likeliest(session: &Onnx, row: usize) -> u32 {
    let Logits::F32(logits) = session.logits(row) else { panic!("the demo model is fp32") };
    assert_eq!(logits.len(), 2048);
    let best = (0..).zip(logits).max_by(|a, b| a.1.total_cmp(b.1)).unwrap();
    best.0
}

/// The likeliest token after a prompt, computed from nothing.
fn after(session: &mut Onnx, tokens: &[u32]) -> u32 {
    session.prefill(3, 0, tokens).unwrap();
    likeliest(session, 0)
}

#[test]
fn an_interrupted_run_fails_and_the_next_one_works() {
    let mut session = demo();
    let prompt = prompt(1, 200);
    let expected = after(&mut session, &prompt);
    let interrupt = session.interrupt();
    interrupt.set(true);
    let error = session.prefill(0, 0, &prompt).unwrap_err();
    assert!(error.to_string().contains("terminate flag"), "{error}");
    interrupt.set(false);
    session.prefill(0, 0, &prompt).unwrap();
    assert_eq!(likeliest(&session, 0), expected);
}

#[test]
fn rows_are_conversations_of_their_own() {
    let mut session = demo();
    let mut chains: Vec<Vec<u32>> = (0..3).map(|row| prompt(row, 20 + 150 * row)).collect();
    for (row, chain) in chains.iter().enumerate() {
        // In two parts, the second one small.
        let (front, back) = chain.split_at(chain.len() - 3);
        session.prefill(row, 0, front).unwrap();
        session.prefill(row, front.len(), back).unwrap();
    }
    for turn in 0..4 {
        let steps: Vec<_> =
            chains.iter().map(|chain| Step { token: 500 + turn, past: chain.len() }).collect();
        session.decode(&steps).unwrap();
        chains.iter_mut().for_each(|chain| chain.push(500 + turn));
        let together: Vec<_> = (0..3).map(|row| likeliest(&session, row)).collect();
        let alone: Vec<_> = chains.iter().map(|chain| after(&mut session, chain)).collect();
        assert_eq!(together, alone);
        // Rows that change places keep what they hold; the third row's prefill above has touched none of them.
        session.swap(0, 2, 400).unwrap();
        chains.swap(0, 2);
    }
}

#[test]
fn a_copied_prefix_and_a_rewound_row_go_on() {
    let mut session = demo();
    let (one, other) = (prompt(5, 300), prompt(6, 40));
    session.prefill(0, 0, &one).unwrap();
    session.copy(0, 1, 0, 200).unwrap();
    let tail = [&one[..200], &other].concat();
    let expected = after(&mut session, &tail);
    // In the copy, and in the original that is cut back.
    for row in [1, 0] {
        session.prefill(row, 200, &other).unwrap();
        assert_eq!(likeliest(&session, 0), expected);
    }
    session.release(0, 200, 300);
    session.prefill(0, 200, &other).unwrap();
    assert_eq!(likeliest(&session, 0), expected);
}

/// Fills all of a row with what is no number.
fn poison(session: &mut Onnx, row: usize) {
    for strip in 0..session.shape.strips.len() {
        let bytes = vec![0xff; session.shape.head_bytes(strip)];
        for head in 0..session.shape.strips[strip].heads {
            session.write(Place { strip, row, head }, &bytes).unwrap();
        }
    }
}

/// Rows of garbage that then share a prefix: each goes on as it would alone, in one run with the others, after its
/// donor was taken back, and in other places.
#[test]
fn rows_that_share_pages_go_on_as_if_alone() {
    let mut session = demo();
    let whole = prompt(7, 300);
    let tails: Vec<_> = (0..3).map(|row| prompt(20 + row, 40 + 11 * row)).collect();
    let chain = |row: usize| [&whole[..200], &tails[row]].concat();
    let alone: Vec<_> = (0..3).map(|row| after(&mut session, &chain(row))).collect();
    (0..3).for_each(|row| poison(&mut session, row));
    session.prefill(0, 0, &whole).unwrap();
    let id = crate::cache::SegmentId(1);
    let path = [crate::cache::Extent { segment: id, first: 0, from: 0, to: 192 }];
    let sharing = session.sharing().unwrap();
    assert_eq!(sharing.step(), 16);
    sharing.keep(id, 0, 0, 192).unwrap();
    for row in 0..3 {
        sharing.share(row, &path, if row == 0 { 300 } else { 0 }).unwrap();
    }
    for row in 1..3 {
        session.copy(0, row, 192, 200).unwrap();
    }
    // The donor is taken back too.
    for row in 0..3 {
        session.prefill(row, 200, &tails[row]).unwrap();
        assert_eq!(likeliest(&session, 0), alone[row], "row {row}");
    }
    session.swap(0, 2, 300).unwrap();
    session.swap(1, 3, 300).unwrap();
    session.swap(3, 1, 300).unwrap();
    let order = [2, 1, 0];
    let steps: Vec<_> = order.iter().map(|&row| Step { token: alone[row], past: chain(row).len() }).collect();
    session.decode(&steps).unwrap();
    let together: Vec<_> = (0..3).map(|row| likeliest(&session, row)).collect();
    let singly = |row: usize| [&chain(row)[..], &[alone[row]]].concat();
    let expected: Vec<_> = order.iter().map(|&row| after(&mut session, &singly(row))).collect();
    assert_eq!(together, expected);
    // Back into the shared pages: what lies before the cut is still there, and the others see nothing of it.
    let sharing = session.sharing().unwrap();
    sharing.share(1, &[crate::cache::Extent { to: 96, ..path[0] }], 100).unwrap();
    let back = [&whole[..100], &tails[2]].concat();
    session.prefill(1, 100, &tails[2]).unwrap();
    let made = likeliest(&session, 0);
    assert_eq!(made, after(&mut session, &back));
    session.decode(&steps[..1]).unwrap();
    assert_eq!(likeliest(&session, 0), expected[0]);
}
