# SPDX-License-Identifier: MIT
"""Somebody else's Cython module runs models without Python, on what is installed."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from helpers.models import network
from helpers.need import need_module

import pymlk

need_module("Cython")

SOURCE = """
from libc.stdint cimport int8_t
from libc.string cimport memcpy

from pymlk.engine cimport Model, Program


cdef int runs(Model model, const int8_t *rows, int8_t *answers, int count) nogil:
    cdef int8_t *row = model.input_start(0)
    cdef int8_t *answer = model.output_start(0)
    cdef int i
    for i in range(count):
        memcpy(row, rows + 5 * i, 5)
        model.run()
        memcpy(answers + 4 * i, answer, 4)
    return count


def many(Model model, const int8_t[::1] rows, int8_t[::1] answers):
    cdef int count = rows.shape[0] // 5
    with nogil:
        runs(model, &rows[0], &answers[0], count)
    return model.program
"""
BUILD = """
from Cython.Build import cythonize
from setuptools import Extension, setup

setup(
    name="other",
    ext_modules=cythonize([Extension("other", ["other.pyx"])], language_level=3),
)
"""
USE = """
import sys
from array import array
from other import many
from pymlk import Model, Program

model, loop = Model("model.tflite"), Model("model.tflite")
rows = array("b", [(i * 37) % 256 - 128 for i in range(500)])
answers = array("b", bytes(400))
expected = b""
for at in range(0, 500, 5):
    loop.input.cast("B").cast("b")[:] = rows[at:at + 5]
    loop.invoke()
    expected += bytes(loop.output)
assert many(model, rows, answers) is model.program
assert answers.tobytes() == expected
assert len({expected[i:i + 4] for i in range(0, 400, 4)}) > 10
# the addresses outlive a swap
model.swap(Program(bytes(model.program)))
many(model, rows, answers)
assert answers.tobytes() == expected
print("same")
"""


def run(folder: Path, *command: str) -> str:
    """Run a Python in the folder, far from the source tree."""
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONSAFEPATH"}
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=kept, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The module of somebody else, built."""
    room = tmp_path_factory.mktemp("other")
    (room / "other.pyx").write_text(SOURCE)
    (room / "setup.py").write_text(BUILD)
    (room / "use.py").write_text(textwrap.dedent(USE))
    (room / "model.tflite").write_bytes(network())
    # no header of the engine is to be found
    run(room, "setup.py", "-q", "build_ext", "--inplace")
    return room


def test_runs_models_without_python(folder: Path) -> None:
    assert run(folder, "use.py") == "same\n"


def test_what_is_shipped() -> None:
    """The interface for others, and not the engine's own declarations."""
    found = {path.name for path in Path(pymlk.__path__[0]).glob("*.pxd")}
    assert "engine.pxd" in found
    assert "_engine.pxd" not in found
