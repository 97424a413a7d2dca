# SPDX-License-Identifier: MIT
"""The device: records, waiting, ioctls, and everything that is malformed."""

import errno
import fcntl
import mmap
import os
import select
import struct
import threading
import time

import pytest
from helpers.mlk_abi import (
    HEARTBEAT,
    INFO,
    LOAD,
    MODE,
    OWNER,
    SAMPLE,
    WAIT,
    Dataset,
    Device,
    Info,
    Proxy,
    Ring,
    Wait,
    client,
    ioc,
    numbers,
    recommendation,
    refused,
)


def test_info(proxy: Proxy, device: Device) -> None:
    info = device.info()
    assert (info.version, info.bytes) == (1, len(bytes(Info())))
    assert (info.subsystem, info.model) == (b"guest", b"guest0")
    assert (info.n_features, info.n_knobs, info.records) == (4, 2, 64)
    # an outcome: 4 numbers and two values for each knob
    assert info.record_bytes == 24 + 8 * 8
    assert info.dataset_bytes % mmap.PAGESIZE == 0
    assert info.deadline_ms == 1000
    assert list(info.reserved) == [0] * 5
    proxy.learn("learning")
    client("flood 3")
    info = device.info()
    assert (info.state, info.mode, info.why, info.head) == (3, 1, 1, 3)


def test_whole_records_are_read(proxy: Proxy, device: Device) -> None:
    proxy.to("started")
    first, second = numbers("push 1 2 3 4") + numbers("push -5 6 7 9223372036854775807")
    start = time.monotonic_ns()
    records = device.read()
    assert [(seq, kind, row) for seq, _, kind, row in records] == [
        (first, SAMPLE, [1, 2, 3, 4]),
        (second, SAMPLE, [-5, 6, 7, 9223372036854775807]),
    ]
    assert records[0][1] <= records[1][1] <= start


def test_a_small_buffer_gets_whole_records_or_an_error(
    proxy: Proxy, device: Device
) -> None:
    proxy.to("started")
    client("flood 3 1")
    size = device.info().record_bytes
    with refused(errno.EINVAL):
        os.read(device.handle, size - 1)
    assert [values[0] for *_, values in device.read(2 * size + 5)] == [1, 2]
    assert [values[0] for *_, values in device.read()] == [3]


def test_each_descriptor_reads_everything(proxy: Proxy) -> None:
    proxy.to("started")
    with Device(proxy) as one, Device(proxy) as two:
        client("flood 5 10")
        assert one.read() == two.read()


def test_without_records(proxy: Proxy) -> None:
    proxy.to("started")
    with Device(proxy, os.O_RDWR | os.O_NONBLOCK) as device:
        with refused(errno.EAGAIN):
            device.read()
        assert not device.readable()
        client("flood 1")
        assert device.readable() & select.POLLIN
        assert len(device.read()) == 1
        assert not device.readable()


def test_read_and_poll_wait(proxy: Proxy, device: Device) -> None:
    proxy.to("started")
    for wait in (device.read, lambda: device.readable(5)):
        timer = threading.Timer(0.1, client, ("flood 1",))
        start = time.monotonic()
        timer.start()
        assert wait()
        assert 0.05 < time.monotonic() - start < 4
        timer.join()


def test_lost_records_are_counted(proxy: Proxy, device: Device) -> None:
    proxy.to("started")
    client("flood 64 0")
    assert device.info().lost == 0
    client("flood 100 64")
    records = device.read()
    assert [seq for seq, *_ in records] == list(range(101, 165))
    assert device.info().lost == 100
    assert proxy.stat("lost") == 100
    assert proxy.stat("records") == 164


def test_discard_forgets(proxy: Proxy, device: Device) -> None:
    proxy.to("started")
    client("flood 10")
    proxy["control"] = "discard"
    client("flood 2 100")
    assert [row[0] for *_, row in device.read()] == [100, 101]
    assert device.info().lost == 0


def test_mapped_records(proxy: Proxy, device: Device) -> None:
    proxy.to("started")
    ring = Ring(device.handle, device.info().dataset_bytes)
    header = ring.header
    assert header.magic == 0x444B4C4D
    assert (header.version, header.header_bytes) == (1, len(bytes(Dataset())))
    assert (header.records, header.n_features, header.n_knobs) == (64, 4, 2)
    assert ring.read() == []
    client("flood 200 1")
    found = ring.read()
    assert [row[0] for *_, row in found] == list(range(137, 201))
    assert ring.lost == 136
    assert found == device.read()
    proxy["control"] = "discard"
    assert Dataset.from_buffer_copy(ring.map).discarded == 200


