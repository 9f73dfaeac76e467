"""Several answers to one prompt: each is what a request of its own would give, whole and in interleaved chunks."""

import json

from support import MODEL, ORDER_TOOL, expect, expect_equal, main

HELLO = [{"role": "user", "content": "Hello"}]
CALLING = [{"role": "user", "content": "What is the status of order ORD-90412?"}]
SEED = 11
N = 4


def sampled(client, seed, **options):
    return client.chat.completions.create(
        model=MODEL, messages=HELLO, temperature=2, seed=seed, max_tokens=24, logprobs=True, top_logprobs=2, **options
    )


def told(choice):
    return (
        choice.message.content,
        choice.finish_reason,
        [(token.token, token.logprob) for token in choice.logprobs.content],
    )


def whole(client):
    alone = [sampled(client, SEED + place) for place in range(N)]
    answer = sampled(client, SEED, n=N)
    expect_equal([choice.index for choice in answer.choices], list(range(N)), "order of the choices")
    # Rows of a batch are summed in another order than a row alone: the last digits may differ.
    for choice, single in zip(answer.choices, alone):
        (text, finish, likely), (wanted, ended, sure) = told(choice), told(single.choices[0])
        expect_equal((text, finish), (wanted, ended), f"choice {choice.index} and the answer to its seed alone")
        expect_equal([token for token, _ in likely], [token for token, _ in sure], "tokens")
        close = all(abs(one - other) < 1e-3 for (_, one), (_, other) in zip(likely, sure))
        expect(close, f"log probabilities of choice {choice.index}: {likely} and {sure}")
    expect(len({choice.message.content for choice in answer.choices}) > 1, "all choices are alike")
    usage = answer.usage
    expect_equal(usage.prompt_tokens, alone[0].usage.prompt_tokens, "prompt tokens, once")
    expect_equal(usage.completion_tokens, sum(one.usage.completion_tokens for one in alone), "completion tokens")
    expect_equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens, "total tokens")
    return answer


def streamed(client, answer):
    chunks = list(sampled(client, SEED, n=N, stream=True, stream_options={"include_usage": True}))
    *content, last = chunks
    expect_equal(len({chunk.id for chunk in chunks}), 1, "ids of one stream")
    expect(all(chunk.usage is None and len(chunk.choices) == 1 for chunk in content), "usage or choices in a chunk")
    expect_equal((last.choices, last.usage.completion_tokens), ([], answer.usage.completion_tokens), "last chunk")
    order = [chunk.choices[0].index for chunk in content]
    for wanted in answer.choices:
        own = [chunk.choices[0] for chunk in content if chunk.choices[0].index == wanted.index]
        expect_equal(own[0].delta.role, "assistant", "role of a choice's first delta")
        expect_equal("".join(one.delta.content or "" for one in own), wanted.message.content, "streamed text")
        finishes = [one.finish_reason for one in own]
        expect_equal((finishes[-1], any(finishes[:-1])), (wanted.finish_reason, False), "finish of a choice")
        tokens = [token.token for one in own if one.logprobs for token in one.logprobs.content]
        expect_equal(tokens, [token.token for token in wanted.logprobs.content], "streamed tokens")
    moves = sum(one != other for one, other in zip(order, order[1:]))
    expect(moves > 2 * N, f"the choices came one after the other: {order}")


def calls(client):
    options = {"model": MODEL, "messages": CALLING, "tools": [ORDER_TOOL], "temperature": 0, "n": 2}
    choices = client.chat.completions.create(**options).choices
    ids = [choice.message.tool_calls[0].id for choice in choices]
    expect_equal(len(set(ids)), 2, "ids of the calls of two choices")
    for choice in choices:
        expect_equal(choice.finish_reason, "tool_calls", "finish reason")
        arguments = json.loads(choice.message.tool_calls[0].function.arguments)
        expect_equal(arguments, {"order_id": "ORD-90412"}, "arguments")
    streamed_ids, finishes, arguments = {}, {}, {0: "", 1: ""}
    for chunk in client.chat.completions.create(**options, stream=True):
        choice = chunk.choices[0]
        for delta in choice.delta.tool_calls or []:
            streamed_ids.setdefault(choice.index, delta.id)
            arguments[choice.index] += delta.function.arguments or ""
        finishes[choice.index] = choice.finish_reason or finishes.get(choice.index)
    expect_equal(len(set(streamed_ids.values())), 2, "streamed ids")
    expect_equal(finishes, {0: "tool_calls", 1: "tool_calls"}, "streamed finish reasons")
    for text in arguments.values():
        expect_equal(json.loads(text), {"order_id": "ORD-90412"}, "streamed arguments")


def legacy(client):
    def complete(**options):
        return client.completions.create(
            model=MODEL, prompt="The KV cache keeps", temperature=1.5, max_tokens=12, logprobs=1, **options
        )

    alone = [complete(seed=3 + place).choices[0] for place in range(2)]
    both = complete(seed=3, n=2, best_of=2).choices
    expect_equal([choice.text for choice in both], [choice.text for choice in alone], "two completions")
    offsets = [choice.logprobs.text_offset for choice in both]
    expect_equal(offsets, [choice.logprobs.text_offset for choice in alone], "text offsets")
    texts = ["", ""]
    for chunk in complete(seed=3, n=2, stream=True):
        texts[chunk.choices[0].index] += chunk.choices[0].text
    expect_equal(texts, [choice.text for choice in alone], "two streamed completions")


def check(client):
    answer = whole(client)
    streamed(client, answer)
    calls(client)
    legacy(client)
    return f"choices: {[choice.message.content[:20] for choice in answer.choices]}, the same alone and streamed"


if __name__ == "__main__":
    main(check)
