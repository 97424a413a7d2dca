# SPDX-License-Identifier: MIT
"""Write the first form of a policy: fields, features that suit them, knob, training."""

from __future__ import annotations

import json
import math
import os
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .attrs import AttrSet
from .errors import PolicyError
from .policy import load

if TYPE_CHECKING:
    from collections.abc import Sequence

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
# So often within so long a field is read to see whether it only ever grows.
_LOOKS = 5
_BETWEEN_S = 0.1
# Counters by their place: of block devices, of networks, of memory, of pressure.
_COUNTERS = (
    r"/sys/block/[^/]+/stat\[([0-7]|9|1[0-6])\]",
    r"/sys/class/net/[^/]+/statistics/",
    r"/proc/vmstat\[(?!nr_)",
    r"/proc/stat\[(cpu|intr|ctxt|processes|softirq)",
    r"/proc/pressure/.*total\]",
    r"/proc/diskstats\[",
    r"/proc/net/",
)
# gauges of more than this are features by their logarithm
_LARGE = 1000


@dataclass
class Sketch:
    """What a policy is made of.

    Attributes
    ----------
    path : str
        The folder; its last part is the policy's name.
    fields : dict of str to str
        By name, a field's form or the name of a kernel model's feature.
    knob : str
        A path, or the name of a kernel model's knob.
    values : list of int
        What the knob may have.
    default : int or None
        None takes the one nearest to the present value, else the first.
    unit : str
        Of the knob.
    devices : str or None
        A path whose last part has wildcards; None: the machine as a whole, or what a
        wildcard in `knob` and `fields` says.
    skip : list of str
        Names of devices to leave out.
    proxy : str or None
        Models in the kernel instead of attributes.
    objective : str or None
        Name of the field whose rate is to be raised.
    counters, gauges : list of str
        Names of fields that only grow, and that do not; of the others it is guessed.
    interval_ms : int
        How often is decided.
    history : int
        How many last rows of features the model sees.
    target : str
        ``sweep``, ``label`` or ``future``.
    family : str
        Of models.
    of : str or None
        Target `future`: the field whose later value is to be foretold.
    horizon_s : float
        How much later.
    thresholds : list of float
        Between each two of the values.
    root : str
        Prefix of every attribute path.
    """

    path: str
    fields: dict[str, str]
    knob: str
    values: list[int]
    default: int | None = None
    unit: str = ""
    devices: str | None = None
    skip: list[str] = field(default_factory=list)
    proxy: str | None = None
    objective: str | None = None
    counters: list[str] = field(default_factory=list)
    gauges: list[str] = field(default_factory=list)
    interval_ms: int = 1000
    history: int = 1
    target: str = "sweep"
    family: str = "mlp"
    of: str | None = None
    horizon_s: float = 5.0
    thresholds: list[float] = field(default_factory=list)
    root: str = "/"

    @property
    def name(self) -> str:
        """The policy's name."""
        return os.path.basename(os.path.abspath(self.path))


@dataclass
class _Look:
    """What a few reads of a field have shown."""

    counter: bool = False
    large: bool = False
    error: str = ""


def _text(value: object) -> str:
    """A TOML value."""
    if isinstance(value, dict):
        inner = ", ".join(f"{_text(k)} = {_text(v)}" for k, v in value.items())
        return f"{{ {inner} }}"
    return json.dumps(value, ensure_ascii=False)


def spread(low: int, high: int, step: int, count: int = 5) -> list[int]:
    """Values from low to high that are about as far from each other in ratio.

    Parameters
    ----------
    low, high, step : int
        What a knob can have: low + n * step, at most high.
    count : int
        How many, at most.

    Returns
    -------
    list of int
        Ascending.

    Thread safety
    -------------
    Pure function.

    Examples
    --------
    >>> spread(4, 4096, 4)
    [4, 24, 128, 724, 4096]
    """
    found = set()
    shift = 1 - min(low, 1)
    for i in range(count):
        share = i / max(count - 1, 1)
        ideal = math.exp(
            (1 - share) * math.log(low + shift) + share * math.log(high + shift)
        )
        found.add(low + round((ideal - shift - low) / step) * step)
    return sorted(value for value in found if low <= value <= high)


