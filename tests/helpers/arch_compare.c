// SPDX-License-Identifier: MIT
/*
 * arch_compare SEED COUNT [PROGRAM.mlk...]
 *
 * Every inner loop that this processor can run against plain C, byte for byte:
 * COUNT random matrix products with parameters from all over what the verifier
 * allows, then whole programs with random inputs, as they are and with such
 * parameters. Prints the name of each loop that passed. Arrays end where a page begins that nobody may touch, so reading
 * or writing a byte too much is a signal; what lies between rows is compared.
 * Needs no more than a libc, so that it runs in other processors' emulators.
 */
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mlk_arch.h"

static u64 state;

static u32 rnd(void)
{
	/* xorshift64 */
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (u32)(state >> 32);
}

static u32 below(u32 n)
{
	return rnd() % n;
}

/* One of a few places for arrays, each behind the last one of its own page. */
static void *array(u32 which, size_t bytes)
{
	static u8 *rooms[10];
	const size_t size = 1 << 20;
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	if (!rooms[which]) {
		u8 *room = mmap(NULL, size + page, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (room == MAP_FAILED ||
		    mprotect(room + size, page, PROT_NONE))
			err(2, "mmap");
		rooms[which] = room;
	}
	if (bytes > size)
		errx(2, "an array of %zu bytes", bytes);
	return rooms[which] + size - bytes;
}

static s8 random_byte(u32 form)
{
	static const s8 extremes[] = { -128, -127, 127, 0, -1, 1 };

	return form ? (s8)rnd() : extremes[below(sizeof(extremes))];
}

static s32 random_word(void)
{
	static const u32 extremes[] = { 0,	    1,		0x7fffffff,
					0x80000000, 0x40000000, 0xffffffff };

	switch (below(4)) {
	case 0:
		return (s32)extremes[below(6)];
	case 1:
		return (s32)rnd();
	default:
		return (s32)rnd() >> below(32);
	}
}

static u32 random_size(void)
{
	static const u32 limits[] = { 5, 17, 40, 200 };

	return 1 + below(limits[below(4)]);
}

/* A product with random pieces, strides and sizes, still without its arrays. */
static struct mlk_product random_shape(void)
{
	u32 lo = below(256), hi = lo + below(256 - lo);
	u32 whole = below(2);
	struct mlk_product p = {
		.rows = 1 + below(10),
		.lines = whole ? 1 : 1 + below(3),
		.runs = whole ? 1 : 1 + below(3),
		.run = random_size(),
		.width = random_size(),
		.readable = below(2),
		.out_zero_point = (s32)below(256) - 128,
		.act_min = (s32)lo - 128,
		.act_max = (s32)hi - 128,
	};

	/* pieces may overlap, as a filter's positions do */
	p.run_stride = p.run + below(2) * below(9);
	p.line_stride = below(2 * p.run);
	p.in_stride = below(2 * p.run);
	p.depth = p.lines * p.runs * ((p.run + 3) / 4 * 4);
	p.out_stride = p.width + below(2) * below(20);
	if (below(3) == 0) {
		p.act_min = -128;
		p.act_max = 127;
	}
	if (below(4) == 0) {
		p.rows = 1;
		p.padded = 1;
		p.out_stride = (p.width + 15) / 16 * 16;
	}
	return p;
}

static struct mlk_product random_product(void)
{
	struct mlk_product p = random_shape();
	u32 padded = (p.width + 15) / 16 * 16;
	u32 steps = (p.run + 3) / 4;
	u32 all = p.lines * p.runs * steps;
	u32 form = below(3), narrow = below(2), i, k;
	s8 *packed = array(1, (size_t)padded * all * 4);
	s32 *bias = array(2, padded * 4);
	s32 *bias_unsigned = array(3, padded * 4);
	s32 *multiplier = array(4, padded * 4);
	s32 *shift = array(5, padded * 4);
	size_t in_bytes =
		(p.rows - 1) * p.in_stride + (p.lines - 1) * p.line_stride +
		(p.runs - 1) * p.run_stride + p.run + (p.readable ? 3 : 0);
	s8 *in = array(0, in_bytes);

	for (i = 0; i < in_bytes; i++)
		in[i] = random_byte(form);
	for (i = 0; i < padded; i++) {
		u32 sum = 0;

		for (k = 0; k < all * 4; k++) {
			/* block, step, output, input */
			size_t at = (size_t)(i / 16) * all * 64 + k / 4 * 64 +
				    i % 16 * 4 + k % 4;

			packed[at] = random_byte(form);
			/* weights behind a piece's last input are zeros */
			if (k % (steps * 4) >= p.run || i >= p.width)
				packed[at] = 0;
			sum += (u32)packed[at];
		}
		bias[i] = random_word();
		multiplier[i] = random_word() & 0x7fffffff;
		shift[i] = (s32)below(62) - 31;
		/* a scale with which outputs are not all the same */
		if (narrow) {
			bias[i] = (s32)((u32)bias[i] % 65536) - 32768;
			multiplier[i] |= 1 << 30;
			shift[i] = -(s32)below(12);
		}
		bias_unsigned[i] = (s32)((u32)bias[i] - 128 * sum);
	}
	p.in = in;
	p.packed = packed;
	p.bias = bias;
	p.bias_unsigned = bias_unsigned;
	p.multiplier = multiplier;
	p.shift = shift;
	return p;
}

static void compare_products(const struct mlk_simd *simd, u32 count)
{
	u32 i;

	for (i = 0; i < count; i++) {
		struct mlk_product p = random_product();
		u32 width = p.padded ? (u32)p.out_stride : p.width;
		size_t bytes = (p.rows - 1) * p.out_stride + width;
		s8 *want = array(6, bytes), *got = array(7, bytes);

		memset(want, 0x5a, bytes);
		memset(got, 0x5a, bytes);
		p.out = want;
		mlk_product_c(&p);
		p.out = got;
		simd->product(&p);
		/* what lies behind a padded row is nobody's */
		if (memcmp(want, got, p.padded ? p.width : bytes))
			errx(1,
			     "%s: product %u of %u rows, %u inputs, %u outputs",
			     simd->name, i, p.rows, p.depth, p.width);
	}
}

static void verify(const char *name, const struct mlk_header *h, size_t bytes)
{
	struct mlk_diag diag;

	if (mlk_program_verify(h, bytes, NULL, &diag))
		errx(2, "%s: %s", name, mlk_reason_text(diag.reason));
}

static void compare_program(const struct mlk_simd *simd, const char *name,
			    const struct mlk_header *h, u8 *want, u8 *got)
{
	const struct mlk_tensor *t;
	u32 i, j, run;

	mlk_program_reset(h, want);
	mlk_program_reset(h, got);
	for (run = 0; run < 4; run++) {
		for (i = 0; i < h->n_inputs; i++) {
			t = mlk_input_at(h, i);
			for (j = 0; j < t->bytes; j++)
				want[t->offset + j] = (u8)random_byte(run < 3);
			memcpy(got + t->offset, want + t->offset, t->bytes);
		}
		mlk_program_run(h, want);
		mlk_program_run_simd(h, got, simd);
		for (i = 0; i < h->n_outputs; i++) {
			t = mlk_output_at(h, i);
			if (memcmp(want + t->offset, got + t->offset, t->bytes))
				errx(1, "%s: %s", simd->name, name);
		}
	}
}

/* Scales, sums and offsets from all over what the verifier allows. */
static void make_hostile(struct mlk_header *h)
{
	u32 i, j;

	for (i = 0; i < h->n_ops; i++) {
		struct mlk_op *op = (struct mlk_op *)mlk_op_at(h, i);
		struct mlk_binary_params *b = &op->binary;
		/* the first parameter of each that has one */
		const struct mlk_weights *w = &op->conv.w;
		s32 *bias = (s32 *)((u8 *)h + w->bias);
		s32 *bias_unsigned = (s32 *)((u8 *)h + w->bias_unsigned);
		s32 *multiplier = (s32 *)((u8 *)h + w->multiplier);
		s32 *shift = (s32 *)((u8 *)h + w->shift);

		switch (op->opcode) {
		case MLK_OP_FULLY_CONNECTED:
		case MLK_OP_CONV_2D:
		case MLK_OP_DEPTHWISE_CONV:
			for (j = 0; j < (w->width + 15) / 16 * 16; j++) {
				u32 more = (u32)random_word();

				bias[j] = (s32)((u32)bias[j] + more);
				bias_unsigned[j] =
					(s32)((u32)bias_unsigned[j] + more);
				multiplier[j] = random_word() & 0x7fffffff;
				shift[j] = (s32)below(62) - 31;
			}
			break;
		case MLK_OP_BINARY:
			b->left_shift = below(21);
			b->offset1 = (s32)below(256) - 127;
			b->offset2 = (s32)below(256) - 127;
			b->multiplier1 = random_word() & 0x7fffffff;
			b->multiplier2 = random_word() & 0x7fffffff;
			b->multiplier = random_word() & 0x7fffffff;
			b->shift1 = (s32)below(62) - 31;
			b->shift2 = (s32)below(62) - 31;
			b->shift = (s32)below(62) - 31;
			break;
		}
	}
	h->checksum = mlk_program_checksum(h);
}

static void compare_file(const struct mlk_simd *simd, const char *name)
{
	const size_t size = 4 << 20;
	FILE *file = fopen(name, "rb");
	struct mlk_header *h = malloc(size);
	u8 *want, *got;
	u32 i;

	if (!file || !h)
		err(2, "%s", name);
	verify(name, h, fread(h, 1, size, file));
	fclose(file);
	want = array(8, h->arena_bytes);
	got = array(9, h->arena_bytes);
	compare_program(simd, name, h, want, got);
	/* what multiplies no weights is fast, and has few numbers to draw */
	for (i = 0; i < (h->macs ? 4 : 40); i++) {
		make_hostile(h);
		/* 16 bits have other limits: leave those programs alone */
		if (mlk_program_verify(h, h->total_bytes, NULL, NULL))
			break;
		compare_program(simd, name, h, want, got);
	}
	free(h);
}

int main(int argc, char **argv)
{
	u32 count = argc > 2 ? (u32)atoi(argv[2]) : 0;
	const struct mlk_simd *simd;
	const char *name;
	u32 i;
	int file;

	if (argc < 3)
		errx(2, "arch_compare SEED COUNT [PROGRAM.mlk...]");
	for (i = 0; (name = mlk_arch_name(i)); i++) {
		if (mlk_arch_find(name, &simd) || !simd)
			continue;
		state = strtoull(argv[1], NULL, 0) * 2 + 1;
		compare_products(simd, count);
		for (file = 3; file < argc; file++)
			compare_file(simd, argv[file]);
		puts(name);
	}
	return 0;
}
