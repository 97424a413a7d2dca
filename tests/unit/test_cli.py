# SPDX-License-Identifier: MIT
"""The command as a person or a script uses it: output, exit codes, signals."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from helpers.fakesys import POLICY, FakeSys, model
from helpers.models import network

from pymlk.cli import main
from pymlk.cli.parser import make_parser

PYMLK = [sys.executable, "-P", "-m", "pymlk"]


def pymlk(*args: object, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PYMLK, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )


def run_args(fake: FakeSys, *more: object) -> list[object]:
    return ["run", fake.policy, "--root", fake.root, "--state-dir", fake.state, *more]


class Daemon:
    """`pymlk run --apply` under a load that asks for 128."""

    def __init__(self, fake: FakeSys) -> None:
        self.fake = fake
        args = map(str, run_args(fake, "--apply", "--mode", "always", "--json"))
        self.process = subprocess.Popen(
            [*PYMLK, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def until_changed(self) -> None:
        end = time.monotonic() + 30
        while self.fake.value("vda") != 128:
            assert time.monotonic() < end, "the knob never changed"
            assert self.process.poll() is None, self.process.communicate()
            self.fake.load("vda", 1000)
            time.sleep(0.005)

    def stop(self, number: int) -> tuple[int, str, str]:
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


# ------------------------------------------------------------------ run


def test_run_prints_decisions_and_a_summary(fake_sys: FakeSys) -> None:
    done = pymlk(*run_args(fake_sys, "--decisions", 5))
    assert done.returncode == 0, done.stderr
    assert "mode shadow (nothing is changed)" in done.stdout
    assert done.stdout.count(" vda shadow recommends ") == 5
    for part in ("snapshot", "features", "inference", "guard", "peak RSS", "p99"):
        assert part in done.stdout
    assert fake_sys.value("vda") == 32


def test_several_policies_in_one_process(fake_sys: FakeSys, tmp_path: Path) -> None:
    other = FakeSys(tmp_path / "other")
    other.write_policy(POLICY.replace('name = "test"', 'name = "other"'))
    fake_sys.add("vdb")
    args = run_args(fake_sys, "--json", "--seconds", 0.3)
    done = pymlk(args[0], other.policy, *args[1:])
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    made = {(x["policy"], x["decision"]["device"]) for x in lines if "decision" in x}
    assert made == {(p, d) for p in ("test", "other") for d in ("vda", "vdb")}
    summaries = [x["summary"]["policy"] for x in lines if "summary" in x]
    assert summaries == ["other", "test"]


def test_a_mode_without_leave_to_apply_is_refused(fake_sys: FakeSys) -> None:
    done = pymlk(*run_args(fake_sys, "--mode", "always"))
    assert done.returncode == 2
    assert "--mode always: needs --apply" in done.stderr


def test_a_missing_file_is_named_first(tmp_path: Path) -> None:
    missing = tmp_path / "none.mlkd"
    done = pymlk("train", "readahead", missing)
    assert done.returncode == 4
    assert done.stderr == f"pymlk: {missing}: No such file or directory\n"


def test_policies_of_one_name_are_refused(fake_sys: FakeSys, tmp_path: Path) -> None:
    other = FakeSys(tmp_path / "other")
    args = run_args(fake_sys)
    done = pymlk(args[0], other.policy, *args[1:])
    assert done.returncode == 3
    assert "name: 'test' is the name of" in done.stderr


def test_run_json_is_one_object_a_line(fake_sys: FakeSys) -> None:
    done = pymlk(*run_args(fake_sys, "--seconds", 0.2, "--json"))
    assert done.returncode == 0, done.stderr
    *decisions, last = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(d["decision"]["device"] == "vda" for d in decisions)
    assert last["summary"]["decisions"] == len(decisions) > 3
    assert last["summary"]["latency"]["snapshot"]["p50_us"] > 0
    assert last["summary"]["peak_rss_kib"] > 1000


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 0), (signal.SIGHUP, 0)],
)
def test_signals_restore_the_knob(
    fake_sys: FakeSys, number: signal.Signals, code: int
) -> None:
    daemon = Daemon(fake_sys)
    daemon.until_changed()
    returned, out, err = daemon.stop(number)
    assert (returned, err) == (code, "")
    assert "summary" in json.loads(out.splitlines()[-1])
    assert fake_sys.value("vda") == 32


def test_after_sigkill_restore_puts_it_back(fake_sys: FakeSys) -> None:
    daemon = Daemon(fake_sys)
    daemon.until_changed()
    daemon.stop(signal.SIGKILL)
    assert fake_sys.value("vda") == 128
    done = pymlk("restore", "--state-dir", fake_sys.state)
    assert done.returncode == 0
    assert "read_ahead_kb: 32" in done.stdout
    assert fake_sys.value("vda") == 32
    again = pymlk("restore", "--state-dir", fake_sys.state)
    assert again.stdout == "nothing to restore\n"


def test_after_sigkill_the_next_run_puts_it_back(fake_sys: FakeSys) -> None:
    daemon = Daemon(fake_sys)
    daemon.until_changed()
    daemon.stop(signal.SIGKILL)
    done = pymlk(*run_args(fake_sys, "--decisions", 1))
    assert "left by an earlier run" in done.stderr
    assert fake_sys.value("vda") == 32


def test_two_runs_do_not_fight_over_a_knob(fake_sys: FakeSys) -> None:
    daemon = Daemon(fake_sys)
    daemon.until_changed()
    second = pymlk(*run_args(fake_sys, "--apply", "--mode", "always", "--decisions", 1))
    assert second.returncode == 4
    assert f"process {daemon.process.pid} has this knob" in second.stderr
    assert daemon.stop(signal.SIGTERM)[0] == 0
    assert fake_sys.value("vda") == 32


def test_an_administrators_change_is_told_at_the_end(fake_sys: FakeSys) -> None:
    daemon = Daemon(fake_sys)
    daemon.until_changed()
    # a write of the run's own may be on its way
    while fake_sys.value("vda") != 64:
        fake_sys.knob("vda").write_text("64\n")
        time.sleep(0.3)
    code, out, err = daemon.stop(signal.SIGTERM)
    assert code == 1
    assert "somebody else set it to 64" in err
    assert '"hands-off"' in out
    assert fake_sys.value("vda") == 64


def test_a_reader_that_leaves_is_no_error(fake_sys: FakeSys) -> None:
    command = " ".join(
        [*PYMLK, *map(str, run_args(fake_sys, "--apply", "--mode", "always"))]
    )
    done = subprocess.run(
        f"{command} | head -n 2",
        shell=True,
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == b""
    assert fake_sys.value("vda") == 32
    assert list(fake_sys.state.glob("*.journal")) == []


def test_the_loop_carries_no_compiler_and_no_numpy(fake_sys: FakeSys) -> None:
    daemon = Daemon(fake_sys)
    daemon.until_changed()
    proc = Path(f"/proc/{daemon.process.pid}")
    maps = (proc / "maps").read_text()
    status = (proc / "status").read_text()
    daemon.stop(signal.SIGTERM)
    for name in ("numpy", "tflite", "msgspec", "flatbuffers"):
        assert name not in maps
    resident = int(status.partition("VmHWM:")[2].split()[0])
    assert resident < 16384, "a bare Python has about 8500 KiB"


def test_all_devices_gone_ends_the_run(fake_sys: FakeSys) -> None:
    fake_sys.write_policy(POLICY.replace("/sys/block/*", "/sys/block/nvme*"))
    done = pymlk(*run_args(fake_sys))
    assert done.returncode == 3
    assert "nothing matches" in done.stderr


def test_a_wrong_policy_is_exit_3(fake_sys: FakeSys) -> None:
    fake_sys.write_policy(POLICY.replace("settle = 1", "settle = 0"))
    done = pymlk(*run_args(fake_sys))
    assert done.returncode == 3
    assert "policy.toml: guard.settle: Expected `int` >= 1; found 0" in done.stderr
    assert "Traceback" not in done.stderr


# ------------------------------------------------- attrs, inspect, compile


def test_attrs_reads_fields(fake_sys: FakeSys) -> None:
    fields = ["/sys/block/*/queue/read_ahead_kb", "/sys/block/vda/stat[0]"]
    done = pymlk("attrs", *fields, "--root", fake_sys.root)
    assert done.returncode == 0
    assert done.stdout.splitlines()[0].split() == [fields[0].replace("*", "vda"), "32"]
    as_json = json.loads(
        pymlk("attrs", *fields, "--root", fake_sys.root, "--json").stdout
    )
    assert [entry["value"] for entry in as_json] == [32, 1000]


def test_attrs_tells_what_is_invalid(fake_sys: FakeSys) -> None:
    done = pymlk("attrs", "/sys/block/vda/gone", "--root", fake_sys.root)
    assert done.returncode == 1
    assert "invalid: missing" in done.stdout


def test_attrs_watch_counts_rows(fake_sys: FakeSys) -> None:
    field = "/sys/block/vda/stat[0]"
    args = ["--root", fake_sys.root, "--watch", "0.01", "--count", "3"]
    done = pymlk("attrs", field, *args)
    assert done.stdout.splitlines()[0] == f"seconds\t{field}"
    assert [line.split("\t")[1] for line in done.stdout.splitlines()[1:]] == [
        "1000"
    ] * 3


def test_attrs_find(fake_sys: FakeSys) -> None:
    done = pymlk("attrs", "--find", "read_ahead", "--root", fake_sys.root)
    assert done.stdout == "rw  /sys/block/vda/queue/read_ahead_kb\n"
    assert pymlk("attrs", "--find", "zzz", "--root", fake_sys.root).returncode == 1


@pytest.mark.parametrize("field", ["relative/path", "/a[", "/a[b", ""])
def test_attrs_bad_syntax_is_exit_3(field: str) -> None:
    done = pymlk("attrs", field)
    assert done.returncode == 3
    assert done.stderr.startswith("pymlk: ")


def test_compile_then_inspect(tmp_path: Path) -> None:
    source = tmp_path / "m.tflite"
    source.write_bytes(model())
    done = pymlk("compile", source)
    assert done.returncode == 0, done.stderr
    for name in ("m.tflite", "m.mlk"):
        shown = pymlk("inspect", tmp_path / name)
        assert shown.returncode == 0, shown.stderr
        for part in ("FULLY_CONNECTED", "SOFTMAX", "3 MACs", "arena", "zero point"):
            assert part in shown.stdout
        facts = json.loads(pymlk("inspect", tmp_path / name, "--json").stdout)
        assert facts["macs"] == 3
        assert [op["name"] for op in facts["operators"]] == [
            "FULLY_CONNECTED",
            "SOFTMAX",
        ]


def test_compile_that_reuses_inputs(tmp_path: Path) -> None:
    source = tmp_path / "m.tflite"
    source.write_bytes(network((64, 4, 64)))
    arenas = {}
    for flags in ((), ("--reuse-inputs",)):
        done = pymlk("compile", "--json", *flags, source)
        assert done.returncode == 0, done.stderr
        arenas[flags] = json.loads(done.stdout)["arena_bytes"]
    # 64 bytes in, 4 and 64 bytes between, 64 bytes out
    assert arenas == {(): 192, ("--reuse-inputs",): 128}


def test_compile_never_overwrites_its_own_model(tmp_path: Path) -> None:
    source = tmp_path / "m.tflite"
    source.write_bytes(model())
    done = pymlk("compile", source, "-o", source)
    assert done.returncode == 3
    assert source.read_bytes() == model()


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    source = tmp_path / "m.tflite"
    source.write_bytes(model())
    done = pymlk("compile", source, "-o", tmp_path / "no" / "such" / "m.mlk")
    assert done.returncode == 4
    assert sorted(os.listdir(tmp_path)) == ["m.tflite"]


@pytest.mark.parametrize("command", ["inspect", "compile"])
def test_no_model_is_exit_3_and_no_file_exit_4(tmp_path: Path, command: str) -> None:
    text = tmp_path / "text.tflite"
    text.write_text("this is no model at all")
    done = pymlk(command, text)
    assert done.returncode == 3
    assert f"{text}: no .tflite model" in done.stderr
    assert pymlk(command, tmp_path / "nothing").returncode == 4


# ------------------------------------------------------------- the rest


def test_bench_measures() -> None:
    done = pymlk("bench", "--rounds", 2, "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)["median_us"]
    assert len(figures) == 3
    assert all(us > 0 for us in figures.values())


@pytest.mark.parametrize(
    "command",
    [[], *([c] for c in "attrs inspect compile run restore bench completion".split())],
)
def test_help_shows_examples_or_exit_codes(command: list[str]) -> None:
    done = pymlk(*command, "--help")
    assert done.returncode == 0
    assert ("examples:" if command else "exit codes:") in done.stdout


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["frobnicate"],
        ["run"],
        ["attrs"],
        ["run", "x", "--seconds", "-1"],
        ["run", "x", "--decisions", "0"],
    ],
)
def test_wrong_usage_is_exit_2(args: list[str]) -> None:
    assert pymlk(*args).returncode == 2


@pytest.mark.parametrize(
    ("typed", "completed"),
    [("ru", "run"), ("run --app", "--apply"), ("insp", "inspect")],
)
def test_completion_completes_in_bash(
    tmp_path: Path, typed: str, completed: str
) -> None:
    script = tmp_path / "completion.bash"
    script.write_text(pymlk("completion").stdout)
    words = ["pymlk", *typed.split()]
    probe = (
        f"source {script}; COMP_WORDS=({' '.join(words)}); "
        f"COMP_CWORD={len(words) - 1}; COMP_LINE='{' '.join(words)}'; "
        f"COMP_POINT={len(' '.join(words))}; _shtab_pymlk; echo ${{COMPREPLY[@]}}"
    )
    done = subprocess.run(
        ["bash", "-c", probe], capture_output=True, text=True, check=True
    )
    assert done.stdout == completed + "\n"


def test_completion_is_up_to_date() -> None:
    script = Path(__file__).parents[2] / "scripts" / "completion.py"
    done = subprocess.run([sys.executable, "-P", script, "--check"], check=False)
    assert done.returncode == 0, "run scripts/completion.py"


# --------------------------------------------------------------- recording


def test_run_records_and_replay_agrees(fake_sys: FakeSys, tmp_path: Path) -> None:
    log = tmp_path / "record"
    more = ["--apply", "--decisions", 8, "--json", "--record", log]
    done = pymlk(*run_args(fake_sys, *more))
    assert done.returncode == 0, done.stderr
    *lines, last = map(json.loads, done.stdout.splitlines())
    decisions = [line["decision"] for line in lines]
    assert (last["summary"]["recorded"], last["summary"]["not_recorded"]) == (8, 0)
    again = pymlk("replay", "--json", log / "test", "--why", decisions[-1]["seq"])
    assert again.returncode == 0, again.stderr
    why, summary = map(json.loads, again.stdout.splitlines())
    assert summary["summary"]["decisions"] == 8
    for key in ("reason", "current", "target", "confidence", "mode", "latency_ns"):
        assert why["why"][key] == decisions[-1][key]


def test_run_goes_on_where_it_cannot_record(fake_sys: FakeSys, tmp_path: Path) -> None:
    (tmp_path / "record").write_text("a file, not a folder")
    more = ["--decisions", 4, "--record", tmp_path / "record"]
    done = pymlk(*run_args(fake_sys, *more))
    assert done.returncode == 0
    assert done.stdout.count(" vda shadow recommends ") == 4
    assert done.stderr.count("Not a directory: not recording") == 1
    assert "recorded   0, not recorded 4" in done.stdout


@pytest.mark.parametrize("size", ["127", "x"])
def test_a_record_has_room_for_some_decisions(fake_sys: FakeSys, size: str) -> None:
    done = pymlk(*run_args(fake_sys, "--record", "/tmp/x", "--record-size", size))
    assert done.returncode == 2
    assert "--record-size" in done.stderr


def test_a_command_that_was_not_built(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pymlk.cli.replay", None)
    assert main(["replay", "log"]) == 3
    assert "not in this installation: pymlk.cli.replay" in capsys.readouterr().err


def test_run_alone_has_the_same_options(capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for parser in (make_parser(), make_parser("run")):
        for words in (
            ["run", "--help"],
            ["run", "--no-such"],
            ["run", "--seconds", "x"],
        ):
            with pytest.raises(SystemExit):
                parser.parse_args(words)
            said.append(capsys.readouterr())
    assert said[:3] == said[3:]
    assert "--seconds" in said[0].out
