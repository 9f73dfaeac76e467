"""Calls of OpenAI's client on Responses, printed as it understands the answers: the same direct and through a sidecar."""

from openai import APIError, APIStatusError

from chat_differential import TOOL as CHAT_TOOL
from chat_differential import Order, clients, failed, told
from support import show

INPUT = [
    {"role": "user", "content": "Look é 😀"},
    {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAAB=="},
    {"type": "function_call", "call_id": "c1", "name": "ls", "arguments": '{ "path": "/" }'},
    {"type": "function_call", "call_id": "c2", "name": "ls", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c1", "output": "a\nb"},
    {"type": "function_call_output", "call_id": "c2", "output": "c"},
]
TOOLS = [{"type": "function", "strict": False, **CHAT_TOOL["function"]}]
MODEL = "gpt-5"


def streamed(events):
    seen = []
    try:
        for event in events:
            seen.append(told(event))
    except APIError as error:
        seen.append(failed(error))
    return seen


def left_in_the_midst(client):
    stream = client.responses.create(model=MODEL, input=INPUT, stream=True)
    first = told(next(iter(stream)))
    stream.close()
    return first


def left_before_the_answer(client):
    with client.responses.with_streaming_response.create(model=MODEL, input=INPUT) as answer:
        return answer.status_code


def calls(client, retrying):
    """In the order in which the server has its answers."""
    ask = {"model": MODEL, "input": INPUT}
    likely = {"include": ["message.output_text.logprobs", "reasoning.encrypted_content"], "top_logprobs": 2}
    yield lambda: told(client.responses.create(**ask, tools=TOOLS, instructions="Be brief.", store=True, parallel_tool_calls=True))
    yield lambda: told(client.responses.create(**ask, **likely))
    yield lambda: told(client.responses.parse(**ask, text_format=Order))
    yield lambda: streamed(client.responses.create(**ask, **likely, stream=True))
    yield lambda: streamed(client.responses.create(**ask, tools=TOOLS, stream=True))
    yield lambda: told(client.responses.create(model=MODEL, input="More", previous_response_id="resp_1"))
    yield lambda: told(client.responses.input_tokens.count(**ask))
    yield lambda: told(client.responses.compact(**ask, instructions="Keep the paths."))
    yield lambda: told(client.responses.retrieve("resp_1"))
    for _ in range(3):
        yield lambda: told(client.responses.create(**ask, background=True))
    yield lambda: told(retrying.responses.create(**ask))
    yield lambda: streamed(client.responses.create(**ask, stream=True))
    yield lambda: left_in_the_midst(client)
    yield lambda: left_before_the_answer(client)


if __name__ == "__main__":
    show(calls(*clients()), APIStatusError, failed)
