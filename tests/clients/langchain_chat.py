"""langchain-openai on chat completions and on Responses: whole, streamed, parallel tools and back, structured, errors."""

import argparse
import sys
from typing import Annotated, Literal

import openai
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from support import MODEL, RECALL, RECALLED, Failed, expect, expect_equal

ORDERS = "What is the status of order ORD-90412 and of order ORD-11111?"
WANTED = [{"order_id": "ORD-90412"}, {"order_id": "ORD-11111"}]


@tool
def get_order_status(order_id: Annotated[str, "The order number"]) -> str:
    """Look up the status of an order."""
    return '{"status": "shipped"}'


class Order(BaseModel):
    """An order."""

    state: Literal["open", "shipped"]
    urgent: bool


def whole(model):
    answer = model.invoke(RECALL)
    expect(RECALLED in answer.text, f"the answer lacks {RECALLED}: {answer.text!r}")
    usage = answer.usage_metadata
    expect_equal(usage["total_tokens"], usage["input_tokens"] + usage["output_tokens"], "total tokens")
    return answer


def streamed(model, answer):
    chunks = list(model.stream(RECALL))
    expect(sum(bool(chunk.text) for chunk in chunks) > 1, "the text came in one piece")
    message = sum(chunks[1:], chunks[0])
    expect_equal(message.text, answer.text, "streamed text")
    for name in ("input_tokens", "output_tokens"):
        expect_equal(message.usage_metadata[name], answer.usage_metadata[name], f"streamed {name}")


def tools(model):
    bound = model.bind_tools([get_order_status])
    asked = bound.invoke(ORDERS)
    expect_equal([call["args"] for call in asked.tool_calls], WANTED, "calls")
    expect_equal(asked.invalid_tool_calls, [], "calls that are none")
    chunks = list(bound.stream(ORDERS))
    message = sum(chunks[1:], chunks[0])
    expect_equal([call["args"] for call in message.tool_calls], WANTED, "streamed calls")
    results = [get_order_status.invoke(call) for call in asked.tool_calls]
    expect(all(isinstance(result, ToolMessage) for result in results), f"results: {results}")
    spoken = bound.invoke([HumanMessage(ORDERS), asked, *results])
    expect("shipped" in spoken.text, f"the answer lacks the status: {spoken.text!r}")
    held = model.bind_tools([get_order_status], tool_choice="get_order_status", parallel_tool_calls=False).invoke("Hello!")
    expect_equal([call["name"] for call in held.tool_calls], ["get_order_status"], "a call that must be made")


def structured(model):
    for method in ("json_schema", "function_calling"):
        found = model.with_structured_output(Order, method=method).invoke("My order number is ORD-48213. I want three.")
        expect(isinstance(found, Order), f"by {method}: {found!r}")


def likely(model, answer):
    """Of chat completions alone: langchain asks Responses in another way."""
    told = model.bind(logprobs=True, top_logprobs=2).invoke(RECALL)
    tokens = [one["token"] for one in told.response_metadata["logprobs"]["content"]]
    expect_equal("".join(tokens), answer.text, "tokens of the log probabilities")
    several = ChatOpenAI(**OPTIONS, base_url=model.openai_api_base, n=2, seed=5).generate([[HumanMessage("Hello")]])
    expect_equal(len(several.generations[0]), 2, "answers")


def errors(model):
    long = [HumanMessage("amber lamp " * 4000)]
    for call in (lambda: model.invoke(long), lambda: list(model.stream(long))):
        try:
            call()
        except openai.BadRequestError as error:
            # langchain knows an overflow by its code and words.
            expect_equal((type(error).__name__, error.code), ("OpenAIContextOverflowError", "context_length_exceeded"), "overflow")
        else:
            raise Failed("overflow: no error")
    try:
        model.invoke([HumanMessage("Hello"), AIMessage("Hi"), ToolMessage("lost", tool_call_id="call_1")])
    except openai.BadRequestError as error:
        return f"{error.status_code}: {error.body['message']}"
    raise Failed("an orphan: no error")


def left(model):
    for _ in range(6):
        stream = model.stream(RECALL)
        next(stream)
        stream.close()


OPTIONS = {"model": MODEL, "api_key": "unused", "max_retries": 0, "timeout": 120, "max_completion_tokens": 200}


def check(base_url):
    lines = []
    for responses in (False, True):
        model = ChatOpenAI(**OPTIONS, base_url=base_url, temperature=0, use_responses_api=responses, stream_usage=True)
        answer = whole(model)
        streamed(model, answer)
        tools(model)
        structured(model)
        left(model)
        if not responses:
            likely(model, answer)
        lines.append(f"langchain {'responses' if responses else 'chat'}: {answer.text!r}; {errors(model)}")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--base-url", required=True, help="e.g. http://127.0.0.1:7480/v1")
    try:
        print(check(parser.parse_args().base_url))
    except Failed as failed:
        sys.exit(f"failed: {failed}")
