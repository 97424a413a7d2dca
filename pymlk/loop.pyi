# SPDX-License-Identifier: MIT
from typing import Any

from typing_extensions import disjoint_base

from .attrs import AttrSet
from .journal import Journal
from .serve import Source

@disjoint_base
class Loop(Source):
    @property
    def attrs(self) -> AttrSet: ...
    @property
    def knobs(self) -> list[str]: ...
    def __init__(
        self,
        plan: dict[str, Any],
        *,
        root: str = "/",
        apply: bool = False,
        journal: Journal | None = None,
        highest: str | None = None,
    ) -> None: ...
    def rescan(self) -> bool: ...
    def step(self) -> int: ...
    def look(self) -> list[str]: ...
    def close(self) -> list[str]: ...
