# SPDX-License-Identifier: MIT
"""What was learnt: there is the old state or the new one, and nothing torn is used."""

import binascii
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pymlk import MlkError, StateError
from pymlk.cli import main
from pymlk.learnt import Store, default_folder, identity, names

PROGRAM = b"MLKP" + bytes(100)
CONTENT = {
    "updates": 12,
    "reason": "version 1: learnt",
    "versions": [{"number": 1}, {"number": 0}],
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store("readahead", str(tmp_path / "state"))


def test_what_is_saved_is_loaded(store: Store) -> None:
    assert store.load(PROGRAM) == (None, None)
    store.save(PROGRAM, CONTENT)
    assert store.load(PROGRAM) == (CONTENT, None)
    store.save(PROGRAM, {"updates": 13})
    assert store.load(PROGRAM) == ({"updates": 13}, None)
    folder = Path(store.path).parent
    assert os.listdir(folder) == ["readahead.learnt"]
    assert os.stat(store.path).st_mode & 0o777 == 0o600
    assert os.stat(folder).st_mode & 0o777 == 0o700


def test_another_program_is_refused(store: Store) -> None:
    store.save(PROGRAM, CONTENT)
    content, reason = store.load(PROGRAM[:-1] + b"\1")
    assert content is None
    assert reason == f"{store.path}: refused: learnt with another shipped program"


def test_another_policy_is_refused(store: Store) -> None:
    store.save(PROGRAM, CONTENT)
    other = Store("other", os.path.dirname(store.path))
    os.rename(store.path, other.path)
    content, reason = other.load(PROGRAM)
    assert (content, "it is of policy 'readahead'" in (reason or "")) == (None, True)


def test_another_format_is_refused(store: Store) -> None:
    store.save(PROGRAM, CONTENT)
    file = Path(store.path)
    file.write_bytes(file.read_bytes().replace(b"learnt 1 ", b"learnt 2 ", 1))
    content, reason = store.load(PROGRAM)
    assert (content, "format 2 found, 1 expected" in (reason or "")) == (None, True)


def test_every_torn_file_is_refused(store: Store) -> None:
    store.save(PROGRAM, CONTENT)
    file = Path(store.path)
    whole = file.read_bytes()
    for end in range(len(whole)):
        file.write_bytes(whole[:end])
        content, reason = store.load(PROGRAM)
        assert content is None
        assert reason is not None
        # as some file systems leave it
        file.write_bytes(whole[:end] + bytes(len(whole) - end))
        assert store.load(PROGRAM)[0] is None


def test_every_damaged_byte_is_found(store: Store) -> None:
    store.save(PROGRAM, CONTENT)
    file = Path(store.path)
    whole = file.read_bytes()
    for at in range(len(whole)):
        bad = bytearray(whole)
        bad[at] ^= 0x10
        file.write_bytes(bad)
        assert store.load(PROGRAM)[0] is None


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=300), framed=st.booleans())
def test_garbage_never_crashes(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, framed: bool
) -> None:
    store = Store("x", str(tmp_path_factory.getbasetemp()))
    if framed:
        crc = binascii.crc32(data)
        data = b"pymlk-learnt 1 %08x %d\n" % (crc, len(data)) + data
    Path(store.path).write_bytes(data)
    content, reason = store.load(PROGRAM)
    assert content is None
    assert reason is not None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=9,
)


@settings(max_examples=200, deadline=None)
@given(value=json_values)
def test_any_json_never_crashes(
    tmp_path_factory: pytest.TempPathFactory, value: Any
) -> None:
    folder = str(tmp_path_factory.mktemp("json"))
    store = Store("x", folder)
    for body in (value, {"policy": "x", "program": 1, "content": {"versions": value}}):
        data = json.dumps(body).encode()
        head = b"pymlk-learnt 1 %08x %d\n" % (binascii.crc32(data), len(data))
        Path(store.path).write_bytes(head + data)
        assert store.load(PROGRAM)[0] is None
        assert main(["learn", "--show", "x", "--learnt-dir", folder]) in (0, 1)


def test_deep_json_is_refused(store: Store) -> None:
    data = b"[" * 200_000
    os.makedirs(os.path.dirname(store.path))
    head = b"pymlk-learnt 1 %08x %d\n" % (binascii.crc32(data), len(data))
    Path(store.path).write_bytes(head + data)
    assert store.load(PROGRAM)[0] is None


