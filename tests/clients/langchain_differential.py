"""Calls of langchain-openai, printed as it understands the answers: the same direct and through a sidecar."""

import argparse

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_openai import ChatOpenAI
from openai import APIError, APIStatusError

from chat_differential import MODEL, TOOL, Order, failed
from support import show

TALK = [
    SystemMessage("Be brief \u2014 and kind."),
    HumanMessage([{"type": "text", "text": "And these? \U0001f600"}]),
    AIMessage("", tool_calls=[{"id": f"call_{n}", "name": "get_order_status", "args": {"order_id": str(n)}} for n in range(2)]),
    *[ToolMessage('{"status": "shipped"}', tool_call_id=f"call_{n}") for n in range(2)],
]


def told(message):
    """As langchain has it, without the ids that it makes up."""
    own = message.model_dump(mode="json")
    if (own.get("id") or "").startswith("lc_run"):
        del own["id"]
    return own


def streamed(model, **options):
    seen = []
    try:
        for chunk in model.stream(TALK, **options):
            seen.append(told(chunk))
    except APIError as error:
        seen.append(failed(error))
    return seen


def several(model):
    (generations,) = model.generate([TALK]).generations
    return [told(generation.message) for generation in generations]


def left(model):
    stream = model.stream(TALK)
    first = told(next(stream))
    stream.close()
    return first


def calls(url):
    """In the order in which the server has its answers."""

    def model(**options):
        return ChatOpenAI(model=MODEL, base_url=url, api_key="sk-test", timeout=60, **{"max_retries": 0, **options})

    plain, tools = model(), {"tools": [TOOL], "parallel_tool_calls": True}
    yield lambda: told(plain.invoke(TALK))
    yield lambda: several(model(n=2, logprobs=True, top_logprobs=2, seed=7))
    yield lambda: told(plain.invoke(TALK, **tools))
    yield lambda: plain.with_structured_output(Order, method="json_schema").invoke(TALK).model_dump(mode="json")
    yield lambda: streamed(model(stream_usage=False))
    yield lambda: streamed(model(stream_usage=True))
    yield lambda: streamed(model(logprobs=True, top_logprobs=2, seed=7, stream_usage=False))
    yield lambda: streamed(model(stream_usage=False), **tools)
    for _ in range(3):
        yield lambda: told(plain.invoke(TALK))
    yield lambda: told(model(max_retries=1).invoke(TALK))
    yield lambda: streamed(plain)
    yield lambda: left(plain)
    responses = model(use_responses_api=True)
    yield lambda: told(responses.invoke(TALK, **tools))
    yield lambda: streamed(responses, **tools)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--base-url", required=True, help="e.g. http://127.0.0.1:7480/v1")
    show(calls(parser.parse_args().base_url), APIStatusError, failed)


if __name__ == "__main__":
    main()
