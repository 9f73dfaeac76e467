"""Summaries as they may stand in a prompt, and the requests to write one."""

import facts
import smalltalk
from facts import Fact
from source import Source
from talk import Talk

HEADERS = (
    "Summary of the earlier conversation:",
    "Summary of the conversation so far:",
    "Earlier in this conversation:",
    "Conversation summary:",
    "Here is a summary of what was said before:",
    "Summary:",
    "Context from earlier messages:",
    "## Summary",
    "Notes from the conversation:",
    "Facts from the earlier conversation:",
    "The conversation before this point, in short:",
    "Previous conversation (summarised):",
    "What was said before:",
    "<summary>",
    "Earlier facts:",
    "Key facts so far:",
)
MARKERS = (
    "[plimsoll: {n} messages summarised]",
    "[plimsoll: {n} earlier messages summarised]",
    "[plimsoll: {n} messages omitted]",
    "[plimsoll: {n} turns dropped]",
    "[{n} earlier messages were summarised]",
    "[plimsoll: {m} tokens in {n} messages summarised]",
    "[earlier messages removed: {n}]",
    "[plimsoll: {n} messages summarised; {m} tokens saved]",
)
SUMMARY_READY = ("Thanks, I will use this summary.", "Understood.")
SUMMARISE = (
    "Summarise the conversation so far.",
    "Summarise the conversation so far. Keep names, numbers and paths exactly.",
    "Please summarise our conversation.",
    "Write a summary of the conversation so far as a list of facts.",
    "Summarize the conversation so far in bullet points.",
    "Give me a short summary of what I told you.",
    "Please write a summary.",
    "Summarise everything above. Copy identifiers exactly and invent nothing.",
    "List all facts from this conversation.",
    "What do you know about me?",
    "List what I told you so far.",
    "Summarise the facts of this conversation in a bullet list.",
    "Write down the important facts of the conversation. Keep every name, number, path and identifier exactly as it is.",
    "The conversation is about to be shortened. Summarise it so that no fact is lost.",
    "Make a summary of the messages above for later use. Use one bullet per fact.",
    "Summarise the messages above.",
    "Update the summary with the new messages. Keep all facts.",
    "Summary please.",
    "What did I tell you so far?",
    "Compress the conversation into a bullet list. Keep names, identifiers, paths, amounts and dates word for word.",
)


def marker(s: Source) -> str:
    """What a policy leaves where it took messages away."""
    return s.choice(MARKERS).format(n=s.randint(2, 90), m=s.randint(120, 9000))


def summary_block(s: Source, told: list[Fact]) -> str:
    """A summary as it may stand in a message: header, perhaps a marker, one line per fact."""
    style, bullet = s.randrange(4), s.choice(("- ", "- ", "- ", "* ", "", "1. "))
    lines = [
        (f"{at}. " if bullet == "1. " else bullet) + summary_line(s, fact, style) for at, fact in enumerate(told, 1)
    ]
    if s.chance(0.15):
        lines.insert(s.randint(0, len(lines)), (bullet if bullet != "1. " else "- ") + smalltalk.story(s, 1)[0])
    parts = [s.phrase(HEADERS)] if s.chance(0.9) else []
    if s.chance(0.5) or not parts:
        parts.insert(s.randint(0, len(parts)), marker(s))
    closing = ["</summary>"] if "<summary>" in parts else []
    return "\n".join(parts + lines + closing)


def summary_line(s: Source, fact: Fact, style: int) -> str:
    """A fact as a sentence, as a pair, or as the user said it; the last style mixes them."""
    pick = s.randrange(3) if style == 3 else style
    return (fact.line, fact.pair if s.chance(0.7) else f"user {fact.pair}", f"user: {fact.said}")[pick]


def place_summary(talk: Talk, count: int) -> list[Fact]:
    """Puts a summary near the top: before the first request, as a message of its own, or behind a pinned message."""
    s = talk.s
    told = [facts.tell(s, kind) for kind in facts.draw_kinds(s, count)]
    block = summary_block(s, told)
    for fact in told:
        talk.note(fact)
    where = s.choice(("answered", "alone", "after an exchange", "before the next message", "behind a message"))
    if where == "answered":
        talk.exchange((block, s.choice(SUMMARY_READY)))
    elif where == "before the next message":
        talk.prefix = block  # join_prefix writes it there
    elif where == "behind a message":
        text, reply = smalltalk.story(s, 2) if s.chance(0.5) else smalltalk.draw(s)
        talk.exchange((f"{text}\n\n{block}", reply))
    else:
        if where == "after an exchange":
            talk.exchange(smalltalk.draw(s))
        talk.user(block)
    return told


def join_prefix(talk: Talk, start: int) -> None:
    """Writes a waiting summary in front of the first user message from `start` on."""
    if talk.prefix:
        message = next(message for message in talk.messages[start:] if message["role"] == "user")
        message["content"] = f"{talk.prefix}\n\n{message['content']}"
