# SPDX-License-Identifier: MIT
"""`pymlk train` and `pymlk eval` on data whose right answer is known."""

import html.parser
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from helpers.datasets import POLICY, best, make_policy, make_sweep, walk
from helpers.need import need_module
from helpers.reference import need_interpreter

from pymlk import Model, PolicyError
from pymlk.cli import main
from pymlk.features import Features
from pymlk.policy import load

need_interpreter()
np = need_module("numpy")
for _name in ("sklearn", "optuna", "tomlkit", "matplotlib", "jinja2", "tqdm"):
    need_module(_name)

CONV = ('file = "model.tflite"', 'file = "model.tflite"\nhistory = 4')


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    return make_sweep(folder / "run.mlkd", make_policy(folder))


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    make_policy(tmp_path)
    return tmp_path


def train(policy: Path, data: Path, *more: str) -> int:
    return main(["train", str(policy), str(data), *more])


def numbers(text: str) -> Any:
    """JSON as others read it: without NaN and infinity."""

    def refuse(word: str) -> None:
        raise AssertionError(word)

    return json.loads(text, parse_constant=refuse)


def trained_json(capsys: Any, policy: Path, data: Path, *more: str) -> Any:
    train(policy, data, "--json", *more)
    return numbers(capsys.readouterr().out)


def right(policy: Path) -> float:
    """How often the policy's model, fed by the loop's features, is right."""
    plan = load(str(policy))
    model = Model(plan["program"])
    quant = model.input_quant
    fields = {name: (i, 1) for i, name in enumerate(plan["fields"])}
    found = []
    for workload in ("00-9", "01-9", "10-9", "11-9"):
        for knob in plan["knob"]["values"]:
            features = Features(
                plan["features"],
                fields,
                quant.scale,
                quant.zero_point,
                plan["model"]["history"],
            )
            before = None
            for row in walk(workload, knob, 20, "new"):
                state, inputs = features.step(row, before or row, 0.1 if before else 0)
                before = row
                if state == 0:
                    model.input.cast("B")[:] = inputs
                    model.invoke()
                    out = model.output.cast("B").cast("b").tolist()
                    chosen = plan["knob"]["values"][out.index(max(out))]
                    found.append(chosen == best(workload))
    return sum(found) / len(found)


@pytest.mark.parametrize(
    ("family", "change"),
    [("mlp", None), ("trees", None), ("conv", CONV)],
)
def test_learns_what_is_right(
    policy: Path, data: Path, capsys: Any, family: str, change: tuple[str, str] | None
) -> None:
    if change:
        make_policy(policy, POLICY.replace(*change))
    assert train(policy, data, "--family", family) == 0
    out = capsys.readouterr().out
    assert "NOT BEATEN" not in out
    assert "written:" in out
    assert right(policy) > 0.95
    metrics = numbers((policy / "metrics.json").read_text())
    assert metrics["family"] == family
    assert metrics["model"]["score"] > 0.95
    assert metrics["promoted"] == "yes"
    assert metrics["tflite"]["rows"] > metrics["rows"]
    if metrics["tflite"]["runtime"].startswith("tflite_runtime"):
        assert metrics["tflite"]["most"] == 0
    # wherever it starts, the loop ends at the best value
    assert min(row["score"] for row in metrics["closed_loop"].values()) > 0.9
    text = (policy / "policy.toml").read_text()
    for comment in ("# the policy's own words", "# how fast", "# what it is for"):
        assert comment in text
    raw = tomllib.loads(text)
    assert all(feature["std"] != 1.0 for feature in raw["feature"])
    assert raw["train"].get("family", "mlp") == family
    # nothing but numbers and what was asked for has changed
    kept = [
        line
        for line in text.splitlines()
        if not re.match(r"(mean|std|family) = ", line)
    ]
    before = [
        line
        for line in POLICY.replace(*(change or ("", ""))).splitlines()
        if not line.startswith("mean = ")
    ]
    assert kept == before


def test_what_does_not_beat_the_baselines_is_not_written(
    policy: Path, data: Path, capsys: Any
) -> None:
    before = sorted(p.name for p in policy.iterdir())
    assert train(policy, data, "--family", "linear") == 1
    out = capsys.readouterr().out
    assert "NOT BEATEN" in out
    assert "--force" in out
    assert sorted(p.name for p in policy.iterdir()) == before
    assert (policy / "policy.toml").read_text() == POLICY
    assert train(policy, data, "--family", "linear", "--force") == 1
    metrics = json.loads((policy / "metrics.json").read_text())
    assert (metrics["promoted"], metrics["beats"]) == ("forced", False)
    assert main(["eval", str(policy), str(data)]) == 1


