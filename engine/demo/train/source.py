"""A seeded source of random choices that keeps training and evaluation apart.

Values (names, identifiers, paths ...) and phrasings are split by a hash of their text:
about one value in eight and one phrasing in eight never occur in training.
"""

import random
import zlib
from collections.abc import Callable, Sequence
from typing import Any

TRAIN, EVAL = "train", "eval"
HELD_OUT_BUCKET = 7
BUCKETS = 8
MIN_PHRASES_TO_SPLIT = 4


def is_held_out(text: str) -> bool:
    """Whether a value or phrasing belongs to the evaluation only."""
    return zlib.crc32(text.encode("utf-8")) % BUCKETS == HELD_OUT_BUCKET


class Source(random.Random):
    """Random choices for one split; `new_phrases` makes evaluation use held-out phrasings where there are any."""

    def __init__(self, seed: int, split: str = TRAIN, new_phrases: bool = False) -> None:
        super().__init__(seed)
        self.split = split
        self.new_phrases = new_phrases

    def chance(self, probability: float) -> bool:
        return self.random() < probability

    def value(self, make: Callable[["Source"], str]) -> str:
        """A value of the split: held out in evaluation, never held out in training."""
        for _ in range(60):
            text = make(self)
            if is_held_out(text) == (self.split == EVAL):
                return text
        return text

    def phrase(self, phrases: Sequence[str]) -> str:
        """One of several phrasings, leaving the held-out ones to evaluation."""
        if len(phrases) < MIN_PHRASES_TO_SPLIT:
            return self.choice(phrases)
        held_out = [p for p in phrases if is_held_out(p)]
        seen = [p for p in phrases if not is_held_out(p)]
        if self.split == EVAL and self.new_phrases and held_out:
            return self.choice(held_out)
        return self.choice(seen or phrases)

    def some(self, items: Sequence[Any], low: int, high: int) -> list[Any]:
        """Between low and high different items in random order."""
        count = min(len(items), self.randint(low, high))
        return self.sample(items, count)
