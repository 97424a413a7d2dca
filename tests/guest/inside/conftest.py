# SPDX-License-Identifier: MIT
"""The modules and one registered model, for tests that run in a guest."""

import os
from collections.abc import Iterator

import pytest
from helpers.guest import forget, loaded_modules
from helpers.mlk_abi import Device, Proxy, client

KIND = os.environ["GUEST_KIND"]
# User-Mode Linux has no 32-bit programs; KUnit is in kernels for debugging
collect_ignore = [
    name
    for name, there in (
        ("test_32bit.py", not KIND.startswith("uml")),
        ("test_kunit.py", KIND.endswith("debug")),
    )
    if not there
]


@pytest.fixture(scope="session", autouse=True)
def _modules() -> Iterator[None]:
    with loaded_modules():
        yield


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
