"""The Responses API as an application uses it: whole, streamed, with tools, structured, counted, refused."""

import json
from typing import Literal

from openai import APIStatusError, BadRequestError, NotFoundError
from pydantic import BaseModel

from support import MODEL, RECALL, RECALLED, Failed, expect, expect_equal, main

TOOL = {
    "type": "function",
    "name": "get_order_status",
    "description": "Look up the status of an order.",
    "parameters": {
        "type": "object",
        "properties": {"order_id": {"type": "string", "description": "The order number"}},
        "required": ["order_id"],
    },
    "strict": False,
}
CALLING = [{"role": "user", "content": "What is the status of order ORD-90412?"}]
WANTED = {"order_id": "ORD-90412"}


def chat_of(client, **options):
    """What chat completions say to the same messages."""
    return client.chat.completions.create(model=MODEL, temperature=0, **options)


def whole(client):
    answer = client.responses.create(model=MODEL, input=RECALL, temperature=0, metadata={"run": "7"})
    same = chat_of(client, messages=RECALL)
    expect_equal(answer.object, "response", "object")
    expect_equal((answer.status, answer.error, answer.incomplete_details), ("completed", None, None), "end")
    expect_equal(answer.output_text, same.choices[0].message.content, "text, as chat completions give it")
    expect(RECALLED in answer.output_text, f"the answer lacks {RECALLED}: {answer.output_text!r}")
    expect_equal([item.type for item in answer.output], ["message"], "items")
    expect_equal(answer.output[0].status, "completed", "status of the item")
    usage = answer.usage
    expect_equal(usage.input_tokens, same.usage.prompt_tokens, "input tokens")
    expect_equal(usage.output_tokens, same.usage.completion_tokens, "output tokens")
    expect_equal(usage.total_tokens, usage.input_tokens + usage.output_tokens, "total tokens")
    expect_equal((answer.metadata, answer.model, answer.temperature), ({"run": "7"}, MODEL, 0), "what is repeated")
    expect_equal((answer.store, answer.previous_response_id, answer.tools), (False, None, []), "nothing is kept")
    again = client.responses.create(model=MODEL, input=RECALL, temperature=0)
    expect_equal(again.usage.input_tokens_details.cached_tokens, usage.input_tokens - 1, "cached tokens")
    expect(again.id != answer.id, "two answers of one id")
    return answer


def forms(client, answer):
    """Instructions, strings and parts read alike."""
    parts = [
        {"type": "message", "role": one["role"], "content": [{"type": kind, "text": one["content"]}]}
        for one, kind in zip(RECALL, ["input_text", "output_text"] * 3)
    ]
    listed = client.responses.create(model=MODEL, input=parts, temperature=0)
    expect_equal(listed.output_text, answer.output_text, "text after parts")
    expect_equal(listed.usage.input_tokens, answer.usage.input_tokens, "tokens of parts")
    system = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    one = client.responses.create(model=MODEL, instructions="Be brief.", input="Hello", temperature=0)
    two = chat_of(client, messages=system)
    expect_equal(one.output_text, two.choices[0].message.content, "text after instructions")
    expect_equal(one.usage.input_tokens, two.usage.prompt_tokens, "tokens of instructions")
    expect_equal(one.instructions, "Be brief.", "instructions")
    turn = client.responses.create(model=MODEL, input=[*RECALL, *answer.output, RECALL[0]], temperature=0)
    expect_equal(turn.status, "completed", "a conversation that goes on from an answer's items")


def streamed(client, answer):
    events = list(client.responses.create(model=MODEL, input=RECALL, temperature=0, stream=True))
    expect_equal([event.sequence_number for event in events], list(range(len(events))), "sequence numbers")
    kinds = [event.type for event in events]
    deltas = kinds.count("response.output_text.delta")
    expect(deltas > 1, "the text came in one piece")
    expect_equal(
        kinds,
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            *["response.output_text.delta"] * deltas,
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ],
        "kinds of events",
    )
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    last = events[-1].response
    expect_equal((text, last.output_text), (answer.output_text, answer.output_text), "streamed text")
    expect_equal(last.usage.output_tokens, answer.usage.output_tokens, "streamed output tokens")
    expect_equal({events[0].response.id, last.id}, {last.id}, "ids of one stream")
    with client.responses.stream(model=MODEL, input=RECALL, temperature=0) as stream:
        expect_equal(stream.get_final_response().output_text, answer.output_text, "the SDK's own accumulation")


