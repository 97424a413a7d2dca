# SPDX-License-Identifier: MIT
"""KML's networks: what is published is repeated, and the programs keep it."""

import importlib.util
import json
from types import ModuleType

import pytest
from helpers.need import need, need_module
from helpers.reference import DATA, ROOT, need_tflite

FOLDER = ROOT / "models" / "kml"
NETWORKS = DATA / "datasets" / "kml-readahead"
# KML's own figures for its float weights, rows that are right of how many.
PUBLISHED = {"offline": (390, 422), "online": (1347, 1442)}


@pytest.fixture(scope="module")
def recipe() -> ModuleType:
    need_module("numpy")
    need_tflite()
    need(NETWORKS.is_dir(), f"no data in {NETWORKS}")
    spec = importlib.util.spec_from_file_location("kml_recipe", FOLDER / "recipe.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def metrics(recipe: ModuleType) -> dict[str, dict]:
    return {
        name: recipe.measure(*recipe.read_set(NETWORKS / folder))[0]
        for folder, name in recipe.SETS.items()
    }


@pytest.mark.parametrize("name", PUBLISHED)
def test_float_accuracy_is_the_published_one(name: str, metrics: dict) -> None:
    found = metrics[name]
    assert (found["right"]["float"], found["rows"]) == PUBLISHED[name]


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_program_is_within_a_point_of_float(name: str, metrics: dict) -> None:
    right, rows = metrics[name]["right"], metrics[name]["rows"]
    assert right["int16x8"] >= right["float"] - 0.01 * rows
    # else there would be nothing to show
    assert right["plain int8"] < right["float"] - 0.1 * rows


@pytest.mark.parametrize("name", PUBLISHED)
def test_ranges_of_half_of_the_rows_do_for_the_others(name: str, metrics: dict) -> None:
    odd = metrics[name]["on odd rows"]
    assert odd["int16x8, ranges of even rows"] >= odd["float"] - 0.01 * odd["rows"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_engine_equals_tflite_on_every_row(name: str, metrics: dict) -> None:
    assert metrics[name]["differs from tflite-runtime"] == 0


def test_metrics_are_what_the_recipe_finds(recipe: ModuleType, metrics: dict) -> None:
    nfs = recipe.measure_nfs(DATA / "datasets" / "kml-nfs")
    written = json.loads((FOLDER / "metrics.json").read_text())
    assert written == {**metrics, "nfs": nfs}
