# SPDX-License-Identifier: MIT
"""The verifier on operators of two operands, matrices, and 16 bits.

Each parameter out of its range has its exact reason; hostile values that are in range
run clean under sanitizers.
"""

import errno
import random
import subprocess

import pytest
from helpers.engine_c import ENGINE, compile_c, verify
from unit.test_program import FUZZ, NAMES, PROGRAMS, TENSOR, TENSOR_FIELDS, Edit

from pymlk import Model, Program

S32 = 2**31
UINT8, INT8 = 3, 9  # enum mlk_dtype
# Names of the parameter words, in the order of the structs in mlk_engine.h.
WORDS = {
    "BINARY": "kind dim0 dim1 dim2 dim3 dim4 dim5 repeat1 repeat2 offset1 offset2 "
    "left_shift multiplier1 shift1 multiplier2 shift2 multiplier shift out_zero_point "
    "act_min act_max",
    "LOG_SOFTMAX": "rows depth exps differences entries reverse_multiplier "
    "reverse_shift",
    "BATCH_MATMUL": "batch0 batch1 batch2 batch3 repeat1 repeat2 rows depth columns "
    "transposed1 transposed2 offset1 offset2 multiplier shift out_zero_point",
    "REQUANTIZE": "in_zero_point positive_multiplier positive_shift "
    "negative_multiplier negative_shift out_zero_point act_min act_max absolute",
    "LUT_S16": "table",
    "SIGMOID_S16": "table multiplier shift tanh",
    "SOFTMAX_S16": "rows depth exps reciprocals multiplier shift",
}
# Program of the corpus -> its operator, which is the only one.
OPERATOR = {
    "add": "BINARY",
    "mul": "BINARY",
    "prelu": "BINARY",
    "sub_s16": "BINARY",
    "log_softmax": "LOG_SOFTMAX",
    "batch_matmul": "BATCH_MATMUL",
    "requantize": "REQUANTIZE",
    "lut_s16": "LUT_S16",
    "sigmoid_s16": "SIGMOID_S16",
    "softmax_s16": "SOFTMAX_S16",
}


def words(name):
    """Names of a program's parameters."""
    return WORDS[OPERATOR[name]].split()


def changed(name, **changes):
    """A program of the corpus with some parameters changed."""
    known = words(name)
    edit = Edit(name)
    for word, value in changes.items():
        if word in known:
            edit.op(0, **{f"word{known.index(word)}": value})
        else:
            edit.op(0, **{word: value})
    return edit


def parameter(name, word):
    """One parameter of a program of the corpus."""
    return Edit(name).word(words(name).index(word))


def table(name, word, entry, form, value):
    """A program with one entry of one of its arrays changed."""
    width = 2 if form == "h" else 4
    return Edit(name).put(parameter(name, word) + width * entry, f"<{form}", value)


