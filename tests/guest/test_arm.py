# SPDX-License-Identifier: MIT
"""A 32-bit kernel: Debian's for ARM, emulated, with the module built for it.

No program of this machine runs there, so what is to be done is written here, as a shell
script for busybox: commands for the kernel's test client with the answers that the
engine in Python gives, and the programs of benchmarks/kernel_user.c, which map, own and
answer as 32-bit user space.
"""

import random
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from guest.test_guests import SCRIPTS, need_kernel
from helpers.mlk_abi import image, program_of, scaled
from helpers.models import network
from helpers.need import absent
from helpers.reference import ROOT

from pymlk import Model, Program

KIND = "stock-arm"
CORPUS = ROOT / "tests" / "fuzz" / "corpus"
CHOICES = [[8, -3], [64, 0], [1024, 99]]
SCALES = ((0, 1, 0), (100, 3, 2), (-5, 1 << 20, 24), (0, 2**31 - 1, 62))
# each processor would have its own ones: they are refused
WITH_VARIABLES = ("lstm", "svdf_s8", "variable")
# its answers and numbers have a limit: see kernel/tests/mlk_guest.c
MOST_NUMBERS = 64

BEGIN = """
status=0 client=/sys/kernel/debug/mlk_guest at=/sys/kernel/mlk/guest/guest0
same() { [ "$1" = "$2" ] || { echo "FAILED $3: '$1', not '$2'"; status=1; }; }
tell() { echo "$1" >$client || { echo "FAILED $1"; status=1; }; }
ask() { tell "$1"; same "$(echo $(cat $client))" "$2" "$1"; }
asks() { while IFS='|' read -r line answer; do ask "$line" "$answer"; done <"$1"; }
file() { same "$(cat $at/$1)" "$2" "$1"; }
set_to() { echo "$2" >$at/$1 || { echo "FAILED $2 to $1"; status=1; }; }
begin() {
	tell "register guest0 4 2 $1"
	for word in init start run; do set_to control $word; done
}
insmod /modules/mlk.ko && insmod /modules/mlk_guest.ko || exit 1
insmod /modules/mlk_chardev.ko && insmod /modules/mlk_blk.ko || exit 1
"""

MAPPED = """
begin 1024
same "$(dd if=$at/dataset bs=4 count=1 2>/dev/null)" MLKD dataset
kernel_user reader /dev/mlk/guest0 20000 >/read &
until [ -s /read ]; do sleep 0.1; done
tell "ticks 400 1000000 50"
wait
tail -n 1 /read >/counts
read -r got lost wrong away </counts
same "$((got + lost)) $wrong" "20000 0" "records and torn ones of a mapped ring"
[ "$got" -gt 0 ] || { echo "FAILED: nothing was read"; status=1; }
file stats/records 20000
tell unregister
"""

OWNED = """
begin 64
set_to mode recommendation
kernel_user owner /dev/mlk/guest0 100 >/owner &
until [ -s /owner ]; do sleep 0.1; done
tell "pingpong 100"
wait
file stats/recommendations 100
file mode emergency
file reason owner
kernel_user owner /dev/mlk/guest0 100 >/owner2 &
until [ -s /owner2 ]; do sleep 0.1; done
set_to options/deadline_ms 100
set_to mode learning
sleep 2
file mode emergency
file reason heartbeat
file stats/missed 1
kill -9 $!
wait
file owner 0
tell unregister
"""

END = """
tell "cycle brief 100"
rmmod mlk_blk && rmmod mlk_chardev && rmmod mlk_guest && rmmod mlk || status=1
[ ! -e /sys/kernel/mlk ] || { echo "FAILED: still there"; status=1; }
exit $status
"""


def rows(count: int) -> list[list[int]]:
    rng = random.Random(5)
    edge = [-(1 << 63), (1 << 63) - 1, 0, 1, -1, 127, -128, 1 << 32, -(1 << 32)]
    return [
        [
            rng.choice((rng.randint(-200, 200), rng.choice(edge), rng.getrandbits(40)))
            for _ in range(4)
        ]
        for _ in range(count)
    ]


def outputs(program: Program, given: list[int]) -> list[int]:
    """What the engine in Python says."""
    model = Model(program)
    model.inputs[0].cast("B")[:] = bytes(value & 0xFF for value in given)
    model.invoke()
    return list(model.outputs[0].cast("B").cast("b"))


def quantised(row: list[int], zero: int) -> list[int]:
    return [
        max(-128, min(127, zero + scaled(value - offset, multiplier, shift)))
        for value, (offset, multiplier, shift) in zip(row, SCALES, strict=True)
    ]


