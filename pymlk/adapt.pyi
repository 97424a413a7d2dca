# SPDX-License-Identifier: MIT
from typing import Any

from typing_extensions import disjoint_base

from .engine import Model
from .learn import Learner
from .stream import Stream
from .versions import Versions

@disjoint_base
class Adaptation:
    @property
    def learner(self) -> Learner: ...
    @property
    def versions(self) -> Versions: ...
    def __init__(
        self, plan: dict[str, Any], model: Model, folder: str | None = None
    ) -> None: ...
    def join(self, stream: Stream) -> None: ...
    def look(self) -> list[str]: ...
    def close(self) -> list[str]: ...
