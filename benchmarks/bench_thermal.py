# SPDX-License-Identifier: MIT
"""Does a forecast keep an emulated board faster than the kernel's governor does?

Virtual time: models/thermal/board.py, with features, model and guard of the shipped
policy. All controllers look every 500 ms. None of these boards was trained on. The
limit is a forecast that knows the board's physics and its true temperatures.
"""

import math
import random
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from common import Bars, Figures
from common import main as run_main

from pymlk import Model, policy
from pymlk.features import Features
from pymlk.guard import Guard

MODELS = Path(__file__).resolve().parent.parent / "models"
sys.path.insert(0, str(MODELS / "thermal"))
import board as emulation  # noqa: E402

SECONDS = 120.0
ROUNDS = 3
LIMIT = "perfect forecast (the limit)"
BARS: Bars = {
    "thermal over the best other": (1.0, "min"),
}
Controller = Callable[[emulation.Emulated], int]


def nothing(_board: emulation.Emulated) -> int:
    """Never cap: firmware alone protects the board."""
    return 0


def fixed(state: int) -> Controller:
    """Always the same cap."""
    return lambda _board: state


def perfect(board: emulation.Emulated) -> int:
    """Choose with the board's own physics."""
    return board.best()


def step_wise(trip_c: int) -> Controller:
    """Follow drivers/thermal/gov_step_wise.c: a step up while hot and rising.

    Above the trip point, a rising temperature raises the state and a steady one keeps
    it; below it the state falls unless the temperature rises.
    """
    last: list[int] = []

    def control(board: emulation.Emulated) -> int:
        now, before = board.temp, last[-1] if last else board.temp
        last[:] = [now]
        if now >= trip_c * 1000:
            return min(board.state + (now > before), len(emulation.MHZ) - 1)
        return board.state if now > before else max(board.state - 1, 0)

    return control


def pid(target_c: int) -> Controller:
    """Proportional and integral, as power_allocator's in spirit; gains by search."""
    total = 0.0

    def control(board: emulation.Emulated) -> int:
        nonlocal total
        error = board.temp / 1000 - target_c
        total = min(max(total + 0.05 * error, 0), 4)
        return min(max(round(0.1 * error + total), 0), len(emulation.MHZ) - 1)

    return control


class Policy:
    """The shipped policy: features, model, guard, as the loop puts them together."""

    def __init__(self, plan: dict[str, Any], model: Model) -> None:
        quant = model.input_quant
        scales = {"temp": 1, "up": 100, "idle": 100, "state": 1}
        places = {name: (i, scales[name]) for i, name in enumerate(plan["fields"])}
        self.model = model
        self.features = Features(
            plan["features"], places, quant.scale, quant.zero_point
        )
        self.guard = Guard.of_policy(plan, True)
        self.values, self.before = plan["knob"]["values"], [0, 0, 0, 0]

    def __call__(self, board: emulation.Emulated) -> int:
        """Decide as `Loop.step()` does."""
        idle = emulation.CPUS * (board.seconds - board.busy)
        row = [board.temp, round(board.seconds * 100), round(idle * 100), board.state]
        before, self.before = self.before, row
        seconds = emulation.INTERVAL_S if board.seconds else 0.0
        ready, data = self.features.step(row, before, seconds)
        if ready:
            return board.state
        memoryview(self.model.input).cast("B")[:] = data
        self.model.invoke()
        output = memoryview(self.model.output).cast("B").cast("b").tolist()
        choice = output.index(max(output))
        sure = (max(output) + 128) / 256
        _, value = self.guard.check(choice, sure, board.state, board.seconds)
        return int(value)


def play(control: Controller, kind: emulation.Board, load: str, seed: int) -> Any:
    """Let a controller run a board for two minutes."""
    board = emulation.Emulated(kind)
    loads = emulation.LOADS[load](random.Random(seed))
    while board.seconds < SECONDS:
        board.state = control(board)
        for _ in range(round(emulation.INTERVAL_S / emulation.TICK_S)):
            board.tick(next(loads))
    return board


def controllers() -> dict[str, Callable[[], Controller]]:
    """Name them all; each run gets a new one."""
    plan = policy.load(str(MODELS / "thermal"))
    model = Model(plan["program"])
    found: dict[str, Callable[[], Controller]] = {
        LIMIT: lambda: perfect,
        "thermal": lambda: Policy(plan, model),
        "nothing but firmware": lambda: nothing,
    }
    for trip in (70, 75, 80, 85):
        found[f"step_wise, trip {trip} C"] = partial(step_wise, trip)
    for target in (75, 80, 85):
        found[f"PI, target {target} C"] = partial(pid, target)
    for state in (1, 2):
        found[f"always state {state}"] = partial(fixed, state)
    return found


def run(rounds: int) -> Figures:
    """Let every controller run every board under every load, with some seeds."""
    figures: Figures = {}
    means, times, shares = {}, {}, {}
    for name, control in controllers().items():
        boards = [
            play(control(), kind, load, seed)
            for kind in emulation.BOARDS.values()
            for load in emulation.LOADS
            for seed in range(rounds)
        ]
        logs = [math.log(b.work / b.offered) for b in boards]
        means[name] = math.exp(sum(logs) / len(logs))
        times[name] = sum(b.times_forced for b in boards) / len(boards)
        shares[name] = sum(b.too_hot for b in boards) / len(boards) / SECONDS
    for name, mean in means.items():
        figures[f"{name}: work done"] = (
            f"{mean:.3f} of what was offered, above 90 C {100 * shares[name]:4.1f} % "
            f"of the time, firmware stepped in {times[name]:4.1f} times"
        )
    others = [n for n in means if n not in (LIMIT, "thermal")]
    best = max(others, key=lambda n: means[n])
    figures["the best other"] = best
    figures["thermal over the best other"] = means["thermal"] / means[best]
    figures["thermal over step_wise at its usual trip"] = (
        means["thermal"] / means["step_wise, trip 85 C"]
    )
    figures["thermal over the limit"] = means["thermal"] / means[LIMIT]
    return figures


if __name__ == "__main__":
    sys.exit(run_main((__doc__ or "").splitlines()[0], run, BARS, ROUNDS))
