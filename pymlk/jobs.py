# SPDX-License-Identifier: MIT
"""Which runs are to be recorded: one, a sweep, or what a jobs file says.

A cell is one run to be: a workload in a group at a knob value with a seed. Cells of
a seed come in random order, so that whatever drifts meanwhile hits all of them.
"""

from __future__ import annotations

import os
import random
import re
import shlex
import shutil
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta, Struct

from .errors import PolicyError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

Name = Annotated[str, Meta(min_length=1, max_length=200)]
Seconds = Annotated[float, Meta(gt=0.0, le=1e6)]
# words, or one text that is cut like a shell does
Command = Annotated[list[str], Meta(min_length=1)] | Annotated[str, Meta(min_length=1)]
Tags = Annotated[dict[Name, str], Meta(max_length=32)]


class Group(Struct, forbid_unknown_fields=True):
    """A state of device or machine in which all workloads run."""

    name: Name
    before: Command | None = None
    env: dict[str, str] = {}
    tags: Tags = {}


class Workload(Struct, forbid_unknown_fields=True):
    """A command, and what its output says of its worth."""

    name: Name
    command: Command
    before: Command | None = None
    env: dict[str, str] = {}
    label: Name | None = None
    score: str | None = None
    score_json: str | None = None
    groups: list[Name] | None = None
    tags: Tags = {}
    seconds: Seconds | None = None
    timeout: Seconds | None = None


class Jobs(Struct, forbid_unknown_fields=True):
    """A jobs file."""

    workload: Annotated[list[Workload], Meta(min_length=1)]
    group: list[Group] = []
    device: Name | None = None
    sweep: bool = True
    values: Annotated[list[int], Meta(min_length=1)] | None = None
    seeds: Annotated[int, Meta(ge=1, le=1000)] = 1
    seconds: Seconds = 10.0
    settle: Annotated[float, Meta(ge=0.0, le=1e6)] = 0.0
    score: str | None = None
    score_json: str | None = None
    before: Command | None = None
    setup: Command | None = None
    teardown: Command | None = None


class Cell(Struct, kw_only=True):
    """One run to be.

    Attributes
    ----------
    workload, group, label, seed, tags
        As in `pymlk.dataset.Run`.
    value : int or None
        The knob's; None leaves it alone.
    command : list of str or None
        What to run; None records for so many seconds.
    before : list of list of str
        Commands that prepare it.
    env : dict of str to str
        Further environment of them all.
    seconds : float or None
        How long it is meant to take; None: until somebody stops it.
    stop : bool
        Whether the command is to be ended then.
    timeout : float or None
        A command that takes longer is ended, and the run is no good.
    score, score_json : str or None
        Where its output has the score: a regular expression with one group; a path in
        JSON such as ``jobs.0.read.iops``.
    """

    workload: str
    group: str = ""
    label: str | None = None
    value: int | None = None
    seed: int = 0
    tags: dict[str, str] = {}
    command: list[str] | None = None
    before: list[list[str]] = []
    env: dict[str, str] = {}
    seconds: float | None = None
    stop: bool = False
    timeout: float | None = None
    score: str | None = None
    score_json: str | None = None


def words(command: Command | None) -> list[str]:
    """A command's words.

    Parameters
    ----------
    command : list of str, str or None
        As a jobs file has it.

    Returns
    -------
    list of str
        Empty for None.

    Raises
    ------
    ValueError
        If a quotation does not end.

    Thread safety
    -------------
    Pure function.

    Examples
    --------
    >>> words("fio --name='a b'")
    ['fio', '--name=a b']
    """
    return shlex.split(command) if isinstance(command, str) else list(command or ())


def check_score(key: str, score: str | None, score_json: str | None) -> None:
    """Refuse what no score can be found with.

    Parameters
    ----------
    key : str
        Where it was said, for the message.
    score, score_json : str or None
        As in `Cell`.

    Raises
    ------
    PolicyError
        If both are there, or the expression is none or has no group.

    Thread safety
    -------------
    Pure function.
    """
    if score is not None and score_json is not None:
        raise PolicyError(f"{key}: both an expression and a path found, expected one")
    if score is None:
        return
    try:
        groups = re.compile(score).groups
    except re.error as error:
        raise PolicyError(f"{key}: {score!r} is no regular expression: {error}") from (
            error
        )
    if groups < 1:
        raise PolicyError(f"{key}: {score!r} has no group (...) around the number")


def sweep_values(knob: dict[str, Any], wanted: Sequence[int] | None) -> list[int]:
    """The values of a sweep.

    Parameters
    ----------
    knob : dict
        Of the plan.
    wanted : sequence of int or None
        Some of its values; None for all.

    Returns
    -------
    list of int
        Ascending.

    Raises
    ------
    PolicyError
        If one is none of the knob's.

    Thread safety
    -------------
    Pure function.
    """
    known: list[int] = knob["values"]
    for value in wanted or ():
        if value not in known:
            raise PolicyError(
                f"value {value} found, expected one of knob.values: {known}"
            )
    return sorted(set(wanted or known))


def shuffled(cells: Iterable[Cell], seeds: int) -> list[Cell]:
    """Each cell with each seed: whole seeds first, each in a random order of its own.

    Parameters
    ----------
    cells : iterable of Cell
        Without seeds.
    seeds : int
        How many.

    Returns
    -------
    list of Cell
        The same each time, so that an interrupted sweep goes on where it was.

    Thread safety
    -------------
    Pure function.
    """
    found = []
    all_cells = list(cells)
    for seed in range(1, seeds + 1):
        order = [msgspec.structs.replace(cell, seed=seed) for cell in all_cells]
        random.Random(seed).shuffle(order)
        found += order
    return found


