"""Responses' `compact` on the embedded engine: what comes back begins the next request, and the facts are still there."""

import json

from openai import BadRequestError

from support import MODEL, RECALL, RECALLED, Failed, expect, expect_equal, main

QUESTION = {"role": "user", "content": "What is my order number?"}
WORK = [
    {"type": "function_call", "call_id": "c1", "name": "ls", "arguments": '{"path": "/srv/harbour"}'},
    {"type": "function_call_output", "call_id": "c1", "output": "ERROR: /srv/harbour/tide.log is locked"},
    {"role": "assistant", "content": "I could not read /srv/harbour/tide.log: it is locked."},
]


def compacted(client):
    items = [{"role": "developer", "content": "Be brief."}, *RECALL[:4], *WORK]
    answer = client.responses.compact(model=MODEL, input=items, instructions="You help.")
    expect_equal(answer.object, "response.compaction", "object")
    *messages, last = answer.output
    expect_equal([item.role for item in messages], ["developer", "user", "user"], "what stays")
    expect_equal([item.content[0].text for item in messages[1:]], [RECALL[0]["content"], RECALL[2]["content"]], "its text")
    expect_equal(last.type, "compaction", "the last item")
    usage = answer.usage
    expect(0 < usage.output_tokens < usage.input_tokens, f"usage: {usage}")
    expect_equal(usage.total_tokens, usage.input_tokens + usage.output_tokens, "total tokens")
    return answer


def goes_on(client, answer):
    turn = client.responses.create(model=MODEL, input=[*answer.output, QUESTION], temperature=0)
    expect(RECALLED in turn.output_text, f"the answer lacks {RECALLED}: {turn.output_text!r}")
    alone = client.responses.input_tokens.count(model=MODEL, input=[answer.output[-1], QUESTION]).input_tokens
    bare = client.responses.input_tokens.count(model=MODEL, input=[QUESTION]).input_tokens
    expect(alone > bare, "the summary weighs nothing")
    return turn


def again(client, answer, turn):
    """A summary becomes part of the next one."""
    second = client.responses.compact(model=MODEL, input=[*answer.output, QUESTION, *turn.output])
    kinds = [item.type for item in second.output]
    expect_equal(kinds, ["message"] * 4 + ["compaction"], "items of a second compaction")
    options = {"model": MODEL, "input": [second.output[-1], QUESTION]}
    first = client.responses.input_tokens.count(model=MODEL, input=[answer.output[-1], QUESTION]).input_tokens
    expect(client.responses.input_tokens.count(**options).input_tokens >= first, "the first summary was lost")


def long(client):
    """What does not fit the window any more can still be told in short, and then it fits."""
    turns = [
        {"type": "message", "role": "assistant", "content": f"Step {n}: wrote /srv/harbour/part-{n}.txt. " + "All went well. " * 20}
        for n in range(60)
    ]
    items = [RECALL[0], *turns, RECALL[2]]
    answer = client.responses.compact(model=MODEL, input=items)
    expect(answer.usage.input_tokens > 2048, f"it was not long: {answer.usage}")
    expect(answer.usage.output_tokens <= 256, f"an eighth of the window is 256 tokens: {answer.usage}")
    turn = client.responses.create(model=MODEL, input=[*answer.output, QUESTION], temperature=0)
    expect(turn.usage.input_tokens < 1000, f"usage: {turn.usage}")
    as_text = client.responses.compact(model=MODEL, input="My name is Maria Lopez.")
    expect_equal([item.type for item in as_text.output], ["message", "compaction"], "items of a text")


def refused(client):
    foreign = {"type": "compaction", "encrypted_content": "gAAAAB=="}
    broken = {"type": "compaction", "encrypted_content": "plimsoll1.?"}
    for item in (foreign, broken):
        for call in (client.responses.create, client.responses.compact):
            try:
                call(model=MODEL, input=[item, QUESTION])
            except BadRequestError as error:
                expect_equal(error.param, "input[0]", "param")
            else:
                raise Failed(f"{json.dumps(item)} was read")
    try:
        client.responses.compact(model=MODEL, previous_response_id="resp_1")
    except BadRequestError as error:
        expect_equal(error.param, "previous_response_id", "param")
        return error.body["message"]
    raise Failed("an answer that is not stored was found")


def check(client):
    answer = compacted(client)
    turn = goes_on(client, answer)
    again(client, answer, turn)
    long(client)
    return f"compaction: {answer.usage.input_tokens} to {answer.usage.output_tokens} tokens, {turn.output_text!r}; {refused(client)}"


if __name__ == "__main__":
    main(check)
