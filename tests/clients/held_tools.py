"""Calls that must be made, by name or strictly: whatever is asked, the SDK's own models take their arguments."""

import enum
import json

import openai
from pydantic import BaseModel, Field

from support import MODEL, ORDER_TOOL, expect, expect_equal, main

SMALL_TALK = [{"role": "user", "content": "Hello! How are you?"}]
ORDER = [{"role": "user", "content": "What is the status of order ORD-90412?"}]


class Color(enum.Enum):
    red = "red"
    blue = "blue"


class Paint(BaseModel):
    """Paint a ship."""

    color: Color
    coats: int = Field(ge=1, le=3)


class Moor(BaseModel):
    """Moor a ship."""

    fast: bool


PAINT, MOOR = openai.pydantic_function_tool(Paint), openai.pydantic_function_tool(Moor)


def parsed(client, **options):
    """The SDK validates the arguments by the models above; it takes strict tools alone."""
    choice = client.chat.completions.parse(model=MODEL, tools=[PAINT, MOOR], **options).choices[0]
    expect_equal(choice.finish_reason, "tool_calls", "finish reason")
    calls = choice.message.tool_calls
    expect(calls, "no call was made")
    for call in calls:
        expect(isinstance(call.function.parsed_arguments, (Paint, Moor)), f"not parsed: {call.function}")
    return [call.function.parsed_arguments for call in calls]


def required(client):
    for seed in range(6):
        calls = parsed(
            client, messages=SMALL_TALK, tool_choice="required", parallel_tool_calls=False, temperature=1.5, seed=seed
        )
        expect_equal(len(calls), 1, "number of calls")


def named(client):
    choice = {"type": "function", "function": {"name": "Moor"}}
    for seed in range(3):
        calls = parsed(client, messages=SMALL_TALK, tool_choice=choice, temperature=1.5, seed=seed)
        expect(len(calls) == 1 and isinstance(calls[0], Moor), f"called {calls}")


def strict(client):
    tool = json.loads(json.dumps(ORDER_TOOL))
    tool["function"]["strict"] = True
    wanted = {"type": "string", "pattern": "^ORD-[0-9]{5}$"}
    tool["function"]["parameters"] = {
        "type": "object",
        "properties": {"order_id": wanted, "urgent": {"const": False}},
        "required": ["order_id", "urgent"],
        "additionalProperties": False,
    }
    choice = client.chat.completions.create(model=MODEL, messages=ORDER, tools=[tool], temperature=0).choices[0]
    # The model was taught to ask for the order alone: the rest is the grammar's.
    arguments = json.loads(choice.message.tool_calls[0].function.arguments)
    expect_equal(arguments, {"order_id": "ORD-90412", "urgent": False}, "strict arguments")
    text = client.chat.completions.create(model=MODEL, messages=SMALL_TALK, tools=[tool], temperature=0).choices[0]
    expect(text.message.content and not text.message.tool_calls, f"small talk became {text.message}")


def streamed(client):
    options = {"messages": SMALL_TALK, "tools": [PAINT, MOOR], "tool_choice": "required", "temperature": 0}
    with client.chat.completions.stream(model=MODEL, parallel_tool_calls=False, **options) as stream:
        events = [event.type for event in stream]
        message = stream.get_final_completion().choices[0].message
    expect("tool_calls.function.arguments.done" in events, f"events {set(events)}")
    expect(isinstance(message.tool_calls[0].function.parsed_arguments, (Paint, Moor)), f"streamed {message}")


def refused(client):
    for options, param in [
        ({"tool_choice": {"type": "function", "function": {"name": "Sink"}}}, "tool_choice"),
        ({"tool_choice": "perhaps"}, "tool_choice"),
        ({"tool_choice": "required", "tools": []}, "tool_choice"),
        ({"tool_choice": "required", "extra_body": {"min_tokens": 5}}, "min_tokens"),
    ]:
        try:
            client.chat.completions.create(**{"model": MODEL, "messages": ORDER, "tools": [PAINT], **options})
        except openai.BadRequestError as error:
            expect_equal(error.param, param, f"param of {options}")
        else:
            expect(False, f"{options} was taken")


def check(client):
    required(client)
    named(client)
    strict(client)
    streamed(client)
    refused(client)
    return "held tools: required, named, strict, streamed, refused"


if __name__ == "__main__":
    main(check)
