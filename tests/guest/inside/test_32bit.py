# SPDX-License-Identifier: MIT
"""32-bit user space on a 64-bit kernel: the same structs, the same answers."""

import ctypes
import os
import subprocess
from pathlib import Path

from helpers.mlk_abi import Dataset, Info, Proxy, Wait, client, image, program_of
from helpers.models import network


def test_a_32_bit_program_sees_the_same(proxy: Proxy) -> None:
    proxy.to("started")
    client("flood 3 5")
    data = image(program_of(network((4, 8, 3))), 4, 2, [[4, 0], [8, 1], [12, 2]], id=77)
    program = Path(os.environ["GUEST_MODULES"], "user32")
    assert program.read_bytes()[4] == 1, "not a 32-bit program"
    done = subprocess.run(
        [program, proxy.device], input=data, capture_output=True, check=False
    )
    assert done.returncode == 0, f"step {done.returncode}"
    out = done.stdout
    info = Info.from_buffer_copy(out)
    wait = Wait.from_buffer_copy(out, ctypes.sizeof(info))
    dataset = Dataset.from_buffer_copy(out, ctypes.sizeof(info) + ctypes.sizeof(wait))
    assert len(out) == sum(map(ctypes.sizeof, (info, wait, dataset)))
    assert info.bytes == ctypes.sizeof(info)
    assert (info.model, info.head, info.owner) == (b"guest0", 3, 0)
    assert wait.head == 3
    assert (dataset.magic, dataset.head) == (0x444B4C4D, 3)
    assert proxy["program_id"] == "77"
    assert proxy.stat("heartbeats") == 1
