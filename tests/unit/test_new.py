# SPDX-License-Identifier: MIT
"""``pymlk new``: whatever it writes is a policy, and nothing is ever overwritten."""

import json
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.fakesys import FakeSys

from pymlk.cli import main
from pymlk.emulator import Emulator
from pymlk.policy import load
from pymlk.proxy import Feature, Knob
from pymlk.scaffold import Sketch, create, default_fields, spread

KNOB = "/sys/block/*/queue/read_ahead_kb"


def new(fake: FakeSys, folder: Path, *args: object) -> int:
    words = ["new", folder, "--root", fake.root, *args]
    return main([str(word) for word in words])


def made(folder: Path) -> dict[str, Any]:
    load(str(folder), model=False)
    found = tomllib.loads((folder / "policy.toml").read_text())
    return found


def test_from_flags(fake_sys: FakeSys, tmp_path: Path) -> None:
    folder = tmp_path / "my-disks"
    code = new(
        fake_sys, folder, "--knob", KNOB, "--values", "128,8,32", "--unit", "KiB",
        "--field", "reads=/sys/block/*/stat[0]", "--field", "/sys/block/*/stat[8]",
        "--gauge", f"ra={KNOB}", "--objective", "reads", "--skip", "loop*",
        "--interval-ms", 250, "--family", "linear",
    )  # fmt: skip
    assert code == 0
    policy = made(folder)
    assert policy["name"] == "my-disks"
    assert policy["devices"] == "/sys/block/*"
    assert policy["fields"] == {
        "reads": "{device}/stat[0]",
        "stat_8": "{device}/stat[8]",
        "ra": "{device}/queue/read_ahead_kb",
    }
    kinds = {f["field"]: f["kind"] for f in policy["feature"]}
    # requests in flight are no counter
    assert kinds == {"reads": "rate", "stat_8": "value", "ra": "value"}
    assert policy["knob"]["values"] == [8, 32, 128]
    # as it is now
    assert policy["knob"]["default"] == 32
    assert policy["train"] == {"target": "sweep", "family": "linear"}
    assert sorted(path.name for path in folder.iterdir()) == ["policy.toml"]
    assert main(["check", str(folder), "--root", str(fake_sys.root)]) == 0


def test_a_field_that_grows_is_a_counter(tmp_path: Path) -> None:
    """One of no known place."""
    folder = tmp_path / "root/sys"
    folder.mkdir(parents=True)
    (folder / "knob").write_text("1\n")
    (folder / "steady").write_text("5000\n")
    grows, over = folder / "grows", threading.Event()
    grows.write_text("1\n")

    def grow() -> None:
        for i in range(2, 100000):
            # in one write, so that it is never empty
            with grows.open("r+") as file:
                file.write(f"{i}\n")
            if over.wait(0.02):
                return

    thread = threading.Thread(target=grow)
    thread.start()
    sketch = Sketch(
        str(tmp_path / "x"), default_fields(["/sys/grows", "/sys/steady"]),
        "/sys/knob", [1, 2], root=str(tmp_path / "root"),
    )  # fmt: skip
    try:
        create(sketch)
    finally:
        over.set()
        thread.join()
    features = {f["name"]: f for f in made(tmp_path / "x")["feature"]}
    assert features["grows_per_s"]["kind"] == "rate"
    assert features["steady"]["kind"] == "value"
    assert features["steady"]["log2"]


def test_the_future(fake_sys: FakeSys, tmp_path: Path) -> None:
    args = (
        "--knob", KNOB, "--values", "8,32,128", "--field", "reads=/sys/block/*/stat[0]",
        "--target", "future", "--of", "reads", "--horizon", 2.5, "--history", 4,
    )  # fmt: skip
    assert new(fake_sys, tmp_path / "x", *args) == 3
    # what would be no policy leaves nothing
    assert not (tmp_path / "x").exists()
    assert new(fake_sys, tmp_path / "x", *args, "--thresholds", "10,20.5") == 0
    policy = made(tmp_path / "x")
    assert policy["model"]["history"] == 4
    assert policy["train"]["thresholds"] == [10.0, 20.5]
    assert policy["train"]["horizon_s"] == 2.5


