# SPDX-License-Identifier: MIT
"""Read, check and prepare a policy: one TOML file and the model that it names.

This module is needed once, before a loop starts: `pymlk.isolate` runs it in a child
process, so that a long-lived loop carries neither the validation library nor the
compiler.
"""

import os
import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from .attrs import AttrSet
from .engine import Program
from .errors import FieldSyntaxError, ModelError, PolicyError
from .toml import read_toml

Name = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_-]*$", max_length=64)]
Fraction = Annotated[float, Meta(ge=0.0, le=1.0)]
Positive = Annotated[float, Meta(gt=0.0)]
NotNegative = Annotated[float, Meta(ge=0.0)]
MOST_INPUTS = 1024
# Beside a policy whose files `pymlk train` is replacing.
STAGE = ".pymlk-train"
Size = Annotated[int, Meta(ge=1, le=1024)]


class ModelPart(Struct, forbid_unknown_fields=True):
    """The model: a ``.tflite`` file or a program, beside the policy."""

    file: str
    # so many last rows of features, oldest first, are its input
    history: Annotated[int, Meta(ge=1, le=64)] = 1


class Feature(Struct, forbid_unknown_fields=True):
    """One feature; see `pymlk.features`."""

    name: Name
    kind: Literal["value", "delta", "rate", "ratio", "delta_ratio"]
    field: str
    over: str | None = None
    log2: bool = False
    ema: Annotated[float, Meta(gt=0.0, le=1.0)] | None = None
    peak_s: Positive | None = None
    trough_s: Positive | None = None
    clip: tuple[float, float] | None = None
    mean: float = 0.0
    std: Positive = 1.0


class Knob(Struct, forbid_unknown_fields=True):
    """What a recommendation changes; the model's output i stands for values[i].

    With a proxy, `path` is the name of the kernel model's knob. `reach` lets a change
    reach files that are open already; see `pymlk.openfiles`.
    """

    path: str
    values: Annotated[list[int], Meta(min_length=2, max_length=64)]
    default: int
    unit: str = ""
    reach: Literal["open-files"] | None = None


class Objective(Struct, forbid_unknown_fields=True):
    """The field whose rate the policy is meant to raise."""

    maximise: str


class Activity(Struct, forbid_unknown_fields=True):
    """Below this rate per second of a field nothing is decided."""

    field: str
    rate: NotNegative


class Guard(Struct, forbid_unknown_fields=True):
    """Limits of what may be changed; see `pymlk.guard`."""

    min_confidence: Fraction = 0.5
    max_step: Annotated[int, Meta(ge=1, le=64)] = 1
    min_interval_s: NotNegative = 1.0
    settle: Annotated[int, Meta(ge=1, le=1000)] = 1
    deadline_us: Annotated[int, Meta(ge=1, le=10_000_000)] = 10_000
    min_activity: Activity | None = None


class Trial(Struct, forbid_unknown_fields=True):
    """How the model is measured against the default; see `pymlk.evidence`."""

    confidence: Annotated[float, Meta(ge=0.5, le=0.9999)] = 0.95
    min_decisions: Annotated[int, Meta(ge=1, le=1_000_000)] = 100
    min_scores: Annotated[int, Meta(ge=2, le=1_000_000)] = 30
    period_s: Annotated[float, Meta(ge=0.001, le=86_400.0)] = 10.0
    washout: Annotated[float, Meta(ge=0.0, le=0.9)] = 0.2


class Learn(Struct, forbid_unknown_fields=True):
    """Scores correct the model while it runs; see `pymlk.learn`."""

    epsilon: Annotated[float, Meta(ge=0.0, le=0.5)] = 0.05
    every: Annotated[int, Meta(ge=1, le=1_000_000_000)] = 256
    memory: Literal[64, 256, 1024, 4096, 16384] = 1024


