"""Calls of Anthropic's client, printed as it understands the answers: the same direct and through a sidecar."""

import argparse

import anthropic
from anthropic import Anthropic

from support import show

CACHE = {"type": "ephemeral"}
# In the order in which policies put schemas, so that they find nothing to do.
SCHEMA = {"properties": {"path": {"type": "string"}}, "type": "object"}
TOOL = {"name": "ls", "description": "List a folder", "input_schema": SCHEMA}
CALLS = [{"type": "tool_use", "id": f"toolu_{n}", "name": "ls", "input": {"path": "/"}} for n in range(2)]
RESULTS = [
    {"type": "tool_result", "tool_use_id": "toolu_0", "content": [{"type": "text", "text": "a\nb", "cache_control": CACHE}]},
    {"type": "tool_result", "tool_use_id": "toolu_1", "content": "c"},
]
HISTORY = [
    {"role": "user", "content": "What is here?"},
    {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "I should look.", "signature": "c2lnbmVk"},
            {"type": "text", "text": "I look."},
            *CALLS,
        ],
    },
    {"role": "user", "content": RESULTS},
]
ASK = {
    "model": "claude-sonnet-4-5",
    "max_tokens": 64,
    "system": [{"type": "text", "text": "Be brief.", "cache_control": CACHE}],
    "messages": HISTORY,
    "tools": [TOOL],
}
EDITS = {"edits": [{"type": "clear_tool_uses_20250919"}, {"type": "compact_20260112"}]}


def failed(error):
    retry = error.response.headers.get("retry-after")
    return [type(error).__name__, error.status_code, error.body, retry, error.request_id]


def gathered(client):
    with client.messages.stream(**ASK, thinking={"type": "enabled", "budget_tokens": 1024}) as stream:
        events = [event.to_dict() for event in stream]
        return [events, stream.get_final_message().to_dict()]


def streamed(client):
    seen = []
    try:
        for event in client.messages.create(**ASK, stream=True):
            seen.append(event.to_dict())
    except anthropic.APIStatusError as error:
        seen.append(failed(error))
    return seen


def left_in_the_midst(client):
    stream = client.messages.create(**ASK, stream=True)
    first = next(iter(stream)).to_dict()
    stream.close()
    return first


def left_before_the_answer(client):
    with client.messages.with_streaming_response.create(**ASK) as answer:
        return answer.status_code


def calls(client, retrying):
    """In the order in which the server has its answers."""
    count = {name: value for name, value in ASK.items() if name != "max_tokens"}
    parallel = {"type": "auto", "disable_parallel_tool_use": False}
    yield lambda: client.messages.create(**ASK, metadata={"user_id": "u"}).to_dict()
    yield lambda: client.messages.create(**ASK, tool_choice=parallel).to_dict()
    yield lambda: gathered(client)
    yield lambda: client.messages.count_tokens(**count).to_dict()
    yield lambda: client.beta.messages.create(**ASK, betas=["context-management-2025-06-27"], context_management=EDITS).to_dict()
    for _ in range(4):
        yield lambda: client.messages.create(**ASK).to_dict()
    yield lambda: retrying.messages.create(**ASK).to_dict()
    yield lambda: streamed(client)
    yield lambda: left_in_the_midst(client)
    yield lambda: left_before_the_answer(client)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--base-url", required=True, help="e.g. http://127.0.0.1:7480/v1")
    url = parser.parse_args().base_url.removesuffix("/v1")
    options = {"base_url": url, "api_key": "sk-test", "timeout": 60, "default_headers": {"anthropic-beta": "b-1,b-2"}}
    clients = [Anthropic(max_retries=retries, **options) for retries in (0, 1)]
    show(calls(*clients), anthropic.APIStatusError, failed)


if __name__ == "__main__":
    main()
