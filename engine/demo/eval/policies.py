"""What a policy is worth: one early fact, a long talk, one question, under each way of shortening the talk."""

from cases import UNBOUNDED, Case, asked, tell_far_fact
from source import EVAL, Source
from talk import Talk
from tokens import Counter

SEED = 91_000_000
DISTANCE = 600
EPOCHS_DISTANCE = 1000  # so that each conversation is cut at least four times
ANSWER_TOKENS = 64
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


def draw(counter: Counter, count: int, distance: int = DISTANCE) -> list[Case]:
    """The conversations, the same ones at every run."""
    s = Source(SEED, EVAL)
    return [conversation(s, counter, distance) for _ in range(count)]


def conversation(s: Source, counter: Counter, distance: int) -> Case:
    """Opens with a greeting, because policies never drop the first user message: the fact must not stand in it."""
    talk = Talk(s, UNBOUNDED)
    talk.exchange(("Hello", "Hello! How can I help you?"))
    fact = tell_far_fact(talk, counter, distance)
    return asked(talk, fact.answer, fact.value)