class Train(Struct, forbid_unknown_fields=True):
    """How `pymlk train` makes the model; the loop has no use for it."""

    target: Literal["sweep", "label", "future"]
    family: Literal["mlp", "conv", "trees", "linear"] = "mlp"
    # networks
    hidden: Annotated[list[Size], Meta(max_length=3)] = msgspec.field(
        default_factory=lambda: [16, 8]
    )
    activation: Literal["relu", "tanh", "sigmoid"] = "relu"
    filters: Size = 8
    width: Size = 3
    epochs: Annotated[int, Meta(ge=1, le=100_000)] = 300
    rate: Positive = 3e-3
    # how they are quantised
    bits: Literal[8, 16] = 8
    weight_bits: Literal[8, 16] = 8
    per_channel: bool = True
    tune: Annotated[int, Meta(ge=0, le=100_000)] = 0
    # trees
    trees: Size = 16
    leaves: Annotated[int, Meta(ge=2, le=64)] = 8
    max_macs: Annotated[int, Meta(ge=1)] = 200_000
    # examples
    orders: Annotated[int, Meta(ge=1, le=100)] = 8
    balance: bool = True
    split: Literal["cell", "workload", "group", "time"] | None = None
    folds: Annotated[int, Meta(ge=2, le=20)] = 5
    # target = "sweep": what a change must gain, for each place, in log score
    change_cost: NotNegative = 0.01
    # ... and how often it learns again with what the loop met when the model decided
    rounds: Annotated[int, Meta(ge=0, le=100)] = 0
    # target = "label": those of the knob's values; without them labels are values
    classes: list[str] = []
    # target = "future": what, when, and where one class ends and the next begins
    of: str | None = None
    horizon_s: NotNegative | None = None
    rows: Annotated[int, Meta(ge=0)] | None = None
    thresholds: list[float] = []


class Policy(Struct, forbid_unknown_fields=True):
    """One policy file."""

    name: Name
    model: ModelPart
    fields: Annotated[dict[Name, str], Meta(min_length=1, max_length=64)]
    feature: Annotated[list[Feature], Meta(min_length=1, max_length=64)]
    knob: Knob
    description: str = ""
    devices: str | None = None
    proxy: str | None = None
    skip: list[str] = []
    interval_ms: Annotated[int, Meta(ge=0, le=3_600_000)] = 1000
    objective: Objective | None = None
    guard: Guard = msgspec.field(default_factory=Guard)
    trial: Trial = msgspec.field(default_factory=Trial)
    learn: Learn | None = None
    train: Train | None = None


def _shipped() -> str:
    """The folder of the shipped models; in a checkout it is beside the package."""
    here = os.path.dirname(os.path.abspath(__file__))
    installed = os.path.join(here, "models")
    beside = os.path.join(os.path.dirname(here), "models")
    return installed if os.path.isdir(installed) else beside


def find_policy(name: str) -> str:
    """Find a policy file: a path, a folder that holds one, or a shipped one's name.

    Parameters
    ----------
    name : str
        As the user gave it.

    Returns
    -------
    str
        Path of the TOML file.

    Raises
    ------
    PolicyError
        If there is none.

    Thread safety
    -------------
    Reads the file system only.
    """
    if os.path.isdir(name):
        name = os.path.join(name, "policy.toml")
    if os.path.exists(name):
        return name
    shipped = _shipped()
    path = os.path.join(shipped, name, "policy.toml")
    if os.sep not in name and os.path.exists(path):
        return path
    known = sorted(
        entry
        for entry in (os.listdir(shipped) if os.path.isdir(shipped) else [])
        if os.path.exists(os.path.join(shipped, entry, "policy.toml"))
    )
    raise PolicyError(
        f"{name}: no such file and no shipped policy; shipped are: "
        f"{', '.join(known) or 'none'}"
    )


