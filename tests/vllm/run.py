#!/usr/bin/env python3
"""Runs a command beside two vLLM servers of the demo model: `tests/vllm/run.py COMMAND..`, at the root of the repository.

The command finds their addresses in PLIMSOLL_VLLM, and its exit code is that of this program. The servers end with it.
`tests/setup/vllm.sh` installs vLLM.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BIN = ROOT / ".tools/vllm/bin"
# Tokens of prompt and answer.
WINDOW = 2048
# Seconds for a server to load: half a minute, many on a machine with other things to do.
PATIENCE = 1800
OPTIONS = ["--served-model-name", "demo", "--dtype", "float32", "--enforce-eager", "--max-model-len", str(WINDOW),
           "--enable-auto-tool-choice", "--tool-call-parser", "hermes", "--host", "127.0.0.1"]
# A GiB for the KV cache, no reports home, nothing fetched, threads wherever there is room.
ENVIRONMENT = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1",
               "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"}


class Server:
    """A server on a free port, in a process group of its own: vLLM starts further processes."""

    def __init__(self, checkpoint, folder):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.log = folder / f"{port}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen([BIN / "vllm", "serve", checkpoint, "--port", str(port), *OPTIONS], stdout=log,
                                            stderr=log, env=os.environ | ENVIRONMENT, start_new_session=True)

    def wait(self):
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(urllib.error.URLError, OSError):
                with urllib.request.urlopen(f"{self.url}/health", timeout=5):
                    return
            time.sleep(0.5)
        sys.exit(f"vLLM did not start:\n{self.log.read_text()[-4000:]}")

    def stop(self):
        for sign in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, sign)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=30)


def main():
    # What ends this program ends the servers, too.
    for sign in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, lambda number, _: sys.exit(128 + number))
    if not (BIN / "vllm").exists():
        sys.exit(f"`{BIN / 'vllm'}` is missing: tests/setup/vllm.sh installs it")
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as started:
        folder = Path(name)
        checkpoint = folder / "checkpoint"
        checkpoint.mkdir()
        subprocess.run([BIN / "python", ROOT / "tests/vllm/checkpoint.py", checkpoint], check=True)
        servers = []
        for _ in range(2):
            servers.append(Server(checkpoint, folder))
            started.callback(servers[-1].stop)
        for server in servers:
            server.wait()
        environment = os.environ | {"PLIMSOLL_VLLM": " ".join(server.url for server in servers)}
        return subprocess.run(sys.argv[1:], check=False, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
