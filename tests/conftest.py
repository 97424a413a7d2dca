# SPDX-License-Identifier: MIT
"""Fixtures that more than one test file needs."""

from pathlib import Path

import pytest
from helpers.fakesys import FakeSys


@pytest.fixture
def fake_sys(tmp_path: Path) -> FakeSys:
    """A fake sysfs tree with one device, ``vda``, and a policy for it."""
    fake = FakeSys(tmp_path)
    fake.add("vda")
    return fake
