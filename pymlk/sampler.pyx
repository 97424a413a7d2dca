# SPDX-License-Identifier: MIT
"""Take rows at a steady rate, in a thread that waits for nobody.

A sampler's thread reads, encodes into blocks that were allocated before, and hands
full ones over; whoever writes them to a disk, however slow, gives them back. If none
is left, rows are missed and counted, never waited for.
"""

from libc.errno cimport EINTR
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset
from posix.time cimport CLOCK_MONOTONIC, timespec

from .attrs cimport AttrSet
from .proxy cimport OUTCOME, SAMPLE, Proxy, Slot
from .rows cimport (
    BLOCK_BYTES,
    HEAD_BYTES,
    MOST_FIELDS,
    ROW_BYTES,
    RowState,
    begin_rows,
    put_row,
)
from .stream cimport now_ns


cdef extern from "<time.h>" nogil:
    int TIMER_ABSTIME
    int clock_nanosleep(int clock, int flags, const timespec *until, timespec *left)


cdef extern from *:
    """
    static inline int load_int(const int *p)
    {
            return __atomic_load_n(p, __ATOMIC_ACQUIRE);
    }

    static inline void store_int(int *p, int value)
    {
            __atomic_store_n(p, value, __ATOMIC_RELEASE);
    }
    """
    int load_int(const int *p) noexcept nogil
    void store_int(int *p, int value) noexcept nogil


cdef enum:
    # blocks for each stream, and for whoever has more to say
    BLOCKS_EACH = 2
    BLOCKS_MORE = 14
    # of <linux/mlk.h>
    OUTCOME_SCORE = 3
    # taken at once, so that stopping never waits for a flood
    RECORDS = 4096

cdef int64_t SECOND = 1000000000
# A block is handed over when it is so old: power loss must not cost more.
cdef int64_t FLUSH_NS = 2 * SECOND
# The longest sleep: so long stopping may take.
cdef int64_t SLICE_NS = 50000000


cdef struct Fifo:
    # numbers of blocks from one thread to the other
    int *item
    int size
    int head  # the writer's
    int tail  # the reader's


cdef _make(Fifo *f, int most):
    f.size = most + 1
    f.item = <int *>calloc(f.size, sizeof(int))
    if f.item == NULL:
        raise MemoryError("no memory for blocks of rows")


cdef int _push(Fifo *f, int value) noexcept nogil:  # hot
    """It has room for all blocks that there are."""
    cdef int head = f.head
    f.item[head] = value
    store_int(&f.head, (head + 1) % f.size)
    return 0


cdef int _pop(Fifo *f) noexcept nogil:  # hot
    """The oldest, or -1."""
    cdef int tail = f.tail
    cdef int value
    if tail == load_int(&f.head):
        return -1
    value = f.item[tail]
    store_int(&f.tail, (tail + 1) % f.size)
    return value


cdef struct Block:
    uint8_t *data
    Py_ssize_t used
    int count
    int stream


cdef struct Lane:
    # one stream's
    RowState state
    int block  # -1: none
    int64_t began_ns
    int64_t missed
    # the value that a rate is wanted of
    bint seen
    int64_t first_ns
    int64_t last_ns
    int64_t first
    int64_t last


