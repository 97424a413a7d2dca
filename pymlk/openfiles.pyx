# SPDX-License-Identifier: MIT
"""Open files take a device's present read-ahead size.

The kernel copies the read-ahead size into a file when it is opened, so a program that
keeps its files open never notices a change. ``posix_fadvise(POSIX_FADV_NORMAL)``
copies it again; `refresh` gives that advice on the descriptors of all processes, which
``pidfd_getfd(2)`` (Linux 5.6) lends to root. It also takes back a hint that a program
gave itself (``POSIX_FADV_RANDOM``, ``SEQUENTIAL``): none can be seen from outside.
"""

import os

from libc.errno cimport ENOSYS, EPERM, errno as c_errno
from libc.stdint cimport int64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport atoi

from .stream cimport now_ns


cdef extern from "<dirent.h>" nogil:
    ctypedef struct DIR:
        pass
    cdef struct dirent:
        char *d_name
    DIR *opendir(const char *name)
    dirent *readdir(DIR *dir)
    int closedir(DIR *dir)
    int dirfd(DIR *dir)

cdef extern from "<fcntl.h>" nogil:
    enum:
        POSIX_FADV_NORMAL
    int posix_fadvise(int fd, int64_t offset, int64_t len, int advice)

cdef extern from "<sys/stat.h>" nogil:
    ctypedef unsigned long dev_t
    cdef struct stat_t "stat":
        dev_t st_dev
        dev_t st_rdev
        unsigned int st_mode
    int fstat(int fd, stat_t *out)
    int fstatat(int folder, const char *path, stat_t *out, int flags)
    bint S_ISREG(unsigned int mode)
    bint S_ISBLK(unsigned int mode)

cdef extern from "<unistd.h>" nogil:
    int close(int fd)
    int getpid()
    long syscall(long number, ...)

# the same on every architecture since Linux 5.1
cdef enum:
    PIDFD_OPEN = 434
    PIDFD_GETFD = 438
    MOST_DEVICES = 64


cdef struct Search:
    dev_t devices[MOST_DEVICES]
    int n
    int64_t deadline
    # what came of it
    int files
    int refused
    int error
    bint late


cdef bint _is_wanted(const Search *s, const stat_t *found) noexcept nogil:
    """A file on one of the devices, or one of the devices itself."""
    cdef int i
    cdef dev_t device = found.st_rdev if S_ISBLK(found.st_mode) else found.st_dev
    if not (S_ISREG(found.st_mode) or S_ISBLK(found.st_mode)):
        return False
    for i in range(s.n):
        if s.devices[i] == device:
            return True
    return False


cdef void _advise(Search *s, int process, int number) noexcept nogil:
    cdef stat_t found
    cdef int fd = <int>syscall(PIDFD_GETFD, process, number, 0)
    if fd < 0:
        # closed in the meantime is no failure
        if c_errno == EPERM or c_errno == ENOSYS:
            s.refused += 1
            s.error = c_errno
        return
    # the number may stand for another file by now
    if fstat(fd, &found) == 0 and _is_wanted(s, &found):
        if posix_fadvise(fd, 0, 0, POSIX_FADV_NORMAL) == 0:
            s.files += 1
    close(fd)


cdef void _search_process(Search *s, int pid) noexcept nogil:
    cdef char path[32]
    cdef DIR *folder
    cdef dirent *entry
    cdef stat_t found
    cdef int process = -1
    snprintf(path, sizeof(path), b"/proc/%d/fd", pid)
    folder = opendir(path)
    if folder == NULL:
        return
    while not s.late:
        entry = readdir(folder)
        if entry == NULL:
            break
        s.late = now_ns() > s.deadline
        if fstatat(dirfd(folder), entry.d_name, &found, 0) or not _is_wanted(s, &found):
            continue
        if process < 0:
            process = <int>syscall(PIDFD_OPEN, pid, 0)
            if process < 0:
                break
        _advise(s, process, atoi(entry.d_name))
    if process >= 0:
        close(process)
    closedir(folder)


cdef void _search(Search *s) noexcept nogil:
    cdef DIR *processes = opendir(b"/proc")
    cdef dirent *entry
    cdef int pid
    if processes == NULL:
        return
    while not s.late:
        entry = readdir(processes)
        if entry == NULL:
            break
        pid = atoi(entry.d_name)
        if pid > 0 and pid != getpid():
            _search_process(s, pid)
    closedir(processes)


def _devices(str folder):
    """Numbers of a block device and of its partitions."""
    found = []
    for path in (folder, *(e.path for e in os.scandir(folder) if e.is_dir())):
        try:
            with open(os.path.join(path, "dev")) as file:
                major, _, minor = file.read().partition(":")
        except (FileNotFoundError, NotADirectoryError):
            continue
        found.append(os.makedev(int(major), int(minor)))
    return found


def device_folder(str knob):
    """The folder of the block device that a knob belongs to.

    Parameters
    ----------
    knob : str
        Path of the knob, such as ``/sys/block/sda/queue/read_ahead_kb``.

    Returns
    -------
    str or None
        The nearest folder above with a file ``dev``; None if there is none.

    Thread safety
    -------------
    Reads the file system only.
    """
    folder = os.path.dirname(knob)
    while folder not in ("/", ""):
        if os.path.isfile(os.path.join(folder, "dev")):
            return folder
        folder = os.path.dirname(folder)
    return None


def refresh(str knob, double timeout_s=0.1):
    """Let open files on a knob's device take its present read-ahead size.

    Parameters
    ----------
    knob : str
        Path of the knob, such as ``/sys/block/sda/queue/read_ahead_kb``.
    timeout_s : float
        Stop after so many seconds; about 1 us goes for each descriptor there is.

    Returns
    -------
    tuple of (int, str or None)
        How many descriptors took it, and what was in the way of the others.

    Raises
    ------
    OSError
        If the device went away.

    Thread safety
    -------------
    Any thread; runs without the GIL.

    Notes
    -----
    Files of file systems that span several devices (btrfs) have no device number of
    their own and are not found, nor are files that are only mapped and closed.

    Examples
    --------
    >>> refresh("/sys/kernel/no/such/queue/read_ahead_kb")
    (0, '/sys/kernel/no/such/queue/read_ahead_kb: belongs to no block device')
    """
    cdef Search s
    folder = device_folder(knob)
    if folder is None:
        return 0, f"{knob}: belongs to no block device"
    numbers = _devices(folder)[:MOST_DEVICES]
    s.n = len(numbers)
    for i in range(s.n):
        s.devices[i] = numbers[i]
    s.files = s.refused = s.error = 0
    s.late = False
    s.deadline = now_ns() + <int64_t>(timeout_s * 1e9)
    with nogil:
        _search(&s)
    if s.refused:
        return s.files, (
            f"{folder}: {s.refused} open files keep their read-ahead size: "
            f"{os.strerror(s.error)}"
        )
    if s.late:
        return s.files, (
            f"{folder}: some open files may keep their read-ahead size: not all were "
            f"found within {timeout_s:g} s"
        )
    return s.files, None
