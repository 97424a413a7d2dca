#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""From Backblaze's drive statistics (daily CSV files) to a dataset.

Each row is one disk on one day: date, serial_number, model, capacity_bytes, failure,
then smart_N_normalized and smart_N_raw. The files of a quarter are read twice: once for
which disks fail, once for the rows of those and of some that do not.
"""

import argparse
import csv
import datetime
import gzip
import io
import sys
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TextIO

from pymlk import policy
from pymlk.dataset import Writer
from pymlk.errors import MlkError

HERE = Path(__file__).resolve().parent
EPOCH = datetime.date(1970, 1, 1)
DAY_NS = 86_400 * 1_000_000_000
NEEDED = ("date", "serial_number", "model", "failure")
EPILOG = """\
examples:
  ./recipe.py data_Q1_2026.zip -o disks.mlkd
  ./recipe.py 2026-0*.csv -o disks.mlkd --model ST12000NM0008 --healthy 20
  pymlk train diskfail disks.mlkd
"""
Row = tuple[int, list[int | None]]


class FormError(Exception):
    """A file that does not have the public form; the text says where."""


def tables(paths: Iterable[Path]) -> Iterator[tuple[str, TextIO]]:
    """Open every CSV table: plain, gzipped, or inside of a zip archive."""
    for path in paths:
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                for name in sorted(archive.namelist()):
                    # beside the tables, archives made on a Mac have dot files
                    if name.endswith(".csv") and "__MACOSX" not in name:
                        with archive.open(name) as file:
                            text: TextIO = io.TextIOWrapper(file, newline="")
                            yield f"{path}: {name}", text
        elif path.suffix == ".gz":
            with gzip.open(path, "rt", newline="") as text:
                yield str(path), text
        else:
            with path.open(newline="") as text:
                yield str(path), text


def records(paths: Iterable[Path], model: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each row with the name of its place."""
    for name, text in tables(paths):
        reader = csv.DictReader(text)
        missing = [c for c in NEEDED if c not in (reader.fieldnames or ())]
        if missing:
            raise FormError(f"{name}: line 1: no column {', '.join(missing)}")
        for row in reader:
            if row["model"] and row["model"].startswith(model):
                yield f"{name}: line {reader.line_num}", row


def day(place: str, row: dict[str, str]) -> int:
    """Return the day's number, counted from 1970."""
    try:
        return (datetime.date.fromisoformat(row["date"]) - EPOCH).days
    except ValueError as error:
        raise FormError(f"{place}: date: {row['date']!r} found: {error}") from None


def number(place: str, row: dict[str, str], column: str) -> int | None:
    """Return a raw value; None where the disk does not report it."""
    text = (row.get(column) or "").strip()
    if not text:
        return None
    try:
        value = int(float(text)) if "." in text else int(text)
    except (ValueError, OverflowError):
        raise FormError(
            f"{place}: {column}: {text!r} found, a number expected"
        ) from None
    if not 0 <= value < 1 << 62:
        raise FormError(f"{place}: {column}: {text!r} found, a counter expected")
    return value


def failures(paths: list[Path], model: str) -> dict[str, int]:
    """Find the last day of every disk that failed."""
    return {
        row["serial_number"]: day(place, row)
        for place, row in records(paths, model)
        if row["failure"] == "1"
    }


def drawn(serial: str, one_in: int) -> bool:
    """Draw disks by their serial number: all of a disk's days, or none."""
    return zlib.crc32(serial.encode()) % one_in == 0


def collect(
    paths: list[Path], model: str, columns: list[str], one_in: int
) -> tuple[dict[tuple[str, str], list[Row]], dict[str, int]]:
    """Keep the rows of all disks that fail, and of one in so many that do not."""
    failed = failures(paths, model)
    disks: dict[tuple[str, str], list[Row]] = {}
    for place, row in records(paths, model):
        serial = row["serial_number"]
        if serial in failed or drawn(serial, one_in):
            values = [number(place, row, c) for c in columns]
            disks.setdefault((row["model"], serial), []).append(
                (day(place, row), values)
            )
    return disks, failed


def write(
    output: str,
    disks: dict[tuple[str, str], list[Row]],
    failed: dict[str, int],
    soon: int,
    last: int,
) -> None:
    """Write a run per disk; `fails` is 1 on its last `soon` days before it failed.

    What happens after the last day of the data is not known: the days of a healthy disk
    for which that would matter are left out.
    """
    plan = policy.load(str(HERE), model=False)
    fields = [*plan["fields"], "fails"]
    with Writer(output, plan, fields, [1] * len(fields)) as writer:
        for (model, serial), rows in sorted(disks.items()):
            end = failed.get(serial)
            rows.sort(key=lambda row: row[0])
            kept = [r for r in rows if end is not None or r[0] <= last - soon]
            if not kept:
                continue
            run = writer.begin(workload=serial, device=serial, group=model)
            values = [
                [*(v or 0 for v in r), int(end is not None and end - at < soon)]
                for at, r in kept
            ]
            valid = [[*(v is not None for v in r), True] for _, r in kept]
            writer.rows(run, [at * DAY_NS for at, _ in kept], values, valid)
            writer.end(run, seconds=(kept[-1][0] - kept[0][0] + 1) * 86_400.0)


def main() -> int:
    """Read the command line and write the dataset."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("table", type=Path, nargs="+", help=".csv, .csv.gz or .zip")
    parser.add_argument("-o", "--output", required=True, help="the dataset, a new file")
    parser.add_argument("--model", default="", help="only disks whose model begins so")
    parser.add_argument(
        "--days", type=int, default=30, help="how long before a failure"
    )
    parser.add_argument(
        "--healthy", type=int, default=50, help="one in so many disks that do not fail"
    )
    args = parser.parse_args()
    if not 1 <= args.days <= 365 or args.healthy < 1:
        parser.error("--days must be in 1..365, --healthy at least 1")
    plan = policy.load(str(HERE), model=False)
    columns = [f"{spec.rpartition('/')[2]}_raw" for spec in plan["fields"].values()]
    try:
        disks, failed = collect(args.table, args.model, columns, args.healthy)
        if not disks:
            raise FormError("no disk of that model in these tables")
        last = max(row[0] for rows in disks.values() for row in rows)
        write(args.output, disks, failed, args.days, last)
    except (FormError, MlkError, OSError, UnicodeError, zipfile.BadZipFile) as error:
        print(f"recipe.py: {error}", file=sys.stderr)
        return 1
    rows = sum(map(len, disks.values()))
    print(f"{len(disks)} disks, {len(failed)} of which fail, {rows} days")
    return 0


if __name__ == "__main__":
    sys.exit(main())
