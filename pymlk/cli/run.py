# SPDX-License-Identifier: MIT
"""``pymlk run``: a policy at work, one line per decision and a summary."""

from __future__ import annotations

import argparse
import json
import signal
import time

from .. import isolate
from ..errors import PolicyError
from ..journal import Journal, restore_all
from ..loop import Loop
from ..stream import STAGES
from . import INTERRUPTED, OK, PARTLY, complain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..stream import Decision

# Devices come and go seldom; looking for them opens a directory.
_RESCAN_S = 5.0
_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _load(name: str) -> dict[str, Any]:
    from .. import policy

    return policy.load(name)


def _peak_rss_kib() -> int:
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    return 0


class _Tally:
    """What happened to one device in a run."""

    def __init__(self) -> None:
        self.decisions = 0
        self.reasons: dict[str, int] = {}
        self.changes: dict[tuple[int | None, int | None], int] = {}
        self.objective = 0.0
        self.measured = 0

    def add(self, d: Decision) -> None:
        self.decisions += 1
        self.reasons[d.reason] = self.reasons.get(d.reason, 0) + 1
        if d.reason in ("applied", "would-apply"):
            change = (d.current, d.target)
            self.changes[change] = self.changes.get(change, 0) + 1
        if d.objective is not None:
            self.objective += d.objective
            self.measured += 1

    def to_dict(self) -> dict[str, Any]:
        return {
            "decisions": self.decisions,
            "reasons": self.reasons,
            "changes": [
                {"from": old, "to": new, "times": times}
                for (old, new), times in self.changes.items()
            ],
            "objective_per_s": self.objective / self.measured
            if self.measured
            else None,
        }


class _Report:
    """Everything that a run prints."""

    def __init__(self, plan: dict[str, Any], as_json: bool) -> None:
        self._plan = plan
        self._json = as_json
        self._tallies: dict[str, _Tally] = {}
        self._unit = f" {plan['knob']['unit']}" if plan["knob"]["unit"] else ""
        self._start = time.monotonic()
        self.decisions = 0

    def begin(self, loop: Loop) -> None:
        if self._json:
            return
        what = (
            "knobs are changed and restored at exit"
            if loop.mode == "apply"
            else "nothing is changed"
        )
        print(
            f"policy {self._plan['name']}, mode {loop.mode} ({what}); every "
            f"{self._plan['interval_ms']} ms; devices: {' '.join(loop.devices)}"
        )

    def add(self, d: Decision) -> None:
        self.decisions += 1
        self._tallies.setdefault(d.device, _Tally()).add(d)
        if self._json:
            print(json.dumps({"decision": d.to_dict()}), flush=True)
        else:
            print(self._line(d), flush=True)

    def _line(self, d: Decision) -> str:
        def known(value: int | None) -> str:
            return "-" if value is None else str(value)

        confidence = "-" if d.confidence is None else f"{d.confidence:.2f}"
        features = " ".join(f"{k}={v:.4g}" for k, v in d.features.items())
        return (
            f"{time.monotonic() - self._start:7.2f}s {d.device} {d.mode} "
            f"recommends {known(d.recommended)} now {known(d.current)}{self._unit} "
            f"confidence {confidence} {d.reason} {d.latency_ns / 1000:.1f} us"
            + (f" ({d.reason_text})" if d.errno else "")
            + (f"  {features}" if features else "")
        )

    def notice(self, text: str) -> None:
        if self._json:
            print(json.dumps({"notice": text}), flush=True)
        else:
            complain(text)

    def end(self, loop: Loop) -> None:
        latencies = {
            stage: {
                "count": latency.count,
                "p50_us": latency.percentile(50) / 1000,
                "p99_us": latency.percentile(99) / 1000,
            }
            for stage, latency in zip(STAGES, loop.latencies, strict=True)
        }
        summary = {
            "policy": self._plan["name"],
            "mode": loop.mode,
            "seconds": round(time.monotonic() - self._start, 3),
            "decisions": self.decisions,
            "latency": latencies,
            "peak_rss_kib": _peak_rss_kib(),
            "devices": {name: t.to_dict() for name, t in self._tallies.items()},
        }
        if self._json:
            print(json.dumps({"summary": summary}))
        else:
            self._print_summary(summary)

    def _print_summary(self, s: dict[str, Any]) -> None:
        print(f"\n{s['decisions']} decisions in {s['seconds']:.1f} s, mode {s['mode']}")
        for stage, t in s["latency"].items():
            print(
                f"  {stage:10} p50 {t['p50_us']:8.2f} us   p99 {t['p99_us']:8.2f} us"
                f"   ({t['count']} times)"
            )
        print(f"  peak RSS   {s['peak_rss_kib']} KiB")
        verb = "changed" if s["mode"] == "apply" else "would have changed"
        for name, device in s["devices"].items():
            reasons = ", ".join(f"{k} {v}" for k, v in device["reasons"].items())
            print(f"  {name}: {reasons}")
            for change in device["changes"]:
                print(
                    f"    {verb} {change['from']} -> {change['to']}{self._unit}, "
                    f"{change['times']} times"
                )
            if device["objective_per_s"] is not None:
                print(
                    f"    {self._plan['objective']}: {device['objective_per_s']:.0f} "
                    "per second on average"
                )


