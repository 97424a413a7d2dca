# SPDX-License-Identifier: MIT
"""No module claims to work without the GIL: Model and AttrSet rely on it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.need import need_module

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "pymlk").glob("*.pyx"))
# of the macro's definitions the last counts: those before are for who overrides it
DEFINED = re.compile(r"^#define __Pyx_FREETHREADING_COMPATIBLE (\w+)$", re.MULTILINE)


def cythonized(source: Path, folder: Path, *flags: str) -> str:
    need_module("Cython")
    target = folder / f"{source.stem}.c"
    command = [sys.executable, "-m", "cython", "-3", *flags, source, "-o", target]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return target.read_text()


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_not_declared(source: Path, tmp_path: Path) -> None:
    """A free-threaded Python then switches the GIL on, with a warning."""
    assert DEFINED.findall(cythonized(source, tmp_path))[-1] == "Py_MOD_GIL_USED"


def test_nor_for_all_at_once() -> None:
    assert "freethreading_compatible" not in (ROOT / "setup.py").read_text()


def test_the_claim_would_be_found(tmp_path: Path) -> None:
    source = tmp_path / "x.pyx"
    source.write_text("x = 1\n")
    text = cythonized(source, tmp_path, "-X", "freethreading_compatible=True")
    assert DEFINED.findall(text)[-1] == "Py_MOD_GIL_NOT_USED"


def test_the_gil_is_on_once_pymlk_is_imported() -> None:
    """Also on a Python that was started without it; others have no such function."""
    code = (
        "import sys, pymlk.engine\n"
        "sys.exit(not getattr(sys, '_is_gil_enabled', lambda: True)())"
    )
    done = subprocess.run([sys.executable, "-P", "-W", "ignore", "-c", code])
    assert done.returncode == 0
