# SPDX-License-Identifier: MIT
"""What does the whole loop between kernel and user space cost?

The round trip is a client's sample, `pymlk run` with the shipped model, and its answer
told to the client, on the one processor of User-Mode Linux, where a system call takes
some ten times as long as on metal. Memory and idle time are those of processes that
decide once in a second; the turns of a loop without its system calls are taken here.
"""

import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench_kernel import in_guest
from bench_run import bare, status
from common import Bars, Figures, on_cpu
from common import main as run_main
from loop_policy import NAMES, attribute_policy, proxy_policy

from pymlk.emulator import Emulator, Model
from pymlk.policy import load
from pymlk.proxy import Feature, Knob
from pymlk.proxy_loop import ProxyLoop

ROUNDS = 7
SECONDS = 60
TURNS = 5000
KINDS = ("attributes", "attributes, applied", "proxy", "proxy, applied", "learning")
BARS: Bars = {
    "round trip over eventfd and poll": (1.6, "max"),
    "decision without system calls ns": (1500.0, "max"),
    **{f"{kind}: idle cpu percent": (0.05, "max") for kind in KINDS},
    **{f"{kind}: rss over bare kib": (6144.0, "max") for kind in KINDS},
}


def register(kernel: Emulator) -> Model:
    """A running model that the policies of this benchmark name."""
    model = kernel.register(
        "guest", "bench", [*map(Feature, NAMES)], [Knob("k0", "", 4, 4096, 4, 128)]
    )
    for word in ("init", "start", "run"):
        model.control(word)
    return model


def sample(n: int) -> list[int]:
    """Counters that go up."""
    return [n * (i + 1) for i in range(len(NAMES))]


def decision_ns(room: Path) -> float:
    """A turn of a loop that only reads: records, features, inference, guard."""
    taken: dict[bool, list[int]] = {False: [], True: []}
    with Emulator(room / "turns") as kernel:
        model = register(kernel)
        loop = ProxyLoop(load(str(proxy_policy(room / "policy"))), root=kernel.root)
        for n in range(TURNS):
            for there_is_one in taken:
                if there_is_one:
                    model.push(sample(n))
                start = time.perf_counter_ns()
                loop.step()
                taken[there_is_one].append(time.perf_counter_ns() - start)
        assert loop.decisions == TURNS
        loop.close()
    # what an empty turn and looking at the clock cost is not the decision's
    return statistics.median(taken[True]) - statistics.median(taken[False])


def files(room: Path) -> Path:
    """A disk's attributes, for a loop that may write to its knob."""
    queue = room / "sys" / "block" / "vda" / "queue"
    queue.mkdir(parents=True)
    (queue / "read_ahead_kb").write_text("128\n")
    (queue.parent / "stat").write_text(Path("/proc/1/statm").read_text() + "0 0 0 0\n")
    (room / "proc").mkdir()
    (room / "proc" / "vmstat").write_text(Path("/proc/vmstat").read_text())
    return room


def commands(room: Path, kernel: str) -> dict[str, list[str]]:
    """The arguments of each kind of run."""
    attributes = str(attribute_policy(room / "attributes", 1000))
    proxy = str(proxy_policy(room / "proxy", 1000))
    learning = str(proxy_policy(room / "learning", 1000, more="[learn]\n"))
    return {
        "attributes": [attributes],
        "attributes, applied": [attributes, "--apply", "--root", str(files(room))],
        "proxy": [proxy, "--root", kernel],
        "proxy, applied": [proxy, "--root", kernel, "--apply"],
        "learning": [learning, "--root", kernel, "--apply"],
    }


@contextlib.contextmanager
def running(kind: str, room: Path, arguments: list[str]) -> Iterator[int]:
    """The process of one kind of run."""
    state = room / "state" / kind
    command = [sys.executable, "-P", "-m", "pymlk", "run", "--quiet"]
    with subprocess.Popen(
        [*command, *arguments, "--state-dir", str(state)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as child:
        try:
            yield child.pid
            if child.poll() is not None:
                raise SystemExit(f"{kind}: ended with {child.returncode}")
        finally:
            child.terminate()


def processes(room: Path, seconds: int) -> Figures:
    """Memory and time of runs that decide once in a second, all at once."""
    found: Figures = {}
    base = bare()["VmRSS"]
    with contextlib.ExitStack() as stack:
        pids: dict[str, int] = {}
        pushed = []
        for number, kind in enumerate(KINDS):
            # each its own kernel: a model has one owner
            kernel = stack.enter_context(Emulator(room / f"kernel{number}"))
            pushed.append(register(kernel))
            own = room / str(number)
            arguments = commands(own, str(kernel.root))[kind]
            pids[kind] = stack.enter_context(running(kind, own, arguments))
        for second in range(-5, seconds + 1):
            if second == 0:
                before = {kind: on_cpu(pid) for kind, pid in pids.items()}
                start = time.monotonic_ns()
            for model in pushed:
                model.push(sample(second + 10))
            time.sleep(1)
        passed = time.monotonic_ns() - start
        for kind, pid in pids.items():
            used = on_cpu(pid) - before[kind]
            found[f"{kind}: idle cpu percent"] = 100 * used / passed
            found[f"{kind}: rss over bare kib"] = status(pid)["VmRSS"] - base
    return found


def run(rounds: int) -> Figures:
    """Measure in the guest, in this process, and in others."""
    guest = in_guest("loop_guest.py", rounds)
    us = {name: ns / 1000 for name, ns in guest.items()}
    with tempfile.TemporaryDirectory() as name:
        room = Path(name)
        return {
            "round trip of the loop us": us["loop"],
            "round trip of a bare answer us": us["bare"],
            "eventfd and poll us": us["poll"],
            "eventfd us": us["eventfd"],
            "reading the clock there us": us["clock"],
            "round trip over a bare answer": us["loop"] / us["bare"],
            "round trip over eventfd": us["loop"] / us["eventfd"],
            "round trip over eventfd and poll": us["loop"] / us["poll"],
            "decision without system calls ns": decision_ns(room),
            **processes(room, SECONDS),
        }


def main() -> int:
    """Run from the command line."""
    return run_main((__doc__ or "").splitlines()[0], run, BARS, ROUNDS)


if __name__ == "__main__":
    raise SystemExit(main())
