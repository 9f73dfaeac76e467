use super::*;

/// A path in the folder of shared test data; `None`, with a note, where that folder is missing.
fn shared(path: &str) -> Option<PathBuf> {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared"));
    if root.is_dir() {
        return Some(root.join(path));
    }
    #[expect(clippy::disallowed_methods, reason = "tells a test run that nothing may be skipped")]
    let required = std::env::var("PLIMSOLL_REQUIRE_SHARED").is_ok_and(|value| value == "1");
    assert!(!required, "{} is missing", root.display());
    println!("skipped: {} is missing", root.display());
    None
}

fn read(folder: &str) -> Option<Result<Model, LoadError>> {
    Some(Model::read(&shared(folder)?))
}

#[test]
fn a_builder_folder_is_understood() {
    let Some(model) = read("models/qwen2/genai") else { return };
    let model = model.unwrap();
    assert_eq!((model.kv_layers, model.kv_heads, model.head_dim, model.kv_type), (4, 2, 32, Element::F32));
    assert_eq!(model.kv_bytes_per_token, 4 * 2 * 2 * 32 * 4);
    assert_eq!((model.vocab, model.context_length, model.query_heads), (4160, 4096, 4));
    assert_eq!(model.eos, [4098, 4096]);
    assert_eq!(model.sampling, Sampling::greedy());
    assert_eq!(
        (model.wiring.ids.as_str(), model.wiring.mask.as_deref()),
        ("input_ids", Some("attention_mask"))
    );
    assert!(
        !model.wiring.last_only && model.wiring.positions.is_none() && model.wiring.logits_wanted.is_none()
    );
    let caches: Vec<_> = model.wiring.caches.iter().map(|c| (c.past.as_str(), c.present.as_str())).collect();
    assert_eq!(caches[1], ("past_key_values.0.value", "present.0.value"));
    assert_eq!(caches.len(), 8);
    // What the file of weights holds, but for what stands in the graph itself.
    let data = std::fs::metadata(model.file.with_extension("onnx.data")).unwrap().len();
    assert!(model.weights_bytes.abs_diff(data) < 100_000, "{} {data}", model.weights_bytes);
}

#[test]
fn an_onnx_community_folder_is_understood() {
    let Some(model) = read("models/qwen2/community-gqa") else { return };
    let model = model.unwrap();
    assert!(model.file.ends_with("onnx/model.onnx"));
    assert_eq!(model.wiring.logits_wanted, Some(("num_logits_to_keep".to_owned(), true)));
    assert_eq!((model.head_dim, model.wiring.last_only), (32, true));
    assert_eq!(model.eos, [4098, 4096]);
}

#[test]
fn fp16_is_seen_in_the_graph() {
    let Some(model) = read("models/qwen2/genai-fp16-cuda") else { return };
    let model = model.unwrap();
    assert_eq!(
        (model.kv_type, model.logits_type, model.kv_bytes_per_token),
        (Element::F16, Element::F16, 1024)
    );
}

#[test]
fn a_graph_that_concatenates_is_understood() {
    let folders =
        [("models/qwen2/optimum", 2, &[4098, 4096][..]), ("models/llama/optimum", 1, &[4097, 4101, 4102])];
    for (folder, heads, eos) in folders {
        let Some(model) = read(folder) else { return };
        let model = model.unwrap();
        assert_eq!((model.layout, model.kv_layers, model.kv_heads), (Layout::Concatenated, 4, heads));
        assert_eq!((model.head_dim, model.query_heads, model.kv_type), (32, 4, Element::F32));
        assert_eq!(model.kv_bytes_per_token, 4 * 2 * u64::from(heads) * 32 * 4);
        assert_eq!((model.vocab, model.context_length, model.eos.as_slice()), (4160, 4096, eos));
        let wiring = &model.wiring;
        assert_eq!((wiring.ids.as_str(), wiring.mask.as_deref()), ("input_ids", Some("attention_mask")));
        let positions = wiring.positions.as_ref().unwrap();
        assert_eq!((positions.name.as_str(), positions.planes), ("position_ids", None));
        assert!(!wiring.last_only && wiring.logits == "logits");
        assert_eq!(wiring.caches[7].present, "present.3.value");
    }
}

#[test]
fn a_graph_with_states_is_understood() {
    let Some(model) = read("models/lfm2/genai") else { return };
    let model = model.unwrap();
    // One layer of four has keys and values, the third.
    assert_eq!((model.layout, model.kv_layers, model.kv_heads, model.head_dim), (Layout::Hybrid, 1, 2, 32));
    assert_eq!(model.kv_bytes_per_token, 2 * 2 * 32 * 4);
    assert_eq!(model.wiring.caches[0].past, "past_key_values.2.key");
    let states: Vec<_> = model.wiring.states.iter().map(|s| (s.past.as_str(), &s.dims[..])).collect();
    let dims = &[128, 2][..];
    assert_eq!(states, [("past.0.conv", dims), ("past.1.conv", dims), ("past.3.conv", dims)]);
    assert_eq!(
        (model.wiring.states[2].present.as_str(), model.wiring.logits.as_str()),
        ("present.3.conv", "logits")
    );
}

/// What is said of a folder whose graph is altered.
fn altered(folder: &str, alter: impl FnOnce(&mut proto::GraphProto)) -> Option<String> {
    let folder = copy(folder, &[])?;
    let path = folder.path().join("model.onnx");
    let mut graph = proto::read(&path).unwrap();
    alter(&mut graph);
    let model = proto::ModelProto { graph: Some(graph) };
    std::fs::write(&path, prost::Message::encode_to_vec(&model)).unwrap();
    Some(message(folder.path()))
}

