# SPDX-License-Identifier: MIT
"""Record runs into a dataset: sampler, workload, knob and score of each.

A sampler's thread takes the rows; this one writes them, watches the workload and
sees that whatever it changed is put back.
"""

from __future__ import annotations

import fnmatch
import json
import math
import os
import re
import select
import signal
import subprocess
import threading
import time

from . import rows as _rows
from .attrs import AttrSet, Field
from .dataset import Dataset, Writer
from .devices import find_devices, is_wanted
from .errors import DatasetError, PolicyError
from .jobs import Cell, environment, filled
from .journal import Journal
from .sampler import AttrSampler, Sampler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from .proxy import Proxy

# What a workload prints is kept up to this, to find its score there.
_MOST_OUTPUT = 16 << 20
_LAST_WORDS = 2000
_LOOK_S = 0.05
_SYNC_S = 5.0
# Syncing takes at most one part in so many of the time.
_SYNC_SHARE = 20
# A command that is told to end gets so long.
_GRACE_S = 5.0


class Outcome:
    """What a cell has come to.

    Attributes
    ----------
    cell : Cell
        Which.
    device : str
        Which device's rows.
    score : float or None
        What it was worth.
    seconds : float
        How long it took.
    rows, missed : int
        Snapshots that were taken, and that were missed.
    fault : str
        Why it is no good run; empty if it is.

    Thread safety
    -------------
    A plain value.
    """

    def __init__(self, cell: Cell, device: str) -> None:
        self.cell = cell
        self.device = device
        self.score: float | None = None
        self.seconds = 0.0
        self.rows = self.missed = 0
        self.fault = ""


def find_score(text: str, score: str | None, score_json: str | None) -> float:
    r"""Find the score in what a workload printed.

    Parameters
    ----------
    text : str
        Its output.
    score : str or None
        A regular expression; its first group is the number, of its last match.
    score_json : str or None
        Names and numbers that lead to it in the first JSON object, joined by dots.

    Returns
    -------
    float
        The score.

    Raises
    ------
    ValueError
        If there is none; the text says what was looked for.

    Thread safety
    -------------
    Pure function.

    Examples
    --------
    >>> find_score('note\n{"jobs": [{"iops": 12.5}]}', None, "jobs.0.iops")
    12.5
    >>> find_score("speed: 3 MB/s", r"speed: (\d+)", None)
    3.0
    """
    if score is not None:
        matches = [match[1] for match in re.finditer(score, text)]
        if not matches:
            raise ValueError(f"no score: nothing it printed matches {score!r}")
        return _number(matches[-1], score)
    place: Any = None
    if "{" in text:
        try:
            place, _ = json.JSONDecoder().raw_decode(text, text.index("{"))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"no score: it printed no JSON: {error}") from error
    for name in str(score_json).split("."):
        try:
            place = place[int(name)] if isinstance(place, list) else place[name]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ValueError(f"no score: no {name!r} of {score_json} found") from error
    return _number(place, score_json)


def _number(found: Any, where: str | None) -> float:
    try:
        value = float(found)
    except (TypeError, ValueError):
        raise ValueError(f"no score: {found!r} found at {where}, no number") from None
    if not math.isfinite(value):
        raise ValueError(f"no score: {found!r} found at {where}")
    return value


