#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Record single requests of many workloads on disks that others use, too.

Disks in memory (zram), slowed down by the blkio controller, stand for real ones. Every
workload runs on every device profile for some seconds; what is known of the disk when a
request is issued, and how long it took, goes to train.mlkd, or to heldout.mlkd if the
workload or the profile is one that training must not see.
"""

import argparse
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
from disks import PROFILES, SEEN, DiskError, Disks, Records, cleaned_up

from pymlk.dataset import Dataset, Writer
from pymlk.policy import load

HERE = Path(__file__).resolve().parent
EPILOG = """\
examples:
  sudo ./record.py --work /var/tmp/iolat                   everything, 14 minutes
  sudo ./record.py --work /var/tmp/iolat --only '^web/'    one workload
  sudo ./record.py --work /var/tmp/iolat --teardown        clean up after a kill -9

A run that is in WORK's datasets already is skipped, so an interrupted collection goes
on where it was. Needs root, cgroup v1 (blkio), zram, a C compiler, numpy and pymlk.
"""

HELD_OUT = {"kv", "log", "1500iops-50mb", "6000iops-100mb"}
# What else uses the disk: sizes, depth, mean times on and off in milliseconds.
READER = {"other_bytes": 65536, "other_depth": 16}
READER |= {"other_on_ms": 300, "other_off_ms": 600}
BACKUP = {"other_bytes": 131072, "other_depth": 16}
BACKUP |= {"other_on_ms": 600, "other_off_ms": 900}
FLUSH = {"other_bytes": 32768, "other_depth": 24, "other_writes": 60}
FLUSH |= {"other_on_ms": 250, "other_off_ms": 500}

# `load` is the share of what the disk can do; without it requests follow each other,
# after a pause of so many times as a request may take on average.
WORKLOADS: dict[str, dict[str, Any]] = {
    "web": {"load": 0.4, "sizes": "4096", **READER},
    "oltp": {"pause": 20, "workers": 8, "sizes": "8192", "writes": 30, **READER},
    "scan": {"pause": 10, "workers": 4, "sizes": "65536,131072", **READER},
    "burst": {"load": 0.4, "burst": 5, "on_ms": 150, "off_ms": 600, "sizes": "4096"},
    "mixed": {"load": 0.4, "sizes": "4096,8192,16384,32768,65536", **BACKUP},
    "single": {"pause": 2, "workers": 1, "sizes": "4096", **BACKUP},
    "heavy": {
        "load": 0.7,
        "burst": 2,
        "on_ms": 300,
        "off_ms": 300,
        "sizes": "4096,16384",
    },
    "dirty": {"load": 0.3, "sizes": "4096,32768", "writes": 50, **FLUSH},
    "mail": {"load": 0.4, "sizes": "4096,16384", "writes": 70, **BACKUP},
    "copy": {"pause": 3, "workers": 4, "sizes": "65536", "writes": 90, **READER},
    "rare": {
        "load": 0.005,
        "burst": 40,
        "on_ms": 100,
        "off_ms": 400,
        "sizes": "4096",
        **READER,
    },
    "kv": {"load": 0.35, "burst": 3, "sizes": "4096,16384", "writes": 10, **BACKUP},
    "log": {"load": 0.3, "burst": 4, "sizes": "4096,8192", "writes": 85, **FLUSH},
}


def settings(workload: str, profile: str, seed: int) -> dict[str, object]:
    """Say what a workload is on a disk of that speed."""
    given = dict(WORKLOADS[workload])
    iops, megabytes = PROFILES[profile]
    mean = float(np.mean([int(size) for size in given["sizes"].split(",")]))
    rate: float = min(iops, megabytes * 1e6 / mean)
    # the slower of the two ways decides
    writes = given.get("writes", 0) / 100
    rate = min(rate, rate / 2 / writes) if writes else rate
    if "load" in given:
        given["rate"] = round(given.pop("load") * rate)
        given["workers"] = 64
    else:
        given["think_us"] = round(given.pop("pause") * 1e6 / rate)
    return {**given, "seed": seed}


def slow_from(took_us: Any) -> int:
    """Where times stop being fast, in microseconds.

    Otsu's threshold of the logarithm: of all ways to part the times into two classes
    the one with the least variance inside them. At least ten times what the fastest
    tenth takes, so that a run without slow requests is not cut in two.
    """
    share, edges = np.histogram(np.log10(np.maximum(took_us, 1.0)), 128)
    share = share / share.sum()
    middle = (edges[1:] + edges[:-1]) / 2
    below, sums = np.cumsum(share), np.cumsum(share * middle)
    between = (sums[-1] * below - sums) ** 2 / np.maximum(below * (1 - below), 1e-12)
    otsu = 10 ** edges[1 + int(between.argmax())]
    return int(max(otsu, 10 * np.quantile(took_us, 0.1)))


def thin(count: int, most: int) -> Any:
    """Choose rows: at most so many, in pieces all over the run."""
    if count <= most:
        return np.arange(count)
    pieces = 10
    starts = np.linspace(0, count - most // pieces, pieces).astype(int)
    return np.unique((starts[:, None] + np.arange(most // pieces)).ravel())


def rows(records: Records, most: int) -> tuple[Any, Any, int]:
    """Make times and values for a dataset, and say from where a request is slow."""
    # the first have no four predecessors
    kept = records[64:]
    slow_us = slow_from(kept["took_us"])
    kept = kept[thin(len(kept), most)]
    columns = [kept["seen"], kept["bytes"], kept["is_write"], kept["took_us"]]
    values = np.column_stack([*columns, kept["took_us"] > slow_us]).astype("i8")
    return kept["issued_ns"].astype("i8"), values, slow_us


def collect(disks: Disks, args: argparse.Namespace) -> None:
    """Do all runs; each is in its dataset when it has ended."""
    names = [*SEEN, "bytes", "is_write", "took_us", "slow"]
    plan = load(str(HERE), model=False)
    paths = {held: args.work / f"{held}.mlkd" for held in ("train", "heldout")}
    done: set[tuple[str, str, int]] = set()
    for path in paths.values():
        if path.exists():
            with Dataset(str(path)) as before:
                done |= {(run.workload, run.group, run.seed) for run in before.runs}
    cells = [
        (workload, profile, seed)
        for seed in range(1, args.seeds + 1)
        for profile in PROFILES
        for workload in WORKLOADS
        if (workload, profile, seed) not in done
        and not (workload == "rare" and profile in HELD_OUT)
        and re.search(args.only, f"{workload}/{profile}/{seed}")
    ]
    for n, (workload, profile, seed) in enumerate(cells, 1):
        disks.limit(profile)
        given = settings(workload, profile, seed)
        records = disks.run(args.seconds, given)
        t, values, slow_us = rows(records, args.rows)
        tags = {k: str(v) for k, v in given.items()} | {"slow_us": str(slow_us)}
        path = paths["heldout" if HELD_OUT & {workload, profile} else "train"]
        with Writer(str(path), plan, names, [1] * len(names), append=True) as writer:
            run = writer.begin(
                workload=workload, device="zram", group=profile, seed=seed, tags=tags
            )
            writer.rows(run, t, values, np.ones(values.shape, bool))
            writer.end(run, seconds=args.seconds)
        print(
            f"[{n}/{len(cells)}] {workload:7} {profile:15} {len(records):7} requests"
            f"  slow from {slow_us:7} us: {values[:, -1].mean():6.1%}",
            flush=True,
        )


def main() -> int:
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--work", type=Path, required=True, help="directory for all")
    parser.add_argument("--seconds", type=float, default=8, help="length of a run")
    parser.add_argument("--seeds", type=int, default=1, help="runs per cell")
    parser.add_argument("--rows", type=int, default=1500, help="most rows of a run")
    parser.add_argument("--only", default="", help="regular expression on run names")
    parser.add_argument("--teardown", action="store_true", help="only clean up")
    args = parser.parse_args()
    disks = Disks(args.work.resolve(), 1)
    try:
        args.work.mkdir(parents=True, exist_ok=True)
        if args.teardown:
            disks.teardown()
            return 0
        disks.check()
        with cleaned_up(disks):
            disks.setup()
            collect(disks, args)
    except (DiskError, OSError) as e:
        print(f"record.py: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
