#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Let the model act: two replicas on contended disks, and which of them to read from.

Each request goes to one of two disks by lot. A rival may send it to the other one
instead, or to both. All rivals have the same arrivals and the same other load, in turn,
over several rounds.
"""

import argparse
import json
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
from disks import PROFILES, DiskError, Disks, cleaned_up

from pymlk.compile import compile_model

HERE = Path(__file__).resolve().parent
RIVALS = {
    "no prediction": "none",
    "fewer in flight": "queue",
    "last one slow": "last",
    "model": "model",
    "hedge": "hedge",
    "fewer, then hedge": "queue-hedge",
    "model, then hedge": "model-hedge",
    "always both": "both",
    "oracle": "oracle",
}
# Reads alone, for a write goes to all replicas. Neither was trained on.
WORKLOADS: dict[str, dict[str, Any]] = {
    "kv": {"load": 0.12, "burst": 3, "sizes": "4096,16384"},
    "steady": {"load": 0.25, "sizes": "8192"},
}
OTHER = {"other_bytes": 131072, "other_depth": 4}
OTHER |= {"other_on_ms": 500, "other_off_ms": 1000}
EPILOG = """\
examples:
  sudo ./act.py --work /var/tmp/iolat
  sudo ./act.py --work /var/tmp/iolat --profile 3000iops-30mb --rounds 3

Needs what record.py needs.
"""


def features(policy: Path) -> str:
    """Write what load.c wants to know of each feature."""
    items = tomllib.loads(policy.read_text())["feature"]
    return "".join(f"{item['mean']} {item['std']}\n" for item in items)


def measure(disks: Disks, args: argparse.Namespace, profile: str) -> dict[str, Any]:
    """Run every rival on every workload; times in microseconds from when it was due."""
    program, table = disks.work / "program.mlk", disks.work / "features"
    program.write_bytes(compile_model((HERE / "model.tflite").read_bytes()))
    table.write_text(features(HERE / "policy.toml"))
    iops, megabytes = PROFILES[profile]
    disks.limit(profile)
    result: dict[str, Any] = {}
    for name, workload in WORKLOADS.items():
        given: dict[str, Any] = {**workload, **OTHER, "workers": 64}
        mean = np.mean([int(size) for size in given["sizes"].split(",")])
        # two disks share it
        given["rate"] = round(2 * given.pop("load") * min(iops, megabytes * 1e6 / mean))
        given |= {"slow_us": args.slow_us, "program": program, "features": table}
        found: dict[str, list[Any]] = {rival: [] for rival in RIVALS}
        for seed in range(1, args.rounds + 1):
            order = list(RIVALS)
            order = order[seed % len(order) :] + order[: seed % len(order)]
            for rival in order:
                changed = {"how": RIVALS[rival], "seed": 1000 + seed}
                found[rival].append(disks.run(args.seconds, given | changed))
        result[name] = {rival: summary(runs) for rival, runs in found.items()}
        show(f"{name} on {profile}", result[name])
    return result


def summary(runs: list[Any]) -> dict[str, float]:
    """Means and quantiles over all rounds, and how far the rounds are apart."""
    waited = np.concatenate([run["waited_us"] for run in runs])
    means = [float(run["waited_us"].mean()) for run in runs]
    return {
        "requests": len(waited),
        "mean": float(waited.mean()),
        "lowest round": min(means),
        "highest round": max(means),
        **{f"p{q}": float(np.percentile(waited, q)) for q in (50, 90, 95, 99, 99.9)},
        **{
            key: float(np.concatenate([run[key] for run in runs]).mean())
            for key in ("moved", "doubled")
        },
    }


def show(title: str, rows: dict[str, dict[str, float]]) -> None:
    """Print a table, in milliseconds."""
    print(title)
    print(f"  {'':18}    mean  (rounds)           p50     p95     p99  moved  doubled")
    for rival, row in rows.items():
        times = "".join(f"{row[k] / 1e3:8.2f}" for k in ("p50", "p95", "p99"))
        spread = (
            f"({row['lowest round'] / 1e3:.2f} to {row['highest round'] / 1e3:.2f})"
        )
        mean = f"{row['mean'] / 1e3:8.2f}  {spread:16}"
        shares = f"{row['moved']:6.1%} {row['doubled']:6.1%}"
        print(f"  {rival:18}{mean}{times}  {shares}", flush=True)


def main() -> int:
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--work", type=Path, required=True, help="directory for all")
    parser.add_argument("--profile", choices=PROFILES, nargs="+")
    parser.add_argument("--seconds", type=float, default=10, help="length of a run")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slow-us", type=int, default=2000, help="what is slow")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write figures there")
    args = parser.parse_args()
    profiles = args.profile or ["1500iops-50mb", "6000iops-100mb"]
    disks = Disks(args.work.resolve(), 2)
    try:
        args.work.mkdir(parents=True, exist_ok=True)
        disks.check()
        with cleaned_up(disks):
            disks.setup()
            found = {p: measure(disks, args, p) for p in profiles}
    except (DiskError, OSError) as e:
        print(f"act.py: {e}", file=sys.stderr)
        return 1
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