def decisions(files: Path) -> str:
    """Rows and what is to be decided on them: choices, then numbers."""
    choices = Program(program_of(network((4, 8, 3))))
    linear = Program(program_of(network((4, 8, 2), softmax=False)))
    files.joinpath("choices").write_bytes(image(bytes(choices), 4, 2, CHOICES, SCALES))
    files.joinpath("linear").write_bytes(
        image(bytes(linear), 4, 2, None, SCALES, ((128, 64, 0), (0, 1, 1)))
    )
    asked: dict[str, list[str]] = {"choices": [], "linear": []}
    zero = Model(choices).input_quant.zero_point
    zeros = Model(linear).input_quant.zero_point, Model(linear).output_quant.zero_point
    for row in rows(60):
        output = outputs(choices, quantised(row, zero))
        best = CHOICES[output.index(max(output))]
        output = outputs(linear, quantised(row, zeros[0]))
        first = min(max(128 + 64 * (output[0] - zeros[1]), 4), 4096)
        second = min(max(scaled(output[1] - zeros[1], 1, 1), -100), 100)
        number = [4 + (first - 4 + 2) // 4 * 4, second]
        for name, value in (("choices", best), ("linear", number)):
            words = " ".join(map(str, (*value, *value)))
            line = " ".join(map(str, ("decide", 0, *row)))
            # used, the model's, as it was given, for no sample
            asked[name].append(f"{line}|1 2 0 0 {words}\n")
    text = ""
    for name, lines in asked.items():
        files.joinpath(f"{name}.asks").write_text("".join(lines))
        text += (
            "begin 64\nset_to options/holdout_permil 0\nset_to mode recommendation\n"
            f"cat /{name} >$at/program || status=1\nasks /{name}.asks\n"
            "file stats/inferences 60\ntell unregister\n"
        )
    return text


def inferences(files: Path) -> tuple[str, int]:
    """The corpus' programs, where their rows are short enough to be told."""
    rng = random.Random(1)
    text, count = "tell 'register guest0 4 2 64 16777216 1048576 1048576'\n", 0
    for path in sorted(CORPUS.glob("*.mlk")):
        program = Program.from_file(path)
        ends = [*program.inputs, *program.outputs]
        if len(ends) != 2 or any(end["dtype"] != "int8" for end in ends):
            continue
        model = Model(program)
        sizes = [view.nbytes for view in (*model.inputs, *model.outputs)]
        if max(sizes) > MOST_NUMBERS or Path(path).stat().st_size > 1 << 18:
            continue
        files.joinpath(path.stem).write_bytes(image(bytes(program), 0, 0, head=0))
        if path.stem in WITH_VARIABLES:
            text += f"cat /{path.stem} >$at/program 2>/dev/null\n"
            text += "file program_diag 'program has variables'\n"
            continue
        given = [rng.randint(-128, 127) for _ in range(sizes[0])]
        said = " ".join(map(str, outputs(program, given)))
        words = " ".join(map(str, (sizes[1], *given)))
        text += f"if cat /{path.stem} >$at/program; then ask 'infer {words}' '{said}'; "
        text += f"else echo FAILED {path.stem}; status=1; fi\n"
        count += 1
    return text + "tell unregister\n", count


def compile_user(files: Path) -> None:
    compiler = "arm-linux-gnueabihf-gcc"
    if shutil.which(compiler) is None:
        absent(f"no {compiler}")
    (files / "bin").mkdir()
    subprocess.run(
        [
            *(compiler, "-O2", "-static"),
            *("-isystem", ROOT / "kernel" / "include" / "uapi"),
            *("-o", files / "bin" / "kernel_user"),
            ROOT / "benchmarks" / "kernel_user.c",
        ],
        check=True,
    )


@pytest.mark.slow
def test_everything_works_with_32_bit_words() -> None:
    need_kernel(KIND)
    out = ROOT / "build" / "guest" / KIND
    files = out / "files"
    shutil.rmtree(files, ignore_errors=True)
    files.mkdir(parents=True)
    compile_user(files)
    text, count = inferences(files)
    assert count > 10
    text = BEGIN + MAPPED + OWNED + decisions(files) + text + END
    (files / "test.sh").write_text(text)
    subprocess.run([SCRIPTS / "module.sh", KIND], check=True, stdout=subprocess.DEVNULL)
    done = subprocess.run(
        [SCRIPTS / "run.sh", KIND, out, "sh", "/test.sh"],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    print(shlex.quote(str(out)), count, "programs", done.stdout)
    assert "FAILED" not in done.stdout
    assert done.returncode == 0, done.stdout + done.stderr
