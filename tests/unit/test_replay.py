# SPDX-License-Identifier: MIT
"""Replay and export: bit by bit, damage found and named, and the reason told."""

import csv
import json
import os
import random
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
from helpers.fakesys import POLICY, VALUES, FakeSys
from helpers.need import need_module
from helpers.recording import Recording, assert_same, make_segment, replay, split

from pymlk.engine import Model, Program
from pymlk.features import Features
from pymlk.guard import REASON_NAMES, Guard
from pymlk.policy import load
from pymlk.record import HEADER_BYTES, Recorder
from pymlk.records import Decision, Segment

PYMLK = [sys.executable, "-P", "-m", "pymlk"]
DECISION = 4


def pymlk(*args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PYMLK, *map(str, args)], capture_output=True, text=True, timeout=60
    )


@pytest.fixture
def run(fake_sys: FakeSys) -> Recording:
    """A log of 12 decisions."""
    run = Recording(fake_sys)
    run.step(12)
    run.close()
    return run


def decisions(path: Path) -> tuple[list[Decision], Segment]:
    segment = Segment(str(path))
    found = [r for r in segment.records() if isinstance(r, Decision)]
    return found, segment


# ------------------------------------------------------------------ damage


def test_truncated_anywhere_loses_at_most_the_last_record(run: Recording) -> None:
    (file,) = run.segments()
    data = file.read_bytes()
    whole, _ = decisions(file)
    records = split(data)
    ends = [at for at, _, _ in records[1:]] + [len(data)]
    first = next(at for at, kind, _ in records if kind == DECISION)
    for size in range(len(data)):
        file.write_bytes(data[:size])
        found, segment = decisions(file)
        complete = sum(
            kind == DECISION and end <= size
            for (_, kind, _), end in zip(records, ends, strict=True)
        )
        assert found == whole[:complete], size
        torn = size not in (HEADER_BYTES, *ends)
        assert (segment.damage is not None) == torn, size
        if segment.damage is not None and size > first:
            assert segment.damage.torn
            assert segment.damage.offset == max(e for e in ends if e < size)
    file.write_bytes(data)


def test_any_flipped_bit_is_found_and_named(run: Recording) -> None:
    (file,) = run.segments()
    data = file.read_bytes()
    whole, _ = decisions(file)
    records = split(data)
    chance = random.Random(1)
    for place in range(len(data)):
        bad = bytearray(data)
        bad[place] ^= 1 << chance.randrange(8)
        file.write_bytes(bad)
        found, segment = decisions(file)
        assert segment.damage is not None, place
        if place < HEADER_BYTES:
            assert segment.damage.offset in (0, 4)
            continue
        start = max(at for at, _, _ in records if at <= place)
        assert segment.damage.offset == start
        assert found == [d for d in whole if d.offset < start]
        assert segment.damage.torn == (start == records[-1][0])
    file.write_bytes(data)


def test_a_record_is_good_in_its_place_only(run: Recording) -> None:
    """What a disk gives back from somewhere else is not taken for a decision."""
    (file,) = run.segments()
    data = file.read_bytes()
    at = [at for at, kind, _ in split(data) if kind == DECISION]
    whole, _ = decisions(file)
    file.write_bytes(data[: at[5]] + data[at[3] : at[4]] + data[at[5] :])
    found, segment = decisions(file)
    assert found == whole[:5]
    assert segment.damage
    assert segment.damage.offset == at[5]
    again = make_segment([(k, p) for _, k, p in split(data)], number=2)
    file.write_bytes(again[:HEADER_BYTES] + data[HEADER_BYTES:])
    assert decisions(file)[0] == []


def test_zeros_behind_the_end_are_a_torn_end(run: Recording) -> None:
    """What some file systems show after power loss: the size, but not the data."""
    (file,) = run.segments()
    whole, _ = decisions(file)
    with file.open("ab") as out:
        out.write(bytes(200_000))
    found, segment = decisions(file)
    assert found == whole
    assert segment.damage
    assert segment.damage.torn
    done = pymlk("replay", run.log)
    assert (done.returncode, "torn end" in done.stderr) == (0, True)


