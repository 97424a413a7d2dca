#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""From KML's published weights to an int16x8 program, without training.

Four things keep the accuracy of the float network, and all of them are linear, so that
no row is lost to them: inputs that say the same are one input; every input has a scale
of its own; every input comes twice, the second time divided by 128, so that a weight of
the first layer has 15 bits and not 8; every output has a weight scale of its own.
"""

import argparse
import json
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pymlk import Model
from pymlk.write import Op, Tensor, build

F = NDArray[np.float64]
I = NDArray[np.int64]  # noqa: E741

FINE = 128  # the second copy of an input is that much smaller
STEP = 2.0**-12  # of what goes into a sigmoid: -8 to 8
SETS = {"nn_arch_data": "offline", "online_nn_arch_data": "online"}
# Its second and third input, two means of page offsets, differ by 0.002 deviations at
# most: their mean is the input, and the difference is dropped.
SAME = (0, 1, 1, 2, 3)
EPILOG = """\
examples:
  ./recipe.py ../../../shared/data/datasets/kml-readahead
  ./recipe.py kml-readahead --out /tmp/kml     also write offline.tflite, online.tflite
  ./recipe.py kml-readahead --nfs kml-nfs      the NFS network, too

The folders hold what KML publishes (github.com/sbu-fsl/kernel-ml, Apache-2.0) as CSV.
Needs numpy, and tflite-runtime == 2.14.0 to compare with.
"""


@dataclass
class Network:
    """A float network of dense layers with sigmoids between them."""

    weights: list[F]
    biases: list[F]

    def __call__(self, x: F) -> F:
        """Return the logits of standardised rows."""
        return self.layers(x)[-1]

    def layers(self, x: F) -> list[F]:
        """Return what every layer gives; the last are logits."""
        out = []
        for i, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = x @ w.T + b
            if i + 1 < len(self.weights):
                x = sigmoid(x)
            out.append(x)
        return out


@dataclass
class Integer:
    """An int16x8 program, and how a standardised row becomes its input."""

    flat: bytes
    same: Sequence[int]
    scale: F
    fine: int
    dtype: str = "int16"

    def rows(self, x: F) -> NDArray[Any]:
        """Return the inputs for standardised rows."""
        limits = np.iinfo(self.dtype)
        steps = merge(x, self.same) / self.scale * limits.max
        if self.fine:
            steps = np.concatenate([steps, steps / self.fine], axis=1)
        rounded = np.clip(np.rint(steps), limits.min, limits.max)
        return np.asarray(rounded, self.dtype)


def sigmoid(x: F) -> F:
    """Return 1 / (1 + exp(-x)); beyond 500 it is 0 or 1."""
    y: F = 1 / (1 + np.exp(-np.clip(x, -500, 500)))
    return y


def merge(x: F, same: Sequence[int]) -> F:
    """Return the means of columns that stand for the same."""
    place = np.array(same)
    columns = [x[:, place == i].mean(axis=1) for i in range(max(same) + 1)]
    return np.stack(columns, axis=1)


def read(folder: Path) -> tuple[Network, F, F]:
    """Read weights, means and deviations."""

    def table(name: str) -> F:
        return np.loadtxt(folder / f"{name}.csv", ndmin=2)

    numbers = range(len(list(folder.glob("linear*_w.csv"))))
    network = Network(
        [table(f"linear{i}_w") for i in numbers],
        [table(f"linear{i}_bias").ravel() for i in numbers],
    )
    return network, table("mean").ravel(), table("stddev").ravel()


def read_set(folder: Path) -> tuple[Network, F, I]:
    """Read a network, its standardised rows and their labels."""
    network, mean, std = read(folder)
    x = np.loadtxt(folder / "input.csv", ndmin=2)
    # One of the two published sets is standardised already.
    if np.abs(x).max() > 100:
        x = (x - mean) / std
    return network, x, np.loadtxt(folder / "output.csv").astype(np.int64)


def round_rows(w: F, whole: bool = False) -> tuple[I, F]:
    """Round weights to int8; return the scales of the rows, or the `whole` table's."""
    scale = np.abs(w).max(axis=1) / 127
    if whole:
        scale[:] = scale.max()
    return np.rint(w / scale[:, None]).astype(np.int64), scale


