# SPDX-License-Identifier: MIT
"""A dataset of any bytes: reading it ends, with whole runs, damage or a refusal."""

import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pymlk import dataset, rows
from pymlk.dataset import Dataset, Writer
from pymlk.errors import DatasetError

SETTINGS = settings(
    deadline=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
FIELDS = ["a", "b", "c"]
PLAN: dict[str, Any] = {"name": "x", "fields": {"a": "/a"}, "knob": {"path": "/k"}}


def write(path: Path, runs: int = 3) -> None:
    with Writer(str(path), PLAN, FIELDS, [1, 100, 1]) as writer:
        for k in range(runs):
            number = writer.begin(
                workload=f"w{k}", device="vda", knob=k, tags={"a": "b"}
            )
            t = list(range(k, k + 40))
            writer.rows(
                number, t, [[i, -i, k] for i in t], [[True, i % 3 > 0, True] for i in t]
            )
            writer.end(number, score=float(k), seconds=1.5, missed=k)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("dataset") / "x.mlkd"
    write(path)
    return path.read_bytes()


def chunks(data: bytes) -> list[tuple[int, int, bytes]]:
    """Place, kind and payload of each chunk, taken apart as docs/dataset.md says."""
    at, found = 24, []
    while at < len(data):
        mark, kind, length, _, _ = struct.unpack_from("<3sBIII", data, at)
        assert mark == b"mlk"
        found.append((at, kind, data[at + 16 : at + 16 + length]))
        at += 16 + (length + 7) // 8 * 8
    return found


def joined(head: bytes, parts: list[tuple[int, bytes]]) -> bytes:
    """A file of chunks with right checksums."""
    data = head
    for kind, payload in parts:
        padded = payload + bytes(-len(payload) % 8)
        start = struct.pack("<3sBII", b"mlk", kind, len(payload), zlib.crc32(padded))
        place = head[8:16] + struct.pack("<Q", len(data))
        data += start + struct.pack("<I", zlib.crc32(place + start)) + padded
    return data


def read(path: Path, data: bytes) -> Dataset | None:
    """All of it: index, and every row of every run."""
    path.write_bytes(data)
    complaint = ""
    try:
        found = Dataset(str(path))
    except DatasetError as error:
        complaint = str(error)
    if complaint:
        assert f"{path}: byte " in complaint
        return None
    with found:
        for run in found.runs + found.rejected:
            complaint = ""
            try:
                t, values, valid = found.table(run)
            except DatasetError as error:
                complaint = str(error)
            if complaint:
                assert f"{path}: byte " in complaint
                continue
            assert len(t) == run.rows
            assert values.shape == valid.shape == (len(t), len(found.fields))
    return found


def test_format(good: bytes) -> None:
    parts = chunks(good)
    assert [kind for _, kind, _ in parts] == [1, *[2, 3, 4] * 3]
    assert joined(good[:24], [(kind, data) for _, kind, data in parts]) == good


@SETTINGS
@given(st.data())
def test_rows_come_back(tmp_path: Path, data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 9))
    count = data.draw(st.integers(0, 30))
    t = np.array(data.draw(st.lists(INT64, min_size=count, max_size=count)), np.int64)
    small = st.integers(-3, 3) | INT64
    values = np.array(
        data.draw(st.lists(small, min_size=count * n, max_size=count * n)), np.int64
    ).reshape(count, n)
    valid = np.array(
        data.draw(st.lists(st.booleans(), min_size=count * n, max_size=count * n)), bool
    ).reshape(count, n)
    path = tmp_path / "x.mlkd"
    path.unlink(missing_ok=True)
    with Writer(str(path), {}, [f"f{i}" for i in range(n)], [1] * n) as writer:
        number = writer.begin(workload="w", device="d")
        writer.rows(number, t, values, valid)
        writer.end(number)
    with Dataset(str(path)) as found:
        (run,) = found.runs
        back = found.table(run)
    assert run.rows == count
    np.testing.assert_array_equal(back[0], t)
    np.testing.assert_array_equal(back[1], np.where(valid, values, 0))
    np.testing.assert_array_equal(back[2], valid)


def test_every_truncation_gives_what_is_whole(tmp_path: Path, good: bytes) -> None:
    parts = chunks(good)
    ends = [at for at, _, _ in parts[1:]] + [len(good)]
    for length in range(len(good)):
        found = read(tmp_path / "x", good[:length])
        if length < ends[0]:
            assert found is None
            continue
        assert found is not None
        whole = sum(end <= length for end in ends)
        # a plan, then begin, rows and end of each run
        assert len(found.runs) == (whole - 1) // 3
        assert found.end == ends[whole - 1]
        assert found.torn == (length != ends[whole - 1])
        assert len(found.damage) == found.torn
        assert len(found.rejected) == ((whole - 1) % 3 > 0)


def test_every_changed_byte_is_named(tmp_path: Path, good: bytes) -> None:
    starts = [at for at, _, _ in chunks(good)]
    path = tmp_path / "x"
    for at in range(len(good)):
        bad = bytearray(good)
        bad[at] ^= 1 + at % 255
        path.write_bytes(bad)
        chunk = max([start for start in starts if start <= at], default=0)
        try:
            with Dataset(str(path)) as found:
                (line,) = [text for text in found.damage if "not open" not in text]
        except DatasetError as error:
            line = str(error)
            assert chunk in (0, starts[0])
        else:
            # the other runs are good
            assert len(found.runs) == 2
            assert len(found.rejected) <= 1
        assert f"{path}: byte {chunk}: " in line or chunk == 0


@SETTINGS
@given(st.binary(max_size=400))
def test_any_bytes(tmp_path: Path, data: bytes) -> None:
    assert read(tmp_path / "x", data) is None


