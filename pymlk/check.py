# SPDX-License-Identifier: MIT
"""Check a policy on this machine: what it reads, what it may write, what it costs."""

from __future__ import annotations

import os
import time
from typing import NamedTuple

from .attrs import AttrSet
from .devices import find_devices, is_wanted
from .engine import Program
from .errors import MlkError
from .features import Features

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .proxy import Proxy

# Other programs that write knobs of sysfs, by the name that the kernel knows.
_RIVALS = (
    "auto-cpufreq",
    "bpftune",
    "power-profiles-",
    "thermald",
    "tlp",
    "tuned",
    "tuned-ppd",
)
_LEAST_ROWS = 5
_MOST_ROWS = 1000
# This share of rows outside of its bounds is worth a word.
_OFTEN = 0.2
# So many deviations from its mean a feature is unlike the training's.
_FAR = 6.0
_STEPS = 50


class Finding(NamedTuple):
    """One thing that was looked at.

    Attributes
    ----------
    level : str
        ``ok``, ``notice`` (worth knowing) or ``problem`` (it will not work as it is).
    what : str
        Which part of the policy.
    text : str
        What was found.
    device : str
        Of which device; empty if it is of all.
    """

    level: str
    what: str
    text: str
    device: str = ""


class _Rows:
    """Snapshots of one device, with their features."""

    def __init__(self, plan: dict[str, Any], scales: list[int]) -> None:
        places = {key: (i, scales[i]) for i, key in enumerate(plan["fields"])}
        self._features = Features(plan["features"], places)
        self._before: list[int | None] | None = None
        self._time_ns = 0
        self.values: list[list[float]] = []

    def add(self, row: list[int | None], time_ns: int) -> None:
        """One more snapshot."""
        seconds = (time_ns - self._time_ns) * 1e-9 if self._before else 0.0
        state, _ = self._features.step(row, self._before or row, seconds)
        if state == 0:
            self.values.append([*map(float, memoryview(self._features))])
        self._before, self._time_ns = row, time_ns


