# SPDX-License-Identifier: MIT
"""Replay: compute every decision of a log again, and say why it ended as it did.

Each stage is computed from what the log has for the stage before, so the first
stage that differs is where it went wrong. Times, the knob's value and what the
kernel answered are inputs: a replay takes them from the log.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from . import policy
from .engine import Model, Profiler, Program
from .errors import ModelError, RecordError
from .features import Features
from .guard import REASON_NAMES, REASON_TEXTS, Guard
from .records import (
    APPLY,
    ASKED,
    CHANGED,
    FRESH,
    HELD_OUT,
    KNOB_KNOWN,
    LIMITED,
    Damage,
    Decision,
    Effect,
    Event,
    Head,
    Segment,
    StreamState,
    open_log,
    wrap,
)
from .records import Program as ProgramRecord

_READY, _WARMING, _INVALID = range(3)
# An effect is matched with one of so many last decisions.
_LAG = 4096
_TEXTS = dict(zip(REASON_NAMES, REASON_TEXTS, strict=True))
# Operators that remember, also if their first state is all zero.
_REMEMBER = {"SVDF", "UNIDIRECTIONAL_SEQUENCE_LSTM"}


class _Limits(policy.Guard):
    """As in a policy, but prepared."""

    min_activity: tuple[str, float] | None = None  # type: ignore[assignment]


class Plan(Struct):
    """The part of a plan that decides.

    Attributes
    ----------
    name : str
        The policy's.
    fields : dict of str to str
        Name to where it was read.
    features : list of pymlk.policy.Feature
        In the order of the model's inputs.
    knob : pymlk.policy.Knob
        Values in the order of the model's outputs.
    guard
        The limits.
    objective : str or None
        The field whose rate is the effect.
    file : str
        The policy's path.
    model : pymlk.policy.ModelPart
        How many rows of features it sees.
    """

    name: str
    fields: dict[str, str]
    features: list[policy.Feature]
    knob: policy.Knob
    guard: _Limits
    objective: str | None = None
    file: str = ""
    # records of before models had a history do not name it
    model: policy.ModelPart = msgspec.field(
        default_factory=lambda: policy.ModelPart("")
    )


class Difference(NamedTuple):
    """Where a replay and its log differ.

    Attributes
    ----------
    stage : str
        ``features``, ``outputs``, ``choice``, ``asked``, ``reason``, ``target``,
        ``limited`` or ``state``.
    recorded, replayed : object
        What the log has, and what was computed.
    """

    stage: str
    recorded: object
    replayed: object


class Step(NamedTuple):
    """One thing that was checked on the way to a verdict.

    Attributes
    ----------
    name : str
        The reason that it can end with.
    passed : bool
        False for the one that decided.
    text : str
        The figures that were compared.
    """

    name: str
    passed: bool
    text: str


class Replayed(Struct):
    """One decision, computed again.

    Attributes
    ----------
    file : str
        Its segment.
    wall_ns : int
        When: CLOCK_REALTIME, from the segment's start.
    device, mode : str
        What was decided on, and what the run was allowed.
    plan : Plan
        The policy.
    state : StreamState
        Its stream: fields, places, scales.
    decision : Decision
        As recorded.
    features : dict of str to float
        Before standardisation; empty if they could not be computed.
    choice : int or None
        Place of the recommended value.
    recommended : int or None
        That value.
    confidence : float or None
        As the guard was given it.
    effect : float or None
        What came of it: the score, or the objective's rate until the next snapshot.
    difference : Difference or None
        The first stage that differs.
    why : dict or None
        The explanation, if it was asked for.
    """

    file: str
    wall_ns: int
    device: str
    mode: str
    plan: Plan
    state: StreamState
    decision: Decision
    features: dict[str, float] = {}
    choice: int | None = None
    recommended: int | None = None
    confidence: float | None = None
    effect: float | None = None
    difference: Difference | None = None
    why: dict[str, Any] | None = None

    def differs(self, stage: str, recorded: object, replayed: object) -> None:
        """Note a difference; only the first one stays."""
        if self.difference is None and recorded != replayed:
            self.difference = Difference(stage, recorded, replayed)


class _Loaded:
    """A program of the log, ready to run."""

    def __init__(self, record: ProgramRecord) -> None:
        self.version = record.version
        program = Program(record.data)
        self.model = Model(program)
        self.remembers = Profiler(program).first > 0 or bool(
            _REMEMBER & set(program.ops)
        )
        self.crc = program.source_crc
        self._in = self.model.input.cast("B")
        self._out = self.model.output.cast("B")
        if self.model.input.itemsize != 1 or self.model.output.itemsize != 1:
            raise ModelError(f"program version {record.version}: not int8")
        self.sizes = (self._in.nbytes, self._out.nbytes)
        self.scale = self.model.output_quant.scale
        self.zero_point = self.model.output_quant.zero_point

    def run(self, inputs: bytes) -> bytes:
        self._in[:] = inputs
        self.model.invoke()
        return bytes(self._out)

    def confidence(self, outputs: bytes, choice: int) -> float:
        return (_signed(outputs)[choice] - self.zero_point) * self.scale


def _signed(values: bytes) -> memoryview:
    return memoryview(values).cast("b")


class _Stream:
    """A stream that is computed again."""

    def __init__(self, plan: Plan, state: StreamState, program: _Loaded) -> None:
        if (state.inputs, state.outputs) != program.sizes or (
            state.inputs != len(plan.features) * plan.model.history
            or state.outputs != len(plan.knob.values)
        ):
            raise RecordError(
                f"{state.device}: {state.inputs} inputs and {state.outputs} choices "
                f"found, {len(plan.features) * plan.model.history} and "
                f"{len(plan.knob.values)} expected"
            )
        quant = program.model.input_quant
        self.plan, self.state, self.mode = plan, state, state.mode
        self.features = Features(
            [msgspec.to_builtins(feature) for feature in plan.features],
            state.fields,
            quant.scale,
            quant.zero_point,
            plan.model.history,
        )
        self.features.set_state(state.features)
        self.features.set_history(bytes.fromhex(state.history))
        self.guard = Guard.of_policy(
            {
                "knob": {"values": plan.knob.values},
                "guard": msgspec.to_builtins(plan.guard),
            },
            state.guard.apply,
        )
        self.guard.set_state(msgspec.to_builtins(state.guard))
        self.last: Replayed | None = None

    def remembered(self) -> dict[str, Any]:
        """Everything that the next decision depends on."""
        return {
            "features": self.features.get_state(),
            "history": self.features.get_history(),
            "guard": self.guard.get_state(),
        }

    def ends_as(self, state: StreamState) -> bool:
        """Does that go on where this ended? Numbers of streams are used again."""
        if self.last is None:
            return False
        d = self.last.decision
        return (self.state.device, d.seq, d.time_ns) == (
            state.device,
            state.seq,
            state.time_ns,
        )

    def set_apply(self, apply: bool) -> None:
        """A mode change reached the guard."""
        state = self.guard.get_state()
        if state["apply"] != apply:
            self.guard.set_state(state | {"apply": apply})

    def moved(self, name: str, d: Decision) -> int:
        """How far a field went since the row before, as int64 has it."""
        place, _ = self.state.fields[name]
        return wrap(d.row[place] - d.before[place])

    def activity(self, d: Decision) -> tuple[float, float] | None:
        """How far the activity's field went, and how far it has to go."""
        if self.plan.guard.min_activity is None:
            return None
        name, rate = self.plan.guard.min_activity
        _, scale = self.state.fields[name]
        return float(self.moved(name, d)), rate * scale * d.seconds

    def objective(self, d: Decision) -> float | None:
        """The objective's rate since the row before."""
        name = self.plan.objective
        if name is None or not d.seconds > 0:
            return None
        place, scale = self.state.fields[name]
        if not (d.valid[place] and d.valid_before[place]):
            return None
        return float(self.moved(name, d)) / (scale * d.seconds)


