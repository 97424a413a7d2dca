/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * mlk: models that advise kernel subsystems. The API for clients.
 *
 * A client describes its features (what a decision depends on) and its knobs
 * (what a decision sets), registers, and then for each operation:
 *
 *	seq = mlk_push(model, features);
 *	if (mlk_decide(model, seq, features, &decision))
 *		... use decision.value[] ...
 *	else
 *		... do what would be done without mlk ...
 *	mlk_report(model, &decision, score);
 *
 * Whether the model is asked, and whether its answer is used, is decided by the
 * mode, the guard and the score; none of that concerns the client. mlk never
 * waits for user space.
 */
#ifndef _LINUX_MLK_H
#define _LINUX_MLK_H

#include <linux/jump_label.h>
#include <linux/types.h>
#include <uapi/linux/mlk.h>

struct mlk_model;

/* What the numbers of a feature are */
enum mlk_feature_kind {
	MLK_GAUGE, /* a value as it is now */
	MLK_COUNTER, /* only grows, may wrap */
	MLK_FLAG, /* 0 or 1 */
};

/**
 * struct mlk_feature - one number that a decision depends on
 * @name: file name in sysfs, unique in the model
 * @unit: "ns", "bytes" and so on; "" if it has none
 * @kind: enum mlk_feature_kind
 * @min: least value
 * @max: greatest value
 *
 * The range informs user space; samples outside of it are passed on.
 */
struct mlk_feature {
	const char *name;
	const char *unit;
	enum mlk_feature_kind kind;
	s64 min;
	s64 max;
};

/**
 * struct mlk_knob - one number that a decision sets
 * @name: file name in sysfs, unique in the model
 * @unit: as for a feature
 * @min: least value
 * @max: greatest value, @min + a multiple of @step
 * @step: from one possible value to the next, at least 1
 * @def: what the default algorithm uses, a possible value
 */
struct mlk_knob {
	const char *name;
	const char *unit;
	s64 min;
	s64 max;
	s64 step;
	s64 def;
};

/**
 * struct mlk_ops - what a client is told; each may be NULL
 * @init: the model becomes initialized, for the first time or anew
 * @start: from now on samples are wanted
 * @stop: samples are not wanted any more; only after @start
 * @sample: push one sample now
 * @advised: the owner has written a new recommendation
 * @fallback: the mode became emergency, for the reason that enum mlk_why says:
 *	set what lasts longer than one operation back to its default
 *
 * Context: all in process context and never two of one model at a time; they
 * may sleep and may call mlk_push(), mlk_decide(), mlk_report(), mlk_infer(),
 * mlk_emergency() and mlk_data(), but no other function of mlk. A negative
 * return of @init or @start refuses the change of state. They may be called
 * before mlk_register() has returned, and are not any more when
 * mlk_unregister() has.
 */
struct mlk_ops {
	int (*init)(struct mlk_model *model);
	int (*start)(struct mlk_model *model);
	void (*stop)(struct mlk_model *model);
	int (*sample)(struct mlk_model *model);
	void (*advised)(struct mlk_model *model);
	void (*fallback)(struct mlk_model *model, enum mlk_why why);
};

/**
 * struct mlk_desc - description of a model, must stay until mlk_unregister()
 * @subsystem: name of the folder below /sys/kernel/mlk
 * @name: of the model, unique in the system: /dev/mlk/NAME
 * @features: in the order of the rows
 * @n_features: 1 to MLK_MAX_FEATURES
 * @knobs: in the order of the values
 * @n_knobs: 0 to MLK_MAX_KNOBS
 * @ops: callbacks, or NULL
 * @data: what mlk_data() returns
 * @records: records in the dataset's ring, a power of 2; 0 for 1024
 * @max_macs: multiply-accumulates of one inference that the client can afford;
 *	0 for 65536
 * @max_arena_bytes: memory of one inference for each CPU; 0 for 16 KiB
 * @max_image_bytes: largest image; 0 for 256 KiB
 *
 * Interrupts are off during an inference, so @max_macs is also a latency.
 */