def wildcard(sketch: Sketch) -> None:
    """Turn the one wildcard folder of knob and fields into `devices`.

    ``/sys/block/*/queue/read_ahead_kb`` becomes ``{device}/queue/read_ahead_kb`` with
    the devices ``/sys/block/*``.

    Parameters
    ----------
    sketch : Sketch
        Is changed.

    Raises
    ------
    PolicyError
        If there are different ones.

    Thread safety
    -------------
    None.
    """
    if sketch.proxy is not None:
        return
    found = {sketch.devices} if sketch.devices else set()
    for spec in (sketch.knob, *sketch.fields.values()):
        path = spec.partition("[")[0]
        if "*" in path or "?" in path:
            match = re.match(r"(.*?/[^/]*[*?][^/]*)(/|$)", path)
            found.add(match[1] if match else path)
    if len(found) > 1:
        raise PolicyError(f"devices: one pattern expected, found {sorted(found)}")
    if found:
        (sketch.devices,) = found
        put = (str(sketch.devices) + "/", "{device}/")
        sketch.knob = sketch.knob.replace(*put)
        sketch.fields = {k: v.replace(*put) for k, v in sketch.fields.items()}


def _device(sketch: Sketch) -> str:
    """One device to look at."""
    from .devices import find_devices

    found = find_devices(sketch.devices, sketch.skip, sketch.root)
    return found[0][1] if found else ""


def _look(sketch: Sketch) -> dict[str, _Look]:
    """Read all fields some times: what are they?"""
    device = _device(sketch)
    specs = {k: v.replace("{device}", device) for k, v in sketch.fields.items()}
    looks = {name: _Look() for name in specs}
    with AttrSet(list(specs.values()), root=sketch.root) as attrs:
        if len(attrs) != len(specs):
            raise PolicyError("fields: a wildcard found that is no device")
        rows = []
        for _ in range(_LOOKS):
            time.sleep(_BETWEEN_S)
            attrs.read()
            rows.append([int(x) for x in attrs.row])
        errors = {error.index: error.reason for error in attrs.errors()}
        for i, (name, look) in enumerate(looks.items()):
            values = [row[i] for row in rows]
            scale = attrs.fields[i].scale
            look.error = errors.get(i, "")
            look.large = abs(values[-1]) > _LARGE * scale
            known = any(re.search(pattern, specs[name]) for pattern in _COUNTERS)
            grows = values == sorted(values) and values[0] < values[-1]
            gauge = "avg" in specs[name] or "/proc/meminfo" in specs[name]
            look.counter = known or (grows and not gauge)
    return looks


def _kernel_looks(sketch: Sketch) -> dict[str, _Look]:
    """What the kernel says of its model's features; guesses where it has none."""
    from fnmatch import fnmatchcase

    from .proxy import Proxy, discover

    looks = {name: _Look() for name in sketch.fields}
    for model in discover(sketch.root):
        if fnmatchcase(model, str(sketch.proxy)):
            with Proxy(model, root=sketch.root, write=False) as proxy:
                for feature in proxy.features:
                    for name, wanted in sketch.fields.items():
                        if wanted == feature.name:
                            looks[name].counter = feature.kind == "counter"
                            looks[name].large = feature.high > _LARGE
            break
    return looks


def from_kernel(sketch: Sketch) -> None:
    """Fill what was not said from the first model in the kernel that fits.

    Parameters
    ----------
    sketch : Sketch
        Is changed: fields, knob, values, default, unit.

    Raises
    ------
    PolicyError
        If there is none and something is missing.

    Thread safety
    -------------
    None.
    """
    from fnmatch import fnmatchcase

    from .proxy import Proxy, discover

    if sketch.fields and sketch.knob and sketch.values:
        return
    names = [n for n in discover(sketch.root) if fnmatchcase(n, str(sketch.proxy))]
    if not names:
        raise PolicyError(
            f"proxy: the kernel has no model {sketch.proxy!r} to take fields, knob and "
            "values from: name them"
        )
    with Proxy(names[0], root=sketch.root, write=False) as proxy:
        if not sketch.fields:
            sketch.fields = {_name_of(f.name): f.name for f in proxy.features}
        knobs = {knob.name: knob for knob in proxy.knobs}
    sketch.knob = sketch.knob or next(iter(knobs), "")
    if sketch.knob not in knobs:
        raise PolicyError(f"knob: {sketch.knob!r} found, {names[0]} has {list(knobs)}")
    knob = knobs[sketch.knob]
    if not sketch.values:
        near = spread(knob.low, knob.high, knob.step)
        sketch.values = sorted({*near, knob.default})
    if sketch.default is None and knob.default in sketch.values:
        sketch.default = knob.default
    sketch.unit = sketch.unit or knob.unit


