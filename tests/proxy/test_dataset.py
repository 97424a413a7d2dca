# SPDX-License-Identifier: MIT
"""Records: both maps, order, loss, waiting, and copies that are whole."""

import array
import errno
import mmap
import os
import select
import signal
import threading
import time

import pytest
from helpers.kernels import Kernel
from helpers.mlk_abi import refused

from pymlk.proxy import Dataset, Proxy


@pytest.fixture
def started(proxy: Proxy) -> Proxy:
    proxy.control("init")
    proxy.control("start")
    return proxy


def firsts(data: Dataset) -> list[int]:
    return [record.values[0] for record in data.rows()]


def test_records_in_order(kernel: Kernel, started: Proxy) -> None:
    data = started.dataset
    assert data.next() is None
    assert kernel.push(1, 2, 3, 4) == 1
    assert kernel.push(-5, 6, 7, (1 << 63) - 1) == 2
    now = time.monotonic_ns()
    first, second = data.next(), data.next()
    assert first is not None
    assert second is not None
    assert (first.seq, first.kind, first.values) == (1, "sample", (1, 2, 3, 4))
    assert (second.seq, second.values) == (2, (-5, 6, 7, (1 << 63) - 1))
    assert first.time_ns <= second.time_ns <= now
    assert data.next() is None
    assert (data.head, data.seq, data.lost, data.malformed) == (2, 2, 0, 0)


def test_both_maps_are_the_same_memory(kernel: Kernel, started: Proxy) -> None:
    file = Dataset.from_sysfs("guest/guest0", root=kernel.root)
    kernel.flood(3, 7)
    assert [r.values for r in file.rows()] == [r.values for r in started.dataset.rows()]
    kernel.flood(1, 9)
    assert firsts(file) == firsts(started.dataset) == [9]


def test_the_ring_itself_without_a_copy(kernel: Kernel, started: Proxy) -> None:
    view = memoryview(started.dataset)
    assert (view.format, view.ndim, view.shape) == ("q", 2, (64, 11))
    assert view.readonly
    assert view.c_contiguous
    assert view[0, 0] == 0
    kernel.push(5, 6, 7, 8)
    # number, time, kind and count, values
    assert view[0, 0] == 1
    assert view[0, 2] == 4 << 32 | 1
    assert [view[0, 3 + i] for i in range(4)] == [5, 6, 7, 8]
    with pytest.raises(TypeError):
        view[0, 0] = 1
    started.close()
    kernel.unregister()
    assert view[0, 3] == 5


