#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Packaging without extra tools.

Usage::

    package.py requires build|EXTRA   requirements, one a line
    package.py sdist|wheel DIR        build it here, print its path and size
"""

import configparser
import subprocess
import sys
import tomllib
from pathlib import Path


def requires(what: str) -> list[str]:
    """Requirements of the build, or of an extra, as the two files say."""
    if what == "build":
        with open("pyproject.toml", "rb") as file:
            found: list[str] = tomllib.load(file)["build-system"]["requires"]
        return found
    parser = configparser.ConfigParser()
    parser.read("setup.cfg")
    return parser["options.extras_require"][what].strip().splitlines()


def build(kind: str, folder: str) -> Path:
    """Call the build back end in this environment, so that objects are reused."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    code = f"from setuptools import build_meta as b; print(b.build_{kind}({folder!r}))"
    # the back end's many lines matter only when it fails
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], text=True, capture_output=True
    )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return Path(folder) / done.stdout.split()[-1]


def main() -> None:
    """Do what the command line says."""
    match sys.argv[1:]:
        case ["requires", what]:
            print(*requires(what), sep="\n")
        case ["sdist" | "wheel" as kind, folder]:
            path = build(kind, folder)
            print(f"{path} {path.stat().st_size} bytes")
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
