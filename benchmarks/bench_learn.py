# SPDX-License-Identifier: MIT
"""What does learning cost, and how much better are the choices that come of it?

One update of a head of 16 features and 8 actions, called from Python, beside the same
multiply-adds in C and nothing else; the other hot parts; a new version of a program;
memory. Then regret on simulated devices, where the best head has 0: this project's
rule and a gradient bandit (Williams 1992; Sutton and Barto 2018, section 2.8), which
changes the logits themselves.
"""

from __future__ import annotations

import ctypes
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from array import array
from pathlib import Path

from common import Bars, Figures, Rival, calls, interleave
from common import main as run_main

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from helpers.bandit import SCALE, Device, live, program, regret
from helpers.malloc_count import count_mallocs

from pymlk import Model, Program
from pymlk.compile import compile_model
from pymlk.drift import Drift
from pymlk.evidence import Ladder
from pymlk.head import Head, read_head, replace_head
from pymlk.learn import Explorer, Learner

ROUNDS = 50
FEATURES, ACTIONS, MEMORY = 16, 8, 1 << 16
INNER = 20_000
BARS: Bars = {
    "update us": (20.0, "max"),
    "heap calls per update": (0.0, "max"),
    "memory over the loop kib": (1024.0, "max"),
}
SETUP = """
from pymlk import Model
from pymlk.head import read_head
from pymlk.learn import Learner
learner = Learner(read_head(bytes(Model("models/readahead/model.tflite").program)))
learn, row, state = learner.learn, bytes(learner.features), iter(range(10**9))
for key in range(256):
    learner.note(key, row, key % learner.actions, 0.5)
"""
CHILD = """
import os
import sys
def rss():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 1024
import pymlk.loop
from pymlk.engine import Model
import pymlk.journal
model = Model(sys.argv[1])
before = rss()
from pymlk import drift, evidence, head, learn, learnt, versions
shipped = bytes(model.program)
learner = learn.Learner(head.read_head(shipped))
kept = versions.Versions(shipped, learner)
ladder, holdout = evidence.Ladder(), evidence.Holdout(10.0)
drift.Drift("abcdefgh", in_scale=0.03)
learnt.Store("x")
print(rss() - before)
"""


def limit() -> Rival:
    """The multiply-adds alone."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "learn_limit.so"
        source = Path(__file__).with_name("learn_limit.c")
        compiler = os.environ.get("CC", "cc").split()
        flags = ["-O3", "-shared", "-fPIC", "-o"]
        subprocess.run([*compiler, *flags, library, source], check=True)
        measure = ctypes.CDLL(str(library)).mlk_learn_limit
    measure.restype = ctypes.c_double
    measure.argtypes = [ctypes.c_int, ctypes.c_long]
    return lambda inner: float(measure(FEATURES + 1, inner))


def update(learner: Learner, rows: list[bytes]) -> Rival:
    """Scores of decisions that were noted before, without that time."""

    def measure(inner: int) -> float:
        for key in range(inner):
            learner.note(key, rows[key % len(rows)], key % ACTIONS, 0.5)
        learn = learner.learn
        keys = range(inner)
        start = time.perf_counter_ns()
        for key in keys:
            learn(key, 7.5)
        return (time.perf_counter_ns() - start) / inner

    return measure


class GradientBandit:
    """Softmax policy gradient on the logits: baseline, importance weight, L2 anchor."""

    def __init__(self, head: Head, rate: float) -> None:
        self._reader = Learner(head)
        self._scale, self._rate = head.in_scale, rate
        n = head.features
        self._rows = [
            [*head.weights[a * n : (a + 1) * n], head.bias[a]]
            for a in range(head.actions)
        ]
        self._shipped = [row[:] for row in self._rows]
        self._mean = 0.0
        self._kept: dict[int, tuple[list[float], int, float]] = {}

    def infer(self, model: Model) -> bytes:
        """The head's inputs."""
        return self._reader.infer(model)

    def note(self, key: int, row: bytes, action: int, propensity: float) -> None:
        """Remember a decision."""
        x = [q * self._scale for q in memoryview(row).cast("b")]
        self._kept[key] = [*x, 1.0], action, propensity

    def learn(self, key: int, score: float) -> None:
        """Follow the gradient of the expected advantage."""
        x, action, propensity = self._kept.pop(key)
        self._mean = self._mean or score
        advantage = max(-1.0, min(1.0, score / self._mean - 1.0))
        self._mean += 0.01 * (score - self._mean)
        logits = [sum(w * v for w, v in zip(row, x, strict=True)) for row in self._rows]
        powers = [math.exp(value - max(logits)) for value in logits]
        total = sum(powers)
        weight = min(powers[action] / total / propensity, 5.0)
        for a, row in enumerate(self._rows):
            step = self._rate * weight * advantage
            step *= (a == action) - powers[a] / total
            for i, v in enumerate(x):
                row[i] += step * v - 1e-4 * (row[i] - self._shipped[a][i])

    def weights(self) -> tuple[array[float], array[float]]:
        """The head now."""
        flat = [w for row in self._rows for w in row[:-1]]
        return array("f", flat), array("f", [row[-1] for row in self._rows])


