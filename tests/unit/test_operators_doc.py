# SPDX-License-Identifier: MIT
"""docs/operators.md is what scripts/operators.py makes of the operators."""

import re
import subprocess
import sys

from helpers.reference import ROOT

from pymlk.compile.lower import LOWER
from pymlk.operators import OPERATORS

DOCUMENT = ROOT / "docs" / "operators.md"
ROWS = {
    cells[1].strip(): [cell.strip() for cell in cells[2:-1]]
    for line in DOCUMENT.read_text().splitlines()
    if re.match(r"\| [A-Z0-9_]+ \|", line)
    for cells in [line.split("|")]
}


def test_up_to_date() -> None:
    script = ROOT / "scripts" / "operators.py"
    done = subprocess.run([sys.executable, "-P", script, "--check"])
    assert done.returncode == 0, "run make docs"


def test_rows() -> None:
    """Each operator once; its tests exist and name it."""
    assert list(ROWS) == sorted(LOWER)
    assert set(ROWS) <= set(OPERATORS)
    for name, (dtypes, since, exactness, tests) in ROWS.items():
        assert dtypes
        assert exactness
        assert re.fullmatch(r"\d+\.\d+\.\d+", since)
        files = re.findall(r"`(test_\w+\.py)`", tests)
        assert files, f"{name}: no test compares it with the reference"
        for file in files:
            assert name in (ROOT / "tests" / "differential" / file).read_text()


def test_what_differs_is_told() -> None:
    assert ROWS["LOG_SOFTMAX"][0] == "int8"
    assert ROWS["FULLY_CONNECTED"][0] == "int8, int16 with int8 weights"
    assert "float32" in ROWS["QUANTIZE"][0]