def tools(client):
    def ask(items, **options):
        return client.responses.create(model=MODEL, input=items, tools=[TOOL], temperature=0, **options)

    answer = ask(CALLING)
    expect_equal([item.type for item in answer.output], ["function_call"], "items of a call")
    call = answer.output[0]
    expect_equal((call.name, json.loads(call.arguments), call.status), (TOOL["name"], WANTED, "completed"), "call")
    expect_equal(answer.tools[0].name, TOOL["name"], "tools are repeated")
    events = list(ask(CALLING, stream=True))
    arguments = "".join(e.delta for e in events if e.type == "response.function_call_arguments.delta")
    done = [e.arguments for e in events if e.type == "response.function_call_arguments.done"]
    expect_equal((json.loads(arguments), done), (WANTED, [arguments]), "streamed arguments")
    added = [event.item for event in events if event.type == "response.output_item.added"]
    expect_equal([(item.type, item.arguments) for item in added], [("function_call", "")], "item of a streamed call")
    result = {"type": "function_call_output", "call_id": call.call_id, "output": '{"status": "shipped"}'}
    spoken = ask([*CALLING, *answer.output, result])
    expect("shipped" in spoken.output_text, f"the answer lacks the status: {spoken.output_text!r}")
    opaque = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAAB"}
    carried = ask([*CALLING, opaque, *answer.output, result])
    expect_equal(carried.output_text, spoken.output_text, "text after encrypted reasoning")
    silent = ask(CALLING, tool_choice="none")
    expect("function_call" not in [item.type for item in silent.output], "a call though none was allowed")


class Order(BaseModel):
    state: Literal["open", "shipped"]
    urgent: bool


def structured(client):
    question = [{"role": "user", "content": "My order number is ORD-48213. I want three."}]
    parsed = client.responses.parse(model=MODEL, input=question, text_format=Order, temperature=0, max_output_tokens=64)
    expect(isinstance(parsed.output_parsed, Order), f"no Order: {parsed.output_text!r}")
    free = client.responses.create(
        model=MODEL, input=question, text={"format": {"type": "json_object"}}, temperature=0, max_output_tokens=400
    )
    if free.status == "completed":
        expect(isinstance(json.loads(free.output_text), dict), f"no object: {free.output_text!r}")
    schema = free.text.format.type
    expect_equal(schema, "json_object", "the format is repeated")


def limited(client):
    answer = client.responses.create(model=MODEL, input=RECALL, temperature=0, max_output_tokens=3)
    expect_equal((answer.status, answer.incomplete_details.reason), ("incomplete", "max_output_tokens"), "end")
    expect_equal(answer.usage.output_tokens, 3, "output tokens")
    expect_equal(answer.output[0].status, "incomplete", "status of the item")
    events = list(client.responses.create(model=MODEL, input=RECALL, temperature=0, max_output_tokens=3, stream=True))
    expect_equal(events[-1].type, "response.incomplete", "last event")
    likely = client.responses.create(
        model=MODEL, input=RECALL, temperature=0, top_logprobs=2, include=["message.output_text.logprobs"]
    )
    logprobs = likely.output[0].content[0].logprobs
    expect_equal("".join(one.token for one in logprobs), likely.output_text, "tokens of the log probabilities")
    expect_equal({len(one.top_logprobs) for one in logprobs}, {2}, "likeliest tokens")


def counted(client, answer):
    count = client.responses.input_tokens.count(model=MODEL, input=RECALL)
    expect_equal(count.object, "response.input_tokens", "object of a count")
    expect_equal(count.input_tokens, answer.usage.input_tokens, "counted tokens")
    with_tools = client.responses.input_tokens.count(model=MODEL, input=CALLING, tools=[TOOL])
    expect(with_tools.input_tokens > client.responses.input_tokens.count(model=MODEL, input=CALLING).input_tokens, "tools weigh nothing")


def refused(client):
    def fails(param, kind=BadRequestError, **options):
        try:
            client.responses.create(**{"model": MODEL, "input": "Hello", "max_output_tokens": 8, **options})
        except APIStatusError as error:
            expect(isinstance(error, kind), f"{param}: {type(error).__name__} in place of {kind.__name__}")
            expect_equal(error.param, param, f"param of {options}")
            expect(error.body.get("message"), f"{param}: no message")
            return error
        raise Failed(f"{param}: no error")

    fails("model", NotFoundError, model="no-such-model")
    fails("store", store=True)
    fails("background", background=True)
    fails("previous_response_id", previous_response_id="resp_1")
    fails("conversation", conversation="conv_1")
    fails("tools[1]", tools=[TOOL, {"type": "web_search"}])
    fails("input[1]", input=[*CALLING, {"type": "item_reference", "id": "msg_1"}])
    fails("input[1].content[1]", input=[
        RECALL[0],
        {"role": "user", "content": [{"type": "input_text", "text": "x"}, {"type": "input_image", "image_url": "data:"}]},
    ])
    fails("input[1].call_id", input=[*CALLING, {"type": "function_call_output", "call_id": "call_9", "output": "x"}])
    fails("temperature", temperature=3)
    fails("max_output_tokens", max_output_tokens=0)
    fails("text.format", text={"format": {"type": "xml"}})
    fails("truncation", extra_body={"truncation": "middle"})
    words = "amber lamp " * 4000
    for stream in (False, True):
        error = fails("input", input=words, stream=stream)
        expect_equal(error.code, "context_length_exceeded", "code of an overflow")
    expect_equal(client.responses.create(model=MODEL, input="Hello", store=False).status, "completed", "after errors")
    return error


def check(client):
    answer = whole(client)
    forms(client, answer)
    streamed(client, answer)
    tools(client)
    structured(client)
    limited(client)
    counted(client, answer)
    error = refused(client)
    return f"responses: {answer.output_text!r}, {answer.usage.input_tokens} tokens; {error.status_code} {error.param}"


if __name__ == "__main__":
    main(check)
