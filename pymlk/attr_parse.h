/* SPDX-License-Identifier: MIT */
/*
 * Attribute sets: kept descriptors, one pread a file, numbers parsed by hand.
 * Sets that are read seldom keep the files' directories instead of the files.
 *
 * Everything that runs while a snapshot is taken is in here, in plain C, so
 * that it can be compiled and fuzzed without Python. attrs.pyx fills the
 * tables (who wants what of which file) and owns their memory.
 *
 * All files of a set share one buffer: a file is parsed as soon as it has been
 * read, so the same few cache lines serve all of them. Behind the text there
 * are always MLK_ATTR_PAD zero bytes: the parser may load a word at any byte of
 * the text, and a number always ends.
 */
#ifndef PYMLK_ATTR_PARSE_H
#define PYMLK_ATTR_PARSE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

/* attrs.pyx is compiled for size; what is in here runs in every snapshot. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC push_options
#pragma GCC optimize("O2")
#endif

#define MLK_ATTR_PAD 16u
#define MLK_ATTR_FIRST 4096u
#define MLK_ATTR_MAX (4u << 20)
#define MLK_ATTR_NOT_FOUND UINT32_MAX
#define MLK_ATTR_O_FLAGS (O_CLOEXEC | O_NONBLOCK | O_NOCTTY)

/* reason, its errno (0: the one the kernel gave for the file), its words */
#define MLK_ATTR_REASONS(X) \
	X(OK, 0, "valid") \
	X(UNREAD, ENODATA, "not read") \
	X(MISSING, 0, "missing") \
	X(VANISHED, 0, "vanished") \
	X(UNREADABLE, 0, "unreadable") \
	X(NOT_FILE, 0, "not a regular file") \
	X(EMPTY, ENODATA, "empty") \
	X(NOT_NUMBER, EINVAL, "not a number") \
	X(MANY, EINVAL, "more than one value") \
	X(RANGE, ERANGE, "overflow") \
	X(NO_KEY, ENODATA, "no such key") \
	X(NO_TOKEN, ENODATA, "no such token") \
	X(FRACTION, EINVAL, "fraction needs a scale") \
	X(TRUNCATED, EFBIG, "truncated") \
	X(NO_CHOICE, EINVAL, "no choice")

enum mlk_attr_reason {
#define X(name, err, words) MLK_ATTR_##name,
	MLK_ATTR_REASONS(X)
#undef X
	MLK_ATTR_N_REASONS
};

enum mlk_attr_kind {
	MLK_ATTR_WHOLE, /* the file is one value */
	MLK_ATTR_TOKEN, /* token N of the file */
	MLK_ATTR_LINE, /* token N after the name a line starts with */
	MLK_ATTR_PAIR, /* KEY=value in such a line */
};

enum mlk_attr_flag {
	MLK_ATTR_UNSIGNED = 1,
	MLK_ATTR_HEX = 2,
	MLK_ATTR_SCALED = 4, /* a fraction is welcome */
	MLK_ATTR_BARE_HEX = 8, /* the file shows hex without 0x */
};

/* A selector with a dot is a row and a key, or one key: the text decides. */
enum mlk_attr_split {
	MLK_ATTR_FIXED,
	MLK_ATTR_OPEN,
	MLK_ATTR_ROW,
	MLK_ATTR_KEY,
};

struct mlk_attr_field {
	int64_t alt_value;
	const char *choices; /* names, each with a NUL; NULL: a number */
	uint32_t n_choices;
	uint32_t scale;
	uint32_t at; /* where the value started in the last text */
	uint32_t alt_at;
	uint32_t file;
	int wfd;
	uint8_t kind;
	uint8_t flags;
	uint8_t split;
	uint8_t alt_reason;
	uint8_t plain; /* on a disk: cut the old text when writing */
};

struct mlk_attr_want { /* what one field wants of a line */
	const char *sub; /* behind the dot; NULL: all of it is a key */
	uint32_t sub_len;
	uint32_t token;
	uint32_t slot;
	uint8_t kind;
	uint8_t alt; /* the reading of a dot as part of the key */
};

struct mlk_attr_row { /* one line name and everything wanted of it */
	const char *name;
	struct mlk_attr_want *want;
	uint32_t len;
	uint32_t n_want;
	uint32_t pos; /* line on which it was found this time */
	uint8_t active;
};

struct mlk_attr_token {
	uint32_t token;
	uint32_t slot;
};

struct mlk_attr_file {
	uint64_t bloom[4]; /* of the first bytes of the wanted names */
	uint64_t mask;
	struct mlk_attr_row *row;
	struct mlk_attr_token *token; /* ascending */
	uint32_t *slot; /* all fields of this file */
	uint32_t n_row;
	uint32_t n_token;
	uint32_t n_slot;
	uint32_t n_active;
	char *name; /* below dir */
	uint32_t want; /* bytes to ask for */
	int fd;
	int dir; /* >= 0: opened there for each look only */
	int err;
	uint8_t reason; /* why it could not be opened */
	uint8_t read_on; /* one pread does not give all that is wanted */
	uint8_t overlap; /* one line may match two names */
	uint8_t undecided;
	uint8_t quick; /* one field, one plain integer */
};

struct mlk_attrs {
	struct mlk_attr_field *field;
	struct mlk_attr_file *file;
	struct mlk_attr_row *row_pool;
	struct mlk_attr_want *want_pool;
	struct mlk_attr_token *token_pool;
	uint32_t *slot_pool;
	int64_t *row;
	uint8_t *valid;
	uint8_t *reason;
	char *buf;
	uint32_t cap;
	uint32_t len; /* of the text now in buf */
	uint32_t n;
	uint32_t n_file;
	uint32_t preads;
	uint32_t grown;
	uint64_t seq;
	int64_t time_ns;
	int closed;
};

/* ------------------------------------------------------------ small parts */

static inline int mlk_attr_space(char c)
{
	return c == ' ' || (unsigned char)(c - '\t') < 5;
}

static inline int mlk_attr_blank(char c)
{
	return c != '\n' && mlk_attr_space(c);
}

static inline const char *mlk_attr_skip_space(const char *p, const char *end)
{
	while (p < end && mlk_attr_space(*p))
		p++;
	return p;
}

static inline const char *mlk_attr_skip_blank(const char *p, const char *end)
{
	while (p < end && mlk_attr_blank(*p))
		p++;
	return p;
}

