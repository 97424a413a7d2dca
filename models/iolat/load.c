// SPDX-License-Identifier: MIT
/*
 * One program's I/O on one or two devices, each request of it recorded, while
 * something else uses the same devices now and then.
 *
 * usage: load KEY=VALUE...; keys and defaults are in struct settings. With two devices
 * a request goes to one of them by lot. A share of all requests has a copy: on the
 * other device, or, with remote_us, far away where it always takes that long. `how`
 * says when the copy is taken.
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
#define SEEN (3 + LAST)
#define MOST_US 1000000
#define MAX_DEVICES 2
#define MAX_WORKERS 512
#define SLOTS 32
#define MAX_BYTES (1u << 20)
#define SECOND 1000000000ull

/* When the copy is taken: if the device has, or has for its last request... */
enum how {
	NONE,
	QUEUE, /* ... so many more in flight than the copy's */
	LAST_TIME, /* ... taken over slow_us */
	EITHER, /* ... one of these */
	STILL, /* ... something in flight and nothing ended for still_us */
	STILL_LAST, /* ... this, or the last request taken over slow_us */
	EWMA, /* ... taken longer on average than the copy's, as snitches do */
	C3, /* the same, times the cube of those in flight */
	MODEL,
	HEDGE, /* both, if it takes over hedge_us */
	MODEL_HEDGE,
	HOWS
};

static const char *const hows[HOWS] = {
	"none", "queue", "last",  "either", "still",	   "still-last",
	"ewma", "c3",	 "model", "hedge",  "model-hedge",
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
	double copies; /* percent */
	double remote_us;
	double limit, slow_us, still_us; /* see enum how */
	double hedge_us, twice; /* ... and percent of copies that may be */
	double sure; /* percent: how=model */
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
	.copies = 100,
	.limit = 1,
	.slow_us = 1000,
	.still_us = 1000,
	.hedge_us = 1000,
	.twice = 100,
	.sure = 50,
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
	{ "copies", &set.copies },
	{ "remote_us", &set.remote_us },
	{ "limit", &set.limit },
	{ "slow_us", &set.slow_us },
	{ "still_us", &set.still_us },
	{ "hedge_us", &set.hedge_us },
	{ "twice", &set.twice },
	{ "sure", &set.sure },
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
	uint32_t bytes;
	uint32_t seen[SEEN]; /* see look() */
	uint8_t is_write;
	uint8_t device;
	uint8_t busy; /* something else used the device when it was issued */
	uint8_t moved;
	uint8_t doubled; /* the copy was read, too */
	uint8_t copied; /* there is one */
	uint16_t unused;
};

/* What is known of a device's reads, or of its writes. */
struct kind {
	uint32_t inflight;
	uint32_t last_us[LAST]; /* the newest first */
	uint32_t mean_us; /* of them all, the newer the heavier */
	uint64_t end_ns; /* of the last one */
	uint64_t busy_ns; /* since when one or more are in flight */
};

struct device {
	pthread_mutex_t lock;
	int fd; /* -1: far away */
	struct kind kind[2];
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
	uint64_t random;
	uint8_t *arena;
};

struct arrival {
	uint64_t due_ns;
	uint64_t offset;
	uint32_t bytes;
	uint8_t is_write;
	uint8_t device;
	uint8_t copied;
};

static uint8_t buffer[MAX_BYTES] __attribute__((aligned(4096)));
static struct device device[MAX_DEVICES], remote = { .fd = -1 };
static unsigned int devices;
static uint64_t device_bytes, start_ns, end_ns;
static struct arrival *arrival;
static struct record *record;
static size_t arrivals;
static atomic_size_t next_arrival, copied, doubled;
static const struct mlk_header *program;
static const struct mlk_simd *simd;
static struct {
	double mean, std;
} feature[SEEN];

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

/* Logarithm to base 2 in sixteenths, as a kernel can have it; a second at most. */
static uint32_t sixteenths(uint64_t us)
{
	uint64_t n = (us < MOST_US ? us : MOST_US) + 1;
	unsigned int whole = 63 - __builtin_clzll(n);

	return 16 * whole + ((n << 4 >> whole) & 15);
}

