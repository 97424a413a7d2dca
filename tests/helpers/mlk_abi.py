# SPDX-License-Identifier: MIT
"""The kernel's ABI as tests in a guest use it: structs of <linux/mlk.h>, one model."""

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import re
import select
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SYS = Path("/sys/kernel/mlk")
DEV = Path("/dev/mlk")
CLIENT = Path("/sys/kernel/debug/mlk_guest")

MODES = ("emergency", "learning", "collaboration", "recommendation")
STATES = ("created", "initialized", "started", "running", "stopped")
ARM_NONE, ARM_DEFAULT, ARM_MODEL, ARM_FALLBACK = range(4)
GOOD, BOUNDED, STEPPED, RATE, NONE, STALE, UNSURE = range(7)
SAMPLE, OUTCOME = 1, 2


class Struct(ctypes.LittleEndianStructure):
    """One that compares and prints."""

    def __repr__(self) -> str:
        fields = (f"{name}={getattr(self, name)!r}" for name, *_ in self._fields_)
        return f"{type(self).__name__}({', '.join(fields)})"


def struct_of(name: str, text: str) -> type[Struct]:
    """Make a struct out of ``u32 name[n]`` and so on."""
    fields = []
    for declaration in text.split(","):
        found = re.fullmatch(r"\s*(\w+) (\w+)(?:\[(\d+)\])?\s*", declaration)
        assert found, declaration
        kind, field, count = found.groups()
        base = ctypes.c_char if kind == "char" else getattr(ctypes, f"c_{kind}")
        fields.append((field, base * int(count) if count else base))
    return type(name, (Struct,), {"_fields_": fields})


Dataset: Any = struct_of(
    "Dataset",
    "uint32 magic, uint16 version, uint16 header_bytes, uint32 data,"
    "uint32 record_bytes, uint32 records, uint16 n_features, uint16 n_knobs,"
    "uint64 reserved, uint64 head, uint64 discarded",
)
Recommendation: Any = struct_of(
    "Recommendation",
    "uint16 version, uint16 bytes, uint32 confidence_permil, uint64 seq,"
    "uint32 n_knobs, uint32 reserved[3], int64 value[8]",
)
Info: Any = struct_of(
    "Info",
    "uint16 version, uint16 bytes, uint32 state, uint32 mode, uint32 why,"
    "uint32 n_features, uint32 n_knobs, uint32 record_bytes, uint32 records,"
    "uint32 dataset_bytes, uint32 deadline_ms, uint64 head, uint64 lost,"
    "uint64 program_id, uint64 program_swaps, uint32 owner, uint32 reserved[5],"
    "char subsystem[32], char model[32]",
)
Wait: Any = struct_of(
    "Wait", "uint64 seq, int64 timeout_ns, uint64 head, uint64 reserved"
)
Load: Any = struct_of("Load", "uint64 address, uint32 bytes, uint32 reserved[3]")


def ioc(direction: int, number: int, size: int) -> int:
    """_IOC() of <asm-generic/ioctl.h>."""
    return direction << 30 | size << 16 | 0xBC << 8 | number


INFO = ioc(2, 0, ctypes.sizeof(Info))
OWNER = ioc(1, 1, 4)
HEARTBEAT = ioc(0, 2, 0)
WAIT = ioc(3, 3, ctypes.sizeof(Wait))
LOAD = ioc(1, 4, ctypes.sizeof(Load))
MODE = ioc(1, 5, 4)


@contextlib.contextmanager
def refused(*errors: int) -> Iterator[None]:
    """What is inside must fail with one of these errors."""
    with pytest.raises(OSError) as found:  # noqa: PT011 - its number is looked at
        yield
    names = [errno.errorcode[error] for error in errors]
    assert errno.errorcode[found.value.errno or 0] in names


def client(line: str) -> list[str]:
    """Let the test's kernel module do something; the words of its answer."""
    with open(CLIENT, "r+b", buffering=0) as file:
        file.write(line.encode())
        return file.read(4096).decode().split()


def numbers(line: str) -> list[int]:
    """The same where the answer is numbers."""
    return [int(word) for word in client(line)]


