# SPDX-License-Identifier: MIT
"""Figures of choices that were made on held-out rows."""

from typing import Any

import numpy as np
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    f1_score,
    recall_score,
)

from .data import Examples
from .network import B, F, I

DRAWS = 2000
BINS = 10


def figures(data: Examples, rows: B, choice: I) -> dict[str, float]:
    """Rate choices; each run of a cell counts the same, and each cell.

    Parameters
    ----------
    data : Examples
        All of them.
    rows : array of bool
        Those that are rated.
    choice : array of int64
        For each example what was chosen.

    Returns
    -------
    dict
        ``accuracy``, ``balanced_accuracy`` and ``f1`` (the mean over classes) of the
        label itself; ``right``, the share of choices within 3 % of the best; with a
        sweep ``score``, the geometric mean of the chosen values' scores as shares of
        the best, and ``regret``, what it lacks of 1.

    Thread safety
    -------------
    Pure function.
    """
    label, chosen, share = data.label[rows], choice[rows], data.share[rows]
    # labels that nobody has have no recall; a choice of one is wrong for each
    macro: dict[str, Any] = {
        "labels": np.unique(label),
        "average": "macro",
        "sample_weight": share,
        "zero_division": 0.0,
    }
    found = {
        "accuracy": float(accuracy_score(label, chosen, sample_weight=share)),
        "balanced_accuracy": float(recall_score(label, chosen, **macro)),
        "f1": float(f1_score(label, chosen, **macro)),
        "right": float(np.average(data.right[rows, chosen], weights=share)),
    }
    if data.by_worth:
        mean = np.average(data.worth[rows, chosen], weights=share)
        found["score"] = float(np.exp(mean))
        found["regret"] = 1.0 - found["score"]
    return found


def value(data: Examples, choice: I) -> F:
    """What each choice is worth in a comparison: log score, or 1 if it is right."""
    return np.asarray(np.take_along_axis(data.worth, choice[:, None], 1)[:, 0])


def importance(data: Examples) -> F:
    """How much a row counts in a comparison; classes count the same."""
    if data.by_worth:
        return data.share
    total = np.bincount(data.label, data.share, data.worth.shape[1])
    present = int((total > 0).sum())
    return np.asarray(data.share / total[data.label] / present)


def difference(
    data: Examples, rows: B, choice: I, other: I, block: I
) -> dict[str, float]:
    """By how much one way to choose is better than another, with its 95 % interval.

    Parameters
    ----------
    data : Examples
        All of them.
    rows : array of bool
        Those that count.
    choice, other : array of int64
        What both chose.
    block : array of int64
        What is drawn as a whole: a paired bootstrap over blocks (percentiles).

    Returns
    -------
    dict
        ``mean``, ``low`` and ``high``: with a sweep as a ratio of scores less 1, else
        as a difference of balanced accuracies; ``blocks``, how many there are.

    Thread safety
    -------------
    Pure function; the draws are always the same.
    """
    weight = importance(data)[rows]
    apart = (value(data, choice) - value(data, other))[rows]
    _, number = np.unique(block[rows], return_inverse=True)
    number = number.ravel()
    top = np.bincount(number, weight * apart)
    bottom = np.bincount(number, weight)
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, len(top), (DRAWS, len(top)))
    means = top[drawn].sum(axis=1) / bottom[drawn].sum(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    said = np.array([top.sum() / bottom.sum(), low, high])
    if data.by_worth:
        said = np.expm1(said)
    return {
        "mean": float(said[0]),
        "low": float(said[1]),
        "high": float(said[2]),
        "blocks": len(top),
    }


def calibration(data: Examples, rows: B, p: F) -> dict[str, Any]:
    """Compare confidences with how often the choice is right.

    Parameters
    ----------
    data : Examples
        All of them.
    rows : array of bool
        Those that count.
    p : array of float64, shape (examples, choices)
        Confidences.

    Returns
    -------
    dict
        ``ece``, the expected calibration error over ten bins, and ``bins`` with
        ``from``, ``confidence``, ``right`` and ``share``.

    Thread safety
    -------------
    Pure function.
    """
    top, choice = p[rows].max(axis=1), p[rows].argmax(axis=1)
    right = np.take_along_axis(data.right[rows], choice[:, None], 1)[:, 0]
    share = data.share[rows] / data.share[rows].sum()
    number = np.clip((top * BINS).astype(int), 0, BINS - 1)
    bins, ece = [], 0.0
    for i in range(BINS):
        mine = number == i
        weight = float(share[mine].sum())
        if not weight:
            continue
        confidence = float(np.average(top[mine], weights=share[mine]))
        often = float(np.average(right[mine], weights=share[mine]))
        ece += weight * abs(confidence - often)
        bins.append(
            {
                "from": i / BINS,
                "confidence": confidence,
                "right": often,
                "share": weight,
            }
        )
    return {"ece": ece, "bins": bins}


def confusion(data: Examples, rows: B, choice: I) -> list[list[float]]:
    """Shares of rows: one list for each label, one entry for each choice."""
    choices = data.worth.shape[1]
    table = confusion_matrix(
        data.label[rows],
        choice[rows],
        labels=np.arange(choices),
        sample_weight=data.share[rows] / data.share[rows].sum(),
    )
    found: list[list[float]] = table.round(6).tolist()
    return found
