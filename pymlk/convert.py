# SPDX-License-Identifier: MIT
"""Datasets to tables and back: Parquet without loss, CSV to look at.

A row of the table is a snapshot: its run with what is known of it, its time, and the
raw fixed-point value of each field, null where it could not be read. What has no
column (plan, scales, tags) is in Parquet's metadata.
"""

from __future__ import annotations

import csv
from importlib import import_module
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec

from .dataset import Dataset, Run, Writer
from .errors import DatasetError, RecordError

if TYPE_CHECKING:
    from collections.abc import Iterator

_META = b"pymlk.dataset"
_OF_RUN = ("run", "workload", "group", "device", "label", "knob", "seed", "score")
_TEXTS = ("workload", "group", "device", "label")


class _Meta(msgspec.Struct):
    """What Parquet's metadata says."""

    plan: dict[str, Any]
    fields: list[str]
    scales: list[int]
    runs: list[Run]


def pyarrow() -> tuple[Any, Any]:
    """Load the library that writes Parquet.

    Returns
    -------
    tuple of (module, module)
        pyarrow and pyarrow.parquet.

    Raises
    ------
    RecordError
        If it is not installed.

    Thread safety
    -------------
    As of imports.
    """
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as error:
        raise RecordError(
            f"Parquet needs the package pyarrow ({error}): "
            "pip install 'pymlk[export]', or write to a .csv file"
        ) from error


def _runs(dataset: Dataset) -> list[Run]:
    """All of them, good or not, in their order."""
    return sorted((*dataset.runs, *dataset.rejected), key=lambda run: run.number)


def _of_run(run: Run) -> list[Any]:
    return [getattr(run, "number" if name == "run" else name) for name in _OF_RUN]


def _blocks(dataset: Dataset) -> Iterator[tuple[Run, Any, Any, Any]]:
    """Some rows of a run as arrays, at a time."""
    import numpy as np

    n = len(dataset.fields)
    for run in _runs(dataset):
        for t, values, valid in dataset.blocks(run):
            yield (
                run,
                np.frombuffer(t, np.int64),
                np.frombuffer(values, np.int64).reshape(-1, n),
                np.frombuffer(valid, np.bool_).reshape(-1, n),
            )


def to_parquet(dataset: Dataset, path: str) -> int:
    """Write a Parquet file.

    Parameters
    ----------
    dataset : Dataset
        Its damaged runs come with the rows that are left, and say so.
    path : str
        The file, which is overwritten.

    Returns
    -------
    int
        Rows.

    Raises
    ------
    RecordError
        If pyarrow is not installed.
    OSError
        If it cannot be written.

    Thread safety
    -------------
    None.
    """
    arrow, parquet = pyarrow()
    types = dict.fromkeys(_OF_RUN, arrow.int64()) | {"score": arrow.float64()}
    types |= dict.fromkeys(_TEXTS, arrow.string())
    types |= {"t_ns": arrow.int64()}
    types |= {f"field.{name}": arrow.int64() for name in dataset.fields}
    meta = _Meta(dataset.plan, dataset.fields, dataset.scales, _runs(dataset))
    schema = arrow.schema(
        list(types.items()), metadata={_META: msgspec.json.encode(meta)}
    )
    rows = 0
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for run, t, values, valid in _blocks(dataset):
            columns = [
                arrow.repeat(arrow.scalar(value, types[name]), len(t))
                for name, value in zip(_OF_RUN, _of_run(run), strict=True)
            ]
            columns.append(arrow.array(t))
            columns += [
                arrow.array(values[:, i], mask=~valid[:, i])
                for i in range(len(dataset.fields))
            ]
            writer.write_table(arrow.Table.from_arrays(columns, schema=schema))
            rows += len(t)
    return rows


