# SPDX-License-Identifier: MIT
"""How much the engine really does, counted, against what it says that it does."""

import ctypes
import functools
import tempfile
from pathlib import Path

from helpers.engine_c import SOURCES, Limits, Speed, compile_c

# What one thing that mlk_program_cost() counts may take in steps, see engine_steps.c.
STEPS = Speed(op_ps=60, mac_ps=2, item_ps=6)


@functools.cache
def counting_engine() -> ctypes.CDLL:
    """The engine in plain C, each of its loops as it is written.

    What is always inlined is called here, so that a block of 16 products, without a
    branch inside, counts as the functions that it consists of.
    """
    folder = Path(tempfile.mkdtemp(prefix="mlk_steps."))
    counter = Path(__file__).with_suffix(".c")
    compile_c(folder / "steps.o", "-std=gnu11", "-O1", "-fPIC", "-c", str(counter))
    counted = [f"-D{name}=counted_{name}" for name in ("memcpy", "memmove", "memset")]
    compile_c(
        folder / "engine.so",
        *("-std=gnu11", "-O1", "-fPIC", "-shared", "-fsanitize-coverage=trace-pc"),
        "-Dalways_inline=noinline",
        *counted,
        *map(str, SOURCES),
        str(folder / "steps.o"),
    )
    library = ctypes.CDLL(str(folder / "engine.so"))
    library.steps_of.restype = ctypes.c_uint64
    library.mlk_program_cost.restype = ctypes.c_uint64
    return library


def steps_and_bound(
    program: bytes, limits: Limits | None = None
) -> tuple[int, int] | None:
    """Count one run, and how many steps it may have; None if it is refused."""
    library = counting_engine()
    room = ctypes.create_string_buffer(len(program) + 16)
    start = ctypes.c_void_p(ctypes.addressof(room) + 15 & ~15)
    ctypes.memmove(start, program, len(program))
    size, bounds = ctypes.c_size_t(len(program)), limits and ctypes.byref(limits)
    if library.mlk_program_verify(start, size, bounds, None):
        return None
    # a step is a nanosecond: thousandths of it are what the caller gives
    speed = Speed(*(1000 * getattr(STEPS, name) for name, _ in Speed._fields_))
    bound = library.mlk_program_cost(start, ctypes.byref(speed))
    return library.steps_of(start), bound


def assert_bounded(program: bytes) -> None:
    """No run does more than the program says."""
    found = steps_and_bound(program)
    assert found is not None
    steps, bound = found
    assert steps <= bound
