"""Asks a model through the OpenAI chat API; standard library only."""

import http.client
import json
import threading
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from chat import answer_text

Message = dict[str, Any]
TIMEOUT_SECONDS = 300


@dataclass(frozen=True)
class Reply:
    """An answer with what the server says about it."""

    text: str
    ids: list[int] | None
    finish: str
    prompt_tokens: int
    cached_tokens: int
    headers: dict[str, str]

    @property
    def actions(self) -> str:
        """What the policy did: `trim_turns=12`, or `none`."""
        return self.headers.get("x-plimsoll-actions", "none")


class Client:
    """Greedy answers from one model; may be shared by threads, each of which keeps its own connection."""

    def __init__(self, url: str, model: str) -> None:
        self.address = urllib.parse.urlsplit(url)
        self.model = model
        self.local = threading.local()

    def answer(
        self,
        messages: list[Message],
        tools: Sequence[dict[str, Any]] = (),
        limit: int = 320,
        headers: dict[str, str] | None = None,
        with_ids: bool = False,
    ) -> Reply:
        """The answer to a conversation in the form of the generator, of at most `limit` tokens."""
        body = {"model": self.model, "messages": wire(messages), "max_tokens": limit, "temperature": 0}
        if tools:
            body["tools"] = list(tools)
        if with_ids:
            body["return_token_ids"] = True
        answer, received = self.post("/chat/completions", body, headers or {})
        choice = answer["choices"][0]
        return Reply(
            text_of(choice["message"]),
            choice.get("token_ids"),
            choice["finish_reason"],
            answer["usage"]["prompt_tokens"],
            (answer["usage"].get("prompt_tokens_details") or {}).get("cached_tokens") or 0,
            received,
        )

    def post(self, path: str, body: dict[str, Any], headers: dict[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
        """Sends a JSON body and reads the JSON answer and its headers."""
        connection = self.connection()
        sent = {"content-type": "application/json", **headers}
        connection.request("POST", self.address.path.rstrip("/") + path, json.dumps(body).encode(), sent)
        response = connection.getresponse()
        text = response.read().decode()
        if response.status != 200:
            raise SystemExit(f"{path} answered {response.status}: {text[:2000]}")
        return json.loads(text), {name.lower(): value for name, value in response.getheaders()}

    def connection(self) -> http.client.HTTPConnection:
        """This thread's connection, opened on first use."""
        if not hasattr(self.local, "connection"):
            self.local.connection = http.client.HTTPConnection(self.address.netloc, timeout=TIMEOUT_SECONDS)
        return self.local.connection


def wire(messages: list[Message]) -> list[Message]:
    """Messages of the generator as the API wants them: calls and results have ids, arguments are JSON text."""
    waiting: list[str] = []
    sent: list[Message] = []
    for message in messages:
        plain: Message = {name: message[name] for name in ("role", "content") if name in message}
        if message["role"] == "tool":
            plain["tool_call_id"] = waiting.pop(0)
        elif message.get("tool_calls"):
            calls = [wire_call(call, f"call_{len(sent)}_{at}") for at, call in enumerate(message["tool_calls"])]
            plain["tool_calls"] = calls
            waiting = [call["id"] for call in calls]
        sent.append(plain)
    return sent


def wire_call(call: dict[str, Any], call_id: str) -> dict[str, Any]:
    function = call["function"]
    arguments = json.dumps(function["arguments"], ensure_ascii=False)
    return {"id": call_id, "type": "function", "function": {"name": function["name"], "arguments": arguments}}


def text_of(message: Message) -> str:
    """The answer as the model wrote it, calls in their tags. Arguments that are no JSON stay text."""
    calls = [
        {"function": {**call["function"], "arguments": parsed(call["function"]["arguments"])}}
        for call in message.get("tool_calls") or []
    ]
    return answer_text({"content": message.get("content"), "tool_calls": calls})


def parsed(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments
