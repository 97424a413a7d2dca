# SPDX-License-Identifier: MIT
"""The modules build without a word for kernels, compilers and checkers of all kinds."""

import shutil
import subprocess
from pathlib import Path

import pytest
from guest.test_guests import SCRIPTS, need_kernel
from helpers.need import absent
from helpers.reference import ROOT

# what is said where nobody linked a kernel, and what scripts say on the way
EXPECTED = (
    "  ",
    "Skipping BTF generation for ",
    "WARNING: Module.symvers is missing.",
    "WARNING: modpost: ",
)


def build(kind: str, *arguments: str) -> None:
    """Build; any word on the way is a failure."""
    need_kernel(kind)
    for old in (ROOT / "build" / "kernel" / kind).rglob("*.o"):
        old.unlink()  # else nothing is said of it again
    done = subprocess.run(
        [SCRIPTS / "module.sh", kind, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = filter(None, done.stderr.split("\n"))
    expected = EXPECTED if kind == "x86-clang" else EXPECTED[:2]
    said = [line for line in lines if not line.startswith(expected)]
    assert done.returncode == 0, done.stderr
    assert said == [], done.stderr
    folder = ROOT / "build" / "kernel" / kind
    for name in ("mlk", "samples/mlk_chardev", "samples/mlk_blk"):
        assert (folder / f"{name}.ko").exists()


@pytest.mark.parametrize("kind", ["stock", "stock-new", "x86-clang", "uml-debug"])
def test_no_warning(kind: str) -> None:
    build(kind, "W=1")


@pytest.mark.parametrize(
    ("kind", "compiler"),
    [
        ("stock-arm64", "aarch64-linux-gnu-gcc"),
        ("stock-arm", "arm-linux-gnueabihf-gcc"),
    ],
)
def test_no_warning_for_arm(kind: str, compiler: str) -> None:
    if shutil.which(compiler) is None:
        absent(f"no {compiler}")
    build(kind, "W=1")


def test_dkms_adds_builds_installs_and_removes(tmp_path: Path) -> None:
    """For Debian's kernel, in trees of its own."""
    kernel = Path(need_kernel("stock"))
    subprocess.run(
        [ROOT / "scripts" / "bootstrap.sh", "need", "dkms", "dkms"], check=True
    )
    if shutil.which("dkms") is None:
        absent("no dkms")
    (release,) = (path.name for path in (kernel / "root/lib/modules").iterdir())
    # "add" copies the folder there: it is Debian's /usr/src
    trees = {
        name: tmp_path / name for name in ("dkmstree", "sourcetree", "installtree")
    }
    for tree in trees.values():
        tree.mkdir()
    places = [f"--{name}={tree}" for name, tree in trees.items()]
    headers = f"--kernelsourcedir={kernel / 'kdir'}"

    def dkms(*command: object) -> str:
        done = subprocess.run(
            ["dkms", *command, *places],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    # a kernel that is installed has a folder there
    (trees["installtree"] / release).mkdir()
    module = trees["installtree"] / release / "updates" / "dkms" / "mlk.ko"
    dkms("add", ROOT / "kernel")
    assert "mlk/1.0: added" in dkms("status")
    dkms("build", "mlk/1.0", "-k", release, headers)
    dkms("install", "mlk/1.0", "-k", release, headers, "--no-depmod")
    assert "installed" in dkms("status")
    found = subprocess.check_output(
        ["/sbin/modinfo", "-F", "vermagic", module], text=True
    )
    assert found.startswith(f"{release} ")
    dkms("remove", "mlk/1.0", "--all", "--no-depmod")
    assert not module.exists()


def test_sparse() -> None:
    if shutil.which("sparse") is None:
        absent("no sparse")
    build("stock", "C=2", "CHECK=sparse")


def test_checkpatch() -> None:
    source = need_kernel("source")
    files = sorted(
        str(path.relative_to(ROOT))
        for path in (ROOT / "kernel").rglob("*")
        if path.suffix in (".c", ".h")
        and not path.is_relative_to(ROOT / "kernel" / "arch")
        and not path.is_relative_to(ROOT / "kernel" / "engine")
    )
    done = subprocess.run(
        [
            "perl",
            f"{source}/scripts/checkpatch.pl",
            *("--strict", "--no-tree", "--terse", "-q", "--no-summary"),
            *("-f", *files),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == ""
    assert done.returncode == 0, done.stderr
