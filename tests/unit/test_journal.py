# SPDX-License-Identifier: MIT
"""The journal: knobs come back whatever ended the run, and only our own changes do."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pymlk.errors import JournalError
from pymlk.journal import Journal, default_folder, restore_all


@pytest.fixture
def knob(tmp_path: Path) -> Path:
    path = tmp_path / "knob"
    path.write_text("128\n")
    return path


@pytest.fixture
def state(tmp_path: Path) -> str:
    return str(tmp_path / "state")


def change(journal: Journal, knob: Path, value: int) -> None:
    journal.note(str(knob), int(knob.read_text()), value)
    knob.write_text(f"{value}\n")


def leave(state: str, knob: Path, script: str) -> None:
    """Run a script with a journal in a process that dies by SIGKILL."""
    code = (
        "import os, signal\n"
        "from pathlib import Path\n"
        "from pymlk.journal import Journal\n"
        f"knob = Path({str(knob)!r})\n"
        f"journal = Journal('test', {state!r})\n"
        f"journal.claim([str(knob)])\n"
        f"{script}\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], check=False)
    assert done.returncode == -9


CHANGE = "journal.note(str(knob), 128, 8)\nknob.write_text('8\\n')"


def test_restore_puts_the_original_back(knob: Path, state: str) -> None:
    journal = Journal("test", state)
    journal.claim([str(knob)])
    change(journal, knob, 32)
    change(journal, knob, 8)
    assert journal.restore() == []
    assert knob.read_text() == "128\n"
    assert not os.path.exists(journal.path)
    assert journal.restore() == []


def test_a_knob_that_was_only_claimed_is_left_to_others(knob: Path, state: str) -> None:
    journal = Journal("test", state)
    journal.claim([str(knob)])
    knob.write_text("999\n")
    assert journal.restore() == []
    assert knob.read_text() == "999\n"


def test_a_foreign_change_is_left_alone_and_told(knob: Path, state: str) -> None:
    journal = Journal("test", state)
    change(journal, knob, 8)
    knob.write_text("4096\n")
    (said,) = journal.restore()
    assert "somebody else set it to 4096" in said
    assert "was 128" in said
    assert knob.read_text() == "4096\n"


def test_after_sigkill_the_next_start_restores(knob: Path, state: str) -> None:
    leave(state, knob, CHANGE)
    assert knob.read_text() == "8\n"
    done, failed = restore_all(state)
    assert done == [f"{knob}: 128"]
    assert failed == []
    assert knob.read_text() == "128\n"
    assert restore_all(state) == ([], [])


def test_killed_between_note_and_write(knob: Path, state: str) -> None:
    leave(state, knob, CHANGE + "\njournal.note(str(knob), 8, 32)")
    assert restore_all(state)[1] == []
    assert knob.read_text() == "128\n"


def test_a_living_run_is_left_alone_and_keeps_its_knob(knob: Path, state: str) -> None:
    journal = Journal("test", state)
    journal.claim([str(knob)])
    change(journal, knob, 8)
    done, failed = restore_all(state)
    assert "is running: left alone" in done[0]
    assert failed == []
    assert knob.read_text() == "8\n"
    other = Journal("other", state)
    with pytest.raises(JournalError, match=f"process {os.getpid()} has this knob"):
        other.claim([str(knob)])
    journal.restore()


def test_another_boot_has_forgotten_the_knobs(knob: Path, state: str) -> None:
    leave(state, knob, CHANGE)
    (path,) = Path(state).glob("*.journal")
    head, rest = path.read_bytes().split(b"\n", 1)
    changed = json.loads(head) | {"boot": "of yesterday"}
    path.write_bytes(json.dumps(changed).encode() + b"\n" + rest)
    assert restore_all(state) == ([], [])
    assert knob.read_text() == "8\n"
    assert not path.exists()


def test_a_torn_line_loses_no_other(knob: Path, state: str) -> None:
    leave(state, knob, CHANGE)
    (path,) = Path(state).glob("*.journal")
    path.write_bytes(path.read_bytes() + b'["/some/knob", 1, 2')
    assert restore_all(state)[1] == []
    assert knob.read_text() == "128\n"


def test_a_device_that_is_gone_is_no_failure(knob: Path, state: str) -> None:
    leave(state, knob, CHANGE)
    knob.unlink()
    assert restore_all(state)[1] == []
    assert not knob.exists()


def test_what_cannot_be_restored_stays_noted(tmp_path: Path, state: str) -> None:
    knob = tmp_path / "knob"
    knob.write_text("128\n")
    leave(state, knob, CHANGE)
    # a knob that takes no value: /proc/version answers, but refuses writes
    (path,) = Path(state).glob("*.journal")
    knob.unlink()
    knob.symlink_to("/proc/sys/kernel/cap_last_cap")
    text = path.read_bytes()
    current = int(knob.read_text())
    line = json.dumps([str(knob), 128, 128, current]).ljust(1023).encode() + b"\n"
    path.write_bytes(text[:1024] + line)
    _, failed = restore_all(state)
    assert "not restored to 128" in failed[0]
    assert path.exists()


def test_no_folder_no_journal(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(JournalError, match="cannot keep a journal"):
        Journal("test", str(blocker / "state"))


def test_default_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYMLK_STATE_DIR", "/somewhere")
    assert default_folder() == "/somewhere"
    monkeypatch.delenv("PYMLK_STATE_DIR")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    assert default_folder() == "/run/user/1000/pymlk"
