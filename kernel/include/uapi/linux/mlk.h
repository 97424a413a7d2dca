/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * mlk: what user space and the kernel exchange.
 *
 * Every struct has the same layout for 32-bit and 64-bit user space. What is
 * called reserved, and every bit that no flag names, must be zero when it is
 * handed in, and is zero when it is handed out.
 *
 * The dataset of a model is a ring of records in memory that user space maps
 * read-only, by /dev/mlk/MODEL or by the file "dataset" in sysfs: a page with
 * struct mlk_dataset, then its records. To read record number n:
 *
 *   1. wait until head >= n (acquire);
 *   2. slot = (n - 1) % records; seq = slot's seq (acquire);
 *   3. copy the record;
 *   4. fence, read slot's seq again.
 *
 * If both were n the copy is record n. Otherwise it has been overwritten by a
 * later one: continue with head - records + 1, what lies between is lost.
 *
 * 64-bit user space reads head, seq and discarded as a whole. 32-bit user space
 * reads their more significant half first, then the other one (both acquire);
 * 32-bit kernels write the halves the other way round. What it gets is right
 * or, for a moment every 2^32 records, 2^32 too little: a head that is not there
 * yet, which step 1 waits for; a seq never is n by mistake.
 */
#ifndef _UAPI_LINUX_MLK_H
#define _UAPI_LINUX_MLK_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define MLK_ABI_VERSION 1

#define MLK_NAME_BYTES 32 /* of a subsystem, model, feature or knob, with 0 */
#define MLK_MAX_FEATURES 64
#define MLK_MAX_KNOBS 8
#define MLK_MAX_CHOICES 64

/* Who decides; "mode" in sysfs has these words in lower case */
enum mlk_mode {
	MLK_EMERGENCY = 0, /* the default algorithm; no model is asked */
	MLK_LEARNING = 1, /* the default; what the model says is recorded */
	MLK_COLLABORATION = 2, /* a part of the decisions follows the model */
	MLK_RECOMMENDATION = 3, /* the model, but for a held out part */
};

/* What the proxy is doing; "state" in sysfs has these words in lower case */
enum mlk_state {
	MLK_CREATED = 0,
	MLK_INITIALIZED = 1,
	MLK_STARTED = 2, /* samples flow, the mode stays emergency */
	MLK_RUNNING = 3, /* other modes are possible */
	MLK_STOPPED = 4,
	MLK_DESTROYED = 5, /* the kernel's client is gone, calls give ENODEV */
};

/* Why the mode is what it is: number, name, word in "reason" */
#define MLK_WHYS(X) \
	X(0, NEW, "new") /* since the model was registered or initialised */ \
	X(1, REQUEST, "request") /* somebody asked for it */ \
	X(2, SCORE, "score") /* measured against the default */ \
	X(3, HEARTBEAT, "heartbeat") /* the owner missed its deadline */ \
	X(4, OWNER, "owner") /* the owner's descriptor was closed */ \
	X(5, SUSPEND, "suspend") /* the system went to sleep */ \
	X(6, PROGRAM, "program") /* a program was refused */ \
	X(7, GUARD, "guard") /* too many recommendations were refused */ \
	X(8, STOP, "stop") /* the model was stopped */ \
	X(9, CLIENT, "client") /* the kernel's client asked for emergency */

enum mlk_why {
#define MLK_WHY_ENUM(number, NAME, word) MLK_WHY_##NAME = (number),
	MLK_WHYS(MLK_WHY_ENUM)
#undef MLK_WHY_ENUM
};

/* What became of the model's answer to one decision: number, name, word */
#define MLK_VERDICTS(X) \
	X(0, GOOD, "good") /* as it was given */ \
	X(1, BOUNDED, "bounded") /* moved inside a knob's limits */ \
	X(2, STEPPED, "stepped") /* shortened to a knob's largest change */ \
	X(3, RATE, "rate") /* too soon: the knob keeps its last value */ \
	X(4, NONE, "none") /* there is no answer */ \
	X(5, STALE, "stale") /* the answer is too old */ \
	X(6, UNSURE, "unsure") /* less confident than asked for */

enum mlk_verdict {
#define MLK_VERDICT_ENUM(number, NAME, word) MLK_VERDICT_##NAME = (number),
	MLK_VERDICTS(MLK_VERDICT_ENUM)
#undef MLK_VERDICT_ENUM
};

/* Whose values a decision applied */
enum mlk_arm {
	MLK_ARM_NONE = 0, /* mlk was idle, nothing is recorded */
	MLK_ARM_DEFAULT = 1, /* the default's, although there was an answer */
	MLK_ARM_MODEL = 2, /* the model's */
	MLK_ARM_FALLBACK = 3, /* the default's, there was no usable answer */
};

