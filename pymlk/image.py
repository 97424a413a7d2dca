# SPDX-License-Identifier: MIT
"""Images: a program with what the kernel needs to run it, for `Proxy.load`.

The layout is that of struct mlk_image in kernel/include/uapi/linux/mlk.h.
"""

from __future__ import annotations

import math
import struct

from .engine import Program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Buffer

    Scale = tuple[int, int, int]

__all__ = ["make_image", "standardised", "unscaled"]

MAGIC = 0x494B4C4D  # "MLKI"
VERSION = 1
HEAD_RAW, HEAD_CHOICES, HEAD_LINEAR = range(3)
MAX_CHOICES = 64
_HEADER = struct.Struct("<IHHIIQ6I")
_SCALE = struct.Struct("<qiI")
_ALIGN = 16


def _multiplier(ratio: float, what: str) -> tuple[int, int]:
    """`ratio` as multiplier / 2**shift, with all bits that the multiplier has."""
    if not math.isfinite(ratio) or ratio < 0:
        raise ValueError(
            f"{what}: {ratio} found, a finite number of 0 or more expected"
        )
    fraction, exponent = math.frexp(ratio)
    multiplier, shift = round(fraction * (1 << 31)), 31 - exponent
    if multiplier == 1 << 31:
        multiplier, shift = multiplier >> 1, shift - 1
    if shift > 62:
        # so small that the last bits go
        multiplier, shift = round(math.ldexp(ratio, 62)), 62
    if shift < 0:
        raise ValueError(f"{what}: {ratio} found, less than 2^31 expected")
    return multiplier, shift


def standardised(mean: float, std: float, in_scale: float) -> Scale:
    """The map of a plain ``value`` feature: (x - mean) / std in steps of the input.

    Parameters
    ----------
    mean, std : float
        The training's, in the feature's unit; `std` above 0.
    in_scale : float
        Scale of the program's input.

    Returns
    -------
    tuple of (int, int, int)
        Offset, multiplier and shift of struct mlk_scale. The offset is a whole number,
        so a mean with a fraction moves a value by up to half a unit; the multiplier has
        31 bits.

    Raises
    ------
    ValueError
        The result has no such form.

    Thread safety
    -------------
    Pure function.

    Source
    ------
    struct mlk_scale in kernel/include/uapi/linux/mlk.h.

    Examples
    --------
    >>> standardised(100.0, 4.0, 0.25)
    (100, 1073741824, 30)
    """
    if not std > 0 or not in_scale > 0:
        raise ValueError(f"std {std} and scale {in_scale} found, both above 0 expected")
    if not abs(mean) < 1 << 63:
        raise ValueError(f"mean {mean} found, a number of 64 bits expected")
    return (round(mean), *_multiplier(1 / (std * in_scale), "std times scale"))


def unscaled(offset: int, out_scale: float) -> Scale:
    """The map of a program's output to a knob: offset + q in steps of the output.

    Parameters
    ----------
    offset : int
        The knob's value where the output is its zero point.
    out_scale : float
        Units of the knob that one step of the output stands for.

    Returns
    -------
    tuple of (int, int, int)
        Offset, multiplier and shift of struct mlk_scale.

    Raises
    ------
    ValueError
        The scale has no such form.

    Thread safety
    -------------
    Pure function.

    Source
    ------
    struct mlk_scale in kernel/include/uapi/linux/mlk.h.

    Examples
    --------
    >>> unscaled(128, 4.0)
    (128, 1073741824, 28)
    """
    return (offset, *_multiplier(out_scale, "output scale"))


def _pack(form: str | struct.Struct, values: Sequence[int], what: str) -> bytes:
    packer = struct.Struct(form) if isinstance(form, str) else form
    try:
        return packer.pack(*values)
    except struct.error as error:
        raise ValueError(f"{what} {tuple(values)} found: {error}") from None


def _tables(
    scales: Sequence[Scale],
    choices: Sequence[Sequence[int]] | None,
    out: Sequence[Scale] | None,
) -> tuple[bytes, int, int]:
    """The bytes between header and program, the number of knobs, and the head."""
    body = b"".join(_pack(_SCALE, scale, "scale") for scale in scales)
    if choices is not None:
        if not 1 <= len(choices) <= MAX_CHOICES:
            raise ValueError(f"{len(choices)} choices found, 1 to 64 expected")
        knobs = len(choices[0])
        body += b"".join(_pack(f"<{knobs}q", choice, "choice") for choice in choices)
        return body, knobs, HEAD_CHOICES
    if out is not None:
        return (
            body + b"".join(_pack(_SCALE, s, "scale") for s in out),
            len(out),
            HEAD_LINEAR,
        )
    return body, 0, HEAD_RAW


def make_image(
    program: Program | Buffer,
    *,
    id: int,
    scales: Sequence[Scale] = (),
    choices: Sequence[Sequence[int]] | None = None,
    out: Sequence[Scale] | None = None,
) -> bytes:
    """Put a program together with what the kernel needs to run it.

    Parameters
    ----------
    program : Program or buffer of bytes
        With one int8 input, one element for each feature, and one int8 output.
    id : int
        What the kernel gives back as ``program_id``; 64 bits.
    scales : sequence of (offset, multiplier, shift)
        How each feature becomes an input, see `standardised`.
    choices : sequence of sequence of int, optional
        For each output the values of all knobs: the greatest output's are taken.
    out : sequence of (offset, multiplier, shift), optional
        How output i becomes knob i, see `unscaled`. Without `choices` and `out` only
        the kernel's client can run the program.

    Returns
    -------
    bytes
        What `Proxy.load` takes; the caller's.

    Raises
    ------
    ValueError
        Numbers that do not fit. Whether all fits the model is the kernel's to say.

    Thread safety
    -------------
    Pure function.

    Source
    ------
    struct mlk_image in kernel/include/uapi/linux/mlk.h.

    Examples
    --------
    >>> from pymlk import Program
    >>> program = Program.from_file("tests/fuzz/corpus/mlp.mlk")
    >>> len(make_image(program, id=1)) - len(bytes(program))
    48
    """
    if choices is not None and out is not None:
        raise ValueError("choices and out found, one of them expected")
    code = bytes(program)
    body, knobs, head = _tables(scales, choices, out)
    at = -(-(_HEADER.size + len(body)) // _ALIGN) * _ALIGN
    fields = (
        *(MAGIC, VERSION, _HEADER.size, at + len(code), at, id),
        *(len(scales), knobs, head, len(choices or ()), 0, 0),
    )
    header = _pack(_HEADER, fields, "image")
    return header + body.ljust(at - _HEADER.size, b"\0") + code
