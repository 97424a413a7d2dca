#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The readahead policy against fixed values, a rule and an oracle, on slow disks.

Each profile has a disk of its own (models/readahead/slowdisk.py) and goes through its
runs beside the others. For each seed all cells come in a random order, each from an
empty page cache and from 128 KiB, pymlk started anew: what it takes until it has found
its value is part of the figure. Results are kept run by run, and an interrupted table
goes on where it was.
"""

import argparse
import contextlib
import json
import random
import shutil
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from runs import (
    CHOICES,
    DEFAULT,
    FIXED,
    MODEL,
    PHASES,
    STEADY,
    Nobody,
    Oracle,
    Pymlk,
    Result,
    Rule,
    Run,
    execute,
    phases_of,
)
from slowdisk import SlowDisk, SlowDiskError, call
from summary import write_all

# The third one is in none of the recordings that the model has learnt of.
PROFILES = ("2000iops-100mb", "500iops-150mb", "4000iops-120mb")
DECIDERS = ("rule", "shadow", "applied")
SEEDS = 5
# Evidence needs turns: those of a policy at work take minutes, not a benchmark's time.
TRIAL = "\n[trial]\nperiod_s = 1.0\nmin_decisions = 25\nmin_scores = 8\n"
EPILOG = """\
examples:
  sudo .venv/bin/python -P benchmarks/readahead/table.py --work /var/tmp/table
  sudo .venv/bin/python -P benchmarks/readahead/table.py --work /var/tmp/table --seeds 1
  .venv/bin/python -P benchmarks/readahead/table.py --work /var/tmp/table --only-summary

