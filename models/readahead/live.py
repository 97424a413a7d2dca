#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Let the shipped model act on a slow disk while the workload changes under it.

A trial in the open, without the project's own loop: the same guard rules in a few
lines, against fixed values in the same minutes. The reader opens its file anew every
second, for an open file keeps the read-ahead size it was opened with.
"""

import argparse
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from collect import SNAPSHOT_COLUMNS, Run
from collect import snapshot as read_snapshot
from dataset import Policy, features
from network import interpret, quantise
from slowdisk import PROFILES, Bench, CollectError, cleaned_up

HERE = Path(__file__).resolve().parent
PHASES = ("rand-mmap", "seq-mmap", "run16-mmap", "rev-mmap")
REOPEN_MS = "1000"
EPILOG = """\
examples:
  sudo ./live.py --work /var/tmp/ra
  sudo ./live.py --work /var/tmp/ra --profile 500iops-150mb --fixed 128 512

Needs what collect.py and recipe.py need.
"""


@dataclass
class Loop:
    """Snapshots in, values of the knob out."""

    policy: Policy
    now: int
    last: int = -1
    same: int = 0
    changed: float = 0.0
    rows: list[list[float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Load model and standardisation."""
        self.run = interpret((HERE / "model.tflite").read_bytes())
        self.mean = np.array([f["mean"] for f in self.policy.features])
        self.std = np.array([f["std"] for f in self.policy.features])

    def step(self, row: list[int]) -> int | None:
        """Take a snapshot; return the index of a new value, if it is to change."""
        named = dict(zip(SNAPSHOT_COLUMNS[1:], row, strict=True))
        columns = ["t_us", *self.policy.fields.values()]
        self.rows = [*self.rows[-1:], [float(named[c]) for c in columns]]
        if len(self.rows) < 2:
            return None
        x = features(np.array(self.rows), self.policy)
        guard = self.policy.guard
        choice = -1
        if len(x):
            p = self.run(quantise(x[0], self.mean, self.std).astype(np.int8))
            if p.max() >= guard["min_confidence"]:
                choice = int(p.argmax())
        self.same = self.same + 1 if choice == self.last else 1
        self.last = choice
        wait = time.monotonic() - self.changed < guard["min_interval_s"]
        if choice in (-1, self.now) or self.same < guard["settle"] or wait:
            return None
        far = guard["max_step"]
        self.now += max(-far, min(far, choice - self.now))
        self.changed, self.same = time.monotonic(), 0
        return self.now


def phase(
    bench: Bench, run: Run, seconds: float, loop: Loop | None
) -> tuple[float, list[int]]:
    """Run one workload; return its speed and the values of the knob it saw."""
    bench.prepare(run.profile, run.ra_kb)
    pattern, _, access = run.workload.partition("-")
    file = f"{bench.work}/mnt/file"
    argv = [f"{bench.work}/reader", file, pattern, str(seconds), str(run.seed)]
    child = bench.start([*argv, access, REOPEN_MS])
    seen = [run.ra_kb]
    if loop:
        loop.rows = []
    while child.poll() is None:
        change = loop.step(read_snapshot(bench.sys)) if loop else None
        if loop and change is not None:
            value = loop.policy.knobs[change]
            (bench.sys / "queue/read_ahead_kb").write_text(str(value))
            seen.append(value)
        time.sleep(loop.policy.interval_ms / 1e3 if loop else 0.2)
    text = child.communicate()[0]
    if child.returncode:
        raise CollectError(f"{run.key}: exit status {child.returncode}")
    return float(text.split()[1]), seen


def trial(bench: Bench, profile: str, fixed: list[int], seconds: float) -> None:
    """Go through the phases on one profile; print a line for each."""
    policy = Policy.read(HERE / "policy.toml")
    loop = Loop(policy, policy.default)
    print(f"{profile}: pages per second over {seconds:.0f} s")
    for number, workload in enumerate(PHASES, 100):
        speeds = {}
        for ra_kb in fixed:
            run = Run(workload, profile, ra_kb, number)
            speeds[ra_kb], _ = phase(bench, run, seconds, None)
        run = Run(workload, profile, policy.knobs[loop.now], number)
        speed, seen = phase(bench, run, seconds, loop)
        line = "  ".join(f"{k} KB {v:.0f}" for k, v in speeds.items())
        print(
            f"  {workload:12} {line}  model {speed:.0f}, which set {seen}", flush=True
        )


def main() -> int:
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--work", type=Path, required=True, help="directory for all")
    parser.add_argument("--loop", default="", help="loop device (default: a free one)")
    parser.add_argument("--seconds", type=float, default=12, help="length of a phase")
    parser.add_argument("--profile", choices=PROFILES, nargs="+", default=[*PROFILES])
    parser.add_argument("--fixed", type=int, nargs="*", default=[128])
    args = parser.parse_args()
    if not 2 <= args.seconds <= 600:
        parser.error("--seconds must be in 2..600")
    bench = Bench(args.work.resolve(), args.loop)
    try:
        bench.work.mkdir(parents=True, exist_ok=True)
        bench.check()
        with cleaned_up(bench):
            bench.setup()
            for profile in args.profile:
                trial(bench, profile, args.fixed, args.seconds)
    except (CollectError, OSError) as e:
        print(f"live.py: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
