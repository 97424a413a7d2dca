# SPDX-License-Identifier: MIT
"""The three files that training makes: they change together or not at all."""

import json
import os
import shutil
from collections.abc import Mapping
from typing import Any

import tomlkit

from ..policy import STAGE
from .data import Plan
from .model import Trained

METRICS = "metrics.json"


def policy_text(text: str, trained: Trained, changed: Mapping[str, Any]) -> str:
    """Put new means and deviations into a policy; comments and order stay.

    Parameters
    ----------
    text : str
        The policy file.
    trained : Trained
        The model.
    changed : mapping
        Keys of ``[train]`` that were given otherwise than the file has them.

    Returns
    -------
    str
        The new file.

    Thread safety
    -------------
    Pure function.
    """
    document: Any = tomlkit.parse(text)
    pairs = zip(trained.mean.tolist(), trained.std.tolist(), strict=True)
    for feature, (mean, std) in zip(document["feature"], pairs, strict=True):
        _put(feature, {"mean": mean, "std": std})
    _put(document.get("train", {}), changed)
    return tomlkit.dumps(document)


def _put(table: Any, values: Mapping[str, Any]) -> None:
    """Set keys of a table; new ones come behind its last key.

    What follows that belongs to the next table: its comment, an empty line.
    """
    if not values:
        return
    body = table.value.body
    last = max(i for i, (key, _) in enumerate(body) if key is not None)
    behind = body[last + 1 :]
    del body[last + 1 :]
    for key, value in values.items():
        table[key] = value
    body.extend(behind)


def write(
    plan: Plan, trained: Trained, metrics: Any, changed: Mapping[str, Any]
) -> None:
    """Replace policy, model and metrics.

    They are written into a folder beside them, which then gets its final name, from
    where each is moved to its place. Whatever interrupts it, either nothing is changed,
    or `finish` has the rest to do.

    Parameters
    ----------
    plan : dict
        The policy; ``file`` says where it is.
    trained : Trained
        The model.
    metrics : object
        For ``metrics.json``.
    changed : mapping
        As of `policy_text`.

    Raises
    ------
    OSError
        If a file cannot be written; nothing is changed then.

    Thread safety
    -------------
    None.
    """
    path = plan["file"]
    folder = os.path.dirname(os.path.abspath(path))
    with open(path, encoding="utf-8", newline="") as file:
        text = file.read()
    contents = {
        os.path.basename(path): policy_text(text, trained, changed).encode(),
        plan["model"]["file"]: trained.data,
        METRICS: (json.dumps(metrics, indent=1) + "\n").encode(),
    }
    draft = os.path.join(folder, STAGE + ".part")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        os.mkdir(draft)
        for name, content in contents.items():
            place = os.path.join(draft, name)
            os.makedirs(os.path.dirname(place), exist_ok=True)
            with open(place, "wb") as out:
                out.write(content)
                out.flush()
                os.fsync(out.fileno())
            _keep_mode(os.path.join(folder, name), place)
        os.rename(draft, os.path.join(folder, STAGE))
    except OSError:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    _sync(folder)
    finish(path)


def finish(path: str) -> bool:
    """Finish a replacement that was interrupted.

    Parameters
    ----------
    path : str
        The policy file.

    Returns
    -------
    bool
        True if there was one.

    Raises
    ------
    OSError
        If a file cannot be moved; try again then.

    Thread safety
    -------------
    None.
    """
    folder = os.path.dirname(os.path.abspath(path))
    stage = os.path.join(folder, STAGE)
    if not os.path.isdir(stage):
        return False
    for where, _, names in os.walk(stage):
        for name in names:
            source = os.path.join(where, name)
            os.replace(source, os.path.join(folder, os.path.relpath(source, stage)))
    shutil.rmtree(stage)
    _sync(folder)
    return True


def _keep_mode(old: str, new: str) -> None:
    if os.path.exists(old):
        shutil.copymode(old, new)


def _sync(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