cdef class Sampler:
    """What all samplers have: a thread's loop, blocks, counts.

    Attributes
    ----------
    rows : int
        How many were taken, of all streams.

    Thread safety
    -------------
    One thread in `run`, one in the other methods.
    """

    cdef Lane *_lanes
    cdef int _n
    cdef Block *_blocks
    cdef int _n_blocks
    cdef Fifo _full
    cdef Fifo _free
    cdef int _stop
    cdef int64_t _period_ns
    cdef int64_t _begin_ns
    cdef int64_t _late
    cdef int _watched  # place in a stream's row; -1: none
    cdef double _scale
    cdef readonly long long rows

    def __cinit__(self):
        self._watched = -1
        self._scale = 1.0

    def prepare(self, sizes, double rate):
        """Get all memory; each sampler does it once, when it is made.

        Parameters
        ----------
        sizes : sequence of int
            Values in a row of each stream.
        rate : float
            Ticks a second, above 0 and at most 1000.

        Raises
        ------
        ValueError
            If a row has none or too many, or the rate is out of its range.
        MemoryError
            If there is not enough.

        Thread safety
        -------------
        Before `run`.
        """
        if self._lanes != NULL:
            raise ValueError("a sampler is made once")
        if not 0.0 < rate <= 1000.0:
            raise ValueError(f"rate {rate} found, above 0 and at most 1000 expected")
        if not sizes or not all([1 <= n <= MOST_FIELDS for n in sizes]):
            raise ValueError(f"rows of {list(sizes)} values found, 1 to 64 expected")
        self._period_ns = <int64_t>(1e9 / rate)
        self._n = len(sizes)
        self._n_blocks = BLOCKS_EACH * self._n + BLOCKS_MORE
        self._lanes = <Lane *>calloc(self._n, sizeof(Lane))
        self._blocks = <Block *>calloc(self._n_blocks, sizeof(Block))
        _make(&self._full, self._n_blocks)
        _make(&self._free, self._n_blocks)
        if self._lanes == NULL or self._blocks == NULL:
            raise MemoryError("no memory for blocks of rows")
        for i in range(self._n_blocks):
            self._blocks[i].data = <uint8_t *>malloc(BLOCK_BYTES)
            if self._blocks[i].data == NULL:
                raise MemoryError("no memory for blocks of rows")
            _push(&self._free, i)
        for i in range(self._n):
            self._lanes[i].block = -1
            self._lanes[i].state.n = sizes[i]

    def __dealloc__(self):
        if self._blocks != NULL:
            for i in range(self._n_blocks):
                free(self._blocks[i].data)
        free(self._blocks)
        free(self._lanes)
        free(self._full.item)
        free(self._free.item)

    cdef void sample(self) noexcept nogil:  # hot
        """Take what there is now."""

    cdef void tick_missed(self, int64_t count) noexcept nogil:  # hot
        self._late += count

    cdef void put(
        self, int i, int64_t time_ns, const int64_t *row, const uint8_t *valid
    ) noexcept nogil:  # hot
        """One row of a stream, into its block."""
        cdef Lane *lane = &self._lanes[i]
        cdef Block *b
        cdef int w = self._watched
        if time_ns < self._begin_ns:
            return
        if lane.block < 0:
            lane.block = _pop(&self._free)
            if lane.block < 0:
                lane.missed += 1
                return
            b = &self._blocks[lane.block]
            b.used, b.count, b.stream = 0, 0, i
            lane.began_ns = time_ns
            begin_rows(&lane.state, lane.state.n)
        b = &self._blocks[lane.block]
        b.used = put_row(b.data + b.used, &lane.state, time_ns, row, valid) - b.data
        b.count += 1
        self.rows += 1
        if w >= 0 and (valid[w >> 3] >> (w & 7)) & 1:
            if not lane.seen:
                lane.seen, lane.first_ns, lane.first = True, time_ns, row[w]
            lane.last_ns, lane.last = time_ns, row[w]
        if b.used > BLOCK_BYTES - HEAD_BYTES - ROW_BYTES:
            self._hand_over(lane)

    cdef void _hand_over(self, Lane *lane) noexcept nogil:  # hot
        if lane.block >= 0:
            _push(&self._full, lane.block)
            lane.block = -1

    cdef void _flush(self, int64_t now) noexcept nogil:  # hot
        """Hand over what is old."""
        cdef int i
        for i in range(self._n):
            if now - self._lanes[i].began_ns > FLUSH_NS:
                self._hand_over(&self._lanes[i])

    cdef void _loop(self) noexcept nogil:  # hot
        cdef int64_t due = now_ns()
        cdef int64_t now
        cdef int64_t late
        while not load_int(&self._stop):
            self.sample()
            due += self._period_ns
            now = now_ns()
            self._flush(now)
            if now >= due:
                # ticks that were missed are left out, not made up for
                late = (now - due) // self._period_ns + 1
                due += late * self._period_ns
                if now >= self._begin_ns:
                    self.tick_missed(late)
            self._sleep_until(due)
        for i in range(self._n):
            self._hand_over(&self._lanes[i])

    cdef void _sleep_until(self, int64_t due) noexcept nogil:  # hot
        cdef timespec t
        cdef int64_t now = now_ns()
        cdef int64_t until
        while now < due and not load_int(&self._stop):
            until = due if due - now < SLICE_NS else now + SLICE_NS
            t.tv_sec = until // SECOND
            t.tv_nsec = until % SECOND
            while clock_nanosleep(
                CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL
            ) == EINTR and not load_int(&self._stop):
                pass
            now = now_ns()

    def run(self, double settle_s=0.0):
        """Take rows until `stop`; for a thread of its own, without the GIL.

        Parameters
        ----------
        settle_s : float
            Rows of the first so many seconds are left out.

        Thread safety
        -------------
        Once, in one thread; `stop` in another ends it.
        """
        self._begin_ns = now_ns() + <int64_t>(settle_s * 1e9)
        with nogil:
            self._loop()

    def stop(self):
        """Let `run` end, within 50 ms.

        Thread safety
        -------------
        Any thread, also before `run` begins.
        """
        store_int(&self._stop, 1)

    def blocks(self):
        """Take the blocks that are full, or old, or when `run` has ended, all.

        Returns
        -------
        list of tuple of (int, int, bytes)
            Stream, number of rows, and the rows for `pymlk.rows.block`; oldest first.

        Thread safety
        -------------
        One thread, besides that of `run`.
        """
        cdef int i
        cdef Block *b
        found = []
        while True:
            i = _pop(&self._full)
            if i < 0:
                return found
            b = &self._blocks[i]
            found.append((b.stream, b.count, (<char *>b.data)[:b.used]))
            _push(&self._free, i)

    def missed(self, int stream):
        """How many rows of a stream should be there and are not.

        Parameters
        ----------
        stream : int
            Its place.

        Returns
        -------
        int
            Ticks that came too late, and rows for which there was no block.

        Raises
        ------
        IndexError
            If there is no such stream.

        Thread safety
        -------------
        Exact when `run` has ended.
        """
        self._check(stream)
        return self._late + self._lanes[stream].missed

    cdef _check(self, int stream):
        if not 0 <= stream < self._n:
            raise IndexError(f"stream {stream} found, below {self._n} expected")

    def rate(self, int stream):
        """How fast the watched value of a stream grew, in units a second.

        Parameters
        ----------
        stream : int
            Its place.

        Returns
        -------
        float or None
            From the first to the last row; None if that cannot be said.

        Raises
        ------
        IndexError
            If there is no such stream.

        Thread safety
        -------------
        When `run` has ended.
        """
        cdef Lane *lane
        self._check(stream)
        lane = &self._lanes[stream]
        if lane.last_ns <= lane.first_ns or lane.last < lane.first:
            return None
        gain = (lane.last - lane.first) / self._scale
        return gain / ((lane.last_ns - lane.first_ns) * 1e-9)


