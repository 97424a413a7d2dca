#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Measure what read_ahead_kb does to workloads, and what the counters then show.

A file-backed loop device, slowed down by the blkio controller and with little memory
for its page cache, stands for a disk. Every combination of workload, device profile,
read_ahead_kb and seed runs for some seconds while the raw counters that a policy may
read are recorded. Two files come out: runs.csv (one line per run, with its speed) and
snapshots.csv (one line per run and instant).
"""

import argparse
import contextlib
import csv
import gzip
import itertools
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from slowdisk import PROFILES, Bench, CollectError, call, cleaned_up

EPILOG = """\
examples:
  sudo ./collect.py --work /var/tmp/ra                  the whole sweep
  sudo ./collect.py --work /var/tmp/ra --dry-run        only say how long it takes
  sudo ./collect.py --work /var/tmp/ra --only '^rand'   some workloads
  sudo ./collect.py --work /var/tmp/ra --teardown       clean up after a kill -9
  ./collect.py --work /var/tmp/ra --pack .              compact copy of the data
  ./collect.py --work /var/tmp/ra --pack . --only 'iops-(60|80)mb'   of some runs

A run that is already in WORK/runs.csv is skipped, so an interrupted sweep goes on
where it was. Needs root, cgroup v1 (blkio and memory), losetup, mkfs.ext4 and gcc;
fio and db_bench (Debian: rocksdb-tools) for the workloads of those names.
"""

KNOBS = (8, 32, 128, 512, 2048)
DB_KEYS = 1_500_000
DB_ENTRY_BYTES = 420
PERIOD_S = 0.25
STAT_COLUMNS = 17
VMSTAT = (
    "pgpgin pgfault pgmajfault workingset_refault_file workingset_activate_file "
    "pgactivate pgdeactivate pgscan_kswapd pgscan_direct pgsteal_kswapd "
    "pgsteal_direct pgscan_file pgsteal_file pgrotated pgfree nr_mapped "
    "nr_active_file nr_inactive_file"
).split()
RUN_COLUMNS = "run workload profile iops bps ra_kb seed seconds ops_s".split()
SNAPSHOT_COLUMNS = [
    *["run", "t_us", "ra_kb"],
    *[f"stat{i}" for i in range(STAT_COLUMNS)],
    *VMSTAT,
]
# What recipe.py reads; --pack leaves out the rest.
PACKED = "run t_us ra_kb stat0 stat2 pgfault pgmajfault workingset_refault_file".split()


@dataclass(frozen=True)
class Run:
    """One cell of the sweep."""

    workload: str
    profile: str
    ra_kb: int
    seed: int

    @property
    def key(self) -> str:
        """Name the run; files refer to it by this."""
        return f"{self.workload}/{self.profile}/{self.ra_kb}/{self.seed}"


def db_options(work: Path) -> list[str]:
    """List what every call of db_bench shares."""
    return [
        *["db_bench", f"--db={work}/mnt/db", f"--num={DB_KEYS}", "--value_size=400"],
        *["--key_size=16", "--compression_type=none", "--cache_size=8388608"],
        *["--open_files=500", "--disable_auto_compactions=1", "--disable_wal=1"],
        # Without mmap RocksDB's own hints hide the knob.
        *["--mmap_read=1", "--advise_random_on_open=0"],
        # The default, 1000, is many seconds on a slow disk.
        "--ops_between_duration_checks=16",
    ]


def command(run: Run, work: Path, seconds: float) -> list[str]:
    """Say what to execute; the workload's name is TOOL-PATTERN or PATTERN-ACCESS."""
    tool, _, kind = run.workload.partition("-")
    if tool == "fio":
        distribution = "zipf:1.1" if kind == "zipf" else "random"
        return [
            *["fio", "--name=x", f"--filename={work}/mnt/file", "--readonly"],
            *[f"--rw={'read' if kind == 'seq' else 'randread'}", "--ioengine=mmap"],
            *["--bs=4k", "--time_based", f"--runtime={seconds}", "--thread"],
            *["--fadvise_hint=0", "--invalidate=0", "--norandommap"],
            *[f"--randseed={run.seed}", f"--random_distribution={distribution}"],
            "--output-format=json",
        ]
    if tool == "db":
        iops, bps = PROFILES[run.profile]
        bound = [f"--duration={round(seconds)}"]
        if kind in ("readseq", "readreverse"):
            # These know no time limit; a mapped scan gets about half of the bound.
            expected = min(iops * run.ra_kb * 1024, bps) * seconds / DB_ENTRY_BYTES
            bound = [f"--reads={min(DB_KEYS, int(expected / 2))}"]
        return [
            *db_options(work),
            *["--use_existing_db=1", f"--benchmarks={kind}", "--seek_nexts=20"],
            *[f"--seed={run.seed}", *bound],
        ]
    return [
        *[f"{work}/reader", f"{work}/mnt/file", tool, str(seconds), str(run.seed)],
        kind,
    ]


