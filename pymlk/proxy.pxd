# SPDX-License-Identifier: MIT
"""C interface of pymlk.proxy: records in, recommendations out, no Python objects.

What is marked nogil and asks the kernel may be answered by an emulator in another
thread of this process: call it without the GIL, or it waits for itself.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef extern from *:
    """
    struct mlk_ring;
    struct mlk_channel;
    """
    struct mlk_ring
    struct mlk_channel


cdef enum:
    SAMPLE = 1  # value[i]: feature i
    OUTCOME = 2  # value[]: enum mlk_outcome
    SLOT_VALUES = 64


# A copy of a record.
cdef struct Slot:
    uint64_t seq
    uint64_t time_ns  # CLOCK_MONOTONIC
    uint32_t kind
    uint32_t n
    int64_t value[SLOT_VALUES]


cdef class Dataset:
    cdef mlk_ring *_ring
    cdef Py_ssize_t _shape[2]
    cdef Py_ssize_t _strides[2]
    # Both stay the same.
    cdef readonly int n_features
    cdef readonly int n_knobs

    # The record behind the last one: 1 got it, 0 there is none yet.
    cdef int take(self, Slot *into) noexcept nogil
    # Leaves out all but the newest n; these do not count as lost.
    cdef void skip_to_newest(self, uint64_t n) noexcept nogil
    # Number of the last record that was taken or left out, and of the newest one.
    cdef uint64_t taken(self) noexcept nogil
    cdef uint64_t newest(self) noexcept nogil
    # Records that were overwritten before they were taken.
    cdef uint64_t missed(self) noexcept nogil
    cdef _map(self, int fd, size_t size, path)
    cdef int _check(self) except -1


cdef class Proxy:
    cdef mlk_channel *_channel
    cdef readonly str name
    cdef readonly str subsystem
    cdef readonly str model
    cdef readonly tuple features
    cdef readonly tuple knobs
    cdef readonly Dataset dataset
    cdef bint _owner
    cdef str _root
    cdef str _folder
    cdef str _device

    # 0 or -errno, all of them.
    cdef int send(
        self, const int64_t *values, int confidence_permil, uint64_t seq
    ) noexcept nogil
    cdef int beat(self) noexcept nogil
    # Until there is a record behind seq; timeout in ns, negative for ever; -ETIMEDOUT,
    # -EINTR. Also says what is known: poll() of the descriptor tells of later ones.
    cdef int wait_ns(self, uint64_t seq, int64_t timeout) noexcept nogil
    cdef int descriptor(self) noexcept nogil
    cdef int _check(self) except -1
    cdef object _error(self, int err, str what, path=*)
    cdef _connect(self, bint write)
