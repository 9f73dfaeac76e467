"""Ollama's client: prompts, the tokens that go on from an answer, raw prompts, models that come and go, lists, errors."""

from datetime import datetime, timedelta, timezone

from ollama import ResponseError

from ollama_support import main
from support import MODEL, RECALLED, Failed, expect, expect_equal

GREEDY = {"temperature": 0}


def continued(client):
    """The tokens of an answer are a conversation: going on from them is what a chat of the same turns says."""
    told = "My order number is ORD-48213."
    asked = "What is my order number?"
    first = client.generate(MODEL, told, options=GREEDY)
    expect_equal((first.done, first.done_reason), (True, "stop"), "done and its reason")
    expect_equal(len(first.context), first.prompt_eval_count + first.eval_count, "tokens of prompt and answer")
    second = client.generate(MODEL, asked, context=first.context, options=GREEDY)
    turns = [("user", told), ("assistant", first.response), ("user", asked)]
    chat = client.chat(MODEL, [{"role": role, "content": text} for role, text in turns], options=GREEDY)
    expect_equal(second.response, chat.message.content, "what follows the tokens, and the same turns as a chat")
    expect_equal(second.prompt_eval_count, chat.prompt_eval_count, "tokens of both prompts")
    expect(RECALLED in second.response, f"the answer lacks {RECALLED}: {second.response!r}")
    *parts, last = client.generate(MODEL, asked, context=first.context, options=GREEDY, stream=True)
    expect_equal("".join(part.response for part in parts), second.response, "streamed text")
    expect_equal(last.context, second.context, "streamed tokens")
    stop = second.response.split()[1]
    stopped = client.generate(MODEL, asked, context=first.context, options={**GREEDY, "stop": [stop]})
    expect(len(stopped.context) < len(second.context), "the stop string and what it cut off are not in the tokens")
    return second.response


def raw(client):
    plain = client.generate(MODEL, "The KV cache keeps", raw=True, options={**GREEDY, "num_predict": 8})
    expect_equal((plain.done_reason, plain.eval_count), ("length", 8), "a raw prompt's answer")
    expect(plain.context is None, "a raw prompt gives no tokens back")
    instructed = client.generate(MODEL, "Hi", system="Be brief.", options=GREEDY)
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    expect_equal(instructed.response, client.chat(MODEL, chat, options=GREEDY).message.content, "with instructions")


def comes_and_goes(client):
    def loaded():
        return [model.model for model in client.ps().models]

    expect_equal(client.generate(MODEL, keep_alive=0).done_reason, "unload", "reason where the model is to go")
    expect_equal(loaded(), [], "models loaded after that")
    expect_equal(client.chat(MODEL, [], keep_alive="10m").done_reason, "load", "reason where it is to be there")
    (model,) = client.ps().models
    left = model.expires_at - datetime.now(timezone.utc)
    expect(timedelta(minutes=9) < left <= timedelta(minutes=10), f"it stays for {left}")
    expect_equal((model.context_length, model.size_vram), (2048, 0), "its window, and what is on a GPU")
    client.generate(MODEL, keep_alive=-1)
    expect(client.ps().models[0].expires_at - datetime.now(timezone.utc) > timedelta(days=3650), "it stays for ever")
    client.chat(MODEL, [{"role": "user", "content": "Hi"}], keep_alive=0, options={"num_predict": 1})
    client.generate(MODEL)


def lists(client):
    (listed,) = client.list().models
    expect_equal(listed.model, f"{MODEL}:latest", "the model's name")
    shown = client.show(listed.model)
    expect_equal(shown.modelinfo["llama.context_length"], 2048, "the window")
    expect("tools" in shown.capabilities, f"capabilities: {shown.capabilities}")
    expect(client.chat(listed.model, [{"role": "user", "content": "Hi"}]).model == listed.model, "the name comes back")


def refused(what, status, call, said):
    try:
        call()
    except ResponseError as error:
        expect_equal(error.status_code, status, f"{what}: status")
        expect(said in error.error, f"{what}: {error.error!r} lacks {said!r}")
        return error.error
    raise Failed(f"{what}: no error")


def errors(client):
    hello = [{"role": "user", "content": "Hello"}]
    words = [{"role": "user", "content": "amber lamp " * 4000}]
    shown = refused("overflow", 400, lambda: client.chat(MODEL, words), "tokens")
    expect(any(char.isdigit() for char in shown), f"overflow: no counts in {shown!r}")
    refused("streamed overflow", 400, lambda: list(client.chat(MODEL, words, stream=True)), "tokens")
    refused("a smaller window", 400, lambda: client.chat(MODEL, [{"role": "user", "content": "amber lamp " * 60}], options={"num_ctx": 64}), "64")
    refused("unknown model", 404, lambda: client.chat("no-such-model", hello), "no-such-model")
    refused("embeddings", 501, lambda: client.embed(MODEL, "a"), "embeddings")
    refused("images", 400, lambda: client.chat(MODEL, [{**hello[0], "images": [b"\x89PNG"]}]), "messages[0].images")
    refused("wrong type", 400, lambda: client.generate(MODEL, "a", options={"temperature": "hot"}), "options.temperature")
    refused("out of range", 400, lambda: client.generate(MODEL, "a", options={"repeat_penalty": -1}), "options.repeat_penalty")
    refused("filling in", 400, lambda: client.generate(MODEL, "a", suffix="b"), "suffix")
    refused("a template", 400, lambda: client.generate(MODEL, "a", template="b"), "template")
    refused("thinking", 400, lambda: client.chat(MODEL, hello, think=True), "think")
    refused("a format", 400, lambda: client.chat(MODEL, hello, format={"type": "no such type"}), "format")
    refused("tokens of another model", 400, lambda: client.generate(MODEL, "a", context=[99999999]), "99999999")
    expect(client.chat(MODEL, hello).done, "the sidecar does not answer after the errors")
    return shown


def check(client, _):
    said = continued(client)
    raw(client)
    lists(client)
    comes_and_goes(client)
    return f"ollama generate: {said!r}; {errors(client)}"


if __name__ == "__main__":
    main(check)