def scaled(value: int, multiplier: int, shift: int) -> int:
    """Struct mlk_scale's linear map, from its description."""
    value = max(-(1 << 63), min((1 << 63) - 1, value))
    size = abs(value)
    excess = max(size.bit_length() - 32, 0)
    if excess > shift:
        result = (1 << 63) - 1
    else:
        shift -= excess
        result = ((size >> excess) * multiplier + (1 << shift >> 1)) >> shift
    return -result if value < 0 else result


def image(
    code: bytes,
    n_in: int,
    knobs: int,
    choices: list[list[int]] | None = None,
    scales: tuple[tuple[int, int, int], ...] = (),
    out: tuple[tuple[int, int, int], ...] = (),
    **changes: int,
) -> bytes:
    """A struct mlk_image with all that belongs to it; `changes` spoil its header."""
    scales = scales or ((0, 1, 0),) * n_in
    body = b"".join(struct.pack("<qiI", *scale) for scale in scales)
    for choice in choices or ():
        body += struct.pack(f"<{knobs}q", *choice)
    for scale in out:
        body += struct.pack("<qiI", *scale)
    fields = {
        "magic": 0x494B4C4D,
        "version": 1,
        "header_bytes": 48,
        "total_bytes": 0,
        "program": 0,
        "id": 1,
        "n_features": n_in,
        "n_knobs": knobs,
        "head": 1 if choices is not None else 2,
        "n_choices": len(choices or ()),
        "reserved": 0,
        "reserved2": 0,
    }
    at = (fields["header_bytes"] + len(body) + 15) // 16 * 16
    body = body.ljust(at - fields["header_bytes"], b"\0")
    fields.update(program=at, total_bytes=at + len(code))
    fields.update(changes)
    return struct.pack("<IHHIIQ6I", *fields.values()) + body + code


def program_of(model: bytes) -> bytes:
    """A ``.tflite`` as a program."""
    # not every process that talks to a model needs the compiler
    from pymlk.compile import compile_model

    return bytes(compile_model(model))


class Proxy:
    """One registered model of the test's kernel module, seen from user space."""

    def __init__(self, name: str = "guest0") -> None:
        self.name = name
        self.path = SYS / "guest" / name
        self.device = DEV / name

    def __getitem__(self, name: str) -> str:
        return (self.path / name).read_text().strip()

    def __setitem__(self, name: str, value: object) -> None:
        # one write(), without a truncation or buffering
        handle = os.open(self.path / name, os.O_WRONLY)
        try:
            os.write(handle, str(value).encode())
        finally:
            os.close(handle)

    def number(self, name: str) -> int:
        return int(self[name])

    def stat(self, name: str) -> int:
        return self.number(f"stats/{name}")

    def to(self, state: str) -> None:
        """Go to a state that is not behind."""
        way = ("created", "initialized", "started", "running", "stopped")
        words = ("init", "start", "run", "stop")
        if state == "initialized" and self["state"] == "stopped":
            self["control"] = "init"
        for word in words[way.index(self["state"]) : way.index(state)]:
            self["control"] = word
        assert self["state"] == state

    def learn(self, mode: str = "recommendation", holdout: int = 0) -> None:
        """Run in a mode."""
        self.to("running")
        self["options/holdout_permil"] = holdout
        self["mode"] = mode

    def write_program(self, data: bytes) -> None:
        """Write an image as a whole."""
        handle = os.open(self.path / "program", os.O_WRONLY)
        try:
            done = 0
            while done < len(data):
                done += os.pwrite(handle, data[done:], done)
        finally:
            os.close(handle)

    def decide(self, *row: int, seq: int = 0) -> dict[str, object]:
        """One decision by the kernel's client."""
        words = numbers(" ".join(map(str, ("decide", seq, *row))))
        count = (len(words) - 4) // 2
        return {
            "use": bool(words[0]),
            "arm": words[1],
            "verdict": words[2],
            "seq": words[3],
            "value": words[4 : 4 + count],
            "advice": words[4 + count :],
        }

    def wait_for(self, name: str, value: str, seconds: float = 5) -> float:
        """Wait until a file says so; how long it took."""
        start = time.monotonic()
        while self[name] != value:
            assert time.monotonic() < start + seconds, f"{name}: {self[name]}"
            time.sleep(0.002)
        return time.monotonic() - start


