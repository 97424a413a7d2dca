# SPDX-License-Identifier: MIT
"""The shipped policy for a model in the kernel: what bench_loop.py lets a loop do."""

import re
from pathlib import Path

SHIPPED = Path(__file__).resolve().parents[1] / "models" / "readahead"
FIELDS = ("reads", "sectors", "ra_kb", "pgfault", "pgmajfault", "refault")
NAMES = tuple(f"f{i}" for i in range(len(FIELDS)))
# Each sample is decided on, and each decision is an answer.
GUARD = """\
[guard]
min_confidence = 0.0
max_step = 5
min_interval_s = 0.0
settle = 1
deadline_us = 10000000
"""


def proxy_policy(folder: Path, interval_ms: int = 0, more: str = "") -> Path:
    """Write the readahead policy for models guest/*, of features f0... and knob k0."""
    text = (SHIPPED / "policy.toml").read_text()
    for field, name in zip(FIELDS, NAMES, strict=True):
        text = re.sub(rf'^{field} = ".*"$', f'{field} = "{name}"', text, flags=re.M)
    for pattern, value in (
        (r"^devices = .*$", 'proxy = "guest/*"'),
        (r"^skip = .*$", ""),
        (r"^interval_ms = .*$", f"interval_ms = {interval_ms}"),
        (r"^path = .*$", 'path = "k0"'),
        (r"^reach = .*\n", ""),
        (r"^\[objective\]\n.*\n", ""),
        (r"^\[guard\]\n(.+\n)*", f"{GUARD}\n{more}"),
    ):
        text, count = re.subn(pattern, value, text, flags=re.M)
        assert count == 1, pattern
    return _write(folder, text)


def attribute_policy(folder: Path, interval_ms: int) -> Path:
    """Write the readahead policy, with decisions on idle disks, too."""
    text = (SHIPPED / "policy.toml").read_text()
    for pattern, value in (
        (r"^interval_ms = .*$", f"interval_ms = {interval_ms}"),
        (r"^min_activity = .*\n", ""),
    ):
        text, count = re.subn(pattern, value, text, flags=re.M)
        assert count == 1, pattern
    return _write(folder, text)


def _write(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "policy.toml").write_text(text)
    (folder / "model.tflite").write_bytes((SHIPPED / "model.tflite").read_bytes())
    return folder
