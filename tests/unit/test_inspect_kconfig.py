# SPDX-License-Identifier: MIT
"""`pymlk inspect --kconfig`: an engine built from it runs the models, and no more."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.engine_c import ENGINE
from helpers.need import need_module
from helpers.reference import ROOT

from pymlk import Model
from pymlk.cli import main
from pymlk.compile import compile_model
from pymlk.compile.program import OPCODES

need_module("esp_kconfiglib")
CORPUS = ROOT / "tests" / "fuzz" / "corpus"
READAHEAD = ROOT / "models" / "readahead" / "model.tflite"


def chosen(paths: list[Path], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["inspect", "--kconfig", *map(str, paths)]) == 0
    return capsys.readouterr().out


def operators(text: str) -> set[str]:
    return set(re.findall(r"^CONFIG_MLK_OP_(\w+)=y$", text, re.MULTILINE))


def test_every_operator_of_the_engine_is_known() -> None:
    header = (ENGINE / "mlk_engine.h").read_text()
    listed = re.findall(r"^\tX\((\d+), (\w+), ", header, re.MULTILINE)
    assert {int(number): name for number, name in listed} == OPCODES


def test_union_of_models(capsys: pytest.CaptureFixture[str]) -> None:
    dense, wide = CORPUS / "fully_connected.mlk", CORPUS / "fully_connected_s16.mlk"
    assert operators(chosen([READAHEAD], capsys)) == {"FULLY_CONNECTED", "SOFTMAX"}
    assert operators(chosen([dense], capsys)) == {"FULLY_CONNECTED"}
    # the dtype decides: int16 has an operator of its own
    assert operators(chosen([wide], capsys)) == {"CONV_S16"}
    both = operators(chosen([READAHEAD, wide], capsys))
    assert both == {"FULLY_CONNECTED", "SOFTMAX", "CONV_S16"}


def test_refuses_what_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "none.mlk"
    path.write_bytes(b"MLKP" + bytes(100))
    assert main(["inspect", "--kconfig", str(READAHEAD), str(path)]) == 3


def test_engine_built_from_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Equal bytes for the models; each other operator is refused; its size."""
    programs = sorted(CORPUS.glob("*.mlk"))
    assert len(programs) > 10
    readahead = tmp_path / "readahead.mlk"
    readahead.write_bytes(compile_model(READAHEAD.read_bytes()))
    text = chosen([readahead], capsys)
    (tmp_path / "defconfig").write_text(text)
    config = tmp_path / "config"
    kconfig = [sys.executable, "-P", "scripts/kconfig.py", "defconfig"]
    subprocess.run([*kconfig, config, tmp_path / "defconfig"], cwd=ROOT, check=True)
    on = set(re.findall(r"^CONFIG_(\w+)=y$", config.read_text(), re.MULTILINE))
    assert on == {"MLK_OP_FULLY_CONNECTED", "MLK_OP_SOFTMAX", "PYMLK_SMALL"}

    folder = tmp_path / "engine"
    make = ["make", "-s", "-C", ENGINE, f"O={folder}", f"CONFIG={config}"]
    subprocess.run([*make, "example"], check=True, capture_output=True)
    sizes = subprocess.run(
        ["size", "-t", folder / "libmlk.a"], check=True, capture_output=True, text=True
    )
    assert int(sizes.stdout.splitlines()[-1].split()[3]) <= 12 * 1024

    model = Model(readahead)
    row = bytes(range(7, 7 + model.input.nbytes))
    (tmp_path / "row").write_bytes(row)
    model.input.cast("B")[:] = row
    model.invoke()
    command = [folder / "run", readahead, tmp_path / "row"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert (
        list(map(int, done.stdout.split())) == model.output.cast("B").cast("b").tolist()
    )

    refused = 0
    for path in programs:
        needs = operators(chosen([path], capsys))
        done = subprocess.run([folder / "run", path], capture_output=True, text=True)
        fits = needs <= {"FULLY_CONNECTED", "SOFTMAX"}
        assert (done.returncode == 0) is fits, (path, needs, done.stderr)
        if not fits:
            assert "not built in" in done.stderr
            refused += 1
    assert refused > 5
