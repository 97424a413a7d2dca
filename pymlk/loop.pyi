# SPDX-License-Identifier: MIT
from typing import Any

from typing_extensions import disjoint_base

from .attrs import AttrSet
from .engine import Model
from .features import Features
from .guard import REASON_NAMES as REASON_NAMES
from .guard import REASON_TEXTS as REASON_TEXTS
from .guard import Guard
from .journal import Journal

STAGES: tuple[str, ...]

@disjoint_base
class Latency:
    @property
    def count(self) -> int: ...
    def percentile(self, percent: float) -> int: ...

class Decision:
    __slots__ = (
        "confidence",
        "current",
        "device",
        "errno",
        "features",
        "latency_ns",
        "mode",
        "objective",
        "reason",
        "reason_text",
        "recommended",
        "seq",
        "target",
        "time_ns",
    )
    device: str
    seq: int
    time_ns: int
    mode: str
    recommended: int | None
    current: int | None
    target: int | None
    confidence: float | None
    reason: str
    reason_text: str
    errno: int
    latency_ns: int
    objective: float | None
    features: dict[str, float]
    def to_dict(self) -> dict[str, Any]: ...

@disjoint_base
class Stream:
    @property
    def device(self) -> str: ...
    @property
    def features(self) -> Features: ...
    @property
    def guard(self) -> Guard: ...
    def __init__(self, device: str, features: Features, guard: Guard) -> None: ...

@disjoint_base
class Loop:
    @property
    def attrs(self) -> AttrSet: ...
    @property
    def model(self) -> Model: ...
    @property
    def mode(self) -> str: ...
    @property
    def devices(self) -> tuple[str, ...]: ...
    @property
    def latencies(self) -> tuple[Latency, ...]: ...
    @property
    def knobs(self) -> list[str]: ...
    def __init__(
        self,
        plan: dict[str, Any],
        *,
        root: str = "/",
        apply: bool = False,
        journal: Journal | None = None,
    ) -> None: ...
    def rescan(self) -> bool: ...
    def step(self) -> int: ...
    def decision(self, i: int) -> Decision: ...
    def close(self) -> list[str]: ...
