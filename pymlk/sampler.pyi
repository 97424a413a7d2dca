# SPDX-License-Identifier: MIT
# Types of sampler.pyx, which has the docstrings; mypy.stubtest compares the two.
from collections.abc import Sequence

from typing_extensions import disjoint_base

from .attrs import AttrSet
from .proxy import Proxy

@disjoint_base
class Sampler:
    @property
    def rows(self) -> int: ...
    def prepare(self, sizes: Sequence[int], rate: float) -> None: ...
    def run(self, settle_s: float = 0.0) -> None: ...
    def stop(self) -> None: ...
    def blocks(self) -> list[tuple[int, int, bytes]]: ...
    def missed(self, stream: int) -> int: ...
    def rate(self, stream: int) -> float | None: ...

@disjoint_base
class AttrSampler(Sampler):
    def __init__(
        self,
        attrs: AttrSet,
        places: Sequence[Sequence[int]],
        rate: float,
        watched: int = -1,
        scale: int = 1,
    ) -> None: ...

@disjoint_base
class RingSampler(Sampler):
    def __init__(self, proxy: Proxy, places: Sequence[int], rate: float) -> None: ...
