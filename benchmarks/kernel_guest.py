# SPDX-License-Identifier: MIT
"""What bench_kernel.py runs in a guest: prints one line of JSON.

Loops in the kernel are those of kernel/tests/mlk_guest.c, which give nanoseconds.
"""

import ctypes
import functools
import json
import re
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "tests"))
from helpers.guest import insmod  # noqa: E402
from helpers.mlk_abi import Proxy, client, image, numbers, program_of  # noqa: E402
from helpers.models import network  # noqa: E402

FOLDER = Path(sys.argv[1])
ROUNDS = int(sys.argv[2])
NETWORKS = ((5, 15, 5, 4), (31, 256, 2))
PUSHED = 1_000_000


def kernel(what: str, count: int, *rest: int) -> float:
    """Nanoseconds per turn of a loop in the kernel."""
    words = " ".join(map(str, (count, *rest)))
    return numbers(f"bench {what} {words}")[0] / count


def medians(rivals: dict[str, Callable[[], float]]) -> dict[str, float]:
    """Interleaved rounds, so that a neighbour's noise hits all rivals."""
    taken: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(ROUNDS):
        for name, rival in rivals.items():
            taken[name].append(rival())
    return {name: statistics.median(values) for name, values in taken.items()}


def user_loop(data: bytes) -> Callable[[], float]:
    """Make a rival of the engine in C in user space, scalar as the kernel's."""
    library = ctypes.CDLL(str(FOLDER / "run_loop.so"))
    library.mlk_run_loop.restype = ctypes.c_int64
    library.mlk_run_loop.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_long]
    memory = ctypes.create_string_buffer(len(data) + 64 + (1 << 16))
    at = (ctypes.addressof(memory) + 63) & ~63
    ctypes.memmove(at, data, len(data))
    arena = (at + len(data) + 63) & ~63

    def measure() -> float:
        assert memory is not None  # must live as long as this does
        return float(library.mlk_run_loop(at, arena, 20000)) / 20000

    return measure


def idle_and_push() -> dict[str, float]:
    """A model of 16 features, first in emergency mode, then started."""
    client("register bench 16 1 1024")
    found = medians(
        {
            "empty": lambda: kernel("empty", 5_000_000),
            "decide": lambda: kernel("decide", 5_000_000),
        }
    )
    Proxy("bench").to("started")
    found |= medians({"push": lambda: kernel("push", 200_000)})
    client("unregister")
    return found


def inference() -> dict[str, float]:
    """Both networks in the kernel and in user space."""
    found: dict[str, float] = {}
    for widths in NETWORKS:
        name = "-".join(map(str, widths))
        code = program_of(network(widths, softmax=False))
        client(f"register bench {widths[0]} 1 64 0 32768")
        proxy = Proxy("bench")
        proxy.to("running")
        proxy.write_program(image(code, 0, 0, head=0))
        shape = (widths[-1], widths[0])
        found |= medians(
            {
                f"{name} kernel": functools.partial(kernel, "infer", 20000, *shape),
                f"{name} user": user_loop(code),
            }
        )
        client("unregister")
    return found


def round_trip() -> dict[str, float]:
    """Kernel to owner and back, beside two processes that wake each other."""
    count = 2000
    client("register bench 4 1 1024")
    proxy = Proxy("bench")
    proxy.to("running")

    def kernel_user_kernel() -> float:
        owner = subprocess.Popen(
            [FOLDER / "kernel_user", "owner", proxy.device, str(count)],
            stdout=subprocess.PIPE,
        )
        assert owner.stdout is not None
        owner.stdout.readline()
        (ns,) = numbers(f"pingpong {count}")
        owner.communicate()
        return ns / count

    def eventfd() -> float:
        command = [str(FOLDER / "kernel_user"), "eventfd", str(count)]
        return int(subprocess.check_output(command)) / count

    found = medians({"round trip": kernel_user_kernel, "eventfd": eventfd})
    client("unregister")
    return found


def lossless() -> dict[str, float]:
    """The best of some runs: the timer makes up for time that the host took away.

    Then more is pushed at once than the ring has room for, while no reader could run.
    """
    return min((million() for _ in range(5)), key=lambda found: found["lost"])


def million() -> dict[str, float]:
    """One million records a second, pushed from a timer's interrupt."""
    client("register bench 16 1 262144")
    proxy = Proxy("bench")
    proxy.to("started")
    reader = subprocess.Popen(
        [FOLDER / "kernel_user", "reader", proxy.device, str(PUSHED)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert reader.stdout is not None
    reader.stdout.readline()
    (ns,) = numbers(f"ticks {PUSHED // 1000} 1000000 1000")
    read, lost, wrong, away = (int(word) for word in reader.stdout.read().split())
    reader.wait()
    client("unregister")
    return {
        "read": read,
        "lost": lost,
        "wrong": wrong,
        "away": away,
        "push rate": PUSHED / ns * 1e9,
    }


def memory() -> dict[str, float]:
    """Slab of a model with a ring of one page, files and all."""

    def slab() -> int:
        lines = Path("/proc/meminfo").read_text().split("\n")
        return next(int(line.split()[1]) for line in lines if line.startswith("Slab"))

    client("register bench 16 2 1")
    client("unregister")
    before = slab()
    client("crowd 64 16 2 1")
    after = slab()
    client("crowd 0")
    return {"slab": (after - before) * 1024 / 64, "model": model_bytes()}


def model_bytes() -> int:
    """What mlk itself keeps allocated for a model of 16 features and a knob."""
    tracing = Path("/sys/kernel/tracing")
    events = [tracing / "events" / "kmem" / name for name in ("kmalloc", "kfree")]
    (tracing / "trace").write_text("")
    for event in events:
        (event / "enable").write_text("1")
    client("register bench 16 1 1")
    for event in events:
        (event / "enable").write_text("0")
    kept: dict[str, int] = {}
    for line in (tracing / "trace").read_text().split("\n"):
        if made := re.search(r"=\S+ \[mlk\] ptr=(\S+) .*bytes_alloc=(\d+)", line):
            kept[made[1]] = int(made[2])
        elif freed := re.search(r"kfree: .*ptr=(\S+)", line):
            kept.pop(freed[1], None)
    client("unregister")
    assert kept, "no allocation was traced"
    return sum(kept.values())


def main() -> None:
    """Measure everything."""
    insmod("mlk")
    insmod("mlk_guest")
    found = idle_and_push() | inference() | round_trip() | lossless() | memory()
    print("FIGURES " + json.dumps(found))


if __name__ == "__main__":
    main()
