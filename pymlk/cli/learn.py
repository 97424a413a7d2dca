# SPDX-License-Identifier: MIT
"""``pymlk learn``: show or forget what was learnt on this device."""

from __future__ import annotations

import argparse
import json
from typing import Any

from ..learnt import Store, names
from . import OK, PARTLY, complain


def _facts(policy: str, folder: str | None) -> dict[str, Any]:
    """What is in one file; a reason where it is no good."""
    store = Store(policy, folder)
    found, reason = store.read()
    facts: dict[str, Any] = {"policy": policy, "file": store.path, "refused": reason}
    if found is None:
        return facts | {"learnt": False}
    content = found["content"]
    versions = content.get("versions")
    kept = [
        entry.get("number")
        for entry in (versions if isinstance(versions, list) else ())
        if isinstance(entry, dict)
    ]
    return facts | {
        "learnt": True,
        "program": found.get("program"),
        "updates": content.get("updates"),
        "versions": kept,
        "reason": content.get("reason"),
    }


def _print(facts: dict[str, Any]) -> None:
    if facts["refused"]:
        complain(facts["refused"])
    elif not facts["learnt"]:
        print(f"{facts['policy']}: nothing learnt")
    else:
        kept = ", ".join(map(str, facts["versions"])) or "none"
        print(f"{facts['policy']}: {facts['updates']} scores, versions kept: {kept}")
        print(f"  {facts['reason']}")
        print(f"  {facts['file']}")


def main(options: argparse.Namespace) -> int:
    """Show one policy or all, or forget one."""
    if options.reset is not None:
        forgotten = Store(options.reset, options.learnt_dir).reset()
        if options.json:
            print(json.dumps({"policy": options.reset, "forgotten": forgotten}))
        else:
            done = "forgotten" if forgotten else "nothing learnt"
            print(f"{options.reset}: {done}")
        return OK
    chosen = [options.show] if options.show else names(options.learnt_dir)
    found = [_facts(policy, options.learnt_dir) for policy in chosen]
    if options.json:
        print(json.dumps(found))
    else:
        for facts in found:
            _print(facts)
        if not found:
            print("nothing learnt")
    return PARTLY if any(facts["refused"] for facts in found) else OK
