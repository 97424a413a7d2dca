# SPDX-License-Identifier: MIT
from typing import Any

from typing_extensions import disjoint_base

from .engine import Model
from .features import Features
from .guard import Guard
from .trial import Trial

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
    def __init__(
        self,
        device: str,
        features: Features,
        guard: Guard,
        model: Model,
        latencies: tuple[Latency, ...],
    ) -> None: ...
    @property
    def trial(self) -> Trial | None: ...
    @property
    def fresh(self) -> bool: ...
    @property
    def changed(self) -> bool: ...
    def decision(self, mode: str) -> Decision: ...
    def totals(self) -> dict[str, Any]: ...
