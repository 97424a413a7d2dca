// SPDX-License-Identifier: MIT
/*
 * Talks to /dev/mlk/MODEL as a 32-bit program, without a C library: 32-bit
 * headers and libraries are rarely there. An image comes by standard input;
 * what the kernel answered goes to standard output; the status is the step
 * that failed, or 0.
 */
#include <linux/mlk.h>

#define SYS_EXIT 1
#define SYS_READ 3
#define SYS_WRITE 4
#define SYS_OPEN 5
#define SYS_IOCTL 54
#define SYS_MMAP2 192

static long call(long number, long a, long b, long c, long d, long e)
{
	long result;

	__asm__ volatile("pushl %%ebp; xorl %%ebp, %%ebp; int $0x80; popl %%ebp"
			 : "=a"(result)
			 : "0"(number), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e)
			 : "memory");
	return result;
}

static int control(int device, unsigned long request, void *argument)
{
	return call(SYS_IOCTL, device, request, (long)argument, 0, 0);
}

static int tell(const void *data, int bytes)
{
	return call(SYS_WRITE, 1, (long)data, bytes, 0, 0) != bytes;
}

static struct mlk_info info;
static struct mlk_wait waiting = { .seq = 2, .timeout_ns = 1000000000 };
static struct mlk_recommendation advice = {
	.version = MLK_ABI_VERSION,
	.bytes = sizeof(advice),
	.confidence_permil = 1000,
	.n_knobs = 2,
	.value = { 256, 1 },
};
static struct mlk_load load;
static char image[65536];

static int run(const char *path)
{
	__u32 yes = 1, mode = MLK_LEARNING;
	int device = call(SYS_OPEN, (long)path, 2, 0, 0, 0);
	long bytes, got, map;

	if (device < 0)
		return 1;
	if (control(device, MLK_IOC_INFO, &info) || tell(&info, sizeof(info)))
		return 2;
	if (control(device, MLK_IOC_WAIT, &waiting) ||
	    tell(&waiting, sizeof(waiting)))
		return 3;
	if (control(device, MLK_IOC_OWNER, &yes))
		return 4;
	if (control(device, MLK_IOC_HEARTBEAT, 0))
		return 5;
	for (bytes = 0; bytes < (long)sizeof(image); bytes += got) {
		got = call(SYS_READ, 0, (long)(image + bytes),
			   sizeof(image) - bytes, 0, 0);
		if (got <= 0)
			break;
	}
	load.address = (unsigned long)image;
	load.bytes = bytes;
	if (control(device, MLK_IOC_LOAD, &load))
		return 6;
	/* it is only started */
	if (control(device, MLK_IOC_MODE, &mode) != -16)
		return 7;
	map = call(SYS_MMAP2, 0, info.dataset_bytes, 1, 1, device);
	if (map < 0 && map > -4096)
		return 8;
	if (tell((void *)map, sizeof(struct mlk_dataset)))
		return 9;
	/* not running yet: refused as a whole, whatever is in it */
	if (call(SYS_WRITE, device, (long)&advice, sizeof(advice), 0, 0) != -16)
		return 10;
	return 0;
}

__attribute__((used)) void start(const long *stack)
{
	call(SYS_EXIT, run((const char *)stack[2]), 0, 0, 0, 0);
}

__asm__(".globl _start\n_start: movl %esp, %eax\nandl $-16, %esp\n"
	"subl $12, %esp\npushl %eax\ncall start\n");