def test_the_dataset_file_is_the_same_memory(proxy: Proxy, device: Device) -> None:
    proxy.to("started")
    client("flood 3 7")
    handle = os.open(proxy.path / "dataset", os.O_RDONLY)
    size = device.info().dataset_bytes
    assert os.fstat(handle).st_size == size
    ring = Ring(handle, size)
    mapped = Ring(device.handle, size)
    assert ring.read() == mapped.read() != []
    assert os.pread(handle, 4096, 0)[:4] == b"MLKD"
    os.close(handle)
    client("flood 1 9")
    assert [row[0] for *_, row in ring.read()] == [9]


def test_mappings_are_for_reading(proxy: Proxy, device: Device) -> None:
    size = device.info().dataset_bytes
    with refused(errno.EPERM, errno.EACCES):
        mmap.mmap(device.handle, size, mmap.MAP_SHARED, mmap.PROT_WRITE)
    handle = os.open(proxy.path / "dataset", os.O_RDONLY)
    with refused(errno.EPERM, errno.EACCES):
        mmap.mmap(handle, size, mmap.MAP_SHARED, mmap.PROT_WRITE | mmap.PROT_READ)
    for bad in (size + mmap.PAGESIZE, 1 << 30):
        with refused(errno.EINVAL, errno.ENXIO):
            mmap.mmap(device.handle, bad, mmap.MAP_SHARED, mmap.PROT_READ)
    with refused(errno.EINVAL, errno.ENXIO):
        mmap.mmap(
            device.handle,
            mmap.PAGESIZE,
            mmap.MAP_SHARED,
            mmap.PROT_READ,
            offset=1 << 40,
        )
    os.close(handle)


def test_rows_are_never_torn(proxy: Proxy, device: Device) -> None:
    """A reader that laps and is lapped sees whole records in order only."""
    proxy.to("started")
    ring = Ring(device.handle, device.info().dataset_bytes)
    writer = threading.Thread(target=client, args=("ticks 400 100000 50",))
    writer.start()
    last, seen = 0, 0
    while writer.is_alive() or ring.head >= ring.next:
        for seq, _, _, row in ring.read():
            assert seq > last
            last = seq
            seen += 1
            assert [row[0] * (i + 1) for i in range(4)] == row
            assert row[0] == seq - 1
    writer.join()
    assert seen + ring.lost == 400 * 50 == proxy.stat("records")


def test_all_processors_push_at_once(proxy: Proxy, device: Device) -> None:
    proxy.to("started")
    processors = os.cpu_count() or 1
    client("storm 64")
    assert proxy.stat("records") == 64 * processors
    rows = device.read()
    assert len(rows) == 64
    for *_, row in rows:
        assert [row[0] * (i + 1) for i in range(4)] == row


def test_wait(proxy: Proxy, device: Device) -> None:
    proxy.to("started")
    client("flood 3")
    assert device.wait(2, 10) == 3
    start = time.monotonic()
    with refused(errno.ETIMEDOUT):
        device.wait(3, 0.1)
    assert 0.05 < time.monotonic() - start < 3
    with refused(errno.ETIMEDOUT):
        device.wait(3, 0)
    timer = threading.Timer(0.05, client, ("flood 1",))
    timer.start()
    assert device.wait(3, -1) == 4
    timer.join()


def test_a_signal_ends_a_wait(proxy: Proxy, device: Device) -> None:
    proxy.to("started")
    child = os.fork()
    if not child:
        try:
            device.wait(0, -1)
        finally:
            os._exit(1)
    time.sleep(0.1)
    os.kill(child, 9)
    assert os.waitpid(child, 0)[1] == 9


def test_one_owner(proxy: Proxy, device: Device) -> None:
    proxy.to("running")
    with Device(proxy) as other:
        device.own()
        device.own()
        assert proxy["owner"] == str(os.getpid())
        assert device.info().owner == 1
        assert other.info().owner == 0
        with refused(errno.EBUSY):
            other.own()
        for forbidden in (
            lambda: other.advise(128, 0),
            other.beat,
            lambda: other.mode(1),
            lambda: other.load(b"x" * 64),
        ):
            with refused(errno.EPERM):
                forbidden()
        device.advise(128, 0)
        device.mode(2)
        assert proxy["mode"] == "collaboration"
        device.own(0)
        assert proxy["owner"] == "0"
        with refused(errno.EPERM):
            device.beat()
        other.own()
        assert other.info().owner == 1


