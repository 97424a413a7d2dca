# SPDX-License-Identifier: MIT
"""AttrSet on this machine's own sysfs and procfs, and on devices that vanish.

What a test changes belongs to a device that it has made itself. Some need root:
there they are skipped with a reason, but in CI (``CI`` set) they have to run.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.malloc_count import count_mallocs
from helpers.need import need, need_module

from pymlk.attrs import AttrSet, Field
from pymlk.errors import AttrError

# ------------------------------------------------- against other readers


@pytest.mark.parametrize("reopen", [False, True])
def test_every_key_of_vmstat(reopen: bool) -> None:
    """All keys, though the text is near a page, where seq_file breaks off."""
    text = Path("/proc/vmstat").read_text()
    keys = [line.split()[0] for line in text.splitlines()]
    assert len(keys) > 100
    with AttrSet([f"/proc/vmstat[{key}]" for key in keys], reopen=reopen) as attrs:
        assert attrs.read() == 0, attrs.errors()
        after = dict(
            line.split() for line in Path("/proc/vmstat").read_text().splitlines()
        )
        before = dict(line.split() for line in text.splitlines())
        same = [key for key in keys if before[key] == after[key]]
        assert len(same) > len(keys) // 2
        for key in same:
            assert attrs[f"/proc/vmstat[{key}]"] == int(before[key]), key
        assert attrs.stats.preads <= 1 + 2 * (len(text) > 3000) + 2 * reopen


def test_every_key_of_vmstat_in_reverse_order() -> None:
    keys = [line.split()[0] for line in Path("/proc/vmstat").read_text().splitlines()]
    with AttrSet([f"/proc/vmstat[{key}]" for key in reversed(keys)]) as attrs:
        assert attrs.read() == 0, attrs.errors()


def test_text_behind_the_first_page_of_a_seq_file() -> None:
    """/proc/self/maps gives whole records, about a page of them a read."""
    regions = [mmap.mmap(-1, 4096, flags=mmap.MAP_SHARED) for _ in range(200)]
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
        assert sum(map(len, lines)) > 3 * 4096
        names = [line.split()[0] for line in lines]
        for name, line in [(names[0], lines[0]), (names[-1], lines[-1])]:
            spec = f"/proc/self/maps[{name}.1]"
            inode = f"/proc/self/maps[{name}.3]"
            with AttrSet([Field(spec, hex=True), inode]) as attrs:
                assert attrs.read() == 0, attrs.errors()
                assert attrs[spec] == int(line.split()[2], 16)
                assert attrs[inode] == int(line.split()[4])
                assert attrs.read() == 0
                if name == names[0]:
                    assert attrs.stats.preads == 1
                else:
                    assert attrs.stats.preads > 2
                assert attrs.stats.grown == 0
    finally:
        for region in regions:
            region.close()


def test_a_seq_file_that_grows_beyond_a_page_later() -> None:
    # the last line, vdso or vsyscall, stays behind all new regions
    last = Path("/proc/self/maps").read_text().splitlines()[-1].split()[0]
    with AttrSet([f"/proc/self/maps[{last}.3]"]) as attrs:
        assert attrs.read() == 0
        first = attrs.stats.preads
        regions = [mmap.mmap(-1, 4096, flags=mmap.MAP_SHARED) for _ in range(300)]
        assert attrs.read() == 0, attrs.errors()
        assert attrs.read() == 0
        assert attrs.stats.preads > first
        for region in regions:
            region.close()


def test_against_psutil() -> None:
    psutil = need_module("psutil")
    cpus = psutil.cpu_times(percpu=True)
    memory = psutil.virtual_memory()
    nics = psutil.net_io_counters(pernic=True)
    tick = os.sysconf("SC_CLK_TCK")
    fields = ["/proc/meminfo[MemTotal]", "/proc/meminfo[SwapTotal]"]
    fields += [f"/proc/stat[cpu{i}.{j}]" for i in range(len(cpus)) for j in range(4)]
    fields += ["/proc/net/dev[lo.0]", "/proc/stat[btime]"]
    fields += [f"/proc/net/dev[{nic}.8]" for nic in nics]
    with AttrSet(fields) as attrs:
        assert attrs.read() == 0, attrs.errors()
        assert attrs["/proc/meminfo[MemTotal]"] * 1024 == memory.total
        assert attrs["/proc/meminfo[SwapTotal]"] * 1024 == psutil.swap_memory().total
        assert attrs["/proc/stat[btime]"] == psutil.boot_time()
        for i, times in enumerate(cpus):
            for j, value in enumerate(times[:4]):
                ours = attrs[f"/proc/stat[cpu{i}.{j}]"] / tick
                assert abs(ours - value) < 5, (i, j)
        later = psutil.net_io_counters(pernic=True)
        for nic, value in nics.items():
            got = attrs[f"/proc/net/dev[{nic}.8]"]
            assert value.bytes_sent <= got <= later[nic].bytes_sent


def test_block_devices_are_globbed() -> None:
    names = sorted(os.listdir("/sys/block"))
    need(names, "no block devices")
    with AttrSet(["/sys/block/*/queue/read_ahead_kb", "/sys/block/*/size"]) as attrs:
        assert attrs.read() == 0, attrs.errors()
        assert len(attrs) == 2 * len(names)
        for name in names:
            for file in ("queue/read_ahead_kb", "size"):
                path = f"/sys/block/{name}/{file}"
                assert attrs[path] == int(Path(path).read_text())


def test_load_average_and_pressure() -> None:
    fields = [f"/proc/loadavg[{i}]" for i in range(3)]
    if os.path.exists("/proc/pressure/cpu"):
        fields += ["/proc/pressure/cpu[some.avg10]"]
    with AttrSet(fields) as attrs:
        assert attrs.read() == 0, attrs.errors()
        assert {field.scale for field in attrs.fields} == {100}
        close = [load * 100 for load in os.getloadavg()]
        assert all(abs(a - b) < 300 for a, b in zip(attrs.row, close, strict=False))


@pytest.mark.parametrize("reopen", [False, True])
def test_a_process_that_ends(reopen: bool) -> None:
    child = subprocess.Popen(["sleep", "60"])
    fields = [f"/proc/{child.pid}/statm[0]", "/proc/uptime[0]"]
    try:
        with AttrSet(fields, reopen=reopen) as attrs:
            assert attrs.read() == 0, attrs.errors()
            child.kill()
            child.wait()
            assert attrs.read() == 1
            (error,) = attrs.errors()
            assert (error.reason, error.errno) == ("vanished", errno.ESRCH)
    finally:
        child.kill()
        child.wait()


def test_files_that_would_block_do_not() -> None:
    start = time.monotonic()
    with AttrSet(["/proc/kmsg", "/dev/null", "/dev/ptmx", "/proc/uptime[0]"]) as attrs:
        assert attrs.read() >= 2
        assert attrs["/proc/uptime[0]"] > 0
    assert time.monotonic() - start < 5


# ------------------------------------------------------------ system calls


@pytest.mark.parametrize("reopen", [False, True])
def test_one_pread_a_file_counted_by_strace(reopen: bool) -> None:
    strace = shutil.which("strace")
    need(strace, "no strace")
    assert strace
    code = (
        "from pymlk.attrs import AttrSet\n"
        "s = AttrSet(['/proc/stat[cpu.0]', '/proc/stat[cpu0.2]', '/proc/stat[ctxt]',"
        " '/proc/loadavg[0]', '/proc/loadavg[1]', '/proc/meminfo[MemFree]',"
        " '/proc/sys/kernel/pid_max', '/proc/vmstat[nr_free_pages]'],"
        f" reopen={reopen})\n"
        "s.read()\n"
        "import os; os.getppid()\n"
        "for _ in range(100): s.read()\n"
        "os.getppid()\n"
        f"assert s.errors() == [] and s.stats.preads == {5 + 10 * reopen}\n"
    )
    done = subprocess.run(
        [strace, "-qq", "-o", "/dev/stdout", sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)),
    )
    need("ptrace" not in done.stderr, f"strace cannot trace here: {done.stderr}")
    assert done.returncode == 0, done.stderr
    calls = done.stdout.split("getppid()")[1].splitlines()[1:]
    names = ["openat", "pread64", "close"] if reopen else ["pread64"]
    assert [call.split("(")[0] for call in calls] == names * 500, calls[:20]


# ------------------------------------------------------------ allocations

SETUP = """
from array import array
from pymlk.attrs import AttrSet
s = AttrSet(["/proc/stat[cpu.0]", "/proc/stat[cpu0.3]", "/sys/block/*/stat[3]",
             "/sys/class/net/*/mtu", "/proc/meminfo[MemFree]", "/proc/loadavg[0]",
             "/proc/vmstat[nr_dirty]", "/proc/no/such", "/proc/version", "/sys"],
            reopen=REOPEN)
