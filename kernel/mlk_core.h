/* SPDX-License-Identifier: GPL-2.0-only */
/* What the files of mlk.ko share. Locks: see mlk_core.c. */
#ifndef MLK_CORE_H
#define MLK_CORE_H

#include <linux/irq_work.h>
#include <linux/kobject.h>
#include <linux/miscdevice.h>
#include <linux/mlk.h>
#include <linux/mutex.h>
#include <linux/prandom.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "mlk_ring.h"

struct mlk_engine;
struct mlk_folder;
struct mlk_reader;
struct mlk_sysfs;

/* Options: name, least, most, default. All are described in abi/. */
#define MLK_OPTIONS(X) \
	X(collaboration_permil, 0, 1000, 500) \
	X(holdout_permil, 0, 1000, 50) \
	X(min_samples, 1, 1 << 20, 100) \
	X(auto_promote, 0, 1, 0) \
	X(promote_permil, -1000, 1000, 20) \
	X(demote_permil, -1000, 1000, -20) \
	X(fail_permil, -1000, 1000, -100) \
	X(deadline_ms, 0, 3600000, 1000) \
	X(max_age_ms, 0, 3600000, 0) \
	X(min_confidence_permil, 0, 1000, 0) \
	X(max_refused, 1, 1 << 20, 8)

struct mlk_options {
#define MLK_OPTION_MEMBER(name, least, most, def) s32 name;
	MLK_OPTIONS(MLK_OPTION_MEMBER)
#undef MLK_OPTION_MEMBER
};

/* Counters, described in abi/, too */
#define MLK_STATS(X) \
	X(lost) \
	X(decisions) \
	X(followed) \
	X(held_out) \
	X(none) \
	X(stale) \
	X(unsure) \
	X(bounded) \
	X(stepped) \
	X(rate) \
	X(reports) \
	X(inferences) \
	X(recommendations) \
	X(refused) \
	X(heartbeats) \
	X(missed) \
	X(programs) \
	X(bad_programs) \
	X(mode_changes)

#define MLK_BUCKETS 32

struct mlk_stats {
#define MLK_STAT_MEMBER(name) u64 name;
	MLK_STATS(MLK_STAT_MEMBER)
#undef MLK_STAT_MEMBER
	u32 answer_latency[MLK_BUCKETS];
	u32 decision_latency[MLK_BUCKETS];
};

/**
 * struct mlk_answer - what the model says
 * @value: of each knob, a possible one
 * @confidence_permil: 0 to 1000
 * @time_ns: when it said so; 0: it says nothing
 */
struct mlk_answer {
	s64 value[MLK_MAX_KNOBS];
	u32 confidence_permil;
	u64 time_ns;
};

/**
 * struct mlk_limit - what the guard keeps of one knob
 * @low: least value for the model
 * @high: greatest value for the model
 * @change: largest change from one followed answer to the next, or 0
 * @interval_ms: shortest time between two changes, or 0
 * @applied: value of the last decision
 * @last: value of the last decision that followed the model
 * @changed_ns: when @last changed, or 0
 */
struct mlk_limit {
	s64 low;
	s64 high;
	s64 change;
	u32 interval_ms;
	s64 applied;
	s64 last;
	u64 changed_ns;
};

/* Scores of one side since the last comparison */
struct mlk_sum {
	u32 n;
	s64 sum;
};

/**
 * struct mlk_score - model against default
 * @generation: counts comparisons that were started anew
 * @model: scores of the model
 * @def: scores of the default
 * @model_mean: of the last comparison
 * @default_mean: of the last comparison
 * @gain_permil: of the last comparison
 * @comparisons: how many there were
 */
struct mlk_score {
	u32 generation;
	struct mlk_sum model;
	struct mlk_sum def;
	s64 model_mean;
	s64 default_mean;
	s64 gain_permil;
	u64 comparisons;
};

/**
 * struct mlk_model - a proxy
 * @desc: the client's description; not to be touched once destroyed
 * @subsystem: name of its folder
 * @name: its own
 * @list: in the registry
 * @folder: /sys/kernel/mlk/SUBSYSTEM
 * @kobj: /sys/kernel/mlk/SUBSYSTEM/MODEL, and what keeps this memory
 * @sysfs: files that depend on the description
 * @misc: /dev/mlk/MODEL
 * @misc_name: its name
 * @ring: the dataset
 * @wait: who waits for records
 * @irq_work: does what mlk_kick() may not do where it is called
 * @work: does what a change of mode entails
 * @deadline: looks after the owner's heartbeat
 * @engine: the program that is loaded; read under RCU, replaced under @mutex
 * @mutex: serialises all that may sleep
 * @engaged: @mutex: counted in mlk_engaged
 * @program_text: @mutex: why the last image was refused
 * @program_op: @mutex: which operator was to blame, or -1
 * @program_id: @mutex: id of the image
 * @program_swaps: @mutex: how many were loaded
 * @staging: @mutex: an image that is being written by sysfs
 * @staging_file: @mutex: by whom
 * @staging_bytes: @mutex: how much of it is there
 * @owner_pid: @mutex: of the owner
 * @lock: guards the rest; raw, since decisions are made in any context
 * @state: enum mlk_state; changed under both locks
 * @mode: enum mlk_mode
 * @why: enum mlk_why
 * @unsettled: the mode changed, mlk_mode_settle() has not been there yet
 * @fell: it became emergency in the meantime
 * @owner: who may write recommendations; changed under both locks
 * @beat_ns: its last heartbeat
 * @refused_row: refused recommendations since the last accepted one
 * @options: as set
 * @advice: the owner's last recommendation
 * @score: model against default
 * @stats: counters
 * @random: who follows the model
 * @limit: of each knob
 */
