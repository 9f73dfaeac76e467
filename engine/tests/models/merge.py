"""Exports the tiny llama by optimum and merges it with a graph for the first run: `merge.py OUT`, after make.py."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper
from optimum.exporters.onnx import main_export
from optimum.onnx import merge_decoders


def older(source, target):
    """The model as transformers 4 reads it."""
    shutil.copytree(source, target)
    config = json.loads((target / "config.json").read_text())
    config.pop("dtype", None)
    config["rope_theta"] = config.pop("rope_parameters", {}).get("rope_theta", 10000.0)
    (target / "config.json").write_text(json.dumps(config))


def first_run(model):
    """The same graph with a past of no tokens in the place of its inputs."""
    graph = model.graph
    past = [value for value in graph.input if value.name.startswith("past_key_values")]
    graph.initializer.append(numpy_helper.from_array(np.array([0]), "first_axis"))
    nodes, empty = [], {}
    nodes.append(helper.make_node("Shape", ["input_ids"], ["ids_shape"], name="first.shape"))
    nodes.append(helper.make_node("Gather", ["ids_shape", "first_axis"], ["rows"], name="first.rows"))
    for value in past:
        dims = value.type.tensor_type.shape.dim
        sizes = np.array([dims[1].dim_value, 0, dims[3].dim_value])
        graph.initializer.append(numpy_helper.from_array(sizes, f"{value.name}.sizes"))
        empty[value.name] = f"{value.name}.empty"
        zero = numpy_helper.from_array(np.array([0], dtype=np.float32))
        nodes += [
            helper.make_node("Concat", ["rows", f"{value.name}.sizes"], [f"{value.name}.shape"], axis=0,
                             name=f"{value.name}.join"),
            helper.make_node("ConstantOfShape", [f"{value.name}.shape"], [empty[value.name]], value=zero,
                             name=f"{value.name}.none"),
        ]
        graph.input.remove(value)
    for node in graph.node:
        node.input[:] = [empty.get(name, name) for name in node.input]
    for place, node in enumerate(nodes):
        graph.node.insert(place, node)
    return model


def main(out):
    source, work, target = out / "transformers/llama4", out / "llama-past", out / "llama-merged"
    older(out / "transformers/llama", source)
    main_export(str(source), output=str(work), task="text-generation-with-past", framework="pt",
                do_validation=False, no_post_process=True, device="cpu")
    onnx.save(first_run(onnx.load(work / "model.onnx")), work / "first.onnx")
    (target / "onnx").mkdir(parents=True)
    merge_decoders(work / "first.onnx", work / "model.onnx", strict=False,
                   save_path=target / "onnx/decoder_model_merged.onnx")
    shutil.copy(source / "config.json", target)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
