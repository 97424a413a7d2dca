// SPDX-License-Identifier: MIT
/*
 * One program's I/O on one or two devices, each request of it recorded, while
 * something else uses the same devices now and then.
 *
 * usage: load KEY=VALUE...; keys and defaults are in struct settings. Devices are
 * two replicas: a request goes to one of them by lot, unless `how` moves it.
 *
 * Requests are asynchronous and direct. Times are those that a program feels:
 * a throttled request is held back before the block layer's own clock starts.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "mlk_arch_find.h"

#define LAST 4
#define FEATURES (3 + LAST)
#define MAX_DEVICES 2
#define MAX_WORKERS 64
#define SLOTS 32
#define MAX_BYTES (1u << 20)
#define SECOND 1000000000ull

enum how {
	NONE,
	QUEUE,
	LAST_TIME,
	MODEL,
	HEDGE,
	QUEUE_HEDGE,
	MODEL_HEDGE,
	BOTH,
	ORACLE,
	HOWS
};

static const char *const hows[HOWS] = {
	"none",	       "queue",	      "last", "model",	"hedge",
	"queue-hedge", "model-hedge", "both", "oracle",
};

static struct settings {
	const char *device[MAX_DEVICES];
	const char *out; /* struct record after struct record */
	const char *program; /* how=model */
	const char *features; /* of it: mean and deviation, a line each */
	const char *sizes; /* bytes, separated by commas; one by lot */
	double seconds;
	double seed;
	double rate; /* requests per second; 0: as soon as one has ended */
	double workers; /* requests in flight at most */
	double think_us; /* with rate=0: mean pause before a request */
	double writes; /* percent */
	double burst; /* so many times the rate while a burst lasts */
	double on_ms, off_ms; /* mean time of a burst, and between two */
	double other_bytes, other_depth; /* what else uses a device */
	double other_on_ms, other_off_ms, other_writes;
	double slow_us; /* how=last, how=hedge */
	enum how how;
} set = {
	.sizes = "4096",
	.seconds = 5,
	.seed = 1,
	.workers = 32,
	.burst = 1,
	.on_ms = 50,
	.off_ms = 200,
	.other_bytes = 65536,
	.other_on_ms = 200,
	.other_off_ms = 600,
	.slow_us = 1000,
};

static const struct {
	const char *name;
	double *value;
} numbers[] = {
	{ "seconds", &set.seconds },
	{ "seed", &set.seed },
	{ "rate", &set.rate },
	{ "workers", &set.workers },
	{ "think_us", &set.think_us },
	{ "writes", &set.writes },
	{ "burst", &set.burst },
	{ "on_ms", &set.on_ms },
	{ "off_ms", &set.off_ms },
	{ "other_bytes", &set.other_bytes },
	{ "other_depth", &set.other_depth },
	{ "other_on_ms", &set.other_on_ms },
	{ "other_off_ms", &set.other_off_ms },
	{ "other_writes", &set.other_writes },
	{ "slow_us", &set.slow_us },
};

static const struct {
	const char *name;
	const char **value;
} words[] = {
	{ "out", &set.out },
	{ "program", &set.program },
	{ "features", &set.features },
	{ "sizes", &set.sizes },
};

/* What is written for each request, as numpy reads it. */
struct record {
	uint64_t issued_ns; /* since the start */
	uint32_t took_us;
	uint32_t waited_us; /* from when it was due to its end */
	uint32_t inflight; /* itself included */
	uint32_t bytes;
	uint32_t last_us[LAST]; /* the newest first */
	uint8_t is_write;
	uint8_t device;
	uint8_t busy; /* something else used the device when it was issued */
	uint8_t moved;
	uint32_t doubled; /* it was sent to the other device, too */
};

/* What is known of a device when a request is about to be issued. */
struct device {
	pthread_mutex_t lock;
	int fd;
	uint32_t inflight;
	uint32_t last_us[LAST];
	atomic_int busy;
};

struct slot {
	struct iocb iocb;
	uint64_t issued_ns;
	struct device *device;
	int active;
};

struct worker {
	pthread_t thread;
	aio_context_t context;
	struct slot slot[SLOTS];
	void *buffer;
	uint64_t random;
	uint8_t *arena;
};

struct arrival {
	uint64_t due_ns;
	uint64_t offset;
	uint32_t bytes;
	uint8_t is_write;
	uint8_t device;
};

static struct device device[MAX_DEVICES];
static unsigned int devices;
static uint64_t device_bytes, start_ns, end_ns;
static struct arrival *arrival;
static struct record *record;
static size_t arrivals;
static atomic_size_t next_arrival;
static const struct mlk_header *program;
static const struct mlk_simd *simd;
static struct {
	double mean, std;
} feature[FEATURES];

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * SECOND + t.tv_nsec;
}