/* Kinds of records in a dataset */
enum mlk_record_kind {
	MLK_SAMPLE = 1, /* value[i]: feature i */
	MLK_OUTCOME = 2, /* value[]: enum mlk_outcome */
};

/* Values of an outcome: what was decided and how good that was */
enum mlk_outcome {
	MLK_OUTCOME_SEQ = 0, /* of the sample that was decided on */
	MLK_OUTCOME_ARM = 1, /* enum mlk_arm */
	MLK_OUTCOME_VERDICT = 2, /* enum mlk_verdict */
	MLK_OUTCOME_SCORE = 3, /* the greater the better */
	MLK_OUTCOME_APPLIED = 4, /* n_knobs values */
	/* from MLK_OUTCOME_APPLIED + n_knobs: n_knobs values of the answer */
};

/**
 * struct mlk_record - one entry of a dataset
 * @seq: number of the record, from 1; 0 while it is being written
 * @time_ns: CLOCK_MONOTONIC
 * @kind: enum mlk_record_kind
 * @n: values in use; the others are left from older records
 * @value: as many as record_bytes has room for
 */
struct mlk_record {
	__u64 seq;
	__u64 time_ns;
	__u32 kind;
	__u32 n;
	__s64 value[];
};

#define MLK_DATASET_MAGIC 0x444b4c4dU /* "MLKD" */

/**
 * struct mlk_dataset - first page of a mapped dataset
 * @magic: MLK_DATASET_MAGIC
 * @version: MLK_ABI_VERSION
 * @header_bytes: size of this struct
 * @data: offset of the first record
 * @record_bytes: size of a record, a multiple of 8
 * @records: how many there are room for, a power of 2
 * @n_features: values of a sample
 * @n_knobs: values of a recommendation
 * @reserved: zero
 * @head: number of the newest complete record, 0 before the first
 * @discarded: records up to this number were discarded, see "control"
 */
struct mlk_dataset {
	__u32 magic;
	__u16 version;
	__u16 header_bytes;
	__u32 data;
	__u32 record_bytes;
	__u32 records;
	__u16 n_features;
	__u16 n_knobs;
	__u64 reserved;
	__u64 head;
	__u64 discarded;
};

/**
 * struct mlk_recommendation - what the owner writes to /dev/mlk/MODEL
 * @version: MLK_ABI_VERSION
 * @bytes: size of this struct
 * @confidence_permil: 0 to 1000
 * @seq: of the sample that it answers, or 0
 * @n_knobs: that of the model
 * @reserved: zero
 * @value: of each knob, inside its range and on its step; 0 behind @n_knobs
 *
 * A write takes any number of whole ones. It is the heartbeat, too. Errors:
 * EPERM not by the owner, EINVAL malformed, ERANGE a value that a knob cannot
 * have, EBUSY the model does not run, ENODEV it is gone.
 */
struct mlk_recommendation {
	__u16 version;
	__u16 bytes;
	__u32 confidence_permil;
	__u64 seq;
	__u32 n_knobs;
	__u32 reserved[3];
	__s64 value[MLK_MAX_KNOBS];
};

/**
 * struct mlk_info - answer of MLK_IOC_INFO
 * @version: MLK_ABI_VERSION
 * @bytes: size of this struct
 * @state: enum mlk_state
 * @mode: enum mlk_mode
 * @why: enum mlk_why of the last change of @mode
 * @n_features: values of a sample
 * @n_knobs: values of a recommendation
 * @record_bytes: size of a record
 * @records: records in the ring
 * @dataset_bytes: how many can be mapped
 * @deadline_ms: longest time between two heartbeats, 0 for any
 * @head: number of the newest record
 * @lost: records that this descriptor's read() did not get
 * @program_id: id of the loaded image, 0 without one
 * @program_swaps: images that were loaded so far
 * @owner: 1 if this descriptor is the owner
 * @reserved: zero
 * @subsystem: name
 * @model: name
 */
struct mlk_info {
	__u16 version;
	__u16 bytes;
	__u32 state;
	__u32 mode;
	__u32 why;
	__u32 n_features;
	__u32 n_knobs;
	__u32 record_bytes;
	__u32 records;
	__u32 dataset_bytes;
	__u32 deadline_ms;
	__u64 head;
	__u64 lost;
	__u64 program_id;
	__u64 program_swaps;
	__u32 owner;
	__u32 reserved[5];
	char subsystem[MLK_NAME_BYTES];
	char model[MLK_NAME_BYTES];
};

