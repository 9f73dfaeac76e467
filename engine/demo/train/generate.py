"""Endless random conversations that teach recall, honesty, summaries, tool calls and some questions and answers.

Run it to look at samples: python generate.py --count 3 --seed 1
"""

import argparse
import json
from typing import Any

import facts
import faq
import smalltalk
import tools as toolbox
from chat import render
from source import EVAL, TRAIN, Source
from summaries import SUMMARISE, join_prefix, marker, place_summary
from talk import Talk

Sample = dict[str, Any]
TOKEN_CHARS = 3.7  # a rough number of characters per token, only for planning lengths


def tell_facts(talk: Talk, count: int, fill: float) -> None:
    """Tells some facts with fillers between them."""
    s = talk.s
    kinds = [kind for kind in facts.draw_kinds(s, count) if kind.label not in talk.known]
    while kinds:
        size = min(len(kinds), s.choice((1, 1, 1, 1, 2, 3)))
        talk.tell(kinds[:size])
        kinds = kinds[size:]
        if s.chance(fill):
            talk.filler()
        if talk.known and s.chance(0.08):
            talk.change()


def recall_talk(s: Source, budget: float) -> Sample:
    """Facts early, fillers, then questions."""
    talk = Talk(s, budget)
    talk.system()
    if s.chance(0.12):
        talk.exchange((marker(s) + "\n" + smalltalk.story(s, 1)[0], "I see."))
    if s.chance(0.92):
        tell_facts(talk, s.choice((1, 2, 3, 4, 6, 8)), s.choice((0.0, 0.3, 0.6)))
    far = s.chance(0.7)
    while far and not talk.full(0.8):
        talk.filler()
        if s.chance(0.06) and talk.known:
            talk.change()
        elif s.chance(0.05):
            talk.ask()
    for _ in range(s.randint(2, 4) + len(talk.known)):
        talk.ask()
        if s.chance(0.06):
            talk.filler()
    return talk.sample("recall")


def summary_talk(s: Source, budget: float) -> Sample:
    """Facts stand in a summary near the top; questions follow."""
    talk = Talk(s, budget)
    talk.system()
    start = len(talk.messages)
    place_summary(talk, s.choice((1, 2, 3, 4, 6, 8, 10)))
    if s.chance(0.3):
        tell_facts(talk, s.randint(1, 2), 0.3)
    while s.chance(0.5) and not talk.full(0.6):
        talk.filler()
    for _ in range(s.randint(2, 4) + len(talk.known)):
        talk.ask(0.36)
        if s.chance(0.1) and talk.known:
            talk.change()
    join_prefix(talk, start)
    return talk.sample("summary")


def writing_talk(s: Source, budget: float) -> Sample:
    """A conversation that ends with a request for its summary."""
    talk = Talk(s, budget)
    talk.system(0.5)
    start = len(talk.messages)
    if s.chance(0.35):
        place_summary(talk, s.choice((1, 2, 3, 4, 6)))
    if s.chance(0.93):
        tell_facts(talk, s.choice((1, 2, 3, 4, 5, 6, 8)), s.choice((0.0, 0.2, 0.5)))
    while s.chance(0.4) and not talk.full(0.6):
        talk.filler()
    if s.chance(0.25):
        talk.ask()
    request = s.phrase(SUMMARISE)
    talk.exchange((request, talk.summary()), "write-summary")
    if s.chance(0.3):
        talk.ask(0.2)
    join_prefix(talk, start)
    return talk.sample("write-summary")


def use_tool(talk: Talk, request: str, uses: list[toolbox.Use]) -> None:
    """A request, its calls, their results and the answer."""
    talk.user(request)
    talk.answer("", "tool-call", [use.call() for use in uses])
    for use in uses:
        talk.messages.append({"role": "tool", "content": use.result})
    talk.answer(" ".join(use.answer for use in uses), "tool-answer")
    for use in uses:
        if len(use.answer) < 90 and use.answer != toolbox.NOT_SHOWN:
            talk.notes[use.answer] = use.answer


