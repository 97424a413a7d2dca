# SPDX-License-Identifier: MIT
"""A sampler waits for nobody, and its memory has an end."""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pymlk import rows
from pymlk.attrs import AttrSet
from pymlk.emulator import Emulator
from pymlk.proxy import Feature, Proxy
from pymlk.sampler import AttrSampler, RingSampler, Sampler


@contextmanager
def running(sampler: Sampler, settle: float = 0.0) -> Iterator[threading.Thread]:
    thread = threading.Thread(target=sampler.run, args=(settle,))
    thread.start()
    try:
        yield thread
    finally:
        sampler.stop()
        thread.join(10)
        assert not thread.is_alive()


def until(sampler: Sampler, count: int) -> None:
    end = time.monotonic() + 20
    while sampler.rows + sampler.missed(0) < count:
        assert time.monotonic() < end
        time.sleep(0.005)


def decoded(sampler: Sampler, n: int) -> list[list[int]]:
    found = []
    for stream, count, data in sampler.blocks():
        t, values, valid = rows.decode(rows.block(stream, count, data), n)
        assert len(t) == 8 * count
        numbers = memoryview(values).cast("q").tolist()
        shown = [x if ok else None for x, ok in zip(numbers, valid, strict=True)]
        found += [shown[i : i + n] for i in range(0, len(shown), n)]
    return found


def test_nobody_takes_the_blocks(tmp_path: Path) -> None:
    """Rows are missed and counted, what is there is kept, and it goes on behind."""
    generator = random.Random(0)
    with Emulator(tmp_path) as kernel:
        features = [Feature(f"f{i}") for i in range(32)]
        model = kernel.register("test", "one", features, [], records=8192)
        with Proxy("test/one", root=kernel.root, write=False) as proxy:
            sampler = RingSampler(proxy, range(32), 1000.0)
            sent = [
                [generator.randrange(-(1 << 62), 1 << 62) for _ in range(32)]
                for _ in range(6000)
            ]
            with running(sampler):
                for row in sent:
                    model._ring.write(1, row)
                until(sampler, 6000)
                # 16 blocks of 64 KiB, and a row has 300 bytes at least
                assert sampler.rows < 16 * 65536 / 300
                kept = decoded(sampler, 32)
                assert kept == sent[: len(kept)]
                assert len(kept) > 2500
                for row in sent[:100]:
                    model._ring.write(1, row)
                until(sampler, 6100)
            kept += decoded(sampler, 32)
            assert len(kept) == sampler.rows
            assert kept[-100:] == sent[:100]
            assert sampler.missed(0) == 6100 - len(kept)


def test_what_cannot_be_read_is_marked(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("7\n")
    with AttrSet(["/a", "/b"], root=tmp_path) as attrs:
        sampler = AttrSampler(attrs, [[1, 0], [0]], 1000.0, 0)
        with running(sampler):
            until(sampler, 20)
        blocks = sampler.blocks()
        assert sum(count for _, count, _ in blocks) == sampler.rows
        for stream, count, data in blocks:
            n = 2 - stream
            _, values, valid = rows.decode(rows.block(0, count, data), n)
            numbers = memoryview(values).cast("q").tolist()
            assert set(numbers[n - 1 :: n]) == {7}
            assert set(valid[n - 1 :: n]) == {1}
            if n == 2:
                assert set(valid[::2]) == {0}
        # of a constant, and of what was never read
        assert (sampler.rate(0), sampler.rate(1)) == (None, 0.0)


def test_a_slow_rate_stops_at_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("7\n")
    with AttrSet(["/a"], root=tmp_path) as attrs:
        sampler = AttrSampler(attrs, [[0]], 0.01)
        with running(sampler):
            until(sampler, 1)
            start = time.monotonic()
        assert time.monotonic() - start < 5
        assert sampler.rows == 1
        # a thread that comes too late does nothing
        sampler.run()
        assert sampler.rows == 1


def test_wrong_arguments(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("7\n")
    with AttrSet(["/a"], root=tmp_path) as attrs:
        for places, rate in (
            ([[0]], 0.0), ([[0]], 1001.0), ([[0]], float("nan")), ([[1]], 1.0),
            ([[-1]], 1.0), ([[]], 1.0), ([], 1.0), ([[0] * 65], 1.0),
        ):  # fmt: skip
            with pytest.raises(ValueError, match="found"):
                AttrSampler(attrs, places, rate)
        sampler = AttrSampler(attrs, [[0]], 1.0)
        with pytest.raises(ValueError, match="made once"):
            sampler.prepare([1], 1.0)
        for place in (-1, 1):
            with pytest.raises(IndexError):
                sampler.missed(place)
            with pytest.raises(IndexError):
                sampler.rate(place)
