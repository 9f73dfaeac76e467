"""The chat format: a Jinja template for inference and the same rendering in Python with training weights.

ChatML turns; tools are listed in the system block; a call is a JSON object between <tool_call> tags; a tool result
is a user turn between <tool_response> tags. Every message is rendered by itself and only appended, so the text of
n messages is always the start of the text of n + 1 messages.
"""

import json
from typing import Any

START, END, PAD = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
TOOLS_HEAD = "# Tools\n\nThese functions can be called. Their signatures stand between <tools></tools>:\n<tools>\n"
TOOLS_TAIL = (
    "</tools>\n\nCall a function with one JSON object between <tool_call></tool_call>:\n"
    '<tool_call>\n{"name": <function name>, "arguments": <arguments object>}\n</tool_call>'
)

TEMPLATE = """{#- Every message is rendered by itself, so a longer conversation only appends text. -#}
{%- macro plain(content) -%}
    {%- if content is string -%}
        {{- content -}}
    {%- elif content -%}
        {%- for part in content if part.text is defined -%}
            {%- if not loop.first -%}{{- '\\n\\n' -}}{%- endif -%}{{- part.text -}}
        {%- endfor -%}
    {%- endif -%}
{%- endmacro -%}
{%- set opening = messages and messages[0].role in ['system', 'developer'] -%}
{%- if opening or tools -%}
    {{- '<|im_start|>system\\n' -}}
    {%- if opening -%}{{- plain(messages[0].content) -}}{%- endif -%}
    {%- if tools -%}
        {%- if opening -%}{{- '\\n\\n' -}}{%- endif -%}
        {{- TOOLS_HEAD -}}
        {%- for tool in tools -%}{{- tool | tojson -}}{{- '\\n' -}}{%- endfor -%}
        {{- TOOLS_TAIL -}}
    {%- endif -%}
    {{- '<|im_end|>\\n' -}}
{%- endif -%}
{%- for message in messages -%}
    {%- if message.role == 'tool' -%}
        {{- '<|im_start|>user\\n<tool_response>\\n' -}}{{- message.content if message.content is string else plain(message.content) -}}{{- '\\n</tool_response><|im_end|>\\n' -}}
    {%- elif message.role == 'assistant' -%}
        {{- '<|im_start|>assistant\\n' -}}
        {%- set said = message.content if message.content is string else plain(message.content) if message.content else '' -%}
        {{- said -}}
        {%- for call in message.tool_calls or [] -%}
            {%- set target = call.function if call.function is defined else call -%}
            {%- if said or not loop.first -%}{{- '\\n' -}}{%- endif -%}
            {{- '<tool_call>\\n{"name": ' -}}{{- target.name | tojson -}}{{- ', "arguments": ' -}}
            {%- if target.arguments is string -%}{{- target.arguments -}}{%- else -%}{{- target.arguments | tojson -}}{%- endif -%}
            {{- '}\\n</tool_call>' -}}
        {%- endfor -%}
        {{- '<|im_end|>\\n' -}}
    {%- elif not (loop.first and opening) -%}
        {{- '<|im_start|>' -}}{{- 'user' if message.role == 'user' else 'system' -}}{{- '\\n' -}}
        {{- message.content if message.content is string else plain(message.content) -}}{{- '<|im_end|>\\n' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
""".replace("TOOLS_HEAD", json.dumps(TOOLS_HEAD)).replace("TOOLS_TAIL", json.dumps(TOOLS_TAIL))


Message = dict[str, Any]


def to_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def call_text(call: dict[str, Any]) -> str:
    """One tool call as the model writes it."""
    function = call["function"]
    name, arguments = to_json(function["name"]), to_json(function["arguments"])
    return f'<tool_call>\n{{"name": {name}, "arguments": {arguments}}}\n</tool_call>'


def answer_text(message: Message) -> str:
    """The text of an assistant message, tool calls included."""
    parts = [message["content"]] if message.get("content") else []
    return "\n".join(parts + [call_text(call) for call in message.get("tool_calls") or []])


def read_calls(text: str) -> list[dict[str, Any]] | None:
    """The calls in an answer; none where there are none or one of them is broken."""
    parts = [part.partition("</tool_call>") for part in text.split("<tool_call>")[1:]]
    try:
        calls = [json.loads(body) for body, _, _ in parts]
    except ValueError:
        return None
    return calls if calls and all(closed for _, closed, _ in parts) else None


def system_text(messages: list[Message], tools: list[dict[str, Any]] | None) -> str:
    """The system block, or nothing where there is neither a system message nor a tool."""
    opening = bool(messages) and messages[0]["role"] == "system"
    parts = [messages[0]["content"]] if opening else []
    if tools:
        parts.append(TOOLS_HEAD + "".join(to_json(tool) + "\n" for tool in tools) + TOOLS_TAIL)
    return f"{START}system\n" + "\n\n".join(parts) + f"{END}\n" if parts else ""


def segments(messages: list[Message], tools: list[dict[str, Any]] | None = None) -> list[tuple[str, bool]]:
    """The rendered conversation as (text, whether the model should learn to write it)."""
    head = system_text(messages, tools)
    parts = [(head, False)] if head else []
    for index, message in enumerate(messages):
        role = message["role"]
        if role == "assistant":
            parts += [
                (f"{START}assistant\n", False),
                (answer_text(message) + END, message.get("learn", True)),
                ("\n", False),
            ]
        elif role == "tool":
            parts.append((f"{START}user\n<tool_response>\n{message['content']}\n</tool_response>{END}\n", False))
        elif not (index == 0 and role == "system"):
            parts.append((f"{START}{role}\n{message['content']}{END}\n", False))
    return parts


def render(messages: list[Message], tools: list[dict[str, Any]] | None = None, generate: bool = False) -> str:
    """The whole text, equal to what the template gives."""
    return "".join(text for text, _ in segments(messages, tools)) + (f"{START}assistant\n" if generate else "")
