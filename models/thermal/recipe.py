#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Emulate boards under many loads, and note what a perfect forecast would choose.

Makes boards.mlkd; then `pymlk train thermal boards.mlkd` makes the model. The boards
are drawn at random; those of board.py are for tests.
"""

import argparse
import random
from pathlib import Path

from board import CPUS, INTERVAL_S, LOADS, MHZ, TICK_S, Emulated, any_board

from pymlk import policy
from pymlk.dataset import Writer

HERE = Path(__file__).resolve().parent
SECONDS = 60.0
NS = 1_000_000_000
EPILOG = """\
examples:
  ./recipe.py boards.mlkd && pymlk train . boards.mlkd
"""


def rows(board: Emulated, load: str, rng: random.Random) -> list[list[int]]:
    """Let a board run for a minute; the knob is the forecast's half of the time."""
    loads, out = LOADS[load](rng), []
    while board.seconds < SECONDS:
        best = board.best()
        idle = CPUS * (board.seconds - board.busy)
        up = round(board.seconds * 100), round(idle * 100)
        out.append([board.temp, *up, board.state, best])
        if rng.random() < 0.2:
            board.state = rng.randrange(len(MHZ))
        elif rng.random() < 0.5:
            board.state = best
        for _ in range(round(INTERVAL_S / TICK_S)):
            board.tick(next(loads))
    return out


def main() -> None:
    """Read the command line and write the dataset."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("output", help="the dataset, a new file")
    parser.add_argument("--boards", type=int, default=150)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    plan = policy.load(str(HERE), model=False)
    fields = [*plan["fields"], "best"]
    with Writer(args.output, plan, fields, [1, 100, 100, 1, 1]) as writer:
        for number in range(args.boards):
            rng = random.Random(f"{args.seed} {number}")
            kind = any_board(rng)
            for load in LOADS:
                board = Emulated(kind)
                found = rows(board, load, rng)
                run = writer.begin(
                    workload=load, device="emulated", group=f"board{number}"
                )
                at = [round(i * INTERVAL_S * NS) for i in range(len(found))]
                writer.rows(run, at, found, [[True] * len(fields)] * len(found))
                writer.end(run, score=board.work / board.offered, seconds=SECONDS)


if __name__ == "__main__":
    main()
