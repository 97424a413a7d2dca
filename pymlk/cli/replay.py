# SPDX-License-Identifier: MIT
"""``pymlk replay``: is a log what the program computes, and why did it do that?"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from datetime import UTC, datetime

from ..records import ASKED, KNOB_KNOWN
from ..replay import Replay, Replayed
from . import OK, PARTLY, complain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# differences that are printed; all are counted
_MOST = 20


def log_bytes(path: str) -> int:
    """Size of a log.

    Parameters
    ----------
    path : str
        Its folder, or one segment.

    Returns
    -------
    int
        Bytes.

    Thread safety
    -------------
    Reads the file system only.
    """
    if not os.path.isdir(path):
        return os.path.getsize(path)
    return sum(e.stat().st_size for e in os.scandir(path) if e.name.endswith(".mlkr"))


def progress(path: str) -> Callable[[int], None] | None:
    """What tells a person how far a long work is; nothing for a machine.

    Parameters
    ----------
    path : str
        The log.

    Returns
    -------
    callable or None
        Takes the bytes that are done.

    Thread safety
    -------------
    As of `print`.
    """
    if not sys.stderr.isatty():
        return None
    total, start = log_bytes(path), time.monotonic()

    def show(done: int) -> None:
        if time.monotonic() - start > 1:
            end = "\n" if done >= total else ""
            print(f"\r{done / max(total, 1):4.0%} read", end=end, file=sys.stderr)

    return show


def wall_time(ns: int) -> str:
    """Say a CLOCK_REALTIME in UTC.

    Parameters
    ----------
    ns : int
        Nanoseconds since 1970.

    Returns
    -------
    str
        ISO 8601 with microseconds; the bare number where no calendar has it.

    Thread safety
    -------------
    Pure function.
    """
    try:
        at = datetime.fromtimestamp(ns / 1e9, UTC)
    except (ValueError, OverflowError, OSError):
        return str(ns)
    return at.isoformat(timespec="microseconds")


def to_dict(r: Replayed) -> dict[str, Any]:
    """One decision for JSON and CSV.

    Parameters
    ----------
    r : Replayed
        From a replay.

    Returns
    -------
    dict
        Plain values.

    Thread safety
    -------------
    Reads only.
    """
    d = r.decision
    known = bool(d.flags & KNOB_KNOWN)
    return {
        "time": wall_time(r.wall_ns),
        "monotonic_ns": d.time_ns,
        "device": r.device,
        "seq": d.seq,
        "mode": r.mode,
        "recommended": r.recommended,
        "current": d.current if known else None,
        "target": d.target if known else None,
        "confidence": r.confidence,
        "reason": d.reason,
        "errno": d.error,
        "latency_ns": d.latency_ns,
        "program_version": d.version if d.flags & ASKED else None,
        "effect": r.effect,
    }


def _where(r: Replayed) -> str:
    return f"{r.file}: byte {r.decision.offset}: decision {r.decision.seq}@{r.device}"


def _print_why(r: Replayed, unit: str) -> None:
    why, d = r.why or {}, to_dict(r)
    print(f"\ndecision {d['seq']}@{d['device']}, {d['time']}, mode {d['mode']}")
    print("  fields of the snapshot")
    for name, field in why["fields"].items():
        value = field["value"] if field["valid"] else "not read"
        change = "" if field["change"] is None else f"   change {field['change']:+g}"
        print(f"    {name:24} {value!s:>20}{change}   {field['from']}")
    print("  features: value, standardised, model's input")
    for feature in why["features"]:
        if feature["value"] is None:
            print(f"    {feature['name']:32} not computed")
            continue
        print(
            f"    {feature['name']:32} {feature['value']:12.6g} "
            f"{feature['standardised']:9.4f} "
            f"{'-' if feature['input'] is None else feature['input']:>5}"
        )
    if "outputs" in why:
        program = why["program"]
        print(
            f"  outputs of program version {program['version']} "
            f"(source CRC {program['source_crc']})"
        )
        for output in why["outputs"]:
            mark = "  <- recommended" if output["value"] == r.recommended else ""
            print(
                f"    {output['value']:>12}{unit} {output['output']:>5} "
                f"confidence {output['confidence']:.4f}{mark}"
            )
    if "influence" in why:
        print(
            "  influence: what the recommendation's confidence loses with that feature "
            "at its training mean\n    (the model alone, one at a time: a hint, not a "
            "cause)"
        )
        ordered = sorted(why["influence"].items(), key=lambda item: -abs(item[1]))
        for name, loss in ordered:
            print(f"    {name:32} {loss:+.4f}")
    print("  steps")
    for step in why["steps"]:
        mark = "passed " if step["passed"] else "DECIDED"
        print(f"    {mark} {step['name']:14} {step['text']}")
    print(f"  verdict: {d['reason']}, {d['current']} -> {d['target']}{unit}")
    if d["errno"]:
        print(f"  the system said: {os.strerror(d['errno'])}")
    effect = "not known" if d["effect"] is None else f"{d['effect']:g}"
    print(f"  effect until the next snapshot: {effect}")
    if r.difference is not None:
        print(f"  DIFFERS on replay: {_difference(r)}")


def _difference(r: Replayed) -> str:
    if r.difference is None:
        return "nothing"
    stage, recorded, replayed = r.difference
    return f"{stage}: {recorded} recorded, {replayed} replayed"


def _parse_why(text: str) -> tuple[int, str | None]:
    seq, _, device = text.partition("@")
    if not seq.isdecimal():
        raise ValueError(f"--why {text}: SEQ or SEQ@DEVICE expected, such as 17@vda")
    return int(seq), device or None


def _summary(replay: Replay) -> dict[str, Any]:
    return {
        "log": replay.path,
        "segments": replay.segments,
        "runs": len(replay.runs),
        "devices": replay.devices,
        "decisions": replay.decisions,
        "differences": replay.differences,
        "missed": replay.missed,
        "damages": [damage._asdict() for damage in replay.damages],
        "notices": replay.notices,
        "events": [
            {
                "time_ns": e.time_ns,
                "event": e.event,
                "text": e.text,
                "device": e.device,
            }
            for e in replay.events
        ],
    }


def _explainer(why: str | None) -> Callable[[str, int], bool] | None:
    if why is None:
        return None
    wanted, only = _parse_why(why)
    return lambda device, seq: seq == wanted and only in (None, device)


def main(options: argparse.Namespace) -> int:
    """Replay a log."""
    explain = _explainer(options.why)
    replay = Replay(options.log, progress=progress(options.log), explain=explain)
    explained = shown = 0
    for r in replay:
        if r.why is not None:
            explained += 1
            if options.json:
                said = {"difference": r.difference and r.difference._asdict()}
                print(json.dumps({"why": to_dict(r) | r.why | said}))
            else:
                _print_why(r, f" {r.plan.knob.unit}" if r.plan.knob.unit else "")
        if r.difference is not None and shown < _MOST:
            shown += 1
            if options.json:
                said = to_dict(r) | {"difference": r.difference._asdict()}
                print(json.dumps({"different": said | {"file": r.file}}))
            elif r.why is None:
                complain(f"{_where(r)}: {_difference(r)}")
    for line in (*map(str, replay.damages), *replay.notices):
        if not options.json:
            complain(line)
    if options.json:
        print(json.dumps({"summary": _summary(replay)}))
    else:
        _print_summary(replay)
    if options.why is not None and not explained:
        complain(f"--why {options.why}: {replay.path} has no such decision")
        return PARTLY
    bad = replay.differences or any(not damage.torn for damage in replay.damages)
    return PARTLY if bad else OK


def _print_summary(replay: Replay) -> None:
    devices = ", ".join(replay.devices) or "none"
    print(
        f"{replay.path}: {replay.segments} segments, {len(replay.runs)} runs, "
        f"{replay.decisions} decisions; devices: {devices}"
    )
    if replay.differences:
        print(f"{replay.differences} differ")
    elif replay.decisions:
        print("every decision is the same when computed again")
