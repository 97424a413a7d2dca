# SPDX-License-Identifier: MIT
"""What the kernel asks of the engine, checked by a machine.

Freestanding, integer-only, no allocation, no I/O, no writable data, no symbol but its
own and three of memory; every build of operators compiles without a warning.
"""

import re
import shutil
import subprocess

import pytest
from helpers.engine_c import ENGINE, SOURCES, compile_c, compiler
from helpers.need import absent

WARNINGS = ("-Wall", "-Wextra", "-Werror", "-Wconversion", "-Wshadow", "-Wundef")
FILES = sorted([*SOURCES, *ENGINE.glob("*.h")])
# As the kernel is built; otherwise constant pointers need a section for relocation.
STATIC = ("-ffreestanding", "-fno-stack-protector", "-fno-pic", "-fno-pie")
OPERATORS = re.findall(
    r"^#ifndef MLK_CONFIG_(\w+)$", (ENGINE / "mlk_op.h").read_text(), re.MULTILINE
)
ARCH = ENGINE.parent / "arch"
LOOPS = re.findall(
    r"^#ifndef MLK_CONFIG_(ARCH_\w+)$", (ARCH / "mlk_arch.h").read_text(), re.MULTILINE
)
ARM = ["aarch64-linux-gnu-gcc", "arm-linux-gnueabihf-gcc"]
# A program that needs an operator, where none has its name.
EXAMPLES = {
    "ARG_EXTREME": "arg_max",
    "BINARY": "add",
    "FILL": "lstm",
    "L2_NORM": "l2_normalization",
    "LUT": "relu6",
    "MOVE": "transpose",
    "POOL": "max_pool",
    "POOL_S16": "average_pool_s16",
    "REDUCE": "sum",
    "SPACE_BATCH": "space_to_batch",
}
MEMORY = {"memcpy", "memset", "memmove"}


