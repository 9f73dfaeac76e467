"""The byte-level BPE tokenizer, trained on generated conversations; digits stand alone, so that numbers are copied."""

import argparse
import pathlib
from collections.abc import Iterator

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from chat import END, PAD, START, TEMPLATE, render
from generate import conversation
from source import Source

SPECIALS = [PAD, START, END]


def corpus(conversations: int, seed: int) -> Iterator[str]:
    """Texts of generated conversations without the special tokens."""
    s = Source(seed)
    for _ in range(conversations):
        sample = conversation(s, 512)
        text = render(sample["messages"], sample["tools"])
        yield from (part.split(END)[0] for part in text.split(START) if part)


def train_tokenizer(vocab_size: int, conversations: int, seed: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=SPECIALS,
        show_progress=False,
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(corpus(conversations, seed), trainer)
    return tokenizer


def save(tokenizer: Tokenizer, folder: pathlib.Path) -> None:
    """Writes the tokenizer as transformers expects it, with the chat template beside it."""
    from transformers import PreTrainedTokenizerFast

    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        model_max_length=4096,
        clean_up_tokenization_spaces=False,
        chat_template=TEMPLATE,
    )
    fast.save_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("build/tokenizer"))
    parser.add_argument("--vocab", type=int, default=2048, help="tokens of the vocabulary")
    parser.add_argument("--conversations", type=int, default=8000, help="generated conversations it is trained on")
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer(args.vocab, args.conversations, args.seed)
    save(tokenizer, args.out)
    print(f"{tokenizer.get_vocab_size()} tokens in {args.out}")


if __name__ == "__main__":
    main()
