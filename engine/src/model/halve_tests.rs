use std::path::PathBuf;

use prost::Message;

use super::super::proto::ModelProto;
use super::*;

fn file() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/models/llama-q4/onnx/model_q4.onnx"))
}

fn caches() -> BTreeSet<String> {
    let names = |prefix: &str, layer: u32| ["key", "value"].map(|side| format!("{prefix}.{layer}.{side}"));
    (0..2)
        .flat_map(|layer| ["past_key_values", "present"].map(|prefix| names(prefix, layer)))
        .flatten()
        .collect()
}

#[test]
fn layers_stand_between_casts_and_all_else_is_as_it_was() {
    let before = ModelProto::decode(&std::fs::read(file()).unwrap()[..]).unwrap().graph.unwrap();
    let bytes = halved(&file(), &caches()).unwrap();
    let after = ModelProto::decode(&bytes[..]).unwrap().graph.unwrap();
    assert_eq!(after.initializer, before.initializer);
    for (value, former) in
        after.input.iter().chain(&after.output).zip(before.input.iter().chain(&before.output))
    {
        let cache = caches().contains(&value.name);
        assert_eq!((&value.name, value.dims()), (&former.name, former.dims()));
        assert_eq!(value.element(), if cache { 10 } else { former.element() }, "{}", value.name);
    }
    let (same, added) = after.node.split_at(before.node.len());
    for (node, former) in same.iter().zip(&before.node) {
        assert_eq!((&node.attribute, &node.domain), (&former.attribute, &former.domain));
        if node.op_type != "GroupQueryAttention" {
            assert_eq!(node, former);
            continue;
        }
        for (place, (name, former)) in node.input.iter().zip(&former.input).enumerate() {
            let half = TYPED.contains(&place) && !former.is_empty();
            assert_eq!(*name, if half { format!("{former}/plimsoll_half") } else { former.clone() });
        }
        assert_eq!(node.output[0], format!("{}/plimsoll_half", former.output[0]));
        assert_eq!(node.output[1..], former.output[1..]);
    }
    // Query, key and value of two layers are one packed value each; both layers share their tables.
    assert_eq!(added.len(), 2 + 2 + 2);
    assert!(added.iter().all(|node| node.op_type == "Cast" && matches!(node.int("to"), Some(1 | 10))));
}

#[test]
fn without_caches_to_change_no_value_changes() {
    let bytes = halved(&file(), &BTreeSet::new()).unwrap();
    let graph = ModelProto::decode(&bytes[..]).unwrap().graph.unwrap();
    assert!(graph.input.iter().chain(&graph.output).all(|value| value.element() != 10));
}

#[test]
fn a_file_cut_short_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let short = folder.path().join("model.onnx");
    let bytes = std::fs::read(file()).unwrap();
    for length in [1, 100, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&short, &bytes[..length]).unwrap();
        let damaged = halved(&short, &caches()).unwrap_err();
        assert!(matches!(damaged, LoadError::Damaged { .. }), "{length}: {damaged}");
    }
}
