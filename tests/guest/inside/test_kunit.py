# SPDX-License-Identifier: MIT
"""The suites inside the module, in kernels that have KUnit."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.guest import insmod, rmmod

RESULTS = Path("/sys/kernel/debug/kunit")
SUITES = ("mlk_ring", "mlk_guard", "mlk_mode", "mlk_verifier", "mlk_engine")


@pytest.fixture(scope="module", autouse=True)
def _suites() -> Iterator[None]:
    insmod("mlk_kunit_run")
    yield
    rmmod("mlk_kunit_run")


@pytest.mark.parametrize("suite", SUITES)
def test_suite(suite: str) -> None:
    text = (RESULTS / suite / "results").read_text()
    print(text)
    assert "not ok" not in text
    assert re.search(rf"^ok 1 (- )?{suite}$", text, re.M)
