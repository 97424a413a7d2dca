#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The Kconfig commands, over the library of esp-idf-kconfig.

Usage::

    kconfig.py defconfig CONFIG [FROM]    write CONFIG: the defaults, or those of FROM
    kconfig.py menuconfig CONFIG          change CONFIG in a menu
    kconfig.py savedefconfig CONFIG FILE  write what differs from the defaults
"""

import os
import sys
from pathlib import Path
from typing import Any


def load(config: str | None) -> Any:
    """The symbols of ./Kconfig, with the values of a file if it exists."""
    from esp_kconfiglib.core import Kconfig

    kconf = Kconfig("Kconfig")
    if config and Path(config).exists():
        kconf.load_config(config)
    return kconf


def main() -> None:
    """Do what the command line says."""
    match sys.argv[1:]:
        case ["defconfig", config, *rest]:
            if rest and not Path(rest[0]).exists():
                sys.exit(f"{rest[0]}: no such file")
            load(rest[0] if rest else None).write_config(config)
            print(f"{config} written")
        case ["savedefconfig", config, path]:
            load(config).write_min_config(path)
            print(f"{path} written")
        case ["menuconfig", config]:
            if not sys.stdin.isatty():
                sys.exit("menuconfig needs a terminal; edit .config or use defconfig")
            from esp_menuconfig import menuconfig

            # the menu reads and writes what this names
            os.environ["KCONFIG_CONFIG"] = config
            menuconfig(load(None))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
