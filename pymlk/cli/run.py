# SPDX-License-Identifier: MIT
"""``pymlk run``: policies at work, in one process."""

from __future__ import annotations

import os
import time

from ..errors import PolicyError
from ..journal import Journal, restore_all
from ..plan import SUFFIX, read_plan
from ..serve import INTERRUPTED as CAUGHT
from ..serve import TIME_IS_UP, Server
from ..service import Notifier
from . import INTERRUPTED, OK, PARTLY, USAGE, complain
from .report import Report

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    import signal
    from typing import Any

    from ..serve import Source
else:
    # the module behind `signal`: that one adds enum, and a slow board waits for it
    import _signal as signal

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Sleeps are cut into pieces of this, in seconds, where nobody wants shorter ones.
_LONGEST = 3600.0
# files of a record; the oldest of them goes
_SEGMENTS = 8


def _prepare(names: list[str]) -> list[dict[str, Any]]:
    from ..policy import load

    return [load(name) for name in names]


def _isolated(names: list[str]) -> Any:
    from .. import isolate

    return isolate.call(_prepare, names)


def _load(names: list[str]) -> list[dict[str, Any]]:
    policies = [name for name in names if not name.endswith(SUFFIX)]
    prepared = iter(_isolated(policies) if policies else ())
    plans = [
        read_plan(name) if name.endswith(SUFFIX) else next(prepared) for name in names
    ]
    for i, plan in enumerate(plans):
        for other in plans[:i]:
            if other["name"] == plan["name"]:
                raise PolicyError(
                    f"{plan['file']}: name: {plan['name']!r} is the name of "
                    f"{other['file']}, too"
                )
    return plans


def _record(plan: dict[str, Any], loop: Source, options: argparse.Namespace) -> None:
    """Record its decisions in a folder of its name."""
    from ..record import Recorder

    folder = os.path.join(options.record, plan["name"])
    size = options.record_size * 1024 // _SEGMENTS
    loop.record(
        Recorder(folder, plan, mode=loop.mode, segment_bytes=size, segments=_SEGMENTS)
    )


def _open(plan: dict[str, Any], options: argparse.Namespace) -> Source:
    """The loop; if it may write, with its journal, and with no other run's knobs."""
    wanted = options.mode or "recommendation"
    highest = wanted if options.apply and wanted != "always" else None
    if plan["proxy"] is not None:
        from ..proxy_loop import ProxyLoop

        mode = "recommendation" if options.apply else "shadow"
        return ProxyLoop(
            plan,
            root=options.root,
            mode=mode,
            highest=highest,
            learnt=options.learnt_dir,
        )
    from ..loop import Loop

    if not options.apply:
        return Loop(plan, root=options.root)
    journal = Journal(plan["name"], options.state_dir, plan["knob"]["reach"])
    try:
        loop = Loop(
            plan,
            root=options.root,
            apply=True,
            journal=journal,
            highest=highest,
            learnt=options.learnt_dir,
        )
        journal.claim(loop.knobs)
    except BaseException:
        journal.restore()
        raise
    return loop


class _Run:
    """The loops, what is printed about each, and when it all ends."""

    def __init__(self, options: argparse.Namespace, plans: list[dict[str, Any]]):
        self._options = options
        self._plans = plans
        self._server = Server()
        self._loops: list[Source] = []
        self._reports = [Report(p, options.json, options.quiet) for p in plans]
        self._notifier = Notifier(os.environ)
        self._caught: list[int] = []
        self._decisions = 0
        self._unrecorded: list[str | None] = [None] * len(plans)
        self.left: list[str] = []

    def catch(self) -> None:
        """From here on these signals end a sleep, and nothing else."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
        for number in _STOPPING:
            signal.signal(number, lambda number, _: self._caught.append(number))

    def open(self) -> None:
        """Open all loops."""
        for plan in self._plans:
            loop = _open(plan, self._options)
            # all of them also where they are only counted
            loop.watching = not self._options.quiet or bool(self._options.decisions)
            self._loops.append(loop)
            if self._options.record:
                _record(plan, loop, self._options)
            self._server.add(loop)
        for loop, report in zip(self._loops, self._reports, strict=True):
            report.begin(loop)
        devices = sum(len(loop.devices) for loop in self._loops)
        self._notifier.ready(f"{devices} devices")

    def notice(self, text: str) -> None:
        """Something that concerns all of them."""
        self._reports[0].notice(text)

    def serve(self) -> int:
        """Decide until it is time to stop; the signal that said so, or 0."""
        seconds = self._options.seconds
        end = time.monotonic() + seconds if seconds else None
        while True:
            sleep = self._notifier.interval_s or _LONGEST
            if end is not None:
                sleep = min(sleep, end - time.monotonic())
            place = self._server.run(max(sleep, 0.0))
            self._notifier.alive()
            self._look_at_records()
            if self._caught:
                return self._caught[0]
            if place not in (TIME_IS_UP, CAUGHT) and not self._tell(place):
                return 0
            if end is not None and time.monotonic() >= end:
                return 0

    def _tell(self, place: int) -> bool:
        """See to one loop; False if that was the end."""
        loop, report = self._loops[place], self._reports[place]
        for decision in loop.news():
            report.add(decision)
            self._decisions += 1
            if self._decisions == self._options.decisions:
                return False
        try:
            for text in loop.look():
                report.notice(text)
        except PolicyError as error:
            report.notice(str(error))
            self.left.append(str(error))
            self.left += loop.close()
        return not all(loop.closed for loop in self._loops)

    def _look_at_records(self) -> None:
        """Say once if a recorder stops or goes on."""
        for i, loop in enumerate(self._loops):
            error = loop.recorder.error if loop.recorder is not None else None
            if error != self._unrecorded[i]:
                self._unrecorded[i] = error
                self._reports[i].notice(error or "recording again")

    def close(self) -> None:
        """Put everything back; what could not be is in `left`."""
        self._notifier.stopping()
        # first the knobs: printing may fail
        for loop in self._loops:
            self.left += loop.close()
        for loop in self._loops:
            if loop.recorder is not None:
                loop.recorder.close()
        for line in self.left:
            complain(line)

    def end(self) -> None:
        """Print what came of it."""
        for loop, report in zip(self._loops, self._reports, strict=True):
            report.end(loop)


def main(options: argparse.Namespace) -> int:
    """Run policies until told to stop."""
    if options.mode and not options.apply:
        complain(f"--mode {options.mode}: needs --apply; without it nothing is changed")
        return USAGE
    plans = _load(options.policies)
    done, failed = restore_all(options.state_dir)
    run = _Run(options, plans)
    for line in (*done, *failed):
        run.notice(f"left by an earlier run: {line}")
    run.catch()
    caught = 0
    try:
        run.open()
        caught = run.serve()
    finally:
        run.close()
    run.end()
    if caught == signal.SIGINT:
        return INTERRUPTED
    return PARTLY if run.left else OK
