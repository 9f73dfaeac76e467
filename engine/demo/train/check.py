"""Checks an export: the ONNX model against transformers token for token, and that the fp16 model loads and answers.

python check.py --export build/export --count 20
"""

import argparse
import pathlib
from collections.abc import Iterator

import numpy as np

from generate import conversation
from infer import Chat
from source import EVAL, Source

CHECK_SEED = 77_000_000
LIMIT = 64


def prompts(chat: Chat, count: int) -> Iterator[list[int]]:
    """Token ids of conversations up to one of their answers."""
    s = Source(CHECK_SEED, EVAL)
    for _ in range(count):
        sample = conversation(s, 900)
        at = s.choice(sample["skills"])[0]
        yield chat.prompt(sample["messages"][:at], sample["tools"])


def compare(one: Chat, other: Chat, ids: list[int]) -> tuple[bool, float]:
    """Whether both models give the same greedy tokens, and the largest difference of the logits after the prompt."""
    first = one.model.step(ids, one.model.start(), len(ids))[0].astype(np.float64)
    second = other.model.step(ids, other.model.start(), len(ids))[0].astype(np.float64)
    return one.greedy(ids, LIMIT) == other.greedy(ids, LIMIT), float(np.abs(first - second).max())


def report(name: str, one: Chat, other: Chat, count: int) -> int:
    """Prints how alike two models are and gives the number of equal conversations."""
    results = [compare(one, other, ids) for ids in prompts(one, count)]
    same, apart = sum(equal for equal, _ in results), max(difference for _, difference in results)
    print(f"{name}: {same} of {count} conversations equal token for token, logits at most {apart:.2g} apart")
    return same


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--export", type=pathlib.Path, default=pathlib.Path("build/export"), help="folder that export.py wrote"
    )
    parser.add_argument("--count", type=int, default=20, help="conversations to compare")
    args = parser.parse_args()
    reference = Chat(args.export / "transformers")
    same = report("fp32 against transformers", Chat(args.export / "model"), reference, args.count)
    report("fp16 on the CPU against transformers", Chat(args.export / "cuda-fp16"), reference, args.count)
    if same < args.count:
        raise SystemExit("the fp32 export differs from transformers")


if __name__ == "__main__":
    main()
