# SPDX-License-Identifier: MIT
"""Medians, intervals, a table and plots of what the runs gave."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from runs import CHOICES, DEFAULT, STEADY

F = NDArray[np.float64]
DRAWS = 2000
WORKLOADS = (*STEADY, "changing")
BARS = {
    "applied over 128": 1.45,
    "applied over the best fixed value of each disk": 1.12,
    "worst workload over 128": 0.98,
    "applied over the oracle": 0.90,
}


class Results:
    """Scores by profile, workload and who decided: one for each seed."""

    def __init__(self, path: Path) -> None:
        self.scores: dict[tuple[str, str, str], dict[int, float]] = {}
        self.cpu: list[float] = []
        self.long: dict[str, dict[str, float]] = {}
        for line in path.read_text().splitlines():
            run = json.loads(line)
            key = run["profile"], run["workload"], run["who"]
            if run["workload"] == "long":
                self.long.setdefault(run["profile"], {})[run["who"]] = run["score"]
                continue
            self.scores.setdefault(key, {})[run["seed"]] = run["score"]
            if run["who"] == "shadow" and run["cpu"] is not None:
                self.cpu.append(run["cpu"])
        self.profiles = sorted({p for p, _, _ in self.scores})
        self.seeds = sorted({s for found in self.scores.values() for s in found})

    def table(self, seeds: NDArray[np.int64]) -> dict[tuple[str, str, str], float]:
        """Medians over seeds, of which some may be there twice."""
        return {
            key: float(np.median([found[s] for s in seeds.tolist() if s in found]))
            for key, found in self.scores.items()
            if any(s in found for s in seeds.tolist())
        }

    def draws(self) -> list[dict[tuple[str, str, str], float]]:
        """Tables of seeds drawn with replacement, for intervals."""
        rng = np.random.default_rng(0)
        seeds = np.array(self.seeds)
        return [self.table(rng.choice(seeds, len(seeds))) for _ in range(DRAWS)]


Medians = dict[tuple[str, str, str], float]


def oracle(table: Medians, profile: str, workload: str) -> float:
    """Where nothing changes it is the best fixed value."""
    if workload == "changing":
        return table[profile, workload, "oracle"]
    return max(table[profile, workload, str(value)] for value in CHOICES)


def best_fixed(table: Medians, profile: str) -> str:
    """Name the value that somebody would set who knows all of this."""
    worth = {
        str(value): np.mean([np.log(table[profile, w, str(value)]) for w in WORKLOADS])
        for value in (*CHOICES, 4096)
    }
    return max(worth, key=lambda value: float(worth[value]))


def ratios(table: Medians, profiles: list[str], who: str) -> dict[str, float]:
    """The four figures for one who decides."""
    cells = [(p, w) for p in profiles for w in WORKLOADS if (p, w, who) in table]
    default = [table[p, w, who] / table[p, w, str(DEFAULT)] for p, w in cells]
    fixed = {p: best_fixed(table, p) for p in profiles}
    tuned = [table[p, w, who] / table[p, w, fixed[p]] for p, w in cells]
    known = [table[p, w, who] / oracle(table, p, w) for p, w in cells]
    by_workload = [
        mean([r for r, (_, v) in zip(default, cells, strict=True) if v == w])
        for w in WORKLOADS
        if any(v == w for _, v in cells)
    ]
    return {
        "over 128": mean(default),
        "over the best fixed value of each disk": mean(tuned),
        "over the oracle": mean(known),
        "worst workload over 128": min(by_workload),
        "worst cell over 128": min(default),
    }


def mean(values: list[float]) -> float:
    """Geometric mean."""
    return float(np.exp(np.mean(np.log(values))))


def interval(values: list[float]) -> tuple[float, float]:
    """Where 95 % of the draws are."""
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def summarise(results: Results) -> dict[str, Any]:
    """All figures, for JSON."""
    table, draws = results.table(np.array(results.seeds)), results.draws()
    people = sorted({who for _, _, who in results.scores})
    cells = []
    for (profile, workload, who), value in sorted(table.items()):
        base = profile, workload, str(DEFAULT)
        key = profile, workload, who
        low, high = interval(
            [d[key] / d[base] for d in draws if {key, base} <= d.keys()]
        )
        cells.append(
            {
                "profile": profile,
                "workload": workload,
                "who": who,
                "median": value,
                "over 128": value / table[base],
                "interval": [low, high],
            }
        )
    found = {}
    for who in people:
        drawn = [
            ratios(d, results.profiles, who) for d in draws if len(d) == len(table)
        ]
        found[who] = {
            name: {"figure": figure, "interval": interval([d[name] for d in drawn])}
            for name, figure in ratios(table, results.profiles, who).items()
        }
    cpu = results.cpu
    return {
        "seeds": len(results.seeds),
        "cells": cells,
        "who": found,
        "by_profile": {
            p: {who: ratios(table, [p], who) for who in people}
            for p in results.profiles
        },
        "long": {
            p: {who: score / found[str(DEFAULT)] for who, score in found.items()}
            for p, found in results.long.items()
            if str(DEFAULT) in found
        },
        "best fixed": {p: best_fixed(table, p) for p in results.profiles},
        "shadow's share of a processor": {
            "median": float(np.median(cpu)) if cpu else None,
            "most": max(cpu) if cpu else None,
        },
    }


def markdown(summary: dict[str, Any]) -> str:
    """The table for people."""
    order = ["8", "32", "128", "512", "2048", "4096", "oracle", "rule", "shadow"]
    order.append("applied")
    cells = {(c["profile"], c["workload"], c["who"]): c for c in summary["cells"]}
    lines = [
        f"Medians of {summary['seeds']} seeds as multiples of a fixed 128 KiB (first "
        "column: operations per second), 95 % intervals in brackets.",
        "",
        "| disk, workload | 128 | " + " | ".join(w for w in order if w != "128") + " |",
        "|---|" + "---|" * len(order),
    ]
    for profile in dict.fromkeys(c["profile"] for c in summary["cells"]):
        for workload in WORKLOADS:
            base = cells.get((profile, workload, "128"))
            if base is None:
                continue
            row = [f"{profile}: {workload}", f"{base['median']:,.0f}"]
            for who in order:
                cell = cells.get((profile, workload, who))
                if who == "128":
                    continue
                if cell is None:
                    row.append("")
                    continue
                low, high = cell["interval"]
                text = f"{cell['over 128']:.2f}"
                row.append(
                    text + (f" ({low:.2f}-{high:.2f})" if who == "applied" else "")
                )
            lines.append("| " + " | ".join(row) + " |")
    names = list(next(iter(summary["who"].values())))
    lines += ["", "| who decides | " + " | ".join(names) + " |"]
    lines.append("|---|" + "---|" * len(names))
    for who in order:
        if who not in summary["who"]:
            continue
        row = [who]
        for name in names:
            figure = summary["who"][who][name]
            low, high = figure["interval"]
            row.append(f"{figure['figure']:.3f} ({low:.3f}-{high:.3f})")
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


def plot(summary: dict[str, Any], out: Path) -> None:
    """A picture for each workload: every one who decides, on each disk."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "readahead"}
    import matplotlib.pyplot as plt

    cells = {(c["profile"], c["workload"], c["who"]): c for c in summary["cells"]}
    order = ["8", "32", "128", "512", "2048", "4096", "rule", "oracle", "applied"]
    profiles = list(dict.fromkeys(c["profile"] for c in summary["cells"]))
    for workload in WORKLOADS:
        figure, axes = plt.subplots(1, len(profiles), figsize=(4 * len(profiles), 3))
        for axis, profile in zip(np.atleast_1d(axes), profiles, strict=True):
            who = [w for w in order if (profile, workload, w) in cells]
            found = [cells[profile, workload, w] for w in who]
            height = [c["over 128"] for c in found]
            # an interval of medians may leave out the median itself
            below = [max(0.0, c["over 128"] - c["interval"][0]) for c in found]
            above = [max(0.0, c["interval"][1] - c["over 128"]) for c in found]
            colours = ["tab:orange" if w == "applied" else "tab:blue" for w in who]
            axis.bar(who, height, yerr=[below, above], color=colours, capsize=2)
            axis.axhline(1, color="black", linewidth=0.5)
            axis.set_title(profile, fontsize=9)
            axis.tick_params(axis="x", rotation=60, labelsize=8)
        figure.suptitle(f"{workload}: speed over a fixed 128 KiB", fontsize=10)
        figure.tight_layout()
        path = out / f"{workload.replace('+', '-')}.svg"
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)
        head, rest = path.read_text().split("\n", 1)
        path.write_text(f"{head}\n<!-- SPDX-License-Identifier: MIT -->\n{rest}")


def write_all(path: Path, out: Path) -> None:
    """Write results.json, table.md and a plot for each workload."""
    summary = summarise(Results(path))
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_text(json.dumps(summary, indent=1) + "\n")
    text = markdown(summary)
    (out / "table.md").write_text(text)
    plot(summary, out)
    print(text)
    found = summary["who"].get("applied", {})
    for name, bar in BARS.items():
        figure = found.get(name.removeprefix("applied "))
        if figure is not None:
            held = "held" if figure["figure"] >= bar else "MISSED"
            print(f"{name}: {figure['figure']:.3f}, bar {bar}: {held}")
    cpu = summary["shadow's share of a processor"]
    print(f"shadow: {cpu['median']} of a processor, bar 0.002")