def test_nothing_is_overwritten(
    fake_sys: FakeSys, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (fake_sys.policy / "policy.toml").read_text()
    args = ("--knob", KNOB, "--values", "8,32", "--field", "/sys/block/*/stat[0]")
    assert new(fake_sys, fake_sys.policy, *args) == 3
    assert "is there already" in capsys.readouterr().err
    assert (fake_sys.policy / "policy.toml").read_text() == before
    # other files in the folder stay, and a name that was begun goes
    (tmp_path / "y").mkdir()
    (tmp_path / "y/notes").write_text("mine")
    assert new(fake_sys, tmp_path / "y", *args) == 0
    assert (tmp_path / "y/notes").read_text() == "mine"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--values", "1"], "two or more --values"),
        (["--values", "1,2", "--field", "/a["], "field '/a['"),
        (["--values", "1,2", "--field", "A/b=c"], "field 'A/b=c'"),
        (["--values", "1,2", "--field", "/sys/*/a"], "one pattern expected"),
        (["--values", "1,2", "--objective", "x"], "objective.maximise"),
        (["--values", "1,2", "--field", "a=/x", "--field", "a=/y"], "twice"),
        (["--values", "1,2", "--default", "3"], "knob.default"),
    ],
)
def test_what_is_no_policy(
    fake_sys: FakeSys,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    args: list[str],
    message: str,
) -> None:
    more = ["--knob", KNOB, "--field", "reads=/sys/block/*/stat[0]", *args]
    assert new(fake_sys, tmp_path / "x", *more) == 3
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_a_name_that_is_none(fake_sys: FakeSys, tmp_path: Path) -> None:
    args = ("--knob", KNOB, "--values", "8,32", "--field", "/sys/block/*/stat[0]")
    assert new(fake_sys, tmp_path / "Über", *args) == 3


def test_questions(
    fake_sys: FakeSys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter(
        [
            "", KNOB, "8", "8 32, 128",
            "", "reads=/sys/block/*/stat[0]", "reads=/sys/block/*/stat[1]",
            "/sys/block/*/stat[2]", "",
            "nothing", "reads", "x", "500",
        ]
    )  # fmt: skip
    asked: list[str] = []

    def answer(question: str) -> str:
        asked.append(question)
        return next(answers)

    monkeypatch.setattr("builtins.input", answer)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    assert new(fake_sys, tmp_path / "x") == 0
    assert next(answers, None) is None
    policy = made(tmp_path / "x")
    assert list(policy["fields"]) == ["reads", "stat_2"]
    assert policy["interval_ms"] == 500
    assert policy["objective"] == {"maximise": "reads"}


def test_no_terminal_no_questions(
    fake_sys: FakeSys, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert new(fake_sys, tmp_path / "x", "--json") == 3
    assert "fields: none found: --field" in capsys.readouterr().err


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Emulator]:
    with Emulator(tmp_path / "kernel") as kernel:
        kernel.register(
            "net", "batching",
            [Feature("Queued", "", "gauge", 0, 64), Feature("late", "us", "counter")],
            [Knob("batch", "KiB", 4, 4096, 4, 128)],
        )  # fmt: skip
        yield kernel


def test_a_kernel_model_says_what_it_has(
    kernel: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "x"
    args = ["new", str(folder), "--proxy", "net/*", "--root", str(kernel.root)]
    assert main([*args, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "x"
    policy = made(folder)
    assert policy["fields"] == {"queued": "Queued", "late": "late"}
    assert [f["kind"] for f in policy["feature"]] == ["value", "rate"]
    assert policy["knob"] == {
        "path": "batch", "values": [4, 24, 128, 724, 4096], "default": 128,
        "unit": "KiB",
    }  # fmt: skip
    assert main(["check", str(folder), "--root", str(kernel.root)]) == 0
    args[1] = str(tmp_path / "y")
    assert main([*args, "--proxy", "other/*"]) == 3


def test_spread_is_possible() -> None:
    for low, high, step in ((0, 1, 1), (0, 0, 1), (-5, 9, 2), (1, 1 << 40, 1)):
        values = spread(low, high, step)
        assert values == sorted(set(values))
        assert all(low <= v <= high and (v - low) % step == 0 for v in values)


def test_it_takes_its_time(fake_sys: FakeSys, tmp_path: Path) -> None:
    """A person waits for it: below a few seconds, whatever it reads."""
    start = time.monotonic()
    args = ("--knob", KNOB, "--values", "8,32", "--field", "/sys/block/*/stat[0]")
    assert new(fake_sys, tmp_path / "x", *args) == 0
    assert time.monotonic() - start < 20
