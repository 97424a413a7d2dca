# SPDX-License-Identifier: MIT
"""Every file that can carry one has an SPDX line, with its room's licence."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# cannot carry a comment, or is a licence or a document
BARE = {
    ".tflite",
    ".mlk",
    ".mlkd",
    ".json",
    ".csv",
    ".npz",
    ".bin",
    ".gz",
    ".md",
    ".typed",
    ".so",
}
# forms without comments, of Debian's and Buildroot's
FORMS = {"changelog", "copyright", "external.desc", "format"}
NOT_OURS = {"build", "dist", "pymlk.egg-info", "__pycache__", "LICENSES", "PKG-INFO"}

USER_HEADERS = {Path("kernel/samples/mlk_chardev.h")}


def files() -> list[Path]:
    """What git knows or would add; in an sdist, all there is."""
    if (ROOT / ".git").exists():
        names = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard", "-z"],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split("\0")
        paths = [Path(name) for name in names if name]
    else:
        paths = [path.relative_to(ROOT) for path in ROOT.rglob("*")]
        # setuptools writes setup.cfg anew, without comments
        paths = [
            path
            for path in paths
            if str(path) != "setup.cfg"
            and not any(part.startswith(".") for part in path.parts)
        ]
    return sorted(
        path
        for path in paths
        if (ROOT / path).is_file() and not NOT_OURS.intersection(path.parts)
    )


def expected(path: Path) -> str:
    if path.is_relative_to("kernel/engine") or path.is_relative_to("kernel/arch"):
        return "GPL-2.0-only OR MIT"
    # what user space includes
    if path.is_relative_to("kernel/include/uapi") or path in USER_HEADERS:
        return "GPL-2.0-only WITH Linux-syscall-note"
    return "GPL-2.0-only" if path.is_relative_to("kernel") else "MIT"


def spdx(path: Path) -> str | None:
    with open(ROOT / path, encoding="utf-8") as file:
        head = "".join(file.readline() for _ in range(5))
    found = re.search(
        r"SPDX-License-Identifier: (.*?)\s*(\*/|-->)?$", head, re.MULTILINE
    )
    return found[1] if found else None


def carries(path: Path) -> bool:
    # the second in a form of the kernel's that has no comments
    for room in ("tests/fuzz/corpus", "kernel/abi"):
        if path.is_relative_to(room):
            return False
    if path.is_relative_to("packaging") and path.name in FORMS:
        return False
    return path.suffix not in BARE and os.path.getsize(ROOT / path) > 0


def test_every_file() -> None:
    wrong = [
        f"{path}: found {spdx(path)}, expected {expected(path)}"
        for path in files()
        if carries(path) and spdx(path) != expected(path)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", ["MIT", "GPL-2.0-only"])
def test_texts(name: str) -> None:
    text = (ROOT / "LICENSES" / f"{name}.txt").read_text(encoding="utf-8")
    assert {"MIT": "Permission is hereby granted", "GPL-2.0-only": "Version 2"}[
        name
    ] in text