class Replay:
    """All decisions of a log, computed again in their order; iterate over it once.

    Parameters
    ----------
    path : str
        The log's folder, or one segment.
    progress : callable or None
        Called with the bytes that were read so far, after each segment.
    explain : callable or None
        Called with device and sequence number; True if the decision is to be explained.

    Attributes
    ----------
    decisions, differences : int
        How many there were, and how many of them differ.
    segments : int
        How many were read.
    runs : list of str
        Which runs the log has.
    devices : list of str
        What was decided on.
    missed : int
        Decisions and effects that the recorder could not write.
    damages : list of Damage
        Where segments end too early.
    notices : list of str
        What else the reader should know.
    events : list of pymlk.records.Event
        Mode changes and so on.

    Raises
    ------
    RecordError
        While iterating: if there is no log.
    OSError
        While iterating: if it cannot be read.

    Thread safety
    -------------
    None.
    """

    def __init__(
        self,
        path: str,
        *,
        progress: Callable[[int], None] | None = None,
        explain: Callable[[str, int], bool] | None = None,
    ) -> None:
        self.path = path
        self.decisions = self.differences = self.segments = self.missed = 0
        self.runs: list[str] = []
        self.devices: list[str] = []
        self.damages: list[Damage] = []
        self.notices: list[str] = []
        self.events: list[Event] = []
        self._progress = progress
        self._explain = explain
        self._pending: deque[Replayed] = deque()
        self._head: Head | None = None
        self._number = 0
        self._follows = False
        self._plan: Plan | None = None
        self._programs: dict[int, _Loaded] = {}
        self._current: _Loaded | None = None
        self._streams: dict[int, _Stream] = {}

    def __iter__(self) -> Iterator[Replayed]:
        """Yield the decisions, each with its effect if that is known."""
        done = 0
        for segment in open_log(self.path):
            self.segments += 1
            try:
                yield from self._segment(segment)
            except KeyError as error:
                segment.damage = Damage(segment.path, 0, f"no {error} in it", False)
            except (ValueError, OverflowError) as error:
                # what no recorder writes: a plan or state that does not fit
                segment.damage = Damage(segment.path, 0, str(error), False)
            if segment.damage is not None:
                self.damages.append(segment.damage)
                self._head = None
            done += segment.bytes
            if self._progress is not None:
                self._progress(done)
        while self._pending:
            yield self._pending.popleft()

    def _segment(self, segment: Segment) -> Iterator[Replayed]:
        # what is not in this segment's head does not count in it
        former, self._streams = self._streams, {}
        self._current = None
        begun = False
        for record in segment.records():
            if not begun and not isinstance(record, Head):
                raise RecordError("a segment without a plan")
            begun = True
            if isinstance(record, Head):
                self._begin(segment, record)
            elif isinstance(record, ProgramRecord):
                self._load(record)
            elif isinstance(record, StreamState):
                self._add(segment, record, former)
            elif isinstance(record, Decision):
                self._note(self._decide(segment, record))
                if len(self._pending) > _LAG:
                    yield self._pending.popleft()
            elif isinstance(record, Effect):
                self._effect(record)
            else:
                self._event(record)
        self._number = segment.number

    def _event(self, event: Event) -> None:
        self.events.append(event)
        for stream in self._streams.values():
            if event.event == "mode" and event.device in ("", stream.state.device):
                stream.mode = event.text

    def _begin(self, segment: Segment, head: Head) -> None:
        before = self._head
        self._follows = (
            before is not None
            and before.run == head.run
            and segment.number == self._number + 1
            and before.missed == head.missed
        )
        if before is not None and segment.number != self._number + 1:
            self.notices.append(
                f"{segment.path}: segments {self._number + 1} to "
                f"{segment.number - 1} are not there"
            )
        same_run = before is not None and before.run == head.run
        missed = head.missed - (before.missed if before and same_run else 0)
        if missed > 0:
            self.missed += missed
            self.notices.append(
                f"{segment.path}: before it {missed} decisions or effects were not "
                "recorded"
            )
        if not self._follows:
            self._programs = {}
        if head.run not in self.runs:
            self.runs.append(head.run)
        self._head = head
        self._plan = msgspec.convert(head.plan, Plan)

    def _load(self, record: ProgramRecord) -> None:
        known = self._programs.get(record.version)
        if known is None or bytes(known.model.program or b"") != record.data:
            self._programs[record.version] = known = _Loaded(record)
            whole = self._follows or (self._head and not self._head.recorded)
            if known.remembers and not whole:
                self.notices.append(
                    f"program version {record.version} remembers earlier runs, which "
                    "this log does not have: its outputs are taken as recorded"
                )
        self._current = known

    def _add(
        self, segment: Segment, state: StreamState, former: dict[int, _Stream]
    ) -> None:
        if self._plan is None or self._current is None:
            raise RecordError("a stream without a plan and a program")
        stream = _Stream(self._plan, state, self._current)
        known = former.pop(state.stream, None)
        if self._follows and known is not None and known.ends_as(state):
            stream.last = known.last
            recorded, replayed = stream.remembered(), known.remembered()
            if repr(recorded) != repr(replayed):
                self.differences += 1
                self.notices.append(
                    f"{segment.path}: {state.device}: state {recorded} found, "
                    f"{replayed} expected from the segment before"
                )
        self._streams[state.stream] = stream
        if state.device not in self.devices:
            self.devices.append(state.device)

    def _note(self, found: Replayed) -> None:
        self.decisions += 1
        self.differences += found.difference is not None
        self._pending.append(found)

    def _effect(self, effect: Effect) -> None:
        for found in reversed(self._pending):
            if (found.state.stream, found.decision.seq) == (effect.stream, effect.seq):
                found.effect = effect.value
                return

    def _decide(self, segment: Segment, d: Decision) -> Replayed:
        stream = self._streams[d.stream]
        found = Replayed(
            segment.path,
            segment.wall_ns + d.time_ns - segment.monotonic_ns,
            stream.state.device,
            stream.mode,
            stream.plan,
            stream.state,
            d,
        )
        if stream.last is not None and stream.last.effect is None:
            stream.last.effect = stream.objective(d)
        stream.last = found
        stream.set_apply(d.has(APPLY))
        wanted = self._explain is not None and self._explain(found.device, d.seq)
        before = stream.guard.get_state() if wanted else {}
        state, inputs = stream.features.step(
            [x if ok else None for x, ok in zip(d.row, d.valid, strict=True)],
            [x if ok else None for x, ok in zip(d.before, d.valid_before, strict=True)],
            d.seconds,
        )
        if state == _READY:
            values = memoryview(stream.features).tolist()
            found.features = dict(zip(stream.features.names, values, strict=True))
        ending = self._early(stream, d, state)
        found.differs("asked", d.has(ASKED), ending is None)
        if ending is not None:
            found.differs("reason", d.reason, ending)
            found.differs("target", d.target, d.current)
        elif d.has(ASKED):
            self._judge(found, stream, inputs)
        if d.has(CHANGED):
            stream.guard.note_change(d.target, d.changed_ns)
        if wanted:
            program = self._programs.get(d.version)
            found.why = _explain(found, stream, state, before, program)
        return found

    def _early(self, stream: _Stream, d: Decision, state: int) -> str | None:
        """The reason, if the model is not asked at all."""
        if not d.has(KNOB_KNOWN) or state == _INVALID:
            return "invalid-input"
        if stream.guard.look(d.current):
            return "hands-off"
        if state == _WARMING:
            return "warming-up"
        activity = stream.activity(d)
        if activity is not None and activity[0] < activity[1]:
            return "idle"
        return None

    def _judge(self, found: Replayed, stream: _Stream, inputs: bytes) -> None:
        d = found.decision
        program = self._programs.get(d.version)
        if program is None:
            raise RecordError(f"program version {d.version} is not in it")
        found.differs("features", list(_signed(d.inputs)), list(_signed(inputs)))
        outputs = program.run(d.inputs)
        if not program.remembers or self._remembers_all():
            found.differs("outputs", list(_signed(d.outputs)), list(_signed(outputs)))
        numbers = _signed(d.outputs)
        choice = d.choice if d.choice >= 0 else numbers.tolist().index(max(numbers))
        if not 0 <= choice < len(stream.plan.knob.values):
            found.differs("choice", choice, f"below {len(stream.plan.knob.values)}")
            return
        found.choice = choice
        found.recommended = stream.plan.knob.values[choice]
        found.confidence = (
            program.confidence(d.outputs, choice)
            if d.confidence is None
            else d.confidence
        )
        before = {} if d.has(CHANGED) else stream.guard.get_state()
        reason, target = stream.guard.check(
            choice,
            found.confidence,
            d.current,
            now_ns=d.judged_ns,
            latency_ns=d.judged_latency_ns,
        )
        if reason == "applied" and not d.has(CHANGED):
            # the kernel refused, or it was the default's turn: the guard never heard
            kept = ("changed_ns", "expected")
            known = stream.guard.get_state() | {key: before[key] for key in kept}
            stream.guard.set_state(known)
        if d.has(HELD_OUT):
            reason, target = "holdout", stream.guard.get_state()["original"]
        if d.reason != "refused" or reason not in ("applied", "same", "holdout"):
            found.differs("reason", d.reason, reason)
        found.differs("target", d.wanted, target)
        found.differs("limited", d.has(LIMITED), _is_limited(stream.plan, d, choice))

    def _remembers_all(self) -> bool:
        return self._follows or not (self._head and self._head.recorded)