cdef class AttrSampler(Sampler):
    """Takes snapshots of attributes; each stream has some values of each.

    Parameters
    ----------
    attrs : AttrSet
        Nobody else reads it meanwhile.
    places : sequence of sequence of int
        For each stream the places of its values in the set's row.
    rate : float
        Snapshots a second, above 0 and at most 1000.
    watched : int
        Place in a stream's row of the value that `rate` is of; -1 for none.
    scale : int
        What stands for 1 of that value.

    Raises
    ------
    ValueError
        If a place is not in the row, or the rate is out of its range.

    Thread safety
    -------------
    As of `Sampler`.

    Examples
    --------
    >>> import threading
    >>> from pymlk.attrs import AttrSet
    >>> sampler = AttrSampler(AttrSet(["/proc/uptime[0]"]), [[0]], 100.0)
    >>> thread = threading.Thread(target=sampler.run)
    >>> thread.start()
    >>> while sampler.rows < 3: pass
    >>> sampler.stop(); thread.join()
    >>> sum(rows for _, rows, _ in sampler.blocks()) == sampler.rows
    True
    """

    cdef AttrSet _attrs
    cdef object _view
    cdef int *_places  # MOST_FIELDS of each stream

    def __init__(self, AttrSet attrs, places, double rate, int watched=-1, scale=1):
        self.prepare([len(each) for each in places], rate)
        # an exported buffer pins the row
        self._attrs, self._view = attrs, memoryview(attrs)
        self._places = <int *>calloc(self._n * MOST_FIELDS, sizeof(int))
        if self._places == NULL:
            raise MemoryError("no memory for places")
        for i, each in enumerate(places):
            for k, place in enumerate(each):
                if not 0 <= place < attrs.n:
                    raise ValueError(f"place {place} found, below {attrs.n} expected")
                self._places[i * MOST_FIELDS + k] = place
            if not -1 <= watched < len(each):
                raise ValueError(f"value {watched} found, below {len(each)} expected")
        self._watched, self._scale = watched, scale

    def __dealloc__(self):
        free(self._places)

    cdef void sample(self) noexcept nogil:  # hot
        cdef int64_t row[MOST_FIELDS]
        cdef uint8_t valid[8]
        cdef const int *place
        cdef int i
        cdef int k
        cdef const int64_t *values
        cdef const uint8_t *good
        self._attrs.snapshot()
        values, good = self._attrs._row, self._attrs._valid
        for i in range(self._n):
            place = self._places + i * MOST_FIELDS
            memset(valid, 0, sizeof(valid))
            for k in range(self._lanes[i].state.n):
                row[k] = values[place[k]]
                valid[k >> 3] |= <uint8_t>(
                    ((good[place[k] >> 3] >> (place[k] & 7)) & 1) << (k & 7)
                )
            self.put(i, self._attrs._time_ns, row, valid)


