# SPDX-License-Identifier: MIT
"""A loop over a fake sysfs tree that records, and logs made of any bytes."""

import random
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from helpers.fakesys import FakeSys

from pymlk.journal import Journal
from pymlk.loop import Loop
from pymlk.policy import load
from pymlk.record import HEADER_BYTES, MAGIC, VERSION, Recorder
from pymlk.replay import Replay, Replayed
from pymlk.stream import Decision

READS = (0, 20, 62, 95, 100, 105, 180)


class Recording:
    """A recorded run whose load is random but always the same."""

    def __init__(self, fake: FakeSys, apply: bool = True, **sizes: Any) -> None:
        self.fake = fake
        self.log = fake.root.parent / "log"
        plan = load(str(fake.policy))
        mode = "apply" if apply else "shadow"
        self.recorder = Recorder(str(self.log), plan, mode=mode, **sizes)
        journal = Journal("test", str(fake.state)) if apply else None
        self.loop = Loop(
            plan,
            root=str(fake.root),
            apply=apply,
            journal=journal,
        )
        self.loop.record(self.recorder)
        if journal:
            journal.claim(self.loop.knobs)
        self._random = random.Random(7)
        self.decisions: list[Decision] = []

    def step(self, times: int = 1) -> None:
        """Decide on every device, so many times."""
        for _ in range(times):
            for device in self.loop.devices:
                self.fake.load(device, self._random.choice(READS))
            for i in range(self.loop.step()):
                self.decisions.append(self.loop.decision(i))
            self.recorder.tick()

    def close(self) -> None:
        """End the run."""
        self.loop.close()
        self.recorder.close()

    def segments(self) -> list[Path]:
        """Files of the log, oldest first."""
        return sorted(self.log.glob("*.mlkr"))


def replay(path: Path, **options: Any) -> tuple[list[Replayed], Replay]:
    """All decisions of a log, and the replay that gave them."""
    replay = Replay(str(path), **options)
    return list(replay), replay


def assert_same(replayed: Iterable[Replayed], decisions: list[Decision]) -> None:
    """The log has exactly what the loop said, and a replay finds nothing else."""
    found = list(replayed)
    assert [r.difference for r in found] == [None] * len(found)
    assert len(found) == len(decisions)
    for r, d in zip(found, decisions, strict=True):
        assert (r.device, r.decision.seq, r.decision.reason, r.mode) == (
            d.device,
            d.seq,
            d.reason,
            d.mode,
        )
        assert (r.recommended, r.confidence) == (d.recommended, d.confidence)
        assert (r.decision.latency_ns, r.decision.error) == (d.latency_ns, d.errno)
        if d.target is not None:
            assert (r.decision.current, r.decision.target) == (d.current, d.target)
        if d.features:
            assert r.features == d.features


def varint(value: int) -> bytes:
    """LEB128."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def make_segment(records: Iterable[tuple[int, bytes]], number: int = 1) -> bytes:
    """A segment with right checksums, whatever is in it."""
    data = struct.pack("<4sHHQqq", MAGIC, VERSION, HEADER_BYTES, number, 5, 6)
    data += struct.pack("<I", zlib.crc32(data))
    for kind, payload in records:
        frame = bytes((kind,)) + varint(len(payload)) + payload
        crc = zlib.crc32(frame, zlib.crc32(struct.pack("<QQ", number, len(data))))
        data += frame + struct.pack("<I", crc)
    return data


def split(data: bytes) -> list[tuple[int, int, bytes]]:
    """Offset, kind and payload of each record of a good segment."""
    at, found = HEADER_BYTES, []
    while at < len(data):
        length = shift = 0
        begin = at + 1
        while True:
            byte = data[begin]
            begin += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        found.append((at, data[at], data[begin : begin + length]))
        at = begin + length + 4
    return found
