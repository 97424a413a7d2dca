# SPDX-License-Identifier: MIT
"""What tests compare with: recorded vectors, and tflite-runtime's reference kernels.

Where `CI` is set nothing is skipped for want of either; elsewhere a test that needs
one skips and says which. tflite-runtime has no wheel for Python 3.12 and newer, so
there the recorded vectors alone speak.
"""

import importlib.util
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.need import absent, need_module

from pymlk import ModelError
from pymlk.compile import compile_model
from pymlk.compile.lower import LOWER

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("PYMLK_DATA") or ROOT / ".." / "shared" / "data").resolve()

# What the engine runs; the rest goes through the tflite back end.
SUPPORTED = frozenset(LOWER)


def need_data() -> Path:
    """The folder of third-party models and vectors."""
    if not (DATA / "ops" / "manifest.json").exists():
        absent(f"no test data in {DATA} (PYMLK_DATA names another place)")
    return DATA


def need_tflite() -> None:
    """Go on only where tflite-runtime 2.14, the definition of exactness, runs."""
    if sys.version_info >= (3, 12):
        pytest.skip("no tflite-runtime for this Python; recorded vectors are compared")
    need_module("numpy")
    try:
        import tflite_runtime
    except ImportError:
        absent("no tflite-runtime: pip install 'pymlk[tflite]'")
    assert tflite_runtime.__version__.startswith("2.14.")


def need_interpreter() -> None:
    """Go on only where the tflite back end has something to run on."""
    need_module("numpy")
    for name in ("tflite_runtime", "ai_edge_litert"):
        if importlib.util.find_spec(name):
            return
    absent("neither tflite-runtime nor ai-edge-litert: pip install 'pymlk[tflite]'")


def manifest(folder: str) -> list[dict[str, Any]]:
    """Entries of ``models`` or ``ops``; empty without data, see `need_data`."""
    path = DATA / folder / "manifest.json"
    return json.loads(path.read_text()) if path.exists() else []


def compiled(folder: str) -> Iterator[tuple[str, bytes]]:
    """Names and programs of what the engine runs of ``models`` or ``ops``."""
    for entry in manifest(folder):
        try:
            yield entry["name"], compile_model(model_path(folder, entry).read_bytes())
        except ModelError:
            continue


def operators(entry: dict[str, Any]) -> set[str]:
    """Names of the operators in a manifest entry."""
    if "op" in entry:
        return {entry["op"]}
    return {name.split(":")[0] for name in entry["ops"]}


def model_path(folder: str, entry: dict[str, Any]) -> Path:
    """The model of a manifest entry."""
    return DATA / folder / f"{entry['name']}.tflite"


class Reference:
    """A model on tflite-runtime, with its reference kernels unless told otherwise."""

    title = "tflite-runtime"

    def __init__(self, data: bytes, default: bool = False) -> None:
        need_tflite()
        from pymlk.tflite import Interpreter

        self._other = Interpreter(data, reference=not default)
        self.inputs, self.outputs = self._other.inputs, self._other.outputs

    def __call__(self, *inputs: Any) -> list[bytes]:
        """Outputs of one call, as bytes."""
        fill(self.inputs, inputs)
        self._other.invoke()
        return contents(self.outputs)


def fill(views: tuple[memoryview, ...], values: tuple[Any, ...]) -> None:
    """Copy arrays or bytes into a model's inputs."""
    for view, value in zip(views, values, strict=True):
        raw = value if isinstance(value, bytes) else value.tobytes()
        view.cast("B")[:] = raw


def contents(views: tuple[memoryview, ...]) -> list[bytes]:
    """A model's outputs as bytes."""
    return [bytes(view.cast("B")) for view in views]


def random_inputs(model: Any, rows: int, seed: int) -> Iterator[tuple[bytes, ...]]:
    """For all inputs of a model zeros, the least, the greatest, then random rows.

    Integers cover their whole range. Floats cover the quantised range, twice of it,
    and values far outside; not those where the reference converts a float beyond
    int32, which C leaves undefined.
    """
    np = need_module("numpy")
    rng = np.random.default_rng(seed)
    quants = model.input_quants

    def one(view: memoryview, quant: Any, row: int) -> bytes:
        if view.format == "f":
            reach = float(quant.scale) * (1, 128, 256, 512, 1e6)[row % 5]
            values = rng.uniform(-reach, reach, view.shape)
            if row < 3:
                end = float(quant.scale) * 1e6
                values = np.full(view.shape, (0.0, -end, end)[row])
            return bytes(values.astype("<f4").tobytes())
        code = np.dtype(view.format)
        low, high = np.iinfo(code).min, np.iinfo(code).max
        if code.itemsize > 2:  # indices or sizes, not activations
            low, high = 0, 3
        if row < 3:
            return bytes(np.full(view.shape, (0, low, high)[row], code).tobytes())
        # every third row from a narrow band, as activations often are
        if row % 3 == 0:
            middle = int(rng.integers(low, high + 1))
            low, high = max(low, middle - 8), min(high, middle + 8)
        return bytes(rng.integers(low, high, view.shape, code, True).tobytes())

    for row in range(rows):
        yield tuple(
            one(view, quant, row)
            for view, quant in zip(model.inputs, quants, strict=True)
        )


def outcomes(
    model: Any, reference: Any, rows: int, seed: int = 0
) -> Iterator[tuple[list[bytes], list[bytes]]]:
    """What the engine and the reference make of each row, one after the other."""
    for inputs in random_inputs(model, rows, seed):
        fill(model.inputs, inputs)
        model.invoke()
        yield contents(model.outputs), reference(*inputs)


def assert_same(
    data: bytes, model: Any, rows: int, seed: int = 0, reference: Any = None
) -> None:
    """The engine's outputs are the reference's, byte for byte."""
    pairs = outcomes(model, reference or Reference(data), rows, seed)
    for row, (found, expected) in enumerate(pairs):
        assert found == expected, f"row {row}: {describe(found, expected)}"


def describe(found: list[bytes], expected: list[bytes]) -> str:
    """How many bytes differ, and the first of them."""
    for number, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        differ = [
            i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b
        ]
        if differ:
            at = differ[0]
            return (
                f"output {number}: {len(differ)} of {len(theirs)} bytes differ, first "
                f"at {at}: {ours[at]:#04x} found, {theirs[at]:#04x} expected"
            )
    return "no difference"
