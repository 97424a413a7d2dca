# SPDX-License-Identifier: MIT
"""``pymlk compile``: .tflite models into a file of programs, a policy into a plan."""

from __future__ import annotations

import argparse
import json
import os
from typing import Any

from ..compile import compile_model
from ..compile.program import join
from ..engine import Program
from ..errors import ModelError
from . import OK, USAGE, complain


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


def _name(path: str) -> str:
    """A program is called like its model's file."""
    return os.path.splitext(os.path.basename(path))[0]


def _compile(path: str, keep_inputs: bool) -> tuple[Program, dict[str, Any]]:
    with open(path, "rb") as file:
        data = file.read()
    try:
        program = Program(compile_model(data, _name(path), keep_inputs=keep_inputs))
    except ModelError as error:
        raise type(error)(f"{path}: {error}") from error
    return program, {
        "name": program.name,
        "model_bytes": len(data),
        "program_bytes": len(program),
        "arena_bytes": program.arena_bytes,
        "macs": program.macs,
        "ops": program.ops,
    }


def _text(facts: dict[str, Any]) -> str:
    return (
        f"{facts['program_bytes']} bytes (model {facts['model_bytes']}), arena "
        f"{facts['arena_bytes']} bytes, {facts['macs']} MACs, {len(facts['ops'])} "
        "operators"
    )


def _policy(options: argparse.Namespace) -> int:
    """Prepare one policy for devices that have only the loop."""
    if len(options.models) > 1:
        complain("several files: a prepared policy is one file, so prepare each")
        return USAGE
    from ..plan import SUFFIX, write_plan
    from ..policy import load

    (path,) = options.models
    output = options.output or os.path.splitext(path)[0] + SUFFIX
    if not output.endswith(SUFFIX):
        complain(
            f"{output}: `pymlk run` knows a prepared policy by its ending {SUFFIX}"
        )
        return USAGE
    data = write_plan(load(path))
    write_atomically(output, data)
    facts = {"output": output, "bytes": len(data)}
    print(json.dumps(facts) if options.json else f"{output}: {len(data)} bytes")
    return OK


def main(options: argparse.Namespace) -> int:
    """Compile models into one file, or a policy."""
    if any(path.endswith(".toml") for path in options.models):
        return _policy(options)
    models, output = options.models, options.output
    if output is None:
        if len(models) > 1:
            complain("several models: name the file for all of them with -o")
            return USAGE
        output = os.path.splitext(models[0])[0] + ".mlk"
    if os.path.abspath(output) in map(os.path.abspath, models):
        raise ModelError(f"{output}: is the model itself; name another with -o")
    names = [_name(path) for path in models]
    for name in names:
        if names.count(name) > 1:
            complain(f"several models are named {name}: no name would find each")
            return USAGE
    compiled = [_compile(path, not options.reuse_inputs) for path in models]
    data = join([bytes(program) for program, _ in compiled])
    write_atomically(output, data)
    if len(models) == 1:
        ((_, facts),) = compiled
        text = f"{output}: {_text(facts)}"
    else:
        programs = [
            {"model": path, **facts}
            for path, (_, facts) in zip(models, compiled, strict=True)
        ]
        facts = {"bytes": len(data), "programs": programs}
        text = f"{output}: {len(programs)} programs, {len(data)} bytes"
        for i, program in enumerate(programs):
            text += f"\n  [{i}] {program['name']}: {_text(program)}"
    print(json.dumps({"output": output, **facts}) if options.json else text)
    return OK
