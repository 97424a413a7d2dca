# SPDX-License-Identifier: MIT
"""Gradient-boosted trees, and the same trees as a program of integers.

Three FULLY_CONNECTED: comparisons, leaves, sums. Inputs are whole numbers, so a
threshold lies between two of them and each comparison is exact; a leaf is one if all
comparisons on its path are. So the decisions of the trees are theirs, and only their
leaves' values are rounded to 8 bits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)

from ..errors import TrainError
from .network import F, I, Lesson
from .quantise import Graph, Scale

# true and false, as integers behind a saturated product
_TRUE, _FALSE = 127, -128
_SPAN = _TRUE - _FALSE
_LIMIT = 8.0  # logits beyond this are as good as certain


class _Leaf(NamedTuple):
    """A leaf: what must hold on the way to it, and what it adds to which output."""

    path: tuple[tuple[int, int, bool], ...]  # feature, threshold, above it?
    output: int
    value: float


@dataclass(frozen=True)
class Forest:
    """Trees over whole numbers, whose sums are the logits.

    Parameters
    ----------
    leaves : tuple of _Leaf
        Of all trees.
    base : array of float64, shape (choices,)
        What is added to the sums.
    inputs : int
        Numbers in a row.
    trees : int
        How many there are.

    Thread safety
    -------------
    Immutable.
    """

    leaves: tuple[_Leaf, ...]
    base: F
    inputs: int
    trees: int

    def logits(self, rows: I) -> F:
        """Add up the leaves that rows of whole numbers fall into."""
        out = np.tile(self.base, (len(rows), 1))
        for leaf in self.leaves:
            holds = np.ones(len(rows), bool)
            for feature, threshold, above in leaf.path:
                holds &= (rows[:, feature] > threshold) == above
            out[holds, leaf.output] += leaf.value
        return np.asarray(out)

    def scaled(self, factor: float) -> "Forest":
        """The same with all values times a factor."""
        leaves = tuple(leaf._replace(value=leaf.value * factor) for leaf in self.leaves)
        return Forest(leaves, self.base * factor, self.inputs, self.trees)


def fit_trees(rows: I, lesson: Lesson, trees: int, leaves: int, seed: int) -> Forest:
    """Boost trees with scikit-learn.

    For a label one tree for each class and round; for a worth one for each choice,
    which says what that is worth, so that the greatest sum is the best choice on
    average.

    Parameters
    ----------
    rows : array of int64, shape (rows, inputs)
        The model's int8 inputs.
    lesson : Lesson
        What is to be learnt.
    trees, leaves : int
        Rounds, and most leaves of a tree.
    seed : int
        For scikit-learn.

    Returns
    -------
    Forest
        Fewer rounds where more would not help.

    Thread safety
    -------------
    Pure function.
    """
    common: dict[str, Any] = {
        "max_iter": trees,
        "max_leaf_nodes": leaves,
        "min_samples_leaf": max(1, min(20, len(rows) // 20)),
        # few trees have to go far with each
        "learning_rate": float(np.clip(4 / trees, 0.1, 0.4)),
        "early_stopping": False,
        "random_state": seed,
    }
    x = rows.astype(np.float64)
    choices = lesson.worth.shape[1]
    if lesson.by_worth:
        grown: list[_Leaf] = []
        base = []
        for k in range(choices):
            one = HistGradientBoostingRegressor(**common)
            one.fit(x, lesson.worth[:, k], lesson.weight)
            for (tree,) in one._predictors:
                grown += _leaves(tree.nodes, k)
            base.append(float(np.ravel(one._baseline_prediction)[0]))
        return Forest(tuple(grown), np.array(base), rows.shape[1], trees * choices)
    known = np.unique(lesson.label)
    if len(known) == 1:
        # scikit-learn wants two
        certain = np.full(choices, -2 * _LIMIT)
        certain[known] = 0.0
        return Forest((), certain, rows.shape[1], 0)
    model = HistGradientBoostingClassifier(**common)
    model.fit(x, lesson.label, lesson.weight)
    return _of_classifier(model, choices, rows.shape[1])


def _of_classifier(model: Any, choices: int, inputs: int) -> Forest:
    # classes that no example has are never chosen
    base = np.full(choices, -2 * _LIMIT)
    known = model.classes_
    prior = np.ravel(model._baseline_prediction)
    two = len(known) == 2
    base[known] = [0.0, prior[0]] if two else prior
    grown: list[_Leaf] = []
    for trees in model._predictors:
        for k, tree in enumerate(trees):
            grown += _leaves(tree.nodes, int(known[1 if two else k]))
    count = sum(len(trees) for trees in model._predictors)
    return Forest(tuple(grown), base, inputs, count)


def _leaves(nodes: Any, output: int) -> list[_Leaf]:
    found = []
    todo: list[tuple[int, tuple[tuple[int, int, bool], ...]]] = [(0, ())]
    while todo:
        at, path = todo.pop()
        node = nodes[at]
        if node["is_leaf"]:
            found.append(_Leaf(path, output, float(node["value"])))
            continue
        # whole numbers: at most 3.5 is at most 3
        where = int(node["feature_idx"]), int(np.floor(node["num_threshold"]))
        todo.append((int(node["left"]), (*path, (*where, False))))
        todo.append((int(node["right"]), (*path, (*where, True))))
    return found


def sharpened(forest: Forest, rows: I, lesson: Lesson) -> Forest:
    """Scale the sums so that their softmax says how sure it is; the choice stays.

    For sums that are worths: nothing in them says how sure they are.
    """
    logits = forest.logits(rows)
    logits -= logits.max(axis=1, keepdims=True)
    weight = lesson.weight / lesson.weight.sum()
    best, factor = np.inf, 1.0
    for candidate in np.geomspace(0.1, 100, 61):
        sums = np.log(np.exp(candidate * logits).sum(axis=1))
        own = candidate * logits[np.arange(len(rows)), lesson.label]
        loss = float((weight * (sums - own)).sum())
        if loss < best:
            best, factor = loss, float(candidate)
    return forest.scaled(factor)


def macs(forest: Forest) -> int:
    """Multiply-accumulates of its program."""
    compares = len({step[:2] for leaf in forest.leaves for step in leaf.path})
    leaves = len([leaf for leaf in forest.leaves if leaf.path])
    return compares * forest.inputs + leaves * compares + len(forest.base) * leaves


def write_trees(
    forest: Forest, source: Scale, rows: I, most: int, description: str = ""
) -> bytes:
    """Write a forest as an int8 ``.tflite`` file of three products and a softmax.

    Parameters
    ----------
    forest : Forest
        Over the integers of `source`.
    source : Scale
        Of the model's input.
    rows : array of int64, shape (rows, inputs)
        Representative inputs: they say how far the sums go.
    most : int
        Most multiply-accumulates.
    description : str
        Free text kept in the file.

    Returns
    -------
    bytes
        The file.

    Raises
    ------
    TrainError
        If it would have more of them.

    Thread safety
    -------------
    Pure function.
    """
    needed = macs(forest)
    if needed > most:
        raise TrainError(
            f"{forest.trees} trees of {len(forest.leaves)} leaves need {needed} "
            f"multiply-accumulates, train.max_macs is {most}: lower train.trees or "
            "train.leaves, or allow more"
        )
    shift = forest.base.copy()
    for leaf in forest.leaves:
        if not leaf.path:
            shift[leaf.output] += leaf.value
    leaves = [leaf for leaf in forest.leaves if leaf.path]
    graph = Graph((1, forest.inputs), source)
    if not leaves:
        leaves = [_Leaf(((0, source.limits[1], True),), 0, 0.0)]
    names = sorted({step[:2] for leaf in leaves for step in leaf.path})
    place = {name: i for i, name in enumerate(names)}
    _write_compares(graph, names, forest.inputs, source.zero)
    _write_paths(graph, leaves, place)
    _write_sums(graph, leaves, shift, forest, rows)
    graph.softmax()
    return graph.file(description)


def _gate(source: Scale, gain: float) -> Scale:
    """A result's scale so that a step of the sum, times `gain`, saturates."""
    return Scale(source.scale / gain, _FALSE)


