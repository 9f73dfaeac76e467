"""Trains the demo model within a time budget, saves checkpoints and goes on from the last one.

python train.py --minutes 75 --out build/run
"""

import argparse
import json
import math
import pathlib
import queue
import signal
import threading
import time
from typing import Any

import torch
from tokenizers import Tokenizer
from torch.nn import functional as F

from generate import DEFAULT_MIX
from model import Llama, Shape
from packing import Packer
from source import Source

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("build/run"), help="folder of the checkpoint")
    parser.add_argument(
        "--tokenizer", type=pathlib.Path, default=pathlib.Path("build/tokenizer"), help="folder that tokenizer.py wrote"
    )
    parser.add_argument("--minutes", type=float, default=75, help="time budget of the whole schedule")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=3e-3, help="highest learning rate")
    parser.add_argument("--warmup", type=float, default=0.02, help="share of the budget for the warm-up")
    parser.add_argument("--batch-tokens", type=int, default=8192, help="tokens of a batch, padding included")
    parser.add_argument(
        "--lengths",
        default="256:0.3,512:0.5,1152:1.0",
        help="longest conversation in tokens : share of the budget up to which it is used",
    )
    parser.add_argument("--mix", default="", help="weights of the skills, for example recall=40,tools=20")
    parser.add_argument("--start-from", type=pathlib.Path, help="weights of an earlier run, with a new schedule")
    parser.add_argument("--save-every", type=float, default=150, help="seconds between checkpoints")
    return parser.parse_args()


def learning_rate(share: float, args: argparse.Namespace) -> float:
    """Linear warm-up, then a cosine to zero, by the share of the time budget that is used."""
    if share < args.warmup:
        return args.rate * share / args.warmup
    return args.rate * 0.5 * (1 + math.cos(math.pi * min(1.0, (share - args.warmup) / (1 - args.warmup))))


def row_length(share: float, lengths: str) -> int:
    """The longest conversation at this share of the budget: short ones first, copying emerges sooner on them."""
    for part in lengths.split(","):
        length, until = part.split(":")
        if share <= float(until):
            return int(length)
    return int(length)


def parse_mix(text: str) -> dict[str, float]:
    mix = dict(DEFAULT_MIX)
    mix.update((name, float(weight)) for name, weight in (p.split("=") for p in text.split(",") if p))
    return mix


class Feeder(threading.Thread):
    """Prepares batches beside the training."""

    def __init__(self, packer: Packer, batch_tokens: int, length: int) -> None:
        super().__init__(daemon=True)
        self.packer, self.batch_tokens, self.length = packer, batch_tokens, length
        self.ready: queue.Queue[Batch] = queue.Queue(maxsize=4)

    def run(self) -> None:
        while True:
            self.ready.put(self.packer.batch(self.batch_tokens, self.length))


def make_optimizers(model: Llama, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for the embeddings and the norms."""
    matrices = [p for p in model.model.layers.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    groups = [
        {"params": [model.model.embed_tokens.weight], "weight_decay": 0.05},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return [
        torch.optim.Muon(matrices, lr=rate, momentum=0.95, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), fused=True),
    ]


def loss_of(model: Llama, batch: Batch, device: torch.device) -> torch.Tensor:
    ids, places, targets = (t.to(device, non_blocking=True) for t in batch)
    return F.cross_entropy(model(ids, places), targets)


class Run:
    """The state of a training run."""

    def __init__(self, args: argparse.Namespace, device: torch.device) -> None:
        self.args, self.device = args, device
        torch.manual_seed(args.seed)
        self.shape = Shape()
        self.model = Llama(self.shape, torch.bfloat16).to(device)
        self.optimizers = make_optimizers(self.model, args.rate)
        self.step = self.tokens = 0
        self.stopping = False
        signal.signal(signal.SIGTERM, self.stop)
        self.seconds = 0.0
        self.checkpoint = args.out / "last.pt"
        if self.checkpoint.exists():
            self.load(torch.load(self.checkpoint, map_location=device))
        elif args.start_from:
            self.model.load_state_dict(torch.load(args.start_from, map_location=device)["model"])

    def load(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.tokens, self.seconds = state["step"], state["tokens"], state["seconds"]
        print(f"going on at step {self.step}, {self.seconds / 60:.1f} minutes", flush=True)

    def stop(self, *_: Any) -> None:
        """A request to end: the loop saves a checkpoint after the current step."""
        self.stopping = True

    def save(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "optimizers": [o.state_dict() for o in self.optimizers],
            "shape": self.shape.as_dict(),
            "step": self.step,
            "tokens": self.tokens,
            "seconds": self.seconds,
        }
        waiting = self.checkpoint.with_suffix(".tmp")
        torch.save(state, waiting)
        waiting.replace(self.checkpoint)

    def used(self) -> float:
        """The share of the time budget that is used."""
        return self.seconds / (self.args.minutes * 60)

    def feeder(self) -> Feeder:
        tokenizer = Tokenizer.from_file(str(self.args.tokenizer / "tokenizer.json"))
        packer = Packer(tokenizer, Source(self.args.seed * 1000003 + self.step), parse_mix(self.args.mix))
        feeder = Feeder(packer, self.args.batch_tokens, row_length(self.used(), self.args.lengths))
        feeder.start()
        return feeder

    def train(self) -> None:
        """Trains until the time budget is used or a stop is asked for."""
        feeder, losses = self.feeder(), []
        saved = mark = time.monotonic()
        marked_tokens = self.tokens
        while self.used() < 1 and not self.stopping:
            started = time.monotonic()
            feeder.length = row_length(self.used(), self.args.lengths)
            losses.append(self.update(feeder.ready.get(), learning_rate(self.used(), self.args)))
            now = time.monotonic()
            self.seconds += now - started
            if self.step % 50 == 0:
                speed = (self.tokens - marked_tokens) / (now - mark)
                print(
                    json.dumps(
                        {
                            "step": self.step,
                            "minutes": round(self.seconds / 60, 2),
                            "loss": round(sum(losses) / len(losses), 4),
                            "tokens": self.tokens,
                            "per_second": round(speed),
                        }
                    ),
                    flush=True,
                )
                mark, marked_tokens, losses = now, self.tokens, []
            if now - saved > self.args.save_every:
                self.save()
                saved = now
        self.save()

    def update(self, batch: Batch, rate: float) -> float:
        """One step; gives the loss before it."""
        for group in (g for o in self.optimizers for g in o.param_groups):
            group["lr"] = rate
        loss = loss_of(self.model, batch, self.device)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.tokens += batch[0].numel()
        return loss.item()


def main() -> None:
    args = parse_arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    run = Run(args, device)
    print(f"{sum(p.numel() for p in run.model.parameters()):,} parameters on {device.type}", flush=True)
    run.train()
    print(f"ended: {run.step} steps, {run.tokens:,} tokens", flush=True)


if __name__ == "__main__":
    main()
