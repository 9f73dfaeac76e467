"""Writes sample conversations with the model's real greedy answers, for regression tests.

python samples.py --model build/export/model --out build/samples
"""

import argparse
import json
import pathlib
from typing import Any

import tools as toolbox
from chat import read_calls
from infer import Chat

SUMMARY = """Summary of the earlier conversation:
- The user's name is Maria Lopez.
- The user's order number is ORD-48213.
- The deploy key is stored in /srv/keys/alpha-7."""
LOG = """08:15 INFO worker: job finished amber-12
08:30 DEBUG cache: cache hit node-14
08:45 ERROR billing: E4512 disk full on node-07
[plimsoll: 812 of 1,312 tokens omitted; full output: ctx_ab12]
09:10 INFO gateway: heartbeat from web-03"""
TEAM = "You are the support assistant of the billing team. Answer in one or two sentences. Never guess."

LIMIT = 200  # tokens of an answer
Script = tuple[str, str | None, tuple[str, ...], tuple[str | tuple[str, str], ...]]
# name, system prompt, names of tools, turns: a text is a user message, a pair ("tool", text) a tool result
SCRIPTS: tuple[Script, ...] = (
    ("first-contact", None, (), ("Hello", "Who are you?", "What can you do?")),
    (
        "recall",
        None,
        (),
        (
            "My name is Maria Lopez.",
            "My order number is ORD-48213.",
            "What is the KV cache?",
            "What is my order number?",
            "What is my name?",
        ),
    ),
    ("never-told", "You are a helpful assistant.", (), ("My name is Maria Lopez.", "What is my phone extension?")),
    (
        "changed-fact",
        TEAM,
        (),
        ("My deadline is 12 May.", "Thanks", "Actually, my deadline is 19 June.", "What is my deadline?"),
    ),
    ("after-trimming", None, (), ("[plimsoll: 12 messages omitted]\nHello", "What is my order number?")),
    ("from-summary", TEAM, (), (SUMMARY + "\n\nHello again.", "Where is the deploy key stored?", "What is my name?")),
    (
        "write-summary",
        None,
        (),
        (
            "My name is Ivan Novak.",
            "The staging server is db-41.",
            "What is trimming?",
            "My invoice number is INV-70355.",
            "Summarise the conversation so far. Keep names, numbers and paths exactly.",
        ),
    ),
    ("tool-call", None, ("get_weather", "get_order_status", "read_file"), ("What is the status of order ORD-90412?",)),
    ("tool-answer", None, ("read_file", "list_files"), ("Which error is in /var/logs/amber-3.log?", ("tool", LOG))),
    (
        "two-calls",
        "You are a helpful assistant.",
        ("get_weather", "create_ticket"),
        (
            "What is the weather in Oslo and in Lisbon?",
            ("tool", '{"city": "Oslo", "sky": "cloudy", "temperature": 4, "wind": 12}'),
            ("tool", '{"city": "Lisbon", "sky": "sunny", "temperature": 19, "wind": 8}'),
        ),
    ),
    ("no-tool", None, ("list_files", "get_calendar"), ("What is the weather in Porto?",)),
    (
        "questions",
        None,
        (),
        (
            "What is a context window?",
            "Why do long chats use more memory?",
            "What is 23 + 45?",
            "Write a poem about amber.",
        ),
    ),
)


def schemas(names: tuple[str, ...]) -> list[dict[str, Any]]:
    return [tool.schema() for name in names for tool in toolbox.TOOLS if tool.name == name]


def assistant_message(text: str) -> dict[str, Any]:
    """The answer as a message; calls are taken apart where they parse."""
    calls = read_calls(text)
    if not calls:
        return {"role": "assistant", "content": text}
    return {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"type": "function", "function": call} for call in calls],
    }


def play(chat: Chat, script: Script) -> dict[str, Any]:
    """Plays a script and gives the last prompt with the model's answer to it."""
    name, system, offered, turns = script
    tools = schemas(offered)
    messages = [{"role": "system", "content": system}] if system else []
    for turn, following in zip(turns, (*turns[1:], None), strict=True):
        is_tool = isinstance(turn, tuple)
        messages.append({"role": "tool", "content": turn[1]} if is_tool else {"role": "user", "content": turn})
        if is_tool and isinstance(following, tuple):
            continue  # both results of a pair of calls come before the answer
        ids = chat.prompt(messages, tools)
        made = chat.greedy(ids, LIMIT)
        if following is not None:
            messages.append(assistant_message(chat.text(made)))
    return {
        "name": name,
        "tools": tools,
        "messages": messages,
        "expected": chat.text(made),
        "prompt_tokens": len(ids),
        "expected_tokens": made,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=pathlib.Path, default=pathlib.Path("build/export/model"), help="model folder")
    parser.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path("build/samples"), help="folder for the samples"
    )
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    chat = Chat(args.model)
    for number, script in enumerate(SCRIPTS, 1):
        sample = play(chat, script)
        path = args.out / f"{number:02d}-{sample['name']}.json"
        path.write_text(json.dumps(sample, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        print(f"{sample['name']}: {sample['expected']!r}")


if __name__ == "__main__":
    main()
