# SPDX-License-Identifier: MIT
"""`pymlk run` on the models of a kernel, real or emulated, as a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from helpers.fakesys import PROXY_POLICY, model
from helpers.kernels import Kernel

from pymlk.proxy import Proxy

# a guest's processes may take so long
PATIENCE = 60.0
# rows of the guest's model, for which the policy's model wants 8 and 128
LOW, HIGH = (20, 0, 0, 0), (180, 0, 0, 0)

TRIAL = """
[trial]
min_decisions = 3
min_scores = 3
period_s = 0.1
"""


def make_policy(folder: Path, more: str = "", **changes: str) -> Path:
    """A policy for the kernel's guest, which decides on the value of a field."""
    text = PROXY_POLICY
    changes = {
        '"test/*"': '"guest/*"',
        'reads = "reads"': 'reads = "f0"',
        'path = "ra"': 'path = "k0"',
        '"delta"': '"value"',
        "default = 32": "default = 128",
        "max_step = 1": "max_step = 2",
        "interval_ms = 10": "interval_ms = 1",
        **changes,
    }
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "policy.toml").write_text(text + more)
    (folder / "model.tflite").write_bytes(model())
    return folder


def until(condition: Callable[[], object], what: str, limit: float = PATIENCE) -> None:
    """Wait for it."""
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.005)


def default_in_force(kernel: Kernel, proxy: Proxy, reason: str) -> None:
    """The client does what it would do alone, and anybody can read why."""
    until(lambda: proxy.mode == "emergency", f"no emergency, but {proxy.mode}")
    assert proxy.reason == reason
    assert not kernel.decide().use
    assert [proxy.read_attr(f"knobs/k{i}") for i in range(2)] == ["128", "0"]


class Daemon:
    """A run of a policy; what it says is kept in files."""

    def __init__(
        self,
        kernel: Kernel,
        policy: Path,
        *more: str,
        mode: str = "always",
        before: tuple[str, ...] = (),
        **environ: str,
    ) -> None:
        self.kernel = kernel
        self._out, self._err = policy / "out", policy / "err"
        command = (
            *before,
            *(sys.executable, "-P", "-m", "pymlk", "run", str(policy)),
            *("--apply", "--json", "--quiet", "--mode", mode, "--root", kernel.root),
            *("--state-dir", str(policy / "state"), *more),
        )
        with self._out.open("w") as out, self._err.open("w") as err:
            self.process = subprocess.Popen(
                command,
                stdout=out,
                stderr=err,
                env={
                    "PYMLK_LEARNT_DIR": str(policy / "learnt"),
                    **os.environ,
                    **environ,
                },
            )

    def said(self) -> str:
        """All of it."""
        return self._out.read_text() + self._err.read_text()

    def notices(self) -> list[str]:
        """What it told of, other than decisions."""
        lines = self._out.read_text().splitlines(keepends=True)
        found = [json.loads(line) for line in lines if line.endswith("\n")]
        return [line["notice"] for line in found if "notice" in line]

    def until_told(self, text: str) -> None:
        """Wait until a notice has this in it."""
        until(lambda: any(text in n for n in self.notices()), f"{text}: {self.said()}")

    def until_mode(self, proxy: Proxy, mode: str) -> None:
        """Wait for the kernel's model to be in a mode."""

        def arrived() -> bool:
            assert self.process.poll() is None, self.said()
            return proxy.mode == mode

        until(arrived, f"not in {mode}: {self.said()}")

    def follow(self, row: tuple[int, ...] = LOW, value: int = 8) -> None:
        """Push until the kernel's decisions follow it."""

        def followed() -> bool:
            assert self.process.poll() is None, self.said()
            self.kernel.push(*row)
            decision = self.kernel.decide()
            return decision.use and decision.value[0] == value

        until(followed, f"never followed: {self.said()}")

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait; the exit code."""
        self.process.send_signal(number)
        self.process.send_signal(signal.SIGCONT)
        return self.process.wait(PATIENCE)
