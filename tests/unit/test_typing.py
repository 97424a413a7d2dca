# SPDX-License-Identifier: MIT
"""The stubs that are installed agree with the modules that are installed."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STUBS = sorted(path.stem for path in (ROOT / "pymlk").glob("*.pyi"))


def run(folder: Path, *command: str) -> None:
    """Run far from the source tree, so that only the installed package counts."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", *command],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if k not in ("MYPYPATH",)},
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_extension_has_a_stub() -> None:
    extensions = sorted(path.stem for path in (ROOT / "pymlk").glob("*.pyx"))
    assert extensions == STUBS


def test_stubtest(tmp_path: Path) -> None:
    allow = ROOT / "tests/unit/stubtest_allow.txt"
    run(
        tmp_path,
        "mypy.stubtest",
        "--allowlist",
        str(allow),
        "--ignore-unused-allowlist",
        *(f"pymlk.{name}" for name in STUBS),
    )


def test_assert_type(tmp_path: Path) -> None:
    run(tmp_path, "mypy", "--strict", *map(str, (ROOT / "tests/typing").glob("*.py")))
