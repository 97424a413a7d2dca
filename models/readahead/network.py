# SPDX-License-Identifier: MIT
"""A small dense network: training with numpy, quantisation, the .tflite file."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from dataset import B, F, I
from numpy.typing import NDArray
from tflite_runtime.interpreter import Interpreter, OpResolverType

from pymlk.write import Layer, mlp

HIDDEN = (16, 8)
INPUT_SCALE = 6 / 127  # standardised features are kept to -6..6
RATE, DECAY = 3e-3, 1e-4
EPOCHS, PATIENCE, WARM_UP = 500, 60, 10
CROSS_ENTROPY = 0.1


def quantise(x: F, mean: F, std: F) -> I:
    """Standardise and round to the steps of the int8 input, as pymlk does."""
    z = (x - mean) / std / INPUT_SCALE
    out: I = np.clip(np.trunc(z + np.copysign(0.5, z)), -128, 127).astype(np.int64)
    return out


@dataclass
class Model:
    """A float network with the standardisation in front of it."""

    mean: F
    std: F
    weights: list[F]
    biases: list[F]

    def layers(self, x: F) -> list[F]:
        """Return what each layer gives; the last are logits."""
        # Rounded as served, so that training sees the same inputs.
        out = [quantise(x, self.mean, self.std) * INPUT_SCALE]
        for i, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            y = out[-1] @ w.T + b
            out.append(np.maximum(y, 0) if i + 1 < len(self.weights) else y)
        return out

    def predict(self, x: F) -> F:
        """Return the probabilities of the choices."""
        return softmax(self.layers(x)[-1])


def softmax(y: F) -> F:
    """Return exp(y) scaled to a sum of 1 per row."""
    e = np.exp(y - y.max(axis=1, keepdims=True))
    p: F = e / e.sum(axis=1, keepdims=True)
    return p


def train(x: F, gain: F, label: I, weight: F, hold: B, seed: int) -> Model:
    """Maximise the expected gain of a draw from the output; keep the best on `hold`.

    `gain` says for each row what every choice is worth (log of relative speed). Where
    different workloads look alike no label is right, but one choice is worth most. A
    small share of cross-entropy keeps the gradient alive where the output is sure.
    """
    rng = np.random.default_rng(seed)
    std = x.std(axis=0)
    sizes = [x.shape[1], *HIDDEN, gain.shape[1]]
    model = Model(x.mean(axis=0), np.where(std > 1e-6, std, 1.0), [], [])
    for a, b in itertools.pairwise(sizes):
        model.weights.append(rng.normal(0, np.sqrt(2 / a), (b, a)))
        model.biases.append(np.zeros(b))
    target = np.eye(gain.shape[1])[label]
    part = [*model.weights, *model.biases]
    first, second = [np.zeros_like(p) for p in part], [np.zeros_like(p) for p in part]
    fit = np.flatnonzero(~hold)
    best, kept, wait, t = -np.inf, [p.copy() for p in part], 0, 0
    for epoch in range(EPOCHS):
        rng.shuffle(fit)
        share = CROSS_ENTROPY if epoch >= WARM_UP else 1.0
        for batch in np.array_split(fit, max(1, len(fit) // 64)):
            out = model.layers(x[batch])
            p = softmax(out[-1])
            mean = (p * gain[batch]).sum(axis=1, keepdims=True)
            grad = share * (p - target[batch]) - (1 - share) * p * (gain[batch] - mean)
            grad *= weight[batch, None] / weight[batch].sum()
            grads_w: list[F] = []
            grads_b: list[F] = []
            for i in range(len(sizes) - 2, -1, -1):
                grads_w.insert(0, grad.T @ out[i] + DECAY * model.weights[i])
                grads_b.insert(0, grad.sum(axis=0))
                grad = (grad @ model.weights[i]) * (out[i] > 0)
            t += 1
            for at, g, m, v in zip(
                part, [*grads_w, *grads_b], first, second, strict=True
            ):
                m += 0.1 * (g - m)
                v += 0.001 * (g * g - v)
                at -= RATE * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        p = model.predict(x[hold])
        now = float(((p * gain[hold]).sum(axis=1) * weight[hold]).sum())
        wait += 1
        if now > best:
            best, kept, wait = now, [q.copy() for q in part], 0
        if wait > PATIENCE:
            break
    model.weights, model.biases = kept[: len(sizes) - 1], kept[len(sizes) - 1 :]
    return model


def to_tflite(model: Model, x: F) -> bytes:
    """Quantise with the ranges that the rows of `x` give rise to."""
    layers = []
    scale_in = INPUT_SCALE
    outs = model.layers(x)[1:]
    for i, (w, b, y) in enumerate(zip(model.weights, model.biases, outs, strict=True)):
        last = i + 1 == len(outs)
        scale_w = float(np.abs(w).max() / 127)
        low, high = (min(0.0, float(y.min())) if last else 0.0), float(y.max())
        scale_out = max(high - low, 1e-6) / 255
        layers.append(
            Layer(
                np.rint(w / scale_w).astype(int).tolist(),
                np.rint(b / (scale_in * scale_w)).astype(int).tolist(),
                [scale_w],
                scale_out,
                round(-128 - low / scale_out),
                "NONE" if last else "RELU",
            )
        )
        scale_in = scale_out
    return mlp(layers, INPUT_SCALE, 0, description="readahead")


def interpret(flat: bytes) -> Callable[[NDArray[np.int8]], F]:
    """Return a function that runs the file with TFLite's reference kernels."""
    interpreter = Interpreter(
        model_content=flat, experimental_op_resolver_type=OpResolverType.BUILTIN_REF
    )
    interpreter.allocate_tensors()
    put = interpreter.get_input_details()[0]["index"]
    get = interpreter.get_output_details()[0]["index"]

    def run(row: NDArray[np.int8]) -> F:
        interpreter.set_tensor(put, row[None])
        interpreter.invoke()
        out: F = (interpreter.get_tensor(get)[0].astype(np.float64) + 128) / 256
        return out

    return run


def run_int8(flat: bytes, model: Model, x: F) -> F:
    """Return the probabilities that the file itself gives."""
    run = interpret(flat)
    rows = quantise(x, model.mean, model.std).astype(np.int8)
    return np.array([run(row) for row in rows])
