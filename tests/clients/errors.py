"""Errors in the shape that the SDK understands: class, code, type, and a message that helps."""

from openai import APIStatusError, BadRequestError, NotFoundError

from support import MODEL, Failed, expect, expect_equal, main

HELLO = [{"role": "user", "content": "Hello"}]


def refused(kind, what, call, code=None):
    """The error that `call` raises, checked."""
    try:
        call()
    except APIStatusError as error:
        expect(isinstance(error, kind), f"{what}: {type(error).__name__} in place of {kind.__name__}: {error}")
        expect(isinstance(error.body, dict), f"{what}: the body has no `error` object: {error.body!r}")
        expect_equal(error.type, "invalid_request_error", f"{what}: type")
        expect(error.body.get("message"), f"{what}: no message")
        expect(code is None or error.code == code, f"{what}: code {error.code!r}, wanted {code!r}")
        return error
    raise Failed(f"{what}: no error")


def overflow(chat, **options):
    words = [{"role": "user", "content": "amber lamp " * 4000}]
    error = refused(BadRequestError, "overflow", lambda: chat(messages=words, **options), "context_length_exceeded")
    expect_equal(error.param, "messages", "overflow: param")
    expect(any(char.isdigit() for char in error.body["message"]), f"overflow: no counts in {error.body['message']!r}")
    return error


def check(client):
    def chat(**options):
        return client.chat.completions.create(**{"model": MODEL, "messages": HELLO, "max_tokens": 8, **options})

    orphan = [*HELLO, {"role": "tool", "tool_call_id": "call_1", "content": "lost"}]
    shown = overflow(chat)
    overflow(chat, stream=True)
    refused(NotFoundError, "unknown model", lambda: chat(model="no-such-model"), "model_not_found")
    refused(NotFoundError, "unknown path", lambda: client.images.generate(prompt="a lamp"))
    refused(BadRequestError, "no messages", lambda: chat(messages=[]))
    refused(BadRequestError, "wrong type", lambda: chat(temperature="hot"))
    refused(BadRequestError, "out of range", lambda: chat(temperature=-1))
    for n in (0, 5, 9):
        # The engine of this test has four slots; nine are beyond every engine.
        error = refused(BadRequestError, f"{n} choices", lambda n=n: chat(n=n), "invalid_value")
        expect_equal(error.param, "n", f"{n} choices: param")
    refused(BadRequestError, "orphan tool result", lambda: chat(messages=orphan))
    expect(chat().choices, "the sidecar does not answer after the errors")
    return f"errors: {shown.status_code} {shown.code}: {shown.body['message']}"


if __name__ == "__main__":
    main(check)
