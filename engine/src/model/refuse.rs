//! Why a graph is refused, and what to use in its place.

use std::path::Path;

use super::proto::{GraphProto, NodeProto};
use crate::error::LoadError;

/// The nearest thing that works.
const BUILDER: &str = "export it with `python -m onnxruntime_genai.models.builder -m MODEL -o FOLDER -p fp32 -e cpu` \
                       (or -p fp16 -e cuda), or take an onnx-community folder whose graph uses GroupQueryAttention";
const PLAIN: &str = "export it again with an fp32 or fp16 KV cache";
const OTHER: &str = "use a model whose layers are all attention, such as Llama, Qwen2, Qwen3, Mistral or \
                     Phi, or attention and states, such as LFM2 or Qwen3.5";

const MERGED: &str = "take the graph that was exported with a past alone: `--task text-generation-with-past`, or \
                      `decoder_with_past_model.onnx`";
const LONGROPE: &str =
    "it switches its rotary tables by length (longrope), which chunks of a prompt would get wrong";

/// A reason without the file's name.
pub(super) struct Refused {
    reason: String,
    instead: &'static str,
}

impl Refused {
    fn new(reason: impl Into<String>, instead: &'static str) -> Self {
        Self { reason: reason.into(), instead }
    }

    pub(super) fn at(self, path: &Path) -> LoadError {
        LoadError::Unsupported { path: path.to_owned(), reason: self.reason, instead: self.instead }
    }
}

/// The cache of a layer is not an input and an output of the graph.
pub(super) fn inner_cache() -> Refused {
    Refused::new("an attention layer keeps its cache inside the graph", BUILDER)
}

/// No layer keeps a cache in a way that is known.
pub(super) fn no_cache() -> Refused {
    Refused::new("no input of it holds the keys and values of earlier tokens", MERGED)
}

/// A cache that is neither shared nor grown by one concatenation.
pub(super) fn lost_cache(past: &str) -> Refused {
    Refused::new(format!("its cache `{past}` does not become an output by concatenation"), BUILDER)
}

/// On a CUDA device, of a graph that runs on the CPU only.
pub(crate) const CPU_ONLY: &str = "use `device: cpu`; on CUDA, graphs run whose layers are all GroupQueryAttention: \
                                   `python -m onnxruntime_genai.models.builder` with `-p fp16 -e cuda` makes them \
                                   (where layers keep a window, `--extra_options windowed_kv_cache=false` too)";

/// Where the KV cache cannot be of another type.
pub(super) const AS_IT_IS: &str = "set `kv_dtype` to `auto`, or export the model with a cache of that type";

/// The state of a layer is not an input and an output of the graph.
pub(super) fn inner_state() -> Refused {
    Refused::new("a layer keeps its state inside the graph", OTHER)
}

/// An input or output that is not understood.
pub(super) fn input(what: String) -> Refused {
    Refused::new(what, BUILDER)
}

/// Branches that are not told apart by a first run.
pub(super) fn branches() -> Refused {
    Refused::new("it chooses between parts of itself (If) in a way that is not known", MERGED)
}

/// An element type that is not served.
pub(super) fn element(what: &str) -> Refused {
    Refused::new(format!("its {what} are of a type that is not served"), PLAIN)
}

/// Refuses graphs whose caches are neither all plain shared buffers nor, without such `layers`, all concatenated.
/// `switched`: its one branch is between two rotary tables, by a known length.
pub(super) fn layout(graph: &GraphProto, layers: &[&NodeProto], switched: bool) -> Result<(), Refused> {
    let has = |op: &str| graph.node.iter().any(|node| node.op_type == op);
    if has("PagedAttention") {
        return Err(Refused::new("it keeps its KV cache in pages (PagedAttention)", BUILDER));
    }
    if let Some(state) = STATES.iter().find(|op| has(op)) {
        return Err(Refused::new(
            format!("some layers keep a state instead of keys and values ({state})"),
            OTHER,
        ));
    }
    if let Some(fused) = ["MultiHeadAttention", "Attention"].into_iter().find(|op| has(op)) {
        let reason = match layers {
            [] => format!("its attention layers are {fused}, which keeps its cache in a way of its own"),
            _ => "not all of its attention layers are GroupQueryAttention".to_owned(),
        };
        return Err(Refused::new(reason, BUILDER));
    }
    let branches = graph.node.iter().filter(|node| node.op_type == "If").count();
    if branches > usize::from(switched) {
        return Err(if layers.is_empty() { self::branches() } else { Refused::new(LONGROPE, OTHER) });
    }
    layers.iter().try_for_each(|layer| attention(layer))
}

/// Operations that carry a state from token to token, and of which it is not shown that parts of a prompt give the same
/// as the whole.
const STATES: &[&str] = &["VarlenCausalConvWithState", "GatedDeltaNet", "Loop", "Scan"];

fn attention(layer: &NodeProto) -> Result<(), Refused> {
    let quantised = |name| layer.text(name).is_some_and(|kind| !kind.is_empty() && kind != "NONE");
    let scales = layer.given(12).is_some() && layer.given(13).is_some();
    if (quantised("k_quant_type") || quantised("v_quant_type")) && !scales {
        return Err(Refused::new("its KV cache is quantised without scales", PLAIN));
    }
    if layer.given(10).is_some() {
        return Err(Refused::new("its attention adds a bias", OTHER));
    }
    if layer.given(3).is_none() || layer.given(4).is_none() {
        return Err(inner_cache());
    }
    Ok(())
}
