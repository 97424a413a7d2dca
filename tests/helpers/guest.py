# SPDX-License-Identifier: MIT
"""Modules of this tree in a guest."""

import contextlib
import gc
import os
import subprocess
from pathlib import Path

from helpers.mlk_abi import client

KERNEL = Path(os.environ.get("GUEST_KERNEL", ""))
MODULES = Path(os.environ.get("GUEST_MODULES", ""))


def insmod(name: str, *parameters: str) -> None:
    """Load a module of this tree."""
    (path,) = MODULES.rglob(f"{name}.ko")
    subprocess.run(["insmod", path, *parameters], check=True)


def rmmod(name: str) -> None:
    """Unload a module; exceptions of earlier tests may keep maps of it alive."""
    gc.collect()
    subprocess.run(["rmmod", name], check=True)


def kernel_module(name: str, *parameters: str) -> None:
    """Load a module that came with the kernel."""
    if (KERNEL / "root").exists():
        command = ["modprobe", "-d", f"{KERNEL}/root", name]
    else:
        (path,) = (KERNEL / "kdir").rglob(f"{name}.ko")
        command = ["insmod", str(path)]
    subprocess.run([*command, *parameters], check=True)


def forget() -> None:
    """Whatever a failed test has left."""
    client("refuse 0")
    with contextlib.suppress(FileNotFoundError):
        client("unregister")
