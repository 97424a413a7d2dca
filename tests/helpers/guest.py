# SPDX-License-Identifier: MIT
"""Modules of this tree in a guest."""

import contextlib
import gc
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from helpers.mlk_abi import SYS, client

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


@contextlib.contextmanager
def loaded_modules() -> Iterator[None]:
    """Both of this tree, unless somebody around this has loaded them."""
    if Path("/sys/module/mlk").exists():
        yield
        return
    insmod("mlk")
    insmod("mlk_guest")
    yield
    rmmod("mlk_guest")
    rmmod("mlk")
    assert not SYS.exists()


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
