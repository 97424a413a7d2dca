# SPDX-License-Identifier: MIT
"""What a child process could not do is told as if it had been done here."""

import os
from typing import Any

import pytest

from pymlk.errors import PolicyError
from pymlk.isolate import call


def refuse(error: BaseException) -> None:
    raise error


def test_answer_of_another_process() -> None:
    pid, values = call(lambda *values: (os.getpid(), values), 1, "two", b"3")
    assert pid != os.getpid()
    assert values == (1, "two", b"3")


@pytest.mark.parametrize("kind", [PolicyError, RuntimeError])
def test_error(kind: Any) -> None:
    with pytest.raises(kind, match="no good"):
        call(refuse, kind("no good"))


def test_missing_module() -> None:
    """By its name: the command line says what is not installed."""
    with pytest.raises(ModuleNotFoundError, match=r"pymlk\.no_such") as caught:
        call(__import__, "pymlk.no_such")
    assert caught.value.name == "pymlk.no_such"


def test_death() -> None:
    with pytest.raises(RuntimeError, match="died"):
        call(os._exit, 3)
