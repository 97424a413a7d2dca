# SPDX-License-Identifier: MIT
"""What the kernel module costs, measured in a guest: the figures of docs/kernel.md.

    gcc -O2 -o build/kernel/round_trip tests/guest/round_trip.c
    scripts/guest/module.sh uml-fast
    scripts/guest/run.sh uml-fast build/figures python -P tests/guest/figures.py

Best of several rounds, since a machine has other things to do.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from helpers.mlk_abi import Proxy, client, image, numbers, program_of  # noqa: E402
from helpers.models import network  # noqa: E402

MODULES = Path(os.environ["GUEST_MODULES"])
ROUND_TRIP = ROOT / "build" / "kernel" / "round_trip"


def best(measure: Callable[[], float], rounds: int = 15) -> float:
    return min(measure() for _ in range(rounds))


def turn(words: str, count: int) -> float:
    """Nanoseconds of one call, without those of the loop around it."""
    (verb, *rest) = words.split()
    empty = numbers(f"bench empty {count}")[0]
    return (numbers(f"bench {verb} {count} {' '.join(rest)}")[0] - empty) / count


def ping_pong(count: int) -> float:
    command = [ROUND_TRIP, "eventfd", str(count)]
    return float(subprocess.run(command, check=True, capture_output=True).stdout)


def main() -> None:
    for name in ("mlk", "mlk_guest"):
        (path,) = MODULES.rglob(f"{name}.ko")
        subprocess.run(["insmod", path], check=True)
    say = "{:44}{:10.1f} {}".format

    client("register fig 16 1 4096")
    proxy = Proxy("fig")
    print(say("mlk_decide(), idle", best(lambda: turn("decide", 1000000)), "ns"))
    proxy.to("running")
    print(say("mlk_push(), 16 features", best(lambda: turn("push", 300000)), "ns"))
    proxy["mode"] = "learning"
    value = best(lambda: turn("decide", 300000))
    print(say("mlk_decide(), learning, no answer", value, "ns"))
    proxy["mode"] = "emergency"
    client("unregister")

    for widths in ((5, 15, 5, 4), (31, 256, 2)):
        client(f"register fig {widths[0]} 1 4096")
        Proxy("fig").write_program(image(program_of(network(widths, softmax=False)), 0, 0, head=0))
        words = f"infer {widths[-1]} {widths[0]}"
        value = best(lambda w=words: turn(w, 20000))  # type: ignore[misc]
        print(say(f"mlk_infer() {'-'.join(map(str, widths))}", value, "ns"))
        client("unregister")

    client("register fig 16 1 4096")
    Proxy("fig").to("running")
    with subprocess.Popen(
        [ROUND_TRIP, "answer", "fig"], stdout=subprocess.PIPE
    ) as owner:
        assert owner.stdout and owner.stdout.readline() == b"ready\n"
        trips, pings = [], []
        for _ in range(15):
            trips.append(numbers("pingpong 2000")[0] / 2000)
            pings.append(ping_pong(2000))
        print(say("kernel -> user -> kernel", min(trips), "ns"))
        print(say("ping-pong by two eventfds", min(pings), "ns"))
        ratio = sorted(a / b for a, b in zip(trips, pings, strict=True))
        print(say("ratio (median of 15)", ratio[7], ""))
        client("unregister")
    print(Path("/proc/modules").read_text())


main()
