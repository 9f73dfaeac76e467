"""What the scripts of this folder share: arguments, checks that say what was wrong, the conversation they hold."""

import argparse
import json
import sys

from openai import OpenAI

MODEL = "demo"

ORDER_TOOL = {
    "type": "function",
    "function": {
        "name": "get_order_status",
        "description": "Look up the status of an order.",
        "parameters": {
            "type": "object",
            "properties": {"order_id": {"type": "string", "description": "The order number"}},
            "required": ["order_id"],
        },
    },
}

RECALL = [
    {"role": "user", "content": "My name is Maria Lopez."},
    {"role": "assistant", "content": "Nice to meet you, Maria!"},
    {"role": "user", "content": "My order number is ORD-48213."},
    {"role": "assistant", "content": "Thanks, I have noted that."},
    {"role": "user", "content": "What is my order number?"},
]
RECALLED = "ORD-48213"


class Failed(Exception):
    """A check did not hold."""


def expect(holds, message):
    if not holds:
        raise Failed(message)


def expect_equal(got, wanted, what):
    expect(got == wanted, f"{what}: got {got!r}, wanted {wanted!r}")


def main(check):
    """Runs `check(client)` against --base-url; it returns the summary line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--base-url", required=True, help="e.g. http://127.0.0.1:7480/v1")
    options = parser.parse_args()
    # No retries: a failure is to be seen, not hidden.
    client = OpenAI(base_url=options.base_url, api_key="unused", max_retries=0, timeout=120)
    try:
        print(check(client))
    except Failed as failed:
        sys.exit(f"failed: {failed}")


def show(calls, error, failed):
    """Prints what each call gives, a line a call; `failed` tells of an `error` that a call ended with."""
    for call in calls:
        try:
            print(json.dumps(call()))
        except error as raised:
            print(json.dumps(failed(raised)))
