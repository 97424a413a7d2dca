# SPDX-License-Identifier: MIT
"""One process for many loops: each gets its turn when it is due or has an event.

Waiting is one epoll_pwait(2), which also lets signals in, and only there: a
decision is never cut in half.
"""

from libc.errno cimport EINTR, errno
from libc.stdint cimport int64_t, uint32_t, uint64_t
from posix.time cimport timespec
from posix.unistd cimport close

from .stream cimport Sink, Stream, now_ns

import os

from .engine import Model as _Model
from .engine import Program
from .stream import STAGES as _STAGES
from .stream import Latency as _Latency


cdef extern from "<signal.h>" nogil:
    ctypedef struct sigset_t:
        pass
    int sigemptyset(sigset_t *set)

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        uint64_t u64

    struct epoll_event:
        uint32_t events
        epoll_data_t data

    enum:
        EPOLLIN
        EPOLLET
        EPOLL_CLOEXEC
        EPOLL_CTL_ADD
        EPOLL_CTL_DEL

    int epoll_create1(int flags)
    int epoll_ctl(int epfd, int op, int fd, epoll_event *event)
    int epoll_pwait(
        int epfd, epoll_event *events, int n, int timeout, const sigset_t *mask
    )

cdef extern from "<poll.h>" nogil:
    struct pollfd:
        pass
    int ppoll(pollfd *fds, int n, const timespec *timeout, const sigset_t *mask)

cdef enum:
    EVENTS = 64  # taken at a time
    SIGNALS_NS = 10000000  # a signal waits for a busy loop at most so long

# What `Server.run` returns besides a source's place.
TIME_IS_UP = -1
INTERRUPTED = -2


cdef class Source:
    """Base of what a server gives turns to: the loop of one policy.

    Attributes
    ----------
    watching : bool
        True if somebody wants to see each decision, not only changes.
    closed : bool
        It gets no more turns.
    mode : str
        What it may do.
    model : Model
        The policy's model.
    latencies : tuple of Latency
        Of the `STAGES`.
    adaptation : Adaptation or None
        What it learns.
    recorder : Recorder or None
        What `record` was given.

    Thread safety
    -------------
    None; the server's thread only.
    """

    def __cinit__(self):
        self.streams = []
        self.retired = {}

    cdef prepare(self, dict plan, str root, str mode):
        """Keep what all loops have of a plan."""
        self.plan = plan
        self.root = root
        self.mode = mode
        self.interval_ns = plan["interval_ms"] * 1000000
        self.latencies = tuple([_Latency() for _ in _STAGES])
        self.snapshot_time = self.latencies[0]
        self.model = _Model(Program(plan["program"]))

    cdef adapt(self, highest, folder):
        """Learn, if the policy wants that and something is measured."""
        if highest is None or self.plan["learn"] is None:
            return
        from .adapt import Adaptation

        self.adaptation = Adaptation(self.plan, self.model, folder)

    cdef bint turn(self, int64_t now) except -1:
        raise NotImplementedError

    cdef list descriptors(self):
        """Whose events wake it when it is added."""
        return []

    cdef str mode_of(self, Stream stream):
        raise NotImplementedError

    cdef list own_news(self):
        """Modes and versions that the scores changed, for people."""
        cdef Stream stream
        said = []
        for stream in self.streams:
            found = stream.trial and stream.trial.take_news()
            if found:
                said.append(f"{stream.device}: mode {found[0]} ({found[1]})")
                self.note_mode(stream)
        if self.adaptation is not None:
            said += self.adaptation.look()
            self._note_version()
        return said

    cdef replace(self, list streams):
        """Go on with these; totals of a device go on where they were."""
        cdef Stream stream
        known = {**self.retired, **{s.device: s for s in self.streams}}
        for stream in streams:
            old = known.pop(stream.device, None)
            if old is not None:
                stream.inherit(old)
            elif self.adaptation is not None:
                self.adaptation.join(stream)
        self.retired = known
        gone = [stream for stream in self.streams if stream not in streams]
        self.streams = streams
        if self.recorder is not None:
            self._record_streams(gone)

    def record(self, Sink recorder not None):
        """Give every decision to a recorder from now on.

        Parameters
        ----------
        recorder : Recorder
            Its `tick` is called by the `Server` before each sleep; whoever steps the
            loop by hand calls it.

        Raises
        ------
        RecordError
            If a device has more fields than a record can have.

        Thread safety
        -------------
        None.
        """
        self.recorder = recorder
        self._record_streams([])
        self._note_version()

    cdef _record_streams(self, list gone):
        """The recorder gets what is new, and forgets what is gone."""
        cdef Stream stream
        for stream in gone:
            if stream.recorder is not None:
                self.recorder.end_stream(stream.number)
        for stream in self.streams:
            if stream.recorder is None:
                stream.number = self.recorder.add_stream(
                    stream.device, stream.features, stream.guard, stream.fields
                )
                stream.recorder = self.recorder
                self.note_mode(stream)

    cdef _note_version(self):
        """The recorder gets the program that runs, if it is another one."""
        if self.recorder is None or self.adaptation is None:
            return
        # the shipped one, version 0 of what was learnt, is the record's version 1
        number = self.adaptation.versions.current.number + 1
        if number != self.recorder.version:
            self.recorder.program(number, self.model.program)

    cdef note_mode(self, Stream stream):
        """The recorder gets a device's mode."""
        if stream.recorder is not None:
            self.recorder.event("mode", self.mode_of(stream), stream.device)

    @property
    def devices(self):
        """Names of the devices, in the order of their decisions."""
        return tuple([(<Stream>stream).device for stream in self.streams])

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
        cdef Stream stream = self.streams[i]
        return stream.decision(self.mode_of(stream))

    def news(self):
        """Decisions that nobody has seen: all if `watching`, else changes.

        Returns
        -------
        list of Decision
            Owned by the caller; at most the last one of each device.

        Thread safety
        -------------
        None. Allocates.
        """
        cdef Stream stream
        return [
            stream.decision(self.mode_of(stream))
            for stream in self.streams
            if stream.fresh and (self.watching or stream.changed)
        ]

    def look(self):
        """Take care of what is seldom: devices that come and go, modes that change.

        Returns
        -------
        list of str
            What people should know.

        Raises
        ------
        PolicyError
            If the loop cannot go on.

        Thread safety
        -------------
        None. Allocates; call it whenever `Server.run` returns the loop's place.
        """
        raise NotImplementedError

    def close(self):
        """Put everything back and take no more turns; closing twice does nothing.

        Returns
        -------
        list of str
            What could not be put back, one line each.

        Thread safety
        -------------
        None.
        """
        raise NotImplementedError

    def totals(self):
        """What all decisions came to, by device.

        Returns
        -------
        dict of str to dict
            As of `Stream.totals`, also of those that are gone; owned by the caller.

        Thread safety
        -------------
        None.
        """
        everyone = (*self.streams, *self.retired.values())
        return {stream.device: stream.totals() for stream in everyone}


