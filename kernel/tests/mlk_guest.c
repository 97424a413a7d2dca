// SPDX-License-Identifier: GPL-2.0-only
/*
 * A client of mlk that does what the tests in a guest tell it: one line written
 * to /sys/kernel/debug/mlk_guest is one call or one loop of calls, its answer is
 * read from there. The write fails with the error of what was called.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/completion.h>
#include <linux/debugfs.h>
#include <linux/hrtimer.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/uaccess.h>
#include <linux/version.h>

#include <linux/mlk.h>

#define LINE_BYTES 1024
#define MAX_NUMBERS 80

static DEFINE_MUTEX(lock);
static struct dentry *file;
static char answer[LINE_BYTES];
static unsigned int answer_bytes;

static struct mlk_model *model;
static char model_name[MLK_NAME_BYTES];
static char names[MLK_MAX_FEATURES + MLK_MAX_KNOBS][8];
static struct mlk_feature features[MLK_MAX_FEATURES];
static struct mlk_knob knobs[MLK_MAX_KNOBS];
static struct mlk_desc desc;
static struct mlk_decision decision;

/* What the callbacks saw, and what they are to answer */
static struct {
	unsigned int init, start, stop, sample, advised, fallback;
	enum mlk_why why;
	int refuse;
} seen;
static DECLARE_COMPLETION(advised);

static int on_init(struct mlk_model *from)
{
	seen.init++;
	return seen.refuse;
}

static int on_start(struct mlk_model *from)
{
	seen.start++;
	return seen.refuse;
}

static void on_stop(struct mlk_model *from)
{
	seen.stop++;
}

static int on_sample(struct mlk_model *from)
{
	static s64 row[MLK_MAX_FEATURES];

	if (seen.refuse)
		return seen.refuse;
	row[0] = ++seen.sample;
	mlk_push(from, row);
	return 0;
}

static void on_advised(struct mlk_model *from)
{
	seen.advised++;
	complete(&advised);
}

static void on_fallback(struct mlk_model *from, enum mlk_why why)
{
	seen.fallback++;
	seen.why = why;
}

static const struct mlk_ops ops = {
	.init = on_init,
	.start = on_start,
	.stop = on_stop,
	.sample = on_sample,
	.advised = on_advised,
	.fallback = on_fallback,
};

__printf(1, 2) static void say(const char *format, ...)
{
	va_list list;

	va_start(list, format);
	answer_bytes += vscnprintf(answer + answer_bytes,
				   sizeof(answer) - answer_bytes, format, list);
	va_end(list);
}

/* The numbers of a line, for all commands */
static s64 number[MAX_NUMBERS];
static unsigned int numbers;

static s64 get(unsigned int i, s64 otherwise)
{
	return i < numbers ? number[i] : otherwise;
}

/* Rows that a reader can check: element i of row n is n * (i + 1) */
static void push_counted(u64 first, u64 count)
{
	s64 row[MLK_MAX_FEATURES];
	unsigned int i;
	u64 n;

	for (n = first; n < first + count; n++) {
		for (i = 0; i < desc.n_features; i++)
			row[i] = n * (i + 1);
		mlk_push(model, row);
	}
}

/* What features and knobs there can be: a model has the first ones of each */
static void describe(void)
{
	unsigned int i;

	for (i = 0; i < MLK_MAX_FEATURES; i++) {
		snprintf(names[i], sizeof(names[i]), "f%u", i);
		features[i] = (struct mlk_feature){
			.name = names[i],
			.unit = i ? "" : "ns",
			.kind = i % 3,
			.min = i % 3 == MLK_GAUGE ? -1000 : 0,
			.max = i % 3 == MLK_FLAG ? 1 : 1000000,
		};
	}
	for (i = 0; i < MLK_MAX_KNOBS; i++) {
		char *knob = names[MLK_MAX_FEATURES + i];

		snprintf(knob, sizeof(names[0]), "k%u", i);
		knobs[i] = (struct mlk_knob){
			.name = knob,
			.unit = i ? "" : "KiB",
			.min = i ? -100 : 4,
			.max = i ? 100 : 4096,
			.step = i ? 1 : 4,
			.def = i ? 0 : 128,
		};
	}
}