/* What is known when a request is about to be issued; of those of its kind. */
static void look(struct device *d, const struct arrival *a, uint64_t t,
		 uint32_t *seen)
{
	const struct kind *k = &d->kind[a->is_write];
	uint64_t still = k->end_ns > k->busy_ns ? k->end_ns : k->busy_ns;

	seen[0] = k->inflight + 1;
	seen[1] = sixteenths((t - k->end_ns) / 1000);
	seen[2] = k->inflight ? sixteenths((t - still) / 1000) : 0;
	for (unsigned int i = 0; i < LAST; i++)
		seen[3 + i] = sixteenths(k->last_us[i]);
}

static void issue(struct worker *w, struct slot *s, struct device *d,
		  const struct arrival *a, struct record *r)
{
	struct kind *k = &d->kind[a->is_write];
	struct iocb *list = &s->iocb;

	s->iocb = (struct iocb){
		.aio_data = (uintptr_t)s,
		.aio_lio_opcode = a->is_write ? IOCB_CMD_PWRITE :
						IOCB_CMD_PREAD,
		.aio_fildes = d->fd,
		.aio_buf = (uintptr_t)buffer,
		.aio_nbytes = a->bytes,
		.aio_offset = a->offset,
	};
	s->device = d;
	s->active = 1;
	pthread_mutex_lock(&d->lock);
	s->issued_ns = now();
	if (r)
		look(d, a, s->issued_ns, r->seen);
	if (!k->inflight++)
		k->busy_ns = s->issued_ns;
	pthread_mutex_unlock(&d->lock);
	if (r) {
		r->issued_ns = s->issued_ns - start_ns;
		r->device = d - device;
		r->busy = d->busy;
	}
	if (syscall(SYS_io_submit, w->context, 1, &list) != 1)
		err(1, "io_submit");
}

