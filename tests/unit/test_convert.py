# SPDX-License-Identifier: MIT
"""Datasets as Parquet, which another library reads, and back without loss."""

import csv
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from helpers.need import need_module

from pymlk.cli import main
from pymlk.dataset import Dataset, Run, Writer

pa = need_module("pyarrow")
pq = need_module("pyarrow.parquet")
PLAN: dict[str, Any] = {
    "name": "x", "fields": {"a": "/a", "b": "/b"}, "knob": {"path": "/k"},
    "program": b"left out",
}  # fmt: skip
BIG = (1 << 63) - 1


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Three runs: with everything, of nothing, and a failed one; two interleaved."""
    path = tmp_path / "x.mlkd"
    rng = np.random.default_rng(0)
    with Writer(str(path), PLAN, ["a", "b"], [1, 100]) as writer:
        first = writer.begin(
            workload="seq", device="vda", group="slow", label="äöü", knob=-8, seed=3,
            started_ns=1_700_000_000_000_000_000, tags={"board": "x", "note": ""},
        )  # fmt: skip
        second = writer.begin(workload="none", device="vdb")
        third = writer.begin(workload="bad", device="vda")
        # more than one block
        t = np.arange(20_000, dtype=np.int64) * 1_000_000
        values = rng.integers(-BIG, BIG, (20_000, 2))
        writer.rows(first, t, values, rng.random((20_000, 2)) < 0.8)
        writer.rows(third, [5], [[BIG, -BIG - 1]], [[True, False]])
        writer.rows(first, [t[-1] + 7], [[0, 0]], [[False, False]])
        writer.end(third, score=1.0, seconds=2.0, fault="exit status 3")
        writer.end(second)
        writer.end(first, score=0.1 + 0.2, seconds=1 / 3, missed=4)
    return path


def content(path: Path) -> list[tuple[Run, Any, Any, Any]]:
    with Dataset(str(path)) as found:
        assert not found.damage
        runs = sorted((*found.runs, *found.rejected), key=lambda run: run.number)
        return [(run, *(a.tolist() for a in found.table(run))) for run in runs]


def test_parquet_and_back(dataset: Path, tmp_path: Path) -> None:
    table, back = tmp_path / "x.parquet", tmp_path / "back.mlkd"
    assert main(["export", str(dataset), "-o", str(table)]) == 0
    assert main(["export", str(table), "-o", str(back)]) == 0
    assert content(back) == content(dataset)
    with Dataset(str(back)) as one, Dataset(str(dataset)) as other:
        assert (one.plan, one.fields, one.scales) == (
            other.plan, other.fields, other.scales,
        )  # fmt: skip
        assert "program" not in one.plan


def test_parquet_as_others_read_it(dataset: Path, tmp_path: Path) -> None:
    main(["export", str(dataset), "-o", str(tmp_path / "x.parquet")])
    found = pq.read_table(tmp_path / "x.parquet")
    (run, t, values, valid), _, _ = content(dataset)
    rows = found.filter(pa.compute.equal(found["workload"], "seq"))
    assert rows.num_rows == run.rows == 20_001
    assert rows["t_ns"].to_pylist() == t
    for i, name in enumerate(("a", "b")):
        expected = [
            row[i] if good[i] else None for row, good in zip(values, valid, strict=True)
        ]
        assert rows[f"field.{name}"].to_pylist() == expected
    first = rows.slice(0, 1).to_pylist()[0]
    assert first["label"] == "äöü"
    assert (first["knob"], first["seed"], first["score"]) == (-8, 3, 0.1 + 0.2)
    meta = json.loads(found.schema.metadata[b"pymlk.dataset"])
    assert meta["scales"] == [1, 100]
    assert meta["runs"][0]["tags"] == {"board": "x", "note": ""}


def test_filtered_rows_stay(dataset: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    main(["export", str(dataset), "-o", str(path)])
    table = pq.read_table(path)
    pq.write_table(table.filter(pa.compute.equal(table["run"], 2)), path)
    assert main(["export", str(path), "-o", str(tmp_path / "y.mlkd")]) == 0
    assert [run.rows for run, *_ in content(tmp_path / "y.mlkd")] == [0, 0, 1]


def test_csv(dataset: Path, tmp_path: Path) -> None:
    assert main(["export", str(dataset), "-o", str(tmp_path / "x.csv"), "--json"]) == 0
    with (tmp_path / "x.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    runs = content(dataset)
    assert len(rows) == sum(run.rows for run, *_ in runs)
    assert rows[-1] == {
        "run": "2", "workload": "bad", "group": "", "device": "vda", "label": "",
        "knob": "", "seed": "0", "score": "1.0", "t_ns": "5",
        "field.a": str(BIG), "field.b": "",
    }  # fmt: skip


def test_what_is_no_dataset(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other, out = tmp_path / "x.parquet", tmp_path / "y.mlkd"

    def refused(message: str, output: Path = out, of: Path = other) -> None:
        assert main(["export", str(of), "-o", str(output)]) == 3
        assert message in capsys.readouterr().err
        assert not list(tmp_path.glob("*.part*"))

    pq.write_table(pa.table({"run": [1]}), other)
    refused("no metadata 'pymlk.dataset'")
    refused(".mlkd expected", tmp_path / "y.csv")
    refused(".csv or .parquet expected", out, dataset)
    main(["export", str(dataset), "-o", str(other)])
    whole = pq.read_table(other)
    capsys.readouterr()
    pq.write_table(whole.drop_columns(["field.b"]), other)
    refused("a column field.b of int64")
    others = pa.array([7] * whole.num_rows)
    pq.write_table(whole.set_column(0, "run", others), other)
    refused("row 0: run 7 found")
    meta = {b"pymlk.dataset": b'{"plan": 1}'}
    pq.write_table(whole.replace_schema_metadata(meta), other)
    refused("pymlk.dataset: ")
    other.write_bytes(b"PAR1 and no more")
    refused("no Parquet file")
    out.write_text("mine")
    refused("is there already")
    assert out.read_text() == "mine"


def test_damaged_runs_are_exported_as_such(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = dataset.read_bytes()
    dataset.write_bytes(data[: len(data) - 200])
    assert main(["export", str(dataset), "-o", str(tmp_path / "x.parquet")]) == 0
    assert "torn end" in capsys.readouterr().err
    meta = pq.read_schema(tmp_path / "x.parquet").metadata[b"pymlk.dataset"]
    faults = [run["fault"] for run in msgspec.json.decode(meta)["runs"]]
    assert "it has no end" in faults
