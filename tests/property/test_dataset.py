# SPDX-License-Identifier: MIT
"""A dataset of a hostile writer: nothing outside of the map is read, nothing hangs."""

import errno
import fcntl
import mmap
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pymlk.errors import ProxyError
from pymlk.proxy import Dataset, RingWriter

HEADER = struct.Struct("<IHHIIIHHQQQ")
NAMES = (
    *("magic", "version", "header_bytes", "data", "record_bytes", "records"),
    *("n_features", "n_knobs", "reserved", "head", "discarded"),
)
GOOD = (0x444B4C4D, 1, 48, 4096, 24 + 64, 8, 4, 2, 0, 0, 0)
BYTES = 8192
U64 = (1 << 64) - 1


class Memory:
    """Sealed shared memory with a header, as an emulator hands it out."""

    def __init__(self, size: int = BYTES) -> None:
        self.fd = os.memfd_create("hostile", os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, size)
        fcntl.fcntl(self.fd, 1033, 0x2)
        self.map = mmap.mmap(self.fd, size)

    def header(self, **changes: int) -> None:
        fields = dict(zip(NAMES, GOOD, strict=True)) | changes
        self.map[: HEADER.size] = HEADER.pack(*fields.values())

    def record(self, slot: int, seq: int, n: int, kind: int = 1) -> None:
        at = 4096 + 88 * slot
        self.map[at : at + 24] = struct.pack("<QQII", seq, 1, kind, n)

    def close(self) -> None:
        self.map.close()
        os.close(self.fd)


@pytest.fixture(scope="module")
def memory() -> Iterator[Memory]:
    memory = Memory()
    yield memory
    memory.close()


@pytest.fixture
def clean(memory: Memory) -> Memory:
    memory.map[:] = bytes(BYTES)
    memory.header()
    return memory


BAD = {
    "magic": (0, 0x444B4C4E),
    "version": (0, 2),
    "header_bytes": (0, 40, 56, 65535),
    # not behind the header, not aligned, records reach out of the map
    "data": (0, 40, 4097, 7496, 8192, 1 << 31, (1 << 32) - 1),
    "record_bytes": (0, 8, 80, 92, 24 + 65 * 8, 1 << 31, (1 << 32) - 8),
    "records": (0, 3, 64, 1 << 20, 1 << 21, 1 << 31),
    "n_features": (0, 9, 65, 65535),
    "n_knobs": (3, 9, 65535),
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name in BAD for value in BAD[name]]
)
def test_each_bad_header_is_refused(clean: Memory, name: str, value: int) -> None:
    Dataset(clean.fd)
    clean.header(**{name: value})
    with pytest.raises(ProxyError, match="dataset: it") as found:
        Dataset(clean.fd)
    assert found.value.errno == errno.EINVAL
    with pytest.raises(ValueError, match="it"):
        RingWriter(bytearray(clean.map[:]))


NUMBERS = st.one_of(
    st.integers(0, 130),
    st.sampled_from([1 << 31, (1 << 32) - 1, 4096, 8192]),
    st.integers(0, (1 << 32) - 1),
)
LARGE = st.one_of(st.integers(0, 40), st.integers(U64 - 40, U64), st.integers(0, U64))


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    numbers=st.dictionaries(
        st.sampled_from(["data", "record_bytes", "records"]), NUMBERS, max_size=3
    ),
    counts=st.tuples(st.integers(0, 70), st.integers(0, 10)),
    head=LARGE,
    discarded=LARGE,
    garbage=st.binary(max_size=600),
)
@example(numbers={}, counts=(4, 2), head=U64, discarded=U64, garbage=b"\xff" * 600)
@example(numbers={}, counts=(4, 2), head=U64, discarded=U64 - 1, garbage=b"")
def test_any_header_and_any_records(
    memory: Memory,
    numbers: dict[str, int],
    counts: tuple[int, int],
    head: int,
    discarded: int,
    garbage: bytes,
) -> None:
    """Either it is refused, or whatever comes out was inside the map."""
    memory.map[:] = bytes(BYTES)
    memory.map[4096 : 4096 + len(garbage)] = garbage
    features, knobs = counts
    memory.header(
        n_features=features, n_knobs=knobs, head=head, discarded=discarded, **numbers
    )
    try:
        data = Dataset(memory.fd)
    except ProxyError:
        return
    view = memoryview(data)
    assert view.nbytes <= BYTES
    assert sum(map(sum, view.tolist())) is not None
    for record in data.rows(20):
        assert len(record.values) <= data.record_bytes // 8 - 3
        assert record.seq <= head
    data.skip(3)
    assert data.next() is None or data.seq <= head
    assert 0 <= data.lost <= U64


def test_counts_beyond_a_record_are_left_out(clean: Memory) -> None:
    data = Dataset(clean.fd)
    for slot, n in enumerate((4, 9, 8, (1 << 32) - 1, 0)):
        clean.record(slot, slot + 1, n)
    clean.header(head=5)
    assert [(r.seq, len(r.values)) for r in data.rows()] == [(1, 4), (3, 8), (5, 0)]
    assert (data.malformed, data.lost) == (2, 0)