def machine():
    """The compiler's target, such as x86_64-linux-gnu."""
    command = [compiler(), "-dumpmachine"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def no_float():
    """The flag that makes any use of a floating-point register an error."""
    if machine().startswith(("x86_64", "aarch64")):
        return ["-mgeneral-regs-only"]
    return ["-msoft-float"]


def objects(room, *flags, cc=""):
    """Compile every file by itself and return the objects."""
    found = []
    for source in SOURCES:
        target = room / f"{source.stem}.o"
        compile_c(target, "-c", "-std=gnu11", *WARNINGS, *flags, str(source), cc=cc)
        found.append(target)
    return found


def symbols(files):
    """Undefined, global and local names with the letters of nm."""
    command = ["nm", "-A", "--format=posix", *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [line.split()[1:3] for line in done.stdout.splitlines()]


@pytest.fixture(params=["cc", "clang"])
def cc(request):
    """Both compilers; clang where there is one, as it is no part of a build."""
    if request.param == "clang" and shutil.which("clang") is None:
        absent("no clang")
    return compiler() if request.param == "cc" else compiler("clang")


@pytest.mark.parametrize("level", ["-O2", "-O0", "-Os", "-O3"])
def test_freestanding_without_float(tmp_path, cc, level):
    """The compiler itself refuses float registers; nm shows what is called."""
    flags = (*STATIC, *no_float(), level)
    found = symbols(objects(tmp_path, *flags, cc=cc))
    undefined = {name for name, kind in found if kind == "U"}
    own = {name for name, kind in found if kind == "T"}
    assert undefined - own <= MEMORY
    assert all(name.startswith("mlk_") for name in own)
    assert {"mlk_program_verify", "mlk_program_run"} <= own
    # B, D and C are data that somebody could write; weak symbols are for nobody
    assert {kind for _, kind in found} <= set("UTtRr")


def test_no_writable_section(tmp_path, cc):
    """``.data`` and ``.bss`` are empty: no globals, so no locks are needed."""
    flags = (*STATIC, *no_float(), "-O2")
    files = objects(tmp_path, *flags, cc=cc)
    command = ["size", *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [line.split() for line in done.stdout.splitlines()[1:]]
    text = sum(int(row[0]) for row in rows)
    assert [(row[1], row[2]) for row in rows] == [("0", "0")] * len(files)
    print(f"engine: {text} bytes of code and constants with {cc}")
    assert text <= 96 * 1024


@pytest.mark.parametrize("off", [*OPERATORS, "all"])
def test_operators_can_be_left_out(tmp_path, cc, off):
    """Each build compiles; what is left out leaves no symbol behind."""
    which = OPERATORS if off == "all" else (off,)
    flags = [f"-DMLK_CONFIG_{name}=0" for name in which]
    found = symbols(objects(tmp_path, "-O0", "-ffreestanding", *flags, cc=cc))
    undefined = {name for name, kind in found if kind == "U"}
    own = {name for name, kind in found if kind == "T"}
    assert {name for name in undefined - own if name.startswith("mlk_")} == set()
    for name in OPERATORS:
        there = {f"mlk_check_{name.lower()}", f"mlk_run_{name.lower()}"} <= own
        assert there == (name not in which)


@pytest.mark.parametrize(
    ("off", "cc"),
    [
        (off, cc)
        for off in LOOPS
        for cc in (ARM if off in ("ARCH_NEON", "ARCH_DOTPROD", "ARCH_I8MM") else [""])
    ],
)
def test_vector_loops_can_be_left_out(tmp_path, off, cc):
    """Each build is whole: what takes a loop from those left out goes with them."""
    flags = ("-std=gnu11", "-O1", "-shared", "-fPIC", "-Wl,-z,defs", "-Wall", "-Werror")
    sources = map(str, [*SOURCES, *sorted(ARCH.glob("mlk_*.c"))])
    define = f"-DMLK_CONFIG_{off}=0"
    compile_c(tmp_path / "engine.so", *flags, define, *sources, cc=cc)


@pytest.mark.parametrize("off", OPERATORS)
def test_a_program_for_an_operator_that_is_left_out(tmp_path, off):
    """It is refused with -EOPNOTSUPP and the operator's place."""
    import ctypes
    import errno

    from helpers.engine_c import Diag
    from helpers.reference import ROOT

    corpus = ROOT / "tests" / "fuzz" / "corpus"
    name = EXAMPLES.get(off, off.lower())
    assert (corpus / f"{name}.mlk").exists()
    target = tmp_path / "engine.so"
    flags = ("-std=gnu11", "-O0", "-shared", "-fPIC", f"-DMLK_CONFIG_{off}=0")
    compile_c(target, *flags, *map(str, SOURCES))
    library = ctypes.CDLL(str(target))
    for path in corpus.iterdir():
        data = path.read_bytes()
        room = ctypes.create_string_buffer(data, len(data))
        diag = Diag()
        size = ctypes.c_size_t(len(data))
        rc = library.mlk_program_verify(room, size, None, ctypes.byref(diag))
        assert rc in (0, -errno.EOPNOTSUPP)
        if path.stem == name:
            # an LSTM's state is filled first
            assert (rc, diag.op) == (-errno.EOPNOTSUPP, int(off == "LSTM"))
        if path.stem in ("copy", "reshape"):
            assert rc == 0


@pytest.mark.parametrize("standard", ["gnu11", "gnu17", "c11"])
def test_other_standards(tmp_path, standard):
    """Kernel and extension use gnu11; firmware may use another."""
    for source in SOURCES:
        flags = ("-c", f"-std={standard}", "-O2", "-Wall", "-Wextra", "-Werror")
        compile_c(tmp_path / "x.o", *flags, "-U__KERNEL__", str(source))


def code(path):
    """A file without its comments and strings."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", " ", path.read_text(), flags=re.DOTALL)
    return re.sub(r'(?<!include )"(\\.|[^"\\])*"', '""', text)


# What the verifier has found not to be zero.
DIVISORS = r"(p->block|w->stride)_[hw]|p->groups|depth|fold|taps|row"
FORBIDDEN = {
    "floating point": r"\b(float|double|_Float\w+)\b|\d\.\d|\d[eE][+-]?\d+\b",
    "allocation": r"\b[kv]?[mcz]?(alloc|malloc|zalloc|calloc|realloc|free)\w*\s*\(",
    "input or output": r"\b(printf|printk|pr_\w+|puts|fopen|write|read)\s*\(",
    "assertion": r"\b(assert|BUG_ON|WARN_ON\w*|panic|abort)\s*\(",
    "assembly or jumps": r"\b(asm|__asm__|goto)\b",
    "division by what may be zero": (
        rf"[/%](?!\s*([1-9]|sizeof|(MLK_\w+_ALIGN|{DIVISORS})\b))"
    ),
    "variable-length array": r"\balloca\s*\(",
}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_words_that_must_not_be_there(path):
    """Also where the compiler would let them through, such as a folded constant."""
    text = code(path)
    for what, pattern in FORBIDDEN.items():
        body = "\n".join(x for x in text.splitlines() if not x.startswith("#include"))
        found = re.search(pattern, re.sub(r"0[xX][0-9a-fA-F]+", "0", body))
        assert found is None, f"{what}: {found and found.group()!r}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_includes(path):
    """Only mlk_port.h knows what is around the engine."""
    lines = re.findall(r"^\s*#\s*include\s+(\S+)", path.read_text(), re.MULTILINE)
    foreign = [x for x in lines if not re.fullmatch(r'"mlk_\w+\.h"', x)]
    if path.name == "mlk_port.h":
        assert set(foreign) == {
            "<linux/errno.h>",
            "<linux/string.h>",
            "<linux/types.h>",
            "<stddef.h>",
            "<stdint.h>",
        }
    else:
        assert foreign == []
        assert "__KERNEL__" not in code(path)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_licence(path):
    """The kernel's licence or MIT, on the first line."""
    first = path.read_text().splitlines()[0]
    assert "SPDX-License-Identifier: GPL-2.0-only OR MIT" in first


def test_the_float_flag_is_no_decoration(tmp_path):
    """It does refuse a float."""
    source = tmp_path / "f.c"
    source.write_text("float f(float x); float f(float x) { return x * 2; }\n")
    compile_c(tmp_path / "f.o", "-c", str(source))
    if not machine().startswith(("x86_64", "aarch64")):
        pytest.skip("the compiler emulates float for this machine")
    with pytest.raises(AssertionError, match=r"(?i)sse|-mgeneral-regs-only"):
        compile_c(tmp_path / "f.o", "-c", "-O2", *no_float(), str(source))
