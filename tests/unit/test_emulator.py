# SPDX-License-Identifier: MIT
"""What only an emulator does: come, go, and be ended in the middle."""

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from helpers.mlk_abi import refused

from pymlk.emulator import Emulator
from pymlk.proxy import Feature, Knob, Proxy, discover, emulate

FEATURES = [Feature("load")]
KNOBS = [Knob("batch", "", 1, 64, 1, 8)]
# another process's emulator: one record, then it waits for its end
OTHER = """
import sys
from pymlk.proxy import Feature, Knob, emulate
kernel = emulate(sys.argv[1])
knobs = [Knob("batch", "", 1, 64, 1, 8)]
model = kernel.register("test", "one", [Feature("load")], knobs)
for word in ("init", "start", "run"):
    model.control(word)
model.push([7])
print("up", flush=True)
sys.stdin.read()
"""


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_nothing_is_left() -> None:
    """No thread, no descriptor, no file."""
    with emulate() as kernel:
        kernel.register("test", "one", FEATURES, KNOBS)
    before, threads = descriptors(), threading.active_count()
    for _ in range(3):
        with emulate() as kernel:
            model = kernel.register("test", "one", FEATURES, KNOBS)
            with Proxy("one", root=kernel.root) as proxy:
                proxy.own()
            model.unregister()
            del model
            kernel.register("test", "one", FEATURES, KNOBS)
            assert os.path.exists(f"{kernel.root}/dev/mlk/one")
        assert not os.path.exists(kernel.root)
        kernel.close()
    assert threading.active_count() == threads
    assert descriptors() == before
    with refused(errno.ESHUTDOWN):
        kernel.register("test", "one", FEATURES, KNOBS)


def test_the_end_of_the_emulators_process(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-P", "-c", OTHER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"up\n"
        with Proxy("one", root=tmp_path) as proxy:
            proxy.own()
            ends: list[int | None] = []

            def wait() -> None:
                try:
                    proxy.wait(1)
                except OSError as error:
                    ends.append(error.errno)

            waiter = threading.Thread(target=wait)
            waiter.start()
            time.sleep(0.05)
            other.kill()
            other.wait()
            waiter.join(10)
            assert ends == [errno.ENODEV]
            for call in (proxy.info, proxy.heartbeat, lambda: proxy.wait(1, 1)):
                with refused(errno.ENODEV):
                    call()
            record = proxy.dataset.next()
            assert record is not None
            assert record.values == (7,)
    # what it left is in nobody's way
    with refused(errno.ECONNREFUSED):
        Proxy("one", root=tmp_path)
    with emulate(tmp_path) as kernel:
        kernel.register("test", "one", FEATURES, KNOBS)
        assert Proxy("one", root=tmp_path).state == "created"


def test_a_long_path(tmp_path: Path) -> None:
    """Of a socket only 107 bytes would do."""
    folder = tmp_path / ("x" * 100) / ("y" * 100)
    with emulate(folder) as kernel:
        kernel.register("test", "one", FEATURES, KNOBS)
        assert Proxy("one", root=folder).knobs[0].default == 8
    assert folder.exists()
    assert discover(folder) == []


def test_several_models() -> None:
    with emulate() as kernel:
        models = [kernel.register("a", f"m{i}", FEATURES, KNOBS) for i in range(5)]
        proxies = [Proxy(f"m{i}", root=kernel.root) for i in range(5)]
        for i, (model, proxy) in enumerate(zip(models, proxies, strict=True)):
            for word in ("init", "start", "run"):
                proxy.control(word)
            proxy.own()
            proxy.set_mode("learning")
            model.push([i])
        assert [p.dataset.next().values for p in proxies] == [(i,) for i in range(5)]
        kernel.suspend()
        assert {(p.mode, p.reason) for p in proxies} == {("emergency", "suspend")}
        with refused(errno.EEXIST):
            kernel.register("b", "m3", FEATURES, KNOBS)
        models[3].unregister()
        with refused(errno.ENODEV):
            proxies[3].info()
        assert proxies[4].info()["owner"]


@pytest.mark.parametrize(
    ("name", "features", "knobs", "records"),
    [
        ("a/b", FEATURES, KNOBS, 8),
        ("..", FEATURES, KNOBS, 8),
        ("", FEATURES, KNOBS, 8),
        ("x" * 32, FEATURES, KNOBS, 8),
        ("one", [], KNOBS, 8),
        ("one", FEATURES * 2, KNOBS, 8),
        ("one", [Feature(f"f{i}") for i in range(65)], KNOBS, 8),
        ("one", FEATURES, KNOBS * 2, 8),
        ("one", FEATURES, KNOBS, 3),
        ("one", FEATURES, KNOBS, 1 << 21),
        ("one", FEATURES, [Knob("k", "", 1, 64, 2, 1)], 8),
        ("one", FEATURES, [Knob("k", "", 1, 64, 1, 65)], 8),
        ("one", FEATURES, [Knob("k", "", 1, 64, 0, 8)], 8),
        ("one", FEATURES, [Knob("k", "", -(1 << 63), (1 << 63) - 1, 1, 8)], 8),
        ("one", [Feature("f", "", "gauge", 2, 1)], KNOBS, 8),
    ],
)
def test_descriptions_that_cannot_be(
    name: str, features: list[Feature], knobs: list[Knob], records: int
) -> None:
    with emulate() as kernel:
        with refused(errno.EINVAL):
            kernel.register("test", name, features, knobs, records=records)
        assert discover(kernel.root) == []


def test_callbacks() -> None:
    seen = []
    names = ("init", "start", "stop", "sample", "advised", "fallback")
    ops = {name: lambda model, name=name: seen.append(name) for name in names}
    with Emulator() as kernel:
        model = kernel.register("test", "one", FEATURES, KNOBS, ops=ops)
        with Proxy("one", root=kernel.root) as proxy:
            for word in ("init", "start", "sample", "run"):
                proxy.control(word)
            proxy.own()
            proxy.set_mode("recommendation")
            proxy.recommend([9])
            proxy.control("stop")
        assert model.state == 4
    assert seen == ["init", "start", "sample", "advised", "fallback", "stop"]
