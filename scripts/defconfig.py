#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A configuration from a defconfig, without the Kconfig library.

Usage::

    defconfig.py DEFCONFIG CONFIG

For builds that have nothing but Python (Buildroot, Yocto): every symbol has what the
defconfig says, else its default, or n where what it depends on is off.
`scripts/kconfig.py` is the real thing; a test holds this one to its answers for the
shipped defconfigs.
"""

import re
import sys
from pathlib import Path

KCONFIG = Path(__file__).resolve().parents[1] / "Kconfig"


def symbols() -> dict[str, tuple[str, list[str]]]:
    """Default and dependencies of each bool."""
    found = {}
    for block in re.split(r"^config ", KCONFIG.read_text(), flags=re.MULTILINE)[1:]:
        name = block.split()[0]
        default = re.search(r"^\tdefault (\w)$", block, re.MULTILINE)
        depends = re.findall(r"^\tdepends on (.*)$", block, re.MULTILINE)
        needs = [word for line in depends for word in re.findall(r"\w+", line)]
        found[name] = (default[1] if default else "n", needs)
    return found


def configure(text: str) -> dict[str, bool]:
    """What is on."""
    known = symbols()
    said = dict(re.findall(r"^CONFIG_(\w+)=([yn])$", text, re.MULTILINE))
    on = {name: said.get(name, default) == "y" for name, (default, _) in known.items()}
    # what needs something that is off goes, until nothing changes
    while any(on[n] and not all(map(on.get, known[n][1])) for n in on):
        for name, (_, needs) in known.items():
            on[name] = on[name] and all(on[need] for need in needs)
    return on


def main() -> None:
    """Do what the command line says."""
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    chosen = configure(Path(sys.argv[1]).read_text())
    lines = [
        f"CONFIG_{name}=y" if is_on else f"# CONFIG_{name} is not set"
        for name, is_on in chosen.items()
    ]
    Path(sys.argv[2]).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
