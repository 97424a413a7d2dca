# SPDX-License-Identifier: MIT
"""``pymlk bench``: what a snapshot and an inference cost on this machine."""

from __future__ import annotations

import argparse
import glob
import json
import os
import time

from ..attrs import AttrSet
from ..engine import Model
from ..errors import ModelError, PolicyError
from ..policy import find_policy
from . import OK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_FILES = 64
# Long enough that the clock's own cost does not show.
_BATCH_S = 0.002


def _small_files() -> list[str]:
    """Up to 64 one-value attributes that every machine has."""
    patterns = ("/sys/block/*/queue/*_kb", "/sys/class/net/*/statistics/*_packets")
    found = sorted(path for pattern in patterns for path in glob.glob(pattern))
    return [path for path in found if os.access(path, os.R_OK)][:_FILES]


def _timer(call: Callable[[], object]) -> Callable[[], float]:
    """Seconds per call, over batches of a size found once."""
    count = 1
    while True:
        start = time.perf_counter()
        for _ in range(count):
            call()
        if time.perf_counter() - start > _BATCH_S:
            break
        count *= 2

    def measure() -> float:
        start = time.perf_counter()
        for _ in range(count):
            call()
        return (time.perf_counter() - start) / count

    return measure


def _python_read(paths: list[str]) -> Callable[[], None]:
    def read() -> None:
        for path in paths:
            with open(path) as file:
                file.read()

    return read


def _model(name: str | None) -> tuple[str, Model]:
    if name is None:
        folder = os.path.dirname(find_policy("readahead"))
        name = os.path.join(folder, "model.tflite")
    return name, Model(name, backend="engine")


def main(options: argparse.Namespace) -> int:
    """Measure in interleaved rounds, and print medians."""
    try:
        name, model = _model(options.model)
    except PolicyError as error:
        raise ModelError("no shipped model here: name a MODEL") from error
    paths = _small_files()
    with AttrSet(paths) as attrs:
        timers = {
            f"snapshot of {len(attrs)} files (AttrSet.read)": _timer(attrs.read),
            "the same by open().read() in Python": _timer(_python_read(paths)),
            f"inference ({model.macs} MACs)": _timer(model.invoke),
        }
        samples: dict[str, list[float]] = {what: [] for what in timers}
        for _ in range(options.rounds):
            for what, measure in timers.items():
                samples[what].append(measure())
    medians = {what: sorted(s)[len(s) // 2] for what, s in samples.items()}
    if options.json:
        us = {what: seconds * 1e6 for what, seconds in medians.items()}
        facts = {"model": name, "rounds": options.rounds, "median_us": us}
        print(json.dumps(facts))
        return OK
    print(f"model {name}; medians of {options.rounds} interleaved rounds")
    for what, seconds in medians.items():
        print(f"  {what:44} {seconds * 1e6:10.3f} us")
    return OK
