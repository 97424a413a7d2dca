# SPDX-License-Identifier: MIT
"""What must not hurt: many lives, unloading under use, no memory, hostile writers.

GUEST_CYCLES and GUEST_HAMMER (seconds) say how much of it. The kernel's own checkers
judge: run.sh fails if they complain.
"""

import contextlib
import ctypes
import errno
import faulthandler
import fcntl
import mmap
import os
import random
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.guest import forget, insmod, rmmod
from helpers.mlk_abi import (
    CLIENT,
    HEARTBEAT,
    INFO,
    LOAD,
    MODE,
    OWNER,
    SYS,
    WAIT,
    Device,
    Proxy,
    Ring,
    client,
    image,
    ioc,
    program_of,
    recommendation,
    refused,
)
from helpers.models import network

CYCLES = int(os.environ.get("GUEST_CYCLES", "10000"))
HAMMER = float(os.environ.get("GUEST_HAMMER", "20"))
DEBUG = Path("/sys/kernel/debug")
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.mmap.restype = ctypes.c_void_p
LIBC.mmap.argtypes = (
    *(ctypes.c_void_p, ctypes.c_size_t),
    *(ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long),
)


def test_many_lives() -> None:
    client(f"cycle brief {CYCLES}")
    assert not (SYS / "guest").exists()


def network_image(seed: int) -> bytes:
    code = program_of(network((4, 8, 3), seed=seed))
    return image(code, 4, 2, [[4, 0], [8, 1], [12, 2]], id=seed)


def child(work: Callable[[], None]) -> int:
    """Work in a process of its own, for ever or until it is disturbed."""
    pid = os.fork()
    if pid:
        return pid
    # a SIGBUS, which some provoke, is nothing to report
    faulthandler.disable()
    try:
        while True:
            # whatever the others have done to it
            with contextlib.suppress(Exception):
                work()
    finally:
        os._exit(0)


def end(*pids: int) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_the_client_goes_while_others_map_and_poll(proxy: Proxy) -> None:
    proxy.learn("learning")
    device = Device(proxy)
    size = device.info().dataset_bytes
    by_device = Ring(device.handle, size)
    handle = os.open(proxy.path / "dataset", os.O_RDONLY)

    def use_device() -> None:
        Ring(device.handle, size).read()

    def use_file() -> None:
        # its pages go with the file: SIGBUS, or a map that cannot be made
        with open(proxy.path / "dataset", "rb") as file:
            Ring(file.fileno(), size).read()

    def use_old_map() -> None:
        by_device.read()

    def wait() -> None:
        poll = select.poll()
        poll.register(device.handle)
        poll.poll(10)
        device.wait(1 << 60, 0.01)

    pids = [child(work) for work in (use_device, use_file, use_old_map, wait)]
    client("flood 1000")
    time.sleep(0.2)
    rmmod("mlk_guest")
    # the library stays as long as somebody has its device open
    with pytest.raises(subprocess.CalledProcessError):
        subprocess.run(["rmmod", "mlk"], check=True, stderr=subprocess.DEVNULL)
    with refused(errno.ENODEV):
        device.beat()
    time.sleep(0.2)
    os.close(handle)
    end(*pids)
    device.close()
    by_device.map.close()
    rmmod("mlk")
    insmod("mlk")
    insmod("mlk_guest")
    client("register guest0 4 2 64")


def test_unload_at_random_points() -> None:
    """Openers, writers and readers while the model comes and goes."""
    forget()
    proxy = Proxy("guest0")

    def use() -> None:
        with Device(proxy) as device:
            device.own()
            device.advise(128, 0)
            device.read(1 << 12)

    def poke() -> None:
        proxy["control"] = random.choice(("init", "start", "run", "stop"))
        proxy["mode"] = random.choice(("learning", "recommendation"))

    def look() -> None:
        for path in proxy.path.rglob("*"):
            path.read_bytes()

    pids = [child(work) for work in (use, use, poke, look)]
    for turn in range(30):
        client("register guest0 4 2 64")
        time.sleep(0.002 * (turn % 10))
        client("unregister")
    end(*pids)
    client("register guest0 4 2 64")
    client("unregister")


