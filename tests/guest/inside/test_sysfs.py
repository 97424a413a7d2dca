# SPDX-License-Identifier: MIT
"""Every file in sysfs: what is documented, what it takes, what it refuses."""

import errno
import os
import re
import select
import stat
import threading
from pathlib import Path

import pytest
from helpers.mlk_abi import DEV, SYS, Proxy, client, refused
from helpers.reference import ROOT

ABI = ROOT / "kernel" / "abi" / "sysfs-kernel-mlk"
OPTIONS = {
    # default, least, greatest
    "collaboration_permil": (500, 0, 1000),
    "holdout_permil": (50, 0, 1000),
    "min_samples": (100, 1, 1 << 20),
    "auto_promote": (0, 0, 1),
    "deadline_ms": (1000, 0, 3_600_000),
    "max_age_ms": (0, 0, 3_600_000),
    "min_confidence_permil": (0, 0, 1000),
    "max_refused": (8, 1, 1 << 20),
}


def documented() -> dict[str, str]:
    """Path below the model: access as the ABI's description begins."""
    found = {}
    for entry in ABI.read_text().split("\nWhat:")[0:]:
        what = entry.removeprefix("What:").split("\n")[0].strip()
        access = re.search(r"Description:\s+\((RO|WO|RW)\b", entry)
        path = what.partition("/<model>/")[2]
        if not path:
            continue
        assert access, what
        places = {
            "<feature>": [f"f{i}" for i in range(4)],
            "<knob>": ["k0", "k1"],
            # the table's first column
            "<counter>": re.findall(r"^\t\t([a-z_]+)\t+\w", entry, re.M),
        }
        names = [path]
        for place, instead in places.items():
            names = [
                name.replace(place, one)
                for name in names
                for one in (instead if place in name else [""])
            ]
        found |= dict.fromkeys(names, access[1])
    return found


def really(proxy: Proxy) -> dict[str, str]:
    """The same from what is there."""
    found = {}
    for folder, _, files in os.walk(proxy.path):
        for name in files:
            path = Path(folder, name)
            mode = stat.S_IMODE(path.stat().st_mode)
            access = {0o4: "RO", 0o2: "WO", 0o6: "RW"}[mode >> 6]
            assert not mode & 0o022, f"{path}: {mode:o}"
            found[str(path.relative_to(proxy.path))] = access
    return found


def test_what_is_documented_is_there_and_nothing_else(proxy: Proxy) -> None:
    assert really(proxy) == documented()


def test_folders_and_device_come_and_go() -> None:
    assert not (SYS / "guest").exists()
    client("register here 1 0")
    assert (SYS / "guest" / "here").is_dir()
    node = (DEV / "here").stat()
    assert stat.S_ISCHR(node.st_mode)
    assert stat.S_IMODE(node.st_mode) == 0o600
    client("unregister")
    assert not (SYS / "guest").exists()
    assert not (DEV / "here").exists()


def test_types_describe_features_and_knobs(proxy: Proxy) -> None:
    assert proxy["features/f0_type"] == "0:gauge:ns:-1000:1000000"
    assert proxy["features/f1_type"] == "1:counter::0:1000000"
    assert proxy["features/f2_type"] == "2:flag::0:1"
    assert proxy["knobs/k0_type"] == "0:KiB:4:4096:4:128"
    assert proxy["knobs/k1_type"] == "1::-100:100:1:0"


def test_a_new_model_does_nothing(proxy: Proxy) -> None:
    assert proxy["state"] == "created"
    assert proxy["mode"] == "emergency"
    assert proxy["reason"] == "new"
    assert proxy["owner"] == "0"
    assert proxy["program_id"] == "0"
    assert proxy["program_diag"] == "no error"
    assert proxy["knobs/k0"] == "128"
    assert proxy["knobs/k1"] == "0"
    counters = [path.name for path in (proxy.path / "stats").iterdir()]
    for name in counters:
        assert set(proxy[f"stats/{name}"].split()) == {"0"}, name
    assert proxy.decide(1, 2, 3, 4)["use"] is False


