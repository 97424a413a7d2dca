# SPDX-License-Identifier: MIT
"""Benchmarks go on working: what they find is no test's business."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pymlk.policy import load

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "benchmarks"
sys.path[:0] = [str(BENCHMARKS)]
# Those that need no other engine, no guest and no data from elsewhere.
ALONE = ["attrs", "collect", "cost", "import", "learn", "load", "proxy", "record",
         "run", "thermal"]  # fmt: skip


@pytest.mark.parametrize("name", ALONE)
def test_runs(tmp_path: Path, name: str) -> None:
    """One round, in which each figure that has a bar is found."""
    found = tmp_path / "figures"
    words = [sys.executable, "-P", BENCHMARKS, name, "--rounds", "1", "--json", found]
    done = subprocess.run(words, cwd=ROOT, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(found.read_text())["results"][name]
    bars = __import__(f"bench_{name}").BARS
    assert figures
    assert bars.keys() <= figures.keys()


def test_policies_of_the_loop_in_a_guest(tmp_path: Path) -> None:
    """They are made of the shipped one, whose text changes."""
    from loop_policy import attribute_policy, proxy_policy

    proxy = load(str(proxy_policy(tmp_path / "proxy")))
    assert (proxy["proxy"], proxy["knob"]["path"]) == ("guest/*", "k0")
    attributes = load(str(attribute_policy(tmp_path / "attributes", 50)))
    assert attributes["proxy"] is None
