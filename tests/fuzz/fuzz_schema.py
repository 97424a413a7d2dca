#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Coverage-guided fuzzing of the compiler with atheris, which tests do not need.

Usage: fuzz_schema.py [libFuzzer options] [FOLDER]. Whatever the bytes, the compiler
gives a program that the engine accepts, or a ModelError.
"""

import sys
from pathlib import Path

from pymlk import Model, ModelError, Program
from pymlk.compile import compile_model

# Running a program costs what it says; that is bounded elsewhere.
MOST_MACS = 1_000_000
MOST_ARENA = 1 << 20


def check(data: bytes) -> str:
    """Compile, verify and run; any exception but ModelError is a finding."""
    try:
        program = Program(compile_model(data))
    except ModelError as error:
        text = str(error)
        # What the compiler writes the verifier takes: its refusals are our bugs.
        assert "program refused" not in text, text
        assert text
        return "refused"
    if program.macs <= MOST_MACS and program.arena_bytes <= MOST_ARENA:
        model = Model(program)
        model.invoke()
        model.reset()
    return "ran"


def main() -> None:
    """Hand over to libFuzzer."""
    import atheris

    sys.path.insert(0, str(Path(__file__).parent))
    from make_corpus import models

    seeds = Path(sys.argv[-1]) if not sys.argv[-1].startswith("-") else None
    if seeds is not None and len(sys.argv) > 1:
        seeds.mkdir(parents=True, exist_ok=True)
        for name, data in models().items():
            (seeds / f"{name}.tflite").write_bytes(data)
    atheris.instrument_all()
    atheris.Setup(sys.argv, lambda data: check(data) and None)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
