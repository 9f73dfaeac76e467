"""A conversation that is being written, and what is known in it."""

from typing import Any

import facts
import faq
import smalltalk
import values as v
from facts import Fact, Kind
from source import Source

PERSONAS = (
    "You are a helpful assistant.",
    "You are a helpful assistant.",
    "You are a friendly assistant.",
    "You help users with short answers.",
    "You are the assistant of the {t} team at {c}.",
    "You are the support assistant of {c}.",
    "You work for {c} and answer customers.",
    "You are the on-call helper of team {t}.",
    "You are a coding assistant for project {t}.",
)
RULES = (
    "Answer in one or two sentences.",
    "Be polite.",
    "Never guess.",
    "Do not invent facts.",
    "Use plain English.",
    "Keep names exactly as written.",
    "Say so when you do not know something.",
    "Do not share passwords.",
    "Use the tools when they help.",
    "Call a tool only when it is needed.",
    "Copy numbers exactly.",
    "Ask for missing details.",
    "Do not use emojis.",
    "Answer in English.",
    "Keep a calm tone.",
    "Mention the ticket number in every report.",
    "Escalate outages to the on-call engineer.",
    "Refunds need the approval of a manager.",
    "The office is open from 9:00 to 17:00.",
    "Deployments are not allowed on Friday.",
    "Logs are kept for 30 days.",
    "Staging is reset every night.",
    "Production changes need a change number.",
    "Do not discuss prices.",
    "Never delete data.",
    "Customers are from {c}.",
    "The main site is in {c}.",
    "Every answer must be correct.",
    "Summaries must keep identifiers.",
    "Treat customer data as confidential.",
    "If a tool fails, say it.",
    "Prefer short lists.",
    "The team meets every {d}.",
)
STYLES = 4  # of a system prompt: the persona alone, with some rules in a row (twice as likely), or with a list of rules
CLOSE_KINDS = (
    {"home city", "home town", "destination", "favourite city"},
    {"release budget", "budget"},
    {"deadline", "release date"},
    {"team", "project name"},
    {"backup path", "backup folder"},
    {"project name", "code"},
)
NOTHING = "No facts were told so far."