class _Command:
    """A workload that runs, in a process group of its own."""

    def __init__(self, words: list[str], env: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            words,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._out = self._process.stdout.fileno()
        self._err = self._process.stderr.fileno()
        self._open = [self._out, self._err]
        for fd in self._open:
            os.set_blocking(fd, False)
        self.output = bytearray()
        self._said = bytearray()
        self.too_much = False

    def look(self, seconds: float) -> bool:
        """Read what it prints for at most so long; False when it has ended."""
        ready, _, _ = select.select(self._open, [], [], seconds)
        for fd in ready:
            self._read(fd)
        if not self._open:
            # it may have closed both and go on
            time.sleep(min(seconds, 0.01))
        if self._process.poll() is None:
            return True
        # what it left behind may go on writing
        for fd in tuple(self._open):
            for _ in range(_MOST_OUTPUT >> 16):
                if not self._read(fd):
                    break
        return False

    def _read(self, fd: int) -> bool:
        """Some of it; False if there is no more now."""
        try:
            data = os.read(fd, 1 << 16)
        except BlockingIOError:
            return False
        if not data:
            if fd in self._open:
                self._open.remove(fd)
            return False
        if fd == self._err:
            self._said += data
            del self._said[:-_LAST_WORDS]
        elif len(self.output) + len(data) > _MOST_OUTPUT:
            self.too_much = True
        else:
            self.output += data
        return True

    def stop(self) -> None:
        """End it, and all that it started; nothing if it has ended."""
        if self._process.poll() is not None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, number)
            except ProcessLookupError:
                return
            end = time.monotonic() + _GRACE_S
            while time.monotonic() < end:
                if not self.look(_LOOK_S):
                    return

    def fault(self) -> str:
        """Why it failed; empty if it did not."""
        code = self._process.returncode
        if not code:
            return "it printed too much to find a score in" if self.too_much else ""
        how = f"exit status {code}" if code > 0 else f"ended by signal {-code}"
        last = self._said.decode(errors="replace").strip().splitlines()
        return f"{how}: {last[-1][:200]}" if last else how

    def close(self) -> None:
        """Let its output go."""
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()


