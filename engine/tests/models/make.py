"""Makes the tiny models and their truth: `make.py OUT`. README.md says of what."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
import transformers
from onnx import TensorProto, helper, numpy_helper

VOCAB = 512
TOKENIZER = Path(__file__).parents[2] / "demo/model"
SIZES = {
    "vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2,
    "num_key_value_heads": 1, "max_position_embeddings": 1024, "tie_word_embeddings": False,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}
# Weights are made larger than they are initialised, so that tokens differ by more than rounding.
GAIN = 4.0
# The least margin of a case: below it, rounding may choose.
MARGIN = 2e-3


def configurations():
    """Each model's configuration, and the window that its truth may use."""
    sliding = ["sliding_attention"]
    yield "mistral-window", transformers.MistralConfig(
        **SIZES, num_hidden_layers=3, head_dim=16, sliding_window=64, layer_types=3 * sliding), 1024
    yield "qwen2-window", transformers.Qwen2Config(
        **SIZES, num_hidden_layers=4, use_sliding_window=True, sliding_window=64, max_window_layers=1,
        layer_types=[*sliding, "full_attention", *sliding, *sliding]), 1024
    linear = {"num_value_heads": 2, "num_key_heads": 2, "key_head_dim": 16, "value_head_dim": 16, "conv_kernel_dim": 4}
    text = {**SIZES, "num_hidden_layers": 4, "head_dim": 32, "tie_word_embeddings": True}
    text |= {f"linear_{name}": size for name, size in linear.items()}
    text["rope_parameters"] = {
        "rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25,
        "mrope_section": [2, 1, 1], "mrope_interleaved": True}
    vision = {"depth": 1, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 32,
              "patch_size": 16, "num_position_embeddings": 16}
    yield "qwen3.5", transformers.Qwen3_5Config(
        text_config=text, vision_config=vision, tie_word_embeddings=True), 1024
    longrope = {"type": "longrope", "short_factor": [1.0] * 8, "long_factor": [1.0 + 0.5 * i for i in range(8)]}
    yield "phi3-longrope", transformers.Phi3Config(
        **(SIZES | {"num_key_value_heads": 2}), num_hidden_layers=2, original_max_position_embeddings=256,
        rope_scaling=longrope), 256
    yield "lfm2-plain", transformers.Lfm2Config(
        **SIZES, num_hidden_layers=3, layer_types=["conv", "full_attention", "conv"], conv_L_cache=3,
        block_multiple_of=32), 1024
    yield "llama", transformers.LlamaConfig(**SIZES, num_hidden_layers=2), 1024


def model_of(config):
    torch.manual_seed(7)
    if isinstance(config, transformers.Qwen3_5Config):
        kind = transformers.Qwen3_5ForConditionalGeneration
        model = kind._from_config(config, dtype=torch.float32, attn_implementation="eager")
    else:
        kind = transformers.AutoModelForCausalLM
        model = kind.from_config(config, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        for weight in (weight for weight in model.parameters() if weight.dim() > 1):
            weight.mul_(GAIN)
    return model.eval()


def greedy(logits_of, ids, count):
    """The likeliest tokens one after the other, each from the whole prompt, and their margins."""
    ids, made, margins = list(ids), [], []
    for _ in range(count):
        logits = logits_of(ids)
        second, first = np.sort(logits)[-2:]
        made.append(int(logits.argmax()))
        margins.append(round(float(first - second), 4))
        ids.append(made[-1])
    return made, margins


def by_transformers(model):
    def logits(ids):
        with torch.no_grad():
            return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].numpy()
    return logits


def by_onnxruntime(path):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    types = {"tensor(float)": np.float32, "tensor(int8)": np.int8}

    def logits(ids):
        feed = {"input_ids": np.array([ids]), "attention_mask": np.ones((1, len(ids)), dtype=np.int64)}
        for cache in (one for one in session.get_inputs() if one.name.startswith("past")):
            feed[cache.name] = np.zeros([1, cache.shape[1], 0, 16], dtype=types[cache.type])
        return session.run(["logits"], feed)[0][0, -1]
    return logits


def truth(logits_of, by, window):
    generator = torch.Generator().manual_seed(1)
    lengths = (3, 40, 100, 180) if window < 300 else (3, 40, 100, 200, 300)

    def draw(count):
        return torch.randint(3, VOCAB, (count,), generator=generator).tolist()

    def case(name, candidates, **more):
        for ids in candidates:
            made, margins = greedy(logits_of, ids, 24)
            if min(margins) >= MARGIN and len(set(made)) >= 4:
                return {"id": name, **more, "ids": ids, "n_prompt": len(ids), "greedy": made, "margins": margins}
        raise SystemExit(f"{name}: no prompt is decided clearly")

    def drawn(count):
        return (draw(count) for _ in range(40))

    cases = [case(f"p{place}", drawn(count)) for place, count in enumerate(lengths)]
    base = cases[2]
    turns = (base["ids"] + base["greedy"] + new for new in drawn(9))
    extra = [case("continue", turns, base="p2", drop=None)]
    base = cases[-1]
    cut = len(base["ids"]) // 4
    for low in range(cut, 2 * cut):
        ids = base["ids"][:low] + base["ids"][low + cut:]
        made, margins = greedy(logits_of, ids, 24)
        if min(margins) >= MARGIN:
            extra.append({"id": "trim_middle", "base": base["id"], "drop": [low, low + cut], "ids": ids,
                          "n_prompt": len(ids), "greedy": made, "margins": margins})
            return {"by": by, "cases": cases, "extra": extra}
    raise SystemExit("no cut prompt is decided clearly")