@pytest.fixture
def fail_nth() -> Iterator[Callable[[int], None]]:
    """Let this thread's n-th allocation fail; 0: none."""
    nth = Path("/proc/thread-self/fail-nth")
    if not nth.exists():
        # only the kernels with checkers can do that, stock ones never
        assert "debug" not in os.environ["GUEST_KIND"]
        pytest.skip("this kernel injects no faults")
    for kind in ("failslab", "fail_page_alloc"):
        (DEBUG / kind / "ignore-gfp-wait").write_text("N")
        (DEBUG / kind / "verbose").write_text("0")
    (DEBUG / "fail_page_alloc" / "min-order").write_text("0")
    handle = os.open(nth, os.O_RDWR)

    def write(count: int) -> int:
        found = int(os.pread(handle, 16, 0))
        os.pwrite(handle, str(count).encode(), 0)
        return found

    yield write
    write(0)
    os.close(handle)


def without_memory(
    fail_nth: Callable[[int], int], work: Callable[[], object]
) -> tuple[int, int]:
    """Fail each allocation of a piece of work in turn; how many, how many refused."""
    bad = 0
    for count in range(1, 2000):
        fail_nth(count)
        try:
            work()
            error = 0
        except OSError as raised:
            error = raised.errno
        left = fail_nth(0)
        if left:
            assert not error
            return count - 1, bad
        assert error in (0, errno.ENOMEM, errno.EAGAIN, errno.EFAULT), error
        bad += bool(error)
    pytest.fail("never done")


def test_each_allocation_fails_once(proxy: Proxy, fail_nth: Callable) -> None:
    """Registration, open, map, load, change of mode: ENOMEM, and nothing is lost."""
    proxy.learn("learning")
    commands = os.open(CLIENT, os.O_RDWR)
    data = [network_image(seed) for seed in (1, 2)]
    seen = {}

    def register() -> None:
        os.write(commands, b"cycle brief 1")

    def opened() -> None:
        os.close(os.open(proxy.device, os.O_RDWR))

    def mapped() -> None:
        # not Python's: it takes no notice of an munmap() that fails
        address = LIBC.mmap(None, size, 1, mmap.MAP_SHARED, device.handle, 0)
        if address == ctypes.c_void_p(-1).value:
            raise OSError(ctypes.get_errno(), "mmap")
        while LIBC.munmap(ctypes.c_void_p(address), size):
            pass

    def load() -> None:
        device.load(data[0])

    def mode() -> None:
        device.mode(1)
        device.mode(0)

    with Device(proxy) as device:
        device.own()
        size = device.info().dataset_bytes
        for work in (register, opened, mapped, load, mode):
            seen[work.__name__] = without_memory(fail_nth, work)
        print("allocations, of these refused:", seen)
        assert seen["register"][1] > 20
        assert seen["load"][1] >= 3
        device.load(data[1])
        assert proxy["program_id"] == "2"
    assert not (SYS / "guest" / "brief").exists()
    client("cycle brief 1")
    os.close(commands)


def hostile_words(rng: random.Random) -> bytes:
    word = rng.choice(
        (
            b"emergency",
            b"learning",
            b"collaboration",
            b"recommendation",
            b"init",
            b"start",
            b"run",
            b"stop",
            b"sample",
            b"discard",
            b"-1",
            b"18446744073709551616",
            b"%s%n%x",
            b"",
            str(rng.randint(-(1 << 64), 1 << 64)).encode(),
            str(rng.randint(0, 1000)).encode(),
            rng.randbytes(rng.choice((1, 8, 300, 5000))),
        )
    )
    return word + rng.choice((b"", b"\n", b"\0", b" ", b"x" * rng.randint(0, 9)))


