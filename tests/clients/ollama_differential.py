"""Every call of Ollama's client, printed as the client understands the answers: the same direct and through a sidecar."""

import json

from ollama import ResponseError

from ollama_support import main
from support import ORDER_TOOL

MODEL = "llama3.2"
TALK = [
    {"role": "system", "content": "Be brief \u2014 and kind."},
    {"role": "user", "content": "What is on the picture?", "images": [b"\x89PNG\r\n"]},
    {
        "role": "assistant",
        "content": "",
        "thinking": "hm",
        "tool_calls": [{"function": {"name": "f", "arguments": {"n": number}}} for number in (1.5, 2)],
    },
    {"role": "tool", "tool_name": "f", "content": "7"},
    {"role": "tool", "tool_name": "f", "content": "8"},
    {"role": "user", "content": "And now?"},
]


def shown(answer):
    if hasattr(answer, "model_dump"):
        return answer.model_dump(mode="json")
    seen = []
    try:
        for part in answer:
            seen.append(part.model_dump(mode="json"))
    except ResponseError as error:
        seen.append([error.status_code, error.error])
    return seen


def left(client):
    """The rest of the stream never comes."""
    parts = client.chat(MODEL, TALK, stream=True)
    first = next(parts)
    parts.close()
    return first


def calls(client):
    """In the order in which the server has its answers."""
    options = {"num_ctx": 4096, "temperature": 0.5, "stop": ["a", "b"], "mirostat": 1}
    yield lambda: client.chat(MODEL, TALK, tools=[ORDER_TOOL], options=options, think="low", keep_alive="5m")
    yield lambda: client.chat(MODEL, TALK, stream=True, format="json", logprobs=True, top_logprobs=1)
    yield lambda: client.generate(MODEL, "Why?", system="Be brief.", options=options, context=[1, 2, 3])
    yield lambda: client.generate(MODEL, "Why?", suffix="because", stream=True)
    yield lambda: client.generate(MODEL, "Why?", raw=True, images=[b"\x89PNG\r\n"])
    yield lambda: client.generate(MODEL, keep_alive=0)
    yield lambda: client.embed(MODEL, ["a", "b"], truncate=False, dimensions=4)
    yield lambda: client.embeddings(MODEL, "a")
    yield lambda: client.show(MODEL)
    yield lambda: client.list()
    yield lambda: client.ps()
    yield lambda: client.pull(MODEL, stream=True)
    yield lambda: client.copy(MODEL, "mine")
    yield lambda: client.delete("mine")
    for model in ("no-such-model", MODEL, MODEL, MODEL):
        yield lambda model=model: client.chat(model, TALK)
    yield lambda: client.chat(MODEL, TALK, stream=True)
    yield lambda: left(client)


def check(client, _):
    lines = []
    for call in calls(client):
        try:
            lines.append(shown(call()))
        except ResponseError as error:
            lines.append([error.status_code, error.error])
    return "\n".join(json.dumps(line) for line in lines)


if __name__ == "__main__":
    main(check)
