# SPDX-License-Identifier: MIT
"""The recorder: bounded, exact, and never in the loop's way."""

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
from helpers.fakesys import POLICY, PROXY_POLICY, FakeSys
from helpers.malloc_count import count_mallocs
from helpers.need import need
from helpers.recording import Recording, assert_same, replay, split

from pymlk.emulator import Emulator, Feature, Knob
from pymlk.engine import Program
from pymlk.errors import RecordError
from pymlk.features import Features
from pymlk.guard import REASON_NAMES, Guard
from pymlk.policy import load
from pymlk.proxy_loop import ProxyLoop
from pymlk.record import Recorder

LEAST = 16 << 10
REFUSED = REASON_NAMES.index("refused")


def test_a_log_is_what_the_loop_said(fake_sys: FakeSys) -> None:
    fake_sys.add("vdb")
    run = Recording(fake_sys)
    run.step(50)
    run.close()
    found, log = replay(run.log)
    assert_same(found, run.decisions)
    assert {d.reason for d in run.decisions} >= {"applied", "same", "warming-up"}
    assert (log.damages, log.notices, log.missed) == ([], [], 0)
    assert (run.recorder.recorded, run.recorder.missed) == (100, 0)
    assert log.devices == ["vda", "vdb"]
    assert [event.event for event in log.events] == ["mode", "mode", "end"]


def test_shadow_idle_invalid_hands_off(fake_sys: FakeSys) -> None:
    """Reasons without an inference are replayed as well."""
    limits = POLICY.replace("min_interval_s = 0.0", "min_interval_s = 0.005")
    idle = 'min_activity = { field = "reads", rate = 1 }\n'
    fake_sys.write_policy(limits.replace("settle = 1", "settle = 2") + idle)
    run = Recording(fake_sys)
    run.step(60)
    stat = fake_sys.root / "sys/block/vda/stat"
    stat.write_text("nonsense\n")
    run.loop.step()
    run.decisions.append(run.loop.decision(0))
    run.step(20)
    fake_sys.knob("vda").write_text("64\n")
    run.step(5)
    run.close()
    found, _ = replay(run.log)
    assert_same(found, run.decisions)
    reasons = {d.reason for d in run.decisions}
    assert reasons >= {"idle", "invalid-input", "hands-off", "settling", "warming-up"}


def test_averages_go_on_in_the_next_segment(fake_sys: FakeSys) -> None:
    fake_sys.write_policy(POLICY.replace("mean = 100.0", "ema = 0.3\nmean = 100.0"))
    run = Recording(fake_sys, segment_bytes=LEAST)
    run.step(1200)
    run.close()
    files = run.segments()
    assert len(files) > 2
    found, log = replay(run.log)
    assert_same(found, run.decisions)
    assert (log.differences, log.notices) == (0, [])
    # each alone, too
    alone = [r for file in files for r in replay(file)[0]]
    assert_same(alone, run.decisions)


def test_the_size_is_bounded_and_the_oldest_goes(fake_sys: FakeSys) -> None:
    run = Recording(fake_sys, segment_bytes=LEAST, segments=3)
    most = 0
    for _ in range(150):
        run.step(20)
        sizes = [file.stat().st_size for file in run.segments()]
        most = max(most, sum(sizes))
        assert len(sizes) <= 3
        assert max(sizes) <= LEAST
    run.close()
    assert most <= 3 * LEAST
    assert run.recorder.missed == 0
    found, log = replay(run.log)
    assert log.notices == []
    assert 0 < len(found) < len(run.decisions)
    assert_same(found, run.decisions[-len(found) :])


def test_without_tick_it_stays_bounded_and_counts(fake_sys: FakeSys) -> None:
    plan = load(str(fake_sys.policy))
    recorder = Recorder(str(fake_sys.root / "log"), plan, segment_bytes=LEAST)
    stream = make_stream(recorder, plan)
    for i in range(2000):
        recorder.add(stream, seq=i, time_ns=i, seconds=0.0, row=[i, 0], reason=3)
    assert recorder.due
    assert "File too large" in (recorder.error or "")
    assert recorder.missed > 0
    missed, recorded = recorder.missed, recorder.recorded
    recorder.tick()
    assert recorder.error is None
    recorder.add(stream, seq=5000, time_ns=1, seconds=0.0, row=[7, 0], reason=3)
    recorder.close()
    found, log = replay(fake_sys.root / "log")
    assert [r.decision.seq for r in found] == [*range(recorded), 5000]
    assert found[-1].decision.row == [7, 0]
    assert log.missed == missed
    assert f"before it {missed} decisions or effects were not recorded" in str(
        log.notices
    )


