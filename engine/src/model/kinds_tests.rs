//! What is read from graphs of every kind; that they run as they should is shown by the session's tests.

use super::*;

fn read(name: &str) -> Model {
    Model::read(&Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/models")).join(name)).unwrap()
}

#[test]
fn windows_are_kept_beside_what_grows() {
    let model = read("qwen2-window");
    assert_eq!((model.layout, model.kv_layers, model.kv_heads, model.head_dim), (Layout::Hybrid, 1, 1, 16));
    assert_eq!(model.kv_bytes_per_token, 2 * 16 * 4);
    // Keys and values of 64 tokens in three layers, in place.
    assert_eq!(model.bytes_per_conversation, 3 * 2 * 64 * 16 * 4);
    assert!(model.wiring.states.iter().all(|state| state.in_place && state.dims == [1, 64, 16]));
    let all = read("mistral-window");
    assert_eq!((all.kv_layers, all.kv_bytes_per_token, all.kv_type), (0, 0, Element::F32));
    assert_eq!(all.bytes_per_conversation, 3 * 2 * 64 * 16 * 4);
}

#[test]
fn recurrent_states_and_planes_of_positions_are_understood() {
    let model = read("qwen3.5");
    assert_eq!((model.layout, model.kv_layers, model.wiring.whole), (Layout::Hybrid, 1, false));
    let dims: Vec<_> = model.wiring.states.iter().map(|state| &state.dims[..]).collect();
    let (convolution, recurrent) = (&[96, 3][..], &[2, 16, 16][..]);
    assert_eq!(dims, [convolution, recurrent, convolution, recurrent, convolution, recurrent]);
    assert_eq!(model.wiring.positions.unwrap().planes, Some(3));
    // Before a run and after it.
    assert_eq!(model.bytes_per_conversation, 2 * 3 * (96 * 3 + 2 * 16 * 16) * 4);
}

#[test]
fn states_of_unknown_operations_are_known_by_their_names() {
    let model = read("lfm2-plain");
    let names: Vec<_> = model.wiring.states.iter().map(|state| state.past.as_str()).collect();
    assert_eq!((names, model.wiring.whole), (vec!["past_conv.0", "past_conv.2"], true));
}

#[test]
fn the_branch_of_later_runs_is_read() {
    let model = read("llama-merged");
    assert!(model.file.ends_with("onnx/decoder_model_merged.onnx"));
    assert_eq!((model.layout, model.kv_layers, model.wiring.whole), (Layout::Concatenated, 2, true));
    assert_eq!(model.wiring.branch.as_deref(), Some("use_cache_branch"));
    // The weights of both branches count once.
    let file = std::fs::metadata(&model.file).unwrap().len();
    assert!((file / 2..file).contains(&model.weights_bytes), "{} {file}", model.weights_bytes);
}

#[test]
fn longrope_ends_where_its_tables_would_be_switched() {
    let model = read("phi3-longrope");
    assert_eq!((model.layout, model.context_length), (Layout::SharedBuffer, 256));
}

#[test]
fn quantised_caches_and_weights_are_counted_in_their_bytes() {
    let model = read("llama-int8-kv");
    assert_eq!((model.kv_type, model.kv_bytes_per_token), (Element::I8, 2 * 2 * 16));
    assert_eq!(model.kv_type.to_string(), "int8");
    let model = read("llama-q4");
    assert!(model.file.ends_with("onnx/model_q4.onnx"));
    let data = std::fs::metadata(model.file.with_extension("onnx_data")).unwrap().len();
    assert!(model.weights_bytes.abs_diff(data) < 10_000, "{} {data}", model.weights_bytes);
}

#[test]
fn the_most_exact_graph_of_a_folder_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let source = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/models/llama-merged"));
    let copy = |to: &str| {
        std::fs::create_dir_all(folder.path().join("onnx")).unwrap();
        std::fs::copy(source.join("onnx/decoder_model_merged.onnx"), folder.path().join(to)).unwrap();
        Model::read(folder.path()).unwrap().file
    };
    std::fs::copy(source.join("config.json"), folder.path().join("config.json")).unwrap();
    for name in [
        "onnx/model_q4f16.onnx",
        "onnx/model_q4.onnx",
        "model_quantized.onnx",
        "onnx/decoder_model_merged_int8.onnx",
        "onnx/model_int8.onnx",
        "onnx/model_fp16.onnx",
        "onnx/decoder_model_merged.onnx",
        "model.onnx",
    ] {
        assert_eq!(copy(name), folder.path().join(name));
    }
}
