#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What is in an image of `make firmware`, as SPDX 2.3, by the library spdx-tools.

Usage::

    sbom.py ARCH      writes build/firmware/ARCH/sbom.spdx.json, checked as a whole

Every file with its checksums, and the package it comes from: Debian's with their
versions, pymlk, and its kernel modules.
"""

import gzip
import hashlib
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from spdx_tools.spdx.model import (
    Actor,
    ActorType,
    Checksum,
    ChecksumAlgorithm,
    CreationInfo,
    Document,
    File,
    Package,
    PackageVerificationCode,
    Relationship,
    RelationshipType,
    SpdxNoAssertion,
)
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document
from spdx_tools.spdx.writer.write_anything import write_file

from pymlk import __version__

ROOT = Path(__file__).resolve().parents[1]
ARCHES = {"x86_64": "amd64", "arm64": "arm64", "arm": "armhf"}
KERNELS = {"x86_64": "stock", "arm64": "stock-arm64", "arm": "stock-arm"}
# whose file it is: by the beginning of its name, the first that fits
OWNERS = (
    ("usr/lib/pymlk/", "pymlk"),
    ("usr/bin/pymlk", "pymlk"),
    ("lib/modules/mlk", "mlk"),
    ("etc/pymlk/", "pymlk"),
    ("models/", "pymlk"),
    ("init", "pymlk"),
    ("lib/modules/order", "pymlk"),
    ("lib/modules/", "linux-image"),
    ("bin/busybox", "busybox-static"),
    ("usr/", "python3"),
)
LIBRARIES = {"libz": "zlib1g", "libexpat": "libexpat1", "libgcc_s": "libgcc-s1"}
NOBODY = SpdxNoAssertion()


def fetched(kind: str) -> Path:
    """Folder of what scripts/guest/kernel.sh unpacked."""
    command = [str(ROOT / "scripts/guest/kernel.sh"), kind]
    return Path(subprocess.check_output(command, text=True).strip())


def debian(root: Path, name: str) -> tuple[str, str]:
    """Name and version of the package whose name begins so, from its change log."""
    for folder in sorted((root / "usr/share/doc").glob(f"{name}*")):
        for log in ("changelog.Debian.gz", "changelog.Debian.arm64.gz", "changelog.gz"):
            if (folder / log).exists():
                with gzip.open(folder / log, "rt", errors="replace") as file:
                    version = file.readline().partition("(")[2].partition(")")[0]
                return folder.name, version
    return name, "unknown"


def owner(place: str) -> str:
    """Which package a file of the image comes from."""
    for start, name in OWNERS:
        if place.startswith(start):
            return name
    return LIBRARIES.get(Path(place).name.partition(".")[0], "libc6")


def package(name: str, version: str, ours: bool) -> Package:
    """One package of the image."""
    return Package(
        spdx_id=f"SPDXRef-Package-{name}",
        name=name,
        version=version,
        download_location=NOBODY,
        files_analyzed=True,
        supplier=Actor(ActorType.ORGANIZATION, "pymlk" if ours else "Debian"),
        license_concluded=NOBODY,
        license_declared=NOBODY,
        copyright_text=NOBODY,
    )


def describe(arch: str) -> Document:
    """Build the document of an image that was built."""
    folder = ROOT / "build" / "firmware" / arch
    python, kernel = fetched(f"python-{ARCHES[arch]}"), fetched(KERNELS[arch])
    seconds = subprocess.check_output(
        [sys.executable, "-P", str(ROOT / "scripts/package.py"), "epoch"], text=True
    )
    image = hashlib.sha256((folder / "initrd.gz").read_bytes()).hexdigest()
    info = CreationInfo(
        spdx_version="SPDX-2.3",
        spdx_id="SPDXRef-DOCUMENT",
        name=f"pymlk-firmware-{arch}",
        document_namespace=f"https://spdx.org/spdxdocs/pymlk-firmware-{arch}-{image}",
        creators=[Actor(ActorType.TOOL, "pymlk-scripts-sbom")],
        created=datetime.fromtimestamp(int(seconds), UTC).replace(tzinfo=None),
    )
    packages: dict[str, Package] = {}
    sums: dict[str, list[str]] = {}
    files: list[File] = []
    relations: list[Relationship] = []
    tree = folder / "tree"
    for path in sorted(path for path in tree.rglob("*") if path.is_file()):
        place = str(path.relative_to(tree))
        name = owner(place)
        if name not in packages:
            if name in ("pymlk", "mlk"):
                packages[name] = package(name, __version__, True)
            else:
                root = (kernel if name == "linux-image" else python) / "root"
                found = debian(root, "python3.*-minimal" if name == "python3" else name)
                packages[name] = package(*found, False)
        data = path.read_bytes()
        identity = f"SPDXRef-File-{len(files)}"
        sums.setdefault(name, []).append(hashlib.sha1(data).hexdigest())
        files.append(
            File(
                name=f"./{place}",
                spdx_id=identity,
                checksums=[
                    Checksum(ChecksumAlgorithm.SHA1, sums[name][-1]),
                    Checksum(
                        ChecksumAlgorithm.SHA256, hashlib.sha256(data).hexdigest()
                    ),
                ],
                license_concluded=NOBODY,
                license_info_in_file=[NOBODY],
                copyright_text=NOBODY,
            )
        )
        relations.append(
            Relationship(packages[name].spdx_id, RelationshipType.CONTAINS, identity)
        )
    for name, found in packages.items():
        code = hashlib.sha1("".join(sorted(sums[name])).encode()).hexdigest()
        found.verification_code = PackageVerificationCode(code)
    relations += [
        Relationship("SPDXRef-DOCUMENT", RelationshipType.DESCRIBES, found.spdx_id)
        for found in packages.values()
    ]
    return Document(info, list(packages.values()), files, relationships=relations)


def main() -> None:
    """Do what the command line says."""
    if len(sys.argv) != 2 or sys.argv[1] not in ARCHES:
        sys.exit(__doc__)
    document = describe(sys.argv[1])
    wrong = validate_full_spdx_document(document)
    if wrong:
        sys.exit("\n".join(message.validation_message for message in wrong))
    out = ROOT / "build" / "firmware" / sys.argv[1] / "sbom.spdx.json"
    write_file(document, str(out), validate=False)
    print(f"{os.path.relpath(out)}: {len(document.packages)} packages, "
          f"{len(document.files)} files")  # fmt: skip
    for found in document.packages:
        print(f"  {found.name:<28} {found.version}")


if __name__ == "__main__":
    main()