def test_the_next_segment_goes_on_after_damage(fake_sys: FakeSys) -> None:
    run = Recording(fake_sys, segment_bytes=16 << 10)
    run.step(700)
    run.close()
    first, second, *_ = run.segments()
    data = bytearray(first.read_bytes())
    place = split(bytes(data))[20][0]
    data[place + 3] ^= 4
    first.write_bytes(data)
    found, log = replay(run.log)
    assert [r.difference for r in found] == [None] * len(found)
    assert [d.offset for d in log.damages] == [place]
    assert not log.damages[0].torn
    assert {r.file for r in found} >= {str(first), str(second)}
    done = pymlk("replay", run.log)
    assert done.returncode == 1
    assert f"{first}: byte {place}: damaged: the checksum is wrong" in done.stderr


def test_a_missing_segment_is_said(fake_sys: FakeSys) -> None:
    run = Recording(fake_sys, segment_bytes=16 << 10)
    run.step(1200)
    run.close()
    _, second, third, *_ = run.segments()
    second.unlink()
    found, log = replay(run.log)
    assert [r.difference for r in found] == [None] * len(found)
    assert f"{third}: segments 2 to 2 are not there" in log.notices


# ------------------------------------------------------------------ differences


def rewrite(file: Path, change: Any) -> None:
    """Change payloads; the checksums are right again."""
    records = [(kind, change(kind, p)) for _, kind, p in split(file.read_bytes())]
    file.write_bytes(make_segment(records))


def state(**other: Any) -> Any:
    def change(kind: int, payload: bytes) -> bytes:
        if kind != 3:
            return payload
        said = json.loads(payload)
        for name, value in other.items():
            said["guard" if name in said["guard"] else "?"][name] = value
        return json.dumps(said).encode()

    return change


def plan(**other: Any) -> Any:
    def change(kind: int, payload: bytes) -> bytes:
        if kind != 1:
            return payload
        said = json.loads(payload)
        for path, value in other.items():
            part, name = path.split("__")
            (said["plan"][part][0] if part == "features" else said["plan"][part])[
                name
            ] = value
        return json.dumps(said).encode()

    return change


def last_byte_of_program(kind: int, payload: bytes) -> bytes:
    """Another weight would do; another checksum is refused at once."""
    return payload[:-1] + bytes((payload[-1] ^ 1,)) if kind == 2 else payload


@pytest.mark.parametrize(
    ("change", "stage"),
    [
        (plan(features__mean=90.0), "features"),
        (plan(guard__min_confidence=0.999), "reason"),
        (plan(guard__max_step=2), "target"),
        (plan(guard__settle=3), "reason"),
        (plan(knob__values=[8, 32, 256]), "target"),
        (state(expected=77, started=True), "reason"),
        (state(hands_off=True), "reason"),
    ],
)
def test_a_difference_names_its_stage(
    fake_sys: FakeSys, change: Any, stage: str
) -> None:
    run = Recording(fake_sys)
    run.step(60)
    run.close()
    (file,) = run.segments()
    rewrite(file, change)
    found, log = replay(run.log)
    stages = [r.difference.stage for r in found if r.difference]
    assert log.differences == len(stages) > 0
    assert stage in stages or "asked" in stages
    done = pymlk("replay", run.log)
    assert done.returncode == 1
    assert "recorded," in done.stderr
    assert f"{log.differences} differ" in done.stdout


def test_another_models_outputs_differ(run: Recording, tmp_path: Path) -> None:
    """The outputs are computed, not believed."""
    (file,) = run.segments()
    answers: list[bytes] = [r.decision.outputs for r in replay(run.log)[0]]
    wanted = next(a for a in answers if a)

    def change(kind: int, payload: bytes) -> bytes:
        if kind != DECISION or wanted not in payload:
            return payload
        other = bytes(((wanted[0] + 1) & 0xFF, *wanted[1:]))
        return payload.replace(wanted, other)

    rewrite(file, change)
    found, _ = replay(run.log)
    assert {r.difference.stage for r in found if r.difference} == {"outputs"}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (last_byte_of_program, "program refused"),
        (plan(knob__values=[1, 2]), "2 choices? expected|1 and 2 expected"),
        (plan(features__field="nothing"), "no 'nothing' in it"),
        (plan(knob__values=[9, 8, 7]), "ascending"),
        (plan(features__std=-1.0), "std"),
        (lambda k, p: b"{" * 5000 if k == 1 else p, "damaged"),
    ],
)
def test_what_no_recorder_writes_is_damage(
    run: Recording, change: Any, text: str
) -> None:
    (file,) = run.segments()
    rewrite(file, change)
    found, log = replay(run.log)
    assert (found, len(log.damages)) == ([], 1)
    done = pymlk("replay", run.log)
    assert done.returncode == 1
    assert re.search(text, done.stderr), done.stderr


