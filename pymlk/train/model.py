# SPDX-License-Identifier: MIT
"""A trained model: its numbers for the policy, its file, and what both give."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from ..engine import Model, Program
from ..errors import TrainError
from ..tflite import Interpreter
from .data import Examples, Plan
from .network import B, F, I, Lesson, fit, start
from .quantise import Options, Scale, quantise
from .trees import Forest, fit_trees, sharpened, write_trees

# standardised features are kept to -6..6
INPUT = Scale(6 / 127, 0)
DIGITS = 6  # of the means and deviations in a policy


@dataclass(frozen=True)
class Trained:
    """What training gives.

    Parameters
    ----------
    mean, std : array of float64, shape (features,)
        As the policy has them.
    data : bytes
        The ``.tflite`` file.
    twin : bytes
        The same in a form that tflite-runtime takes: without the first QUANTIZE of
        int8 to int16.
    floats : callable
        Probabilities of rows of shape (rows, history * features), standardised and
        rounded as served.
    source : Scale
        Of the model's input.

    Thread safety
    -------------
    Immutable.
    """

    mean: F
    std: F
    data: bytes
    twin: bytes
    floats: Callable[[F], F]
    source: Scale = INPUT

    def inputs(self, x: F) -> I:
        """The model's int8 inputs of features of shape (rows, history, features)."""
        z = (x - self.mean) / self.std
        return self.source.integers(z.reshape(len(x), -1))

    def probabilities(self, x: F) -> F:
        """What the floats give."""
        return self.floats(self.source.reals(self.inputs(x)))


def train(
    data: Examples,
    plan: Plan,
    learn: B,
    hold: B,
    seed: int,
    progress: Callable[[int], None] | None = None,
) -> Trained:
    """Train as a policy says.

    Parameters
    ----------
    data : Examples
        All of them.
    plan : dict
        The policy.
    learn, hold : array of bool
        Which examples are learnt, and which of those decide when to stop.
    seed : int
        Decides everything that is left to chance.
    progress : callable, optional
        Called with each epoch's number.

    Returns
    -------
    Trained
        The same on the same machine, from the same arguments.

    Raises
    ------
    TrainError
        If trees need more than ``max_macs``.

    Thread safety
    -------------
    Limits the threads of numerical libraries while it runs.
    """
    wanted = plan["train"]
    seen = data.x[learn]
    # the kernel's images have means of whole units (pymlk.image.standardised)
    digits = 0 if plan["proxy"] else DIGITS
    mean = seen.reshape(-1, seen.shape[-1]).mean(axis=0).round(digits)
    std = seen.reshape(-1, seen.shape[-1]).std(axis=0).round(DIGITS)
    std = np.where(std > 1e-6, std, 1.0)
    draft = Trained(mean, std, b"", b"", lambda rows: rows)
    whole = INPUT.reals(draft.inputs(data.x))
    lesson = Lesson(whole, _worth(data, plan), data.label, data.weight, data.by_worth)
    name = plan["name"]
    with threadpool_limits(1):
        if wanted["family"] == "trees":
            integers = INPUT.integers(whole)
            return _trees(draft, integers, lesson, learn, hold, wanted, seed, name)
        conv = wanted["family"] == "conv"
        net = start(
            data.x.shape[2],
            data.x.shape[1],
            [] if wanted["family"] == "linear" else wanted["hidden"],
            data.worth.shape[1],
            activation=wanted["activation"],
            filters=wanted["filters"] if conv else 0,
            width=wanted["width"] if conv else 0,
            seed=seed,
        )
        net = fit(
            net,
            lesson.part(learn),
            hold[learn],
            seed=seed,
            rate=wanted["rate"],
            epochs=wanted["epochs"],
            progress=progress,
        )
        options = Options(
            input_scale=INPUT.scale,
            bits=wanted["bits"],
            weight_bits=wanted["weight_bits"],
            per_channel=wanted["per_channel"],
            tune=wanted["tune"],
            seed=seed,
        )
        file = quantise(net, whole[learn], options, name)
        twin = file
        if options.bits == 16:
            scale = INPUT.scale / 256
            options = replace(options, input_bits=16, input_scale=scale)
            twin = quantise(net, whole[learn], options, name)
    return replace(draft, data=file, twin=twin, floats=net.probabilities)


def _worth(data: Examples, plan: Plan) -> F:
    """What each choice is worth, less what the change costs."""
    if not data.by_worth:
        return data.worth
    choices = np.arange(data.worth.shape[1])
    distance = np.abs(choices - data.current[:, None])
    return np.asarray(data.worth - plan["train"]["change_cost"] * distance)


