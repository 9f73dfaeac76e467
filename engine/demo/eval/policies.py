"""What a policy is worth: one early fact, a long talk, one question, under each way of shortening the talk."""

from cases import UNBOUNDED, Case, asked, tell_far_fact
from chat import render
from source import EVAL, Source
from talk import Talk
from tokens import Counter

SEED = 91_000_000
DISTANCE = 600
ANSWER_TOKENS = 64
# The comparison over many cuts: talk enough for four cuts and more, in turns that its window holds.
EPOCHS_DISTANCE = 1000
EPOCHS_WINDOW = 372  # as in config.yaml
HEADER = "x-eval-policy"
# The routes of config.yaml and what they stand for.
WHOLE = "whole"
POLICIES = {
    WHOLE: "whole conversation",
    "trim": "trimmed to the last turns",
    "extract": "extractive summary",
    "engine": "summary written by this model",
}
# The same in a window that is cut several times, each summary made of the one before it; the conversation is asked
# turn by turn.
EPOCHS = {
    "epochs-trim": "trimmed to the last turns",
    "epochs-extract": "extractive summary",
    "epochs-engine": "summary written by this model",
    "epochs-ahead": "the same, written and computed before the cut",
}


def draw(counter: Counter, count: int) -> list[Case]:
    """The conversations, the same ones at every run."""
    s = Source(SEED, EVAL)
    return [conversation(s, counter, DISTANCE) for _ in range(count)]


def draw_long(counter: Counter, count: int) -> list[Case]:
    """Longer ones, for a window that is cut many times."""
    s = Source(SEED, EVAL)
    drawn: list[Case] = []
    while len(drawn) < count:
        case = conversation(s, counter, EPOCHS_DISTANCE)
        if fits(case, counter):
            drawn.append(case)
    return drawn


def fits(case: Case, counter: Counter) -> bool:
    """Whether the window holds what no policy drops: the greeting and, at each turn, the last messages."""
    turns = (end for end, message in enumerate(case.messages, 1) if message["role"] == "user")
    kept = (case.messages[:1] + case.messages[max(1, end - 3) : end] for end in turns)
    room = EPOCHS_WINDOW - ANSWER_TOKENS
    return all(counter.count(render(messages, case.tools, generate=True)) <= room for messages in kept)


def conversation(s: Source, counter: Counter, distance: int) -> Case:
    """Opens with a greeting, because policies never drop the first user message: the fact must not stand in it."""
    talk = Talk(s, UNBOUNDED)
    talk.exchange(("Hello", "Hello! How can I help you?"))
    fact = tell_far_fact(talk, counter, distance)
    return asked(talk, fact.answer, fact.value)