def test_recommendations_are_checked(proxy: Proxy, device: Device) -> None:
    device.own()
    with refused(errno.EBUSY):
        device.advise(128, 0)
    proxy.to("running")
    proxy["options/max_refused"] = 1000
    good = recommendation(256, 1)
    bad = {
        "version": recommendation(256, 1, version=2),
        "bytes": recommendation(256, 1, bytes=len(good) - 8),
        "n_knobs": recommendation(256, 1, n_knobs=1),
        "more knobs": recommendation(256, 1, 1),
        "confidence": recommendation(256, 1, confidence=1001),
        "reserved": recommendation(256, 1, reserved=1),
        "future": recommendation(256, 1, seq=1 << 40),
    }
    for name, data in bad.items():
        with refused(errno.EINVAL):
            os.write(device.handle, data)
            pytest.fail(name)
    for data in (good[:-1], good + b"\0", good[:8], b"\0"):
        with refused(errno.EINVAL):
            os.write(device.handle, data)
    for values in ((0, 0), (4100, 0), (130, 0), (128, 101), (128, -101)):
        with refused(errno.ERANGE):
            device.advise(*values)
    assert proxy.stat("recommendations") == 0
    assert os.write(device.handle, good + recommendation(512, 2)) == 2 * len(good)
    proxy.learn()
    device.advise(512, 2)
    assert proxy.decide()["value"] == [512, 2]


def test_a_good_one_before_a_bad_one_counts(proxy: Proxy, device: Device) -> None:
    proxy.learn()
    device.own()
    good, bad = recommendation(256, 1), recommendation(257, 1)
    assert os.write(device.handle, good + bad + good) == len(good)
    assert proxy.stat("recommendations") == 1
    assert proxy.stat("refused") >= 1


def test_unknown_and_malformed_ioctls(proxy: Proxy, device: Device) -> None:
    zeros = bytearray(4096)
    for request in (
        ioc(0, 0, 0),
        ioc(2, 0, 8),
        ioc(1, 1, 8),
        ioc(3, 3, 24),
        ioc(3, 9, 16),
        ioc(0, 255, 0),
        0x5401,
    ):
        with refused(errno.ENOTTY, errno.EINVAL):
            fcntl.ioctl(device.handle, request, zeros)
    for request in (INFO, OWNER, WAIT, LOAD, MODE):
        if request == INFO or request == WAIT or request == OWNER:
            with refused(errno.EFAULT):
                fcntl.ioctl(device.handle, request, 1)
    with refused(errno.EINVAL):
        device.own(2)
    with refused(errno.EINVAL):
        device.wait(0, 0.1, reserved=1)
    device.own()
    for request in (LOAD, MODE):
        with refused(errno.EFAULT):
            fcntl.ioctl(device.handle, request, 1)
    with refused(errno.EINVAL):
        device.mode(4)
    with refused(errno.EINVAL):
        device.load(b"x" * 64, reserved=1)
    fcntl.ioctl(device.handle, HEARTBEAT)
    assert proxy.stat("heartbeats") == 1


def test_a_reader_may_not_own(proxy: Proxy) -> None:
    with Device(proxy, os.O_RDONLY) as device:
        with refused(errno.EBADF):
            os.write(device.handle, recommendation(128, 0))
        with refused(errno.EPERM, errno.EBADF, errno.EACCES):
            device.own()
        assert device.info().owner == 0


def test_a_descriptor_outlives_its_model() -> None:
    client("register brief 2 1 4")
    proxy = Proxy("brief")
    proxy.to("started")
    client("flood 2 5")
    device = Device(proxy)
    device.own()
    ring = Ring(device.handle, device.info().dataset_bytes)
    client("unregister")
    assert [row[0] for *_, row in ring.read()] == [5, 6]
    for call in (
        device.info,
        device.own,
        device.beat,
        lambda: device.wait(99, 1),
        lambda: device.mode(1),
        lambda: device.advise(4),
    ):
        with refused(errno.ENODEV):
            call()
    assert device.readable() & (select.POLLHUP | select.POLLERR)
    device.close()
    client("register brief 2 1 4")
    assert ring.head == 2
    client("unregister")


def test_who_waits_is_woken_when_the_model_goes() -> None:
    client("register brief 2 1 4")
    proxy = Proxy("brief")
    proxy.to("started")
    ends = []

    def end(call: object) -> None:
        try:
            call()
        except OSError as error:
            ends.append(error.errno)

    devices = [Device(proxy) for _ in range(2)]
    threads = [
        threading.Thread(target=end, args=(call,))
        for call in (
            lambda: devices[0].wait(9, -1),
            lambda: os.read(devices[1].handle, 4096),
        )
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    client("unregister")
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
    assert ends == [errno.ENODEV] * 2
    for device in devices:
        device.close()


def test_answers_are_timed(proxy: Proxy, device: Device) -> None:
    proxy.learn()
    device.own()
    (seq,) = numbers("push 1 2 3 4")
    device.advise(256, 0, seq=seq)
    proxy.decide(seq=seq)
    for name in ("answer_latency", "decision_latency"):
        buckets = [int(word) for word in proxy[f"stats/{name}"].split()]
        assert len(buckets) == 32
        assert sum(buckets) == 1
    assert struct.calcsize("<QqQQ") == len(bytes(Wait()))