def test_maps_are_for_reading(kernel: Kernel, proxy: Proxy) -> None:
    path = f"{kernel.root}/sys/kernel/mlk/guest/guest0/dataset"
    handle = os.open(path, os.O_RDONLY)
    size = os.fstat(handle).st_size
    assert size == proxy.info()["dataset_bytes"]
    with refused(errno.EPERM, errno.EACCES):
        mmap.mmap(handle, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
    os.close(handle)
    with refused(errno.EPERM, errno.EACCES, errno.EINVAL):
        handle = os.open(path, os.O_RDWR)
        try:
            mmap.mmap(handle, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        finally:
            os.close(handle)


def test_lost_records_are_counted(kernel: Kernel, started: Proxy) -> None:
    data = started.dataset
    kernel.flood(64, 0)
    kernel.flood(100, 64)
    assert firsts(data) == list(range(100, 164))
    assert (data.lost, data.seq) == (100, 164)
    kernel.flood(1, 0)
    assert firsts(data) == [0]
    assert data.lost == 100


def test_exactly_full_loses_nothing(kernel: Kernel, started: Proxy) -> None:
    kernel.flood(64, 0)
    assert firsts(started.dataset) == list(range(64))
    assert started.dataset.lost == 0


def test_batches(kernel: Kernel, started: Proxy) -> None:
    data = started.dataset
    kernel.flood(10, 1)
    assert [r.seq for r in data.rows(3)] == [1, 2, 3]
    rows = memoryview(array.array("q", bytes(5 * data.record_bytes))).cast("B")
    rows = rows.cast("q", (5, data.record_bytes // 8))
    assert data.read_into(rows) == 5
    assert [rows[i, 0] for i in range(5)] == [4, 5, 6, 7, 8]
    assert [rows[i, 3] for i in range(5)] == [4, 5, 6, 7, 8]
    assert [rows[0, 3 + i] for i in range(8)] == [4, 8, 12, 16, 0, 0, 0, 0]
    assert data.read_into(rows) == 2
    assert [rows[i, 0] for i in range(5)] == [9, 10, 6, 7, 8]
    assert data.read_into(rows) == 0
    with pytest.raises(ValueError, match="rows of 11 int64"):
        data.read_into(memoryview(bytearray(88)).cast("q"))
    with pytest.raises(BufferError):
        data.read_into(b"x" * 88)


def test_skipping_is_not_losing(kernel: Kernel, started: Proxy) -> None:
    data = started.dataset
    kernel.flood(300, 0)
    data.skip(2)
    assert firsts(data) == [298, 299]
    kernel.flood(5, 0)
    data.skip()
    assert data.next() is None
    assert data.lost == 0
    data.skip(1000)
    assert data.next() is None


def test_discarding_is_not_losing(kernel: Kernel, started: Proxy) -> None:
    kernel.flood(10, 0)
    started.control("discard")
    kernel.flood(2, 100)
    assert firsts(started.dataset) == [100, 101]
    assert started.dataset.lost == 0


def test_rows_are_never_torn(kernel: Kernel, started: Proxy) -> None:
    """A reader that is lapped by its writer sees whole records in order only."""
    data = started.dataset
    writer = threading.Thread(target=kernel.stream, args=(20_000,))
    writer.start()
    last, seen = 0, 0
    while writer.is_alive() or data.head > data.seq:
        for record in data.rows(7):
            assert record.seq > last
            last = record.seq
            seen += 1
            n = record.values[0]
            assert record.values == (n, 2 * n, 3 * n, 4 * n)
            assert n == record.seq - 1
    writer.join()
    assert seen + data.lost == 20_000
    assert data.malformed == 0


def test_outcomes_follow_their_samples(kernel: Kernel, owner: Proxy) -> None:
    owner.set_mode("learning")
    owner.recommend([256, 5])
    seq = kernel.push(1, 2, 3, 4)
    kernel.decide(seq=seq)
    kernel.report(77)
    sample, outcome = owner.dataset.rows()
    assert sample.kind == "sample"
    assert outcome.kind == "outcome"
    # seq, arm: the default's, verdict: good, score, applied, advice
    assert outcome.values == (seq, 1, 0, 77, 128, 0, 256, 5)


def test_wait(kernel: Kernel, started: Proxy) -> None:
    kernel.flood(3)
    assert started.wait(2, 10) == 3
    start = time.monotonic()
    assert started.wait(3, 0.1) == 3
    assert 0.09 < time.monotonic() - start < 5
    assert started.wait(3, 0) == 3
    for timeout in (10, None):
        timer = threading.Timer(0.05, kernel.flood, (1,))
        timer.start()
        head = started.dataset.head
        assert started.wait(head, timeout) == head + 1
        timer.join()


def test_poll_tells_of_records_behind_the_last_wait(
    kernel: Kernel, started: Proxy
) -> None:
    """So that one process sleeps on many models, whose records it reads by a map."""
    poll = select.poll()
    poll.register(started.fileno(), select.POLLIN)
    assert poll.poll(0) == []
    kernel.flood(2)
    assert poll.poll(5000)[0][1] & select.POLLIN
    assert len(started.dataset.rows()) == 2
    assert started.wait(2, 0) == 2
    assert poll.poll(0) == []
    timer = threading.Timer(0.05, kernel.flood, (1,))
    timer.start()
    assert poll.poll(5000)[0][1] & select.POLLIN
    timer.join()
    assert started.wait(2, 0) == 3


def test_edges_are_told_without_clearing_anything(
    kernel: Kernel, started: Proxy
) -> None:
    """A loop that empties rings needs no call for it, however many records come."""
    with select.epoll() as epoll:
        epoll.register(started.fileno(), select.EPOLLIN | select.EPOLLET)
        for turn in range(1500):
            kernel.flood(1)
            assert epoll.poll(5), turn
            assert epoll.poll(0) == []
        assert started.dataset.head == 1500


def test_a_signal_is_handled_while_waiting(kernel: Kernel, started: Proxy) -> None:
    """The handler runs, and the wait goes on; an exception of it ends the wait."""
    heard: list[int] = []

    def handler(number: int, frame: object) -> None:
        heard.append(number)
        if len(heard) == 2:
            raise InterruptedError("enough")

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        start = time.monotonic()
        assert started.wait(0, 0.2) == 0
        assert time.monotonic() - start >= 0.19
        assert len(heard) == 1
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(InterruptedError, match="enough"):
            started.wait(0, 60)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_reader_outlives_the_model(kernel: Kernel, started: Proxy) -> None:
    kernel.flood(2, 5)
    ends: list[int | None] = []

    def wait() -> None:
        try:
            started.wait(2)
        except OSError as error:
            ends.append(error.errno)

    waiter = threading.Thread(target=wait)
    waiter.start()
    time.sleep(0.05)
    poll = select.poll()
    poll.register(started.fileno(), select.POLLIN)
    kernel.unregister()
    waiter.join(10)
    assert not waiter.is_alive()
    assert ends == [errno.ENODEV]
    assert poll.poll(0)
    assert firsts(started.dataset) == [5, 6]
    for call in (
        started.info,
        started.own,
        started.heartbeat,
        lambda: started.wait(2, 1),
        lambda: started.recommend([128, 0]),
        lambda: started.set_mode("learning"),
        lambda: started.control("stop"),
        lambda: started.read_attr("mode"),
        lambda: started.load(b"MLKI\1\0\x30\0\x40\0\0\0".ljust(64, b"\0")),
    ):
        with refused(errno.ENODEV):
            call()
    kernel.register("guest0", 4, 2, 64)
    assert started.dataset.head == 2
    with refused(errno.ENODEV):
        started.info()
    with Proxy("guest0", root=kernel.root) as anew:
        assert anew.dataset.head == 0
