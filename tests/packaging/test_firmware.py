# SPDX-License-Identifier: MIT
"""Images of `make firmware`: booted for three architectures, and run by parts."""

import json
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from helpers.need import absent, need, need_module
from helpers.reference import ROOT

from pymlk import Model

SCRIPT = ROOT / "scripts" / "firmware.py"
PACKAGE = ROOT / "scripts" / "package.py"
KERNEL = ROOT / "scripts" / "guest" / "kernel.sh"
CORPUS = ROOT / "tests" / "fuzz" / "corpus"
READAHEAD = ROOT / "models" / "readahead" / "model.tflite"
pytestmark = pytest.mark.slow
need_module("esp_kconfiglib")
need(platform.machine() == "x86_64", "images are built on x86-64")
for program in (
    "aarch64-linux-gnu-gcc", "arm-linux-gnueabihf-gcc", "qemu-aarch64",
    "qemu-system-x86_64", "qemu-system-aarch64", "qemu-system-arm",
):  # fmt: skip
    need(shutil.which(program), f"no {program}")
need(sys.version_info[:2] == (3, 11), "Debian 12 has Python 3.11")


def call(script: Path, *words: object, **variables: str) -> str:
    command = [sys.executable, "-P", str(script), *map(str, words)]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | variables, text=True, capture_output=True
    )
    if done.returncode and "apt knows no" in done.stdout + done.stderr:
        absent(done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The board's configuration: the quickest to build that has the loop."""
    path = tmp_path_factory.mktemp("board") / "config"
    call(ROOT / "scripts" / "defconfig.py", ROOT / "configs" / "board_defconfig", path)
    return str(path)


def firmware(*words: object) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(call(SCRIPT, *words, "--json"))
    print(words, facts)
    return facts


def expected(path: Path) -> str:
    """What packaging/firmware/run.py prints."""
    model = Model(path)
    for view in model.inputs:
        view.cast("B")[:] = bytes(i & 127 for i in range(view.nbytes))
    model.invoke()
    return b"".join(bytes(view.cast("B")) for view in model.outputs).hex()


@pytest.mark.parametrize("arch", ["x86_64", "arm64", "arm"])
def test_decides_in_a_booted_image(arch: str) -> None:
    """On the disk's attributes, and on a model of mlk.ko; small in every way."""
    sizes = firmware("build", arch)
    assert sizes["pymlk_bytes"] <= 1_000_000
    assert sizes["mlk_ko_bytes"] > 0
    tree = ROOT / "build" / "firmware" / arch / "tree"
    assert not [p for p in tree.rglob("*") if "numpy" in p.name or "msgspec" in p.name]

    facts = firmware("boot", arch, "CLOCK=instructions")
    # counted, not timed: the same on every machine, within 0.5 %
    assert facts["beyond"] <= 0.1
    assert facts["decisions_readahead"] >= 3
    assert facts["recommended_readahead"]
    assert facts["decisions_chardev"] >= 2
    # 4000 bytes are a large write
    assert facts["recommended_chardev"] == [8192]
    assert facts["kernel_used"] >= 1
    assert facts["rss_kib"] <= 14 * 1024


@pytest.mark.parametrize("word", ["CLOCK=x", "ROUNDS=0", "ROUNDS=x", "ROUND=3", "3"])
def test_options_that_cannot_be_meant(word: str) -> None:
    command = [sys.executable, "-P", str(SCRIPT), "build", "x86_64", word]
    done = subprocess.run(command, text=True, capture_output=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{word} found, expected ")


def test_image_is_reproducible() -> None:
    """Built again, from nothing, it has the same bytes."""
    folder = ROOT / "build" / "firmware" / "x86_64"
    firmware("build", "x86_64")
    first = (folder / "initrd.gz").read_bytes()
    shutil.rmtree(folder)
    shutil.rmtree(ROOT / "build" / "cross" / "amd64" / "build")
    firmware("build", "x86_64")
    assert (folder / "initrd.gz").read_bytes() == first


def test_image_with_the_smallest_configuration(tmp_path: Path) -> None:
    """What `pymlk inspect --kconfig` says is enough for its models."""
    models = [READAHEAD, CORPUS / "conv_net.mlk", CORPUS / "fully_connected_s16.mlk"]
    command = [sys.executable, "-P", "-m", "pymlk", "inspect", "--kconfig", *models]
    config = tmp_path / "defconfig"
    config.write_text(subprocess.check_output(command, text=True))
    named = " ".join(map(str, models))
    sizes = firmware("build", "x86_64", f"CONFIG={config}", f"MODELS={named}")
    assert sizes["mlk_ko_bytes"] == 0
    assert sizes["pymlk_bytes"] < 400_000
    facts = firmware("boot", "x86_64", "CLOCK=instructions")
    assert facts["models"] == {f"{path.stem}.mlk": expected(path) for path in models}


def test_sbom_names_every_file() -> None:
    """The library's own check finds nothing; versions are known."""
    need_module("spdx_tools")
    folder = ROOT / "build" / "firmware" / "arm64"
    if not (folder / "initrd.gz").exists():
        firmware("build", "arm64")
    call(ROOT / "scripts" / "sbom.py", "arm64")
    document = json.loads((folder / "sbom.spdx.json").read_text())
    places = {
        f"./{path.relative_to(folder / 'tree')}"
        for path in (folder / "tree").rglob("*")
        if path.is_file()
    }
    assert {file["fileName"] for file in document["files"]} == places
    versions = {p["name"]: p["versionInfo"] for p in document["packages"]}
    assert {"pymlk", "mlk", "libc6", "busybox-static"} <= set(versions)
    assert "unknown" not in versions.values()


def test_parts_for_armhf() -> None:
    """Its programs run by qemu-user, too, and its modules are for it."""
    sizes = firmware("build", "arm")
    assert sizes["pymlk_bytes"] <= 1_000_000
    facts = firmware("parts", "arm")
    assert facts["busybox"] == "works"
    assert facts["decisions"] >= 2
    assert {"mlk.ko", "mlk_chardev.ko"} <= set(facts["modules"])
    tree = ROOT / "build" / "firmware" / "arm" / "tree"
    said = subprocess.check_output(
        ["file", "-b", tree / "lib/modules/mlk.ko"], text=True
    )
    assert "ARM, EABI5" in said


USE = """
import json, sys
sys.path.append(sys.argv[1])
import pymlk
from pymlk.engine import instruction_sets
model = pymlk.Model(sys.argv[2])
for view in model.inputs:
    view.cast("B")[:] = bytes(i & 127 for i in range(view.nbytes))
model.invoke()
output = b"".join(bytes(view.cast("B")) for view in model.outputs).hex()
attrs = pymlk.AttrSet(["/proc/loadavg[0]"])
print(json.dumps([output, attrs.read(), instruction_sets()]))
"""


@pytest.mark.parametrize(
    ("debian", "machine", "suffix", "loops"),
    [
        ("arm64", "aarch64", "cpython-311-aarch64-linux-gnu", "neon"),
        ("armhf", "armv7l", "cpython-311-arm-linux-gnueabihf", "neon"),
    ],
)
def test_cross_built_wheel(
    debian: str, machine: str, suffix: str, loops: str, board: str, tmp_path: Path
) -> None:
    """Right tags; the target's Python loads it and computes the same bytes."""
    call(PACKAGE, "cross", debian, tmp_path / "dist", PYMLK_CONFIG=board)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    assert wheel.name.endswith(f"-cp311-cp311-linux_{machine}.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    extensions = list((tmp_path / "site" / "pymlk").glob("*.so"))
    assert len(extensions) > 10
    assert all(path.name.endswith(f".{suffix}.so") for path in extensions)
    root = subprocess.check_output([KERNEL, f"python-{debian}"], text=True).strip()
    mlk = CORPUS / "conv_net.mlk"
    emulator = {"arm64": "qemu-aarch64", "armhf": "qemu-arm"}[debian]
    binary = f"{root}/root/usr/bin/python3.11"
    said = subprocess.run(
        [emulator, "-L", f"{root}/root", binary, "-S", "-P", "-c", USE,
         tmp_path / "site", mlk],
        env={"PYTHONHOME": f"{root}/root/usr"}, text=True, capture_output=True,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    output, read, found = json.loads(said.stdout)
    assert output == expected(mlk)
    assert read >= 0
    assert loops in found


def test_archives_are_reproducible(board: str, tmp_path: Path) -> None:
    """The sdist twice; the wheel of two trees in different places."""
    sources = [tmp_path / "a", tmp_path / "elsewhere" / "b"]
    wheels, archives = [], []
    for tree in sources:
        call(PACKAGE, "tree", tree)
        for name in ("MANIFEST.in", "CHANGELOG.md"):
            shutil.copy(ROOT / name, tree)
        for kind, found in (("wheel", wheels), ("sdist", archives)):
            done = subprocess.run(
                [sys.executable, "-P", "scripts/package.py", kind, "dist"],
                cwd=tree, capture_output=True, text=True,
                env={"PATH": "/usr/bin:/bin", "SOURCE_DATE_EPOCH": "1700000000",
                     "PYMLK_CONFIG": board},
            )  # fmt: skip
            assert done.returncode == 0, done.stdout + done.stderr
            found.append((tree / done.stdout.split()[0]).read_bytes())
    assert wheels[0] == wheels[1]
    assert archives[0] == archives[1]
