# SPDX-License-Identifier: MIT
"""The recorded runs as features and labels, computed as policy.toml says."""

import csv
import gzip
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

F = NDArray[np.float64]
I = NDArray[np.int64]  # noqa: E741
B = NDArray[np.bool_]

EQUAL = 0.97  # a speed within 3 % of the best is as good as the best


@dataclass(frozen=True)
class Policy:
    """The parts of policy.toml that training needs."""

    fields: dict[str, str]  # name of a field: its column in the data
    features: list[dict[str, Any]]
    knobs: list[int]
    default: int
    interval_ms: int
    guard: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> "Policy":
        """Read policy.toml."""
        text = tomllib.loads(path.read_text())
        return cls(
            {name: column(where) for name, where in text["fields"].items()},
            text["feature"],
            text["knob"]["values"],
            text["knob"]["values"].index(text["knob"]["default"]),
            text["interval_ms"],
            text["guard"],
        )


def column(field: str) -> str:
    """Name the column of snapshots.csv that holds a field."""
    if field == "{device}/queue/read_ahead_kb":
        return "ra_kb"
    found = re.fullmatch(r"(?:\{device\}/(stat)|/proc/vmstat)\[(\w+)\]", field)
    if not found:
        raise ValueError(f"{field}: collect.py does not record this")
    return (found[1] or "") + found[2]


@dataclass
class Windows:
    """One row per window of `interval_ms`; all arrays have the same length."""

    x: F  # features before standardisation
    run: I
    knob: I  # index of the value in force
    cell: I  # index of (workload, profile)
    seed: I


@dataclass
class Cells:
    """One row per (workload, profile)."""

    names: list[tuple[str, str]]
    speed: F  # median operations per second, one column per knob value
    label: I
    right: B  # values as good as the best

    @property
    def relative(self) -> F:
        """Speeds as shares of the best."""
        out: F = self.speed / self.speed.max(axis=1, keepdims=True)
        return out


def read_runs(data: Path, policy: Policy) -> tuple[list[dict[str, str]], Cells]:
    """Read runs.csv; return its lines, and what was best in every cell."""
    with (data / "runs.csv").open(newline="") as f:
        runs = list(csv.DictReader(f))
    table: dict[tuple[str, str], list[list[float]]] = {}
    for run in runs:
        at = table.setdefault((run["workload"], run["profile"]), [[], [], [], [], []])
        at[policy.knobs.index(int(run["ra_kb"]))].append(float(run["ops_s"]))
    # A cell that was not measured with every value has no known best.
    names = sorted(k for k, v in table.items() if all(v))
    speed = np.array([[np.median(v) for v in table[n]] for n in names])
    right = speed >= EQUAL * speed.max(axis=1, keepdims=True)
    # Of equally good values the one nearest to the default, then the faster one.
    distance = np.abs(np.arange(len(policy.knobs)) - policy.default)
    cost = np.where(right, distance - speed / speed.max(axis=1, keepdims=True), np.inf)
    return runs, Cells(names, speed, cost.argmin(axis=1), right)


def read_windows(
    data: Path, policy: Policy, runs: list[dict[str, str]], cells: Cells
) -> Windows:
    """Read the snapshots, packed or not, and compute their features."""
    packed = data / "snapshots.csv.gz"
    source = packed if packed.exists() else data / "snapshots.csv"
    opener: Callable[..., Any] = gzip.open if source.suffix == ".gz" else open
    rows: dict[str, list[list[float]]] = {}
    columns = ["t_us", *policy.fields.values()]
    with opener(source, "rt", newline="") as f:
        for row in csv.DictReader(f):
            rows.setdefault(row["run"], []).append([float(row[c]) for c in columns])
    parts: list[tuple[F, I, I, I, I]] = []
    for number, run in enumerate(runs):
        name = run["workload"], run["profile"]
        if name not in cells.names:
            continue
        x = features(np.array(rows[run["run"]]), policy)
        knob, cell = policy.knobs.index(int(run["ra_kb"])), cells.names.index(name)
        n = np.ones(len(x), np.int64)
        parts.append((x, n * number, n * knob, n * cell, n * int(run["seed"])))
    joined = [np.concatenate(p) for p in zip(*parts, strict=True)]
    return Windows(*joined)


def features(rows: F, policy: Policy) -> F:
    """Apply the policy's operators; a window is `interval_ms` long, a step one row."""
    t = rows[:, 0]
    step = max(1, round(policy.interval_ms * 1e3 / float(np.median(np.diff(t)))))
    value = dict(zip(policy.fields, rows[step:, 1:].T, strict=True))
    delta = dict(zip(policy.fields, (rows[step:] - rows[:-step])[:, 1:].T, strict=True))
    seconds = (t[step:] - t[:-step]) / 1e6
    out = []
    for item in policy.features:
        kind, field = item["kind"], item["field"]
        if kind == "value":
            x = value[field]
        elif kind == "delta":
            x = delta[field]
        elif kind == "rate":
            x = delta[field] / seconds
        else:
            source = value if kind == "ratio" else delta
            over = source[item["over"]]
            x = np.where(over == 0, 0, source[field] / np.where(over == 0, 1, over))
        if item.get("log2"):
            x = np.log2(1 + np.maximum(x, 0))
        low, high = item.get("clip", (-np.inf, np.inf))
        out.append(np.clip(x, low, high))
    least = policy.guard["min_activity"]
    busy = delta[least["field"]] / seconds >= least["rate"]
    rows_busy: F = np.stack(out, axis=1)[busy]
    return rows_busy
