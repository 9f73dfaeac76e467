"""What of the GPU's check needs no GPU: its arguments, its list of what is missing, and the points run on the CPU."""

import argparse
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import points  # noqa: E402
import run  # noqa: E402
from sidecar import Sidecar  # noqa: E402

SCRIPT = Path(__file__).with_name("run.py")


def call(*arguments, **environment):
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment)
    return done.returncode, done.stdout + done.stderr


class Arguments(unittest.TestCase):
    def test_points_are_chosen_and_checked(self):
        code, told = call("--dry-run", "--only", "3", "--only", "9")
        listed = [line for line in told.splitlines() if line[:2].strip().isdigit() and not line.startswith("missing")]
        self.assertEqual([line.split()[0] for line in listed if line[0] in " 1"], ["3", "9"])
        for wrong in (["--only", "11"], ["--only", "x"], ["--cycles", "0"], ["--nonsense"]):
            code, told = call(*wrong)
            self.assertEqual(code, 2, told)

    def test_there_are_ten_points(self):
        self.assertEqual(len(points.ALL), 10)
        code, told = call("--help")
        self.assertEqual(code, 0)
        self.assertIn("--dry-run", told)


class DryRun(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.root = Path(self.folder.name)

    def make(self, name, text=""):
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(0o755)
        return file

    def arguments(self):
        return ("--dry-run", "--plimsoll", self.root / "plimsoll", "--runtime", self.root / "lib/libonnxruntime.so",
                "--model", self.root / "model", "--reference", self.root / "model")

    def test_all_that_is_missing_is_told_at_once(self):
        (self.root / "bin").mkdir()
        code, told = call(*self.arguments(), PATH=str(self.root / "bin"))
        self.assertEqual(code, 1)
        for part in ("plimsoll` is missing: cargo build", "providers_cuda.so", "providers_shared.so",
                     "libonnxruntime.so` is missing", "model` is no model folder", "`nvidia-smi` is missing"):
            self.assertIn(part, told)
        # Without --dry-run nothing is run either, and nothing is printed that looks like a result.
        code, told = call(*self.arguments()[1:], PATH=str(self.root / "bin"))
        self.assertEqual(code, 2)
        self.assertNotIn("verdict", told)

    def test_a_machine_that_has_all_is_ready(self):
        for name in ("plimsoll", "lib/libonnxruntime.so", "lib/libonnxruntime_providers_cuda.so",
                     "lib/libonnxruntime_providers_shared.so", "model/tokenizer.json"):
            self.make(name)
        self.make("bin/nvidia-smi", "#!/bin/sh\necho 'GPU 0: A GPU (UUID: GPU-1)'\n")
        path = f"{self.root / 'bin'}:{os.environ['PATH']}"
        code, told = call(*self.arguments(), PATH=path)
        self.assertEqual((code, told.splitlines()[-1]), (0, "all that is needed is there"))
        code, told = call(*self.arguments(), "--device", "1", PATH=path)
        self.assertEqual(code, 1)
        self.assertIn("there is no CUDA device 1: nvidia-smi -L lists 1", told)


@unittest.skipUnless(os.environ.get("PLIMSOLL"), "needs the program's path in PLIMSOLL")
class PointsOnTheCpu(unittest.TestCase):
    """The very code of the points, over the CPU: a point that breaks here would break there."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        root = run.ROOT
        cls.args = argparse.Namespace(
            plimsoll=Path(os.environ["PLIMSOLL"]), runtime=root / ".runtime/libonnxruntime.so",
            model=root / "engine/demo/model", reference=root / "engine/demo/model", device=0, cycles=2)

    def start(self, device="cuda", **options):
        self.assertIn(device, ("cuda", "cpu"))
        return Sidecar(self.args, Path(self.folder.name), dict(os.environ), device="cpu", **options)

    def measured(self, number):
        return run.measure(self.args, number, points.ALL[number - 1], self.start)

    def test_answers_are_compared(self):
        _, _, verdict, figures = self.measured(1)
        # It is not CUDA, which is what the point is about.
        self.assertEqual(verdict, points.FAILED)
        self.assertIn("CPUExecutionProvider; of 32 tokens as on the CPU: [32, 32, 32, 32]; beside others equal: True", figures)

    def test_prefixes_are_copied(self):
        _, _, verdict, figures = self.measured(2)
        self.assertEqual(verdict, points.PASSED, figures)

    def test_memory_is_read_after_each_unload(self):
        readings = iter((700 << 20, 703 << 20, 700 << 20, 790 << 20))
        saved, points.used = points.used, lambda device: next(readings)
        self.addCleanup(setattr, points, "used", saved)
        self.assertEqual(self.measured(3)[2:], (points.PASSED, "MiB in use after each unload: [700, 703]"))
        self.assertEqual(self.measured(3)[2], points.FAILED)

    def test_the_other_points_end(self):
        self.addCleanup(setattr, points, "TOKENS", points.TOKENS)
        points.TOKENS = 8
        for number in (4, 5, 6, 7, 8, 9, 10):
            _, _, verdict, figures = self.measured(number)
            self.assertNotIn("Error", figures, number)
            expected = {points.OPEN} if not points.ALL[number - 1].judged else {points.PASSED, points.FAILED}
            self.assertIn(verdict, expected, figures)

    def test_a_point_that_breaks_is_a_failure(self):
        def breaks(_start, _args):
            raise RuntimeError("no such device")
        row = run.measure(self.args, 1, points.Point("x", breaks), self.start)
        self.assertEqual(row[2:], (points.FAILED, "RuntimeError: no such device"))
        self.assertIn("| x    | FAILED", run.table([row]))


if __name__ == "__main__":
    unittest.main()
