# SPDX-License-Identifier: MIT
"""The sdist is complete and works when installed; .config shapes the wheel."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest
from helpers.need import need_module
from helpers.reference import DATA

from pymlk.compile import compile_model
from pymlk.plan import write_plan
from pymlk.policy import load
from pymlk.write import Layer, mlp

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("numpy", "tflite_runtime", "ai_edge_litert", "flatbuffers", "msgspec")
pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path, **variables: str) -> str:
    """Run in a clean environment; what it printed."""
    keep = {
        k: v for k, v in os.environ.items() if not k.startswith(("PYMLK", "PYTHON"))
    }
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=keep | {"PYTHONSAFEPATH": "1"} | variables,
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build(kind: str, tree: Path, **variables: str) -> Path:
    """An sdist or a wheel of a tree, by the tree's own script."""
    out = run(
        sys.executable, "-P", "scripts/package.py", kind, "dist", cwd=tree, **variables
    )
    return tree / out.split()[0]


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def print_sizes(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        infos = sorted(archive.infolist(), key=lambda i: -i.file_size)
    total = sum(i.file_size for i in infos)
    print(f"{wheel.name}: {wheel.stat().st_size} bytes, {total} unpacked")
    for info in infos[:12]:
        print(f"  {info.file_size:>8} {info.filename}")


def network(softmax: bool) -> bytes:
    layer = Layer([[1, 2, 3], [-4, 5, 6]], [7, -8], [0.5], 0.75, 3, "RELU")
    return mlp([layer], 0.05, -1, softmax=softmax)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, with the objects of the last build but without .config."""
    copy = tmp_path_factory.mktemp("packages") / "tree"
    leave = shutil.ignore_patterns(
        ".git", ".venv*", ".config*", "build", "dist", "*.egg-info", "__pycache__",
        ".*_cache", ".hypothesis",
    )  # fmt: skip
    shutil.copytree(ROOT, copy, ignore=leave, symlinks=True)
    # what other tests do in build/ meanwhile stays there
    for pattern in ("cython*", "lib.*", "temp.*"):
        for objects in (ROOT / "build").glob(pattern):
            shutil.copytree(objects, copy / "build" / objects.name)
    return copy


@pytest.fixture(scope="module")
def unpacked(tree: Path) -> Path:
    """The sdist of the tree, unpacked."""
    archive = build("sdist", tree)
    with tarfile.open(archive) as tar:
        # Python 3.11.4 brought filters, 3.12 warns without one
        options = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        tar.extractall(tree.parent / "sdist", **options)  # type: ignore[arg-type]
    (folder,) = (tree.parent / "sdist").iterdir()
    return folder


def make_venv(folder: Path, wheel: Path) -> Path:
    """A fresh environment with the wheel; other packages are seen by path."""
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    python = folder / "bin/python"
    run(
        sys.executable, "-m", "pip", "-q", "--python", python,
        "install", "--no-deps", "--no-index", wheel,
        cwd=folder.parent,
    )  # fmt: skip
    site = run(
        python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))",
        cwd=folder.parent,
    ).strip()  # fmt: skip
    Path(site, "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


@pytest.fixture(scope="module")
def installed(unpacked: Path) -> Path:
    """The Python of an environment with the wheel that the sdist gives."""
    wheel = build("wheel", unpacked)
    print_sizes(wheel)
    return make_venv(unpacked.parent.parent / "venv", wheel)


def test_sdist_is_complete(unpacked: Path) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("no git here to say what belongs to the repository")
    listed = run(
        "git", "ls-files", "-co", "--exclude-standard", "-z", cwd=ROOT
    ).split("\0")  # fmt: skip
    wanted = {name for name in listed if name and (ROOT / name).is_file()}
    found = {
        str(path.relative_to(unpacked))
        for path in unpacked.rglob("*")
        if path.is_file()
    }
    assert wanted - found == set()


def test_installed_sdist(installed: Path, tmp_path: Path) -> None:
    """It imports lightly, runs a model, and has its command."""
    model = tmp_path / "model.tflite"
    model.write_bytes(network(softmax=True))
    code = f"""
import json, sys, pymlk
heavy = sorted(set({HEAVY!r}) & set(sys.modules))
model = pymlk.Model({str(model)!r}, backend="engine")
model.invoke()
print(json.dumps([pymlk.__file__, heavy, model.backend, model.output.tolist()]))
"""
    where, heavy, backend, output = json.loads(
        run(installed, "-P", "-c", code, cwd=tmp_path)
    )
    assert Path(where).is_relative_to(installed.parents[1])
    assert heavy == []
    assert backend == "engine"
    assert len(output[0]) == 2
    text = run(installed.parent / "pymlk", "--help", cwd=tmp_path)
    assert "usage: pymlk" in text


def test_tests_pass_from_the_sdist(installed: Path, unpacked: Path) -> None:
    """The sdist's own tests, against what was installed from it."""
    out = run(
        installed, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider",
        "-m", "not slow", "tests/unit",
        # compile the engine's sources, which the build has done already
        "--ignore=tests/unit/test_engine_fences.py",
        "--ignore=tests/unit/test_annotate.py",
        cwd=unpacked,
        PYMLK_DATA=str(DATA),
    )  # fmt: skip
    assert " passed" in out


def test_extensions_are_stripped(installed: Path, tmp_path: Path) -> None:
    code = "import pymlk; print(pymlk.__path__[0])"
    folder = Path(run(installed, "-P", "-c", code, cwd=tmp_path).strip())
    extensions = sorted(folder.glob("*.so"))
    assert extensions
    for path in extensions:
        sections = run("readelf", "-SW", path, cwd=tmp_path)
        print(f"{path.stat().st_size:>8} {path.name}")
        assert ".text" in sections
        assert ".symtab" not in sections
        assert ".debug_" not in sections


def config(tree: Path, name: str) -> str:
    need_module("esp_kconfiglib")
    path = str(tree.parent / f"{name}.config")
    run(
        sys.executable, "-P", "scripts/kconfig.py", "defconfig", path,
        f"configs/{name}_defconfig",
        cwd=tree,
    )  # fmt: skip
    return path


def test_tiny_config(tree: Path, tmp_path: Path) -> None:
    """Switched-off operators and parts are really gone, and come back."""
    wheel = build("wheel", tree, PYMLK_CONFIG=config(tree, "tiny"))
    size = wheel.stat().st_size
    print_sizes(wheel)
    parts = {
        name.removeprefix("pymlk/").split(".")[0]
        for name in names(wheel)
        if name.startswith("pymlk/")
    }
    assert parts == {"__init__", "attrs", "engine", "errors", "operators", "py"}
    assert not any(name.endswith((".pyi", ".pxd")) for name in names(wheel))
    metadata = next(n for n in names(wheel) if n.endswith("/METADATA"))
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(metadata).decode()
        archive.extractall(tmp_path / "tiny")
    assert "Requires-Dist" not in text
    assert "Provides-Extra" not in text
    assert not any(name.endswith("entry_points.txt") for name in names(wheel))

    for kind in (True, False):
        (tmp_path / f"{kind}.mlk").write_bytes(compile_model(network(softmax=kind)))
    (tmp_path / "model.tflite").write_bytes(network(softmax=False))
    code = """
import sys
sys.path.insert(0, "tiny")
import pymlk
assert pymlk.__path__[0].endswith("tiny/pymlk"), pymlk
rows = pymlk.AttrSet(["/proc/loadavg[0]"])
assert rows.read() >= 0
model = pymlk.Model("False.mlk")
model.invoke()
print(model.output.tolist())
try:
    pymlk.Program(open("True.mlk", "rb").read())
except pymlk.UnsupportedOpError as error:
    print(error)
try:
    pymlk.Model("model.tflite")
except pymlk.ModelError as error:
    print(error)
"""
    out = run(sys.executable, "-I", "-S", "-c", code, cwd=tmp_path).splitlines()
    assert out[0] == "[[3, 3]]"
    assert "not built in" in out[1]
    assert "model.tflite: " in out[2]
    assert "compiler" in out[2]

    # the same tree with everything on: objects of the other choice must not stay
    full = build("wheel", tree, PYMLK_CONFIG="none")
    assert "pymlk/compile/__init__.py" in names(full)
    assert full.stat().st_size > size
    with zipfile.ZipFile(full) as archive:
        archive.extractall(tmp_path / "full")
    code = "import pymlk; m = pymlk.Model('True.mlk'); m.invoke(); print(m.ops)"
    out = run(
        sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, 'full'); {code}",
        cwd=tmp_path,
    )  # fmt: skip
    assert out.strip() == "('FULLY_CONNECTED', 'SOFTMAX')"