cdef class RingSampler(Sampler):
    """Takes every sample of a model in the kernel, as its only stream.

    Parameters
    ----------
    proxy : Proxy
        The model. What its dataset has so far is left out.
    places : sequence of int
        Places of the wanted values in a sample.
    rate : float
        How often a second it is looked whether there are new ones, at most 1000: a ring
        of N records must not get more than N in between.

    Raises
    ------
    ValueError
        If a place is not in a sample, or the rate is out of its range.

    Notes
    -----
    `rate` is the mean of the scores that the kernel's client gave. `missed` are samples
    that were overwritten, or that are no samples of this model.

    Thread safety
    -------------
    As of `Sampler`.
    """

    cdef Proxy _proxy
    cdef int _places[MOST_FIELDS]
    cdef uint64_t _lost_before
    cdef double _scores
    cdef int64_t _n_scores

    def __init__(self, Proxy proxy, places, double rate):
        self.prepare([len(places)], rate)
        self._proxy = proxy
        n = proxy.dataset.n_features
        for k, place in enumerate(places):
            if not 0 <= place < n:
                raise ValueError(f"place {place} found, below {n} expected")
            self._places[k] = place
        proxy.dataset.skip_to_newest(0)
        self._lost_before = proxy.dataset.missed()

    cdef void tick_missed(self, int64_t count) noexcept nogil:  # hot
        """What counts is samples that were overwritten."""

    cdef void sample(self) noexcept nogil:  # hot
        cdef Slot slot
        cdef int64_t row[MOST_FIELDS]
        cdef uint8_t valid[8]
        cdef int k
        cdef int _turn
        memset(valid, 0xFF, sizeof(valid))
        for _turn in range(RECORDS):
            if self._proxy.dataset.take(&slot) != 1:
                break
            if slot.kind == OUTCOME and slot.n > OUTCOME_SCORE:
                self._scores += <double>slot.value[OUTCOME_SCORE]
                self._n_scores += 1
            elif slot.kind == SAMPLE:
                if slot.n != <unsigned>self._proxy.dataset.n_features:
                    self._lanes[0].missed += 1
                    continue
                for k in range(self._lanes[0].state.n):
                    row[k] = slot.value[self._places[k]]
                self.put(0, <int64_t>slot.time_ns, row, valid)
        self._late = <int64_t>(self._proxy.dataset.missed() - self._lost_before)

    def rate(self, int stream):
        """The mean score that the kernel's client gave.

        Parameters
        ----------
        stream : int
            0.

        Returns
        -------
        float or None
            None if it gave none.

        Raises
        ------
        IndexError
            If there is no such stream.

        Thread safety
        -------------
        When `run` has ended.
        """
        self._check(stream)
        return self._scores / self._n_scores if self._n_scores else None
