# SPDX-License-Identifier: MIT
from collections.abc import Collection, Sequence
from typing import Any

from typing_extensions import Buffer, disjoint_base

from .engine import Program
from .features import Features
from .guard import Guard
from .stream import Sink

MAGIC: bytes
VERSION: int
HEADER_BYTES: int
KINDS: tuple[str, ...]
LEAST_BYTES: int
MOST_BYTES: int

def segment_paths(folder: str) -> list[tuple[int, str]]: ...

@disjoint_base
class Recorder(Sink):
    @property
    def folder(self) -> str: ...
    @property
    def closed(self) -> bool: ...
    @property
    def due(self) -> bool: ...
    @property
    def recorded(self) -> int: ...
    @property
    def missed(self) -> int: ...
    @property
    def error(self) -> str | None: ...
    def __init__(
        self,
        folder: str,
        plan: dict[str, Any],
        *,
        mode: str = "shadow",
        segment_bytes: int = 1048576,
        segments: int = 8,
        sync_s: float = 5.0,
        retry_s: float = 30.0,
    ) -> None: ...
    def add_stream(
        self,
        device: str,
        features: Features,
        guard: Guard,
        fields: dict[str, tuple[int, int]],
    ) -> int: ...
    def end_stream(self, stream: int) -> None: ...
    def program(self, version: int, program: Program) -> None: ...
    def event(self, name: str, text: str = "", device: str = "") -> None: ...
    def add(
        self,
        stream: int,
        *,
        seq: int,
        time_ns: int,
        seconds: float,
        row: Sequence[int],
        invalid: Collection[int] = (),
        before: Sequence[int] | None = None,
        invalid_before: Collection[int] = (),
        current: int | None = None,
        reason: int = 0,
        target: int = 0,
        latency_ns: int = 0,
        error: int = 0,
        inputs: Buffer | None = None,
        outputs: Buffer | None = None,
        choice: int = 0,
        confidence: float = 0.0,
        version: int = 1,
        judged_ns: int = 0,
        judged_latency_ns: int = 0,
        limited: bool = False,
        apply: bool = False,
        held_out: bool = False,
        wanted: int | None = None,
        changed_ns: int = 0,
    ) -> int: ...
    def add_effect(self, stream: int, seq: int, value: float) -> int: ...
    def tick(self) -> None: ...
    def close(self) -> None: ...
