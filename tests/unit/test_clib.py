# SPDX-License-Identifier: MIT
"""``make -C kernel/engine``: a library, one header, and an example that runs."""

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from helpers.engine_c import ENGINE, compiler
from helpers.need import absent
from helpers.reference import ROOT

from pymlk import Model
from pymlk.engine import instruction_sets

MEMORY = {"memcpy", "memset", "memmove"}
# What tells the vector loops which processor this is, of libc and libgcc.
PROCESSOR = {
    "getauxval",
    "syscall",
    "__cpu_model",
    "__cpu_features2",
    "_GLOBAL_OFFSET_TABLE_",
}
MODEL = ROOT / "models" / "readahead" / "model.tflite"
CORPUS = ROOT / "tests" / "fuzz" / "corpus"


def make(folder: Path, *arguments: str, ok: bool = True) -> str:
    """Run make in the engine's folder; what it builds goes into another one."""
    if shutil.which("make") is None:
        absent("no make")
    # as from a shell: neither an outer make's variables nor this test's
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "-C", str(ENGINE), f"O={folder}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=kept)
    assert (done.returncode == 0) is ok, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Library, header and example, with every operator."""
    folder = tmp_path_factory.mktemp("clib")
    make(folder, "CONFIG=/nonexistent", "lib", "example")
    return folder


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Library and header as for firmware: without vector loops."""
    folder = tmp_path_factory.mktemp("bare")
    make(folder, "CONFIG=/nonexistent", "ARCH_LOOPS=0", "lib")
    return folder


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped model as a file."""
    path = tmp_path_factory.mktemp("program") / "readahead.mlk"
    model = Model(MODEL, backend="engine")
    assert model.program is not None
    path.write_bytes(bytes(model.program))
    return path


def symbols(path: Path, *flags: str) -> set[str]:
    command = ["nm", "--format=posix", *flags, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = (line.split() for line in done.stdout.splitlines())
    return {words[0] for words in lines if len(words) > 1}


def run(built: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(built / "run"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def expected(path: Path, data: bytes | None = None) -> str:
    """What the example must print: Model's outputs as int8."""
    model = Model(path)
    at = 0
    for view in model.inputs:
        if data is not None:
            view.cast("B")[:] = data[at : at + view.nbytes]
            at += view.nbytes
    model.invoke()
    lines = [
        " ".join(str(value - 256 if value > 127 else value) for value in view.cast("B"))
        for view in model.outputs
    ]
    return "".join(f"{line}\n" for line in lines)


def test_example_equals_model(built: Path, program: Path, tmp_path: Path) -> None:
    """With zeros and with a file of inputs."""
    assert run(built, program).stdout == expected(program)
    size = sum(view.nbytes for view in Model(program).inputs)
    outputs = set()
    for seed in range(5):
        data = bytes((i * 37 + seed * 101) & 0xFF for i in range(size))
        inputs = tmp_path / "inputs"
        inputs.write_bytes(data)
        done = run(built, program, inputs)
        assert done.stdout == expected(program, data), done.stderr
        outputs.add(done.stdout)
    assert len(outputs) > 1


def integers(path: Path) -> bool:
    """Has a program no float at its border? The example knows none."""
    return all(v.format != "f" for m in [Model(path)] for v in (*m.inputs, *m.outputs))


WITHOUT_FLOAT = [path for path in sorted(CORPUS.glob("*.mlk")) if integers(path)]


@pytest.mark.parametrize("path", WITHOUT_FLOAT, ids=lambda p: p.stem)
def test_example_on_every_operator(built: Path, path: Path) -> None:
    done = run(built, path)
    assert (done.returncode, done.stdout) == (0, expected(path)), done.stderr