static inline const char *mlk_attr_skip_token(const char *p, const char *end)
{
	while (p < end && !mlk_attr_space(*p))
		p++;
	return p;
}

static inline uint64_t mlk_attr_word(const char *p)
{
	uint64_t w;

	memcpy(&w, p, sizeof(w));
	return w;
}

static inline unsigned int mlk_attr_digit(char c)
{
	return (unsigned char)(c - '0');
}

static inline unsigned int mlk_attr_xdigit(char c)
{
	unsigned int d = (unsigned char)(c - '0');

	if (d <= 9)
		return d;
	d = (unsigned char)((c | 0x20) - 'a');
	return d <= 5 ? d + 10 : 16;
}

static const char *mlk_attr_reason_words(int reason)
{
	static const char *const words[] = {
#define X(name, err, words) words,
		MLK_ATTR_REASONS(X)
#undef X
	};

	return words[reason];
}

static int mlk_attr_reason_errno(int reason)
{
	static const int numbers[] = {
#define X(name, err, words) err,
		MLK_ATTR_REASONS(X)
#undef X
	};

	return numbers[reason];
}

/* ---------------------------------------------------------------- numbers */

static inline int mlk_attr_fit(uint64_t v, int neg, int is_unsigned,
			       int64_t *out)
{
	if (is_unsigned) {
		if (neg && v)
			return MLK_ATTR_RANGE;
		*out = (int64_t)v;
		return MLK_ATTR_OK;
	}
	if (v > (uint64_t)INT64_MAX + (neg ? 1 : 0))
		return MLK_ATTR_RANGE;
	*out = (int64_t)(neg ? 0 - v : v);
	return MLK_ATTR_OK;
}

static int mlk_attr_hex(const char *p, int neg, const struct mlk_attr_field *f,
			int64_t *out, const char **stop)
{
	uint64_t v = 0;
	int over = 0;
	unsigned int d = mlk_attr_xdigit(*p);

	if (d > 15)
		return MLK_ATTR_NOT_NUMBER;
	do {
		over |= v >> 60 != 0;
		v = v << 4 | d;
		d = mlk_attr_xdigit(*++p);
	} while (d <= 15);
	*stop = p;
	if (over || __builtin_mul_overflow(v, (uint64_t)f->scale, &v))
		return MLK_ATTR_RANGE;
	return mlk_attr_fit(v, neg, f->flags & MLK_ATTR_UNSIGNED, out);
}

/*
 * digits[0..n) after the point, times scale, rounded half away from zero.
 * Exact for any n: nine digits at a time from the far end, each carrying into
 * the next. scale <= 10^9 keeps every step below 2^64 without 128-bit
 * arithmetic, which 32-bit targets lack.
 */
static uint64_t mlk_attr_fraction(const char *digits, size_t n, uint32_t scale)
{
	uint64_t carry = 0;
	uint64_t rest = 0;
	size_t chunk = (n - 1) / 9 + 1;

	while (chunk--) {
		uint64_t v = 0;
		size_t i;

		for (i = chunk * 9; i < chunk * 9 + 9; i++)
			v = v * 10 + (i < n ? mlk_attr_digit(digits[i]) : 0);
		v = v * scale + carry;
		carry = v / 1000000000u;
		rest = v % 1000000000u;
	}
	return carry + (rest >= 500000000u);
}

/* The number at p; *stop is behind it. The text ends with a byte that is none. */
static inline int mlk_attr_number(const char *p, const struct mlk_attr_field *f,
				  int64_t *out, const char **stop)
{
	static const uint32_t pow10[] = { 1,	     10,       100,
					  1000,	     10000,    100000,
					  1000000,   10000000, 100000000,
					  1000000000 };
	const char *start;
	uint64_t v = 0;
	unsigned int d;
	int neg = *p == '-';
	int over = 0;

	p += neg | (*p == '+');
	if (*p == '0' && (p[1] | 0x20) == 'x')
		return mlk_attr_hex(p + 2, neg, f, out, stop);
	if (f->flags & MLK_ATTR_HEX)
		return mlk_attr_hex(p, neg, f, out, stop);
	d = mlk_attr_digit(*p);
	if (d > 9)
		return MLK_ATTR_NOT_NUMBER;
	start = p;
	do {
		v = v * 10 + d;
		d = mlk_attr_digit(*++p);
	} while (d <= 9);
	if (p - start > 19) { /* may have wrapped: again, with care */
		const char *q;

		for (v = 0, q = start; q < p; q++)
			over |= __builtin_mul_overflow(v, (uint64_t)10, &v) |
				__builtin_add_overflow(
					v, (uint64_t)mlk_attr_digit(*q), &v);
	}
	if (f->scale != 1)
		over |= __builtin_mul_overflow(v, (uint64_t)f->scale, &v);
	if (*p == '.') {
		uint64_t part = 0;
		size_t n;

		start = ++p;
		while (mlk_attr_digit(*p) <= 9)
			p++;
		n = (size_t)(p - start);
		if (!n)
			return MLK_ATTR_NOT_NUMBER;
		*stop = p;
		if (!(f->flags & MLK_ATTR_SCALED))
			return MLK_ATTR_FRACTION;
		if (n < 10 && f->scale == pow10[n]) {
			while (start < p)
				part = part * 10 + mlk_attr_digit(*start++);
		} else {
			part = mlk_attr_fraction(start, n, f->scale);
		}
		over |= __builtin_add_overflow(v, part, &v);
	}
	*stop = p;
	if (over)
		return MLK_ATTR_RANGE;
	return mlk_attr_fit(v, neg, f->flags & MLK_ATTR_UNSIGNED, out);
}

/*
 * Units that may follow a number without a space. A closed list: "3f" is a
 * hex mask, not 3 farad, and must not become 3.
 */
static int mlk_attr_known_unit(const char *p, size_t n)
{
	static const char units[] =
		"% s ms us ns \xc2\xb5s min Hz kHz MHz GHz k K M G T kB KB KiB "
		"MB MiB GB GiB TB TiB V mV uV mA uA W mW uW J mJ uJ ";
	const char *u = units;

	while (*u) {
		const char *e = strchr(u, ' ');

		if ((size_t)(e - u) == n && !memcmp(u, p, n))
			return 1;
		u = e + 1;
	}
	return 0;
}

