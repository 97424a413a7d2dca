# SPDX-License-Identifier: MIT
"""``pymlk inspect --kconfig``: the smallest configuration that runs given models."""

from __future__ import annotations

from ..compile import compile_model
from ..compile.program import OPCODES, opcodes
from ..engine import programs
from ..errors import ModelError

# What switches the others off with it, by `depends on`.
_VECTOR_LOOPS = ("SSE2", "AVX2", "AVX512VNNI", "NEON", "DOTPROD")
_PARTS = ("PYMLK_COMPILER", "PYMLK_PROXY", "PYMLK_LOOP", "MLK")


def _needed(path: str) -> set[str]:
    with open(path, "rb") as file:
        data = file.read()
    try:
        if data[:4] != b"MLKP":
            data = compile_model(data)
        return set[str]().union(*(opcodes(bytes(p)) for p in programs(data)))
    except ModelError as error:
        raise type(error)(f"{path}: {error}") from error


def show(paths: list[str]) -> None:
    """Print it as a defconfig: one operator a line, and nothing else that is on."""
    needed = {path: _needed(path) for path in paths}
    print(f"# runs {', '.join(paths)}")
    for name in sorted(OPCODES.values()):
        if name != "COPY":
            on = any(name in names for names in needed.values())
            print(f"CONFIG_MLK_OP_{name}={'y' if on else 'n'}")
    for name in _VECTOR_LOOPS:
        print(f"CONFIG_MLK_ARCH_{name}=n")
    for name in _PARTS:
        print(f"CONFIG_{name}=n")
    print("CONFIG_PYMLK_SMALL=y")
