# SPDX-License-Identifier: MIT
from typing import Any

from typing_extensions import disjoint_base

from .serve import Source

MODES: tuple[str, ...]

@disjoint_base
class ProxyLoop(Source):
    @property
    def decisions(self) -> int: ...
    def __init__(
        self,
        plan: dict[str, Any],
        *,
        root: str = "/",
        mode: str = "shadow",
        highest: str | None = None,
    ) -> None: ...
    def rescan(self) -> bool: ...
    def step(self) -> int: ...
    def look(self) -> list[str]: ...
    def close(self) -> list[str]: ...
