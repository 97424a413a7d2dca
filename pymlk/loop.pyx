# SPDX-License-Identifier: MIT
"""The loop over attributes: snapshot, decision and knob, for every device.

After start no stage allocates; only a change of a knob, which the guard keeps
rare, enters Python to write the journal first.
"""

import os

from libc.stdint cimport int64_t, uint8_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from .attrs cimport AttrSet
from .guard cimport REFUSED
from .serve cimport Source
from .stream cimport Snapshot, Stream, now_ns

from .attrs import AttrSet as _AttrSet
from .devices import find_devices
from .errors import PolicyError
from .features import Features
from .guard import Guard as _Guard
from .trial import Trial


cdef class _Device(Stream):
    """A stream and where its knob is in the row."""

    cdef Py_ssize_t knob


cdef int64_t SECOND = 1000000000
# Devices come and go seldom; looking for them opens a directory.
cdef int64_t RESCAN_NS = 5 * SECOND
# From this interval on, opening files for each snapshot (20 to 30 us after a sleep) is
# little of it, and the kernel's memory counts more; benchmarks/bench_kmem.py.
cdef int64_t REOPEN_NS = SECOND // 10


cdef class Loop(Source):
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

    highest : str or None
        With `apply`: the last mode to which the measured gain may lead. None follows
        the model always, and measures nothing.
    learnt : str or None
        Where a policy that learns keeps it; None takes the system's folder.

    Attributes
    ----------
    attrs : AttrSet
        The fields of all devices and their knobs.

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
    cdef bint _apply
    cdef object _highest
    cdef object _journal
    cdef object _view
    cdef int64_t _rescan_ns
    # a change of the knob has to reach open files, and what was in the way of that
    cdef bint _reaches
    cdef str _unreached
    cdef bint _unreached_told
    # the previous snapshot
    cdef int64_t *_before
    cdef uint8_t *_valid_before
    cdef int64_t _time_before

    def __init__(
        self,
        dict plan,
        *,
        str root="/",
        bint apply=False,
        journal=None,
        highest=None,
        learnt=None,
    ):
        if apply and journal is None:
            raise ValueError("apply needs a journal")
        if highest is not None and plan["objective"] is None:
            raise PolicyError(
                f"{plan['file']}: objective: missing, so nothing can be measured: set "
                "it, or follow the model always"
            )
        self.prepare(plan, root, "apply" if apply else "shadow")
        self._highest = highest
        self.adapt(highest, learnt)
        self._apply = apply
        self._journal = journal
        self._reaches = apply and plan["knob"].get("reach") is not None
        self._rescan_ns = now_ns() + RESCAN_NS
        self._bind(find_devices(plan["devices"], plan["skip"], root))

    def __dealloc__(self):
        free(self._before)
        free(self._valid_before)

    cdef _bind(self, list devices):
        """Open the fields of these devices; those known before go on as they were."""
        plan = self.plan
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
        attrs = _AttrSet(
            places, root=self.root, reopen=self.interval_ns >= REOPEN_NS
        )
        known = {s.device: s for s in self.streams}
        streams = [
            self._stream(attrs, name, path, places, known.get(name))
            for name, path in devices
        ]
        if self._apply:
            for stream in streams:
                attrs.open_for_write((<_Device>stream).knob)
        self._view = None
        if self.attrs is not None:
            self.attrs.close()
        self.attrs = attrs
        # an exported buffer pins the row, whose address the loop uses
        self._view = memoryview(attrs)
        self.replace(streams)
        free(self._before)
        free(self._valid_before)
        self._before = <int64_t *>malloc(attrs.n * sizeof(int64_t))
        self._valid_before = <uint8_t *>malloc(attrs.n // 8 + 1)
        if self._before == NULL or self._valid_before == NULL:
            raise MemoryError("no memory for the previous snapshot")
        self._time_before = 0

    cdef _Device _stream(
        self, AttrSet attrs, str name, str path, dict places, Stream known
    ):
        plan = self.plan
        infos = attrs.fields

        def place(str spec):
            at = places[spec.replace("{device}", path)]
            return at, infos[at].scale

        fields = {key: place(spec) for key, spec in plan["fields"].items()}
        quant = self.model.input_quant
        features = Features(
            plan["features"],
            fields,
            quant.scale,
            quant.zero_point,
            plan["model"]["history"],
        )
        if known is None:
            guard = _Guard.of_policy(plan, self._apply)
        else:
            guard = known.guard
            features.set_state(known.features.get_state())
            features.set_history(known.features.get_history())
        cdef _Device stream = _Device(
            name, features, guard, self.model, self.latencies
        )
        if self._highest is not None:
            stream.trial = Trial(plan, self._highest)
            stream.takes_turns = True
        stream.knob = place(plan["knob"]["path"])[0]
        stream.watch_fields(plan, fields)
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
        devices = find_devices(self.plan["devices"], self.plan["skip"], self.root)
        if tuple([name for name, _ in devices]) == self.devices:
            self.attrs.rescan()
            return False
        self._bind(devices)
        return True

    cdef bint turn(self, int64_t now) except -1:
        cdef _Device stream
        # points in time that were missed are left out, not made up for
        self.due_ns = max(self.due_ns + self.interval_ns, now)
        self.step()
        if self.watching or now >= self._rescan_ns or self._unreached is not None:
            return True
        for stream in self.streams:
            if stream.is_news():
                return True
        return False

    cdef str mode_of(self, Stream stream):
        return self.mode if stream.trial is None else stream.trial.ladder.mode

    def look(self):
        """Look for devices that came or went, if it is time to.

        Returns
        -------
        list of str
            What people should know.

        Raises
        ------
        PolicyError
            If no device is left.

        Thread safety
        -------------
        None. Allocates; a `Server` says when it is needed.
        """
        said = self.own_news()
        if self._unreached is not None:
            said.append(self._unreached)
            self._unreached = None
        if now_ns() >= self._rescan_ns:
            self._rescan_ns = now_ns() + RESCAN_NS
            if self.rescan():
                said.append(f"devices are now: {' '.join(self.devices)}")
        return said

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
        cdef _Device stream
        cdef Snapshot snapshot
        snapshot.start_ns = now_ns()
        snapshot.timed = True
        with nogil:
            attrs.snapshot()
        self.snapshot_time.add(now_ns() - snapshot.start_ns)
        snapshot.row, snapshot.valid = attrs._row, attrs._valid
        snapshot.before, snapshot.valid_before = self._before, self._valid_before
        snapshot.seq, snapshot.time_ns = attrs._seq, attrs._time_ns
        snapshot.seconds = 0.0
        if self._time_before:
            snapshot.seconds = <double>(attrs._time_ns - self._time_before) * 1e-9
        for stream in self.streams:
            stream.decide(
                &snapshot,
                attrs._row[stream.knob],
                (attrs._valid[stream.knob >> 3] >> (stream.knob & 7)) & 1,
            )
            if stream.wants_change():
                self._change(stream)
            stream.measure(&snapshot)
            stream.count()
            stream.record(&snapshot)
        memcpy(self._before, attrs._row, attrs.n * sizeof(int64_t))
        memcpy(self._valid_before, attrs._valid, (attrs.n + 7) // 8)
        self._time_before = attrs._time_ns
        return len(self.streams)

    cdef _change(self, _Device stream):
        """Write a knob, with its journal entry before it."""
        cdef int64_t now = stream.current
        cdef int64_t target = stream.verdict.target
        cdef int error
        self._journal.note(self._knob_path(stream), stream.current, target)
        error = self.attrs.write_value(stream.knob, target, &now)
        if self._reaches and now != stream.current:
            self._reach(stream)
        if error == 0 and now == target:
            stream.has_changed(target, now_ns())
            return
        # refused, or kept as something else: whatever is there now is ours to undo
        stream.error = -error
        stream.verdict.reason = REFUSED
        stream.verdict.target = now
        stream.has_changed(now, now_ns())
        if now != stream.current:
            self._journal.note(self._knob_path(stream), now, now)

    cdef _reach(self, _Device stream):
        """Open files take the new value, too; what is in the way is said once."""
        from .openfiles import refresh

        try:
            _, problem = refresh(self._knob_path(stream))
        except OSError as error:
            problem = str(error)
        if problem is not None and not self._unreached_told:
            self._unreached, self._unreached_told = problem, True

    cdef str _knob_path(self, _Device stream):
        """The knob's file as the system knows it."""
        path = self.attrs.fields[stream.knob].path
        return os.path.join(self.root, path.lstrip("/"))

    @property
    def knobs(self):
        """Paths of the knob files, in the order of `devices`."""
        return [self._knob_path(stream) for stream in self.streams]

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
        if self.closed:
            return []
        self.closed = True
        self._view = None
        self.attrs.close()
        # first the knobs: a disk may take its time
        said = self._journal.restore() if self._journal is not None else []
        if self.adaptation is not None:
            said += self.adaptation.close()
        return said