/* A word such as kB, GT/s or C that stands behind its number. */
static int mlk_attr_unit_word(const char *p, size_t n)
{
	size_t i;

	if (!n || n > 7 || *p == '/')
		return 0;
	for (i = 0; i < n; i++) {
		unsigned char c = (unsigned char)p[i];

		if ((unsigned char)((c | 0x20) - 'a') > 25 && c != '%' &&
		    c != '/' && c < 0x80)
			return 0;
	}
	return 1;
}

/* Does the token end at p, or in a unit? */
static inline int mlk_attr_token_ends(const char *p, const char *end,
				      const struct mlk_attr_field *f)
{
	if (p == end || mlk_attr_space(*p))
		return 1;
	if (f->flags & MLK_ATTR_HEX)
		return 0;
	return mlk_attr_known_unit(p,
				   (size_t)(mlk_attr_skip_token(p, end) - p));
}

/* The value of the token at p (p < end). */
static inline int mlk_attr_value(const char *p, const char *end,
				 const struct mlk_attr_field *f, int64_t *out)
{
	const char *stop = p;
	int r = mlk_attr_number(p, f, out, &stop);

	if (r == MLK_ATTR_NOT_NUMBER || !mlk_attr_token_ends(stop, end, f))
		return MLK_ATTR_NOT_NUMBER;
	return r;
}

/* How many tokens of the text are [bracketed]; the first one's name. */
static unsigned int mlk_attr_brackets(const char *p, const char *end,
				      const char **name, size_t *len,
				      uint32_t *index)
{
	unsigned int found = 0;
	uint32_t i;

	for (i = 0;; i++) {
		const char *q;

		p = mlk_attr_skip_space(p, end);
		if (p == end)
			return found;
		q = mlk_attr_skip_token(p, end);
		if (q - p > 2 && *p == '[' && q[-1] == ']' && !found++) {
			*name = p + 1;
			*len = (size_t)(q - p) - 2;
			*index = i;
		}
		p = q;
	}
}

static int mlk_attr_choice(const char *p, const char *end,
			   const struct mlk_attr_field *f, int64_t *out)
{
	const char *name = NULL;
	const char *c = f->choices;
	size_t len = 0;
	uint32_t i;

	if (mlk_attr_brackets(p, end, &name, &len, &i) != 1)
		return MLK_ATTR_NO_CHOICE;
	/* by name: the list of choices may have moved since it was learned */
	for (i = 0; i < f->n_choices; i++) {
		size_t n = strlen(c);

		if (n == len && !memcmp(c, name, n)) {
			*out = i;
			return MLK_ATTR_OK;
		}
		c += n + 1;
	}
	return MLK_ATTR_NO_CHOICE;
}

static int mlk_attr_whole_odd(const char *p, const char *end, int otherwise)
{
	const char *name;
	size_t len;
	uint32_t i;

	return mlk_attr_brackets(p, end, &name, &len, &i) == 1 ?
		       MLK_ATTR_NO_CHOICE :
		       otherwise;
}

static inline int mlk_attr_whole(const char *text, const char *end,
				 struct mlk_attr_field *f, int64_t *out)
{
	const char *p = mlk_attr_skip_space(text, end);
	const char *q = p;
	const char *u;
	int r;

	if (p == end)
		return MLK_ATTR_EMPTY;
	f->at = (uint32_t)(p - text);
	if (f->choices)
		return mlk_attr_choice(p, end, f, out);
	r = mlk_attr_number(p, f, out, &q);
	if (r == MLK_ATTR_NOT_NUMBER || !mlk_attr_token_ends(q, end, f))
		return mlk_attr_whole_odd(p, end, MLK_ATTR_NOT_NUMBER);
	q = mlk_attr_skip_token(q, end);
	u = mlk_attr_skip_space(q, end);
	if (u == end)
		return r;
	u = mlk_attr_skip_blank(q, end);
	q = mlk_attr_skip_token(u, end);
	if (mlk_attr_unit_word(u, (size_t)(q - u)) &&
	    mlk_attr_skip_space(q, end) == end)
		return r;
	return mlk_attr_whole_odd(p, end, MLK_ATTR_MANY);
}

/*
 * For learning: digits behind the point (-1: none) and the unit of the value
 * at f->at, whatever comes out of its parsing.
 */
static int mlk_attr_learn(const struct mlk_attrs *s,
			  const struct mlk_attr_field *f, const char **unit,
			  size_t *unit_len)
{
	const char *end = s->buf + s->len;
	const char *p = s->buf + f->at;
	const char *stop = p;
	const char *q;
	const char *dot;
	int64_t value;

	*unit_len = 0;
	if (mlk_attr_number(p, f, &value, &stop) == MLK_ATTR_NOT_NUMBER ||
	    !mlk_attr_token_ends(stop, end, f))
		return -1;
	dot = (const char *)memchr(p, '.', (size_t)(stop - p));
	q = mlk_attr_skip_token(stop, end);
	if (q == stop) {
		const char *after;

		stop = mlk_attr_skip_blank(q, end);
		q = mlk_attr_skip_token(stop, end);
		after = mlk_attr_skip_blank(q, end);
		/* "0 Rescheduling interrupts": words, but no unit */
		if ((after < end && *after != '\n') ||
		    !mlk_attr_unit_word(stop, (size_t)(q - stop)))
			q = stop;
	}
	*unit = stop;
	*unit_len = (size_t)(q - stop);
	if (!dot)
		return -1;
	for (stop = dot + 1; mlk_attr_digit(*stop) <= 9; stop++)
		;
	return (int)(stop - dot) - 1;
}

/* ------------------------------------------------------------------ lines */

static inline unsigned int mlk_attr_hash(uint64_t w)
{
	return (unsigned int)(w * 0x9e3779b97f4a7c15u >> 56);
}

static inline int mlk_attr_name_ends(const char *p, const char *end)
{
	return p >= end || *p == ':' || *p == '=' || mlk_attr_space(*p);
}

static inline int mlk_attr_wanted(const struct mlk_attrs *s,
				  const struct mlk_attr_want *w)
{
	unsigned int split = s->field[w->slot].split;

	return split <= MLK_ATTR_OPEN || (split == MLK_ATTR_KEY) == w->alt;
}