class _Source:
    """Samplers of one run, each with its thread, and which device a stream is."""

    def __init__(self, devices: list[str]) -> None:
        self.devices = devices
        self.lanes: list[tuple[Sampler, int]] = []
        self._samplers: list[Sampler] = []
        self._threads: list[threading.Thread] = []
        self.close: list[Callable[[], None]] = []

    def add(self, sampler: Sampler, streams: int) -> None:
        self._samplers.append(sampler)
        self.lanes += [(sampler, i) for i in range(streams)]

    def start(self, settle: float) -> None:
        for sampler in self._samplers:
            thread = threading.Thread(target=sampler.run, args=(settle,), daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        for sampler in self._samplers:
            sampler.stop()
        for thread in self._threads:
            thread.join()

    def rows(self) -> int:
        return sum(sampler.rows for sampler in self._samplers)

    def blocks(self) -> list[tuple[int, int, bytes]]:
        """Full ones: place of the device, rows, bytes."""
        found = []
        for sampler in self._samplers:
            first = self.lanes.index((sampler, 0))
            found += [(first + i, n, data) for i, n, data in sampler.blocks()]
        return found


class Collector:
    """Records cells of one policy into one dataset.

    Parameters
    ----------
    plan : dict
        What `pymlk.policy.load` gave, with or without a model.
    path : str
        The dataset.
    rate : float
        Snapshots a second, above 0 and at most 1000; of a policy for models in the
        kernel every sample is taken, and this is how often it is looked for them.
    root : str
        Prefix of every attribute path.
    devices : sequence of str
        Names or patterns of those to record, also of ones that the policy skips;
        empty for all of the policy's.
    settle : float
        Seconds at the start of each run that are left out.
    append : bool
        Go on behind what the dataset has.
    state_dir : str or None
        Where the knob journal is kept.

    Attributes
    ----------
    stopped : bool
        Set it, in a signal handler for example, and what runs is ended.
    progress : callable or None
        Is given seconds, rows and missed rows of the run, some times a second.

    Raises
    ------
    DatasetError
        If the dataset is there and `append` is not said, or is none.

    Thread safety
    -------------
    The main thread only; it starts others.
    """

    def __init__(
        self,
        plan: dict[str, Any],
        path: str,
        *,
        rate: float,
        root: str = "/",
        devices: Sequence[str] = (),
        settle: float = 0.0,
        append: bool = False,
        state_dir: str | None = None,
    ) -> None:
        self.plan, self.path, self.root = plan, path, root
        self.stopped = False
        self.progress: Callable[[float, int, int], None] | None = None
        self._done: set[tuple[Any, ...]] = set()
        self._rate, self._settle, self._wanted = rate, settle, list(devices)
        self._append, self._state_dir = append, state_dir
        self._fields = list(plan["fields"])
        self._scales: list[int] | None = None
        self._writer: Writer | None = None
        self._journal: Journal | None = None
        self._claimed: set[str] = set()
        self._sync_due = 0.0
        if os.path.lexists(path):
            if not append:
                raise DatasetError(
                    f"{path}: is there already: use --append, or another name"
                )
            self._look_at(path)

    def _look_at(self, path: str) -> None:
        with Dataset(path) as found:
            self._scales = found.scales
            for run in found.runs:
                key = (run.workload, run.group, run.label, run.knob, run.seed)
                # also for whoever names no device
                self._done |= {(*key, run.device), (*key, None)}

    def is_done(self, cell: Cell) -> bool:
        """Whether the dataset had a good run of a cell when it was opened.

        Parameters
        ----------
        cell : Cell
            Which.

        Returns
        -------
        bool
            Of the device that was named, if one was.

        Thread safety
        -------------
        None.
        """
        key = (cell.workload, cell.group, cell.label, cell.value, cell.seed)
        return (*key, self._only_device()) in self._done

    # -------------------------------------------------------------------- what is read

    def _devices(self) -> list[tuple[str, str]]:
        """Names and paths of the devices to record."""
        plan = self.plan
        if not self._wanted:
            found = find_devices(plan["devices"], plan["skip"], self.root)
        else:
            found = [
                pair
                for pair in find_devices(plan["devices"], [], self.root)
                if self._is_wanted(pair[0])
            ]
        if not found:
            what = " ".join(self._wanted) or plan["devices"]
            raise PolicyError(f"{plan['file']}: devices: nothing matches {what}")
        return found

    def _is_wanted(self, name: str) -> bool:
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self._wanted)

    def _attributes(self) -> _Source:
        """Bind the fields of all devices."""
        devices = self._devices()
        if self._scales is None:
            # the first device says what stands for 1, for all
            attrs, (lane,) = self._open(devices[:1])
            self._scales = [attrs.fields[place].scale for place in lane]
            attrs.close()
        attrs, lanes = self._open(devices)
        for (name, _), lane in zip(devices, lanes, strict=True):
            self._check_scales(name, [attrs.fields[place].scale for place in lane])
        watched, scale = -1, 1
        if self.plan["objective"] is not None:
            watched = self._fields.index(self.plan["objective"])
            scale = self._scales[watched]
        source = _Source([name for name, _ in devices])
        source.add(AttrSampler(attrs, lanes, self._rate, watched, scale), len(lanes))
        source.close.append(attrs.close)
        return source

    def _open(self, devices: list[tuple[str, str]]) -> tuple[AttrSet, list[list[int]]]:
        """The fields, read once, and their places for each device."""
        places: dict[str, int] = {}
        scales: dict[str, int] = {}
        lanes = []
        for _, path in devices:
            specs = [s.replace("{device}", path) for s in self.plan["fields"].values()]
            lanes.append([places.setdefault(s, len(places)) for s in specs])
            scales |= dict(zip(specs, self._scales or [1] * len(specs), strict=True))
        attrs = AttrSet(
            [Field(s, scale=scales[s]) if scales[s] > 1 else s for s in places],
            root=self.root,
        )
        attrs.read()
        return attrs, lanes

    def _check_scales(self, device: str, found: list[int]) -> None:
        for key, one, expected in zip(
            self._fields, found, self._scales or found, strict=True
        ):
            if one != expected:
                raise DatasetError(
                    f"{self.path}: fields.{key} of {device} has another unit than "
                    f"before: 1 is {one}, not {expected}"
                )

    def _models(self) -> _Source:
        """Models in the kernel."""
        from .proxy import Proxy, discover
        from .sampler import RingSampler

        plan, self._scales = self.plan, [1] * len(self._fields)
        names = [
            name
            for name in discover(self.root)
            if is_wanted(name, plan["proxy"], plan["skip"])
            and (not self._wanted or self._is_wanted(name))
        ]
        if not names:
            raise PolicyError(
                f"{plan['file']}: proxy: {plan['proxy']!r} found, but the kernel has "
                f"no such model; it has: {', '.join(discover(self.root)) or 'none'}"
            )
        source = _Source(names)
        for name in names:
            proxy = Proxy(name, root=self.root, write=False)
            source.close.append(proxy.close)
            places = self._features(proxy)
            source.add(RingSampler(proxy, places, self._rate), 1)
        return source

    def _features(self, proxy: Proxy) -> list[int]:
        known = [feature.name for feature in proxy.features]
        for key, name in self.plan["fields"].items():
            if name not in known:
                raise PolicyError(
                    f"{self.plan['file']}: fields.{key}: {name!r} found, but "
                    f"{proxy.name} has {', '.join(known) or 'none'}"
                )
        return [known.index(name) for name in self.plan["fields"].values()]

    # ------------------------------------------------------------------------ the knob

    def _set_knobs(self, value: int) -> None:
        """Write the value, with its journal entry before it."""
        for path in self._knob_paths():
            with AttrSet([path], root=self.root) as attrs:
                attrs.read()
                full = os.path.join(self.root, path.lstrip("/"))
                if self._journal is None:
                    self._journal = Journal(self.plan["name"], self._state_dir)
                if full not in self._claimed:
                    self._journal.claim([full])
                    self._claimed.add(full)
                self._journal.note(full, attrs[0], value)
                attrs.write(0, value)

    def _knob_paths(self) -> list[str]:
        spec = self.plan["knob"]["path"]
        return sorted({spec.replace("{device}", path) for _, path in self._devices()})

    def _knob_fault(self, value: int) -> str:
        """What somebody else made of the knob meanwhile."""
        for path in self._knob_paths():
            with AttrSet([path], root=self.root) as attrs:
                attrs.read()
                if attrs[0] != value:
                    return f"{path} was set to {attrs[0]} by somebody else"
        return ""

    def restore(self) -> list[str]:
        """Put knobs back; the dataset stays open.

        Returns
        -------
        list of str
            What could not be put back, or was left to somebody else.

        Thread safety
        -------------
        None.
        """
        said = self._journal.restore() if self._journal is not None else []
        self._journal = None
        self._claimed.clear()
        return said

    # ----------------------------------------------------------------------- one run

    def record(self, cell: Cell) -> list[Outcome]:
        """Record a cell.

        Parameters
        ----------
        cell : Cell
            Which.

        Returns
        -------
        list of Outcome
            One for each device. If what comes before it fails, the dataset gets none.

        Raises
        ------
        PolicyError
            If no device matches, or more than one where the score is a workload's.
        DatasetError, OSError
            If it cannot be recorded.

        Thread safety
        -------------
        None.
        """
        said, env = environment(cell, self._only_device(), os.environ)
        for command in cell.before:
            if fault := self._prepare(filled(command, said), env):
                failed = Outcome(cell, said["device"])
                failed.fault = fault
                return [failed]
        source = self._attributes() if self.plan["proxy"] is None else self._models()
        try:
            self._check(cell, source)
            if cell.value is not None:
                self._set_knobs(cell.value)
            said, env = environment(cell, source.devices[0], os.environ)
            return self._record(cell, source, filled(cell.command or [], said), env)
        finally:
            source.stop()
            for close in source.close:
                close()

    def _only_device(self) -> str | None:
        """The device that was named, also before it is there."""
        one = len(self._wanted) == 1 and not any(c in self._wanted[0] for c in "*?[")
        return self._wanted[0] if one else None

    def _check(self, cell: Cell, source: _Source) -> None:
        if len(source.devices) == 1:
            return
        if cell.value is not None or cell.score or cell.score_json:
            raise PolicyError(
                f"{len(source.devices)} devices found ({' '.join(source.devices)}), "
                "but a score is of one: name it with --device"
            )

    def _prepare(self, words: list[str], env: dict[str, str]) -> str:
        """Run what comes before; why it failed, or nothing."""
        command = _Command(words, env)
        try:
            while command.look(_LOOK_S):
                if self.stopped:
                    command.stop()
                    return "interrupted"
        finally:
            command.close()
        return command.fault() and f"{words[0]}: {command.fault()}"

    def _record(
        self, cell: Cell, source: _Source, words: list[str], env: dict[str, str]
    ) -> list[Outcome]:
        outcomes = [Outcome(cell, device) for device in source.devices]
        if self._writer is None:
            scales = self._scales or []
            self._writer = Writer(
                self.path, self.plan, self._fields, scales, append=self._append
            )
            self._append = True
        runs = [
            self._writer.begin(
                workload=cell.workload, device=outcome.device, group=cell.group,
                label=cell.label, knob=cell.value, seed=cell.seed, tags=cell.tags,
                started_ns=time.time_ns(),
            )
            for outcome in outcomes
        ]  # fmt: skip
        source.start(self._settle)
        start = time.monotonic()
        text, fault = self._work(cell, source, runs, words, env)
        seconds = time.monotonic() - start
        source.stop()
        self._drain(source, runs)
        if not fault and cell.value is not None:
            fault = self._knob_fault(cell.value)
        for i, (run, outcome) in enumerate(zip(runs, outcomes, strict=True)):
            sampler, stream = source.lanes[i]
            outcome.seconds, outcome.missed = seconds, sampler.missed(stream)
            outcome.rows, outcome.fault = self._writer.count(run), fault
            outcome.score = sampler.rate(stream)
            if not fault and (cell.score or cell.score_json):
                try:
                    outcome.score = find_score(text, cell.score, cell.score_json)
                except ValueError as error:
                    outcome.score, outcome.fault = None, str(error)
            if not outcome.rows and not outcome.fault:
                outcome.fault = "no rows: it ended before the first one"
            self._writer.end(
                run,
                score=outcome.score,
                seconds=seconds,
                missed=outcome.missed,
                fault=outcome.fault,
            )
        self._writer.sync()
        return outcomes

    def _work(
        self,
        cell: Cell,
        source: _Source,
        runs: list[int],
        words: list[str],
        env: dict[str, str],
    ) -> tuple[str, str]:
        """Write rows until it is over; what the workload printed, why it failed."""
        command = _Command(words, env) if words else None
        start = time.monotonic()
        try:
            while True:
                if command is None:
                    time.sleep(_LOOK_S)
                elif not command.look(_LOOK_S):
                    return command.output.decode(errors="replace"), command.fault()
                self._drain(source, runs)
                took = time.monotonic() - start
                if self.progress is not None:
                    self.progress(took, source.rows(), self._missed(source))
                over = cell.seconds is not None and took >= cell.seconds
                if self.stopped:
                    return "", "interrupted" if command is not None else ""
                if over and (command is None or cell.stop):
                    return self._ended(command), ""
                if cell.timeout is not None and took > cell.timeout:
                    return "", f"still running after {took:.0f} s"
        finally:
            if command is not None:
                command.stop()
                command.close()

    @staticmethod
    def _ended(command: _Command | None) -> str:
        """End a workload whose time is over; what it printed."""
        if command is None:
            return ""
        command.stop()
        return command.output.decode(errors="replace")

    @staticmethod
    def _missed(source: _Source) -> int:
        return sum(sampler.missed(stream) for sampler, stream in source.lanes)

    def _drain(self, source: _Source, runs: list[int]) -> None:
        """Write what the samplers have; sync now and then."""
        writer = self._writer
        assert writer is not None
        for place, count, data in source.blocks():
            writer.block(_rows.block(runs[place], count, data))
        now = time.monotonic()
        if now >= self._sync_due:
            writer.sync()
            took = time.monotonic() - now
            self._sync_due = now + max(_SYNC_S, _SYNC_SHARE * took)

    def close(self) -> list[str]:
        """Put knobs back and close the dataset.

        Returns
        -------
        list of str
            As of `restore`.

        Thread safety
        -------------
        None. Closing twice does nothing.
        """
        # first the knobs: a disk may take its time
        said = self.restore()
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        return said
