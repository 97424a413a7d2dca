# SPDX-License-Identifier: MIT
"""AttrSet on a tree of made-up files: forms, reasons, growth, rescan, knobs."""

from __future__ import annotations

import doctest
import errno
import gc
import os
import pickle
import resource
import socket
import struct
import subprocess
import sys
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from helpers.need import need_module

import pymlk.attrs
from pymlk.attrs import AttrSet, Field, FieldError
from pymlk.errors import AttrError, FieldSyntaxError, MlkError


class Tree:
    """Writes files below a root of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __call__(self, path: str, text: str | bytes) -> Path:
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def only_error(attrs: AttrSet) -> FieldError:
    (error,) = attrs.errors()
    return error


def one(tree: Tree, text: str | bytes, **how: Any) -> int | str:
    """Value or reason of one field of one file."""
    tree("/f", text)
    with AttrSet([Field("/f", **how)], root=tree.root) as attrs:
        return only_error(attrs).reason if attrs.read() else attrs[0]


# ------------------------------------------------------------------- forms


def test_the_forms_of_the_contract(tree: Tree) -> None:
    tree("/sys/block/vda/queue/nr_requests", "256\n")
    tree("/sys/block/vda/stat", "  1 2 3   4 5\n")
    tree("/proc/meminfo", "MemTotal:  100 kB\nMemFree:  42 kB\nMem: 7\n")
    tree("/proc/stat", "cpu  9 9 9 9\ncpu0 1 2 3 4\nctxt 5\n")
    tree("/proc/pressure/io", "some avg10=1.25 total=9\nfull avg10=0.50 total=3\n")
    tree("/proc/net/dev", "Inter-| x\n face |x\n    lo: 11 12\neth0.100:13 14\n")
    tree("/q", "none [mq-deadline] kyber\n")
    wanted = {
        "/sys/block/vda/queue/nr_requests": 256,
        "/sys/block/vda/stat[3]": 4,
        "/proc/meminfo[MemFree]": 42,
        "/proc/meminfo[Mem]": 7,
        "/proc/stat[cpu0.3]": 4,
        "/proc/stat[cpu.0]": 9,
        "/proc/stat[ctxt]": 5,
        "/proc/pressure/io[some.avg10]": 125,
        "/proc/pressure/io[full.total]": 3,
        "/proc/net/dev[lo.0]": 11,
        "/proc/net/dev[eth0.100.1]": 14,
        "/proc/net/dev[eth0.100]": 13,
        "/q": 1,
    }
    with AttrSet(wanted, root=tree.root) as attrs:
        assert attrs.read() == 0, attrs.errors()
        assert {name: attrs[name] for name in attrs.names} == wanted
        assert list(attrs.row) == list(wanted.values())
        assert attrs.stats.preads == attrs.stats.files == 7
        info = {f.name: f for f in attrs.fields}
        assert info["/proc/meminfo[MemFree]"].unit == "kB"
        assert info["/proc/pressure/io[some.avg10]"].scale == 100
        assert info["/q"].choices == ("none", "mq-deadline", "kyber")
        field = info["/proc/stat[cpu0.3]"]
        assert (field.path, field.selector, field.index) == ("/proc/stat", "cpu0.3", 4)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5\n", 5),
        ("5", 5),
        (" -5 \n", -5),
        ("+5", 5),
        ("0x1F\n", 31),
        ("007", 7),
        ("16384 kB\n", 16384),
        ("45 C", 45),
        ("100%", 100),
        ("10ms\n", 10),
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
        ("9223372036854775808", "overflow"),
        ("-9223372036854775809", "overflow"),
        ("99999999999999999999999", "overflow"),
        ("0xffffffffffffffff", "overflow"),
        ("", "empty"),
        ("\n", "empty"),
        ("0-1", "not a number"),
        ("0,2", "not a number"),
        ("1/151", "not a number"),
        ("8:0", "not a number"),
        ("performance", "not a number"),
        ("nan", "not a number"),
        ("1e5", "not a number"),
        ("3f", "not a number"),
        ("0x", "not a number"),
        ("12\0", "not a number"),
        (b"\x00\x00\x00\x01", "not a number"),
        (b"\xff\xfe", "not a number"),
        ("1 2", "more than one value"),
        ("1\n2\n", "more than one value"),
        ("0.10 0.20 1/151 99", "more than one value"),
        ("a b", "not a number"),
        ("always [madvise] never", 1),
        ("[none]", 0),
        ("a [b] [c]", "not a number"),
    ],
)
def test_whole_file(tree: Tree, text: str | bytes, expected: int | str) -> None:
    assert one(tree, text) == expected


@pytest.mark.parametrize("unsigned", [False, True])
def test_short_numbers_of_every_length(tree: Tree, unsigned: bool) -> None:
    """They have a way of their own through the parser; so have near misses."""
    file = tree("/f", "0\n")
    with AttrSet([Field("/f", unsigned=unsigned)], root=tree.root) as attrs:
        for length in range(1, 12):
            digits = "98765432101"[:length]
            file.write_text(digits + "\n")
            assert (attrs.read(), attrs.row[0]) == (0, int(digits))
            for i in range(length):
                for odd in "/:- .\0x\x80\xff":
                    text = f"{digits[:i]}{odd}{digits[i + 1 :]}\n"
                    file.write_bytes(text.encode("latin-1"))
                    bad = attrs.read()
                    try:
                        value = int(text.strip(" \n"))
                    except ValueError:
                        value = 0
                    if text.strip(" \n").isdigit():
                        assert (bad, attrs.row[0]) == (0, value), text
                    elif value >= 0:
                        assert (bad, attrs.row[0]) == (1, 0), text


def test_unsigned_and_hex(tree: Tree) -> None:
    assert one(tree, "18446744073709551615", unsigned=True) == 2**64 - 1
    assert one(tree, "18446744073709551616", unsigned=True) == "overflow"
    assert one(tree, "-1", unsigned=True) == "overflow"
    assert one(tree, "ff", hex=True) == 255
    assert one(tree, "0xff", hex=True) == 255
    assert one(tree, "ffffffffffffffff", hex=True) == "overflow"
    assert one(tree, "ffffffffffffffff", hex=True, unsigned=True) == 2**64 - 1
    assert one(tree, "fg", hex=True) == "not a number"
    tree("/f", str(2**64 - 1))
    with AttrSet([Field("/f", unsigned=True)], root=tree.root) as attrs:
        attrs.read()
        assert attrs.row[0] == -1, "the row holds the bit pattern"


def test_scales(tree: Tree) -> None:
    assert one(tree, "1.25", scale=100) == 125
    assert one(tree, "1.255", scale=100) == 126
    assert one(tree, "-1.255", scale=100) == -126
    assert one(tree, "-0.5", scale=1) == -1
    assert one(tree, "7", scale=1000) == 7000
    assert one(tree, "0.333333333333333333333", scale=3) == 1
    assert one(tree, "9223372036854775.807", scale=1000) == 2**63 - 1
    assert one(tree, "9223372036854775.808", scale=1000) == "overflow"
    for bad in (0, -1, 10**9 + 1):
        with pytest.raises(ValueError, match="scale"):
            Field("/f", scale=bad)
    with pytest.raises(ValueError, match="hex"):
        Field("/f", scale=2, hex=True)


def test_scale_that_was_not_seen(tree: Tree) -> None:
    file = tree("/f", "3\n")
    with AttrSet(["/f"], root=tree.root) as attrs:
        assert attrs.read() == 0
        file.write_text("3.5\n")
        assert attrs.read() == 1
        assert only_error(attrs).reason == "fraction needs a scale"
        # a rescan does not change what the numbers mean
        assert attrs.rescan() is False
        assert attrs.read() == 1
        assert attrs.fields[0].scale == 1


def test_choices_by_name_although_the_list_moves(tree: Tree) -> None:
    file = tree("/f", "none [b] c\n")
    with AttrSet(["/f"], root=tree.root) as attrs:
        attrs.read()
        assert attrs["/f"] == 1
        file.write_text("new none b [c]\n")
        attrs.read()
        assert attrs["/f"] == 2
        for text in ("[new] none b c\n", "none b c\n", "3\n"):
            file.write_text(text)
            assert attrs.read() == 1
            assert only_error(attrs).reason == "no choice"
        file.write_text("[new] none b c\n")
        assert attrs.rescan() is True
        assert attrs.read() == 0
        assert attrs.fields[0].choices == ("new", "none", "b", "c")


@pytest.mark.parametrize(
    ("spec", "position", "words"),
    [
        ("proc/stat", 0, "starts with '/'"),
        ("", 0, "starts with '/'"),
        ("/proc/stat[", 11, "expected ']'"),
        ("/proc/stat[cpu", 14, "expected ']'"),
        ("/proc/stat]", 10, "expected '['"),
        ("/proc/stat[]", 11, "token number"),
        ("/proc/stat[-1]", 11, "from 0"),
        ("/proc/stat[ cpu]", 11, "blanks"),
        ("/proc/stat[99999999]", 11, "token number up to"),
        ("/a[b]c]", 4, "one ']'"),
        ("/proc/", 6, "name of a file"),
        ("/a/../etc/passwd", 3, "'..'"),
        ("/a/..", 3, "'..'"),
        ("/a\0b", 2, "NUL"),
    ],
)
def test_syntax_errors_say_where(
    tree: Tree, spec: str, position: int, words: str
) -> None:
    with pytest.raises(FieldSyntaxError) as caught:
        AttrSet([spec], root=tree.root)
    text = str(caught.value)
    assert repr(spec) in text
    assert f"position {position}:" in text
    assert words in text
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, MlkError)


def test_a_string_is_not_a_list_of_fields() -> None:
    with pytest.raises(TypeError, match="iterable"):
        AttrSet("/proc/uptime[0]")


def test_colons_and_brackets_in_paths(tree: Tree) -> None:
    tree("/dev/0000:00:1f.2/a", "1")
    tree("/x[1]/a", "2")
    with AttrSet(["/dev/0000:00:1f.2/a", "/x[1]/a"], root=tree.root) as attrs:
        assert attrs.read() == 0
        assert list(attrs.row) == [1, 2]


# ------------------------------------------------------------------- globs


def test_globs_in_natural_order(tree: Tree) -> None:
    for i, name in enumerate(["sda", "sda10", "sda2", "sdb", ".hidden"]):
        tree(f"/sys/block/{name}/stat", f"{i} x\n")
    tree("/sys/block/nothing/other", "1")
    with AttrSet(
        ["/sys/block/*/stat[0]", "/sys/block/sd?/stat[0]", "/no/*/x"], root=tree.root
    ) as attrs:
        assert attrs.names == tuple(
            f"/sys/block/{name}/stat[0]"
            for name in ("sda", "sda2", "sda10", "sdb", "sda", "sdb")
        )
        assert attrs.read() == 0
        assert list(attrs.row) == [0, 2, 1, 3, 0, 3]
        assert attrs.stats.preads == 4, "one file, one pread, however often it is named"
        assert {f.spec for f in attrs.fields} == {
            "/sys/block/*/stat[0]",
            "/sys/block/sd?/stat[0]",
        }
        assert attrs.index("/sys/block/sdb/stat[0]") == 3


def test_names(tree: Tree) -> None:
    tree("/b/x1/v", "1")
    tree("/b/x2/v", "2")
    fields = [Field("/b/*/v", name="v"), Field("/b/x1/v", name="first")]
    with AttrSet(fields, root=tree.root) as attrs:
        assert attrs.names == ("v[x1]", "v[x2]", "first")
        attrs.read()
        assert (attrs["v[x2]"], attrs["first"], attrs[-1]) == (2, 1, 1)
        with pytest.raises(KeyError):
            attrs["v"]
        with pytest.raises(KeyError):
            attrs.index("v")
        with pytest.raises(IndexError):
            attrs[3]


def test_an_empty_set(tree: Tree) -> None:
    with AttrSet(["/none/*"], root=tree.root) as attrs:
        assert (len(attrs), attrs.read(), list(attrs.row)) == (0, 0, [])
        assert (bytes(attrs.valid), attrs.errors(), attrs.names) == (b"", [], ())


# --------------------------------------------------------- the invalid ones


@pytest.mark.parametrize("reopen", [False, True])
def test_reasons_errno_and_path(tree: Tree, reopen: bool) -> None:
    tree("/f", "a 1\n")
    tree("/empty", "")
    (tree.root / "dir").mkdir()
    os.mkfifo(tree.root / "fifo")
    made = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(tree.root)
    made.bind("socket")
    os.chdir(here)
    made.close()
    (tree.root / "null").symlink_to("/dev/null")
    (tree.root / "loop").symlink_to("loop")
    expected: dict[str, tuple[str, int] | None] = {
        "/f[x]": ("no such key", errno.ENODATA),
        "/f[a.1]": ("no such token", errno.ENODATA),
        "/f[9]": ("no such token", errno.ENODATA),
        "/f[a.k]": ("no such key", errno.ENODATA),
        "/f": ("not a number", errno.EINVAL),
        "/empty": ("empty", errno.ENODATA),
        "/gone": ("missing", errno.ENOENT),
        "/f/x": ("missing", errno.ENOTDIR),
        "/dir": ("not a regular file", errno.EISDIR),
        "/fifo": ("not a regular file", errno.EINVAL),
        "/socket": ("not a regular file", errno.EINVAL),
        "/null": ("not a regular file", errno.EINVAL),
        "/loop": ("unreadable", errno.ELOOP),
        "/f[a]": None,
    }
    with AttrSet(expected, root=tree.root, reopen=reopen) as attrs:
        assert attrs.read() == len(expected) - 1
        errors = {e.name: (e.reason, e.errno) for e in attrs.errors()}
        assert errors == {k: v for k, v in expected.items() if v}
        assert attrs["/f[a]"] == 1
        for error in attrs.errors():
            assert error.path == str(tree.root) + attrs.fields[error.index].path
            with pytest.raises(AttrError, match=error.reason) as caught:
                attrs[error.index]
            assert caught.value.errno == error.errno
            assert caught.value.filename == error.path
            assert isinstance(caught.value, OSError)


def test_nothing_is_valid_before_the_first_read(tree: Tree) -> None:
    tree("/f", "1")
    with AttrSet(["/f"], root=tree.root) as attrs:
        assert (attrs.seq, attrs.time_ns, bytes(attrs.valid)) == (0, 0, b"\0")
        with pytest.raises(AttrError, match="not read"):
            attrs[0]


def test_seq_and_time(tree: Tree) -> None:
    tree("/f", "1")
    with AttrSet(["/f"], root=tree.root) as attrs:
        for i in range(1, 4):
            before = time.monotonic_ns()
            attrs.read()
            assert attrs.seq == i
            assert before <= attrs.time_ns <= time.monotonic_ns()


def test_bitmap(tree: Tree) -> None:
    for i in range(19):
        tree(f"/f{i}", "x" if i in (3, 8, 18) else str(i))
    with AttrSet([f"/f{i}" for i in range(19)], root=tree.root) as attrs:
        assert attrs.read() == 3
        assert bytes(attrs.valid) == bytes([0b11110111, 0b11111110, 0b011])


# --------------------------------------------------------- files that change


def test_a_file_that_grows_is_read_within_the_same_snapshot(tree: Tree) -> None:
    file = tree("/f", "a: 1\nz: 2\n")
    with AttrSet(["/f[a]", "/f[z]"], root=tree.root) as attrs:
        assert attrs.read() == 0
        assert attrs.stats.grown == 0
        start = attrs.stats.buffer_bytes
        assert start >= 256
        for size in (200, 1_000, 4_096, 100_000, 1_000_000):
            file.write_text("a: 5\n" + "filler 1\n" * (size // 9) + f"z: {size}\n")
            assert attrs.read() == 0
            assert attrs["/f[z]"] == size
            assert attrs.read() == 0
            assert attrs.stats.preads == 1, "grown once, not again"
        assert attrs.stats.grown > 0
        assert attrs.stats.buffer_bytes > 1_000_000


def test_a_file_of_more_than_four_mebibytes_is_truncated(tree: Tree) -> None:
    file = tree("/f", "a 1\n")
    tree("/g", "7")
    with AttrSet(["/f[a]", "/g"], root=tree.root) as attrs:
        attrs.read()
        file.write_bytes(b"a 1\n" + b"x 1\n" * (1 << 20))
        assert attrs.read() == 1
        error = only_error(attrs)
        assert (error.reason, error.errno) == ("truncated", errno.EFBIG)
        assert attrs["/g"] == 7
        assert attrs.stats.buffer_bytes <= 4 << 20
        file.write_text("a 2\n")
        assert attrs.read() == 0
        assert attrs["/f[a]"] == 2


@pytest.mark.parametrize("size", [*range(4080, 4112), 8191, 8192, 8193])
def test_page_boundary(tree: Tree, size: int) -> None:
    last = "last 123456\n"
    text = "first 1\n" + "-" * (size - len(last) - 9) + "\n" + last
    assert len(text) == size
    tree("/f", text)
    tree("/n", " " * (size - 4) + "123\n")
    with AttrSet(["/f[last]", "/f[first]", "/n"], root=tree.root) as attrs:
        assert attrs.read() == 0
        assert list(attrs.row) == [123456, 1, 123]
        assert attrs.stats.preads == 2


@pytest.mark.parametrize("now", [b"", b"\n", b"\0" * 50, os.urandom(3000), b"k", b"k:"])
def test_hostile_text_spoils_nothing_else(tree: Tree, now: bytes) -> None:
    file = tree("/f", "k: 1\n")
    tree("/g", "7")
    with AttrSet(["/f[k]", "/f", "/f[0]", "/f[k.a]", "/g"], root=tree.root) as attrs:
        attrs.read()
        file.write_bytes(now)
        assert attrs.read() == 4
        assert list(attrs.row) == [0, 0, 0, 0, 7]


# ------------------------------------------------------------------- buffers


def test_the_row_is_a_read_only_int64_buffer(tree: Tree) -> None:
    tree("/f", "1 -2 3")
    with AttrSet([f"/f[{i}]" for i in range(3)], root=tree.root) as attrs:
        view = memoryview(attrs)
        assert (view.format, view.shape, view.itemsize) == ("q", (3,), 8)
        assert view.readonly
        assert view.c_contiguous
        attrs.read()
        assert view.tolist() == [1, -2, 3]
        assert attrs.row == view
        assert bytes(view) == struct.pack("3q", 1, -2, 3)
        with pytest.raises(TypeError, match="read-write"):
            struct.pack_into("q", attrs, 0, 1)
        with pytest.raises(TypeError):
            view[0] = 1
        with pytest.raises(TypeError):
            attrs.valid[0] = 1
        (tree.root / "f").write_text("4 5 6")
        attrs.read()
        assert view.tolist() == [4, 5, 6], "the same memory"


def test_numpy_shares_the_row(tree: Tree) -> None:
    numpy = need_module("numpy")
    file = tree("/f", "1 2")
    with AttrSet(["/f[0]", "/f[1]"], root=tree.root) as attrs:
        row = numpy.asarray(attrs)
        assert row.dtype == numpy.int64
        attrs.read()
        assert row.tolist() == [1, 2]
        file.write_text("3 4")
        attrs.read()
        assert row.tolist() == [3, 4]
        assert not row.flags.writeable
        out = numpy.zeros(2, numpy.int64)
        attrs.copy_to(out)
        assert out.tolist() == [3, 4]


def test_the_memory_outlives_the_set(tree: Tree) -> None:
    tree("/f", "42")
    attrs = AttrSet(["/f"], root=tree.root)
    attrs.read()
    row, valid = attrs.row, attrs.valid
    attrs.close()
    del attrs
    gc.collect()
    assert (row[0], valid[0]) == (42, 1)


def test_copies(tree: Tree) -> None:
    file = tree("/f", "1 2")
    with AttrSet(["/f[0]", "/f[1]"], root=tree.root) as attrs:
        out = array("q", [9, 9])
        assert attrs.copy_to(out) == 0
        assert list(out) == [0, 0]
        assert attrs.read_to(out) == 0
        assert list(out) == [1, 2]
        file.write_text("3 4")
        assert attrs.copy_to(out) == 1
        assert list(out) == [1, 2], "the last row, not a new one"
        for bad in (array("q", [0]), array("q", [0] * 3)):
            with pytest.raises(ValueError, match="2 numbers"):
                attrs.copy_to(bad)
        for odd in (array("d", [0, 0]), array("i", [0, 0]), bytearray(16)):
            with pytest.raises(TypeError):
                attrs.read_to(odd)
        with pytest.raises(BufferError):
            attrs.read_to(bytes(16))
        assert attrs.seq == 1


# ------------------------------------------------------------------- rescan


def test_rescan_finds_and_loses_files(tree: Tree) -> None:
    tree("/b/x1/v", "1")
    with AttrSet(["/b/*/v", "/late"], root=tree.root) as attrs:
        assert attrs.read() == 1
        tree("/late", "5.5")
        assert attrs.read() == 1, "only rescan() opens files"
        assert attrs.rescan() is True, "the scale is known now"
        assert attrs.names == ("/b/x1/v", "/late")
        assert attrs.read() == 0
        assert (attrs["/late"], attrs.fields[1].scale) == (55, 10)
        assert attrs.rescan() is False
        assert attrs["/late"] == 55, "an unchanged layout keeps its row"
        tree("/b/x2/v", "2")
        assert attrs.rescan() is True
        assert list(attrs.names) == ["/b/x1/v", "/b/x2/v", "/late"]
        assert [e.reason for e in attrs.errors()] == ["not read"] * 3
        seq = attrs.seq
        assert attrs.read() == 0
        assert attrs.seq == seq + 1
        (tree.root / "b/x1/v").unlink()
        assert attrs.rescan() is True
        attrs.read()
        assert list(attrs.row) == [2, 55]


@pytest.mark.parametrize("hold", ["row", "valid"])
def test_rescan_never_moves_an_exported_buffer(tree: Tree, hold: str) -> None:
    tree("/b/x1/v", "1")
    with AttrSet(["/b/*/v"], root=tree.root) as attrs:
        attrs.read()
        view = getattr(attrs, hold)
        assert attrs.rescan() is False, "the same layout is no harm"
        tree("/b/x2/v", "2")
        with pytest.raises(BufferError):
            attrs.rescan()
        assert attrs.names == ("/b/x1/v",)
        assert attrs.read() == 0
        assert view[0] == 1
        view.release()
        assert attrs.rescan() is True
        assert len(attrs) == 2


def test_rescan_leaks_no_descriptors(tree: Tree) -> None:
    tree("/f", "1")
    attrs = AttrSet(["/f"] * 3 + ["/b/*"], root=tree.root)
    attrs.write("/f", 2)
    count = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        attrs.rescan()
    view = attrs.row
    tree("/b/x", "1")
    for _ in range(10):
        with pytest.raises(BufferError):
            attrs.rescan()
    assert len(os.listdir("/proc/self/fd")) == count
    del view
    attrs.close()
    assert len(os.listdir("/proc/self/fd")) == count - 2


# ------------------------------------------------------------------- the end


def test_closed(tree: Tree) -> None:
    tree("/f", "1")
    attrs = AttrSet(["/f"], root=tree.root)
    attrs.read()
    attrs.close()
    attrs.close()
    assert attrs.closed
    assert attrs[0] == 1, "the last row stays"
    for call in (
        attrs.read,
        attrs.rescan,
        lambda: attrs.write(0, 1),
        lambda: attrs.read_to(array("q", [0])),
        lambda: attrs.open_for_write(0),
    ):
        with pytest.raises(ValueError, match="closed"):
            call()


def test_descriptors_are_closed_and_not_inherited(tree: Tree) -> None:
    for i in range(5):
        tree(f"/f{i}", "1")
    attrs = AttrSet([f"/f{i}" for i in range(5)], root=tree.root)
    attrs.write(0, 1)

    def ours() -> list[int]:
        found = []
        for fd in os.listdir("/proc/self/fd"):
            try:
                if os.readlink(f"/proc/self/fd/{fd}").startswith(str(tree.root)):
                    found.append(int(fd))
            except OSError:
                pass  # the directory listing's own
        return found

    assert len(ours()) == 6
    assert not any(os.get_inheritable(fd) for fd in ours())
    del attrs
    gc.collect()
    assert ours() == []


def test_no_descriptors_left(tree: Tree) -> None:
    for i in range(40):
        tree(f"/f{i}", "1")
    code = (
        "import resource, sys, os\n"
        "from pymlk.attrs import AttrSet\n"
        "from pymlk.errors import AttrError\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))\n"
        "try: AttrSet([f'/f{i}' for i in range(40)], root=sys.argv[1])\n"
        "except AttrError as e: print(e.errno)\n"
        "print(len(os.listdir('/proc/self/fd')) < 10)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tree.root],
        capture_output=True,
        text=True,
        check=True,
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)),
    )
    assert done.stdout.split() == [str(errno.EMFILE), "True"]


def test_misuse_of_the_object(tree: Tree) -> None:
    tree("/f", "1")
    bare = AttrSet.__new__(AttrSet)
    with pytest.raises(ValueError, match="closed"):
        bare.read()
    attrs = AttrSet(["/f"], root=tree.root)
    with pytest.raises(RuntimeError):
        AttrSet.__init__(attrs, ["/f"])
    with pytest.raises(TypeError):
        pickle.dumps(attrs)
    for thing in (attrs, attrs.stats, attrs.fields[0], Field("/f", scale=2, name="n")):
        assert type(thing).__name__ in repr(thing)
    with pytest.raises(AttributeError):
        setattr(attrs.fields[0], "name", "x")  # noqa: B010


# ------------------------------------------------------------------- knobs


def test_write_to_plain_files(tree: Tree) -> None:
    file = tree("/f", "128\n")
    choice = tree("/q", "none [mq-deadline] kyber\n")
    tree("/s", "1.50\n")
    tree("/h", "ff\n")
    tree("/x", "0xff\n")
    tree("/u", "1\n")
    tree("/t", "1 2\n")
    fields: list[str | Field] = [
        "/f",
        "/q",
        "/s",
        Field("/h", hex=True),
        Field("/x", hex=True),
        Field("/u", unsigned=True),
        "/t[0]",
        Field("/f", scale=1000, name="milli"),
    ]
    with AttrSet(fields, root=tree.root) as attrs:
        attrs.read()
        attrs.write("/f", 8)
        assert file.read_text() == "8\n", "no digits of the old text are left"
        assert attrs["/f"] == 128, "the row is a snapshot"
        attrs.write("/f", -(2**63))
        assert file.read_text() == f"{-(2**63)}\n"
        attrs.write("milli", 5000)
        assert file.read_text() == "5\n"
        attrs.write("milli", -5250)
        assert file.read_text() == "-5.25\n"
        attrs.write("/q", "kyber")
        assert choice.read_text() == "none mq-deadline [kyber]\n"
        attrs.write(1, 0)
        assert choice.read_text() == "[none] mq-deadline kyber\n"
        attrs.write("/s", 5)
        assert (tree.root / "s").read_text() == "0.05\n"
        attrs.write("/h", 10)
        attrs.write("/x", 10)
        assert (tree.root / "h").read_text() == "a\n"
        assert (tree.root / "x").read_text() == "0xa\n"
        attrs.write("/u", 2**64 - 1)
        assert (tree.root / "u").read_text() == f"{2**64 - 1}\n"
        for key, value in (("/t[0]", 1), ("/q", "bfq"), ("/f", "many"), ("/q", 3)):
            with pytest.raises(AttrError) as caught:
                attrs.write(key, value)
            assert caught.value.errno == errno.EINVAL
        with pytest.raises(OverflowError):
            attrs.write("/f", 2**63)
        with pytest.raises(KeyError):
            attrs.write("/nix", 1)


def test_every_scaled_value_survives_write_and_read(tree: Tree) -> None:
    tree("/f", "1")
    for scale in (1, 3, 7, 10, 4096, 999_999_937, 10**9):
        with AttrSet([Field("/f", scale=scale)], root=tree.root) as attrs:
            for value in (0, 1, -1, scale - 1, scale, 12345678901, -(2**62), 2**63 - 1):
                attrs.write(0, value)  # raises if it reads another value


def test_write_of_a_missing_file(tree: Tree) -> None:
    with AttrSet(["/gone"], root=tree.root) as attrs:
        with pytest.raises(AttrError) as caught:
            attrs.write(0, 1)
    assert caught.value.errno == errno.ENOENT


# ------------------------------------------------------------------- threads


def test_threads_share_a_set() -> None:
    """Each copy of one snapshot is whole: all its fields are one file's one number.

    syscr counts this process's own reads, so it moves with every snapshot.
    """
    attrs = AttrSet(["/proc/self/io[syscr]"] * 500)
    reads = 300
    torn: list[set[int]] = []
    start = threading.Barrier(6)

    def reader(call: Callable[[array[int]], int]) -> None:
        out = array("q", bytes(8 * 500))
        start.wait()
        for _ in range(reads):
            call(out)
            if len(set(out)) != 1:
                torn.append(set(out))

    def plain() -> None:
        start.wait()
        for _ in range(reads):
            attrs.read()
            attrs.errors()
            attrs.rescan()

    attrs.read()
    calls = [attrs.read_to] * 2 + [attrs.copy_to] * 3
    threads = [threading.Thread(target=reader, args=(call,)) for call in calls]
    threads += [threading.Thread(target=plain)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not torn
    assert attrs.seq == 1 + 3 * reads, "no snapshot was lost"


@pytest.mark.parametrize("reopen", [False, True])
def test_close_and_hotplug_under_readers(tree: Tree, reopen: bool) -> None:
    tree("/b/x1/v", "1")
    attrs = AttrSet(["/b/*/v"], root=tree.root, reopen=reopen)
    ended: list[str] = []

    def reader() -> None:
        try:
            while True:
                attrs.read()
                attrs.errors()
                len(attrs.names)
        except ValueError as error:
            ended.append(str(error))

    threads = [threading.Thread(target=reader) for _ in range(3)]
    for thread in threads:
        thread.start()
    for i in range(2, 40):
        tree(f"/b/x{i}/v", "1")
        attrs.rescan()
    attrs.close()
    for thread in threads:
        thread.join()
    assert ended == ["closed"] * 3
    assert len(attrs) == 39


# ------------------------------------------------------- reopened each time


def below(root: Path) -> dict[int, str]:
    """Our descriptors of what is below a folder."""
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            path = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue  # the directory listing's own
        if path.startswith(str(root)):
            found[int(fd)] = path
    return found


@contextmanager
def no_descriptors() -> Iterator[None]:
    """A time in which nothing can be opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def no_rights() -> Iterator[None]:
    """A time in which we are not root."""
    user = os.geteuid()
    if not user:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_reopened_files_give_the_same_row(tree: Tree) -> None:
    tree("/a/lines", "".join(f"key{i}: {i}\n" for i in range(2000)))
    tree("/a/row", "some avg10=1.25 total=9\n")
    tree("/b/choice", "none [mq-deadline] kyber\n")
    tree("/top", "7\n")
    (tree.root / "link").symlink_to("b")
    (tree.root / "file").symlink_to("top")
    fields = ["/a/lines[key7]", "/a/lines[key1999]", "/a/row[some.avg10]"]
    fields += ["/link/choice", "/top", "/file", "/gone"]
    with (
        AttrSet(fields, root=tree.root) as held,
        AttrSet(fields, root=tree.root, reopen=True) as attrs,
    ):
        for text in ("7\n", "123456789012\n", "x" * 9000, ""):
            tree("/top", text)
            assert attrs.read() == held.read()
            assert list(attrs.row) == list(held.row)
            assert bytes(attrs.valid) == bytes(held.valid)
            reasons = [(e.index, e.reason, e.errno) for e in held.errors()]
            assert [(e.index, e.reason, e.errno) for e in attrs.errors()] == reasons


