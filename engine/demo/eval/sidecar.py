"""Starts Plimsoll for the time of a measurement."""

import contextlib
import os
import pathlib
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
READY_SECONDS = 120
STOP_SECONDS = 40


@contextlib.contextmanager
def serving(binary: pathlib.Path, config: pathlib.Path) -> Iterator[str]:
    """Serves `config` on free ports of this machine and gives the base URL of the API.

    The working directory is the repository's root: paths in the config start there.
    """
    data, admin = free_ports(2)
    listeners = {"PLIMSOLL__LISTEN__DATA": f"127.0.0.1:{data}", "PLIMSOLL__LISTEN__ADMIN": f"127.0.0.1:{admin}"}
    command = [str(binary.resolve()), "serve", "--config", str(config.resolve())]
    process = subprocess.Popen(command, cwd=REPOSITORY, env=os.environ | listeners)
    try:
        wait_until_ready(process, f"http://127.0.0.1:{admin}/readyz")
        yield f"http://127.0.0.1:{data}/v1"
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        process.kill()
        process.wait()


def free_ports(count: int) -> list[int]:
    """Different ports that nobody listens on; all are held until the last one is found."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def wait_until_ready(process: subprocess.Popen[bytes], address: str) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"the sidecar ended with {process.returncode} before it was ready")
        with contextlib.suppress(OSError, urllib.error.URLError):
            with urllib.request.urlopen(address, timeout=2) as response:
                if response.status == 200:
                    return
        time.sleep(0.1)
    raise SystemExit(f"the sidecar was not ready within {READY_SECONDS} seconds: {address}")
