"""Every call that a server of its own answers, told as parsed: run direct and through a proxy, it must say the same."""

import json

from openai import APIStatusError

from support import main

INPUT = [
    {"role": "user", "content": "Look é 😀"},
    {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAAB=="},
    {"type": "function_call", "call_id": "c1", "name": "ls", "arguments": '{ "path": "/" }'},
    {"type": "function_call_output", "call_id": "c1", "output": "a\nb"},
]
TOOLS = [{"type": "function", "name": "ls", "parameters": {"properties": {}, "type": "object"}, "strict": False}]
MODEL = "gpt-5"


def told(thing):
    print(json.dumps(thing.model_dump(mode="json", exclude_unset=True), sort_keys=True))


def check(client):
    told(client.responses.create(model=MODEL, input=INPUT, tools=TOOLS, instructions="Be brief.", store=True))
    for event in client.responses.create(model=MODEL, input=INPUT, stream=True, include=["reasoning.encrypted_content"]):
        told(event)
    told(client.responses.create(model=MODEL, input="More", previous_response_id="resp_1"))
    told(client.responses.input_tokens.count(model=MODEL, input=INPUT))
    told(client.responses.retrieve("resp_1"))
    try:
        client.responses.create(model=MODEL, input="Hello", background=True)
    except APIStatusError as error:
        print(error.status_code, error.code, error.param, error.response.headers.get("x-ratelimit-remaining-requests"))
    return "done"


if __name__ == "__main__":
    main(check)