read, copy_to, read_to = s.read, s.copy_to, s.read_to
out = array("q", bytes(8 * len(s)))
"""


@pytest.mark.parametrize(
    ("reopen", "work"),
    [
        (False, "read()"),
        (False, "copy_to(out)"),
        (False, "read_to(out)"),
        (True, "read()"),
    ],
)
def test_a_snapshot_allocates_nothing(reopen: bool, work: str) -> None:
    """Counted in malloc itself, Python's own objects included."""
    setup = SETUP.replace("REOPEN", str(reopen))
    assert count_mallocs(setup, work, 10_000, warm=1) <= 1 * (work == "copy_to(out)")


def test_the_counter_counts() -> None:
    assert count_mallocs("x = 1", "pass", 1000) == 0
    assert count_mallocs("x = 1", "[x] * 1000", 1000) >= 1000
    assert count_mallocs("", "bytearray(1 << 20)", 1000, python_objects=False) >= 1000
    assert count_mallocs(SETUP.replace("REOPEN", "False"), "s.errors()", 1000) > 1000


def test_import_brings_no_heavy_modules() -> None:
    code = (
        "import sys; before = set(sys.modules)\n"
        "import pymlk.attrs\n"
        "print(*sorted(set(sys.modules) - before))\n"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)),
    )
    heavy = {
        "re",
        "typing",
        "enum",
        "dataclasses",
        "glob",
        "fnmatch",
        "numpy",
        "collections.abc",
        "pathlib",
        "inspect",
    }
    assert not heavy & set(done.stdout.split())