#[test]
fn other_layouts_are_refused_with_what_to_use() {
    for (folder, operation, other, reason, instead) in [
        ("lfm2/genai", "CausalConvWithState", "GatedDeltaNet", "(GatedDeltaNet)", "such as LFM2"),
        ("qwen2/genai", "GroupQueryAttention", "MultiHeadAttention", "are MultiHeadAttention", "builder"),
        ("qwen2/genai", "GroupQueryAttention", "PagedAttention", "in pages (PagedAttention)", "builder"),
        ("qwen2/optimum", "Softmax", "If", "chooses between parts of itself", "text-generation-with-past"),
        (
            "qwen2/optimum",
            "Softmax",
            "Loop",
            "keep a state instead of keys and values (Loop)",
            "such as LFM2",
        ),
        ("qwen2/optimum", "Concat", "Add", "does not become an output by concatenation", "builder"),
    ] {
        let rename = |graph: &mut proto::GraphProto| {
            let nodes = graph.node.iter_mut().filter(|node| node.op_type == operation);
            assert!(nodes.map(|node| other.clone_into(&mut node.op_type)).count() > 0);
        };
        let Some(message) = altered(&format!("models/{folder}"), rename) else { return };
        assert!(message.contains(reason) && message.contains(instead), "{message}");
        assert!(message.contains("model.onnx"), "{message}");
    }
}

#[test]
fn a_state_that_no_output_gives_is_refused() {
    let drop = |graph: &mut proto::GraphProto| graph.output.retain(|output| output.name != "present.3.conv");
    let Some(message) = altered("models/lfm2/genai", drop) else { return };
    assert!(message.contains("a layer keeps its state inside the graph"), "{message}");
}

/// Bytes of a graph that are replaced by as many others, and what is said of it then.
#[test]
fn graphs_that_do_not_concatenate_are_refused() {
    for (from, to, expected) in [
        // The first cache is concatenated by an operation that is none of those known.
        ("Concat", "Concax", "its cache `past_key_values.0.key` does not become an output by concatenation"),
        ("attention_mask", "attention_masx", "no attention mask gives the lengths of its rows"),
        ("position_ids", "position_idx", "it is not known what its input `position_idx` needs"),
    ] {
        let Some(folder) = copy("models/llama/optimum", &[]) else { return };
        let path = folder.path().join("model.onnx");
        let mut bytes = std::fs::read(&path).unwrap();
        let places: Vec<_> =
            (0..bytes.len() - from.len()).filter(|&at| bytes[at..].starts_with(from.as_bytes())).collect();
        assert!(!places.is_empty());
        for at in places {
            bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
        }
        std::fs::write(&path, bytes).unwrap();
        assert!(message(folder.path()).contains(expected), "{}", message(folder.path()));
    }
}

#[test]
fn longrope_that_is_traced_ends_where_its_factors_do() {
    let Some(folder) = copy("models/llama/optimum", &["config.json"]) else { return };
    let config = shared("models/llama/optimum/config.json").unwrap();
    let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(config).unwrap()).unwrap();
    config["rope_scaling"] = serde_json::json!({ "rope_type": "longrope", "factor": 4.0 });
    config["original_max_position_embeddings"] = 1024.into();
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    assert_eq!(Model::read(folder.path()).unwrap().context_length, 1024);
}

/// A copy of a folder, some of it left out.
fn copy(folder: &str, without: &[&str]) -> Option<tempfile::TempDir> {
    let source = shared(folder)?;
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(source).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_file() && !without.contains(&name.as_str()) {
            // Read and written, since the originals may not be written to.
            std::fs::write(copy.path().join(name), std::fs::read(entry.path()).unwrap()).unwrap();
        }
    }
    Some(copy)
}

fn message(folder: &Path) -> String {
    Model::read(folder).unwrap_err().to_string()
}

#[test]
fn missing_files_are_named() {
    assert!(
        message(Path::new("/no/such/folder"))
            .starts_with("`/no/such/folder` is missing: `model` must name a folder")
    );
    for (without, expected) in [
        (&["model.onnx"][..], "model.onnx` is missing: genai_config.json names it"),
        (&["model.onnx", "genai_config.json"], "the folder holds neither model.onnx nor onnx/model.onnx"),
        (&["model.onnx.data"], "model.onnx.data` is missing: it holds the weights of"),
        (&["genai_config.json"], "does not say the size of an attention head: add `model.decoder.head_size`"),
    ] {
        let Some(folder) = copy("models/qwen2/genai", without) else { return };
        assert!(message(folder.path()).contains(expected), "{}", message(folder.path()));
    }
}

#[test]
fn damaged_files_are_named() {
    let Some(folder) = copy("models/qwen2/genai", &[]) else { return };
    let path = |name| folder.path().join(name);
    let cut = |name, length| {
        let bytes = std::fs::read(path(name)).unwrap();
        std::fs::write(path(name), &bytes[..length]).unwrap();
    };
    cut("model.onnx.data", 1000);
    assert!(
        message(folder.path()).contains("model.onnx.data` is damaged: it has 1000 bytes, the graph needs")
    );
    for length in [20_000, 100, 1] {
        cut("model.onnx", length);
        assert!(message(folder.path()).contains("model.onnx` is damaged"), "{}", message(folder.path()));
    }
    cut("model.onnx", 0);
    assert!(message(folder.path()).contains("it is empty"));
    cut("genai_config.json", 50);
    assert!(message(folder.path()).contains("genai_config.json` is damaged: it is no JSON"));
}
