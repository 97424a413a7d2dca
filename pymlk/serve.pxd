# SPDX-License-Identifier: MIT
"""C interface of pymlk.serve, for loops that take turns in one process."""

from libc.stdint cimport int64_t

from .engine cimport Model
from .stream cimport Latency, Stream


cdef class Server


cdef class Source:
    # who gives it turns, and its place there
    cdef Server server
    cdef int place
    # CLOCK_MONOTONIC of the next turn that no event has to ask for
    cdef int64_t due_ns
    # an event came since the last turn
    cdef bint ready
    # each decision is something that somebody should look at
    cdef public bint watching
    cdef readonly bint closed
    # one for each device
    cdef list streams
    # those of devices that are gone, by name
    cdef dict retired
    cdef readonly Model model
    cdef readonly str mode
    cdef readonly tuple latencies
    cdef dict plan
    cdef str root
    cdef int64_t interval_ns
    cdef Latency snapshot_time
    cdef readonly object adaptation  # pymlk.adapt.Adaptation, or None
    cdef readonly object recorder

    cdef prepare(self, dict plan, str root, str mode)
    cdef adapt(self, highest, folder)
    # Do what is to be done and move due_ns on. True: somebody should look.
    cdef bint turn(self, int64_t now) except -1
    cdef list descriptors(self)
    cdef list own_news(self)
    cdef str mode_of(self, Stream stream)
    cdef replace(self, list streams)
    cdef _record_streams(self, list gone)
    cdef _note_version(self)
    cdef note_mode(self, Stream stream)


cdef class Server:
    cdef int _epoll
    cdef int64_t _checked_ns
    cdef readonly list sources

    cdef watch(self, int place, int fd)
    cdef int _sleep(self, int64_t left) except? -2
    cdef bint _is_interrupted(self, int64_t now) noexcept nogil