def test_a_killed_writer_leaves_the_old_state(store: Store) -> None:
    """Killed in every system call of a save, one after the other."""
    store.save(PROGRAM, {"updates": 1})
    for stop in ("open", "fsync", "replace", "unlink"):
        code = (
            "import os, signal, sys\n"
            "from pymlk.learnt import Store\n"
            f"def die(*a, **k): os.kill(os.getpid(), signal.SIGKILL)\n"
            f"os.{stop} = die\n"
            f"Store('readahead', {os.path.dirname(store.path)!r})"
            f".save({PROGRAM!r}, {{'updates': 2}})\n"
        )
        done = subprocess.run([sys.executable, "-P", "-c", code], check=False)
        content, reason = store.load(PROGRAM)
        assert reason is None
        assert content == {"updates": 1 if done.returncode == -9 else 2}
    # what it left is no obstacle
    store.save(PROGRAM, {"updates": 3})
    assert store.load(PROGRAM) == ({"updates": 3}, None)
    assert names(os.path.dirname(store.path)) == ["readahead"]


def test_synced_before_it_is_renamed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def note_fsync(fd: int) -> None:
        done.append("fsync " + os.path.basename(os.readlink(f"/proc/self/fd/{fd}")))
        fsync(fd)

    def note_replace(old: str, new: str) -> None:
        done.append("rename")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    store.save(PROGRAM, CONTENT)
    assert done == ["fsync readahead.learnt.new", "rename", "fsync state"]


def test_a_system_that_refuses_is_told(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save(PROGRAM, CONTENT)

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StateError) as caught:
            store.save(PROGRAM, {"updates": 99})
    assert (caught.value.errno, caught.value.filename) == (28, store.path)
    assert isinstance(caught.value, MlkError)
    assert store.load(PROGRAM) == (CONTENT, None)
    blocked = Store("x", "/proc/nothing/here")
    with pytest.raises(StateError, match="cannot keep what was learnt"):
        blocked.save(PROGRAM, CONTENT)
    os.makedirs(store.path + "d/x.learnt")
    assert "cannot be read" in (Store("x", store.path + "d").read()[1] or "")


def test_reset(store: Store) -> None:
    assert not store.reset()
    store.save(PROGRAM, CONTENT)
    assert store.reset()
    assert store.load(PROGRAM) == (None, None)


@pytest.mark.parametrize("name", ["", "../x", "a/b", "A", "x" * 65, "x\n", ".x"])
def test_names_that_are_no_policies(name: str) -> None:
    with pytest.raises(ValueError, match="name of a policy"):
        Store(name)


def test_identity_tells_programs_apart() -> None:
    assert identity(PROGRAM) == identity(bytes(PROGRAM))
    assert len({identity(PROGRAM + bytes(i)) for i in range(9)}) == 9


def test_default_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYMLK_LEARNT_DIR", "/x")
    assert default_folder() == "/x"
    monkeypatch.delenv("PYMLK_LEARNT_DIR")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_folder() == "/var/lib/pymlk"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_STATE_HOME", "/home/u/.state")
    assert default_folder() == "/home/u/.state/pymlk"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/home/u")
    assert default_folder() == "/home/u/.local/state/pymlk"


# The command


def test_show_and_reset(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--learnt-dir", os.path.dirname(store.path)]
    assert main(["learn", "--show", *where]) == 0
    assert capsys.readouterr().out == "nothing learnt\n"
    store.save(PROGRAM, CONTENT)
    assert main(["learn", "--show", *where]) == 0
    assert capsys.readouterr().out == (
        "readahead: 12 scores, versions kept: 1, 0\n"
        "  version 1: learnt\n"
        f"  {store.path}\n"
    )
    assert main(["learn", "--show", "readahead", "--json", *where]) == 0
    (facts,) = json.loads(capsys.readouterr().out)
    assert (facts["updates"], facts["versions"], facts["refused"]) == (12, [1, 0], None)
    assert main(["learn", "--reset", "readahead", *where]) == 0
    assert capsys.readouterr().out == "readahead: forgotten\n"
    assert main(["learn", "--reset", "readahead", "--json", *where]) == 0
    assert json.loads(capsys.readouterr().out)["forgotten"] is False
    assert main(["learn", "--show", "readahead", *where]) == 0
    assert capsys.readouterr().out == "readahead: nothing learnt\n"


def test_show_a_damaged_file(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    store.save(PROGRAM, CONTENT)
    file = Path(store.path)
    file.write_bytes(file.read_bytes()[:-3])
    assert main(["learn", "--show", "--learnt-dir", str(file.parent)]) == 1
    assert "refused: " in capsys.readouterr().err
    assert main(["learn", "--reset", "../x", "--learnt-dir", str(file.parent)]) == 3
    with pytest.raises(SystemExit):
        main(["learn"])