class _Checker:
    """What the types cannot say."""

    def __init__(self, path: str, policy: Policy) -> None:
        self.path = path
        self.policy = policy

    def refuse(self, key: str, text: str) -> None:
        raise PolicyError(f"{self.path}: {key}: {text}")

    def field(self, key: str, name: str) -> None:
        if name not in self.policy.fields:
            self.refuse(
                key,
                f"field {name!r} found, one of [fields] expected: "
                f"{', '.join(self.policy.fields)}",
            )

    def spec(self, key: str, spec: str) -> None:
        """A field's syntax; `{device}` must have something to stand for."""
        if "{device}" in spec and self.policy.devices is None:
            self.refuse(key, f"{spec!r} names {{device}}, but `devices` is not set")
        path = spec.replace("{device}", "/device")
        if any(c in path.partition("[")[0] for c in "*?"):
            self.refuse(key, f"{spec!r}: wildcards belong into `devices`")
        try:
            AttrSet([path], root="/nonexistent").close()
        except FieldSyntaxError as error:
            self.refuse(key, str(error))

    def check(self) -> None:
        policy = self.policy
        if policy.proxy is not None:
            self.proxy(policy.proxy)
        else:
            self.attributes()
        self.features()
        self.knob()
        if policy.objective is not None:
            self.field("objective.maximise", policy.objective.maximise)
        if policy.guard.min_activity is not None:
            self.field("guard.min_activity.field", policy.guard.min_activity.field)
        if policy.train is not None:
            self.train(policy.train)

    def attributes(self) -> None:
        """Fields and knob are attributes of sysfs and procfs."""
        policy = self.policy
        for name, spec in policy.fields.items():
            self.spec(f"fields.{name}", spec)
        self.spec("knob.path", policy.knob.path)
        self.devices()
        if not policy.interval_ms:
            self.refuse("interval_ms", "0 found, 1 or more expected without a proxy")

    def proxy(self, proxy: str) -> None:
        """Fields and knob are those of models in the kernel, which has the score."""
        if not re.fullmatch(r"[^/\[\]]+/[^/\[\]]+", proxy):
            self.refuse(
                "proxy", f"{proxy!r} found, expected SUBSYSTEM/MODEL, such as 'blk/*'"
            )
        if self.policy.devices is not None:
            self.refuse("devices", "means nothing beside `proxy`: each model is one")
        if self.policy.objective is not None:
            self.refuse(
                "objective", "means nothing beside `proxy`: the kernel's client scores"
            )
        names = {f"fields.{k}": v for k, v in self.policy.fields.items()}
        for key, name in {**names, "knob.path": self.policy.knob.path}.items():
            if not re.fullmatch(r"[A-Za-z0-9_-]{1,31}", name):
                self.refuse(
                    key,
                    f"{name!r} found, expected the name of one of the kernel model's "
                    f"{'knobs' if key == 'knob.path' else 'features'}",
                )

    def devices(self) -> None:
        devices = self.policy.devices
        if devices is None:
            return
        folder, _, _ = devices.rpartition("/")
        if not devices.startswith("/") or any(c in folder for c in "*?"):
            self.refuse(
                "devices",
                f"{devices!r} found, expected an absolute path with wildcards in its "
                "last part only",
            )
        if "{device}" not in self.policy.knob.path:
            self.refuse(
                "knob.path",
                f"{self.policy.knob.path!r} found, expected a path with {{device}}: "
                "each device has its own knob",
            )

    def features(self) -> None:
        names = set()
        rows, width = self.policy.model.history, len(self.policy.feature)
        if rows * width > MOST_INPUTS:
            self.refuse(
                "model.history",
                f"{rows} rows of {width} features found, at most {MOST_INPUTS} inputs "
                "expected",
            )
        for i, feature in enumerate(self.policy.feature):
            key = f"feature[{i}]"
            if feature.name in names:
                self.refuse(f"{key}.name", f"{feature.name!r} is there twice")
            names.add(feature.name)
            self.field(f"{key}.field", feature.field)
            if feature.kind.endswith("ratio"):
                if feature.over is None:
                    self.refuse(f"{key}.over", f"missing: a {feature.kind} needs it")
                else:
                    self.field(f"{key}.over", feature.over)
            elif feature.over is not None:
                self.refuse(f"{key}.over", f"means nothing for a {feature.kind}")
            for name in ("peak_s", "trough_s"):
                if getattr(feature, name) is not None and not feature.log2:
                    self.refuse(f"{key}.{name}", "needs log2 = true: it counts octaves")
            if feature.peak_s is not None and feature.trough_s is not None:
                self.refuse(f"{key}.trough_s", "peak_s is there, too: one of them")
            if feature.clip is not None and feature.clip[0] >= feature.clip[1]:
                self.refuse(
                    f"{key}.clip", f"{list(feature.clip)} found, expected low < high"
                )

    def knob(self) -> None:
        values = self.policy.knob.values
        if values != sorted(set(values)):
            self.refuse("knob.values", f"{values} found, expected ascending values")
        if self.policy.knob.default not in values:
            self.refuse(
                "knob.default",
                f"{self.policy.knob.default} found, expected one of {values}",
            )
        path = self.policy.knob.path
        if self.policy.knob.reach and not path.endswith("/queue/read_ahead_kb"):
            self.refuse(
                "knob.reach",
                f"{path!r} found as knob.path, expected a block device's "
                "queue/read_ahead_kb: that alone is copied into open files",
            )

    def train(self, train: Train) -> None:
        policy = self.policy
        choices = len(policy.knob.values)
        if train.classes and len(train.classes) != choices:
            self.refuse(
                "train.classes",
                f"{len(train.classes)} found, expected {choices}: one for each of the "
                "knob values",
            )
        if train.family == "conv" and train.width > policy.model.history:
            self.refuse(
                "train.width",
                f"{train.width} found, expected at most model.history, "
                f"{policy.model.history}",
            )
        if train.rounds and (train.target != "sweep" or self.policy.model.history > 1):
            self.refuse("train.rounds", 'needs target = "sweep" and a history of 1')
        if train.weight_bits > train.bits:
            self.refuse("train.weight_bits", "16 found, but train.bits is 8")
        if train.target == "future":
            self.future(train)

    def future(self, train: Train) -> None:
        if train.of is None:
            self.refuse(
                "train.of",
                "missing: a field, a feature, or a further column of the dataset",
            )
        if (train.horizon_s is None) == (train.rows is None):
            self.refuse("train.horizon_s", "either it or train.rows is expected")
        choices = len(self.policy.knob.values)
        ascending = sorted(set(train.thresholds))
        if train.thresholds != ascending or len(ascending) != choices - 1:
            self.refuse(
                "train.thresholds",
                f"{train.thresholds} found, expected {choices - 1} ascending numbers: "
                "between two of the knob values each",
            )

    def model(self, program: Program) -> None:
        """The model must fit the features, the knob, and what confidence means."""
        inputs, outputs = program.inputs, program.outputs
        history = self.policy.model.history
        if len(inputs) != 1 or len(outputs) != 1:
            self.refuse(
                "model.file",
                f"a model of {len(inputs)} inputs and {len(outputs)} outputs found, "
                "expected one each",
            )
        for what, tensor, count in (
            ("features", inputs[0], len(self.policy.feature) * history),
            ("knob values", outputs[0], len(self.policy.knob.values)),
        ):
            size = 1
            for dim in tensor["shape"]:
                size *= dim
            if size != count or tensor["dtype"] != "int8":
                self.refuse(
                    "model.file",
                    f"tensor {tensor['name']!r} is {tensor['dtype']} of {size}, "
                    f"expected int8 of {count}: one for each of the {what}"
                    + (f" in {history} rows" if history > 1 else ""),
                )
        scale, zero = outputs[0]["scale"], outputs[0]["zero_point"]
        if (-128 - zero) * scale < -0.01 or (127 - zero) * scale > 1.01:
            self.refuse(
                "model.file",
                "its output is no confidence from 0 to 1: end it with SOFTMAX or "
                "LOGISTIC",
            )


