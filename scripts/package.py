#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Packaging without extra tools.

Usage::

    package.py requires build|EXTRA   requirements, one a line
    package.py sdist|wheel DIR        build it here, print its path and size
    package.py tree DIR               copy what a build needs, to build it elsewhere
    package.py cross ARCH DIR [FLAG...]
                                      wheel for Debian's Python of amd64, arm64 or
                                      armhf, by its cross compiler; FLAG is gcc's
    package.py epoch                  the time that all files of a package get

The same sources give the same bytes: times are that of the last commit, or
SOURCE_DATE_EPOCH.
"""

import configparser
import contextlib
import gzip
import os
import runpy
import shutil
import subprocess
import sys
import tarfile
import tomllib
from io import BytesIO
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Debian's architecture: what compilers and Python call it
MACHINES = {
    "amd64": ("x86_64-linux-gnu", "linux-x86_64"),
    "arm64": ("aarch64-linux-gnu", "linux-aarch64"),
    "armhf": ("arm-linux-gnueabihf", "linux-armv7l"),
}


def requires(what: str) -> list[str]:
    """Requirements of the build, or of an extra, as the two files say."""
    if what == "build":
        with open("pyproject.toml", "rb") as file:
            found: list[str] = tomllib.load(file)["build-system"]["requires"]
        return found
    parser = configparser.ConfigParser()
    parser.read("setup.cfg")
    return parser["options.extras_require"][what].strip().splitlines()


def epoch() -> str:
    """Seconds since 1970 that stand for these sources."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given:
        return given
    command = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
    with contextlib.suppress(OSError):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0 and (ROOT / ".git").exists():
            return done.stdout.strip()
    # unpacked sources: what was written when they were packed
    return str(int((ROOT / "setup.cfg").stat().st_mtime))


def run(command: list[str | Path], **variables: str) -> str:
    """Run it with these variables; what it printed, or its end as an error."""
    # many lines matter only when it fails
    done = subprocess.run(
        list(map(str, command)),
        env=os.environ | variables,
        text=True,
        capture_output=True,
    )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return done.stdout


def repack(path: Path, time: int) -> None:
    """Give an archive of sources one order, one owner and one time."""
    with tarfile.open(path) as old:
        members = sorted(old.getmembers(), key=lambda member: member.name)
        content = {m.name: file.read() for m in members if (file := old.extractfile(m))}
    temporary = path.with_suffix(".new")
    with (
        open(temporary, "wb") as raw,
        gzip.GzipFile("", "wb", 9, raw, mtime=time) as packed,
        tarfile.open(mode="w", fileobj=packed, format=tarfile.PAX_FORMAT) as new,
    ):
        for member in members:
            plain = tarfile.TarInfo(member.name)
            plain.type, plain.linkname = member.type, member.linkname
            executable = member.isdir() or member.mode & 0o100
            plain.mode = 0o755 if executable else 0o644
            plain.mtime, plain.size = time, member.size
            data = content.get(member.name)
            new.addfile(plain, None if data is None else BytesIO(data))
    temporary.replace(path)


def build(kind: str, folder: str, **variables: str) -> Path:
    """Call the build back end in this environment, so that objects are reused."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    code = f"from setuptools import build_meta as b; print(b.build_{kind}({folder!r}))"
    time = epoch()
    said = run([sys.executable, "-P", "-c", code], SOURCE_DATE_EPOCH=time, **variables)
    path = Path(folder) / said.split()[-1]
    if kind == "sdist":
        repack(path, int(time))
    return path


def tree(folder: Path) -> None:
    """Copy what a build needs; what is there already and as old stays."""
    folder.mkdir(parents=True, exist_ok=True)
    leave = shutil.ignore_patterns("*.so", "__pycache__")
    for name in ("pymlk", "kernel", "models", "scripts", "LICENSES"):
        shutil.copytree(ROOT / name, folder / name, ignore=leave, dirs_exist_ok=True)
    for name in ("Kconfig", "setup.py", "setup.cfg", "pyproject.toml", "README.md"):
        shutil.copy2(ROOT / name, folder / name)


def cross(arch: str, folder: Path, flags: list[str]) -> Path:
    """Build a wheel with a target's headers and configuration, in a tree of its own."""
    triplet, platform = MACHINES[arch]
    kernel = ROOT / "scripts" / "guest" / "kernel.sh"
    root = Path(run([kernel, f"python-{arch}"]).strip(), "root")
    (data,) = root.glob(f"usr/lib/python3*/_sysconfigdata__{triplet}.py")
    version = data.parent.name
    if version != f"python{sys.version_info[0]}.{sys.version_info[1]}":
        sys.exit(f"{version} expected, which Debian has for {arch}: PYTHON={version}")
    copy = ROOT / "build" / "cross" / arch
    tree(copy)
    include = root / "usr" / "include"
    found = copy / "build" / "sysconfig"
    found.mkdir(parents=True, exist_ok=True)
    shutil.copy2(data, found / data.name)
    folder = folder.absolute()
    made = runpy.run_path(str(data))["build_time_vars"]
    config = os.environ.get("PYMLK_CONFIG") or ".config"
    variables = {
        "PYMLK_CONFIG": str(Path(config).absolute()),
        "_PYTHON_HOST_PLATFORM": platform,
        "_PYTHON_SYSCONFIGDATA_NAME": data.stem,
        "PYTHONPATH": str(found),
        # in front of the includes of the Python that runs here
        "CFLAGS": " ".join(
            [made["CFLAGS"], f"-I{include}/{version}", f"-I{include}", *flags]
        ),
    }
    with contextlib.chdir(copy):
        return build("wheel", str(folder), **variables)


def main() -> None:
    """Do what the command line says."""
    match sys.argv[1:]:
        case ["requires", what]:
            print(*requires(what), sep="\n")
        case ["sdist" | "wheel" as kind, folder]:
            path = build(kind, folder)
            print(f"{path} {path.stat().st_size} bytes")
        case ["tree", folder]:
            tree(Path(folder))
        case ["epoch"]:
            print(epoch())
        case ["cross", arch, folder, *flags] if arch in MACHINES:
            path = cross(arch, Path(folder), flags)
            print(f"{path} {path.stat().st_size} bytes")
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
