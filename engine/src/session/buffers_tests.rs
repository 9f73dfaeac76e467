use std::path::Path;

use super::*;
use crate::model::Layout;
use crate::model::Wiring;
use crate::request::Sampling;

fn model(vocab: u32, last_only: bool) -> Model {
    let name = |text: &str| text.to_owned();
    Model {
        folder: Path::new(".").to_owned(),
        family: None,
        file: Path::new("model.onnx").to_owned(),
        layout: Layout::SharedBuffer,
        kv_layers: 1,
        kv_heads: 1,
        head_dim: 32,
        kv_type: Element::F32,
        kv_bytes_per_token: 256,
        bytes_per_conversation: 0,
        weights_bytes: 0,
        vocab,
        context_length: 4096,
        eos: Vec::new(),
        sampling: Sampling::default(),
        logits_type: Element::F32,
        query_heads: 4,
        turns: Ok(Vec::new()),
        halved: false,
        files: Vec::new(),
        wiring: Wiring {
            ids: name("a"),
            mask: Some(name("b")),
            positions: None,
            branch: None,
            whole: false,
            logits_wanted: None,
            logits: name("c"),
            last_only,
            caches: Vec::new(),
            states: Vec::new(),
        },
    }
}

fn ones(buffers: &Buffers, row: usize, width: usize) -> usize {
    let mask = &buffers.mask[row * width..][..width];
    let ones = mask.iter().take_while(|&&one| one == 1).count();
    assert!(mask[ones..].iter().all(|&zero| zero == 0));
    ones
}

#[test]
fn masks_follow_their_rows() {
    let mut buffers = Buffers::new(&model(10, false), 3, 1000);
    let step = |past| Step { token: 5, past };
    let runs: [&[usize]; 6] = [&[3, 200, 1], &[4, 201, 2], &[300, 2], &[301, 2], &[7], &[3, 254, 255]];
    for pasts in runs {
        let steps: Vec<_> = pasts.iter().map(|&past| step(past)).collect();
        let width = buffers.decode(&steps);
        for (row, past) in pasts.iter().enumerate() {
            assert_eq!(ones(&buffers, row, width), past + 1, "{pasts:?}");
            assert_eq!(buffers.positions[row], i64::try_from(*past).unwrap());
        }
    }
}

#[test]
fn a_prefill_in_between_spoils_no_mask() {
    let mut buffers = Buffers::new(&model(10, false), 2, 1000);
    let steps = [Step { token: 1, past: 10 }, Step { token: 2, past: 20 }];
    buffers.decode(&steps);
    assert_eq!(buffers.prefill(600, &[1; 100], false), 700);
    let width = buffers.decode(&steps);
    assert_eq!((width, ones(&buffers, 0, width), ones(&buffers, 1, width)), (256, 11, 21));
}

#[test]
fn width_grows_in_steps_and_ends_at_the_context() {
    let mut buffers = Buffers::new(&model(10, false), 1, 1000);
    let mut width = |past| buffers.decode(&[Step { token: 0, past }]);
    assert_eq!([width(0), width(255), width(256), width(512), width(999)], [256, 256, 512, 1000, 1000]);
}

#[test]
fn logits_of_a_prefill_are_those_of_its_last_token() {
    let mut buffers = Buffers::new(&model(2, false), 1, 100);
    if let Numbers::F32(numbers) = &mut buffers.logits {
        numbers[4..6].copy_from_slice(&[7.0, 8.0]);
    }
    buffers.prefill(0, &[1, 2, 3], false);
    assert_eq!(buffers.logits(0), Logits::F32(&[7.0, 8.0]));
}

#[test]
fn chunks_are_bounded_by_memory() {
    assert_eq!(chunk(&model(4096, false), 4096), 512);
    // 600 KB of logits a token.
    assert_eq!(chunk(&model(150_000, false), 4096), 111);
    assert_eq!(chunk(&model(150_000, true), 4096), 512);
    assert_eq!(chunk(&model(4096, false), 10), 10);
}

#[test]
fn aligned_rows_end_together() {
    let mut buffers = Buffers::new(&model(100, false), 4, 1000);
    buffers.mask.fill(7);
    let steps = [Step { token: 5, past: 3 }, Step { token: 6, past: 0 }, Step { token: 7, past: 4 }];
    assert_eq!(buffers.aligned(&steps), 5);
    assert_eq!(buffers.mask[..15], [0, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1]);
    assert_eq!((&buffers.ids[..3], &buffers.positions[..3]), (&[5, 6, 7][..], &[3, 0, 4][..]));
    // A run that keeps its rows in place writes its mask anew.
    let width = buffers.decode(&steps);
    assert_eq!((0..3).map(|row| ones(&buffers, row, width)).collect::<Vec<_>>(), [4, 1, 5]);
}

#[test]
fn their_size_is_known_in_advance() {
    for (vocab, last_only, slots, context) in
        [(100, false, 3, 1000), (50_000, true, 40, 300), (7, false, 600, 20)]
    {
        let model = model(vocab, last_only);
        assert_eq!(bytes(&model, slots, context), Buffers::new(&model, slots, context).bytes());
    }
}
