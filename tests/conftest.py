# SPDX-License-Identifier: MIT
"""Fixtures that more than one test file needs, and what runs beside what."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from helpers.fakesys import FakeSys

# Each is done by one process after the other, since its files share what they build;
# they take longest, so they come first.
WHOLE = ("tests/guest", "tests/packaging")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the folders that take longest."""
    items.sort(key=lambda item: not item.nodeid.startswith(WHOLE))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A process takes a whole file, or a whole folder of `WHOLE`."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.partition("::")[0]
            folder = str(PurePosixPath(path).parent)
            return folder if folder in WHOLE else path

    config.option.loadscopereorder = False
    return ByFile(config, log)


@pytest.fixture
def fake_sys(tmp_path: Path) -> FakeSys:
    """A fake sysfs tree with one device, ``vda``, and a policy for it."""
    fake = FakeSys(tmp_path)
    fake.add("vda")
    return fake
