"""How an answer is judged: from 0 to 1."""

from dataclasses import dataclass
from typing import Any

import facts
import smalltalk
from chat import read_calls


@dataclass(frozen=True)
class Case:
    """A conversation up to the question, and the answer that is wanted."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    wanted: str
    values: tuple[str, ...] = ()  # what the answer must name


def exact(case: Case, answer: str) -> float:
    return float(answer == case.wanted)


def has_value(case: Case, answer: str) -> float:
    """The value is in the answer as a whole word."""
    return float(any(stands_alone(answer, at, case.values[0]) for at in occurrences(answer, case.values[0])))


def occurrences(text: str, part: str) -> list[int]:
    return [at for at in range(len(text)) if text.startswith(part, at)]


def stands_alone(text: str, at: int, part: str) -> bool:
    around = text[max(at - 1, 0) : at] + text[at + len(part) : at + len(part) + 1]
    return not any(letter.isalnum() for letter in around)


def refuses(case: Case, answer: str) -> float:
    """It says that the fact was never told."""
    return float(answer.endswith(facts.UNKNOWN))


def same_calls(case: Case, answer: str) -> float:
    """All calls parse and have exactly the right names and arguments."""
    calls = read_calls(answer)
    return float(bool(calls) and calls == read_calls(case.wanted))


def values_kept(case: Case, answer: str) -> float:
    """The share of the values that a summary keeps."""
    return sum(value in answer for value in case.values) / len(case.values)


def lines_right(case: Case, answer: str) -> float:
    """The share of a summary's lines that are wanted."""
    wanted, lines = set(case.wanted.split("\n")), answer.split("\n")
    return sum(line in wanted for line in lines) / len(lines)


def is_fallback(case: Case, answer: str) -> float:
    return float(answer in smalltalk.FALLBACKS)
