"""Measures the demo model and what a policy is worth through an OpenAI-compatible API: greedy, held-out values.

python evaluate.py --serve target/release/plimsoll            (starts the sidecar with config.yaml beside this file)
python evaluate.py --url http://127.0.0.1:7480/v1             (asks a running one; the comparison needs its routes)
"""

import argparse
import contextlib
import datetime
import json
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

HERE = pathlib.Path(__file__).resolve().parent
DEMO = HERE.parent
sys.path.insert(0, str(DEMO / "train"))  # the generator of the conversations

import cases  # noqa: E402
import epochs  # noqa: E402
import policies  # noqa: E402
from chat import render  # noqa: E402
from client import Client, Reply  # noqa: E402
from replay import Replayed, replay  # noqa: E402
from scores import Case, has_value, refuses  # noqa: E402
from sidecar import serving  # noqa: E402
from tokens import Counter  # noqa: E402

PARTS = ("skills", "policies", "epochs", "samples")
ANSWER_TOKENS = 320


@dataclass(frozen=True)
class Scored:
    """What became of one case; points and refusal from 0 to 1."""

    points: float
    unknown: float
    cut: float
    prompt_tokens: int


@dataclass(frozen=True)
class Skill:
    """A row of the first table; shares from 0 to 1."""

    name: str
    seen: float
    new: float
    unknown: float
    goal: float | None
    prompt_tokens: float


@dataclass(frozen=True)
class Worth:
    """A row of the second table; shares from 0 to 1."""

    name: str
    answered: float
    unknown: float
    cut: float
    prompt_tokens: float


@dataclass(frozen=True)
class Worn:
    """A row of the third table; shares from 0 to 1."""

    name: str
    answered: float
    unknown: float
    cuts: float
    fewest_cuts: int
    prompt_tokens: float
    reused: float


class Evaluation:
    """One model behind one server."""

    def __init__(self, client: Client, args: argparse.Namespace) -> None:
        self.client, self.args = client, args
        self.counter = Counter(DEMO / "model")

    def skills(self) -> Iterator[Skill]:
        suites = cases.suites(self.counter)
        for suite in suites:
            if self.args.only in suite.name:
                seen, new = (
                    self.skill(suite, cases.draw(suites, suite, self.args.count, new)) for new in (False, True)
                )
                both = seen + new
                yield Skill(
                    suite.name,
                    mean(seen, "points"),
                    mean(new, "points"),
                    mean(both, "unknown"),
                    suite.goal,
                    mean(both, "prompt_tokens"),
                )

    def skill(self, suite: cases.Suite, drawn: list[Case]) -> list[Scored]:
        """Asks without a policy, so that the server's counts can be checked against our own."""
        scored = self.ask(drawn, suite.score, ANSWER_TOKENS, policies.WHOLE)
        for case, result in zip(drawn, scored, strict=True):
            expected = self.counter.count(render(case.messages, case.tools, generate=True))
            if result.prompt_tokens != expected:
                raise SystemExit(
                    f"{suite.name}: the server counts {result.prompt_tokens} prompt tokens, it should be {expected}"
                )
        return scored

    def policies(self) -> Iterator[Worth]:
        drawn = policies.draw(self.counter, self.args.count)
        for route, name in policies.POLICIES.items():
            scored = self.ask(drawn, has_value, policies.ANSWER_TOKENS, route)
            yield Worth(
                name,
                mean(scored, "points"),
                mean(scored, "unknown"),
                mean(scored, "cut"),
                mean(scored, "prompt_tokens"),
            )

    def epochs(self) -> Iterator[Worn]:
        drawn = policies.draw_long(self.counter, self.args.count)
        for route, name in policies.EPOCHS.items():
            grown = epochs.grow_all(self.client, drawn, route, self.args.concurrency)
            for case, one in zip(drawn, grown, strict=True):
                if not one.answered and self.args.show:
                    print(f"    + {case.wanted!r}\n    - {one.answer!r}", file=sys.stderr)
            yield Worn(
                name,
                mean(grown, "answered"),
                mean(grown, "unknown"),
                mean(grown, "cuts"),
                min(one.cuts for one in grown),
                mean(grown, "prompt_tokens"),
                mean(grown, "reused"),
            )

    def ask(self, drawn: list[Case], score: Callable[[Case, str], float], limit: int, route: str) -> list[Scored]:
        """Asks all cases, `concurrency` at a time, and scores the answers in the order of the cases."""
        headers = {policies.HEADER: route}
        with ThreadPoolExecutor(self.args.concurrency) as pool:
            replies = list(pool.map(lambda case: self.client.answer(case.messages, case.tools, limit, headers), drawn))
        scored = [
            Scored(score(case, reply.text), refuses(case, reply.text), reply.actions != "none", reply.prompt_tokens)
            for case, reply in zip(drawn, replies, strict=True)
        ]
        self.show(drawn, replies, scored)
        return scored

    def show(self, drawn: list[Case], replies: list[Reply], scored: list[Scored]) -> None:
        """Prints some answers that fell short."""
        both = zip(drawn, replies, scored, strict=True)
        short = [(case, reply) for case, reply, result in both if result.points < 1]
        for case, reply in short[: self.args.show]:
            asked = case.messages[-1].get("content", "")[-160:]
            print(f"    ? {asked!r}\n    + {case.wanted!r}\n    - {reply.text!r}", file=sys.stderr)


