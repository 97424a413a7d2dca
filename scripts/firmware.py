#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A bootable image with pymlk, and what it does in an emulated machine.

Usage::

    firmware.py build ARCH [NAME=VALUE...]    writes build/firmware/ARCH, prints sizes
    firmware.py boot ARCH                     boots it with and without pymlk, prints
                                              figures; ROUNDS=3: medians;
                                              CLOCK=instructions: see below
    firmware.py parts ARCH                    runs its Python and models by qemu-user

ARCH is x86_64, arm64 or arm. CONFIG=FILE: a defconfig (configs/board_defconfig).
POLICY=FOLDER: the policy (models/readahead). MODELS="A.mlk B.tflite": run once each.
--json prints for machines.

The machine's clock is the host's: a boot takes as long as the emulator does, most of
it for translating code that runs once. With CLOCK=instructions it is a counter of what
the guest executes, a nanosecond each: the same within 0.5 % in every boot, also on a
busy host. Idle time is skipped, waits for the disk too: not for throughput.

The image is an initial ramdisk: busybox, Python and the modules of it that pymlk
loads, pymlk, mlk.ko and the policy. Kernel and all others are Debian's packages.
"""

import gzip
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
FILES = ROOT / "packaging" / "firmware"
SCRIPTS = ROOT / "scripts"
# what QEMU is told for each
CLOCKS: dict[str, tuple[str, ...]] = {
    "host": (),
    "instructions": ("-icount", "shift=0,sleep=off"),
}
LIMIT = int(os.environ.get("LIMIT", "300"))


class Target(NamedTuple):
    """What a machine is called, and how it is emulated."""

    debian: str
    triplet: str
    kernel: str
    strip: str
    loader: str
    user: str
    system: tuple[str, ...]
    console: str


TARGETS = {
    "x86_64": Target(
        "amd64", "x86_64-linux-gnu", "stock", "strip", "lib64/ld-linux-x86-64.so.2",
        "qemu-x86_64", ("qemu-system-x86_64", "-cpu", "max"), "ttyS0",
    ),
    "arm64": Target(
        "arm64", "aarch64-linux-gnu", "stock-arm64", "aarch64-linux-gnu-strip",
        "lib/ld-linux-aarch64.so.1", "qemu-aarch64",
        ("qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a57"), "ttyAMA0",
    ),
    "arm": Target(
        "armhf", "arm-linux-gnueabihf", "stock-arm", "arm-linux-gnueabihf-strip",
        "lib/ld-linux-armhf.so.3", "qemu-arm",
        ("qemu-system-arm", "-M", "virt,highmem=off", "-cpu", "cortex-a15"), "ttyAMA0",
    ),
}  # fmt: skip
# what the loop's files do not name themselves: for messages, text files, one-liners
MORE = ("traceback", "encodings.ascii", "encodings.latin_1", "encodings.utf_8", "time")
# loads all of pymlk that is there, and says which files came with it
CLOSURE = """
import pkgutil, sys
sys.path.append(sys.argv[1])
import pymlk
for found in pkgutil.walk_packages(pymlk.__path__, "pymlk."):
    if not found.name.endswith("__main__"):
        __import__(found.name)
for name in sys.argv[2:]:
    __import__(name)
if "pymlk.cli.parser" in sys.modules:
    sys.modules["pymlk.cli.parser"].make_parser().format_help()
for module in list(sys.modules.values()):
    path = getattr(module, "__file__", None)
    if path:
        print(path)
"""


def run(*command: str | Path, **variables: str) -> str:
    """Run it; what it printed, or its end as an error."""
    keep = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
    done = subprocess.run(
        list(map(str, command)), env=keep | variables, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def fetched(kind: str) -> Path:
    """Folder of what scripts/guest/kernel.sh unpacks."""
    return Path(run(SCRIPTS / "guest" / "kernel.sh", kind).strip())


def package(*words: str | Path, **variables: str) -> str:
    """Call scripts/package.py."""
    return run(sys.executable, "-P", SCRIPTS / "package.py", *words, **variables)


def python(target: Target, root: Path, *arguments: str | Path) -> str:
    """Run a target's Python here."""
    binary = next((root / "usr/bin").glob("python3.[0-9]*[0-9]"))
    command: list[str | Path] = [target.user, "-L", root, binary]
    if target.debian == "amd64" and os.uname().machine == "x86_64":
        libraries = f"{root}/lib/{target.triplet}:{root}/usr/lib/{target.triplet}"
        command = [root / target.loader, "--library-path", libraries, binary]
    return run(*command, "-S", "-P", *arguments, PYTHONHOME=f"{root}/usr")


