# SPDX-License-Identifier: MIT
"""States: every allowed change, and every other one refused with nothing changed."""

import errno

import pytest
from helpers.mlk_abi import STATES, Proxy, client, numbers, refused

ALLOWED = {
    ("created", "init"): "initialized",
    ("stopped", "init"): "initialized",
    ("initialized", "start"): "started",
    ("started", "run"): "running",
    ("initialized", "stop"): "stopped",
    ("started", "stop"): "stopped",
    ("running", "stop"): "stopped",
    ("started", "sample"): "started",
    ("running", "sample"): "running",
} | {(state, "discard"): state for state in STATES}
COMMANDS = ("init", "start", "run", "stop", "sample", "discard")


def picture(proxy: Proxy) -> dict[str, str]:
    """All readable text files."""
    return {
        str(path): path.read_text()
        for path in proxy.path.rglob("*")
        if path.is_file() and path.name not in ("control", "dataset", "program")
    }


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("state", STATES)
def test_each_command_in_each_state(proxy: Proxy, state: str, command: str) -> None:
    proxy.to(state)
    after = ALLOWED.get((state, command))
    if after is None:
        before = picture(proxy)
        with refused(errno.EBUSY):
            proxy["control"] = command
        assert picture(proxy) == before
    else:
        proxy["control"] = command
        assert proxy["state"] == after


@pytest.mark.parametrize(
    ("command", "state"), [("init", "created"), ("start", "initialized")]
)
def test_the_client_may_refuse(proxy: Proxy, command: str, state: str) -> None:
    proxy.to(state)
    client("refuse -12")
    before = picture(proxy)
    with refused(errno.ENOMEM):
        proxy["control"] = command
    assert picture(proxy) == before
    client("refuse 0")
    proxy["control"] = command


def test_sample_asks_the_client(proxy: Proxy) -> None:
    proxy.to("started")
    proxy["control"] = "sample"
    proxy["control"] = "sample"
    assert proxy.stat("records") == 2
    client("refuse -5")
    with refused(errno.EIO):
        proxy["control"] = "sample"
    client("refuse 0")
    assert proxy.stat("records") == 2


def test_the_client_is_told_each_change_once(proxy: Proxy) -> None:
    def calls() -> list[int]:
        return numbers("calls")[:3]

    start = calls()
    proxy.to("running")
    proxy.to("stopped")
    proxy["control"] = "init"
    proxy["control"] = "stop"
    # the second stop ends nothing that was started
    assert [now - then for now, then in zip(calls(), start, strict=True)] == [2, 1, 1]


def test_samples_are_taken_only_when_started(proxy: Proxy) -> None:
    for state, recorded in (("initialized", 0), ("started", 1), ("running", 1)):
        proxy.to(state)
        before = proxy.stat("records")
        (seq,) = numbers("push 1 2 3 4")
        assert bool(seq) is bool(recorded)
        assert proxy.stat("records") == before + recorded


def test_init_forgets(proxy: Proxy) -> None:
    proxy.learn("learning")
    client("rounds 10 5 7")
    assert proxy.stat("decisions") == 10
    proxy["control"] = "stop"
    assert proxy["mode"] == "emergency"
    assert proxy["reason"] == "stop"
    proxy["control"] = "init"
    assert proxy.stat("decisions") == 0
    assert proxy["score/default_samples"] == "0"
    assert proxy["reason"] == "new"


def test_names_must_be_new_and_files() -> None:
    client("register one 1 1")
    with refused(errno.EEXIST):
        client("cycle one 1")
    client("unregister")
    for name in ("a/b", "..", ".", "x" * 32):
        with refused(errno.EINVAL):
            client(f"register {name} 1 1")


@pytest.mark.parametrize("shape", ["0 0", "65 1", "1 9", "1 1 3", "1 1 1073741824"])
def test_shapes_that_cannot_be(shape: str) -> None:
    with refused(errno.EINVAL, errno.ENOMEM, errno.E2BIG):
        client(f"register shape {shape}")


def test_the_largest_shape() -> None:
    client("register shape 64 8 65536")
    proxy = Proxy("shape")
    assert len(list((proxy.path / "features").iterdir())) == 64
    assert len(list((proxy.path / "knobs").glob("k?_type"))) == 8
    proxy.to("running")
    client("flood 10")
    assert proxy.stat("records") == 10
    client("unregister")