/* Which rows are searched for, and the filter that passes over all others. */
static void mlk_attr_plan(struct mlk_attrs *s, struct mlk_attr_file *f)
{
	uint32_t shortest = 8;
	uint32_t i, j;

	f->n_active = 0;
	f->undecided = 0;
	f->overlap = 0;
	for (i = 0; i < f->n_row; i++) {
		struct mlk_attr_row *r = &f->row[i];

		r->active = 0;
		for (j = 0; j < r->n_want; j++) {
			if (mlk_attr_wanted(s, &r->want[j]))
				r->active = 1;
			if (s->field[r->want[j].slot].split == MLK_ATTR_OPEN)
				f->undecided = 1;
		}
		if (!r->active)
			continue;
		f->n_active++;
		if (r->len < shortest)
			shortest = r->len;
		for (j = 0; j < f->n_row; j++)
			if (j != i && f->row[j].len > r->len &&
			    !memcmp(f->row[j].name, r->name, r->len))
				f->overlap = 1;
	}
	f->mask = 0;
	memset(&f->mask, 0xff, shortest);
	memset(f->bloom, 0, sizeof(f->bloom));
	for (i = 0; i < f->n_row; i++) {
		uint64_t w = 0;
		unsigned int h;

		if (!f->row[i].active)
			continue;
		memcpy(&w, f->row[i].name, shortest);
		h = mlk_attr_hash(w);
		f->bloom[h >> 6] |= 1ull << (h & 63);
	}
}

static inline void mlk_attr_set(struct mlk_attrs *s, uint32_t slot, int reason,
				int64_t value)
{
	s->reason[slot] = (uint8_t)reason;
	s->row[slot] = reason ? 0 : value;
}

/* KEY=value, KEY:value or KEY value among the tokens of a line. */
static const char *mlk_attr_pair(const char *p, const char *end,
				 const struct mlk_attr_want *w)
{
	for (;;) {
		const char *q;

		p = mlk_attr_skip_blank(p, end);
		if (p == end || *p == '\n')
			return NULL;
		q = mlk_attr_skip_token(p, end);
		if ((size_t)(q - p) >= w->sub_len &&
		    !memcmp(p, w->sub, w->sub_len)) {
			const char *v = p + w->sub_len;

			if (v == q)
				return mlk_attr_skip_blank(v, end);
			if (*v == '=' || *v == ':')
				return v + 1 == q ?
					       mlk_attr_skip_blank(q, end) :
					       v + 1;
		}
		p = q;
	}
}

/* p is behind the row's name. */
static void mlk_attr_take(struct mlk_attrs *s, struct mlk_attr_row *r,
			  const char *p, const char *end)
{
	const char *first;
	uint32_t token = 0;
	uint32_t i;

	p = mlk_attr_skip_blank(p, end);
	if (p < end && (*p == ':' || *p == '='))
		p = mlk_attr_skip_blank(p + 1, end);
	first = p;
	for (i = 0; i < r->n_want; i++) {
		const struct mlk_attr_want *w = &r->want[i];
		struct mlk_attr_field *f = &s->field[w->slot];
		const char *v;
		int64_t value = 0;
		uint32_t at = MLK_ATTR_NOT_FOUND;
		int reason;

		if (!mlk_attr_wanted(s, w))
			continue;
		if (w->kind == MLK_ATTR_PAIR) {
			v = mlk_attr_pair(first, end, w);
			reason = MLK_ATTR_NO_KEY;
		} else {
			for (; token < w->token; token++) {
				p = mlk_attr_skip_token(p, end);
				p = mlk_attr_skip_blank(p, end);
				if (p == end || *p == '\n')
					break;
			}
			v = p;
			reason = MLK_ATTR_NO_TOKEN;
		}
		if (v && v < end && *v != '\n') {
			at = (uint32_t)(v - s->buf);
			reason = mlk_attr_value(v, end, f, &value);
		} else if (v && (!w->sub || w->kind == MLK_ATTR_PAIR)) {
			reason = MLK_ATTR_EMPTY; /* a key, but no value */
		}
		if (w->alt && f->split == MLK_ATTR_OPEN) {
			f->alt_at = at;
			f->alt_value = value;
			f->alt_reason = (uint8_t)reason;
		} else {
			f->at = at;
			mlk_attr_set(s, w->slot, reason, value);
		}
	}
}

static inline int mlk_attr_row_here(const struct mlk_attr_row *r, const char *p,
				    const char *end)
{
	return r->active && r->pos == MLK_ATTR_NOT_FOUND &&
	       (size_t)(end - p) >= r->len && !memcmp(p, r->name, r->len) &&
	       mlk_attr_name_ends(p + r->len, end);
}

/* Finds the first line of each wanted name. Returns how many are missing. */
static uint32_t mlk_attr_lines(struct mlk_attrs *s, struct mlk_attr_file *f)
{
	const char *p = s->buf;
	const char *end = p + s->len;
	uint32_t missing = f->n_active;
	uint32_t next = 0; /* rows are kept in the order of the last text */
	uint32_t line = 0;
	uint32_t i;
	int disorder = 0;

	for (i = 0; i < f->n_row; i++)
		f->row[i].pos = MLK_ATTR_NOT_FOUND;
	for (; p < end && missing; line++) {
		unsigned int h;

		p = mlk_attr_skip_blank(p, end);
		h = mlk_attr_hash(mlk_attr_word(p) & f->mask);
		if (!(f->bloom[h >> 6] >> (h & 63) & 1))
			goto skip;
		while (next < f->n_row &&
		       (!f->row[next].active ||
			f->row[next].pos != MLK_ATTR_NOT_FOUND))
			next++;
		for (i = next; i < f->n_row; i++) {
			struct mlk_attr_row *r = &f->row[i];

			if (!mlk_attr_row_here(r, p, end))
				continue;
			r->pos = line;
			disorder |= i != next;
			missing--;
			mlk_attr_take(s, r, p + r->len, end);
			if (!f->overlap)
				break;
		}
skip:
		p = (const char *)memchr(p, '\n', (size_t)(end - p));
		if (!p)
			break;
		p++;
	}
	if (disorder) {
		for (i = 1; i < f->n_row; i++) {
			struct mlk_attr_row r = f->row[i];
			uint32_t j = i;

			for (; j && f->row[j - 1].pos > r.pos; j--)
				f->row[j] = f->row[j - 1];
			f->row[j] = r;
		}
	}
	return missing;
}

