# SPDX-License-Identifier: MIT
# distutils: include_dirs = pymlk kernel/include/uapi
# distutils: depends = pymlk/proxy_ring.h pymlk/proxy_call.h
"""Models of the kernel module mlk: records out of its ring, recommendations into it.

:func:`discover` lists them, :class:`Proxy` talks to one, :class:`Dataset` is its mapped
ring. :func:`emulate` gives the same without the module and without root.
"""

import errno as _errno
import os

from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS,
    PyBUF_FORMAT,
    PyBUF_WRITABLE,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport (
    EBADF,
    EBUSY,
    EINTR,
    EINVAL,
    ENODEV,
    ENOENT,
    ERANGE,
    ETIMEDOUT,
)
from libc.stdint cimport INT64_MAX, INT64_MIN, int64_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset
from posix.mman cimport munmap
from posix.unistd cimport close

from pymlk.errors import ProxyError

__all__ = [
    "Dataset",
    "Feature",
    "Knob",
    "Proxy",
    "Record",
    "RingWriter",
    "discover",
    "emulate",
]

cdef extern from *:
    """
    /* Runs seldom, and boards are small; proxy_ring.h asks for speed itself. */
    #if defined(__GNUC__) && !defined(__clang__)
    #pragma GCC optimize("Os")
    #endif
    """

cdef extern from "proxy_ring.h" nogil:
    struct mlk_slot:
        pass

    struct mlk_ring:
        const unsigned char *base
        size_t bytes
        uint32_t data
        uint32_t record_bytes
        uint32_t records
        uint32_t n_features
        uint32_t n_knobs
        uint64_t next
        uint64_t lost
        uint64_t malformed

    const char *mlk_ring_open(mlk_ring *ring, const void *base, size_t bytes)
    void mlk_ring_close(mlk_ring *ring)
    uint64_t mlk_ring_head(const mlk_ring *ring)
    int mlk_ring_next(mlk_ring *ring, mlk_slot *into)
    void mlk_ring_newest(mlk_ring *ring, uint64_t n)
    uint64_t mlk_ring_write(
        const mlk_ring *ring, uint32_t kind, const int64_t *values, uint32_t n
    )
    void mlk_ring_discard(const mlk_ring *ring)
    uint64_t mlk_ring_time(const mlk_ring *ring, uint64_t seq)

cdef extern from "proxy_call.h" nogil:
    enum:
        EMEDIUMTYPE
        MLK_ABI_VERSION
        MLK_ASK_OWNER
        MLK_ASK_LOAD
        MLK_ASK_MODE
        MLK_ASK_PROGRAM

    struct mlk_recommendation:
        uint16_t version
        uint16_t bytes
        uint32_t n_knobs

    struct mlk_info:
        uint32_t state
        uint32_t mode
        uint32_t why
        uint32_t n_features
        uint32_t n_knobs
        uint32_t record_bytes
        uint32_t records
        uint32_t dataset_bytes
        uint32_t deadline_ms
        uint64_t head
        uint64_t lost
        uint64_t program_id
        uint64_t program_swaps
        uint32_t owner

    struct mlk_channel:
        int fd
        int bell
        int emulated
        int writable
        mlk_recommendation answer

    int mlk_channel_open(
        mlk_channel *c, const char *folder, const char *name, int writable, int *dataset
    )
    void mlk_channel_close(mlk_channel *c)
    int mlk_channel_info(mlk_channel *c, mlk_info *info)
    int mlk_channel_number(mlk_channel *c, uint32_t op, uint32_t number)
    int mlk_channel_beat(mlk_channel *c)
    int mlk_channel_send(
        mlk_channel *c,
        const int64_t *values,
        uint32_t n,
        uint32_t confidence_permil,
        uint64_t seq,
    )
    int mlk_channel_wait(
        mlk_channel *c, const mlk_ring *ring, uint64_t seq, int64_t timeout
    )
    int mlk_channel_load(
        mlk_channel *c, uint32_t op, const void *image, uint32_t bytes
    )
    int mlk_channel_attribute(
        mlk_channel *c, const char *name, const char *value, size_t bytes
    )
    int mlk_dataset_map(int fd, size_t *bytes, const void **base)
    int64_t mlk_now()

MODES = ("emergency", "learning", "collaboration", "recommendation")
STATES = ("created", "initialized", "started", "running", "stopped", "destroyed")
REASONS = (
    "new",
    "request",
    "score",
    "heartbeat",
    "owner",
    "suspend",
    "program",
    "guard",
    "stop",
    "client",
)
KINDS = ("gauge", "counter", "flag")
RECORD_KINDS = (None, "sample", "outcome")


cdef object _word(tuple words, uint32_t i):
    # a later kernel may have more
    return words[i] if i < len(words) else str(i)