def test_example_tells_what_is_wrong(
    built: Path, program: Path, tmp_path: Path
) -> None:
    empty, damaged, short = (tmp_path / name for name in ("empty", "damaged", "short"))
    empty.touch()
    short.write_bytes(b"x")
    data = bytearray(program.read_bytes())
    data[300] ^= 1
    damaged.write_bytes(data)
    for arguments, words in (
        ((), "PROGRAM.mlk"),
        ((tmp_path / "none",), "No such file"),
        ((empty,), "shorter than its header says"),
        ((damaged,), "checksum does not match"),
        ((__file__,), "bad magic"),
        ((program, tmp_path / "none"), "No such file"),
        ((program, short), "too short"),
    ):
        done = run(built, *arguments)
        assert (done.returncode, done.stdout) == (1, "")
        assert words in done.stderr


def test_the_example_is_short() -> None:
    lines = (ENGINE / "example" / "run.c").read_text().splitlines()
    assert len(lines) < 40


def test_imports_nothing_but_memory(bare: Path) -> None:
    """Neither libc nor libgcc: the objects go into firmware as they are."""
    archive = bare / "libmlk.a"
    own = symbols(archive, "--defined-only", "--extern-only")
    assert {"mlk_program_verify", "mlk_program_run", "mlk_program_reset"} <= own
    assert symbols(archive, "--undefined-only") - own <= MEMORY
    assert not [name for name in own if "arch" in name]
    assert "mlk_arch_find" not in (bare / "mlk.h").read_text()


def test_vector_loops(built: Path) -> None:
    """They ask for the processor, and for nothing else."""
    archive = built / "libmlk.a"
    own = symbols(archive, "--defined-only", "--extern-only")
    assert {"mlk_arch_find", "mlk_arch_name", "mlk_program_run_simd"} <= own
    assert {f"mlk_simd_{name}" for name in instruction_sets()[:-1]} <= own
    assert symbols(archive, "--undefined-only") - own <= MEMORY | PROCESSOR


HEADER_ALONE = (
    '#include "mlk.h"\nint main(void) { return sizeof(struct mlk_op) < 24; }\n'
)
# whoever includes something of the system too, in either order
HEADER_AMONG = """
#include <errno.h>
#include "mlk.h"
#include <string.h>
#include <stdlib.h>
#include <errno.h>
int main(void)
{
	long a[2], b[2] = { 1, 2 };

	memcpy(a, b, sizeof(a));
	return mlk_program_verify(a, sizeof(a), NULL, NULL) != -EBADMSG;
}
"""


