# SPDX-License-Identifier: MIT
"""Two kernels with the same words: mlk.ko with its test client, and the emulator."""

import contextlib
import errno
import shutil
import subprocess
import time
from pathlib import Path
from typing import NamedTuple, Protocol, Self

from helpers.guest import forget, insmod, loaded_modules, rmmod
from helpers.mlk_abi import client, numbers

from pymlk.emulator import Emulator, Model
from pymlk.proxy import Feature, Knob


class Decision(NamedTuple):
    """What a client of the kernel is told."""

    use: bool
    arm: int
    verdict: int
    seq: int
    value: list[int]
    advice: list[int]


class Kernel(Protocol):
    """What a test can let the kernel's side do; one model at a time."""

    root: str

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...
    def forget(self) -> None: ...
    def register(
        self, name: str, features: int, knobs: int, records: int, *budget: int
    ) -> None: ...
    def unregister(self) -> None: ...
    def push(self, *row: int) -> int: ...
    def flood(self, count: int, first: int = 0) -> None: ...
    def stream(self, count: int) -> None: ...
    def decide(self, *row: int, seq: int = 0) -> Decision: ...
    def report(self, score: int) -> None: ...
    def shadow(self, score: int) -> None: ...
    def rounds(self, count: int, default: int, model: int) -> list[int]: ...
    def emergency(self) -> None: ...
    def refuse(self, number: int) -> None: ...
    def infer(self, n_out: int, *row: int) -> list[int]: ...
    def suspend(self) -> None: ...
    def unload(self) -> None: ...
    def load(self) -> None: ...


class RealKernel:
    """mlk.ko, in a guest; kernel/tests/mlk_guest.c is the client."""

    root = "/"

    def __enter__(self) -> Self:
        self._modules = loaded_modules()
        self._modules.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._modules.__exit__(None, None, None)

    def forget(self) -> None:
        forget()

    def register(
        self, name: str, features: int, knobs: int, records: int, *budget: int
    ) -> None:
        client(
            " ".join(map(str, ("register", name, features, knobs, records, *budget)))
        )

    def unregister(self) -> None:
        client("unregister")

    def push(self, *row: int) -> int:
        return numbers(f"push {' '.join(map(str, row))}")[0]

    def flood(self, count: int, first: int = 0) -> None:
        client(f"flood {count} {first}")

    def stream(self, count: int) -> None:
        """Push by a timer's interrupts, fifty at a time."""
        client(f"ticks {count // 50} 100000 50")

    def decide(self, *row: int, seq: int = 0) -> Decision:
        words = numbers(" ".join(map(str, ("decide", seq, *row))))
        half = (len(words) - 4) // 2
        value, advice = words[4 : 4 + half], words[4 + half :]
        return Decision(bool(words[0]), *words[1:4], value, advice)

    def report(self, score: int) -> None:
        client(f"report {score}")

    def shadow(self, score: int) -> None:
        client(f"shadow {score}")

    def rounds(self, count: int, default: int, model: int) -> list[int]:
        return numbers(f"rounds {count} {default} {model}")

    def emergency(self) -> None:
        client("emergency")

    def refuse(self, number: int) -> None:
        client(f"refuse -{number}")

    def infer(self, n_out: int, *row: int) -> list[int]:
        return numbers(" ".join(map(str, ("infer", n_out, *row))))

    def suspend(self) -> None:
        """Everything up to and with frozen processes, and back."""
        power = Path("/sys/power")
        Path("/sys/module/suspend/parameters/pm_test_delay").write_text("1")
        (power / "pm_test").write_text("freezer")
        try:
            (power / "state").write_text("mem")
        finally:
            (power / "pm_test").write_text("none")

    def unload(self) -> None:
        """The client, then the module as soon as nobody has a model open."""
        rmmod("mlk_guest")
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with contextlib.suppress(subprocess.CalledProcessError):
                rmmod("mlk")
                return
            time.sleep(0.1)
        raise TimeoutError("the module is still in use")

    def load(self) -> None:
        insmod("mlk")
        insmod("mlk_guest")


class EmulatedKernel:
    """The emulator, with a client that describes the same model."""

    def __init__(self) -> None:
        self._emulator = Emulator()
        self.root = self._emulator.root
        self._model: Model | None = None
        self._refused = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._emulator.close()
        shutil.rmtree(self.root, ignore_errors=True)

    @property
    def model(self) -> Model:
        if self._model is None:
            raise OSError(errno.ENOENT, "no model")
        return self._model

    def forget(self) -> None:
        self._refused = 0
        with contextlib.suppress(OSError):
            self.unregister()

    def register(
        self, name: str, features: int, knobs: int, records: int, *budget: int
    ) -> None:
        if self._model:
            raise OSError(errno.EEXIST, "one at a time")
        names = ("max_macs", "max_arena_bytes", "max_image_bytes")
        ops = {"init": self._answer, "start": self._answer, "sample": self._sample}
        self._model = self._emulator.register(
            "guest",
            name,
            [_feature(i) for i in range(features)],
            [_knob(i) for i in range(knobs)],
            records=records,
            ops=ops,
            **dict(zip(names, budget, strict=False)),
        )

    def _answer(self, model: Model) -> None:
        if self._refused:
            raise OSError(self._refused, "as the test wants it")

    def _sample(self, model: Model) -> None:
        self._answer(model)
        model.push([1] * len(model.features))

    def unregister(self) -> None:
        self.model.unregister()
        self._model = None

    def push(self, *row: int) -> int:
        return self.model.push(row)

    def flood(self, count: int, first: int = 0) -> None:
        self.model.flood(count, first)

    def stream(self, count: int) -> None:
        for first in range(0, count, 50):
            self.model.flood(50, first)

    def decide(self, *row: int, seq: int = 0) -> Decision:
        self._decision = d = self.model.decide(seq, row or None)
        nothing = [0] * len(self.model.knobs)
        value, advice = list(d.value) or nothing, list(d.advice) or nothing
        return Decision(d.use, d.arm, d.verdict, d.seq, value, advice)

    def report(self, score: int) -> None:
        self.model.report(self._decision, score)

    def shadow(self, score: int) -> None:
        self.model.report_shadow(self._decision, score)

    def rounds(self, count: int, default: int, model: int) -> list[int]:
        arms = [0] * 4
        for _ in range(count):
            decision = self.model.decide()
            arms[decision.arm] += 1
            self.model.report(decision, model if decision.arm == 2 else default)
        return arms

    def emergency(self) -> None:
        self.model.emergency()

    def refuse(self, number: int) -> None:
        self._refused = number

    def infer(self, n_out: int, *row: int) -> list[int]:
        found = list(self.model.infer(row))
        if len(found) != n_out:
            raise OSError(errno.EINVAL, "a row of another length")
        return found

    def suspend(self) -> None:
        self._emulator.suspend()

    def unload(self) -> None:
        self._model = None
        self._emulator.close()

    def load(self) -> None:
        self._emulator = Emulator(self.root)


def _feature(i: int) -> Feature:
    kind = ("gauge", "counter", "flag")[i % 3]
    low = -1000 if kind == "gauge" else 0
    high = 1 if kind == "flag" else 1_000_000
    return Feature(f"f{i}", "" if i else "ns", kind, low, high)


def _knob(i: int) -> Knob:
    return (
        Knob(f"k{i}", "", -100, 100, 1, 0) if i else Knob("k0", "KiB", 4, 4096, 4, 128)
    )
