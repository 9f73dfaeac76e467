#!/usr/bin/env python3
"""What has to be seen on a GPU before CUDA is believed: `tests/gpu/run.py`, at the root of the repository.

Ten points, each with a figure and a verdict, printed as a table. A point that this program cannot judge yet says so and
is no success. `--dry-run` runs nothing: it looks for all that is needed and says what is missing.

Needed: a machine with an NVIDIA GPU, its driver (CUDA 13), ONNX Runtime for CUDA (`tests/gpu/setup.sh` fetches it into
`.runtime-cuda`), a built `plimsoll` (`cargo build --release -p plimsoll-proxy`). Nothing but Python's own library.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import points  # noqa: E402
from sidecar import Sidecar  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry-run", action="store_true", help="run nothing, say what is missing; exit code 1 if anything is")
    parser.add_argument("--plimsoll", type=Path, default=ROOT / "target/release/plimsoll", help="the program")
    parser.add_argument("--runtime", type=Path, default=ROOT / ".runtime-cuda/libonnxruntime.so",
                        help="ONNX Runtime for CUDA, its providers beside it")
    parser.add_argument("--model", type=Path, default=ROOT / "engine/demo/cuda-fp16", help="an fp16 folder for CUDA")
    parser.add_argument("--reference", type=Path, default=ROOT / "engine/demo/model",
                        help="the same model for the CPU, whose answers are the truth")
    parser.add_argument("--device", type=int, default=0, help="ordinal of the CUDA device")
    parser.add_argument("--only", type=point, action="append", default=[], metavar="N", help="one point; may be repeated")
    parser.add_argument("--cycles", type=positive, default=5, help="loads and unloads of point 3")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table as JSON too")
    return parser.parse_args()


def positive(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def point(text):
    number = int(text)
    if not 1 <= number <= len(points.ALL):
        raise argparse.ArgumentTypeError(f"there are points 1 to {len(points.ALL)}, got {number}")
    return number


def missing(args):
    """What is not there, each as a sentence that says how to get it."""
    found = []
    if not args.plimsoll.is_file():
        found.append(f"`{args.plimsoll}` is missing: cargo build --release -p plimsoll-proxy")
    for name in ("libonnxruntime_providers_cuda.so", "libonnxruntime_providers_shared.so"):
        if not (args.runtime.parent / name).is_file():
            found.append(f"`{args.runtime.parent / name}` is missing: tests/gpu/setup.sh fetches it")
    if not args.runtime.is_file():
        found.append(f"`{args.runtime}` is missing: tests/gpu/setup.sh fetches it")
    for folder in (args.model, args.reference):
        if not (folder / "tokenizer.json").is_file():
            found.append(f"`{folder}` is no model folder: it has no tokenizer.json")
    if shutil.which("nvidia-smi") is None:
        found.append("`nvidia-smi` is missing: install the NVIDIA driver")
    else:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
        devices = [line for line in listed.stdout.splitlines() if line.startswith("GPU ")]
        if len(devices) <= args.device:
            found.append(f"there is no CUDA device {args.device}: nvidia-smi -L lists {len(devices)}")
    return found


def chosen(args):
    return [(number, one) for number, one in enumerate(points.ALL, 1) if not args.only or number in args.only]


def table(rows):
    header = ("point", "what", "verdict", "figures")
    widths = [max(len(str(row[column])) for row in [header, *rows]) for column in range(len(header))]
    lines = [" | ".join(str(cell).ljust(width) for cell, width in zip(row, widths)) for row in [header, *rows]]
    lines.insert(1, "-|-".join("-" * width for width in widths))
    return "\n".join(f"| {line} |" for line in lines).replace("|-|", "|")


def measure(args, number, one, start):
    """One row: a point that breaks is a failure with its reason, and the others go on."""
    began = time.monotonic()
    try:
        verdict, figures = one.run(start, args)
    except Exception as error:  # noqa: BLE001
        verdict, figures = points.FAILED, f"{type(error).__name__}: {error}".splitlines()[0][:200]
    print(f"point {number} took {time.monotonic() - began:.1f} s: {verdict}", file=sys.stderr)
    return number, one.what, verdict, figures


def main():
    args = arguments()
    lacks = missing(args)
    if args.dry_run:
        for number, one in chosen(args):
            print(f"{number:2} {one.what}{'' if one.judged else ' (' + points.OPEN + ')'}")
        for sentence in lacks:
            print(f"missing: {sentence}")
        print(f"{len(lacks)} things are missing" if lacks else "all that is needed is there")
        return 1 if lacks else 0
    if lacks:
        print("\n".join(lacks), file=sys.stderr)
        return 2
    environment = dict(os.environ, LD_LIBRARY_PATH=str(args.runtime.parent))
    with tempfile.TemporaryDirectory() as folder:
        def start(**options):
            return Sidecar(args, Path(folder), environment, **options)

        rows = [measure(args, number, one, start) for number, one in chosen(args)]
    print(table(rows))
    if args.json:
        keys = ("point", "what", "verdict", "figures")
        args.json.write_text(json.dumps([dict(zip(keys, row)) for row in rows], indent=1) + "\n")
    return 0 if all(row[2] == points.PASSED for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