def test_the_same_bytes_again_and_others_with_another_seed(
    policy: Path, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    models = []
    for seed in ("0", "0", "1"):
        folder = tmp_path_factory.mktemp("again")
        make_policy(folder)
        assert train(folder, data, "--seed", seed) == 0
        model = (folder / "model.tflite").read_bytes()
        models.append((model, (folder / "policy.toml").read_bytes()))
    assert models[0] == models[1]
    assert models[0][0] != models[2][0]


def test_no_write_and_json(policy: Path, data: Path, capsys: Any) -> None:
    found = trained_json(
        capsys, policy, data, "--no-write", "--hidden", "6,4", "--epochs", "40"
    )
    assert found["written"] is False
    assert found["train"]["hidden"] == [6, 4]
    assert found["train"]["epochs"] == 40
    assert [p.name for p in policy.iterdir()] == ["policy.toml"]
    assert set(found["baselines"]) == {
        "default",
        "fixed",
        "fixed per group",
        "stump",
        "proportional",
    }
    # 8 and 128 are right for one half of the cells each, 32 for none
    assert found["baselines"]["default"]["score"] == pytest.approx(0.5)
    assert found["baselines"]["default"]["right"] == 0
    assert 0.25 < found["baselines"]["fixed"]["score"] <= 0.5


class Page(html.parser.HTMLParser):
    """Collects what a page would fetch, and whether its tags close."""

    VOID = frozenset({"meta", "br", "img", "link", "hr", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.add(tag)
        for name, value in attrs:
            if name in ("src", "href", "action", "data") and value[:1] != "#":
                self.fetched.append(value)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("folds", [False, True])
def test_eval_and_its_report(
    policy: Path, data: Path, tmp_path: Path, capsys: Any, folds: bool
) -> None:
    assert train(policy, data) == 0
    capsys.readouterr()
    report = tmp_path / "report.html"
    more = ["--folds"] if folds else []
    argv = ["eval", str(policy), str(data), "--report", str(report), *more]
    assert main(argv) == 0
    out, err = capsys.readouterr()
    assert "confusion" in out
    assert ("the model has learnt of 72 of these 72 runs" in err) != folds
    assert ("without workload 00-0" in out) == folds
    page = Page()
    text = report.read_text()
    page.feed(text)
    page.close()
    assert page.open == []
    assert page.fetched == []
    assert "svg" in page.seen
    assert "script" not in page.seen
    assert not re.search(r"https?:|url\((?!#)|@import", text)
    again = text
    assert main([*argv, "--target-ns", "1"]) == 1
    assert "slower than the target of 1 ns" in capsys.readouterr().out
    assert "OVER" in report.read_text()
    assert "OVER" not in again
    assert main([*argv, "--json", "--target-ns", "1000000000"]) == 0
    found = numbers(capsys.readouterr().out)
    assert found["cost"]["in_target"] is True
    assert found["model"]["regret"] == pytest.approx(1 - found["model"]["score"])
    assert ("left_out" in found) == folds
    assert found["cost"]["p50_ns"] <= found["cost"]["p99_ns"]


def test_search_goes_on_where_it_was(
    policy: Path,
    data: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: Any,
    capsys: Any,
) -> None:
    from pymlk.train import search

    def trials(folder: Path) -> list[Any]:
        optuna = need_module("optuna")
        backend = optuna.storages.journal.JournalFileBackend(
            str(folder / "search.journal")
        )
        storage = optuna.storages.JournalStorage(backend)
        (study,) = optuna.get_all_study_names(storage)
        study = optuna.load_study(study_name=study, storage=storage)
        return [(t.params, t.values) for t in study.trials if t.values]

    real, calls = search._score, []

    def interrupted(*args: Any) -> float:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args)

    argv = ("--search", "5", "--epochs", "15", "--force")
    monkeypatch.setattr(search, "_score", interrupted)
    assert train(policy, data, *argv) == 130
    assert len(trials(policy)) == 2
    assert not (policy / "model.tflite").exists()
    train(policy, data, *argv)
    assert len(calls) == 6
    whole = tmp_path_factory.mktemp("whole")
    make_policy(whole)
    monkeypatch.setattr(search, "_score", real)
    train(whole, data, *argv)
    assert trials(policy) == trials(whole)
    capsys.readouterr()
    for name in ("model.tflite", "policy.toml"):
        assert (policy / name).read_bytes() == (whole / name).read_bytes()
    metrics = json.loads((whole / "metrics.json").read_text())
    # the folds that judged trials say nothing of the result
    assert metrics["folds"] == 2
    assert (
        0
        < metrics["rows"]
        < 0.7
        * trained_json(capsys, policy, data, "--no-write", "--epochs", "1")["rows"]
    )
    hidden = tomllib.loads((whole / "policy.toml").read_text())["train"]["hidden"]
    assert hidden == metrics["train"]["hidden"]


def test_an_interrupted_replacement_is_finished(
    policy: Path, data: Path, monkeypatch: Any, capsys: Any
) -> None:
    from pymlk.train import output

    assert train(policy, data) == 0
    names = ("policy.toml", "model.tflite", "metrics.json")
    old = [(policy / name).read_bytes() for name in names]
    real, moved = output.os.replace, []

    def dies(source: str, target: str) -> None:
        if moved:
            raise OSError(5, "power is gone")
        moved.append(target)
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(output.os, "replace", dies)
        assert train(policy, data, "--seed", "3", "--hidden", "7") == 4
    new = [(policy / name).read_bytes() for name in names]
    assert sum(a != b for a, b in zip(old, new, strict=True)) == 1
    # half of each is nothing to run
    with pytest.raises(PolicyError, match=r"pymlk eval. finishes it"):
        load(str(policy))
    assert main(["eval", str(policy), str(data)]) == 0
    assert "finished a replacement" in capsys.readouterr().err
    assert output.finish(str(policy / "policy.toml")) is False
    new = [(policy / name).read_bytes() for name in names]
    assert all(a != b for a, b in zip(old, new, strict=True))
    assert json.loads(new[2])["seed"] == 3
    # before all is on the disk nothing changes
    with monkeypatch.context() as patch:
        patch.setattr(output.os, "fsync", lambda _: dies("", ""))
        assert train(policy, data, "--seed", "4") == 4
    assert [(policy / name).read_bytes() for name in names] == new
    assert not [p.name for p in policy.iterdir() if p.name.startswith(".pymlk")]
    capsys.readouterr()


def test_without_the_extra_it_says_what_to_install(
    policy: Path, data: Path, monkeypatch: Any, capsys: Any
) -> None:
    from pymlk import train as package

    monkeypatch.setattr(package, "find_spec", lambda name: None)
    for command in ("train", "eval"):
        assert main([command, str(policy), str(data)]) == 3
        assert "pip install 'pymlk[train]'" in capsys.readouterr().err


def test_runs_of_less_than_two_steps_are_left_out(policy: Path) -> None:
    """The loop on recordings takes steps of ten rows in the second file."""
    plan = load(str(policy), model=False)
    long = make_sweep(policy / "long.mlkd", plan, per_kind=1, rows=12)
    short = make_sweep(
        policy / "short.mlkd", plan, per_kind=1, groups=("green",), rows=19,
        period_ms=10,
    )  # fmt: skip
    assert train(policy, long, str(short), "--epochs", "5", "--force") in (0, 1)
    assert numbers((policy / "metrics.json").read_text())["runs"] == 24


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ('target = "sweep"', 'target = "best"', "train.target"),
        ("hidden = [8]", "hidden = [8, 8, 8, 8]", "train.hidden"),
        ("hidden = [8]", 'family = "conv"', "train.width: 3 found"),
        ("hidden = [8]", 'classes = ["a"]', "expected 3: one for each"),
        ("hidden = [8]", "weight_bits = 16", "train.weight_bits"),
        ('"sweep"', '"future"', "train.of: missing"),
        ('"sweep"', '"future"\nof = "a"', "either it or train.rows"),
        (
            '"sweep"',
            '"future"\nof = "a"\nrows = 1\nthresholds = [2.0, 1.0]',
            "expected 2 ascending",
        ),
    ],
)
def test_a_policy_that_makes_no_sense(
    tmp_path: Path, old: str, new: str, text: str
) -> None:
    with pytest.raises(PolicyError, match=re.escape(text)):
        make_policy(tmp_path, POLICY.replace(old, new))


def test_a_policy_without_a_target(policy: Path, data: Path, capsys: Any) -> None:
    make_policy(policy, POLICY.partition("[train]")[0])
    assert train(policy, data) == 3
    assert "[train] is missing" in capsys.readouterr().err