def _name_of(text: str) -> str:
    """A name that a policy may use."""
    name = re.sub(r"[^a-z0-9_-]+", "_", text.lower()).strip("_-")
    return name if _NAME.fullmatch(name) else f"f_{name}"[:64]


def _present(sketch: Sketch) -> int | None:
    """The knob's value on this machine."""
    path = sketch.knob.replace("{device}", _device(sketch))
    with AttrSet([path], root=sketch.root) as attrs:
        return int(attrs.row[0]) if len(attrs) == 1 and not attrs.read() else None


def _feature(name: str, look: _Look) -> list[str]:
    lines = []
    if look.error:
        lines.append(
            f"# could not be read on the machine this was made on: {look.error}"
        )
    lines.append("[[feature]]")
    if look.counter:
        lines += [f"name = {_text(name[:58] + '_per_s')}", 'kind = "rate"']
        lines += [f"field = {_text(name)}", "log2 = true", "clip = [0, 40]"]
    else:
        lines += [f"name = {_text(name)}", 'kind = "value"', f"field = {_text(name)}"]
        if look.large:
            lines += ["log2 = true", "clip = [-40, 40]"]
    return [*lines, ""]


def _train(sketch: Sketch) -> list[str]:
    about = {
        "sweep": [
            "# What each value is worth is measured: pymlk collect --sweep.",
        ],
        "label": [
            "# Runs have a label, pymlk collect --label: one of the knob's values.",
        ],
        "future": [
            "# The knob value follows from where a field will be then: between two",
            "# values is a threshold each.",
        ],
    }[sketch.target]
    lines = ["[train]", *about, f"target = {_text(sketch.target)}"]
    lines.append(f"family = {_text(sketch.family)}  # or mlp, conv, trees, linear")
    if sketch.target == "future":
        lines += [
            f"of = {_text(sketch.of)}",
            f"horizon_s = {_text(sketch.horizon_s)}",
            f"thresholds = {_text(sketch.thresholds)}",
        ]
    return lines


def _head(sketch: Sketch) -> list[str]:
    lines = [f"name = {_text(sketch.name)}", 'description = ""']
    if sketch.proxy is not None:
        lines += [
            "# Models in the kernel that have the fields; `pymlk proxy` lists them.",
            f"proxy = {_text(sketch.proxy)}",
        ]
    elif sketch.devices is not None:
        lines += [
            "# {device} stands for each of these; `skip` leaves some out, by name.",
            f"devices = {_text(sketch.devices)}",
            f"skip = {_text(sketch.skip)}",
        ]
    lines += [
        "# How often is decided. What changes faster than this is not seen.",
        f"interval_ms = {sketch.interval_ms}",
        "",
        "[model]",
        "# pymlk train writes it.",
        'file = "model.tflite"',
    ]
    if sketch.history > 1:
        lines.append(f"history = {sketch.history}  # rows of features that it sees")
    return [*lines, ""]


def _inputs(sketch: Sketch, looks: dict[str, _Look]) -> list[str]:
    lines = ["[fields]"]
    lines += [f"{_key(name)} = {_text(spec)}" for name, spec in sketch.fields.items()]
    lines += [
        "",
        "# What the model sees. A counter is of use as its change: rate, delta, or",
        "# delta_ratio of two counters; a gauge as its value, or as the ratio of two.",
        "# log2 tames what has no natural bounds. pymlk train fills in mean and std.",
    ]
    for name, look in looks.items():
        lines += _feature(name, look)
    return lines


def _outputs(sketch: Sketch) -> list[str]:
    lines = [
        "[knob]",
        f"path = {_text(sketch.knob)}",
        "# Ascending; the model's output i stands for the i-th.",
        f"values = {_text(sketch.values)}",
        f"default = {_text(sketch.default)}",
    ]
    lines += [f"unit = {_text(sketch.unit)}"] if sketch.unit else []
    if sketch.objective is not None:
        lines += [
            "",
            "[objective]",
            "# The field whose rate says whether the model does any good.",
            f"maximise = {_text(sketch.objective)}",
        ]
    return [*lines, ""]


def _guard(sketch: Sketch) -> list[str]:
    return [
        "[guard]",
        "# A recommendation less sure than this changes nothing.",
        "min_confidence = 0.5",
        "# Values that one change may skip at most, and seconds between two changes.",
        "max_step = 1",
        f"min_interval_s = {_text(max(1.0, 2e-3 * sketch.interval_ms))}",
        "# Equal recommendations in a row until a change.",
        "settle = 3",
        "# A decision that took longer is not used.",
        "deadline_us = 5000",
        "",
    ]