def _place(values: list[int], value: int) -> int:
    """Place of a value among the allowed ones; of the nearest below if absent."""
    return max(0, sum(allowed <= value for allowed in values) - 1)


def _is_limited(plan: Plan, d: Decision, choice: int) -> bool:
    return abs(choice - _place(plan.knob.values, d.current)) > plan.guard.max_step


def _explain(
    found: Replayed,
    stream: _Stream,
    state: int,
    before: dict[str, int],
    program: _Loaded | None,
) -> dict[str, Any]:
    """Everything that led to a decision, as plain values in their order."""
    d, plan = found.decision, found.plan
    steps = _early_steps(found, stream, state, before)
    if d.has(ASKED) and found.choice is not None:
        steps += _guard_steps(found, before)
    why: dict[str, Any] = {
        "fields": {
            name: {
                "from": plan.fields.get(name, ""),
                "value": d.row[place] / scale if scale != 1 else d.row[place],
                "valid": d.valid[place],
                "change": None
                if d.has(FRESH)
                else stream.moved(name, d) / scale
                if scale != 1
                else stream.moved(name, d),
            }
            for name, (place, scale) in stream.state.fields.items()
        },
        "features": _feature_facts(found),
        "steps": [step._asdict() for step in steps],
    }
    if d.has(ASKED) and program is not None:
        outputs = _signed(d.outputs).tolist()
        why["outputs"] = [
            {
                "value": value,
                "output": outputs[i],
                "confidence": program.confidence(d.outputs, i),
            }
            for i, value in enumerate(plan.knob.values)
        ]
        why["program"] = {
            "version": d.version,
            "source_crc": f"{program.crc:08x}",
        }
        if not program.remembers and found.choice is not None:
            why["influence"] = _influence(found, program)
    return why


