# SPDX-License-Identifier: MIT
"""What bench_loop.py runs in a guest: prints one line of JSON."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))
sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from helpers.guest import insmod
from helpers.mlk_abi import Proxy, client, numbers
from kernel_guest import FOLDER, medians
from loop_policy import NAMES, proxy_policy

COUNT = 2000


def per_turn(*command: str) -> float:
    """Nanoseconds of a turn of a loop of kernel_user.c."""
    words = [str(FOLDER / "kernel_user"), *command, str(COUNT)]
    return int(subprocess.check_output(words)) / COUNT


def pingpong() -> float:
    """Samples that the owner answers, one after the other."""
    (ns,) = numbers(f"pingpong {COUNT}")
    return ns / COUNT


@contextlib.contextmanager
def model() -> Iterator[Proxy]:
    """A new model."""
    client(f"register bench {len(NAMES)} 1 1024")
    yield Proxy("bench")
    client("unregister")


def loop() -> float:
    """The whole of `pymlk run` answers."""
    command = [sys.executable, "-P", "-m", "pymlk", "run", "--quiet", "--apply"]
    command += ["--mode", "always", "--state-dir", "/run/state"]
    command.append(str(proxy_policy(Path("/run/policy"))))
    with model() as proxy, subprocess.Popen(command) as child:
        while proxy["mode"] != "recommendation":
            assert child.poll() is None, "the owner has ended"
            time.sleep(0.05)
        # the first sample only shows it what the second one is compared with
        for row in (COUNT + 2, COUNT + 1):
            numbers(f"push {' '.join(str(row * (i + 1)) for i in range(len(NAMES)))}")
            time.sleep(0.1)
        ns = pingpong()
        child.terminate()
        assert child.wait() == 0
    return ns


def bare() -> float:
    """A loop in C that answers without a decision."""
    with model() as proxy:
        proxy.to("running")
        command = [str(FOLDER / "kernel_user"), "owner", str(proxy.device), str(COUNT)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.readline()
            return pingpong()


def main() -> None:
    """Measure everything."""
    insmod("mlk")
    insmod("mlk_guest")
    found = medians(
        {
            "loop": loop,
            "bare": bare,
            "poll": lambda: per_turn("poll"),
            "eventfd": lambda: per_turn("eventfd"),
            "clock": lambda: per_turn("clock"),
        }
    )
    print("FIGURES " + json.dumps(found))


if __name__ == "__main__":
    main()