class Seen:
    """What calls came to, of all processes: a line in a file when it is new."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: set[tuple[str, int]] = set()
        self.handle = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)

    def __call__(self, what: str, call: Callable[..., object], *given: Any) -> Any:
        """Call; an OSError is only noted. What it gave, or None."""
        result, code = None, 0
        try:
            result = call(*given)
        except OSError as error:
            code = error.errno or 0
        if (what, code) not in self.known:
            self.known.add((what, code))
            os.write(self.handle, f"{what} {code}\n".encode())
        return result

    def all(self) -> dict[str, set[int]]:
        """Errors of each, 0 where one went well."""
        found: dict[str, set[int]] = {}
        for line in self.path.read_text().splitlines():
            what, _, code = line.rpartition(" ")
            found.setdefault(what, set()).add(int(code))
        return found


def hammer(seed: int, work: Callable[[random.Random], None]) -> int:
    rng = random.Random(seed)
    return child(lambda: work(rng))


# every one of the ABI; what else a request may be is no name
IOCTLS = {
    INFO: "INFO",
    OWNER: "OWNER",
    HEARTBEAT: "HEARTBEAT",
    WAIT: "WAIT",
    LOAD: "LOAD",
    MODE: "MODE",
}


def accepted_and_refused(files: list[Path]) -> dict[str, tuple[bool, bool]]:
    """What calls there are to each file and to the device: may one go well, or not?"""
    wanted = {f"ioctl {name}": (True, True) for name in IOCTLS.values()}
    wanted["ioctl unknown"] = (False, True)
    wanted |= dict.fromkeys(("device read", "device write", "mmap"), (True, True))
    for path in files:
        mode = path.stat().st_mode
        # reading past the end of a file or of a page is no error
        wanted[f"read {path}"] = (bool(mode & 0o400), not mode & 0o400)
        wanted[f"write {path}"] = (bool(mode & 0o200), True)
    return wanted


def test_hostile_writers(proxy: Proxy, tmp_path: Path) -> None:
    """Everything at once, for a while; then the model still works."""
    images = [network_image(seed) for seed in (1, 2)]
    files = [path for path in proxy.path.rglob("*") if path.is_file()]
    requests = [
        ioc(direction, number, size)
        for direction in range(4)
        for number in range(8)
        for size in (0, 4, 8, 32, 176, 200)
    ]
    requests += [request for request in IOCTLS for _ in range(20)]
    seen = Seen(tmp_path / "seen")

    def attributes(rng: random.Random) -> None:
        path = rng.choice(files)
        read, write = f"read {path}", f"write {path}"
        access = rng.choice((os.O_RDONLY, os.O_WRONLY, os.O_RDWR))
        # a file that is never written is not even opened for that
        handle = seen(write if access else read, os.open, path, access)
        if handle is None:
            return
        said = b""
        try:
            for _ in range(4):
                if access == os.O_WRONLY or (access and rng.random() < 0.5):
                    # often what it says itself, or it would hardly ever be taken
                    word = said if said and rng.random() < 0.5 else hostile_words(rng)
                    seen(write, os.pwrite, handle, word, rng.choice((0, 0, 1, 4096)))
                else:
                    at = rng.choice((0, 0, 1, 4095, 1 << 40))
                    data = seen(read, os.pread, handle, 1 << 16, at)
                    said = said if at else data or b""
        finally:
            os.close(handle)

    def known_ioctls(rng: random.Random, device: Device) -> None:
        for request, name in IOCTLS.items():
            if rng.random() < 0.1:
                seen(f"ioctl {name}", fcntl.ioctl, device.handle, request, 1)
        seen("ioctl INFO", device.info)
        seen("ioctl OWNER", device.own, rng.choice((0, 1, 1, 1, 2)))
        seen("ioctl HEARTBEAT", device.beat)
        seen("ioctl WAIT", device.wait, rng.getrandbits(6), 0.001)
        seen("ioctl LOAD", device.load, rng.choice(images))
        seen("ioctl MODE", device.mode, rng.randrange(5))

    def ioctls(rng: random.Random) -> None:
        with Device(proxy) as device:
            seen("ioctl OWNER", device.own)
            for _ in range(20):
                known_ioctls(rng, device)
                request = rng.choice(requests)
                name = f"ioctl {IOCTLS.get(request, 'unknown')}"
                # a random one of that would wait for ever
                if request == WAIT or rng.random() < 0.1:
                    argument: object = 1
                elif rng.random() < 0.3:
                    argument = rng.getrandbits(47)
                else:
                    argument = bytearray(rng.randbytes(256))
                seen(name, fcntl.ioctl, device.handle, request, argument)

    def writes(rng: random.Random) -> None:
        with Device(proxy) as device:
            seen("ioctl OWNER", device.own)
            for _ in range(20):
                good = bytearray(
                    recommendation(rng.randint(1, 1024) * 4, rng.randint(-100, 100))
                )
                if rng.random() < 0.5:
                    good[rng.randrange(len(good))] = rng.randrange(256)
                data = bytes(good) * rng.randint(1, 3)
                seen("device write", os.write, device.handle, data)
                seen("ioctl WAIT", device.wait, rng.getrandbits(6), 0.001)

    def programs(rng: random.Random) -> None:
        data = bytearray(rng.choice(images))
        for _ in range(rng.randint(0, 3)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        seen(f"write {proxy.path / 'program'}", proxy.write_program, bytes(data))

    def readers(rng: random.Random) -> None:
        with Device(proxy, os.O_RDWR | os.O_NONBLOCK) as device:
            size = device.info().dataset_bytes
            kept = [seen("mmap", Ring, device.handle, size)]
            for _ in range(20):
                kept[0].read()
                seen("device read", os.read, device.handle, rng.randint(1, 1 << 14))
                access = rng.choice((mmap.PROT_READ, mmap.PROT_WRITE, 3, 7))
                length = rng.choice((1, size, size + mmap.PAGESIZE, 1 << 30))
                shared = rng.choice((mmap.MAP_SHARED, mmap.MAP_PRIVATE))
                seen("mmap", mmap.mmap, device.handle, length, shared, access)

    def decisions(rng: random.Random) -> None:
        for word in ("init", "start", "run"):
            with contextlib.suppress(OSError):
                proxy["control"] = word
        with contextlib.suppress(OSError):
            proxy["mode"] = rng.choice(("learning", "collaboration", "recommendation"))
        client("flood 50")
        client(f"rounds 50 {rng.randint(-100, 100)} {rng.randint(-100, 100)}")
        client("decide 1 1 2 3 4")

    works = (attributes, attributes, ioctls, writes, programs, readers, decisions)
    wanted = accepted_and_refused(files)
    pids = [hammer(seed, work) for seed, work in enumerate(works)]
    time.sleep(HAMMER)
    assert all(os.waitpid(pid, os.WNOHANG) == (0, 0) for pid in pids), "one has ended"
    end(*pids)
    os.close(seen.handle)
    stats = {
        path.name: path.read_text().strip() for path in (proxy.path / "stats").iterdir()
    }
    print(stats)
    missed = []
    reached = seen.all()
    for what, (well, badly) in wanted.items():
        codes = reached.get(what, set())
        print(what, sorted(errno.errorcode.get(code, "good") for code in codes))
        if well and 0 not in codes:
            missed.append(f"{what} never went well")
        if badly and not codes - {0}:
            missed.append(f"{what} was never refused")
    assert missed == [], "; ".join(missed)
    client("unregister")
    client("register guest0 4 2 64")
    proxy.learn()
    proxy.write_program(images[0])
    assert proxy.decide(1, 2, 3, 4)["use"] is True


def test_lockdep_is_still_looking() -> None:
    """Its first complaint would have switched it off."""
    stats = Path("/proc/lockdep_stats")
    if stats.exists():
        (line,) = (
            line for line in stats.read_text().split("\n") if "debug_locks" in line
        )
        assert line.split() == ["debug_locks:", "1"]
    else:
        assert "debug" not in os.environ["GUEST_KIND"]