def _feature_facts(found: Replayed) -> list[dict[str, Any]]:
    d = found.decision
    # of a history the newest row
    newest = d.inputs[-len(found.plan.features) :]
    inputs = _signed(newest).tolist() if d.has(ASKED) else []
    return [
        {
            "name": feature.name,
            "value": found.features.get(feature.name),
            "standardised": (found.features[feature.name] - feature.mean) / feature.std
            if feature.name in found.features
            else None,
            "input": inputs[i] if inputs else None,
        }
        for i, feature in enumerate(found.plan.features)
    ]


def _influence(found: Replayed, program: _Loaded) -> dict[str, float]:
    """What the choice's confidence loses if one feature had its training mean.

    In all rows of a history. The model alone, one feature at a time: no more than a
    hint where features depend on each other.
    """
    d, choice = found.decision, found.choice or 0
    mean = program.model.input_quant.zero_point & 0xFF
    whole = program.confidence(program.run(d.inputs), choice)
    influence = {}
    for i, feature in enumerate(found.plan.features):
        inputs = bytearray(d.inputs)
        for at in range(i, len(inputs), len(found.plan.features)):
            inputs[at] = mean
        changed = program.confidence(program.run(bytes(inputs)), choice)
        influence[feature.name] = whole - changed
    return influence


