# SPDX-License-Identifier: MIT
"""The modules in real kernels: boot one, run tests/guest/inside there.

User-Mode Linux with KASAN, lockdep, kmemleak, fault injection and the KUnit suites;
and Debian's own kernel on two processors, emulated. Kernels are made or fetched once,
see scripts/guest/kernel.sh. `run.sh` also fails if the kernel complained.
"""

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from helpers.reference import ROOT, absent

SCRIPTS = ROOT / "scripts" / "guest"
# what a guest may take; the emulated one is slow
LIMIT = {"uml-debug": 900, "stock": 1200, "stock-new": 1200, "x86-debug": 3600}
# a guest by make's own target runs all that there is, CI the part it has time for
SMALL = {"GUEST_CYCLES": "500", "GUEST_HAMMER": "20"}


def need_guests() -> None:
    """Kernels come from Debian's packages, and are for this processor."""
    if platform.machine() != "x86_64":
        absent("guests are for x86-64")
    if shutil.which("apt-get") is None:
        absent("kernels are made from Debian's packages: no apt-get")


def script(name: str, *arguments: str, **environment: str) -> str:
    """Run one of scripts/guest; what it printed."""
    done = subprocess.run(
        [SCRIPTS / name, *arguments],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    assert done.returncode == 0, f"{name}: status {done.returncode}\n{done.stdout}"
    return done.stdout


def boot(kind: str, *tests: str) -> str:
    """Run tests in a guest; pytest's summary."""
    script("module.sh", kind)
    out = ROOT / "build" / "guest" / kind
    # what is set outside counts inside
    amount = [f"{name}={os.environ.get(name, few)}" for name, few in SMALL.items()]
    said = script(
        "run.sh",
        kind,
        str(out),
        "env",
        *amount,
        *("python", "-m", "pytest", "-p", "no:cacheprovider", "-q", "--tb=short"),
        *(tests or ("tests/guest/inside",)),
        LIMIT=os.environ.get("LIMIT", str(LIMIT[kind])),
    )
    summary = re.findall(r"^\d+ passed.*$", said, re.M)
    assert summary, said
    print(f"{kind}: {summary[-1]}")
    return summary[-1]


@pytest.mark.slow
def test_user_mode_linux_with_all_checkers() -> None:
    need_guests()
    boot("uml-debug")


@pytest.mark.slow
def test_stock_kernel_on_two_processors() -> None:
    """What one processor cannot show; a part, since all is emulated."""
    need_guests()
    inside = Path("tests/guest/inside")
    names = ("sysfs", "states", "device", "32bit", "samples", "faults")
    boot("stock", *(str(inside / f"test_{name}.py") for name in names))
