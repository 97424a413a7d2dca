# SPDX-License-Identifier: MIT
"""Extensions and the parts that .config (Kconfig) leaves out; no metadata here."""

import os
import sysconfig
from configparser import ConfigParser
from glob import glob
from pathlib import Path

from Cython.Build import cythonize
from Cython.Compiler import Options
from setuptools import Distribution, Extension, setup
from setuptools.command.build_py import build_py


def switched_on(path):
    """The symbols that a Kconfig result sets; None without one: all are on."""
    if not os.path.exists(path):
        return None
    with open(path) as file:
        pairs = [line.strip().partition("=") for line in file]
    return {name.removeprefix("CONFIG_") for name, _, value in pairs if value == "y"}


ON = switched_on(os.environ.get("PYMLK_CONFIG") or ".config")
ANNOTATE = os.environ.get("PYMLK_ANNOTATE")  # folder for Cython's HTML reports
DEBUG = os.environ.get("PYMLK_DEBUG") == "1"
SMALL = ON is not None and "PYMLK_SMALL" in ON
# every operator and every instruction set has a symbol in Kconfig
SWITCHES = [
    line.split()[1]
    for line in Path("Kconfig").read_text().splitlines()
    if line.startswith(("config MLK_OP_", "config MLK_ARCH_"))
]
CFG = ConfigParser()
CFG.read("setup.cfg")
MODELS = [p for p in CFG["options"]["packages"].split() if p.startswith("pymlk.models")]
# What each symbol brings: packages, modules, and the requirements only it has.
PARTS = {
    "PYMLK_COMPILER": (
        ["pymlk.compile", "pymlk.compile.lower"],
        ["pymlk.write"],
        ["flatbuffers"],
    ),
    "PYMLK_TFLITE": ([], ["pymlk.tflite"], []),
    "PYMLK_PROXY": ([], ["pymlk.image", "pymlk.proxy", "pymlk.proxy_loop"], []),
    "PYMLK_EMULATOR": (
        [],
        ["pymlk.emulated", "pymlk.emulated_image", "pymlk.emulator"],
        [],
    ),
    "PYMLK_LOOP": (
        [],
        [
            "pymlk.devices",
            "pymlk.evidence",
            "pymlk.fadvise",
            "pymlk.features",
            "pymlk.guard",
            "pymlk.isolate",
            "pymlk.journal",
            "pymlk.loop",
            "pymlk.openfiles",
            "pymlk.plan",
            "pymlk.proxy_loop",
            "pymlk.quickjson",
            "pymlk.serve",
            "pymlk.service",
            "pymlk.stream",
            "pymlk.trial",
            "pymlk.varint",
        ],
        [],
    ),
    "PYMLK_POLICY": ([], ["pymlk.policy", "pymlk.toml"], ["msgspec"]),
    "PYMLK_RECORD": ([], ["pymlk.record"], []),
    "PYMLK_COLLECT": (
        [],
        [
            "pymlk.check",
            "pymlk.cli.check",
            "pymlk.cli.collect",
            "pymlk.cli.new",
            "pymlk.collect",
            "pymlk.dataset",
            "pymlk.jobs",
            "pymlk.rows",
            "pymlk.sampler",
            "pymlk.scaffold",
        ],
        [],
    ),
    "PYMLK_TRAIN": (["pymlk.train"], ["pymlk.cli.eval", "pymlk.cli.train"], []),
    "PYMLK_REPLAY": (
        [],
        [
            "pymlk.cli.export",
            "pymlk.cli.replay",
            "pymlk.convert",
            "pymlk.records",
            "pymlk.replay",
        ],
        [],
    ),
    "PYMLK_LEARN": (
        [],
        [
            "pymlk.adapt",
            "pymlk.cli.learn",
            "pymlk.drift",
            "pymlk.head",
            "pymlk.learn",
            "pymlk.learnt",
            "pymlk.versions",
        ],
        [],
    ),
    "PYMLK_CLI": (["pymlk.cli"], ["pymlk.__main__"], []),
    "PYMLK_CLI_MODELS": (
        [],
        [
            "pymlk.cli.bench",
            "pymlk.cli.compile",
            "pymlk.cli.inspect",
            "pymlk.cli.kconfig",
            "pymlk.cli.profile",
        ],
        [],
    ),
    "PYMLK_CLI_PROXY": ([], ["pymlk.cli.proxy"], []),
    "PYMLK_CLI_COMPLETION": ([], ["pymlk.cli.completion"], []),
    "PYMLK_MODELS": (MODELS, [], []),
}

EXTRAS = {
    "PYMLK_TFLITE": "tflite",
    "PYMLK_REPLAY": "export",
    "PYMLK_TRAIN": "train",
}


def is_off(symbol):
    return ON is not None and symbol not in ON


GONE = [PARTS[symbol] for symbol in PARTS if is_off(symbol)]
GONE_PACKAGES = {name for packages, _, _ in GONE for name in packages}
GONE_MODULES = {name for _, modules, _ in GONE for name in modules}
GONE_REQUIRES = {name for _, _, requires in GONE for name in requires}


