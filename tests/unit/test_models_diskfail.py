# SPDX-License-Identifier: MIT
"""The way from Backblaze's tables to a model, on disks that really failed.

The tables have the public form; the last day of each failing disk is that of a trouble
ticket (Alibaba's, ../shared/data), the days before grow towards it. Healthy disks are
made up, so how good the model is says nothing about disks.
"""

import csv
import datetime
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from helpers.need import absent, need_module
from helpers.reference import DATA

from pymlk import policy
from pymlk.dataset import Dataset

FOLDER = Path(__file__).resolve().parents[2] / "models/diskfail"
COLUMNS = (5, 9, 194, 197, 198, 199)
FIRST = datetime.date(2026, 1, 1)
DAYS = 90
Counters = tuple[int, int, int]  # reallocated, hours, CRC errors


def tickets() -> list[Counters]:
    path = DATA / "datasets/dcbrain-ssd/ssd_failure_tag.csv.zip"
    if not path.exists():
        absent(f"{path}: not there")
    with zipfile.ZipFile(path) as archive:
        name = next(n for n in archive.namelist() if "__MACOSX" not in n)
        rows = csv.DictReader(io.StringIO(archive.read(name).decode()))
        keys = ("r_5", "r_9", "r_199")
        found = [tuple(row[k] for k in keys) for row in rows]
    full = [tuple(int(float(v)) for v in row) for row in found if all(row)]
    assert len(full) > 1000
    return [t for t in full if t[0] > 0]  # type: ignore[misc]


def table(day: int, failing: list[Counters], healthy: int) -> str:
    """One day's table, as Backblaze publishes it."""
    text = io.StringIO()
    writer = csv.writer(text)
    smart = [f"smart_{n}_{k}" for n in COLUMNS for k in ("normalized", "raw")]
    head = ["date", "serial_number", "model", "capacity_bytes", "failure"]
    writer.writerow([*head, *smart])
    date = FIRST + datetime.timedelta(day)
    for i, (bad, hours, crc) in enumerate(failing):
        end = DAYS - 1 - i % 20
        if day <= end:
            grown = bad >> min(end - day, 30) // 2
            raw = (grown, hours - 24 * (end - day), 30, grown // 2, 0, crc)
            cells = [c for v in raw for c in (100, max(v, 0))]
            writer.writerow([date, f"F{i}", "ST4", 1, int(day == end), *cells])
    for i in range(healthy):
        raw = (0, 9000 + 24 * day + i, 28, 0, 0, i % 3)
        cells = [c for v in raw for c in (100, v)]
        if i == 0:
            cells[9] = ""  # type: ignore[call-overload]
        writer.writerow([date, f"H{i}", "ST4", 1, 0, *cells])
    return text.getvalue()


def recipe(*args: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, FOLDER / "recipe.py", *args], capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("diskfail")
    failing = tickets()[::40][:30]
    with zipfile.ZipFile(folder / "data_Q1.zip", "w") as archive:
        for day in range(DAYS):
            date = FIRST + datetime.timedelta(day)
            archive.writestr(f"data/{date}.csv", table(day, failing, 60))
            archive.writestr(f"__MACOSX/data/._{date}.csv", b"\0\5\xff")
    done = recipe(folder / "data_Q1.zip", "-o", folder / "disks.mlkd", "--healthy", "1")
    assert done.returncode == 0, done.stderr
    assert "90 disks, 30 of which fail" in done.stdout
    return folder / "disks.mlkd"


def test_last_days_of_a_failing_disk_are_its_label(dataset: Path) -> None:
    with Dataset(str(dataset)) as found:
        run = next(r for r in found.runs if r.workload == "F3")
        _, values, valid = found.table(run)
        label = values[:, found.fields.index("fails")]
        assert label.sum() == 30
        assert label[-30:].all()
        # of a healthy disk nobody knows the month after the data
        healthy = next(r for r in found.runs if r.workload == "H7")
        assert healthy.rows == DAYS - 30
        odd = next(r for r in found.runs if r.workload == "H0")
        _, _, valid = found.table(odd)
        column = found.fields.index("uncorrectable")
        assert not valid[:, column].any()
        assert valid[:, : column - 1].all()


def test_trains(dataset: Path, tmp_path: Path) -> None:
    need_module("sklearn")
    # whether it beats a stump on made-up disks says nothing: --force
    (tmp_path / "policy.toml").write_bytes((FOLDER / "policy.toml").read_bytes())
    done = subprocess.run(
        [
            *[sys.executable, "-m", "pymlk", "train", "--json", "--force"],
            *[tmp_path, dataset],
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode in (0, 1), done.stderr
    said = json.loads(done.stdout)
    assert said["written"]
    assert said["model"]["balanced_accuracy"] > 0.7
    plan = policy.load(str(tmp_path))
    assert len(plan["program"]) < 64 << 10


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("date,serial_number,model\n", "line 1: no column failure"),
        ("date,serial_number,model,failure\n2026-13-01,A,ST4,0\n", "line 2: date:"),
        (
            "date,serial_number,model,failure,smart_5_raw\n2026-01-01,A,ST4,0,x\n",
            "line 2: smart_5_raw: 'x' found",
        ),
        ("date,serial_number,model,failure\n", "no disk of that model"),
    ],
)
def test_bad_table(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "bad.csv").write_text(text)
    done = recipe(tmp_path / "bad.csv", "-o", tmp_path / "o.mlkd", "--healthy", "1")
    assert done.returncode == 1
    assert said in done.stderr
    assert not (tmp_path / "o.mlkd").exists()


def test_smart_files(tmp_path: Path) -> None:
    row = {"id": 5, "raw": {"value": 8}}
    hot = {"id": 194, "raw": {"value": 0x2D00120021}}
    for table in ([row, hot], [row]):
        said = {"ata_smart_attributes": {"table": table}}
        (tmp_path / "sda.json").write_text(json.dumps(said))
        subprocess.run(
            [
                *[sys.executable, FOLDER / "smart.py", "--json"],
                *["--folder", tmp_path / "smart", tmp_path / "sda.json"],
            ],
            check=True,
        )
        names = {p.name for p in (tmp_path / "smart/sda").iterdir()}
        expected = {f"smart_{r['id']}" for r in table} | {"alarm"}
        assert names == expected
    assert (tmp_path / "smart/sda/smart_5").read_text() == "8\n"
    (tmp_path / "sda.json").write_text('{"nvme": 1}')
    failed = subprocess.run(
        [sys.executable, FOLDER / "smart.py", "--json", tmp_path / "sda.json"],
        capture_output=True,
        text=True,
    )
    assert failed.returncode == 1
    assert "no SMART attributes" in failed.stderr
