# SPDX-License-Identifier: MIT
"""The loop: snapshot, features, inference, guard, knob; for every device a decision.

After start no stage allocates; only a change of a knob, which the guard keeps
rare, enters Python to write the journal first.
"""

import os

from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from .attrs cimport AttrSet
from .engine cimport Model
from .features cimport INVALID, WARMING, Features
from .guard cimport (
    APPLIED,
    HANDS_OFF,
    IDLE,
    INVALID_INPUT,
    REFUSED,
    WARMING_UP,
    Guard,
    Verdict,
)

from .attrs import AttrSet as _AttrSet
from .devices import find_devices
from .engine import Model as _Model
from .engine import Program
from .errors import PolicyError
from .guard import REASON_NAMES as _REASON_NAMES
from .guard import REASON_TEXTS as _REASON_TEXTS

cdef enum:
    # Latencies kept for the percentiles, of each stage.
    SAMPLES = 4096

STAGES = ("snapshot", "features", "inference", "guard")


cdef int64_t _now() noexcept nogil:  # hot
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return <int64_t>t.tv_sec * 1000000000 + t.tv_nsec


cdef class Latency:
    """The last 4096 latencies of one stage, in nanoseconds.

    Attributes
    ----------
    count : int
        How many were added in all.

    Thread safety
    -------------
    None; the loop's thread only.
    """

    cdef int32_t _ring[SAMPLES]
    cdef readonly uint64_t count

    cdef void add(self, int64_t nanoseconds) noexcept nogil:  # hot
        if nanoseconds > 0x7FFFFFFF:
            nanoseconds = 0x7FFFFFFF
        self._ring[self.count % SAMPLES] = <int32_t>nanoseconds
        self.count += 1

    def percentile(self, double percent):
        """The latency in nanoseconds that so many percent do not exceed.

        Parameters
        ----------
        percent : float
            0 to 100.

        Returns
        -------
        int
            Nanoseconds; 0 if nothing was measured.

        Thread safety
        -------------
        None.
        """
        cdef Py_ssize_t kept = min(self.count, SAMPLES)
        if not kept:
            return 0
        ordered = sorted(self._ring[i] for i in range(kept))
        return ordered[min(kept - 1, <Py_ssize_t>(kept * percent / 100.0))]


class Decision:
    """One decision, as plain values.

    Attributes
    ----------
    device : str
        What was decided on.
    seq : int
        Sequence number of the snapshot that it answers.
    time_ns : int
        CLOCK_MONOTONIC of that snapshot.
    mode : str
        ``shadow`` or ``apply``.
    recommended, current, target : int or None
        The knob value the model recommends, the one in force at the snapshot, and the
        one that the guard allows. None where it is not known.
    confidence : float or None
        0 to 1; None where the model was not asked.
    reason, reason_text : str
        Why it ended so, as a word and as a sentence.
    errno : int
        The kernel's answer where it refused the value, else 0.
    latency_ns : int
        From the start of the snapshot to the verdict.
    objective : float or None
        The objective field's rate per second since the last snapshot.
    features : dict of str to float
        The features before standardisation.
    """

    __slots__ = (
        "confidence",
        "current",
        "device",
        "errno",
        "features",
        "latency_ns",
        "mode",
        "objective",
        "reason",
        "reason_text",
        "recommended",
        "seq",
        "target",
        "time_ns",
    )

    def to_dict(self):
        """All attributes by name, for JSON.

        Returns
        -------
        dict
            Owned by the caller.

        Thread safety
        -------------
        Reads only.
        """
        return {name: getattr(self, name) for name in sorted(self.__slots__)}


cdef class Stream:
    """One device: its places in the row, its features, its guard, its last verdict."""

    cdef readonly str device
    cdef readonly Features features
    cdef readonly Guard guard
    cdef Py_ssize_t knob
    cdef Py_ssize_t activity
    cdef double least_rate
    cdef Py_ssize_t objective
    cdef double objective_scale
    # the last decision
    cdef Verdict verdict
    cdef bint asked
    cdef int choice
    cdef double confidence
    cdef bint knob_known
    cdef int64_t current
    cdef int64_t latency_ns
    cdef int error
    cdef bint objective_known
    cdef double objective_rate

    def __init__(self, str device, Features features, Guard guard):
        self.device = device
        self.features = features
        self.guard = guard
        self.activity = self.objective = -1


