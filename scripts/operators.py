#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Write docs/operators.md: what the engine runs, and what shows that it is exact.

Usage::

    operators.py            write the file
    operators.py --check    only compare it; status 1 if it differs

Names are those of `pymlk.compile.lower.LOWER`. A module of operators says what is
special beside its own ``LOWER``: ``DTYPES`` (else int8) and ``EXCEPTIONS`` (else
bit-exact), each from an operator's name to a text. Since when there is an operator
is kept from the file as it is; a new one has come with the version in setup.cfg.
"""

import configparser
import re
import sys
from pathlib import Path

from pymlk.compile.lower import LOWER

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "operators.md"
TESTS = sorted((ROOT / "tests" / "differential").glob("test_*.py"))
HEAD = """\
<!-- SPDX-License-Identifier: MIT -->
<!-- Made by `make docs` (scripts/operators.py); do not edit. -->
# Operators

TFLite operators that the engine runs. Bit-exact: equal to tflite-runtime 2.14's
reference kernels (`BUILTIN_REF`), byte for byte, over random shapes, options and
quantisations, as the named tests in `tests/differential` show; recorded vectors and
whole models are compared besides. A model with any other operator, or with a form of
these that the engine lacks, runs through the `tflite` back end, with a notice that
names it; `pymlk inspect` tells beforehand.

| operator | dtypes | since | exactness | tests |
|---|---|---|---|---|
"""


def version() -> str:
    """The version of this tree."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser["metadata"]["version"]


def since() -> dict[str, str]:
    """What the document says about when an operator came."""
    if not DOCUMENT.exists():
        return {}
    row = re.compile(r"^\| ([A-Z0-9_]+) \|[^|]*\| (\S+) \|", re.MULTILINE)
    return dict(row.findall(DOCUMENT.read_text()))


def special(name: str, table: str, otherwise: str) -> str:
    """What the operator's module says about it in one of its tables."""
    module = sys.modules[LOWER[name].__module__]
    texts: dict[str, str] = getattr(module, table, {})
    return texts.get(name, otherwise)


def tests(name: str) -> list[str]:
    """Files that compare the operator with the reference."""
    word = re.compile(rf"\b{name}\b")
    return [path.name for path in TESTS if word.search(path.read_text())]


def document() -> str:
    """The whole file."""
    known, now = since(), version()
    rows = []
    for name in sorted(LOWER):
        dtypes = special(name, "DTYPES", "int8")
        exact = special(name, "EXCEPTIONS", "bit-exact")
        files = ", ".join(f"`{file}`" for file in tests(name)) or "-"
        rows.append(
            f"| {name} | {dtypes} | {known.get(name, now)} | {exact} | {files} |\n"
        )
    return HEAD + "".join(rows) + f"\n{len(rows)} operators.\n"


def main() -> int:
    """Write or compare."""
    text = document()
    if "--check" in sys.argv[1:]:
        return 0 if DOCUMENT.exists() and DOCUMENT.read_text() == text else 1
    DOCUMENT.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
