# SPDX-License-Identifier: MIT
"""Images in the emulator: checked and run as struct mlk_image's description says."""

from __future__ import annotations

import errno
import struct

from .engine import Model, Program
from .errors import ModelError
from .image import HEAD_CHOICES, HEAD_LINEAR, HEAD_RAW, MAGIC, MAX_CHOICES, VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .image import Scale
    from .proxy import Knob

_HEADER = struct.Struct("<IHHIIQ6I")
_SCALE = struct.Struct("<qiI")
_MIN, _MAX = -(1 << 63), (1 << 63) - 1


def _saturated(value: int) -> int:
    return min(max(value, _MIN), _MAX)


def _scaled(value: int, scale: Scale) -> int:
    """The arithmetic of struct mlk_scale."""
    _, multiplier, shift = scale
    size = abs(value)
    excess = max(size.bit_length() - 32, 0)
    if excess > shift:
        result = _MAX
    else:
        shift -= excess
        result = ((size >> excess) * multiplier + (1 << shift >> 1)) >> shift
    return -result if value < 0 else result


def _nearest(knob: Knob, value: int) -> int:
    value = min(max(value, knob.low), knob.high)
    return knob.low + (value - knob.low + knob.step // 2) // knob.step * knob.step


class Image:
    """A loaded image.

    Attributes
    ----------
    id : int
        What its writer gave it.
    """

    def __init__(self, model: Model, id: int, head: int, knobs: Sequence[Knob]) -> None:
        self.id = id
        self._model, self._head, self._knobs = model, head, knobs
        self.scales: list[Scale] = []
        self.out: list[Scale] = []
        self.choices: list[tuple[int, ...]] = []
        # bytes, whatever the shape is
        self._in = memoryview(model.inputs[0]).cast("B").cast("b")
        self._out = memoryview(model.outputs[0]).cast("B").cast("b")

    def answer(self, row: Sequence[int]) -> tuple[tuple[int, ...], int] | None:
        """A value of each knob, and the confidence in permil; None if it gives none."""
        if self._head == HEAD_RAW:
            return None
        zero = self._model.input_quant.zero_point
        for i, (value, scale) in enumerate(zip(row, self.scales, strict=True)):
            q = _saturated(_scaled(_saturated(value - scale[0]), scale) + zero)
            self._in[i] = min(max(q, -128), 127)
        self._model.invoke()
        output = self._out.tolist()
        if self._head == HEAD_CHOICES:
            best = output.index(max(output))
            return self.choices[best], (output[best] + 128) * 1000 // 255
        zero = self._model.output_quant.zero_point
        values = (
            _nearest(knob, _saturated(scale[0] + _scaled(q - zero, scale)))
            for knob, scale, q in zip(self._knobs, self.out, output, strict=True)
        )
        return tuple(values), 1000

    def fits(self, n_outputs: int) -> None:
        """Refuse a program whose rows are not this model's."""
        if (len(self._in), len(self._out)) != (len(self.scales), n_outputs):
            raise _bad(errno.EINVAL, "inputs or outputs are not this model's")

    def run(self, row: Sequence[int]) -> tuple[int, ...]:
        """The program as it is."""
        if len(row) != len(self._in):
            raise OSError(errno.EINVAL, f"a row of {len(self._in)} expected")
        for i, value in enumerate(row):
            self._in[i] = value
        self._model.invoke()
        return tuple(self._out.tolist())


def _bad(number: int, text: str) -> OSError:
    return OSError(number, text)


def _counts_fit(
    n_features: int, n_knobs: int, head: int, n_choices: int, features: int, knobs: int
) -> bool:
    if head == HEAD_RAW:
        return not (n_features or n_knobs or n_choices)
    if (n_features, n_knobs) != (features, knobs) or not knobs:
        return False
    if head == HEAD_CHOICES:
        return 1 <= n_choices <= MAX_CHOICES
    return head == HEAD_LINEAR and not n_choices


def _program(code: bytes, budget: tuple[int, int]) -> Model:
    macs, arena = budget
    try:
        program = Program(code)
    except NotImplementedError as error:
        raise _bad(errno.EOPNOTSUPP, str(error)) from None
    except ModelError as error:
        raise _bad(errno.EBADMSG, str(error)) from None
    if program.macs > macs:
        raise _bad(errno.E2BIG, "too many multiply-accumulates")
    if program.arena_bytes > arena:
        raise _bad(errno.ENOSPC, "arena too large")
    if len(bytes(program)) != len(code):
        raise _bad(errno.EINVAL, "bytes behind the program")
    one = len(program.inputs) == len(program.outputs) == 1
    if not one or {t["dtype"] for t in program.inputs + program.outputs} != {"int8"}:
        raise _bad(errno.EINVAL, "inputs or outputs are not this model's")
    return Model(program)


def load(
    data: bytes, n_features: int, knobs: Sequence[Knob], budget: tuple[int, int]
) -> Image:
    """Check an image as a whole.

    Parameters
    ----------
    data : bytes
        All of it.
    n_features : int
        The model's.
    knobs : sequence of Knob
        The model's.
    budget : tuple of (int, int)
        Multiply-accumulates and bytes of an arena that are allowed.

    Returns
    -------
    Image
        Ready to run.

    Raises
    ------
    OSError
        With the errno that kernel/abi names for "program".

    Thread safety
    -------------
    Pure function.
    """
    if len(data) < _HEADER.size or data[:4] != MAGIC.to_bytes(4, "little"):
        raise _bad(errno.EBADMSG, "not an image (bad magic)")
    _, version, header, total, at, id, features, n, head, n_choices, *reserved = (
        _HEADER.unpack_from(data)
    )
    if (version, header, total) != (VERSION, _HEADER.size, len(data)):
        raise _bad(errno.EBADMSG, "made for another version, or cut short")
    counts = (features, n, head, n_choices, n_features, len(knobs))
    if any(reserved) or not _counts_fit(*counts):
        raise _bad(errno.EINVAL, "not made for this model")
    n_out = n if head == HEAD_LINEAR else 0
    end = header + 16 * (features + n_out) + 8 * n * n_choices
    if at != -(-end // 16) * 16 or at >= total or any(data[end:at]):
        raise _bad(errno.EINVAL, "program is not in its place")
    scales = [_SCALE.unpack_from(data, header + 16 * i) for i in range(features)]
    end = header + 16 * features
    out = [_SCALE.unpack_from(data, end + 16 * i) for i in range(n_out)]
    choices = [
        struct.unpack_from(f"<{n}q", data, end + 8 * n * i) for i in range(n_choices)
    ]
    if any(multiplier < 0 or shift > 62 for _, multiplier, shift in scales + out):
        raise _bad(errno.EINVAL, "bad multiplier or shift")
    for choice in choices:
        for knob, value in zip(knobs, choice, strict=True):
            if not knob.low <= value <= knob.high or (value - knob.low) % knob.step:
                raise _bad(errno.ERANGE, "a choice that its knob cannot have")
    image = Image(_program(data[at:], budget), id, head, knobs)
    image.scales, image.out, image.choices = scales, out, choices
    if head != HEAD_RAW:
        image.fits(n_choices or n)
    return image
