# SPDX-License-Identifier: MIT
"""The shipped model of slow requests: what its metrics say, and where it can run."""

import importlib.util
import json
import random
import re
import sys
from types import ModuleType

import pytest
from helpers.need import need_module
from helpers.reference import ROOT, need_tflite

from pymlk import Model
from pymlk.image import make_image, standardised
from pymlk.policy import load
from pymlk.proxy import Feature, Knob, Proxy, emulate

FOLDER = ROOT / "models" / "iolat"


def script(name: str) -> ModuleType:
    need_module("numpy")
    spec = importlib.util.spec_from_file_location(
        f"iolat_{name}", FOLDER / f"{name}.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def measure() -> ModuleType:
    return script("measure")


def test_the_figures_are_those_of_the_shipped_data(measure: ModuleType) -> None:
    found = measure.measure()
    assert found == json.loads((FOLDER / "heldout.json").read_text())
    model = found["all"]["model"]
    # LinnOS publishes 0.87 to 0.97
    assert model["accuracy"] >= 0.87
    assert model["f1"] >= 0.87
    for rule in measure.RULES:
        assert model["accuracy"] > found["all"][rule]["accuracy"]
        assert model["f1"] > found["all"][rule]["f1"]


def test_nothing_held_out_was_learnt(measure: ModuleType) -> None:
    learnt, held = (
        {(run.workload, run.group) for run, _, _ in measure.read(FOLDER / name)}
        for name in ("train.mlkd", "heldout.mlkd")
    )
    workloads, disks = zip(*learnt, strict=True)
    for workload, disk in held:
        assert workload not in workloads or disk not in disks


def test_the_engine_equals_tflite_on_held_out_rows(measure: ModuleType) -> None:
    need_tflite()
    np = need_module("numpy")
    path = str(FOLDER / "model.tflite")
    engine, tflite = Model(path, backend="engine"), Model(path, backend="tflite")
    for _, values, _ in measure.read(FOLDER / "heldout.mlkd"):
        rows = measure.inputs(values[::50], engine)
        outs = [np.empty((len(rows), 2), np.int8) for _ in range(2)]
        engine.invoke_many(rows, outs[0])
        tflite.invoke_many(rows, outs[1])
        assert (outs[0] == outs[1]).all()


def test_the_policy_takes_what_the_kernel_client_gives() -> None:
    source = (ROOT / "kernel" / "samples" / "mlk_blk.c").read_text()
    table = source.partition("slow_features[] = {")[2].partition("};")[0]
    plan = load(str(FOLDER))
    assert list(plan["fields"].values()) == re.findall(r'\{ "(\w+)"', table)
    assert [f["field"] for f in plan["features"]] == list(plan["fields"])


def test_the_kernel_decides_as_the_policy_does(measure: ModuleType) -> None:
    """The emulator does what the module does with an image."""
    np = need_module("numpy")
    plan = load(str(FOLDER))
    model = Model(str(FOLDER / "model.tflite"), backend="engine")
    scale = model.input_quant.scale
    scales = [standardised(f["mean"], f["std"], scale) for f in plan["features"]]
    image = make_image(model.program, id=1, scales=scales, choices=[[0], [1]])
    rows = [
        row
        for _, values, _ in measure.read(FOLDER / "heldout.mlkd")
        for row in values[:: len(values) // 20].tolist()
    ]
    random.Random(1).shuffle(rows)
    said = measure.predict(model, np.array(rows))
    assert 0.05 < said.mean() < 0.6
    kernel = emulate()
    names = list(plan["fields"].values())
    slow = kernel.register(
        "block", "slow", list(map(Feature, names)), [Knob("slow", "", 0, 1, 1, 0)]
    )
    proxy = Proxy("slow", root=kernel.root)
    for word in ("init", "start", "run"):
        proxy.control(word)
    proxy.load(image)
    proxy.set_mode("recommendation")
    proxy.write_attr("options/holdout_permil", 0)
    differ = 0
    for row, expected in zip(rows, said, strict=True):
        decision = slow.decide(slow.push(row), row)
        differ += decision.value != (int(expected),)
    proxy.close()
    kernel.close()
    assert differ == 0


def test_where_times_stop_being_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    record = script("record")
    np = need_module("numpy")
    rng = np.random.default_rng(1)
    fast, slow = rng.lognormal(3, 0.3, 9000), rng.lognormal(10, 0.5, 1000)
    limit = record.slow_from(np.concatenate([fast, slow]))
    assert fast.max() < limit < slow.min()
    # all are fast: no limit among them
    assert record.slow_from(fast) > np.quantile(fast, 0.999)
    sys.modules.pop("disks", None)
