# SPDX-License-Identifier: MIT
"""C face of attribute sets, for loops that must not touch Python objects."""

from libc.stdint cimport int64_t, uint8_t, uint64_t

cdef extern from *:
    """
    struct mlk_attrs;
    """
    struct mlk_attrs


cdef class AttrSet:
    # The row and its bitmap: valid until rescan() changes the layout, which it
    # refuses while a buffer is exported. Hold a memoryview while using these.
    cdef int64_t *_row
    cdef uint8_t *_valid
    cdef readonly Py_ssize_t n
    cdef uint64_t _seq
    cdef int64_t _time_ns

    cdef mlk_attrs *_c
    cdef void *_lock
    cdef Py_ssize_t _exports
    cdef Py_ssize_t _shape[1]
    cdef Py_ssize_t _stride[1]
    cdef bint _made
    cdef tuple _specs
    cdef bytes _root
    cdef bint _reopen
    cdef tuple _fields
    cdef tuple _names
    cdef dict _index
    cdef list _paths
    cdef list _keep

    # Takes the lock, reads, returns the number of invalid fields, or -EBADF
    # after close().
    cdef int snapshot(self) noexcept nogil
    # 0 or -errno; *now is the value that was read back. The field must have
    # been opened by open_for_write() before.
    cdef int write_value(self, Py_ssize_t i, int64_t value, int64_t *now) noexcept nogil
    cdef int field_errno(self, Py_ssize_t i) noexcept nogil

    cdef list _resolve(self)
    cdef mlk_attrs *_build(self, list resolved, dict known, list keep,
                           list infos, list paths) except NULL
    cdef object _learn(self, mlk_attrs *c, list keep, list infos, Py_ssize_t i)
    cdef Py_ssize_t _slot(self, key) except -1
    cdef object _copy(self, buf, bint fresh)
    cdef void _install(self, mlk_attrs *c, list keep, list paths, tuple fields,
                       tuple names, dict index)