def test_a_header_that_changes_later_is_not_looked_at(clean: Memory) -> None:
    data = Dataset(clean.fd)
    clean.record(0, 1, 4)
    clean.header(head=1, records=1 << 20, record_bytes=24, data=0, n_features=9)
    assert data.records == 8
    assert [r.seq for r in data.rows()] == [1]
    clean.header(head=0)
    assert data.next() is None


def test_numbers_that_never_fit_do_not_hang(clean: Memory) -> None:
    data = Dataset(clean.fd)
    for slot in range(8):
        clean.record(slot, 77, 4)
    clean.header(head=1 << 63)
    for _ in range(10):
        assert data.rows() == []
    assert data.seq <= 1 << 63
    # and one who writes while it is read
    stop = threading.Event()

    def spoil() -> None:
        n = 0
        while not stop.is_set():
            n += 1
            clean.record(n % 8, n, n % 20)
            clean.header(head=n)

    data = Dataset(clean.fd)
    thread = threading.Thread(target=spoil)
    thread.start()
    try:
        for _ in range(2000):
            record = data.next()
            assert record is None or len(record.values) <= 8
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("size", [0, 1, 47, 48, 4095])
def test_short_memory(tmp_path: Path, size: int) -> None:
    short = os.memfd_create("short", os.MFD_ALLOW_SEALING)
    os.write(short, HEADER.pack(*GOOD)[:size].ljust(size, b"\0"))
    fcntl.fcntl(short, 1033, 0x2)
    with pytest.raises(ProxyError, match="dataset"):
        Dataset(short)
    os.close(short)


def test_files_that_others_can_shorten_are_not_mapped(tmp_path: Path) -> None:
    """Reading a page that was taken away would end the process with SIGBUS."""
    path = tmp_path / "sys/kernel/mlk/a/b/dataset"
    path.parent.mkdir(parents=True)
    path.write_bytes(HEADER.pack(*GOOD).ljust(BYTES, b"\0"))
    with pytest.raises(ProxyError, match="cut short") as found:
        Dataset.from_sysfs("a/b", root=tmp_path)
    assert found.value.filename == str(path)
    unsealed = os.memfd_create("unsealed")
    os.ftruncate(unsealed, BYTES)
    with pytest.raises(ProxyError, match="cut short"):
        Dataset(unsealed)
    os.close(unsealed)
    with pytest.raises(ProxyError):
        Dataset(10**6)
    with pytest.raises(ProxyError):
        Dataset.from_sysfs("a/nothing", root=tmp_path)


def test_classes_that_nobody_initialised() -> None:
    for call in ("next", "rows", "skip"):
        with pytest.raises(ValueError, match="not mapped"):
            getattr(Dataset.__new__(Dataset), call)()
    with pytest.raises(ValueError, match="not mapped"):
        memoryview(Dataset.__new__(Dataset))
    for call, values in (("write", (1, [])), ("flood", (1,)), ("discard", ())):
        with pytest.raises(ValueError, match="no buffer"):
            getattr(RingWriter.__new__(RingWriter), call)(*values)


def test_a_map_outlives_its_dataset(clean: Memory) -> None:
    clean.record(0, 1, 4)
    view = memoryview(Dataset(clean.fd))
    assert view[0, 0] == 1


PEER = """
import os, socket, struct, sys
listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
listener.bind(sys.argv[1])
listener.listen(4)
print("up", flush=True)
answers = eval(sys.argv[2])
while True:
    talk, _ = listener.accept()
    while talk.recv(65536):
        talk.send(answers.pop(0) if answers else b"")
"""


@pytest.mark.parametrize(
    "answers",
    [
        [b""],
        [b"\0"],
        [b"\0" * 8],
        [b"\xff" * 8],
        [b"\x00\x10\0\0" * 2],
        [b"\0" * 20000],
        [b"\x16\0\0\0" * 50],
    ],
)
def test_a_peer_that_answers_nonsense(tmp_path: Path, answers: list[bytes]) -> None:
    """Sockets where a device should be: an error each time, never more."""
    from pymlk.proxy import Proxy

    (tmp_path / "sys/kernel/mlk/a/b").mkdir(parents=True)
    (tmp_path / "dev/mlk").mkdir(parents=True)
    socket = str(tmp_path / "dev/mlk/b")
    with subprocess.Popen(
        [sys.executable, "-c", PEER, socket, repr(answers)], stdout=subprocess.PIPE
    ) as peer:
        assert peer.stdout is not None
        assert peer.stdout.readline() == b"up\n"
        with pytest.raises(ProxyError):
            Proxy("a/b", root=tmp_path)
        peer.kill()
    with pytest.raises(ProxyError) as found:
        Proxy("a/b", root=tmp_path)
    assert found.value.errno == errno.ECONNREFUSED