def quantise(network: Network, x: F, same: Sequence[int]) -> Integer:
    """Write the int16x8 program; `x` says how far inputs and logits reach."""
    place = np.array(same)
    scale = np.abs(merge(x, same)).max(axis=0)
    first = network.weights[0]
    folded = [first[:, place == i].sum(axis=1) for i in range(len(scale))]
    exact = np.stack(folded, axis=1) * scale
    coarse, steps = round_rows(exact)
    fine = np.rint((exact / steps[:, None] - coarse) * FINE).astype(np.int64)
    layers = [(np.concatenate([coarse, fine], axis=1), steps)]
    layers += [round_rows(w) for w in network.weights[1:]]
    reach = float(np.abs(network(x)).max())
    ranges = [1.0, *[STEP * 32767] * (len(layers) - 1), reach]
    return Integer(write(layers, network.biases, ranges), same, scale, FINE)


def naive(network: Network, x: F, dtype: str) -> Integer:
    """Write what a plain converter makes: one range for each tensor, the widest."""
    layers = [round_rows(w, whole=True) for w in network.weights]
    inputs = [x, *network.layers(x)[:-1]]
    ranges = [float(np.abs(x).max())]
    for value, w, b in zip(inputs, network.weights, network.biases, strict=True):
        ranges.append(float(np.abs(value @ w.T + b).max()))
    scale = np.full(x.shape[1], ranges[0])
    same = range(x.shape[1])
    return Integer(write(layers, network.biases, ranges, dtype), same, scale, 0, dtype)


def write(
    layers: Sequence[tuple[I, F]],
    biases: Sequence[F],
    ranges: Sequence[float],
    dtype: str = "int16",
) -> bytes:
    """Write FULLY_CONNECTED and LOGISTIC in turn, weights int8.

    `ranges` says how far the input reaches, then what each FULLY_CONNECTED gives.
    """
    most, wide = np.iinfo(dtype).max, dtype == "int16"
    # what LOGISTIC gives: TFLite accepts no other scale and zero point
    share = ((2.0**-15,), (0,)) if wide else ((1 / 256,), (-128,))
    bias_type = np.dtype("<i8" if wide else "<i4")
    step = ranges[0] / most
    tensors = [Tensor("input", (1, layers[0][0].shape[1]), dtype, (step,))]
    ops = []
    for i, ((w, scales), bias) in enumerate(zip(layers, biases, strict=True)):
        at, rows = len(tensors), len(w)
        bias_scales = [f32(f32(step) * f32(s)) for s in scales]
        whole = np.rint(bias / np.array(bias_scales)).astype(bias_type)
        data = w.astype(np.int8).tobytes()
        step = ranges[i + 1] / most
        tensors += [
            Tensor(f"w{i}", w.shape, "int8", scales.tolist(), data=data),
            Tensor(f"b{i}", (rows,), bias_type.name, bias_scales, data=whole.tobytes()),
            Tensor(f"y{i}", (1, rows), dtype, (step,)),
        ]
        ops.append(Op("FULLY_CONNECTED", (at - 1, at, at + 1), (at + 2,), 7))
        if i + 1 < len(layers):
            tensors.append(Tensor(f"a{i}", (1, rows), dtype, *share))
            ops.append(Op("LOGISTIC", (at + 2,), (at + 3,), 3))
            step = share[0][0]
    description = f"KML's network, weights int8, activations {dtype}"
    return build(tensors, ops, [0], [len(tensors) - 1], description=description)


def f32(value: float) -> float:
    """Round to float32, as TFLite holds scales."""
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