/**
 * struct mlk_wait - for MLK_IOC_WAIT
 * @seq: returns when there is a record with a greater number; poll() and read()
 *	of this descriptor go on behind it, too
 * @timeout_ns: at most so long, or ETIMEDOUT; negative: without limit
 * @head: set to the number of the newest record
 * @reserved: zero
 */
struct mlk_wait {
	__u64 seq;
	__s64 timeout_ns;
	__u64 head;
	__u64 reserved;
};

/**
 * struct mlk_load - for MLK_IOC_LOAD
 * @address: of a struct mlk_image and what belongs to it
 * @bytes: its total_bytes
 * @reserved: zero
 */
struct mlk_load {
	__u64 address;
	__u32 bytes;
	__u32 reserved[3];
};

#define MLK_IOC 0xBC

/* Any descriptor: what the model is and does */
#define MLK_IOC_INFO _IOR(MLK_IOC, 0, struct mlk_info)
/*
 * 1: become the owner, EBUSY if there is one; 0: stop to be it. EPERM if the
 * descriptor is not open for writing.
 */
#define MLK_IOC_OWNER _IOW(MLK_IOC, 1, __u32)
/* Owner: still alive */
#define MLK_IOC_HEARTBEAT _IO(MLK_IOC, 2)
/* Any descriptor: wait for a record */
#define MLK_IOC_WAIT _IOWR(MLK_IOC, 3, struct mlk_wait)
/* Owner: load an image, as a write to "program" does */
#define MLK_IOC_LOAD _IOW(MLK_IOC, 4, struct mlk_load)
/* Owner: set the mode (enum mlk_mode), as a write to "mode" does */
#define MLK_IOC_MODE _IOW(MLK_IOC, 5, __u32)

/*
 * What is written to "program": an image. It says how the model's features
 * become the int8 input row of an engine program, and how its int8 output row
 * becomes a value for each knob:
 *
 *   struct mlk_image
 *   struct mlk_scale  in[n_features]
 *   CHOICES: __s64    choice[n_choices][n_knobs]
 *   LINEAR:  struct mlk_scale out[n_knobs]
 *   zeros up to a multiple of 16, then the program
 *
 * The program has one int8 input of n_features elements and one int8 output of
 * n_choices (CHOICES) or n_knobs (LINEAR) elements, and no variables.
 */
#define MLK_IMAGE_MAGIC 0x494b4c4dU /* "MLKI" */

/* How outputs become values of knobs */
enum mlk_head {
	MLK_HEAD_RAW = 0, /* they do not: only the kernel's client runs it */
	MLK_HEAD_CHOICES = 1, /* the greatest output's (first one's) choice */
	MLK_HEAD_LINEAR = 2, /* output i scaled gives knob i */
};

/**
 * struct mlk_scale - a linear map between numbers and int8
 * @offset: in units of the feature or knob
 * @multiplier: 0 to 2^31 - 1
 * @shift: 0 to 62
 *
 * With scaled(x) = sign(x) * floor((|x| * multiplier + half) / 2^shift), half =
 * 2^shift / 2 rounded down: input q = clamp(zero_point + scaled(feature -
 * offset), -128, 127), knob = offset + scaled(q - zero_point), moved to the
 * nearest value that the knob can have. Zero points are those of the program's
 * tensors; sums and differences stop at the bounds of 64 bits. An |x| of n > 32
 * bits is first divided by 2^(n - 32), rounding down, and @shift is that much
 * less; if it is not as much, scaled(x) is 2^63 - 1 with the sign of x.
 */
struct mlk_scale {
	__s64 offset;
	__s32 multiplier;
	__u32 shift;
};

/**
 * struct mlk_image - first bytes of an image
 * @magic: MLK_IMAGE_MAGIC
 * @version: MLK_ABI_VERSION
 * @header_bytes: size of this struct
 * @total_bytes: size of the whole image
 * @program: offset of the program, a multiple of 16
 * @id: what the writer likes, given back by "program_id"
 * @n_features: that of the model; 0 if @head is RAW
 * @n_knobs: that of the model; 0 if @head is RAW
 * @head: enum mlk_head
 * @n_choices: 1 to MLK_MAX_CHOICES if @head is CHOICES, else 0
 * @reserved: zero
 *
 * The confidence of CHOICES is (greatest output + 128) * 1000 / 255 permil: a
 * probability if the program ends with a softmax. That of LINEAR is 1000.
 */
struct mlk_image {
	__u32 magic;
	__u16 version;
	__u16 header_bytes;
	__u32 total_bytes;
	__u32 program;
	__u64 id;
	__u32 n_features;
	__u32 n_knobs;
	__u32 head;
	__u32 n_choices;
	__u32 reserved[2];
};

#endif /* _UAPI_LINUX_MLK_H */