def make_stream(recorder: Recorder, plan: dict[str, Any]) -> int:
    fields = {"reads": (0, 1), "ra": (1, 1)}
    features = Features(plan["features"], fields, 0.125, 0)
    return recorder.add_stream("vda", features, Guard.of_policy(plan, False), fields)


def test_every_field_comes_back(fake_sys: FakeSys) -> None:
    """Whatever is not what it mostly is has room in a record."""
    plan = load(str(fake_sys.policy))
    log = fake_sys.root / "log"
    recorder = Recorder(str(log), plan)
    stream = make_stream(recorder, plan)
    low, high = -(1 << 63), (1 << 63) - 1
    asked = {
        "inputs": b"\x80",
        "outputs": b"\x01\x7f\x80",
        "choice": 0,
        "confidence": 0.123,
        "judged_ns": high,
        "judged_latency_ns": 3,
        "version": 1,
        "limited": True,
    }
    recorder.add(stream, seq=1, time_ns=high, seconds=0.0, row=[low, high], reason=3)
    recorder.add(
        stream, seq=high, time_ns=low, seconds=-2.5, row=[high, low], invalid=[1],
        before=[5, -6], invalid_before=[0], current=low, target=high, reason=REFUSED,
        error=22, latency_ns=high, apply=True, wanted=8, changed_ns=9, **asked,
    )  # fmt: skip
    assert recorder.add_effect(stream, 1, 0.5) == 0
    recorder.event("mode", "learning")
    recorder.add(stream, seq=2, time_ns=0, seconds=0.0, row=[0, 0], reason=3)
    recorder.close()
    first, second, third = replay(log)[0]
    assert (first.decision.row, first.effect, first.mode) == (
        [low, high],
        0.5,
        "shadow",
    )
    d = second.decision
    assert (d.seq, d.time_ns, d.seconds) == (high, low, -2.5)
    assert (d.row, d.valid) == ([high, low], [True, False])
    assert (d.before, d.valid_before) == ([5, -6], [False, True])
    assert (d.current, d.target, d.reason, d.error) == (low, high, "refused", 22)
    assert (d.inputs, d.outputs, d.choice) == (b"\x80", b"\x01\x7f\x80", 0)
    assert (d.confidence, d.judged_ns, d.judged_latency_ns) == (0.123, high, 3)
    assert (d.latency_ns, d.wanted, d.changed_ns) == (high, 8, 9)
    # it makes no sense, and the replay says so
    assert second.difference is not None
    assert (third.mode, third.decision.row) == ("learning", [0, 0])


def test_a_swapped_program_is_in_the_log(fake_sys: FakeSys) -> None:
    run = Recording(fake_sys, segment_bytes=LEAST)
    run.step(10)
    program = Program(load(str(fake_sys.policy))["program"])
    run.recorder.program(2, program)
    run.loop.model.swap(program)
    run.step(500)
    run.recorder.program(1, program)
    run.step(10)
    run.close()
    found, _ = replay(run.log)
    assert_same(found, run.decisions)
    versions = [r.decision.version for r in found if r.decision.version]
    assert sorted(set(versions)) == [1, 2]
    assert (versions[0], versions[-1]) == (1, 1)


def test_devices_come_and_go(fake_sys: FakeSys) -> None:
    run = Recording(fake_sys, segment_bytes=LEAST)
    run.step(5)
    fake_sys.add("vdb")
    assert run.loop.rescan()
    run.step(300)
    run.close()
    found, log = replay(run.log)
    assert_same(found, run.decisions)
    assert (log.devices, log.differences) == (["vda", "vdb"], 0)
    # the stream that ended is in no later head
    *_, last = run.segments()
    kinds = [kind for _, kind, _ in split(last.read_bytes())]
    assert kinds.count(3) == 2


def test_one_recorder_a_folder(fake_sys: FakeSys) -> None:
    run = Recording(fake_sys)
    with pytest.raises(RecordError, match="another run records there"):
        Recorder(str(run.log), load(str(fake_sys.policy)))
    run.close()
    Recorder(str(run.log), load(str(fake_sys.policy))).close()
    assert len(run.segments()) == 2


