# SPDX-License-Identifier: MIT
"""Models that help the kernel decide: attributes in, a guarded recommendation out.

`AttrSet` reads sysfs/procfs attributes into a preallocated row, `Model` runs a
quantised ``.tflite`` model on the integer engine. The loop that joins them is
the command ``pymlk run``. `Proxy` talks to a model of the kernel module mlk.
"""

from .errors import (
    AttrError,
    FieldSyntaxError,
    JournalError,
    MlkError,
    ModelError,
    PolicyError,
    ProxyError,
    StateError,
    UnsupportedOpError,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .attrs import AttrSet, Field
    from .engine import Model, Program, Quant, programs
    from .proxy import Dataset, Proxy

__version__ = "0.1.0"

__all__ = [
    "AttrError",
    "AttrSet",
    "Dataset",
    "Field",
    "FieldSyntaxError",
    "JournalError",
    "MlkError",
    "Model",
    "ModelError",
    "PolicyError",
    "Program",
    "Proxy",
    "ProxyError",
    "Quant",
    "StateError",
    "UnsupportedOpError",
    "programs",
]


def __getattr__(name: str) -> object:
    """Load an extension when something of it is wanted: each takes 0.3 MB and more."""
    if name in ("AttrSet", "Field"):
        from . import attrs

        value = getattr(attrs, name)
    elif name in ("Dataset", "Proxy"):
        from . import proxy

        value = getattr(proxy, name)
    elif name in ("Model", "Program", "Quant", "programs"):
        from . import engine

        value = getattr(engine, name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
