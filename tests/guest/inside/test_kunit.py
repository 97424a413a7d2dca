# SPDX-License-Identifier: MIT
"""The suites inside the module: they ran when it was loaded."""

import os
from pathlib import Path

import pytest

RESULTS = Path("/sys/kernel/debug/kunit")
SUITES = ("mlk_ring", "mlk_guard", "mlk_mode", "mlk_verifier", "mlk_engine")


@pytest.mark.parametrize("suite", SUITES)
def test_suite(suite: str) -> None:
    results = RESULTS / suite / "results"
    if not results.exists():
        assert "debug" not in os.environ["GUEST_KIND"]
        pytest.skip("the module was built without its suites")
    text = results.read_text()
    print(text)
    assert "not ok" not in text
    assert f"ok 1 - {suite}" in text
