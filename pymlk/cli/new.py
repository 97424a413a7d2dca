# SPDX-License-Identifier: MIT
"""``pymlk new``: the first form of a policy, from flags or questions."""

from __future__ import annotations

import argparse
import json
import os
import sys

from ..errors import PolicyError
from ..scaffold import Sketch, create, default_fields
from . import OK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.replace(",", " ").split()]


def _ask(question: str, take: Callable[[str], object]) -> None:
    """Ask until the answer will do; an empty one is taken as it is."""
    while True:
        answer = input(f"{question} ").strip()
        try:
            take(answer)
        except ValueError as error:
            print(f"  {error}")
            continue
        return


def _ask_all(sketch: Sketch) -> None:
    """Ask a person for what the flags did not say."""
    print("Empty answers take what is in brackets, or leave it out.")
    if not sketch.knob:

        def knob(text: str) -> None:
            if not text:
                raise ValueError("a policy needs a knob")
            sketch.knob = text

        _ask("Knob, such as /sys/block/*/queue/read_ahead_kb:", knob)
    if not sketch.values:

        def values(text: str) -> None:
            sketch.values = _numbers(text)
            if len(set(sketch.values)) < 2:
                raise ValueError("two values or more, such as 8 32 128")

        _ask("Its values, such as 8 32 128:", values)
    if not sketch.fields:
        _ask_fields(sketch)
    if sketch.objective is None:

        def objective(text: str) -> None:
            if text and text not in sketch.fields:
                raise ValueError(f"one of {' '.join(sketch.fields)}")
            sketch.objective = text or None

        _ask("Objective: the field whose rate is to be raised [none]:", objective)

    def interval(text: str) -> None:
        sketch.interval_ms = int(text or sketch.interval_ms)

    _ask(f"Decide every so many milliseconds [{sketch.interval_ms}]:", interval)


def _ask_fields(sketch: Sketch) -> None:
    print(
        "Fields: NAME=PATH[SELECTOR], one a line; `pymlk attrs --find TEXT` finds them."
    )
    given: list[str] = []
    done = False

    def take(text: str) -> None:
        nonlocal done
        if not text:
            if not given:
                raise ValueError("a policy needs a field")
            done = True
            return
        sketch.fields = default_fields([*given, text])
        given.append(text)

    while not done:
        _ask("Field [no more]:", take)


def _sketch(options: argparse.Namespace) -> Sketch:
    counters, gauges = default_fields(options.counter), default_fields(options.gauge)
    fields = default_fields(options.field) | counters | gauges
    return Sketch(
        path=options.name,
        fields=fields,
        knob=options.knob or "",
        values=options.values or [],
        default=options.default,
        unit=options.unit,
        devices=options.devices,
        skip=options.skip,
        proxy=options.proxy,
        objective=options.objective,
        counters=list(counters),
        gauges=list(gauges),
        interval_ms=options.interval_ms,
        history=options.history,
        target=options.target,
        family=options.family,
        of=options.of,
        horizon_s=options.horizon,
        thresholds=options.thresholds or [],
        root=options.root,
    )


def main(options: argparse.Namespace) -> int:
    """Make a policy."""
    sketch = _sketch(options)
    if os.path.lexists(os.path.join(sketch.path, "policy.toml")):
        # before anybody answers questions
        raise PolicyError(f"{sketch.path}/policy.toml: is there already")
    complete = sketch.proxy or (sketch.knob and sketch.values and sketch.fields)
    if not complete and sys.stdin.isatty() and not options.json:
        _ask_all(sketch)
    path = create(sketch)
    if options.json:
        print(json.dumps({"file": path, "name": sketch.name}))
    else:
        folder = sketch.path
        sweep = " --sweep" if sketch.target == "sweep" else ""
        print(
            f"{path}: written. Look at its features, then:\n"
            f"  pymlk check {folder}\n"
            f"  pymlk collect {folder} -o {sketch.name}.mlkd{sweep} -- YOUR WORKLOAD\n"
            f"  pymlk train {folder} {sketch.name}.mlkd"
        )
    return OK
