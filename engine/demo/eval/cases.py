"""What is measured: conversations with held-out values, a suite for each skill."""

from collections.abc import Callable
from dataclasses import dataclass

import facts
import faq
import smalltalk
import tools as toolbox
from chat import answer_text, render
from scores import Case, exact, has_value, is_fallback, lines_right, refuses, same_calls, values_kept
from source import EVAL, Source
from summaries import SUMMARISE, join_prefix, place_summary
from talk import Talk, unknown_kind
from tokens import Counter

DISTANCES = (100, 300, 600, 900)
SEED = 90_000_000
SEEDS_BETWEEN_PHRASINGS = 500
UNBOUNDED = float("inf")
QUESTION_TOKENS = 30


@dataclass(frozen=True)
class Suite:
    """One row of the table."""

    name: str
    make: Callable[[Source], Case]
    score: Callable[[Case, str], float]
    goal: float | None = None


def draw(suites: list[Suite], suite: Suite, count: int, new_phrases: bool) -> list[Case]:
    """The cases of a suite: the same ones at every run."""
    seed = SEED + suites.index(suite) + (SEEDS_BETWEEN_PHRASINGS if new_phrases else 0)
    s = Source(seed, EVAL, new_phrases)
    return [suite.make(s) for _ in range(count)]


def asked(talk: Talk, wanted: str, *values: str) -> Case:
    return Case(talk.messages, talk.tools, wanted, values)


def with_fillers(s: Source, low: int, high: int) -> Talk:
    """A conversation that perhaps has a system prompt and so far says nothing to remember."""
    talk = Talk(s, UNBOUNDED)
    talk.system(0.5)
    talk.fillers(s.randint(low, high))
    return talk


def tell_far_fact(talk: Talk, counter: Counter, distance: int) -> facts.Fact:
    """A fact, then talk until it lies `distance` tokens back, now and then with other facts."""
    s = talk.s
    talk.tell(facts.draw_kinds(s, 1))
    fact = next(iter(talk.known.values()))
    start = counter.count(render(talk.messages))
    others = s.randint(0, 2)
    while counter.count(render(talk.messages)) - start < distance - QUESTION_TOKENS:
        if others and s.chance(0.3):
            talk.tell([unknown_kind(s, talk.known)])
            others -= 1
        else:
            talk.filler()
    talk.user(facts.ask(s, fact.kind))
    return fact


def recall(s: Source, counter: Counter, distance: int) -> Case:
    talk = with_fillers(s, 0, 0)
    fact = tell_far_fact(talk, counter, distance)
    return asked(talk, fact.answer, fact.value)


def changed_fact(s: Source) -> Case:
    talk = Talk(s, UNBOUNDED)
    kinds = facts.draw_kinds(s, 2)
    for kind in kinds:
        talk.tell([kind])
    talk.filler()
    fact = facts.tell(s, kinds[0], changed=True)
    talk.exchange((fact.said, facts.acknowledge(s, fact, changed=True)))
    talk.filler()
    talk.user(facts.ask(s, fact.kind))
    return asked(talk, fact.answer, fact.value)


def never_told(s: Source) -> Case:
    talk = with_fillers(s, 0, 0)
    for kind in facts.draw_kinds(s, s.randint(0, 4)):
        talk.tell([kind])
    talk.fillers(s.randint(0, 6))
    kind = unknown_kind(s, talk.known)
    talk.user(facts.ask(s, kind))
    return asked(talk, kind.unknown)


def from_summary(s: Source, lacking: bool) -> Case:
    """The answer stands in a summary near the top, or the summary lacks it."""
    talk = with_fillers(s, 0, 0)
    start = len(talk.messages)
    told = place_summary(talk, s.randint(2, 8))
    talk.fillers(s.randint(0, 3))
    fact = s.choice(told)
    kind = unknown_kind(s, talk.known) if lacking else fact.kind
    talk.user(facts.ask(s, kind))
    join_prefix(talk, start)
    return asked(talk, kind.unknown) if lacking else asked(talk, fact.answer, fact.value)


