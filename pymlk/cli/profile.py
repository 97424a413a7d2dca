# SPDX-License-Identifier: MIT
"""``pymlk inspect --profile``: the time of each operator, and of other runtimes."""

from __future__ import annotations

import time
from importlib import import_module
from typing import Any

from ..engine import Profiler, Program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    # runs so many times and gives the nanoseconds of all of them
    Timer = Callable[[int], int]

# Long enough that the clock's own cost does not show.
_BATCH_NS = 100_000
_BAR = 30
_RIVALS = {
    "tflite-runtime": "tflite_runtime.interpreter",
    "litert": "ai_edge_litert.interpreter",
}


def _rivals(model: bytes) -> dict[str, Timer]:
    """Timers of the TFLite runtimes that are installed and take the model."""
    found = {}
    for name, module in _RIVALS.items():
        try:
            interpreter = import_module(module).Interpreter(
                model_content=model, num_threads=1
            )
            interpreter.allocate_tensors()
        except (ImportError, RuntimeError, ValueError):
            continue
        found[name] = _timer(interpreter)
    return found


def _timer(interpreter: Any) -> Timer:
    # what invoke() calls: the least that a caller can pay
    call = interpreter._interpreter.Invoke

    def measure(times: int) -> int:
        # the inner one dies with the outer one
        assert interpreter is not None
        start = time.perf_counter_ns()
        for _ in range(times):
            call()
        return time.perf_counter_ns() - start

    return measure


def _times(measure: Timer) -> int:
    """How many runs make a batch; they warm up, too."""
    times = 1
    while measure(times) < _BATCH_NS:
        times *= 2
    return times


def profile(program: Program, rounds: int, model: bytes | None) -> dict[str, Any]:
    """Measure a program in interleaved rounds.

    Parameters
    ----------
    program : Program
        What the engine runs.
    rounds : int
        Figures are medians of so many.
    model : bytes or None
        The same model as ``.tflite``, for the other runtimes.

    Returns
    -------
    dict
        ``operators`` (name, macs, ns), ``run_ns`` and ``others_ns`` by name; for JSON.

    Thread safety
    -------------
    Pure function, but what else runs shows.
    """
    profiler = Profiler(program)
    places = range(profiler.first, profiler.end)

    def one(first: int, end: int) -> Timer:
        return lambda times: profiler.measure(first, end, times)

    timers: dict[Any, Timer] = {at: one(at, at + 1) for at in places}
    timers["run"] = one(profiler.first, profiler.end)
    others = _rivals(model) if model is not None else {}
    timers.update(others)
    batch = {what: _times(measure) for what, measure in timers.items()}
    samples: dict[Any, list[float]] = {what: [] for what in timers}
    for _ in range(rounds):
        for what, measure in timers.items():
            samples[what].append(measure(batch[what]) / batch[what])
    ns = {what: sorted(taken)[rounds // 2] for what, taken in samples.items()}
    return {
        "rounds": rounds,
        "operators": [
            {
                "op": at,
                "name": program.ops[at],
                "macs": profiler.macs(at),
                "ns": round(ns[at], 1),
            }
            for at in places
        ],
        "run_ns": round(ns["run"], 1),
        "others_ns": {name: round(ns[name], 1) for name in others},
    }


def show(facts: dict[str, Any]) -> None:
    """Print a profile for people, with a bar for each operator.

    Parameters
    ----------
    facts : dict
        What `profile` gave.

    Thread safety
    -------------
    As of `print`.
    """
    operators, run = facts["operators"], facts["run_ns"]
    print(f"  profile of the program, medians of {facts['rounds']} interleaved rounds:")
    total = sum(op["ns"] for op in operators) or 1.0
    most = max((op["ns"] for op in operators), default=1.0) or 1.0
    width = max((len(op["name"]) for op in operators), default=0)
    digits = len(str(operators[-1]["op"])) if operators else 1
    for op in operators:
        bar = "#" * max(1, round(_BAR * op["ns"] / most))
        print(
            f"    op[{op['op']:{digits}}] {op['name']:{width}} {op['ns']:12,.0f} ns "
            f"{op['ns'] / total:4.0%} {op['macs']:12,} MACs  {bar}"
        )
    print(f"    all at once: {run:,.0f} ns")
    for name, ns in facts["others_ns"].items():
        print(f"    {name}: {ns:,.0f} ns; pymlk takes {run / ns:.2f} of it")
