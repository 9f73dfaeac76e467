#!/usr/bin/env python3
"""Writes the demo model as vLLM takes it: `checkpoint.py FOLDER`.

The weights are those of `engine/demo/model`'s own graph in fp32, tokenizer and template its own files: both servers run
the same model.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy
import onnx
from onnx import numpy_helper
from safetensors.numpy import save_file

MODEL = Path(__file__).resolve().parents[2] / "engine/demo/model"
FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def layer(number, graph, shape):
    """One layer by Llama's names; a graph multiplies from the right and has queries, keys and values in one matrix."""
    at = f"model.layers.{number}."
    queries, keys = (shape[name] * shape["head_dim"] for name in ("num_attention_heads", "num_key_value_heads"))
    parts = numpy.split(graph[at + "attn.qkv_proj.MatMul.weight"], [queries, queries + keys], axis=1)
    tensors = {at + f"self_attn.{name}_proj.weight": part.T for name, part in zip("qkv", parts, strict=True)}
    tensors[at + "self_attn.o_proj.weight"] = graph[at + "attn.o_proj.MatMul.weight"].T
    for name in ("gate", "up", "down"):
        tensors[at + f"mlp.{name}_proj.weight"] = graph[at + f"mlp.{name}_proj.MatMul.weight"].T
    for name in ("input_layernorm", "post_attention_layernorm"):
        tensors[at + name + ".weight"] = graph[at + name + ".weight"]
    return tensors


def tensors():
    shape = json.loads((MODEL / "config.json").read_text())
    assert shape["tie_word_embeddings"], "the output matrix is the embedding"
    graph = {one.name: numpy_helper.to_array(one) for one in onnx.load(MODEL / "model.onnx").graph.initializer}
    layers = shape["num_hidden_layers"]
    found = {
        "model.embed_tokens.weight": graph["lm_head.MatMul.weight"].T,
        "model.norm.weight": graph[f"model.layers.{layers}.final_norm_layernorm.weight"],
    }
    for number in range(layers):
        found |= layer(number, graph, shape)
    return {name: numpy.ascontiguousarray(tensor) for name, tensor in found.items()}


def main():
    folder = Path(sys.argv[1])
    save_file(tensors(), folder / "model.safetensors", metadata={"format": "pt"})
    for name in FILES:
        shutil.copy(MODEL / name, folder / name)


if __name__ == "__main__":
    main()