def _write_compares(
    graph: Graph, names: Sequence[tuple[int, int]], inputs: int, zero: int
) -> None:
    weights = np.zeros((len(names), inputs), np.int64)
    bias = np.zeros(len(names), np.int64)
    for i, (feature, threshold) in enumerate(names):
        weights[i, feature] = 127
        # half a step above: at most -64 where it does not hold, else at least 63
        bias[i] = -127 * (threshold - zero) - 64
    # 63 * 5 = 315 steps above "false" is "true" and more
    graph.product(weights, bias, np.ones(1), _gate(graph.scale, 5.0))


def _write_paths(
    graph: Graph, leaves: Sequence[_Leaf], place: dict[tuple[int, int], int]
) -> None:
    weights = np.zeros((len(leaves), len(place)), np.int64)
    bias = np.zeros(len(leaves), np.int64)
    for i, leaf in enumerate(leaves):
        # a path may pass the same comparison once only: trees do not repeat it
        for feature, threshold, above in leaf.path:
            weights[i, place[feature, threshold]] = 1 if above else -1
        wanted = sum(above for _, _, above in leaf.path)
        # one condition that does not hold is _SPAN less
        bias[i] = _SPAN // 2 - _SPAN * wanted
    graph.product(weights, bias, np.ones(1), _gate(graph.scale, 3.0))


def _write_sums(
    graph: Graph, leaves: Sequence[_Leaf], shift: F, forest: Forest, rows: I
) -> None:
    values: NDArray[np.float64] = np.zeros((len(shift), len(leaves)))
    for i, leaf in enumerate(leaves):
        values[leaf.output, i] = leaf.value
    # only differences count behind a softmax
    logits = forest.logits(rows)
    middle = float(np.median(logits.max(axis=1)))
    logits, shift = logits - middle, shift - middle
    high = max(float(logits.max()), 1e-3)
    low = max(float(logits.min()), high - 2 * _LIMIT - 2)
    step = (high - min(low, high - 1e-3)) / 255
    result = Scale(step, round(-128 - low / step))
    largest = np.abs(values).max(axis=1)
    # not so fine that a bias would not fit
    largest = np.maximum(largest, max(float(largest.max()), 1.0) * 1e-3)
    scales = largest / 127 / _SPAN / graph.scale.scale
    stored = np.rint(values / (largest[:, None] / 127)).astype(np.int64)
    # true is _SPAN steps above the zero point, false is none
    bias = np.rint(shift / (scales * graph.scale.scale)).astype(np.int64)
    graph.product(stored, bias, scales, result)