# What no 8-bit program may have, word by word; then the other operators.
MULTIPLIERS = ("multiplier1", "multiplier2", "multiplier")
SHIFTS = ("shift1", "shift2", "shift")
PARAM = {
    "add": [
        *({"kind": k} for k in (9, 0xFFFFFFFF)),
        *({word: 64} for word in ("repeat1", "repeat2")),
        *({w: v} for w in ("offset1", "offset2") for v in (129, -128, S32 - 1, -S32)),
        *({"left_shift": v} for v in (21, -1)),
        *({word: v} for word in MULTIPLIERS for v in (-1, -S32)),
        *({word: v} for word in SHIFTS for v in (31, -32, S32 - 1, -S32)),
        *({"out_zero_point": v} for v in (128, -129)),
        *({"act_min": v} for v in (-129, 128)),
        *({"act_max": v} for v in (128, -129)),
        {"act_min": 5, "act_max": 4},
        # these kinds only shift to the right
        {"kind": 7, "shift1": 1},
        {"kind": 8, "shift2": 1},
    ],
    "sub_s16": [
        *({w: v} for w in ("offset1", "offset2", "out_zero_point") for v in (1, -1)),
        {"left_shift": 16},
        {"act_min": -32769},
        {"act_max": 32768},
    ],
    "log_softmax": [
        *({word: 0} for word in ("rows", "depth", "entries")),
        {"depth": 4096},
        {"entries": 257},
        {"reverse_multiplier": -1},
        *({"reverse_shift": v} for v in (1, -32)),
    ],
    "batch_matmul": [
        {"depth": 0},
        *({word: 16} for word in ("repeat1", "repeat2")),
        *({word: 2} for word in ("transposed1", "transposed2")),
        *({w: v} for w in ("offset1", "offset2") for v in (129, -128)),
        {"multiplier": -1},
        *({"shift": v} for v in (31, -32)),
        *({"out_zero_point": v} for v in (128, -129)),
    ],
    "requantize": [
        *({"in_zero_point": v} for v in (32768, -32769)),
        *({w: -1} for w in ("positive_multiplier", "negative_multiplier")),
        *({w: v} for w in ("positive_shift", "negative_shift") for v in (31, -32)),
        *({"out_zero_point": v} for v in (32768, -32769)),
        {"absolute": 2},
        {"act_min": -129},
        {"act_max": 128},
        {"act_min": 1, "act_max": 0},
    ],
    "sigmoid_s16": [{"multiplier": 32768}, {"shift": 31}, {"tanh": 2}],
    "softmax_s16": [
        *({word: 0} for word in ("rows", "depth")),
        {"depth": 65536},
        {"multiplier": -1},
        *({"shift": v} for v in (31, -32)),
    ],
}
TABLES = [
    ("log_softmax", "exps", 0, "i", (1 << 19) - 1),
    ("log_softmax", "exps", 0, "i", (1 << 19) + 1),
    ("log_softmax", "exps", 9, "i", -1),
    ("log_softmax", "exps", 255, "i", (1 << 19) + 1),
    ("log_softmax", "differences", 255, "i", 1),
    ("softmax_s16", "exps", 0, "h", -1),
    ("softmax_s16", "exps", 511, "h", (1 << 14) - 1),
    ("softmax_s16", "exps", 512, "h", (1 << 14) - 1),
]
OPERAND = {
    "add": [
        {"in1": 0xFFFF},
        {"in0": 9},
        {"out0": 9},
        {"in2": 0},
        {"out1": 0},
        {"repeat1": 1 << 4},
        {"repeat2": 0},
        {"dim5": 2},
        {"dim0": 0},
        {"dim0": 2},
        {f"dim{i}": 0xFFFFFFFF for i in range(6)},
        {f"dim{i}": 1 << 11 for i in range(6)},
        # 32 bits would not hold this product, 64 bits would not either
        {"dim0": 1 << 31, "dim1": 1 << 31, "dim2": 4},
        {"repeat1": 63, "repeat2": 63},
    ],
    "log_softmax": [{"rows": 1}, {"depth": 2}, {"rows": 0xFFFFFFFF, "depth": 4095}],
    "batch_matmul": [
        {"in1": 0xFFFF},
        {"rows": 0},
        {"columns": 0},
        {"batch0": 0},
        {"batch3": 0},
        {"rows": 3},
        {"columns": 3},
        {"depth": 4},
        {"repeat1": 0},
        {"repeat2": 0},
        {"rows": 0xFFFFFFFF, "columns": 0xFFFFFFFF},
        {f"batch{i}": 0xFFFFFFFF for i in range(4)},
        {"depth": 0xFFFFFFFF},
    ],
    "softmax_s16": [{"rows": 1}, {"depth": 2}, {"rows": 0xFFFFFFFF, "depth": 65535}],
}
DATA = [
    (name, word)
    for name, operator in OPERATOR.items()
    for word in ("table", "exps", "differences", "reciprocals")
    if word in WORDS[operator].split()
]


def refused(program, reason):
    """The exact reason, at the first operator."""
    rc, diag = verify(program)
    assert (rc, NAMES[diag.reason], diag.op) == (-errno.EINVAL, reason, 0)


def cases(table_):
    return [(name, case) for name, many in table_.items() for case in many]


@pytest.mark.parametrize(("name", "case"), cases(PARAM))
def test_parameter_out_of_range(name, case):
    """One word, or two that contradict each other."""
    refused(changed(name, **case).done(), "PARAM")


@pytest.mark.parametrize("case", TABLES)
def test_table_entry_out_of_range(case):
    """What would make a sum too large, or nothing."""
    refused(table(*case).done(), "PARAM")


@pytest.mark.parametrize(("name", "case"), cases(OPERAND))
def test_operand_of_another_size(name, case):
    """Shapes whose products are not the tensors' sizes."""
    refused(changed(name, **case).done(), "OPERAND")


