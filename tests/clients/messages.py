"""Anthropic's SDK against the embedded engine: whole, streamed, tools and back, counts, edits, errors as its exceptions."""

import argparse
import json
import sys

import anthropic
from anthropic import Anthropic

from support import MODEL, RECALL, RECALLED, Failed, expect, expect_equal

# In the order in which the policy puts schemas, so that it finds nothing to do.
TOOL = {
    "name": "get_order_status",
    "description": "Look up the status of an order.",
    "input_schema": {
        "properties": {"order_id": {"description": "The order number", "type": "string"}},
        "required": ["order_id"],
        "type": "object",
    },
}
QUESTION = [{"role": "user", "content": "What is the status of order ORD-90412?"}]
WANTED = {"order_id": "ORD-90412"}
# The sampling of this dialect's newest models is the server's; the SDK passes what it does not name.
GREEDY = {"extra_body": {"temperature": 0}}


def ask(client, messages, **options):
    return client.messages.create(**{"model": MODEL, "max_tokens": 64, "messages": messages, **GREEDY, **options})


def whole(client):
    message = ask(client, RECALL, system="You are a helpful assistant.")
    expect_equal((message.type, message.role, message.stop_reason), ("message", "assistant", "end_turn"), "frame")
    expect(RECALLED in message.content[0].text, f"the answer lacks the order: {message.content!r}")
    again = ask(client, RECALL, system=[{"type": "text", "text": "You are a helpful assistant.", "cache_control": {"type": "ephemeral"}}])
    expect_equal(again.content[0].text, message.content[0].text, "the same instructions in blocks")
    first, then = message.usage, again.usage
    expect_equal(
        then.input_tokens + then.cache_read_input_tokens, first.input_tokens + first.cache_read_input_tokens, "tokens of the prompt"
    )
    expect(then.cache_read_input_tokens > 0, f"nothing was cached: {then!r}")
    counted = client.messages.count_tokens(model=MODEL, messages=RECALL, system="You are a helpful assistant.")
    expect_equal(counted.input_tokens, first.input_tokens + first.cache_read_input_tokens, "count_tokens")
    return message


def streamed(client, message):
    kinds, text = [], ""
    options = {"model": MODEL, "max_tokens": 64, "messages": RECALL, "system": "You are a helpful assistant.", **GREEDY}
    with client.messages.stream(**options) as stream:
        for event in stream:
            if event.type in ("text", "input_json"):
                continue
            kinds.append(event.type)
            if event.type == "content_block_delta":
                text += event.delta.text
        final = stream.get_final_message()
    expect_equal(text, message.content[0].text, "streamed text")
    expect_equal(final.content[0].text, text, "gathered text")
    expect_equal(final.stop_reason, "end_turn", "streamed stop reason")
    expect_equal(final.usage.output_tokens, message.usage.output_tokens, "streamed output tokens")
    total = final.usage.input_tokens + final.usage.cache_read_input_tokens
    expect_equal(total, message.usage.input_tokens + message.usage.cache_read_input_tokens, "streamed input tokens")
    order = [kind for index, kind in enumerate(kinds) if index == 0 or kinds[index - 1] != kind]
    wanted = ["message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta", "message_stop"]
    expect_equal([kind for kind in order if kind != "ping"], wanted, "events")


def limits(client):
    cut = ask(client, RECALL, max_tokens=2)
    expect_equal((cut.stop_reason, cut.usage.output_tokens), ("max_tokens", 2), "an answer that was cut")
    stopped = ask(client, RECALL, stop_sequences=["never said", "48213"])
    expect_equal((stopped.stop_reason, stopped.stop_sequence), ("stop_sequence", "48213"), "a stop sequence")
    expect("48213" not in stopped.content[0].text, "the stop sequence is in the answer")
    # More than the window has: the policy lowers the limit, and the window would end the answer.
    narrow = ask(client, RECALL, max_tokens=32000)
    expect_equal(narrow.stop_reason, "end_turn", "an answer with a limit beyond the window")


def tools(client):
    message = ask(client, QUESTION, tools=[TOOL], tool_choice={"type": "auto"})
    expect_equal(message.stop_reason, "tool_use", "stop reason of a call")
    expect_equal([block.type for block in message.content], ["tool_use"], "blocks of a call")
    call = message.content[0]
    expect_equal((call.name, call.input), ("get_order_status", WANTED), "the call")
    options = {"model": MODEL, "max_tokens": 64, "messages": QUESTION, "tools": [TOOL], **GREEDY}
    with client.messages.stream(**options) as stream:
        pieces = [event.partial_json for event in stream if event.type == "input_json"]
        final = stream.get_final_message()
    expect_equal((final.content[0].input, json.loads("".join(pieces))), (WANTED, WANTED), "the streamed call")
    expect_equal(final.stop_reason, "tool_use", "stop reason of a streamed call")
    result = {"type": "tool_result", "tool_use_id": call.id, "content": '{"status": "shipped"}'}
    history = [*QUESTION, {"role": "assistant", "content": message.content}, {"role": "user", "content": [result]}]
    spoken = ask(client, history, tools=[TOOL])
    expect_equal(spoken.stop_reason, "end_turn", "stop reason after the result")
    expect("shipped" in spoken.content[0].text, f"the answer lacks the status: {spoken.content!r}")
    return call


