# SPDX-License-Identifier: MIT
"""The kernel's advice on open files of all processes; `pymlk.openfiles` uses it.

Looks at each descriptor in ``/proc/PID/fd``, borrows those of files on the wanted
devices by ``pidfd_getfd(2)`` (Linux 5.6, root), and gives ``POSIX_FADV_NORMAL`` on
them.
"""

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


def renew(list devices, double timeout_s):
    """Give the advice on all open files of some devices, and on the devices themselves.

    Parameters
    ----------
    devices : list of int
        Device numbers, as ``os.makedev`` makes them; the first 64 count.
    timeout_s : float
        Stop after so many seconds.

    Returns
    -------
    tuple of (int, int, int, bool)
        Descriptors that took it; descriptors that could not be borrowed, with the last
        errno; whether the time was over before the end.

    Thread safety
    -------------
    Any thread; runs without the GIL.

    Examples
    --------
    >>> renew([], 0.1)[0]
    0
    """
    cdef Search s
    s.n = min(<int>len(devices), <int>MOST_DEVICES)
    for i in range(s.n):
        s.devices[i] = devices[i]
    s.files = s.refused = s.error = 0
    s.late = False
    s.deadline = now_ns() + <int64_t>(timeout_s * 1e9)
    with nogil:
        _search(&s)
    return s.files, s.refused, s.error, bool(s.late)