@pytest.mark.parametrize(
    ("sizes", "text"),
    [
        ({"segment_bytes": 100}, "segments of 100 bytes found"),
        ({"segments": 1}, "1 segments found, 2 to 10000 expected"),
    ],
)
def test_wrong_sizes(fake_sys: FakeSys, sizes: dict[str, int], text: str) -> None:
    with pytest.raises(RecordError, match=text):
        Recorder(str(fake_sys.root / "l"), load(str(fake_sys.policy)), **sizes)


def test_a_program_too_large_for_a_segment(fake_sys: FakeSys) -> None:
    plan = load(str(fake_sys.policy)) | {"description": "x" * LEAST}
    with pytest.raises(RecordError, match="at most half a segment"):
        Recorder(str(fake_sys.root / "l"), plan, segment_bytes=LEAST)


def test_wrong_calls(fake_sys: FakeSys) -> None:
    plan = load(str(fake_sys.policy))
    recorder = Recorder(str(fake_sys.root / "l"), plan)
    stream = make_stream(recorder, plan)
    with pytest.raises(ValueError, match="stream 7 found"):
        recorder.add(7, seq=1, time_ns=1, seconds=0.0, row=[1, 2])
    with pytest.raises(ValueError, match="a row of 1 found"):
        recorder.add(stream, seq=1, time_ns=1, seconds=0.0, row=[1])
    with pytest.raises(ValueError, match="2 inputs, 3 outputs found"):
        recorder.add(
            stream, seq=1, time_ns=1, seconds=0.0, row=[1, 2], inputs=b"12",
            outputs=b"123",
        )  # fmt: skip
    with pytest.raises(IndexError, match="stream 9 found"):
        recorder.end_stream(9)
    assert recorder.add_effect(9, 1, 0.0) < 0
    with pytest.raises(RecordError, match="version 0 found"):
        recorder.program(0, Program(plan["program"]))
    other = Program(load("readahead")["program"])
    with pytest.raises(RecordError, match="8 inputs and 5 outputs"):
        recorder.program(2, other)
    recorder.close()
    recorder.close()
    recorder.tick()
    assert recorder.closed


def test_recording_allocates_nothing(fake_sys: FakeSys) -> None:
    setup = f"""
from pymlk.loop import Loop
from pymlk.policy import load
from pymlk.record import Recorder
plan = load({str(fake_sys.policy)!r})
recorder = Recorder({str(fake_sys.root / "log")!r}, plan, sync_s=0.01)
loop = Loop(plan, root={str(fake_sys.root)!r})
loop.record(recorder)
def step():
    loop.step()
    recorder.tick()
"""
    assert count_mallocs(setup, "step()", 2000) == 0


# ------------------------------------------------------------------ what goes wrong


def test_a_file_size_limit(fake_sys: FakeSys) -> None:
    """A write that is cut short leaves no half record; a new file goes on."""
    code = f"""
import resource, sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from pathlib import Path
from helpers.fakesys import FakeSys
from helpers.recording import Recording, replay
fake = FakeSys(Path({str(fake_sys.root.parent / "b")!r}))
fake.add("vda")
run = Recording(fake, segments=100)
run.step(5)
size = run.segments()[0].stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, resource.RLIM_INFINITY))
run.step(40)
assert len(run.segments()) > 3
assert 3 < run.recorder.missed < 20, run.recorder.missed
assert all(file.stat().st_size <= size + 100 for file in run.segments())
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
run.step(5)
assert run.recorder.error is None
run.close()
found, log = replay(run.log)
assert log.damages == [], log.damages
assert [r.difference for r in found] == [None] * len(found)
assert (len(found), log.missed) == (50 - log.missed, run.recorder.missed)
"""
    check(code)