class ChosenDistribution(Distribution):
    """Takes out of setup.cfg what is switched off."""

    def parse_config_files(self, *args, **options):
        super().parse_config_files(*args, **options)
        self.packages = [p for p in self.packages or () if p not in GONE_PACKAGES]
        # setuptools keeps both, and the metadata is written from the second
        self.metadata.install_requires = self.install_requires = [
            text
            for text in self.install_requires
            if not text.startswith(tuple(GONE_REQUIRES))
        ]
        for symbol, extra in EXTRAS.items():
            if is_off(symbol):
                for kept in (self, self.metadata):
                    kept.extras_require.pop(extra, None)
                self.metadata.provides_extras.pop(extra, None)
        if is_off("PYMLK_CLI"):
            self.entry_points = {}


class ChosenModules(build_py):
    """Leaves out switched-off modules, models' recipes, and what an old build left."""

    def run(self):
        keep = {
            self.get_finalized_command("build_ext").get_ext_filename(e.name)
            for e in self.distribution.ext_modules
        }
        package = Path(self.build_lib, "pymlk")
        for path in [p for p in package.rglob("*") if p.is_file()]:
            if str(path.relative_to(self.build_lib)) not in keep:
                path.unlink()
        super().run()

    def find_package_modules(self, package, package_dir):
        modules = super().find_package_modules(package, package_dir)
        if package.startswith("pymlk.models"):
            return [m for m in modules if m[1] == "__init__"]
        return [m for m in modules if f"{m[0]}.{m[1]}" not in GONE_MODULES]

    def find_data_files(self, package, src_dir):
        # .pyi and .pxd of a module that is not there, or that nobody builds with
        return [
            path
            for path in super().find_data_files(package, src_dir)
            if f"{package}.{Path(path).stem}" not in GONE_MODULES
            and not (SMALL and path.endswith((".pyi", ".pxd")))
        ]


# setuptools compares times, not flags: a file that changes with the flags makes a
# new .config rebuild what it touches, and only that.
macros = [
    ("MLK_CONFIG_" + name.removeprefix("MLK_OP_").removeprefix("MLK_"), "0")
    for name in SWITCHES
    if is_off(name)
]
# Cython's shortcuts for calls, no table that only a debugger reads, no empty page
# between what is read and what is run; glibc 2.36 reads packed relocations
COMPILE_SMALL = [
    "-Os",
    "-fno-asynchronous-unwind-tables",
    "-fno-unwind-tables",
    "-fno-plt",
    "-DCYTHON_UNPACK_METHODS=0",
    "-DCYTHON_USE_DICT_VERSIONS=0",
    "-DCYTHON_USE_TYPE_SLOTS=0",
    "-DCYTHON_USE_TYPE_SPECS=1",
    "-DCYTHON_VECTORCALL=0",
]
if sysconfig.get_platform().endswith("aarch64"):
    # code and data of one extension lie within 1 MB
    COMPILE_SMALL.append("-mcmodel=tiny")
LINK_SMALL = [
    "-Wl,-z,noseparate-code",
    "-Wl,-z,pack-relative-relocs",
    # or each would be padded to the largest pages that a processor may have
    "-Wl,-z,norelro",
    "-Wl,--build-id=none",
]


def marker(name, content):
    """Write a file only if its content changes; its path."""
    path = Path("build", name)
    if not path.exists() or path.read_text() != content:
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    return str(path)


# kernel/arch has one file per instruction set, chosen when a program is loaded
ENGINE_SOURCES = [
    *sorted(glob("kernel/engine/mlk_*.c")),
    *sorted(glob("kernel/arch/mlk_*.c")),
]


def extension(path):
    """Every .pyx is one extension; the engine also has its C sources."""
    name = "pymlk." + Path(path).stem
    is_engine = name == "pymlk.engine"
    depends = ["setup.py", marker("flags", f"debug {DEBUG} small {SMALL}")]
    depends += glob("kernel/*/*.h")
    if is_engine:
        depends.append(marker("engine-flags", repr(macros)))
    if name == "pymlk.attrs":
        depends += glob("pymlk/attr*.h")
    return Extension(
        name,
        [path, *(ENGINE_SOURCES if is_engine else ())],
        include_dirs=["kernel/engine", "kernel/arch"],
        define_macros=macros if is_engine else [],
        libraries=["m"],
        depends=depends,
        # gcc makes the plain loops slower with -O3
        extra_compile_args=[
            "-O2" if is_engine else "-O3",
            "-g0",
            "-std=gnu11",
            "-fvisibility=hidden",
            *(COMPILE_SMALL if SMALL else ()),
        ],
        extra_link_args=["-Wl,-s", *(LINK_SMALL if SMALL else ())],
    )


extensions = [extension(path) for path in sorted(glob("pymlk/*.pyx"))]
KIND = "-debug" if DEBUG else "-small" if SMALL else ""
Options.docstrings = not SMALL
setup(
    distclass=ChosenDistribution,
    cmdclass={"build_py": ChosenModules},
    options={"build_ext": {"parallel": os.cpu_count()}},
    ext_modules=cythonize(
        [e for e in extensions if e.name not in GONE_MODULES],
        build_dir=ANNOTATE or f"build/cython{KIND}",
        annotate=bool(ANNOTATE),
        compiler_directives={
            "language_level": 3,
            "boundscheck": DEBUG,
            "wraparound": False,
            "initializedcheck": DEBUG,
            "cdivision": True,
            "auto_pickle": False,
            # a function that knows its signature
            "binding": not SMALL,
            "embedsignature": not SMALL,
        },
    ),
)