class Talk:
    """A conversation that grows by exchanges, with the facts that are visible in it."""

    def __init__(self, s: Source, budget: float) -> None:
        self.s = s
        self.budget = budget  # characters
        self.messages: list[dict[str, Any]] = []
        self.tools: list[dict[str, Any]] = []
        self.known: dict[str, Fact] = {}  # by label, the newest value, in the order of telling
        self.notes: dict[str, str] = {}  # the lines of a summary
        self.skills: list[tuple[int, str]] = []  # (index of an assistant message, what it shows)
        self.asked: set[str] = set()  # labels of facts that were asked for
        self.prefix = ""  # a summary that waits for the next user message

    def chars(self) -> int:
        return sum(len(message.get("content") or "") + 40 for message in self.messages)

    def full(self, share: float = 1.0) -> bool:
        return self.chars() > self.budget * share

    def user(self, content: str) -> None:
        self.messages.append({"role": "user", "content": content})

    def answer(
        self, content: str, skill: str = "other", calls: list[dict[str, Any]] | None = None, learn: bool = True
    ) -> None:
        """An answer; one that is not to be learned is only context."""
        message: dict[str, Any] = {"role": "assistant", "content": content}
        if not learn:
            message["learn"] = False
        if calls:
            message["tool_calls"] = calls
        self.skills.append((len(self.messages), skill))
        self.messages.append(message)

    def exchange(self, pair: tuple[str, str], skill: str = "other") -> None:
        self.user(pair[0])
        self.answer(pair[1], skill)

    def note(self, fact: Fact) -> None:
        """From now on the fact can be asked for and belongs into a summary, behind the others."""
        label = fact.kind.label
        for told in (self.known, self.notes):
            told.pop(label, None)
        self.asked.discard(label)
        self.known[label] = fact
        self.notes[label] = fact.line

    def summary(self) -> str:
        """The summary that the model should write now."""
        return "\n".join("- " + line for line in self.notes.values()) or NOTHING

    def system(self, chance: float = 0.6) -> None:
        if self.s.chance(chance):
            self.messages.append({"role": "system", "content": system_prompt(self.s)})

    def tell(self, kinds: list[Kind]) -> None:
        """The user tells one fact or several in one message."""
        s = self.s
        told = [facts.tell(s, kind) for kind in kinds]
        text = told[0].said if len(told) == 1 else " ".join(closed(fact.said) for fact in told)
        if s.chance(0.16):
            story = smalltalk.story(s, s.choice((1, 1, 2)))[0]
            text = f"{text} {story}" if s.chance(0.5) else f"{story} {text}"
        self.user(text)
        self.answer(facts.acknowledge(s, told[0]) if len(told) == 1 else s.choice(facts.ACKS))
        for fact in told:
            self.note(fact)

    def change(self) -> None:
        """A fact told before gets a new value."""
        kind = self.s.choice(list(self.known.values())).kind
        fact = facts.tell(self.s, kind, changed=True)
        self.exchange((fact.said, facts.acknowledge(self.s, fact, changed=True)))
        self.note(fact)

    def ask(self, unknown_share: float = 0.36) -> None:
        """A question about a fact, told or not."""
        if not self.known or self.s.chance(unknown_share):
            kind = unknown_kind(self.s, self.known)
            self.exchange((facts.ask(self.s, kind), kind.unknown), "unknown")
        elif len(self.known) > 1 and self.s.chance(0.08):
            self.ask_for_two()
        else:
            self.ask_known()

    def ask_known(self) -> None:
        fresh = [fact for fact in self.known.values() if fact.kind.label not in self.asked]
        fact = self.s.choice(fresh or list(self.known.values()))
        self.asked.add(fact.kind.label)
        self.exchange((facts.ask(self.s, fact.kind), fact.answer), "recall")

    def ask_for_two(self) -> None:
        one, two = self.s.sample(list(self.known.values()), 2)
        question = f"{facts.ask(self.s, one.kind)} And {lower_first(facts.ask(self.s, two.kind))}"
        self.exchange((question, f"{one.answer} {two.answer}"), "recall-two")

    def filler(self) -> None:
        """An exchange without facts to remember."""
        s = self.s
        kind = s.choices(("faq", "small", "story", "noise"), (3, 3, 3, 1))[0]
        if kind == "story":
            self.exchange(smalltalk.story(s, s.choice((1, 2, 3, 5))))
        elif kind == "noise":
            text, reply, learn = smalltalk.noise(s)
            self.user(text)
            self.answer(reply, "noise", learn=learn)
        else:
            self.exchange(faq.draw(s) if kind == "faq" else smalltalk.draw(s), kind)

    def fillers(self, count: int) -> None:
        for _ in range(count):
            self.filler()

    def sample(self, skill: str) -> dict[str, Any]:
        return {"skill": skill, "messages": self.messages, "tools": self.tools, "skills": self.skills}


def closed(sentence: str) -> str:
    return sentence if sentence[-1] in ".!" else sentence + "."


def lower_first(text: str) -> str:
    return text[0].lower() + text[1:]


def system_prompt(s: Source) -> str:
    """Who the assistant is, perhaps with rules; none of them changes what the model does."""
    fill = {"t": s.value(v.project), "c": s.value(v.company), "d": s.choice(v.WEEKDAYS)}
    persona = s.choice(PERSONAS).format(**fill)
    style = s.randrange(STYLES)
    if style == 0:
        return persona
    if style < 3:
        return " ".join([persona] + [rule.format(**fill) for rule in s.some(RULES, 1, 4)])
    rules = [rule.format(**fill) for rule in s.some(RULES, 4, 14)]
    numbered = s.chance(0.5)
    return (
        persona
        + "\nRules:\n"
        + "\n".join(f"{at}. {rule}" if numbered else f"- {rule}" for at, rule in enumerate(rules, 1))
    )


def unknown_kind(s: Source, known: dict[str, Fact]) -> Kind:
    """A kind of fact that was not told, often one close to a known one."""
    projects = [label.rsplit(" ", 1)[1] for label in known if " of project " in label]
    for _ in range(50):
        kind = facts.draw_kind(s)
        if projects and s.chance(0.4):
            kind = facts.project_fact(s, s.choice(projects) if s.chance(0.5) else None)
        if kind.label not in known and not clashes(kind, known):
            break
    return kind


def clashes(kind: Kind, known: dict[str, Fact]) -> bool:
    """Whether a question about this kind could fairly be answered from a known fact of another kind."""
    return any({kind.label, label} <= group for group in CLOSE_KINDS for label in known)