def _early_steps(
    found: Replayed, stream: _Stream, state: int, before: dict[str, int]
) -> list[Step]:
    d = found.decision
    unread = [n for n, (at, _) in stream.state.fields.items() if not d.valid[at]]
    unread += [] if d.has(KNOB_KNOWN) else ["the knob"]
    foreign = bool(before["hands_off"]) or (
        bool(before["apply"] and before["started"]) and d.current != before["expected"]
    )
    claim = f"the knob has {d.current}"
    if before["hands_off"]:
        claim += "; somebody else was seen to change it before"
    elif before["apply"] and before["started"]:
        claim += f", {before['expected']} expected"
    steps = [
        Step(
            "invalid-input",
            d.has(KNOB_KNOWN) and state != _INVALID,
            f"not read: {', '.join(unread)}" if unread else "every field was read",
        ),
        Step("hands-off", not foreign, claim),
        Step(
            "warming-up",
            state == _READY,
            f"{d.seconds:.6g} s since the row before"
            if not d.has(FRESH)
            else "no row before",
        ),
    ]
    activity = stream.activity(d)
    if activity is not None and stream.plan.guard.min_activity is not None:
        moved, least = activity
        name, rate = stream.plan.guard.min_activity
        text = f"{name} went {moved:g}, at least {least:g} expected ({rate:g} a second)"
        steps.append(Step("idle", moved >= least, text))
    return _until_decided(steps)