class Check:
    """The checks of one policy.

    Parameters
    ----------
    plan : dict
        What `pymlk.policy.load` gave; without ``program`` where there is no model yet,
        and with the reason in ``refused`` where it cannot be used.
    root : str
        Prefix of every attribute path.
    seconds : float
        How long features are looked at.

    Attributes
    ----------
    findings : list of Finding
        What was found so far.

    Thread safety
    -------------
    None.
    """

    def __init__(self, plan: dict[str, Any], root: str, seconds: float) -> None:
        self.findings: list[Finding] = []
        self._plan, self._root, self._seconds = plan, root, seconds

    def _say(self, level: str, what: str, text: object, device: str = "") -> None:
        self.findings.append(Finding(level, what, str(text), device))

    def run(self) -> None:
        """Look at everything; whatever fails is a finding.

        Thread safety
        -------------
        None.
        """
        try:
            self._model()
            self._guard()
            if self._plan["proxy"] is None:
                self._attributes()
            else:
                self._kernel()
        except (MlkError, OSError) as error:
            self._say("problem", "machine", error)
        self._rivals()

    # ----------------------------------------------------------------------- the model

    def _model(self) -> None:
        plan = self._plan
        if "refused" in plan:
            self._say("problem", "model", plan["refused"])
            return
        if "program" not in plan:
            file = plan["model"]["file"]
            self._say(
                "notice", "model", f"no {file} yet: pymlk collect, then pymlk train"
            )
            return
        program = Program(plan["program"])
        bound = program.cost() / 1000
        deadline = plan["guard"]["deadline_us"]
        text = (
            f"{len(program.ops)} operators, all on the engine; {program.macs} "
            f"multiply-accumulates, arena {program.arena_bytes} bytes; at most "
            f"{bound:.0f} us on a core of 1 GHz"
        )
        if bound > deadline:
            text += f", which is more than guard.deadline_us, {deadline}"
        self._say("notice" if bound > deadline else "ok", "model", text)

    # ----------------------------------------------------------------------- the guard

    def _guard(self) -> None:
        plan, guard, before = self._plan, self._plan["guard"], len(self.findings)
        interval = plan["interval_ms"] / 1000
        steps = len(plan["knob"]["values"]) - 1
        if interval and guard["min_interval_s"] < interval:
            self._say(
                "notice",
                "guard.min_interval_s",
                f"{guard['min_interval_s']:g} s limits nothing: a decision comes every "
                f"{interval:g} s",
            )
        if guard["max_step"] >= steps > 1:
            self._say(
                "notice",
                "guard.max_step",
                f"{guard['max_step']} lets a change go from one end of the "
                f"{steps + 1} values to the other",
            )
        if not guard["min_confidence"]:
            self._say("notice", "guard.min_confidence", "0 refuses nothing")
        if plan["objective"] is not None and interval * 3 > plan["trial"]["period_s"]:
            self._say(
                "notice",
                "trial.period_s",
                f"{plan['trial']['period_s']:g} s is less than three decisions: scores "
                "will be noisy",
            )
        if plan["objective"] is None and plan["proxy"] is None:
            self._say(
                "notice",
                "objective",
                "missing: nothing can be measured; `run --apply` needs --mode always",
            )
        if len(self.findings) == before:
            react = guard["settle"] * interval
            self._say("ok", "guard", f"a change takes {react:g} s at least")

    # ------------------------------------------------------------------ its attributes

    def _attributes(self) -> None:
        plan = self._plan
        devices = find_devices(plan["devices"], plan["skip"], self._root)
        if not devices:
            self._say(
                "problem",
                "devices",
                f"nothing matches {plan['devices']!r} except what skip leaves out",
            )
            return
        self._say("ok", "devices", " ".join(name for name, _ in devices))
        everything = []
        for name, path in devices:
            specs = [s.replace("{device}", path) for s in plan["fields"].values()]
            with AttrSet(specs, root=self._root) as attrs:
                self._fields(name, attrs)
            everything += specs
            self._knob(name, plan["knob"]["path"].replace("{device}", path))
        self._sample(devices, everything)
        self._cost()

    def _fields(self, device: str, attrs: AttrSet) -> None:
        attrs.read()
        names = list(self._plan["fields"])
        errors = attrs.errors()
        for error in errors:
            why = error.reason
            if error.errno:
                why += f" ({os.strerror(error.errno)})"
            self._say(
                "problem",
                f"fields.{names[error.index]}",
                f"{error.path}: {why}",
                device,
            )
        if not errors:
            self._say("ok", "fields", f"all {len(names)} can be read", device)

    def _knob(self, device: str, spec: str) -> None:
        knob = self._plan["knob"]
        full = os.path.join(self._root, spec.lstrip("/"))
        with AttrSet([spec], root=self._root) as attrs:
            if attrs.read():
                reason = attrs.errors()[0].reason
                self._say("problem", "knob.path", f"{spec}: {reason}", device)
                return
            value, info = attrs[0], attrs.fields[0]
        if info.choices or info.scale != 1:
            self._say("problem", "knob.path", f"{spec}: is no whole number", device)
        if not os.access(full, os.W_OK):
            self._say(
                "notice",
                "knob.path",
                f"{spec}: may not be written by this user: --apply and "
                "collect --sweep need more rights",
                device,
            )
        if value not in knob["values"]:
            self._say(
                "notice",
                "knob.values",
                f"is {value} now, which is none of {knob['values']}: the "
                "nearest below counts",
                device,
            )
        elif value != knob["default"]:
            self._say(
                "notice",
                "knob.default",
                f"is {value} now, but the default to compare with is {knob['default']}",
                device,
            )
        else:
            self._say("ok", "knob", f"is {value} now, the default", device)

    # ------------------------------------------------------------------- their features

    def _sample(self, devices: list[tuple[str, str]], specs: list[str]) -> None:
        """Snapshots for some time, as the loop takes them but quicker."""
        plan, n = self._plan, len(self._plan["fields"])
        places: dict[str, int] = {}
        lanes = [places.setdefault(spec, len(places)) for spec in specs]
        with AttrSet(list(places), root=self._root) as attrs:
            rows = []
            for i in range(len(devices)):
                lane = lanes[i * n : i * n + n]
                scales = [attrs.fields[place].scale for place in lane]
                rows.append((lane, _Rows(plan, scales)))
            every = min(plan["interval_ms"] / 1000, self._seconds / _LEAST_ROWS)
            every = max(every, self._seconds / _MOST_ROWS)
            end = time.monotonic() + self._seconds
            while True:
                attrs.read()
                values, valid = attrs.row.tolist(), attrs.valid
                for lane, found in rows:
                    found.add(
                        [
                            values[p] if valid[p >> 3] >> (p & 7) & 1 else None
                            for p in lane
                        ],
                        attrs.time_ns,
                    )
                if time.monotonic() >= end:
                    break
                time.sleep(every)
        for (name, _), (_, found) in zip(devices, rows, strict=True):
            self._judge(name, found)

    def _judge(self, device: str, rows: _Rows) -> None:
        """What features were like."""
        count, before = len(rows.values), len(self.findings)
        if not count:
            self._say("problem", "feature", "no row of features came about", device)
            return
        constant = []
        for i, feature in enumerate(self._plan["features"]):
            values = [row[i] for row in rows.values]
            self._bounds(device, feature, values)
            self._likeness(device, feature, values)
            if len(set(values)) == 1:
                constant.append(feature["name"])
        if constant:
            self._say(
                "notice",
                "feature",
                f"constant in {count} rows: {', '.join(constant)}: let a "
                "workload run, or they are of no use",
                device,
            )
        if len(self.findings) == before:
            self._say("ok", "feature", f"{count} rows, all within bounds", device)

    def _bounds(
        self, device: str, feature: dict[str, Any], values: list[float]
    ) -> None:
        if feature["clip"] is None:
            return
        low, high = feature["clip"]
        for bound, word in ((low, "lower"), (high, "upper")):
            share = sum(value == bound for value in values) / len(values)
            # what is idle is often at its lower bound, 0
            if share > _OFTEN and bound:
                self._say(
                    "notice",
                    f"feature {feature['name']}",
                    f"cut off at its {word} bound {bound:g} in {share:.0%} "
                    "of rows: widen clip",
                    device,
                )

    def _likeness(
        self, device: str, feature: dict[str, Any], values: list[float]
    ) -> None:
        if (feature["mean"], feature["std"]) == (0.0, 1.0):
            return  # not trained yet
        far = [
            value
            for value in values
            if abs(value - feature["mean"]) > _FAR * feature["std"]
        ]
        if len(far) > _OFTEN * len(values):
            self._say(
                "notice",
                f"feature {feature['name']}",
                f"{far[-1]:.4g} found, but in training it was "
                f"{feature['mean']:.4g} +- {feature['std']:.4g}",
                device,
            )

    def _cost(self) -> None:
        """What decisions take here, all of them together."""
        if "program" not in self._plan:
            return
        from .loop import Loop
        from .stream import STAGES

        # the model is asked also where nothing is going on
        guard = self._plan["guard"] | {"min_activity": None}
        loop = Loop(self._plan | {"guard": guard}, root=self._root)
        whole = []
        try:
            for _ in range(_STEPS):
                loop.step()
                every = [loop.decision(i) for i in range(len(loop.devices))]
                whole.append(max(decision.latency_ns for decision in every))
            text = ", ".join(
                f"{name} {stage.percentile(50) / 1000:.1f}"
                for name, stage in zip(STAGES, loop.latencies, strict=True)
            )
        finally:
            loop.close()
        took = sorted(whole)[_STEPS // 2] / 1000
        slow = took > self._plan["guard"]["deadline_us"]
        text = f"{took:.1f} us a decision (medians: {text})"
        if slow:
            text += ", more than guard.deadline_us: it would not be used"
        self._say("problem" if slow else "ok", "cost", text)

    # ------------------------------------------------------------ models in the kernel

    def _kernel(self) -> None:
        from .proxy import Proxy, discover

        plan, known = self._plan, discover(self._root)
        names = [name for name in known if is_wanted(name, plan["proxy"], plan["skip"])]
        if not names:
            self._say(
                "problem",
                "proxy",
                f"the kernel has no model {plan['proxy']!r}; it has: "
                f"{', '.join(known) or 'none'}",
            )
        for name in names:
            with Proxy(name, root=self._root, write=False) as proxy:
                self._kernel_model(proxy)

    def _kernel_model(self, proxy: Proxy) -> None:
        plan, name = self._plan, proxy.name
        knobs = {knob.name: knob for knob in proxy.knobs}
        features = [feature.name for feature in proxy.features]
        for key, wanted in plan["fields"].items():
            if wanted not in features:
                self._say(
                    "problem",
                    f"fields.{key}",
                    f"has no feature {wanted!r}; it has {', '.join(features)}",
                    name,
                )
        knob = knobs.get(plan["knob"]["path"])
        if knob is None:
            self._say(
                "problem",
                "knob.path",
                f"has no knob {plan['knob']['path']!r}; it has "
                f"{', '.join(knobs) or 'none'}",
                name,
            )
            return
        for value in plan["knob"]["values"]:
            if not knob.low <= value <= knob.high or (value - knob.low) % knob.step:
                self._say(
                    "problem",
                    "knob.values",
                    f"{value} found, it can have {knob.low} to {knob.high} in "
                    f"steps of {knob.step}",
                    name,
                )
        if knob.default != plan["knob"]["default"]:
            self._say(
                "notice",
                "knob.default",
                f"{plan['knob']['default']} found, the kernel's is {knob.default}",
                name,
            )
        self._say("ok", "proxy", f"{proxy.state}, mode {proxy.mode}", name)

    # -------------------------------------------------------------------------- others

    def _rivals(self) -> None:
        """Programs that may write the same knob."""
        folder = os.path.join(self._root, "proc")
        found = set()
        for entry in os.listdir(folder) if os.path.isdir(folder) else ():
            if entry.isdigit():
                try:
                    with open(os.path.join(folder, entry, "comm")) as file:
                        name = file.read().strip()
                except OSError:
                    continue
                if name in _RIVALS:
                    found.add(name)
        for name in sorted(found):
            self._say(
                "notice",
                "knob",
                f"{name} runs, and may set it, too: what it sets is left alone from "
                "then on",
            )
