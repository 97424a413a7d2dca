# SPDX-License-Identifier: MIT
"""``pymlk collect``: record runs for training, and say what a dataset has."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

from .. import isolate
from ..collect import Collector, Outcome
from ..dataset import Dataset
from ..errors import PolicyError
from ..jobs import (
    Cell,
    Work,
    check_score,
    environment,
    filled,
    load_jobs,
    shuffled,
    sweep_values,
)
from ..journal import restore_all
from . import INTERRUPTED, OK, PARTLY, USAGE, complain

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SLOWEST = 10.0
_FASTEST = 1000.0


def _load(name: str) -> dict[str, Any]:
    from .. import policy

    return policy.load(name, model=False)


def _work(options: argparse.Namespace, plan: dict[str, Any]) -> Work:
    """The cells that the command line or a jobs file asks for."""
    if options.jobs:
        return load_jobs(options.jobs, plan["knob"])
    check_score("--score", options.score, options.score_json)
    command = options.command or None
    first = os.path.basename(command[0]) if command else "recording"
    cell = Cell(
        workload=options.workload or options.label or first,
        group=options.group,
        label=options.label,
        seed=options.seed,
        tags=dict(options.tag),
        command=command,
        seconds=options.seconds,
        stop=not any("{seconds}" in word for word in command or ()),
        score=options.score,
        score_json=options.score_json,
    )
    if not cell.stop and options.seconds is not None:
        cell.timeout = 4 * options.seconds + 10
    cells = [cell]
    if options.sweep:
        values = sweep_values(plan["knob"], options.values)
        swept = [Cell(**_facts(cell) | {"value": value}) for value in values]
        cells = shuffled(swept, options.seeds)
    return Work(cells, None, options.settle, [], [])


def _facts(cell: Cell) -> dict[str, Any]:
    return {name: getattr(cell, name) for name in cell.__struct_fields__}


def _wrong(options: argparse.Namespace) -> str:
    """What does not go together."""
    if not options.policy or not options.output:
        return "name a POLICY and a file (-o), or a dataset (--info)"
    if options.jobs and (options.command or options.sweep or options.label):
        return "--jobs: has workloads, labels and sweeps in its file"
    if options.sweep and not options.command and options.seconds is None:
        return "--sweep: needs a workload (-- COMMAND) or --seconds"
    if options.values and not options.sweep:
        return "--values: means nothing without --sweep"
    return ""


class _Progress:
    """A line on a terminal that says how far it is; nothing for a machine."""

    def __init__(self) -> None:
        self._on = sys.stderr.isatty()
        self._shown = 0
        self._last = 0.0
        self.what = ""

    def __call__(self, seconds: float, rows: int, missed: int) -> None:
        now = time.monotonic()
        if self._on and now - self._last > 0.2:
            self._last = now
            text = f"{self.what}{seconds:.0f} s  {rows} rows  {missed} missed"
            self._put(text)

    def _put(self, text: str) -> None:
        end = " " * max(0, self._shown - len(text))
        print(f"\r{text}{end}", end="", file=sys.stderr, flush=True)
        self._shown = len(text)

    def clear(self) -> None:
        """Before anything else is printed."""
        if self._shown:
            self._put("")
            print("\r", end="", file=sys.stderr, flush=True)
            self._shown = 0


def _minutes(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _show(number: float | None) -> str:
    if number is None:
        return "-"
    return f"{number:.0f}" if abs(number) >= 1000 else f"{number:.4g}"


def _line(outcome: Outcome) -> str:
    """One run for people."""
    cell = outcome.cell
    words = [cell.workload]
    words += [cell.group] if cell.group else []
    words += [f"value {cell.value}"] if cell.value is not None else []
    words += [f"seed {cell.seed}"] if cell.seed else []
    words += [f"({outcome.device})"] if outcome.device else []
    words += [f"{outcome.seconds:.1f} s", f"{outcome.rows} rows"]
    if outcome.missed:
        words.append(f"{outcome.missed} missed")
    words.append(f"score {_show(outcome.score)}")
    return "  ".join(words)


def _to_dict(outcome: Outcome) -> dict[str, Any]:
    cell = outcome.cell
    return {
        "workload": cell.workload, "group": cell.group, "label": cell.label,
        "device": outcome.device, "knob": cell.value, "seed": cell.seed,
        "score": outcome.score, "seconds": round(outcome.seconds, 3),
        "rows": outcome.rows, "missed": outcome.missed, "fault": outcome.fault,
    }  # fmt: skip


class _Run:
    """All cells, one after the other."""

    def __init__(
        self, options: argparse.Namespace, plan: dict[str, Any], work: Work
    ) -> None:
        self._options, self._work = options, work
        self._progress = _Progress()
        self._collector = Collector(
            plan,
            options.output,
            rate=options.rate or _default_rate(plan),
            root=options.root,
            devices=options.device or ([work.device] if work.device else []),
            settle=work.settle,
            append=options.append or options.sweep or options.jobs is not None,
            state_dir=options.state_dir,
        )
        self._collector.progress = self._progress
        self.caught = 0
        self.recorded = self.bad = 0
        self.left: list[str] = []
        many = options.sweep or options.jobs
        self.cells = [
            cell for cell in work.cells if not many or not self._collector.is_done(cell)
        ]
        self.skipped = len(work.cells) - len(self.cells)

    def catch(self) -> None:
        """From here on these signals end what runs, and nothing else."""

        def stop(number: int, _frame: object) -> None:
            self.caught = self.caught or number
            self._collector.stopped = True

        for number in _STOPPING:
            signal.signal(number, stop)

    def estimate(self) -> float:
        """Seconds that all of it takes, without what comes before each run."""
        return sum(cell.seconds or 0.0 for cell in self.cells)

    def go(self) -> None:
        """Record all of them, and put back what was changed."""
        try:
            if self._call("setup", self._work.setup):
                self._record_all()
        finally:
            self._progress.clear()
            try:
                self.left = self._collector.close()
            finally:
                # also after a failed set-up: part of it may be there
                self._call("teardown", self._work.teardown)
            for line in self.left:
                complain(line)

    def _call(self, what: str, command: list[str]) -> bool:
        """Run a command of the jobs file that belongs to no run."""
        if not command:
            return True
        cell = Cell(workload=what)
        device = (self._options.device or [self._work.device or ""])[0]
        said, env = environment(cell, device, os.environ)
        # its own session: Ctrl-C is for us, and it must come to its end
        code = subprocess.run(
            filled(command, said),
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            start_new_session=True,
            check=False,
        ).returncode
        if code:
            complain(f"{what}: exit status {code}")
            self.bad += 1
        return code == 0

    def _record_all(self) -> None:
        start = time.monotonic()
        for done, cell in enumerate(self.cells):
            if self._collector.stopped:
                return
            self._progress.what = self._place(done, start)
            outcomes = self._collector.record(cell)
            self._progress.clear()
            self.recorded += 1
            for outcome in outcomes:
                self._tell(done, outcome)

    def _place(self, done: int, start: float) -> str:
        if len(self.cells) == 1:
            return ""
        left = self.estimate()
        if done:
            left = (time.monotonic() - start) / done * (len(self.cells) - done)
        return f"[{done + 1}/{len(self.cells)}] {_minutes(left)} left  "

    def _tell(self, done: int, outcome: Outcome) -> None:
        if self._options.json:
            print(json.dumps({"run": _to_dict(outcome)}), flush=True)
        else:
            many = f"[{done + 1}/{len(self.cells)}] " if len(self.cells) > 1 else ""
            print(f"{many}{_line(outcome)}", flush=True)
        if outcome.fault and not (self.caught and outcome.fault == "interrupted"):
            complain(f"{outcome.cell.workload}: not a good run: {outcome.fault}")
        self.bad += bool(outcome.fault)


def _default_rate(plan: dict[str, Any]) -> float:
    """As often as the policy decides, ten times a second at least; rings are quick."""
    if plan["proxy"] is not None:
        return _FASTEST
    return float(min(max(1000.0 / plan["interval_ms"], _SLOWEST), _FASTEST))


def _best(path: str) -> list[dict[str, Any]]:
    """What each value was worth for each workload: medians over the seeds."""
    from statistics import median

    scores: dict[tuple[str, str, str], dict[int, list[float]]] = {}
    with Dataset(path) as dataset:
        for run in dataset.runs:
            if run.knob is not None and run.score is not None:
                key = (run.workload, run.group, run.device)
                scores.setdefault(key, {}).setdefault(run.knob, []).append(run.score)
    found = []
    for (workload, group, device), values in sorted(scores.items()):
        medians = {v: median(s) for v, s in sorted(values.items())}
        best = max(medians, key=lambda value: medians[value])
        found.append(
            {"workload": workload, "group": group, "device": device, "best": best}
            | {"scores": medians}
        )
    return found


def _print_best(best: list[dict[str, Any]]) -> None:
    """A row for each workload, a column for each value, a star at the best."""
    values = sorted({value for entry in best for value in entry["scores"]})
    of = ["workload", "group"]
    of += ["device"] if len({entry["device"] for entry in best}) > 1 else []
    names = [" ".join(filter(None, (entry[key] for key in of))) for entry in best]
    width = max(map(len, names), default=0)
    print(f"{'':{width}}" + "".join(f"{value:>12}" for value in values))
    for name, entry in zip(names, best, strict=True):
        cells = []
        for value in values:
            star = "*" if value == entry["best"] else ""
            cells.append(f"{_show(entry['scores'].get(value)) + star:>12}")
        print(f"{name:{width}}" + "".join(cells))


def _end(run: _Run, options: argparse.Namespace) -> None:
    """Print what it has come to."""
    swept = [cell for cell in run.cells if cell.value is not None]
    best = _best(options.output) if swept and os.path.exists(options.output) else []
    facts = {
        "file": options.output, "recorded": run.recorded, "skipped": run.skipped,
        "bad": run.bad,
    }  # fmt: skip
    if options.json:
        print(json.dumps({"summary": facts | {"best": best}}))
    elif best:
        _print_best(best)


def _info(options: argparse.Namespace) -> int:
    """Say what a dataset has."""
    with Dataset(options.info) as dataset:
        runs = [*dataset.runs, *dataset.rejected]
        if options.json:
            facts: dict[str, Any] = {
                "file": options.info, "policy": dataset.plan.get("name"),
                "fields": dict(zip(dataset.fields, dataset.scales, strict=True)),
                "torn": dataset.torn, "damage": dataset.damage,
                "runs": [
                    {name: getattr(run, name) for name in run.__struct_fields__}
                    for run in runs
                ],
            }  # fmt: skip
            print(json.dumps(facts))
        else:
            _print_info(dataset)
        for line in dataset.damage:
            complain(line)
        return PARTLY if dataset.damage or dataset.rejected else OK


def _plain(text: str) -> str:
    """What a file says, without what a terminal would obey."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _print_info(dataset: Dataset) -> None:
    scales = [
        name if scale == 1 else f"{name} (1/{scale})"
        for name, scale in zip(dataset.fields, dataset.scales, strict=True)
    ]
    print(_plain(f"policy {dataset.plan.get('name')}; fields: {' '.join(scales)}"))
    for run in [*dataset.runs, *dataset.rejected]:
        what = "  ".join(filter(None, (run.workload, run.group, run.device)))
        label = f"  label {run.label}" if run.label is not None else ""
        value = f"  value {run.knob}" if run.knob is not None else ""
        fault = f"  REJECTED: {run.fault}" if run.fault else ""
        print(
            _plain(
                f"{run.number:5}  {what}{label}{value}  seed {run.seed}  "
                f"{run.seconds:.1f} s  {run.rows} rows  {run.missed} missed  "
                f"score {_show(run.score)}{fault}"
            )
        )
    rows = sum(run.rows for run in dataset.runs)
    torn = ", torn end" if dataset.torn else ""
    print(
        f"{len(dataset.runs)} good runs, {rows} rows; {len(dataset.rejected)} rejected"
        f"{torn}"
    )


