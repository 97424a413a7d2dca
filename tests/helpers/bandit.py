# SPDX-License-Identifier: MIT
"""A simulated device: what each value of a knob is worth depends on the features."""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Callable
from typing import Protocol

from pymlk import Model, Program
from pymlk.compile import compile_model
from pymlk.head import Head, read_head, replace_head
from pymlk.learn import Explorer
from pymlk.write import Layer, mlp

SCALE, OUT_SCALE = 0.03, 0.1
MAX_STEP = 2


class Rule(Protocol):
    """What learns: a `Learner`, or something that it is compared with."""

    def infer(self, model: Model) -> bytes:
        """Run the model; the head's inputs."""

    def note(self, key: int, row: bytes, action: int, propensity: float) -> None:
        """Remember a decision."""

    def learn(self, key: int, score: float) -> object:
        """Learn from its score."""

    def weights(self) -> tuple[array[float], array[float]]:
        """The head that follows."""


class Device:
    """Scores of a knob's values, linear in the features on a logarithmic scale.

    Parameters
    ----------
    seed : int
        Of all that is random.
    features, actions : int
        How many there are.
    gain : float
        Standard deviation of an action's effect.
    noise : float
        Standard deviation of the logarithm of a score.
    """

    def __init__(
        self,
        seed: int,
        features: int = 8,
        actions: int = 5,
        gain: float = 0.2,
        noise: float = 0.1,
    ) -> None:
        self.random = random.Random(seed)
        self.features, self.actions, self.noise = features, actions, noise
        part = gain / math.sqrt(features)
        self.effects = self.draw(part)
        self.common = [self.random.gauss(0, 0.3) for _ in range(features)]

    def draw(self, part: float) -> list[list[float]]:
        """Effects per action: of each feature, and one without any."""
        return [
            [self.random.gauss(0, part) for _ in range(self.features + 1)]
            for _ in range(self.actions)
        ]

    def context(self) -> list[int]:
        """A row of int8 features."""
        return [
            max(-128, min(127, round(self.random.gauss(0, 1) / SCALE)))
            for _ in range(self.features)
        ]

    def worth(self, row: list[int]) -> list[float]:
        """The logarithm of what each action gives, save what all have in common."""
        x = [q * SCALE for q in row]
        return [
            sum(w * v for w, v in zip(effect, [*x, 1.0], strict=True))
            for effect in self.effects
        ]

    def score(self, row: list[int], action: int) -> float:
        """What is measured."""
        common = sum(w * q * SCALE for w, q in zip(self.common, row, strict=True))
        value = self.worth(row)[action] + common + self.random.gauss(0, self.noise)
        return 1000.0 * math.exp(value)


def program(effects: list[list[float]], sharpness: float = 5.0) -> bytes:
    """A shipped program whose logits are these effects, so many times."""
    rows, bias, scales = [], [], []
    for effect in effects:
        weights = [sharpness * w for w in effect[:-1]]
        scale = max(map(abs, weights)) / 127
        rows.append([round(w / scale) for w in weights])
        bias.append(round(sharpness * effect[-1] / (scale * SCALE)))
        scales.append(scale)
    return compile_model(mlp([Layer(rows, bias, scales, OUT_SCALE, 0)], SCALE, 0))


def logits(head: Head, row: list[int]) -> list[float]:
    """What a head makes of its inputs, in real numbers."""
    n = head.features
    return [
        head.bias[a]
        + sum(
            head.weights[a * n + i] * head.in_scale * (q - head.in_zero)
            for i, q in enumerate(row)
        )
        for a in range(head.actions)
    ]


def best(values: list[float]) -> int:
    """The place of the greatest."""
    return max(range(len(values)), key=values.__getitem__)


def regret(device: Device, written: bytes, contexts: int = 2000) -> float:
    """How much a program's choices lose against the best ones, on average."""
    head = read_head(written)
    state = device.random.getstate()
    device.random.seed(12345)
    lost = 0.0
    for _ in range(contexts):
        row = device.context()
        worth = device.worth(row)
        lost += max(worth) - worth[best(logits(head, row))]
    device.random.setstate(state)
    return lost / contexts


def as_bytes(row: list[int]) -> bytes:
    """Features as an input row."""
    return array("b", row).tobytes()


def live(
    device: Device,
    shipped: bytes,
    learner: Rule,
    steps: int,
    *,
    every: int = 64,
    spoil: Callable[[int, float], float] | None = None,
    seed: int = 7,
    epsilon: float = 0.1,
) -> bytes:
    """Decide, measure and learn so often; the program that is deployed at the end."""
    model = Model(Program(shipped))
    explorer = Explorer(device.actions, epsilon=epsilon, seed=seed)
    place, now = 0, shipped
    for step in range(steps):
        row = device.context()
        model.input.cast("B")[:] = as_bytes(row)
        kept = learner.infer(model)
        choice = best(list(model.output.cast("B").cast("b")))
        target, propensity = explorer.pick(choice, place, MAX_STEP)
        # what the guard lets through
        place += max(-MAX_STEP, min(MAX_STEP, target - place))
        # a decision that the guard changed teaches nothing
        if place == target:
            learner.note(step, kept, place, propensity)
            score = device.score(row, place)
            learner.learn(step, spoil(step, score) if spoil else score)
        if step % every == every - 1:
            now = replace_head(shipped, *learner.weights())
            model.swap(Program(now))
    return now