static uint64_t rnd(uint64_t *state) /* xorshift64 */
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* Small seeds are spread over the whole state; it must not be 0. */
static uint64_t seeded(uint64_t stream)
{
	uint64_t state = ((uint64_t)set.seed * 1000 + stream + 1) *
			 0x9e3779b97f4a7c15ull;

	rnd(&state);
	return state;
}

static double uniform(uint64_t *state)
{
	return (rnd(state) >> 11) * 0x1p-53;
}

static uint64_t exponential(uint64_t *state, double mean_ns)
{
	return -log(1 - uniform(state)) * mean_ns;
}

static void sleep_until(uint64_t when)
{
	struct timespec t = { when / SECOND, when % SECOND };

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

static uint32_t since_us(uint64_t before)
{
	return (now() - before) / 1000;
}

static void issue(struct worker *w, struct slot *s, struct device *d,
		  const struct arrival *a, struct record *r)
{
	struct iocb *list = &s->iocb;

	s->iocb = (struct iocb){
		.aio_data = (uintptr_t)s,
		.aio_lio_opcode = a->is_write ? IOCB_CMD_PWRITE :
						IOCB_CMD_PREAD,
		.aio_fildes = d->fd,
		.aio_buf = (uintptr_t)w->buffer,
		.aio_nbytes = a->bytes,
		.aio_offset = a->offset,
	};
	s->device = d;
	s->active = 1;
	pthread_mutex_lock(&d->lock);
	d->inflight++;
	if (r) {
		r->inflight = d->inflight;
		memcpy(r->last_us, d->last_us, sizeof(r->last_us));
	}
	pthread_mutex_unlock(&d->lock);
	s->issued_ns = now();
	if (r) {
		r->issued_ns = s->issued_ns - start_ns;
		r->device = d - device;
		r->busy = d->busy;
	}
	if (syscall(SYS_io_submit, w->context, 1, &list) != 1)
		err(1, "io_submit");
}

/* Take note of what has ended, for at most @ns; UINT64_MAX: until something has. */
static void reap(struct worker *w, uint64_t ns)
{
	struct timespec t = { ns / SECOND, ns % SECOND };
	struct io_event event[SLOTS];
	long n = syscall(SYS_io_getevents, w->context, 1, SLOTS, event,
			 ns == UINT64_MAX ? NULL : &t);

	for (long i = 0; i < n; i++) {
		struct slot *s = (struct slot *)(uintptr_t)event[i].data;
		struct device *d = s->device;

		if (event[i].res != (int64_t)s->iocb.aio_nbytes)
			errx(1, "a request failed: %lld", event[i].res);
		pthread_mutex_lock(&d->lock);
		memmove(d->last_us + 1, d->last_us,
			sizeof(d->last_us) - sizeof(d->last_us[0]));
		d->last_us[0] = since_us(s->issued_ns);
		d->inflight--;
		pthread_mutex_unlock(&d->lock);
		s->active = 0;
	}
}

static struct slot *free_slot(struct worker *w)
{
	for (;;) {
		for (unsigned int i = 0; i < SLOTS; i++)
			if (!w->slot[i].active)
				return &w->slot[i];
		reap(w, UINT64_MAX);
	}
}

/* How much surer the program is that a request will be slow than that it won't. */
static int slowness(struct worker *w, struct device *d, const struct arrival *a)
{
	const struct mlk_tensor *in = mlk_input_at(program, 0);
	const struct mlk_tensor *out = mlk_output_at(program, 0);
	s8 *x = (s8 *)w->arena + in->offset, *y = (s8 *)w->arena + out->offset;
	double value[FEATURES] = { 0, a->bytes, a->is_write };
	union {
		u32 bits;
		float value;
	} scale = { .bits = in->scale };

	pthread_mutex_lock(&d->lock);
	value[0] = d->inflight + 1;
	for (unsigned int i = 0; i < LAST; i++)
		value[3 + i] = d->last_us[i];
	pthread_mutex_unlock(&d->lock);
	for (unsigned int i = 0; i < FEATURES; i++) {
		double v = (value[i] - feature[i].mean) / feature[i].std;

		v /= scale.value;
		x[i] = fmin(fmax(round(v) + in->zero_point, -128), 127);
	}
	mlk_program_run_simd(program, w->arena, simd);
	return y[1] - y[0];
}

/* Is the other device the better one? */
static int move(struct worker *w, struct device *own, struct device *other,
		const struct arrival *a)
{
	int slow;

	switch (set.how) {
	case QUEUE:
	case QUEUE_HEDGE:
		return other->inflight < own->inflight;
	case LAST_TIME:
		return own->last_us[0] > set.slow_us &&
		       other->last_us[0] <= own->last_us[0];
	case MODEL:
	case MODEL_HEDGE:
		slow = slowness(w, own, a);
		return slow > 0 && slowness(w, other, a) < slow;
	case ORACLE:
		return own->busy && !other->busy;
	default:
		return 0;
	}
}

static void serve(struct worker *w, const struct arrival *a, struct record *r,
		  uint64_t due)
{
	struct device *own = &device[a->device];
	struct device *other = &device[(a->device + 1) % devices];
	struct slot *first = free_slot(w), *second;
	int hedges = set.how == HEDGE || set.how == QUEUE_HEDGE ||
		     set.how == MODEL_HEDGE;

	r->bytes = a->bytes;
	r->is_write = a->is_write;
	if (other != own && move(w, own, other, a)) {
		struct device *swap = own;

		own = other;
		other = swap;
		r->moved = 1;
	}
	issue(w, first, own, a, r);
	second = first;
	if (hedges && other != own) {
		uint64_t until = first->issued_ns + set.slow_us * 1000, t;

		while (first->active && (t = now()) < until)
			reap(w, until - t);
	}
	if (first->active && other != own && (hedges || set.how == BOTH)) {
		second = free_slot(w);
		issue(w, second, other, a, NULL);
		r->doubled = 1;
	}
	while (first->active && second->active)
		reap(w, UINT64_MAX);
	r->took_us = since_us(first->issued_ns);
	r->waited_us = since_us(due);
}

static void prepare(struct worker *w)
{
	prctl(PR_SET_TIMERSLACK, 1000);
	if (syscall(SYS_io_setup, SLOTS, &w->context))
		err(1, "io_setup");
	if (posix_memalign(&w->buffer, 4096, MAX_BYTES))
		errx(1, "no memory");
	memset(w->buffer, 0x5a, MAX_BYTES);
}

static void *work(void *argument)
{
	struct worker *w = argument;
	size_t i;

	prepare(w);
	while ((i = next_arrival++) < arrivals) {
		const struct arrival *a = &arrival[i];
		uint64_t due = start_ns + a->due_ns, t;

		if (!set.rate)
			due = now() +
			      exponential(&w->random, set.think_us * 1000);
		while ((t = now()) < due)
			reap(w, due - t);
		if (t >= end_ns)
			break;
		serve(w, a, &record[i], due);
	}
	for (unsigned int j = 0; j < SLOTS; j++)
		while (w->slot[j].active)
			reap(w, UINT64_MAX);
	return NULL;
}

/* Something else: now and then it keeps some requests in flight on a device. */
static void *disturb(void *argument)
{
	struct device *d = argument;
	struct worker w = { .random = seeded(100 + (d - device)) };
	struct device own = { .fd = d->fd, .lock = PTHREAD_MUTEX_INITIALIZER };
	uint64_t t = start_ns;

	prepare(&w);
	while (now() < end_ns) {
		t = now() + exponential(&w.random, set.other_off_ms * 1e6);
		sleep_until(t < end_ns ? t : end_ns);
		t += exponential(&w.random, set.other_on_ms * 1e6);
		d->busy = 1;
		while (now() < t && now() < end_ns) {
			uint64_t room = device_bytes / MAX_BYTES;
			struct arrival a = {
				.offset = rnd(&w.random) % room * MAX_BYTES,
				.bytes = set.other_bytes,
				.is_write = uniform(&w.random) * 100 <
					    set.other_writes,
			};

			if (own.inflight < set.other_depth)
				issue(&w, free_slot(&w), &own, &a, NULL);
			else
				reap(&w, UINT64_MAX);
		}
		while (own.inflight)
			reap(&w, UINT64_MAX);
		d->busy = 0;
	}
	return NULL;
}

static uint32_t pick_size(uint64_t *random)
{
	const char *at = set.sizes;
	unsigned int n = 1;

	for (const char *c = at; *c; c++)
		n += *c == ',';
	for (n = rnd(random) % n; n; n--)
		at = strchr(at, ',') + 1;
	return strtoul(at, NULL, 10);
}

static void plan(void)
{
	uint64_t random = seeded(0), t = 0, turn = 0;
	double rate = set.rate ? set.rate : 20000;
	int on = 1;

	arrivals = set.seconds * rate * (set.burst > 1 ? set.burst : 1) + 1000;
	arrival = calloc(arrivals, sizeof(*arrival));
	record = calloc(arrivals, sizeof(*record));
	if (!arrival || !record)
		errx(1, "no memory");
	for (size_t i = 0; i < arrivals; i++) {
		struct arrival *a = &arrival[i];

		a->bytes = pick_size(&random);
		if (!a->bytes || a->bytes % 4096 || a->bytes > MAX_BYTES)
			errx(1, "sizes=%s: multiples of 4096 expected",
			     set.sizes);
		a->offset = rnd(&random) % (device_bytes / a->bytes) * a->bytes;
		a->is_write = uniform(&random) * 100 < set.writes;
		a->device = rnd(&random) % devices;
		if (!set.rate)
			continue;
		while (t >= turn) {
			on = !on;
			turn += exponential(&random,
					    (on ? set.on_ms : set.off_ms) *
						    1e6) +
				1;
		}
		t += exponential(&random, 1e9 / rate / (on ? set.burst : 1));
		a->due_ns = t;
	}
}

static void load_program(void)
{
	struct mlk_diag diag = { 0 };
	FILE *f = fopen(set.program, "rb");
	void *data = aligned_alloc(64, 1 << 20);
	size_t n = f && data ? fread(data, 1, 1 << 20, f) : 0;

	if (!n)
		err(1, "program=%s", set.program);
	fclose(f);
	if (mlk_program_verify(data, n, NULL, &diag))
		errx(1, "program=%s: %s", set.program,
		     mlk_reason_text(diag.reason));
	program = data;
	mlk_arch_find(NULL, &simd);
	f = fopen(set.features ? set.features : "", "r");
	if (!f)
		err(1, "features=");
	for (unsigned int i = 0; i < FEATURES; i++)
		if (fscanf(f, "%lf %lf", &feature[i].mean, &feature[i].std) !=
		    2)
			errx(1, "features=%s: %d lines of two numbers expected",
			     set.features, FEATURES);
	fclose(f);
}

static void read_setting(const char *argument)
{
	const char *value = strchr(argument, '=');
	size_t n = value ? (size_t)(value - argument) : 0, i;

	if (!value++)
		errx(1, "%s: KEY=VALUE expected", argument);
#define IS(word) (strlen(word) == n && !strncmp(argument, word, n))
	if (IS("device") && devices < MAX_DEVICES) {
		set.device[devices++] = value;
		return;
	}
	for (i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (IS(words[i].name)) {
			*words[i].value = value;
			return;
		}
	}
	for (i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		if (IS(numbers[i].name)) {
			*numbers[i].value = strtod(value, NULL);
			return;
		}
	}
	for (i = 0; IS("how") && i < HOWS; i++) {
		if (!strcmp(value, hows[i])) {
			set.how = i;
			return;
		}
	}
	errx(1, "%s: not known", argument);
#undef IS
}

static void open_devices(void)
{
	for (unsigned int i = 0; i < devices; i++) {
		struct device *d = &device[i];
		uint64_t bytes;

		pthread_mutex_init(&d->lock, NULL);
		d->fd = open(set.device[i], O_RDWR | O_DIRECT);
		if (d->fd < 0 || ioctl(d->fd, BLKGETSIZE64, &bytes))
			err(1, "%s", set.device[i]);
		if (!i || bytes < device_bytes)
			device_bytes = bytes;
	}
}

static void write_records(void)
{
	FILE *f = fopen(set.out, "wb");
	size_t n = next_arrival < arrivals ? next_arrival : arrivals;

	for (size_t i = 0; f && i < n; i++)
		if (record[i].bytes &&
		    fwrite(&record[i], sizeof(record[i]), 1, f) != 1)
			err(1, "%s", set.out);
	if (!f || fclose(f))
		err(1, "%s", set.out);
}

int main(int argc, char **argv)
{
	static struct worker worker[MAX_WORKERS];
	pthread_t other[MAX_DEVICES];
	unsigned int i;

	for (i = 1; i < (unsigned int)argc; i++)
		read_setting(argv[i]);
	if (!devices || !set.out || set.workers < 1 ||
	    set.workers > MAX_WORKERS || set.other_bytes > MAX_BYTES ||
	    set.other_depth > SLOTS)
		errx(1, "device=, out=, workers=1 to %d expected", MAX_WORKERS);
	open_devices();
	plan();
	if (set.how == MODEL || set.how == MODEL_HEDGE)
		load_program();
	start_ns = now() + SECOND / 20;
	end_ns = start_ns + set.seconds * SECOND;
	for (i = 0; i < devices; i++)
		if (set.other_depth > 0 &&
		    pthread_create(&other[i], NULL, disturb, &device[i]))
			errx(1, "no thread");
	for (i = 0; i < set.workers; i++) {
		worker[i].random = seeded(1 + i);
		if (program) {
			worker[i].arena = aligned_alloc(MLK_ARENA_ALIGN,
							program->arena_bytes);
			mlk_program_reset(program, worker[i].arena);
		}
		if (pthread_create(&worker[i].thread, NULL, work, &worker[i]))
			errx(1, "no thread");
	}
	for (i = 0; i < set.workers; i++)
		pthread_join(worker[i].thread, NULL);
	for (i = 0; i < devices && set.other_depth > 0; i++)
		pthread_join(other[i], NULL);
	write_records();
	return 0;
}
