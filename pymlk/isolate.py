# SPDX-License-Identifier: MIT
"""Run a function in a child process, so that its imports never become ours.

A loop lives for months on a small board; the validation library and the compiler
that prepare it are needed for a third of a second.
"""

from __future__ import annotations

import marshal
import os
import sys

from . import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def _child(function: Callable[..., Any], args: tuple[Any, ...], fd: int) -> None:
    try:
        answer: Any = (True, function(*args))
    except errors.MlkError as error:
        answer = (False, type(error).__name__, str(error))
    except ModuleNotFoundError as error:
        answer = (False, "ModuleNotFoundError", str(error), error.name)
    except BaseException as error:
        answer = (False, "RuntimeError", f"{type(error).__name__}: {error}")
    with os.fdopen(fd, "wb") as pipe:
        pipe.write(marshal.dumps(answer))


def call(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function in a forked child and return what it returned.

    Parameters
    ----------
    function : callable
        Imports what it needs itself, and returns plain values (numbers, strings, bytes,
        lists, tuples, dicts).
    *args : Any
        Its arguments.

    Returns
    -------
    Any
        A copy of the result.

    Raises
    ------
    MlkError
        Of the same class as in the child.
    ModuleNotFoundError
        If what the function imports is not installed.
    RuntimeError
        If the child died or failed otherwise; the text says how.

    Thread safety
    -------------
    Forks, so call it before threads are started.

    Examples
    --------
    >>> call(lambda x: x + 1, 41)
    42
    """
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            _child(function, args, writer)
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        data = pipe.read()
    os.waitpid(pid, 0)
    if not data:
        raise RuntimeError("the preparing process died without an answer")
    answer = marshal.loads(data)
    if answer[0]:
        return answer[1]
    if answer[1] == "ModuleNotFoundError":
        raise ModuleNotFoundError(answer[2], name=answer[3])
    raise getattr(errors, answer[1], RuntimeError)(answer[2])