Needs what models/readahead/slowdisk.py needs, fio, matplotlib and numpy; about 2 GB of
memory for each profile, and three quarters of an hour.
"""


class Table:
    """What is to be run, and what was."""

    def __init__(self, work: Path, seeds: int) -> None:
        self.work = work
        self.path = work / "results.jsonl"
        self._lock = threading.Lock()
        self._begin, self._ended = time.monotonic(), 0
        self.stopped = False
        self.failures: list[str] = []
        self.runs = {p: self._runs(p, seeds) for p in PROFILES}

    def _runs(self, profile: str, seeds: int) -> list[Run]:
        found = []
        for seed in range(1, seeds + 1):
            who = [str(value) for value in FIXED] + list(DECIDERS)
            cells = [(w, d) for w in STEADY for d in who]
            cells += [("changing", d) for d in [*who, "oracle"] if d != "shadow"]
            random.Random(f"{profile} {seed}").shuffle(cells)
            found += [Run(profile, w, d, seed) for w, d in cells]
        long = [str(DEFAULT), "applied", "adaptive"]
        return found + [Run(profile, "long", who, 1) for who in long]

    def done(self) -> set[str]:
        """Names of the runs that are there already."""
        if not self.path.exists():
            return set()
        lines = self.path.read_text().splitlines()
        return {json.loads(line)["run"] for line in lines}

    def put(self, run: Run, result: Result, left: int) -> None:
        """Keep a result, and say how far it is."""
        with self._lock:
            line = {"run": run.key, **asdict(run), **asdict(result)}
            with self.path.open("a") as f:
                f.write(json.dumps(line) + "\n")
            self._ended += 1
            seen = " ".join(map(str, result.seen[:12]))
            print(
                f"{run.key:42} {result.score:10.0f}/s  {left:4} left  {seen}",
                flush=True,
            )

    def fail(self, run: Run, error: Exception) -> None:
        """Note a run that came to nothing; the others go on."""
        with self._lock:
            self.failures.append(f"{run.key}: {error}")
            print(f"warning: {run.key}: {error}", file=sys.stderr, flush=True)


def best_values(disk: SlowDisk, profile: str, path: Path) -> dict[str, int]:
    """What the oracle knows: a short run of each pattern with each value."""
    if path.exists():
        found: dict[str, int] = json.loads(path.read_text())
        return found
    speed: dict[str, dict[int, float]] = {p: {} for p in PHASES}
    for pattern in PHASES:
        for value in CHOICES:
            disk.knob.write_text(str(value))
            disk.prepare(profile)
            tool = f"{MODEL}/slowdisk.py {disk.work} exec {disk.work}/reader"
            words = f"{disk.mount}/file {pattern} 1 99 mmap"
            text = call("sh", "-c", f"exec nice -n -15 {tool} {words}")
            speed[pattern][value] = float(text.split()[1])
    disk.knob.write_text(str(DEFAULT))
    # of equally good ones the one nearest to the default, as in training
    best = {
        pattern: min(
            (v for v in CHOICES if table[v] >= 0.97 * max(table.values())),
            key=lambda v: abs(CHOICES.index(v) - CHOICES.index(DEFAULT)),
        )
        for pattern, table in speed.items()
    }
    path.write_text(json.dumps(best))
    return best


def decider(
    run: Run, best: dict[str, int], policy: Path
) -> Callable[[SlowDisk], Nobody]:
    """Who decides in a run."""
    if run.who == "rule":
        return Rule
    if run.who == "oracle":
        order = [best[pattern] for pattern in phases_of(run)]
        return lambda disk: Oracle(disk, order)
    if run.who == "shadow":
        return lambda disk: Pymlk(disk, policy, [])
    if run.who == "adaptive":
        return lambda disk: Pymlk(disk, policy.parent / "trial", ["--apply"])
    if run.who == "applied":
        return lambda disk: Pymlk(disk, policy, ["--apply", "--mode", "always"])
    return lambda _disk: Nobody()


def lane(table: Table, profile: str, policy: Path) -> None:
    """All runs of one profile, on a disk of its own."""
    disk = SlowDisk(table.work / profile)
    try:
        disk.setup()
        best = best_values(disk, profile, table.work / f"best-{profile}.json")
        done = table.done()
        runs = [run for run in table.runs[profile] if run.key not in done]
        for number, run in enumerate(runs, 1):
            if table.stopped:
                return
            try:
                result = execute(disk, run, decider(run, best, policy))
            except (ValueError, RuntimeError, OSError, SlowDiskError) as error:
                table.fail(run, error)
                continue
            table.put(run, result, len(runs) - number)
    except (OSError, SlowDiskError) as error:
        table.failures.append(f"{profile}: {error}")
        print(f"{profile}: {error}", file=sys.stderr, flush=True)
    finally:
        disk.teardown()


def copy_policy(source: Path, folder: Path, more: str) -> None:
    """Copy a policy and its model, as they are now, with something more."""
    folder.mkdir(exist_ok=True)
    text = (source / "policy.toml").read_text()
    (folder / "policy.toml").write_text(text + more)
    shutil.copy(source / "model.tflite", folder)


def main() -> int:
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for all")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="runs of a cell")
    parser.add_argument("--out", type=Path, default=Path("build/readahead"))
    parser.add_argument("--policy", type=Path, default=MODEL, help="instead of ours")
    parser.add_argument("--only-summary", action="store_true", help="no runs")
    args = parser.parse_args()
    work: Path = args.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    table = Table(work, args.seeds)
    if not args.only_summary:
        policy = work / "policy"
        copy_policy(args.policy, policy, "")
        copy_policy(args.policy, work / "trial", TRIAL)
        total = sum(map(len, table.runs.values())) - len(table.done())
        print(f"{total} runs to do", flush=True)
        lanes = [
            threading.Thread(target=lane, args=(table, profile, policy))
            for profile in PROFILES
        ]
        for thread in lanes:
            thread.start()
        try:
            for thread in lanes:
                thread.join()
        except KeyboardInterrupt:
            table.stopped = True
            for thread in lanes:
                thread.join()
    with contextlib.suppress(FileNotFoundError):
        write_all(table.path, args.out)
    return 1 if table.failures else 0


if __name__ == "__main__":
    sys.exit(main())
