# SPDX-License-Identifier: MIT
from collections.abc import Sequence
from typing import Any, Self

from typing_extensions import disjoint_base

KINDS: tuple[str, ...]

@disjoint_base
class Features:
    @property
    def n(self) -> int: ...
    @property
    def names(self) -> tuple[str, ...]: ...
    def __new__(
        cls,
        features: list[dict[str, Any]],
        fields: dict[str, tuple[int, int]],
        in_scale: float = 1.0,
        in_zero: int = 0,
    ) -> Self: ...
    def step(
        self,
        row: Sequence[int | None],
        before: Sequence[int | None],
        seconds: float,
    ) -> tuple[int, bytes]: ...
    def reset(self) -> None: ...
    def get_state(self) -> list[float | None]: ...
    def set_state(self, state: Sequence[float | None]) -> None: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