class _Jobs:
    """A jobs file, checked, and its cells."""

    def __init__(self, path: str, knob: dict[str, Any]) -> None:
        from .toml import read_toml

        self.path = path
        self.jobs = read_toml(path, Jobs)
        self._knob = knob

    def refuse(self, key: str, text: object) -> None:
        raise PolicyError(f"{self.path}: {key}: {text}")

    def command(self, key: str, command: Command | None) -> list[str]:
        """Its words; the program must be there."""
        try:
            found = words(command)
        except ValueError as error:
            raise PolicyError(f"{self.path}: {key}: {command!r}: {error}") from error
        if found and "{" not in found[0] and shutil.which(found[0]) is None:
            self.refuse(key, f"{found[0]!r}: no such program")
        return found

    def check(self) -> None:
        jobs = self.jobs
        groups = [group.name for group in jobs.group]
        for key, names in (
            ("group", groups),
            ("workload", [workload.name for workload in jobs.workload]),
        ):
            for name in names:
                if names.count(name) > 1:
                    self.refuse(key, f"{name!r} is there twice")
        for workload in jobs.workload:
            for name in workload.groups or ():
                if name not in groups:
                    self.refuse(
                        f"workload {workload.name}: groups",
                        f"{name!r} found, expected one of {groups}",
                    )
        if jobs.values is not None and not jobs.sweep:
            self.refuse("values", "mean nothing without sweep = true")
        try:
            sweep_values(self._knob, jobs.values)
        except PolicyError as error:
            self.refuse("values", error)

    def cells(self) -> list[Cell]:
        jobs = self.jobs
        found = []
        values: list[int | None] = [None]
        if jobs.sweep:
            values = [*sweep_values(self._knob, jobs.values)]
        first = self.command("before", jobs.before)
        for workload in jobs.workload:
            cell = self._workload(workload)
            for group in jobs.group or [Group("")]:
                if workload.groups is not None and group.name not in workload.groups:
                    continue
                prepared = self.command(f"group {group.name}: before", group.before)
                for value in values:
                    found.append(
                        msgspec.structs.replace(
                            cell,
                            group=group.name,
                            value=value,
                            before=[c for c in (first, prepared, *cell.before) if c],
                            env=group.env | workload.env,
                            tags=group.tags | workload.tags,
                        )
                    )
        return shuffled(found, jobs.seeds)

    def _workload(self, workload: Workload) -> Cell:
        jobs, key = self.jobs, f"workload {workload.name}"
        score, score_json = workload.score, workload.score_json
        if score is None and score_json is None:
            score, score_json = jobs.score, jobs.score_json
        check_score(f"{self.path}: {key}: score", score, score_json)
        seconds = workload.seconds or jobs.seconds
        if seconds <= jobs.settle:
            self.refuse(key, f"{seconds} seconds are not more than settle")
        return Cell(
            workload=workload.name,
            label=workload.label,
            command=self.command(f"{key}: command", workload.command),
            before=[self.command(f"{key}: before", workload.before)],
            seconds=seconds,
            timeout=workload.timeout or 4 * seconds + 10,
            score=score,
            score_json=score_json,
        )


class Work(Struct):
    """All that a jobs file asks for.

    Attributes
    ----------
    cells : list of Cell
        In the order in which they are to be run.
    device : str or None
        The one to record.
    settle : float
        Seconds at the start of each run that are left out.
    setup, teardown : list of str
        Commands before the first run and after the last; empty for none.
    """

    cells: list[Cell]
    device: str | None
    settle: float
    setup: list[str]
    teardown: list[str]


def load_jobs(path: str, knob: dict[str, Any]) -> Work:
    """Read and check a jobs file.

    Parameters
    ----------
    path : str
        The TOML file.
    knob : dict
        Of the policy's plan.

    Returns
    -------
    Work
        Its cells and more.

    Raises
    ------
    PolicyError
        If it is wrong; the text names file and key, what was found and expected.

    Thread safety
    -------------
    Pure function of the files.
    """
    read = _Jobs(path, knob)
    read.check()
    return Work(
        read.cells(),
        read.jobs.device,
        read.jobs.settle,
        read.command("setup", read.jobs.setup),
        read.command("teardown", read.jobs.teardown),
    )


def environment(
    cell: Cell, device: str | None, base: dict[str, str] | os._Environ[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """What a cell's commands are told.

    Parameters
    ----------
    cell : Cell
        The run.
    device : str or None
        The device that is recorded, if it is one.
    base : mapping of str to str
        The environment besides.

    Returns
    -------
    tuple of (dict, dict)
        What ``{name}`` in a command's words stands for, and the environment.

    Thread safety
    -------------
    Pure function.
    """
    said = {
        "value": "" if cell.value is None else str(cell.value),
        "device": device or "",
        "seed": str(cell.seed),
        "group": cell.group,
        "workload": cell.workload,
        "seconds": "" if cell.seconds is None else f"{cell.seconds:g}",
    }
    told = {f"PYMLK_{name.upper()}": text for name, text in said.items()}
    return said, {**base, **cell.env, **told}


def filled(command: Sequence[str], said: dict[str, str]) -> list[str]:
    """Put values for names in braces; other braces stay.

    Parameters
    ----------
    command : sequence of str
        The words.
    said : dict of str to str
        The values.

    Returns
    -------
    list of str
        The words to run.

    Thread safety
    -------------
    Pure function.

    Examples
    --------
    >>> filled(["fio", "--runtime={seconds}", "{x}"], {"seconds": "4"})
    ['fio', '--runtime=4', '{x}']
    """
    pattern = re.compile("{(" + "|".join(map(re.escape, said)) + ")}")
    return [pattern.sub(lambda match: said[match[1]], word) for word in command]
