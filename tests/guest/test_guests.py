# SPDX-License-Identifier: MIT
"""The modules in real kernels: boot one, run tests/guest/inside and tests/proxy there.

User-Mode Linux with KASAN, lockdep, kmemleak, fault injection and the KUnit suites;
and Debian's own kernel on two processors, emulated. Kernels are made or fetched once,
see scripts/guest/kernel.sh. `run.sh` also fails if the kernel complained.
"""

import os
import platform
import re
import subprocess

import pytest
from helpers.need import absent
from helpers.reference import ROOT

SCRIPTS = ROOT / "scripts" / "guest"
# seconds that a guest may take; the emulated one is slow
LIMIT = {"uml-debug": "900", "stock": "1200"}
# make guest runs all that there is, make test the part it has time for
SMALL = {"GUEST_CYCLES": "500", "GUEST_HAMMER": "20"}


def need_kernel(kind: str) -> str:
    """Folder of a kernel; they come from Debian's packages, for this processor."""
    if platform.machine() != "x86_64":
        absent("guests are for x86-64")
    done = subprocess.run(
        [SCRIPTS / "kernel.sh", kind], capture_output=True, text=True, check=False
    )
    if done.returncode:
        absent(f"no kernel {kind}: {done.stderr}")
    return done.stdout.strip()


def boot(kind: str, *tests: str) -> None:
    """Run tests in a guest; pytest's summary is printed."""
    need_kernel(kind)
    # what is set outside counts inside
    amount = SMALL | {"LIMIT": LIMIT[kind]} | os.environ
    amount = {name: amount[name] for name in (*SMALL, "LIMIT")}
    done = subprocess.run(
        [SCRIPTS / "tests.sh", kind, *tests],
        env=os.environ | amount,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    assert done.returncode == 0, f"status {done.returncode}\n{done.stdout}"
    summary = re.findall(r"^\d+ passed.*$", done.stdout, re.M)
    assert summary, done.stdout
    print(f"{kind}: {summary[-1]}")


@pytest.mark.slow
def test_user_mode_linux_with_all_checkers() -> None:
    boot("uml-debug")


@pytest.mark.slow
def test_built_into_a_kernel() -> None:
    """In a kernel's own tree, with its samples; KUnit's suites run while it boots."""
    need_kernel("uml-builtin")
    done = subprocess.run(
        [
            *(SCRIPTS / "run.sh", "uml-builtin", ROOT / "build/guest/uml-builtin"),
            SCRIPTS / "builtin.sh",
        ],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_stock_kernel_on_two_processors() -> None:
    """What one processor cannot show; a part, since all is emulated."""
    names = ("sysfs", "states", "device", "32bit", "samples", "faults")
    inside = (f"tests/guest/inside/test_{name}.py" for name in names)
    boot("stock", *inside, "tests/proxy/test_dataset.py")


@pytest.mark.slow
def test_program_in_the_kernel_alone() -> None:
    """Built in: it decides while the kernel boots, before there is a first process."""
    kind = "uml-builtin"
    need_kernel(kind)
    out = ROOT / "build" / "guest" / kind
    done = subprocess.run(
        [SCRIPTS / "run.sh", kind, out, SCRIPTS / "builtin.sh"],
        env=os.environ | {"LIMIT": "120"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "ok 1 builtin_decides" in done.stdout