@SETTINGS
@given(st.data())
def test_changed_bytes(tmp_path: Path, good: bytes, data: st.DataObject) -> None:
    bad = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(bad) - 1))
        size = data.draw(st.integers(0, 40))
        bad[at : at + size] = data.draw(st.binary(max_size=40))
        if not bad:
            return
    found = read(tmp_path / "x", bytes(bad))
    ends = [at for at, _, _ in chunks(good)]
    assert (
        found is None
        or bytes(bad) == good
        or found.damage
        or (good.startswith(bad) and len(bad) in ends)
    )


JSON = st.sampled_from(
    [
        b'{"number": 7, "workload": "w", "device": "d"}',
        b'{"number": 0, "workload": "w", "device": "d", "knob": 1e400}',
        b'{"number": -1, "workload": "w", "device": "d"}',
        b'{"number": 7, "score": 1e400}',
        b'{"number": 7, "rows": 99999999999}',
        b"[" * 60000,
        b"\xff",
        b"null",
        b"",
    ]
)


@SETTINGS
@given(
    st.lists(
        st.tuples(
            st.integers(0, 6),
            st.binary(max_size=60)
            | st.binary(max_size=60).map(lambda data: b"\x00" + data)
            | st.binary(max_size=60).map(lambda data: b"\x07" + data)
            | JSON,
        ),
        max_size=6,
    ),
    st.integers(1, 10),
)
def test_any_payload_with_a_right_checksum(
    tmp_path: Path, good: bytes, more: list[tuple[int, bytes]], at: int
) -> None:
    """Behind a good plan, so that the decoders are reached."""
    parts = [(kind, payload) for _, kind, payload in chunks(good)]
    found = read(tmp_path / "x", joined(good[:24], parts[:at] + more + parts[at:]))
    assert found is not None


def test_any_plan(tmp_path: Path, good: bytes) -> None:
    for plan in (
        b"", b"[]", b"[" * 100000, b'{"plan": {}}',
        b'{"plan": {}, "fields": [], "scales": []}',
        b'{"plan": {}, "fields": ["a"], "scales": [0]}',
        b'{"plan": {}, "fields": ["a", "a"], "scales": [1, 1]}',
        b'{"plan": {}, "fields": ["a"], "scales": [1, 1]}',
        b'{"plan": 1, "fields": ["a"], "scales": [1]}',
    ):  # fmt: skip
        assert read(tmp_path / "x", joined(good[:24], [(1, plan)])) is None
    plan = b'{"plan": {}, "fields": ["a"], "scales": [1]}'
    assert read(tmp_path / "x", joined(good[:24], [(1, plan)])) is not None


def test_rows_that_are_not_there_take_no_memory(tmp_path: Path, good: bytes) -> None:
    """A block that claims more rows than it can have, and marks that lead nowhere."""
    parts = [(kind, payload) for _, kind, payload in chunks(good)]
    claim = b"\x00\xff\xff\xff\xff\xff\xff\xff\xff\x7f" + bytes(20)
    found = read(tmp_path / "x", joined(good[:24], [*parts[:2], (3, claim)]))
    assert found is not None
    assert found.damage
    with pytest.raises(DatasetError, match="rows"):
        rows.decode(b"\x00\x20" + bytes(66), 64)
    found = read(tmp_path / "x", good + b"\0" * 8 + b"mlk\x03xxxx" * 200_000)
    assert found is not None
    assert found.torn
    assert len(found.runs) == 3


@SETTINGS
@given(st.binary(max_size=300), st.integers(1, 64))
def test_any_block(data: bytes, n: int) -> None:
    try:
        t, values, valid = rows.decode(data, n)
    except DatasetError:
        return
    assert len(values) == 8 * len(valid) == n * len(t)
    # what can be read can be written, and is the same then
    again = rows.encode(3, n, t, values, valid)
    assert [rows.decode(block, n) for block in again] == [(t, values, valid)] * bool(t)


def test_append_behind_a_torn_end(tmp_path: Path, good: bytes) -> None:
    path = tmp_path / "x"
    parts = chunks(good)
    for cut in (len(good) - 1, parts[-1][0] + 3, parts[-2][0] + 17, parts[2][0]):
        path.write_bytes(good[:cut])
        with Writer(str(path), PLAN, FIELDS, [1, 100, 1], append=True) as writer:
            number = writer.begin(workload="later", device="vda")
            writer.rows(number, [1], [[1, 2, 3]], [[1, 1, 1]])
            writer.end(number, score=1.0)
        with Dataset(str(path)) as found:
            assert not found.damage
            assert found.runs[-1].workload == "later"
            assert found.table(found.runs[-1])[1].tolist() == [[1, 2, 3]]
            assert [run.fault for run in found.rejected] == ["it has no end"]


def test_append_behind_damage(tmp_path: Path, good: bytes) -> None:
    """What is good behind a damaged place stays."""
    path = tmp_path / "x"
    at = chunks(good)[3][0]
    path.write_bytes(good[:at] + b"\0" * 4 + good[at + 4 :])
    write_one(path)
    with Dataset(str(path)) as found:
        assert [run.workload for run in found.runs] == ["w1", "w2", "later"]
        assert [run.workload for run in found.rejected] == ["w0"]


def write_one(path: Path) -> None:
    with Writer(str(path), PLAN, FIELDS, [1, 100, 1], append=True) as writer:
        number = writer.begin(workload="later", device="vda")
        writer.end(number)


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(DatasetError, match="is no file"):
            Dataset(str(path))


def test_largest_chunks_are_the_reader_s() -> None:
    assert dataset._MOST[3] == rows.MAX_BLOCK