class Device:
    """An open /dev/mlk/MODEL."""

    def __init__(self, proxy: Proxy, flags: int = os.O_RDWR) -> None:
        self.handle = os.open(proxy.device, flags)
        self.proxy = proxy

    def __enter__(self) -> "Device":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self.handle >= 0:
            os.close(self.handle)
        self.handle = -1

    def info(self) -> Any:
        info = Info()
        fcntl.ioctl(self.handle, INFO, info)
        return info

    def own(self, yes: int = 1) -> None:
        fcntl.ioctl(self.handle, OWNER, struct.pack("<I", yes))

    def beat(self) -> None:
        fcntl.ioctl(self.handle, HEARTBEAT)

    def wait(self, seq: int, seconds: float, reserved: int = 0) -> int:
        wait = Wait(seq, int(seconds * 1e9), 0, reserved)
        fcntl.ioctl(self.handle, WAIT, wait)
        return int(wait.head)

    def load(self, data: bytes, size: int | None = None, reserved: int = 0) -> None:
        buffer = ctypes.create_string_buffer(data, len(data))
        load = Load(ctypes.addressof(buffer), len(data) if size is None else size)
        load.reserved[1] = reserved
        fcntl.ioctl(self.handle, LOAD, load)

    def mode(self, mode: int) -> None:
        fcntl.ioctl(self.handle, MODE, struct.pack("<I", mode))

    def advise(self, *values: int, confidence: int = 1000, seq: int = 0) -> None:
        os.write(self.handle, recommendation(*values, confidence=confidence, seq=seq))

    def read(self, size: int = 1 << 16) -> list[tuple[int, int, int, list[int]]]:
        """Records as (seq, time, kind, values)."""
        data = os.read(self.handle, size)
        step = self.info().record_bytes
        assert len(data) % step == 0
        return [record(data, at, step) for at in range(0, len(data), step)]

    def readable(self, seconds: float = 0) -> int:
        poll = select.poll()
        poll.register(self.handle, select.POLLIN)
        ready = poll.poll(int(seconds * 1000))
        return ready[0][1] if ready else 0


def recommendation(
    *values: int, confidence: int = 1000, seq: int = 0, **changes: int
) -> bytes:
    """What an owner writes; `changes` spoil it."""
    fields = Recommendation(
        1, ctypes.sizeof(Recommendation), confidence, seq, len(values)
    )
    fields.value[: len(values)] = values
    for name, value in changes.items():
        if name == "reserved":
            fields.reserved[2] = value
        else:
            setattr(fields, name, value)
    return bytes(fields)


def record(data: bytes, at: int, step: int) -> tuple[int, int, int, list[int]]:
    """One record of a buffer."""
    seq, time_ns, kind, n = struct.unpack_from("<QQII", data, at)
    room = (step - 24) // 8
    assert n <= room
    return seq, time_ns, kind, list(struct.unpack_from(f"<{n}q", data, at + 24))


class Ring:
    """A mapped dataset, read as <linux/mlk.h> says."""

    def __init__(self, handle: int, size: int) -> None:
        self.map = mmap.mmap(handle, size, mmap.MAP_SHARED, mmap.PROT_READ)
        self.header = Dataset.from_buffer_copy(self.map)
        self.next = 1
        self.lost = 0

    @property
    def head(self) -> int:
        return int(Dataset.from_buffer_copy(self.map).head)

    def read(self) -> list[tuple[int, int, int, list[int]]]:
        """All complete records that were not read before."""
        header, found = self.header, []
        while (head := self.head) >= self.next:
            oldest = max(1, head - header.records + 1)
            if self.next < oldest:
                self.lost += oldest - self.next
                self.next = oldest
            slot = (self.next - 1) % header.records
            at = header.data + slot * header.record_bytes
            copy = self.map[at : at + header.record_bytes]
            (again,) = struct.unpack_from("<Q", self.map, at)
            first = record(copy, 0, header.record_bytes)
            if first[0] == self.next == again:
                found.append(first)
                self.next += 1
        return found
