# SPDX-License-Identifier: MIT
"""``pymlk collect``: runs, workloads, scores, sweeps, jobs, and how it ends."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.fakesys import POLICY, FakeSys

from pymlk.collect import Collector, find_score
from pymlk.dataset import Dataset, Writer
from pymlk.emulator import Emulator
from pymlk.errors import DatasetError, PolicyError
from pymlk.jobs import Cell, load_jobs
from pymlk.policy import load
from pymlk.proxy import Feature, Knob

ROOT = Path(__file__).resolve().parents[2]
PYMLK = [sys.executable, "-P", "-m", "pymlk", "collect"]
KNOB = {"path": "/k", "values": [8, 32, 128]}


def command(fake: FakeSys, *args: object) -> list[str]:
    places = ["--root", fake.root, "--state-dir", fake.state]
    return [*PYMLK, str(fake.policy), *map(str, (*places, *args))]


def collect(fake: FakeSys, *args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(fake, *args), capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def fake(fake_sys: FakeSys) -> FakeSys:
    """One device, and a policy that has no model yet."""
    (fake_sys.policy / "model.tflite").unlink()
    return fake_sys


def collector(fake: FakeSys, path: Path, **options: Any) -> Collector:
    plan = load(str(fake.policy), model=False)
    options = {"rate": 200.0, "root": str(fake.root), **options}
    return Collector(plan, str(path), state_dir=str(fake.state), **options)


# ------------------------------------------------------------------ one run


def test_rows_are_what_the_attributes_said(fake: FakeSys, tmp_path: Path) -> None:
    out = tmp_path / "x.mlkd"
    with subprocess.Popen(command(fake, "-o", out, "--rate", 200)) as process:
        while not out.exists():
            time.sleep(0.01)
        for _ in range(20):
            fake.load("vda", 100)
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
    assert process.returncode == 130
    with Dataset(str(out)) as dataset:
        (run,) = dataset.runs
        t, values, valid = dataset.table(run)
        assert (dataset.fields, dataset.plan["name"]) == (["reads", "ra"], "test")
    assert valid[:, 1].all()
    assert set(values[:, 1]) == {32}
    reads = values[valid[:, 0], 0]
    assert (np.diff(reads) >= 0).all()
    assert set(reads) <= set(range(1000, 3001, 100))
    assert reads[-1] == 3000
    # a plain file is for a moment empty while it is written anew
    assert len(reads) > 0.8 * len(t)
    # the timer does not drift: every step is a multiple of 5 ms, if it is on time
    steps = np.round((t - t[0]) / 5e6)
    assert np.median(np.abs((t - t[0]) / 5e6 - steps)) < 0.2
    assert steps[-1] == pytest.approx(len(t) - 1 + run.missed, abs=2)
    assert run.score is not None


def test_a_thousand_rows_a_second(fake: FakeSys, tmp_path: Path) -> None:
    """All ticks are rows, or counted."""
    fake.add("vdb")
    out = tmp_path / "x.mlkd"
    done = collect(fake, "-o", out, "--rate", 1000, "--seconds", 0.5, "--settle", 0.1)
    assert done.returncode == 0, done.stderr
    with Dataset(str(out)) as dataset:
        runs = dataset.runs
    assert [run.device for run in runs] == ["vda", "vdb"]
    for run in runs:
        assert run.rows > 50
        assert run.rows + run.missed == pytest.approx(
            1000 * (run.seconds - 0.1), abs=80
        )


def test_a_file_that_is_there_stays(fake: FakeSys, tmp_path: Path) -> None:
    out = tmp_path / "x.mlkd"
    out.write_text("mine")
    done = collect(fake, "-o", out, "--seconds", 0.1)
    assert (done.returncode, out.read_text()) == (3, "mine")
    assert "is there already: use --append" in done.stderr
    done = collect(fake, "-o", out, "--seconds", 0.1, "--append")
    assert done.returncode == 3
    assert "no dataset" in done.stderr


def test_append_is_for_the_same_fields(fake: FakeSys, tmp_path: Path) -> None:
    out = tmp_path / "x.mlkd"
    args = ("-o", out, "--seconds", 0.1, "--append")
    assert collect(fake, *args).returncode == 0
    # means and deviations change when a model is trained
    fake.write_policy(POLICY.replace("mean = 100.0", "mean = 3.0"))
    assert collect(fake, *args).returncode == 0
    fake.write_policy(POLICY.replace("stat[0]", "stat[1]"))
    done = collect(fake, *args)
    assert done.returncode == 3
    assert "another policy's dataset" in done.stderr
    with Dataset(str(out)) as dataset:
        assert len(dataset.runs) == 2
        assert dataset.plan["features"][0]["mean"] == 100.0


def test_two_writers(fake: FakeSys, tmp_path: Path) -> None:
    out = str(tmp_path / "x.mlkd")
    with Writer(out, {}, ["a"], [1]):
        with pytest.raises(DatasetError, match="another process is writing"):
            Writer(out, {}, ["a"], [1], append=True)


def test_a_field_of_another_unit_is_refused(fake: FakeSys, tmp_path: Path) -> None:
    fake.add("vdb")
    fake.knob("vdb").write_text("3.5\n")
    with pytest.raises(DatasetError, match="of vdb has another unit"):
        collector(fake, tmp_path / "x").record(Cell(workload="w", seconds=0.1))


def test_no_device(fake: FakeSys, tmp_path: Path) -> None:
    done = collect(fake, "-o", tmp_path / "x", "--seconds", 0.1, "--device", "sd*")
    assert done.returncode == 3
    assert "nothing matches sd*" in done.stderr


def test_a_skipped_device_that_is_named(fake: FakeSys, tmp_path: Path) -> None:
    fake.add("loop3")
    done = collect(
        fake, "-o", tmp_path / "x", "--seconds", 0.1, "--device", "loop3", "--json"
    )
    assert done.returncode == 0, done.stderr
    run, summary = map(json.loads, done.stdout.splitlines())
    assert run["run"]["device"] == "loop3"
    assert summary["summary"]["bad"] == 0


# ------------------------------------------------------------------ workloads


def test_a_workload_s_label_score_and_tags(fake: FakeSys, tmp_path: Path) -> None:
    out = tmp_path / "x"
    done = collect(
        fake, "-o", out, "--label", "seq", "--group", "slow", "--tag", "board=a",
        "--score", r"speed: (\S+)", "--seed", 7, "--",
        "sh", "-c", "sleep 0.1; echo speed: 1; echo speed: 2.5e3; echo $PYMLK_SEED",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with Dataset(str(out)) as dataset:
        (run,) = dataset.runs
    assert (run.workload, run.label, run.group) == ("seq", "seq", "slow")
    assert (run.score, run.tags, run.seed) == (2500.0, {"board": "a"}, 7)
    assert run.seconds >= 0.1
    assert abs(run.started_ns / 1e9 - time.time()) < 60


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        ("sleep 0.1; echo why >&2; exit 3", "exit status 3: why"),
        ("sleep 0.1; kill -9 $$", "ended by signal 9"),
        ("sleep 0.1; echo speed: fast", "no score"),
        ("sleep 0.1; echo nothing", "no score"),
    ],
)
def test_a_failed_workload_is_no_good_run(
    fake: FakeSys, tmp_path: Path, script: str, fault: str
) -> None:
    out = tmp_path / "x"
    done = collect(fake, "-o", out, "--score", r"speed: (.+)", "--", "sh", "-c", script)
    assert done.returncode == 1
    assert f"not a good run: {fault}" in done.stderr
    with Dataset(str(out)) as dataset:
        assert dataset.runs == []
        (run,) = dataset.rejected
    assert run.fault.startswith(fault)
    assert run.rows > 0


def test_a_program_that_is_not_there(fake: FakeSys, tmp_path: Path) -> None:
    done = collect(fake, "-o", tmp_path / "x", "--", "no-such-program")
    assert done.returncode == 4
    assert "no-such-program" in done.stderr


def test_a_workload_without_end_is_ended(fake: FakeSys, tmp_path: Path) -> None:
    out = tmp_path / "x"
    # the child of the shell, too
    script = "echo speed: 5; sleep 1000 & sleep 1000"
    start = time.monotonic()
    done = collect(
        fake,
        "-o",
        out,
        "--seconds",
        0.3,
        "--score",
        "speed: (.)",
        "--",
        "sh",
        "-c",
        script,
    )
    assert time.monotonic() - start < 20
    assert done.returncode == 0, done.stderr
    with Dataset(str(out)) as dataset:
        assert dataset.runs[0].score == 5.0


def test_what_a_workload_leaves_behind(fake: FakeSys, tmp_path: Path) -> None:
    """A child that goes on writing does not hold us up."""
    pid = tmp_path / "pid"
    script = f"yes & echo $! >{pid}; sleep 0.2"
    done = collect(fake, "-o", tmp_path / "x", "--", "sh", "-c", script)
    assert done.returncode in (0, 1)
    # its pipe is gone
    end = time.monotonic() + 20
    while Path(f"/proc/{int(pid.read_text())}/cwd").exists():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_scores() -> None:
    fio = 'fio: note\n{"jobs": [{"read": {"iops": 7}}]}\nmore'
    assert find_score(fio, None, "jobs.0.read.iops") == 7.0
    for path in ("jobs.1", "jobs.0.read", "x", "jobs.x", ""):
        with pytest.raises(ValueError, match="no score"):
            find_score(fio, None, path)
    for text in ("", "{", "[" * 9, '{"a": 1e999}', '{"a": NaN}', "{" * 100000):
        with pytest.raises(ValueError, match="no score"):
            find_score(text, None, "a")


def test_bad_scores_are_refused_before_anything_runs(
    fake: FakeSys, tmp_path: Path
) -> None:
    for score, text in (("(", "no regular expression"), ("x", "has no group")):
        done = collect(fake, "-o", tmp_path / "x", "--score", score, "--", "true")
        assert done.returncode == 3
        assert text in done.stderr
    assert not (tmp_path / "x").exists()


# ------------------------------------------------------------------ sweeps


def test_a_sweep(fake: FakeSys, tmp_path: Path) -> None:
    out, knob = tmp_path / "x", fake.knob("vda")
    args = ("-o", out, "--sweep", "--seeds", 3, "--score", "(.+)", "--json", "--")
    # the value is in the file, in the environment and in the words
    script = f"sleep 0.05; [ $(cat {knob}) = {{value}} ] && echo $((PYMLK_VALUE % 100))"
    done = collect(fake, *args, "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    order = [(line["run"]["seed"], line["run"]["knob"]) for line in lines[:-1]]
    assert sorted(order) == [(s, v) for s in (1, 2, 3) for v in (8, 32, 128)]
    assert [seed for seed, _ in order] == sorted(seed for seed, _ in order)
    (best,) = lines[-1]["summary"]["best"]
    assert (best["best"], best["scores"]) == (32, {"8": 8.0, "32": 32.0, "128": 28.0})
    assert fake.value("vda") == 32
    assert not list(fake.state.glob("*.journal"))
    # what is there is not run again
    again = collect(fake, *args, "sh", "-c", script)
    summary = json.loads(again.stdout)["summary"]
    assert (summary["to_do"], summary["skipped"]) == (0, 9)
    table = collect(fake, *[a for a in args if a != "--json"], "sh", "-c", script)
    assert table.returncode == 0


def test_another_device_is_another_sweep(fake: FakeSys, tmp_path: Path) -> None:
    fake.add("vdb", ra=8)
    args = ("-o", tmp_path / "x", "--sweep", "--values", "8,128", "--seconds", 0.1)
    for device, count in (("vda", 2), ("vdb", 4), ("vda", 4)):
        done = collect(fake, *args, "--device", device)
        assert done.returncode == 0, done.stderr
        with Dataset(str(tmp_path / "x")) as dataset:
            assert len(dataset.runs) == count
        if count == 4 and device == "vdb":
            names = [line.split()[:2] for line in done.stdout.splitlines()[-2:]]
            assert names == [["recording", "vda"], ["recording", "vdb"]]
    assert (fake.value("vda"), fake.value("vdb")) == (32, 8)


def test_a_sweep_s_table(fake: FakeSys, tmp_path: Path) -> None:
    done = collect(
        fake, "-o", tmp_path / "x", "--sweep", "--values", "8,128", "--workload", "w",
        "--score", "(.+)", "--", "sh", "-c", "sleep 0.05; echo {value}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    head, row = done.stdout.splitlines()[-2:]
    assert head.split() == ["8", "128"]
    assert row.split() == ["w", "8", "128*"]


def test_a_value_that_the_knob_has_not(fake: FakeSys, tmp_path: Path) -> None:
    done = collect(
        fake, "-o", tmp_path / "x", "--sweep", "--values", "9", "--seconds", 0.1
    )
    assert done.returncode == 3
    assert "expected one of knob.values: [8, 32, 128]" in done.stderr


def test_a_score_is_of_one_device(fake: FakeSys, tmp_path: Path) -> None:
    fake.add("vdb")
    done = collect(fake, "-o", tmp_path / "x", "--sweep", "--seconds", 0.1)
    assert done.returncode == 3
    assert "name it with --device" in done.stderr
    assert (fake.value("vda"), fake.value("vdb")) == (32, 32)


def test_somebody_else_sets_the_knob(fake: FakeSys, tmp_path: Path) -> None:
    out = tmp_path / "x"
    script = f"sleep 0.05; echo 77 >{fake.knob('vda')}"
    done = collect(
        fake, "-o", out, "--sweep", "--values", "8", "--", "sh", "-c", script
    )
    assert done.returncode == 1
    assert "was set to 77 by somebody else" in done.stderr
    # and it is left alone
    assert fake.value("vda") == 77


def until_swept(fake: FakeSys, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + 30
    while fake.value("vda") == 32:
        assert time.monotonic() < end
        assert process.poll() is None
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 1)]
)
def test_an_interrupted_sweep(
    fake: FakeSys, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    out = tmp_path / "x"
    args = ("-o", out, "--sweep", "--values", "8,128", "--", "sleep", "100")
    with subprocess.Popen(command(fake, *args), stderr=subprocess.DEVNULL) as process:
        until_swept(fake, process)
        time.sleep(0.1)
        process.send_signal(number)
    assert process.returncode == code
    assert fake.value("vda") == 32
    with Dataset(str(out)) as dataset:
        assert [run.fault for run in dataset.rejected] == ["interrupted"]
        assert not dataset.torn


def test_kill_9(fake: FakeSys, tmp_path: Path) -> None:
    """The knob by `pymlk restore`, the rows by --append."""
    out = tmp_path / "x"
    args = ("-o", out, "--sweep", "--values", "8", "--rate", 1000, "--seconds", 100)
    with subprocess.Popen(command(fake, *args)) as process:
        until_swept(fake, process)
        end = time.monotonic() + 30
        while not out.exists() or out.stat().st_size < 5000:
            assert time.monotonic() < end
            time.sleep(0.05)
        process.kill()
    assert fake.value("vda") == 8
    done = subprocess.run(
        [*PYMLK[:-1], "restore", "--state-dir", fake.state], check=True
    )
    assert done.returncode == 0
    assert fake.value("vda") == 32
    with Dataset(str(out)) as dataset:
        (run,) = dataset.rejected
        assert run.fault == "it has no end"
        assert run.rows > 1000
    assert collect(fake, "-o", out, "--append", "--seconds", 0.1).returncode == 0
    info = subprocess.run(
        [*PYMLK, "--info", out], capture_output=True, text=True, check=False
    )
    assert info.returncode == 1
    assert "1 good runs" in info.stdout
    assert "REJECTED: it has no end" in info.stdout


def test_a_full_disk_puts_the_knob_back(fake: FakeSys) -> None:
    full = Path("/dev/full")
    assert full.exists()
    run = collector(fake, fake.root / "x.mlkd", rate=1000.0)
    cell = Cell(workload="w", value=8, seconds=0.2)

    class Full(Writer):
        def block(self, payload: bytes) -> None:
            os.write(os.open(full, os.O_WRONLY), payload)

    run._scales = [1, 1]
    run._writer = Full(str(fake.root / "x.mlkd"), run.plan, ["reads", "ra"], [1, 1])
    with pytest.raises(OSError, match="No space left"):
        run.record(cell)
    assert fake.value("vda") == 8
    run.close()
    assert fake.value("vda") == 32


# ------------------------------------------------------------------ jobs files

JOBS = """\
device = "vda"
seeds = 2
seconds = 0.1
values = [8, 128]
setup = "sh -c 'echo setup >>{log}'"
teardown = "sh -c 'echo teardown >>{log}'"
before = ["sh", "-c", "echo before {{group}} {{value}} $PYMLK_DEVICE $IOPS >>{log}"]
score = "score=(.*)"

