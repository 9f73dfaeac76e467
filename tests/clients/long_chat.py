"""Sixty turns in a window of 2,048 tokens: never an error, every count exact, the prefix kept between cuts."""

from support import MODEL, expect, expect_equal, main

WINDOW = 2048
TURNS = 60
OUTPUT = 48
BUDGET = WINDOW - OUTPUT
QUESTIONS = [
    "My order number is ORD-{n}. Please keep it in mind, I will ask for it again before we are done here.",
    "What is the KV cache?",
    "The staging server is db-{n}. All our nightly jobs run there and write their logs to its second disk.",
    "What is a context window?",
    "My deadline is {day} May, and it cannot be moved because the customer has booked the whole day for it.",
    "Why do long chats use more memory?",
]


def question(turn):
    return QUESTIONS[turn % len(QUESTIONS)].format(n=40000 + 37 * turn, day=1 + turn % 28)


def ask(client, messages):
    """The answer's text and what the sidecar said about the request."""
    raw = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=messages, temperature=0, max_tokens=OUTPUT
    )
    answer = raw.parse()
    details = answer.usage.prompt_tokens_details
    seen = {
        "before": int(raw.headers["x-plimsoll-tokens-before"]),
        "after": int(raw.headers["x-plimsoll-tokens-after"]),
        "actions": raw.headers["x-plimsoll-actions"],
        "prompt": answer.usage.prompt_tokens,
        "cached": (details.cached_tokens if details else None) or 0,
    }
    return answer.choices[0].message.content or "", seen


def check_turn(turn, seen, last):
    """Whether the prefix was cut in this turn."""
    where = f"turn {turn}"
    expect_equal(seen["prompt"], seen["after"], f"{where}: usage.prompt_tokens against x-plimsoll-tokens-after")
    expect(seen["prompt"] <= BUDGET, f"{where}: {seen['prompt']} tokens ran, the budget is {BUDGET}")
    expect(seen["after"] <= seen["before"], f"{where}: the policy added tokens: {seen}")
    expect(
        seen["after"] == seen["before"] or seen["actions"] != "none",
        f"{where}: tokens went and no action says so: {seen}",
    )
    expect(last is None or seen["before"] > last["before"], f"{where}: the conversation did not grow: {seen}")
    if last is None or seen["actions"] != last["actions"]:
        return last is not None
    # A newline that opens an answer may merge with the one that ends the prompt: one token.
    expect(
        seen["cached"] >= last["prompt"] - 1,
        f"{where}: no cut, yet only {seen['cached']} of the last prompt's {last['prompt']} tokens were reused",
    )
    return False


def check(client):
    messages = [{"role": "system", "content": "You are a helpful assistant."}]
    last, cuts, cached, prompts = None, [], 0, 0
    for turn in range(1, TURNS + 1):
        messages.append({"role": "user", "content": question(turn)})
        text, seen = ask(client, messages)
        messages.append({"role": "assistant", "content": text})
        if check_turn(turn, seen, last):
            cuts.append(turn)
        last, cached, prompts = seen, cached + seen["cached"], prompts + seen["prompt"]
    expect(last["before"] > WINDOW, f"the conversation of {last['before']} tokens never left the window")
    expect(0 < len(cuts) <= TURNS // 4, f"the prefix was cut in turns {cuts}")
    return (
        f"long chat: {TURNS} turns, {last['before']} tokens in, {last['after']} run, "
        f"cut in turns {cuts}, {cached / prompts:.0%} of all prompt tokens reused ({last['actions']})"
    )


if __name__ == "__main__":
    main(check)
