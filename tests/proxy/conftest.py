# SPDX-License-Identifier: MIT
"""One suite for two kernels: in a guest the real module, elsewhere the emulator."""

import os
from collections.abc import Iterator

import pytest
from helpers.kernels import EmulatedKernel, Kernel, RealKernel

from pymlk.proxy import Proxy

IN_GUEST = "GUEST_KERNEL" in os.environ


@pytest.fixture(scope="session")
def _kernel(request: pytest.FixtureRequest) -> Iterator[Kernel]:
    with RealKernel() if IN_GUEST else EmulatedKernel() as kernel:
        yield kernel
        # pytest keeps the last test's arguments, and their maps keep the module
        for item in request.session.items:
            (getattr(item, "funcargs", None) or {}).clear()


@pytest.fixture
def kernel(_kernel: Kernel) -> Iterator[Kernel]:
    """A kernel without models."""
    _kernel.forget()
    yield _kernel
    _kernel.forget()


@pytest.fixture
def proxy(kernel: Kernel) -> Iterator[Proxy]:
    """A model of 4 features and 2 knobs with a ring of 64 records."""
    kernel.register("guest0", 4, 2, 64)
    with Proxy("guest/guest0", root=kernel.root) as proxy:
        yield proxy


@pytest.fixture
def running(proxy: Proxy) -> Proxy:
    """Running, without a deadline, and all decisions follow in its last mode."""
    for word in ("init", "start", "run"):
        proxy.control(word)
    proxy.write_attr("options/deadline_ms", 0)
    proxy.write_attr("options/holdout_permil", 0)
    return proxy


@pytest.fixture
def owner(running: Proxy) -> Proxy:
    """The owner of a running model."""
    running.own()
    return running