def test_server_config(tree: Path) -> None:
    """Only the tflite back end and the emulator are left out."""
    wheel = build("wheel", tree, PYMLK_CONFIG=config(tree, "server"))
    assert "pymlk/tflite.py" not in names(wheel)
    assert "pymlk/emulator.py" not in names(wheel)
    assert "pymlk/models/readahead/policy.toml" in names(wheel)
    assert any(name.endswith("entry_points.txt") for name in names(wheel))


def test_board_config(tree: Path, tmp_path: Path) -> None:
    """At most 1 MB where it is installed, and it runs a prepared policy."""
    wheel = build("wheel", tree, PYMLK_CONFIG=config(tree, "board"))
    print_sizes(wheel)
    with zipfile.ZipFile(wheel) as archive:
        assert sum(info.file_size for info in archive.infolist()) <= 1_000_000
        archive.extractall(tmp_path / "board")
    gone = ("compile", "policy", "record", "learn", "emulator", "tflite", "models")
    assert not [name for name in names(wheel) for part in gone
                if name.startswith(f"pymlk/{part}")]  # fmt: skip

    metadata = next(n for n in names(wheel) if n.endswith("/METADATA"))
    assert "Requires-Dist" not in (tmp_path / "board" / metadata).read_text()
    for path, text in {
        "fake/sys/block/vda/stat": "9 " * 17,
        "fake/sys/block/vda/queue/read_ahead_kb": "128",
        "fake/proc/vmstat": "pgfault 1\npgmajfault 2\nworkingset_refault_file 3\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    main = "from pymlk.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [
        sys.executable,
        "-I",
        "-S",
        "-c",
        f"import sys; sys.path.insert(0, 'board'); {main}",
    ]
    prepared = tmp_path / "readahead.plan"
    prepared.write_bytes(write_plan(load("readahead")))
    lines = run(
        *command, "run", prepared, "--json", "--decisions", "3", "--root", "fake",
        cwd=tmp_path,
    ).splitlines()  # fmt: skip
    decisions = [json.loads(line)["decision"] for line in lines[:-1]]
    assert [decision["device"] for decision in decisions] == ["vda"] * 3

    done = subprocess.run(
        [*command, "run", ROOT / "models/readahead/policy.toml"],
        cwd=tmp_path, text=True, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 3
    assert "not in this installation: pymlk.policy" in done.stderr