[[group]]
name = "slow"
env = {{ IOPS = "100" }}
tags = {{ iops = "100" }}

[[group]]
name = "fast"
before = ["sh", "-c", "echo fast >>{log}"]

[[workload]]
name = "a"
command = ["sh", "-c", "sleep {{seconds}}; echo score={{value}}"]

[[workload]]
name = "b"
label = "random"
groups = ["fast"]
command = "sh -c 'sleep 0.1; echo score=$((1000 / PYMLK_VALUE))'"
"""


def jobs_file(tmp_path: Path, text: str = JOBS) -> Path:
    path = tmp_path / "jobs.toml"
    path.write_text(text.format(log=tmp_path / "log"))
    return path


def test_jobs(fake: FakeSys, tmp_path: Path) -> None:
    out, jobs = tmp_path / "x", jobs_file(tmp_path)
    dry = collect(fake, "-o", out, "--jobs", jobs, "--dry-run")
    assert "12 runs to do, 0 are there already; about 1 s" in dry.stdout
    assert not out.exists()
    done = collect(fake, "-o", out, "--jobs", jobs)
    assert done.returncode == 0, done.stderr
    log = (tmp_path / "log").read_text().splitlines()
    assert (log[0], log[-1]) == ("setup", "teardown")
    assert log.count("before slow 8 vda 100") == 2
    assert log.count("before fast 128 vda") == 4
    assert log.count("fast") == 8
    with Dataset(str(out)) as dataset:
        runs = dataset.runs
    found = {(r.workload, r.group, r.knob, r.seed): r.score for r in runs}
    assert len(found) == len(runs) == 12
    assert found["b", "fast", 8, 2] == 125.0
    assert found["a", "slow", 128, 1] == 128.0
    assert {r.label for r in runs if r.workload == "b"} == {"random"}
    assert {r.tags.get("iops") for r in runs if r.group == "slow"} == {"100"}
    assert done.stdout.splitlines()[-3].split() == ["a", "fast", "8", "128*"]


def test_jobs_go_on_where_they_were(fake: FakeSys, tmp_path: Path) -> None:
    """A run that failed is done again, good ones are not."""
    out, bad = tmp_path / "x", tmp_path / "bad"
    bad.touch()
    text = JOBS.replace("sleep {{seconds}}", f"[ -e {bad} ] && exit 9; sleep 0.05")
    jobs = jobs_file(tmp_path, text)
    done = collect(fake, "-o", out, "--jobs", jobs)
    assert done.returncode == 1
    assert done.stderr.count("exit status 9") == 8
    bad.unlink()
    done = collect(fake, "-o", out, "--jobs", jobs, "--json")
    assert done.returncode == 0
    summary = json.loads(done.stdout.splitlines()[-1])["summary"]
    assert (summary["recorded"], summary["skipped"], summary["bad"]) == (8, 4, 0)
    with Dataset(str(out)) as dataset:
        assert (len(dataset.runs), len(dataset.rejected)) == (12, 8)


def test_a_failed_preparation(fake: FakeSys, tmp_path: Path) -> None:
    jobs = jobs_file(tmp_path, JOBS.replace('"echo fast', '"exit 4; echo'))
    done = collect(fake, "-o", tmp_path / "x", "--jobs", jobs)
    assert done.returncode == 1
    assert done.stderr.count("not a good run: sh: exit status 4") == 8
    with Dataset(str(tmp_path / "x")) as dataset:
        assert {run.group for run in dataset.runs} == {"slow"}
        assert not dataset.rejected


def test_a_timeout(fake: FakeSys, tmp_path: Path) -> None:
    text = JOBS.replace('label = "random"', 'timeout = 0.2\nlabel = "random"')
    jobs = jobs_file(tmp_path, text.replace("sleep 0.1;", "sleep 100;"))
    done = collect(fake, "-o", tmp_path / "x", "--jobs", jobs)
    assert done.returncode == 1
    assert done.stderr.count("still running after 0 s") == 4


def test_a_failed_set_up_is_cleaned_up(fake: FakeSys, tmp_path: Path) -> None:
    jobs = jobs_file(tmp_path, JOBS.replace("echo setup", "exit 5; echo"))
    done = collect(fake, "-o", tmp_path / "x", "--jobs", jobs)
    assert done.returncode == 1
    assert "setup: exit status 5" in done.stderr
    assert (tmp_path / "log").read_text() == "teardown\n"
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seeds = 2", "seeds = 0", "seeds: Expected `int` >= 1; found 0"),
        ("seeds = 2", "seed = 2", "unknown field `seed`"),
        ("[8, 128]", "[9]", "values: value 9 found, expected one of"),
        ("[8, 128]", "[8]\nsweep = false", "values: mean nothing without sweep"),
        ('["fast"]', '["quick"]', "workload b: groups: 'quick' found"),
        ('name = "b"', 'name = "a"', "workload: 'a' is there twice"),
        ("score=(.*)", "score=.*", "workload a: score: 'score=.*' has no group"),
        ("\"sh -c 'sl", "\"nosuch -c 'sl", "workload b: command: 'nosuch': no such"),
        ("\"sh -c 'sl", '"sh -c sl', "No closing quotation"),
        ("seconds = 0.1", "settle = 1.0\nseconds = 0.1", "not more than settle"),
        ("[[group]]", "[[group", "jobs.toml: "),
    ],
)
def test_wrong_jobs_name_file_and_key(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert old in JOBS
    path = jobs_file(tmp_path, JOBS.replace(old, new, 1))
    with pytest.raises(PolicyError) as caught:
        load_jobs(str(path), KNOB)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)


# ------------------------------------------------------------------ kernel models


def test_every_sample_of_a_kernel_model(tmp_path: Path) -> None:
    """At more than 10 kHz, in one run, none is left out; scores are the client's."""
    fake = FakeSys(tmp_path)
    text = POLICY.replace('devices = "/sys/block/*"\n', 'proxy = "test/*"\n')
    text = text.replace('"{device}/stat[0]"', '"reads"')
    text = text.replace('"{device}/queue/read_ahead_kb"', '"ra"')
    text = text.replace('[objective]\nmaximise = "reads"\n\n', "")
    fake.write_policy(text)
    with Emulator(tmp_path / "kernel") as kernel:
        model = kernel.register(
            "test", "one", [Feature("ra"), Feature("other"), Feature("reads")],
            [Knob("ra", "KiB", 8, 128, 8, 32)], records=4096,
        )  # fmt: skip
        model._ring.write(1, [0, 0, 0])
        run = collector(fake, tmp_path / "x", root=kernel.root, rate=1000.0)
        sent = 0

        def feed(seconds: float, rows: int, missed: int) -> None:
            nonlocal sent
            for _ in range(600):
                sent += 1
                model._ring.write(1, [32, sent, 1000 + sent])
            model._ring.write(2, [1, 2, 0, 40, 32])

        run.progress = feed
        (outcome,) = run.record(Cell(workload="w", seconds=0.5))
        run.close()
    assert not outcome.fault
    assert outcome.missed == 0
    assert outcome.score == 40.0
    with Dataset(str(tmp_path / "x")) as dataset:
        t, values, _ = dataset.table(dataset.runs[0])
    assert sent > 10_000 * 0.3
    # of the last lot some may come when it is over
    assert sent - 600 <= len(values) <= sent
    assert values.tolist() == [[1000 + i, 32] for i in range(1, len(values) + 1)]
    assert (np.diff(t) >= 0).all()