cdef class Loop:
    """The loop of one policy over all of its devices.

    Parameters
    ----------
    plan : dict
        What `pymlk.policy.load` gave.
    root : str
        Prefix of every attribute path, for tests.
    apply : bool
        Write knobs; False is shadow mode.
    journal : Journal or None
        Where originals are noted before a knob is first changed; needed to apply.

    Attributes
    ----------
    attrs : AttrSet
        The fields of all devices and their knobs.
    mode : str
        ``shadow`` or ``apply``.
    devices : tuple of str
        Names of the devices.
    latencies : tuple of Latency
        Of snapshot, features, inference and guard.

    Raises
    ------
    PolicyError
        If no device matches.
    AttrError
        If a knob cannot be opened for writing.
    ValueError
        If `apply` is asked for without a journal.

    Thread safety
    -------------
    None; one thread steps, and whoever shares `attrs` only reads.
    """

    cdef readonly AttrSet attrs
    cdef readonly Model model
    cdef readonly str mode
    cdef readonly tuple devices
    cdef readonly tuple latencies
    cdef dict _plan
    cdef str _root
    cdef bint _apply
    cdef object _journal
    cdef object _view
    cdef list _streams
    cdef Latency _snapshot_time
    cdef Latency _features_time
    cdef Latency _inference_time
    cdef Latency _guard_time
    # the previous snapshot
    cdef int64_t *_before
    cdef uint8_t *_valid_before
    cdef int64_t _time_before
    # the model's ends
    cdef int8_t *_in
    cdef const int8_t *_out
    cdef int _classes
    cdef double _out_scale
    cdef int _out_zero

    def __init__(self, dict plan, *, str root="/", bint apply=False, journal=None):
        if apply and journal is None:
            raise ValueError("apply needs a journal")
        self._plan = plan
        self._root = root
        self._apply = apply
        self._journal = journal
        self.mode = "apply" if apply else "shadow"
        self.latencies = tuple(Latency() for _ in STAGES)
        (
            self._snapshot_time,
            self._features_time,
            self._inference_time,
            self._guard_time,
        ) = self.latencies
        self.model = _Model(Program(plan["program"]))
        self._in = self.model.input_start(0)
        self._out = self.model.output_start(0)
        self._classes = len(plan["knob"]["values"])
        self._out_scale = self.model.output_quant.scale
        self._out_zero = self.model.output_quant.zero_point
        self._streams = []
        self._bind(find_devices(plan["devices"], plan["skip"], root))

    def __dealloc__(self):
        free(self._before)
        free(self._valid_before)

    cdef _bind(self, list devices):
        """Open the fields of these devices; keep the guards of those known before."""
        plan = self._plan
        if not devices:
            raise PolicyError(
                f"{plan['file']}: devices: nothing matches {plan['devices']!r} "
                f"except what skip leaves out"
            )
        places = {}
        for _, path in devices:
            for spec in (*plan["fields"].values(), plan["knob"]["path"]):
                spec = spec.replace("{device}", path)
                places.setdefault(spec, len(places))
        attrs = _AttrSet(places, root=self._root)
        guards = {s.device: s.guard for s in self._streams}
        streams = [
            self._stream(attrs, name, path, places, guards.get(name))
            for name, path in devices
        ]
        if self._apply:
            for stream in streams:
                attrs.open_for_write((<Stream>stream).knob)
        self._view = None
        if self.attrs is not None:
            self.attrs.close()
        self.attrs = attrs
        # an exported buffer pins the row, whose address the loop uses
        self._view = memoryview(attrs)
        self._streams = streams
        self.devices = tuple(name for name, _ in devices)
        free(self._before)
        free(self._valid_before)
        self._before = <int64_t *>malloc(attrs.n * sizeof(int64_t))
        self._valid_before = <uint8_t *>malloc(attrs.n // 8 + 1)
        if self._before == NULL or self._valid_before == NULL:
            raise MemoryError("no memory for the previous snapshot")
        self._time_before = 0

    cdef Stream _stream(
        self, AttrSet attrs, str name, str path, dict places, Guard guard
    ):
        plan = self._plan
        infos = attrs.fields

        def place(str spec):
            at = places[spec.replace("{device}", path)]
            return at, infos[at].scale

        fields = {key: place(spec) for key, spec in plan["fields"].items()}
        quant = self.model.input_quant
        features = Features(plan["features"], fields, quant.scale, quant.zero_point)
        if guard is None:
            limits = plan["guard"]
            guard = Guard(
                plan["knob"]["values"],
                limits["min_confidence"],
                limits["max_step"],
                limits["min_interval_s"],
                limits["settle"],
                limits["deadline_us"],
                self._apply,
            )
        cdef Stream stream = Stream(name, features, guard)
        stream.knob = place(plan["knob"]["path"])[0]
        if plan["guard"]["min_activity"] is not None:
            field, rate = plan["guard"]["min_activity"]
            stream.activity, scale = fields[field]
            stream.least_rate = rate * scale
        if plan["objective"] is not None:
            stream.objective, stream.objective_scale = fields[plan["objective"]]
        return stream

    def rescan(self):
        """Look for devices that came or went; fields that came back are reopened.

        Returns
        -------
        bool
            True if the list of devices changed.

        Raises
        ------
        PolicyError
            If none is left.

        Thread safety
        -------------
        None. Allocates, so call it between decisions.
        """
        devices = find_devices(self._plan["devices"], self._plan["skip"], self._root)
        if tuple(name for name, _ in devices) == self.devices:
            self.attrs.rescan()
            return False
        self._bind(devices)
        return True

    def step(self):
        """Take a snapshot and decide on every device.

        Returns
        -------
        int
            Number of decisions; `decision` gives each.

        Thread safety
        -------------
        None. Allocates nothing, unless a knob is changed.
        """
        cdef AttrSet attrs = self.attrs
        cdef int64_t start = _now()
        cdef Stream stream
        with nogil:
            attrs.snapshot()
        self._snapshot_time.add(_now() - start)
        for stream in self._streams:
            self._decide(stream, start)
            if stream.verdict.reason == APPLIED:
                self._change(stream)
        memcpy(self._before, attrs._row, attrs.n * sizeof(int64_t))
        memcpy(self._valid_before, attrs._valid, (attrs.n + 7) // 8)
        self._time_before = attrs._time_ns
        return len(self._streams)

    cdef void _decide(self, Stream stream, int64_t start) noexcept nogil:  # hot
        cdef const int64_t *row = self.attrs._row
        cdef const uint8_t *valid = self.attrs._valid
        cdef double seconds = 0.0
        cdef int64_t begin = _now()
        cdef int64_t end
        cdef int state
        if self._time_before:
            seconds = <double>(self.attrs._time_ns - self._time_before) * 1e-9
        stream.asked = False
        stream.error = 0
        stream.knob_known = (valid[stream.knob >> 3] >> (stream.knob & 7)) & 1
        stream.current = row[stream.knob]
        stream.verdict.target = stream.current
        state = stream.features.compute(
            row, self._before, valid, self._valid_before, seconds, self._in
        )
        self._measure_objective(stream, seconds)
        end = _now()
        self._features_time.add(end - begin)
        if not stream.knob_known or state == INVALID:
            stream.verdict.reason = INVALID_INPUT
        elif stream.guard.watch(stream.current):
            stream.verdict.reason = HANDS_OFF
        elif state == WARMING:
            stream.verdict.reason = WARMING_UP
        elif self._is_idle(stream, seconds):
            stream.verdict.reason = IDLE
        else:
            begin = end
            self.model.run()
            self._read_output(stream)
            end = _now()
            self._inference_time.add(end - begin)
            begin = end
            stream.guard.judge(
                stream.choice,
                stream.confidence,
                stream.current,
                end,
                end - start,
                &stream.verdict,
            )
            end = _now()
            self._guard_time.add(end - begin)
        stream.latency_ns = end - start

    cdef void _read_output(self, Stream stream) noexcept nogil:  # hot
        cdef int i
        cdef int best = 0
        for i in range(1, self._classes):
            if self._out[i] > self._out[best]:
                best = i
        stream.choice = best
        stream.confidence = (self._out[best] - self._out_zero) * self._out_scale
        stream.asked = True

    cdef bint _is_idle(self, Stream stream, double seconds) noexcept nogil:  # hot
        cdef Py_ssize_t i = stream.activity
        if i < 0:
            return False
        return self.attrs._row[i] - self._before[i] < stream.least_rate * seconds

    cdef void _measure_objective(
        self, Stream stream, double seconds
    ) noexcept nogil:  # hot
        cdef Py_ssize_t i = stream.objective
        stream.objective_known = (
            i >= 0
            and seconds > 0
            and (self.attrs._valid[i >> 3] & self._valid_before[i >> 3]) >> (i & 7) & 1
        )
        if stream.objective_known:
            stream.objective_rate = (
                <double>(self.attrs._row[i] - self._before[i])
                / (stream.objective_scale * seconds)
            )

    cdef _change(self, Stream stream):
        """Write a knob, with its journal entry before it."""
        cdef int64_t now = stream.current
        cdef int64_t target = stream.verdict.target
        cdef int error
        self._journal.note(self._knob_path(stream), stream.current, target)
        error = self.attrs.write_value(stream.knob, target, &now)
        if error == 0 and now == target:
            stream.guard.changed(target, _now())
            return
        # refused, or kept as something else: whatever is there now is ours to undo
        stream.error = -error
        stream.verdict.reason = REFUSED
        stream.verdict.target = now
        stream.guard.changed(now, _now())
        if now != stream.current:
            self._journal.note(self._knob_path(stream), now, now)

    cdef str _knob_path(self, Stream stream):
        """The knob's file as the system knows it."""
        path = self.attrs.fields[stream.knob].path
        return os.path.join(self._root, path.lstrip("/"))

    @property
    def knobs(self):
        """Paths of the knob files, in the order of `devices`."""
        return [self._knob_path(stream) for stream in self._streams]

    def decision(self, Py_ssize_t i):
        """The last decision on one device.

        Parameters
        ----------
        i : int
            Place of the device in `devices`.

        Returns
        -------
        Decision
            A copy, owned by the caller.

        Raises
        ------
        IndexError
            If there is no such device.

        Thread safety
        -------------
        None. Allocates; the loop itself does not need it.
        """
        cdef Stream s = self._streams[i]
        d = Decision()
        d.device, d.mode = s.device, self.mode
        d.seq, d.time_ns = self.attrs.seq, self.attrs.time_ns
        d.recommended = self._plan["knob"]["values"][s.choice] if s.asked else None
        d.confidence = s.confidence if s.asked else None
        d.current = s.current if s.knob_known else None
        d.target = s.verdict.target if s.knob_known else None
        d.reason = _REASON_NAMES[s.verdict.reason]
        d.reason_text = _REASON_TEXTS[s.verdict.reason]
        d.errno = s.error
        d.latency_ns = s.latency_ns
        d.objective = s.objective_rate if s.objective_known else None
        ready = s.verdict.reason not in (WARMING_UP, INVALID_INPUT)
        values = memoryview(s.features) if ready else ()
        d.features = dict(zip(s.features.names, values))
        return d

    def close(self):
        """Put every knob that this loop changed back, and close all files.

        Returns
        -------
        list of str
            What could not be put back, or was left to somebody else; one line each.

        Thread safety
        -------------
        None. Closing twice does nothing.
        """
        if self.attrs is None:
            return []
        self._view = None
        self.attrs.close()
        self.attrs = None
        return self._journal.restore() if self._journal is not None else []