# ------------------------------------------------------ devices that vanish

LOOP_CTL_ADD, LOOP_CTL_REMOVE = 0x4C80, 0x4C81


class Loop:
    """A loop device of our own: /dev/loopN exists, bound to nothing."""

    def __init__(self) -> None:
        try:
            self.control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            need(False, f"/dev/loop-control: {error}")
        taken = {int(n[4:]) for n in os.listdir("/sys/block") if n.startswith("loop")}
        self.number = next(n for n in range(4000, 5000) if n not in taken)
        self.path = f"/sys/block/loop{self.number}"
        self.there = False

    def add(self) -> None:
        fcntl.ioctl(self.control, LOOP_CTL_ADD, self.number)
        self.there = True

    def remove(self) -> None:
        deadline = time.monotonic() + 10
        while True:
            try:
                fcntl.ioctl(self.control, LOOP_CTL_REMOVE, self.number)
                break
            except OSError as error:
                # udev may look at a new device for a moment
                if error.errno != errno.EBUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        self.there = False


@pytest.fixture
def loop() -> Iterator[Loop]:
    device = Loop()
    device.add()
    yield device
    if device.there:
        device.remove()
    os.close(device.control)


@pytest.mark.parametrize("reopen", [False, True])
def test_a_loop_device_vanishes_and_comes_back(loop: Loop, reopen: bool) -> None:
    fields = [
        f"{loop.path}/stat[0]",
        "/proc/uptime[0]",
        f"{loop.path}/queue/scheduler",
        f"/sys/block/loop{loop.number}*/size",
    ]
    with AttrSet(fields, reopen=reopen) as attrs:
        assert attrs.read() == 0, attrs.errors()
        loop.remove()
        assert attrs.read() == 3
        assert {e.reason for e in attrs.errors()} == {"vanished"}
        gone = errno.ENOENT if reopen else errno.ENODEV
        assert {e.errno for e in attrs.errors()} == {gone}
        loop.add()
        assert attrs.read() == 3, "another device under the old one's name"
        assert {e.errno for e in attrs.errors()} == {gone}
        loop.remove()
        assert attrs.read() == 3
        assert {e.path for e in attrs.errors()} == {
            f"{loop.path}/{name}" for name in ("stat", "queue/scheduler", "size")
        }
        assert attrs["/proc/uptime[0]"] > 0, "the rest of the row is good"
        assert attrs.rescan() is True, "the glob has lost its match"
        assert len(attrs) == 3
        assert attrs.read() == 2
        assert {e.reason for e in attrs.errors()} == {"missing"}
        loop.add()
        assert attrs.rescan() is True
        assert attrs.read() == 0, attrs.errors()
        assert len(attrs) == 4


