"""The recorded samples, asked again: the answers must be the same, token for token."""

import json
import pathlib
from dataclasses import dataclass

from client import Client

ANSWER_TOKENS = 200


@dataclass(frozen=True)
class Replayed:
    """A sample and how this run differs from it; empty where it does not."""

    name: str
    difference: str


def replay(client: Client, folder: pathlib.Path) -> list[Replayed]:
    """Asks all samples of a folder, in the order of their names."""
    samples = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    return [Replayed(sample["name"], difference(client, sample)) for sample in samples]


def difference(client: Client, sample: dict) -> str:
    reply = client.answer(sample["messages"], sample["tools"], ANSWER_TOKENS, with_ids=True)
    if reply.prompt_tokens != sample["prompt_tokens"]:
        return f"prompt of {reply.prompt_tokens} tokens, recorded {sample['prompt_tokens']}"
    made, wanted = reply.ids or [], sample["expected_tokens"]
    # The end token is no part of a recorded answer; servers differ in whether they give it.
    if made != wanted and (reply.finish == "length" or made[:-1] != wanted):
        return f"{reply.text!r}, recorded {sample['expected']!r}"
    return ""
