# SPDX-License-Identifier: MIT
"""One process for many loops: each gets its turn when it is due or has an event.

Waiting is one epoll_pwait(2), which also lets signals in, and only there: a
decision is never cut in half.
"""

from libc.errno cimport EINTR, errno
from libc.stdint cimport int64_t, uint32_t, uint64_t
from posix.unistd cimport close

from .stream cimport Stream, now_ns

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

cdef enum:
    EVENTS = 64  # taken at a time

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
        self.latencies = tuple(_Latency() for _ in _STAGES)
        self.snapshot_time = self.latencies[0]
        self.model = _Model(Program(plan["program"]))

    cdef bint turn(self, int64_t now) except -1:
        raise NotImplementedError

    cdef list descriptors(self):
        """Whose events wake it when it is added."""
        return []

    cdef str mode_of(self, Stream stream):
        raise NotImplementedError

    cdef list trial_news(self):
        """Modes that the evidence changed, for people."""
        cdef Stream stream
        said = []
        for stream in self.streams:
            found = stream.trial and stream.trial.take_news()
            if found:
                said.append(f"{stream.device}: mode {found[0]} ({found[1]})")
        return said

    cdef replace(self, list streams):
        """Go on with these; totals of a device go on where they were."""
        cdef Stream stream
        known = {**self.retired, **{s.device: s for s in self.streams}}
        for stream in streams:
            old = known.pop(stream.device, stream)
            if old is not stream:
                stream.inherit(old)
        self.retired = known
        self.streams = streams

    @property
    def devices(self):
        """Names of the devices, in the order of their decisions."""
        return tuple((<Stream>stream).device for stream in self.streams)

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
            if now_ns() >= until:
                return TIME_IS_UP
            if self._sleep(due) < 0:
                return INTERRUPTED

    cdef int _sleep(self, int64_t due) except? -2:
        """Wait for events or until then; -1 if a signal came."""
        cdef epoll_event events[EVENTS]
        cdef sigset_t none
        cdef int64_t left = due - now_ns()
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