def to_csv(dataset: Dataset, path: str) -> int:
    """Write a CSV file; tags, plan and scales are left out.

    Parameters
    ----------
    dataset : Dataset
        As of `to_parquet`.
    path : str
        The file, which is overwritten.

    Returns
    -------
    int
        Rows.

    Raises
    ------
    OSError
        If it cannot be written.

    Thread safety
    -------------
    None.
    """
    rows = 0
    n = len(dataset.fields)
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*_OF_RUN, "t_ns", *(f"field.{f}" for f in dataset.fields)])
        for run in _runs(dataset):
            known = _of_run(run)
            for t, values, valid in dataset.blocks(run):
                numbers = memoryview(values).cast("q").tolist()
                shown = [
                    x if good else None for x, good in zip(numbers, valid, strict=True)
                ]
                for k, time_ns in enumerate(memoryview(t).cast("q")):
                    writer.writerow([*known, time_ns, *shown[k * n : k * n + n]])
                    rows += 1
    return rows


def from_parquet(path: str, output: str) -> int:
    """Write a dataset from a Parquet file of `to_parquet`.

    Parameters
    ----------
    path : str
        The Parquet file; some of its rows may have been left out.
    output : str
        The dataset; it must not be there yet. Runs are numbered anew.

    Returns
    -------
    int
        Rows.

    Raises
    ------
    DatasetError
        If it is none, lacks what a dataset has, or the dataset is there.
    RecordError
        If pyarrow is not installed.
    OSError
        If it cannot be read or written.

    Thread safety
    -------------
    None.
    """
    arrow, parquet = pyarrow()
    try:
        file = parquet.ParquetFile(path)
    except arrow.ArrowInvalid as error:
        raise DatasetError(f"{path}: no Parquet file: {error}") from error
    with file:
        meta = _meta(path, file.schema_arrow)
        with Writer(output, meta.plan, meta.fields, meta.scales) as writer:
            return _copy(path, file, meta, writer)


def _meta(path: str, schema: Any) -> _Meta:
    """What the file says of itself, if it fits its columns."""
    found = (schema.metadata or {}).get(_META)
    if found is None:
        raise DatasetError(
            f"{path}: no metadata {_META.decode()!r} found: only what `pymlk export` "
            "wrote can become a dataset"
        )
    try:
        meta: _Meta = msgspec.json.decode(found, type=_Meta)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise DatasetError(f"{path}: {_META.decode()}: {error}") from error
    wanted = ("run", "t_ns", *(f"field.{name}" for name in meta.fields))
    for name in wanted:
        if name not in schema.names or str(schema.field(name).type) != "int64":
            raise DatasetError(f"{path}: a column {name} of int64 expected")
    return meta


def _copy(path: str, file: Any, meta: _Meta, writer: Writer) -> int:
    """Write all runs; how many rows they have."""
    import numpy as np

    numbers = {run.number: _begin(writer, run) for run in meta.runs}
    rows = 0
    for batch in file.iter_batches(1 << 13):
        of_run = batch.column("run").to_numpy()
        # where one run ends and the next begins
        cuts = (np.flatnonzero(np.diff(of_run)) + 1).tolist()
        for start, end in pairwise([0, *cuts, len(of_run)] if len(of_run) else []):
            if of_run[start] not in numbers:
                raise DatasetError(
                    f"{path}: row {rows}: run {of_run[start]} found, which its "
                    "metadata does not know"
                )
            part = batch.slice(start, end - start)
            columns = [part.column(f"field.{name}") for name in meta.fields]
            writer.rows(
                numbers[of_run[start]],
                part.column("t_ns").to_numpy(),
                np.stack([c.fill_null(0).to_numpy() for c in columns], axis=1),
                np.stack(
                    [c.is_valid().to_numpy(zero_copy_only=False) for c in columns], 1
                ),
            )
            rows += end - start
    for run in meta.runs:
        writer.end(
            numbers[run.number], score=run.score, seconds=run.seconds,
            missed=run.missed, fault=run.fault,
        )  # fmt: skip
    return rows


def _begin(writer: Writer, run: Run) -> int:
    return writer.begin(
        workload=run.workload, device=run.device, group=run.group, label=run.label,
        knob=run.knob, seed=run.seed, started_ns=run.started_ns, tags=run.tags,
    )  # fmt: skip