def _compiled(data: bytes) -> bytes:
    try:
        from .compile import compile_model
    except ModuleNotFoundError as error:
        raise ModelError(
            f"a .tflite file, and no {error.name} here to compile it; expected a "
            "program: `pymlk compile` makes one on another machine"
        ) from None
    return compile_model(data)


def _program(checker: _Checker, folder: str, name: str) -> bytes:
    path = os.path.join(folder, name)
    if os.path.isdir(os.path.join(folder, STAGE)):
        checker.refuse(
            "model.file",
            f"a replacement by `pymlk train` was interrupted ({STAGE} beside the "
            "policy): `pymlk train` or `pymlk eval` finishes it",
        )
    try:
        with open(path, "rb") as file:
            data = file.read()
        program = data if data[:4] == b"MLKP" else _compiled(data)
        checker.model(Program(program))
        return program
    except OSError as error:
        raise PolicyError(
            f"{checker.path}: model.file: {path}: {error.strerror}"
        ) from error
    except ModelError as error:
        raise PolicyError(f"{checker.path}: model.file: {path}: {error}") from error


def load(name: str, *, model: bool = True) -> dict[str, Any]:
    """Load a policy and make its program.

    Parameters
    ----------
    name : str
        A path, a folder, or the name of a shipped policy.
    model : bool
        False: for whoever collects what a model is made from. Its file is not opened,
        and the plan has no ``program``.

    Returns
    -------
    dict
        The plan for a `pymlk.loop.Loop`: plain values only, owned by the caller.

    Raises
    ------
    PolicyError
        If the policy or its model cannot be used; the text names file and key, what was
        found and what was expected.

    Thread safety
    -------------
    Pure function of the files.

    Examples
    --------
    >>> load("readahead")["knob"]["values"]
    [8, 32, 128, 512, 2048]
    """
    path = find_policy(name)
    policy = read_toml(path, Policy)
    checker = _Checker(path, policy)
    checker.check()
    plan: dict[str, Any] = msgspec.to_builtins(policy)
    activity = policy.guard.min_activity
    plan["guard"]["min_activity"] = activity and (activity.field, activity.rate)
    plan["objective"] = policy.objective and policy.objective.maximise
    plan["features"] = plan.pop("feature")
    plan["file"] = path
    if model:
        plan["program"] = _program(checker, os.path.dirname(path), policy.model.file)
    return plan
