# SPDX-License-Identifier: MIT
"""Inner loops against plain C, from C: on this processor, and ARM's in an emulator."""

import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.engine_c import SOURCES, compile_c
from helpers.models import dense, dense_int16, elementwise, filtered, images, pooled
from helpers.need import absent
from helpers.reference import ROOT

from pymlk.compile import compile_model
from pymlk.engine import instruction_sets

ARCH = ROOT / "kernel" / "arch"
CORPUS = ROOT / "tests" / "fuzz" / "corpus"
DRIVER = ROOT / "tests" / "helpers" / "arch_compare.c"
# Compiler's prefix, emulator, and the loops that there must be, best one first.
MACHINES = {
    "native": ("", (), instruction_sets()[:-1]),
    "arm64": (
        "aarch64-linux-gnu-",
        ("qemu-aarch64", "-cpu", "max"),
        ("i8mm", "dotprod", "neon"),
    ),
    "arm": ("arm-linux-gnueabihf-", ("qemu-arm", "-cpu", "max"), ("neon",)),
}


def build(target: Path, machine: str, *arguments: object) -> None:
    """Compile for a machine."""
    prefix = MACHINES[machine][0]
    flags = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror")
    cc = f"{prefix}gcc" if prefix else ""
    compile_c(target, *flags, *map(str, arguments), cc=cc)


def link(folder: Path, machine: str, engine: Path, arch: Path = ARCH) -> Path:
    """Build the driver; static, as an emulator has no libraries."""
    driver = folder / "arch_compare"
    static = ("-static",) if MACHINES[machine][1] else ()
    loops = sorted(arch.glob("mlk_*.c"))
    build(driver, machine, *static, f"-I{arch}", DRIVER, *loops, engine)
    return driver


