"""The same calls of Anthropic's SDK straight to a server and through the sidecar: what the SDK makes of both is the same."""

import argparse
import sys

import anthropic
from anthropic import Anthropic

from support import Failed, expect_equal

CACHE = {"type": "ephemeral"}
# In the order in which the policy puts schemas, so that it finds nothing to do.
SCHEMA = {"properties": {"path": {"type": "string"}}, "type": "object"}
TOOL = {"name": "ls", "description": "List a folder", "input_schema": SCHEMA}
HISTORY = [
    {"role": "user", "content": "What is here?"},
    {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "I should look.", "signature": "c2lnbmVk"},
            {"type": "text", "text": "I look."},
            {"type": "tool_use", "id": "toolu_1", "name": "ls", "input": {"path": "/"}},
        ],
    },
    {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "a\nb", "cache_control": CACHE}]}],
    },
]
REQUEST = {
    "model": "claude-sonnet-4-5",
    "max_tokens": 64,
    "system": [{"type": "text", "text": "Be brief.", "cache_control": CACHE}],
    "messages": HISTORY,
    "tools": [TOOL],
}


def whole(client):
    return client.messages.create(**REQUEST, metadata={"user_id": "u"}).to_dict()


def streamed(client):
    with client.messages.stream(**REQUEST, thinking={"type": "enabled", "budget_tokens": 1024}) as stream:
        events = [event.to_dict() for event in stream]
        return events, stream.get_final_message().to_dict()


def counted(client):
    return client.messages.count_tokens(**{name: value for name, value in REQUEST.items() if name != "max_tokens"}).to_dict()


def edited(client):
    edits = {"edits": [{"type": "clear_tool_uses_20250919"}, {"type": "compact_20260112"}]}
    return client.beta.messages.create(**REQUEST, betas=["context-management-2025-06-27"], context_management=edits).to_dict()


def failed(client):
    try:
        client.messages.create(**REQUEST)
    except anthropic.APIStatusError as error:
        return type(error).__name__, error.status_code, error.body, error.response.headers.get("retry-after"), error.request_id
    raise Failed("no error")


def broken(client):
    """An error in the midst of a stream."""
    seen = []
    try:
        for event in client.messages.create(**REQUEST, stream=True):
            seen.append(event.to_dict())
    except anthropic.APIStatusError as error:
        return seen, type(error).__name__, error.body
    raise Failed("no error in the stream")


# In the order in which the server has its answers.
CALLS = [whole, streamed, counted, edited, failed, failed, broken]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--direct", required=True)
    parser.add_argument("--through", required=True)
    options = parser.parse_args()
    clients = [
        Anthropic(base_url=url, api_key="sk-test", max_retries=0, timeout=60, default_headers={"anthropic-beta": "b-1,b-2"})
        for url in (options.direct, options.through)
    ]
    try:
        for call in CALLS:
            direct, through = [call(client) for client in clients]
            expect_equal(through, direct, call.__name__)
    except Failed as failed:
        sys.exit(f"failed: {failed}")
    print(f"messages twice: {len(CALLS)} calls alike")


if __name__ == "__main__":
    main()