def test_reopened_sets_hold_directories_only(tree: Tree) -> None:
    tree("/a/f", "1")
    tree("/a/b/g", "2")
    with AttrSet(["/a/f", "/a/b/g", "/no"], root=tree.root, reopen=True) as attrs:
        for _ in range(3):
            assert attrs.read() == 1
            assert attrs.stats.preads == 6
            held = below(tree.root)
            assert sorted(held.values()) == [f"{tree.root}/a", f"{tree.root}/a/b"]
            assert not any(map(os.get_inheritable, held))
            attrs.rescan()
        attrs.write("/a/f", 5)
        assert attrs.read() == 1
        assert attrs[0] == 5
        assert len(below(tree.root)) == 3, "and the knob"
    assert not below(tree.root)


def test_a_reopened_file_belongs_to_its_directory(tree: Tree) -> None:
    tree("/dev/x/v", "1\n")
    with AttrSet(["/dev/x/v"], root=tree.root, reopen=True) as attrs:
        tree("/dev/x/new", "2\n").rename(tree.root / "dev/x/v")
        assert attrs.read() == 0
        assert attrs[0] == 2, "the directory lives: what has this name in it"
        (tree.root / "dev/x").rename(tree.root / "dev/y")
        tree("/dev/x/v", "3\n")
        assert attrs.read() == 0
        assert attrs[0] == 2, "the same directory under another name"
        (tree.root / "dev/y/v").unlink()
        (tree.root / "dev/y").rmdir()
        for _ in range(2):
            assert attrs.read() == 1
            error = only_error(attrs)
            assert (error.reason, error.errno) == ("vanished", errno.ENOENT)
        assert attrs.rescan() is False
        assert attrs.read() == 0
        assert attrs[0] == 3


