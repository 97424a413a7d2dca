# SPDX-License-Identifier: MIT
"""The Kconfig commands: defaults, the shipped configurations, the menu."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from helpers.need import need_module

ROOT = Path(__file__).resolve().parents[2]
need_module("esp_kconfiglib")
SYMBOLS = set(
    re.findall(r"^config (\w+)$", (ROOT / "Kconfig").read_text(), re.MULTILINE)
)
# what is for the kernel module alone
KERNEL = {"MLK", "MLK_SAMPLES"}
# off by default
OFF = {"PYMLK_SMALL"}


def kconfig(*arguments: str | Path) -> None:
    command = [sys.executable, "-P", ROOT / "scripts/kconfig.py", *arguments]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr


def switched_on(path: Path) -> set[str]:
    return set(re.findall(r"^CONFIG_(\w+)=y$", path.read_text(), re.MULTILINE))


def test_defaults_are_on(tmp_path: Path) -> None:
    kconfig("defconfig", tmp_path / "config")
    assert switched_on(tmp_path / "config") == SYMBOLS - OFF


def test_every_symbol_does_something() -> None:
    setup = (ROOT / "setup.py").read_text()
    # setup.py takes operators and vector loops from Kconfig itself
    known = {name for name in SYMBOLS if name.startswith(("MLK_OP_", "MLK_ARCH_"))}
    known |= set(re.findall(r'^    "(PYMLK_\w+)": \(', setup, re.MULTILINE))
    known |= set(re.findall(r'"(PYMLK_\w+)" in ON', setup))
    assert known | KERNEL == SYMBOLS
    header = (ROOT / "kernel/engine/mlk_op.h").read_text()
    switches = set(re.findall(r"^#ifndef MLK_CONFIG_(\w+)$", header, re.MULTILINE))
    assert {f"MLK_OP_{name}" for name in switches} <= SYMBOLS
    header = (ROOT / "kernel/arch/mlk_arch.h").read_text()
    switches = set(re.findall(r"^#ifndef MLK_CONFIG_(\w+)$", header, re.MULTILINE))
    assert {f"MLK_{name}" for name in switches} == {
        name for name in SYMBOLS if name.startswith("MLK_ARCH_")
    }


@pytest.mark.parametrize("name", ["tiny", "board", "server"])
def test_shipped_configs_are_minimal(name: str, tmp_path: Path) -> None:
    """What savedefconfig gives is what is shipped, comments aside."""
    shipped = ROOT / "configs" / f"{name}_defconfig"
    kconfig("defconfig", tmp_path / "config", shipped)
    kconfig("savedefconfig", tmp_path / "config", tmp_path / "least")
    least = (tmp_path / "least").read_text()
    least = re.sub(r"^# (CONFIG_\w+) is not set$", r"\1=n", least, flags=re.MULTILINE)
    chosen = re.compile(r"^CONFIG_\w+=.*$", re.MULTILINE)
    assert chosen.findall(least) == chosen.findall(shipped.read_text())


@pytest.mark.parametrize("name", ["tiny", "board", "server"])
def test_without_the_library(name: str, tmp_path: Path) -> None:
    """scripts/defconfig.py, which Buildroot and Yocto use, says the same."""
    shipped = ROOT / "configs" / f"{name}_defconfig"
    kconfig("defconfig", tmp_path / "config", shipped)
    command = [sys.executable, "-P", ROOT / "scripts/defconfig.py", shipped]
    subprocess.run([*command, tmp_path / "other"], check=True)
    assert switched_on(tmp_path / "other") == switched_on(tmp_path / "config")


class Screen:
    """A program on a terminal of its own."""

    def __init__(self, *command: str | Path) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-P", *command],
            cwd=ROOT,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env=os.environ | {"TERM": "xterm-256color"},
        )
        os.close(slave)
        self.text = ""

    def wait_for(self, words: str, seconds: float = 30) -> None:
        """Read until the words were drawn since the last key."""
        until = time.monotonic() + seconds
        while words not in self.text:
            assert time.monotonic() < until, f"no {words!r} in {self.text[-3000:]!r}"
            if select.select([self.master], [], [], 0.2)[0]:
                try:
                    self.text += os.read(self.master, 1 << 16).decode(errors="replace")
                except OSError as error:
                    raise AssertionError(f"it ended: {self.text[-3000:]!r}") from error

    def press(self, keys: str) -> None:
        self.text = ""
        os.write(self.master, keys.encode())

    def close(self) -> int:
        """Read what is left; its exit status."""
        until = time.monotonic() + 20
        while self.process.poll() is None and time.monotonic() < until:
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    os.read(self.master, 1 << 16)
                except OSError:
                    break
        try:
            return self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            os.close(self.master)


def test_menu(tmp_path: Path) -> None:
    """It comes up on a terminal, switches a part off and saves."""
    path = tmp_path / "config"
    kconfig("defconfig", path)
    screen = Screen(ROOT / "scripts/kconfig.py", "menuconfig", path)
    screen.wait_for("Engine operators")
    screen.press("\x1b[B")
    time.sleep(0.5)
    screen.press("\x1b[B")
    time.sleep(0.5)
    screen.press("\r")
    screen.wait_for("Compiler")
    screen.press(" ")
    screen.wait_for("[ ]")
    screen.press("q")
    screen.wait_for("Save configuration?")
    screen.press("y")
    assert screen.close() == 0
    assert SYMBOLS - OFF - switched_on(path) == {
        "PYMLK_CLI_MODELS",
        "PYMLK_COMPILER",
        "PYMLK_TFLITE",
        "PYMLK_MODELS",
        "PYMLK_REPLAY",
        "PYMLK_TRAIN",
    }


def test_menu_needs_a_terminal(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "scripts/kconfig.py", "menuconfig", tmp_path / "c"]
    done = subprocess.run(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, text=True, capture_output=True
    )
    assert done.returncode == 1
    assert "needs a terminal" in done.stderr
