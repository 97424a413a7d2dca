# SPDX-License-Identifier: MIT
"""``pymlk compile``: a .tflite model into a program."""

from __future__ import annotations

import argparse
import json
import os

from ..compile import compile_model
from ..engine import Program
from ..errors import ModelError
from . import OK


def write_atomically(path: str, data: bytes) -> None:
    """Replace a file as a whole: a reader sees the old one or the new one."""
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


def main(options: argparse.Namespace) -> int:
    """Compile one model."""
    output = options.output or os.path.splitext(options.model)[0] + ".mlk"
    if os.path.abspath(output) == os.path.abspath(options.model):
        raise ModelError(f"{output}: is the model itself; name another with -o")
    with open(options.model, "rb") as file:
        data = file.read()
    try:
        program = Program(compile_model(data))
    except ModelError as error:
        raise type(error)(f"{options.model}: {error}") from error
    write_atomically(output, bytes(program))
    facts = {
        "output": output,
        "model_bytes": len(data),
        "program_bytes": len(program),
        "arena_bytes": program.arena_bytes,
        "macs": program.macs,
        "ops": program.ops,
    }
    if options.json:
        print(json.dumps(facts))
    else:
        print(
            f"{output}: {len(program)} bytes (model {len(data)}), arena "
            f"{program.arena_bytes} bytes, {program.macs} MACs, {len(program.ops)} "
            "operators"
        )
    return OK