cdef class Feature:
    """One number that decisions depend on; read-only.

    Parameters
    ----------
    name : str
        File name in sysfs, unique in the model.
    unit : str
        ``ns``, ``KiB`` and so on; empty if it has none.
    kind : str
        ``gauge``, ``counter`` (only grows, may wrap) or ``flag``.
    low, high : int
        Least and greatest value. They inform: a sample may lie outside.

    Thread safety
    -------------
    Immutable.

    Examples
    --------
    >>> Feature("queued", "", "gauge", 0, 1024).high
    1024
    """

    cdef readonly str name
    cdef readonly str unit
    cdef readonly str kind
    cdef readonly int64_t low
    cdef readonly int64_t high

    def __init__(self, str name not None, str unit not None="",
                 str kind not None="gauge", int64_t low=INT64_MIN,
                 int64_t high=INT64_MAX):
        if kind not in KINDS:
            raise ValueError(f"feature {name}: kind {kind!r} found, one of "
                             f"{', '.join(KINDS)} expected")
        self.name = name
        self.unit = unit
        self.kind = kind
        self.low = low
        self.high = high

    cdef tuple _key(self):
        return self.name, self.unit, self.kind, self.low, self.high

    def __eq__(self, other):
        if not isinstance(other, Feature):
            return NotImplemented
        return self._key() == (<Feature>other)._key()

    def __hash__(self):
        return hash(self._key())

    def __repr__(self):
        return f"Feature{self._key()!r}"


cdef class Knob:
    """One number that decisions set; read-only.

    Parameters
    ----------
    name, unit : str
        As of a feature.
    low, high : int
        Least and greatest value.
    step : int
        From one possible value to the next, from `low` on.
    default : int
        What the subsystem uses without a model.

    Thread safety
    -------------
    Immutable.

    Examples
    --------
    >>> Knob("batch", "", 1, 64, 1, 8).default
    8
    """

    cdef readonly str name
    cdef readonly str unit
    cdef readonly int64_t low
    cdef readonly int64_t high
    cdef readonly int64_t step
    # a word of C, which Cython 3.0 takes as it is
    cdef int64_t _default

    def __init__(self, str name not None, str unit not None, int64_t low,
                 int64_t high, int64_t step, int64_t default):
        self.name = name
        self.unit = unit
        self.low = low
        self.high = high
        self.step = step
        self._default = default

    @property
    def default(self):
        """What the client uses without a recommendation."""
        return self._default

    cdef tuple _key(self):
        return (self.name, self.unit, self.low, self.high, self.step, self._default)

    def __eq__(self, other):
        if not isinstance(other, Knob):
            return NotImplemented
        return self._key() == (<Knob>other)._key()

    def __hash__(self):
        return hash(self._key())

    def __repr__(self):
        return f"Knob{self._key()!r}"


cdef class Record:
    """One record of a dataset, copied; read-only.

    Attributes
    ----------
    seq : int
        Its number, from 1.
    time_ns : int
        CLOCK_MONOTONIC when it was written.
    kind : str
        ``sample`` (values: the features) or ``outcome`` (values: seq of the sample,
        arm, verdict, score, then for each knob what was applied, then what the model
        said).
    values : tuple of int
        As many as it has.
    """

    cdef readonly uint64_t seq
    cdef readonly uint64_t time_ns
    cdef readonly str kind
    cdef readonly tuple values

    def __repr__(self):
        return f"Record(seq={self.seq}, {self.kind}, values={self.values})"


cdef Record _record(const Slot *slot):
    cdef Record record = Record.__new__(Record)
    cdef list values = []
    cdef uint32_t i
    for i in range(slot.n):
        values.append(slot.value[i])
    record.seq = slot.seq
    record.time_ns = slot.time_ns
    record.kind = _word(RECORD_KINDS, slot.kind) or "0"
    record.values = tuple(values)
    return record


cdef str _root_of(root):
    cdef str text = os.fsdecode(root).rstrip("/")
    return text


def discover(root="/"):
    """Names of all registered models.

    Parameters
    ----------
    root : str or path-like, optional
        Directory that stands for ``/``: an emulator's folder.

    Returns
    -------
    list of str
        ``subsystem/model``, sorted; empty where the module is not loaded. No two models
        have the same second part.

    Raises
    ------
    OSError
        The folder is there and cannot be read.

    Thread safety
    -------------
    Pure function of the file system.

    Source
    ------
    kernel/abi/sysfs-kernel-mlk.

    Examples
    --------
    >>> discover("/nowhere")
    []
    """
    top = _root_of(root) + "/sys/kernel/mlk"
    found = []
    try:
        subsystems = os.listdir(top)
    except FileNotFoundError:
        return found
    for subsystem in subsystems:
        try:
            names = os.listdir(f"{top}/{subsystem}")
        except (FileNotFoundError, NotADirectoryError):
            # it is going while it is looked at
            continue
        found += [f"{subsystem}/{name}" for name in names]
    return sorted(found)


def emulate(folder=None):
    """Models without the kernel module and without root, see :mod:`pymlk.emulator`.

    Parameters
    ----------
    folder : str or path-like, optional
        Where to make the directory tree; a temporary one that goes at the end without.

    Returns
    -------
    Emulator
        Its `root` is what :func:`discover` and :class:`Proxy` take.

    Raises
    ------
    OSError
        The tree cannot be made.

    Thread safety
    -------------
    Emulators are independent of each other.

    Source
    ------
    kernel/include/linux/mlk.h, kernel/abi/sysfs-kernel-mlk.

    Examples
    --------
    >>> with emulate() as kernel:
    ...     model = kernel.register("test", "batching", [Feature("queued")],
    ...                             [Knob("batch", "", 1, 64, 1, 8)])
    ...     discover(kernel.root)
    ['test/batching']
    """
    from .emulator import Emulator

    return Emulator(folder)


