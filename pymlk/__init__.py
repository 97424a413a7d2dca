# SPDX-License-Identifier: MIT
"""Models that help the kernel decide: attributes in, a guarded recommendation out.

`AttrSet` reads sysfs/procfs attributes into a preallocated row, `Model` runs a
quantised ``.tflite`` model on the integer engine. The loop that joins them is
the command ``pymlk run``.
"""

from .attrs import AttrSet, Field
from .engine import Model, Program, Quant, programs
from .errors import (
    AttrError,
    FieldSyntaxError,
    JournalError,
    MlkError,
    ModelError,
    PolicyError,
    UnsupportedOpError,
)

__version__ = "0.1.0"

__all__ = [
    "AttrError",
    "AttrSet",
    "Field",
    "FieldSyntaxError",
    "JournalError",
    "MlkError",
    "Model",
    "ModelError",
    "PolicyError",
    "Program",
    "Quant",
    "UnsupportedOpError",
    "programs",
]
