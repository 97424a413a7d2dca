# SPDX-License-Identifier: MIT
"""The parts of training, against scikit-learn, tflite-runtime and arithmetic."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.datasets import (
    POLICY,
    add_run,
    make_policy,
    make_sweep,
    open_writer,
    walk,
)
from helpers.need import need_module
from helpers.reference import Reference, assert_same, need_interpreter

from pymlk import Model
from pymlk.errors import TrainError

need_interpreter()
np = need_module("numpy")
sklearn = need_module("sklearn")
need_module("optuna")

from sklearn.ensemble import (  # noqa: E402
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.tree import DecisionTreeClassifier  # noqa: E402
from threadpoolctl import threadpool_limits  # noqa: E402

from pymlk.train import data as reading  # noqa: E402
from pymlk.train import metrics, network, quantise, splits, trees  # noqa: E402
from pymlk.train.baselines import baselines  # noqa: E402
from pymlk.train.model import INPUT, agreement, confidences, run, train  # noqa: E402
from pymlk.train.output import policy_text  # noqa: E402


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Others use this machine, too, and OpenMP waits busily."""
    with threadpool_limits(1):
        yield


# -------------------------------------------------------------------------- networks


@pytest.mark.parametrize("activation", ["none", "relu", "tanh", "sigmoid"])
@pytest.mark.parametrize("filters", [0, 3])
@pytest.mark.parametrize("kind", ["label", "worth", "soft"])
def test_gradients_are_those_of_differences(
    activation: str, filters: int, kind: str
) -> None:
    rng = np.random.default_rng(1)
    net = network.start(
        2, 4, [5], 3, activation=activation, filters=filters, width=2, seed=3
    )
    worth = rng.dirichlet(np.ones(3), 6)
    label = worth.argmax(axis=1)
    lesson = network.Lesson(
        rng.normal(size=(6, 8)),
        worth,
        label,
        rng.uniform(0.5, 2, 6),
        by_worth=kind == "worth",
        soft=kind == "soft",
    )
    at = [p + rng.normal(0, 0.2, p.shape) for p in net.parameters]

    def cost(parameters: Any) -> float:
        p = network.softmax(network.forward(net, parameters, lesson.rows)[0])
        return network.loss(p, lesson, 0.3)[0]

    logits, traces = network.forward(net, at, lesson.rows)
    slope = network.loss(network.softmax(logits), lesson, 0.3)[1]
    for p, g in zip(at, network.backward(net, traces, slope), strict=True):
        assert p.shape == g.shape
        for place in itertools.islice(np.ndindex(p.shape), 0, None, 3):
            kept = p[place]
            p[place] = kept + 1e-6
            high = cost(at)
            p[place] = kept - 1e-6
            low = cost(at)
            p[place] = kept
            assert g[place] == pytest.approx((high - low) / 2e-6, rel=1e-4, abs=1e-7)


def test_a_worth_is_maximised_where_no_label_is_right() -> None:
    # half of the rows want 0, half want 2, all look alike; 1 is nearly as good to both
    worth = np.log(np.tile([[1.0, 0.8, 0.1], [0.1, 0.8, 1.0]], (100, 1)))
    label = worth.argmax(axis=1)
    lesson = network.Lesson(
        np.ones((200, 1)), worth, label, np.ones(200), by_worth=True
    )
    hold = np.zeros(200, bool)
    net = network.start(1, 1, [4], 3)
    found = network.fit(net, lesson, hold, epochs=150).probabilities(np.ones((1, 1)))
    assert found.argmax() == 1
    plain = network.Lesson(lesson.rows, worth, label, lesson.weight)
    found = network.fit(net, plain, hold, epochs=150).probabilities(np.ones((1, 1)))
    assert found.argmin() == 1


def test_it_stops_when_the_held_out_rows_get_worse() -> None:
    rng = np.random.default_rng(0)
    rows, label = rng.normal(size=(60, 5)), rng.integers(0, 2, 60)
    lesson = network.Lesson(rows, np.eye(2)[label], label, np.ones(60))
    hold = np.arange(60) % 2 == 0
    epochs: list[int] = []
    net = network.start(5, 1, [32], 2)
    network.fit(
        net, lesson, hold, rate=0.05, epochs=2000, patience=20, progress=epochs.append
    )
    assert 20 <= len(epochs) < 500


