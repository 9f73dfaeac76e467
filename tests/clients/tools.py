"""A tool call and back: the call is asked for, made, streamed, answered, and the result is spoken."""

import json

from support import MODEL, ORDER_TOOL, expect, expect_equal, main

QUESTION = [{"role": "user", "content": "What is the status of order ORD-90412?"}]
WANTED = {"order_id": "ORD-90412"}


def ask(client, messages, **options):
    return client.chat.completions.create(model=MODEL, messages=messages, tools=[ORDER_TOOL], temperature=0, **options)


def called(client):
    choice = ask(client, QUESTION).choices[0]
    expect_equal(choice.finish_reason, "tool_calls", "finish reason")
    expect_equal(len(choice.message.tool_calls or []), 1, "number of calls")
    call = choice.message.tool_calls[0]
    expect(call.id, "the call has no id")
    expect_equal(call.type, "function", "type of the call")
    expect_equal(call.function.name, "get_order_status", "name of the call")
    expect_equal(json.loads(call.function.arguments), WANTED, "arguments of the call")
    expect(not choice.message.content, f"text beside the call: {choice.message.content!r}")
    return choice.message


def streamed(client):
    name, arguments, finish = "", "", None
    for chunk in ask(client, QUESTION, stream=True):
        choice = chunk.choices[0]
        expect(not choice.delta.content, f"the call was streamed as text: {choice.delta.content!r}")
        for delta in choice.delta.tool_calls or []:
            expect_equal(delta.index, 0, "index of the streamed call")
            expect(bool(delta.id) == bool(delta.function.name), "id and name come together, in the first delta")
            name += delta.function.name or ""
            arguments += delta.function.arguments or ""
        finish = choice.finish_reason or finish
    expect_equal((name, json.loads(arguments)), ("get_order_status", WANTED), "streamed call")
    expect_equal(finish, "tool_calls", "streamed finish reason")


def answered(client, message):
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": '{"status": "shipped"}'}
    choice = ask(client, [*QUESTION, message, result]).choices[0]
    expect_equal(choice.finish_reason, "stop", "finish reason after the result")
    expect("shipped" in choice.message.content, f"the answer lacks the status: {choice.message.content!r}")
    return choice.message.content


def check(client):
    message = called(client)
    streamed(client)
    return f"tools: {message.tool_calls[0].function.name}({message.tool_calls[0].function.arguments}) -> {answered(client, message)!r}"


if __name__ == "__main__":
    main(check)
