"""Tests of the measurement against a server that answers from a table: python -m unittest discover engine/demo/eval"""

import contextlib
import http.server
import io
import json
import pathlib
import sys
import tempfile
import threading
import types
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "train")]

import cases  # noqa: E402
import epochs  # noqa: E402
import evaluate  # noqa: E402
import policies  # noqa: E402
import scores  # noqa: E402
from chat import render  # noqa: E402
from client import Client, wire  # noqa: E402
from sidecar import serving  # noqa: E402
from tokens import Counter  # noqa: E402

SAMPLES = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((HERE.parent / "samples").glob("*.json"))]
COUNTER = Counter(HERE.parent / "model")
ACTIONS = ("none", "summarize=4", "cap_tool_output=1, summarize=6, fit_context=3", "trim_turns=2")
CALL = {"id": "c", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'}}


class Recorded(http.server.BaseHTTPRequestHandler):
    """Answers the samples as recorded, anything else with a tool call; remembers every body."""

    bodies: list[dict] = []
    answers = {json.dumps(wire(sample["messages"])): sample for sample in SAMPLES}

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.bodies.append(body)
        sample = self.answers.get(json.dumps(body["messages"]))
        message = (
            {"role": "assistant", "content": sample["expected"]} if sample else {"content": None, "tool_calls": [CALL]}
        )
        choice = {"message": message, "finish_reason": "stop", "token_ids": sample and sample["expected_tokens"]}
        answer = json.dumps({"choices": [choice], "usage": {"prompt_tokens": sample["prompt_tokens"] if sample else 7}})
        self.send_response(200)
        self.send_header("content-length", str(len(answer)))
        self.send_header("X-Plimsoll-Actions", "trim_turns=2")
        self.end_headers()
        self.wfile.write(answer.encode())

    def log_message(self, *_: object) -> None:
        """Keeps the test's output free of access logs."""


class OverHttp(unittest.TestCase):
    def setUp(self) -> None:
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Recorded)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.client = Client(f"http://127.0.0.1:{self.server.server_port}/v1", "demo")
        Recorded.bodies.clear()

    def tearDown(self) -> None:
        self.client.connection().close()
        self.server.shutdown()
        self.server.server_close()

    def evaluation(self, **changed: object) -> evaluate.Evaluation:
        args = types.SimpleNamespace(**({"count": 2, "concurrency": 2, "only": "", "show": 0} | changed))
        return evaluate.Evaluation(self.client, args)

    def test_all_samples_are_replayed(self) -> None:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            evaluate.sample_list(self.evaluation())
        self.assertEqual(printed.getvalue(), f"{len(SAMPLES)} of {len(SAMPLES)} samples equal token for token\n")
        self.assertTrue(all(body["return_token_ids"] and body["temperature"] == 0 for body in Recorded.bodies))

    def test_calls_come_back_as_the_model_writes_them(self) -> None:
        reply = self.client.answer([{"role": "user", "content": "?"}])
        self.assertEqual(
            reply.text, '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
        )
        self.assertEqual(reply.actions, "trim_turns=2")

    def test_each_policy_is_asked_by_its_header_and_its_cuts_are_counted(self) -> None:
        rows = list(self.evaluation().policies())
        self.assertEqual([row.name for row in rows], list(policies.POLICIES.values()))
        self.assertEqual({(row.answered, row.cut, row.prompt_tokens) for row in rows}, {(0.0, 1.0, 7.0)})

    def test_a_grown_conversation_is_asked_at_each_of_its_users_messages(self) -> None:
        epochs.PAUSE_SECONDS = 0
        case = policies.draw(COUNTER, 1)[0]
        Recorded.bodies.clear()
        grown = epochs.grow(self.client, case, "epochs-extract")
        users = [end for end, message in enumerate(case.messages, 1) if message["role"] == "user"]
        self.assertEqual([len(body["messages"]) for body in Recorded.bodies], users)
        self.assertEqual((grown.cuts, grown.answered, grown.reused), (0, 0, 0))

    def test_a_cut_is_a_prompt_that_lacks_more_than_the_one_before(self) -> None:
        dropped = [epochs.dropped_by(types.SimpleNamespace(actions=actions)) for actions in ACTIONS]
        self.assertEqual(dropped, [0, 4, 9, 0])

    def test_a_server_that_counts_otherwise_is_refused(self) -> None:
        with self.assertRaisesRegex(SystemExit, "counts 7 prompt tokens"):
            list(self.evaluation(only="arithmetic").skills())


