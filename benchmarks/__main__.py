# SPDX-License-Identifier: MIT
"""All benchmarks, one after the other: ``make bench``."""

import argparse
import importlib
from pathlib import Path
from typing import Any

from common import machine, show, verdict, write_json

HERE = Path(__file__).resolve().parent


def main() -> int:
    """Run what was asked for; a missed bar is shown, not an error."""
    every = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))
    parser = argparse.ArgumentParser(prog="make bench ARGS=", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=" ".join(every))
    parser.add_argument("--rounds", type=int, help="instead of each one's own number")
    parser.add_argument("--json", metavar="FILE", help="also write all figures there")
    options = parser.parse_args()
    unknown = set(options.names) - set(every)
    if unknown:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}")
    here = machine()
    print(", ".join(f"{key} {value}" for key, value in here.items()))
    print("medians of interleaved rounds; compare ratios, not absolute figures")
    results: dict[str, Any] = {}
    missed = []
    for name in options.names or every:
        module = importlib.import_module(f"bench_{name}")
        figures = module.run(options.rounds or getattr(module, "ROUNDS", 200))
        title = (module.__doc__ or name).splitlines()[0]
        show(f"{name}: {title}", figures, module.BARS)
        missed += [
            f"{name}.{figure}"
            for figure, (bar, side) in module.BARS.items()
            if figure not in figures or not verdict(figures[figure], bar, side)
        ]
        results[name] = figures
    print(f"\nbars missed: {', '.join(missed) or 'none'}")
    if options.json:
        write_json(options.json, {"machine": here, "results": results})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
