# SPDX-License-Identifier: MIT
"""C interface of pymlk.engine: for the loop, and for anybody's Cython modules.

Nothing but this file is needed to compile against it::

    from pymlk.engine cimport Model

    cdef int8_t *row = model.input_start(0)      # of model.inputs[0]
    cdef int8_t *answer = model.output_start(0)  # of model.outputs[0]
    with nogil:
        row[0] = 42
        model.run()

`run` takes no lock: whoever calls it without the GIL must not call this model from
another thread meanwhile, be it by `run` or by Python methods. It is for models of
``backend == "engine"``. The two addresses stay the same as long as the model lives.
What begins with an underscore may change.
"""

from libc.stdint cimport int8_t, uint8_t


cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    int pthread_mutex_init(pthread_mutex_t *mutex, const void *attributes)
    int pthread_mutex_destroy(pthread_mutex_t *mutex)
    int pthread_mutex_lock(pthread_mutex_t *mutex)
    int pthread_mutex_unlock(pthread_mutex_t *mutex)


cdef class Program:
    # who has the bytes
    cdef object _owner
    cdef const uint8_t *_start
    cdef size_t _bytes


cdef class _Block:
    cdef void *_memory
    cdef uint8_t *_start
    cdef size_t _bytes


cdef class _Tensor:
    cdef object _owner
    cdef void *_start
    cdef const char *_format
    cdef Py_ssize_t _item
    cdef int _rank
    cdef Py_ssize_t _shape[6]
    cdef Py_ssize_t _strides[6]
    cdef Py_ssize_t _total


cdef class Quant:
    cdef readonly double scale
    cdef readonly int zero_point


cdef struct Border:
    # Memory of the caller's, and the tensor of the arena behind it: quantised floats,
    # or the same bytes where a program runs that came by swap().
    float *host
    uint8_t *quantised
    size_t bytes
    Py_ssize_t elements
    float scale
    int zero_point
    int dtype
    bint copied


cdef struct Span:
    # An input or output as the caller sees it; it never moves.
    uint8_t *start
    Py_ssize_t bytes


cdef class Model:
    cdef readonly Program program
    cdef readonly str backend
    cdef readonly tuple inputs
    cdef readonly tuple outputs
    cdef readonly tuple input_quants
    cdef readonly tuple output_quants
    cdef _Block _arena
    cdef object _other
    cdef const void *_start
    cdef uint8_t *_arena_start
    # struct mlk_simd: this file must do without the engine's headers
    cdef const void *_simd
    # inputs, then outputs
    cdef Span *_spans
    cdef Border *_borders
    cdef int _in_borders
    cdef int _out_borders
    # Small models run under the GIL alone, which costs less than the lock. That is
    # safe while nobody runs this model without the GIL: so many do, counted under it.
    cdef bint _large
    cdef int _outside
    cdef pthread_mutex_t _lock

    cdef _load(self, bytes data, str backend)
    cdef _bind_tflite(self, bytes data)
    cdef _bind_engine(self, Program program)
    cdef void run(self) noexcept nogil
    cdef bint run_tapped(
        self, int op, int8_t *kept, Py_ssize_t bytes
    ) noexcept nogil
    cdef void _run_rows(
        self, const uint8_t *source, uint8_t *target, Py_ssize_t count
    ) noexcept nogil
    cdef void _clear(self) noexcept nogil
    cdef int8_t *input_start(self, Py_ssize_t i) noexcept nogil
    cdef int8_t *output_start(self, Py_ssize_t i) noexcept nogil
