//! What a model folder says: layout, shapes, names and limits, read from its graph.

mod folder;
mod proto;
mod graph;
mod concat;
mod states;
mod merged;
mod refuse;
mod weights;
mod rope;
mod halve;
mod dtype;
mod turns;
mod identity;

use std::fmt;
use std::path::{Path, PathBuf};

use half::f16;

pub(crate) use graph::{Cache, State, Wiring};
pub(crate) use identity::{Stamp, changed, digest};
pub(crate) use refuse::CPU_ONLY;
pub(crate) use turns::Turns;

use crate::error::{LoadError, NoShift};
use crate::request::Sampling;
use folder::Folder;

/// What is known of a model before it is loaded.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Its folder.
    pub folder: PathBuf,
    /// Its graph.
    pub file: PathBuf,
    /// Its family, such as `llama`, as the folder's configuration names it.
    pub family: Option<String>,
    /// How its KV cache is kept.
    pub layout: Layout,
    /// Layers whose KV cache grows with the tokens.
    pub kv_layers: u32,
    /// Heads of keys and values, in the first such layer; 0 where there is none.
    pub kv_heads: u32,
    /// Numbers of one head and token, in the first such layer; 0 where there is none.
    pub head_dim: u32,
    /// Type of the KV cache's numbers.
    pub kv_type: Element,
    /// Bytes of KV cache for one token, all layers together: 2 sides x layers x heads x head size x bytes of a number.
    pub kv_bytes_per_token: u64,
    /// Bytes of what a conversation holds whatever its length: windows of keys and values, and states, each before and
    /// after a run.
    pub bytes_per_conversation: u64,
    /// Bytes of all weights, by the graph's tensor shapes.
    pub weights_bytes: u64,
    /// Size of the vocabulary.
    pub vocab: u32,
    /// Tokens that the model was made for.
    pub context_length: u32,
    /// Ids that end an answer.
    pub eos: Vec<u32>,
    /// How the model's makers choose tokens.
    pub sampling: Sampling,
    pub(crate) logits_type: Element,
    pub(crate) query_heads: u32,
    pub(crate) wiring: Wiring,
    /// How keys turn with their positions; why that cannot be undone.
    pub(crate) turns: Result<Turns, NoShift>,
    /// The graph has 32-bit keys and values, and is changed when it is loaded.
    pub(crate) halved: bool,
    /// The graph and the files of its weights.
    pub(crate) files: Vec<Stamp>,
}

/// How a graph keeps its KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `GroupQueryAttention`, past and present the same buffer `[slots, heads, context, head_dim]`.
    SharedBuffer,
    /// Plain attention: each run is given `[batch, heads, past, head_dim]` and returns it with the new tokens behind.
    Concatenated,
    /// As `SharedBuffer` in some layers; others keep a state or a window of constant size, which holds for all tokens so
    /// far and cannot be taken back to fewer.
    Hybrid,
}

/// Type of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// 32-bit floating point.
    F32,
    /// 16-bit floating point.
    F16,
    /// 8-bit integers, with scales in the graph.
    I8,
    /// Two 4-bit integers, with scales in the graph.
    I4x2,
    /// 8-bit floating point (E4M3), with scales in the graph.
    F8,
}

impl Element {
    /// Bytes of one number, or of two that share a byte.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
            Self::I8 | Self::I4x2 | Self::F8 => 1,
        }
    }

    fn from_onnx(number: i32) -> Option<Self> {
        match number {
            1 => Some(Self::F32),
            10 => Some(Self::F16),
            3 => Some(Self::I8),
            2 => Some(Self::I4x2),
            17 => Some(Self::F8),
            _ => None,
        }
    }

    /// Numbers of a floating-point type from their bytes.
    pub(crate) fn numbers(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Self::F16 => {
                bytes.as_chunks().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f32()).collect()
            }
            _ => bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
        }
    }

    /// Whether numbers stand for themselves, without scales.
    fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F16)
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "fp32",
            Self::F16 => "fp16",
            Self::I8 => "int8",
            Self::I4x2 => "int4",
            Self::F8 => "fp8",
        })
    }
}

impl Model {
    /// Reads a folder. Takes milliseconds: weights are not read.
    pub fn read(folder: &Path) -> Result<Self, LoadError> {
        let files = Folder::read(folder)?;
        let file = files.graph()?;
        let graph = proto::read(&file)?;
        let weights_bytes = weights::bytes(&graph, &file)?;
        let stamp = |path: PathBuf| {
            Stamp::of(&path).map_err(|error| LoadError::Read { path, reason: error.to_string() })
        };
        let stamps = weights::files(&graph, &file).map(stamp).collect::<Result<_, _>>()?;
        let (graph, branch) = merged::later_runs(graph);
        let reader = graph::Reader::new(&graph, &file).behind(branch);
        let found = reader.read(files.head_dim())?;
        let element =
            |number, what| Element::from_onnx(number).ok_or_else(|| refuse::element(what).at(&file));
        let constant = found.wiring.states.first().map(|state| state.element);
        let kv_type = match (found.cache_element, constant) {
            (None, Some(element)) => element,
            (number, _) => element(number.unwrap_or(0), "keys and values")?,
        };
        let logits_type = element(found.logits_element, "logits")?;
        if !logits_type.is_float() {
            return Err(refuse::element("logits").at(&file));
        }
        let unsaid = |what, add| LoadError::Unsaid { folder: folder.to_owned(), what, add };
        let vocab = found.vocab.or_else(|| files.vocab()).ok_or_else(|| {
            unsaid(
                "the size of the vocabulary",
                "`model.vocab_size` to genai_config.json or `vocab_size` to config.json",
            )
        })?;
        // The rotary tables are the hard limit: positions beyond them do not exist.
        let plain = found.layout == Layout::Concatenated;
        let fixed = if plain { files.fixed_rope() } else { None };
        let context = files.context().into_iter().chain(found.positions).chain(fixed).min();
        let context = context.ok_or_else(|| {
            unsaid(
                "the length of the context",
                "`model.context_length` to genai_config.json or `max_position_embeddings` to config.json",
            )
        })?;
        let turns = reader.turns(&found, kv_type, &files);
        let caches = &found.wiring.caches;
        let numbers: usize = caches.iter().map(|cache| cache.heads * cache.head_dim).sum();
        let constant: usize = found.wiring.states.iter().map(State::held).sum();
        let first = caches.first().map_or((0, 0), |cache| (cache.heads, cache.head_dim));
        Ok(Self {
            folder: folder.to_owned(),
            layout: found.layout,
            kv_layers: small(caches.len() / 2),
            kv_heads: small(first.0),
            head_dim: small(first.1),
            kv_type,
            kv_bytes_per_token: (numbers * kv_type.bytes()) as u64,
            bytes_per_conversation: constant as u64,
            weights_bytes,
            vocab: small(vocab),
            context_length: small(context),
            eos: files.eos(),
            family: files.family(),
            sampling: files.sampling(),
            logits_type,
            query_heads: small(found.heads.or_else(|| files.query_heads()).unwrap_or(first.0.max(1) as u64)),
            wiring: found.wiring,
            turns,
            halved: false,
            files: stamps,
            file,
        })
    }
}

fn small(number: impl TryInto<u32>) -> u32 {
    number.try_into().unwrap_or(u32::MAX)
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "kinds_tests.rs"]
mod kinds_tests;
