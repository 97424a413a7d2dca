# SPDX-License-Identifier: MIT
# distutils: include_dirs = pymlk
# distutils: depends = pymlk/attr_parse.h
"""Attribute sets: numbers from sysfs and procfs text, one call a snapshot.

A set is a fixed list of fields, opened once; :meth:`AttrSet.read` fills one row
of 64-bit integers. What runs per snapshot is in ``attr_parse.h``; this file
finds the files, learns scales and units, and keeps the memory.
"""

import os

from cpython.buffer cimport (
    PyBUF_FORMAT,
    PyBUF_ND,
    PyBUF_STRIDES,
    PyBUF_WRITABLE,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from libc.errno cimport EBADF, EINVAL, EIO, EMFILE, ENFILE, ENOMEM
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from pymlk.errors import AttrError, FieldSyntaxError

__all__ = ["AttrSet", "Field", "FieldError", "FieldInfo", "Stats"]

cdef extern from *:
    """
    /* Runs seldom, and boards are small; attr_parse.h asks for speed itself. */
    #if defined(__GNUC__) && !defined(__clang__)
    #pragma GCC optimize("Os")
    #endif
    """

cdef extern from "attr_parse.h" nogil:
    enum:
        MLK_ATTR_OK
        MLK_ATTR_UNREAD
        MLK_ATTR_NO_CHOICE
        MLK_ATTR_WHOLE
        MLK_ATTR_TOKEN
        MLK_ATTR_LINE
        MLK_ATTR_PAIR
        MLK_ATTR_UNSIGNED
        MLK_ATTR_HEX
        MLK_ATTR_SCALED
        MLK_ATTR_BARE_HEX
        MLK_ATTR_FIXED
        MLK_ATTR_OPEN

    const uint32_t MLK_ATTR_NOT_FOUND

    struct mlk_attr_field:
        const char *choices
        uint32_t n_choices
        uint32_t scale
        uint32_t at
        uint32_t file
        int wfd
        uint8_t kind
        uint8_t flags
        uint8_t split

    struct mlk_attr_want:
        const char *sub
        uint32_t sub_len
        uint32_t token
        uint32_t slot
        uint8_t kind
        uint8_t alt

    struct mlk_attr_row:
        const char *name
        mlk_attr_want *want
        uint32_t len
        uint32_t n_want

    struct mlk_attr_token:
        uint32_t token
        uint32_t slot

    struct mlk_attr_file:
        mlk_attr_row *row
        mlk_attr_token *token
        uint32_t *slot
        uint32_t n_row
        uint32_t n_token
        uint32_t n_slot
        int fd
        int err

    struct mlk_attrs:
        mlk_attr_field *field
        mlk_attr_file *file
        mlk_attr_row *row_pool
        mlk_attr_want *want_pool
        mlk_attr_token *token_pool
        uint32_t *slot_pool
        int64_t *row
        uint8_t *valid
        uint8_t *reason
        char *buf
        uint32_t cap
        uint32_t len
        uint32_t n
        uint32_t n_file
        uint32_t preads
        uint32_t grown
        uint64_t seq
        int64_t time_ns
        int closed

    const char *mlk_attr_reason_words(int reason)
    mlk_attrs *mlk_attrs_new(uint32_t n, uint32_t n_file)
    void mlk_attrs_free(mlk_attrs *s)
    void mlk_attrs_close(mlk_attrs *s)
    int mlk_attrs_fit(mlk_attrs *s)
    int mlk_attrs_read(mlk_attrs *s)
    int mlk_attrs_errno(const mlk_attrs *s, uint32_t slot)
    int mlk_attrs_write(mlk_attrs *s, int64_t slot, int64_t value, int64_t *now)
    void mlk_attr_open(mlk_attr_file *f, const char *path)
    void mlk_attr_let_go(mlk_attr_file *f, const char *path)
    void mlk_attr_size(mlk_attrs *s, mlk_attr_file *f)
    void mlk_attr_plan(mlk_attrs *s, mlk_attr_file *f)
    void mlk_attr_file_read(mlk_attrs *s, mlk_attr_file *f)
    int mlk_attr_learn(const mlk_attrs *s, const mlk_attr_field *f,
                       const char **unit, size_t *unit_len)
    int mlk_attr_open_write(mlk_attr_field *f, const char *path)
    void *mlk_attr_lock_new()
    void mlk_attr_lock_free(void *lock)
    void mlk_attr_lock(void *lock)
    void mlk_attr_unlock(void *lock)


cdef enum:
    MAX_SCALE = 1000000000
    MAX_TOKEN = 1000000
    MAX_FIELDS = 1000000


cdef class Field:
    """A field with more to say than ``PATH[SELECTOR]``.

    Parameters
    ----------
    spec : str
        ``PATH[SELECTOR]``, see :class:`AttrSet`.
    scale : int, optional
        Fixed-point factor from 1 to 10**9: the row holds the text's number times
        `scale`, rounded half away from zero. Without it the scale follows the
        digits behind the point that are seen when the file is opened.
    unsigned : bool, optional
        Take 0 to 2**64-1. The row holds the bit pattern; ``s[i]`` gives the
        unsigned number.
    hex : bool, optional
        The digits are hexadecimal even without ``0x``.
    name : str, optional
        Name instead of the spec. With a glob, what the wildcards stood for is
        added: ``reads[sda]``, ``reads[sdb]``.

    Raises
    ------
    FieldSyntaxError
        `spec` is not of the form ``PATH[SELECTOR]``.
    ValueError
        `scale` is out of range, or given together with `hex`.

    Thread safety
    -------------
    Immutable.

    Source
    ------
    None: the form is pymlk's own.

    Examples
    --------
    >>> Field("/proc/loadavg[0]", scale=1000, name="load")
    Field('/proc/loadavg[0]', scale=1000, name='load')
    """

    cdef readonly str spec
    cdef readonly object scale
    cdef bint is_unsigned
    cdef readonly bint hex
    cdef readonly object name
    cdef str path
    cdef object selector

    @property
    def unsigned(self):
        """True if it is read as an unsigned number."""
        return self.is_unsigned

    def __init__(self, str spec not None, *, scale=None, bint unsigned=False,
                 bint hex=False, name=None):
        if scale is not None and not 1 <= scale <= MAX_SCALE:
            raise ValueError(f"scale {scale!r} is not in 1..{MAX_SCALE}")
        if hex and scale is not None and scale != 1:
            raise ValueError("a hex field has no scale")
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name must be str, not {type(name).__name__}")
        self.path, self.selector = _split(spec)
        _selector(spec, self.selector)
        self.spec = spec
        self.scale = None if scale is None else int(scale)
        self.is_unsigned = unsigned
        self.hex = hex
        self.name = name

    def __repr__(self):
        text = f"Field({self.spec!r}"
        if self.scale is not None:
            text += f", scale={self.scale}"
        if self.is_unsigned:
            text += ", unsigned=True"
        if self.hex:
            text += ", hex=True"
        if self.name is not None:
            text += f", name={self.name!r}"
        return text + ")"


cdef class FieldInfo:
    """What is known of one field of a set; read-only.

    Attributes
    ----------
    index : int
        Its place in the row.
    name : str
        ``PATH[SELECTOR]`` with globs resolved, or the name it was given.
    spec : str
        As the caller wrote it.
    path : str
        The file, below the set's root.
    selector : str or None
        What was between the brackets.
    scale : int
        The row holds the text's number times this.
    unit : str or None
        Unit behind the number, never multiplied in.
    choices : tuple of str or None
        Names of a bracketed choice; the value is an index into it.
    unsigned, hex : bool
        As declared.
    """

    cdef readonly Py_ssize_t index
    cdef readonly str name
    cdef readonly str spec
    cdef readonly str path
    cdef readonly object selector
    cdef readonly object scale
    cdef readonly object unit
    cdef readonly object choices
    cdef bint is_unsigned
    cdef readonly bint hex
    # the scale has been seen or was declared, not merely assumed
    cdef bint scale_known

    @property
    def unsigned(self):
        """True if it is read as an unsigned number."""
        return self.is_unsigned

    cdef tuple key(self):
        return (self.name, self.scale, self.unit, self.choices, self.is_unsigned,
                self.hex)

    def __repr__(self):
        text = f"FieldInfo({self.index}, {self.name!r}, scale={self.scale}"
        if self.unit is not None:
            text += f", unit={self.unit!r}"
        if self.choices is not None:
            text += f", choices={self.choices!r}"
        return text + ")"


cdef class FieldError:
    """Why one field of the last row is invalid; read-only.

    Attributes
    ----------
    index, name : int, str
        The field.
    path : str
        The file as it was opened, root included.
    errno : int
        The kernel's, or the nearest one for a text that cannot be used.
    reason : str
        One of a few fixed phrases, such as ``vanished`` or ``not a number``.
    """

    cdef readonly Py_ssize_t index
    cdef readonly str name
    cdef readonly str path
    cdef readonly str reason
    cdef int err

    @property
    def errno(self):
        # a C member of this name would be the macro errno
        return self.err

    def __repr__(self):
        return (f"FieldError({self.index}, {self.name!r}, {self.reason!r}, "
                f"errno={self.err})")


cdef class Stats:
    """Costs of a set; read-only.

    Attributes
    ----------
    files : int
        Files of the set, open or not.
    preads : int
        System calls of the last snapshot; with `reopen`, opening and closing count.
    buffer_bytes : int
        Size of the text buffer that all files share.
    grown : int
        How often a file outgrew its head-room since it was opened.
    """

    cdef readonly uint32_t files
    cdef readonly uint32_t preads
    cdef readonly uint32_t buffer_bytes
    cdef readonly uint32_t grown

    def __repr__(self):
        return (f"Stats(files={self.files}, preads={self.preads}, "
                f"buffer_bytes={self.buffer_bytes}, grown={self.grown})")


cdef class _Bitmap:
    # Exports AttrSet's bitmap: a class has one buffer, and that is the row.
    cdef AttrSet owner
    cdef Py_ssize_t shape[1]
    cdef Py_ssize_t stride[1]

    def __getbuffer__(self, Py_buffer *view, int flags):
        if flags & PyBUF_WRITABLE:
            raise BufferError("the bitmap of an AttrSet is read-only")
        self.shape[0] = (self.owner.n + 7) // 8
        self.stride[0] = 1
        view.buf = self.owner._valid
        view.obj = self
        view.len = self.shape[0]
        view.readonly = 1
        view.itemsize = 1
        view.format = NULL
        if flags & PyBUF_FORMAT:
            view.format = b"B"
        view.ndim = 1
        view.shape = self.shape if flags & PyBUF_ND else NULL
        view.strides = (
            self.stride if flags & PyBUF_STRIDES == PyBUF_STRIDES else NULL
        )
        view.suboffsets = NULL
        view.internal = NULL
        self.owner._exports += 1

    def __releasebuffer__(self, Py_buffer *view):
        self.owner._exports -= 1


cdef object _bad(str spec, Py_ssize_t position, str expected):
    return FieldSyntaxError(f"field {spec!r}, position {position}: {expected}")


# PATH[SELECTOR] -> (PATH, SELECTOR or None)
cdef tuple _split(str spec):
    cdef Py_ssize_t at, opened
    path, selector = spec, None
    if spec.endswith("]"):
        opened = spec.rfind("[")
        if opened < 0:
            raise _bad(spec, len(spec) - 1, "expected '[' before ']'")
        path, selector = spec[:opened], spec[opened + 1 : len(spec) - 1]
        at = selector.find("]")
        if at >= 0:
            raise _bad(spec, opened + 1 + at, "expected one ']', at the end")
    else:
        opened = spec.rfind("[")
        if opened > spec.rfind("/") and spec.find("]", opened) < 0:
            raise _bad(spec, len(spec), "expected ']' at the end")
    if not path.startswith("/"):
        raise _bad(spec, 0, "expected a path that starts with '/'")
    if path.endswith("/"):
        raise _bad(spec, len(path), "expected the name of a file")
    at = spec.find("\0")
    if at >= 0:
        raise _bad(spec, at, "expected no NUL byte")
    at = (path + "/").find("/../")
    if at >= 0:
        raise _bad(spec, at + 1, "expected a path without '..'")
    return path, selector


cdef bint _number(str text):
    return text.isascii() and text.isdigit()


cdef uint32_t _token(str spec, str text) except? 4294967295:
    if len(text) > 7 or int(text) > MAX_TOKEN:
        raise _bad(spec, len(spec) - 1 - len(text),
                   f"expected a token number up to {MAX_TOKEN}")
    return int(text)


# SELECTOR -> (kind, name, sub, token, split): the first reading of it
cdef tuple _selector(str spec, selector):
    cdef Py_ssize_t dot
    cdef Py_ssize_t start
    cdef str s
    if selector is None:
        return MLK_ATTR_WHOLE, None, None, 0, MLK_ATTR_FIXED
    s = selector
    start = len(spec) - 1 - len(s)
    if not s:
        raise _bad(spec, start, "expected a token number, a key or ROW.KEY")
    if s != s.strip() or "\n" in s:
        raise _bad(spec, start, "expected a selector without outer blanks")
    if _number(s):
        return MLK_ATTR_TOKEN, None, None, _token(spec, s), MLK_ATTR_FIXED
    if s[0] in "+-" and _number(s[1:]):
        raise _bad(spec, start, "expected a token number from 0")
    dot = s.rfind(".")
    if 0 < dot < len(s) - 1:
        name, sub = os.fsencode(s[:dot]), s[dot + 1 :]
        if _number(sub):
            return (MLK_ATTR_LINE, name, os.fsencode(sub), _token(spec, sub),
                    MLK_ATTR_OPEN)
        return MLK_ATTR_PAIR, name, os.fsencode(sub), 0, MLK_ATTR_OPEN
    return MLK_ATTR_LINE, os.fsencode(s), None, 0, MLK_ATTR_FIXED


# '*' and '?' only: in a path, brackets are part of a name
cdef bint _match(str pattern, str name):
    cdef Py_ssize_t p = 0, n = 0, star = -1, mark = 0
    cdef Py_ssize_t plen = len(pattern), nlen = len(name)
    if name.startswith(".") and not pattern.startswith("."):
        return False
    while n < nlen:
        if p < plen and pattern[p] == "*":
            star = p
            mark = n
            p += 1
        elif p < plen and (pattern[p] == "?" or pattern[p] == name[n]):
            p += 1
            n += 1
        elif star >= 0:
            mark += 1
            p = star + 1
            n = mark
        else:
            return False
    while p < plen and pattern[p] == "*":
        p += 1
    return p == plen


cdef tuple _natural_part(str text):
    # sda2 before sda10: runs of digits compare as numbers
    cdef list out = []
    cdef Py_ssize_t i = 0, j
    cdef bint digits
    while i < len(text):
        j = i
        digits = "0" <= text[i] <= "9"
        while j < len(text) and ("0" <= text[j] <= "9") == digits:
            j += 1
        out.append((0, int(text[i:j]), "") if digits else (1, 0, text[i:j]))
        i = j
    return out, text


def _natural(item):
    return [_natural_part(part) for part in item[0].split("/")]


# The paths that a pattern stands for, each with what its wildcards matched.
cdef list _glob(str root, str path):
    cdef list found = [("", "")]
    cdef list more
    for part in path[1:].split("/"):
        wild = "*" in part or "?" in part
        more = []
        for base, stars in found:
            if not wild:
                more.append((f"{base}/{part}", stars))
                continue
            try:
                names = os.listdir((root + base) or "/")
            except OSError:
                continue
            more += [
                (f"{base}/{name}", f"{stars},{name}" if stars else name)
                for name in names
                if _match(part, name)
            ]
        found = more
    more = []
    for item in found:
        try:
            os.stat(root + item[0])
        except PermissionError:
            pass
        except OSError:
            continue
        more.append(item)
    more.sort(key=_natural)
    return more


cdef class AttrSet:
    """A fixed list of sysfs/procfs fields, read into one row by one call.

    A field is ``PATH[SELECTOR]``. The path is absolute, may hold ``*`` and ``?``
    (one field per match, in natural order; no match, no field), and never
    ``..``. The selector is the last ``[...]``:

    ==================  ====================================================
    none                the whole file is one value, or a bracketed choice
    ``[3]``             white-space token 3 of the file, from 0
    ``[MemFree]``       first value after the line that starts with this key
                        (followed by ``:``, ``=`` or white space)
    ``[cpu0.3]``        value 3 after the name of the row ``cpu0``
    ``[some.avg10]``    ``avg10=``, ``avg10:`` or ``avg10`` and a blank in the
                        row ``some``
    ==================  ====================================================

    Lines may be indented; of several lines with one name the first counts. A
    selector with a dot is split at its last dot if such a row exists, else all of
    it is a key; the first text that shows either decides, until :meth:`rescan`.

    A number is decimal, or hexadecimal after ``0x``, with an optional sign, and is
    followed by white space, the end, or a unit: ``%``, ``ms``, ``kB`` and the like
    directly, any short word after a blank. ``1e5``, ``3f``, ``0-1``, ``1/151``,
    ``nan``, ``.5`` and ``5.`` are no numbers. A fraction becomes
    fixed-point with the field's scale, rounded half away from zero; the scale is
    declared (:class:`Field`), or follows the digits seen when the file is opened
    (at most nine), or is 1, and then a fraction that turns up later is invalid.
    A file such as ``none [mq-deadline] kyber`` gives the index of the bracketed
    name among the names seen at opening.

    A value that is not there is never made up: the field's bit in :attr:`valid` is
    cleared, its number in the row is 0, :meth:`errors` says why, and all others
    are good. So look at the bit, not at the number. A file that is missing at
    opening is no error: its field is invalid until :meth:`rescan` finds it.

    Parameters
    ----------
    fields : iterable of str or Field
        What to read, in the order of the row.
    root : str or path-like, optional
        Directory that stands for ``/``, for a test tree or another machine's
        copy. Symbolic links are followed as they are.
    reopen : bool, optional
        Keep the files' directories open instead of the files, and open each file
        for the moment in which it is read. A text file that is kept open takes
        some 4.5 KB of the kernel's memory (a page, from its first read on), its
        directory 0.2 KB. A snapshot takes about 1 us a file longer, and the first
        file after a sleep some 20 us. For sets that are read ten times a second or
        less.

        If a device's directory goes, its fields stay invalid (``vanished``) until
        :meth:`rescan`, whatever appears under their paths; in a directory that
        stays, such as /proc/net/dev_snmp6, a new file of the same name is read.
        Each snapshot needs a free descriptor, and the right to read the files: a
        process that gave up rights can go on reading files that it keeps open, but
        these it must be allowed to open. Without, a field is ``unreadable`` for as
        long as that lasts. A file that cannot be found again by its name, such as
        a deleted one, is kept open after all.

    Attributes
    ----------
    n : int
        Number of fields.

    Raises
    ------
    FieldSyntaxError
        A field is not of this form; the text gives field, position, and what was
        expected.
    AttrError
        The process has no descriptors left.

    Thread safety
    -------------
    A set may be shared. A lock inside it serialises read, copy, write, rescan and
    close; it is taken, and the files are read, without the GIL. The row's memory
    is written while another thread may look at it: each number is whole, but a
    row that belongs together is given by :meth:`copy_to` and :meth:`read_to`.

    Source
    ------
    The kernel's Documentation/filesystems/{sysfs,proc}.rst and ABI/. Each file is
    one ``pread`` a snapshot (with `reopen` between ``openat`` and ``close``); a
    multi-record procfs file gives about a page a read and is read on when something
    wanted lies behind it.

    Examples
    --------
    >>> s = AttrSet(["/proc/meminfo[MemTotal]", "/proc/loadavg[0]"])
    >>> s.read()
    0
    >>> s["/proc/meminfo[MemTotal]"] == memoryview(s)[0] > 0
    True
    >>> s.fields[0].unit, s.fields[1].scale
    ('kB', 100)
    >>> s.close()
    """

    def __cinit__(self):
        self._lock = mlk_attr_lock_new()
        self._c = mlk_attrs_new(0, 0)
        if self._c == NULL or self._lock == NULL:
            raise MemoryError()
        self._c.closed = 1
        self._row = self._c.row
        self._valid = self._c.valid
        self._fields = self._names = self._specs = ()
        self._index = {}
        self._paths = []
        self._keep = []

    def __init__(self, fields, *, root="/", bint reopen=False):
        cdef list keep = []
        cdef list infos = []
        cdef list paths = []
        cdef mlk_attrs *c
        if self._made:
            raise RuntimeError("an AttrSet is made once")
        if isinstance(fields, (str, bytes, Field)):
            raise TypeError("fields must be an iterable of str or Field")
        self._specs = tuple(
            [f if isinstance(f, Field) else Field(f) for f in fields]
        )
        self._root = os.fsencode(root).rstrip(b"/")
        self._reopen = reopen
        resolved = self._resolve()
        c = self._build(resolved, {}, keep, infos, paths)
        mlk_attrs_free(self._c)
        fields = tuple(infos)
        self._install(c, keep, paths, fields, _names(fields), _places(fields))
        self._made = True

    def __dealloc__(self):
        mlk_attrs_free(self._c)
        mlk_attr_lock_free(self._lock)

    # ------------------------------------------------------------- snapshots

    cdef int snapshot(self) noexcept nogil:  # hot
        cdef int bad
        mlk_attr_lock(self._lock)
        if self._c.closed:
            bad = -EBADF
        else:
            bad = mlk_attrs_read(self._c)
            self._seq = self._c.seq
            self._time_ns = self._c.time_ns
        mlk_attr_unlock(self._lock)
        return bad

    cdef int write_value(self, Py_ssize_t i,  # hot
                         int64_t value, int64_t *now) noexcept nogil:
        cdef int err
        mlk_attr_lock(self._lock)
        err = mlk_attrs_write(self._c, i, value, now)
        mlk_attr_unlock(self._lock)
        return err

    cdef int field_errno(self, Py_ssize_t i) noexcept nogil:  # hot
        cdef int err = EINVAL
        mlk_attr_lock(self._lock)
        if 0 <= i < self._c.n:
            err = mlk_attrs_errno(self._c, <uint32_t>i)
        mlk_attr_unlock(self._lock)
        return err

    def read(self):
        """Take a snapshot: read every file once and fill the row.

        Allocates nothing, unless a file has outgrown its head-room.

        Returns
        -------
        int
            Number of invalid fields; 0 means that all are good.

        Raises
        ------
        ValueError
            The set is closed.

        Thread safety
        -------------
        Locks the set; the GIL is released.

        Source
        ------
        pread(2), one a file.

        Examples
        --------
        >>> with AttrSet(["/proc/uptime[0]"]) as s:
        ...     s.read(), s.seq
        (0, 1)
        """
        cdef int bad
        with nogil:
            bad = self.snapshot()
        if bad < 0:
            raise ValueError("closed")
        return bad

    def read_to(self, buf):
        """Take a snapshot and copy it in one step that no other thread enters.

        Parameters
        ----------
        buf : writable buffer of int64, shape (n,)
            An ``array('q')``, a numpy array, ... owned by the caller.

        Returns
        -------
        int
            Number of invalid fields.

        Raises
        ------
        ValueError
            The set is closed, or `buf` has another length.
        TypeError
            `buf` does not hold 64-bit signed integers.

        Thread safety
        -------------
        Locks the set; the GIL is released.

        Source
        ------
        pread(2), one a file.

        Examples
        --------
        >>> from array import array
        >>> row = array("q", [0])
        >>> with AttrSet(["/proc/uptime[0]"]) as s:
        ...     s.read_to(row), row[0] == s[0]
        (0, True)
        """
        return self._copy(buf, True)

    def copy_to(self, buf):
        """Copy the last row, all of it from one snapshot.

        Parameters
        ----------
        buf : writable buffer of int64, shape (n,)
            An ``array('q')``, a numpy array, ... owned by the caller.

        Returns
        -------
        int
            Sequence number of the row that was copied.

        Raises
        ------
        ValueError
            `buf` has another length.
        TypeError
            `buf` does not hold 64-bit signed integers.

        Thread safety
        -------------
        Locks the set; the GIL is released.

        Source
        ------
        None: memory only.

        Examples
        --------
        >>> from array import array
        >>> row = array("q", [7])
        >>> with AttrSet(["/proc/uptime[0]"]) as s:
        ...     s.copy_to(row), row[0]
        (0, 0)
        """
        return self._copy(buf, False)

    cdef object _copy(self, buf, bint fresh):
        cdef Py_buffer view
        cdef const char *form
        cdef int64_t result = 0
        cdef bint fits
        PyObject_GetBuffer(buf, &view, PyBUF_WRITABLE | PyBUF_FORMAT | PyBUF_ND)
        form = view.format
        if form != NULL and (form[0] == c"@" or form[0] == c"="):
            form += 1
        if (view.itemsize != 8 or form == NULL or form[1] != 0
                or (form[0] != c"q" and form[0] != c"l")):
            PyBuffer_Release(&view)
            raise TypeError("expected a buffer of 64-bit signed integers")
        with nogil:
            mlk_attr_lock(self._lock)
            fits = view.len == self.n * 8
            if fits and fresh:
                result = -EBADF
                if not self._c.closed:
                    result = mlk_attrs_read(self._c)
                    self._seq = self._c.seq
                    self._time_ns = self._c.time_ns
            elif fits:
                result = <int64_t>self._seq
            if fits and result >= 0:
                memcpy(view.buf, self._row, <size_t>view.len)
            mlk_attr_unlock(self._lock)
        PyBuffer_Release(&view)
        if not fits:
            raise ValueError(f"expected a buffer of {self.n} numbers")
        if result < 0:
            raise ValueError("closed")
        return result

    # ------------------------------------------------------------- the row

    def __getbuffer__(self, Py_buffer *view, int flags):
        if flags & PyBUF_WRITABLE:
            raise BufferError("the row of an AttrSet is read-only")
        self._shape[0] = self.n
        self._stride[0] = 8
        view.buf = self._row
        view.obj = self
        view.len = self.n * 8
        view.readonly = 1
        view.itemsize = 8
        view.format = NULL
        if flags & PyBUF_FORMAT:
            view.format = b"q"
        view.ndim = 1
        view.shape = self._shape if flags & PyBUF_ND else NULL
        view.strides = (
            self._stride if flags & PyBUF_STRIDES == PyBUF_STRIDES else NULL
        )
        view.suboffsets = NULL
        view.internal = NULL
        self._exports += 1

    def __releasebuffer__(self, Py_buffer *view):
        self._exports -= 1

    @property
    def row(self):
        """Memoryview of the row: int64, shape (n,), read-only, shared."""
        return memoryview(self)

    @property
    def valid(self):
        """Memoryview of the bitmap: bit ``i % 8`` of byte ``i // 8``, 1 = valid."""
        cdef _Bitmap bitmap = _Bitmap.__new__(_Bitmap)
        bitmap.owner = self
        return memoryview(bitmap)

    @property
    def fields(self):
        """Tuple of FieldInfo, in the order of the row."""
        return self._fields

    @property
    def names(self):
        """Tuple of the fields' names, in the order of the row."""
        return self._names

    @property
    def seq(self):
        """Sequence number of the last snapshot; 0 before the first."""
        return self._seq

    @property
    def time_ns(self):
        """CLOCK_MONOTONIC at the start of the last snapshot, in nanoseconds."""
        return self._time_ns

    @property
    def closed(self):
        """Whether the set has been closed."""
        return bool(self._c.closed)

    @property
    def stats(self):
        """Files, system calls of the last snapshot, buffer size, growths."""
        cdef Stats stats = Stats.__new__(Stats)
        stats.files = self._c.n_file
        stats.preads = self._c.preads
        stats.buffer_bytes = self._c.cap
        stats.grown = self._c.grown
        return stats

    def __len__(self):
        return self.n

    def __repr__(self):
        state = ", closed" if self._c.closed else ""
        return f"<AttrSet of {self.n} fields in {self._c.n_file} files{state}>"

    cdef Py_ssize_t _slot(self, key) except -1:
        cdef Py_ssize_t i
        if isinstance(key, str):
            found = self._index.get(key)
            if found is None:
                raise KeyError(key)
            return found
        i = key
        if i < 0:
            i += self.n
        if not 0 <= i < self.n:
            raise IndexError(f"field {key} of {self.n}")
        return i

    def index(self, str name not None):
        """Return the place of a field in the row.

        Parameters
        ----------
        name : str
            One of :attr:`names`; of equal ones the first is meant.

        Returns
        -------
        int
            Index from 0.

        Raises
        ------
        KeyError
            No field has this name.

        Thread safety
        -------------
        Needs no lock.

        Source
        ------
        None: memory only.

        Examples
        --------
        >>> with AttrSet(["/proc/uptime[0]", "/proc/uptime[1]"]) as s:
        ...     s.index("/proc/uptime[1]")
        1
        """
        return self._slot(name)

    def __getitem__(self, key):
        cdef Py_ssize_t i = self._slot(key)
        cdef int64_t value = 0
        cdef int reason = 0
        cdef int err = 0
        cdef FieldInfo info = self._fields[i]
        path = self._paths[self._c.field[i].file]
        with nogil:
            mlk_attr_lock(self._lock)
            if i < self.n:
                value = self._c.row[i]
                reason = self._c.reason[i]
                err = mlk_attrs_errno(self._c, <uint32_t>i)
            mlk_attr_unlock(self._lock)
        if reason:
            words = mlk_attr_reason_words(reason).decode("ascii")
            raise AttrError(err, f"{info.name}: {words}", os.fsdecode(path))
        if info.is_unsigned:
            return <uint64_t>value
        return value

    def errors(self):
        """List the invalid fields of the last row, each with its reason.

        Returns
        -------
        list of FieldError
            Empty if all fields are valid. Before the first snapshot every field
            is listed as ``not read``.

        Raises
        ------
        MemoryError
            There is no memory for the list.

        Thread safety
        -------------
        Locks the set for a copy of the reasons.

        Source
        ------
        None: memory only.

        Examples
        --------
        >>> with AttrSet(["/proc/version", "/proc/no/such"]) as s:
        ...     s.read(), [(e.index, e.reason) for e in s.errors()]
        (2, [(0, 'not a number'), (1, 'missing')])
        """
        cdef list out = []
        cdef tuple fields = self._fields
        cdef list paths = self._paths
        cdef Py_ssize_t n = self.n
        cdef Py_ssize_t i
        cdef int *copy
        cdef FieldError error
        cdef FieldInfo info
        copy = <int *>malloc(3 * <size_t>n * sizeof(int) + 1)
        if copy == NULL:
            raise MemoryError()
        with nogil:
            mlk_attr_lock(self._lock)
            if n != self.n:
                n = 0
            for i in range(n):
                copy[3 * i] = self._c.reason[i]
                copy[3 * i + 1] = mlk_attrs_errno(self._c, <uint32_t>i)
                copy[3 * i + 2] = <int>self._c.field[i].file
            mlk_attr_unlock(self._lock)
        try:
            for i in range(n):
                if not copy[3 * i]:
                    continue
                info = fields[i]
                error = FieldError.__new__(FieldError)
                error.index = i
                error.name = info.name
                error.path = os.fsdecode(paths[copy[3 * i + 2]])
                error.err = copy[3 * i + 1]
                error.reason = mlk_attr_reason_words(copy[3 * i]).decode("ascii")
                out.append(error)
        finally:
            free(copy)
        return out

    # ------------------------------------------------------------- making

    cdef list _resolve(self):
        cdef list out = []
        cdef Field f
        root = os.fsdecode(self._root)
        for f in self._specs:
            end = "" if f.selector is None else f"[{f.selector}]"
            if "*" not in f.path and "?" not in f.path:
                out.append((f, f.path, f.name or f.path + end))
                continue
            for path, stars in _glob(root, f.path):
                name = path + end if f.name is None else f"{f.name}[{stars}]"
                out.append((f, path, name))
        if len(out) > MAX_FIELDS:
            raise ValueError(f"more than {MAX_FIELDS} fields")
        return out

    cdef mlk_attrs *_build(self, list resolved, dict known, list keep,
                           list infos, list paths) except NULL:
        # Everything that C points to is appended to keep; infos and paths are
        # filled for fields and files.
        cdef mlk_attrs *c
        cdef mlk_attr_file *file
        cdef mlk_attr_field *field
        cdef mlk_attr_row *row
        cdef mlk_attr_want *want
        cdef mlk_attr_token *token
        cdef uint32_t *slot
        cdef Field f
        cdef FieldInfo info, old
        cdef Py_ssize_t i, j
        cdef dict files = {}
        cdef const char *path_bytes
        for i, (f, path, name) in enumerate(resolved):
            files.setdefault(path, []).append(i)
        c = mlk_attrs_new(<uint32_t>len(resolved), <uint32_t>len(files))
        if c == NULL:
            raise MemoryError()
        try:
            row = c.row_pool
            want = c.want_pool
            token = c.token_pool
            slot = c.slot_pool
            for f, path, name in resolved:
                info = FieldInfo.__new__(FieldInfo)
                info.index = len(infos)
                info.name, info.spec, info.path = name, f.spec, path
                info.selector = f.selector
                info.is_unsigned, info.hex = f.is_unsigned, f.hex
                field = &c.field[info.index]
                info.scale = f.scale
                if f.scale is None:
                    old = known.get(name)
                    if old is not None and old.scale_known:
                        info.scale = old.scale
                info.scale_known = info.scale is not None or f.hex
                if info.scale is not None and (f.scale is not None
                                               or info.scale != 1):
                    field.flags |= MLK_ATTR_SCALED
                if info.scale is None:
                    info.scale = 1
                field.scale = info.scale
                if f.is_unsigned:
                    field.flags |= MLK_ATTR_UNSIGNED
                if f.hex:
                    field.flags |= MLK_ATTR_HEX
                infos.append(info)
            for i, (path, slots) in enumerate(files.items()):
                file = &c.file[i]
                file.slot = slot
                file.token = token
                file.row = row
                rows = {}
                tokens = []
                for j in slots:
                    info = infos[j]
                    field = &c.field[j]
                    field.file = <uint32_t>i
                    kind, key, sub, number, split = _selector(
                        info.spec, info.selector)
                    field.kind = kind
                    field.split = split
                    slot[0] = <uint32_t>j
                    slot += 1
                    if kind == MLK_ATTR_TOKEN:
                        tokens.append((number, j))
                    elif kind != MLK_ATTR_WHOLE:
                        rows.setdefault(key, []).append(
                            (number, j, kind, 0, sub))
                        if split == MLK_ATTR_OPEN:
                            whole = os.fsencode(info.selector)
                            rows.setdefault(whole, []).append(
                                (0, j, MLK_ATTR_LINE, 1, None))
                file.n_slot = <uint32_t>len(slots)
                tokens.sort()
                file.n_token = <uint32_t>len(tokens)
                for number, j in tokens:
                    token.token = number
                    token.slot = <uint32_t>j
                    token += 1
                file.n_row = <uint32_t>len(rows)
                for key, wants in rows.items():
                    keep.append(key)
                    row.name = key
                    row.len = <uint32_t>len(key)
                    row.want = want
                    row.n_want = <uint32_t>len(wants)
                    row += 1
                    # ascending tokens: a row is walked once
                    wants.sort(key=_first)
                    for number, j, kind, alt, sub in wants:
                        want.token = number
                        want.slot = <uint32_t>j
                        want.kind = kind
                        want.alt = alt
                        if sub is not None:
                            keep.append(sub)
                            want.sub = sub
                            want.sub_len = <uint32_t>len(sub)
                        want += 1
                mlk_attr_plan(c, file)
                paths.append(self._root + os.fsencode(path))
                path_bytes = paths[i]
                with nogil:
                    mlk_attr_open(file, path_bytes)
                    mlk_attr_file_read(c, file)
                if file.err in (EMFILE, ENFILE, ENOMEM):
                    raise AttrError(file.err, os.strerror(file.err),
                                    os.fsdecode(paths[i]))
                self._learn(c, keep, infos, i)
                mlk_attr_size(c, file)
                if self._reopen:
                    with nogil:
                        mlk_attr_let_go(file, path_bytes)
            if mlk_attrs_fit(c):
                raise MemoryError()
            memset(c.reason, MLK_ATTR_UNREAD, c.n)
            memset(c.row, 0, c.n * sizeof(int64_t))
        except BaseException:
            mlk_attrs_free(c)
            raise
        return c

    cdef object _learn(self, mlk_attrs *c, list keep, list infos, Py_ssize_t i):
        # The text of file i is still in the buffer.
        cdef mlk_attr_file *file = &c.file[i]
        cdef mlk_attr_field *field
        cdef FieldInfo info
        cdef const char *unit = NULL
        cdef size_t unit_len = 0
        cdef uint32_t k
        cdef int digits
        for k in range(file.n_slot):
            field = &c.field[file.slot[k]]
            info = infos[file.slot[k]]
            if file.fd < 0 or not c.len or field.at == MLK_ATTR_NOT_FOUND:
                continue
            if (field.kind == MLK_ATTR_WHOLE
                    and c.reason[file.slot[k]] == MLK_ATTR_NO_CHOICE):
                words = c.buf[:c.len].split()
                packed = b"".join([
                    (w[1 : len(w) - 1] if len(w) > 2 and w.startswith(b"[")
                     and w.endswith(b"]") else w) + b"\0" for w in words
                ])
                if packed.count(b"\0") != len(words):
                    continue
                info.choices = tuple([
                    os.fsdecode(w) for w in packed.split(b"\0", len(words))
                ][:len(words)])
                keep.append(packed)
                field.choices = packed
                field.n_choices = <uint32_t>len(words)
                continue
            digits = mlk_attr_learn(c, field, &unit, &unit_len)
            if unit_len:
                info.unit = unit[:unit_len].decode("utf-8", "replace")
            if field.flags & MLK_ATTR_HEX:
                at = c.buf[field.at : min(c.len, field.at + 3)].lstrip(b"+-")
                if at[:2].lower() != b"0x":
                    field.flags |= MLK_ATTR_BARE_HEX
            if not info.scale_known:
                if digits > 0:
                    info.scale = int("1" + "0" * min(digits, 9))
                    field.scale = info.scale
                    field.flags |= MLK_ATTR_SCALED
                    info.scale_known = True
                elif c.reason[file.slot[k]] == MLK_ATTR_OK:
                    info.scale_known = True

    cdef void _install(self, mlk_attrs *c, list keep, list paths, tuple fields,
                       tuple names, dict index):
        # Assignments only, no Python code: rescan() calls this under the lock.
        self._c = c
        self._row = c.row
        self._valid = c.valid
        self.n = c.n
        self._keep = keep
        self._paths = paths
        self._fields = fields
        self._names = names
        self._index = index

    def rescan(self):
        """Look again which files there are, and open all of them anew.

        Globs are resolved again, files that were missing or have vanished are
        opened, names of choices are learned again. A scale that was seen or
        declared stays. If the layout changes, the row is invalid (``not read``)
        until the next :meth:`read`; the sequence number goes on.

        Returns
        -------
        bool
            True if :attr:`fields` has changed.

        Raises
        ------
        BufferError
            The layout would change while a memoryview of the row or the bitmap is
            alive; nothing has changed.
        AttrError
            The process has no descriptors left; nothing has changed.
        ValueError
            The set is closed.

        Thread safety
        -------------
        Files are opened beside the old ones; the set is locked for the exchange.

        Source
        ------
        None: file names only.

        Examples
        --------
        >>> with AttrSet(["/proc/uptime[0]"]) as s:
        ...     s.rescan()
        False
        """
        cdef list keep = []
        cdef list infos = []
        cdef list paths = []
        cdef mlk_attrs *c
        cdef mlk_attrs *old
        cdef FieldInfo info
        cdef bint same, shut, held
        cdef bint changed = False
        cdef uint32_t i
        cdef Py_ssize_t j
        cdef const char *path
        if self._c.closed:
            raise ValueError("closed")
        c = self._build(self._resolve(),
                        {info.name: info for info in self._fields},
                        keep, infos, paths)
        fields = tuple(infos)
        names = _names(fields)
        index = _places(fields)
        with nogil:
            mlk_attr_lock(self._lock)
        # From here to the unlock nothing gives up the GIL or runs Python code,
        # so no other thread sees half of the exchange.
        old = self._c
        same = names == self._names
        shut = old.closed
        held = not same and self._exports
        if not shut and not held:
            changed = not same
            for j in range(len(fields)):
                if not changed and (<FieldInfo>fields[j]).key() != (
                        <FieldInfo>self._fields[j]).key():
                    changed = True
            for i in range(old.n):
                if old.field[i].wfd < 0:
                    continue
                place = index.get(self._names[i])
                if place is not None:
                    # a failure shows at the next write
                    path = paths[c.field[place].file]
                    mlk_attr_open_write(&c.field[place], path)
            c.seq = old.seq
            c.time_ns = old.time_ns
            c.grown = old.grown
            if same:
                c.row, old.row = old.row, c.row
                c.valid, old.valid = old.valid, c.valid
                c.reason, old.reason = old.reason, c.reason
            self._install(c, keep, paths, fields, names, index)
            c = old
        mlk_attr_unlock(self._lock)
        with nogil:
            mlk_attrs_free(c)
        if shut:
            raise ValueError("closed")
        if held:
            raise BufferError("the list of fields would change while the row is in use")
        return changed

    # ------------------------------------------------------------- knobs

    def open_for_write(self, key):
        """Open a field's file for writing, so that setting it allocates nothing.

        :meth:`write` does this by itself; loops that use the C face call it before.

        Parameters
        ----------
        key : int or str
            Index or name of a field without selector.

        Raises
        ------
        AttrError
            The kernel refuses (its errno), or the field is only part of a file.
        ValueError
            The set is closed.

        Thread safety
        -------------
        Locks the set.

        Source
        ------
        open(2).

        Examples
        --------
        >>> with AttrSet(["/proc/uptime[0]"]) as s:
        ...     s.open_for_write(0)
        Traceback (most recent call last):
        ...
        pymlk.errors.AttrError: [Errno 22] only a whole file can be written: \
'/proc/uptime'
        """
        cdef Py_ssize_t i = self._slot(key)
        cdef const char *path
        cdef int err
        with nogil:
            mlk_attr_lock(self._lock)
        if self._c.closed:
            mlk_attr_unlock(self._lock)
            raise ValueError("closed")
        if i >= self.n:
            mlk_attr_unlock(self._lock)
            raise IndexError(f"field {key} of {self.n}")
        name = self._paths[self._c.field[i].file]
        if self._c.field[i].kind != MLK_ATTR_WHOLE:
            mlk_attr_unlock(self._lock)
            raise AttrError(EINVAL, "only a whole file can be written",
                            os.fsdecode(name))
        path = name
        err = mlk_attr_open_write(&self._c.field[i], path)
        mlk_attr_unlock(self._lock)
        if err:
            raise AttrError(-err, os.strerror(-err), os.fsdecode(name))

    def write(self, key, value):
        """Set a knob, and check by reading it back. The row does not change.

        Parameters
        ----------
        key : int or str
            Index or name of a field without selector.
        value : int or str
            The number, in units of the row: with a scale of 100, 125 is written as
            ``1.25``. Of a choice, its name or index.

        Raises
        ------
        AttrError
            The kernel refuses, with its own errno; or it accepts, but another value
            is read back: ``wrote X, reads Y``.
        ValueError
            The set is closed.
        OverflowError
            `value` does not fit into 64 bits.

        Thread safety
        -------------
        Locks the set; the GIL is released.

        Source
        ------
        One pwrite(2) and one pread(2). In a plain file, which stands in for the
        kernel in a test tree, the old text is cut off, and a choice is written as
        the whole list.

        Examples
        --------
        >>> with AttrSet(["/proc/sys/kernel/ostype"]) as s:
        ...     s.write(0, 1)
        Traceback (most recent call last):
        ...
        pymlk.errors.AttrError: [Errno 13] Permission denied: \
'/proc/sys/kernel/ostype'
        """
        cdef Py_ssize_t i = self._slot(key)
        cdef FieldInfo info = self._fields[i]
        cdef int64_t number
        cdef int64_t now = 0
        cdef int err
        path = os.fsdecode(self._paths[self._c.field[i].file])
        if isinstance(value, str):
            if info.choices is None or value not in info.choices:
                raise AttrError(
                    EINVAL,
                    f"{value!r} is none of {info.choices}" if info.choices
                    else f"{value!r}, but the field is no choice", path)
            number = info.choices.index(value)
        elif info.is_unsigned:
            number = <int64_t><uint64_t>value
        else:
            number = value
        self.open_for_write(i)
        with nogil:
            err = self.write_value(i, number, &now)
        if err == -EBADF and self._c.closed:
            raise ValueError("closed")
        if err:
            raise AttrError(-err, os.strerror(-err), path)
        if now != number:
            raise AttrError(
                EIO, f"wrote {_show(info, number)}, reads {_show(info, now)}", path)

    # ------------------------------------------------------------- the end

    def close(self):
        """Close all files; the last row stays readable. May be called again.

        Thread safety
        -------------
        Locks the set: a read under way in another thread is finished first.

        Examples
        --------
        >>> s = AttrSet(["/proc/uptime[0]"])
        >>> s.close()
        >>> s.read()
        Traceback (most recent call last):
        ...
        ValueError: closed
        """
        with nogil:
            mlk_attr_lock(self._lock)
            mlk_attrs_close(self._c)
            mlk_attr_unlock(self._lock)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.close()


def _first(want):
    return want[0]


cdef str _show(FieldInfo info, int64_t value):
    if info.choices is not None and 0 <= value < len(info.choices):
        return info.choices[value]
    if info.is_unsigned:
        return str(<uint64_t>value)
    return str(value)


cdef tuple _names(tuple fields):
    cdef FieldInfo info
    return tuple([info.name for info in fields])


cdef dict _places(tuple fields):
    # of equal names the first is meant
    cdef FieldInfo info
    cdef dict places = {}
    for info in fields:
        places.setdefault(info.name, info.index)
    return places