def regrets() -> Figures:
    """Means over four devices after 12,000 decisions."""
    found: Figures = {}
    for kind in ("right", "wrong"):
        before, ours, theirs = [], [], []
        for seed in range(4):
            device = Device(seed)
            effects = device.effects
            if kind == "wrong":
                effects = device.draw(0.2 / math.sqrt(8))
            shipped = program(effects)
            before.append(regret(device, shipped))
            head = read_head(shipped)
            ours.append(regret(device, live(device, shipped, Learner(head), 12_000)))
            # the better one of two step sizes
            theirs.append(
                min(
                    regret(
                        device,
                        live(device, shipped, GradientBandit(head, rate), 12_000),
                    )
                    for rate in (0.02, 0.1)
                )
            )
        found[f"{kind} head, shipped: regret"] = statistics.mean(before)
        found[f"{kind} head, learnt: regret"] = statistics.mean(ours)
        found[f"{kind} head, gradient bandit: regret"] = statistics.mean(theirs)
    return found


def memory() -> float:
    """KiB that all parts add to a process that has the loop."""
    with tempfile.NamedTemporaryFile(suffix=".mlk") as file:
        file.write(compile_model(Path("models/readahead/model.tflite").read_bytes()))
        file.flush()
        found = [
            float(
                subprocess.check_output([sys.executable, "-P", "-c", CHILD, file.name])
            )
            for _ in range(5)
        ]
    return statistics.median(found)


def run(rounds: int) -> Figures:
    """Measure all of it."""
    device = Device(1, FEATURES, ACTIONS)
    shipped = program(device.effects)
    head = read_head(shipped)
    learner = Learner(head, memory=MEMORY)
    rows = [array("b", device.context()).tobytes() for _ in range(64)]
    model = Model(Program(shipped))
    explorer = Explorer(ACTIONS)
    ladder = Ladder(apply=True)
    drift = Drift([str(i) for i in range(FEATURES)], in_scale=SCALE)
    small = Learner(head)
    for key, row in enumerate(rows * 4):
        small.note(key, row, key % ACTIONS, 0.5)
        small.learn(key, 1.0 + key % 3)
        small.note(key, row, key % ACTIONS, 0.5)
    written = Program(replace_head(shipped, *small.weights()))
    fast = interleave(
        {
            "limit": limit(),
            "update": update(learner, rows),
            "choice": calls(lambda: explorer.pick(3, 3, 1)),
            "score to the ladder": calls(lambda: ladder.note_score("model", 1.0)),
            "row to drift": calls(lambda: drift.note(rows[0], 1.0)),
            "empty call": calls(lambda: None),
        },
        rounds,
        INNER,
    )
    slow = interleave(
        {
            "weights of a version": calls(small.weights),
            "program of a version": calls(
                lambda: replace_head(shipped, *small.weights())
            ),
            "swap": calls(lambda: model.swap(written)),
        },
        rounds,
        20,
    )
    figures: Figures = {
        "rounds": rounds,
        "update us": fast["update"].median / 1000,
        "limit (multiply-adds alone) us": fast["limit"].median / 1000,
        "update over limit": fast["update"].median / fast["limit"].median,
    }
    for name in ("choice", "score to the ladder", "row to drift", "empty call"):
        figures[f"{name} us"] = fast[name].median / 1000
    for name, taken in slow.items():
        figures[f"{name} us"] = taken.median / 1000
    return figures | {
        "learner bytes": small.nbytes,
        "program bytes": len(shipped),
        "a version's program bytes": len(written),
        "memory over the loop kib": memory(),
        "heap calls per update": count_mallocs(
            SETUP, "learn(next(state) & 255, 7.5)", 100, warm=100, python_objects=False
        ),
        **regrets(),
    }


if __name__ == "__main__":
    os.chdir(Path(__file__).resolve().parents[1])
    sys.exit(run_main((__doc__ or "").splitlines()[0], run, BARS, ROUNDS))