/*
 * Of a selector with a dot whose row has been found, nothing more is wanted:
 * settles that, and returns how many names are still missing.
 */
static uint32_t mlk_attr_settle(struct mlk_attrs *s, struct mlk_attr_file *f)
{
	uint32_t missing = 0;
	uint32_t i, j;

	for (i = 0; i < f->n_row; i++) {
		struct mlk_attr_row *r = &f->row[i];

		for (j = 0; r->pos != MLK_ATTR_NOT_FOUND && j < r->n_want; j++)
			if (!r->want[j].alt &&
			    s->field[r->want[j].slot].split == MLK_ATTR_OPEN)
				s->field[r->want[j].slot].split = MLK_ATTR_ROW;
	}
	mlk_attr_plan(s, f);
	for (i = 0; i < f->n_row; i++)
		missing += f->row[i].active &&
			   f->row[i].pos == MLK_ATTR_NOT_FOUND;
	return missing;
}

/* Fields whose row is not there, and those whose dot is not yet decided. */
static void mlk_attr_absent(struct mlk_attrs *s, struct mlk_attr_file *f)
{
	uint32_t i, j;
	int decided = 0;

	for (i = 0; i < f->n_row; i++) {
		struct mlk_attr_row *r = &f->row[i];
		int found = r->pos != MLK_ATTR_NOT_FOUND;

		if (!r->active || (found && !f->undecided))
			continue;
		for (j = 0; j < r->n_want; j++) {
			struct mlk_attr_want *w = &r->want[j];
			struct mlk_attr_field *fd = &s->field[w->slot];

			if (!mlk_attr_wanted(s, w))
				continue;
			if (fd->split == MLK_ATTR_OPEN) {
				if (w->alt)
					continue;
				if (found) {
					fd->split = MLK_ATTR_ROW;
					decided = 1;
				} else if (fd->alt_reason != MLK_ATTR_NO_KEY) {
					fd->split = MLK_ATTR_KEY;
					fd->at = fd->alt_at;
					decided = 1;
					mlk_attr_set(s, w->slot, fd->alt_reason,
						     fd->alt_value);
				} else {
					mlk_attr_set(s, w->slot,
						     MLK_ATTR_NO_KEY, 0);
				}
			} else if (!found) {
				mlk_attr_set(s, w->slot, MLK_ATTR_NO_KEY, 0);
			}
		}
	}
	if (decided)
		mlk_attr_plan(s, f);
}

/* Returns how many tokens are missing. */
static uint32_t mlk_attr_tokens(struct mlk_attrs *s, struct mlk_attr_file *f)
{
	const char *end = s->buf + s->len;
	const char *p = mlk_attr_skip_space(s->buf, end);
	uint32_t token = 0;
	uint32_t i;

	for (i = 0; i < f->n_token; i++) {
		uint32_t slot = f->token[i].slot;
		int64_t value = 0;
		int reason;

		for (; token < f->token[i].token && p < end; token++)
			p = mlk_attr_skip_space(mlk_attr_skip_token(p, end),
						end);
		if (p == end)
			break;
		s->field[slot].at = (uint32_t)(p - s->buf);
		reason = mlk_attr_value(p, end, &s->field[slot], &value);
		mlk_attr_set(s, slot, reason, value);
	}
	token = f->n_token - i;
	for (; i < f->n_token; i++)
		mlk_attr_set(s, f->token[i].slot, MLK_ATTR_NO_TOKEN, 0);
	return token;
}

/* ------------------------------------------------------------------ files */

static int mlk_attr_fail(struct mlk_attr_file *f, int err)
{
	f->err = err;
	return err == ENODEV || err == ENXIO || err == ESRCH || err == ENOENT ?
		       MLK_ATTR_VANISHED :
		       MLK_ATTR_UNREADABLE;
}

static ssize_t mlk_attr_pread(struct mlk_attrs *s, int fd, uint32_t at,
			      uint32_t n)
{
	ssize_t got;

	do {
		s->preads++;
		got = pread(fd, s->buf + at, n, at);
	} while (got < 0 && errno == EINTR);
	return got;
}

/* The only place that allocates after a set has been made. */
static int mlk_attr_grow(struct mlk_attrs *s, struct mlk_attr_file *f)
{
	uint32_t want = f->want * 2;
	char *buf;

	if (f->want >= MLK_ATTR_MAX)
		return -1;
	if (want > MLK_ATTR_MAX)
		want = MLK_ATTR_MAX;
	if (want > s->cap) {
		buf = (char *)realloc(s->buf, want + MLK_ATTR_PAD);
		if (!buf)
			return -1;
		s->buf = buf;
		s->cap = want;
	}
	f->want = want;
	s->grown++;
	return 0;
}

/* Reads on behind s->len until the file ends. */
static int mlk_attr_read_on(struct mlk_attrs *s, struct mlk_attr_file *f)
{
	for (;;) {
		ssize_t got;

		/* a seq_file gives about a page: do not chop its records */
		if (f->want - s->len < 4096 && f->want < MLK_ATTR_MAX &&
		    f->read_on && mlk_attr_grow(s, f))
			return MLK_ATTR_TRUNCATED;
		if (f->want == s->len && mlk_attr_grow(s, f))
			return MLK_ATTR_TRUNCATED;
		got = mlk_attr_pread(s, f->fd, s->len, f->want - s->len);
		if (got < 0)
			return mlk_attr_fail(f, errno);
		if (!got)
			break;
		f->read_on = 1;
		s->len += (uint32_t)got;
	}
	memset(s->buf + s->len, 0, MLK_ATTR_PAD);
	return MLK_ATTR_OK;
}

static inline int mlk_attr_load(struct mlk_attrs *s, struct mlk_attr_file *f)
{
	ssize_t got;

	if (f->fd < 0)
		return f->reason;
	/*
	 * A full buffer means there may be more. Read again from the start, not
	 * on: a sysctl gives nothing at any other offset.
	 */
	while ((got = mlk_attr_pread(s, f->fd, 0, f->want)) ==
	       (ssize_t)f->want) {
		if (mlk_attr_grow(s, f))
			return MLK_ATTR_TRUNCATED;
	}
	if (got < 0)
		return mlk_attr_fail(f, errno);
	s->len = (uint32_t)got;
	if (f->read_on && got)
		return mlk_attr_read_on(s, f);
	memset(s->buf + got, 0, MLK_ATTR_PAD);
	return MLK_ATTR_OK;
}

