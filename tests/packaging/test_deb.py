# SPDX-License-Identifier: MIT
"""The Debian source package; `make deb` does the rest, in a tree of its own."""

import shutil
import subprocess
import tarfile

import pytest
from helpers.need import need
from helpers.reference import ROOT

pytestmark = pytest.mark.slow
need(shutil.which("dpkg-source"), "no dpkg-source")


def test_source_package() -> None:
    script = ROOT / "scripts" / "deb.sh"
    done = subprocess.run([script, "source"], text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = ROOT / "build" / "deb" / "source"
    (description,) = folder.glob("*.dsc")
    for package in ("python3-pymlk", "pymlk-tools", "mlk-dkms"):
        assert package in description.read_text()
    with tarfile.open(next(folder.glob("*.debian.tar.*"))) as archive:
        assert {"debian/rules", "debian/copyright"} <= set(archive.getnames())
    # the module is what dkms.conf says
    with tarfile.open(next(folder.glob("*.orig.tar.gz"))) as archive:
        assert any(n.endswith("/kernel/dkms.conf") for n in archive.getnames())