def test_lost_samples_are_counted(tmp_path: Path) -> None:
    fake = FakeSys(tmp_path)
    text = POLICY.replace('devices = "/sys/block/*"\n', 'proxy = "test/*"\n')
    text = text.replace('"{device}/stat[0]"', '"reads"')
    text = text.replace('"{device}/queue/read_ahead_kb"', '"ra"')
    fake.write_policy(text.replace('[objective]\nmaximise = "reads"\n\n', ""))
    with Emulator(tmp_path / "kernel") as kernel:
        features = [Feature("reads"), Feature("ra")]
        knob = Knob("ra", "KiB", 8, 128, 8, 32)
        model = kernel.register("test", "one", features, [knob], records=8)
        run = collector(fake, tmp_path / "x", root=kernel.root, rate=2.0)

        def feed(seconds: float, rows: int, missed: int) -> None:
            model._ring.write(1, [1, 2])

        run.progress = feed
        (outcome,) = run.record(Cell(workload="w", seconds=1.2))
        run.close()
        done = collect(
            fake, "-o", tmp_path / "y", "--root", kernel.root, "--sweep", "--seconds", 1
        )
    assert outcome.missed > 0
    assert outcome.rows > 0
    assert done.returncode == 3
    assert "cannot be swept" in done.stderr


