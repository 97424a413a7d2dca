# SPDX-License-Identifier: MIT
"""The two clients that come with the library, at work."""

import errno
import fcntl
import math
import os
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.guest import insmod, kernel_module, rmmod
from helpers.mlk_abi import SAMPLE, Device, Proxy, refused

RESET, GET, SET = 0xBD00, 0x8004BD01, 0x4004BD02


class Chardev(Proxy):
    """The proxy of the example driver."""

    def __init__(self) -> None:
        super().__init__("chardev")
        self.path = self.path.parents[1] / "sample" / "chardev"

    def value(self, name: str) -> int:
        (text,) = Path("/sys/class/misc/mlk_chardev").glob(name)
        return int(text.read_text())


@pytest.fixture
def chardev() -> Iterator[Chardev]:
    insmod("mlk_chardev")
    yield Chardev()
    rmmod("mlk_chardev")


def test_the_example_driver_works_without_a_model(chardev: Chardev) -> None:
    handle = os.open("/dev/mlk_chardev", os.O_RDWR)
    data = os.urandom(10_000)
    for at in range(0, len(data), 1000):
        assert os.write(handle, data[at : at + 1000]) == 1000
    # the default's threshold: 4096 bytes
    assert chardev.value("flushes") == 2
    assert chardev.value("pending_bytes") == 0
    assert chardev.value("crc32") != zlib.crc32(b"")
    assert os.read(handle, 20_000) == data
    os.write(handle, b"abc" * 100)
    size = bytearray(4)
    fcntl.ioctl(handle, GET, size)
    assert struct.unpack("<I", size) == (300,)
    fcntl.ioctl(handle, SET, struct.pack("<I", 100))
    assert os.read(handle, 1000) == (b"abc" * 100)[:200]
    with refused(errno.EINVAL):
        fcntl.ioctl(handle, SET, struct.pack("<I", 101))
    fcntl.ioctl(handle, RESET)
    assert chardev.value("pending_bytes") == 0
    os.close(handle)
    lines = Path("/proc/mlk_chardev").read_text().split("\n")
    assert any(line.split() == ["writes:", "11"] for line in lines)


def test_a_recommendation_moves_its_threshold(chardev: Chardev) -> None:
    handle = os.open("/dev/mlk_chardev", os.O_RDWR)
    chardev.to("running")
    chardev["options/holdout_permil"] = 0
    with Device(chardev) as device:
        device.own()
        chardev["mode"] = "recommendation"
        device.advise(512)
        for _ in range(10):
            os.write(handle, b"x" * 600)
        assert chardev.value("flushes") == 10
        assert chardev["knobs/flush_bytes"] == "512"
        assert chardev.stat("reports") == 10
        device.advise(65536)
        for _ in range(20):
            os.write(handle, b"x" * 600)
        assert chardev.value("flushes") == 10
    # its owner is gone: the default's threshold holds again
    os.write(handle, b"x" * 600)
    assert chardev.value("flushes") == 11
    os.close(handle)


@pytest.fixture
def disk() -> str:
    """A null_blk disk of this kernel's own.

    It stays: where releases are delayed (DEBUG_KOBJECT_RELEASE) the disk's would come
    when its driver is gone.
    """
    kernel_module("null_blk", "queue_mode=2", "gb=1")
    assert Path("/sys/block/nullb0").exists()
    return "nullb0"


def test_block_requests_become_samples(disk: str) -> None:
    ahead = Path("/sys/block", disk, "queue/read_ahead_kb")
    before = ahead.read_text()
    insmod("mlk_blk", f"disk={disk}", "period_ms=20")
    try:
        folder = Path("/sys/kernel/mlk")
        models = {path.name: path for path in folder.glob("*/*") if path.is_dir()}
        assert len(models) == 2
        proxies = []
        for name, path in models.items():
            proxy = Proxy(name)
            proxy.path = path
            proxy.to("running")
            proxies.append(proxy)
        for _ in range(5):
            handle = os.open(f"/dev/{disk}", os.O_RDONLY)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            while os.read(handle, 1 << 20) and os.lseek(handle, 0, 1) < 16 << 20:
                pass
            os.close(handle)
            time.sleep(0.05)
        for proxy in proxies:
            assert proxy.stat("records") > 0, proxy.name
        (slow,) = (p for p in proxies if "slow" in p.name)
        with Device(slow) as device:
            rows = [row for _, _, kind, row in device.read() if kind == SAMPLE]
        for inflight, _, still, *times in rows:
            assert inflight >= 1
            # nothing else is in flight that could stand still
            assert still == 0 or inflight > 1
            assert all(0 <= t <= 16 * 20 for t in times)
        # sixteenths of the logarithm to base 2: between two turns 50 ms passed
        assert max(since for _, since, *_ in rows[1:]) >= 16 * math.log2(40_000)
        (readahead,) = (p for p in proxies if "readahead" in p.name)
        readahead["options/holdout_permil"] = 0
        with Device(readahead) as device:
            device.own()
            readahead["mode"] = "recommendation"
            kind = next(readahead.path.joinpath("knobs").glob("*_type"))
            low, high, step = (int(x) for x in kind.read_text().split(":")[2:5])
            value = min(low + 16 * step, high)
            end = time.monotonic() + 10
            while ahead.read_text() == before and time.monotonic() < end:
                device.advise(value)
                handle = os.open(f"/dev/{disk}", os.O_RDONLY)
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
                os.read(handle, 1 << 20)
                os.close(handle)
                time.sleep(0.02)
            assert ahead.read_text() != before
        end = time.monotonic() + 10
        while ahead.read_text() != before and time.monotonic() < end:
            time.sleep(0.02)
        assert ahead.read_text() == before
    finally:
        rmmod("mlk_blk")
    assert ahead.read_text() == before
