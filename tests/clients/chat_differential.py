"""Calls of OpenAI's client on chat completions and completions, printed as it understands the answers: the same direct and
through a sidecar."""

import argparse
import json
from typing import Literal

from openai import APIError, APIStatusError, OpenAI
from pydantic import BaseModel

from support import ORDER_TOOL, show

MODEL = "gpt-4o"
# In the order in which policies put schemas, so that they find nothing to do.
TOOL = json.loads(json.dumps(ORDER_TOOL, sort_keys=True))
TALK = [
    {"role": "system", "content": "Be brief \u2014 and kind."},
    {"role": "user", "content": [{"type": "text", "text": "And these? \U0001f600"}]},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": f"call_{n}", "type": "function", "function": {"name": "get_order_status", "arguments": f'{{ "order_id": "{n}" }}'}}
            for n in range(2)
        ],
    },
    *[{"role": "tool", "tool_call_id": f"call_{n}", "content": '{"status": "shipped"}'} for n in range(2)],
]
KEPT = ["x-request-id", "openai-processing-ms", "x-ratelimit-remaining-requests", "retry-after", "retry-after-ms"]


class Order(BaseModel):
    state: Literal["open", "shipped"]


def told(thing):
    return thing.model_dump(mode="json", exclude_unset=True)


def raw(answer):
    return {"headers": {name: answer.headers.get(name) for name in KEPT}, "parsed": told(answer.parse())}


def failed(error):
    headers = error.response.headers if isinstance(error, APIStatusError) else {}
    status = getattr(error, "status_code", None)
    kept = {name: headers.get(name) for name in KEPT}
    return [type(error).__name__, status, error.code, error.param, error.type, error.message, error.body, kept]


def streamed(events):
    """An error in the midst stands behind what came before it."""
    seen = []
    try:
        for event in events:
            seen.append(told(event))
    except APIError as error:
        seen.append(failed(error))
    return seen


def accumulated(client, **options):
    with client.chat.completions.stream(**options) as stream:
        kinds = [event.type for event in stream]
        return [kinds, told(stream.get_final_completion())]


def left_in_the_midst(client, **options):
    """The rest of the stream never comes."""
    stream = client.chat.completions.create(**options, stream=True)
    first = told(next(iter(stream)))
    stream.close()
    return first


def left_before_the_answer(client, **options):
    with client.chat.completions.with_streaming_response.create(**options) as answer:
        return answer.status_code


def calls(client, retrying):
    """In the order in which the server has its answers."""
    chat, ask = client.chat.completions, {"model": MODEL, "messages": TALK}
    several = {"n": 2, "logprobs": True, "top_logprobs": 2, "seed": 7}
    tools = {"tools": [TOOL], "tool_choice": "auto", "parallel_tool_calls": True}
    usage = {"stream_options": {"include_usage": True}}
    yield lambda: raw(chat.with_raw_response.create(**ask, temperature=0.5, extra_body={"new_option": {"a": 1.5}}))
    yield lambda: told(chat.create(**ask, **several))
    yield lambda: told(chat.create(**ask, **tools))
    yield lambda: told(chat.parse(**ask, response_format=Order))
    yield lambda: streamed(chat.create(**ask, stream=True))
    yield lambda: streamed(chat.create(**ask, stream=True, **usage))
    yield lambda: streamed(chat.create(**ask, stream=True, **several))
    yield lambda: streamed(chat.create(**ask, stream=True, **tools))
    yield lambda: accumulated(client, **ask, **tools, **usage)
    yield lambda: told(client.completions.create(model=MODEL, prompt=["a", "b"], n=2, logprobs=1, echo=True))
    yield lambda: streamed(client.completions.create(model=MODEL, prompt=[1, 2, 3], stream=True))
    yield lambda: told(chat.create(**ask, max_completion_tokens=7))
    yield lambda: told(chat.create(**ask))
    yield lambda: told(chat.create(**ask))
    yield lambda: told(retrying.chat.completions.create(**ask))
    yield lambda: streamed(chat.create(**ask, stream=True))
    yield lambda: left_in_the_midst(client, **ask)
    yield lambda: left_before_the_answer(client, **ask)


def clients():
    """Of --base-url: one that shows every failure, one that asks a second time."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--base-url", required=True, help="e.g. http://127.0.0.1:7480/v1")
    url = parser.parse_args().base_url
    return [OpenAI(base_url=url, api_key="sk-test", max_retries=retries, timeout=60) for retries in (0, 1)]


if __name__ == "__main__":
    show(calls(*clients()), APIStatusError, failed)
