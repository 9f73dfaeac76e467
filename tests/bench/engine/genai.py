"""onnxruntime-genai, driven by lines of JSON: what `make bench-engine` compares the engine with.

A line in is `{"model": FOLDER, "threads": N}`, which loads a model, or `{"prompts": [[ID, ..], ..], "tokens": N}`,
which answers the prompts one after the other, greedily, with N tokens each. A line out tells how it went: seconds of
the whole, and for each prompt seconds of its prefill and of the steps after its first token, and the tokens.
"""

import json
import sys
import time

import onnxruntime_genai as og


def load(folder: str, threads: int) -> og.Model:
    config = og.Config(folder)
    options = {"intra_op_num_threads": threads}
    config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
    return og.Model(config)


def answer(model: og.Model, prompt: list[int], tokens: int) -> dict:
    params = og.GeneratorParams(model)
    # Room for no more than it takes, and no end before that.
    length = len(prompt) + tokens
    params.set_search_options(max_length=length, min_length=length, do_sample=False)
    generator = og.Generator(model, params)
    started = time.perf_counter()
    generator.append_tokens(prompt)
    prefilled = time.perf_counter()
    generator.generate_next_token()
    first = time.perf_counter()
    for _ in range(tokens - 1):
        generator.generate_next_token()
    ended = time.perf_counter()
    made = [int(token) for token in generator.get_sequence(0)[len(prompt) :]]
    return {"prefill": prefilled - started, "decode": ended - first, "tokens": made}


def main() -> None:
    model = None
    for line in sys.stdin:
        asked = json.loads(line)
        started = time.perf_counter()
        if "model" in asked:
            model = load(asked["model"], asked["threads"])
            said = {"version": og.__version__}
        else:
            answers = [answer(model, prompt, asked["tokens"]) for prompt in asked["prompts"]]
            said = {"answers": answers}
        print(json.dumps(said | {"seconds": time.perf_counter() - started}), flush=True)


if __name__ == "__main__":
    main()
