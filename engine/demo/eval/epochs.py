"""A conversation asked turn by turn, as it grows, so that its policy cuts it again and again."""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from client import Client, Reply
from policies import ANSWER_TOKENS, HEADER
from scores import Case, has_value, refuses

PAUSE_SECONDS = 0.2  # between turns: in it the sidecar prepares for the next cut, where its policy says so
DROPPED = re.compile(r"(?:summarize|fit_context)=(\d+)")


@dataclass(frozen=True)
class Grown:
    """What became of one conversation."""

    answered: float
    unknown: float
    cuts: int
    prompt_tokens: int
    reused: float  # share of the prompts right after a cut whose keys and values were there already
    answer: str


def grow(client: Client, case: Case, route: str) -> Grown:
    """Sends the conversation up to each of its user messages, in order; the last answer counts."""
    dropped, cuts, shares = 0, 0, []
    for end, message in enumerate(case.messages, 1):
        if message["role"] != "user":
            continue
        reply = client.answer(case.messages[:end], case.tools, ANSWER_TOKENS, {HEADER: route})
        time.sleep(PAUSE_SECONDS)
        gone = dropped_by(reply)
        if gone > dropped:
            cuts += 1
            shares.append(reply.cached_tokens / reply.prompt_tokens)
        dropped = gone
    reused = sum(shares) / len(shares) if shares else 0.0
    text = reply.text
    return Grown(has_value(case, text), refuses(case, text), cuts, reply.prompt_tokens, reused, text)


def dropped_by(reply: Reply) -> int:
    """Messages that the policy left out of a prompt."""
    return sum(int(count) for count in DROPPED.findall(reply.actions))


def grow_all(client: Client, drawn: list[Case], route: str, at_once: int) -> list[Grown]:
    """All conversations, `at_once` side by side."""
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(lambda case: grow(client, case, route), drawn))