class _Ticks:
    """Points in time, one interval apart; late ones are left out, not made up for."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._next = time.monotonic()

    def wait(self) -> int:
        """Sleep until the next point; a signal's number if one ended the sleep."""
        now = time.monotonic()
        self._next = max(self._next + self._interval, now)
        caught = signal.sigtimedwait(_STOPPING, max(0.0, self._next - now))
        return caught.si_signo if caught else 0


def _steps(
    loop: Loop, interval: float, report: _Report, options: argparse.Namespace
) -> int:
    """Decide until it is time to stop; the number of the signal that said so, or 0."""
    ticks = _Ticks(interval)
    end = time.monotonic() + options.seconds if options.seconds else None
    rescan = time.monotonic() + _RESCAN_S
    while True:
        for i in range(loop.step()):
            report.add(loop.decision(i))
            if options.decisions and report.decisions >= options.decisions:
                return 0
        now = time.monotonic()
        if end is not None and now + interval > end:
            return 0
        if now > rescan:
            rescan = now + _RESCAN_S
            if loop.rescan():
                report.notice(f"devices are now: {' '.join(loop.devices)}")
        if caught := ticks.wait():
            return caught


def _open(plan: dict[str, Any], options: argparse.Namespace) -> Loop:
    """The loop; in apply mode with its journal, and with no other run's knobs."""
    if not options.apply:
        return Loop(plan, root=options.root)
    journal = Journal(plan["name"], options.state_dir)
    try:
        loop = Loop(plan, root=options.root, apply=True, journal=journal)
        journal.claim(loop.knobs)
    except BaseException:
        journal.restore()
        raise
    return loop


def main(options: argparse.Namespace) -> int:
    """Run a policy until it is told to stop."""
    plan = isolate.call(_load, options.policy)
    done, failed = restore_all(options.state_dir)
    report = _Report(plan, options.json)
    for line in (*done, *failed):
        report.notice(f"left by an earlier run: {line}")
    # From here on these end the sleep between two snapshots, and nothing else.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    loop = _open(plan, options)
    caught = 0
    left: list[str] = []
    try:
        report.begin(loop)
        caught = _steps(loop, plan["interval_ms"] / 1000, report, options)
    except PolicyError as error:
        report.notice(str(error))
        left.append(str(error))
    finally:
        # first the knobs: printing may fail
        left += loop.close()
        for line in left:
            complain(line)
    report.end(loop)
    if caught == signal.SIGINT:
        return INTERRUPTED
    return PARTLY if left else OK
