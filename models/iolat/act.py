#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Let the model act: read a block from a contended disk, or its copy?

A fifth of the blocks has a copy, far away where reading it always takes a few
milliseconds, or on a second such disk. A rival may take the copy instead, or both. All
rivals have the same arrivals and the same other load, in turn, over several rounds.

Chosen by what rules would have cost in the training data: what has no copy goes to the
disk whatever rivals say, and so each of them always knows how the disk is doing; a copy
that costs 5 ms is worth it for what is slow (mostly 10 to 100 ms) and dear for what is
not (0.02 ms), so that both kinds of mistakes count; other programs, whose requests are
not seen, use the disk now and then. `kv` was measured first: with hundreds of requests
in flight nearly all that is slow is behind another slow one, and counting is enough. So
`oltp` and `scan` came second, with 8 and 4 at most: there the first to be held back
counts.
"""

import argparse
import json
import sys
import tomllib
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from disks import PROFILES, DiskError, Disks, Records, cleaned_up
from record import WORKLOADS
from record import settings as as_recorded

from pymlk.compile import compile_model

HERE = Path(__file__).resolve().parent
Choice = dict[str, float]
# What is tried for each rival on what was trained on, to find what is tested.
SLOW, STILL = {"slow_us": [200, 1000, 5000]}, {"still_us": [200, 1000]}
DELAY = {"hedge_us": [200, 1000]}
RIVALS: dict[str, tuple[str, dict[str, list[Any]]]] = {
    "no prediction": ("none", {}),
    "in flight": ("queue", {"limit": [1, 2]}),
    "last one slow": ("last", SLOW),
    "mean time": ("ewma", {}),
    "C3": ("c3", {}),
    "nothing ends": ("still", STILL),
    "in flight, last": ("either", {"limit": [1, 2], **SLOW}),
    "nothing ends, last": ("still-last", {**STILL, **SLOW}),
    "model": ("model", {"sure": [20, 35, 50]}),
    "hedge 5%": ("hedge", {**DELAY, "twice": [5]}),
    "model, hedge 5%": ("model-hedge", {**DELAY, "twice": [5]}),
    "hedge": ("hedge", DELAY),
}
TUNED = ["oltp", "scan"], ["1000iops-25mb", "4000iops-60mb"]
TESTED = ["oltp", "scan"], ["1500iops-50mb", "6000iops-100mb"]
EPILOG = """\
examples:
  sudo ./act.py --work /var/tmp/iolat --tune --json tuned.json
  sudo ./act.py --work /var/tmp/iolat --tuned tuned.json --json act.json
  sudo ./act.py --work /var/tmp/iolat --tuned tuned.json --remote-us 0