def test_a_link_in_the_place_of_a_reopened_file_is_not_followed(tree: Tree) -> None:
    tree("/v", "1\n")
    tree("/other", "2\n")
    with AttrSet(["/v"], root=tree.root, reopen=True) as attrs:
        (tree.root / "v").unlink()
        (tree.root / "v").symlink_to("other")
        assert attrs.read() == 1
        assert only_error(attrs).errno == errno.ELOOP


def test_reopening_without_a_free_descriptor(tree: Tree) -> None:
    tree("/f", "1\n")
    with AttrSet(["/f"], root=tree.root, reopen=True) as attrs:
        attrs.open_for_write(0)
        with no_descriptors():
            assert attrs.read() == 1
            error = only_error(attrs)
            assert (error.reason, error.errno) == ("unreadable", errno.EMFILE)
            assert attrs.stats.preads == 1
            with pytest.raises(AttrError) as caught:
                attrs.write(0, 5)
            assert caught.value.errno == errno.EMFILE, "it cannot be read back"
        assert attrs.read() == 0
        assert attrs[0] == 5


def test_reopening_asks_for_the_right_to_read_again(tree: Tree) -> None:
    tree("/f", "1\n").chmod(0o600)
    with (
        AttrSet(["/f"], root=tree.root) as held,
        AttrSet(["/f"], root=tree.root, reopen=True) as attrs,
    ):
        (tree.root / "f").chmod(0)
        with no_rights():
            assert held.read() == 0
            assert attrs.read() == 1
            error = only_error(attrs)
            assert (error.reason, error.errno) == ("unreadable", errno.EACCES)
        (tree.root / "f").chmod(0o600)
        assert attrs.read() == 0


def test_a_file_without_a_name_stays_open(tree: Tree) -> None:
    file = tree("/f", "8\n")
    fd = os.open(file, os.O_RDONLY)
    file.unlink()
    with AttrSet([f"/proc/self/fd/{fd}"], reopen=True) as attrs:
        os.close(fd)
        assert attrs.read() == 0, attrs.errors()
        assert attrs[0] == 8
        assert attrs.stats.preads == 1
    assert not below(tree.root)


# ------------------------------------------------------------------- docs


def test_docstring_examples() -> None:
    result = doctest.testmod(pymlk.attrs)
    assert result.attempted > 15
    assert result.failed == 0


@pytest.mark.parametrize(
    "name",
    [
        "read",
        "read_to",
        "copy_to",
        "index",
        "errors",
        "rescan",
        "write",
        "open_for_write",
    ],
)
def test_docstring_sections(name: str) -> None:
    text = getattr(AttrSet, name).__doc__
    for section in ("Raises", "Thread safety", "Source", "Examples"):
        assert f"{section}\n" in text, (name, section)
