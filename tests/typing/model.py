# SPDX-License-Identifier: MIT
"""What a type checker makes of the public classes; never run, only checked."""

import os
from typing import Literal, assert_type

from pymlk import AttrSet, Model, Program, Quant, UnsupportedOpError, programs


def model(path: os.PathLike[str], data: bytes) -> None:
    """Models and programs."""
    loaded = Model(path, backend="auto")
    assert_type(loaded.input, memoryview)
    assert_type(loaded.inputs, tuple[memoryview, ...])
    assert_type(loaded.output_quant, Quant)
    assert_type(loaded.output_quant.scale, float)
    assert_type(loaded.backend, Literal["engine", "tflite"])
    assert_type(loaded.program, Program | None)
    assert_type(loaded.ops, tuple[str, ...])
    loaded.invoke()

    program = Program(memoryview(data))
    assert_type(bytes(program), bytes)
    assert_type(program.inputs[0]["shape"], tuple[int, ...])
    assert_type(Program.from_file(path), Program)
    assert_type(programs(path), tuple[Program, ...])
    Model(program, "engine")
    # a program is not for tflite; the ignores are checked: mypy warns of unused ones
    Model(program, "tflite")  # type: ignore[call-overload]
    Model(3)  # type: ignore[call-overload]
    Model(path, backend="gpu")  # type: ignore[call-overload]
    loaded.input = memoryview(data)  # type: ignore[misc]


def attributes() -> None:
    """Attribute sets."""
    rows = AttrSet(["/proc/loadavg[0]"], root="/")
    assert_type(rows.read(), int)
    assert_type(rows.row, memoryview)
    assert_type(rows.names, tuple[str, ...])


def errors(error: UnsupportedOpError) -> None:
    """Exceptions."""
    assert_type(error.operators, tuple[str, ...])
