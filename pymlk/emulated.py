# SPDX-License-Identifier: MIT
"""One emulated model: states, modes, guard and score, as the kernel's documents say.

What is public is the kernel's API for clients (kernel/include/linux/mlk.h) in its own
words. Everything runs under the emulator's lock; where the kernel would return an
error, OSError is raised.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import random
import struct
import threading
import time

from .emulated_image import Image, load
from .proxy import MODES, REASONS, STATES, RingWriter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from .proxy import Feature, Knob

    Ops = Mapping[str, Callable[["Model"], object]]

EMERGENCY, LEARNING, COLLABORATION, RECOMMENDATION = range(4)
CREATED, INITIALIZED, STARTED, RUNNING, STOPPED, DESTROYED = range(6)
ARM_NONE, ARM_DEFAULT, ARM_MODEL, ARM_FALLBACK = range(4)
GOOD, BOUNDED, STEPPED, RATE, NONE, STALE, UNSURE = range(7)
SAMPLE, OUTCOME = 1, 2
VERDICT_COUNTERS = (None, "bounded", "stepped", "rate", "none", "stale", "unsure")

MAX_FEATURES, MAX_KNOBS, NAME_BYTES, MAX_RECORDS = 64, 8, 32, 1 << 20
INT64_MAX = (1 << 63) - 1
# sums of 2^20 scores fit in 63 bits
MAX_SCORE = 1 << 42
MAX_SCORES = 1 << 20
BUCKETS = 32

# name -> least, greatest, default
OPTIONS = {
    "collaboration_permil": (0, 1000, 500),
    "holdout_permil": (0, 1000, 50),
    "min_samples": (1, 1 << 20, 100),
    "auto_promote": (0, 1, 0),
    "promote_permil": (-1000, 1000, 20),
    "demote_permil": (-1000, 1000, -20),
    "fail_permil": (-1000, 1000, -100),
    "deadline_ms": (0, 3_600_000, 1000),
    "max_age_ms": (0, 3_600_000, 0),
    "min_confidence_permil": (0, 1000, 0),
    "max_refused": (1, 1 << 20, 8),
}
COUNTERS = (
    *("lost", "decisions", "followed", "held_out", "none", "stale", "unsure"),
    *("bounded", "stepped", "rate", "reports", "inferences", "recommendations"),
    *("refused", "heartbeats", "missed", "programs", "bad_programs", "mode_changes"),
)
# word -> states in which it is taken, state afterwards
COMMANDS = {
    "init": ((CREATED, STOPPED), INITIALIZED),
    "start": ((INITIALIZED,), STARTED),
    "run": ((STARTED,), RUNNING),
    "stop": ((INITIALIZED, STARTED, RUNNING), STOPPED),
    "sample": ((STARTED, RUNNING), None),
    "discard": ((CREATED, INITIALIZED, STARTED, RUNNING, STOPPED), None),
}
_DATASET = struct.Struct("<IHHIIIHHQQQ")
_RECOMMENDATION = struct.Struct("<HHIQI3I8q")
_F_SEALS = (1033, 0x2 | 0x4 | 0x10 | 0x1)  # F_ADD_SEALS: shrink, grow, write, seal


def refuse(number: int, text: str) -> OSError:
    """What the kernel would return, with a reason for people."""
    return OSError(number, text)


def _quotient(a: int, b: int) -> int:
    """As C divides: towards zero."""
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def _number(text: str, bits: int = 64) -> int:
    """As kstrtol() reads: an optional sign, decimal, 0x or 0."""
    digits = text.removesuffix("\n")
    body = digits[1:] if digits[:1] in ("+", "-") else digits
    try:
        if not body.isascii() or not body.isalnum():
            raise ValueError
        base = 16 if body[:2] in ("0x", "0X") else 8 if body[:1] == "0" else 10
        value = int(body, base)
    except ValueError:
        raise refuse(errno.EINVAL, f"{text!r} found, a number expected") from None
    value = -value if digits[0] == "-" else value
    if not -(1 << bits - 1) <= value < 1 << bits - 1:
        raise refuse(errno.ERANGE, f"{value} has more than {bits} bits")
    return value


def can(knob: Knob, value: int) -> bool:
    """Whether it is one of low, low + step, ... high."""
    return knob.low <= value <= knob.high and (value - knob.low) % knob.step == 0


class Decision:
    """What to do for one operation, see struct mlk_decision.

    Attributes
    ----------
    use : bool
        Whether the values are the model's; else the client does what it would do alone.
    value, advice : tuple of int
        What applies, and the model's answer after the guard; empty if `arm` is 0.
    seq, generation, arm, verdict : int
        The sample, the comparison that it counts for, enum mlk_arm and mlk_verdict.
    """

    __slots__ = ("advice", "arm", "generation", "seq", "use", "value", "verdict")

    def __init__(self, seq: int) -> None:
        self.seq = seq
        self.use = False
        self.arm = ARM_NONE
        self.verdict = GOOD
        self.generation = 0
        self.value: tuple[int, ...] = ()
        self.advice: tuple[int, ...] = ()


class _Limit:
    """What the guard keeps of one knob."""

    __slots__ = (
        "applied",
        "change",
        "changed_ns",
        "high",
        "interval_ms",
        "last",
        "low",
    )

    def __init__(self, knob: Knob) -> None:
        self.low, self.high = knob.low, knob.high
        self.change = self.interval_ms = 0
        self.reset(knob)

    def reset(self, knob: Knob) -> None:
        self.applied = self.last = knob.default
        self.changed_ns = 0

    def judge(self, knob: Knob, value: int, now: int) -> tuple[int, int]:
        """What may be applied of a value, and the verdict."""
        bounded = min(max(value, self.low), self.high)
        verdict = GOOD if bounded == value else BOUNDED
        last = min(max(self.last, self.low), self.high)
        if bounded == last:
            return bounded, verdict
        waits = self.changed_ns and now - self.changed_ns < self.interval_ms * 1_000_000
        if waits:
            return last, RATE
        change = self.change - self.change % knob.step
        if not self.change or abs(bounded - last) <= change:
            return bounded, verdict
        return last + (change if bounded > last else -change), STEPPED


class Model:
    """One registered model, see `Emulator.register`.

    Attributes
    ----------
    subsystem, name : str
        Its names.
    features, knobs : tuple
        As described.
    state, mode, why : int
        Numbers of the kernel's enums.
    """

    def __init__(
        self,
        lock: threading.RLock,
        changed: Callable[[Model, bool], None],
        subsystem: str,
        name: str,
        features: Sequence[Feature],
        knobs: Sequence[Knob],
        ops: Ops,
        limits: tuple[int, int, int, int],
    ) -> None:
        self.subsystem, self.name = subsystem, name
        self.features, self.knobs = tuple(features), tuple(knobs)
        self.ops = ops
        self.records, self.max_macs, self.max_arena_bytes, self.max_image_bytes = limits
        self._lock, self._changed = lock, changed
        self._check()
        self.state, self.mode, self.why = CREATED, EMERGENCY, 0
        self.options = {name: default for name, (_, _, default) in OPTIONS.items()}
        self.limits = [_Limit(knob) for knob in self.knobs]
        self.owner: object = None
        self.owner_pid = self.beat_ns = self.refused_row = 0
        self.advice: tuple[tuple[int, ...], int, int] | None = None
        self.image: Image | None = None
        self.program_id = self.program_swaps = 0
        self.program_diag = "no error"
        self._fell = False
        self._random = random.Random()
        self.generation = 0
        self._forget()
        self._make_ring()

    def _check(self) -> None:
        names = [self.subsystem, self.name]
        for group in (self.features, self.knobs):
            own = [item.name for item in group]
            names += own
            if len(set(own)) != len(own):
                raise refuse(errno.EINVAL, f"{own} found, different names expected")
        for name in names:
            plain = name.replace("_", "a").replace("-", "a")
            if not plain.isascii() or not plain.isalnum() or len(name) >= NAME_BYTES:
                raise refuse(errno.EINVAL, f"{name!r} cannot be a name")
        if not 1 <= len(self.features) <= MAX_FEATURES or len(self.knobs) > MAX_KNOBS:
            raise refuse(errno.EINVAL, "1 to 64 features and up to 8 knobs expected")
        if not 0 < self.records <= MAX_RECORDS or self.records & (self.records - 1):
            raise refuse(errno.EINVAL, f"{self.records} records, a power of 2 expected")
        for feature in self.features:
            if feature.low > feature.high:
                raise refuse(errno.EINVAL, f"{feature} has no range")
        for knob in self.knobs:
            if (
                knob.step < 1
                or not 0 <= knob.high - knob.low <= INT64_MAX
                or not can(knob, knob.high)
                or not can(knob, knob.default)
            ):
                raise refuse(errno.EINVAL, f"{knob} cannot be")

    def _make_ring(self) -> None:
        values = max(len(self.features), 4 + 2 * len(self.knobs))
        self.record_bytes = 24 + 8 * values
        page = mmap.PAGESIZE
        self.dataset_bytes = page - self.records * self.record_bytes // -page * page
        self.memory = os.memfd_create(f"mlk-{self.name}", os.MFD_ALLOW_SEALING)
        os.ftruncate(self.memory, self.dataset_bytes)
        self._map = mmap.mmap(self.memory, self.dataset_bytes)
        header = (0x444B4C4D, 1, _DATASET.size, page, self.record_bytes, self.records)
        _DATASET.pack_into(
            self._map, 0, *header, len(self.features), len(self.knobs), 0, 0, 0
        )
        # from now on nobody else can write to it or take pages away
        fcntl.fcntl(self.memory, *_F_SEALS)
        self._ring = RingWriter(self._map)

    def _forget(self) -> None:
        """Statistics and score, as after init."""
        self.stats = dict.fromkeys(COUNTERS, 0)
        self.answer_latency = [0] * BUCKETS
        self.decision_latency = [0] * BUCKETS
        self._restart()
        self.model_mean = self.default_mean = self.gain_permil = self.comparisons = 0
        self.refused_row = 0
        self.why = 0

    # what is in the files

    def texts(self) -> Iterator[tuple[str, str]]:
        """Name and content of each text file that can change."""
        yield "state", STATES[self.state]
        yield "mode", MODES[self.mode]
        yield "reason", REASONS[self.why]
        yield "owner", str(self.owner_pid)
        yield "program_id", str(self.program_id)
        yield "program_diag", self.program_diag
        for knob, limit in zip(self.knobs, self.limits, strict=True):
            yield f"knobs/{knob.name}", str(limit.applied)
            for part in ("low", "high", "change", "interval_ms"):
                yield f"knobs/{knob.name}_{part}", str(getattr(limit, part))
        for name, value in self.options.items():
            yield f"options/{name}", str(value)
        yield "score/default_samples", str(self._sums[0][0])
        yield "score/model_samples", str(self._sums[1][0])
        for name in ("default_mean", "model_mean", "gain_permil", "comparisons"):
            yield f"score/{name}", str(getattr(self, name))
        yield "stats/records", str(self.head)
        for name, value in self.stats.items():
            yield f"stats/{name}", str(value)
        for name in ("answer_latency", "decision_latency"):
            yield f"stats/{name}", " ".join(map(str, getattr(self, name)))

    def fixed_texts(self) -> Iterator[tuple[str, str]]:
        """Name and content of each text file that stays as it is."""
        for i, f in enumerate(self.features):
            text = f"{i}:{f.kind}:{f.unit}:{f.low}:{f.high}"
            yield f"features/{f.name}_type", text
        for i, k in enumerate(self.knobs):
            text = f"{i}:{k.unit}:{k.low}:{k.high}:{k.step}:{k.default}"
            yield f"knobs/{k.name}_type", text

    # states

    @property
    def head(self) -> int:
        """Number of the newest record."""
        return self._ring.head

    def alive(self) -> None:
        """Refuse with ENODEV if it is destroyed."""
        if self.state == DESTROYED:
            raise refuse(errno.ENODEV, f"{self.name} is unregistered")

    def _call(self, name: str) -> object:
        function = self.ops.get(name)
        return function(self) if function else None

    def control(self, word: str) -> None:
        """Change what the proxy is doing, as the file ``control`` does.

        Parameters
        ----------
        word : str
            ``init``, ``start``, ``run``, ``stop``, ``sample`` or ``discard``.

        Raises
        ------
        OSError
            EINVAL: another word; EBUSY: not in this state; what the client raises.

        Thread safety
        -------------
        Safe.
        """
        with self._lock:
            self.alive()
            if word not in COMMANDS:
                raise refuse(errno.EINVAL, f"{word!r} is no command")
            allowed, after = COMMANDS[word]
            if self.state not in allowed:
                state = STATES[self.state]
                raise refuse(errno.EBUSY, f"{word} found, the model is {state}")
            self._act(word)
            if after is not None:
                self.state = after
            if after == INITIALIZED:
                self.generation += 1
                self._forget()
            self._settle()

    def _act(self, word: str) -> None:
        if word == "stop":
            self._stop()
        elif word == "discard":
            self._ring.discard()
        elif word == "sample" and "sample" not in self.ops:
            raise refuse(errno.EOPNOTSUPP, "the client takes no samples")
        elif word != "run":
            self._call(word)

    def _stop(self) -> None:
        self.set_mode(EMERGENCY, "stop")
        self._settle()
        if self.state in (STARTED, RUNNING):
            self._call("stop")

    def unregister(self) -> None:
        """The client goes: files and device vanish, calls of others give ENODEV.

        Thread safety
        -------------
        Safe; may be called again.
        """
        with self._lock:
            if self.state == DESTROYED:
                return
            self._stop()
            self.state = DESTROYED
            self.image = None
            self._changed(self, False)
            os.close(self.memory)

    # modes

    def set_mode(self, mode: int, why: str) -> None:
        """Change the mode at once; `_settle` must follow."""
        if mode == self.mode:
            return
        self.mode, self.why = mode, REASONS.index(why)
        self.stats["mode_changes"] += 1
        self._restart()
        if mode == EMERGENCY:
            self._fell = True
            for knob, limit in zip(self.knobs, self.limits, strict=True):
                limit.reset(knob)
            self.advice = None

    def request_mode(self, mode: int) -> None:
        """Change the mode because somebody asked."""
        self.alive()
        if mode != EMERGENCY and self.state != RUNNING:
            raise refuse(errno.EBUSY, f"{MODES[mode]} found, the model is not running")
        if self.mode == EMERGENCY:
            # an owner is not to blame for the time when nobody asked it
            self.beat_ns = time.monotonic_ns()
        self.set_mode(mode, "request")
        self._settle()

    def fail(self, why: str) -> None:
        """To emergency."""
        with self._lock:
            if self.state != DESTROYED:
                self.set_mode(EMERGENCY, why)
                self._settle()

    def _settle(self) -> None:
        fell, self._fell = self._fell, False
        if fell:
            self._call("fallback")
        self._changed(self, False)

    def emergency(self) -> None:
        """The client wants its default back, see mlk_emergency().

        Thread safety
        -------------
        Safe.
        """
        self.fail("client")

    # the owner

    def set_owner(self, owner: object, pid: int) -> None:
        """Become the owner."""
        self.alive()
        if self.owner is not None and self.owner is not owner:
            raise refuse(errno.EBUSY, f"process {self.owner_pid} is the owner")
        if self.owner is None:
            self._change_owner(owner, pid)

    def drop_owner(self, owner: object) -> None:
        """Stop being the owner, if it is."""
        if self.owner is owner:
            self._change_owner(None, 0)

    def _change_owner(self, owner: object, pid: int) -> None:
        self.owner, self.owner_pid = owner, pid
        self.beat_ns = time.monotonic_ns()
        self.refused_row, self.advice = 0, None
        if self.state == DESTROYED:
            return
        if owner is None:
            self.set_mode(EMERGENCY, "owner")
        self._settle()

    def beat(self, owner: object) -> None:
        """A heartbeat."""
        self.alive()
        self._owned_by(owner)
        self.beat_ns = time.monotonic_ns()
        self.stats["heartbeats"] += 1
        self._changed(self, False)

    def _owned_by(self, owner: object) -> None:
        if owner is None or self.owner is not owner:
            raise refuse(errno.EPERM, "not the owner")

    def time_left(self, now: int) -> int | None:
        """Nanoseconds until the owner is late; None if it cannot be."""
        deadline = self.options["deadline_ms"] * 1_000_000
        if self.owner is None or not deadline or self.mode == EMERGENCY:
            return None
        return max(0, deadline - (now - self.beat_ns))

    def look_at_clock(self, now: int) -> None:
        """To emergency if the owner is late."""
        if self.time_left(now) == 0:
            self.stats["missed"] += 1
            self.set_mode(EMERGENCY, "heartbeat")
            self._settle()

    def recommend(self, owner: object, data: bytes) -> None:
        """One struct mlk_recommendation."""
        self.alive()
        self._owned_by(owner)
        if self.state != RUNNING:
            raise refuse(errno.EBUSY, "the model does not run")
        try:
            values, confidence, seq = self._checked(data)
        except OSError:
            self.stats["refused"] += 1
            self.refused_row += 1
            if self.refused_row >= self.options["max_refused"]:
                self.set_mode(EMERGENCY, "guard")
            self._settle()
            raise
        now = time.monotonic_ns()
        self.advice, self.beat_ns, self.refused_row = (values, confidence, now), now, 0
        self.stats["recommendations"] += 1
        asked = self._ring.time_of(seq)
        if asked:
            _count(self.answer_latency, now - asked)
        self._changed(self, False)
        self._call("advised")

    def _checked(self, data: bytes) -> tuple[tuple[int, ...], int, int]:
        version, size, confidence, seq, n, *rest = _RECOMMENDATION.unpack(data)
        values, others = rest[3 : 3 + len(self.knobs)], rest[3 + len(self.knobs) :]
        good = (version, size, n) == (1, _RECOMMENDATION.size, len(self.knobs))
        if not good or confidence > 1000 or any(rest[:3]) or seq > self.head:
            raise refuse(errno.EINVAL, "malformed recommendation")
        if not all(map(can, self.knobs, values)):
            raise refuse(errno.ERANGE, f"{values} has one that its knob cannot have")
        if any(others):
            raise refuse(errno.EINVAL, "values behind the last knob's")
        return tuple(values), confidence, seq

    # attributes and programs

    def write_attribute(self, name: str, text: str) -> None:
        """A write to one of the files; raises what the kernel would."""
        self.alive()
        folder, _, last = name.rpartition("/")
        word = text.removesuffix("\n")
        if "\0" in text:
            raise refuse(errno.EINVAL, "a zero in the text")
        if name == "control":
            self.control(word)
        elif name == "mode":
            if word not in MODES:
                raise refuse(errno.EINVAL, f"{word!r} is no mode")
            self.request_mode(MODES.index(word))
        elif folder == "options" and last in OPTIONS:
            self._set_option(last, _number(text, 32))
        elif folder == "knobs":
            self._set_limit(last, text)
        elif name in dict(self.texts()) or name in dict(self.fixed_texts()):
            raise refuse(errno.EACCES, f"{name} is for reading")
        else:
            raise refuse(errno.ENOENT, f"no file {name}")
        self._changed(self, False)

    def _set_option(self, name: str, value: int) -> None:
        least, most, _ = OPTIONS[name]
        new = self.options | {name: value}
        ordered = new["promote_permil"] > new["demote_permil"] >= new["fail_permil"]
        if not least <= value <= most or not ordered:
            raise refuse(errno.EINVAL, f"{name} cannot be {value}")
        self.options = new

    def _set_limit(self, name: str, text: str) -> None:
        places = (
            (knob, limit, part)
            for knob, limit in zip(self.knobs, self.limits, strict=True)
            for part in ("low", "high", "change", "interval_ms")
            if name == f"{knob.name}_{part}"
        )
        found = next(places, None)
        if found is None:
            raise refuse(errno.EACCES, f"knobs/{name} cannot be written")
        knob, limit, part = found
        value = _number(text, 33 if part == "interval_ms" else 64)
        if part in ("low", "high"):
            if not can(knob, value):
                raise refuse(errno.ERANGE, f"{knob.name} cannot be {value}")
            if (value > limit.high) if part == "low" else (value < limit.low):
                raise refuse(errno.EINVAL, f"{part} {value} is beyond the other one")
        elif value < 0:
            raise refuse(errno.EINVAL, f"{value} found, 0 or more expected")
        setattr(limit, part, value)

    def load_image(self, data: bytes) -> None:
        """Put another program in place of the one before."""
        self.alive()
        budget = (self.max_macs, self.max_arena_bytes)
        try:
            image = load(data, len(self.features), self.knobs, budget)
        except OSError as error:
            self.program_diag = error.strerror or ""
            self.stats["bad_programs"] += 1
            self.set_mode(EMERGENCY, "program")
            self._settle()
            raise
        self.stats["programs"] += 1
        self.program_diag = "no error"
        self.image, self.program_id = image, image.id
        self.program_swaps += 1
        self._restart()
        self._settle()

    def refuse_image(self, number: int, text: str) -> OSError:
        """An image that is refused before it is there as a whole."""
        self.program_diag = text
        self._changed(self, False)
        return refuse(number, text)

    # the hot path

    def push(self, row: Sequence[int]) -> int:
        """Record a sample, see mlk_push().

        Parameters
        ----------
        row : sequence of int
            One value of each feature.

        Returns
        -------
        int
            Number of the record; 0 if the model is not started.

        Raises
        ------
        ValueError
            Not one value of each feature.

        Thread safety
        -------------
        Safe.
        """
        if len(row) != len(self.features):
            raise ValueError(f"{len(row)} values for {len(self.features)} features")
        with self._lock:
            if self.state not in (STARTED, RUNNING):
                return 0
            seq = self._ring.write(SAMPLE, row)
            self._changed(self, True)
            return seq

    def flood(self, count: int, first: int = 0) -> None:
        """Push samples that can be checked: value i of sample n is n * (i + 1).

        Parameters
        ----------
        count : int
            How many.
        first : int, optional
            The first n.

        Thread safety
        -------------
        Safe; holds the GIL up for no longer than the call.
        """
        with self._lock:
            if self.state in (STARTED, RUNNING):
                self._ring.flood(count, first)
                self._changed(self, True)

    def decide(self, seq: int = 0, row: Sequence[int] | None = None) -> Decision:
        """What to do for one operation, see mlk_decide().

        Parameters
        ----------
        seq : int, optional
            Of the sample that describes it.
        row : sequence of int, optional
            The same sample, for a program that is loaded.

        Returns
        -------
        Decision
            The caller's.

        Thread safety
        -------------
        Safe.
        """
        decision = Decision(seq)
        with self._lock:
            start = time.monotonic_ns()
            if self.mode == EMERGENCY:
                return decision
            answer = self.advice
            inferred = row is not None and self.image is not None
            if inferred and self.image is not None and row is not None:
                found = self.image.answer(row)
                inferred = found is not None
                if found is not None:
                    answer = (*found, time.monotonic_ns())
            now = time.monotonic_ns()
            self.look_at_clock(now)
            if self.mode != EMERGENCY:
                self._decide(decision, answer, now)
                self.stats["inferences"] += inferred
                _count(self.decision_latency, now - start)
                self._changed(self, False)
        return decision

    def _decide(
        self, d: Decision, answer: tuple[tuple[int, ...], int, int] | None, now: int
    ) -> None:
        d.generation = self.generation
        d.verdict, d.advice = self._judge(answer, now)
        # drawn whatever the answer is, so that it has no influence
        d.arm = self._lot()
        if d.verdict >= NONE:
            d.arm = ARM_FALLBACK
        defaults = tuple(knob.default for knob in self.knobs)
        d.use = d.arm == ARM_MODEL
        d.value = d.advice if d.use else defaults
        for limit, value in zip(self.limits, d.value, strict=True):
            limit.applied = value
            if d.use and value != limit.last:
                limit.last, limit.changed_ns = value, now
        self.stats["decisions"] += 1
        self.stats["followed"] += d.arm == ARM_MODEL
        self.stats["held_out"] += d.arm == ARM_DEFAULT
        counter = VERDICT_COUNTERS[d.verdict]
        if counter:
            self.stats[counter] += 1

    def _lot(self) -> int:
        number = self._random.randrange(1000)
        if self.mode == COLLABORATION:
            follows = number < self.options["collaboration_permil"]
        elif self.mode == RECOMMENDATION:
            follows = number >= self.options["holdout_permil"]
        else:
            follows = False
        return ARM_MODEL if follows else ARM_DEFAULT

    def _judge(
        self, answer: tuple[tuple[int, ...], int, int] | None, now: int
    ) -> tuple[int, tuple[int, ...]]:
        defaults = tuple(knob.default for knob in self.knobs)
        if answer is None:
            return NONE, defaults
        values, confidence, time_ns = answer
        age = self.options["max_age_ms"] * 1_000_000
        if age and now - time_ns > age:
            return STALE, defaults
        if confidence < self.options["min_confidence_permil"]:
            return UNSURE, defaults
        judged = [
            limit.judge(knob, value, now)
            for knob, limit, value in zip(self.knobs, self.limits, values, strict=True)
        ]
        worst = max((verdict for _, verdict in judged), default=GOOD)
        return worst, tuple(value for value, _ in judged)

    def infer(self, row: Sequence[int]) -> tuple[int, ...]:
        """Run the loaded program as it is, see mlk_infer().

        Parameters
        ----------
        row : sequence of int
            The int8 input row.

        Returns
        -------
        tuple of int
            The int8 output row.

        Raises
        ------
        OSError
            ENODATA: no program; EINVAL: a row of another length.

        Thread safety
        -------------
        Safe.
        """
        with self._lock:
            if self.image is None:
                raise refuse(errno.ENODATA, "no program is loaded")
            return self.image.run(row)

    # the score

    def _restart(self) -> None:
        """What was decided before does not count any more."""
        self.generation += 1
        # default and model: how many, their sum
        self._sums = [[0, 0], [0, 0]]

    def _counts(self, decision: Decision) -> bool:
        return (
            self.mode != EMERGENCY
            and decision.generation == self.generation
            and decision.arm != ARM_FALLBACK
        )

    def report(self, decision: Decision, score: int) -> None:
        """How good it was what was decided, see mlk_report().

        Parameters
        ----------
        decision : Decision
            From `decide`.
        score : int
            Measured effect; the greater the better.

        Thread safety
        -------------
        Safe.
        """
        if decision.arm == ARM_NONE:
            return
        with self._lock:
            if self.state == DESTROYED:
                return
            facts = (decision.seq, decision.arm, decision.verdict, score)
            self._ring.write(OUTCOME, (*facts, *decision.value, *decision.advice))
            self.stats["reports"] += 1
            if self._counts(decision):
                self._add_score(decision.arm == ARM_MODEL, score)
            self._changed(self, True)
            self._settle()

    def report_shadow(self, decision: Decision, score: int) -> None:
        """How good the model would have been, see mlk_report_shadow().

        Parameters
        ----------
        decision : Decision
            From `decide`.
        score : int
            What the model's answer would have scored.

        Thread safety
        -------------
        Safe.
        """
        if decision.arm != ARM_DEFAULT:
            return
        with self._lock:
            if self.mode == LEARNING and self._counts(decision):
                self._add_score(True, score)
                self._settle()

    def _add_score(self, is_model: bool, score: int) -> None:
        one = self._sums[is_model]
        if one[0] >= MAX_SCORES:
            return
        one[0] += 1
        one[1] += min(max(score, -MAX_SCORE), MAX_SCORE)
        if min(n for n, _ in self._sums) < self.options["min_samples"]:
            return
        self.default_mean, self.model_mean = (_quotient(s, n) for n, s in self._sums)
        difference = (self.model_mean - self.default_mean) * 1000
        self.gain_permil = _quotient(difference, max(abs(self.default_mean), 1))
        self.comparisons += 1
        self._sums = [[0, 0], [0, 0]]
        self._promote()

    def _promote(self) -> None:
        gain, options = self.gain_permil, self.options
        if self.mode > LEARNING and gain < options["fail_permil"]:
            self.set_mode(EMERGENCY, "score")
        elif self.mode > LEARNING and gain < options["demote_permil"]:
            self.set_mode(self.mode - 1, "score")
        elif (
            self.mode < RECOMMENDATION
            and options["auto_promote"]
            and gain >= options["promote_permil"]
        ):
            self.set_mode(self.mode + 1, "score")


def _count(buckets: list[int], ns: int) -> None:
    """Counts a time in powers of two."""
    buckets[min(max(ns.bit_length() - 1, 0), BUCKETS - 1)] += 1
