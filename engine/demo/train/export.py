"""Exports a checkpoint: a transformers folder, ONNX for the CPU (fp32) and for CUDA (fp16), with one tokenizer.

python export.py --checkpoint build/run/last.pt --out build/export
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from typing import Any

import torch

from chat import TEMPLATE

BUILDS = (("model", "fp32", "cpu"), ("cuda-fp16", "fp16", "cuda"))
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
CONFIG_FILES = ("config.json", "generation_config.json")


def write_transformers(checkpoint: pathlib.Path, tokenizer: pathlib.Path, out: pathlib.Path) -> None:
    """Writes the checkpoint as a LlamaForCausalLM folder."""
    from transformers import AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM

    state = torch.load(checkpoint, map_location="cpu")
    names = AutoTokenizer.from_pretrained(tokenizer)
    end, pad = names.eos_token_id, names.pad_token_id
    config = LlamaConfig(
        **state["shape"],
        bos_token_id=pad,
        eos_token_id=end,
        pad_token_id=pad,
        tie_word_embeddings=True,
        attention_bias=False,
        mlp_bias=False,
        dtype=torch.float32,
    )
    model = LlamaForCausalLM(config)
    missing = model.load_state_dict(state["model"], strict=False).missing_keys
    assert missing == ["lm_head.weight"], missing
    model.tie_weights()
    model.generation_config = GenerationConfig(
        bos_token_id=pad, eos_token_id=[end, pad], pad_token_id=pad, do_sample=False
    )
    model.save_pretrained(out, safe_serialization=True)
    for name in TOKENIZER_FILES:
        shutil.copy(tokenizer / name, out / name)
    (out / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")


def run_builder(arguments: list[str]) -> None:
    """Runs the onnxruntime-genai builder.

    It expects transformers 5: two names of newer models are filled in, and a missing rope scaling is named default.
    """
    import onnxruntime_genai.models as models
    import transformers

    for name in ("Qwen3_5ForConditionalGeneration", "Qwen3_5MoeForConditionalGeneration"):
        if not hasattr(transformers, name):
            setattr(transformers, name, type(name, (), {}))
    sys.path.insert(0, os.path.dirname(models.__file__))
    import builder

    details = builder.get_hf_details

    def with_plain_rope(*positional: Any, **named: Any) -> dict[str, Any]:
        found = details(*positional, **named)
        if getattr(found["hf_config"], "rope_scaling", None) is None:
            found["hf_config"].rope_scaling = {"rope_type": "default"}
        return found

    builder.get_hf_details = with_plain_rope
    sys.argv = ["builder", *arguments]
    args = builder.get_args()
    options = builder.parse_extra_options(
        args.model_name,
        args.input,
        args.output,
        args.precision,
        args.execution_provider,
        args.cache_dir,
        args.extra_options,
    )
    builder.create_model(
        args.model_name, args.input, args.output, args.precision, args.execution_provider, args.cache_dir, **options
    )


def build(source: pathlib.Path, out: pathlib.Path, precision: str, provider: str) -> None:
    """One export in a process of its own, because the builder keeps state."""
    shutil.rmtree(out, ignore_errors=True)
    with tempfile.TemporaryDirectory() as cache:
        command = [
            sys.executable,
            __file__,
            "--builder",
            "-i",
            str(source),
            "-o",
            str(out),
            "-p",
            precision,
            "-e",
            provider,
            "-c",
            cache,
            "--extra_options",
            "hf_token=false",
        ]
        subprocess.run(
            command,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=dict(os.environ, HF_HUB_OFFLINE="1"),
        )
    for name in TOKENIZER_FILES + CONFIG_FILES:
        shutil.copy(source / name, out / name)


def main() -> None:
    if sys.argv[1:2] == ["--builder"]:
        return run_builder(sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--checkpoint", type=pathlib.Path, default=pathlib.Path("build/run/last.pt"), help="what train.py saved"
    )
    parser.add_argument(
        "--tokenizer", type=pathlib.Path, default=pathlib.Path("build/tokenizer"), help="folder that tokenizer.py wrote"
    )
    parser.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path("build/export"), help="folder for the three exports"
    )
    args = parser.parse_args()
    source = args.out / "transformers"
    source.mkdir(parents=True, exist_ok=True)
    write_transformers(args.checkpoint, args.tokenizer, source)
    for name, precision, provider in BUILDS:
        build(source, args.out / name, precision, provider)
        size = sum(f.stat().st_size for f in (args.out / name).iterdir())
        print(json.dumps({"folder": str(args.out / name), "bytes": size}))


if __name__ == "__main__":
    main()
