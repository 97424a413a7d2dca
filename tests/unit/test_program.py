# SPDX-License-Identifier: MIT
"""The verifier: every reason to refuse a program, every errno, the caller's limits."""

import ctypes
import errno
import importlib.util
import random
import re
import struct

import pytest
from helpers.engine_c import ENGINE, Limits, Speed, compile_c, engine, verify
from helpers.reference import ROOT

from pymlk import Model, ModelError, Program, UnsupportedOpError
from pymlk.compile import compile_model
from pymlk.compile.program import PARAM_WORDS, checksum

FUZZ = ROOT / "tests" / "fuzz"


def _corpus_maker():
    spec = importlib.util.spec_from_file_location("mk", FUZZ / "make_corpus.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MAKER = _corpus_maker()
PROGRAMS = MAKER.programs()

# struct mlk_header, field by field
HEADER = struct.Struct("<IHHIIQQIIIIIIIHHHHHH")
FIELDS = (
    "magic version header_bytes total_bytes reserved0 checksum macs arena_bytes "
    "source_crc tensors ops io data names n_tensors n_ops n_inputs n_outputs "
    "n_init_ops reserved"
).split()
TENSOR = struct.Struct("<BBBBIIiII6I")
TENSOR_FIELDS = (
    "dtype host_dtype rank flags offset bytes zero_point scale name "
    "dim0 dim1 dim2 dim3 dim4 dim5"
).split()
OP = struct.Struct(f"<HH4H2H{PARAM_WORDS}I")
OP_FIELDS = "opcode source in0 in1 in2 in3 out0 out1".split()
OP_FIELDS += [f"word{i}" for i in range(PARAM_WORDS)]
# struct mlk_weights and what follows in FULLY_CONNECTED and convolutions
WEIGHTS = (
    "depth width packed bias bias_unsigned multiplier shift out_zero_point act_min "
    "act_max"
).split()
FC = [*WEIGHTS, "rows", "weight_offset"]
WINDOW = (
    "batches in_h in_w out_h out_w filter_h filter_w stride_h stride_w dilation_h "
    "dilation_w pad_h pad_w"
).split()
CONV = [*WEIGHTS, *WINDOW, "in_zero_point"]

_TEXT = (ENGINE / "mlk_engine.h").read_text().replace("\\\n", "\n")
REASONS = re.findall(r"^\tX\((\w+),\s+\"(.*)\"\)", _TEXT, re.MULTILINE)
NAMES = [name for name, _ in REASONS]


class Edit:
    """A program whose fields can be set; the checksum follows."""

    def __init__(self, name):
        self.data = bytearray(PROGRAMS[f"{name}.mlk"])

    def header(self):
        """All header fields."""
        return dict(zip(FIELDS, HEADER.unpack_from(self.data), strict=True))

    def _set(self, form, names, at, changes):
        fields = dict(zip(names, form.unpack_from(self.data, at), strict=True))
        assert changes.keys() <= fields.keys()
        fields |= {k: v & 0xFFFFFFFFFFFFFFFF for k, v in changes.items()}
        values = [
            v & 0xFFFFFFFF if k not in ("checksum", "macs") else v
            for k, v in fields.items()
        ]
        if form is TENSOR:
            zero = TENSOR_FIELDS.index("zero_point")
            values[zero] = (values[zero] + 2**31) % 2**32 - 2**31
        form.pack_into(self.data, at, *values)
        return self

    def set(self, **changes):
        """Set header fields."""
        return self._set(HEADER, FIELDS, 0, changes)

    def tensor(self, number, **changes):
        """Set fields of a tensor."""
        at = self.header()["tensors"] + number * TENSOR.size
        return self._set(TENSOR, TENSOR_FIELDS, at, changes)

    def op(self, number, **changes):
        """Set fields of an operator; parameters of the two products by name."""
        for names in (FC, CONV):
            for position, name in enumerate(names):
                if name in changes:
                    changes[f"word{position}"] = changes.pop(name)
        at = self.header()["ops"] + number * OP.size
        return self._set(OP, OP_FIELDS, at, changes)

    def word(self, number, op=0):
        """One parameter word."""
        at = self.header()["ops"] + op * OP.size + 16 + 4 * number
        return struct.unpack_from("<I", self.data, at)[0]

    def put(self, at, form, *values):
        """Overwrite something at an offset."""
        struct.pack_into(form, self.data, at, *values)
        return self

    def done(self):
        """The program, with its checksum right again."""
        total = self.header()["total_bytes"]
        if total % 4 == 0 and total <= len(self.data):
            self.set(checksum=checksum(bytes(self.data[24:total])))
        return bytes(self.data)


def refuses_other_work(name, more):
    """A program of the corpus whose header says so many MACs more is refused."""
    program = Edit(name)
    macs = program.header()["macs"]
    assert macs > 0
    rc, diag = verify(program.set(macs=macs + more).done())
    assert (rc, NAMES[diag.reason]) == (-errno.EINVAL, "MACS")


def edit(name="fully_connected"):
    """Start from one of the corpus's programs."""
    return Edit(name)


def fc():
    """The header of the FULLY_CONNECTED program, for offsets."""
    return edit().header()


STRUCTURED = {
    "MAGIC": [lambda: edit().set(magic=0)],
    "VERSION": [
        lambda: edit().set(version=2),
        lambda: edit().set(version=0),
        lambda: edit().set(header_bytes=96),
    ],
    "SHORT": [
        lambda: edit().set(total_bytes=fc()["total_bytes"] + 4),
        lambda: edit().set(total_bytes=8),
        lambda: edit().set(total_bytes=0xFFFFFFFC),
    ],
    "LAYOUT": [
        lambda: edit().set(total_bytes=fc()["total_bytes"] - 1),
        lambda: edit().set(tensors=0),
        lambda: edit().set(tensors=fc()["tensors"] + 4),
        lambda: edit().set(tensors=fc()["ops"]),
        lambda: edit().set(ops=fc()["tensors"]),
        lambda: edit().set(ops=fc()["ops"] + 4),
        lambda: edit().set(ops=0xFFFFFFF8),
        lambda: edit().set(io=fc()["ops"]),
        lambda: edit().set(io=fc()["io"] + 1),
        lambda: edit().set(data=fc()["io"]),
        lambda: edit().set(data=fc()["data"] + 8),
        lambda: edit().set(names=fc()["data"] - 16),
        lambda: edit().set(names=fc()["total_bytes"]),
        lambda: edit().set(n_tensors=4000),
        lambda: edit().set(n_ops=4000),
        lambda: edit().put(fc()["total_bytes"] - 1, "<B", 65),
    ],
    "RESERVED": [
        lambda: edit().set(reserved=1),
        lambda: edit().set(reserved0=1),
        lambda: edit().op(0, word12=1),
        lambda: edit().op(0, word23=1),
    ],
    "COUNTS": [
        lambda: edit().set(n_init_ops=2),
        lambda: edit().set(n_tensors=0),
        lambda: edit().set(n_tensors=4097),
        lambda: edit().set(n_ops=4097),
        lambda: edit().set(n_inputs=0),
        lambda: edit().set(n_outputs=0),
        lambda: edit().set(n_inputs=3),
        lambda: edit().set(n_outputs=3),
        lambda: edit().set(arena_bytes=(1 << 28) + 16),
        lambda: edit().set(arena_bytes=17),
    ],
    "TENSOR": [
        lambda: edit().tensor(0, dtype=0),
        lambda: edit().tensor(0, dtype=7),
        lambda: edit().tensor(0, host_dtype=3),
        lambda: edit().tensor(0, rank=7),
        lambda: edit().tensor(0, rank=1),
        lambda: edit().tensor(0, flags=1),
        lambda: edit().tensor(1, offset=8),
        lambda: edit().tensor(1, offset=0xFFFFFFF0),
        lambda: edit().tensor(1, offset=fc()["arena_bytes"]),
        # 32 bits would not hold the sum
        lambda: edit().tensor(0, offset=0xFFFFFFF0, dim1=16, bytes=16),
        lambda: edit().tensor(0, bytes=3),
        lambda: edit().tensor(0, dim0=0),
        lambda: edit().tensor(0, dim2=1),
        lambda: edit().tensor(0, dim0=0x80000000, dim1=0x80000000),
        lambda: edit().tensor(0, dim0=1 << 16, dim1=1 << 16, bytes=0),
        lambda: edit().tensor(0, name=fc()["total_bytes"]),
        lambda: edit().tensor(0, zero_point=128),
        lambda: edit().tensor(0, zero_point=-129),
        lambda: edit().tensor(0, zero_point=0x7FFFFFFF),
        lambda: edit().tensor(0, dtype=3, host_dtype=3, zero_point=-1),
        lambda: edit().tensor(0, dtype=3, host_dtype=3, zero_point=256),
        lambda: edit("lut_s16").tensor(0, zero_point=-32769),
        lambda: edit("lut_s16").tensor(0, zero_point=32768),
        lambda: edit().tensor(0, scale=0),
        lambda: edit().tensor(0, scale=0x7F800000),
        lambda: edit().tensor(0, scale=0x7FC00000),
        lambda: edit().tensor(0, scale=0xBF800000),
        lambda: edit().set(arena_bytes=0),
    ],
    "IO": [
        lambda: edit().put(fc()["io"], "<H", 2),
        lambda: edit().put(fc()["io"] + 2, "<H", 0xFFFF),
    ],
    "OPCODE": [
        lambda: edit().op(0, opcode=0),
        lambda: edit().op(0, opcode=250),
    ],
    "OPERAND": [
        lambda: edit().op(0, in0=0xFFFF),
        lambda: edit().op(0, in1=0),
        lambda: edit().op(0, in3=5),
        lambda: edit().op(0, out0=0xFFFF),
        lambda: edit().op(0, out1=1),
        lambda: edit().op(0, in0=2),
        lambda: edit().op(0, in0=0xFFFF),
        lambda: edit().op(0, out0=0xFFFF),
        lambda: edit().op(0, rows=2),
        lambda: edit().op(0, depth=1),
        lambda: edit().op(0, width=2),
        lambda: edit().op(0, rows=0xFFFFFFFF, depth=0xFFFFFFFF),
        lambda: edit("conv_2d").tensor(0, rank=3, dim0=3, dim1=4, dim2=2, dim3=0),
        lambda: edit("conv_2d").op(0, stride_w=1 << 20),
        lambda: edit("conv_2d").op(0, out1=0xFFFF),
        lambda: edit("softmax").op(0, word0=3),
        lambda: edit("softmax").tensor(1, dtype=7, host_dtype=7, dim1=1, dim0=3),
        lambda: edit("softmax_to_s16").tensor(
            1, dtype=3, host_dtype=3, zero_point=0, dim0=4
        ),
        lambda: edit("softmax").op(0, out0=0xFFFF),
        lambda: edit("relu6").op(0, in0=9),
        lambda: edit("copy").op(0, out0=9),
    ],
    "PARAM": [
        lambda: edit().op(0, rows=0),
        lambda: edit("conv_2d").op(0, depth=17),
        lambda: edit().op(0, weight_offset=129),
        lambda: edit().op(0, weight_offset=-128),
        lambda: edit().op(0, out_zero_point=128),
        lambda: edit().op(0, out_zero_point=-129),
        lambda: edit().op(0, act_min=-129),
        lambda: edit().op(0, act_max=128),
        lambda: edit().op(0, act_min=5, act_max=4),
        lambda: edit().put(edit().word(5), "<i", -1),
        lambda: edit().put(edit().word(6) + 8, "<i", 31),
        lambda: edit().put(edit().word(6), "<i", -32),
        lambda: edit("softmax").op(0, word1=4096),
        lambda: edit("softmax").op(0, word1=0),
        lambda: edit("softmax").op(0, word3=0),
        lambda: edit("softmax").op(0, word3=257),
        lambda: edit("softmax").put(edit("softmax").word(2), "<i", 0x7FFFFFFE),
        lambda: edit("softmax").put(edit("softmax").word(2) + 4, "<i", -1),
    ],
    "DATA": [
        lambda: edit().op(0, packed=0),
        lambda: edit().op(0, packed=fc()["data"] + 8),
        lambda: edit().op(0, packed=fc()["names"]),
        lambda: edit().op(0, bias=0xFFFFFFF0),
        lambda: edit().op(0, multiplier=fc()["names"]),
        lambda: edit().op(0, shift=fc()["names"]),
        lambda: edit().op(0, bias_unsigned=fc()["names"]),
        lambda: edit("conv_2d").op(0, packed=0),
        lambda: edit("softmax").op(0, word2=fc()["data"] + 16),
        lambda: edit("relu6").op(0, word0=edit("relu6").header()["names"]),
    ],
    "MACS": [
        lambda: edit().set(macs=5),
        lambda: edit().set(macs=7),
        lambda: edit().set(macs=1 << 63),
        lambda: edit("mlp").set(macs=0),
    ],
}
ERRNO = {
    "SHORT": errno.EBADMSG,
    "MAGIC": errno.EBADMSG,
    "VERSION": errno.EBADMSG,
    "CHECKSUM": errno.EBADMSG,
    "OPCODE": errno.EOPNOTSUPP,
    "ARENA_LIMIT": errno.ENOSPC,
    "MACS_LIMIT": errno.E2BIG,
    "TIME_LIMIT": errno.E2BIG,
}
CASES = [(r, i) for r, cases in STRUCTURED.items() for i in range(len(cases))]


def test_every_reason_has_a_test():
    """Each entry of MLK_REASONS is reached somewhere in this file."""
    elsewhere = {"NONE", "ALIGN", "CHECKSUM"}
    elsewhere |= {"ARENA_LIMIT", "MACS_LIMIT", "TIME_LIMIT"}
    assert set(STRUCTURED) | elsewhere == set(NAMES)
    assert not set(STRUCTURED) & elsewhere


@pytest.mark.parametrize(("reason", "case"), CASES)
def test_structured_damage(reason, case):
    """One field out of its range, with the checksum right: the exact reason."""
    program = STRUCTURED[reason][case]().done()
    rc, diag = verify(program)
    assert NAMES[diag.reason] == reason
    assert rc == -ERRNO.get(reason, errno.EINVAL)
    assert (diag.op >= 0) == (
        reason in ("OPCODE", "OPERAND", "PARAM", "DATA")
        or (reason == "RESERVED" and case >= 2)
    )
    assert (diag.tensor >= 0) == (reason == "TENSOR")
    kind = UnsupportedOpError if reason == "OPCODE" else ModelError
    text = re.escape(dict(REASONS)[reason])
    with pytest.raises(kind, match=rf"^program refused: .*{text}"):
        Program(program)


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_undamaged_are_accepted(name):
    """What the compiler writes the verifier takes, and editing harms nothing."""
    program = PROGRAMS[name]
    rc, diag = verify(program)
    assert (rc, diag.reason, diag.op, diag.tensor) == (0, 0, -1, -1)
    assert edit(name.removesuffix(".mlk")).done() == program
    assert bytes(Program(program)) == program
    # more bytes than its own are ignored
    assert verify(program + b"tail")[0] == 0
    Model(program).invoke()


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_checksum_finds_any_damaged_byte(name):
    """Without a new checksum a change of what it covers never gets through."""
    rng = random.Random(name)
    for at in range(24, len(PROGRAMS[name])):
        data = bytearray(PROGRAMS[name])
        data[at] ^= rng.randrange(1, 256)
        rc, diag = verify(bytes(data))
        assert (rc, NAMES[diag.reason]) == (-errno.EBADMSG, "CHECKSUM"), at


def test_the_checksum_finds_swapped_words():
    """A plain sum would not."""
    data = PROGRAMS["mlp.mlk"]
    words = list(struct.unpack(f"<{len(data) // 4}I", data))
    words[100], words[200] = words[200], words[100]
    assert words[100] != words[200]
    rc, diag = verify(struct.pack(f"<{len(words)}I", *words))
    assert (rc, NAMES[diag.reason]) == (-errno.EBADMSG, "CHECKSUM")


@pytest.mark.parametrize("name", PROGRAMS)
def test_c_and_python_agree_on_the_checksum(name):
    """The compiler's checksum is the engine's."""
    data = PROGRAMS[name]
    buffer = ctypes.create_string_buffer(data, len(data))
    assert engine().mlk_program_checksum(buffer) == checksum(data[24:])


@pytest.mark.parametrize("name", PROGRAMS)
def test_cut_anywhere(name):
    """A program that ends early is refused as such, at every length."""
    program = PROGRAMS[name]
    for size in range(len(program)):
        rc, diag = verify(program[:size])
        assert (rc, NAMES[diag.reason]) == (-errno.EBADMSG, "SHORT")
        with pytest.raises(ModelError, match=f"shorter than .* \\({size} bytes\\)"):
            Program(program[:size])


@pytest.mark.parametrize("off", [1, 2, 4, 7])
def test_misaligned(off):
    """Words could not be read there on every machine."""
    rc, diag = verify(PROGRAMS["mlp.mlk"], misaligned=off)
    assert (rc, NAMES[diag.reason]) == (-errno.EINVAL, "ALIGN")
    assert verify(PROGRAMS["mlp.mlk"], misaligned=8)[0] == 0


def test_limits():
    """A caller that can afford less refuses with -ENOSPC or -E2BIG, never earlier."""
    program = PROGRAMS["mlp.mlk"]
    loaded = Program(program)
    arena, macs = loaded.arena_bytes, loaded.macs
    assert (arena > 0, macs) == (True, 9 * 5 + 4 * 9)
    assert verify(program, Limits(arena, macs))[0] == 0
    assert verify(program, Limits(2**32 - 1, 2**64 - 1))[0] == 0
    for limits, code, name in (
        (Limits(arena - 1, macs), errno.ENOSPC, "ARENA_LIMIT"),
        (Limits(0, macs), errno.ENOSPC, "ARENA_LIMIT"),
        (Limits(arena, macs - 1), errno.E2BIG, "MACS_LIMIT"),
        (Limits(arena, 0), errno.E2BIG, "MACS_LIMIT"),
    ):
        rc, diag = verify(program, limits)
        assert (rc, NAMES[diag.reason]) == (-code, name)


def test_time_limit():
    """The time that mlk_program_cost() tells, at a speed or at the slow one."""
    program = PROGRAMS["mlp.mlk"]
    loaded = Program(program)
    for speed in (None, (1000, 200, 300)):
        given = speed and ctypes.pointer(Speed(*speed))
        cost = loaded.cost(speed)
        for ns in (0, cost, 2**64 - 1):
            assert verify(program, Limits(2**20, 2**20, ns, given))[0] == 0
        for ns in (1, cost - 1):
            rc, diag = verify(program, Limits(2**20, 2**20, ns, given))
            assert (rc, NAMES[diag.reason]) == (-errno.E2BIG, "TIME_LIMIT")
            assert (diag.op, diag.tensor) == (-1, -1)


def test_shared_arrays_do_not_make_verification_long():
    """Operators beyond the MACs that the header admits are not even looked at."""
    first = edit("mlp").set(macs=1)
    # The second operator is damaged, too, but the first has used up the budget.
    first.op(1, opcode=250)
    rc, diag = verify(first.done())
    assert (rc, NAMES[diag.reason]) == (-errno.EINVAL, "MACS")


def test_reason_texts():
    """One list for C and for people; no text for other numbers."""
    for number, (_, text) in enumerate(REASONS):
        assert engine().mlk_reason_text(number) == text.encode()
    for number in (-1, len(REASONS), 2**31 - 1, -(2**31)):
        assert engine().mlk_reason_text(number) == b"unknown reason"


def test_a_refusal_says_where():
    """Operator and tensor numbers are in the message."""
    with pytest.raises(ModelError, match=r"tensor 1: bad tensor entry"):
        Program(edit().tensor(1, flags=9).done())
    with pytest.raises(ModelError, match=r"op\[1\]: operator parameter out of range"):
        Program(edit("mlp").op(1, act_max=500).done())
    with pytest.raises(UnsupportedOpError) as caught:
        Program(edit("mlp").op(2, opcode=99).done())
    assert caught.value.operators == ("op[2]",)


def test_program_attributes():
    """What a program tells about itself, and that it never changes."""
    program = Program(PROGRAMS["logistic_border.mlk"])
    assert program.ops == ("LOGISTIC",)
    assert len(program) == len(PROGRAMS["logistic_border.mlk"])
    (first,), (last,) = program.inputs, program.outputs
    assert first == {
        "name": "x",
        "dtype": "float32",
        "shape": (1, 4),
        "scale": pytest.approx(0.1),
        "zero_point": 0,
    }
    assert (last["name"], last["scale"], last["zero_point"]) == ("y", 1 / 256, -128)
    with pytest.raises(TypeError, match="made once"):
        program.__init__(PROGRAMS["mlp.mlk"])
    for name in ("arena_bytes", "macs", "source_crc", "ops"):
        with pytest.raises(AttributeError):
            setattr(program, name, 0)


def test_program_sources():
    """Any bytes-like object; bytes are not copied."""
    data = PROGRAMS["mlp.mlk"]
    assert bytes(Program(data)) is data
    for kind in (bytearray, memoryview):
        assert bytes(Program(kind(data))) == data
    changing = bytearray(data)
    program = Program(changing)
    changing[:] = bytes(len(changing))
    assert bytes(program) == data
    for wrong in (5, None, "text", [1, 2]):
        with pytest.raises(TypeError):
            Program(wrong)


def test_an_unmade_program_is_empty():
    """``__new__`` alone gives nothing that could be run by mistake."""
    program = Program.__new__(Program)
    assert (program.macs, program.ops, program.inputs, len(program)) == (0, (), (), 0)
    assert program.name == ""


def test_a_name_that_is_no_utf8():
    """Names are for people; a damaged one must not make a program unusable."""
    data = edit()
    at = data.header()["names"]
    # the program's own and that of its input
    assert data.data[at : at + 3] == b"\0in"
    data.put(at + 1, "<B", 0xFF)
    assert Program(data.done()).inputs[0]["name"] == "\ufffdnput"
    data.put(at, "<BB", 0xFF, 0)
    assert Program(data.done()).name == "\ufffd"


def test_source_crc():
    """The program knows which file it was made from."""
    import zlib

    data = MAKER.models()["mlp"]
    assert Program(compile_model(data)).source_crc == zlib.crc32(data)


def test_the_corpus_is_what_its_script_makes():
    """The committed fuzzing corpus is neither stale nor padded."""
    found = {p.name: p.read_bytes() for p in (FUZZ / "corpus").iterdir()}
    assert found == MAKER.files()
    assert sum(map(len, found.values())) < 60_000


@pytest.fixture(scope="module")
def mutate(tmp_path_factory):
    """The driver of the fuzz target, with sanitizers."""
    target = tmp_path_factory.mktemp("mutate") / "mutate"
    compile_c(
        target,
        *("-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror"),
        *("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
        *map(str, (FUZZ / "fuzz_program.c", FUZZ / "mutate.c")),
        *map(str, sorted(ENGINE.glob("mlk_*.c"))),
    )
    return target


def _run(*command):
    import subprocess

    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    ran, refused = re.fullmatch(r"(\d+) ran, (\d+) refused\n", done.stdout).groups()
    return int(ran), int(refused)


def test_corpus_replay(mutate):
    """Each program of the corpus runs clean under ASan and UBSan."""
    files = sorted((FUZZ / "corpus").iterdir())
    assert _run(mutate, *files) == (len(files), 0)


def _overlapping(name, places):
    """A program whose tensors lie over each other, in turn at these places."""
    changed = edit(name)
    header = changed.header()
    for number in range(header["n_tensors"]):
        at = header["tensors"] + number * TENSOR.size
        flags, size = struct.unpack_from("<3xB4xI", changed.data, at)
        place = places[number % len(places)]
        if not flags and place + size <= header["arena_bytes"]:
            changed.tensor(number, offset=place)
    return changed.done()


def test_tensors_over_each_other(mutate, tmp_path):
    """A hostile program gets wrong results out of that, and nothing worse."""
    files = []
    for name in PROGRAMS:
        for i, places in enumerate(((0,), (0, 16), (16, 0), (0, 16, 32))):
            path = tmp_path / f"{name}.{i}"
            path.write_bytes(_overlapping(name.removesuffix(".mlk"), places))
            files.append(path)
    assert _run(mutate, *files) == (len(files), 0)


def test_every_single_byte(mutate):
    """All values of all bytes of some programs, with and without a new checksum."""
    files = [FUZZ / "corpus" / f"{name}.mlk" for name in MAKER.SMALL]
    total = sum(p.stat().st_size for p in files)
    ran, refused = _run(mutate, "--every", *files)
    assert ran + refused == total * (255 * 2 + 1)
    assert ran > 10_000
    assert refused > total * 255


def test_random_structured_damage(mutate, tmp_path):
    """Several words at once set to what limits are made of."""
    rng = random.Random(5)
    values = (0, 1, 2, 3, 4, 8, 16, 127, 128, 255, 256, 4095, 4096, 65535)
    values += tuple(2**k + d for k in (16, 28, 31) for d in (-1, 0, 1))
    values += (2**32 - 1,)
    files = []
    for number in range(1500):
        data = bytearray(PROGRAMS[rng.choice(sorted(PROGRAMS))])
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(6, len(data) // 4) * 4
            struct.pack_into("<I", data, at, rng.choice(values))
        path = tmp_path / str(number)
        path.write_bytes(data)
        files.append(path)
    ran, refused = _run(mutate, *files)
    assert ran + refused == len(files)
    assert ran > 50
    assert refused > 500
