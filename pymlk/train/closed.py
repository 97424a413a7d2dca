# SPDX-License-Identifier: MIT
"""The loop on recorded runs: features, engine and guard, from each start value.

After a change the loop goes on in the run that was recorded with the new value, which
is what the device would show then. Only the second half counts: the first is the way
to it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..engine import Model
from ..guard import Guard
from .data import EQUAL, Plan, Recording, Stepper, places, rows_of, stride, sweep_of
from .model import Trained

SECONDS = 60.0
_FEWEST, _MOST = 60, 600


@dataclass(frozen=True)
class _Tape:
    """A recorded run, as the loop reads it over and over."""

    rows: list[list[int | None]]
    t: list[int]
    apart: int


class _Walk:
    """One loop from one start value in one cell."""

    def __init__(self, plan: Plan, trained: Trained, tapes: list[list[_Tape]]) -> None:
        self.plan, self.tapes = plan, tapes
        self.model = Model(trained.data, backend="engine")
        features = [
            feature | {"mean": mean, "std": std}
            for feature, mean, std in zip(
                plan["features"],
                trained.mean.tolist(),
                trained.std.tolist(),
                strict=True,
            )
        ]
        self._plan = plan | {"features": features}

    def go(self, start: int, fields: Any, windows: int, take: int) -> list[int]:
        """Places of the knob's values in force, one for each window."""
        model, values = self.model, self.plan["knob"]["values"]
        quant = model.output_quant
        inputs, outputs = model.input.cast("B"), model.output.cast("B").cast("b")
        guard = Guard.of_policy(self.plan, True)
        stepper = Stepper(
            self._plan, fields, model.input_quant.scale, model.input_quant.zero_point
        )
        interval = max(self.plan["interval_ms"], 1) / 1e3
        past: list[bytes] = []
        history = self.plan["model"]["history"]
        now, at, tape, said = start, 0, self._tape(start, take), []
        stepper.begin()
        for n in range(windows):
            if at >= len(tape.rows):
                # the recording again, from its first row
                at = n % tape.apart
                stepper.begin()
            state, row, busy = stepper.step(tape.rows[at], tape.t[at])
            at += tape.apart
            past = [*past[1 - history :], row] if history > 1 else [row]
            if state:
                past = []
            said.append(now)
            if state or not busy or len(past) < history:
                continue
            inputs[:] = b"".join(past)
            model.invoke()
            numbers = outputs.tolist()
            choice = numbers.index(max(numbers))
            sure = (numbers[choice] - quant.zero_point) * quant.scale
            _, target = guard.check(choice, sure, values[now], (n + 1) * interval)
            if target != values[now]:
                now = values.index(target)
                tape = self._tape(now, take)
                at = _go_on(stepper, tape, at)
        return said

    def _tape(self, place: int, take: int) -> _Tape:
        found = self.tapes[place]
        return found[take % len(found)]


def _go_on(stepper: Stepper, tape: _Tape, at: int) -> int:
    """Go on in another tape: the row before is its own; where to go on."""
    at = at if at < len(tape.rows) else at % tape.apart + tape.apart
    stepper.begin()
    stepper.step(tape.rows[at - tape.apart], tape.t[at - tape.apart])
    return at


def closed_loop(
    recordings: Sequence[Recording],
    plan: Plan,
    model_of: Callable[[tuple[str, str]], Trained | None],
) -> dict[str, Any]:
    """Let a model and the policy's guard act on recorded runs.

    Parameters
    ----------
    recordings : sequence of Recording
        Of a sweep.
    plan : dict
        The policy.
    model_of : callable
        For a cell the model that has not seen it, or None to leave it out.

    Returns
    -------
    dict
        For each start value ``right`` (the share of windows within 3 % of the best),
        ``score`` (geometric mean, as a share of the best) and ``changes_per_minute``;
        empty without a cell.

    Raises
    ------
    TrainError
        If the recordings are of no sweep.

    Thread safety
    -------------
    None.
    """
    sweep, _ = sweep_of(recordings, plan)
    values = plan["knob"]["values"]
    interval = plan["interval_ms"] / 1e3
    windows = int(np.clip(SECONDS / interval if interval else _MOST, _FEWEST, _MOST))
    found: dict[str, Any] = {}
    worth = np.log(sweep.relative)
    walks = []
    for i, cell in enumerate(sweep.cells):
        trained = model_of(cell)
        if trained is None:
            continue
        mine = [r for r in recordings if r.cell == cell]
        tapes = [
            [
                _Tape(rows_of(r), r.t.tolist(), stride(r, plan))
                for r in mine
                if r.run.knob == value
            ]
            for value in values
        ]
        takes = max(map(len, tapes))
        walks.append((i, _Walk(plan, trained, tapes), places(plan, mine[0]), takes))
    if not walks:
        return found
    for start, value in enumerate(values):
        gain, right, changes, counted = [], [], 0, 0
        for i, walk, fields, takes in walks:
            for take in range(takes):
                said = np.array(walk.go(start, fields, windows, take))[windows // 2 :]
                gain.append(float(worth[i, said].mean()))
                right.append(float((sweep.relative[i, said] >= EQUAL).mean()))
                changes += int((np.diff(said) != 0).sum())
                counted += len(said)
        minutes = counted * (interval or 1.0) / 60
        found[str(value)] = {
            "right": float(np.mean(right)),
            "score": float(np.exp(np.mean(gain))),
            "changes_per_minute": changes / minutes,
        }
    return found