def edits(client):
    """The oldest results go as the caller asks, and the answer and the count say so."""
    history = []
    for number in range(4):
        call = {"type": "tool_use", "id": f"toolu_{number}", "name": "get_order_status", "input": {"order_id": f"ORD-{number}"}}
        history += [
            {"role": "user", "content": f"And order ORD-{number}?"},
            {"role": "assistant", "content": [call]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call["id"], "content": "shipped " * 40}]},
            {"role": "assistant", "content": "It was shipped."},
        ]
    history.append({"role": "user", "content": "Thank you."})
    edit = {
        "type": "clear_tool_uses_20250919",
        "trigger": {"type": "input_tokens", "value": 50},
        "keep": {"type": "tool_uses", "value": 1},
    }
    options = {"model": MODEL, "messages": history, "tools": [TOOL], "context_management": {"edits": [edit]}}
    counted = client.beta.messages.count_tokens(betas=["context-management-2025-06-27"], **options)
    before = counted.context_management.original_input_tokens
    expect(counted.input_tokens < before, f"nothing was cleared: {counted!r}")
    message = client.beta.messages.create(betas=["context-management-2025-06-27"], max_tokens=16, **options)
    applied = message.context_management.applied_edits[0]
    expect_equal((applied.type, applied.cleared_tool_uses), ("clear_tool_uses_20250919", 3), "the edit")
    expect_equal(applied.cleared_input_tokens, before - counted.input_tokens, "tokens that were cleared")
    usage = message.usage
    expect_equal(usage.input_tokens + usage.cache_read_input_tokens, counted.input_tokens, "tokens that ran")


def refused(kind, what, call, place=""):
    try:
        call()
    except anthropic.APIStatusError as error:
        expect(isinstance(error, kind), f"{what}: {type(error).__name__} in place of {kind.__name__}: {error}")
        expect_equal(error.body["type"], "error", f"{what}: the frame")
        expect(error.body["request_id"], f"{what}: no request id")
        expect(place in error.body["error"]["message"], f"{what}: no `{place}` in {error.body!r}")
        return error
    raise Failed(f"{what}: no error")


def errors(client):
    bad, hello = anthropic.BadRequestError, [{"role": "user", "content": "Hello"}]
    long = [{"role": "user", "content": "amber lamp " * 4000}]
    error = refused(bad, "overflow", lambda: ask(client, long), "prompt is too long: ")
    shown = error.body["error"]["message"]
    numbers = [int(word) for word in shown.split() if word.isdigit()]
    expect(len(numbers) == 2 and numbers[0] > numbers[1], f"overflow: no figures in {shown!r}")
    expect_equal(error.body["error"]["type"], "invalid_request_error", "overflow: type")
    expect_equal(client.messages.count_tokens(model=MODEL, messages=long).input_tokens, numbers[0], "the count of what is too long")
    refused(anthropic.NotFoundError, "unknown model", lambda: ask(client, hello, model="none"), "none")
    refused(anthropic.NotFoundError, "unknown path", lambda: client.messages.batches.list())
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}
    see = [{"role": "user", "content": [{"type": "text", "text": "see"}, image]}]
    refused(bad, "an image", lambda: ask(client, see), "messages.0.content.1")
    orphan = [*hello, {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "lost"}]}]
    refused(bad, "an orphan", lambda: ask(client, orphan), "messages.1.content.0.tool_use_id")
    refused(bad, "no limit", lambda: client.post("/v1/messages", cast_to=object, body={"model": MODEL, "messages": hello}), "max_tokens")
    refused(bad, "too many stops", lambda: ask(client, hello, stop_sequences=["x"] * 99), "stop_sequences")
    server = [{"type": "web_search_20250305", "name": "web_search"}]
    refused(bad, "a server's tool", lambda: ask(client, hello, tools=server), "tools.0")
    edits = {"context_management": {"edits": [{"type": "compact_20260112"}]}}
    refused(bad, "an edit", lambda: ask(client, hello, extra_body=edits), "context_management.edits.0.type")
    return shown


def check(client):
    streamed(client, whole(client))
    limits(client)
    call = tools(client)
    edits(client)
    return f"messages: {call.name}({json.dumps(call.input)}); {errors(client)!r}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--base-url", required=True, help="e.g. http://127.0.0.1:7480")
    options = parser.parse_args()
    client = Anthropic(base_url=options.base_url.removesuffix("/v1"), api_key="unused", max_retries=0, timeout=120)
    try:
        print(check(client))
    except Failed as failed:
        sys.exit(f"failed: {failed}")


if __name__ == "__main__":
    main()
