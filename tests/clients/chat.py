"""Chat completions as an application uses them: models, whole and streamed answers, usage, stop, limits, seed."""

from support import MODEL, RECALL, RECALLED, expect, expect_equal, main


def models(client):
    ids = [model.id for model in client.models.list()]
    expect(MODEL in ids, f"models.list has {ids}, without {MODEL!r}")


def whole(client):
    answer = client.chat.completions.create(model=MODEL, messages=RECALL, temperature=0)
    choice = answer.choices[0]
    expect_equal(answer.object, "chat.completion", "object")
    expect_equal(choice.message.role, "assistant", "role")
    expect_equal(choice.finish_reason, "stop", "finish reason")
    expect(RECALLED in choice.message.content, f"the answer lacks {RECALLED}: {choice.message.content!r}")
    usage = answer.usage
    expect_equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens, "total tokens")
    return answer


def streamed(client, answer):
    chunks = list(
        client.chat.completions.create(
            model=MODEL, messages=RECALL, temperature=0, stream=True, stream_options={"include_usage": True}
        )
    )
    expect_equal({chunk.id for chunk in chunks}, {chunks[0].id}, "ids of one stream")
    *content, last = chunks
    expect_equal(content[0].choices[0].delta.role, "assistant", "role of the first delta")
    expect(all(chunk.usage is None for chunk in content), "usage came before the last chunk")
    expect_equal(last.choices, [], "choices of the usage chunk")
    for field in ("prompt_tokens", "completion_tokens"):
        expect_equal(getattr(last.usage, field), getattr(answer.usage, field), f"streamed {field}")
    pieces = [chunk.choices[0].delta.content or "" for chunk in content]
    expect_equal("".join(pieces), answer.choices[0].message.content, "streamed text")
    expect(sum(map(bool, pieces)) > 1, "the text came in one piece")
    finishes = [chunk.choices[0].finish_reason for chunk in content]
    expect_equal(finishes[-1], "stop", "streamed finish reason")
    expect(not any(finishes[:-1]), "a finish reason came before the end")


def streamed_without_usage(client):
    chunks = list(client.chat.completions.create(model=MODEL, messages=RECALL, temperature=0, stream=True))
    expect(all(chunk.usage is None and chunk.choices for chunk in chunks), "usage was streamed without being asked for")


def stop(client, text):
    word = text.split()[2]
    answer = client.chat.completions.create(model=MODEL, messages=RECALL, temperature=0, stop=[word, "never said"])
    expect_equal(answer.choices[0].message.content, text[: text.index(word)], f"text before the stop {word!r}")
    expect_equal(answer.choices[0].finish_reason, "stop", "finish reason at a stop")
    chunks = client.chat.completions.create(model=MODEL, messages=RECALL, temperature=0, stop=word, stream=True)
    streamed_text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    expect_equal(streamed_text, text[: text.index(word)], "streamed text before the stop")


def limits(client):
    for name in ("max_tokens", "max_completion_tokens"):
        answer = client.chat.completions.create(model=MODEL, messages=RECALL, temperature=0, **{name: 3})
        expect_equal(answer.usage.completion_tokens, 3, f"completion tokens under {name}")
        expect_equal(answer.choices[0].finish_reason, "length", f"finish reason under {name}")


def seed(client):
    def sample(number):
        answer = client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "Hello"}], temperature=2, seed=number, max_tokens=24
        )
        return answer.choices[0].message.content

    expect_equal(sample(7), sample(7), "two answers of one seed")
    expect(len({sample(number) for number in range(8)}) > 1, "eight seeds gave one answer")


def check(client):
    models(client)
    answer = whole(client)
    text = answer.choices[0].message.content
    streamed(client, answer)
    streamed_without_usage(client)
    stop(client, text)
    limits(client)
    seed(client)
    return f"chat: {text!r}, {answer.usage.prompt_tokens} + {answer.usage.completion_tokens} tokens, the same streamed"


if __name__ == "__main__":
    main(check)