def plain_convolutions(model):
    """Takes CausalConvWithState apart; its states are named as transformers.js names them."""
    graph, nodes, renamed = model.graph, [], {}
    constant = lambda name, value: graph.initializer.append(numpy_helper.from_array(np.array([value]), name))
    for node in graph.node:
        if node.op_type != "CausalConvWithState":
            nodes.append(node)
            continue
        values, weight, _, past = node.input[:4]
        layer = past.split(".")[1]
        renamed |= {past: f"past_conv.{layer}", node.output[1]: f"present_conv.{layer}"}
        channels, _, width = next(one for one in graph.initializer if one.name == weight).dims
        for name, value in (("start", 1 - width), ("end", 1 << 31), ("axis", 2)):
            constant(f"{name}.{layer}", value)
        joined, cut = f"joined.{layer}", [f"{name}.{layer}" for name in ("start", "end", "axis")]
        nodes += [
            helper.make_node("Concat", [f"past_conv.{layer}", values], [joined], axis=2),
            helper.make_node("Conv", [joined, weight], [node.output[0]], group=channels, kernel_shape=[width]),
            helper.make_node("Slice", [joined, *cut], [f"present_conv.{layer}"]),
        ]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    for value in [*graph.input, *graph.output]:
        value.name = renamed.get(value.name, value.name)
    return model


def quantised_caches(model):
    graph = model.graph
    for node in (node for node in graph.node if node.op_type == "GroupQueryAttention"):
        node.input.extend([""] * (12 - len(node.input)))
        for side in ("k", "v"):
            name = f"{node.name}.{side}_scale"
            graph.initializer.append(numpy_helper.from_array(np.array([0.35], dtype=np.float32), name))
            node.input.append(name)
            node.attribute.append(helper.make_attribute(f"{side}_quant_type", "PER_TENSOR"))
        node.attribute.append(helper.make_attribute("kv_cache_bit_width", 8))
    for value in [*graph.input, *graph.output]:
        if value.name.startswith(("past_key_values", "present")):
            value.type.tensor_type.elem_type = TensorProto.INT8
    return model


def build(source, target, precision):
    command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-m", source, "-o", target,
               "-p", precision, "-e", "cpu", "-c", f"{target}.cache"]
    subprocess.run([str(part) for part in command], check=True)
    for other in (*target.glob("tokenizer*"), *target.glob("chat_template*")):
        other.unlink()


def write(file, told):
    file.write_text(json.dumps(told, separators=(",", ":")))


def by_runtime(graph):
    return truth(by_onnxruntime(graph), f"onnxruntime {onnxruntime.__version__}, each token from the whole prompt", 1024)


def variants(out, source):
    """What is made of the export of llama."""
    build(source, out / "llama", "fp32")
    target = out / "llama-int8-kv"
    target.mkdir()
    onnx.save(quantised_caches(onnx.load(out / "llama/model.onnx")), target / "model.onnx")
    shutil.copy(out / "llama/genai_config.json", target)
    write(target / "truth.json", by_runtime(target / "model.onnx"))
    target = out / "llama-q4"
    build(source, out / "llama-int4", "int4")
    (target / "onnx").mkdir(parents=True)
    graph = target / "onnx/model_q4.onnx"
    onnx.save(onnx.load(out / "llama-int4/model.onnx"), graph, save_as_external_data=True,
              location="model_q4.onnx_data", size_threshold=64)
    shutil.copy(source / "config.json", target)
    write(target / "truth.json", by_runtime(graph))


def main(out):
    # Tiny models: threads would wait for each other.
    torch.set_num_threads(1)
    for name, config, window in configurations():
        source = out / "transformers" / name
        model = model_of(config)
        model.save_pretrained(source)
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(TOKENIZER / file, source)
        told = truth(by_transformers(model), f"transformers {transformers.__version__}", window)
        if name == "llama":
            (out / "llama-merged").mkdir()
            write(out / "llama-merged/truth.json", told)
            variants(out, source)
            continue
        build(source, out / name, "fp32")
        if name == "lfm2-plain":
            graph = plain_convolutions(onnx.load(out / name / "model.onnx"))
            (out / name / "model.onnx.data").unlink()
            onnx.save(graph, out / name / "model.onnx")
        write(out / name / "truth.json", told)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