def text_of(sketch: Sketch) -> str:
    """The policy as TOML.

    Parameters
    ----------
    sketch : Sketch
        Complete.

    Returns
    -------
    str
        The file's text.

    Raises
    ------
    PolicyError
        If a field's form is wrong.

    Thread safety
    -------------
    Reads the attributes.
    """
    looks = _look(sketch) if sketch.proxy is None else _kernel_looks(sketch)
    for names, counter in ((sketch.counters, True), (sketch.gauges, False)):
        for name in names:
            looks[name].counter = counter
    lines = _head(sketch) + _inputs(sketch, looks) + _outputs(sketch)
    return "\n".join(lines + _guard(sketch) + _train(sketch)) + "\n"


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _text(name)


def _check(sketch: Sketch) -> None:
    """What is missing or wrong, before anything is read."""
    if not _NAME.fullmatch(sketch.name):
        raise PolicyError(
            f"{sketch.path}: {sketch.name!r} found, a name of small letters, digits, - "
            "and _ expected"
        )
    if not sketch.fields:
        raise PolicyError("fields: none found: --field NAME=PATH[SELECTOR]")
    if not sketch.knob or len(sketch.values) < 2:
        raise PolicyError("knob: --knob PATH and two or more --values are needed")
    for key, names in (("counter", sketch.counters), ("gauge", sketch.gauges)):
        for name in names:
            if name not in sketch.fields:
                raise PolicyError(f"--{key}: {name!r} found, no field of that name")


def create(sketch: Sketch) -> str:
    """Make the folder and its policy.

    Parameters
    ----------
    sketch : Sketch
        What it is to be; what was not said is filled in.

    Returns
    -------
    str
        Path of the policy file.

    Raises
    ------
    PolicyError
        If it is there already, or would be no good policy; then nothing is left.
    OSError
        If it cannot be written.

    Thread safety
    -------------
    None. Reads the attributes for half a second.
    """
    path = os.path.join(sketch.path, "policy.toml")
    if os.path.lexists(path):
        raise PolicyError(f"{path}: is there already, and is left as it is")
    if sketch.proxy is not None:
        from_kernel(sketch)
    wildcard(sketch)
    sketch.values = sorted(set(sketch.values))
    _check(sketch)
    if sketch.default is None:
        present = _present(sketch) if sketch.proxy is None else None
        near = sketch.values[0] if present is None else present
        sketch.default = min(sketch.values, key=lambda value: abs(value - near))
    text = text_of(sketch)
    is_new = not os.path.isdir(sketch.path)
    os.makedirs(sketch.path, exist_ok=True)
    unfinished = f"{path}.new"
    try:
        with open(unfinished, "w", encoding="utf-8") as file:
            file.write(text)
        load(unfinished, model=False)
        # never instead of one that came meanwhile
        os.link(unfinished, path)
    except FileExistsError as error:
        raise PolicyError(f"{path}: is there already") from error
    finally:
        if os.path.exists(unfinished):
            os.unlink(unfinished)
        if is_new and not os.listdir(sketch.path):
            os.rmdir(sketch.path)
    return path


def default_fields(names: Sequence[str]) -> dict[str, str]:
    """Fields from ``NAME=SPEC`` or a bare ``SPEC``, which gets a name.

    Parameters
    ----------
    names : sequence of str
        As on the command line.

    Returns
    -------
    dict of str to str
        By name.

    Raises
    ------
    PolicyError
        If a name is no name, or there twice.

    Thread safety
    -------------
    Pure function.

    Examples
    --------
    >>> default_fields(["reads=/sys/block/*/stat[0]", "/proc/vmstat[pgfault]"])
    {'reads': '/sys/block/*/stat[0]', 'pgfault': '/proc/vmstat[pgfault]'}
    """
    found: dict[str, str] = {}
    for text in names:
        match = re.fullmatch(r"([a-z][a-z0-9_-]*)=(.+)", text)
        if match:
            name, spec = match[1], match[2]
        else:
            spec = text
            path, _, selector = spec.rstrip("]").partition("[")
            file = path.rpartition("/")[2]
            name = _name_of(
                f"{file}_{selector}" if selector.isdigit() else selector or file
            )
        if name in found:
            raise PolicyError(f"--field: {name!r} is there twice: use NAME={spec}")
        found[name] = spec
    return found
