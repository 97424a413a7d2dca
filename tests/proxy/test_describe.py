# SPDX-License-Identifier: MIT
"""Which models there are, and what they say of themselves."""

import errno
import os

import pytest
from helpers.kernels import Kernel
from helpers.mlk_abi import refused

from pymlk.errors import MlkError, ProxyError
from pymlk.proxy import Feature, Knob, Proxy, discover


def test_models_are_found(kernel: Kernel) -> None:
    assert "guest/one" not in discover(kernel.root)
    kernel.register("one", 1, 1, 4)
    assert "guest/one" in discover(kernel.root)
    with Proxy("one", root=kernel.root) as short:
        assert (short.name, short.subsystem, short.model) == (
            "guest/one",
            "guest",
            "one",
        )
    kernel.unregister()
    assert "guest/one" not in discover(kernel.root)


def test_what_is_not_there_is_named(kernel: Kernel) -> None:
    kernel.register("one", 1, 1, 4)
    with pytest.raises(
        ProxyError, match=r"no model 'two'; there are: .*guest/one"
    ) as e:
        Proxy("two", root=kernel.root)
    assert e.value.errno == errno.ENOENT
    assert isinstance(e.value, MlkError)
    for name in ("", "guest/", "../one", "other/one"):
        with pytest.raises(ProxyError):
            Proxy(name, root=kernel.root)


def test_features_and_knobs(proxy: Proxy) -> None:
    assert proxy.features == (
        Feature("f0", "ns", "gauge", -1000, 1_000_000),
        Feature("f1", "", "counter", 0, 1_000_000),
        Feature("f2", "", "flag", 0, 1),
        Feature("f3", "", "gauge", -1000, 1_000_000),
    )
    assert proxy.knobs == (
        Knob("k0", "KiB", 4, 4096, 4, 128),
        Knob("k1", "", -100, 100, 1, 0),
    )


def test_the_largest_model(kernel: Kernel) -> None:
    kernel.register("large", 64, 8, 65536)
    with Proxy("large", root=kernel.root) as proxy:
        assert [feature.name for feature in proxy.features] == [
            f"f{i}" for i in range(64)
        ]
        assert len(proxy.knobs) == 8
        assert proxy.dataset.records == 65536


def test_without_knobs(kernel: Kernel) -> None:
    kernel.register("bare", 2, 0, 4)
    with Proxy("bare", root=kernel.root) as proxy:
        assert proxy.knobs == ()


def test_info(proxy: Proxy) -> None:
    assert proxy.info() == {
        "state": "created",
        "mode": "emergency",
        "reason": "new",
        "head": 0,
        "lost": 0,
        "program_id": 0,
        "program_swaps": 0,
        "deadline_ms": 1000,
        "records": 64,
        "record_bytes": 24 + 8 * 8,
        "dataset_bytes": proxy.info()["dataset_bytes"],
        "n_features": 4,
        "n_knobs": 2,
        "owner": False,
    }
    assert proxy.info()["dataset_bytes"] >= 4096 + 64 * 88


def test_files_say_the_same(running: Proxy) -> None:
    for name in ("state", "mode", "reason"):
        assert running.read_attr(name) == getattr(running, name)
    assert running.read_attr("owner") == "0"
    running.own()
    assert running.read_attr("owner") == str(os.getpid())


FILES = {
    "collaboration_permil": ("500", 0, 1000),
    "holdout_permil": ("50", 0, 1000),
    "min_samples": ("100", 1, 1 << 20),
    "auto_promote": ("0", 0, 1),
    "promote_permil": ("20", -19, 1000),
    "demote_permil": ("-20", -100, 19),
    "fail_permil": ("-100", -1000, -20),
    "deadline_ms": ("1000", 0, 3600000),
    "max_age_ms": ("0", 0, 3600000),
    "min_confidence_permil": ("0", 0, 1000),
    "max_refused": ("8", 1, 1 << 20),
}


@pytest.mark.parametrize("name", FILES)
def test_options(proxy: Proxy, name: str) -> None:
    default, least, most = FILES[name]
    file = f"options/{name}"
    assert proxy.read_attr(file) == default
    for value in (least, most):
        proxy.write_attr(file, value)
        assert proxy.read_attr(file) == str(value)
    for bad in (least - 1, most + 1, "", "x", "1x", "1 2", "1.5", "--1"):
        with refused(errno.EINVAL):
            proxy.write_attr(file, bad)
    with refused(errno.EINVAL, errno.ERANGE):
        proxy.write_attr(file, 1 << 70)
    assert proxy.read_attr(file) == str(most)


def test_limits_of_knobs(proxy: Proxy) -> None:
    proxy.write_attr("knobs/k0_low", 64)
    proxy.write_attr("knobs/k0_high", "0x200\n")
    proxy.write_attr("knobs/k0_change", 100)
    proxy.write_attr("knobs/k0_interval_ms", 5)
    for part, value in (
        ("low", "64"),
        ("high", "512"),
        ("change", "100"),
        ("interval_ms", "5"),
    ):
        assert proxy.read_attr(f"knobs/k0_{part}") == value
    for part, value, error in (
        ("low", 516, errno.EINVAL),
        ("high", 60, errno.EINVAL),
        ("low", 65, errno.ERANGE),
        ("high", 8192, errno.ERANGE),
        ("change", -1, errno.EINVAL),
    ):
        with refused(error):
            proxy.write_attr(f"knobs/k0_{part}", value)
    assert proxy.read_attr("knobs/k0") == "128"


def test_attributes_that_are_not(proxy: Proxy) -> None:
    with refused(errno.ENOENT):
        proxy.read_attr("options/nothing")
    with refused(errno.ENOENT, errno.EACCES):
        proxy.write_attr("options/nothing", 1)
    for name in ("../other/mode", "/etc/passwd", "", "a//b"):
        with pytest.raises(ValueError, match="attribute"):
            proxy.read_attr(name)
        with pytest.raises(ValueError, match="attribute"):
            proxy.write_attr(name, 1)


def test_closed(proxy: Proxy) -> None:
    proxy.close()
    proxy.close()
    assert proxy.closed
    for call in (proxy.info, proxy.own, proxy.fileno, lambda: proxy.control("init")):
        with refused(errno.EBADF):
            call()
    # the mapping stays
    assert proxy.dataset.head == 0
    assert proxy.dataset.next() is None
