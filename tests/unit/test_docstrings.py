# SPDX-License-Identifier: MIT
"""Docstrings: the sections that a user needs, and examples that run."""

import ast
import doctest
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import pymlk

ROOT = Path(__file__).resolve().parents[2]
PUBLIC = {name: getattr(pymlk, name) for name in pymlk.__all__}
CLASSES = {
    name: value
    for name, value in PUBLIC.items()
    if inspect.isclass(value) and not issubclass(value, Exception)
}


def modules() -> list[str]:
    found = pkgutil.walk_packages(pymlk.__path__, "pymlk.")
    # __main__ runs the command; the others need the extra `tflite` or are data
    return ["pymlk", *(m.name for m in found if not m.name.endswith("__main__"))]


def sections(text: str) -> set[str]:
    return set(re.findall(r"^\s*(\w[\w ]*)\n\s*-{3,}$", text, re.MULTILINE))


def signatures(cls: type) -> dict[str, ast.FunctionDef]:
    """Methods as the stub (or the source) declares them; Cython has no annotations."""
    path = ROOT / cls.__module__.replace(".", "/")
    stub = path.with_suffix(".pyi")
    tree = ast.parse((stub if stub.exists() else path.with_suffix(".py")).read_text())
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == cls.__name__:
            return {
                item.name: item
                for item in node.body
                if isinstance(item, ast.FunctionDef)
            }
    raise AssertionError(f"{cls} is not in its stub")


def parameters(function: ast.FunctionDef) -> list[str]:
    spec = function.args
    names = [a.arg for a in (*spec.posonlyargs, *spec.args, *spec.kwonlyargs)]
    return [name for name in names if name not in ("self", "cls")]


def missing(where: str, doc: str | None, wanted: set[str]) -> list[str]:
    """What a docstring lacks; thread safety may be a section or a part of Notes."""
    doc = doc or ""
    lack = [f"{where}: no section {name}" for name in wanted - sections(doc)]
    if "Thread safety" not in doc:
        lack.append(f"{where}: nothing about thread safety")
    return lack


@pytest.mark.parametrize("name", CLASSES)
def test_class(name: str) -> None:
    cls = CLASSES[name]
    declared = signatures(cls)
    constructor = declared.get("__init__") or declared.get("__new__")
    wanted = {"Parameters"} if constructor and parameters(constructor) else set()
    lack = missing(name, cls.__doc__, wanted)
    for member, value in vars(cls).items():
        if member.startswith("_"):
            continue
        where = f"{name}.{member}"
        if member in declared and callable(value):
            function = declared[member]
            wanted = {"Parameters"} if parameters(function) else set()
            returns = function.returns
            if not (isinstance(returns, ast.Constant) and returns.value is None):
                wanted.add("Returns")
            lack += missing(where, value.__doc__, wanted)
        elif not value.__doc__ and not re.search(
            rf"^\s*(\w+, )*{member}(, \w+)* : ", cls.__doc__ or "", re.MULTILINE
        ):
            lack.append(f"{where}: neither a docstring nor an entry in Attributes")
    assert not lack, "\n".join(lack)


def test_functions() -> None:
    lack = []
    for name, value in PUBLIC.items():
        if not inspect.isroutine(value):
            continue
        signature = inspect.signature(value)
        wanted = {"Parameters"} if signature.parameters else set()
        if signature.return_annotation not in (None, "None", signature.empty):
            wanted.add("Returns")
        lack += missing(name, value.__doc__, wanted)
    assert not lack, "\n".join(lack)


@pytest.mark.parametrize("name", [n for n in PUBLIC if n not in CLASSES])
def test_summary(name: str) -> None:
    assert (PUBLIC[name].__doc__ or "").strip()


def examples(module: ModuleType) -> Iterator[doctest.DocTest]:
    for test in doctest.DocTestFinder(exclude_empty=True).find(module):
        if test.examples:
            yield test


@pytest.mark.parametrize("name", modules())
def test_examples(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # examples name files of the repository
    monkeypatch.chdir(ROOT)
    module: Any = importlib.import_module(name)
    runner = doctest.DocTestRunner(
        optionflags=doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL
    )
    report: list[str] = []
    for test in examples(module):
        runner.run(test, out=report.append)
    assert not runner.failures, "".join(report)
