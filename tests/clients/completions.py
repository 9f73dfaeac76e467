"""Legacy completions: a prompt as text and as token ids give the same tokens; vLLM's two extensions."""

from support import MODEL, expect, expect_equal, main

PROMPT = "The KV cache keeps"


def complete(client, prompt, stream=False, **extensions):
    return client.completions.create(
        model=MODEL, prompt=prompt, temperature=0, max_tokens=16, stream=stream, extra_body=extensions
    )


def check(client):
    by_text = complete(client, PROMPT, return_token_ids=True, ignore_eos=True)
    expect_equal(by_text.object, "text_completion", "object")
    choice = by_text.choices[0]
    ids = choice.prompt_token_ids
    expect_equal(len(ids), by_text.usage.prompt_tokens, "number of prompt ids")
    expect_equal(len(choice.token_ids), 16, "number of ids under ignore_eos")
    expect_equal(choice.finish_reason, "length", "finish reason")

    by_ids = complete(client, ids, return_token_ids=True, ignore_eos=True)
    expect_equal(by_ids.choices[0].token_ids, choice.token_ids, "ids after a prompt of ids")
    expect_equal(by_ids.choices[0].text, choice.text, "text after a prompt of ids")
    plain = complete(client, PROMPT).choices[0].model_extra
    expect("token_ids" not in plain and "prompt_token_ids" not in plain, f"ids came without being asked for: {plain}")

    chunks = complete(client, ids, ignore_eos=True, stream=True)
    expect_equal("".join(chunk.choices[0].text for chunk in chunks), choice.text, "streamed text")
    return f"completions: {len(ids)} prompt ids, {choice.token_ids[:4]}... as text, as ids and streamed"


if __name__ == "__main__":
    main(check)