def run(flat: bytes, rows: NDArray[Any]) -> NDArray[Any]:
    """Return the outputs on the engine."""
    model = Model(flat, backend="engine")
    width = model.output.nbytes // model.output.itemsize
    out = np.empty((len(rows), width), rows.dtype)
    model.invoke_many(rows.data, out.data)
    return out


def reference(flat: bytes, rows: NDArray[Any]) -> NDArray[Any]:
    """Return the outputs on TFLite's reference kernels."""
    from tflite_runtime.interpreter import Interpreter, OpResolverType

    other = Interpreter(
        model_content=flat, experimental_op_resolver_type=OpResolverType.BUILTIN_REF
    )
    other.allocate_tensors()
    put, get = (
        d[0]["index"] for d in (other.get_input_details(), other.get_output_details())
    )
    out = []
    for row in rows:
        other.set_tensor(put, row[None])
        other.invoke()
        out.append(other.get_tensor(get)[0])
    return np.array(out)


def measure(network: Network, x: F, label: I) -> tuple[dict[str, Any], Integer]:
    """Count what is right, of float and of the programs."""
    even = np.arange(len(x)) % 2 == 0

    def right(out: NDArray[Any], rows: Any = slice(None)) -> int:
        return int((out.argmax(axis=1) == label[rows]).sum())

    ours = quantise(network, x, SAME)
    rows = ours.rows(x)
    out = run(ours.flat, rows)
    half = quantise(network, x[even], SAME)
    plain = {d: naive(network, x, d) for d in ("int8", "int16")}
    model = Model(ours.flat)
    result = {
        "rows": len(x),
        "right": {
            "float": right(network(x)),
            "int16x8": right(out),
            **{f"plain {d}": right(run(p.flat, p.rows(x))) for d, p in plain.items()},
        },
        "on odd rows": {
            "rows": int((~even).sum()),
            "float": right(network(x[~even]), ~even),
            "int16x8, ranges of even rows": right(
                run(half.flat, half.rows(x[~even])), ~even
            ),
        },
        "choice as float's": int((out.argmax(1) == network(x).argmax(1)).sum()),
        "differs from tflite-runtime": int((out != reference(ours.flat, rows)).sum()),
        "bytes": {
            "tflite": len(ours.flat),
            "program": len(bytes(model.program or b"")),
            "arena": model.arena_bytes,
        },
    }
    return result, ours


def measure_nfs(folder: Path) -> dict[str, Any]:
    """Compare the NFS network with its program on made-up rows: none are published."""
    network, _, _ = read(folder)
    x = np.random.default_rng(0).normal(size=(10_000, network.weights[0].shape[1]))
    ours, plain = quantise(network, x, range(x.shape[1])), naive(network, x, "int8")
    choice = network(x).argmax(axis=1)
    return {
        "rows": len(x),
        "choice as float's": {
            "int16x8": int((run(ours.flat, ours.rows(x)).argmax(1) == choice).sum()),
            "plain int8": int(
                (run(plain.flat, plain.rows(x)).argmax(1) == choice).sum()
            ),
        },
    }


def main() -> int:
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("data", type=Path, help="folder of KML's readahead networks")
    parser.add_argument("--nfs", type=Path, help="folder of its NFS network")
    parser.add_argument("--out", type=Path, help="folder to write the programs to")
    parser.add_argument("--metrics", type=Path, help="also write the metrics there")
    args = parser.parse_args()
    result: dict[str, Any] = {}
    try:
        for folder, name in SETS.items():
            result[name], ours = measure(*read_set(args.data / folder))
            if args.out:
                args.out.mkdir(parents=True, exist_ok=True)
                (args.out / f"{name}.tflite").write_bytes(ours.flat)
        if args.nfs:
            result["nfs"] = measure_nfs(args.nfs)
    except OSError as e:
        print(f"recipe.py: {e}", file=sys.stderr)
        return 1
    text = json.dumps(result, indent=1) + "\n"
    print(text, end="")
    if args.metrics:
        args.metrics.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