def _say_what_is_to_do(run: _Run, options: argparse.Namespace) -> int:
    if options.json:
        facts = {"to_do": len(run.cells), "skipped": run.skipped}
        print(json.dumps({"summary": facts | {"seconds": run.estimate()}}))
    else:
        print(
            f"{len(run.cells)} runs to do, {run.skipped} are there already; about "
            f"{_minutes(run.estimate())}, besides what comes before each"
        )
    return OK


def main(options: argparse.Namespace) -> int:
    """Record, or show what was recorded."""
    if options.info:
        return _info(options)
    if wrong := _wrong(options):
        complain(f"collect: {wrong}")
        return USAGE
    plan = isolate.call(_load, options.policy)
    work = _work(options, plan)
    if plan["proxy"] is not None and any(c.value is not None for c in work.cells):
        raise PolicyError(
            f"{plan['file']}: proxy: the knob of a model in the kernel cannot be swept "
            "from here: record it with a label, or what will be"
        )
    run = _Run(options, plan, work)
    if options.dry_run or not run.cells:
        return _say_what_is_to_do(run, options)
    done, failed = restore_all(options.state_dir)
    for line in (*done, *failed):
        complain(f"left by an earlier run: {line}")
    run.catch()
    run.go()
    _end(run, options)
    if run.caught == signal.SIGINT:
        return INTERRUPTED
    return PARTLY if run.bad or run.left else OK
