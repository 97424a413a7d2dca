# SPDX-License-Identifier: MIT
"""``pymlk export``: a log or a dataset as a table, and a dataset from a table."""

from __future__ import annotations

import argparse
import csv
import json
import os
from contextlib import contextmanager

from ..convert import from_parquet, pyarrow, to_csv, to_parquet
from ..dataset import MAGIC, Dataset
from ..errors import RecordError
from ..records import ASKED, Head, StreamState, open_log
from ..replay import Plan, Replay, Replayed
from . import OK, PARTLY, complain
from .replay import progress, to_dict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

# rows that are written to Parquet at once
_BATCH = 8192
_TEXT = ("time", "device", "mode", "reason")
_REAL = ("confidence", "effect")
_FIXED = (
    "time", "monotonic_ns", "device", "seq", "mode", "recommended", "current",
    "target", "confidence", "reason", "errno", "latency_ns", "program_version",
    "effect",
)  # fmt: skip


def _columns(path: str) -> list[tuple[str, str]]:
    """Names and types: text, int or real; those of all policies that the log has."""
    found = dict.fromkeys(_FIXED, "int")
    found |= dict.fromkeys(_TEXT, "text") | dict.fromkeys(_REAL, "real")
    for segment in open_log(path):
        for record in segment.records():
            if isinstance(record, StreamState):
                for name, (_, scale) in record.fields.items():
                    _widen(found, f"field.{name}", "int" if scale == 1 else "real")
            elif isinstance(record, Head):
                _plan_columns(found, record.plan)
    return list(found.items())


def _widen(found: dict[str, str], name: str, kind: str) -> None:
    if found.get(name) != "real":
        found[name] = kind


def _plan_columns(found: dict[str, str], plan: dict[str, Any]) -> None:
    import msgspec

    try:
        checked = msgspec.convert(plan, Plan)
    except msgspec.ValidationError:
        # the replay says so
        return
    for feature in checked.features:
        found.setdefault(f"feature.{feature.name}", "real")
        found.setdefault(f"in.{feature.name}", "int")
    for value in checked.knob.values:
        found.setdefault(f"out.{value}", "int")


def _row(r: Replayed) -> dict[str, Any]:
    d = r.decision
    row = to_dict(r)
    for name, (place, scale) in r.state.fields.items():
        if d.valid[place]:
            value = d.row[place]
            row[f"field.{name}"] = value if scale == 1 else value / scale
    row |= {f"feature.{name}": value for name, value in r.features.items()}
    if d.flags & ASKED:
        inputs = memoryview(d.inputs).cast("b").tolist()
        outputs = memoryview(d.outputs).cast("b").tolist()
        names = [feature.name for feature in r.plan.features]
        row |= {f"in.{n}": x for n, x in zip(names, inputs, strict=True)}
        values = r.plan.knob.values
        row |= {f"out.{v}": x for v, x in zip(values, outputs, strict=True)}
    return row


def _write_csv(
    path: str, columns: list[tuple[str, str]], rows: Iterator[dict[str, Any]]
) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [name for name, _ in columns])
        writer.writeheader()
        writer.writerows(rows)


def _write_parquet(
    path: str, columns: list[tuple[str, str]], rows: Iterator[dict[str, Any]]
) -> None:
    arrow, parquet = pyarrow()
    types = {"text": arrow.string(), "int": arrow.int64(), "real": arrow.float64()}
    schema = arrow.schema([(name, types[kind]) for name, kind in columns])
    with parquet.ParquetWriter(path, schema) as writer:
        batch: list[dict[str, Any]] = []
        for row in rows:
            batch.append(row)
            if len(batch) == _BATCH:
                writer.write_table(arrow.Table.from_pylist(batch, schema=schema))
                batch = []
        writer.write_table(arrow.Table.from_pylist(batch, schema=schema))


_WRITERS = {".csv": _write_csv, ".parquet": _write_parquet}


@contextmanager
def _whole(path: str) -> Iterator[str]:
    """The name to write to, so that the file is there as a whole or not at all."""
    unfinished = f"{path}.part"
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        if os.path.exists(unfinished):
            os.unlink(unfinished)


def _starts_with(path: str, magic: bytes) -> bool:
    if os.path.isdir(path):
        return False
    with open(path, "rb") as file:
        return file.read(len(magic)) == magic


def _dataset(options: argparse.Namespace, ending: str) -> int:
    """From a dataset to a table or back; how many rows."""
    if ending == ".mlkd":
        if os.path.lexists(options.output):
            raise RecordError(f"{options.output}: is there already")
        with _whole(options.output) as unfinished:
            return from_parquet(options.log, unfinished)
    with Dataset(options.log) as dataset, _whole(options.output) as unfinished:
        for line in dataset.damage:
            complain(line)
        write = to_csv if ending == ".csv" else to_parquet
        return write(dataset, unfinished)


def main(options: argparse.Namespace) -> int:
    """Export; the file is there as a whole or not at all."""
    ending = os.path.splitext(options.output)[1].lower()
    from_table = _starts_with(options.log, b"PAR1")
    if ending not in ((".mlkd",) if from_table else _WRITERS):
        expected = ".mlkd" if from_table else ".csv or .parquet"
        raise RecordError(f"{options.output}: {expected} expected")
    if ending == ".parquet":
        pyarrow()
    if from_table or _starts_with(options.log, MAGIC):
        rows = _dataset(options, ending)
        if options.json:
            print(json.dumps({"file": options.output, "rows": rows}))
        else:
            print(f"{options.output}: {rows} rows")
        return OK
    return _log(options, ending)


def _log(options: argparse.Namespace, ending: str) -> int:
    """Decisions, which are computed again."""
    replay = Replay(options.log, progress=progress(options.log))
    with _whole(options.output) as unfinished:
        _WRITERS[ending](unfinished, _columns(options.log), map(_row, replay))
    for line in (*map(str, replay.damages), *replay.notices):
        complain(line)
    facts = {"file": options.output, "rows": replay.decisions}
    facts["differences"] = replay.differences
    if options.json:
        print(json.dumps(facts))
    else:
        print(f"{options.output}: {replay.decisions} decisions")
    if replay.differences:
        complain(f"{replay.differences} decisions differ when computed again")
    bad = replay.differences or any(not damage.torn for damage in replay.damages)
    return PARTLY if bad else OK