cdef class Server:
    """Gives sources their turns, and sleeps in between.

    Attributes
    ----------
    sources : list of Source
        In the order in which they were added.

    Raises
    ------
    OSError
        If the system has no descriptor left.

    Notes
    -----
    A descriptor wakes its source once for each event (edge-triggered), so that a
    source which reads a mapped dataset never has to read the descriptor.

    Thread safety
    -------------
    None; one thread.
    """

    def __cinit__(self):
        self._epoll = epoll_create1(EPOLL_CLOEXEC)
        if self._epoll < 0:
            raise OSError(errno, os.strerror(errno))
        self.sources = []

    def __dealloc__(self):
        if self._epoll >= 0:
            close(self._epoll)

    def add(self, Source source):
        """Give a source turns from now on, the first one at once.

        Parameters
        ----------
        source : Source
            Kept until the server goes.

        Returns
        -------
        int
            Its place, which `run` returns.

        Thread safety
        -------------
        None.
        """
        source.due_ns = now_ns()
        source.server = self
        source.place = len(self.sources)
        self.sources.append(source)
        for fd in source.descriptors():
            self.watch(source.place, fd)
        return source.place

    cdef watch(self, int place, int fd):
        """Let events of a descriptor wake a source; closing it ends that."""
        cdef epoll_event event
        event.events = EPOLLIN | EPOLLET
        event.data.u64 = place
        if epoll_ctl(self._epoll, EPOLL_CTL_ADD, fd, &event) < 0:
            raise OSError(errno, f"descriptor {fd}: {os.strerror(errno)}")

    def run(self, double seconds):
        """Give turns until somebody should look, the time is up, or a signal came.

        Parameters
        ----------
        seconds : float
            At most so long.

        Returns
        -------
        int
            Place of a source that wants to be looked at, `TIME_IS_UP` or `INTERRUPTED`.

        Thread safety
        -------------
        None. Sleeps without the GIL, and allocates nothing while no source does.
        """
        cdef int64_t until = now_ns() + <int64_t>(seconds * 1e9)
        cdef int64_t now, due
        cdef Source source
        cdef Py_ssize_t i
        while True:
            now = now_ns()
            if self._is_interrupted(now):
                return INTERRUPTED
            due = until
            for i in range(len(self.sources)):
                source = self.sources[i]
                if source.closed:
                    continue
                if source.ready or now >= source.due_ns:
                    source.ready = False
                    if source.turn(now):
                        return i
                due = min(due, source.due_ns)
            now = now_ns()
            if now >= until:
                return TIME_IS_UP
            for source in self.sources:
                if source.recorder is not None:
                    source.recorder.tick()
            if self._sleep(due - now) < 0:
                return INTERRUPTED

    cdef int _sleep(self, int64_t left) except? -2:
        """Wait for events or so many nanoseconds; -1 if a signal came."""
        cdef epoll_event events[EVENTS]
        cdef sigset_t none
        cdef int n, i
        # rounded up: waking too early would cost a turn that does nothing
        cdef int timeout = 0 if left <= 0 else <int>min(left // 1000000 + 1, 3600000)
        sigemptyset(&none)
        with nogil:
            n = epoll_pwait(self._epoll, events, EVENTS, timeout, &none)
        if n < 0:
            if errno == EINTR:
                return -1
            raise OSError(errno, os.strerror(errno))
        for i in range(n):
            (<Source>self.sources[events[i].data.u64]).ready = True
        return n

    cdef bint _is_interrupted(self, int64_t now) noexcept nogil:
        """Let signals in that are waiting, from time to time; True if there was one.

        A sleep lets them in, too, but epoll does not sleep while there are events.
        """
        cdef timespec nothing
        cdef sigset_t none
        if now - self._checked_ns < SIGNALS_NS:
            return False
        self._checked_ns = now
        nothing.tv_sec = nothing.tv_nsec = 0
        sigemptyset(&none)
        return ppoll(NULL, 0, &nothing, &none) < 0
