"""The ten points, in the order in which they are to be seen."""

import statistics
import threading
import time
from dataclasses import dataclass
from typing import Callable

from sidecar import NOW, used

PASSED, FAILED, OPEN = "passed", "FAILED", "not judged"
# Bytes of the driver's own that may stay after an unload: context and cuBLAS, once a process.
RESIDUE = 32 << 20
# Tokens of a measured answer.
TOKENS = 128


@dataclass
class Point:
    what: str
    run: Callable
    judged: bool = True


def prompt(seed, length):
    return [100 + (place * 7 + seed * 131 + place * place % 13) % 1500 for place in range(length)]


def verdict(good, figures):
    return (PASSED if good else FAILED), figures


def together(calls):
    """Runs all at the same time; an error of one is the error of all."""
    results, errors = [None] * len(calls), []

    def run(place, call):
        try:
            results[place] = call()
        except Exception as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=run, args=both) for both in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results


def rate(sidecar, rows):
    """Tokens a second of so many streams that run at the same time; the second of two runs."""
    for turn in range(2):
        began = time.monotonic()
        together([lambda row=row: sidecar.complete(prompt(row + 10 * turn, 64), TOKENS) for row in range(rows)])
        seconds = time.monotonic() - began
    return rows * TOKENS / seconds


def raw_views(start, _):
    """Past and present are one buffer: what CUDA answers is what the CPU answers, in parts and beside others."""
    prompts = [prompt(seed, length) for seed, length in ((1, 3), (2, 60), (3, 400), (4, 800))]
    with start(device="cpu") as cpu:
        expected = [cpu.complete(ids, 32)[0] for ids in prompts]
    with start() as cuda:
        engine = cuda.engine()
        alone = [cuda.complete(ids, 32)[0] for ids in prompts]
        beside = together([lambda ids=ids: cuda.complete(ids, 32)[0] for ids in prompts])
    # In fp16 near equals may fall the other way, after which texts differ: the first tokens must agree.
    agree = [sum(a == b for a, b in zip(one, truth)) for one, truth in zip(alone, expected)]
    good = engine["provider"] == "CUDAExecutionProvider" and min(agree) >= 8 and beside == alone
    return verdict(good, f"{engine['provider']}; of 32 tokens as on the CPU: {agree}; beside others equal: {beside == alone}")


def shared_stream(start, _):
    """A prefix that another slot holds is copied on the device, ordered with the runs around it."""
    prefix = prompt(5, 600)
    with start(slots=4) as cuda:
        fresh = [cuda.complete(prefix + prompt(seed, 20), 24)[0] for seed in (6, 7)]
    with start(slots=4) as cuda:
        cuda.complete(prefix + prompt(8, 20), 1)
        copies = together([lambda seed=seed: cuda.complete(prefix + prompt(seed, 20), 24) for seed in (6, 7)])
    cached = [usage.get("prompt_tokens_details", {}).get("cached_tokens", 0) for _, usage in copies]
    same = [ids for ids, _ in copies] == fresh
    return verdict(same and min(cached) >= 600, f"copied {cached} of 620 tokens; answers equal: {same}")


def memory_comes_back(start, args):
    """Memory before the load and after each unload."""
    with start() as cuda:
        after = []
        for cycle in range(args.cycles):
            cuda.complete(prompt(cycle, 500), 8, keep_alive=NOW)
            while cuda.engine()["loaded"]:
                time.sleep(0.05)
            after.append(used(args.device))
        grown = after[-1] - after[0]
    mib = [value >> 20 for value in after]
    return verdict(abs(grown) <= RESIDUE, f"MiB in use after each unload: {mib}")


def buckets(start, _):
    """Eight rows decode together: what they make a second, against one."""
    with start() as cuda:
        rates = {rows: rate(cuda, rows) for rows in (1, 2, 4, 8)}
    figures = ", ".join(f"{rows} rows {value:,.0f}" for rows, value in rates.items())
    return verdict(rates[8] >= 3 * rates[1], f"tokens/s: {figures}")


def lengths(start, _):
    """A step's time with the mask as wide as a long conversation, against a short one."""
    steps = {}
    with start() as cuda:
        for held in (16, 800):
            samples = []
            for seed in range(3):
                ids = prompt(seed, held)
                cuda.complete(ids, 1)
                began = time.monotonic()
                cuda.complete(ids, TOKENS + 1)
                samples.append((time.monotonic() - began) / TOKENS)
            steps[held] = statistics.median(samples) * 1000
    figures = ", ".join(f"{value:.2f} ms at {held} tokens" for held, value in steps.items())
    return OPEN, f"no CUDA graphs are made yet; a step takes {figures}"


def cancel(start, _):
    """A client that leaves a long prompt: how soon another one is served."""
    with start(slots=1) as cuda:
        short = prompt(1, 8)
        cuda.complete(short, 1)
        began = time.monotonic()
        cuda.complete(prompt(2, 1000), 1)
        whole = time.monotonic() - began
        leaves = threading.Thread(target=lambda: cuda.stream(prompt(3, 1000), 8).close())
        leaves.start()
        leaves.join()
        began = time.monotonic()
        cuda.complete(short, 1)
        waited = time.monotonic() - began
        while any(slot["busy"] for slot in cuda.engine()["slots"]):
            time.sleep(0.01)
    return verdict(waited <= whole + 0.5, f"served {waited * 1000:.0f} ms after; the prompt alone takes {whole * 1000:.0f} ms")


def quantised(start, args):
    """An export with an int8 or fp8 cache, where `--model` names one."""
    with start() as cuda:
        per_token = cuda.engine()["kv_bytes_per_token"]
        cuda.complete(prompt(1, 200), 16)
    return OPEN, f"{args.model.name} has {per_token} bytes a token; name an int8 or fp8 export by --model and --only 1"


def paged(_start, _args):
    """PagedAttention exports are refused at load."""
    return OPEN, "PagedAttention exports are refused at load: nothing to verify yet"


def slack(start, _):
    """What the runtime's allocator keeps once nothing runs."""
    with start() as cuda:
        cuda.complete(prompt(1, 900), 8)
        sizes = cuda.engine()["memory_bytes"]
        limit = max(64 << 20, sizes["weights"] // 2)
    told = ", ".join(f"{name} {value >> 20}" for name, value in sizes.items())
    return verdict(sizes["slack"] <= limit, f"MiB at rest: {told}")


def copies(_start, _args):
    """Copies are made by the CUDA runtime, not by ONNX Runtime's CopyTensors."""
    return OPEN, "CopyTensors is not used: nothing to verify"


ALL = [
    Point("raw values over device memory, past and present the same", raw_views),
    Point("cudart by dlopen, shared stream, strided copies of rows", shared_stream),
    Point("memory before a load and after each unload", memory_comes_back),
    Point("cost of rows that decode together", buckets),
    Point("CUDA graphs with a wide mask", lengths, judged=False),
    Point("a client that leaves during a long prompt", cancel),
    Point("int8, fp8 and int4 caches", quantised, judged=False),
    Point("PagedAttention with aliased caches", paged, judged=False),
    Point("the allocator's slack at rest", slack),
    Point("CopyTensors with CUDA", copies, judged=False),
]