struct mlk_desc {
	const char *subsystem;
	const char *name;
	const struct mlk_feature *features;
	unsigned int n_features;
	const struct mlk_knob *knobs;
	unsigned int n_knobs;
	const struct mlk_ops *ops;
	void *data;
	u32 records;
	u32 max_macs;
	u32 max_arena_bytes;
	u32 max_image_bytes;
};

/**
 * struct mlk_decision - what to do for one operation
 * @value: of each knob; undefined if @arm is MLK_ARM_NONE
 * @advice: the model's answer after the guard; the defaults if there is none
 * @seq: of the sample that was decided on
 * @generation: of the score that it counts for
 * @arm: enum mlk_arm
 * @verdict: enum mlk_verdict
 *
 * The client keeps it until the operation's effect is known.
 */
struct mlk_decision {
	s64 value[MLK_MAX_KNOBS];
	s64 advice[MLK_MAX_KNOBS];
	u64 seq;
	u32 generation;
	u8 arm;
	u8 verdict;
};

/* Changes of state that may be asked for, see mlk_control() */
enum mlk_command {
	MLK_CMD_INIT, /* created or stopped -> initialized */
	MLK_CMD_START, /* initialized -> started */
	MLK_CMD_RUN, /* started -> running */
	MLK_CMD_STOP, /* initialized, started or running -> stopped */
	MLK_CMD_SAMPLE, /* started or running: call the client's sample() */
	MLK_CMD_DISCARD, /* any: forget the records in the dataset */
};

/* private: */
extern struct static_key_false mlk_engaged;
bool __mlk_decide(struct mlk_model *model, u64 seq, const s64 *features,
		  struct mlk_decision *decision);
void __mlk_report(struct mlk_model *model, const struct mlk_decision *decision,
		  s64 score);
/* public: */

struct mlk_model *mlk_register(const struct mlk_desc *desc);
void mlk_unregister(struct mlk_model *model);
void *mlk_data(struct mlk_model *model);
int mlk_control(struct mlk_model *model, enum mlk_command command);
void mlk_emergency(struct mlk_model *model);
u64 mlk_push(struct mlk_model *model, const s64 *features);
int mlk_infer(struct mlk_model *model, const s8 *in, size_t n_in, s8 *out,
	      size_t n_out);
void mlk_report_shadow(struct mlk_model *model,
		       const struct mlk_decision *decision, s64 score);

/**
 * mlk_decide - what to do for one operation
 * @model: the model
 * @seq: of the sample that describes the operation, from mlk_push(), or 0
 * @features: the same sample, for a program in the kernel, or NULL
 * @decision: filled in, also if the default is to be used
 *
 * Costs a jump that is patched away while every model is in emergency mode.
 *
 * Context: any but NMI. Takes the model's spinlock, and runs an inference with
 * interrupts off if a program is loaded.
 * Return: true if @decision's values are the model's and to be used; false if
 * the client's default is to be used.
 */
static inline bool mlk_decide(struct mlk_model *model, u64 seq,
			      const s64 *features,
			      struct mlk_decision *decision)
{
	decision->arm = MLK_ARM_NONE;
	return static_branch_unlikely(&mlk_engaged) &&
	       __mlk_decide(model, seq, features, decision);
}

/**
 * mlk_report - how good it was what was decided
 * @model: the model
 * @decision: from mlk_decide()
 * @score: measured effect; the greater the better
 *
 * Counts for the score of model or default, becomes an outcome in the dataset,
 * and may change the mode. Call it once for a decision, or never.
 *
 * Context: any but NMI.
 */
static inline void mlk_report(struct mlk_model *model,
			      const struct mlk_decision *decision, s64 score)
{
	if (decision->arm != MLK_ARM_NONE)
		__mlk_report(model, decision, score);
}

#endif /* _LINUX_MLK_H */
