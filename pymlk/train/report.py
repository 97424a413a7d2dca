# SPDX-License-Identifier: MIT
"""An evaluation as one HTML page: no script, nothing that is fetched."""

import io
import re
from collections.abc import Callable
from typing import Any

import jinja2
import matplotlib as mpl
from matplotlib.figure import Figure

# seen on a light page and on a dark one
_GREY, _BLUE, _RED = "#808080", "#3b82c4", "#c4553b"
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "pymlk",
    "font.size": 9,
    "text.color": _GREY,
    "axes.edgecolor": _GREY,
    "axes.labelcolor": _GREY,
    "xtick.color": _GREY,
    "ytick.color": _GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
# it has no picture of its own
_ALONE = re.compile(r"<metadata>.*?</metadata>", re.DOTALL)
_NAMESPACE = re.compile(r' xmlns(:\w+)?="[^"]*"')


def render(found: dict[str, Any]) -> str:
    """Make the page.

    Parameters
    ----------
    found : dict
        As of `pymlk.train.evaluate.evaluate`.

    Returns
    -------
    str
        HTML; the same figures give the same page.

    Thread safety
    -------------
    Changes matplotlib's settings while it runs.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pymlk.train", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["share"] = lambda x: f"{x:.1%}"
    environment.filters["number"] = lambda x: f"{x:.3f}"
    environment.filters["signed"] = lambda x: f"{x:+.1%}"
    key = "score" if "score" in found["model"] else "balanced_accuracy"
    with mpl.rc_context(_STYLE):
        plots = {
            "rivals": _plot(lambda f: _rivals(f, found, key), 6.4, 2.6),
            "calibration": _plot(lambda f: _calibration(f, found), 3.4, 3.2),
            "confusion": _plot(lambda f: _confusion(f, found), 3.6, 3.2),
            "workloads": _parts(found["by_workload"], key),
            "groups": _parts(found["by_group"], key),
            "loop": _loop(found["closed_loop"]),
        }
    return environment.get_template("report.html").render(
        found=found, plots=plots, key=key, title=_TITLES[key]
    )


_TITLES = {
    "score": "score, share of the best",
    "balanced_accuracy": "balanced accuracy",
}


def _plot(draw: Callable[[Figure], None], width: float, height: float) -> str:
    figure = Figure(figsize=(width, height), layout="constrained")
    draw(figure)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    # inside HTML an <svg> needs neither prologue nor namespaces
    text = _ALONE.sub("", text[text.index("<svg") :])
    return _NAMESPACE.sub("", text).replace("xlink:href", "href")


def _rivals(figure: Figure, found: dict[str, Any], key: str) -> None:
    names = ["model", *found["baselines"]]
    values = [found["model"][key], *(r[key] for r in found["baselines"].values())]
    axes = figure.add_subplot()
    axes.barh(names, values, color=[_BLUE] + [_GREY] * (len(names) - 1))
    for i, value in enumerate(values):
        axes.text(value, i, f" {value:.3f}", va="center")
    axes.invert_yaxis()
    axes.set_xlabel(_TITLES[key])


def _calibration(figure: Figure, found: dict[str, Any]) -> None:
    bins = found["calibration"]["bins"]
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=_GREY, linestyle=":")
    axes.plot(
        [b["confidence"] for b in bins],
        [b["right"] for b in bins],
        color=_BLUE,
        marker="o",
    )
    axes.bar(
        [b["from"] + 0.05 for b in bins],
        [b["share"] for b in bins],
        width=0.09,
        color=_GREY,
        alpha=0.35,
    )
    axes.set(
        xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="right (bars: share)"
    )


def _confusion(figure: Figure, found: dict[str, Any]) -> None:
    table, values = found["confusion"], list(map(str, found["values"]))
    axes = figure.add_subplot()
    # an image would be a picture in the picture
    edges = [i - 0.5 for i in range(len(values) + 1)]
    # not so dark that figures cannot be read
    darkest = 2 * max(map(max, table))
    axes.pcolormesh(edges, edges, table, cmap="Blues", vmin=0, vmax=darkest)
    axes.invert_yaxis()
    for i, row in enumerate(table):
        for j, share in enumerate(row):
            axes.text(j, i, f"{share:.0%}", ha="center", va="center")
    axes.set_xticks(range(len(values)), values)
    axes.set_yticks(range(len(values)), values)
    axes.set(xlabel="chosen", ylabel="label")


def _parts(parts: dict[str, Any], key: str) -> str:
    """A bar for each workload or group; none where there is but one."""
    if len(parts) < 2:
        return ""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        names = [name or "(none)" for name in parts]
        axes.barh(names, [part[key] for part in parts.values()], color=_BLUE)
        axes.invert_yaxis()
        axes.set_xlabel(_TITLES[key])

    return _plot(draw, 6.4, 0.8 + 0.22 * len(parts))


def _loop(loop: dict[str, Any]) -> str:
    if not loop:
        return ""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.bar(list(loop), [row["score"] for row in loop.values()], color=_RED)
        axes.set(xlabel="start value", ylabel="score, second half")

    return _plot(draw, 4.6, 2.4)