def test_no_log(tmp_path: Path) -> None:
    done = pymlk("replay", tmp_path)
    assert (done.returncode, "no decisions-NUMBER.mlkr found" in done.stderr) == (3, 1)
    done = pymlk("replay", tmp_path / "nothing")
    assert done.returncode == 4
    (tmp_path / "text").write_text("this is no log at all, but long enough for one")
    done = pymlk("replay", tmp_path / "text")
    assert done.returncode == 1
    assert "b'this' found, b'MLKR' expected" in done.stderr


# ------------------------------------------------------------------ why


def test_why_tells_all(fake_sys: FakeSys) -> None:
    run = Recording(fake_sys)
    run.step(30)
    run.close()
    d = next(d for d in run.decisions if d.reason == "applied")
    done = pymlk("replay", run.log, "--why", f"{d.seq}@vda")
    assert done.returncode == 0, done.stderr
    for part in (
        f"decision {d.seq}@vda",
        "mode apply",
        "{device}/stat[0]",
        "reads_delta",
        "outputs of program version 1",
        "<- recommended",
        "influence",
        "passed  unsure",
        "DECIDED applied",
        f"verdict: applied, {d.current} -> {d.target} KiB",
        "every decision is the same",
    ):
        assert part in done.stdout, part
    done = pymlk("replay", run.log, "--json", "--why", d.seq)
    first, last = map(json.loads, done.stdout.splitlines())
    assert first["why"]["confidence"] == d.confidence
    assert first["why"]["features"][0]["value"] == d.features["reads_delta"]
    assert first["why"]["steps"][-1]["name"] == "applied"
    assert len(first["why"]["outputs"]) == 3
    assert last["summary"]["differences"] == 0


def test_why_of_what_is_not_there(run: Recording) -> None:
    done = pymlk("replay", run.log, "--why", "5@sdz")
    assert (done.returncode, "has no such decision" in done.stderr) == (1, True)
    done = pymlk("replay", run.log, "--why", "five")
    assert (done.returncode, "SEQ or SEQ@DEVICE" in done.stderr) == (3, True)


def test_the_explained_steps_end_with_the_reason(fake_sys: FakeSys) -> None:
    """The walk that is shown and the guard itself never disagree."""
    limits = POLICY.replace("min_interval_s = 0.0", "min_interval_s = 0.01")
    limits = limits.replace("settle = 1", "settle = 2").replace("10000000", "60")
    limits = limits.replace("min_confidence = 0.4", "min_confidence = 0.9")
    idle = 'min_activity = { field = "reads", rate = 1 }\n'
    fake_sys.write_policy(limits + idle)
    run = Recording(fake_sys)
    run.step(300)
    fake_sys.knob("vda").write_text("64\n")
    run.step(3)
    run.close()
    found, _ = replay(run.log, explain=lambda device, seq: True)
    seen = set()
    for r in found:
        assert r.why is not None
        *before, decided = r.why["steps"]
        assert all(step["passed"] for step in before)
        assert (decided["name"], decided["passed"]) == (r.decision.reason, False)
        seen.add(decided["name"])
    assert seen >= {"idle", "unsure", "settling", "same", "hands-off", "warming-up"}


def test_effects(fake_sys: FakeSys) -> None:
    """A score that was recorded counts; else the objective's rate, as in the loop."""
    run = Recording(fake_sys)
    run.step(10)
    run.recorder.add_effect(0, run.decisions[4].seq, -3.25)
    run.close()
    found, _ = replay(run.log)
    after = [d.objective for d in run.decisions[1:]]
    for i, r in enumerate(found[:-1]):
        assert r.effect == (-3.25 if i == 4 else after[i])
    assert found[-1].effect is None


# ------------------------------------------------------------------ export