@pytest.mark.parametrize("reopen", [False, True])
def test_knobs_of_a_real_device(loop: Loop, reopen: bool) -> None:
    path = f"{loop.path}/queue/"
    knobs: tuple[str, ...] = (
        "read_ahead_kb",
        "nr_requests",
        "max_sectors_kb",
        "scheduler",
    )
    knobs += ("rotational", "hw_sector_size")
    with AttrSet([path + knob for knob in knobs], reopen=reopen) as attrs:
        attrs.read()
        attrs.write(path + "read_ahead_kb", 256)
        assert Path(path + "read_ahead_kb").read_text() == "256\n"
        attrs.write(path + "rotational", 1 - attrs[path + "rotational"])
        # the kernel takes it, but in whole pages
        with pytest.raises(AttrError, match="wrote 5, reads 4") as caught:
            attrs.write(path + "read_ahead_kb", 5)
        assert caught.value.errno == errno.EIO
        assert caught.value.filename == path + "read_ahead_kb"
        with pytest.raises(AttrError) as caught:
            attrs.write(path + "max_sectors_kb", 10**9)
        # older kernels refuse, newer ones cut it down
        assert caught.value.errno in (errno.EINVAL, errno.EIO)
        with pytest.raises(AttrError) as caught:
            attrs.write(path + "hw_sector_size", 4096)
        assert caught.value.errno == errno.EACCES
        names = attrs.fields[3].choices
        if names is not None and len(names) > 1:
            for name in names:
                attrs.write(path + "scheduler", name)
                attrs.read()
                assert names[attrs[path + "scheduler"]] == name
        loop.remove()
        with pytest.raises(AttrError) as caught:
            attrs.write(path + "read_ahead_kb", 128)
        assert caught.value.errno == errno.ENODEV


def test_a_refused_sysctl() -> None:
    path = "/proc/sys/vm/swappiness"
    need(os.access(path, os.W_OK), f"no right to write {path}")
    with AttrSet([path]) as attrs:
        attrs.read()
        attrs.write(path, attrs[path])
        with pytest.raises(AttrError) as caught:
            attrs.write(path, 1_000_000)
        assert caught.value.errno == errno.EINVAL
        before = attrs[path]
        attrs.read()
        assert attrs[path] == before


