# SPDX-License-Identifier: MIT
"""One run of the table: a workload on a slow disk, and who decides meanwhile."""

import json
import math
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pymlk.openfiles import refresh

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "models/readahead"
sys.path.insert(0, str(MODEL))

from slowdisk import SlowDisk  # noqa: E402

DEFAULT = 128
SECONDS = 5
# TuneD's profile throughput-performance sets 4096; its others leave the default.
FIXED = (8, 32, 128, 512, 2048, 4096)
CHOICES = (8, 32, 128, 512, 2048)
PHASES = ("rand", "seq", "run16", "rev", "mix80")
LONG = 3  # so often does the long one go through the phases
STEADY = ("sequential", "reverse", "random", "seek+next", "mixed")
INTERVAL_S = 0.2
PYMLK = [sys.executable, "-P", "-m", "pymlk"]
FIRST = ["nice", "-n", "-15"]


@dataclass(frozen=True)
class Run:
    """A cell of the table with a seed."""

    profile: str
    workload: str
    who: str  # a fixed value, or who decides
    seed: int

    @property
    def key(self) -> str:
        """Name it in the results."""
        return f"{self.profile}/{self.workload}/{self.who}/{self.seed}"


@dataclass
class Result:
    """What came of it: operations per second, more is better."""

    score: float
    phases: list[float]
    seen: list[int]  # values of the knob, each time that it was another
    cpu: float | None = None  # share of a processor that pymlk took


def phases_of(run: Run) -> list[str]:
    """The patterns of a changing workload, in an order of the seed's own."""
    turn = run.seed % len(PHASES)
    once = [*PHASES[turn:], *PHASES[:turn]]
    return once * LONG if run.workload == "long" else once


def command(disk: SlowDisk, run: Run, report: Path) -> list[str]:
    """What to execute."""
    tool = [str(MODEL / "slowdisk.py"), str(disk.work)]
    if run.workload in ("changing", "long"):
        patterns = ",".join(phases_of(run))
        words = [f"{disk.work}/reader", f"{disk.mount}/file", patterns]
        return [*tool, "exec", *words, str(SECONDS), str(run.seed), "mmap"]
    if run.workload in ("sequential", "mixed"):
        kind = ["--rw=read"]
        if run.workload == "mixed":
            # a quarter jumps, the rest goes on behind the page before
            kind = ["--rw=randread", "--percentage_random=25", "--norandommap"]
        fio = ["fio", "--name=x", f"--filename={disk.mount}/file", "--readonly", *kind]
        fio += ["--ioengine=mmap", "--bs=4k", "--time_based", "--thread"]
        fio += [f"--runtime={SECONDS}", f"--randseed={run.seed}", "--fadvise_hint=0"]
        return [*tool, "exec", *fio, "--invalidate=0", "--output-format=json"]
    if run.workload == "reverse":
        # knows no time limit: ended when the report has as many seconds
        more = ["--benchmarks=readreverse", f"--report_file={report}"]
        return [*tool, "db", *more, "--report_interval_seconds=1"]
    name = {"random": "readrandom", "seek+next": "seekrandom"}[run.workload]
    more = [f"--benchmarks={name}", f"--duration={SECONDS}", f"--seed={run.seed}"]
    return [*tool, "db", *more]


def reported(report: Path) -> list[float]:
    """Operations in each whole second, as db_bench reported them so far."""
    if not report.exists():
        return []
    lines = report.read_text().split("\n")[1:-1]
    return [float(line.split(",")[1]) for line in lines]


def score_of(run: Run, text: str, report: Path) -> tuple[float, list[float]]:
    """Operations per second, and those of each phase."""
    if run.workload in ("changing", "long"):
        found = [float(line.split()[1]) for line in text.splitlines()]
        if len(found) != len(phases_of(run)):
            raise ValueError(f"{len(found)} phases found in {text!r}")
        # each phase counts the same, whatever its number of pages
        return math.exp(sum(map(math.log, found)) / len(found)), found
    if run.workload == "reverse":
        found = reported(report)[:SECONDS]
        # a fast scan comes to the end of the database before
        if len(found) < SECONDS - 2:
            raise ValueError(f"{len(found)} seconds found in {report}")
        return sum(found) / len(found), []
    if run.workload in ("sequential", "mixed"):
        jobs = json.loads(text[text.index("{") :])["jobs"]
        return float(jobs[0]["read"]["iops"]), []
    match = re.search(r"micros/op +(\d+) ops/sec", text)
    if not match:
        raise ValueError(f"no ops/sec found in {text[-200:]!r}")
    return float(match[1]), []


class Nobody:
    """The knob stays as it is."""

    def look(self) -> None:
        """Called every INTERVAL_S."""

    def phase(self, number: int) -> None:
        """Called when a phase of the changing workload starts."""

    def end(self) -> float | None:
        """The share of a processor that it took, where that is measured."""
        return None