def test_export_csv(run: Recording, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    done = pymlk("export", run.log, "-o", out, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"] == 12
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    for row, d in zip(rows, run.decisions, strict=True):
        assert (row["device"], int(row["seq"]), row["reason"]) == (
            "vda",
            d.seq,
            d.reason,
        )
        assert row["mode"] == "apply"
        assert int(row["field.ra"]) == d.current
        if d.confidence is None:
            assert row["confidence"] == row["out.8"] == ""
        else:
            assert float(row["confidence"]) == d.confidence
            assert float(row["feature.reads_delta"]) == d.features["reads_delta"]
            assert -128 <= int(row["in.reads_delta"]) <= 127
    assert not list(tmp_path.glob("*.part"))


def test_export_parquet(run: Recording, tmp_path: Path) -> None:
    parquet = need_module("pyarrow.parquet")
    out = tmp_path / "out.parquet"
    done = pymlk("export", run.log, "-o", out)
    assert done.returncode == 0, done.stderr
    rows = parquet.read_table(out).to_pylist()
    assert [row["seq"] for row in rows] == [d.seq for d in run.decisions]
    assert [row["confidence"] for row in rows] == [d.confidence for d in run.decisions]


def test_export_without_pyarrow(run: Recording, tmp_path: Path) -> None:
    (tmp_path / "pyarrow.py").write_text("raise ImportError('there is none')")
    done = subprocess.run(
        [*PYMLK, "export", str(run.log), "-o", str(tmp_path / "x.parquet")],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 3
    assert "pip install 'pymlk[export]'" in done.stderr
    assert not (tmp_path / "x.parquet").exists()


def test_export_elsewhere(run: Recording, tmp_path: Path) -> None:
    assert pymlk("export", run.log, "-o", tmp_path / "x.json").returncode == 3
    assert pymlk("export", run.log, "-o", "/proc/x.csv").returncode == 4


# ------------------------------------------------------------------ killed

WRITER = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from helpers.fakesys import FakeSys
from helpers.recording import Recording
fake = FakeSys(Path({folder!r}))
fake.add("vda")
run = Recording(fake, apply=False, segment_bytes=16 << 10, segments=200)
while True:
    run.step()
    print(run.recorder.recorded, flush=True)
"""


def test_killed_at_any_moment(tmp_path: Path) -> None:
    """What was recorded before a SIGKILL is all there, segment changes included."""
    chance = random.Random(5)
    for turn in range(6):
        folder = tmp_path / str(turn)
        code = WRITER.format(tests=str(Path(__file__).parents[1]), folder=str(folder))
        writer = subprocess.Popen(
            [sys.executable, "-P", "-c", textwrap.dedent(code)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(chance.uniform(0.0, 0.4))
        writer.send_signal(signal.SIGKILL)
        out, _ = writer.communicate()
        said = [int(line) for line in out.split("\n")[:-1]]
        found, log = replay(folder / "log")
        assert all(damage.torn for damage in log.damages)
        assert log.differences == 0
        assert len(found) >= (said or [1])[-1]
        assert log.notices == []
        # and the next run goes on there
        run_again(folder)
        assert replay(folder / "log")[1].differences == 0


def run_again(folder: Path) -> None:
    fake = FakeSys.__new__(FakeSys)
    fake.root, fake.policy, fake.state = (
        folder / "root",
        folder / "policy",
        folder / "state",
    )
    fake.reads = {"vda": 1000}
    again = Recording(fake, apply=False)
    again.step(5)
    again.close()
    found, log = replay(folder / "log")
    assert len(log.runs) == 2
    assert_same(found[-5:], again.decisions)


class ByHand:
    """A loop in Python: every second a row, and what the guard allows is written."""

    def __init__(self, fake: FakeSys, **limits: Any) -> None:
        plan = load(str(fake.policy))
        plan["guard"] |= limits
        self.log = fake.root / "log"
        self.recorder = Recorder(str(self.log), plan)
        fields = {"reads": (0, 1), "ra": (1, 1)}
        self.features = Features(plan["features"], fields, 0.125, 0)
        self.guard = Guard.of_policy(plan, False)
        self.model = Model(Program(plan["program"]))
        self.stream = self.recorder.add_stream("vda", self.features, self.guard, fields)
        self.before: list[int] | None = None
        self.current = 32
        self.seq = 0

    def set_apply(self, mode: str) -> None:
        """A mode in which the guard may apply."""
        self.guard.set_state(self.guard.get_state() | {"apply": True})
        self.recorder.event("mode", mode)

    def step(self, reads: int, *, refuse: bool = False, hold: bool = False) -> str:
        """Decide; the reason."""
        now = 10**9 * (self.seq + 1)
        row = [(self.before or [1000])[0] + reads, self.current]
        seconds = 1.0 if self.before else 0.0
        state, inputs = self.features.step(row, self.before or row, seconds)
        self.guard.look(self.current)
        told: dict[str, Any] = {"target": self.current}
        reason = "warming-up"
        if state == 0:
            reason, told = self._judge(inputs, now, refuse, hold)
        self.recorder.add(
            self.stream, seq=self.seq, time_ns=now, seconds=seconds, row=row,
            current=self.current, latency_ns=9, reason=REASON_NAMES.index(reason),
            apply=bool(self.guard.get_state()["apply"]), **told,
        )  # fmt: skip
        self.before, self.current = row, told["target"]
        if not self.guard.get_state()["apply"]:
            self.current = 32
        self.seq += 1
        return reason

    def _judge(
        self, inputs: bytes, now: int, refuse: bool, hold: bool
    ) -> tuple[str, dict[str, Any]]:
        self.model.input.cast("B")[:] = inputs
        self.model.invoke()
        outputs = bytes(self.model.output.cast("B"))
        signed = memoryview(outputs).cast("b").tolist()
        choice = signed.index(max(signed))
        quant = self.model.output_quant
        confidence = (signed[choice] - quant.zero_point) * quant.scale
        before = self.guard.get_state()
        reason, wanted = self.guard.check(
            choice, confidence, self.current, now_ns=now + 5, latency_ns=4
        )
        told: dict[str, Any] = {
            "inputs": inputs, "outputs": outputs, "choice": choice,
            "confidence": confidence, "judged_ns": now + 5, "judged_latency_ns": 4,
            "target": wanted,
            "limited": abs(choice - VALUES.index(self.current)) > 1,
        }  # fmt: skip
        if reason == "applied" and (refuse or hold):
            # what the guard allowed is not done, and it never hears of it
            kept = {key: before[key] for key in ("changed_ns", "expected")}
            self.guard.set_state(self.guard.get_state() | kept)
        if hold:
            reason, wanted = "holdout", before["original"]
            told |= {"target": wanted, "held_out": True}
            if wanted == self.current:
                return reason, told
        elif reason == "applied" and refuse:
            return "refused", told | {"target": self.current, "wanted": wanted}
        if reason in ("applied", "holdout"):
            self.guard.note_change(wanted, now + 6)
            told |= {"changed_ns": now + 6}
        return reason, told


def test_a_mode_reaches_the_guard(fake_sys: FakeSys) -> None:
    """Whether a guard may apply is an input of each decision."""
    run = ByHand(fake_sys)
    said = [run.step(180) for _ in range(3)]
    run.set_apply("collaboration")
    said += [run.step(reads) for reads in (180, 20, 20)]
    run.recorder.close()
    found, _ = replay(run.log)
    assert [r.difference for r in found] == [None] * 6
    assert [r.mode for r in found] == ["shadow"] * 3 + ["collaboration"] * 3
    assert [r.decision.reason for r in found] == said
    assert said == ["warming-up", "would-apply", "would-apply", *["applied"] * 3]


def test_what_the_kernel_refused_is_no_change(fake_sys: FakeSys) -> None:
    """A refused recommendation neither limits the rate nor claims the knob."""
    run = ByHand(fake_sys, min_interval_s=100.0)
    run.set_apply("recommendation")
    loads = (100, 180, 180, 180, 20)
    said = [run.step(reads, refuse=i < 3) for i, reads in enumerate(loads)]
    run.recorder.close()
    assert said == ["warming-up", "refused", "refused", "applied", "rate-limit"]
    found, _ = replay(run.log)
    assert [r.difference for r in found] == [None] * 5
    assert [r.decision.wanted for r in found] == [32, 128, 128, 128, 128]


def test_the_defaults_turn(fake_sys: FakeSys) -> None:
    """Whose turn it is is an input; the model's recommendation still counts."""
    run = ByHand(fake_sys)
    run.set_apply("collaboration")
    loads = ((100, False), (180, False), (180, True), (20, True), (20, False))
    said = [run.step(reads, hold=hold) for reads, hold in loads]
    run.recorder.close()
    assert said == ["warming-up", "applied", "holdout", "holdout", "applied"]
    found, _ = replay(run.log, explain=lambda device, seq: True)
    assert [r.difference for r in found] == [None] * 5
    assert [r.decision.target for r in found] == [32, 128, 32, 32, 8]
    assert found[2].why is not None
    assert found[2].why["steps"][-1]["name"] == "holdout"