def ops_per_second(run: Run, text: str) -> float:
    """Find the speed in what the tool printed."""
    if run.workload.startswith("fio-"):
        return float(json.loads(text[text.index("{") :])["jobs"][0]["read"]["iops"])
    if run.workload.startswith("db-"):
        found = re.search(r"micros/op +(\d+) ops/sec", text)
        if not found:
            raise CollectError(f"{run.key}: db_bench said nothing of ops/sec")
        return float(found[1])
    return float(text.split()[1])


OWN = (
    "seq-mmap rev-mmap rand-mmap run16-mmap run48-mmap mix80-mmap seq-pread rand-pread"
).split()
FIO = "fio-rand fio-seq fio-zipf".split()
DB = "db-readrandom db-readseq db-readreverse db-seekrandom".split()


def sweep(seeds: int, only: str) -> list[Run]:
    """List the runs, whole seeds first, so that a sweep cut short is still usable."""
    runs = [
        Run(workload, profile, ra_kb, seed)
        for seed, profile, workload, ra_kb in itertools.product(
            range(1, seeds + 1), PROFILES, OWN + FIO + DB, KNOBS
        )
    ]
    return [run for run in runs if re.search(only, run.key)]


def snapshot(block: Path) -> list[int]:
    """Read all counters at one instant, as in SNAPSHOT_COLUMNS but for the run."""
    stat = [int(v) for v in (block / "stat").read_text().split()]
    lines = Path("/proc/vmstat").read_text().splitlines()
    table = dict(line.split() for line in lines)
    ra_kb = int((block / "queue/read_ahead_kb").read_text())
    stat = (stat + [0] * STAT_COLUMNS)[:STAT_COLUMNS]
    now = time.monotonic_ns() // 1000
    return [now, ra_kb, *stat, *(int(table.get(k, 0)) for k in VMSTAT)]


def measure(
    bench: Bench, run: Run, seconds: float
) -> tuple[float, float, list[list[int]]]:
    """Run one cell: speed, duration and one row of counters every PERIOD_S."""
    bench.prepare(run.profile, run.ra_kb)
    child = bench.start(command(run, bench.work, seconds))
    begin = time.monotonic()
    rows = []
    try:
        while child.poll() is None:
            rows.append(snapshot(bench.sys))
            if time.monotonic() - begin > 4 * seconds:
                raise CollectError(f"{run.key}: still running after {4 * seconds:.0f}s")
            with contextlib.suppress(subprocess.TimeoutExpired):
                due = begin + len(rows) * PERIOD_S - time.monotonic()
                child.wait(max(0.01, due))
    finally:
        child.kill()
        text = child.communicate()[0]
    if child.returncode:
        raise CollectError(f"{run.key}: exit status {child.returncode}")
    return ops_per_second(run, text), time.monotonic() - begin, rows


def append(path: Path, header: list[str]) -> Callable[[list[list[object]]], None]:
    """Return a function that adds rows to a file, which it makes if need be."""
    if not path.exists():
        path.write_text(",".join(header) + "\n")

    def write(rows: list[list[object]]) -> None:
        with path.open("a", newline="") as f:
            csv.writer(f, lineterminator="\n").writerows(rows)

    return write


