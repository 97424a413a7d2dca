# SPDX-License-Identifier: MIT
"""A log of any bytes: reading it ends, with records, damage or a refusal."""

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.fakesys import FakeSys
from helpers.recording import Recording, make_segment, replay, split
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SETTINGS = settings(
    deadline=None,
    max_examples=300,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small good segment."""
    fake = FakeSys(tmp_path_factory.mktemp("log"))
    fake.add("vda")
    run = Recording(fake)
    run.step(8)
    run.close()
    (file,) = run.segments()
    return file.read_bytes()


def read(path: Path, data: bytes) -> Any:
    path.write_bytes(data)
    return replay(path, explain=lambda device, seq: True)


@SETTINGS
@given(st.binary(max_size=400))
def test_any_bytes(tmp_path: Path, data: bytes) -> None:
    found, log = read(tmp_path / "x", data)
    assert found == []
    assert len(log.damages) == 1


@SETTINGS
@given(st.data())
def test_changed_bytes(tmp_path: Path, good: bytes, data: st.DataObject) -> None:
    bad = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(bad) - 1))
        size = data.draw(st.integers(0, 40))
        bad[at : at + size] = data.draw(st.binary(max_size=40))
        if not bad:
            return
    _, log = read(tmp_path / "x", bytes(bad))
    assert log.differences == 0
    assert bytes(bad) == good or log.damages or good.startswith(bad)


@SETTINGS
@given(st.lists(st.tuples(st.integers(0, 7), st.binary(max_size=60)), max_size=5))
def test_any_payload_with_a_right_checksum(
    tmp_path: Path, good: bytes, more: list[tuple[int, bytes]]
) -> None:
    """Behind a good head, so that the decoders are reached."""
    records = [(kind, payload) for _, kind, payload in split(good)]
    read(tmp_path / "x", make_segment([*records[:5], *more, *records[5:]]))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([-1, 0, 64, 65, 1 << 31, 1 << 63, -(1 << 63), 1e308]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@SETTINGS
@given(st.data())
def test_any_plan_or_state(tmp_path: Path, good: bytes, data: st.DataObject) -> None:
    """One value of the head is something else."""
    records = [(kind, payload) for _, kind, payload in split(good)]
    which = data.draw(
        st.sampled_from([i for i, (k, _) in enumerate(records) if k in (1, 3)])
    )
    kind, payload = records[which]
    said = json.loads(payload)
    part = said
    while True:
        keys = list(part) if isinstance(part, dict) else list(range(len(part)))
        key = data.draw(st.sampled_from(keys))
        if (
            isinstance(part[key], dict | list)
            and part[key]
            and data.draw(st.booleans())
        ):
            part = part[key]
            continue
        part[key] = data.draw(JSON)
        break
    try:
        records[which] = (kind, json.dumps(said).encode())
    except (ValueError, OverflowError):
        return
    read(tmp_path / "x", make_segment(records))


@SETTINGS
@given(st.data())
def test_any_decision(tmp_path: Path, good: bytes, data: st.DataObject) -> None:
    """Decisions whose bytes are anything, with a right checksum."""
    records = [(kind, payload) for _, kind, payload in split(good)]
    for i, (kind, payload) in enumerate(records):
        if kind != 4:
            continue
        changed = bytearray(payload)
        for _ in range(data.draw(st.integers(0, 2))):
            changed[data.draw(st.integers(1, len(changed) - 1))] = data.draw(
                st.integers(0, 255)
            )
        records[i] = (kind, bytes(changed))
    read(tmp_path / "x", make_segment(records))
