# SPDX-License-Identifier: MIT
"""How large is the engine: its code, what it adds to a process, a C program with it?

Code is that of the stripped objects with every operator, in plain C. Memory is VmRSS
of a process that has loaded a network and run it: in Python, over ``python3 -I -S`` and
without the network's own size; and of the C library's example.
"""

import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

from bench_engine import SHAPES, network
from common import Bars, Figures
from common import main as run_main

from pymlk.compile import compile_model

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 5
BARS: Bars = {
    "engine code bytes": (96 * 1024, "max"),
    "engine over bare python kib": (1024, "max"),
}

# Each waits for its input with everything loaded.
WAIT = "\nimport sys; sys.stdin.read()"
IMPORT = """
import sys; sys.path += {folders!r}
from pymlk.engine import Model, Program
"""
LOAD = """
model = Model(Program.from_file({program!r}))
model.invoke()
"""


def objects(folder: Path) -> int:
    """Build the library and its example; the bytes of all sections with content."""
    make = ["make", "-s", "-C", str(ROOT / "kernel" / "engine"), f"O={folder}"]
    make += ["CONFIG=/nonexistent"]
    subprocess.run([*make, "lib", "example"], check=True)
    return sections(folder / "libmlk.a")


def sections(path: Path) -> int:
    """Bytes of code, constants and variables of an object, archive or program."""
    done = subprocess.run(
        ["size", "-t", str(path)], check=True, capture_output=True, text=True
    )
    return int(done.stdout.splitlines()[-1].split()[3])


def resident(command: list[str]) -> int:
    """VmRSS in KiB of a process that waits for its input, once it does."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as child:
        before, after = "", "x"
        while before != after or "State:\tS" not in after:
            time.sleep(0.05)
            before, after = after, Path(f"/proc/{child.pid}/status").read_text()
        child.kill()
    return int(after.partition("VmRSS:")[2].split()[0])


def run(rounds: int) -> Figures:
    """Medians of fresh processes, in turn."""
    folders = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    program = compile_model(network(SHAPES[-1]))
    python = [sys.executable, "-I", "-S", "-c"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path, example = folder / "model.mlk", folder / "run"
        path.write_bytes(program)
        code = objects(folder)
        imports = IMPORT.format(folders=folders)
        load = imports + LOAD.format(program=str(path))
        commands = {
            "bare python": [*python, WAIT],
            "python with pymlk": [*python, imports + WAIT],
            "python with a model": [*python, load + WAIT],
            "c example": [str(example), str(path), "/dev/stdin"],
        }
        taken: dict[str, list[int]] = {kind: [] for kind in commands}
        for _ in range(rounds):
            for kind, command in commands.items():
                taken[kind].append(resident(command))
        rss = {kind: statistics.median(got) for kind, got in taken.items()}
        figures: Figures = {"rounds": rounds, "engine code bytes": code}
        figures["c example code and data bytes"] = sections(example)
    figures |= {f"{kind} rss kib": kib for kind, kib in rss.items()}
    figures["model kib"] = len(program) / 1024
    over = rss["python with a model"] - rss["bare python"]
    figures["engine over bare python kib"] = over - figures["model kib"]
    return figures


if __name__ == "__main__":
    sys.exit(run_main((__doc__ or "").splitlines()[0], run, BARS, ROUNDS))