/* FEATURES KNOBS RECORDS MACS ARENA IMAGE */
static void fill(struct mlk_desc *d, const char *name)
{
	*d = (struct mlk_desc){
		.subsystem = "guest",
		.name = name,
		.features = features,
		.n_features = get(0, 4),
		.knobs = knobs,
		.n_knobs = get(1, 2),
		.records = get(2, 0),
		.max_macs = get(3, 0),
		.max_arena_bytes = get(4, 0),
		.max_image_bytes = get(5, 0),
		.ops = &ops,
	};
}

static int do_register(const char *name)
{
	struct mlk_model *new;

	if (model)
		return -EEXIST;
	strscpy(model_name, name, sizeof(model_name));
	fill(&desc, strlen(name) < sizeof(model_name) ? model_name : name);
	new = mlk_register(&desc);
	if (IS_ERR(new))
		return PTR_ERR(new);
	WRITE_ONCE(model, new);
	return 0;
}

static void do_unregister(void)
{
	if (model)
		mlk_unregister(model);
	model = NULL;
}

/* cycle NAME COUNT: register and unregister another model */
static int do_cycle(const char *name)
{
	struct mlk_desc other;
	struct mlk_model *new;
	s64 count = get(0, 1);

	numbers = 0;
	fill(&other, name);
	for (; count > 0; count--) {
		new = mlk_register(&other);
		if (IS_ERR(new))
			return PTR_ERR(new);
		mlk_unregister(new);
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	return 0;
}

/* crowd COUNT FEATURES KNOBS RECORDS: that many models, instead of those before */
static int do_crowd(void)
{
	static struct mlk_model *crowd[64];
	static char crowd_names[64][8];
	static struct mlk_desc other;
	u64 count = get(0, 0);
	unsigned int i;

	if (count > ARRAY_SIZE(crowd))
		return -EINVAL;
	for (i = 0; i < ARRAY_SIZE(crowd); i++) {
		mlk_unregister(crowd[i]);
		crowd[i] = NULL;
	}
	for (i = 1; i < numbers; i++)
		number[i - 1] = number[i];
	for (i = 0; i < count; i++) {
		snprintf(crowd_names[i], sizeof(crowd_names[i]), "m%u", i);
		fill(&other, crowd_names[i]);
		crowd[i] = mlk_register(&other);
		if (IS_ERR(crowd[i]))
			return PTR_ERR(crowd[i]);
	}
	return 0;
}

static void tell_decision(bool use)
{
	unsigned int i;

	say("%u %u %u %llu", use, decision.arm, decision.verdict, decision.seq);
	for (i = 0; i < desc.n_knobs; i++)
		say(" %lld", decision.arm ? decision.value[i] : 0);
	for (i = 0; i < desc.n_knobs; i++)
		say(" %lld", decision.arm ? decision.advice[i] : 0);
}

/* decide SEQ [FEATURES] */
static int do_decide(void)
{
	bool with = numbers == 1 + desc.n_features;

	tell_decision(mlk_decide(model, get(0, 0), with ? number + 1 : NULL,
				 &decision));
	return 0;
}

/* rounds COUNT DEFAULT MODEL: decide and report, each arm with its score */
static int do_rounds(void)
{
	struct mlk_decision each;
	unsigned int arms[4] = {};
	s64 count = get(0, 1);

	for (; count > 0; count--) {
		mlk_decide(model, 0, NULL, &each);
		arms[each.arm & 3]++;
		mlk_report(model, &each,
			   get(each.arm == MLK_ARM_MODEL ? 2 : 1, 0));
		cond_resched();
	}
	say("%u %u %u %u", arms[0], arms[1], arms[2], arms[3]);
	return 0;
}

/* infer BYTES_OUT IN... */
static int do_infer(void)
{
	s8 in[MAX_NUMBERS], out[MAX_NUMBERS] = {};
	unsigned int i, n_out = get(0, 0);
	int error;

	if (n_out > MAX_NUMBERS || !numbers)
		return -EINVAL;
	for (i = 1; i < numbers; i++)
		in[i - 1] = number[i];
	error = mlk_infer(model, in, numbers - 1, out, n_out);
	for (i = 0; i < n_out && !error; i++)
		say("%d ", out[i]);
	return error;
}

static void storm_here(void *info)
{
	push_counted(smp_processor_id() * 1000000ULL, get(0, 1));
}

/* ticks COUNT NS BURST: pushes from a timer's hard interrupt */
static struct {
	struct hrtimer timer;
	u64 next, left, burst;
	ktime_t period;
	struct completion done;
} ticks;

static enum hrtimer_restart on_tick(struct hrtimer *timer)
{
	push_counted(ticks.next, ticks.burst);
	ticks.next += ticks.burst;
	if (!--ticks.left) {
		complete(&ticks.done);
		return HRTIMER_NORESTART;
	}
	/* what was too late is pushed as well: the rate is what was asked for */
	hrtimer_add_expires(timer, ticks.period);
	return HRTIMER_RESTART;
}

static int do_ticks(void)
{
	u64 start;

	ticks.left = get(0, 1);
	ticks.period = ns_to_ktime(get(1, 1000000));
	ticks.burst = get(2, 1);
	ticks.next = 0;
	if (!ticks.left)
		return -EINVAL;
	init_completion(&ticks.done);
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
	hrtimer_init(&ticks.timer, CLOCK_MONOTONIC, HRTIMER_MODE_REL_HARD);
	ticks.timer.function = on_tick;
#else
	hrtimer_setup(&ticks.timer, on_tick, CLOCK_MONOTONIC,
		      HRTIMER_MODE_REL_HARD);
#endif
	start = ktime_get_ns();
	hrtimer_start(&ticks.timer, ticks.period, HRTIMER_MODE_REL_HARD);
	if (wait_for_completion_killable(&ticks.done))
		hrtimer_cancel(&ticks.timer);
	say("%llu", ktime_get_ns() - start);
	return 0;
}

/* pingpong COUNT: nanoseconds until the owner has answered that many samples */
static int do_pingpong(void)
{
	s64 count = get(0, 1);
	u64 start = ktime_get_ns();

	for (; count > 0; count--) {
		reinit_completion(&advised);
		push_counted(count, 1);
		if (wait_for_completion_killable(&advised))
			return -EINTR;
	}
	say("%llu", ktime_get_ns() - start);
	return 0;
}

/* Loops for figures: nanoseconds of COUNT turns, interrupts on */
#define TURNS(body) \
	({ \
		u64 turn, all = get(0, 1), start = ktime_get_ns(); \
		for (turn = 0; turn < all; turn++) { \
			body; \
			barrier(); \
		} \
		say("%llu", ktime_get_ns() - start); \
		0; \
	})

static int do_bench(const char *what)
{
	static s64 row[MLK_MAX_FEATURES];
	static s8 in[MLK_MAX_FEATURES], out[MLK_MAX_FEATURES];
	unsigned int n_out = get(1, 1), n_in = get(2, desc.n_features);
	struct mlk_decision each;

	if (!strcmp(what, "empty"))
		return TURNS(OPTIMIZER_HIDE_VAR(turn));
	if (!strcmp(what, "decide"))
		return TURNS(OPTIMIZER_HIDE_VAR(turn);
			     mlk_decide(model, 0, row, &each));
	if (!strcmp(what, "push"))
		return TURNS(row[0] = turn; mlk_push(model, row));
	if (n_out > MLK_MAX_FEATURES || n_in > MLK_MAX_FEATURES)
		return -EINVAL;
	if (!strcmp(what, "infer"))
		return TURNS(in[0] = turn;
			     mlk_infer(model, in, n_in, out, n_out));
	return -EINVAL;
}

static int run(const char *verb, const char *word)
{
	int error;

	if (!strcmp(verb, "register"))
		return do_register(word);
	if (!strcmp(verb, "cycle"))
		return do_cycle(word);
	if (!strcmp(verb, "crowd"))
		return do_crowd();
	if (!strcmp(verb, "calls")) {
		say("%u %u %u %u %u %u %u", seen.init, seen.start, seen.stop,
		    seen.sample, seen.advised, seen.fallback, seen.why);
		return 0;
	}
	if (!strcmp(verb, "refuse")) {
		seen.refuse = get(0, 0);
		return 0;
	}
	if (!model)
		return -ENOENT;
	if (!strcmp(verb, "unregister")) {
		do_unregister();
		return 0;
	}
	if (!strcmp(verb, "control"))
		return mlk_control(model, get(0, 0));
	if (!strcmp(verb, "emergency")) {
		mlk_emergency(model);
		return 0;
	}
	if (!strcmp(verb, "push")) {
		if (numbers != desc.n_features)
			return -EINVAL;
		say("%llu", mlk_push(model, number));
		return 0;
	}
	if (!strcmp(verb, "flood")) {
		push_counted(get(1, 0), get(0, 1));
		return 0;
	}
	if (!strcmp(verb, "storm")) {
		on_each_cpu(storm_here, NULL, 1);
		return 0;
	}
	if (!strcmp(verb, "ticks"))
		return do_ticks();
	if (!strcmp(verb, "decide"))
		return do_decide();
	if (!strcmp(verb, "report")) {
		mlk_report(model, &decision, get(0, 0));
		return 0;
	}
	if (!strcmp(verb, "shadow")) {
		mlk_report_shadow(model, &decision, get(0, 0));
		return 0;
	}
	if (!strcmp(verb, "rounds"))
		return do_rounds();
	if (!strcmp(verb, "infer"))
		return do_infer();
	if (!strcmp(verb, "pingpong"))
		return do_pingpong();
	error = do_bench(word);
	return strcmp(verb, "bench") ? -EINVAL : error;
}

/* VERB [NAME] [NUMBER...] */
static int parse_and_run(char *line)
{
	char *verb = strsep(&line, "\n "), *word = "", *token;
	int error;

	numbers = 0;
	answer_bytes = 0;
	while ((token = strsep(&line, "\n "))) {
		if (!*token)
			continue;
		if (numbers == MAX_NUMBERS)
			return -E2BIG;
		if (!numbers && !*word && !strchr("-0123456789", *token)) {
			word = token;
			continue;
		}
		error = kstrtos64(token, 0, &number[numbers++]);
		if (error)
			return error;
	}
	return run(verb, word);
}

static ssize_t command_write(struct file *f, const char __user *from, size_t n,
			     loff_t *at)
{
	char *line;
	int error;

	if (n >= LINE_BYTES)
		return -E2BIG;
	line = memdup_user_nul(from, n);
	if (IS_ERR(line))
		return PTR_ERR(line);
	error = mutex_lock_killable(&lock);
	if (!error) {
		error = parse_and_run(line);
		mutex_unlock(&lock);
	}
	kfree(line);
	return error ?: n;
}

static ssize_t command_read(struct file *f, char __user *to, size_t n,
			    loff_t *at)
{
	ssize_t got;

	mutex_lock(&lock);
	got = simple_read_from_buffer(to, n, at, answer, answer_bytes);
	mutex_unlock(&lock);
	return got;
}

static const struct file_operations command_fops = {
	.owner = THIS_MODULE,
	.read = command_read,
	.write = command_write,
	.llseek = default_llseek,
};

static int __init mlk_guest_init(void)
{
	describe();
	file = debugfs_create_file("mlk_guest", 0600, NULL, NULL,
				   &command_fops);
	return PTR_ERR_OR_ZERO(file);
}

static void __exit mlk_guest_exit(void)
{
	debugfs_remove(file);
	do_unregister();
}

module_init(mlk_guest_init);
module_exit(mlk_guest_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("mlk client that tests command");
