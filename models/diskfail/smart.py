#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Keep SMART attributes as files, one value each, so that a policy can read them.

Asks smartctl (Debian: smartmontools) for its JSON and writes raw values to
/run/pymlk/smart/DISK/smart_ID. A file of an attribute that a disk no longer reports is
removed: an old value must not pass for a new one. Run it by a timer.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

FOLDER = Path("/run/pymlk/smart")
EPILOG = """\
examples:
  smart.py /dev/sda /dev/sdb       ask these disks
  smart.py --json sda.json         take what smartctl said elsewhere
"""


def attributes(said: Any) -> dict[int, int]:
    """Find the raw values in smartctl's JSON.

    The temperature's raw value has the extremes in its upper bytes; the lowest is now.
    """
    table = said.get("ata_smart_attributes", {}).get("table", [])
    found = {int(row["id"]): int(row["raw"]["value"]) for row in table}
    return {key: v & 0xFF if key in (190, 194) else v for key, v in found.items()}


def publish(folder: Path, values: dict[int, int]) -> None:
    """Write each value whole, and remove what is not reported any more."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, value in values.items():
        new = folder / f".smart_{number}"
        new.write_text(f"{value}\n")
        new.rename(folder / f"smart_{number}")
    for old in folder.glob("smart_*"):
        if int(old.name.removeprefix("smart_")) not in values:
            old.unlink()
    alarm = folder / "alarm"
    if not alarm.exists():
        alarm.write_text("0\n")


def ask(disk: str) -> Any:
    """Ask smartctl; of its exit status the two lowest bits say that it failed."""
    done = subprocess.run(
        ["smartctl", "--json", "-A", disk], capture_output=True, text=True, check=False
    )
    if done.returncode & 3:
        raise ValueError(f"{disk}: smartctl: exit status {done.returncode}")
    return json.loads(done.stdout)


def main() -> int:
    """Read the command line and publish each disk's values."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("disk", nargs="+", help="a device, or with --json a file")
    parser.add_argument("--json", action="store_true", help="read smartctl's JSON")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    args = parser.parse_args()
    failed = 0
    for disk in args.disk:
        try:
            said = json.loads(Path(disk).read_text()) if args.json else ask(disk)
            values = attributes(said)
            if not values:
                raise ValueError(f"{disk}: no SMART attributes found (an NVMe disk?)")
            name = os.path.basename(disk).removesuffix(".json")
            publish(args.folder / name, values)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            print(f"smart.py: {disk}: {error}", file=sys.stderr)
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