def mean(scored: Sequence[Any], field: str) -> float:
    return sum(getattr(result, field) for result in scored) / len(scored)


def skill_table(evaluation: Evaluation) -> list[Skill]:
    print("| skill | phrasings seen | phrasings new | said unknown | goal | prompt tokens |\n|---|---|---|---|---|---|")
    rows = []
    for row in evaluation.skills():
        goal = f"{row.goal:.0%}" if row.goal else ""
        shares = f"{row.seen:.0%} | {row.new:.0%} | {row.unknown:.0%}"
        print(f"| {row.name} | {shares} | {goal} | {row.prompt_tokens:.0f} |", flush=True)
        rows.append(row)
    return rows


def policy_table(evaluation: Evaluation) -> list[Worth]:
    print("| prompt | fact answered | said unknown | cut by the policy | prompt tokens |\n|---|---|---|---|---|")
    rows = []
    for row in evaluation.policies():
        shares = f"{row.answered:.0%} | {row.unknown:.0%} | {row.cut:.0%}"
        print(f"| {row.name} | {shares} | {row.prompt_tokens:.0f} |", flush=True)
        rows.append(row)
    return rows


def epoch_table(evaluation: Evaluation) -> list[Worn]:
    print("| prompt | fact answered | said unknown | cuts | prompt tokens | of it reused right after a cut |")
    print("|---|---|---|---|---|---|")
    rows = []
    for row in evaluation.epochs():
        shares = f"{row.answered:.0%} | {row.unknown:.0%} | {row.cuts:.1f}, at least {row.fewest_cuts}"
        print(f"| {row.name} | {shares} | {row.prompt_tokens:.0f} | {row.reused:.0%} |", flush=True)
        rows.append(row)
    return rows


def sample_list(evaluation: Evaluation) -> list[Replayed]:
    replayed = replay(evaluation.client, DEMO / "samples")
    different = [sample for sample in replayed if sample.difference]
    print(f"{len(replayed) - len(different)} of {len(replayed)} samples equal token for token")
    for sample in different:
        print(f"- {sample.name}: {sample.difference}")
    return replayed


def measure(url: str, args: argparse.Namespace) -> bool:
    """Prints the tables and says whether all samples are equal."""
    evaluation = Evaluation(Client(url, args.model), args)
    today = str(datetime.date.today())
    print(f"{today}, {args.count} cases per cell, held-out values, greedy, {args.concurrency} requests at a time")
    parts = {"skills": skill_table, "policies": policy_table, "epochs": epoch_table, "samples": sample_list}
    rows: dict[str, list[Any]] = {}
    for part in args.parts:
        print()
        rows[part] = parts[part](evaluation)
    if args.out:
        report: dict[str, Any] = {"date": today, "model": args.model, "cases": args.count}
        report |= {part: [asdict(row) for row in found] for part, found in rows.items()}
        args.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return not any(sample.difference for sample in rows.get("samples", []))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:7480/v1", help="base URL of the API (default: %(default)s)")
    parser.add_argument("--model", default="demo", help="model id (default: %(default)s)")
    parser.add_argument(
        "--serve", type=pathlib.Path, metavar="BINARY", help="start this plimsoll instead of asking --url"
    )
    parser.add_argument("--config", type=pathlib.Path, default=HERE / "config.yaml", help="what --serve serves")
    parser.add_argument("--count", type=int, default=60, help="conversations per cell (default: %(default)s)")
    parser.add_argument("--concurrency", type=int, default=8, help="requests at a time (default: %(default)s)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure (default: all)")
    parser.add_argument("--only", default="", help="part of a skill's name")
    parser.add_argument("--show", type=int, default=0, help="answers that fell short to print per cell, on stderr")
    parser.add_argument("--out", type=pathlib.Path, help="write the figures as JSON to this file")
    return parser.parse_args()


def main() -> int:
    args = parse_arguments()
    with serving(args.serve, args.config) if args.serve else contextlib.nullcontext(args.url) as url:
        return 0 if measure(url, args) else 1


if __name__ == "__main__":
    sys.exit(main())