static void ended(struct device *d, const struct slot *s)
{
	int is_write = s->iocb.aio_lio_opcode == IOCB_CMD_PWRITE;
	struct kind *k = &d->kind[is_write];

	memmove(k->last_us + 1, k->last_us,
		sizeof(k->last_us) - sizeof(k->last_us[0]));
	k->end_ns = now();
	k->last_us[0] = (k->end_ns - s->issued_ns) / 1000;
	k->mean_us = (7ull * k->mean_us + k->last_us[0]) / 8;
	k->inflight--;
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
		ended(d, s);
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

/* How sure the program is that a request will be slow, in percent. */
static double slowness(struct worker *w, struct device *d,
		       const struct arrival *a)
{
	const struct mlk_tensor *in = mlk_input_at(program, 0);
	const struct mlk_tensor *out = mlk_output_at(program, 0);
	s8 *x = (s8 *)w->arena + in->offset, *y = (s8 *)w->arena + out->offset;
	uint32_t seen[SEEN];
	union {
		u32 bits;
		float value;
	} scale = { .bits = in->scale };

	pthread_mutex_lock(&d->lock);
	look(d, a, now(), seen);
	pthread_mutex_unlock(&d->lock);
	for (unsigned int i = 0; i < SEEN; i++) {
		double v = (seen[i] - feature[i].mean) / feature[i].std;

		v /= scale.value;
		x[i] = fmin(fmax(round(v) + in->zero_point, -128), 127);
	}
	mlk_program_run_simd(program, w->arena, simd);
	return (y[1] + 128) * 100 / 256.0;
}

static double cubed(double v)
{
	return v * v * v;
}

/* Is the other replica the better one? */
static int move(struct worker *w, struct device *own, struct device *other,
		const struct arrival *a)
{
	const struct kind *here = &own->kind[a->is_write];
	const struct kind *there = &other->kind[a->is_write];
	uint64_t since = here->end_ns > here->busy_ns ? here->end_ns :
							here->busy_ns;
	int queue = here->inflight >= there->inflight + set.limit;
	int last = here->last_us[0] > set.slow_us &&
		   there->last_us[0] <= here->last_us[0];
	int still = here->inflight && since_us(since) > set.still_us;
	double slow;

	switch (set.how) {
	case QUEUE:
		return queue;
	case LAST_TIME:
		return last;
	case EITHER:
		return queue || last;
	case STILL:
		return still;
	case STILL_LAST:
		return still || last;
	case EWMA:
		return there->mean_us < here->mean_us;
	case C3:
		return there->mean_us * cubed(1 + there->inflight) <
		       here->mean_us * cubed(1 + here->inflight);
	case MODEL:
	case MODEL_HEDGE:
		slow = slowness(w, own, a);
		return slow > set.sure &&
		       (other == &remote || slowness(w, other, a) < slow);
	default:
		return 0;
	}
}

/* Both may be asked: that is not too many yet. */
static int may_double(const struct arrival *a)
{
	return a->copied && (set.how == HEDGE || set.how == MODEL_HEDGE) &&
	       doubled * 100 <= copied * set.twice;
}

/* Wait until a request has ended, at most until then. */
static void await(struct worker *w, const struct slot *s, uint64_t until)
{
	uint64_t t;

	while ((!s || s->active) && (t = now()) < until)
		reap(w, until - t);
}

static void serve(struct worker *w, const struct arrival *a, struct record *r,
		  uint64_t due)
{
	struct device *own = &device[a->device];
	struct device *other =
		set.remote_us ? &remote : &device[(a->device + 1) % devices];
	uint64_t far_ns = set.remote_us * 1000, t = now();
	struct slot *first, *second;

	r->bytes = a->bytes;
	r->is_write = a->is_write;
	r->copied = a->copied;
	copied += a->copied;
	if (a->copied && other != own && move(w, own, other, a)) {
		struct device *swap = own;

		own = other;
		other = swap;
		r->moved = 1;
	}
	if (own == &remote) {
		r->issued_ns = t - start_ns;
		await(w, NULL, t + far_ns);
		r->took_us = since_us(t);
		r->waited_us = since_us(due);
		return;
	}
	first = free_slot(w);
	issue(w, first, own, a, r);
	if (may_double(a))
		await(w, first, first->issued_ns + set.hedge_us * 1000);
	if (first->active && other != own && may_double(a)) {
		doubled++;
		r->doubled = 1;
		if (other == &remote) {
			await(w, first, now() + far_ns);
		} else {
			second = free_slot(w);
			issue(w, second, other, a, NULL);
			while (first->active && second->active)
				reap(w, UINT64_MAX);
		}
	} else {
		await(w, first, UINT64_MAX);
	}
	r->took_us = since_us(first->issued_ns);
	r->waited_us = since_us(due);
}

static void prepare(struct worker *w)
{
	prctl(PR_SET_TIMERSLACK, 1000);
	if (syscall(SYS_io_setup, SLOTS, &w->context))
		err(1, "io_setup");
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
	/* when it begins and ends must not depend on what the device does */
	uint64_t t = start_ns, spells = seeded(200 + (d - device));

	prepare(&w);
	while (now() < end_ns) {
		t += exponential(&spells, set.other_off_ms * 1e6);
		sleep_until(t < end_ns ? t : end_ns);
		t += exponential(&spells, set.other_on_ms * 1e6);
		d->busy = 1;
		while (now() < t && now() < end_ns) {
			uint64_t room = device_bytes / MAX_BYTES;
			struct arrival a = {
				.offset = rnd(&w.random) % room * MAX_BYTES,
				.bytes = set.other_bytes,
				.is_write = uniform(&w.random) * 100 <
					    set.other_writes,
			};

			if (own.kind[0].inflight + own.kind[1].inflight <
			    set.other_depth)
				issue(&w, free_slot(&w), &own, &a, NULL);
			else
				reap(&w, UINT64_MAX);
		}
		while (own.kind[0].inflight + own.kind[1].inflight)
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
		a->copied = uniform(&random) * 100 < set.copies;
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
	const struct mlk_tensor *in;
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
	in = mlk_input_at(program, 0);
	f = fopen(set.features ? set.features : "", "r");
	if (!f)
		err(1, "features=");
	for (unsigned int i = 0; i < SEEN; i++)
		if (fscanf(f, "%lf %lf", &feature[i].mean, &feature[i].std) !=
		    2)
			errx(1, "features=%s: %d lines of two numbers expected",
			     set.features, SEEN);
	if (in->bytes != SEEN)
		errx(1, "program=%s: %d inputs expected", set.program, SEEN);
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
	for (i = 0; i < 2; i++)
		remote.kind[i].last_us[0] = remote.kind[i].mean_us =
			set.remote_us;
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