BINARY = """#!{python}
import http.server, os, sys

class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass

if sys.argv[1:] != ["serve", "--config", "{config}"]:
    sys.exit(3)
host, port = os.environ["PLIMSOLL__LISTEN__ADMIN"].split(":")
http.server.HTTPServer((host, int(port)), Ready).serve_forever()
"""


class Serving(unittest.TestCase):
    """The binary is a program that takes the arguments of `plimsoll serve` and answers on the admin port."""

    def setUp(self) -> None:
        folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory())).resolve()
        self.binary, self.config = folder / "plimsoll", folder / "config.yaml"
        self.binary.write_text(BINARY.format(python=sys.executable, config=self.config), encoding="utf-8")
        self.binary.chmod(0o700)

    def test_it_is_ready_inside_and_gone_afterwards(self) -> None:
        with serving(self.binary, self.config) as url:
            self.assertRegex(url, r"^http://127\.0\.0\.1:\d+/v1$")

    def test_one_that_ends_before_it_is_ready_is_told(self) -> None:
        with self.assertRaisesRegex(SystemExit, "ended with 3"), serving(self.binary, self.config.parent):
            self.fail("it never was ready")


class Conversations(unittest.TestCase):
    def test_tokens_are_counted_as_recorded(self) -> None:
        for sample in SAMPLES:
            text = render(sample["messages"], sample["tools"], generate=True)
            self.assertEqual(COUNTER.count(text), sample["prompt_tokens"])

    def test_the_same_cases_are_drawn_at_every_run(self) -> None:
        suites = cases.suites(COUNTER)
        for suite in suites:
            self.assertEqual(cases.draw(suites, suite, 2, True), cases.draw(suites, suite, 2, True))

    def test_the_fact_of_the_comparison_is_told_once_behind_the_greeting_and_lies_far_back(self) -> None:
        for case in policies.draw(COUNTER, 5):
            self.assertNotIn(case.values[0], case.messages[0]["content"])
            self.assertIn(case.values[0], case.messages[2]["content"])
            self.assertGreater(COUNTER.count(render(case.messages)), policies.DISTANCE - cases.QUESTION_TOKENS)

    def test_the_longer_ones_hold_the_fact_once_and_fit_their_window_at_every_turn(self) -> None:
        config = (HERE / "config.yaml").read_text(encoding="utf-8")
        for route in policies.EPOCHS:
            self.assertIn(f"policy: {route}, window: {policies.EPOCHS_WINDOW} }}", config)
        drawn = policies.draw_long(COUNTER, 5)
        self.assertEqual(drawn, policies.draw_long(COUNTER, 5))
        for case in drawn:
            self.assertIn(case.values[0], case.messages[2]["content"])
            self.assertTrue(policies.fits(case, COUNTER))
            self.assertGreater(COUNTER.count(render(case.messages)), policies.EPOCHS_DISTANCE - cases.QUESTION_TOKENS)
        long = {"role": "user", "content": "and " * policies.EPOCHS_WINDOW}
        self.assertFalse(policies.fits(scores.Case([*case.messages, long], [], ""), COUNTER))

    def test_wire_form_pairs_each_result_with_its_call(self) -> None:
        sample = next(sample for sample in SAMPLES if sample["name"] == "two-calls")
        sent = wire(sample["messages"])
        calls = next(message["tool_calls"] for message in sent if "tool_calls" in message)
        results = [message["tool_call_id"] for message in sent if message["role"] == "tool"]
        self.assertEqual([call["id"] for call in calls], results)
        self.assertTrue(all(isinstance(call["function"]["arguments"], str) for call in calls))


class Scores(unittest.TestCase):
    def test_a_value_must_stand_alone(self) -> None:
        case = scores.Case([], [], "Your port is 8080.", ("8080",))
        self.assertEqual(
            [scores.has_value(case, text) for text in ("It is 8080.", "18080", "80801 or 8080", "")], [1, 0, 1, 0]
        )

    def test_calls_must_parse_and_be_equal(self) -> None:
        wanted = '<tool_call>\n{"name": "a", "arguments": {}}\n</tool_call>'
        case = scores.Case([], [], wanted)
        self.assertEqual(scores.same_calls(case, wanted.replace(": ", ":")), 1)
        for wrong in ("", wanted[:-3], wanted + wanted, wanted.replace("{}", "{")):
            self.assertEqual(scores.same_calls(case, wrong), 0)


if __name__ == "__main__":
    unittest.main()
