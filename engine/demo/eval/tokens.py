"""Counts tokens without a server, so that cases have the length they are meant to have.

A second, independent implementation of the demo model's tokenizer; `evaluate.py` compares it with the counts that the
server reports.
"""

import functools
import itertools
import json
import pathlib
import re

SPECIAL = re.compile(r"<\|(?:im_start|im_end|endoftext)\|>")
# The pattern of GPT-2 without its branch for numbers: every digit is a word of its own.
WORD = re.compile(r"'(?:s|t|re|ve|m|ll|d)| ?[^\W\d_]+|\d| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")
DIGIT = re.compile(r"(\d)")


class Counter:
    """Byte-level BPE of a `tokenizer.json` whose digits stand alone."""

    def __init__(self, folder: pathlib.Path) -> None:
        merges = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["merges"]
        pairs = (merge if isinstance(merge, list) else merge.split(" ") for merge in merges)
        self.ranks = {tuple(pair): rank for rank, pair in enumerate(pairs)}
        self.letters = byte_letters()
        self.word = functools.cache(self._word)

    def count(self, text: str) -> int:
        """Tokens of a rendered conversation, special tokens included."""
        parts = (part for plain in SPECIAL.split(text) for part in DIGIT.split(plain))
        return len(SPECIAL.findall(text)) + sum(self.word(word) for part in parts for word in WORD.findall(part))

    def _word(self, word: str) -> int:
        pieces = [self.letters[byte] for byte in word.encode("utf-8")]
        while len(pieces) > 1:
            pairs = enumerate(itertools.pairwise(pieces))
            rank, at = min((self.ranks.get(pair, len(self.ranks)), at) for at, pair in pairs)
            if rank == len(self.ranks):
                break
            pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]
        return len(pieces)


def byte_letters() -> list[str]:
    """The printable letter that stands for each byte in byte-level vocabularies."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]
