# SPDX-License-Identifier: MIT
"""What ``pymlk run`` prints: decisions, notices and, at the end, what came of them."""

from __future__ import annotations

import time

from ..quickjson import dumps
from ..service import INFO, NOTICE, Log
from ..stream import STAGES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..serve import Source
    from ..stream import Decision


def _peak_rss_kib() -> int:
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    return 0


def _known(value: int | None) -> str:
    return "-" if value is None else str(value)


def _gain(trial: dict[str, Any]) -> str:
    """What the model was worth, also if that is a loss."""
    counts = trial["scores"]
    scores = (
        f"{counts['model']} scores of the model, {counts['default']} of the default; "
        f"mode {trial['mode']} ({trial['reason']})"
    )
    if trial["gain"] is None:
        return f"gain over the default: not known yet, {scores}"
    return (
        f"gain over the default {trial['gain']:+.1%}, between {trial['low']:+.1%} and "
        f"{trial['high']:+.1%} at {trial['confidence']:.0%} confidence, {scores}"
    )


class Report:
    """Everything that is printed about one policy.

    Parameters
    ----------
    plan : dict
        The policy's.
    as_json : bool
        JSON lines on standard output, also for notices.
    quiet : bool
        Changes go to the log, other decisions nowhere.

    Thread safety
    -------------
    None.
    """

    def __init__(self, plan: dict[str, Any], as_json: bool, quiet: bool) -> None:
        self._plan = plan
        self._json = as_json
        self._quiet = quiet
        self._log = Log(plan["name"])
        self._changes: dict[str, dict[tuple[int | None, int | None], int]] = {}
        self._unit = f" {plan['knob']['unit']}" if plan["knob"]["unit"] else ""
        self._start = time.monotonic()

    def begin(self, source: Source) -> None:
        """Say what runs, and what it may do."""
        if self._json or self._quiet:
            return
        what = (
            "nothing is changed"
            if source.mode in ("shadow", "learning")
            else "knobs are changed and restored at exit"
        )
        print(
            f"policy {self._plan['name']}, mode {source.mode} ({what}); every "
            f"{self._plan['interval_ms']} ms; devices: {' '.join(source.devices)}"
        )

    def add(self, d: Decision) -> None:
        """One decision."""
        if d.reason in ("applied", "would-apply"):
            changes = self._changes.setdefault(d.device, {})
            change = (d.current, d.target)
            changes[change] = changes.get(change, 0) + 1
        if self._json:
            line = {"policy": self._plan["name"], "decision": d.to_dict()}
            print(dumps(line), flush=True)
        elif self._quiet:
            self._log_change(d)
        else:
            print(self._line(d), flush=True)

    def _log_change(self, d: Decision) -> None:
        if d.current == d.target and not d.errno:
            return
        change = f"{_known(d.current)} -> {_known(d.target)}{self._unit}"
        self._log.write(
            INFO,
            f"{d.device}: {change}: {d.reason_text}",
            device=d.device,
            reason=d.reason,
            mode=d.mode,
            seq=d.seq,
            confidence="-" if d.confidence is None else f"{d.confidence:.2f}",
        )

    def _line(self, d: Decision) -> str:
        confidence = "-" if d.confidence is None else f"{d.confidence:.2f}"
        features = " ".join(f"{k}={v:.4g}" for k, v in d.features.items())
        return (
            f"{time.monotonic() - self._start:7.2f}s {d.device} {d.mode} "
            f"recommends {_known(d.recommended)} now {_known(d.current)}{self._unit} "
            f"confidence {confidence} {d.reason} {d.latency_ns / 1000:.1f} us"
            + (f" ({d.reason_text})" if d.errno else "")
            + (f"  {features}" if features else "")
        )

    def notice(self, text: str) -> None:
        """Something that is no decision."""
        if self._json:
            notice = {"policy": self._plan["name"], "notice": text}
            print(dumps(notice), flush=True)
        else:
            self._log.write(NOTICE, text)

    def end(self, source: Source) -> None:
        """What came of it."""
        totals = source.totals()
        for name, device in totals.items():
            device["changes"] = [
                {"from": old, "to": new, "times": times}
                for (old, new), times in self._changes.get(name, {}).items()
            ]
        summary = {
            "policy": self._plan["name"],
            "mode": source.mode,
            "seconds": round(time.monotonic() - self._start, 3),
            "decisions": sum(device["decisions"] for device in totals.values()),
            "latency": {
                stage: {
                    "count": latency.count,
                    "p50_us": latency.percentile(50) / 1000,
                    "p99_us": latency.percentile(99) / 1000,
                }
                for stage, latency in zip(STAGES, source.latencies, strict=True)
            },
            "peak_rss_kib": _peak_rss_kib(),
            "devices": totals,
        }
        if source.recorder is not None:
            summary["recorded"] = source.recorder.recorded
            summary["not_recorded"] = source.recorder.missed
        if self._json:
            print(dumps({"summary": summary}))
        else:
            self._print_summary(summary)

    def _print_summary(self, s: dict[str, Any]) -> None:
        print(
            f"\n{s['policy']}: {s['decisions']} decisions in {s['seconds']:.1f} s, "
            f"mode {s['mode']}"
        )
        for stage, t in s["latency"].items():
            print(
                f"  {stage:10} p50 {t['p50_us']:8.2f} us   p99 {t['p99_us']:8.2f} us"
                f"   ({t['count']} times)"
            )
        print(f"  peak RSS   {s['peak_rss_kib']} KiB")
        if "recorded" in s:
            print(f"  recorded   {s['recorded']}, not recorded {s['not_recorded']}")
        verb = "would have changed" if s["mode"] == "shadow" else "changed"
        for name, device in s["devices"].items():
            reasons = ", ".join(f"{k} {v}" for k, v in device["reasons"].items())
            print(f"  {name}: {reasons}")
            for change in device["changes"]:
                print(
                    f"    {verb} {change['from']} -> {change['to']}{self._unit}, "
                    f"{change['times']} times"
                )
            if device["trial"] is not None:
                print(f"    {_gain(device['trial'])}")
            if device["objective_per_s"] is not None:
                print(
                    f"    {self._plan['objective']}: {device['objective_per_s']:.0f} "
                    "per second on average"
                )