def test_the_documented_jobs_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "docs/training.md").read_text()
    examples = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    (example,) = [text for text in examples if "[[workload]]" in text]
    (tmp_path / "jobs.toml").write_text(example)
    (tmp_path / "disk.sh").write_text("#!/bin/sh\n")
    (tmp_path / "disk.sh").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    work = load_jobs("jobs.toml", load("readahead")["knob"])
    # three seeds of four values: one workload in two groups, one in one
    assert len(work.cells) == 3 * 4 * 3
    assert work.cells[0].before[0] == ["./disk.sh", "empty-cache"]
    assert {len(cell.before) for cell in work.cells} == {2}


def test_progress_on_a_terminal(fake: FakeSys, tmp_path: Path) -> None:
    master, slave = pty.openpty()
    args = command(fake, "-o", tmp_path / "x", "--sweep", "--seconds", 0.5)
    with subprocess.Popen(args, stderr=slave, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read()
    os.close(slave)
    said = os.read(master, 1 << 16).decode()
    os.close(master)
    assert re.search(r"\r\[2/3\] 1 s left  0 s  \d+ rows  \d+ missed", said)
    # nothing of it stays
    assert said.endswith("\r")


def test_a_hostile_name_is_shown_harmlessly(tmp_path: Path) -> None:
    with Writer(str(tmp_path / "x"), {"name": "\x1b[2J"}, ["a"], [1]) as writer:
        writer.end(writer.begin(workload="\x1b]0;x\x07", device="d"))
    info = [*PYMLK, "--info", tmp_path / "x"]
    done = subprocess.run(info, capture_output=True, text=True, check=True)
    assert "\x1b" not in done.stdout
    assert "?]0;x?" in done.stdout


def test_nothing_heavy_is_loaded(fake: FakeSys, tmp_path: Path) -> None:
    script = (
        "import sys; from pymlk.cli import main; "
        f"main({command(fake, '-o', tmp_path / 'x', '--seconds', 0.1)[4:]!r}); "
        "print(*sorted({'numpy', 'flatbuffers', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == ""
