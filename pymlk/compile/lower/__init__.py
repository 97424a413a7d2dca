# SPDX-License-Identifier: MIT
"""Turn each TFLite operator into engine steps: one function per operator.

Such a function checks the form of its operator (dtypes, shapes, options) and raises
`Unsupported` for one that the engine lacks; the tables and multipliers that it makes
are those of TFLite's reference kernels, whose source each one names. A module here
has a family of operators and a table ``LOWER`` of their names; ``DTYPES`` and
``EXCEPTIONS`` beside it tell docs/operators.md what is special.
"""

from collections.abc import Callable

from ..schema import Op
from . import (
    binary,
    border,
    by_dtype,
    conv,
    dense,
    elementwise,
    move,
    pool,
    recurrent,
    reduce,
    shape,
    spatial,
    state,
    table,
)
from .common import Builder, Unsupported, quantization
from .recurrent import STATES
from .shape import folded

__all__ = ["LOWER", "STATES", "Builder", "Unsupported", "folded", "quantization"]

LOWER: dict[str, Callable[[Builder, Op], None]] = {
    **binary.LOWER,
    **border.LOWER,
    **conv.LOWER,
    **dense.LOWER,
    **move.LOWER,
    **shape.LOWER,
    **state.LOWER,
    **pool.LOWER,
    **recurrent.LOWER,
    **reduce.LOWER,
    **spatial.LOWER,
    **elementwise.LOWER,
    **table.LOWER,
    # what is here has int16 forms of operators above
    **by_dtype.LOWER,
}