cdef class Dataset:
    """A mapped ring of records, for reading only.

    The buffer protocol gives the ring itself, without a copy: int64 of shape (records,
    words of a record), in the order of the slots; the words are number, time, kind and
    count (two halves), then the values. The writer may be in the middle of any of them:
    for records that are whole and in order use :meth:`next`, :meth:`rows` or
    :meth:`read_into`, which copy. The memory belongs to the writer and stays readable
    when the model is gone.

    Parameters
    ----------
    fd : int
        What to map: a model's device, its sysfs file, or sealed shared memory. It can
        be closed afterwards.
    size : int, optional
        Bytes to map, for a device.

    Attributes
    ----------
    n_features, n_knobs : int
        Values of a sample and of a recommendation.

    Raises
    ------
    ProxyError
        It cannot be mapped, or its header is not a dataset's, or a file that others
        could cut short.

    Thread safety
    -------------
    One thread reads. The C interface is in proxy.pxd.

    Source
    ------
    kernel/include/uapi/linux/mlk.h.

    Examples
    --------
    >>> with emulate() as kernel:
    ...     model = kernel.register("test", "one", [Feature("a"), Feature("b")], [])
    ...     model.control("init"); model.control("start")
    ...     data = Dataset.from_sysfs("test/one", root=kernel.root)
    ...     model.push([1, 2])
    ...     data.next().values
    1
    (1, 2)
    """

    def __cinit__(self):
        self._ring = <mlk_ring *>calloc(1, sizeof(mlk_ring))
        if self._ring == NULL:
            raise MemoryError("no memory for a dataset")

    def __init__(self, int fd, size_t size=0):
        self._map(fd, size, f"descriptor {fd}")

    cdef _map(self, int fd, size_t size, path):
        cdef const void *base = NULL
        cdef const char *wrong
        cdef int err
        if self._ring.base != NULL:
            raise ValueError("a dataset is mapped once")
        err = mlk_dataset_map(fd, &size, &base)
        if err == -EMEDIUMTYPE:
            raise ProxyError(
                EMEDIUMTYPE, "an ordinary file found, which somebody may cut short "
                "while it is mapped; a dataset in sysfs, a device or sealed memory "
                "expected", path)
        if err:
            raise ProxyError(-err, f"dataset: {os.strerror(-err)}", path)
        wrong = mlk_ring_open(self._ring, base, size)
        if wrong != NULL:
            munmap(<void *>base, size)
            raise ProxyError(EINVAL, f"dataset: {wrong.decode()}", path)
        self._base = base
        self._bytes = size
        self.n_features = self._ring.n_features
        self.n_knobs = self._ring.n_knobs
        self._shape[0] = self._ring.records
        self._shape[1] = self._ring.record_bytes // 8
        self._strides[0] = self._ring.record_bytes
        self._strides[1] = 8

    cdef void _unmap(self) noexcept:
        if self._base != NULL:
            munmap(<void *>self._base, self._bytes)
        self._base = NULL

    def __dealloc__(self):
        self._unmap()
        free(self._ring)

    def close(self):
        """Unmap it, unless a memoryview of it is left: then when that goes.

        Until then the kernel's module stays in use. May be called again.

        Thread safety
        -------------
        Not while another thread is in a call.
        """
        if self._ring.base != NULL:
            mlk_ring_close(self._ring)
        self._closed = True
        if not self._exports:
            self._unmap()

    @classmethod
    def from_sysfs(cls, name, *, root="/"):
        """Map the file ``dataset`` of a model in sysfs; the device is not touched.

        Parameters
        ----------
        name : str
            ``subsystem/model``.
        root : str or path-like, optional
            Directory that stands for ``/``.

        Returns
        -------
        Dataset
            Nobody else's; its position is before the oldest record.

        Raises
        ------
        ProxyError
            As of the class; or the file cannot be opened.

        Notes
        -----
        When the model goes the kernel takes these pages away, and who reads them then
        is ended by SIGBUS. A dataset of a `Proxy` stays readable.

        Thread safety
        -------------
        Independent of all other datasets.
        """
        path = f"{_root_of(root)}/sys/kernel/mlk/{name}/dataset"
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise ProxyError(error.errno, f"dataset: {error.strerror}", path) from None
        cdef Dataset made = cls.__new__(cls)
        try:
            made._map(fd, 0, path)
        finally:
            os.close(fd)
        return made

    cdef int _check(self) except -1:
        if self._ring.base == NULL or self._closed:
            raise ValueError("this dataset is not mapped (any more)")
        return 0

    cdef int take(self, Slot *into) noexcept nogil:  # hot
        return mlk_ring_next(self._ring, <mlk_slot *>into)

    cdef void skip_to_newest(self, uint64_t n) noexcept nogil:  # hot
        mlk_ring_newest(self._ring, n)

    cdef uint64_t taken(self) noexcept nogil:  # hot
        return self._ring.next - 1

    cdef uint64_t newest(self) noexcept nogil:  # hot
        return mlk_ring_head(self._ring)

    cdef uint64_t missed(self) noexcept nogil:  # hot
        return self._ring.lost

    @property
    def head(self):
        """Number of the newest record, 0 before the first."""
        self._check()
        return mlk_ring_head(self._ring)

    @property
    def seq(self):
        """Number of the last record that was read or skipped."""
        return self._ring.next - 1

    @property
    def lost(self):
        """Records that were overwritten before they were read."""
        return self._ring.lost

    @property
    def malformed(self):
        """Records that could not be records and were left out; 0 with a sane writer."""
        return self._ring.malformed

    @property
    def records(self):
        """Records that the ring has room for, a power of 2."""
        return self._ring.records

    @property
    def record_bytes(self):
        """Size of a record, a multiple of 8."""
        return self._ring.record_bytes

    def next(self):
        """Copy the next record.

        Returns
        -------
        Record or None
            None if there is none yet.

        Thread safety
        -------------
        One thread reads.
        """
        cdef Slot slot
        self._check()
        return _record(&slot) if self.take(&slot) else None

    def rows(self, Py_ssize_t n=-1):
        """Copy the next records.

        Parameters
        ----------
        n : int, optional
            At most so many; all that there are without.

        Returns
        -------
        list of Record
            In order, whole; owned by the caller.

        Thread safety
        -------------
        One thread reads.
        """
        cdef Slot slot
        cdef list found = []
        self._check()
        # not more than the ring has: a writer may be faster than this
        if n < 0 or n > self._ring.records:
            n = self._ring.records
        while len(found) < n and self.take(&slot):
            found.append(_record(&slot))
        return found

    def read_into(self, buffer):
        """Copy the next records into rows of int64, as many as fit.

        Parameters
        ----------
        buffer : writable buffer
            int64 of shape (any, record_bytes / 8), contiguous, the caller's: a numpy
            array, for example. Each row gets number, time, kind and count (two halves),
            then the values; values that a record does not have become 0.

        Returns
        -------
        int
            Rows that were written; the others are left as they were.

        Raises
        ------
        ValueError
            The buffer has another form.

        Thread safety
        -------------
        One thread reads.
        """
        cdef Slot slot
        cdef Py_buffer view
        cdef Py_ssize_t width = self._ring.record_bytes
        cdef Py_ssize_t room, done = 0
        cdef size_t used
        self._check()
        PyObject_GetBuffer(
            buffer, &view, PyBUF_WRITABLE | PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)
        try:
            if (view.itemsize != 8 or view.ndim != 2
                    or view.format == NULL or view.format not in (b"q", b"l")
                    or view.shape[1] * 8 != width):
                raise ValueError(f"rows of {width // 8} int64 expected")
            room = view.shape[0]
            with nogil:
                while done < room and self.take(&slot):
                    used = 24 + <size_t>slot.n * 8
                    memcpy(<char *>view.buf + done * width, &slot, used)
                    memset(<char *>view.buf + done * width + used, 0, width - used)
                    done += 1
        finally:
            PyBuffer_Release(&view)
        return done

    def skip(self, uint64_t newest=0):
        """Leave out all records but the newest; these do not count as lost.

        Parameters
        ----------
        newest : int, optional
            So many are still to be read.

        Thread safety
        -------------
        One thread reads.
        """
        self._check()
        mlk_ring_newest(self._ring, newest)

    def __len__(self):
        return self._ring.records

    def __getbuffer__(self, Py_buffer *view, int flags):
        self._check()
        if flags & PyBUF_WRITABLE:
            raise BufferError("a dataset is read-only")
        view.buf = <void *>(self._ring.base + self._ring.data)
        view.obj = self
        view.len = <Py_ssize_t>self._ring.records * self._ring.record_bytes
        view.readonly = 1
        view.itemsize = 8
        view.format = NULL
        if flags & PyBUF_FORMAT:
            view.format = b"q"
        view.ndim = 2
        view.shape = self._shape
        view.strides = self._strides
        view.suboffsets = NULL
        view.internal = NULL
        self._exports += 1

    def __releasebuffer__(self, Py_buffer *view):
        self._exports -= 1
        if self._closed and not self._exports:
            self._unmap()