struct mlk_model {
	struct mlk_desc desc;
	char subsystem[MLK_NAME_BYTES];
	char name[MLK_NAME_BYTES];
	struct list_head list;
	struct mlk_folder *folder;
	struct kobject kobj;
	struct mlk_sysfs *sysfs;
	struct miscdevice misc;
	char misc_name[MLK_NAME_BYTES + 4];
	struct mlk_ring ring;
	wait_queue_head_t wait;
	struct irq_work irq_work;
	struct work_struct work;
	struct delayed_work deadline;
	struct mlk_engine __rcu *engine;

	struct mutex mutex; /* see mlk_core.c */
	bool engaged;
	const char *program_text;
	s32 program_op;
	u64 program_id;
	u64 program_swaps;
	void *staging;
	struct file *staging_file;
	u32 staging_bytes;
	pid_t owner_pid;

	raw_spinlock_t lock; /* see mlk_core.c */
	u8 state;
	u8 mode;
	u8 why;
	bool unsettled;
	bool fell;
	struct mlk_reader *owner;
	u64 beat_ns;
	u32 refused_row;
	struct mlk_options options;
	struct mlk_answer advice;
	struct mlk_score score;
	struct mlk_stats stats;
	struct rnd_state random;
	struct mlk_limit limit[];
};

extern struct workqueue_struct *mlk_wq;

/* mlk_core.c */
void mlk_kick(struct mlk_model *model);
void mlk_model_release(struct kobject *kobj);

/* mlk_state.c */
extern const char *const mlk_state_words[];
int mlk_state_change(struct mlk_model *model, enum mlk_command command);
void mlk_state_destroy(struct mlk_model *model);

/* mlk_mode.c */
extern const char *const mlk_mode_words[];
extern const char *const mlk_why_words[];
void mlk_mode_init(struct mlk_model *model);
void mlk_mode_set(struct mlk_model *model, enum mlk_mode mode,
		  enum mlk_why why);
int mlk_mode_request(struct mlk_model *model, enum mlk_mode mode);
void mlk_mode_fail(struct mlk_model *model, enum mlk_why why);
void mlk_mode_settle(struct mlk_model *model);

/* mlk_owner.c */
void mlk_owner_init(struct mlk_model *model);
int mlk_owner_set(struct mlk_model *model, struct mlk_reader *reader);
void mlk_owner_drop(struct mlk_model *model, struct mlk_reader *reader);
int mlk_owner_beat(struct mlk_model *model, struct mlk_reader *reader);
bool mlk_owner_late(struct mlk_model *model, u64 now);
void mlk_owner_watch(struct mlk_model *model);
int mlk_owner_recommend(struct mlk_model *model, struct mlk_reader *reader,
			const struct mlk_recommendation *r);

/* mlk_guard.c */
void mlk_guard_init(struct mlk_model *model);
void mlk_guard_reset(struct mlk_model *model);
bool mlk_knob_can(const struct mlk_knob *knob, s64 value);
s64 mlk_knob_nearest(const struct mlk_knob *knob, s64 value);
enum mlk_verdict mlk_guard_judge(struct mlk_model *model,
				 const struct mlk_answer *answer, u64 now,
				 s64 *values);
void mlk_guard_follow(struct mlk_model *model, const s64 *values, u64 now);

/* mlk_score.c */
void mlk_score_restart(struct mlk_model *model);
void mlk_score_add(struct mlk_model *model, struct mlk_sum *sum, s64 score);

/* mlk_decide.c */
void mlk_stats_time(u32 *buckets, u64 since, u64 now);

/* mlk_image.c */
int mlk_image_load(struct mlk_model *model, void *image, u32 bytes);
ssize_t mlk_image_write(struct mlk_model *model, struct file *file,
			const char *buf, loff_t at, size_t n);
ssize_t mlk_image_read(struct mlk_model *model, char *buf, loff_t at, size_t n);
bool mlk_image_answer(struct mlk_model *model, const s64 *features,
		      struct mlk_answer *answer);
void mlk_image_unload(struct mlk_model *model);

/* mlk_builtin.c */
#ifdef MLK_IMAGES
void mlk_builtin_load(struct mlk_model *model);
#else
static inline void mlk_builtin_load(struct mlk_model *model)
{
}
#endif

/* mlk_sysfs.c */
extern const struct kobj_type mlk_model_ktype;
int mlk_sysfs_add(struct mlk_model *model);
void mlk_sysfs_free(struct mlk_model *model);

/* mlk_dev.c */
int mlk_dev_add(struct mlk_model *model);
void mlk_dev_del(struct mlk_model *model);

/* For knobs and options: the model is there and its lock is held. */
static inline const struct mlk_knob *mlk_knob_at(const struct mlk_model *model,
						 u32 i)
{
	return &model->desc.knobs[i];
}

static inline bool mlk_dead(const struct mlk_model *model)
{
	return READ_ONCE(model->state) == MLK_DESTROYED;
}

#endif /* MLK_CORE_H */