def written_summary(s: Source, merge: bool) -> Case:
    """The model is to summarise the facts told, perhaps over an earlier summary."""
    talk = with_fillers(s, 0, 0)
    start = len(talk.messages)
    if merge:
        place_summary(talk, s.randint(2, 4))
    for kind in facts.draw_kinds(s, s.randint(2, 5)):
        talk.tell([kind])
        talk.fillers(int(s.chance(0.4)))
    talk.user(s.phrase(SUMMARISE))
    join_prefix(talk, start)
    return asked(talk, talk.summary(), *(fact.value for fact in talk.known.values()))


def tool_request(s: Source, pair: bool = False, missing: bool = False) -> tuple[Talk, list[toolbox.Use]]:
    """A request for a tool, or for two calls of it; the tool is among those offered unless it is missing."""
    tool = s.choice([tool for tool in toolbox.TOOLS if not pair or tool.name in toolbox.PAIRS])
    offered = s.some([other for other in toolbox.TOOLS if other is not tool], 1, 4) + ([] if missing else [tool])
    s.shuffle(offered)
    talk = with_fillers(s, 0, 1)
    talk.tools = [tool.schema() for tool in offered]
    request, uses = toolbox.draw_pair(s, tool) if pair else toolbox.draw_single(s, tool)
    talk.user(request)
    return talk, uses


def tool_call(s: Source, pair: bool) -> Case:
    talk, uses = tool_request(s, pair=pair)
    return asked(talk, answer_text(toolbox.calling(uses)))


def no_fitting_tool(s: Source) -> Case:
    talk, _ = tool_request(s, missing=True)
    return asked(talk, toolbox.NO_TOOL)


def tool_result(s: Source) -> Case:
    talk, uses = tool_request(s)
    talk.messages += [toolbox.calling(uses), *({"role": "tool", "content": use.result} for use in uses)]
    return asked(talk, " ".join(use.answer for use in uses))


def question(s: Source, exchange: Callable[[Source], tuple[str, str]]) -> Case:
    """A question with one right answer."""
    talk = with_fillers(s, 0, 3)
    text, wanted = exchange(s)
    talk.user(text)
    return asked(talk, wanted)


def suites(counter: Counter) -> list[Suite]:
    """All rows of the table, in order."""
    goals = {100: 0.9, 300: 0.9, 900: 0.8}
    recalls = [
        Suite(f"recall at {far} tokens", lambda s, far=far: recall(s, counter, far), has_value, goals.get(far))
        for far in DISTANCES
    ]
    return recalls + [
        Suite("recall of a changed fact", changed_fact, has_value),
        Suite("says unknown when never told", never_told, refuses, 0.9),
        Suite("says unknown when the summary lacks it", lambda s: from_summary(s, lacking=True), refuses, 0.9),
        Suite("answer from a summary", lambda s: from_summary(s, lacking=False), has_value, 0.9),
        Suite("written summary: values kept", lambda s: written_summary(s, merge=False), values_kept, 0.8),
        Suite("written summary: lines right", lambda s: written_summary(s, merge=False), lines_right),
        Suite("merged summary: values kept", lambda s: written_summary(s, merge=True), values_kept, 0.8),
        Suite("tool call exact", lambda s: tool_call(s, pair=False), same_calls, 0.9),
        Suite("two tool calls exact", lambda s: tool_call(s, pair=True), same_calls),
        Suite("no call without a fitting tool", no_fitting_tool, exact),
        Suite("answer from a tool result", tool_result, exact, 0.85),
        Suite("questions and answers", lambda s: question(s, faq.draw), exact, 0.95),
        Suite("arithmetic", lambda s: question(s, smalltalk.arithmetic), exact),
        Suite("repeat after me", lambda s: question(s, smalltalk.repeat), exact),
        Suite("greetings, thanks", lambda s: question(s, smalltalk.pleasantry), exact),
        Suite("fallback for other requests", lambda s: question(s, smalltalk.hard), is_fallback),
    ]