Needs what record.py needs.
"""


def features(policy: Path) -> str:
    """Write what load.c wants to know of each feature."""
    items = tomllib.loads(policy.read_text())["feature"]
    return "".join(f"{item['mean']} {item['std']}\n" for item in items)


def settings(disks: Disks, args: argparse.Namespace, cell: str) -> dict[str, Any]:
    """Say what all rivals have in common."""
    workload, profile = cell.split(" on ")
    # reads alone, for a write goes to all copies
    given = as_recorded(workload, profile, 0) | {"writes": 0}
    if "rate" in given:
        # what is late must not wait for a thread; two disks share twice as much
        given |= {"rate": int(str(given["rate"])) * disks.count, "workers": 512}
    program, table = disks.work / "program.mlk", disks.work / "features"
    program.write_bytes(compile_model((HERE / "model.tflite").read_bytes()))
    table.write_text(features(HERE / "policy.toml"))
    given |= {"copies": 20, "remote_us": args.remote_us}
    return given | {"program": program, "features": table}


def copied(disks: Disks, args: argparse.Namespace, given: dict[str, Any]) -> Records:
    """Run once; only what has a copy counts."""
    records = disks.run(args.seconds, given)
    found: Records = records[records["copied"] == 1]
    return found


def tune(disks: Disks, args: argparse.Namespace) -> dict[str, Any]:
    """Measure each choice of each rival; see `best`."""
    tried: dict[str, Any] = {}
    for cell in cells(args, TUNED):
        disks.limit(cell.split(" on ")[1])
        given = settings(disks, args, cell)
        for rival, (how, options) in RIVALS.items():
            for values in product(*options.values()):
                choice = dict(zip(options, values, strict=True))
                runs = [
                    copied(disks, args, given | choice | {"how": how, "seed": seed})
                    for seed in range(1, args.rounds + 1)
                ]
                mean = float(np.mean([run["waited_us"].mean() for run in runs]))
                tried.setdefault(rival, {}).setdefault(json.dumps(choice), {})[cell] = (
                    mean
                )
                print(f"{cell:24} {rival:18} {mean / 1e3:8.2f} ms {choice}", flush=True)
    return tried


def best(tried: dict[str, dict[str, dict[str, float]]]) -> dict[str, Choice]:
    """Take the choice of least time, its geometric mean over all cells."""
    return {
        rival: json.loads(
            min(choices, key=lambda c: float(np.log(list(choices[c].values())).sum()))
        )
        for rival, choices in tried.items()
    }


def test(
    disks: Disks, args: argparse.Namespace, chosen: dict[str, Choice]
) -> dict[str, Any]:
    """Run all rivals in turn; times in microseconds from when a request was due."""
    result: dict[str, Any] = {}
    for cell in cells(args, TESTED):
        disks.limit(cell.split(" on ")[1])
        given = settings(disks, args, cell)
        found: dict[str, list[Records]] = {rival: [] for rival in RIVALS}
        order = list(RIVALS)
        for seed in range(1, args.rounds + 1):
            order = order[1:] + order[:1]
            for rival in order:
                own = {"how": RIVALS[rival][0], "seed": 1000 + seed, **chosen[rival]}
                found[rival].append(copied(disks, args, given | own))
        result[cell] = {rival: summary(runs) for rival, runs in found.items()}
        show(cell, result[cell])
    return result


def summary(runs: list[Records]) -> dict[str, Any]:
    """Means and quantiles over all rounds, and the mean of each round."""
    waited = np.concatenate([run["waited_us"] for run in runs])
    return {
        "requests": len(waited),
        "mean": float(waited.mean()),
        "rounds": [round(float(run["waited_us"].mean()), 1) for run in runs],
        **{f"p{q}": float(np.percentile(waited, q)) for q in (50, 90, 95, 99, 99.9)},
        **{
            key: float(np.concatenate([run[key] for run in runs]).mean())
            for key in ("moved", "doubled")
        },
    }


def ratios(cells: dict[str, Any], of: str, to: str) -> tuple[float, float, float]:
    """Compare two rivals round by round: geometric mean and its 95 % interval."""
    rng = np.random.default_rng(0)
    logs = [
        np.log(rows[of]["rounds"]) - np.log(rows[to]["rounds"])
        for rows in cells.values()
    ]
    again = [
        np.mean([rng.choice(each, len(each)).mean() for each in logs])
        for _ in range(4000)
    ]
    middle = np.mean([each.mean() for each in logs])
    low, high = np.quantile(again, [0.025, 0.975])
    return float(np.exp(middle)), float(np.exp(low)), float(np.exp(high))


def show(title: str, rows: dict[str, dict[str, Any]]) -> None:
    """Print a table, in milliseconds."""
    print(f"{title}\n  {'':18}    mean     p50     p95     p99  moved   twice")
    for rival, row in rows.items():
        times = "".join(f"{row[k] / 1e3:8.2f}" for k in ("mean", "p50", "p95", "p99"))
        shares = f"{row['moved']:6.1%} {row['doubled']:6.1%}"
        print(f"  {rival:18}{times} {shares}", flush=True)


def compare(cells: dict[str, Any]) -> dict[str, dict[str, tuple[float, float, float]]]:
    """Say what part of each rival's mean time a model needs."""
    models = [rival for rival in RIVALS if rival.startswith("model")]
    found = {m: {r: ratios(cells, m, r) for r in RIVALS if r != m} for m in models}
    for model, rows in found.items():
        print(f"{model}: its mean time as a part of")
        for rival, (middle, low, high) in rows.items():
            print(f"  {rival:18} {middle:.2f} ({low:.2f} to {high:.2f})")
    return found


def cells(args: argparse.Namespace, which: tuple[list[str], list[str]]) -> list[str]:
    """Name workloads and disks."""
    workloads, profiles = args.workload or which[0], args.profile or which[1]
    return [f"{workload} on {disk}" for disk in profiles for workload in workloads]


def main() -> int:
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--work", type=Path, required=True, help="directory for all")
    parser.add_argument("--workload", choices=WORKLOADS, nargs="+")
    parser.add_argument("--profile", choices=PROFILES, nargs="+")
    parser.add_argument("--seconds", type=float, default=5, help="length of a run")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument(
        "--remote-us", type=int, default=5000, help="0: both replicas are here"
    )
    parser.add_argument("--tune", action="store_true", help="try rivals' limits")
    parser.add_argument("--tuned", type=Path, nargs="+", help="what --tune has found")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write figures there")
    args = parser.parse_args()
    disks = Disks(args.work.resolve(), 1 if args.remote_us else 2)
    tried: dict[str, Any] = {}
    for path in args.tuned or []:
        for rival, choices in json.loads(path.read_text())["tried"].items():
            for choice, row in choices.items():
                tried.setdefault(rival, {}).setdefault(choice, {}).update(row)
    found: dict[str, Any] = {"remote_us": args.remote_us}
    try:
        args.work.mkdir(parents=True, exist_ok=True)
        disks.check()
        with cleaned_up(disks):
            disks.setup()
            if args.tune:
                found["tried"] = tune(disks, args)
            else:
                found["tuned"] = best(tried)
                found["cells"] = test(disks, args, found["tuned"])
    except (DiskError, OSError) as e:
        print(f"act.py: {e}", file=sys.stderr)
        return 1
    if not args.tune:
        found["compared"] = compare(found["cells"])
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
