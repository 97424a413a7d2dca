/* SPDX-License-Identifier: MIT */
/*
 * What /dev/mlk/MODEL is asked: the kernel's device by ioctl() and write(), an
 * emulator by messages over a socket, see emulator.py. All functions give 0 or
 * -errno, and none touches Python.
 */
#ifndef PYMLK_PROXY_CALL_H
#define PYMLK_PROXY_CALL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "proxy_ring.h"

/* What an emulator is asked; the first ones have the numbers of the ioctls */
enum mlk_ask {
	MLK_ASK_INFO = 0,
	MLK_ASK_OWNER = 1,
	MLK_ASK_HEARTBEAT = 2,
	MLK_ASK_LOAD = 4, /* argument: offset of the piece; total size, piece */
	MLK_ASK_MODE = 5,
	MLK_ASK_OPEN =
		16, /* argument: 1 for writing; dataset and bell come back */
	MLK_ASK_RECOMMEND = 17, /* struct mlk_recommendation */
	MLK_ASK_ATTRIBUTE = 18, /* name, 0, value */
	MLK_ASK_PROGRAM = 19, /* as LOAD, as a write to "program" */
};

#define MLK_PIECE 32768
/* an emulator that says nothing for so long is as good as gone */
#define MLK_ASK_SECONDS 10

/**
 * struct mlk_channel - an open model
 * @fd: device or socket, -1 if closed
 * @bell: what poll() is told: the device, or what an emulator rings
 * @emulated: it is a socket
 * @writable: it was opened for writing
 * @lock: one question at a time, if emulated
 * @answer: the recommendation that is sent
 */
struct mlk_channel {
	int fd;
	int bell;
	int emulated;
	int writable;
	pthread_mutex_t lock; /* see above */
	struct mlk_recommendation answer;
};

/* In: header and payload. Out: error, payload of up to @out_bytes, descriptors. */
static int mlk_ask(struct mlk_channel *c, uint32_t op, uint32_t argument,
		   const struct iovec *in, int n_in, void *out,
		   size_t out_bytes, int *fds, int n_fds)
{
	uint32_t head[2] = { op, argument };
	struct iovec iov[4] = { { head, sizeof(head) } };
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(2 * sizeof(int))];
	} control;
	struct msghdr message = { .msg_iov = iov };
	struct cmsghdr *rights;
	ssize_t got;
	int whole, i;

	for (i = 0; i < n_in; i++)
		iov[i + 1] = in[i];
	message.msg_iovlen = (size_t)n_in + 1;
	pthread_mutex_lock(&c->lock);
	do {
		got = sendmsg(c->fd, &message, MSG_NOSIGNAL);
	} while (got < 0 && errno == EINTR);
	if (got >= 0) {
		iov[1] = (struct iovec){ out, out_bytes };
		message.msg_iovlen = out_bytes ? 2 : 1;
		message.msg_control = n_fds ? control.room : NULL;
		message.msg_controllen = n_fds ? sizeof(control.room) : 0;
		do {
			got = recvmsg(c->fd, &message, MSG_CMSG_CLOEXEC);
		} while (got < 0 && errno == EINTR);
	}
	if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
		/* an answer that came now would be taken for another one's */
		shutdown(c->fd, SHUT_RDWR);
		got = -ETIMEDOUT;
	} else if (got < (ssize_t)sizeof(head)) {
		got = -ENODEV;
	} else {
		whole = (size_t)got == sizeof(head) + out_bytes &&
			!(message.msg_flags & MSG_TRUNC);
		got = -(ssize_t)(head[0] & 0xfff);
		if (!got && !whole)
			got = -EPROTO;
	}
	pthread_mutex_unlock(&c->lock);
	if (!n_fds || got < 0)
		return (int)got;
	rights = CMSG_FIRSTHDR(&message);
	if (!rights || rights->cmsg_type != SCM_RIGHTS ||
	    rights->cmsg_len != CMSG_LEN((size_t)n_fds * sizeof(int)))
		return -EPROTO;
	memcpy(fds, CMSG_DATA(rights), (size_t)n_fds * sizeof(int));
	return 0;
}

