//! What the JSON files of a model folder say, and which file holds the graph.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::LoadError;
use crate::request::Sampling;

/// What a graph's name ends with, as transformers.js writes its kinds of weights, in the order they are looked for where
/// genai_config.json names no graph: the most exact ones first, and integers before what the CPU computes in halves.
const KINDS: [&str; 12] = [
    "",
    "_fp16",
    "_int8",
    "_uint8",
    "_quantized",
    "_q4",
    "_q4f16",
    "_bnb4",
    "_q2",
    "_q2f16",
    "_q1",
    "_q1f16",
];
/// What a graph's name begins with, and the folders it may be in.
const NAMES: [&str; 4] = ["model", "onnx/model", "decoder_model_merged", "onnx/decoder_model_merged"];

/// The JSON files of a folder; null where there is none.
pub(super) struct Folder {
    path: PathBuf,
    genai: Value,
    config: Value,
    generation: Value,
}

impl Folder {
    pub(super) fn read(path: &Path) -> Result<Self, LoadError> {
        if !path.is_dir() {
            let hint =
                "`model` must name a folder with *.onnx, tokenizer.json and a configuration".to_owned();
            return Err(LoadError::Missing { path: path.to_owned(), hint });
        }
        Ok(Self {
            path: path.to_owned(),
            genai: json(&path.join("genai_config.json"))?,
            config: json(&path.join("config.json"))?,
            generation: json(&path.join("generation_config.json"))?,
        })
    }

    /// The graph's file.
    pub(super) fn graph(&self) -> Result<PathBuf, LoadError> {
        if let Some(name) = self.genai.pointer("/model/decoder/filename").and_then(Value::as_str) {
            let path = self.path.join(name);
            return match path.is_file() {
                true => Ok(path),
                false => {
                    let hint = "genai_config.json names it: copy the whole folder".to_owned();
                    Err(LoadError::Missing { path, hint })
                }
            };
        }
        let names = KINDS.iter().flat_map(|kind| NAMES.iter().map(move |name| format!("{name}{kind}.onnx")));
        let found = names.map(|name| self.path.join(name)).find(|path| path.is_file());
        found.ok_or_else(|| LoadError::Missing {
            path: self.path.join("model.onnx"),
            hint: "the folder holds neither model.onnx nor onnx/model.onnx, nor one of its kinds such as \
                   model_q4.onnx: export or download the model's graph"
                .to_owned(),
        })
    }

    /// What transformers' own configuration says; null where there is none.
    pub(super) fn config(&self) -> &Value {
        if self.config["text_config"].is_object() { &self.config["text_config"] } else { &self.config }
    }

    /// Numbers of one attention head.
    pub(super) fn head_dim(&self) -> Option<u64> {
        let told = number(&self.genai, "/model/decoder/head_size").or_else(|| self.number("head_dim"));
        told.or_else(|| Some(self.number("hidden_size")? / self.number("num_attention_heads")?.max(1)))
    }

    /// Tokens that the model was made for.
    pub(super) fn context(&self) -> Option<u64> {
        number(&self.genai, "/model/context_length").or_else(|| self.number("max_position_embeddings"))
    }

    /// Query heads of a layer.
    pub(super) fn query_heads(&self) -> Option<u64> {
        number(&self.genai, "/model/decoder/num_attention_heads")
            .or_else(|| self.number("num_attention_heads"))
    }

    /// Tokens up to which rotary factors hold that are traced into a graph of plain operations: longrope has other
    /// ones beyond, which such a graph does not switch to.
    pub(super) fn fixed_rope(&self) -> Option<u64> {
        let kind = |name: &str| self.config["rope_scaling"][name].as_str();
        match kind("rope_type").or_else(|| kind("type")) {
            Some("longrope" | "su") => self
                .number("original_max_position_embeddings")
                .or_else(|| self.number("rope_scaling/original_max_position_embeddings")),
            _ => None,
        }
    }

    /// Size of the vocabulary.
    pub(super) fn vocab(&self) -> Option<u64> {
        number(&self.genai, "/model/vocab_size").or_else(|| self.number("vocab_size"))
    }

    /// The architecture's name.
    pub(super) fn family(&self) -> Option<String> {
        let told = self.config.get("model_type").or_else(|| self.genai.pointer("/model/type"));
        told.and_then(Value::as_str).map(str::to_owned)
    }

    /// Ids that end an answer.
    pub(super) fn eos(&self) -> Vec<u32> {
        let told = [
            self.genai.pointer("/model/eos_token_id"),
            self.generation.get("eos_token_id"),
            self.config.get("eos_token_id"),
        ];
        let told = told.into_iter().flatten().find(|value| !value.is_null());
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        match told {
            Some(Value::Array(ids)) => ids.iter().filter_map(id).collect(),
            Some(one) => id(one).into_iter().collect(),
            None => Vec::new(),
        }
    }

    /// How the model's makers choose tokens: the likeliest, unless they say `do_sample`.
    pub(super) fn sampling(&self) -> Sampling {
        let said = if self.generation.is_object() { &self.generation } else { &self.genai["search"] };
        let default = Sampling::default();
        let float = |name: &str, default: f32| said[name].as_f64().map_or(default, |value| value as f32);
        if said["do_sample"].as_bool() != Some(true) {
            return Sampling { repetition_penalty: float("repetition_penalty", 1.0), ..Sampling::greedy() };
        }
        Sampling {
            temperature: float("temperature", default.temperature),
            top_p: float("top_p", default.top_p),
            top_k: said["top_k"].as_u64().and_then(|k| u32::try_from(k).ok()).unwrap_or(default.top_k),
            min_p: float("min_p", default.min_p),
            repetition_penalty: float("repetition_penalty", default.repetition_penalty),
            ..default
        }
    }

    fn number(&self, name: &str) -> Option<u64> {
        number(&self.config, &format!("/{name}"))
            .or_else(|| number(&self.config, &format!("/text_config/{name}")))
    }
}

fn number(value: &Value, pointer: &str) -> Option<u64> {
    value.pointer(pointer).and_then(Value::as_u64)
}

fn json(path: &Path) -> Result<Value, LoadError> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| LoadError::Damaged {
            path: path.to_owned(),
            reason: format!("it is no JSON ({e})"),
        }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Value::Null),
        Err(e) => Err(LoadError::Read { path: path.to_owned(), reason: e.to_string() }),
    }
}