def check(code: str, *command: str) -> None:
    done = subprocess.run(
        [*command, sys.executable, "-P", "-c", textwrap.dedent(code)],
        text=True,
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


MOUNTED = """
import os, subprocess, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from helpers.fakesys import FakeSys
from helpers.recording import Recording, assert_same, replay
folder = Path({folder!r})
log = folder / "log"
log.mkdir(parents=True)
def mount(*options):
    subprocess.run(["mount", *options, str(log)], check=True)
fake = FakeSys(folder)
fake.add("vda")
"""


def in_namespace(fake: FakeSys, code: str) -> None:
    """Run with mounts of its own."""
    unshare = ["unshare", "--mount", "--user", "--map-root-user"]
    able = subprocess.run([*unshare, "true"], capture_output=True)
    need(able.returncode == 0, "unshare makes no mount namespace")
    head = MOUNTED.format(
        tests=str(Path(__file__).parents[1]), folder=str(fake.root.parent / "own")
    )
    check(head + textwrap.dedent(code), *unshare)


def test_a_full_disk(fake_sys: FakeSys) -> None:
    in_namespace(
        fake_sys,
        """
        mount("-t", "tmpfs", "-o", "size=128k", "none")
        run = Recording(fake, segment_bytes=16 << 10, segments=4, retry_s=0.0)
        run.step(20)
        try:
            with open(log / "filler", "wb", buffering=0) as file:
                while file.write(bytes(4096)):
                    pass
        except OSError:
            pass
        before = len(run.decisions)
        run.step(500)
        assert len(run.decisions) == before + 500
        assert "No space left on device" in run.recorder.error, run.recorder.error
        assert run.recorder.missed > 0
        found, log_ = replay(log)
        assert log_.damages == [] and log_.differences == 0, log_.damages
        # what was there is not given up for what has no room anyway
        assert found[0].decision.seq == 1
        os.unlink(log / "filler")
        run.recorder.tick()
        assert run.recorder.error is None
        kept = len(run.decisions)
        run.step(30)
        run.close()
        found, log_ = replay(log)
        assert log_.damages == [] and log_.differences == 0
        assert_same(found[-30:], run.decisions[kept:])
        """,
    )


def test_a_read_only_folder(fake_sys: FakeSys) -> None:
    in_namespace(
        fake_sys,
        """
        mount("-t", "tmpfs", "-o", "ro", "none")
        run = Recording(fake, retry_s=0.0)
        assert "Read-only file system" in run.recorder.error, run.recorder.error
        run.step(10)
        assert run.recorder.missed == 10
        mount("-o", "remount,rw")
        run.recorder.tick()
        assert run.recorder.error is None
        run.step(10)
        run.close()
        found, log_ = replay(log)
        assert_same(found, run.decisions[10:])
        assert log_.missed == 10
        """,
    )


def test_a_folder_that_cannot_be_made(fake_sys: FakeSys) -> None:
    (fake_sys.root.parent / "log").write_text("a file")
    run = Recording(fake_sys)
    run.step(3)
    assert "File exists" in (run.recorder.error or "")
    assert run.recorder.missed == 3
    run.close()


def test_what_a_crash_left_is_no_segment(fake_sys: FakeSys) -> None:
    log = fake_sys.root.parent / "log"
    log.mkdir()
    (log / "segment.new").write_bytes(b"half a head")
    (log / "decisions-00000009.mlkr").write_bytes(b"")
    run = Recording(fake_sys)
    run.step(3)
    run.close()
    assert sorted(os.listdir(log)) == [
        "decisions-00000009.mlkr",
        "decisions-00000010.mlkr",
    ]
    found, replayed = replay(log)
    assert_same(found, run.decisions)
    assert "shorter than a segment's header" in str(replayed.damages[0])


# ------------------------------------------------------------------ kernel models


@pytest.mark.parametrize("mode", ["shadow", "recommendation"])
def test_a_kernel_model_is_recorded_too(fake_sys: FakeSys, mode: str) -> None:
    fake_sys.write_policy(PROXY_POLICY)
    plan = load(str(fake_sys.policy))
    log = fake_sys.root / "log"
    with Emulator(fake_sys.root / "kernel") as kernel:
        features = [Feature("other"), *map(Feature, plan["fields"].values())]
        knob = Knob(plan["knob"]["path"], "", 8, 128, 8, 32)
        model = kernel.register("test", "one", features, [knob])
        for word in ("init", "start", "run"):
            model.control(word)
        loop = ProxyLoop(plan, root=kernel.root, mode=mode)
        recorder = Recorder(str(log), plan, mode=mode)
        loop.record(recorder)
        decisions = []
        total = 1000
        for i, reads in enumerate([0, 100, 180, 180, 20, 105, 62, 20]):
            total += reads
            model.push([-5 * i, total])
            end = time.monotonic() + 10
            while not loop.step():
                assert time.monotonic() < end
                time.sleep(0.002)
            decisions.append(loop.decision(0))
        loop.close()
        recorder.close()
    found, replayed = replay(log)
    assert replayed.differences == 0, [r.difference for r in found]
    assert_same(found, decisions)
    assert {"applied", "would-apply"} & {d.reason for d in decisions}
    assert [r.mode for r in found] == [mode] * len(found)
    # only the policy's own fields
    assert {len(r.decision.row) for r in found} == {len(plan["fields"])}