NET = r"""
import errno, subprocess, sys
from pymlk.attrs import AttrSet

def ip(*words):
    return subprocess.run(["ip", *words], capture_output=True).returncode == 0

subprocess.run(["mount", "-t", "sysfs", "sysfs", "/sys"], check=True)

def add() -> None:
    kinds = [["type", "dummy"], ["type", "ifb"], ["type", "bridge"]]
    return any(ip("link", "add", "mlk0", *kind) for kind in kinds)

assert add(), "no kind of virtual network device"
reopen = sys.argv[1] == "True"
gone = errno.ENOENT if reopen else errno.ENODEV
mtu = "/sys/class/net/mlk0/mtu"
row = "/proc/net/dev[mlk0.0]"
fields = [mtu, row, "/proc/net/dev[lo.0]", "/sys/class/net/*/ifindex"]
with AttrSet(fields, reopen=reopen) as attrs:
    assert attrs.read() == 0, attrs.errors()
    attrs.write(mtu, 1400)
    attrs.read()
    assert attrs[mtu] == 1400
    assert "/sys/class/net/mlk0/ifindex" in attrs.names
    assert ip("link", "set", "mlk0", "name", "mlk1")
    assert attrs.read() == 1, "the same device"
    assert attrs.errors()[0].name == row
    assert ip("link", "set", "mlk1", "name", "mlk0")
    assert attrs.read() == 0
    assert ip("link", "del", "mlk0")
    attrs.read()
    found = {e.name: (e.reason, e.errno) for e in attrs.errors()}
    assert found == {
        mtu: ("vanished", gone),
        row: ("no such key", errno.ENODATA),
        "/sys/class/net/mlk0/ifindex": ("vanished", gone),
    }, found
    attrs["/proc/net/dev[lo.0]"]
    view = attrs.row
    try:
        attrs.rescan()
    except BufferError:
        view.release()
    else:
        raise AssertionError("rescan moved a row in use")
    assert attrs.rescan() is True
    assert "/sys/class/net/mlk0/ifindex" not in attrs.names
    assert add()
    assert attrs.rescan() is True
    assert attrs.read() == 0, attrs.errors()
    try:
        attrs.write(mtu, 1)
    except OSError as error:
        print("refused:", error.errno)
    print("good")
"""


@pytest.mark.parametrize("reopen", [False, True])
def test_a_network_device_vanishes_in_its_own_namespace(reopen: bool) -> None:
    tools = all(map(shutil.which, ("unshare", "ip", "mount")))
    need(tools, "unshare, ip or mount is missing")
    unshare = ["unshare", "-n", "-m"] + (["-r"] if os.geteuid() else [])
    allowed = subprocess.run([*unshare, "true"], capture_output=True, check=False)
    need(allowed.returncode == 0, "no right to make a network namespace")
    done = subprocess.run(
        [*unshare, sys.executable, "-c", NET, str(reopen)],
        capture_output=True,
        text=True,
        check=False,
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[-2] == "good"


BARE = """
import os, subprocess
from pymlk.attrs import AttrSet
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/proc"], check=True)
assert not os.listdir("/proc")
with AttrSet(["/sys/devices/system/cpu/kernel_max"], reopen=True) as attrs:
    assert attrs.read() == 0, attrs.errors()
    assert attrs.stats.preads == 3
print("good")
"""


def test_reopening_needs_no_procfs() -> None:
    tools = all(map(shutil.which, ("unshare", "mount")))
    need(tools, "unshare or mount is missing")
    unshare = ["unshare", "-m"] + (["-r"] if os.geteuid() else [])
    allowed = subprocess.run([*unshare, "true"], capture_output=True, check=False)
    need(allowed.returncode == 0, "no right to make a mount namespace")
    done = subprocess.run(
        [*unshare, sys.executable, "-c", BARE],
        capture_output=True,
        text=True,
        check=False,
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)),
    )
    assert (done.stdout, done.stderr) == ("good\n", "")


def test_a_zram_device_vanishes() -> None:
    control = Path("/sys/class/zram-control")
    need(control.exists(), "no zram-control: modprobe zram")
    need(os.access(control / "hot_remove", os.W_OK), "no right to add a zram device")
    number = int((control / "hot_add").read_text())
    path = f"/sys/block/zram{number}"
    removed = False
    try:
        with AttrSet([f"{path}/mm_stat[0]", f"{path}/comp_algorithm"]) as attrs:
            assert attrs.read() == 0, attrs.errors()
            assert attrs.fields[1].choices
            (control / "hot_remove").write_text(str(number))
            removed = True
            assert attrs.read() == 2
            assert {e.errno for e in attrs.errors()} == {errno.ENODEV}
    finally:
        if not removed:
            with contextlib.suppress(OSError):
                (control / "hot_remove").write_text(str(number))
