# SPDX-License-Identifier: MIT
"""``pymlk proxy``: models of the kernel module, what they are and do."""

from __future__ import annotations

import argparse
import json
import os
import time

from ..proxy import Proxy, discover
from . import OK, PARTLY, USAGE, complain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..proxy import Record

_FACTS = ("state", "mode", "reason", "owner")
_SCORE = (
    *("comparisons", "default_mean", "model_mean", "gain_permil"),
    *("default_samples", "model_samples"),
)


def _table(rows: list[list[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (f"{cell:{width}}" for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def _list(root: str, as_json: bool) -> int:
    """By the files alone: these everybody may read."""
    found = []
    for name in discover(root):
        folder = os.path.join(root, "sys/kernel/mlk", name)
        entry = {"name": name}
        try:
            for fact in _FACTS:
                with open(os.path.join(folder, fact), encoding="utf-8") as file:
                    entry[fact] = file.read().strip()
        except FileNotFoundError:
            # it went while it was looked at
            continue
        found.append(entry)
    if as_json:
        print(json.dumps(found))
    elif found:
        _table([["model", *_FACTS], *([*entry.values()] for entry in found)])
    if not found:
        complain("no models; is mlk.ko loaded, and a module that uses it?")
    return OK if found else PARTLY


def _facts(proxy: Proxy) -> dict[str, Any]:
    read = proxy.read_attr
    return {
        "name": proxy.name,
        **proxy.info(),
        "owner": int(read("owner")),
        "features": [
            {name: getattr(f, name) for name in ("name", "unit", "kind", "low", "high")}
            for f in proxy.features
        ],
        "knobs": [
            {
                "name": k.name,
                "unit": k.unit,
                "low": k.low,
                "high": k.high,
                "step": k.step,
                "default": k.default,
                "value": int(read(f"knobs/{k.name}")),
            }
            for k in proxy.knobs
        ],
        "score": {name: int(read(f"score/{name}")) for name in _SCORE},
    }


def _show(proxy: Proxy, as_json: bool) -> None:
    facts = _facts(proxy)
    if as_json:
        print(json.dumps(facts))
        return
    listed = {name: facts.pop(name) for name in ("features", "knobs")}
    score = facts.pop("score")
    _table([[name, str(value)] for name, value in facts.items()])
    for title, items in listed.items():
        if items:
            print(f"\n{title}")
            rows = [list(items[0]), *(list(map(str, i.values())) for i in items)]
            _table([["", *row] for row in rows])
    print("\nscore")
    _table([["", name, str(value)] for name, value in score.items()])


def _print_record(proxy: Proxy, record: Record, as_json: bool) -> None:
    if as_json:
        fields = ("seq", "time_ns", "kind", "values")
        print(json.dumps({f: getattr(record, f) for f in fields}), flush=True)
        return
    values = "\t".join(map(str, record.values))
    print(
        f"{record.seq}\t{record.time_ns / 1e9:.6f}\t{record.kind}\t{values}", flush=True
    )


def _watch(proxy: Proxy, options: argparse.Namespace) -> int:
    """A line for each record; from the oldest one that is there."""
    data, shown = proxy.dataset, 0
    end = None if options.seconds is None else time.monotonic() + options.seconds
    if not options.json:
        print("\t".join(["seq", "seconds", "kind", *(f.name for f in proxy.features)]))
    while shown != options.count:
        record = data.next()
        if record is not None:
            _print_record(proxy, record, options.json)
            shown += 1
            continue
        left = None if end is None else end - time.monotonic()
        if left is not None and left <= 0:
            break
        proxy.wait(data.seq, left)
    if data.lost:
        complain(f"{data.lost} records were overwritten before they were read")
    return PARTLY if data.lost else OK


def main(options: argparse.Namespace) -> int:
    """List, change, watch or show."""
    if options.name is None:
        if options.watch or options.control or options.mode:
            complain("proxy: name a MODEL, too (pymlk proxy lists them)")
            return USAGE
        return _list(options.root, options.json)
    with Proxy(options.name, root=options.root, write=False) as proxy:
        for word in options.control or ():
            proxy.control(word)
        if options.mode:
            proxy.set_mode(options.mode)
        if options.watch:
            return _watch(proxy, options)
        if not options.control and not options.mode:
            _show(proxy, options.json)
    return OK
