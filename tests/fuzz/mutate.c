// SPDX-License-Identifier: MIT
/*
 * mutate FILE...		check each file as it is
 * mutate --every FILE...	check each file with every single byte replaced by
 *				all 255 other values and cut at every length, with
 *				and without the checksum made right again
 *
 * Prints how many programs ran and how many were refused; a sanitizer ends it.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int check_program(const uint8_t *data, size_t size, int patch);

static unsigned long ran, refused;

static void count(int rc)
{
	if (rc)
		refused++;
	else
		ran++;
}

static void every(uint8_t *data, size_t size)
{
	size_t at;
	int value;

	for (at = 0; at < size; at++) {
		uint8_t original = data[at];

		for (value = 0; value < 256; value++) {
			if (value == original)
				continue;
			data[at] = (uint8_t)value;
			count(check_program(data, size, 0));
			count(check_program(data, size, 1));
		}
		data[at] = original;
	}
	for (at = 0; at < size; at++)
		count(check_program(data, at, 1));
}

int main(int argc, char **argv)
{
	int all = argc > 1 && !strcmp(argv[1], "--every");
	int i;

	for (i = 1 + all; i < argc; i++) {
		static uint8_t data[1 << 20];
		FILE *file = fopen(argv[i], "rb");
		size_t size;

		if (!file) {
			perror(argv[i]);
			return 2;
		}
		size = fread(data, 1, sizeof(data), file);
		fclose(file);
		if (all)
			every(data, size);
		else
			count(check_program(data, size, 1));
	}
	printf("%lu ran, %lu refused\n", ran, refused);
	return 0;
}