/* Returns how many wanted things the text did not have. */
static uint32_t mlk_attr_parse(struct mlk_attrs *s, struct mlk_attr_file *f)
{
	uint32_t missing = 0;
	uint32_t i;

	for (i = 0; i < f->n_slot; i++) {
		struct mlk_attr_field *fd = &s->field[f->slot[i]];
		int64_t value = 0;
		int reason;

		fd->alt_reason = MLK_ATTR_NO_KEY;
		fd->at = MLK_ATTR_NOT_FOUND;
		if (fd->kind != MLK_ATTR_WHOLE)
			continue;
		reason = mlk_attr_whole(s->buf, s->buf + s->len, fd, &value);
		mlk_attr_set(s, f->slot[i], reason, value);
	}
	if (f->n_token)
		missing += mlk_attr_tokens(s, f);
	if (f->n_row) {
		uint32_t names = mlk_attr_lines(s, f);

		if (names && f->undecided)
			names = mlk_attr_settle(s, f);
		missing += names;
	}
	return missing;
}

/*
 * One to eight digits and a newline, which is what most of sysfs is, without a
 * loop: after a system call a branch predictor knows little, and a mispredicted
 * loop end costs more than the parsing. Anything else is left to the parser.
 */
static inline int mlk_attr_quick(struct mlk_attrs *s,
				 const struct mlk_attr_file *f)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	uint32_t n = s->len - 1;
	uint64_t t;

	if (n - 1 > 7 || s->buf[n] != '\n')
		return 0;
	/* the last digit into the top byte, zeros in front of the first */
	t = (mlk_attr_word(s->buf) ^ 0x3030303030303030u) << (64 - 8 * n);
	if (((t + 0x7676767676767676u) | t) & 0x8080808080808080u)
		return 0;
	t = (t * 10 + (t >> 8)) & 0x00ff00ff00ff00ffu;
	t = (t * 100 + (t >> 16)) & 0x0000ffff0000ffffu;
	t = (t * 10000 + (t >> 32)) & 0xffffffffu;
	mlk_attr_set(s, f->slot[0], MLK_ATTR_OK, (int64_t)t);
	return 1;
#else
	(void)s;
	(void)f;
	return 0;
#endif
}

static void mlk_attr_values(struct mlk_attrs *s, struct mlk_attr_file *f)
{
	uint32_t i;
	int reason;

	s->len = 0;
	reason = mlk_attr_load(s, f);
	if (f->quick && !reason && mlk_attr_quick(s, f))
		return;
	if (!reason && !s->len)
		reason = MLK_ATTR_EMPTY;
	if (!reason) {
		uint32_t before = s->len;

		if (mlk_attr_parse(s, f) && !f->read_on) {
			/*
			 * A seq_file gives about one page a read, however much
			 * is asked for: look behind it before saying no.
			 */
			reason = mlk_attr_read_on(s, f);
			if (!reason && s->len > before)
				mlk_attr_parse(s, f);
		}
		if (!reason) {
			if (f->n_row)
				mlk_attr_absent(s, f);
			return;
		}
	}
	for (i = 0; i < f->n_slot; i++)
		mlk_attr_set(s, f->slot[i], reason, 0);
}

/* A file of which only the directory is kept is open from here ... */
static inline void mlk_attr_take_up(struct mlk_attrs *s,
				    struct mlk_attr_file *f)
{
	if (f->dir < 0)
		return;
	do {
		s->preads++;
		f->fd = openat(f->dir, f->name,
			       O_RDONLY | O_NOFOLLOW | MLK_ATTR_O_FLAGS);
	} while (f->fd < 0 && errno == EINTR);
	if (f->fd < 0)
		f->reason = (uint8_t)mlk_attr_fail(f, errno);
}

/* ... to here. */
static inline void mlk_attr_put_down(struct mlk_attrs *s,
				     struct mlk_attr_file *f)
{
	if (f->dir < 0 || f->fd < 0)
		return;
	s->preads++;
	close(f->fd);
	f->fd = -1;
}

static void mlk_attr_file_read(struct mlk_attrs *s, struct mlk_attr_file *f)
{
	mlk_attr_take_up(s, f);
	mlk_attr_values(s, f);
	mlk_attr_put_down(s, f);
}

/* ------------------------------------------------------------- whole sets */

static int64_t mlk_attr_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* One snapshot. The caller has the lock. Returns the number of bad fields. */
static int mlk_attrs_read(struct mlk_attrs *s)
{
	uint32_t bad = 0;
	uint32_t i;

	s->time_ns = mlk_attr_now();
	s->preads = 0;
	for (i = 0; i < s->n_file; i++)
		mlk_attr_file_read(s, &s->file[i]);
	for (i = 0; i < s->n; i += 8) {
		uint32_t last = s->n - i < 8 ? s->n - i : 8;
		unsigned int bits = 0;
		uint32_t j;

		for (j = 0; j < last; j++) {
			unsigned int ok = !s->reason[i + j];

			bits |= ok << j;
			bad += !ok;
		}
		s->valid[i / 8] = (uint8_t)bits;
	}
	s->seq++;
	return (int)bad;
}

static int mlk_attrs_errno(const struct mlk_attrs *s, uint32_t slot)
{
	int reason = s->reason[slot];
	int err = mlk_attr_reason_errno(reason);

	if (reason && !err) {
		/* 0: the file was opened anew, but not read since */
		err = s->file[s->field[slot].file].err;
		err = err ? err : ENODATA;
	}
	return err;
}

/*
 * Opens one file for reading; a device node, FIFO or directory is refused
 * before it is opened, as opening one may already do something.
 */
static void mlk_attr_open(struct mlk_attr_file *f, const char *path)
{
	struct stat st;

	f->fd = -1;
	if (stat(path, &st))
		goto fail;
	if (!S_ISREG(st.st_mode))
		goto odd;
	f->fd = open(path, O_RDONLY | MLK_ATTR_O_FLAGS);
	if (f->fd < 0)
		goto fail;
	if (fstat(f->fd, &st) || !S_ISREG(st.st_mode)) {
		close(f->fd);
		f->fd = -1;
		goto odd;
	}
	return;
odd:
	f->err = S_ISDIR(st.st_mode) ? EISDIR : EINVAL;
	f->reason = MLK_ATTR_NOT_FILE;
	return;
fail:
	f->err = errno;
	switch (errno) {
	case ENOENT:
	case ENOTDIR:
		f->reason = MLK_ATTR_MISSING;
		break;
	case ENODEV:
	case ENXIO:
	case ESRCH:
		f->reason = MLK_ATTR_VANISHED;
		break;
	default:
		f->reason = MLK_ATTR_UNREADABLE;
	}
}

