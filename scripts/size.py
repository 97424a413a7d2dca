#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What each option of Kconfig costs, built with and without it.

Usage::

    size.py [SYMBOL...]     all of them without SYMBOL

An operator or a vector loop: bytes of the engine's objects. Any other option: bytes
that the wheel takes where it is installed, and, for what a process loads, KiB of
memory and milliseconds of one import over `import pymlk`. What another option needs
goes with it. What was measured is kept in build/size.json until a source changes.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "size"
KEPT = ROOT / "build" / "size.json"
SOURCES = ("Kconfig", "setup.py", "setup.cfg", "kernel", "pymlk", "models")
X86 = ("SSE2", "AVX2", "AVXVNNI", "AVX512VNNI", "AMX")
ARM = ("NEON", "DOTPROD", "I8MM")
LOADS = """
import sys, time, pymlk
def rss():
    with open("/proc/self/status") as file:
        return int(file.read().partition("VmRSS:")[2].split()[0])
before, start = rss(), time.perf_counter()
for name in sys.argv[1:]:
    __import__(name)
print(rss() - before, (time.perf_counter() - start) * 1e3)
"""


def state() -> str:
    """Stand for everything that a size depends on."""
    names = [path for name in SOURCES for path in sorted((ROOT / name).rglob("*"))]
    names += [ROOT / name for name in SOURCES]
    sums = hashlib.sha256(shell("cc", "--version").encode())
    for path in names:
        if path.is_file() and path.suffix not in (".so", ".pyc"):
            sums.update(path.read_bytes())
    return sums.hexdigest()[:16]


def shell(*command: str | Path, **variables: str) -> str:
    """Run a command; what it printed."""
    keep = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
    done = subprocess.run(
        list(map(str, command)), env=keep | variables, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return done.stdout


def config(symbol: str | None) -> Path:
    """The defaults, with a symbol switched to what it is not."""
    from esp_kconfiglib.core import Kconfig

    kconf: Any = Kconfig("Kconfig")
    path = BUILD / f"{symbol}.config"
    if symbol:
        chosen = kconf.syms[symbol]
        chosen.set_value("n" if chosen.str_value == "y" else "y")
    kconf.write_config(str(path))
    return path


def engine(symbol: str | None, loops: bool) -> int:
    """Bytes of code, constants and variables of the engine."""
    folder = BUILD / f"engine-{symbol}-{loops}"
    shell(
        *("make", "-s", "-C", ROOT / "kernel/engine", f"O={folder}", "lib"),
        *(f"CONFIG={config(symbol)}", f"ARCH_LOOPS={int(loops)}"),
    )
    total = shell("size", "-t", folder / "libmlk.a").splitlines()[-1]
    shutil.rmtree(folder)
    return int(total.split()[3])


def wheel(symbol: str | None) -> dict[str, int]:
    """Files that a wheel installs, and their sizes."""
    # so that the checkout's build stays as it is
    shell(sys.executable, "-P", "scripts/package.py", "tree", BUILD / "tree")
    with contextlib.chdir(BUILD / "tree"):
        shutil.rmtree("dist", ignore_errors=True)
        shell(
            *(sys.executable, "-P", "scripts/package.py", "wheel", "dist"),
            PYMLK_CONFIG=str(config(symbol)),
        )
        (path,) = Path("dist").glob("*.whl")
        with zipfile.ZipFile(path) as archive:
            return {info.filename: info.file_size for info in archive.infolist()}


def loading(names: list[str]) -> tuple[float, float]:
    """KiB and milliseconds that importing these modules takes: medians of seven."""
    taken = [shell(sys.executable, "-P", "-c", LOADS, *names).split() for _ in range(7)]
    kib, ms = zip(*taken, strict=True)
    return statistics.median(map(float, kib)), statistics.median(map(float, ms))


def modules(gone: set[str]) -> list[str]:
    """What a process can load of these files."""
    found = {
        re.sub(r"(/__init__)?(\.cpython[^/]*)?\.(py|so)$", "", name).replace("/", ".")
        for name in gone
        if name.endswith((".py", ".so")) and not name.endswith("__main__.py")
    }
    # these bring the other back end, and libraries that never reach the device
    foreign = ("pymlk.tflite", "pymlk.train")
    return sorted(name for name in found if not name.startswith(foreign))


def measure(symbol: str) -> dict[str, float]:
    """Cost of one option."""
    if symbol.startswith(("MLK_OP_", "MLK_ARCH_")):
        loops = symbol.startswith("MLK_ARCH_")
        return {"bytes": once(f"engine {loops}") - engine(symbol, loops)}
    full: dict[str, int] = once("wheel")
    without = wheel(symbol)
    cost: dict[str, float] = {"bytes": sum(full.values()) - sum(without.values())}
    if symbol == "PYMLK_SMALL":
        # off by default: what was built is with it
        return {"bytes": -cost["bytes"]}
    gone = modules(full.keys() - without.keys())
    if gone:
        cost["kib"], cost["ms"] = loading(gone)
    return cost


def once(what: str) -> Any:
    """What all options are compared with."""
    if what not in kept:
        kept[what] = wheel(None) if what == "wheel" else engine(None, "True" in what)
        keep()
    return kept[what]


def keep() -> None:
    """After each, so that nothing is measured twice."""
    KEPT.write_text(json.dumps(kept))


def symbols() -> list[str]:
    """Options of which wheel or engine on this machine is made."""
    x86 = os.uname().machine == "x86_64"
    other = ARM if x86 else X86
    found = re.findall(r"^config (\w+)$", Path("Kconfig").read_text(), re.MULTILINE)
    return [
        name
        for name in found
        if name.removeprefix("MLK_ARCH_") not in other
        and name.startswith(("MLK_OP_", "MLK_ARCH_", "PYMLK_"))
    ]


def main() -> None:
    """Measure and print."""
    names = sys.argv[1:] or symbols()
    for i, name in enumerate(names):
        if name not in kept:
            kept[name] = measure(name)
            keep()
        cost = kept[name]
        text = f"[{i + 1:>2}/{len(names)}] {name:<26} {cost['bytes']:>9,.0f} bytes"
        if "kib" in cost:
            text += f"  {cost['kib']:>7,.0f} KiB  {cost['ms']:>6.1f} ms"
        print(text, flush=True)


os.chdir(ROOT)
BUILD.mkdir(parents=True, exist_ok=True)
now = state()
kept: dict[str, Any] = json.loads(KEPT.read_text()) if KEPT.exists() else {}
if kept.get("of") != now:
    kept = {"of": now}
if __name__ == "__main__":
    main()