/* A path of a socket is short: its folder is opened first. */
static int mlk_connect(const char *folder, const char *name)
{
	struct timeval limit = { .tv_sec = MLK_ASK_SECONDS };
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	int at = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int fd, err = 0;

	if (at < 0)
		return -errno;
	snprintf(to.sun_path, sizeof(to.sun_path), "/proc/self/fd/%d/%s", at,
		 name);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) ||
	    connect(fd, (struct sockaddr *)&to, sizeof(to)))
		err = -errno;
	close(at);
	if (err && fd >= 0)
		close(fd);
	return err ? err : fd;
}

/*
 * Opens @folder/@name. *@dataset is what the dataset is mapped through, to be
 * closed by the caller unless it is the channel's own.
 */
static int mlk_channel_open(struct mlk_channel *c, const char *folder,
			    const char *name, int writable, int *dataset)
{
	int at = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int fds[2], err;
	struct stat what;

	c->writable = writable;
	if (at < 0)
		return -errno;
	err = fstatat(at, name, &what, 0) ? -errno : 0;
	c->emulated = !err && S_ISSOCK(what.st_mode);
	if (!err && !c->emulated) {
		c->fd = openat(at, name,
			       (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);
		err = c->fd < 0 ? -errno : 0;
		if (!err && (fstat(c->fd, &what) || !S_ISCHR(what.st_mode)))
			err = -ENOTTY;
		c->bell = *dataset = c->fd;
	}
	close(at);
	if (err || !c->emulated)
		return err;
	c->fd = mlk_connect(folder, name);
	if (c->fd < 0)
		return c->fd;
	err = mlk_ask(c, MLK_ASK_OPEN, (uint32_t)writable, NULL, 0, NULL, 0,
		      fds, 2);
	if (err)
		return err;
	*dataset = fds[0];
	c->bell = fds[1];
	return 0;
}

static void mlk_channel_close(struct mlk_channel *c)
{
	if (c->bell >= 0 && c->bell != c->fd)
		close(c->bell);
	if (c->fd >= 0)
		close(c->fd);
	c->fd = c->bell = -1;
}

static int mlk_channel_info(struct mlk_channel *c, struct mlk_info *info)
{
	memset(info, 0, sizeof(*info));
	if (c->emulated)
		return mlk_ask(c, MLK_ASK_INFO, 0, NULL, 0, info, sizeof(*info),
			       NULL, 0);
	return ioctl(c->fd, MLK_IOC_INFO, info) ? -errno : 0;
}

static int mlk_channel_number(struct mlk_channel *c, uint32_t op,
			      uint32_t number)
{
	unsigned long request = op == MLK_ASK_OWNER ? MLK_IOC_OWNER :
						      MLK_IOC_MODE;
	__u32 argument = number;

	if (c->emulated)
		return mlk_ask(c, op, number, NULL, 0, NULL, 0, NULL, 0);
	return ioctl(c->fd, request, &argument) ? -errno : 0;
}

static inline int mlk_channel_beat(struct mlk_channel *c)
{
	if (c->emulated)
		return mlk_ask(c, MLK_ASK_HEARTBEAT, 0, NULL, 0, NULL, 0, NULL,
			       0);
	return ioctl(c->fd, MLK_IOC_HEARTBEAT) ? -errno : 0;
}

static inline int mlk_channel_send(struct mlk_channel *c, const int64_t *values,
				   uint32_t n, uint32_t confidence_permil,
				   uint64_t seq)
{
	struct iovec in = { &c->answer, sizeof(c->answer) };

	/* all else has been set when it was opened */
	c->answer.confidence_permil = confidence_permil;
	c->answer.seq = seq;
	memcpy(c->answer.value, values, (size_t)n * 8);
	if (c->emulated)
		return c->writable ? mlk_ask(c, MLK_ASK_RECOMMEND, 0, &in, 1,
					     NULL, 0, NULL, 0) :
				     -EBADF;
	return write(c->fd, in.iov_base, in.iov_len) < 0 ? -errno : 0;
}

static int64_t mlk_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Who only looks at edges never has to clear it, so it is a counter. */
static void mlk_bell_clear(int bell)
{
	uint64_t rung;

	while (read(bell, &rung, sizeof(rung)) < 0 && errno == EINTR)
		;
}

/* Has the emulator closed, or ended? Then the bell stays rung. */
static int mlk_bell_gone(const struct mlk_channel *c)
{
	uint64_t rung = 1;
	char answer;

	if (recv(c->fd, &answer, 1, MSG_PEEK | MSG_DONTWAIT))
		return 0;
	while (write(c->bell, &rung, sizeof(rung)) < 0 && errno == EINTR)
		;
	return 1;
}

static int mlk_bell_wait(const struct mlk_channel *c,
			 const struct mlk_ring *ring, uint64_t seq,
			 int64_t timeout)
{
	struct pollfd fds[2] = { { .fd = c->bell, .events = POLLIN },
				 { .fd = c->fd, .events = POLLRDHUP } };
	int64_t left = timeout, end = 0;
	struct timespec time;

	if (timeout > 0)
		end = mlk_now() +
		      (timeout < INT64_MAX / 2 ? timeout : INT64_MAX / 2);
	for (;;) {
		/* in this order: what is rung after it finds the bell cleared */
		mlk_bell_clear(c->bell);
		if (mlk_ring_head(ring) > seq)
			return 0;
		if (mlk_bell_gone(c))
			return -ENODEV;
		if (end)
			left = end - mlk_now();
		if (timeout >= 0 && left <= 0)
			return -ETIMEDOUT;
		time.tv_sec = left / 1000000000;
		time.tv_nsec = left % 1000000000;
		if (ppoll(fds, 2, timeout < 0 ? NULL : &time, NULL) < 0)
			return -errno;
	}
}

/*
 * Until there is a record behind @seq. From then on poll() tells of records
 * behind @seq, whatever the result was.
 */
static inline int mlk_channel_wait(struct mlk_channel *c,
				   const struct mlk_ring *ring, uint64_t seq,
				   int64_t timeout)
{
	struct mlk_wait wait = { .seq = seq, .timeout_ns = timeout };

	if (mlk_ring_head(ring) > seq)
		return 0;
	if (c->emulated)
		return mlk_bell_wait(c, ring, seq, timeout);
	return ioctl(c->fd, MLK_IOC_WAIT, &wait) ? -errno : 0;
}

/* An image by pieces: messages are bounded, and so are writes to sysfs. */
static int mlk_channel_load(struct mlk_channel *c, uint32_t op,
			    const void *image, uint32_t bytes)
{
	struct mlk_load load = { .address = (uintptr_t)image, .bytes = bytes };
	uint32_t at = 0, n;
	int err;

	if (!c->emulated)
		return ioctl(c->fd, MLK_IOC_LOAD, &load) ? -errno : 0;
	do {
		n = bytes - at < MLK_PIECE ? bytes - at : MLK_PIECE;
		struct iovec in[2] = { { &bytes, sizeof(bytes) },
				       { (char *)image + at, n } };
		err = mlk_ask(c, op, at, in, 2, NULL, 0, NULL, 0);
		at += n;
	} while (!err && at < bytes);
	return err;
}

static int mlk_channel_attribute(struct mlk_channel *c, const char *name,
				 const char *value, size_t bytes)
{
	struct iovec in[2] = { { (char *)name, strlen(name) + 1 },
			       { (char *)value, bytes } };

	if (bytes > MLK_PIECE)
		return -EINVAL;
	return mlk_ask(c, MLK_ASK_ATTRIBUTE, 0, in, 2, NULL, 0, NULL, 0);
}

#ifndef F_GET_SEALS
#define F_GET_SEALS 1034
#endif
#ifndef F_SEAL_SHRINK
#define F_SEAL_SHRINK 2
#endif
#define MLK_SYSFS_MAGIC 0x62656572

/*
 * Maps a dataset. Pages of a file that somebody else may cut short would end
 * this process: only those of the kernel's and of sealed memory will do.
 */
static int mlk_dataset_map(int fd, size_t *bytes, const void **base)
{
	struct stat what;
	struct statfs where;
	void *found;

	if (fstat(fd, &what))
		return -errno;
	if (!S_ISCHR(what.st_mode)) {
		int seals = fcntl(fd, F_GET_SEALS);

		if (fstatfs(fd, &where))
			return -errno;
		if (where.f_type != MLK_SYSFS_MAGIC &&
		    (seals < 0 || !(seals & F_SEAL_SHRINK)))
			return -EMEDIUMTYPE;
		*bytes = what.st_size > 0 ? (size_t)what.st_size : 0;
	}
	if (!*bytes)
		return -ENODATA;
	found = mmap(NULL, *bytes, PROT_READ, MAP_SHARED, fd, 0);
	if (found == MAP_FAILED)
		return -errno;
	*base = found;
	return 0;
}

#endif /* PYMLK_PROXY_CALL_H */