@pytest.mark.parametrize("name", OPERATOR)
def test_operand_of_another_dtype(name):
    """The bytes would suffice, but they mean something else."""
    for number in range(Edit(name).header()["n_tensors"]):
        edit = Edit(name)
        at = edit.header()["tensors"] + number * TENSOR.size
        fields = dict(
            zip(TENSOR_FIELDS, TENSOR.unpack_from(edit.data, at), strict=True)
        )
        if fields["dtype"] == INT8:
            edit.tensor(number, dtype=UINT8, host_dtype=UINT8, zero_point=0)
        else:
            last = f"dim{fields['rank'] - 1}"
            twice = {last: 2 * fields[last]}
            edit.tensor(number, dtype=INT8, host_dtype=INT8, **twice)
        refused(edit.done(), "OPERAND")


@pytest.mark.parametrize(("name", "word"), DATA)
def test_array_outside_of_the_data(name, word):
    """Before it, behind it, misaligned, at the end of the address space."""
    header = Edit(name).header()
    places = 0, header["data"] - 16, header["data"] + 8, header["names"], 0xFFFFFFF0
    for place in places:
        refused(changed(name, **{word: place}).done(), "DATA")


@pytest.mark.parametrize("name", OPERATOR)
def test_words_behind_the_parameters(name):
    """They are reserved."""
    refused(Edit(name).op(0, **{f"word{len(words(name))}": 1}).done(), "RESERVED")


def test_products_are_counted():
    """A matrix product's work is in the header, and is what a limit sees."""
    program = Program(PROGRAMS["batch_matmul.mlk"])
    assert program.macs == 2 * 3 * 2 * 2 * 3
    rc, diag = verify(Edit("batch_matmul").set(macs=35).done())
    assert (rc, NAMES[diag.reason]) == (-errno.EINVAL, "MACS")


def test_hostile_programs_that_are_in_range(tmp_path):
    """Extreme multipliers, zero points, tables and overlapping tensors, sanitized."""
    target = tmp_path / "mutate"
    compile_c(
        target,
        *("-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror"),
        *("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
        *map(str, (FUZZ / "fuzz_program.c", FUZZ / "mutate.c")),
        *map(str, sorted(ENGINE.glob("mlk_*.c"))),
    )
    rng = random.Random(3)
    files = []
    values = {
        "multiplier": (0, 1, 1 << 30, S32 - 1),
        "shift": (30, 29, 8, 1, 0, -1, -31),
        "offset": (-127, 128, 0),
        "point": (-128, 127),
        "kind": range(9),
    }
    for number in range(600):
        name = rng.choice(sorted(OPERATOR))
        edit = Edit(name)
        for word in words(name):
            kind = next((k for k in values if k in word), None)
            if word == "left_shift":
                edit = _set(edit, name, word, rng.randrange(16))
            elif kind and rng.random() < 0.7:
                edit = _set(edit, name, word, rng.choice(values[kind]))
            elif word in ("table", "exps", "differences", "reciprocals"):
                at, form = parameter(name, word), "i" if "log" in name else "h"
                least, most = (0, 1 << 19) if form == "i" else (0, 32767)
                if word == "differences":
                    least, most = -S32, 0
                elif word in ("table", "reciprocals"):
                    least = -32768
                width = 4 if form == "i" else 2
                for entry in rng.sample(range(1, 250), 40):
                    value = rng.choice((least, most, rng.randint(least, most)))
                    edit.put(at + width * entry, f"<{form}", value)
        if rng.random() < 0.5:
            # all tensors at the same place, or nearly
            for tensor in range(len(Program(PROGRAMS[f"{name}.mlk"]).inputs) + 1):
                if not (name == "sub_s16" and tensor == 1):
                    edit.tensor(tensor, offset=0)
        path = tmp_path / f"{number}.mlk"
        path.write_bytes(edit.done())
        files.append(path)
    command = [str(target), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    ran = int(done.stdout.split()[0])
    assert ran > 200, done.stdout


def _set(edit, name, word, value):
    return edit.op(0, **{f"word{words(name).index(word)}": value})


@pytest.mark.parametrize("name", OPERATOR)
def test_repeated_runs_agree(name):
    """A run keeps nothing: the same operands give the same result again."""
    model = Model(PROGRAMS[f"{name}.mlk"])
    rng = random.Random(name)
    operands = [rng.randbytes(view.nbytes) for view in model.inputs]
    results = set()
    for _ in range(3):
        for view, data in zip(model.inputs, operands, strict=True):
            view.cast("B")[:] = data
        model.invoke()
        results.add(bytes(model.output.cast("B")))
    assert len(results) == 1
