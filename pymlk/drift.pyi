# SPDX-License-Identifier: MIT
# Types of drift.pyx, which has the docstrings; mypy.stubtest compares the two.
from collections.abc import Iterable
from typing import Literal, Self, TypedDict

from typing_extensions import Buffer, disjoint_base

class _Report(TypedDict):
    feature: str
    way: Literal["above", "below", "wider"]
    off: float
    since_s: float
    rows: int
    text: str

@disjoint_base
class Drift:
    @property
    def features(self) -> int: ...
    @property
    def rows(self) -> int: ...
    @property
    def drifting(self) -> int: ...
    def __new__(
        cls,
        names: Iterable[str],
        *,
        in_scale: float,
        in_zero: int = 0,
        tolerated: float = 1.0,
        alarm: float = 150.0,
    ) -> Self: ...
    def note(self, row: Buffer, now_s: float) -> bool: ...
    def report(self) -> list[_Report]: ...
    def reset(self) -> None: ...
