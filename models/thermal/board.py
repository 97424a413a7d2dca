#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""An emulated board: a small hot die on a case, firmware that saves it, and its files.

Two thermal masses, dynamic power f * V^2 with the voltage rising linearly with the
frequency, leakage that grows with temperature. Firmware forces the lowest frequency
for some seconds once the die is too hot, as many boards' does. As a program it keeps
the files of a thermal zone in a folder, in real time, so that a policy can act on it.
"""

import argparse
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

MHZ = (2400, 2000, 1600, 1200, 800)  # by state of the cooling device
FIRMWARE_MHZ = 600
HOT_C, COOL_C, LATCH_S = 95.0, 85.0, 2.0
CPUS = 4
TICK_S = 0.01
INTERVAL_S = 0.5


@dataclass(frozen=True)
class Board:
    """What differs from board to board; kelvin per watt, joule per kelvin, watt."""

    ambient_c: float
    die_k_per_w: float
    die_j_per_k: float
    case_k_per_w: float
    case_j_per_k: float
    full_w: float


# None of them is in training: recipe.py draws its boards at random.
BOARDS = {
    "heatsink": Board(25, 8.0, 0.012, 4.0, 2.5, 6.0),
    "closed": Board(35, 7.0, 0.012, 4.0, 1.5, 6.0),
    "hot-room": Board(45, 6.0, 0.015, 3.0, 1.5, 6.0),
    "fanless": Board(30, 9.0, 0.010, 6.0, 1.0, 5.0),
}


def any_board(rng: random.Random) -> Board:
    """Draw a board: the die's time constant is 60 to 160 ms, the case's 3 to 12 s."""
    die, case = rng.uniform(5.5, 9.5), rng.uniform(2.5, 6.5)
    return Board(
        rng.uniform(20, 48),
        die,
        rng.uniform(0.06, 0.16) / die,
        case,
        rng.uniform(3, 12) / case,
        rng.uniform(4.5, 6.5),
    )


class Emulated:
    """One board as time goes by. `state` is the knob: 0 (no cap) to 4."""

    def __init__(self, board: Board) -> None:
        self.board, self.state = board, 0
        self.die = self.case = board.ambient_c + 10
        self.seconds = self.busy = self.work = self.offered = self.too_hot = 0.0
        self.until, self.forced, self.times_forced = 0.0, False, 0

    @property
    def temp(self) -> int:
        """What the sensor says, in thousandths of a degree, in whole degrees."""
        return round(self.die) * 1000

    def heat(self, load: float, mhz: int, seconds: float) -> None:
        """Let both masses take up and give off heat."""
        b, share = self.board, mhz / MHZ[0]
        volt = 0.6 + 0.4 * share
        watt = b.full_w * load * share * volt**2 + 0.4 + 0.004 * (self.die - 40)
        flow = (self.die - self.case) / b.die_k_per_w
        self.die += seconds * (watt - flow) / b.die_j_per_k
        out = (self.case - b.ambient_c) / b.case_k_per_w
        self.case += seconds * (flow - out) / b.case_j_per_k

    def tick(self, load: float) -> None:
        """Go on by TICK_S under a load of 0 to 1."""
        mhz = FIRMWARE_MHZ if self.forced else MHZ[self.state]
        self.heat(load, mhz, TICK_S)
        self.seconds += TICK_S
        self.busy += load * TICK_S
        self.offered += load * TICK_S
        self.work += load * mhz / MHZ[0] * TICK_S
        self.too_hot += TICK_S * (self.die > HOT_C - 5)
        if self.forced:
            self.forced = self.die >= COOL_C or self.seconds < self.until
        elif self.die >= HOT_C:
            self.forced, self.until = True, self.seconds + LATCH_S
            self.times_forced += 1

    def hottest(self, state: int) -> float:
        """Forecast: the die's peak until after the next decision, all CPUs busy."""
        kept = self.die, self.case
        peak = self.die
        for _ in range(round(INTERVAL_S / TICK_S) + 10):
            self.heat(1.0, MHZ[state], TICK_S)
            peak = max(peak, self.die)
        self.die, self.case = kept
        return peak

    def best(self) -> int:
        """Which state a perfect forecast chooses: the fastest that stays cool."""
        states = range(len(MHZ))
        return next((s for s in states if self.hottest(s) < HOT_C - 1), states[-1])


Load = Callable[[random.Random], Iterator[float]]


def steady(_rng: random.Random) -> Iterator[float]:
    """All CPUs busy."""
    while True:
        yield 1.0


def _on_off(rng: random.Random, on_s: float, every_s: float) -> Iterator[float]:
    at = rng.random() * every_s
    while True:
        yield 1.0 if at % every_s < on_s else 0.1
        at += TICK_S


def bursts(rng: random.Random) -> Iterator[float]:
    """Five seconds of work, seven of rest: a build server, a camera's encoder."""
    return _on_off(rng, 5, 12)


def short(rng: random.Random) -> Iterator[float]:
    """A second of work, two of rest: somebody uses a browser."""
    return _on_off(rng, 1, 3)


def uneven(rng: random.Random) -> Iterator[float]:
    """Loads of 10 to 100 % for half a second to six seconds each."""
    while True:
        load = rng.choice((0.1, 0.4, 0.7, 1.0, 1.0))
        for _ in range(round(rng.uniform(0.5, 6) / TICK_S)):
            yield load


LOADS: dict[str, Load] = {
    "steady": steady, "bursts": bursts, "short": short, "uneven": uneven
}  # fmt: skip


def files(folder: Path) -> tuple[Path, Path, Path]:
    """Name the files of the emulated board: sensor, knob, uptime."""
    zone = folder / "thermal_zone0"
    return zone / "temp", zone / "cdev0/cur_state", folder / "uptime"


def publish(folder: Path, board: Emulated) -> None:
    """Write what the kernel would show. Each file is one write(): never torn."""
    temp, _, uptime = files(folder)
    idle = CPUS * (board.seconds - board.busy)
    for path, text in (
        (temp, f"{board.temp:6d}\n"),
        (uptime, f"{board.seconds:12.2f} {idle:12.2f}\n"),
    ):
        with path.open("r+b", buffering=0) as file:
            file.write(text.encode())


def main() -> int:
    """Read the command line and keep a board alive in a folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="where its files are made")
    parser.add_argument("--board", choices=BOARDS, default="closed")
    parser.add_argument("--load", choices=LOADS, default="bursts")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    board = Emulated(BOARDS[args.board])
    for path in files(args.folder):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("0\n")
    knob, load = files(args.folder)[1], LOADS[args.load](random.Random(args.seed))
    begin = time.monotonic()
    while board.seconds < args.seconds:
        board.state = int(knob.read_text() or 0)
        # late ticks are made up for: a busy machine does not slow the board down
        while board.seconds < min(time.monotonic() - begin, args.seconds):
            board.tick(next(load))
        publish(args.folder, board)
        time.sleep(TICK_S)
    print(
        f"work {board.work / board.offered:.4f} of what was offered; above "
        f"{HOT_C - 5:.0f} C {board.too_hot:.1f} s; firmware stepped in "
        f"{board.times_forced} times"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