def _trees(
    draft: Trained,
    rows: I,
    lesson: Lesson,
    learn: B,
    hold: B,
    wanted: dict[str, int],
    seed: int,
    name: str,
) -> Trained:
    taught = learn & ~hold if (learn & ~hold).any() else learn
    forest = fit_trees(
        rows[taught], lesson.part(taught), wanted["trees"], wanted["leaves"], seed
    )
    if lesson.by_worth:
        # how sure it may be is seen where it has not learnt
        held = hold if hold.any() else learn
        forest = sharpened(forest, rows[held], lesson.part(held))
    file = write_trees(forest, INPUT, rows[learn], wanted["max_macs"], name)
    return replace(draft, data=file, twin=file, floats=_shares_of(forest))


def _shares_of(forest: Forest) -> Callable[[F], F]:
    def shares(rows: F) -> F:
        logits = forest.logits(INPUT.integers(rows))
        e = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(e / e.sum(axis=1, keepdims=True))

    return shares


def run(program: Program | bytes, inputs: I) -> I:
    """Run rows through the engine.

    Parameters
    ----------
    program : Program or bytes
        A program, or a ``.tflite`` file.
    inputs : array of int64, shape (rows, inputs)
        The model's int8 inputs.

    Returns
    -------
    array of int64, shape (rows, choices)
        Its int8 outputs.

    Raises
    ------
    ModelError
        If the model cannot be used.

    Thread safety
    -------------
    Pure function.
    """
    model = Model(program, backend="engine")
    outputs = np.zeros((len(inputs), model.output.nbytes), np.int8)
    source: Any = np.ascontiguousarray(inputs, np.int8)
    target: Any = outputs
    model.invoke_many(source, target)
    return outputs.astype(np.int64)


def confidences(program: Program | bytes, inputs: I) -> F:
    """What the loop takes a model's int8 outputs for, of shape (rows, choices)."""
    quant = Model(program, backend="engine").output_quant
    return np.asarray((run(program, inputs) - quant.zero_point) * quant.scale)


@dataclass(frozen=True)
class Agreement:
    """How near two runtimes are.

    Parameters
    ----------
    runtime : str
        What the engine was compared with.
    rows : int
        How many were compared.
    differ : float
        The share of rows with any difference.
    most : int
        The largest difference, in steps of the output.
    choices : float
        The share of rows whose choice differs.

    Thread safety
    -------------
    Immutable.
    """

    runtime: str
    rows: int
    differ: float
    most: int
    choices: float


# LiteRT rounds once where 2.14 rounds twice, and a softmax makes much of it
_MOST_STEPS, _MOST_CHOICES = 16, 0.02


def agreement(trained: Trained, inputs: I) -> Agreement:
    """Compare the engine with tflite's reference kernels; refuse where they differ.

    With tflite-runtime 2.14 every byte is the same. On Pythons that lack it LiteRT
    may be 16 steps of 1/256 off, and choose otherwise in 2 of 100 rows.

    Parameters
    ----------
    trained : Trained
        The model.
    inputs : array of int64, shape (rows, inputs)
        The model's int8 inputs.

    Returns
    -------
    Agreement
        What was found.

    Raises
    ------
    TrainError
        If they differ by more.
    ModelError
        If there is no tflite, or it refuses the model.

    Thread safety
    -------------
    Pure function.
    """
    ours = run(trained.data, inputs)
    reference = Interpreter(trained.twin, reference=True)
    wide = trained.twin is not trained.data and reference.inputs[0].itemsize == 2
    # int8 steps are 256 of int16
    given: Any = (inputs * 256).astype("<i2") if wide else inputs.astype(np.int8)
    theirs: Any = np.zeros(ours.shape, np.int8)
    reference.invoke_many(
        memoryview(given).cast("B"), memoryview(theirs).cast("B"), len(given)
    )
    apart = np.abs(ours - theirs)
    found = Agreement(
        reference.title,
        len(given),
        float(apart.any(axis=1).mean()),
        int(apart.max()),
        float((ours.argmax(axis=1) != theirs.argmax(axis=1)).mean()),
    )
    exact = reference.title.startswith("tflite_runtime")
    if found.most > (0 if exact else _MOST_STEPS) or found.choices > _MOST_CHOICES:
        raise TrainError(
            f"the engine and {found.runtime} differ by {found.most} steps in "
            f"{found.differ:.1%} of the rows: nothing was written; please report it "
            "with the model"
        )
    return found
