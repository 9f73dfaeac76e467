"""Tests of the generator and the chat format (needs jinja2): python -m unittest discover engine/demo/train"""

import json
import pathlib
import unittest
from typing import Any

from jinja2 import Template
from jinja2.sandbox import ImmutableSandboxedEnvironment

from chat import TEMPLATE, call_text, read_calls, render
from facts import UNKNOWN
from generate import conversation
from source import EVAL, TRAIN, Source, is_held_out


DEMO = pathlib.Path(__file__).resolve().parent.parent


def template() -> Template:
    """The template with the settings of transformers."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value, **_: json.dumps(value, ensure_ascii=False)
    return environment.from_string(TEMPLATE)


def samples(count: int, seed: int = 11, split: str = TRAIN) -> list[dict[str, Any]]:
    s = Source(seed, split)
    return [conversation(s, 512) for _ in range(count)]


class ChatFormat(unittest.TestCase):
    def test_template_and_python_render_alike(self) -> None:
        made = template()
        for sample in samples(200):
            for generate in (False, True):
                text = made.render(messages=sample["messages"], tools=sample["tools"], add_generation_prompt=generate)
                self.assertEqual(text, render(sample["messages"], sample["tools"], generate))

    def test_a_longer_conversation_only_appends(self) -> None:
        made = template()
        for sample in samples(100):
            whole = made.render(messages=sample["messages"], tools=sample["tools"])
            for count in range(1, len(sample["messages"])):
                self.assertTrue(
                    whole.startswith(made.render(messages=sample["messages"][:count], tools=sample["tools"]))
                )

    def test_the_shipped_folders_have_this_template(self) -> None:
        for folder in ("model", "cuda-fp16"):
            self.assertEqual((DEMO / folder / "chat_template.jinja").read_text(encoding="utf-8"), TEMPLATE)

    def test_calls_are_read_back_as_they_were_written(self) -> None:
        calls = [{"name": "get_weather", "arguments": {"city": city}} for city in ("Oslo", "Malmö")]
        text = "\n".join(call_text({"function": call}) for call in calls)
        self.assertEqual(read_calls(text), calls)
        for broken in ("", "Hello", text[:-1], text.replace('"}}', "}}")):
            self.assertIsNone(read_calls(broken))

    def test_parts_and_text_arguments_are_accepted(self) -> None:
        made = template()
        call = {"function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'}}
        parts = [{"type": "text", "text": "Hi"}, {"type": "image_url"}, {"type": "text", "text": "there"}]
        messages = [{"role": "user", "content": parts}, {"role": "assistant", "content": None, "tool_calls": [call]}]
        text = made.render(messages=messages)
        self.assertIn("<|im_start|>user\nHi\n\nthere<|im_end|>", text)
        self.assertIn('{"name": "get_weather", "arguments": {"city": "Oslo"}}', text)


class Generator(unittest.TestCase):
    def test_the_same_seed_gives_the_same_conversations(self) -> None:
        self.assertEqual(samples(20), samples(20))

    def test_values_of_the_evaluation_are_not_trained_on(self) -> None:
        def make(s: Source) -> str:
            return f"{s.randint(0, 10**6)}"

        self.assertFalse(any(is_held_out(Source(n).value(make)) for n in range(50)))
        self.assertTrue(all(is_held_out(Source(n, EVAL).value(make)) for n in range(50)))

    def test_known_answers_contain_what_was_said(self) -> None:
        for sample in samples(200):
            for index, skill in sample["skills"]:
                answer = sample["messages"][index]["content"]
                if skill == "recall":
                    value = answer.rstrip(".").split()[-1]
                    before = "".join(m["content"] for m in sample["messages"][:index])
                    self.assertIn(value, before)
                if skill == "unknown":
                    self.assertTrue(answer.endswith(UNKNOWN))


if __name__ == "__main__":
    unittest.main()