/*
 * Keeps the directory of an open file, and its name there, instead of the file.
 * In the kernel a text file holds a page from its first read until it is closed;
 * a directory holds nothing. When a device goes, its directory is dead, whatever
 * comes under the same path later. A file that its name does not lead back to,
 * such as one of /proc/self/fd, stays open.
 */
static void mlk_attr_let_go(struct mlk_attr_file *f, const char *path)
{
	char real[PATH_MAX];
	struct stat kept, found;
	char *slash;

	if (f->fd < 0 || !realpath(path, real))
		return;
	slash = strrchr(real, '/');
	f->name = strdup(slash + 1);
	if (!f->name)
		return;
	slash[slash == real] = 0;
	f->dir = open(real, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (f->dir < 0)
		return;
	if (!fstat(f->fd, &kept) &&
	    !fstatat(f->dir, f->name, &found, AT_SYMLINK_NOFOLLOW) &&
	    found.st_dev == kept.st_dev && found.st_ino == kept.st_ino) {
		close(f->fd);
		f->fd = -1;
	} else {
		close(f->dir);
		f->dir = -1;
	}
}

/* After the first look at a file: how to read it, and room for it to grow without a thought. */
static void mlk_attr_size(struct mlk_attrs *s, struct mlk_attr_file *f)
{
	const struct mlk_attr_field *fd = &s->field[f->slot[0]];
	uint32_t len = s->len;
	uint32_t want = (len + len / 4 + 256 + (f->read_on ? 4096 : 0) + 63) &
			~63u;

	f->want = want < MLK_ATTR_MAX ? want : MLK_ATTR_MAX;
	f->quick = f->n_slot == 1 && fd->kind == MLK_ATTR_WHOLE &&
		   !fd->choices && fd->scale == 1 &&
		   !(fd->flags & MLK_ATTR_HEX);
}

static int mlk_attrs_fit(struct mlk_attrs *s)
{
	uint32_t cap = 64;
	uint32_t i;
	char *buf;

	for (i = 0; i < s->n_file; i++)
		if (s->file[i].want > cap)
			cap = s->file[i].want;
	buf = (char *)realloc(s->buf, cap + MLK_ATTR_PAD);
	if (!buf)
		return -1;
	s->buf = buf;
	s->cap = cap;
	s->grown = 0;
	return 0;
}

static void mlk_attrs_close(struct mlk_attrs *s)
{
	uint32_t i;

	s->closed = 1;
	for (i = 0; i < s->n_file; i++) {
		if (s->file[i].fd >= 0)
			close(s->file[i].fd);
		s->file[i].fd = -1;
		if (s->file[i].dir >= 0)
			close(s->file[i].dir);
		s->file[i].dir = -1;
	}
	for (i = 0; i < s->n; i++) {
		if (s->field[i].wfd >= 0)
			close(s->field[i].wfd);
		s->field[i].wfd = -1;
	}
}

static void mlk_attrs_free(struct mlk_attrs *s)
{
	uint32_t i;

	if (!s)
		return;
	mlk_attrs_close(s);
	for (i = 0; i < s->n_file; i++)
		free(s->file[i].name);
	free(s->field);
	free(s->file);
	free(s->row_pool);
	free(s->want_pool);
	free(s->token_pool);
	free(s->slot_pool);
	free(s->row);
	free(s->valid);
	free(s->reason);
	free(s->buf);
	free(s);
}

static void *mlk_attr_zeroed(size_t n, size_t size)
{
	return calloc(n ? n : 1, size);
}

/* A field has at most two readings, so rows and wants are bounded by 2n. */
static struct mlk_attrs *mlk_attrs_new(uint32_t n, uint32_t n_file)
{
	struct mlk_attrs *s = (struct mlk_attrs *)calloc(1, sizeof(*s));
	uint32_t i;

	if (!s)
		return NULL;
	s->field =
		(struct mlk_attr_field *)mlk_attr_zeroed(n, sizeof(*s->field));
	s->file = (struct mlk_attr_file *)mlk_attr_zeroed(n_file,
							  sizeof(*s->file));
	s->row_pool = (struct mlk_attr_row *)mlk_attr_zeroed(
		2 * (size_t)n, sizeof(*s->row_pool));
	s->want_pool = (struct mlk_attr_want *)mlk_attr_zeroed(
		2 * (size_t)n, sizeof(*s->want_pool));
	s->token_pool = (struct mlk_attr_token *)mlk_attr_zeroed(
		n, sizeof(*s->token_pool));
	s->slot_pool = (uint32_t *)mlk_attr_zeroed(n, sizeof(*s->slot_pool));
	s->row = (int64_t *)mlk_attr_zeroed(n, sizeof(*s->row));
	s->valid = (uint8_t *)mlk_attr_zeroed((n + 7) / 8, 1);
	s->reason = (uint8_t *)mlk_attr_zeroed(n, 1);
	s->buf = (char *)malloc(MLK_ATTR_FIRST + MLK_ATTR_PAD);
	if (!s->field || !s->file || !s->row_pool || !s->want_pool ||
	    !s->token_pool || !s->slot_pool || !s->row || !s->valid ||
	    !s->reason || !s->buf) {
		mlk_attrs_free(s);
		return NULL;
	}
	s->cap = MLK_ATTR_FIRST;
	s->n = n;
	s->n_file = n_file;
	for (i = 0; i < n; i++) {
		s->field[i].wfd = -1;
		s->reason[i] = MLK_ATTR_UNREAD;
	}
	for (i = 0; i < n_file; i++) {
		s->file[i].fd = -1;
		s->file[i].dir = -1;
		s->file[i].want = MLK_ATTR_FIRST;
	}
	return s;
}

/* ------------------------------------------------------------------ knobs */

static char *mlk_attr_print(char *end, uint64_t v, unsigned int base)
{
	do {
		*--end = "0123456789abcdef"[v % base];
		v /= base;
	} while (v);
	return end;
}

/*
 * The text that sets a field to value, with a newline; room for 64 bytes.
 * A fixed-point value becomes its decimal fraction, without trailing zeros, as
 * an attribute that takes integers only refuses "5.00".
 */
static size_t mlk_attr_format(const struct mlk_attr_field *f, int64_t value,
			      char *out)
{
	char tmp[24];
	char *end = tmp + sizeof(tmp);
	char *p;
	uint64_t v = (uint64_t)value;
	uint64_t rest;
	size_t n = 0;

	if (!(f->flags & MLK_ATTR_UNSIGNED) && value < 0) {
		v = 0 - v;
		out[n++] = '-';
	}
	if (f->flags & MLK_ATTR_HEX) {
		if (!(f->flags & MLK_ATTR_BARE_HEX)) {
			out[n++] = '0';
			out[n++] = 'x';
		}
		p = mlk_attr_print(end, v, 16);
		memcpy(out + n, p, (size_t)(end - p));
		n += (size_t)(end - p);
		out[n++] = '\n';
		return n;
	}
	p = mlk_attr_print(end, v / f->scale, 10);
	memcpy(out + n, p, (size_t)(end - p));
	n += (size_t)(end - p);
	rest = v % f->scale;
	if (rest) {
		int i;

		/* ten digits bring back any scale up to 10^9 */
		rest = (rest * 10000000000u + f->scale / 2) / f->scale;
		out[n] = '.';
		for (i = 10; i; i--) {
			out[n + (size_t)i] = (char)('0' + rest % 10);
			rest /= 10;
		}
		n += 11;
		while (out[n - 1] == '0')
			n--;
	}
	out[n++] = '\n';
	return n;
}

/* Kernel file systems take a write as one command; others keep old text. */
static int mlk_attr_on_disk(int fd)
{
	struct statfs fs;

	if (fstatfs(fd, &fs))
		return 0;
	switch ((uint32_t)fs.f_type) {
	case 0x62656572u: /* sysfs */
	case 0x00009fa0u: /* proc */
	case 0x63677270u: /* cgroup2 */
	case 0x0027e0ebu: /* cgroup */
	case 0x64626720u: /* debugfs */
	case 0x74726163u: /* tracefs */
	case 0x62656570u: /* configfs */
	case 0x73636673u: /* securityfs */
		return 0;
	}
	return 1;
}

/*
 * The text that makes choice number value the chosen one. The kernel takes the
 * bare name; a plain file stands in for the kernel in a test tree, so there the
 * whole list is written as the kernel would show it.
 */
static size_t mlk_attr_format_choice(struct mlk_attrs *s,
				     const struct mlk_attr_field *f,
				     int64_t value, const char **text)
{
	const char *c = f->choices;
	uint32_t used = 0;
	uint32_t i;

	if (!f->plain) {
		while (value--)
			c += strlen(c) + 1;
		*text = c;
		return strlen(c);
	}
	*text = s->buf;
	for (i = 0; i < f->n_choices; i++) {
		uint32_t n = (uint32_t)strlen(c);

		if (used + n + 3 > s->cap)
			return 0;
		if (i == value)
			s->buf[used++] = '[';
		memcpy(s->buf + used, c, n);
		used += n;
		if (i == value)
			s->buf[used++] = ']';
		s->buf[used++] = i + 1 < f->n_choices ? ' ' : '\n';
		c += n + 1;
	}
	return used;
}

static int mlk_attr_open_write(struct mlk_attr_field *f, const char *path)
{
	struct stat st;

	if (f->wfd >= 0)
		return 0;
	if (stat(path, &st))
		return -errno;
	if (!S_ISREG(st.st_mode))
		return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	f->wfd = open(path, O_WRONLY | MLK_ATTR_O_FLAGS);
	if (f->wfd < 0)
		return -errno;
	f->plain = (uint8_t)mlk_attr_on_disk(f->wfd);
	return 0;
}

/* Writes and reads back. The caller has the lock. 0 or -errno. */
static int mlk_attrs_write(struct mlk_attrs *s, int64_t slot, int64_t value,
			   int64_t *now)
{
	struct mlk_attr_field *f;
	struct mlk_attr_file *file;
	char number[64];
	const char *text = number;
	uint32_t before;
	size_t n;
	ssize_t put;
	int reason;

	if (slot < 0 || slot >= s->n)
		return -EINVAL;
	f = &s->field[slot];
	if (f->kind != MLK_ATTR_WHOLE)
		return -EINVAL;
	if (s->closed || f->wfd < 0)
		return -EBADF;
	if (f->choices) {
		if (value < 0 || value >= f->n_choices)
			return -EINVAL;
		n = mlk_attr_format_choice(s, f, value, &text);
		if (!n)
			return -EFBIG;
	} else {
		n = mlk_attr_format(f, value, number);
	}
	do {
		put = pwrite(f->wfd, text, n, 0);
	} while (put < 0 && errno == EINTR);
	if (put < 0)
		return -errno;
	if ((size_t)put != n)
		return -EIO;
	if (f->plain && ftruncate(f->wfd, put))
		return -errno;
	file = &s->file[f->file];
	before = s->preads;
	mlk_attr_take_up(s, file);
	reason = mlk_attr_load(s, file);
	mlk_attr_put_down(s, file);
	s->preads = before;
	if (!reason)
		reason = mlk_attr_whole(s->buf, s->buf + s->len, f, now);
	if (!reason)
		return 0;
	return mlk_attr_reason_errno(reason) ? -mlk_attr_reason_errno(reason) :
					       -file->err;
}

/* ------------------------------------------------------------------- lock */

static void *mlk_attr_lock_new(void)
{
	pthread_mutex_t *lock = (pthread_mutex_t *)malloc(sizeof(*lock));

	if (lock && pthread_mutex_init(lock, NULL)) {
		free(lock);
		lock = NULL;
	}
	return lock;
}

static void mlk_attr_lock_free(void *lock)
{
	if (!lock)
		return;
	pthread_mutex_destroy((pthread_mutex_t *)lock);
	free(lock);
}

static inline void mlk_attr_lock(void *lock)
{
	pthread_mutex_lock((pthread_mutex_t *)lock);
}

static inline void mlk_attr_unlock(void *lock)
{
	pthread_mutex_unlock((pthread_mutex_t *)lock);
}

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC pop_options
#endif

#endif /* PYMLK_ATTR_PARSE_H */
