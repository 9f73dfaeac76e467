"""Turns endless conversations into batches for training."""

from typing import Any

import torch
from tokenizers import Tokenizer

from chat import segments
from generate import conversation
from source import Source

POOL = 160
OTHER_SHARE = 0.1


def encode(tokenizer: Tokenizer, sample: dict[str, Any], limit: int) -> tuple[list[int], list[bool]]:
    """Token ids of a conversation and whether each token is the assistant's own."""
    ids, own = [], []
    for text, learn in segments(sample["messages"], sample["tools"]):
        part = tokenizer.encode(text).ids
        ids += part
        own += [learn] * len(part)
        if len(ids) >= limit:
            break
    return ids[:limit], own[:limit]


class Packer:
    """Batches of conversations of similar length, padded on the right, so that plain causal attention is enough."""

    def __init__(self, tokenizer: Tokenizer, source: Source, mix: dict[str, float] | None = None) -> None:
        self.tokenizer, self.source, self.mix = tokenizer, source, mix
        self.pool: list[tuple[list[int], list[bool]]] = []  # by length

    def refill(self, length: int) -> None:
        while len(self.pool) < POOL:
            share = self.source.choice((0.4, 0.8, 1.0, 1.0))
            sample = conversation(self.source, length * share, self.mix)
            self.pool.append(encode(self.tokenizer, sample, length + 1))
        self.pool.sort(key=lambda c: len(c[0]))

    def take(self, tokens: int) -> list[tuple[list[int], list[bool]]]:
        """Neighbours in length, at most that many tokens with their padding."""
        end = self.source.randint(1, len(self.pool))
        start = end - 1
        width = len(self.pool[end - 1][0])
        while start > 0 and (end - start + 1) * width <= tokens:
            start -= 1
        while end < len(self.pool) and (end - start + 1) * len(self.pool[end][0]) <= tokens:
            end += 1
        chosen = self.pool[start:end]
        del self.pool[start:end]
        return chosen

    def batch(self, tokens: int, length: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Inputs, places that are trained on, and their targets.

        The assistant's tokens are all trained on, other tokens with a probability that stands for their weight.
        """
        self.refill(length)
        chosen = self.take(tokens)
        width = max(len(ids) for ids, _ in chosen)
        ids = torch.zeros(len(chosen), width, dtype=torch.long)
        learn = torch.zeros(len(chosen), width, dtype=torch.bool)
        for row, (tokens_of_row, own) in enumerate(chosen):
            ids[row, : len(tokens_of_row)] = torch.tensor(tokens_of_row)
            learn[row, : len(own)] = torch.tensor([o or self.source.random() < OTHER_SHARE for o in own])
        places = learn[:, 1:].flatten().nonzero().flatten()
        return ids[:, :-1], places, ids[:, 1:].flatten()[places]
