#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compare every model of the test data with the reference: ``make exact``.

For each model that the engine runs: all inputs zero, all at the least and all at the
greatest value, then random rows; outputs are compared byte for byte with tflite-runtime
2.14's reference kernels, or with tflite-micro where that runtime refuses the model.
``--write`` puts the outcome into docs/exactness.md. Status 1 if a byte differs.
"""

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent))

from helpers.micro import reference_of
from helpers.reference import ROOT, manifest, model_path, need_data, outcomes

from pymlk import Model, ModelError

DOCUMENT = ROOT / "docs" / "exactness.md"
CORNERS = 3
HEAD = """\
<!-- SPDX-License-Identifier: MIT -->
<!-- Made by `make exact ARGS=--write` (tests/exactness.py); do not edit. -->
# Exactness

Whole models of other people, run by the engine and by a reference. A row is one
inference: all inputs zero, all at their least, all at their greatest value, then random
ones; models with a state see the rows one after the other. Reference is tflite-runtime
2.14 with its reference kernels (`BUILTIN_REF`), and tflite-micro where that runtime
refuses a model. Single operators: [operators.md](operators.md).

| model | reference | rows | bytes compared | bytes differing |
|---|---|---:|---:|---:|
"""


class Outcome(NamedTuple):
    """What came of one model."""

    name: str
    reference: str
    rows: int
    size: int
    differing: int


def compare(rows: int, seconds: float, entry: dict[str, Any]) -> Outcome | str:
    """Compare one model; its name if the engine or all references refuse it."""
    name: str = entry["name"]
    data = model_path("models", entry).read_bytes()
    try:
        model = Model(data, backend="engine")
        reference = reference_of(data)
        return measure(name, model, reference, rows, seconds)
    except ModelError:
        return name


def measure(
    name: str, model: Model, reference: Any, rows: int, seconds: float
) -> Outcome:
    """Compare row by row."""
    done = size = differing = 0
    end = time.monotonic() + seconds
    for found, expected in outcomes(model, reference, rows + CORNERS, 1):
        done += 1
        for ours, theirs in zip(found, expected, strict=True):
            size += len(theirs)
            if ours != theirs:
                differing += sum(a != b for a, b in zip(ours, theirs, strict=True))
        if seconds and done >= CORNERS and time.monotonic() > end:
            break
    return Outcome(name, reference.title, done, size, differing)


def document(outcomes: list[Outcome], refused: list[str]) -> str:
    """The text of docs/exactness.md."""
    lines = [
        f"| {o.name} | {o.reference} | {o.rows:,} | {o.size:,} | {o.differing:,} |\n"
        for o in outcomes
    ]
    rows, size, differing = (sum(o[i] for o in outcomes) for i in (2, 3, 4))
    lines.append(
        f"| **all {len(outcomes)}** | | {rows:,} | {size:,} | {differing:,} |\n"
    )
    if refused:
        lines.append(
            f"\n{len(refused)} models of the collection are not compared: the engine "
            "has not all of their operators, or not in all forms, and leaves them to "
            "the `tflite` back end, or no reference takes all inputs: "
            f"{', '.join(refused)}.\n"
        )
    return HEAD + "".join(lines)


def main() -> int:
    """Compare what was asked for."""
    parser = argparse.ArgumentParser(prog="make exact ARGS=", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="MODEL", help="only these")
    parser.add_argument("--rows", type=int, default=1000, help="random rows")
    parser.add_argument(
        "--seconds", type=float, default=0, help="at most so long for one model"
    )
    parser.add_argument("--jobs", type=int, default=1, help="so many at a time")
    parser.add_argument("--write", action="store_true", help=f"{DOCUMENT.name} anew")
    options = parser.parse_args()
    if options.write and options.names:
        parser.error("--write wants all models")
    need_data()
    entries = sorted(manifest("models"), key=lambda entry: str(entry["name"]))
    if options.names:
        entries = [entry for entry in entries if entry["name"] in options.names]
    found: list[Outcome] = []
    refused: list[str] = []
    work = partial(compare, options.rows, options.seconds)
    with ProcessPoolExecutor(options.jobs) as pool:
        for outcome in pool.map(work, entries):
            if isinstance(outcome, str):
                refused.append(outcome)
                continue
            found.append(outcome)
            print(
                f"{outcome.name}: {outcome.differing:,} of {outcome.size:,} bytes "
                f"differ in {outcome.rows:,} rows ({outcome.reference})",
                flush=True,
            )
    differing = sum(outcome.differing for outcome in found)
    print(f"{len(found)} models compared, {len(refused)} not run, {differing} differ")
    if options.write:
        DOCUMENT.write_text(document(found, refused))
    return 1 if differing or not found else 0


if __name__ == "__main__":
    sys.exit(main())