cdef int64_t _integer(str text, str path) except? -1:
    try:
        return int(text)
    except (ValueError, OverflowError):
        raise ProxyError(EINVAL, f"{text!r} found, a number expected", path) from None


cdef str _text(str path):
    with open(path, encoding="utf-8", errors="replace") as file:
        # whatever an emulator's file is, a page is all that the kernel gives
        return file.read(65536).rstrip("\n")


cdef class Proxy:
    """One model of the kernel, from the side of user space.

    Its self-description is read when it is opened, and its dataset mapped; everything
    else is asked for when it is wanted.

    Parameters
    ----------
    name : str
        ``subsystem/model``, or only the model's name: there are no two of one name.
    root : str or path-like, optional
        Directory that stands for ``/``: an emulator's folder.
    write : bool, optional
        Whether it may become the owner, which recommends.

    Attributes
    ----------
    name, subsystem, model : str
        ``subsystem/model`` and its parts.
    features : tuple of Feature
        In the order of a sample's values.
    knobs : tuple of Knob
        In the order of a recommendation's values.
    dataset : Dataset
        The ring, mapped through the device.

    Raises
    ------
    ProxyError
        There is no such model, or it may not be opened, or it describes itself in a way
        that cannot be.

    Notes
    -----
    Every method raises `ProxyError` with errno and path where the kernel refuses, and
    with ``ENODEV`` when its client is gone.

    Thread safety
    -------------
    Methods may be called from several threads, but see :class:`Dataset`. The C
    interface is in proxy.pxd.

    Source
    ------
    kernel/include/uapi/linux/mlk.h, kernel/abi/sysfs-kernel-mlk.

    Examples
    --------
    >>> with emulate() as kernel:
    ...     model = kernel.register("test", "batching", [Feature("queued")],
    ...                             [Knob("batch", "", 1, 64, 1, 8)])
    ...     with Proxy("test/batching", root=kernel.root) as proxy:
    ...         for word in ("init", "start", "run"):
    ...             proxy.control(word)
    ...         proxy.own()
    ...         proxy.set_mode("recommendation")
    ...         seq = model.push([5])
    ...         proxy.recommend([16], seq=proxy.dataset.next().seq)
    ...         proxy.mode, model.decide(seq).advice
    ('recommendation', (16,))
    """

    def __cinit__(self):
        self._channel = <mlk_channel *>calloc(1, sizeof(mlk_channel))
        if self._channel == NULL:
            raise MemoryError("no memory for a proxy")
        self._channel.fd = self._channel.bell = -1

    def __dealloc__(self):
        if self._channel != NULL:
            mlk_channel_close(self._channel)
        free(self._channel)

    def __init__(self, str name not None, *, root="/", bint write=True):
        if self._folder is not None:
            raise ValueError("a proxy is opened once")
        self._root = _root_of(root)
        found = discover(root)
        matches = [n for n in found if name in (n, n.partition("/")[2])]
        if not matches:
            raise ProxyError(
                ENOENT, f"no model {name!r}; there are: {', '.join(found) or 'none'} "
                "(is the module mlk loaded, and a module that uses it?)",
                f"{self._root}/sys/kernel/mlk")
        self.name = matches[0]
        self.subsystem, self.model = self.name.split("/")
        self._folder = f"{self._root}/sys/kernel/mlk/{self.name}"
        self._device = f"{self._root}/dev/mlk/{self.model}"
        try:
            self._connect(write)
            self.features = self._describe("features", self.dataset.n_features)
            self.knobs = self._describe("knobs", self.dataset.n_knobs)
        except BaseException:
            self.close()
            raise

    cdef _connect(self, bint write):
        cdef bytes folder = os.fsencode(f"{self._root}/dev/mlk")
        cdef bytes name = os.fsencode(self.model)
        cdef const char *c_folder = folder
        cdef const char *c_name = name
        cdef int writable = write
        cdef int source = -1
        cdef int err
        cdef mlk_info info
        cdef mlk_recommendation *answer = &self._channel.answer
        with nogil:
            err = mlk_channel_open(
                self._channel, c_folder, c_name, writable, &source)
            if not err:
                err = mlk_channel_info(self._channel, &info)
        try:
            if err:
                raise self._error(err, "it cannot be opened")
            self.dataset = Dataset.__new__(Dataset)
            self.dataset._map(source, info.dataset_bytes, self._device)
        finally:
            if source >= 0 and source != self._channel.fd:
                close(source)
        answer.version = MLK_ABI_VERSION
        answer.bytes = sizeof(mlk_recommendation)
        answer.n_knobs = self.dataset.n_knobs

    def _describe(self, str kind, int count):
        folder = f"{self._folder}/{kind}"
        found = {}
        try:
            names = os.listdir(folder) if count else []
            for file in names:
                if not file.endswith("_type"):
                    continue
                path = f"{folder}/{file}"
                # a knob of that name has files of its own
                words = _text(path).split(":")
                if len(words) < 5 + (kind == "knobs"):
                    continue
                found[_integer(words[0], path)] = self._described(
                    file.removesuffix("_type"), words, kind, path)
        except ProxyError:
            raise
        except OSError as error:
            raise self._error(-error.errno, "describing itself", folder) from None
        if sorted(found) != list(range(count)):
            raise ProxyError(EINVAL, f"{len(found)} {kind} found, {count} expected",
                             folder)
        return tuple([found[i] for i in range(count)])

    def _described(self, str name, list words, str kind, str path):
        cdef int last = -2 if kind == "features" else -4
        numbers = [_integer(word, path) for word in words[last:]]
        try:
            if kind == "features":
                # a unit may have a colon
                return Feature(name, ":".join(words[2:last]), words[1], *numbers)
            return Knob(name, ":".join(words[1:last]), *numbers)
        except ValueError as error:
            raise ProxyError(EINVAL, str(error), path) from None

    cdef int _check(self) except -1:
        if self._channel.fd < 0:
            raise ProxyError(EBADF, "this proxy is closed; open it anew", self._device)
        return 0

    cdef object _error(self, int err, str what, path=None):
        cdef int number = -err
        advice = {
            _errno.ENODEV: "the kernel's client is gone, open it when it is back",
            _errno.EACCES: "the device belongs to root until a udev rule gives it to a "
                           "group, see docs/kernel.md",
            _errno.ETIMEDOUT: "no answer in time",
        }.get(number, os.strerror(number))
        return ProxyError(number, f"{what}: {advice}", path or self._device)

    cdef int send(
        self, const int64_t *values, int confidence_permil, uint64_t seq
    ) noexcept nogil:  # hot
        return mlk_channel_send(self._channel, values, self.dataset._ring.n_knobs,
                                confidence_permil, seq)

    cdef int beat(self) noexcept nogil:  # hot
        return mlk_channel_beat(self._channel)

    cdef int wait_ns(self, uint64_t seq, int64_t timeout) noexcept nogil:  # hot
        return mlk_channel_wait(self._channel, self.dataset._ring, seq, timeout)

    cdef int descriptor(self) noexcept nogil:  # hot
        return self._channel.bell

    def fileno(self):
        """Descriptor for poll(): readable when there are new records.

        Returns
        -------
        int
            Owned by the proxy. It is readable from the first record on, and after
            :meth:`wait` (also one without time) for records behind the one named there.

        Thread safety
        -------------
        Safe.
        """
        self._check()
        return self._channel.bell

    def info(self):
        """What the model is and does now.

        Returns
        -------
        dict
            `state`, `mode`, `reason` (str); `head`, `lost`, `program_id`,
            `program_swaps`, `deadline_ms`, `records`, `record_bytes`, `dataset_bytes`,
            `n_features`, `n_knobs` (int); `owner` (bool: this proxy is).

        Raises
        ------
        ProxyError
            ENODEV: the client is gone.

        Thread safety
        -------------
        Safe.
        """
        cdef mlk_info info
        cdef int err
        self._check()
        with nogil:
            err = mlk_channel_info(self._channel, &info)
        if err:
            raise self._error(err, "its state")
        return {
            "state": _word(STATES, info.state),
            "mode": _word(MODES, info.mode),
            "reason": _word(REASONS, info.why),
            "head": info.head,
            "lost": info.lost,
            "program_id": info.program_id,
            "program_swaps": info.program_swaps,
            "deadline_ms": info.deadline_ms,
            "records": info.records,
            "record_bytes": info.record_bytes,
            "dataset_bytes": info.dataset_bytes,
            "n_features": info.n_features,
            "n_knobs": info.n_knobs,
            "owner": bool(info.owner),
        }

    @property
    def state(self):
        """``created``, ``initialized``, ``started``, ``running``, ``stopped``; now."""
        return self.info()["state"]

    @property
    def mode(self):
        """``emergency``, ``learning``, ``collaboration`` or ``recommendation``; now."""
        return self.info()["mode"]

    @property
    def reason(self):
        """Why the mode is what it is: a word of kernel/abi, such as ``heartbeat``."""
        return self.info()["reason"]

    @property
    def closed(self):
        """Whether :meth:`close` has been called."""
        return self._channel.fd < 0

    @property
    def emulated(self):
        """Whether it is an emulator's and not the kernel's."""
        return bool(self._channel.emulated)

    def own(self):
        """Become the one that recommends, and whose silence is an emergency.

        Raises
        ------
        ProxyError
            EBUSY: another one is; EPERM: not open for writing.

        Thread safety
        -------------
        Safe.
        """
        cdef int err
        self._check()
        with nogil:
            err = mlk_channel_number(self._channel, MLK_ASK_OWNER, 1)
        if err == -EBUSY:
            raise ProxyError(EBUSY, f"process {self.read_attr('owner')} is the owner",
                             self._folder)
        if err:
            raise self._error(err, "becoming the owner")
        self._owner = True

    def disown(self):
        """Stop being the owner; the mode becomes emergency if it was.

        Raises
        ------
        ProxyError
            The client is gone.

        Thread safety
        -------------
        Safe.
        """
        cdef int err
        self._check()
        self._owner = False
        with nogil:
            err = mlk_channel_number(self._channel, MLK_ASK_OWNER, 0)
        if err:
            raise self._error(err, "stepping back")

    def heartbeat(self):
        """Tell that this owner is alive; a recommendation tells it, too.

        Raises
        ------
        ProxyError
            EPERM: not the owner.

        Thread safety
        -------------
        Safe.
        """
        cdef int err
        self._check()
        with nogil:
            err = self.beat()
        if err:
            raise self._error(err, "heartbeat")

    def recommend(self, values, double confidence=1.0, uint64_t seq=0):
        """Say what the knobs should be; the kernel's guard has the last word.

        Parameters
        ----------
        values : sequence of int
            One of each knob, inside its range and on its step.
        confidence : float, optional
            0 to 1.
        seq : int, optional
            Number of the record that it answers.

        Raises
        ------
        ProxyError
            EPERM: not the owner; EBUSY: the model does not run; ERANGE: a value that a
            knob cannot have; EINVAL: `seq` is yet to come.
        ValueError
            Not one value for each knob, or no confidence.

        Thread safety
        -------------
        Not together with another one.
        """
        cdef int64_t row[64]
        cdef int i = 0, err
        self._check()
        values = tuple(values)
        if len(values) != self.dataset.n_knobs:
            raise ValueError(f"{self.name}: {len(values)} values found, "
                             f"{self.dataset.n_knobs} expected, one of each knob")
        if not 0.0 <= confidence <= 1.0:
            raise ValueError(f"confidence {confidence} found, 0 to 1 expected")
        for value in values:
            row[i] = value
            i += 1
        cdef int permil = <int>(confidence * 1000 + 0.5)
        with nogil:
            err = self.send(row, permil, seq)
        if err == -ERANGE:
            raise ProxyError(ERANGE, f"recommendation {list(values)} found, expected: "
                             f"{self._ranges()}", self._device)
        if err:
            raise self._error(err, "recommendation")

    def _ranges(self):
        return ", ".join(
            [f"{k.name} {k.low} to {k.high} by {k.step}" for k in self.knobs])

    def load(self, image):
        """Load a program into the kernel in place of the one before.

        Parameters
        ----------
        image : buffer of bytes
            From `pymlk.image.make_image`.

        Raises
        ------
        ProxyError
            It was refused; the text says why. The one before stays; if it was an image
            at all and not too large, the mode becomes emergency.

        Thread safety
        -------------
        Safe.
        """
        cdef bytes data = bytes(image)
        cdef const char *start = data
        cdef Py_ssize_t size = len(data)
        cdef uint32_t op = MLK_ASK_LOAD if self._owner else MLK_ASK_PROGRAM
        cdef int err = 0
        self._check()
        if (size < 48 or data[:4] != b"MLKI"
                or int.from_bytes(data[8:12], "little") != size):
            raise ProxyError(_errno.EBADMSG, f"{size} bytes found, a whole image of "
                             "pymlk.image.make_image expected", self._device)
        if self._owner or self._channel.emulated:
            with nogil:
                err = mlk_channel_load(self._channel, op, start, size)
        else:
            err = self._write("program", data)
        if err:
            raise ProxyError(-err, f"program refused: {self._diag()}", self._device)

    def _diag(self):
        try:
            return self.read_attr("program_diag")
        except OSError:
            return "the model is gone"

    def set_mode(self, str name not None):
        """Change who decides, through the device if this is the owner, else by sysfs.

        Parameters
        ----------
        name : str
            ``emergency``, ``learning``, ``collaboration`` or ``recommendation``.

        Raises
        ------
        ProxyError
            EBUSY: the model does not run; EACCES: neither the owner nor root.
        ValueError
            Another name.

        Thread safety
        -------------
        Safe.
        """
        cdef int err
        cdef uint32_t number
        self._check()
        if name not in MODES:
            raise ValueError(f"mode {name!r} found, one of {', '.join(MODES)} expected")
        if not self._owner:
            self.write_attr("mode", name)
            return
        number = MODES.index(name)
        with nogil:
            err = mlk_channel_number(self._channel, MLK_ASK_MODE, number)
        if err == -EBUSY:
            raise ProxyError(EBUSY, f"mode {name}: only a running model has it, this "
                             f"one is {self.state}", self._device)
        if err:
            raise self._error(err, f"mode {name}")

    def control(self, str word not None):
        """Change what the model is doing.

        Parameters
        ----------
        word : str
            ``init``, ``start``, ``run``, ``stop``, ``sample`` or ``discard``.

        Raises
        ------
        ProxyError
            EBUSY: not in this state; EINVAL: another word.

        Thread safety
        -------------
        Safe.
        """
        self.write_attr("control", word)

    def _path(self, str name):
        parts = name.split("/")
        if not all(parts) or ".." in parts or "\0" in name:
            raise ValueError(f"attribute {name!r} found, a name such as "
                             "'options/deadline_ms' expected")
        return f"{self._folder}/{name}"

    def read_attr(self, str name not None):
        """Text of one of the model's files in sysfs.

        Parameters
        ----------
        name : str
            Below the model's folder: ``stats/records``, ``options/deadline_ms``.

        Returns
        -------
        str
            Without the line's end.

        Raises
        ------
        ProxyError
            It cannot be read; ENODEV: the model is gone.

        Thread safety
        -------------
        Safe.
        """
        path = self._path(name)
        try:
            return _text(path)
        except OSError as error:
            raise self._gone(error, path) from None

    def _gone(self, error, path):
        number = error.errno
        if number == ENOENT and not os.path.isdir(self._folder):
            number = ENODEV
        return self._error(-number, "attribute", path)

    def write_attr(self, str name not None, value):
        """Set one of the model's files in sysfs.

        Parameters
        ----------
        name : str
            Below the model's folder: ``options/deadline_ms``, ``knobs/NAME_low``.
        value : int or str
            What to write, as a whole.

        Raises
        ------
        ProxyError
            The kernel's answer: EINVAL, ERANGE, EBUSY, EACCES.

        Thread safety
        -------------
        Safe.
        """
        cdef int err
        cdef bytes c_name = name.encode()
        cdef bytes data = str(value).encode()
        cdef const char *name_start = c_name
        cdef const char *start = data
        cdef size_t size = len(data)
        path = self._path(name)
        self._check()
        if not size:
            raise ProxyError(EINVAL, "nothing found, a value expected", path)
        if self._channel.emulated:
            with nogil:
                err = mlk_channel_attribute(self._channel, name_start, start, size)
        else:
            err = self._write(name, data)
        if not err:
            return
        if err == -EINVAL or err == -ERANGE or err == -EBUSY:
            raise ProxyError(
                -err, f"{value!r} refused ({os.strerror(-err)}) in state {self.state}; "
                "what it takes is in kernel/abi", path)
        raise self._error(err, f"writing {value!r}", path)

    def _write(self, str name, bytes data):
        # as few write() as the kernel takes: a value that came in two is two values
        path = self._path(name)
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                done = 0
                while done < len(data):
                    done += os.pwrite(fd, data[done:], done)
            finally:
                os.close(fd)
        except OSError as error:
            if error.errno == ENOENT and not os.path.isdir(self._folder):
                return -ENODEV
            return -error.errno
        return 0

    def wait(self, uint64_t seq, timeout=None):
        """Wait for a record; signals are handled meanwhile.

        Parameters
        ----------
        seq : int
            Returns when there is a record with a greater number.
        timeout : float, optional
            Seconds; without one it waits for as long as it takes.

        Returns
        -------
        int
            Number of the newest record: not above `seq` if the time has passed.

        Raises
        ------
        ProxyError
            ENODEV: the client is gone.

        Thread safety
        -------------
        Safe.
        """
        cdef int64_t left = -1, end = 0
        cdef int err
        self._check()
        if timeout is not None:
            # a year is long enough
            left = <int64_t>(min(max(<double>timeout, 0.0), 3e7) * 1e9)
            end = mlk_now() + left
        while True:
            with nogil:
                err = self.wait_ns(seq, left)
            if err == -EINTR:
                PyErr_CheckSignals()
                if timeout is not None:
                    left = max(end - mlk_now(), 0)
                continue
            if err and err != -ETIMEDOUT:
                raise self._error(err, "waiting for a record")
            return self.dataset.newest()

    def close(self):
        """Close the device; who is the owner stops to be it. May be called again.

        The dataset is closed, too.

        Thread safety
        -------------
        Not while another thread is in a call.
        """
        if self._owner:
            # the kernel sees the end of a descriptor only when its map goes, too
            self._owner = False
            with nogil:
                mlk_channel_number(self._channel, MLK_ASK_OWNER, 0)
        mlk_channel_close(self._channel)
        if self.dataset is not None:
            self.dataset.close()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.close()

    def __repr__(self):
        return f"<Proxy {self.name}{' (closed)' if self.closed else ''}>"


