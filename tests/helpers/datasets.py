# SPDX-License-Identifier: MIT
"""Datasets whose right answer is known, and a policy for them.

A device counts `a` and `b`. Each is slow or fast, which the workload decides; the least
knob value is best where both are the same, the greatest where they differ. So no single
feature tells, and no straight line.
"""

import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pymlk.dataset import Writer
from pymlk.policy import load

VALUES = (8, 32, 128)
POLICY = """\
# the policy's own words
name = "xor"
interval_ms = 100

[model]
file = "model.tflite"

[fields]
a = "/sys/a"
b = "/sys/b"
knob = "/sys/knob"

[[feature]]
name = "rate_a"  # how fast
kind = "rate"
field = "a"
log2 = true

[[feature]]
name = "rate_b"
kind = "rate"
field = "b"
log2 = true
mean = 1.5

[[feature]]
name = "knob"
kind = "value"
field = "knob"
log2 = true

# what it is for
[knob]
path = "/sys/knob"
values = [8, 32, 128]
default = 32

[objective]
maximise = "a"

[guard]
min_confidence = 0.0
max_step = 2
min_interval_s = 0.0

[train]
target = "sweep"  # measured
hidden = [8]
epochs = 60
folds = 3
"""
SLOW, FAST = 20, 300


def best(workload: str) -> int:
    """The right value of a workload named ab-N, with a and b 0 or 1."""
    return 8 if workload[0] == workload[1] else 128


def score(workload: str, knob: int) -> float:
    """What a value is worth there."""
    apart = abs(VALUES.index(knob) - VALUES.index(best(workload)))
    return 1000.0 / 2**apart


def make_policy(folder: Path, text: str = POLICY) -> dict[str, Any]:
    """Write the policy; its plan."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "policy.toml").write_text(text)
    return load(str(folder), model=False)


def walk(workload: str, knob: int, rows: int, seed: str) -> Iterator[list[int]]:
    """Rows of a run."""
    rng = random.Random(f"{workload} {knob} {seed}")
    counts = [rng.randrange(1000) for _ in range(2)]
    for _ in range(rows):
        for i in range(2):
            pace = FAST if workload[i] == "1" else SLOW
            counts[i] += round(pace * rng.uniform(0.5, 2.0))
        yield [*counts, knob]


def add_run(
    writer: Writer,
    table: list[list[int]],
    *,
    valid: bool = True,
    points: float | None = 1.0,
    period_ms: int = 100,
    **said: Any,
) -> None:
    """Write a run of these rows."""
    number = writer.begin(**{"workload": "w", "device": "dev"} | said)
    times = [1000 + i * period_ms * 1_000_000 for i in range(len(table))]
    flags = [[valid] * len(row) for row in table]
    writer.rows(number, times, table, flags)
    writer.end(number, score=points, seconds=len(table) * period_ms / 1e3)


def open_writer(path: Path, plan: dict[str, Any]) -> Writer:
    """A dataset of the policy's fields."""
    return Writer(str(path), plan, list(plan["fields"]), [1] * len(plan["fields"]))


def make_sweep(
    path: Path,
    plan: dict[str, Any],
    *,
    per_kind: int = 3,
    groups: Iterable[str] = ("red", "blue"),
    rows: int = 25,
    values: Iterable[int] = VALUES,
    period_ms: int = 100,
    names: Iterable[str] = ("00", "01", "10", "11"),
) -> Path:
    """Each workload with each value on each group."""
    with open_writer(path, plan) as writer:
        for group in groups:
            for kind in names:
                for n in range(per_kind):
                    for knob in values:
                        workload = f"{kind}-{n}"
                        add_run(
                            writer,
                            list(walk(workload, knob, rows, group)),
                            points=score(workload, knob),
                            period_ms=period_ms,
                            workload=workload,
                            group=group,
                            knob=knob,
                        )
    return path
