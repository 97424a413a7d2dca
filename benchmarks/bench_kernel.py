# SPDX-License-Identifier: MIT
"""What does mlk.ko cost: memory, idle decision, sample, inference, round trip?

Times are those of User-Mode Linux, which runs at native speed on one processor, without
checkers; rivals run in the same guest. A timer's clock costs more there than on metal.
"""

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common import Bars, Figures
from common import main as run_main

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "scripts" / "guest"
ENGINE = ROOT / "kernel" / "engine"
ROUNDS = 7
BARS: Bars = {
    "module text and data kib": (96.0, "max"),
    "a model without its ring bytes": (4096.0, "max"),
    "decide when idle ns": (5.0, "max"),
    "push of 16 features ns": (60.0, "max"),
    "records lost of a million in a second": (0.0, "max"),
    "inference 5-15-5-4 ns": (150.0, "max"),
    "inference 31-256-2 ns": (4500.0, "max"),
    "inference 5-15-5-4 over user space": (1.1, "max"),
    "inference 31-256-2 over user space": (1.1, "max"),
    "round trip over eventfd": (1.5, "max"),
}


def script(*command: str) -> str:
    """Run one of scripts/guest; what it printed."""
    done = subprocess.run(
        [str(SCRIPTS / command[0]), *command[1:]], stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        raise SystemExit(f"{command[0]}: status {done.returncode}\n{done.stdout}")
    return done.stdout


def compile_user(folder: Path) -> None:
    """Build what runs in user space; the engine as the kernel builds it, with -O2."""
    compiler = os.environ.get("CC", "cc")
    here = Path(__file__).parent
    uapi = ROOT / "kernel" / "include" / "uapi"
    subprocess.run(
        [
            compiler, "-O2", "-Wall", f"-I{uapi}",
            "-o", str(folder / "kernel_user"), str(here / "kernel_user.c"),
        ],
        check=True,
    )  # fmt: skip
    subprocess.run(
        [
            compiler, "-O2", "-std=gnu11", "-shared", "-fPIC", "-DMLK_NO_SIMD",
            f"-I{ENGINE}", f"-I{ROOT / 'kernel' / 'arch'}",
            "-o", str(folder / "run_loop.so"), str(here / "run_loop.c"),
            *map(str, sorted(ENGINE.glob("mlk_*.c"))),
        ],
        check=True,
    )  # fmt: skip


def module_bytes(module: Path) -> int:
    """Code and data that stay in memory; not the tables of unwinder and loader."""
    kept = r"\.(text|rodata|data|bss|ref\.data)[.\w]*|__(tracepoints|bpf_raw_tp)\w*"
    lines = subprocess.check_output(["size", "-A", module], text=True).split("\n")
    sections = [line.split() for line in lines[2:] if line.strip()]
    return sum(int(size) for name, size, *_ in sections if re.fullmatch(kept, name))


@contextmanager
def on_one_cpu() -> Iterator[None]:
    """Let children run on one processor only.

    A guest has one, but is several processes here, which wake each other: from one
    processor to another that takes a virtual machine longer than what is measured.
    """
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def in_guest(name: str, rounds: int) -> dict[str, float]:
    """Build and boot; what the script of that name beside this one has measured."""
    script("module.sh", "uml-fast")
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as folder:
        compile_user(Path(folder))
        out = str(ROOT / "build" / "guest" / "uml-fast")
        guest = str(Path(__file__).with_name(name))
        with on_one_cpu():
            said = script(
                "run.sh", "uml-fast", out, "python", guest, folder, str(rounds)
            )
    match = re.search(r"^FIGURES (.*)$", said, re.M)
    if match is None:
        raise SystemExit(said)
    found: dict[str, float] = json.loads(match[1])
    return found


def run(rounds: int) -> Figures:
    """Build, boot, measure."""
    stock = Path(script("module.sh", "stock").strip())
    found = in_guest("kernel_guest.py", rounds)
    small, large = "5-15-5-4", "31-256-2"
    return {
        "module text and data kib": module_bytes(stock / "mlk.ko") / 1024,
        "a model without its ring bytes": found["model"],
        "a model with what sysfs keeps for it bytes": found["slab"],
        "empty loop ns": found["empty"],
        "decide when idle ns": found["decide"] - found["empty"],
        "push of 16 features ns": found["push"],
        "push rate asked for per second": found["push rate"],
        "records lost of a million in a second": float(found["lost"]),
        "records torn": float(found["wrong"]),
        "reader kept from running ms": found["away"] / 1e6,
        "room in the ring ms": 262144 / found["push rate"] * 1000,
        "inference 5-15-5-4 ns": found[f"{small} kernel"],
        "inference 31-256-2 ns": found[f"{large} kernel"],
        "inference 5-15-5-4 over user space": (
            found[f"{small} kernel"] / found[f"{small} user"]
        ),
        "inference 31-256-2 over user space": (
            found[f"{large} kernel"] / found[f"{large} user"]
        ),
        "round trip us": found["round trip"] / 1000,
        "eventfd us": found["eventfd"] / 1000,
        "round trip over eventfd": found["round trip"] / found["eventfd"],
    }


def main() -> int:
    """Run from the command line."""
    return run_main(__doc__ or "", run, BARS, ROUNDS)


if __name__ == "__main__":
    raise SystemExit(main())
