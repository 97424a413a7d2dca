# SPDX-License-Identifier: MIT
"""Programs and models: the integer engine of ``kernel/engine`` in Python.

A `Program` is verified once and never changes; a `Model` is a program (or, with
the ``tflite`` back end, an interpreter) with memory of its own.
"""

import math
import os

from cpython.buffer cimport (
    PyBUF_FORMAT,
    PyBUF_SIMPLE,
    PyBUF_WRITABLE,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from libc.errno cimport errno
from libc.math cimport roundf
from libc.stdint cimport int8_t, int16_t, uint8_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memmove, memset
from posix.mman cimport MAP_FAILED, MAP_PRIVATE, PROT_READ, mmap, munmap
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from ._engine cimport (
    MLK_FLOAT32,
    MLK_INT16,
    MLK_INT32,
    MLK_INT64,
    MLK_UINT8,
    mlk_arch_find,
    mlk_arch_name,
    mlk_diag,
    mlk_header,
    mlk_input_at,
    mlk_op_at,
    mlk_output_at,
    mlk_program_cost,
    mlk_program_find,
    mlk_program_name,
    mlk_program_next,
    mlk_program_op_macs,
    mlk_program_reset,
    mlk_program_run_simd,
    mlk_program_run_ops,
    mlk_program_verify,
    mlk_reason_text,
    mlk_simd,
    mlk_speed,
    mlk_tensor,
    mlk_tensor_at,
)

from .errors import ModelError, UnsupportedOpError

cdef enum:
    # below this, giving up the GIL costs more than the inference itself
    GIL_MACS = 20000
    CACHE_LINE = 64

_DTYPES = {0: "FLOAT32", 2: "INT32", 3: "UINT8", 4: "INT64", 7: "INT16", 9: "INT8"}
_NAMES = {
    "b": "int8", "B": "uint8", "h": "int16", "i": "int32", "q": "int64", "f": "float32"
}
_MAGIC = b"MLKP"


cdef class Quant:
    """Quantisation of a tensor: ``real = scale * (q - zero_point)``.

    Unpacks and compares like the tuple ``(scale, zero_point)``.

    Parameters
    ----------
    scale : float
        Real size of one step.
    zero_point : int
        The quantised value that stands for 0.0.

    Attributes
    ----------
    scale, zero_point : float, int
        As given.

    Notes
    -----
    Thread safety: immutable.
    """

    def __init__(self, double scale, int zero_point):
        self.scale = scale
        self.zero_point = zero_point

    def __iter__(self):
        return iter((self.scale, self.zero_point))

    def __eq__(self, other):
        if not isinstance(other, (Quant, tuple)):
            return NotImplemented
        return tuple(self) == tuple(other)

    def __hash__(self):
        return hash(tuple(self))

    def __repr__(self):
        return f"Quant(scale={self.scale!r}, zero_point={self.zero_point})"


# What a Program and a Model have that was never made: no operators, no arena.
cdef mlk_header _EMPTY


cdef double _scale(const mlk_tensor *tensor) noexcept nogil:
    return (<const float *>&tensor.scale)[0]


cdef class Program:
    """A verified program, immutable and shareable.

    Parameters
    ----------
    data : bytes-like
        The program; copied to where weights are whole cache lines. `from_file` uses it
        in place. What may lie behind it is ignored; see `programs`.

    Attributes
    ----------
    name : str
        What it is called among the programs of a file; may be empty.
    arena_bytes : int
        Memory that one running model needs for its activations.
    macs : int
        Multiply-accumulates of one inference.
    source_crc : int
        CRC-32 of the ``.tflite`` file it was made from.
    ops : tuple of str
        Operators by their TFLite names, in the order they run.

    Raises
    ------
    ModelError
        If the verifier refuses the bytes; the text says where and why.
    UnsupportedOpError
        If an operator is not built into this engine.

    Thread safety
    -------------
    Immutable, share it freely.

    Source
    ------
    ``kernel/engine/mlk_engine.h``.

    Examples
    --------
    >>> Program(b"MLKP")
    Traceback (most recent call last):
        ...
    pymlk.errors.ModelError: program refused: shorter than its header says (4 bytes)
    """

    def __cinit__(self):
        self._start = <const uint8_t *>&_EMPTY

    def __init__(self, data):
        if self._owner is not None:
            # a model may run on the bytes that would go
            raise TypeError("a Program is made once and never changes")
        # memoryview: bytes(5) would be five zeros
        cdef bytes content = data if type(data) is bytes else bytes(memoryview(data))
        cdef _Block block = _Block(len(content))
        # where weights are cache lines; bytes begin in the middle of one
        memcpy(block._start, <const uint8_t *>content, len(content))
        _verify(self, block, block._start, len(content))

    @classmethod
    def from_file(cls, path, name=None):
        """Map a file: its weights are used where they are, in the page cache.

        All processes that map the same file share that memory. The file must not be
        written in place as long as the program lives, since nobody would verify it
        again; replacing it, as ``pymlk compile`` does, is no such change.

        Parameters
        ----------
        path : str or os.PathLike
            A program (``.mlk``); the first one of several.
        name : str, optional
            Of several, the first one with that name.

        Returns
        -------
        Program
            It keeps the file mapped, not open.

        Raises
        ------
        ModelError
            If the verifier refuses the file's content, or there is no such name.
        UnsupportedOpError
            If an operator is not built into this engine.
        OSError
            If the file cannot be read.

        Thread safety
        -------------
        Reads only.
        """
        cdef Program program = cls.__new__(cls)
        owner, file = _map(path)
        cdef Span content = _content(owner)
        try:
            if name is not None:
                content = _find(content, name)
            _verify(program, owner, content.start, content.bytes)
        except UnsupportedOpError as error:
            raise UnsupportedOpError(f"{file}: {error}", error.operators) from None
        except ModelError as error:
            raise ModelError(f"{file}: {error}") from None
        return program

    @property
    def name(self):
        header = _header(self)
        # an unmade program has none
        if header.names == 0:
            return ""
        return (<bytes>mlk_program_name(header)).decode("utf-8", "replace")

    @property
    def arena_bytes(self):
        return _header(self).arena_bytes

    @property
    def macs(self):
        return _header(self).macs

    @property
    def source_crc(self):
        return _header(self).source_crc

    @property
    def ops(self):
        header = _header(self)
        return tuple(
            [_op_name(mlk_op_at(header, i).source) for i in range(header.n_ops)]
        )

    @property
    def inputs(self):
        """Descriptions of the inputs: name, dtype, shape, quantisation."""
        header = _header(self)
        return tuple(
            [
                _describe(header, mlk_input_at(header, i))
                for i in range(header.n_inputs)
            ]
        )

    @property
    def outputs(self):
        """Descriptions of the outputs: name, dtype, shape, quantisation."""
        header = _header(self)
        return tuple(
            [
                _describe(header, mlk_output_at(header, i))
                for i in range(header.n_outputs)
            ]
        )

    def cost(self, speed=None):
        """Tell how long one run takes at most, from what the program does.

        Parameters
        ----------
        speed : tuple of (int, int, int), optional
            Picoseconds of an operator, a multiply-accumulate, and any other value that
            is computed or moved; by default those of plain C on a core of 1 GHz.

        Returns
        -------
        int
            Nanoseconds, whatever the inputs; not counted is waiting for others.

        Raises
        ------
        ValueError
            If `speed` is not three integers of 32 bits.

        Thread safety
        -------------
        Pure function.

        Source
        ------
        ``kernel/engine/mlk_cost.c``.

        Examples
        --------
        >>> program = Model("models/readahead/model.tflite").program
        >>> program.cost((20_000, 1_000, 2_000)) < program.cost()
        True
        """
        cdef mlk_speed own
        if speed is None:
            return mlk_program_cost(self._start, NULL)
        try:
            own.op_ps, own.mac_ps, own.item_ps = speed
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(
                f"speed {speed!r} found, three integers of 32 bits expected"
            ) from error
        return mlk_program_cost(self._start, &own)

    def __bytes__(self):
        return self._start[:self._bytes]

    def __len__(self):
        return self._bytes


cdef const mlk_header *_header(Program program) noexcept:
    return <const mlk_header *>program._start


cdef _verify(Program program, owner, const uint8_t *start, size_t size):
    """Let a new program have these bytes, once the engine has accepted them."""
    cdef mlk_diag diag
    if mlk_program_verify(start, size, NULL, &diag) == 0:
        program._owner, program._start = owner, start
        # there may be others behind it
        program._bytes = _header(program).total_bytes
        return
    where = ""
    if diag.op >= 0:
        where += f"op[{diag.op}]: "
    if diag.tensor >= 0:
        where += f"tensor {diag.tensor}: "
    text = (<bytes>mlk_reason_text(diag.reason)).decode()
    message = f"program refused: {where}{text} ({size} bytes)"
    if "not built in" in text:
        raise UnsupportedOpError(message, (f"op[{diag.op}]",))
    raise ModelError(message)


cdef dict _describe(const mlk_header *header, const mlk_tensor *tensor):
    return {
        # the verifier has seen that it ends
        "name": (<const char *>header + header.names + tensor.name).decode(
            "utf-8", "replace"
        ),
        "dtype": _DTYPES[tensor.host_dtype].lower(),
        "shape": tuple([tensor.dims[i] for i in range(tensor.rank)]),
        "scale": _scale(tensor),
        "zero_point": tensor.zero_point,
    }


cdef tuple _quants(tuple tensors):
    return tuple([Quant(t["scale"], t["zero_point"]) for t in tensors])


cdef class _Map:
    """A file's content in the page cache; unmapped when nobody needs it any more."""

    cdef void *_memory
    cdef size_t _bytes

    def __cinit__(self, int descriptor, size_t size):
        self._bytes = size
        self._memory = mmap(NULL, size, PROT_READ, MAP_PRIVATE, descriptor, 0)
        if self._memory == MAP_FAILED:
            raise OSError(errno, os.strerror(errno))

    def __dealloc__(self):
        if self._memory != NULL and self._memory != MAP_FAILED:
            munmap(self._memory, self._bytes)


def _map(source):
    """A file's content, and its name for error messages."""
    path = os.fspath(source)
    name = os.fsdecode(path)
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            # nothing cannot be mapped
            return (_Map(file.fileno(), size) if size else b""), name
    except IsADirectoryError as error:
        raise ModelError(f"{name}: is a directory, expected a program") from error


cdef Span _content(owner) except *:
    cdef Span content
    if isinstance(owner, _Map):
        content.start = <uint8_t *>(<_Map>owner)._memory
        content.bytes = (<_Map>owner)._bytes
    else:
        content.start = <uint8_t *><const char *><bytes>owner
        content.bytes = len(owner)
    return content


cdef Span _find(Span content, str name) except *:
    """The part of a file that begins with the program of that name."""
    cdef const uint8_t *found = NULL
    cdef bytes encoded = name.encode()
    # an empty file has no bytes, and C ends a name at a zero
    if content.bytes and 0 not in encoded:
        found = <const uint8_t *>mlk_program_find(
            content.start, content.bytes, encoded
        )
    if found == NULL:
        raise ModelError(f"no program {name!r}, or damage before it")
    content.bytes -= found - content.start
    content.start = <uint8_t *>found
    return content


def programs(source):
    """All programs of a file with several, as ``pymlk compile A B -o FILE`` makes it.

    Parameters
    ----------
    source : str, os.PathLike or bytes-like
        Path of the file, which is mapped as by `Program.from_file`, or its bytes.

    Returns
    -------
    tuple of Program
        In the order of the file; at least one.

    Raises
    ------
    ModelError
        If the verifier refuses one of them; the text says which, and why.
    UnsupportedOpError
        If an operator is not built into this engine.
    OSError
        If the file cannot be read.

    Thread safety
    -------------
    Pure function.

    Examples
    --------
    >>> one = bytes(Model("models/readahead/model.tflite").program)
    >>> [program.macs for program in programs(one + bytes(-len(one) % 16) + one)]
    [540, 540]
    """
    cdef Program program
    cdef const uint8_t *start
    cdef const uint8_t *following
    cdef size_t left
    if isinstance(source, (bytes, bytearray, memoryview)):
        owner, name = bytes(source), "programs"
    else:
        owner, name = _map(source)
    cdef Span content = _content(owner)
    start, left = content.start, content.bytes
    found = []
    while start != NULL:
        program = Program.__new__(Program)
        where = f"{name}[{len(found)}]"
        try:
            _verify(program, owner, start, left)
        except UnsupportedOpError as error:
            raise UnsupportedOpError(f"{where}: {error}", error.operators) from None
        except ModelError as error:
            raise ModelError(f"{where}: {error}") from None
        found.append(program)
        following = <const uint8_t *>mlk_program_next(start, left)
        if following != NULL:
            left -= following - start
        start = following
    return tuple(found)


def _op_name(code):
    """TFLite's name of an operator; a step that none asked for is a COPY."""
    from .operators import OPERATORS

    return OPERATORS[code] if code < len(OPERATORS) else "COPY"


def instruction_sets():
    """Names of the inner loops that this processor can run, the best one first.

    Returns
    -------
    tuple of str
        Each is a value for the environment variable ``PYMLK_CPU``, which pins one for
        all models that are loaded afterwards; ``c`` is plain C.

    Thread safety
    -------------
    Pure function.

    Source
    ------
    ``kernel/arch/mlk_arch.c``.

    Examples
    --------
    >>> instruction_sets()[-1]
    'c'
    """
    cdef const mlk_simd *simd
    cdef const char *name
    found = []
    for i in range(16):
        name = mlk_arch_name(i)
        if name == NULL:
            break
        if mlk_arch_find(name, &simd) == 0:
            found.append((<bytes>name).decode())
    return tuple(found)


cdef const mlk_simd *_find_simd() except? NULL:
    """The loops that PYMLK_CPU names, or the best ones; NULL without error is C."""
    cdef const mlk_simd *simd = NULL
    wanted = os.environ.get("PYMLK_CPU")
    if not wanted:
        mlk_arch_find(NULL, &simd)
        return simd
    encoded = wanted.encode()
    if mlk_arch_find(encoded, &simd) != 0:
        raise ValueError(
            f"PYMLK_CPU is {wanted!r}, expected one of {', '.join(instruction_sets())}"
        )
    return simd


cdef class _Block:
    """Zeroed, aligned memory that lives as long as somebody looks at it."""

    def __cinit__(self, size_t size):
        self._memory = calloc(1, size + CACHE_LINE)
        if self._memory == NULL:
            raise MemoryError(f"no memory for {size} bytes")
        self._start = <uint8_t *>(
            (<uintptr_t>self._memory + CACHE_LINE - 1)
            & ~<uintptr_t>(CACHE_LINE - 1)
        )
        self._bytes = size

    def __dealloc__(self):
        free(self._memory)


cdef class Profiler:
    """Runs single operators of a program, in an arena of its own, and takes the time.

    Its inputs are zeros; an operator that is run by itself works on what the one before
    has left, so times are right and results mean nothing.

    Parameters
    ----------
    program : Program
        What is measured.

    Attributes
    ----------
    first, end : int
        Operators that are part of a run: from `first` to `end` - 1. Those before run
        at a reset only.

    Thread safety
    -------------
    None; one thread at a time. It keeps the GIL.

    Examples
    --------
    >>> profiler = Profiler(Model("models/readahead/model.tflite").program)
    >>> profiler.measure(profiler.first, profiler.end, 10) > 0
    True
    """

    cdef Program _program
    cdef _Block _arena
    cdef const mlk_simd *_simd
    cdef readonly int first
    cdef readonly int end

    def __init__(self, Program program not None):
        cdef const mlk_header *header = _header(program)
        self._program = program
        self._arena = _Block(header.arena_bytes)
        self._simd = _find_simd()
        self.first, self.end = header.n_init_ops, header.n_ops
        mlk_program_reset(header, self._arena._start)

    def measure(self, int first, int end, Py_ssize_t times):
        """Run the operators from `first` to `end` - 1 so many times.

        Parameters
        ----------
        first, end : int
            Which operators.
        times : int
            How often.

        Returns
        -------
        int
            Nanoseconds of all times together.

        Raises
        ------
        ValueError
            If there are no such operators in a run.

        Thread safety
        -------------
        None.
        """
        cdef timespec a, b
        cdef Py_ssize_t _i
        if self._arena is None or not self.first <= first <= end <= self.end:
            raise ValueError(
                f"operators {first} to {end} found, {self.first} to {self.end} expected"
            )
        clock_gettime(CLOCK_MONOTONIC, &a)
        for _i in range(times):
            mlk_program_run_ops(
                self._program._start, self._arena._start, first, end, self._simd
            )
        clock_gettime(CLOCK_MONOTONIC, &b)
        return (b.tv_sec - a.tv_sec) * 1000000000 + b.tv_nsec - a.tv_nsec

    def macs(self, int op):
        """Multiply-accumulates of one operator.

        Parameters
        ----------
        op : int
            Its number.

        Returns
        -------
        int
            Its share of the program's.

        Raises
        ------
        ValueError
            If there is no such operator in a run.

        Thread safety
        -------------
        None.
        """
        if not self.first <= op < self.end:
            raise ValueError(
                f"operator {op} found, {self.first} to {self.end - 1} expected"
            )
        return mlk_program_op_macs(self._program._start, op)


cdef class _Tensor:
    """Exports a tensor's memory through the buffer protocol."""

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        buffer.buf = self._start
        buffer.obj = self
        buffer.len = self._total
        buffer.itemsize = self._item
        buffer.readonly = 0
        buffer.ndim = self._rank
        buffer.format = <char *>self._format if flags & PyBUF_FORMAT else NULL
        buffer.shape = self._shape
        buffer.strides = self._strides
        buffer.suboffsets = NULL
        buffer.internal = NULL

    def __releasebuffer__(self, Py_buffer *buffer):
        pass


cdef _Tensor _new_tensor(
    object owner, void *start, const mlk_tensor *tensor, const char *form, int item
):
    cdef _Tensor result = _Tensor.__new__(_Tensor)
    cdef Py_ssize_t stride = item
    cdef int i
    result._owner = owner
    result._start = start
    result._format = form
    result._item = item
    result._rank = tensor.rank
    for i in range(tensor.rank - 1, -1, -1):
        result._shape[i] = tensor.dims[i]
        result._strides[i] = stride
        stride *= tensor.dims[i]
    result._total = stride
    return result


cdef int _item_bytes(int dtype) noexcept:
    if dtype == MLK_INT16:
        return 2
    if dtype == MLK_INT32:
        return 4
    return 8 if dtype == MLK_INT64 else 1


cdef const char *_format(int dtype) noexcept:
    if dtype == MLK_INT16:
        return b"h"
    if dtype == MLK_INT32:
        return b"i"
    if dtype == MLK_INT64:
        return b"q"
    return b"B" if dtype == MLK_UINT8 else b"b"


cdef inline int _get(const Border *border, Py_ssize_t i) noexcept nogil:  # hot
    if border.dtype == MLK_INT16:
        return (<int16_t *>border.quantised)[i]
    if border.dtype == MLK_UINT8:
        return border.quantised[i]
    return (<int8_t *>border.quantised)[i]


cdef inline void _put(const Border *border, Py_ssize_t i, int q) noexcept nogil:  # hot
    if border.dtype == MLK_INT16:
        (<int16_t *>border.quantised)[i] = <int16_t>q
    else:
        border.quantised[i] = <uint8_t>q


cdef void _quantise(const Border *border) noexcept nogil:  # hot
    # AffineQuantize of tensorflow/lite/kernels/internal/reference/quantize.h,
    # with what C leaves undefined (NaN, out of range) made the lowest value.
    cdef int low = -128
    cdef int high = 127
    cdef Py_ssize_t i
    cdef float scaled
    cdef int q
    if border.dtype == MLK_UINT8:
        low, high = 0, 255
    elif border.dtype == MLK_INT16:
        low, high = -32768, 32767
    for i in range(border.elements):
        scaled = roundf(border.host[i] / border.scale)
        if not (scaled > -1e6):
            q = low
        elif scaled > 1e6:
            q = high
        else:
            q = <int>scaled + border.zero_point
            q = low if q < low else high if q > high else q
        _put(border, i, q)


cdef void _dequantise(const Border *border) noexcept nogil:  # hot
    # Dequantize of tensorflow/lite/kernels/internal/reference/dequantize.h
    cdef Py_ssize_t i
    for i in range(border.elements):
        border.host[i] = <float>(
            <double>border.scale * (_get(border, i) - border.zero_point)
        )


cdef inline void _enter(const Border *border) noexcept nogil:  # hot
    if border.copied:
        memcpy(border.quantised, border.host, border.bytes)
    else:
        _quantise(border)


cdef inline void _leave(const Border *border) noexcept nogil:  # hot
    if border.copied:
        memcpy(border.host, border.quantised, border.bytes)
    else:
        _dequantise(border)


cdef void _set_border(
    Border *border, const mlk_tensor *tensor, uint8_t *arena, Span span
) noexcept:
    border.host = <float *>span.start
    border.bytes = span.bytes
    border.quantised = arena + tensor.offset
    border.copied = tensor.host_dtype != MLK_FLOAT32
    border.elements = tensor.bytes // _item_bytes(tensor.dtype)
    border.scale = <float>_scale(tensor)
    border.zero_point = tensor.zero_point
    border.dtype = tensor.dtype


cdef _need_same(str role, tuple found, tuple expected):
    """Refuse a program whose inputs or outputs are not those of the first one."""
    def form(tensor):
        return tensor["dtype"], tensor["shape"]

    if [form(t) for t in found] == [form(t) for t in expected]:
        return
    texts = [
        ", ".join([f"{t['dtype']} {'x'.join(map(str, t['shape']))}" for t in tensors])
        for tensors in (found, expected)
    ]
    raise ModelError("cannot swap: {} {} found, {} expected".format(role, *texts))


def _read(source):
    """The bytes of a model and a name for error messages."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source), "model"
    path = os.fspath(source)
    try:
        with open(path, "rb") as file:
            return file.read(), os.fsdecode(path)
    except IsADirectoryError as error:
        raise ModelError(f"{path}: is a directory, expected a model file") from error


def _rows(role, buffer, tensors):
    """A buffer of N rows as a memoryview; N is its length."""
    # an unmade model has none
    count = len(tensors or ())
    if count != 1:
        raise ValueError(f"{role}: the model has {count}, invoke_many needs one")
    view, tensor = memoryview(buffer), tensors[0]
    wanted = tensor.nbytes // tensor.itemsize
    shape = "x".join(map(str, view.shape)) or "a scalar"
    form = view.format.lstrip("@=<")
    if form != tensor.format:
        raise ValueError(
            f"{role}: dtype {_NAMES.get(form, view.format)} found, "
            f"{_NAMES[tensor.format]} expected"
        )
    if view.ndim < 2 or math.prod(view.shape[1:]) != wanted:
        raise ValueError(f"{role}: shape {shape} found, Nx{wanted} expected")
    if not view.c_contiguous:
        raise ValueError(f"{role}: a strided buffer found, C-contiguous expected")
    return view


cdef _bind_tensor(
    Model model, const mlk_tensor *tensor, Span *span, int *borders
):
    """A view of an input or output; floats get memory of their own."""
    # inputs come first, so a border's place is behind all before it
    cdef int item = _item_bytes(tensor.dtype)
    cdef _Block host
    cdef Border *border
    span.start = model._arena_start + tensor.offset
    span.bytes = tensor.bytes
    if tensor.host_dtype != MLK_FLOAT32:
        return memoryview(
            _new_tensor(
                model._arena, span.start, tensor, _format(tensor.dtype), item
            )
        )
    span.bytes = tensor.bytes // item * sizeof(float)
    host = _Block(span.bytes)
    span.start = host._start
    border = &model._borders[model._in_borders + model._out_borders]
    _set_border(border, tensor, model._arena_start, span[0])
    borders[0] += 1
    return memoryview(_new_tensor(host, host._start, tensor, b"f", 4))


cdef class Model:
    """A model with memory of its own: write ``input``, ``invoke()``, read ``output``.

    Parameters
    ----------
    source : str, os.PathLike or bytes-like
        A quantised ``.tflite`` model or a program (``.mlk``): a path, or the bytes. Of
        several programs in a file it is the first; see `programs`.
    backend : {"auto", "engine", "tflite"}
        ``engine`` runs pymlk's own engine; ``tflite`` runs tflite-runtime or LiteRT
        (extra ``tflite``); ``auto`` takes the engine where it supports every operator,
        else ``tflite``, with a `FallbackNotice` warning that names the operators.

    Attributes
    ----------
    input, output : memoryview
        The first input and output: the tensor's shape and dtype (int8; uint8 or
        float32 where the model's own border is that), on memory that the model owns and
        never moves. An input keeps its value from one call to the next.
    inputs, outputs : tuple of memoryview
        All of them.
    input_quant, output_quant : Quant
        Scale and zero point of the first input and output.
    input_quants, output_quants : tuple of Quant
        All of them.
    backend : str
        ``"engine"`` or ``"tflite"``.
    arena_bytes : int
        Bytes of activations; 0 where the ``tflite`` back end keeps them to itself.
    macs : int
        Multiply-accumulates of one call; 0 where that is not known.
    ops : tuple of str
        Operators that run, by their TFLite names.
    program : Program or None
        What the engine runs; `swap` replaces it.

    Raises
    ------
    ModelError
        If the file is no model, damaged, float-only or from a newer TFLite.
    UnsupportedOpError
        If ``backend="engine"`` and an operator is missing.
    OSError
        If the file cannot be read.

    Thread safety
    -------------
    Calls of one model's methods are serialised; who writes inputs or
    reads outputs meanwhile sees them half done, so threads should have a model each
    (they may share the `Program`). Large models run without the GIL.

    Examples
    --------
    >>> model = Model("models/readahead/model.tflite")
    >>> model.backend, model.input.format
    ('engine', 'b')
    >>> model.invoke()
    """

    def __cinit__(self):
        self._borders = NULL
        self._spans = NULL
        self._start = &_EMPTY
        pthread_mutex_init(&self._lock, NULL)

    def __init__(self, source, backend="auto"):
        if self.backend is not None:
            raise TypeError("a Model is made once; make another one")
        if backend not in ("auto", "engine", "tflite"):
            raise ValueError(
                f"backend {backend!r} found, 'auto', 'engine' or 'tflite' expected"
            )
        if isinstance(source, Program):
            if backend == "tflite":
                raise ModelError("a program runs on the engine, not on tflite")
            self._bind_engine(source)
            return
        data, name = _read(source)
        try:
            self._load(data, backend)
        except UnsupportedOpError as error:
            raise UnsupportedOpError(f"{name}: {error}", error.operators) from None
        except ModelError as error:
            raise ModelError(f"{name}: {error}") from None

    def __dealloc__(self):
        free(self._borders)
        free(self._spans)
        pthread_mutex_destroy(&self._lock)

    cdef _load(self, bytes data, str backend):
        if data[:4] == _MAGIC:
            if backend == "tflite":
                raise ModelError("a program runs on the engine, not on tflite")
            self._bind_engine(Program(data))
            return
        try:
            from .compile import compile_model, read_quantised
        except ModuleNotFoundError as error:
            raise ModelError(
                "a program expected: the compiler is not in this installation "
                f"(no module {error.name})"
            ) from error

        if backend == "tflite":
            read_quantised(data)
            self._bind_tflite(data)
            return
        try:
            self._bind_engine(Program(compile_model(data)))
        except UnsupportedOpError as error:
            if backend == "engine":
                raise
            try:
                from .tflite import notice
            except ModuleNotFoundError:
                # Kconfig can leave the back end out
                raise error from None

            notice(error.operators)
            self._bind_tflite(data)

    cdef _bind_tflite(self, bytes data):
        try:
            from .tflite import Interpreter
        except ModuleNotFoundError as error:
            raise ModelError(
                "the back end tflite is not in this installation"
            ) from error

        self._other = Interpreter(data)
        self.inputs, self.outputs = self._other.inputs, self._other.outputs
        self.input_quants = tuple([Quant(*q) for q in self._other.input_quants])
        self.output_quants = tuple([Quant(*q) for q in self._other.output_quants])
        self.backend = "tflite"

    cdef _bind_engine(self, Program program):
        cdef const mlk_header *header = _header(program)
        cdef int count = header.n_inputs + header.n_outputs
        self.program = program
        self._start = <const void *>header
        self._arena = _Block(header.arena_bytes)
        self._arena_start = self._arena._start
        self._simd = _find_simd()
        self._large = header.macs > GIL_MACS
        self._in_borders = self._out_borders = 0
        free(self._borders)
        free(self._spans)
        self._borders = <Border *>calloc(count, sizeof(Border))
        self._spans = <Span *>calloc(count, sizeof(Span))
        if self._borders == NULL or self._spans == NULL:
            raise MemoryError("no memory for the model's border")
        inputs, outputs = [], []
        for i in range(header.n_inputs):
            inputs.append(
                _bind_tensor(
                    self, mlk_input_at(header, i), &self._spans[i], &self._in_borders
                )
            )
        for i in range(header.n_outputs):
            outputs.append(
                _bind_tensor(
                    self,
                    mlk_output_at(header, i),
                    &self._spans[header.n_inputs + i],
                    &self._out_borders,
                )
            )
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self.input_quants = _quants(program.inputs)
        self.output_quants = _quants(program.outputs)
        mlk_program_reset(self._start, self._arena_start)
        self.backend = "engine"

    cdef void run(self) noexcept nogil:  # hot
        cdef int i
        for i in range(self._in_borders):
            _enter(&self._borders[i])
        mlk_program_run_simd(
            self._start, self._arena_start, <const mlk_simd *>self._simd
        )
        for i in range(self._in_borders, self._in_borders + self._out_borders):
            _leave(&self._borders[i])

    cdef bint run_tapped(
        self, int op, int8_t *kept, Py_ssize_t bytes
    ) noexcept nogil:  # hot
        """Run as `run` does, and keep the first operand of an operator.

        Its memory may be another tensor's afterwards, so it is copied on the way.
        False, and nothing has run, if that operand is not of so many bytes.
        """
        cdef const mlk_header *header = <const mlk_header *>self._start
        cdef const mlk_simd *simd = <const mlk_simd *>self._simd
        cdef const mlk_tensor *operand
        cdef int i
        if op < header.n_init_ops or op >= header.n_ops:
            return False
        # a FILL has no operand
        if mlk_op_at(header, op).operands[0] >= header.n_tensors:
            return False
        operand = mlk_tensor_at(header, mlk_op_at(header, op).operands[0])
        # constants lie in the program
        if <Py_ssize_t>operand.bytes != bytes or operand.flags:
            return False
        for i in range(self._in_borders):
            _enter(&self._borders[i])
        mlk_program_run_ops(header, self._arena_start, header.n_init_ops, op, simd)
        memcpy(kept, self._arena_start + operand.offset, <size_t>bytes)
        mlk_program_run_ops(header, self._arena_start, op, header.n_ops, simd)
        for i in range(self._in_borders, self._in_borders + self._out_borders):
            _leave(&self._borders[i])
        return True

    cdef int8_t *input_start(self, Py_ssize_t i) noexcept nogil:  # hot
        return <int8_t *>self._spans[i].start

    cdef int8_t *output_start(self, Py_ssize_t i) noexcept nogil:  # hot
        i += (<const mlk_header *>self._start).n_inputs
        return <int8_t *>self._spans[i].start

    def invoke(self):
        """Run the model once: from its inputs to its outputs.

        Raises
        ------
        ModelError
            Only with the ``tflite`` back end, if the interpreter fails.

        Thread safety
        -------------
        Calls of one model are serialised. The engine allocates nothing.
        """
        if self._other is not None:
            self._other.invoke()
        elif self._large or self._outside:
            self._outside += 1
            with nogil:
                pthread_mutex_lock(&self._lock)
                self.run()
                pthread_mutex_unlock(&self._lock)
            self._outside -= 1
        else:
            self.run()

    def invoke_many(self, inputs, outputs):
        """Run the model once for each row: N inputs in, N outputs out, in one call.

        The rows go through `input` and `output`, which have the last one afterwards.
        No other call of this model comes between two rows.

        Parameters
        ----------
        inputs : buffer, shape (N, ...)
            C-contiguous, of `input`'s dtype; each row has as many elements as `input`.
        outputs : writable buffer, shape (N, ...)
            C-contiguous, of `output`'s dtype; each row has as many elements as
            `output`. It may be `inputs` itself where the rows are equally long.

        Raises
        ------
        ValueError
            If the model has several inputs or outputs, or a buffer another shape,
            dtype or layout than expected, or `outputs` is read-only.
        TypeError
            If one of them is no buffer.
        ModelError
            Only with the ``tflite`` back end, if the interpreter fails.

        Thread safety
        -------------
        Serialised with all other calls of this model, and without the GIL. Nothing is
        allocated per row. Ctrl-C is seen at the end.

        Examples
        --------
        >>> model = Model("models/readahead/model.tflite")
        >>> n, m = model.input.nbytes, model.output.nbytes
        >>> rows = memoryview(bytes(3 * n)).cast("b", (3, n))
        >>> outputs = memoryview(bytearray(3 * m)).cast("b", (3, m))
        >>> model.invoke_many(rows, outputs)
        >>> bytes(outputs)[-m:] == bytes(model.output)
        True
        """
        source = _rows("inputs", inputs, self.inputs)
        target = _rows("outputs", outputs, self.outputs)
        if len(target) != len(source):
            raise ValueError(
                f"outputs: {len(target)} rows found, {len(source)} expected, "
                "as many as inputs"
            )
        if target.readonly:
            raise ValueError("outputs: a read-only buffer found, expected a writable")
        if not len(source):
            return
        if self._other is not None:
            self._other.invoke_many(source.cast("B"), target.cast("B"), len(source))
            return
        cdef Py_buffer first, last
        cdef Py_ssize_t count = len(source)
        PyObject_GetBuffer(source, &first, PyBUF_SIMPLE)
        try:
            PyObject_GetBuffer(target, &last, PyBUF_SIMPLE | PyBUF_WRITABLE)
        except BaseException:
            PyBuffer_Release(&first)
            raise
        self._outside += 1
        with nogil:
            pthread_mutex_lock(&self._lock)
            self._run_rows(<const uint8_t *>first.buf, <uint8_t *>last.buf, count)
            pthread_mutex_unlock(&self._lock)
        self._outside -= 1
        PyBuffer_Release(&first)
        PyBuffer_Release(&last)

    cdef void _run_rows(
        self, const uint8_t *source, uint8_t *target, Py_ssize_t count
    ) noexcept nogil:  # hot
        cdef Span first = self._spans[0]
        cdef Span last = self._spans[1]
        cdef Py_ssize_t i
        for i in range(count):
            # a caller may give the model's own memory
            memmove(first.start, source + i * first.bytes, first.bytes)
            self.run()
            memmove(target + i * last.bytes, last.start, last.bytes)

    def swap(self, Program program not None):
        """Replace the program by another one, such as one with new weights.

        Whatever call comes after this one runs the new program; a call that runs
        meanwhile is finished with the old one. Inputs and outputs keep their memory
        and values, and so all views of them; `input_quants` and `output_quants` are the
        new program's. Variables start with its first values.

        Parameters
        ----------
        program : Program
            Its inputs and outputs have the shapes and dtypes of this model's.
            Everything else may differ. It is shared, not copied.

        Raises
        ------
        ModelError
            If inputs or outputs differ, or the back end is ``tflite``. Nothing has
            changed then.
        TypeError
            If `program` is no Program.
        MemoryError
            If there is no memory for the new program's arena.

        Thread safety
        -------------
        Serialised with all other calls of this model. C code that calls ``run()``
        without the GIL must not do so meanwhile.

        Notes
        -----
        The new program has an arena of its own, and inputs and outputs are copied to
        and from it in each call from now on. The first arena stays, because inputs and
        outputs lie in it.

        Examples
        --------
        >>> model = Model("models/readahead/model.tflite")
        >>> model.swap(model.program)
        >>> model.invoke()
        """
        if self.program is None:
            raise ModelError("only a model on the engine can swap its program")
        _need_same("inputs", program.inputs, self.program.inputs)
        _need_same("outputs", program.outputs, self.program.outputs)
        cdef const mlk_header *header = _header(program)
        cdef int count = header.n_inputs + header.n_outputs
        cdef _Block arena = _Block(header.arena_bytes)
        mlk_program_reset(header, arena._start)
        input_quants = _quants(program.inputs)
        output_quants = _quants(program.outputs)
        cdef Border *borders = <Border *>calloc(count, sizeof(Border))
        if borders == NULL:
            raise MemoryError("no memory for the model's border")
        for i in range(count):
            _set_border(
                &borders[i], mlk_input_at(header, i), arena._start, self._spans[i]
            )
        with nogil:
            pthread_mutex_lock(&self._lock)
        # The lock keeps those away that run without the GIL, the GIL all others. Until
        # it is unlocked nothing may run Python code, such as a finalizer that calls
        # this model: no allocation, and what is replaced is let go behind it.
        _old_program, _old_arena = self.program, self._arena
        _old_inputs, _old_outputs = self.input_quants, self.output_quants
        self.program, self._arena = program, arena
        self.input_quants, self.output_quants = input_quants, output_quants
        self._borders, borders = borders, self._borders
        self._in_borders, self._out_borders = header.n_inputs, header.n_outputs
        self._start, self._arena_start = header, arena._start
        self._large = header.macs > GIL_MACS
        pthread_mutex_unlock(&self._lock)
        free(borders)

    def reset(self):
        """Forget all state: inputs, outputs and variables are as after loading.

        Thread safety
        -------------
        Serialised with `invoke`.
        """
        if self._other is not None:
            self._other.reset()
        elif self._large or self._outside:
            self._outside += 1
            with nogil:
                pthread_mutex_lock(&self._lock)
                self._clear()
                pthread_mutex_unlock(&self._lock)
            self._outside -= 1
        else:
            self._clear()

    cdef void _clear(self) noexcept nogil:
        cdef int i
        mlk_program_reset(self._start, self._arena_start)
        for i in range(self._in_borders + self._out_borders):
            memset(self._borders[i].host, 0, <size_t>self._borders[i].bytes)

    @property
    def input(self):
        return self.inputs[0]

    @property
    def output(self):
        return self.outputs[0]

    @property
    def input_quant(self):
        return self.input_quants[0]

    @property
    def output_quant(self):
        return self.output_quants[0]

    @property
    def arena_bytes(self):
        return self.program.arena_bytes if self.program is not None else 0

    @property
    def macs(self):
        return self.program.macs if self.program is not None else 0

    @property
    def ops(self):
        return self.program.ops if self.program is not None else self._other.ops

    def __repr__(self):
        return f"<pymlk.Model {self.backend}, {len(self.ops)} operators>"