def tool_turn(talk: Talk, offered: list[toolbox.Tool]) -> None:
    """One random turn of a conversation with tools."""
    s = talk.s
    kind = s.choices(("use", "pair", "chat", "missing", "own-order", "ask"), (60, 18, 6, 12, 5, 5))[0]
    tool = s.choice(offered)
    missing = [t for t in toolbox.TOOLS if t not in offered]
    if kind == "pair" and tool.name in toolbox.PAIRS:
        use_tool(talk, *toolbox.draw_pair(s, tool))
    elif kind == "chat":
        talk.filler()
    elif kind == "ask":
        talk.ask()
    elif kind == "missing" and missing:
        talk.exchange((toolbox.draw_use(s, s.choice(missing)).request, toolbox.NO_TOOL), "no-tool")
    elif kind == "own-order" and any(t.name == "get_order_status" for t in offered):
        own_order(talk)
    else:
        use_tool(talk, *toolbox.draw_single(s, tool))


def own_order(talk: Talk) -> None:
    """The order number was told before; the call has to use it."""
    s = talk.s
    kind = next(k for k in facts.IDENTIFIERS if k.label == "order number")
    if kind.label not in talk.known:
        talk.tell([kind])
    tool = next(t for t in toolbox.TOOLS if t.name == "get_order_status")
    arguments = {"order_id": talk.known[kind.label].value}
    result, answer = tool.result(s, arguments)
    request = s.choice(
        (
            "What is the status of my order?",
            "Where is my order?",
            "Has my order been shipped?",
            "Please check my order.",
        )
    )
    use_tool(talk, request, [toolbox.Use(tool, request, arguments, result, answer)])


def tool_talk(s: Source, budget: float) -> Sample:
    """A conversation with some tools in the system block."""
    talk = Talk(s, budget)
    offered = s.some(toolbox.TOOLS, 1, 4 if budget < 1800 else 6)
    talk.tools = [t.schema() for t in offered]
    talk.system()
    if s.chance(0.2):
        tell_facts(talk, s.randint(1, 2), 0.0)
    schema_chars = sum(len(json.dumps(t)) for t in talk.tools) * 0.6
    for _ in range(s.randint(2, 6)):
        tool_turn(talk, offered)
        if talk.chars() + schema_chars > budget:
            break
    if s.chance(0.12):
        talk.exchange((s.phrase(SUMMARISE), talk.summary()), "write-summary")
    return talk.sample("tools")


def faq_talk(s: Source, budget: float) -> Sample:
    """Questions and answers and small talk."""
    talk = Talk(s, budget)
    talk.system()
    for _ in range(s.randint(1, 7)):
        if s.chance(0.6):
            talk.exchange(faq.draw(s), "faq")
        else:
            talk.exchange(smalltalk.draw(s), "small")
        if s.chance(0.05):
            talk.ask()
    return talk.sample("faq")


BUILDERS = {
    "recall": recall_talk,
    "summary": summary_talk,
    "write-summary": writing_talk,
    "tools": tool_talk,
    "faq": faq_talk,
}
DEFAULT_MIX = {"recall": 34, "summary": 12, "write-summary": 20, "tools": 22, "faq": 12}


def conversation(s: Source, tokens: float, mix: dict[str, float] | None = None) -> Sample:
    """One random conversation of at most about that many tokens (longer ones are cut when they are packed)."""
    mix = mix or DEFAULT_MIX
    name = s.choices(list(mix), list(mix.values()))[0]
    budget = s.uniform(0.35, 1.05) * tokens * TOKEN_CHARS
    return BUILDERS[name](s, budget)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=3, help="conversations to print")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=512, help="rough length of the longest one")
    parser.add_argument("--split", choices=(TRAIN, EVAL), default=TRAIN, help="whose values and phrasings are used")
    args = parser.parse_args()
    s = Source(args.seed, args.split)
    for _ in range(args.count):
        sample = conversation(s, args.tokens)
        print(f"=== {sample['skill']}\n{render(sample['messages'], sample['tools'])}")


if __name__ == "__main__":
    main()
