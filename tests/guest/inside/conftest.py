# SPDX-License-Identifier: MIT
"""The modules and one registered model, for tests that run in a guest."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.mlk_abi import SYS, Device, Proxy, client

MODULES = Path(os.environ["GUEST_MODULES"])


def insmod(name: str, *parameters: str) -> None:
    """Load a module of this tree."""
    (path,) = MODULES.rglob(f"{name}.ko")
    subprocess.run(["insmod", path, *parameters], check=True)


def rmmod(name: str) -> None:
    subprocess.run(["rmmod", name], check=True)


@pytest.fixture(scope="session", autouse=True)
def _modules() -> Iterator[None]:
    insmod("mlk")
    insmod("mlk_guest")
    yield
    rmmod("mlk_guest")
    rmmod("mlk")
    assert not SYS.exists()


def forget() -> None:
    """Whatever a failed test has left."""
    client("refuse 0")
    with contextlib.suppress(FileNotFoundError):
        client("unregister")


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """A model of 4 features and 2 knobs with a ring of 64 records."""
    forget()
    client("register guest0 4 2 64")
    yield Proxy()
    client("unregister")


@pytest.fixture
def device(proxy: Proxy) -> Iterator[Device]:
    """Its device, opened once."""
    with Device(proxy) as opened:
        yield opened