class Image:
    """A tree that becomes an initial ramdisk."""

    def __init__(self, arch: str, options: dict[str, str]) -> None:
        self.target = TARGETS[arch]
        self.folder = ROOT / "build" / "firmware" / arch
        self.tree = self.folder / "tree"
        self.options = options
        self.python = fetched(f"python-{self.target.debian}") / "root"
        self.kernel = fetched(self.target.kernel)
        self.config = self.folder / "config"
        shutil.rmtree(self.tree, ignore_errors=True)
        self.tree.mkdir(parents=True)

    def build(self) -> None:
        """All of it."""
        chosen = self.options.get("CONFIG", str(ROOT / "configs" / "board_defconfig"))
        kconfig: list[str | Path] = [
            sys.executable,
            "-P",
            SCRIPTS / "kconfig.py",
            "defconfig",
        ]
        run(*kconfig, self.config, Path(chosen).absolute())
        self.system()
        self.pymlk()
        self.libraries()
        self.modules()
        self.policies()
        self.models()

    def copy(self, path: Path, place: str, mode: int = 0o644) -> None:
        """One file, not a link, below the tree."""
        to = self.tree / place
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path.resolve(), to)
        to.chmod(mode)

    def system(self) -> None:
        """The first process, busybox, Python's program and its loader."""
        target, root = self.target, self.python
        for name in ("proc", "sys", "dev", "tmp", "run"):
            (self.tree / name).mkdir()
        self.copy(FILES / "init", "init", 0o755)
        self.copy(root / "bin" / "busybox", "bin/busybox", 0o755)
        loader = (root / target.loader).resolve().name
        self.copy(root / "lib" / target.triplet / loader, target.loader, 0o755)
        binary = next((root / "usr/bin").glob("python3.[0-9]*[0-9]"))
        self.copy(binary, "usr/bin/python3", 0o755)

    def libraries(self) -> None:
        """What Python and the extensions are linked with, and that in turn."""
        wanted = [self.tree / "usr/bin/python3", *self.tree.rglob("*.so")]
        seen = {(self.python / self.target.loader).name}
        while wanted:
            said = run("readelf", "-d", wanted.pop())
            for name in set(re.findall(r"NEEDED.*\[(.*)\]", said)) - seen:
                seen.add(name)
                place = f"lib/{self.target.triplet}/{name}"
                (path,) = [
                    found
                    for found in (self.python / place, self.python / "usr" / place)
                    if found.exists()
                ]
                self.copy(path, place)
                wanted.append(self.tree / place)

    def pymlk(self) -> None:
        """The package without its metadata, and the modules of Python that it loads."""
        wheels = self.folder / "wheels"
        shutil.rmtree(wheels, ignore_errors=True)
        package("cross", self.target.debian, wheels, PYMLK_CONFIG=str(self.config))
        (wheel,) = wheels.glob("*.whl")
        unpacked = self.folder / "wheel"
        shutil.rmtree(unpacked, ignore_errors=True)
        shutil.unpack_archive(wheel, unpacked, "zip")
        said = python(self.target, self.python, "-c", CLOSURE, unpacked, *MORE)
        standard = self.python / "usr"
        sources = {}
        for line in said.splitlines():
            path = Path(line)
            if path.is_relative_to(standard):
                sources[path] = f"usr/{path.relative_to(standard)}"
            else:
                sources[path] = f"usr/lib/pymlk/{path.relative_to(unpacked)}"
        for path, place in sorted(sources.items()):
            self.copy(path, place)
        if (unpacked / "pymlk" / "cli").exists():
            self.command()
        self.compile(self.tree / "usr")

    def command(self) -> None:
        """Compiled as well, for reading its text takes as long as the rest."""
        (self.tree / "usr/lib/pymlk/start.py").write_text(
            'import sys\nsys.path.append("/usr/lib/pymlk")\n'
            "from pymlk.cli import main\nsys.exit(main())\n"
        )
        script = self.tree / "usr/bin/pymlk"
        script.write_text('#!/bin/sh\nexec python3 -IS /usr/lib/pymlk/start.pyc "$@"\n')
        script.chmod(0o755)

    def compile(self, folder: Path) -> None:
        """Only what Python runs: no sources, no docstrings."""
        python(
            self.target, self.python, "-OO", "-m", "compileall", "-q", "-b",
            "--invalidation-mode", "unchecked-hash", "-s", self.tree, folder,
        )  # fmt: skip
        for path in folder.rglob("*.py"):
            path.unlink()

    def modules(self) -> None:
        """Of the kernel: those for the disk; and mlk.ko, if it is chosen."""
        target, kernel = self.target, self.kernel
        release = (kernel / "image").readlink().name.removeprefix("vmlinuz-")
        order = []
        for wanted in ("virtio_pci", "virtio_blk"):
            said = run(
                "/sbin/modprobe", "-d", kernel / "root", "-S", release,
                "--show-depends", wanted,
            )  # fmt: skip
            for path in re.findall(r"^insmod (\S+)", said, re.MULTILINE):
                name = Path(path).name
                if name not in order:
                    order.append(name)
                    self.copy(Path(path), f"lib/modules/{name}")
        config = self.config.read_text()
        if "CONFIG_MLK=y" in config:
            built = self.folder / "module"
            off = re.findall(r"^# CONFIG_MLK_OP_(\w+) is not set$", config, re.M)
            samples = "m" if "CONFIG_MLK_SAMPLES=y" in config else "n"
            run(
                SCRIPTS / "guest" / "module.sh", target.kernel,
                f"MLK_OFF={' '.join(off)}",
                f"CONFIG_MLK_SAMPLES={samples}", "CONFIG_MLK_TESTS=n",
                BUILD=str(built), KDIR=str(kernel / "kdir"),
            )  # fmt: skip
            for name in ("mlk.ko", "samples/mlk_chardev.ko"):
                if (built / name).exists() and (samples == "m" or name == "mlk.ko"):
                    order.append(Path(name).name)
                    self.copy(built / name, f"lib/modules/{order[-1]}")
                    run(target.strip, "-g", self.tree / "lib/modules" / order[-1])
        (self.tree / "lib/modules/order").write_text("".join(f"{n}\n" for n in order))

    def policies(self) -> None:
        """Prepared, for the disk and for the kernel's sample."""
        if not (self.tree / "usr/bin/pymlk").exists():
            return
        folder = self.tree / "etc" / "pymlk"
        folder.mkdir(parents=True)
        policy = Path(self.options.get("POLICY", ROOT / "models" / "readahead"))
        compile_command = [sys.executable, "-P", "-m", "pymlk", "compile"]
        source = policy / "policy.toml"
        run(*compile_command, source, "-o", folder / f"{policy.name}.plan")
        if (self.tree / "lib/modules/mlk_chardev.ko").exists():
            from pymlk.write import Layer, mlp

            sample = self.folder / "chardev"
            sample.mkdir(exist_ok=True)
            shutil.copy(FILES / "chardev.toml", sample / "policy.toml")
            layer = Layer([[-100], [0], [100]], [0, 3200, 0], [0.01], 0.25, 0, "NONE")
            (sample / "chardev.tflite").write_bytes(mlp([layer], 0.125, 0))
            place = folder / "chardev.plan"
            run(*compile_command, sample / "policy.toml", "-o", place)

    def models(self) -> None:
        """Programs to be run once."""
        for name in self.options.get("MODELS", "").split():
            path, place = Path(name), self.tree / "models" / f"{Path(name).stem}.mlk"
            self.copy(FILES / "run.py", "models/run.py")
            if path.suffix == ".tflite":
                run(sys.executable, "-P", "-m", "pymlk", "compile", path, "-o", place)
            else:
                self.copy(path, f"models/{place.name}")

    def pack(self, name: str, without: tuple[str, ...] = ()) -> Path:
        """Write the ramdisk: sorted, one owner, one time, so the same bytes."""
        out = self.folder / name
        seconds = int(package("epoch"))
        entries = [
            path
            for path in sorted(self.tree.rglob("*"))
            if not any(path.is_relative_to(self.tree / gone) for gone in without)
        ]
        content = bytearray()
        for number, path in enumerate(entries, 1):
            data = b"" if path.is_dir() else path.read_bytes()
            place = str(path.relative_to(self.tree))
            mode = 0o040755 if path.is_dir() else 0o100000 | path.stat().st_mode & 0o777
            content += entry(place, number, mode, seconds, data)
        content += entry("TRAILER!!!", 0, 0, 0, b"")
        with open(out, "wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as file:
            file.write(content)
        return out

    def sizes(self) -> dict[str, Any]:
        """Bytes of its parts."""
        image = self.pack("initrd.gz")
        self.pack("initrd-without.gz", ("usr/lib/pymlk", "usr/bin/pymlk", "etc/pymlk",
                                        "models", "lib/modules/mlk.ko",
                                        "lib/modules/mlk_chardev.ko"))  # fmt: skip
        shutil.copy(self.kernel / "image", self.folder / "vmlinuz")

        def size(*places: str) -> int:
            return sum(
                path.stat().st_size
                for place in places
                for path in (self.tree / place, *(self.tree / place).rglob("*"))
                if path.is_file()
            )

        return {
            "image_bytes": image.stat().st_size,
            "unpacked_bytes": size("."),
            "pymlk_bytes": size("usr/lib/pymlk", "usr/bin/pymlk"),
            "policy_bytes": size("etc/pymlk"),
            "mlk_ko_bytes": size("lib/modules/mlk.ko"),
            "python_bytes": size("usr/bin/python3")
            + sum(size(str(p.relative_to(self.tree)))
                  for p in (self.tree / "usr/lib").glob("python3*")),
            "kernel_bytes": (self.folder / "vmlinuz").stat().st_size,
        }  # fmt: skip


def entry(name: str, number: int, mode: int, seconds: int, data: bytes) -> bytes:
    """One file of a cpio archive of the form "newc"."""
    links = 2 if mode & 0o040000 else 1
    text = name.encode() + b"\0"
    fields = (number, mode, 0, 0, links, seconds, len(data), 0, 0, 0, 0, len(text), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + text
    head += bytes(-len(head) % 4)
    return head + data + bytes(-len(data) % 4)


def boot(arch: str, image: str, clock: tuple[str, ...]) -> dict[str, Any]:
    """Boot it in an emulated machine; what it said."""
    target = TARGETS[arch]
    folder = ROOT / "build" / "firmware" / arch
    disk = folder / "disk"
    with open(disk, "wb") as file:
        file.truncate(64 << 20)
    command = [
        *target.system, *clock, "-accel", "tcg", "-smp", "1", "-m", "256",
        "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        "-serial", "stdio",
        "-drive", f"file={disk},format=raw,if=none,id=disk",
        "-device", "virtio-blk-pci,drive=disk",
        "-kernel", folder / "vmlinuz", "-initrd", folder / image,
        "-append", f"console={target.console} quiet panic=-1",
    ]  # fmt: skip
    start = time.monotonic()
    done = subprocess.run(
        ["timeout", "-k", "5", str(LIMIT), *map(str, command)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    said = done.stdout.decode(errors="replace").replace("\r", "")
    (folder / f"{image}.log").write_text(said)
    facts: dict[str, Any] = {"models": {}, "seconds": time.monotonic() - start}
    for words in re.findall(r"^FIRMWARE (.*)$", said, re.MULTILINE):
        name, _, value = words.partition(" ")
        if name == "model":
            model, _, output = value.partition(" ")
            facts["models"][model] = output
        elif name == "failed":
            sys.exit(f"{words}\n{said[-3000:]}")
        else:
            facts[name] = int(value) if value else True
    if "end" not in facts or facts.get("status", 0):
        sys.exit(f"the machine did not come to its end\n{said[-4000:]}")
    lines = [json.loads(line) for line in re.findall(r"^\{.*\}$", said, re.MULTILINE)]
    decisions = [
        line["decision"] | {"policy": line["policy"]}
        for line in lines
        if "decision" in line
    ]
    if decisions:
        facts["decisions"] = len(decisions)
        # on the disk: one on a kernel's sample has the time of that sample, which may
        # be older than the loop
        taken = [d["time_ns"] for d in decisions if d["policy"] != "chardev"]
        if taken:
            facts["first_decision_ms"] = min(taken) // 1000000
        for name in {d["policy"] for d in decisions}:
            mine = [d for d in decisions if d["policy"] == name]
            facts[f"decisions_{name}"] = len(mine)
            facts[f"recommended_{name}"] = sorted(
                {d["recommended"] for d in mine if d["recommended"] is not None}
            )
    return facts


def rival() -> dict[str, int]:
    """Disk and memory of tflite-runtime with numpy, where this machine has them."""
    code = """
import os, sys
import numpy, tflite_runtime
from tflite_runtime.interpreter import Interpreter
interpreter = Interpreter(sys.argv[1], num_threads=1)
interpreter.allocate_tensors()
interpreter.invoke()
with open("/proc/self/status") as file:
    rss = file.read().partition("VmRSS:")[2].split()[0]
size = 0
for package in (numpy, tflite_runtime):
    above = os.path.dirname(package.__path__[0])
    for name in (package.__name__, package.__name__ + ".libs"):
        for folder, _, files in os.walk(os.path.join(above, name)):
            size += sum(os.path.getsize(os.path.join(folder, f)) for f in files)
print(rss, size)
"""
    model = ROOT / "models" / "readahead" / "model.tflite"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, model], capture_output=True, text=True
    )
    if done.returncode:
        return {}
    kib, size = map(int, done.stdout.split())
    return {"tflite_rss_kib": kib, "tflite_bytes": size}


def boots(arch: str, rounds: int, clock: tuple[str, ...]) -> dict[str, Any]:
    """With pymlk and without, in turn: what it adds, by medians."""
    images = ("initrd.gz", "initrd-without.gz")
    taken = [[boot(arch, image, clock) for image in images] for _ in range(rounds)]
    facts = taken[-1][0]
    for name in [name for name in facts if name.endswith(("_ms", "_kib"))]:
        facts[name] = int(statistics.median(given[name] for given, _ in taken))
    for name in ("init_ms", "python_ms"):
        facts[f"without_{name}"] = int(statistics.median(w[name] for _, w in taken))
    if "first_decision_ms" in facts:
        facts["beyond"] = facts["first_decision_ms"] / facts["without_python_ms"] - 1
    return facts | rival()


def parts(arch: str) -> dict[str, Any]:
    """Run what is in the image by qemu-user, on this machine's own attributes."""
    target = TARGETS[arch]
    tree = ROOT / "build" / "firmware" / arch / "tree"
    command: list[str | Path] = [
        target.user,
        "-L",
        tree,
        tree / "usr/bin/python3",
        "-S",
        "-P",
        "-c",
    ]
    code = (
        f"import sys; sys.path.append('{tree}/usr/lib/pymlk'); "
        "from pymlk.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    plan = next((tree / "etc/pymlk").glob("[!c]*.plan"))
    arguments = ("run", "--json", "--seconds", "2", plan)
    said = run(*command, code, *arguments, PYTHONHOME=f"{tree}/usr")
    lines = [json.loads(line) for line in said.splitlines()]
    busybox = run(target.user, tree / "bin/busybox", "echo", "works").strip()
    return {
        "busybox": busybox,
        "decisions": sum("decision" in line for line in lines),
        "modules": sorted(p.name for p in (tree / "lib/modules").glob("*.ko")),
    }


def show(facts: dict[str, Any]) -> None:
    """Print figures, one a line."""
    for name, value in facts.items():
        if name == "beyond":
            text = f"{value:+.1%} over the same image with Python and without pymlk"
        elif name.endswith("_bytes"):
            text = f"{value:,} bytes"
        elif name.endswith("_kib"):
            text = f"{value:,} KiB"
        elif name.endswith("_ms"):
            text = f"{value:,} ms"
        else:
            text = f"{value:.1f}" if isinstance(value, float) else str(value)
        print(f"  {name:<22} {text}")


def read(words: list[str]) -> dict[str, str]:
    """NAME=VALUE of the command line; what cannot be meant ends it before any work."""
    known = ("CLOCK", "CONFIG", "MODELS", "POLICY", "ROUNDS")
    options = {"CLOCK": "host", "ROUNDS": "1"}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or name not in known:
            sys.exit(f"{word} found, expected NAME=VALUE of {', '.join(known)}")
        options[name] = value
    if options["CLOCK"] not in CLOCKS:
        sys.exit(f"CLOCK={options['CLOCK']} found, expected {' or '.join(CLOCKS)}")
    if not options["ROUNDS"].isdecimal() or not int(options["ROUNDS"]):
        sys.exit(f"ROUNDS={options['ROUNDS']} found, expected 1 or more")
    return options


def main() -> None:
    """Do what the command line says."""
    words = [word for word in sys.argv[1:] if word != "--json"]
    options = read(words[2:])
    match words[:2]:
        case ["build", arch] if arch in TARGETS:
            image = Image(arch, options)
            image.build()
            facts = image.sizes()
        case ["boot", arch] if arch in TARGETS:
            facts = boots(arch, int(options["ROUNDS"]), CLOCKS[options["CLOCK"]])
        case ["parts", arch] if arch in TARGETS:
            facts = parts(arch)
        case _:
            sys.exit(__doc__)
    if "--json" in sys.argv:
        print(json.dumps(facts))
    else:
        show(facts)


if __name__ == "__main__":
    main()
