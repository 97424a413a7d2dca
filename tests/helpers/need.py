# SPDX-License-Identifier: MIT
"""What a test needs and a machine may lack: a failure in CI, a skip elsewhere."""

import importlib
import os
from typing import Any, NoReturn

import pytest


def absent(what: str) -> NoReturn:
    """Something a test needs is not there: a failure in CI, a skip elsewhere."""
    if os.environ.get("CI"):
        pytest.fail(f"{what}, which CI must have")
    pytest.skip(what, allow_module_level=True)


def need(condition: object, what: str) -> None:
    """Go on only if that is true; `what` says what is missing otherwise."""
    if not condition:
        absent(what)


def need_module(name: str) -> Any:
    """Return a Python module that tests/requirements.txt installs."""
    try:
        return importlib.import_module(name)
    except ImportError:
        absent(f"no Python module {name}")