@pytest.mark.parametrize("text", [HEADER_ALONE, HEADER_AMONG], ids=["alone", "among"])
@pytest.mark.parametrize(
    ("cc", "standard"),
    [
        ("", "c11"),
        ("", "gnu11"),
        ("", "c17"),
        ("g++", "c++11"),
        ("g++", "c++20"),
        ("clang", "c11"),
        ("clang++", "c++17"),
    ],
)
def test_header(built: Path, tmp_path: Path, cc: str, standard: str, text: str) -> None:
    """One header is enough, in strict C and C++, and it links."""
    if cc and shutil.which(cc) is None:
        absent(f"no {cc}")
    source = tmp_path / ("x.cc" if "++" in standard else "x.c")
    source.write_text(text)
    command = [
        compiler(cc), f"-std={standard}", "-pedantic-errors", "-Wall", "-Wextra",
        "-Werror", "-Wno-cast-align", f"-I{built}", "-o", str(tmp_path / "x"),
        str(source), str(built / "libmlk.a"),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert subprocess.run([tmp_path / "x"]).returncode == 0


def test_header_is_all_of_them(built: Path) -> None:
    """Every line of them is there, but for the includes between them."""
    lines = (built / "mlk.h").read_text().splitlines()
    for name in ("mlk_port.h", "mlk_engine.h", "../arch/mlk_arch_find.h"):
        for line in (ENGINE / name).read_text().splitlines():
            assert line in lines or line.startswith('#include "mlk_'), line
    assert [line for line in lines if '#include "' in line] == []


def test_switched_off_operators(tmp_path: Path) -> None:
    """As setup.py reads .config; another one rebuilds what it touches."""
    config = tmp_path / "config"
    config.write_text("CONFIG_MLK_OP_LUT=y\n# CONFIG_MLK_OP_SOFTMAX is not set\n")
    make(tmp_path / "o", f"CONFIG={config}")
    own = symbols(tmp_path / "o" / "libmlk.a", "--defined-only")
    assert {"mlk_run_lut", "mlk_run_copy"} <= own
    assert not {"mlk_run_softmax", "mlk_run_fully_connected"} & own
    make(tmp_path / "o", "CONFIG=/nonexistent")
    own = symbols(tmp_path / "o" / "libmlk.a", "--defined-only")
    assert {"mlk_run_softmax", "mlk_run_fully_connected"} <= own


def test_nothing_to_do_twice(built: Path) -> None:
    lines = make(built, "CONFIG=/nonexistent", "lib").splitlines()
    assert not [line for line in lines if " -c " in line or "rcs" in line], lines
    # other flags are something to do
    assert "-Os" in make(built, "CONFIG=/nonexistent", "CFLAGS=-Os", "lib")
    make(built, "CONFIG=/nonexistent", "lib")


def test_install(tmp_path: Path) -> None:
    stage = tmp_path / "stage"
    make(tmp_path / "o", "install", f"DESTDIR={stage}", "PREFIX=/opt/mlk")
    found = {str(p.relative_to(stage)) for p in stage.rglob("*") if p.is_file()}
    assert found == {"opt/mlk/lib/libmlk.a", "opt/mlk/include/mlk.h"}


@pytest.mark.parametrize("machine", ["aarch64-linux-gnu", "arm-linux-gnueabihf"])
def test_cross_compiled(tmp_path: Path, machine: str) -> None:
    """For ARM, with its loops; the example gives in an emulator what it gives here."""
    emulator = f"qemu-{machine.partition('-')[0]}"
    for command in (f"{machine}-gcc", emulator):
        if shutil.which(command) is None:
            absent(f"no {command}")
    flags = (f"CROSS_COMPILE={machine}-", "CONFIG=/nonexistent", "CFLAGS=-O2 -static")
    make(tmp_path, *flags, "lib", "example")
    own = symbols(tmp_path / "libmlk.a", "--defined-only")
    assert {"mlk_arch_find", "mlk_simd_neon"} <= own
    foreign = symbols(tmp_path / "libmlk.a", "--undefined-only") - own - MEMORY
    # the compiler's own division on 32-bit machines
    assert all(name in PROCESSOR or name.startswith("__aeabi_") for name in foreign)
    for path in WITHOUT_FLOAT:
        command = [emulator, "-cpu", "max", tmp_path / "run", path]
        done = subprocess.run(command, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, expected(path)), done.stderr


def test_size_and_memory(bare: Path, built: Path, program: Path) -> None:
    """Static size, and what a process with a loaded model has in memory."""
    shown = make(bare, "CONFIG=/nonexistent", "ARCH_LOOPS=0", "size")
    total = re.search(r"^\s*(\d+)\s+(\d+)\s+(\d+).*\(TOTALS\)$", shown, re.MULTILINE)
    assert total, shown
    code, _, bss = map(int, total.groups())
    assert (bss, code < 96 * 1024) == (0, True)
    # it waits for its input with the model loaded
    command = [built / "run", program, "/dev/stdin"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as p:
        resident = 0
        end = time.monotonic() + 10
        while time.monotonic() < end:
            status = Path(f"/proc/{p.pid}/status").read_text()
            # after exec; sleeping in read()
            if "Name:\trun" in status and "State:\tS" in status:
                resident = int(status.partition("VmRSS:")[2].split()[0])
                break
            time.sleep(0.01)
        p.communicate(bytes(100))
    assert p.returncode == 0
    print(f"libmlk.a: {code} bytes of code and constants; example: {resident} KiB RSS")
    assert 0 < resident < 4096
