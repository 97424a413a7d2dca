# SPDX-License-Identifier: MIT
"""What `pymlk run` loads to start, and the light forms of what it does not load."""

import itertools
import json
import random
import subprocess
import sys
from fnmatch import fnmatchcase
from typing import Any

import pytest
from helpers.fakesys import FakeSys

from pymlk.cli import main
from pymlk.cli.parser import make_parser
from pymlk.cli.plain import RUN, read_run
from pymlk.devices import is_wanted
from pymlk.quickjson import dumps, loads

# words that are right somewhere, and words that are wrong everywhere
WORDS = [
    *RUN, "--json", "--apply", "a.plan", "b.plan", "6", "0", "-1", "1e3", "x", "", "-",
    "--", "always", "--help", "--sec", "--seconds=2", "-h", "8192", "a b", "-x y",
]  # fmt: skip


def by_argparse(words: list[str]) -> dict[str, Any] | None:
    try:
        return vars(make_parser("run").parse_args(["run", *words]))
    except SystemExit:
        return None


@pytest.mark.usefixtures("capsys")
def test_plain_options_are_as_argparse_reads_them() -> None:
    """What the light reader takes, argparse takes, with the same values."""
    draw = random.Random(7)
    taken = 0
    for _ in range(1500):
        words = draw.choices(WORDS, k=draw.randrange(7))
        found = read_run(words)
        if found is not None:
            taken += 1
            assert vars(found) == by_argparse(words), words
    assert taken > 50


def test_every_option_has_its_light_form() -> None:
    values = {"--mode": "always", "--record-size": "128", "--seconds": "0.5"}
    for name, about in RUN.items():
        words = [name] if "action" in about else [name, values.get(name, "7")]
        for line in ([*words, "a", "b"], ["--json", "a", "b", *words]):
            found = read_run(line)
            assert found is not None, line
            assert vars(found) == by_argparse(line)


def test_json_is_what_the_library_writes_and_reads() -> None:
    values = [
        None, True, -0.0, 1e22, 10**30, float("inf"), "", 'é\u2028\n"\\', "\ud800",
        [], {}, (1, [2.5, {"a": None}]), {1: 2, None: 3, False: 4, 0.5: 6},
    ]  # fmt: skip
    for value in values:
        text = dumps(value)
        assert text == json.dumps(value)
        assert loads(f" {text}\n".encode()) == json.loads(text)
    assert dumps(loads(b"[NaN, -Infinity]")) == "[NaN, -Infinity]"
    for wrong in (b"", b"[1,]", b"{", b"1 2", b'{"a"}', b"\xff", b'"a\nb"', b"nul"):
        for read in (json.loads, loads):
            with pytest.raises(ValueError, match=r"JSON|Expect|Extra|codec|contr"):
                read(wrong)
    with pytest.raises(TypeError, match="object found"):
        dumps([object()])
    round_about: list[Any] = []
    round_about.append(round_about)
    with pytest.raises(ValueError, match="Circular"):
        dumps(round_about)


def test_patterns_are_those_of_fnmatch() -> None:
    for length in range(5):
        for letters in itertools.product("ab*?", repeat=length):
            pattern = "".join(letters)
            for name in ("", "a", "ab", "aba", "abba", "bab"):
                assert is_wanted(name, pattern, []) == fnmatchcase(name, pattern)
    assert is_wanted("sda", "sd[a-c]", ["*b"])
    assert not is_wanted("sdb", "sd[a-c]", ["*b"])


def test_a_board_loads_only_what_it_needs(fake_sys: FakeSys) -> None:
    """Each of these costs an emulated board 10 to 100 ms before it decides."""
    assert main(["compile", str(fake_sys.policy / "policy.toml")]) == 0
    code = (
        "import sys; from pymlk.cli import main; main(); "
        "print(*sys.modules, file=sys.stderr)"
    )
    plan = fake_sys.policy / "policy.plan"
    words = ["run", plan, "--root", fake_sys.root, "--state-dir", fake_sys.state]
    for more in (["--json"], ["--apply", "--mode", "always"]):
        done = subprocess.run(
            [sys.executable, "-ISc", SITE + code, *map(str, [*words, *more]),
             "--decisions", "2"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        heavy = {"argparse", "enum", "fnmatch", "json", "re", "signal", "typing"}
        assert not heavy & set(done.stderr.split())
        assert "pymlk.loop" in done.stderr.split()


SITE = f"import sys; sys.path[:] = {sys.path!r}; "
