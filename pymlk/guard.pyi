# SPDX-License-Identifier: MIT
from collections.abc import Iterable
from typing import Any, Self

from typing_extensions import disjoint_base

REASON_NAMES: tuple[str, ...]
REASON_TEXTS: tuple[str, ...]

@disjoint_base
class Guard:
    @property
    def n(self) -> int: ...
    @property
    def hands_off(self) -> bool: ...
    def __init__(
        self,
        values: Iterable[int],
        min_confidence: float = 0.0,
        max_step: int = 64,
        min_interval_s: float = 0.0,
        settle: int = 1,
        deadline_us: int = 1000000,
        apply: bool = False,
    ) -> None: ...
    @classmethod
    def of_policy(cls, plan: dict[str, Any], apply: bool) -> Self: ...
    def check(
        self, choice: int, confidence: float, current: int, now_s: float
    ) -> tuple[str, int]: ...
