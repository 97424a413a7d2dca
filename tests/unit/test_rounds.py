# SPDX-License-Identifier: MIT
"""Rounds of training: the model meets what its own decisions lead to."""

from pathlib import Path
from typing import Any

import pytest
from helpers.datasets import POLICY, make_policy, make_sweep
from helpers.need import need_module
from helpers.reference import need_interpreter

from pymlk.errors import PolicyError
from pymlk.policy import load

need_interpreter()
np = need_module("numpy")
for _name in ("sklearn", "optuna", "tomlkit", "matplotlib", "jinja2", "tqdm"):
    need_module(_name)

ROUNDS = POLICY.replace("epochs = 60", "epochs = 20\nrounds = 2")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Any]:
    """Plan and examples of a sweep whose right answer is known."""
    from pymlk.train.data import examples, read

    folder = tmp_path_factory.mktemp("rounds")
    plan = make_policy(folder, ROUNDS)
    return plan, examples(read([str(make_sweep(folder / "x.mlkd", plan))], plan), plan)


def half(data: Any) -> Any:
    """Leave out every other cell."""
    return data.cell % 2 == 0


def test_only_recordings_that_are_learnt_of_are_walked_through(
    made: tuple[dict[str, Any], Any],
) -> None:
    from pymlk.train.model import train
    from pymlk.train.rounds import _groups, _met

    plan, data = made
    learn = half(data)
    trained = train(data, plan, learn, np.zeros(len(data), bool), 0)
    met = _met(data, plan, _groups(data, plan, learn), trained, 1)
    assert set(met.run.tolist()) <= set(data.run[learn].tolist())
    assert set(met.cell.tolist()) <= set(data.cell[learn].tolist())
    # each row has what choices are worth in its cell
    for cell in np.unique(met.cell).tolist():
        worth = data.worth[data.cell == cell][0]
        assert (met.worth[met.cell == cell] == worth).all()
    # more than one value of the knob, and all together count like what was recorded
    assert len(np.unique(met.current)) > 1
    assert met.weight.sum() == pytest.approx(data.weight.sum())
    # a row's own value of the knob is the one in its features
    values = np.array(plan["knob"]["values"])[met.current]
    assert np.log2(1 + values) == pytest.approx(met.x[:, 0, 2])


def test_rounds_are_the_same_each_time_and_change_the_model(
    made: tuple[dict[str, Any], Any],
) -> None:
    from pymlk.train.rounds import teach

    plan, data = made
    learn, hold = half(data), np.zeros(len(data), bool)
    first = teach(data, plan, learn, hold, 3)
    assert teach(data, plan, learn, hold, 3).data == first.data
    without = plan | {"train": plan["train"] | {"rounds": 0}}
    assert teach(data, without, learn, hold, 3).data != first.data
    # the data itself is as it was
    assert len(data.x) == len(data.cell)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('target = "sweep"', 'target = "label"'),
        ('file = "model.tflite"', 'file = "model.tflite"\nhistory = 2'),
    ],
)
def test_what_rounds_cannot_do_is_refused(tmp_path: Path, old: str, new: str) -> None:
    (tmp_path / "policy.toml").write_text(ROUNDS.replace(old, new))
    with pytest.raises(PolicyError, match=r"train\.rounds: needs target"):
        load(str(tmp_path))
