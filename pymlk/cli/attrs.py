# SPDX-License-Identifier: MIT
"""``pymlk attrs``: find and read fields."""

from __future__ import annotations

import argparse
import json
import os
import time

from ..attrs import AttrSet
from ..errors import AttrError
from . import OK, PARTLY, USAGE, complain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

# Where a search looks; following links below these would go round in circles.
_PLACES = (
    "sys/block",
    "sys/class",
    "sys/devices/system",
    "sys/kernel/mm",
    "sys/module",
    "sys/fs",
    "proc/sys",
    "proc/pressure",
    "proc",
)


def _files(folder: str, deep: bool) -> Iterator[str]:
    """Regular files below a folder; its own links are followed once."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        try:
            if entry.is_file():
                yield entry.path
            elif deep and entry.is_dir(follow_symlinks=False):
                yield from _files(entry.path, True)
        except OSError:
            continue


def _search(root: str, text: str) -> Iterator[str]:
    for place in _PLACES:
        top = os.path.join(root, place)
        if place == "proc":
            yield from (f for f in _files(top, False) if text in f)
            continue
        try:
            links = [e.path for e in os.scandir(top) if e.is_dir()]
        except OSError:
            continue
        for folder in sorted(links):
            # a class holds a folder of links to devices: one step more
            inner = [folder]
            if place == "sys/class":
                inner = [e.path for e in os.scandir(folder) if e.is_dir()]
            for start in sorted(inner):
                yield from (f for f in _files(start, True) if text in f)


def _find(options: argparse.Namespace) -> int:
    """List paths only: reading some attributes does something (zram's hot_add)."""
    found = 0
    for path in _search(options.root, options.find):
        found += 1
        shown = "/" + os.path.relpath(path, options.root)
        mode = os.stat(path).st_mode
        if options.json:
            facts = {"readable": bool(mode & 0o444), "writable": bool(mode & 0o222)}
            print(json.dumps({"path": shown, **facts}))
        else:
            access = ("r" if mode & 0o444 else "-") + ("w" if mode & 0o222 else "-")
            print(f"{access}  {shown}")
    if not found:
        complain(f"no attribute's path contains {options.find!r}")
    return OK if found else PARTLY


def _value(attrs: AttrSet, index: int) -> Any:
    """The value as people write it: an unscaled number or the choice's name."""
    info = attrs.fields[index]
    try:
        value = attrs[index]
    except AttrError:
        return None
    if info.choices:
        return info.choices[value]
    return value if info.scale == 1 else value / info.scale


def _row(attrs: AttrSet) -> list[dict[str, Any]]:
    errors = {error.index: error for error in attrs.errors()}
    row = []
    for info in attrs.fields:
        entry: dict[str, Any] = {
            "name": info.name,
            "value": _value(attrs, info.index),
            "unit": info.unit,
        }
        if info.choices:
            entry["choices"] = info.choices
        if info.index in errors:
            error = errors[info.index]
            entry["errno"], entry["reason"] = error.errno, error.reason
        row.append(entry)
    return row


def _text(entry: dict[str, Any]) -> str:
    if "reason" in entry:
        return f"invalid: {entry['reason']}" + (
            f" ({os.strerror(entry['errno'])})" if entry["errno"] else ""
        )
    unit = f" {entry['unit']}" if entry["unit"] else ""
    choices = f"   (of: {' '.join(entry['choices'])})" if "choices" in entry else ""
    return f"{entry['value']}{unit}{choices}"


def _print_once(attrs: AttrSet, as_json: bool) -> None:
    row = _row(attrs)
    if as_json:
        print(json.dumps(row))
        return
    width = max(len(entry["name"]) for entry in row)
    for entry in row:
        print(f"{entry['name']:{width}}  {_text(entry)}")


def _watch(attrs: AttrSet, options: argparse.Namespace) -> int:
    """One line per snapshot, a column per field, like vmstat."""
    if not options.json:
        print("\t".join(["seconds", *attrs.names]))
    start = time.monotonic()
    rows = 0
    while True:
        row = _row(attrs)
        seconds = round(time.monotonic() - start, 3)
        if options.json:
            values = {entry["name"]: entry["value"] for entry in row}
            print(json.dumps({"seconds": seconds, **values}), flush=True)
        else:
            shown = ["-" if e["value"] is None else str(e["value"]) for e in row]
            print("\t".join([f"{seconds:.3f}", *shown]), flush=True)
        rows += 1
        if rows == options.count:
            return OK
        time.sleep(max(0.0, start + rows * options.watch - time.monotonic()))
        if attrs.read():
            attrs.rescan()


def main(options: argparse.Namespace) -> int:
    """Find, read or watch."""
    if options.find is not None:
        return _find(options)
    if not options.fields:
        complain("attrs: name a FIELD or use --find TEXT (see pymlk attrs --help)")
        return USAGE
    with AttrSet(options.fields, root=options.root) as attrs:
        if not len(attrs):
            complain(f"no attribute matches {' '.join(options.fields)}")
            return PARTLY
        invalid = attrs.read()
        if options.watch is not None:
            return _watch(attrs, options)
        _print_once(attrs, options.json)
        return PARTLY if invalid else OK