@pytest.mark.parametrize(("name", "limits"), OPTIONS.items())
def test_options_take_their_range_and_nothing_else(
    proxy: Proxy, name: str, limits: tuple[int, int, int]
) -> None:
    default, least, greatest = limits
    path = f"options/{name}"
    assert proxy.number(path) == default
    for value in (least, greatest):
        proxy[path] = value
        assert proxy.number(path) == value
    for bad in (least - 1, greatest + 1, 1 << 63, "", "x", "1 2", "0x", "-", "1.5"):
        with refused(errno.EINVAL, errno.ERANGE):
            proxy[path] = bad or "\n"
        assert proxy.number(path) == greatest


def test_thresholds_keep_their_order(proxy: Proxy) -> None:
    names = ("promote_permil", "demote_permil", "fail_permil")
    values = [proxy.number(f"options/{name}") for name in names]
    assert values == [20, -20, -100]
    for name, bad in (
        ("promote_permil", -20),
        ("promote_permil", 1001),
        ("demote_permil", 20),
        ("demote_permil", -101),
        ("fail_permil", -19),
        ("fail_permil", -1001),
    ):
        with refused(errno.EINVAL, errno.ERANGE):
            proxy[f"options/{name}"] = bad
    assert [proxy.number(f"options/{name}") for name in names] == values
    proxy["options/promote_permil"] = 30
    proxy["options/demote_permil"] = 29
    proxy["options/fail_permil"] = 29


def test_knob_limits_are_possible_values_in_order(proxy: Proxy) -> None:
    for name, bad in (
        ("k0_low", 0),
        ("k0_low", 130),
        ("k0_high", 8192),
        ("k0_change", -1),
        ("k0_interval_ms", -1),
    ):
        with refused(errno.EINVAL, errno.ERANGE):
            proxy[f"knobs/{name}"] = bad
    proxy["knobs/k0_low"] = 64
    proxy["knobs/k0_high"] = 256
    with refused(errno.EINVAL, errno.ERANGE):
        proxy["knobs/k0_low"] = 260
    with refused(errno.EINVAL, errno.ERANGE):
        proxy["knobs/k0_high"] = 60
    assert proxy["knobs/k0_low"] == "64"
    assert proxy["knobs/k0_high"] == "256"


def test_words_match_as_a_whole(proxy: Proxy) -> None:
    for word in ("i", "ini", "initx", "init start", " init", "INIT", "\n"):
        with refused(errno.EINVAL):
            proxy["control"] = word
        assert proxy["state"] == "created"
    proxy["control"] = "init\n"
    assert proxy["state"] == "initialized"
    for word in ("emergenc", "emergencyx", "0", "learn", "emergency learning"):
        with refused(errno.EINVAL):
            proxy["mode"] = word


def test_read_only_files_cannot_be_written(proxy: Proxy) -> None:
    for path, access in documented().items():
        if access == "RO":
            # root may open anything: then the write itself fails
            with refused(errno.EIO, errno.EACCES, errno.EPERM, errno.EINVAL):
                proxy[path] = "1"
        elif access == "WO":
            with refused(errno.EIO, errno.EACCES):
                assert proxy[path]


@pytest.mark.parametrize(
    ("name", "word", "after"),
    [("state", "control", "init"), ("mode", "mode", "learning")],
)
def test_a_change_wakes_who_polls(
    proxy: Proxy, name: str, word: str, after: str
) -> None:
    if name == "mode":
        proxy.to("running")
    handle = os.open(proxy.path / name, os.O_RDONLY)
    before = os.read(handle, 64)
    poll = select.poll()
    poll.register(handle, select.POLLPRI | select.POLLERR)
    assert poll.poll(20) == []
    timer = threading.Timer(0.05, proxy.__setitem__, (word, after))
    timer.start()
    ready = poll.poll(5000)
    timer.join()
    assert ready
    assert ready[0][1] & select.POLLPRI
    assert os.pread(handle, 64, 0) != before
    os.close(handle)


def test_an_open_file_outlives_its_model() -> None:
    client("register brief 2 1")
    proxy = Proxy("brief")
    handles = [
        os.open(proxy.path / path, os.O_WRONLY if access == "WO" else os.O_RDONLY)
        for path, access in documented().items()
        if (proxy.path / path).exists()
    ]
    assert len(handles) > 40
    client("unregister")
    for handle in handles:
        with refused(errno.ENODEV, errno.EBADF):
            os.read(handle, 64)
        os.close(handle)
