# SPDX-License-Identifier: MIT
"""No Python interaction in functions marked hot, as Cython's own report says."""

import html.parser
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "pymlk").glob("*.pyx"))


class Report(html.parser.HTMLParser):
    """Scores of a report's source lines: 0 is plain C."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scores: dict[int, int] = {}
        self._score: int | None = None
        self._text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "pre":
            words = (dict(attrs).get("class") or "").split()
            scores = [w.removeprefix("score-") for w in words if w.startswith("score-")]
            self._score = int(scores[0]) if "line" in words and scores else None
            self._text = ""

    def handle_data(self, data: str) -> None:
        self._text += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "pre" and self._score is not None:
            number = re.match(r"[+\s]*(\d+):", self._text)
            assert number, f"a line without a number: {self._text!r}"
            self.scores[int(number[1])] = self._score
            self._score = None


def indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def hot_functions(source: str) -> dict[str, range]:
    """Name and lines of each function whose ``def`` line says ``# hot``."""
    lines = source.splitlines()
    found = {}
    for place, line in enumerate(lines):
        if not re.search(r":\s*# hot\b", line):
            continue
        start = place
        # a signature may have several lines; the mark is on its last one
        while not re.match(r"\s*(cdef|cpdef|def)\b", lines[start]):
            start -= 1
        end = place + 1
        while end < len(lines) and (
            not lines[end].strip() or indent(lines[end]) > indent(lines[start])
        ):
            end += 1
        name = re.search(r"(\w+)\s*\(", lines[start])
        assert name, lines[start]
        found[f"{name[1]}:{start + 1}"] = range(start + 1, end + 1)
    return found


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[int, int]]:
    """One cythonization of all sources, with the directives of the real build."""
    folder = tmp_path_factory.mktemp("annotate")
    subprocess.run(
        [sys.executable, "setup.py", "-q", "--name"],
        cwd=ROOT,
        env=os.environ | {"PYMLK_ANNOTATE": str(folder), "PYMLK_DEBUG": "0"},
        check=True,
        capture_output=True,
    )
    return {
        path.stem: Report(path.read_text(encoding="utf-8")).scores
        for path in folder.rglob("*.html")
    }


def test_parsers() -> None:
    """The fence itself sees what it must see."""
    scores = Report(
        '<pre class="cython line score-7" onclick="x">+<span class="">03</span>:'
        "  a &lt; b</pre><pre class='cython code score-7 '>C code 9: </pre>"
        '<pre class="cython line score-0">&#xA0;<span class="">4</span>: pass</pre>'
    ).scores
    assert scores == {3: 7, 4: 0}
    source = (
        "cdef int f(int a,\n  int b) noexcept nogil:  # hot\n    a\n\n    b\nc = 1\n"
    )
    assert hot_functions(source) == {"f:1": range(1, 6)}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_hot_is_plain_c(path: Path, reports: dict[str, dict[int, int]]) -> None:
    source = path.read_text(encoding="utf-8")
    scores = reports[path.stem]
    assert len(scores) >= len(source.splitlines()) - 1
    lines = source.splitlines()
    bad = [
        f"{path.name}:{number} ({name}) score {scores[number]}: {lines[number - 1]}"
        for name, body in hot_functions(source).items()
        for number in body
        if scores.get(number)
    ]
    assert not bad, "\n".join(bad)


def test_somewhere_is_hot() -> None:
    assert any(hot_functions(path.read_text(encoding="utf-8")) for path in SOURCES)
