# SPDX-License-Identifier: MIT
"""``pymlk check``: is a policy good on this machine?"""

from __future__ import annotations

import argparse
import json
import os

from .. import isolate
from ..check import Check, Finding
from ..errors import PolicyError
from . import OK, PARTLY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MARKS = {"ok": "ok     ", "notice": "notice ", "problem": "PROBLEM"}


def _load(name: str) -> dict[str, Any]:
    """With its model, unless there is none yet, or it is refused."""
    from .. import policy

    plan = policy.load(name, model=False)
    file = os.path.join(os.path.dirname(plan["file"]), plan["model"]["file"])
    if not os.path.lexists(file):
        return plan
    try:
        return policy.load(name)
    except PolicyError as error:
        return plan | {"refused": str(error)}


def _joined(findings: list[Finding]) -> dict[Finding, list[str]]:
    """What is the same of several devices is said once."""
    found: dict[Finding, list[str]] = {}
    for finding in findings:
        found.setdefault(finding._replace(device=""), []).append(finding.device)
    return found


def main(options: argparse.Namespace) -> int:
    """Check one policy; a wrong file is an error, all else a finding."""
    plan = isolate.call(_load, options.policy)
    check = Check(plan, options.root, options.seconds)
    check.run()
    problems = sum(finding.level == "problem" for finding in check.findings)
    if options.json:
        facts = [finding._asdict() for finding in check.findings]
        print(
            json.dumps({"file": plan["file"], "problems": problems, "findings": facts})
        )
    else:
        print(f"policy {plan['name']}: {plan['file']}")
        for finding, devices in _joined(check.findings).items():
            of = f"{' '.join(devices)}: " if any(devices) else ""
            print(f"  {_MARKS[finding.level]} {finding.what}: {of}{finding.text}")
        print(f"{problems} problems" if problems else "no problems")
    return PARTLY if problems else OK
