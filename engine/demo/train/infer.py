"""Greedy answers from an exported ONNX folder or from a transformers folder."""

import json
import pathlib
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from chat import END, PAD, Message, render

NUMPY_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class OnnxModel:
    """A model.onnx of the onnxruntime-genai builder on the CPU."""

    def __init__(self, folder: pathlib.Path, threads: int) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self.session = ort.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
        shape = json.loads((folder / "config.json").read_text())
        self.cache_shape = (1, shape["num_key_value_heads"], 0, shape["head_dim"])
        self.inputs = {i.name: NUMPY_TYPES.get(i.type, np.int64) for i in self.session.get_inputs()}
        self.outputs = [o.name for o in self.session.get_outputs()]

    def start(self) -> dict[str, np.ndarray]:
        """An empty cache."""
        return {
            name: np.zeros(self.cache_shape, kind)
            for name, kind in self.inputs.items()
            if name.startswith("past_key_values")
        }

    def step(
        self, ids: list[int], cache: dict[str, np.ndarray], length: int
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Logits of the last token and the grown cache; length counts all tokens including these."""
        feeds = {"input_ids": np.array([ids], np.int64), "attention_mask": np.ones((1, length), np.int64), **cache}
        results = dict(zip(self.outputs, self.session.run(None, feeds), strict=True))
        grown = {
            name.replace("present.", "past_key_values."): value for name, value in results.items() if name != "logits"
        }
        return results["logits"][0, -1], grown


class TorchModel:
    """A LlamaForCausalLM of transformers."""

    def __init__(self, folder: pathlib.Path) -> None:
        import torch
        from transformers import LlamaForCausalLM

        self.torch = torch
        self.model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def start(self) -> None:
        return None

    def step(self, ids: list[int], cache: Any, length: int) -> tuple[np.ndarray, Any]:
        with self.torch.inference_mode():
            result = self.model(input_ids=self.torch.tensor([ids]), past_key_values=cache, use_cache=True)
        return result.logits[0, -1].numpy(), result.past_key_values


class Chat:
    """Greedy answers to conversations."""

    def __init__(self, folder: pathlib.Path, threads: int = 1) -> None:
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.ends = {self.tokenizer.token_to_id(END), self.tokenizer.token_to_id(PAD)}
        self.model = OnnxModel(folder, threads) if (folder / "model.onnx").exists() else TorchModel(folder)

    def prompt(self, messages: list[Message], tools: list[dict[str, Any]] | None = None) -> list[int]:
        return self.tokenizer.encode(render(messages, tools, generate=True)).ids

    def greedy(self, ids: list[int], limit: int) -> list[int]:
        """Up to limit tokens, without the end token."""
        cache, length, made = self.model.start(), len(ids), []
        while len(made) < limit:
            logits, cache = self.model.step(ids, cache, length)
            best = int(np.argmax(logits))
            if best in self.ends:
                break
            made.append(best)
            ids, length = [best], length + 1
        return made

    def text(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=False)
