# SPDX-License-Identifier: MIT
"""Recording a kernel model's samples, for training."""

from pathlib import Path

import pytest
from helpers.kernels import Kernel
from helpers.proxy_run import make_policy

from pymlk.collect import Collector
from pymlk.dataset import Dataset
from pymlk.errors import ProxyError
from pymlk.jobs import Cell
from pymlk.policy import load
from pymlk.proxy import Proxy


def collector(kernel: Kernel, tmp_path: Path) -> Collector:
    policy = make_policy(tmp_path / "policy")
    (policy / "model.tflite").unlink()
    plan = load(str(policy), model=False)
    path = str(tmp_path / "x.mlkd")
    return Collector(plan, path, rate=1000.0, root=kernel.root, append=True)


def test_each_sample_is_a_row(kernel: Kernel, running: Proxy, tmp_path: Path) -> None:
    run = collector(kernel, tmp_path)
    # what was there before is nobody's
    kernel.push(9999, 0, 0, 0)
    sent: list[int] = []

    def feed(seconds: float, rows: int, missed: int) -> None:
        for _ in range(20):
            sent.append(7 * len(sent))
            kernel.push(sent[-1], 1, 2, 3)

    run.progress = feed
    (outcome,) = run.record(Cell(workload="fed", label="8", seconds=0.5))
    run.close()
    assert (outcome.fault, outcome.missed) == ("", 0)
    with Dataset(str(tmp_path / "x.mlkd")) as dataset:
        (found,) = dataset.runs
        rows = [x for _, v, _ in dataset.blocks(found) for x in memoryview(v).cast("q")]
        times = [
            x for t, _, _ in dataset.blocks(found) for x in memoryview(t).cast("q")
        ]
    assert found.device == "guest/guest0"
    assert len(rows) >= len(sent) - 20 > 0
    assert rows == sent[: len(rows)]
    assert times == sorted(times)


def test_what_was_overwritten_is_counted(
    kernel: Kernel, running: Proxy, tmp_path: Path
) -> None:
    """A ring of 64 records cannot keep 1,000 until somebody looks."""
    run = collector(kernel, tmp_path)
    floods = 0

    def feed(seconds: float, rows: int, missed: int) -> None:
        nonlocal floods
        if floods < 2:
            floods += 1
            kernel.flood(1000)

    run.progress = feed
    (outcome,) = run.record(Cell(workload="flood", seconds=0.5))
    run.close()
    assert floods == 2
    assert outcome.missed > 0
    assert outcome.rows > 0
    assert outcome.rows + outcome.missed == 2000


def test_a_model_that_goes_ends_no_recording(
    kernel: Kernel, running: Proxy, tmp_path: Path
) -> None:
    run = collector(kernel, tmp_path)
    gone = False

    def feed(seconds: float, rows: int, missed: int) -> None:
        nonlocal gone
        if not gone:
            for i in range(5):
                kernel.push(i, 0, 0, 0)
        elif seconds > 0.2:
            run.stopped = True
        if seconds > 0.1 and not gone:
            gone = True
            kernel.unregister()

    run.progress = feed
    (outcome,) = run.record(Cell(workload="gone", seconds=1.0))
    run.close()
    assert outcome.rows > 0
    assert outcome.fault == ""
    with pytest.raises((ProxyError, ValueError)):
        run.record(Cell(workload="later", seconds=0.1))