def _guard_steps(found: Replayed, before: dict[str, int]) -> list[Step]:
    """The guard's own order, with the figures that it compared."""
    d, limits, values = found.decision, found.plan.guard, found.plan.knob.values
    if d.has(HELD_OUT):
        text = f"the default's turn: {d.current} -> {d.wanted}, whatever is recommended"
        return [Step("holdout", False, text)]
    choice, confidence = found.choice or 0, found.confidence or 0.0
    repeated = before["repeated"] + 1 if before["last"] == choice else 1
    late_ns, deadline_ns = d.judged_latency_ns, limits.deadline_us * 1000
    interval_ns = int(limits.min_interval_s * 1e9)
    since = d.judged_ns - before["changed_ns"]
    quiet = not before["changed_ns"] or since >= interval_ns
    last_change = (
        f"{since / 1e9:.3f} s since the last change"
        if before["changed_ns"]
        else "not changed before"
    )
    needed = limits.settle if values[choice] != before["original"] else 1
    steps = [
        Step(
            "late",
            late_ns <= deadline_ns,
            f"{late_ns / 1000:.1f} us since the snapshot began, at most "
            f"{limits.deadline_us} us",
        ),
        Step(
            "unsure",
            confidence >= limits.min_confidence,
            f"confidence {confidence:.4f}, at least {limits.min_confidence:g}",
        ),
        Step(
            "same",
            values[choice] != d.current,
            f"recommended {values[choice]}, the knob has {d.current}",
        ),
        Step(
            "settling",
            repeated >= needed,
            f"recommended {repeated} times in a row, {needed} expected",
        ),
        Step(
            "rate-limit",
            quiet,
            f"{last_change}, at least {limits.min_interval_s:g} s",
        ),
    ]
    steps = _until_decided(steps)
    if not steps[-1].passed:
        return steps
    place = _place(values, d.current)
    text = f"{abs(choice - place)} places, at most {limits.max_step}"
    steps.append(
        Step(
            "applied" if d.has(APPLY) else "would-apply",
            False,
            f"{text}: {d.current} -> {d.wanted}; {_TEXTS.get(d.reason, d.reason)}",
        )
    )
    return steps


def _until_decided(steps: list[Step]) -> list[Step]:
    """What comes behind the step that decided was never looked at."""
    for i, step in enumerate(steps):
        if not step.passed:
            return steps[: i + 1]
    return steps
