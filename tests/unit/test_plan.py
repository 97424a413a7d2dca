# SPDX-License-Identifier: MIT
"""Prepared policies: the same plan; damage is told."""

import json
from pathlib import Path

import pytest
from helpers.fakesys import FakeSys

from pymlk import PolicyError
from pymlk.cli import main
from pymlk.plan import _head, read_plan, write_plan
from pymlk.policy import load


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    policy = FakeSys(tmp_path).policy
    assert main(["compile", str(policy / "policy.toml")]) == 0
    return policy / "policy.plan"


def test_is_the_same_plan(prepared: Path) -> None:
    expected = json.loads(json.dumps(load(str(prepared.parent)), default=list))
    found = read_plan(str(prepared))
    assert found.pop("file") == str(prepared)
    expected.pop("file")
    assert list(found.pop("program")) == expected.pop("program")
    assert found == expected


def test_damage_is_told(prepared: Path) -> None:
    whole = prepared.read_bytes()
    head, _, content = whole.partition(b"\n")
    for damaged, words in (
        (b"", "expected a prepared policy"),
        (b"name = 1\n", "expected a prepared policy"),
        (whole[:-1], "checksum does not match"),
        (whole.replace(b"reads", b"readS", 1), "checksum does not match"),
        (whole.replace(b" 0.", b" 9.", 1), "made by pymlk 9."),
        (head, "checksum does not match"),
    ):
        prepared.write_bytes(damaged)
        with pytest.raises(PolicyError, match=words) as caught:
            read_plan(str(prepared))
        assert str(caught.value).startswith(str(prepared))
    for content in (b"[]", b"{}", b'{"program": 1}', b"[" * 100_000):
        prepared.write_bytes(_head(content) + content)
        with pytest.raises(PolicyError, match="expected a plan"):
            read_plan(str(prepared))


def test_usage(prepared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = str(prepared.parent / "policy.toml")
    assert main(["compile", policy, policy]) == 2
    assert main(["compile", policy, "-o", str(prepared.parent / "policy")]) == 2
    capsys.readouterr()
    assert main(["compile", "--json", policy]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == {"output": str(prepared), "bytes": prepared.stat().st_size}
    assert write_plan(load(policy)) == prepared.read_bytes()
