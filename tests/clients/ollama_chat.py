"""Ollama's client: chats whole and streamed, options, formats, tools and their results, log probabilities."""

import json

from ollama_support import main
from support import MODEL, ORDER_TOOL, RECALL, RECALLED, expect, expect_equal

GREEDY = {"temperature": 0}
QUESTION = [{"role": "user", "content": "What is the status of order ORD-90412?"}]
SCHEMA = {
    "type": "object",
    "properties": {"answer": {"enum": ["yes", "no"]}},
    "required": ["answer"],
    "additionalProperties": False,
}


def whole(client):
    answer = client.chat(MODEL, RECALL, options=GREEDY)
    expect_equal((answer.model, answer.done, answer.done_reason), (MODEL, True, "stop"), "model, done and its reason")
    expect_equal(answer.message.role, "assistant", "role")
    expect(RECALLED in answer.message.content, f"the answer lacks {RECALLED}: {answer.message.content!r}")
    expect(answer.prompt_eval_count > 10 and answer.eval_count > 2, f"counts: {answer}")
    spent = answer.load_duration + answer.prompt_eval_duration + answer.eval_duration
    expect(0 < answer.eval_duration <= spent <= answer.total_duration, f"durations: {answer}")
    return answer


def streamed(client, answer):
    *parts, last = client.chat(MODEL, RECALL, options=GREEDY, stream=True)
    expect_equal("".join(part.message.content for part in parts), answer.message.content, "streamed text")
    expect(len(parts) > 1 and not any(part.done for part in parts), "parts before the last")
    expect_equal((last.done, last.done_reason, last.message.content), (True, "stop", ""), "the last part")
    for count in ("prompt_eval_count", "eval_count"):
        expect_equal(last[count], answer[count], f"streamed {count}")


def options(client, text):
    short = client.chat(MODEL, RECALL, options={**GREEDY, "num_predict": 3})
    expect_equal((short.eval_count, short.done_reason), (3, "length"), "an answer under num_predict")
    word = text.split()[2]
    stopped = client.chat(MODEL, RECALL, options={**GREEDY, "stop": [word]})
    expect_equal(stopped.message.content, text[: text.index(word)], f"text before the stop {word!r}")

    def sample(seed):
        chosen = {"temperature": 2, "seed": seed, "num_predict": 24}
        return client.chat(MODEL, [{"role": "user", "content": "Hello"}], options=chosen).message.content

    expect_equal(sample(7), sample(7), "two answers of one seed")
    expect(len({sample(seed) for seed in range(8)}) > 1, "eight seeds gave one answer")


def formats(client):
    bound = client.chat(MODEL, [{"role": "user", "content": "Is the KV cache useful?"}], format=SCHEMA, options=GREEDY)
    expect(json.loads(bound.message.content)["answer"] in ("yes", "no"), f"by a schema: {bound.message.content!r}")
    plain = client.chat(MODEL, [{"role": "user", "content": "Hi"}], format="json", options={**GREEDY, "num_predict": 64})
    expect(plain.message.content.lstrip().startswith("{"), f"as JSON: {plain.message.content!r}")


def likely(client, text):
    answer = client.chat(MODEL, RECALL, options=GREEDY, logprobs=True, top_logprobs=2)
    expect_equal("".join(one.token for one in answer.logprobs), text, "the tokens of the log probabilities")
    first = answer.logprobs[0]
    expect_equal((first.top_logprobs[0].token, len(first.top_logprobs)), (first.token, 2), "what was likeliest")
    expect(first.logprob <= 0, f"a log probability: {first.logprob}")
    parts = list(client.chat(MODEL, RECALL, options=GREEDY, logprobs=True, stream=True))
    tokens = [one.token for part in parts for one in part.logprobs or []]
    expect_equal("".join(tokens), text, "the streamed tokens")


def tools(client):
    asked = client.chat(MODEL, QUESTION, tools=[ORDER_TOOL], options=GREEDY)
    (call,) = asked.message.tool_calls
    expect_equal((call.function.name, dict(call.function.arguments)), ("get_order_status", {"order_id": "ORD-90412"}), "call")
    expect(not asked.message.content, f"text beside the call: {asked.message.content!r}")
    parts = list(client.chat(MODEL, QUESTION, tools=[ORDER_TOOL], options=GREEDY, stream=True))
    calls = [call for part in parts for call in part.message.tool_calls or []]
    expect_equal(calls, [call], "streamed calls")
    result = {"role": "tool", "tool_name": "get_order_status", "content": '{"status": "shipped"}'}
    spoken = client.chat(MODEL, [*QUESTION, asked.message, result], tools=[ORDER_TOOL], options=GREEDY)
    expect("shipped" in spoken.message.content, f"the answer lacks the status: {spoken.message.content!r}")
    return spoken.message.content


def check(client, _):
    answer = whole(client)
    text = answer.message.content
    streamed(client, answer)
    options(client, text)
    formats(client)
    likely(client, text)
    return f"ollama chat: {text!r}, {answer.prompt_eval_count} + {answer.eval_count} tokens; tools: {tools(client)!r}"


if __name__ == "__main__":
    main(check)