class Hand(Nobody):
    """Changes the knob as pymlk does: open files take the new value."""

    def __init__(self, disk: SlowDisk) -> None:
        self.disk, self.now = disk, int(disk.knob.read_text())

    def set(self, value: int) -> None:
        """Write the value if it is another."""
        if value != self.now:
            self.disk.knob.write_text(str(value))
            refresh(str(self.disk.knob))
            self.now = value


class Oracle(Hand):
    """Knows the best fixed value of each phase, and when it starts."""

    def __init__(self, disk: SlowDisk, best: list[int]) -> None:
        super().__init__(disk)
        self._best = best
        self.set(best[0])

    def phase(self, number: int) -> None:
        """Set the phase's value at its start."""
        self.set(self._best[number])


class Rule(Hand):
    """Few lines: double where reads follow each other, halve where they do not.

    Four times and a quarter, as the values are. Reads follow each other where programs
    rarely wait for a page that nobody had asked for, or where a read got only the part
    of its window that was not there yet (a scan in reverse).
    """

    def __init__(self, disk: SlowDisk) -> None:
        super().__init__(disk)
        self._before = self._read()

    def _read(self) -> tuple[int, int, int]:
        stat = (self.disk.sys / "stat").read_text().split()
        text = (self.disk.memory / "memory.stat").read_text()
        faults = re.search(r"^pgmajfault (\d+)", text, re.MULTILINE)
        return int(stat[0]), int(stat[2]), int(faults[1]) if faults else 0

    def look(self) -> None:
        """Decide on what happened since the last look."""
        now = self._read()
        reads, sectors, faults = (a - b for a, b in zip(now, self._before, strict=True))
        self._before = now
        if reads < 10 * INTERVAL_S:
            return
        place = CHOICES.index(self.now)
        follows = faults / reads < 0.25 or sectors / 2 / reads < 0.7 * self.now
        if follows:
            place = min(place + 1, len(CHOICES) - 1)
        elif faults / reads > 0.9:
            place = max(place - 1, 0)
        self.set(CHOICES[place])


class Pymlk(Nobody):
    """`pymlk run`, which sees the slow disk alone."""

    def __init__(self, disk: SlowDisk, policy: Path, words: list[str]) -> None:
        state = disk.work / "state"
        root = ["--root", str(disk.root), "--state-dir", str(state), "--quiet"]
        run = [*PYMLK, "run", str(policy), *root, *words]
        self._disk, self._log = disk, disk.work / "pymlk.log"
        with self._log.open("w") as log:
            self._child = subprocess.Popen([*FIRST, *run], stdout=log, stderr=log)
        time.sleep(1.5)
        self._from = self._used()

    def _used(self) -> tuple[float, float]:
        # nanoseconds; those of stat are hundredths of a second
        text = Path(f"/proc/{self._child.pid}/schedstat").read_text()
        return time.monotonic(), int(text.split()[0]) / 1e9

    def end(self) -> float | None:
        """End it; its share of a processor."""
        if self._child.poll() is not None:
            raise RuntimeError(f"pymlk ended: {self._log.read_text()[-500:]}")
        (begin, before), (end, after) = self._from, self._used()
        self._child.terminate()
        self._child.wait()
        if int(self._disk.knob.read_text()) != DEFAULT:
            raise RuntimeError("pymlk did not put the knob back")
        return (after - before) / (end - begin)


def execute(disk: SlowDisk, run: Run, decider: Callable[[SlowDisk], Nobody]) -> Result:
    """Do one run, from an empty page cache."""
    fixed = int(run.who) if run.who.isdigit() else DEFAULT
    disk.knob.write_text(str(fixed))
    disk.prepare(run.profile)
    report, output = disk.work / "report", disk.work / "output"
    report.unlink(missing_ok=True)
    who = decider(disk)
    with output.open("w") as out:
        child = subprocess.Popen(
            [*FIRST, *command(disk, run, report)],
            stdout=out,
            stderr=subprocess.DEVNULL,
            cwd=MODEL,
        )
    seen, phase, begin = [fixed], 0, time.monotonic()
    try:
        due, looked = begin, begin
        while child.poll() is None:
            due += 0.02
            time.sleep(max(0.0, due - time.monotonic()))
            if time.monotonic() - begin > 60 + SECONDS * len(PHASES) * LONG:
                raise RuntimeError(f"{run.key}: still running")
            value = int(disk.knob.read_text())
            if value != seen[-1]:
                seen.append(value)
            if run.who == "oracle":
                ended = output.read_text().count("\n")
                if ended != phase and ended < len(PHASES):
                    phase = ended
                    who.phase(phase)
            elif run.workload == "reverse" and len(reported(report)) >= SECONDS:
                child.kill()
            if time.monotonic() - looked >= INTERVAL_S:
                looked += INTERVAL_S
                who.look()
    finally:
        if child.poll() is None:
            child.kill()
        child.wait()
        cpu = who.end()
        disk.knob.write_text(str(DEFAULT))
    score, phases = score_of(run, output.read_text(), report)
    return Result(score, phases, seen, cpu)