cdef class RingWriter:
    """The writer of a dataset, for emulators and tests; the kernel has its own.

    Parameters
    ----------
    buffer : writable buffer
        Zeros but for a struct mlk_dataset at its start; kept for as long as this lives.

    Raises
    ------
    ValueError
        The header cannot be.

    Thread safety
    -------------
    One writer of a buffer; any number of readers in any process.

    Examples
    --------
    >>> RingWriter(bytearray(4096))
    Traceback (most recent call last):
    ValueError: it is not a dataset (bad magic)
    """

    cdef mlk_ring _ring
    cdef Py_buffer _view
    cdef bint _held

    def __init__(self, buffer):
        cdef const char *wrong
        if self._held:
            raise ValueError("a writer has one buffer")
        PyObject_GetBuffer(buffer, &self._view, PyBUF_WRITABLE | PyBUF_C_CONTIGUOUS)
        self._held = True
        wrong = mlk_ring_open(&self._ring, self._view.buf, self._view.len)
        if wrong != NULL:
            raise ValueError(wrong.decode())

    def __dealloc__(self):
        if self._held:
            PyBuffer_Release(&self._view)

    def write(self, uint32_t kind, values):
        """Add a record.

        Parameters
        ----------
        kind : int
            1 for a sample, 2 for an outcome.
        values : sequence of int
            As many as a record has room for, or fewer.

        Returns
        -------
        int
            Its number.

        Raises
        ------
        ValueError
            More values than there is room for.

        Thread safety
        -------------
        One writer.
        """
        cdef int64_t row[64]
        cdef uint32_t i = 0
        if self._ring.base == NULL:
            raise ValueError("this writer has no buffer")
        values = tuple(values)
        if len(values) * 8 + 24 > self._ring.record_bytes:
            raise ValueError(f"{len(values)} values found, at most "
                             f"{self._ring.record_bytes // 8 - 3} expected")
        for value in values:
            row[i] = value
            i += 1
        return mlk_ring_write(&self._ring, kind, row, i)

    def discard(self):
        """Make readers forget all records that there are.

        Thread safety
        -------------
        One writer.
        """
        if self._ring.base == NULL:
            raise ValueError("this writer has no buffer")
        mlk_ring_discard(&self._ring)

    def time_of(self, uint64_t seq):
        """When a record was written.

        Parameters
        ----------
        seq : int
            Its number.

        Returns
        -------
        int
            CLOCK_MONOTONIC in ns; 0 if the record is not there (any more).

        Thread safety
        -------------
        Safe.
        """
        if self._ring.base == NULL:
            raise ValueError("this writer has no buffer")
        return mlk_ring_time(&self._ring, seq)

    @property
    def head(self):
        """Number of the newest record."""
        return mlk_ring_head(&self._ring) if self._ring.base != NULL else 0

    def flood(self, uint64_t count, int64_t first=0):
        """Add many samples without the GIL: value i of sample n is n * (i + 1).

        Parameters
        ----------
        count : int
            How many.
        first : int, optional
            The first n.

        Thread safety
        -------------
        One writer.
        """
        cdef int64_t row[64]
        cdef uint64_t n
        cdef uint32_t i
        if self._ring.base == NULL:
            raise ValueError("this writer has no buffer")
        with nogil:
            for n in range(count):
                for i in range(self._ring.n_features):
                    row[i] = (first + <int64_t>n) * (i + 1)
                mlk_ring_write(&self._ring, 1, row, self._ring.n_features)