def run(
    emulator: tuple[str, ...], driver: Path, *arguments: object
) -> subprocess.CompletedProcess[str]:
    if emulator and shutil.which(emulator[0]) is None:
        absent(f"no {emulator[0]}")
    command = [*emulator, str(driver), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def random_programs() -> Iterator[bytes]:
    """Of each operator that has a loop, and whole networks."""
    rng = random.Random(3)
    for seed in range(40):
        yield compile_model(images(seed))
        yield dense(rng.randint(1, 9), rng.randint(1, 99), rng.randint(1, 99), rng)
        yield dense_int16(rng.randint(1, 3), rng.randint(1, 99), 15, rng)
        yield filtered("CONV_2D", rng)[0]
        yield filtered("DEPTHWISE_CONV_2D", rng)[0]
        yield filtered("DEPTHWISE_CONV_2D", rng)[0]
        yield pooled(rng.choice(("AVERAGE_POOL_2D", "MAX_POOL_2D")), rng)[0]
        yield elementwise(rng.choice(("ADD", "SUB", "MUL")), rng)[0]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The fuzzers' corpus, and random ones."""
    folder = tmp_path_factory.mktemp("programs")
    for i, program in enumerate(random_programs()):
        (folder / f"{i}.mlk").write_bytes(program)
    return sorted([*CORPUS.glob("*.mlk"), *folder.iterdir()])


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The engine for each machine, as one object."""
    folder = tmp_path_factory.mktemp("engines")
    for machine in MACHINES:
        build(folder / f"{machine}.o", machine, "-r", "-nostdlib", *SOURCES)
    return {machine: folder / f"{machine}.o" for machine in MACHINES}


@pytest.fixture(scope="module")
def drivers(
    tmp_path_factory: pytest.TempPathFactory, engines: dict[str, Path]
) -> dict[str, Path]:
    return {
        machine: link(tmp_path_factory.mktemp(machine), machine, engine)
        for machine, engine in engines.items()
    }


@pytest.mark.parametrize("machine", MACHINES)
def test_every_loop_equals_plain_c(
    drivers: dict[str, Path], programs: list[Path], machine: str
) -> None:
    _, emulator, names = MACHINES[machine]
    done = run(emulator, drivers[machine], 1, 3000, *programs)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert tuple(done.stdout.split()) == names


@pytest.mark.parametrize(
    ("cpu", "names"),
    [
        ("max", ["i8mm", "dotprod", "neon"]),
        ("neoverse-n1", ["dotprod", "neon"]),
        ("cortex-a53", ["neon"]),
    ],
)
def test_what_the_processor_has(
    drivers: dict[str, Path], cpu: str, names: list[str]
) -> None:
    """Only loops that can run are found; others would end by a signal."""
    done = run(("qemu-aarch64", "-cpu", cpu), drivers["arm64"], 1, 10)
    assert (done.returncode, done.stdout.split()) == (0, names)


# What the comparison has to find: file, what is there, what is wrong, and the machine,
# or the loop that this one must have.
NEON, DOT, I8MM = "mlk_arm_neon.c", "mlk_arm_dotprod.c", "mlk_arm_i8mm.c"
MISTAKES = {
    "ties go up": ("mlk_arm.h", "vandq_s32(x, right)", "vdupq_n_s32(0)", "arm64"),
    "cut, not rounded": ("mlk_arm.h", "vqrdmulhq_s32", "vqdmulhq_s32", "arm"),
    "saturating shift": ("mlk_arm.h", "x = vshlq_s32", "x = vqshlq_s32", "arm64"),
    "write behind a row": ("mlk_arm.h", "16 : p->width - i", "16 : 16", "arm"),
    "read behind a row": (I8MM, "left >= 8", "left >= 7", "arm64"),
    "saturating sum": (NEON, "return vaddq", "return vqaddq", "arm"),
    "a lane": (DOT, "(sum, d, x, 3)", "(sum, d, x, 2)", "arm64"),
    "channels again": (
        "mlk_lanes.h",
        "first = width - 16",
        "first = width - 15",
        "arm",
    ),
    "weights that repeat": ("mlk_lanes.h", "0, width);", "0, 16);", "sse2"),
    "half of a tap": ("mlk_x86_sse2.c", "mlk_odd(x[j])", "mlk_even(x[j])", "sse2"),
    "a tap": (DOT, "vzip1q_s8(x[2], x[3])", "vzip1q_s8(x[2], x[2])", "arm64"),
    "a tap of all channels": (NEON, "w.val[1]", "w.val[0]", "arm"),
    "a saturating difference": (NEON, "vsubq_s32(a", "vqsubq_s32(a", "arm64"),
    "a pool's greatest": (NEON, "vmaxq_s32(acc,", "vminq_s32(acc,", "arm"),
    "even for odd": ("mlk_x86_sse2.c", "b = mlk_odd(v)", "b = mlk_even(v)", "sse2"),
    "a row of five": ("mlk_x86_sse2.c", "n > 4 ?", "n > 5 ?", "sse2"),
    "ties of eight": (
        "mlk_x86_avx2.c",
        "cmpgt_epi32(remainder, threshold)",
        "cmpgt_epi32(threshold, remainder)",
        "avx2",
    ),
    "the other half": ("mlk_x86_avx2.c", "0, 4, 1, 5", "0, 1, 4, 5", "avx2"),
    "no offset": ("mlk_x86_avx2.c", "epi8((char)0x80)", "epi8(0)", "avxvnni"),
    "ties of sixteen": ("mlk_x86_avx512.h", "1ll << 31", "1ll << 30", "avx512vnni"),
    "rows turned": ("mlk_x86_avx512.h", "0, 4, 8, 12", "0, 8, 4, 12", "avx512vnni"),
    "words that count": (
        "mlk_x86_avx512vnni.c",
        "p->readable ? mlk_whole_run(p) : p->run;",
        "p->run;",
        "avx512vnni",
    ),
    "lanes of four": ("mlk_x86_avx512vnni.c", "part + 4 * j", "part + j", "avx512vnni"),
    "the rest of the rows": (
        "mlk_x86_amx.c",
        "p->in + row * p->in_stride,\n\t\t\t p->out",
        "p->in,\n\t\t\t p->out",
        "amx",
    ),
    "weights behind": ("mlk_x86_amx.c", "w + 16 * (length - k)", "w + 16", "amx"),
}
FINDABLE = [
    what
    for what, mistake in MISTAKES.items()
    if mistake[3] in (*MACHINES, *instruction_sets())
]


@pytest.mark.parametrize("what", FINDABLE)
def test_a_mistake_would_show(
    tmp_path: Path, engines: dict[str, Path], programs: list[Path], what: str
) -> None:
    name, there, wrong, place = MISTAKES[what]
    machine = place if place in MACHINES else "native"
    copy = shutil.copytree(ARCH, tmp_path / "arch")
    text = (copy / name).read_text()
    assert there in text
    (copy / name).write_text(text.replace(there, wrong))
    driver = link(tmp_path, machine, engines[machine], copy)
    done = run(MACHINES[machine][1], driver, 1, 3000, *programs)
    assert done.returncode not in (0, 2), what
