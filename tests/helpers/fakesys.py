# SPDX-License-Identifier: MIT
"""A fake sysfs tree with block-like devices, and a policy whose model is plain.

The model's only feature is the number of reads since the last snapshot, less 100, in
steps of ten: far below recommends the lowest value, far above the highest.
"""

from pathlib import Path

from pymlk.write import Layer, mlp

VALUES = (8, 32, 128)

POLICY = """\
name = "test"
devices = "/sys/block/*"
skip = ["loop*"]
interval_ms = 10

[model]
file = "model.tflite"

[fields]
reads = "{device}/stat[0]"
ra = "{device}/queue/read_ahead_kb"

[[feature]]
name = "reads_delta"
kind = "delta"
field = "reads"
mean = 100.0
std = 10.0

[knob]
path = "{device}/queue/read_ahead_kb"
values = [8, 32, 128]
default = 32
unit = "KiB"

[objective]
maximise = "reads"

[guard]
min_confidence = 0.4
max_step = 1
min_interval_s = 0.0
settle = 1
deadline_us = 10000000
"""

# The same model, fed by a kernel model that counts reads and has the knob.
PROXY_POLICY = POLICY.replace('devices = "/sys/block/*"\n', 'proxy = "test/*"\n')
for _old, _new in (
    ('"{device}/stat[0]"', '"reads"'),
    ('"{device}/queue/read_ahead_kb"', '"ra"'),
    ('[objective]\nmaximise = "reads"\n\n', ""),
    ('ra = "ra"\n', ""),
):
    assert _old in PROXY_POLICY
    PROXY_POLICY = PROXY_POLICY.replace(_old, _new)


def model() -> bytes:
    """One input of scale 1/8: x < -4 gives 0, around 0 gives 1, x > 4 gives 2."""
    layer = Layer([[-100], [0], [100]], [0, 3200, 0], [0.01], 0.25, 0, "NONE")
    return mlp([layer], 0.125, 0)


class FakeSys:
    """The tree below a temporary folder."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.policy = folder / "policy"
        self.state = folder / "state"
        self.policy.mkdir(parents=True)
        (self.policy / "model.tflite").write_bytes(model())
        self.write_policy(POLICY)
        self.reads: dict[str, int] = {}

    def write_policy(self, text: str) -> None:
        """Replace the policy."""
        (self.policy / "policy.toml").write_text(text)

    def add(self, device: str, ra: int = 32) -> None:
        """Add a device."""
        queue = self.root / "sys" / "block" / device / "queue"
        queue.mkdir(parents=True)
        self.knob(device).write_text(f"{ra}\n")
        self.reads[device] = 1000
        self.load(device, 0)

    def load(self, device: str, reads: int) -> None:
        """Let a device have done so many more reads."""
        self.reads[device] += reads
        stat = self.root / "sys" / "block" / device / "stat"
        stat.write_text(f"{self.reads[device]:8} 0 0 0 0 0 0 0 0 0 0\n")

    def knob(self, device: str) -> Path:
        """The knob's file."""
        return self.root / "sys" / "block" / device / "queue" / "read_ahead_kb"

    def value(self, device: str) -> int:
        """What the knob says."""
        return int(self.knob(device).read_text())