def done_runs(work: Path) -> set[str]:
    """List the runs that are complete."""
    path = work / "runs.csv"
    if not path.exists():
        return set()
    with path.open(newline="") as f:
        return {row["run"] for row in csv.DictReader(f)}


def collect(bench: Bench, runs: list[Run], seconds: float) -> None:
    """Do all runs, and write each to disk as it ends."""
    write_snapshots = append(bench.work / "snapshots.csv", SNAPSHOT_COLUMNS)
    write_run = append(bench.work / "runs.csv", RUN_COLUMNS)
    begin, failed = time.monotonic(), 0
    for n, run in enumerate(runs, 1):
        try:
            speed, took, rows = measure(bench, run, seconds)
        except CollectError as e:
            failed += 1
            print(f"warning: {e}", file=sys.stderr)
            continue
        write_snapshots([[run.key, *row] for row in rows])
        # Last: only a run named here is complete.
        where = [run.workload, run.profile, *PROFILES[run.profile]]
        write_run([[run.key, *where, run.ra_kb, run.seed, f"{took:.2f}", speed]])
        left = (time.monotonic() - begin) / n * (len(runs) - n)
        print(
            f"[{n}/{len(runs)}] {run.key:44} {speed:10.0f}/s  {left / 60:5.1f} min left"
        )
    print(
        f"{len(runs) - failed} runs, {failed} failed, {time.monotonic() - begin:.0f}s"
    )


def pack(work: Path, target: Path, only: str) -> None:
    """Copy the runs that match, with those columns alone that the recipe needs."""
    kept = set()
    with (
        (work / "runs.csv").open(newline="") as runs,
        (target / "runs.csv").open("w") as out_runs,
    ):
        for number, line in enumerate(runs):
            key = line.partition(",")[0]
            if number == 0 or re.search(only, key):
                kept.add(key)
                out_runs.write(line)
    with (
        (work / "snapshots.csv").open(newline="") as source,
        # No time stamp, so that equal data give an equal file.
        gzip.GzipFile(target / "snapshots.csv.gz", "wb", 9, mtime=0) as out,
    ):
        out.write((",".join(PACKED) + "\n").encode())
        for row in csv.DictReader(source):
            if row["run"] in kept:
                out.write((",".join(row[c] for c in PACKED) + "\n").encode())


def main() -> int:
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--work", type=Path, required=True, help="directory for all")
    parser.add_argument("--loop", default="", help="loop device (default: a free one)")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a run")
    parser.add_argument("--seeds", type=int, default=1, help="runs per cell")
    parser.add_argument("--only", default="", help="regular expression on run names")
    parser.add_argument("--dry-run", action="store_true", help="only count the runs")
    parser.add_argument("--teardown", action="store_true", help="only clean up")
    parser.add_argument("--pack", type=Path, metavar="DIR", help="only copy the data")
    args = parser.parse_args()
    if not 1 <= args.seconds <= 120 or not 1 <= args.seeds <= 20:
        parser.error("--seconds must be in 1..120 and --seeds in 1..20")
    work: Path = args.work.resolve()
    bench = Bench(work, args.loop)
    try:
        if args.pack:
            pack(work, args.pack, args.only)
            return 0
        if args.teardown:
            bench.teardown()
            return 0
        work.mkdir(parents=True, exist_ok=True)
        done = done_runs(work)
        runs = [r for r in sweep(args.seeds, args.only) if r.key not in done]
        minutes = len(runs) * (args.seconds + 0.8) / 60
        print(f"{len(runs)} runs to do, about {minutes:.0f} min")
        if args.dry_run or not runs:
            return 0
        bench.check()
        with cleaned_up(bench):
            bench.setup()
            if any(r.workload.startswith("db-") for r in runs):
                call(*db_options(work), "--benchmarks=fillseq")
            collect(bench, runs, args.seconds)
    except (CollectError, OSError) as e:
        print(f"collect.py: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