# ----------------------------------------------------------------------------- trees


def some_rows(rows: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(-128, 128, (rows, 4))


def truth(rows: Any, classes: int) -> Any:
    """Steps and products of inputs, with some noise."""
    rng = np.random.default_rng(7)
    score = (rows[:, 0] > 20) * 1.0 + (rows[:, 1] * rows[:, 2] > 0) - rows[:, 3] / 200
    return np.digitize(
        score + rng.normal(0, 0.2, len(rows)), np.linspace(0, 1.5, classes + 1)[1:-1]
    )


def lesson_of(rows: Any, label: Any, by_worth: bool = False) -> network.Lesson:
    classes = int(label.max()) + 1
    worth = np.eye(classes)[label]
    if by_worth:
        worth = np.log(0.1 + worth + 0.3 * np.roll(worth, 1, axis=1))
    return network.Lesson(
        rows.astype(float), worth, label, np.ones(len(rows)), by_worth
    )


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_the_forest_is_scikit_learns(classes: int) -> None:
    rows = some_rows(600)
    label = truth(rows, classes)
    forest = trees.fit_trees(rows, lesson_of(rows, label), 12, 6, 0)
    options: dict[str, Any] = {
        "max_iter": 12,
        "max_leaf_nodes": 6,
        "min_samples_leaf": 20,
        "learning_rate": 4 / 12,
        "early_stopping": False,
        "random_state": 0,
    }
    theirs = HistGradientBoostingClassifier(**options).fit(rows, label)
    new = some_rows(500, 1)
    logits = forest.logits(new)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    odds /= odds.sum(axis=1, keepdims=True)
    assert odds == pytest.approx(theirs.predict_proba(new), abs=1e-9)
    lesson = lesson_of(rows, label, by_worth=True)
    forest = trees.fit_trees(rows, lesson, 12, 6, 0)
    sums = [
        HistGradientBoostingRegressor(**options).fit(rows, worth).predict(new)
        for worth in lesson.worth.T
    ]
    assert forest.logits(new) == pytest.approx(np.stack(sums, axis=1), abs=1e-9)


@pytest.mark.parametrize("classes", [2, 5])
def test_the_program_takes_the_same_branches(classes: int) -> None:
    rows = some_rows(600)
    lesson = lesson_of(rows, truth(rows, classes))
    forest = trees.fit_trees(rows, lesson, 8, 6, 0)
    leaves = [leaf for leaf in forest.leaves if leaf.path]
    names = sorted({step[:2] for leaf in leaves for step in leaf.path})
    graph = quantise.Graph((1, 4), INPUT)
    trees._write_compares(graph, names, 4, INPUT.zero)
    trees._write_paths(graph, leaves, {name: i for i, name in enumerate(names)})
    # thresholds and their neighbours, at the ends of int8 too
    new = some_rows(300, 1)
    for i, (feature, threshold) in enumerate(names * 2):
        new[i % 300, feature] = np.clip(threshold + i % 2, -128, 127)
    new[0], new[1] = -128, 127
    held = np.ones((300, len(leaves)), bool)
    for i, leaf in enumerate(leaves):
        for feature, threshold, above in leaf.path:
            held[:, i] &= (new[:, feature] > threshold) == above
    assert (run(graph.file(""), new) == np.where(held, 127, -128)).all()


@pytest.mark.parametrize("by_worth", [False, True])
def test_only_the_leaves_values_are_rounded(by_worth: bool) -> None:
    rows = some_rows(600)
    lesson = lesson_of(rows, truth(rows, 3), by_worth)
    forest = trees.fit_trees(rows, lesson, 12, 6, 0)
    if by_worth:
        forest = trees.sharpened(forest, rows, lesson)
    data = trees.write_trees(forest, INPUT, rows, 10**6)
    assert_same(data, Model(data), 60, reference=Reference(data))
    new = some_rows(1000, 1)
    logits = forest.logits(new)
    ordered = np.sort(logits, axis=1)
    # a step of the logits and half a step for each tree that adds to one
    largest = max(abs(leaf.value) for leaf in forest.leaves)
    step = (logits.max() - logits.min()) / 255
    clear = ordered[:, -1] - ordered[:, -2] > 2 * step + 12 * largest / 127
    chosen = confidences(data, new).argmax(axis=1)
    assert clear.mean() > 0.5
    assert (chosen[clear] == logits.argmax(axis=1)[clear]).all()
    assert (chosen == logits.argmax(axis=1)).mean() > 0.97


def test_a_forest_that_is_too_large_is_refused() -> None:
    rows = some_rows(600)
    forest = trees.fit_trees(rows, lesson_of(rows, truth(rows, 3)), 12, 6, 0)
    data = trees.write_trees(forest, INPUT, rows, trees.macs(forest))
    assert Model(data).macs == trees.macs(forest)
    with pytest.raises(TrainError, match=r"lower train.trees or train.leaves"):
        trees.write_trees(forest, INPUT, rows, trees.macs(forest) - 1)


def test_a_forest_without_a_split_and_a_class_that_nobody_has() -> None:
    rows = np.zeros((30, 4), np.int64)
    label = np.arange(30) % 2
    lesson = network.Lesson(
        rows.astype(float), np.eye(3)[label], label, 1.0 + (label == 1)
    )
    forest = trees.fit_trees(rows, lesson, 4, 4, 0)
    data = trees.write_trees(forest, INPUT, rows, 1000)
    p = confidences(data, rows[:1])[0]
    assert p == pytest.approx([1 / 3, 2 / 3, 0], abs=0.05)
    alone = network.Lesson(lesson.rows, lesson.worth, label * 0 + 2, lesson.weight)
    data = trees.write_trees(trees.fit_trees(rows, alone, 4, 4, 0), INPUT, rows, 1000)
    assert confidences(data, rows[:1])[0].argmax() == 2


# -------------------------------------------------------------------- data and splits


def plan_of(folder: Path, *changes: tuple[str, str]) -> dict[str, Any]:
    text = POLICY
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return make_policy(folder, text)


LABEL = ('target = "sweep"', 'target = "label"')
MEMORY = ("log2 = true\n\n[[feature]]\nname = \"rate_b\"", "log2 = true\nema = 0.5\n\n"
          "[[feature]]\nname = \"rate_b\"")  # fmt: skip


def examples_of(path: Path, plan: dict[str, Any]) -> Any:
    return reading.examples(reading.read([str(path)], plan), plan)


def test_a_sweep_says_what_each_value_is_worth(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    path = make_sweep(tmp_path / "x.mlkd", plan, per_kind=1, rows=10)
    data = examples_of(path, plan)
    # the first row of a run has no rate yet
    assert len(data) == 24 * 9
    assert len(data.cells) == 8
    for name, label in (("00-0", 0), ("01-0", 2)):
        mine = data.cell == data.cells.index((name, "red"))
        assert set(data.label[mine]) == {label}
        shares = np.exp(data.worth[mine][0])
        assert shares == pytest.approx([1, 0.5, 0.25][:: 1 if label == 0 else -1])
    assert set(data.current) == {0, 1, 2}
    assert data.share.sum() == pytest.approx(1)
    # a rate of 20 in 0.1 s
    assert 6 < data.x[data.workload == 0, 0, 0].mean() < 9


def test_every_run_counts_as_one(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, LABEL)
    with open_writer(tmp_path / "x.mlkd", plan) as writer:
        for n, (label, rows) in enumerate([("8", 5), ("8", 50), ("128", 20)]):
            table = list(walk("01", 8, rows, str(n)))
            add_run(writer, table, label=label, workload=f"w{n}")
    data = examples_of(tmp_path / "x.mlkd", plan)
    for run_ in range(3):
        assert data.share[data.run == run_].sum() == pytest.approx(1 / 3)
    # two runs of one class weigh as much as one of the other
    weight = [data.weight[data.label == k].sum() for k in (0, 2)]
    assert weight[0] == pytest.approx(weight[1])


def test_rows_that_come_faster_than_the_loop_are_interleaved(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    path = make_sweep(
        tmp_path / "x.mlkd", plan, per_kind=1, groups=["g"], rows=20, period_ms=50
    )
    data = examples_of(path, plan)
    assert len(data) == 12 * 18
    recording = data.recordings[0]
    assert reading.stride(recording, plan) == 2
    mine = data.run == 0
    for row, at in zip(data.x[mine][:, 0], data.at[mine], strict=True):
        change = recording.values[at, 0] - recording.values[at - 2, 0]
        assert row[0] == pytest.approx(np.log2(1 + change / 0.1))


def test_orders_carry_the_memory_from_run_to_run(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, MEMORY, ("hidden = [8]", "orders = 3"))
    path = make_sweep(tmp_path / "x.mlkd", plan, per_kind=1, groups=["g"], rows=10)
    data = examples_of(path, plan)
    assert len(data) == 3 * 12 * 9
    firsts = [
        data.x[(data.order == order) & (data.run == r) & (data.at == 1), 0, 0].item()
        for order in range(3)
        for r in range(12)
    ]
    alone = data.x[(data.run == 5) & (data.at == 1), 0, 1]
    # a feature without memory is the same in each order, one with memory is not
    assert len(set(alone)) == 1
    assert len(set(firsts)) > 12
    assert data.share.sum() == pytest.approx(1)
    # without memory there is nothing to replay again
    plain = plan_of(tmp_path / "plain", ("hidden = [8]", "orders = 3"))
    assert len(examples_of(path, plain)) == 12 * 9


def test_windows_are_what_the_loop_would_see(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, ('file = "model.tflite"', 'file = "m"\nhistory = 3'))
    path = make_sweep(tmp_path / "x.mlkd", plan, per_kind=1, groups=["g"], rows=8)
    data = examples_of(path, plan)
    assert data.x.shape == (12 * 5, 3, 3)
    single = examples_of(path, plan_of(tmp_path / "one"))
    mine, all_ = data.run == 4, single.run == 4
    for row, at in zip(data.x[mine], data.at[mine], strict=True):
        for back in range(3):
            same = single.x[all_ & (single.at == at - back)]
            assert (row[2 - back] == same[0, 0]).all()


def test_a_forecast_is_the_class_so_much_later(tmp_path: Path) -> None:
    future = 'target = "future"\nof = "a"\nhorizon_s = 0.3\nthresholds = [10.0, 20.0]'
    plan = plan_of(tmp_path, ('target = "sweep"', future))
    values = [0, 5, 12, 18, 25, 30, 9, 1, 11, 22]
    with open_writer(tmp_path / "x.mlkd", plan) as writer:
        add_run(writer, [[v, v, 8] for v in values])
    data = examples_of(tmp_path / "x.mlkd", plan)
    assert data.at.tolist() == [1, 2, 3, 4, 5, 6]
    assert data.label.tolist() == [2, 2, 0, 0, 1, 2]
    assert data.now.tolist() == [0, 1, 1, 2, 2, 0]
    assert data.ahead == 3
    plan["train"] |= {"of": "rate_a", "rows": 0, "horizon_s": None}
    plan["train"]["thresholds"] = [5.0, 7.0]
    data = examples_of(tmp_path / "x.mlkd", plan)
    expected = np.digitize(data.x[:, 0, 0], [5.0, 7.0])
    assert data.label.tolist() == expected.tolist()
    assert set(data.now) == {-1}


def bad(name: str) -> Callable[[Path, dict[str, Any]], None]:
    def make(path: Path, plan: dict[str, Any]) -> None:
        rows = list(walk("01", 8, 10, "x"))
        with open_writer(path, plan) as writer:
            if name == "no run":
                return
            if name == "no row":
                add_run(writer, [], knob=8)
            if name == "one value":
                add_run(writer, rows, knob=8)
            if name in ("unread", "short", "worthless"):
                for knob in (8, 32, 128):
                    add_run(
                        writer,
                        rows if name != "short" else rows[:1],
                        knob=knob,
                        valid=name != "unread",
                        points=0.0 if name == "worthless" else float(knob),
                    )
            if name == "one class":
                for knob in (8, 32, 128):
                    add_run(writer, rows, knob=knob, points=float(knob))

    return make


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("no run", "no run with rows"),
        ("no row", "no run with rows"),
        ("short", "no run with rows for two steps of the loop"),
        ("one value", r"no workload was measured with each of \[8, 32, 128\]"),
        ("unread", "no row is left.*could not be read"),
        ("worthless", "best score 0 found, above 0 expected"),
        ("one class", "every example is of one class, 128"),
    ],
)
def test_data_that_cannot_teach(tmp_path: Path, name: str, text: str) -> None:
    plan = plan_of(tmp_path)
    bad(name)(tmp_path / "x.mlkd", plan)
    with pytest.raises(TrainError, match=text):
        examples_of(tmp_path / "x.mlkd", plan)


def test_labels_and_fields_that_the_policy_does_not_know(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, LABEL)
    path = tmp_path / "x.mlkd"
    with open_writer(path, plan) as writer:
        for label in ("quick", None):
            add_run(writer, list(walk("01", 8, 10, "x")), label=label)
    with pytest.raises(TrainError, match=r"'quick'.*train.classes"):
        examples_of(path, plan)
    plan["train"]["classes"] = ["slow", "quick", "none"]
    with pytest.raises(TrainError, match="one class"):
        examples_of(path, plan)
    other = plan | {"fields": plan["fields"] | {"c": "/sys/c"}}
    with pytest.raises(
        TrainError, match=r"field 'c' .* is not in it; found: a, b, knob"
    ):
        reading.read([str(path)], other)
    other = plan | {"fields": plan["fields"] | {"a": "/sys/other"}}
    with pytest.raises(TrainError, match="read from '/sys/a'"):
        reading.read([str(path)], other)


def test_rows_that_come_slower_than_the_loop_are_told(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    for period, told in ((100, False), (200, True)):
        path = tmp_path / f"{period}.mlkd"
        make_sweep(path, plan, per_kind=1, rows=5, period_ms=period)
        said = [n for n in examples_of(path, plan).notices if "every 200 ms" in n]
        assert bool(said) == told


def test_a_cell_that_lacks_a_value_is_left_out_and_named(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    path = make_sweep(tmp_path / "x.mlkd", plan, per_kind=1)
    with reading_writer(path, plan) as writer:
        add_run(writer, list(walk("01", 8, 9, "z")), workload="half", knob=8)
    data = examples_of(path, plan)
    assert len(data.cells) == 8
    assert [n for n in data.notices if "half" in n]


def reading_writer(path: Path, plan: dict[str, Any]) -> Any:
    from pymlk.dataset import Writer

    fields = list(plan["fields"])
    return Writer(str(path), plan, fields, [1] * len(fields), append=True)


def test_cells_workloads_and_groups_are_left_out_whole(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    data = examples_of(make_sweep(tmp_path / "x.mlkd", plan, rows=6), plan)
    for kind, count in (("cell", 3), ("workload", 3), ("group", 2)):
        found = splits.Splits(data, plan, kind)
        assert len(found.folds) == count
        judged = np.zeros(len(data), int)
        unit = getattr(data, kind)
        for fold in found.folds:
            assert not np.isin(unit[fold.judge], unit[fold.learn]).any()
            assert (fold.learn ^ fold.judge).all()
            judged += fold.judge
            hold = found.hold(fold.learn, 0)
            assert hold[~fold.learn].sum() == 0
            assert 0.1 < hold.sum() / fold.learn.sum() < 0.4
        assert (judged == 1).all()


def test_time_goes_forward_with_a_gap(tmp_path: Path) -> None:
    future = 'target = "future"\nof = "a"\nrows = 4\nthresholds = [900.0, 1800.0]'
    plan = plan_of(tmp_path, ('target = "sweep"', future))
    with open_writer(tmp_path / "x.mlkd", plan) as writer:
        add_run(writer, [[30 * (i * 7 % 90), i, 8] for i in range(200)])
    data = examples_of(tmp_path / "x.mlkd", plan)
    found = splits.Splits(data, plan)
    assert found.kind == "time"
    assert len(found.folds) == 3
    for fold in found.folds:
        # a row, and the 4 that its target lies ahead
        assert data.at[fold.learn].max() + 5 < data.at[fold.judge].min()
        hold = found.hold(fold.learn, 0)
        assert data.at[hold].min() >= data.at[fold.learn & ~hold].max()
    assert len(np.unique(found.blocks())) == 4


# ----------------------------------------------------------------------------- leaks


def leaks(path: Path, plan: dict[str, Any], *more: Path) -> list[Any]:
    recordings = reading.read([str(path), *map(str, more)], plan)
    data = reading.examples(recordings, plan)
    parted = splits.Splits(data, plan)
    names = [feature["name"] for feature in plan["features"]]
    return splits.leaks_of_runs(recordings) + splits.leaks_of_folds(data, parted, names)


def test_good_data_has_no_leak(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    assert leaks(make_sweep(tmp_path / "x.mlkd", plan), plan) == []


def test_a_file_given_twice_is_a_leak(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    path = make_sweep(tmp_path / "x.mlkd", plan, per_kind=1)
    copy = tmp_path / "copy.mlkd"
    copy.write_bytes(path.read_bytes())
    found = leaks(path, plan, copy)
    assert [(x.kind, x.fatal) for x in found if x.kind == "twice"] == [("twice", True)]
    assert "copy.mlkd: run 0" in found[0].text


def test_one_device_at_one_time_in_two_workloads_is_a_leak(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    path = make_sweep(tmp_path / "x.mlkd", plan, per_kind=1)
    for start, fatal in ((5_000_000_000, True), (7_000_000_000, False)):
        late = tmp_path / f"{start}.mlkd"
        with open_writer(late, plan) as writer:
            for n, begin in enumerate((4_000_000_000, start)):
                for knob in (8, 32, 128):
                    add_run(
                        writer,
                        list(walk("01", knob, 25, f"{n}")),
                        points=float(knob),
                        workload=f"at-{n}",
                        knob=knob,
                        device=f"d{knob}",
                        started_ns=begin,
                    )
        found = [x for x in leaks(path, plan, late) if x.kind == "overlap"]
        assert bool(found) == fatal
        assert all(x.fatal for x in found)


def test_a_feature_that_is_the_label_is_a_leak(tmp_path: Path) -> None:
    disguise = '[[feature]]\nname = "told"\nkind = "value"\nfield = "b"\n\n# what'
    plan = plan_of(tmp_path, ("# what", disguise), LABEL)
    with open_writer(tmp_path / "x.mlkd", plan) as writer:
        for n in range(12):
            label = ("8", "128")[n % 2]
            rows = [[i * (50 + n), int(label), 8] for i in range(20)]
            add_run(writer, rows, workload=f"w{n}", label=label)
    found = leaks(tmp_path / "x.mlkd", plan)
    assert [x.feature for x in found if x.kind == "disguise"] == ["told"]
    assert all(x.fatal for x in found if x.kind == "disguise")


def test_a_knob_that_tells_the_label_is_a_leak(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, LABEL)
    with open_writer(tmp_path / "x.mlkd", plan) as writer:
        for n in range(12):
            knob = (8, 128)[n % 2]
            rows = list(walk(("00", "01", "11", "10")[n % 4], 8, 20, str(n)))
            add_run(writer, rows, workload=f"w{n}", label=str(knob), knob=knob)
    found = leaks(tmp_path / "x.mlkd", plan)
    assert [(x.kind, x.feature, x.fatal) for x in found] == [("knob", "knob", True)]


def test_equal_rows_on_both_sides_are_told(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, LABEL)
    with open_writer(tmp_path / "x.mlkd", plan) as writer:
        for n in range(8):
            kind = ("00", "01", "11", "10")[n % 4]
            pace = [40 * (1 + (letter == "1")) for letter in kind]
            rows = [[i * pace[0], i * pace[1], 8] for i in range(10)]
            label = "8" if kind[0] == kind[1] else "128"
            # no run is another one's copy
            rows += [[rows[-1][0] + 1000 + n, rows[-1][1], 8]]
            add_run(writer, rows, workload=f"w{n}", label=label)
    found = leaks(tmp_path / "x.mlkd", plan)
    assert [(x.kind, x.fatal) for x in found] == [("twins", False)]


# -------------------------------------------------------------- figures and baselines


def judged(rows: int = 400, by_worth: bool = False) -> Any:
    """Examples with everything that figures need, made up."""
    rng = np.random.default_rng(5)
    label = rng.integers(0, 3, rows)
    worth = np.eye(3)[label]
    if by_worth:
        worth = np.log(0.25 + 0.75 * worth)
    share = rng.uniform(0.5, 2, rows)
    return SimpleNamespace(
        label=label,
        worth=worth,
        right=worth == worth.max(axis=1, keepdims=True),
        share=share / share.sum(),
        by_worth=by_worth,
        cell=rng.integers(0, 20, rows),
    )


def test_figures_are_scikit_learns() -> None:
    from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

    data = judged()
    choice = np.where(
        np.random.default_rng(6).random(400) < 0.6, data.label, (data.label + 1) % 3
    )
    rows = np.arange(400) % 4 > 0
    found = metrics.figures(data, rows, choice)
    said = data.label[rows], choice[rows]
    weight = {"sample_weight": data.share[rows]}
    assert found["accuracy"] == pytest.approx(accuracy_score(*said, **weight))
    assert found["right"] == found["accuracy"]
    assert found["balanced_accuracy"] == pytest.approx(
        balanced_accuracy_score(*said, **weight)
    )
    assert found["f1"] == pytest.approx(f1_score(*said, average="macro", **weight))
    table = np.array(metrics.confusion(data, rows, choice))
    assert table.sum() == pytest.approx(1, abs=1e-5)
    assert np.trace(table) == pytest.approx(found["accuracy"], abs=1e-5)
    assert "score" not in found


def test_regret_is_what_a_sweep_lacks_of_its_best() -> None:
    data = judged(by_worth=True)
    rows = np.ones(400, bool)
    assert metrics.figures(data, rows, data.label)["regret"] == pytest.approx(0)
    wrong = metrics.figures(data, rows, (data.label + 1) % 3)
    assert wrong["score"] == pytest.approx(0.25)
    half = np.where(np.arange(400) % 2, data.label, (data.label + 1) % 3)
    share = data.share[1::2].sum()
    assert metrics.figures(data, rows, half)["score"] == pytest.approx(
        0.25 ** (1 - share)
    )


def test_differences_are_paired_and_chance_is_no_advantage() -> None:
    data, rows = judged(by_worth=True), np.ones(400, bool)
    rng = np.random.default_rng(8)
    noise = rng.integers(0, 3, (60, 2, 400))
    found = [metrics.difference(data, rows, a, b, data.cell) for a, b in noise]
    covered = sum(x["low"] < 0 < x["high"] for x in found)
    # a percentile bootstrap of 20 blocks promises a little too much
    assert 52 <= covered < 60
    assert {x["blocks"] for x in found} == {20}
    noise = noise[0]
    better = metrics.difference(data, rows, data.label, noise[1], data.cell)
    assert 0 < better["low"] < better["mean"] < better["high"]
    assert metrics.difference(data, rows, noise[0], noise[0], data.cell)["high"] == 0


def test_calibration_is_what_it_says() -> None:
    data = judged(4000)
    p = np.full((4000, 3), 0.1)
    rng = np.random.default_rng(9)
    # right in 0.8 of the rows, and says so
    chosen = np.where(rng.random(4000) < 0.8, data.label, (data.label + 1) % 3)
    p[np.arange(4000), chosen] = 0.8
    rows = np.ones(4000, bool)
    assert metrics.calibration(data, rows, p)["ece"] < 0.03
    p[np.arange(4000), chosen] = 0.99
    found = metrics.calibration(data, rows, p)
    assert found["ece"] == pytest.approx(0.19, abs=0.03)
    assert [b["from"] for b in found["bins"]] == [0.9]


def test_baselines_are_as_good_as_they_can_be(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    names = ["00", "11", "01"]
    path = make_sweep(tmp_path / "x.mlkd", plan, names=names, rows=10)
    data = examples_of(path, plan)
    folds = splits.Splits(data, plan).folds
    found = baselines(data, plan, folds)
    rows = np.ones(len(data), bool)
    right = {k: metrics.figures(data, rows, v)["right"] for k, v in found.items()}
    assert set(found["default"]) == {1}
    assert right["default"] == 0
    # two of three workloads want 8
    assert set(found["fixed"]) == {0}
    assert right["fixed"] == pytest.approx(2 / 3, abs=0.01)
    forecast = replace(data, now=data.label)
    assert (baselines(forecast, plan, folds)["as now"] == data.label).all()


def test_a_stump_and_a_proportion_find_what_one_feature_tells(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, LABEL)
    with open_writer(tmp_path / "x.mlkd", plan) as writer:
        for n in range(12):
            label = (8, 32, 128)[n % 3]
            rows = [[i * 30 * 4 ** (n % 3), i * (n + 1), 8] for i in range(10)]
            add_run(writer, rows, workload=f"w{n}", label=str(label))
    data = examples_of(tmp_path / "x.mlkd", plan)
    folds = splits.Splits(data, plan).folds
    found = baselines(data, plan, folds)
    rows = np.ones(len(data), bool)
    assert metrics.figures(data, rows, found["proportional"])["accuracy"] == 1
    x, weight = data.x[:, -1], metrics.importance(data)
    for fold in folds:
        theirs = DecisionTreeClassifier(max_depth=1, random_state=0)
        theirs.fit(x[fold.learn], data.label[fold.learn], weight[fold.learn])
        said = theirs.predict(x[fold.judge])
        assert (found["stump"][fold.judge] == said).mean() > 0.99


# ---------------------------------------------------------------------------- models

FAMILIES = [
    ("mlp", {}),
    ("mlp", {"hidden": [6, 5, 4], "activation": "tanh", "per_channel": False}),
    ("mlp", {"activation": "sigmoid", "tune": 5}),
    ("mlp", {"bits": 16}),
    ("mlp", {"bits": 16, "weight_bits": 16}),
    ("linear", {}),
    ("conv", {}),
    ("conv", {"bits": 16}),
    ("trees", {"trees": 4}),
]


@pytest.mark.parametrize(("family", "keys"), FAMILIES)
def test_every_family_equals_tflite(
    tmp_path: Path, family: str, keys: dict[str, Any]
) -> None:
    plan = plan_of(tmp_path, ('file = "model.tflite"', 'file = "m"\nhistory = 4'))
    path = make_sweep(tmp_path / "x.mlkd", plan, per_kind=1, rows=12)
    data = examples_of(path, plan)
    plan["train"] |= {"family": family, "epochs": 5, **keys}
    everything = np.ones(len(data), bool)
    hold = np.arange(len(data)) % 5 == 0
    made = train(data, plan, everything, hold, 0)
    inputs = made.inputs(data.x)
    found = agreement(made, inputs)
    assert found.rows == len(data)
    if found.runtime.startswith("tflite_runtime"):
        assert (found.differ, found.most, found.choices) == (0, 0, 0)
    p = confidences(made.data, inputs)
    assert abs(p - made.probabilities(data.x)).max() < 0.2


def test_a_model_that_tflite_contradicts_is_refused(
    tmp_path: Path, monkeypatch: Any
) -> None:
    from pymlk.train import model

    plan = plan_of(tmp_path)
    path = make_sweep(tmp_path / "x.mlkd", plan, per_kind=1, rows=6)
    data = examples_of(path, plan)
    plan["train"]["epochs"] = 2
    everything = np.ones(len(data), bool)
    made = train(data, plan, everything, ~everything, 0)
    real = model.run
    monkeypatch.setattr(model, "run", lambda *args: np.roll(real(*args), 1, axis=1))
    with pytest.raises(TrainError, match="nothing was written"):
        agreement(made, made.inputs(data.x))


def test_new_means_stand_before_the_comment_of_what_follows() -> None:
    text = (
        '[[feature]]\nname = "a"\n# of a\nkind = "value"\n\n'
        '# of b\n[[feature]]\nname = "b"\nmean = 1.0\n\n# of train\n[train]\nrows = 0\n'
    )
    trained = SimpleNamespace(mean=np.array([2.5, 3.5]), std=np.array([0.5, 1.5]))
    assert policy_text(text, trained, {"epochs": 3}) == (  # type: ignore[arg-type]
        '[[feature]]\nname = "a"\n# of a\nkind = "value"\nmean = 2.5\nstd = 0.5\n\n'
        '# of b\n[[feature]]\nname = "b"\nmean = 3.5\nstd = 1.5\n\n'
        "# of train\n[train]\nrows = 0\nepochs = 3\n"
    )
