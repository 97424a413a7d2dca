# SPDX-License-Identifier: MIT
"""Several programs in one file, and weights that are used where they are."""

import ctypes
import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.engine_c import engine
from helpers.models import border, network, several

import pymlk
from pymlk import Model, ModelError, Program
from pymlk.compile import compile_model
from pymlk.compile.program import join

MODELS = [network(), border(True, True), network((64, 400, 64)), several()]
NAMES = ["first", "a b", "größe", ""]
PROGRAMS = [compile_model(*both) for both in zip(MODELS, NAMES, strict=True)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """All of them in one file."""
    path = tmp_path / "all.mlk"
    path.write_bytes(join(PROGRAMS))
    return path


def answer(source: Any) -> list[bytes]:
    model = Model(source)
    for view in model.inputs:
        view.cast("B")[:] = bytes(i * 29 & 0x7F for i in range(view.nbytes))
    model.invoke()
    return [bytes(view) for view in model.outputs]


def mapped(path: Path) -> bool:
    return str(path) in Path("/proc/self/maps").read_text()


def test_programs_of_a_file(file: Path) -> None:
    """Each is complete, at a multiple of 16, and runs as by itself."""
    for source in (file, str(file), file.read_bytes(), bytearray(file.read_bytes())):
        found = pymlk.programs(source)
        assert [bytes(program) for program in found] == PROGRAMS
        assert [len(program) for program in found] == [*map(len, PROGRAMS)]
        assert [program.name for program in found] == NAMES
        assert [answer(p) for p in found] == [answer(data) for data in MODELS]
    data, at = file.read_bytes(), 0
    for program in PROGRAMS:
        assert at % 16 == 0
        assert data[at : at + len(program)] == program
        at += len(program) + -len(program) % 16


def test_the_first_is_what_others_take(file: Path) -> None:
    """Model and Program ignore what is behind."""
    for program in (Program(file.read_bytes()), Program.from_file(file)):
        assert bytes(program) == PROGRAMS[0]
        assert len(program) == len(PROGRAMS[0])
    assert answer(file) == answer(file.read_bytes()) == answer(MODELS[0])


def test_one_program_is_a_file_too(tmp_path: Path) -> None:
    path = tmp_path / "one.mlk"
    path.write_bytes(PROGRAMS[0])
    (program,) = pymlk.programs(path)
    assert bytes(program) == PROGRAMS[0]


def test_weights_are_used_in_place(file: Path) -> None:
    """The file is mapped while one of its programs, or its model, lives."""
    programs = pymlk.programs(file)
    assert mapped(file)
    last = Model(programs[-1])
    del programs
    gc.collect()
    assert mapped(file)
    last.invoke()
    del last
    gc.collect()
    assert not mapped(file)
    program = Program.from_file(file)
    assert mapped(file)
    # closed, though: nothing but the map is held
    held = [os.readlink(f"/proc/self/fd/{fd}") for fd in _descriptors()]
    assert str(file) not in held
    # replacing the file, as `pymlk compile` does, changes nothing
    file.unlink()
    assert answer(program) == answer(MODELS[0])


def _descriptors() -> list[str]:
    found = os.listdir("/proc/self/fd")
    return [fd for fd in found if os.path.lexists(f"/proc/self/fd/{fd}")]


def test_a_program_without_a_map() -> None:
    """From bytes nothing is mapped or copied."""
    data = join(PROGRAMS)
    before = sys.getrefcount(data)
    found = pymlk.programs(data)
    assert sys.getrefcount(data) == before + len(found)


def test_damaged(file: Path, tmp_path: Path) -> None:
    """The text says which one; none is given then."""
    data = bytearray(file.read_bytes())
    data[len(PROGRAMS[0]) + 400] ^= 1
    other = tmp_path / "damaged.mlk"
    other.write_bytes(data)
    with pytest.raises(ModelError, match=rf"{other}\[1\]: .* checksum does not match"):
        pymlk.programs(other)
    with pytest.raises(ModelError, match=r"programs\[1\]: .* checksum does not match"):
        pymlk.programs(bytes(data))
    # the first one is whole
    assert answer(Program.from_file(other)) == answer(MODELS[0])
    data[300] ^= 1
    other.write_bytes(data)
    with pytest.raises(ModelError, match=f"{other}: program refused: checksum"):
        Program.from_file(other)


@pytest.mark.parametrize("tail", [b"\0", b"\0" * 100, b"MLKP", b"\xff" * 64])
def test_what_is_no_program_behind(tail: bytes) -> None:
    """Neither ignored nor read as one."""
    data = PROGRAMS[0] + bytes(-len(PROGRAMS[0]) % 16)
    with pytest.raises(ModelError, match=r"programs\[1\]: program refused"):
        pymlk.programs(data + tail)
    # but what only fills up to 16 bytes is nothing
    assert len(pymlk.programs(data)) == 1


def test_by_name(file: Path) -> None:
    """The first one with the name, wherever it is; its weights in place, too."""
    for name, program in zip(NAMES, PROGRAMS, strict=True):
        found = Program.from_file(file, name)
        assert (bytes(found), found.name) == (program, name)
        assert mapped(file)
    file.write_bytes(join([*PROGRAMS, compile_model(MODELS[3], "first")]))
    assert bytes(Program.from_file(file, name="first")) == PROGRAMS[0]
    # neither a part of a name, nor a tensor's, nor one that ends at a zero
    for name in ("fir", "first!", "größ", "x", "first\0", "a b\0c"):
        with pytest.raises(ModelError, match=r"all\.mlk: no program .*, or damage"):
            Program.from_file(file, name)
    for wrong in (5, b"first"):
        with pytest.raises(TypeError):
            Program.from_file(file, wrong)  # type: ignore[arg-type]


def test_names_behind_damage(file: Path) -> None:
    """A damaged program hides those behind it, not those before."""
    data = bytearray(file.read_bytes())
    data[len(PROGRAMS[0]) + 400] ^= 1
    file.write_bytes(data)
    assert bytes(Program.from_file(file, "first")) == PROGRAMS[0]
    for name in NAMES[1:]:
        with pytest.raises(ModelError, match="no program"):
            Program.from_file(file, name)
    # headers are checked on the way, operators only of what is found
    file.write_bytes(b"")
    with pytest.raises(ModelError, match="no program"):
        Program.from_file(file, "first")


def test_find_in_c() -> None:
    """At every length: what is found is whole."""
    data = join(PROGRAMS[:2])
    room = ctypes.create_string_buffer(data, len(data) + 16)
    start = ctypes.addressof(room) + 15 & ~15
    ctypes.memmove(start, data, len(data))
    find = engine().mlk_program_find
    find.restype = ctypes.c_void_p
    find.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
    first, second = len(PROGRAMS[0]), len(data) - len(PROGRAMS[1])
    for size in range(0, len(data) + 1, 3):
        expected = start if size >= first else None
        assert find(start, size, b"first") == expected
        assert find(start, size, b"a b") is None
    assert find(start, len(data), b"a b") == start + second
    # misaligned: no program
    assert find(start + 4, len(data) - 4, b"a b") is None


def test_truncated_anywhere() -> None:
    data = join(PROGRAMS[:2])
    ends = {len(PROGRAMS[0]), len(data)}
    ends |= set(range(len(PROGRAMS[0]), len(data) - len(PROGRAMS[1]) + 1))
    for size in range(0, len(data) + 1, 3):
        if size in ends:
            continue
        with pytest.raises(ModelError):
            pymlk.programs(data[:size])


def test_what_is_no_file(tmp_path: Path) -> None:
    empty = tmp_path / "empty.mlk"
    empty.touch()
    for take in (pymlk.programs, Program.from_file):
        with pytest.raises(ModelError, match="shorter than its header says"):
            take(empty)
        with pytest.raises(FileNotFoundError):
            take(tmp_path / "none.mlk")
        with pytest.raises(ModelError, match="is a directory, expected a program"):
            take(tmp_path)
        with pytest.raises(TypeError):
            take(None)  # type: ignore[operator]
    with pytest.raises(ModelError, match="bad magic"):
        Program.from_file(__file__)


def test_next_in_c() -> None:
    """mlk_program_next() steps through a file and stops at its end."""
    data = join(PROGRAMS)
    room = ctypes.create_string_buffer(data, len(data) + 16)
    start = ctypes.addressof(room) + 15 & ~15
    ctypes.memmove(start, data, len(data))
    following = engine().mlk_program_next
    following.restype = ctypes.c_void_p
    following.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    at, found = start, []
    while at is not None:
        found.append(at - start)
        last, at = at, following(at, start + len(data) - at)
    assert len(found) == len(PROGRAMS)
    for place, program in zip(found, PROGRAMS, strict=True):
        assert data[place : place + len(program)] == program
    size = len(PROGRAMS[-1])
    assert following(last, size) is None
    assert following(last, size + -size % 16) is None
    assert following(last, size + -size % 16 + 1) == last + size + -size % 16


def run(*args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "pymlk", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True)


def test_command(tmp_path: Path) -> None:
    """Compile two models into one file, and look at it."""
    names = [tmp_path / "first.tflite", tmp_path / "a b.tflite"]
    for name, data in zip(names, MODELS, strict=False):
        name.write_bytes(data)
    both = tmp_path / "both.mlk"
    done = run("compile", *names, "-o", both)
    assert done.returncode == 0, done.stderr
    assert "2 programs" in done.stdout
    assert both.read_bytes() == join(PROGRAMS[:2])
    facts = json.loads(run("compile", *names, "-o", both, "--json").stdout)
    assert [p["program_bytes"] for p in facts["programs"]] == [*map(len, PROGRAMS[:2])]
    assert [p["name"] for p in facts["programs"]] == NAMES[:2]
    shown = run("inspect", both).stdout
    assert f"{both}[0]: program first" in shown
    assert f"{both}[1]: program a b" in shown
    facts = json.loads(run("inspect", both, "--json").stdout)
    assert [p["operators"][-1]["name"] for p in facts["programs"]] == [
        "SOFTMAX",
        "LOGISTIC",
    ]
    facts = json.loads(run("inspect", both, "--json", "--profile").stdout)
    assert all(p["profile"]["run_ns"] > 0 for p in facts["programs"])


def test_several_models_need_a_name(tmp_path: Path) -> None:
    name = tmp_path / "a.tflite"
    name.write_bytes(MODELS[0])
    done = run("compile", name, name)
    assert (done.returncode, done.stdout) == (2, "")
    assert "name the file" in done.stderr
    done = run("compile", name, name, "-o", tmp_path / "all.mlk")
    assert (done.returncode, done.stdout) == (2, "")
    assert "named a" in done.stderr
    assert not (tmp_path / "all.mlk").exists()
    done = run("compile", tmp_path / "x.tflite", name, "-o", name)
    assert (done.returncode, name.read_bytes()) == (3, MODELS[0])
