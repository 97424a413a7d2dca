/* SPDX-License-Identifier: GPL-2.0-only */
/* Tracepoints: events/mlk in tracefs. */
/* clang-format off */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM mlk

#if !defined(MLK_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define MLK_TRACE_H

#include <linux/mlk.h>
#include <linux/string.h>
#include <linux/tracepoint.h>

#ifndef MLK_TRACE_WORDS
#define MLK_TRACE_WORDS
#define mlk_trace_mode(mode) \
	__print_symbolic(mode, { MLK_EMERGENCY, "emergency" }, \
			 { MLK_LEARNING, "learning" }, \
			 { MLK_COLLABORATION, "collaboration" }, \
			 { MLK_RECOMMENDATION, "recommendation" })
#define mlk_trace_state(state) \
	__print_symbolic(state, { MLK_CREATED, "created" }, \
			 { MLK_INITIALIZED, "initialized" }, \
			 { MLK_STARTED, "started" }, \
			 { MLK_RUNNING, "running" }, \
			 { MLK_STOPPED, "stopped" }, \
			 { MLK_DESTROYED, "destroyed" })
#define mlk_trace_arm(arm) \
	__print_symbolic(arm, { MLK_ARM_DEFAULT, "default" }, \
			 { MLK_ARM_MODEL, "model" }, \
			 { MLK_ARM_FALLBACK, "fallback" })
#endif

TRACE_EVENT(mlk_state,
	TP_PROTO(const char *model, u8 from, u8 to),
	TP_ARGS(model, from, to),
	TP_STRUCT__entry(
		__array(char, model, MLK_NAME_BYTES)
		__field(u8, from)
		__field(u8, to)
	),
	TP_fast_assign(
		memcpy(__entry->model, model, MLK_NAME_BYTES);
		__entry->from = from;
		__entry->to = to;
	),
	TP_printk("%s: %s -> %s", __entry->model,
		  mlk_trace_state(__entry->from), mlk_trace_state(__entry->to))
);

TRACE_EVENT(mlk_mode,
	TP_PROTO(const char *model, u8 from, u8 to, u8 why),
	TP_ARGS(model, from, to, why),
	TP_STRUCT__entry(
		__array(char, model, MLK_NAME_BYTES)
		__field(u8, from)
		__field(u8, to)
		__field(u8, why)
	),
	TP_fast_assign(
		memcpy(__entry->model, model, MLK_NAME_BYTES);
		__entry->from = from;
		__entry->to = to;
		__entry->why = why;
	),
	TP_printk("%s: %s -> %s reason=%u", __entry->model,
		  mlk_trace_mode(__entry->from), mlk_trace_mode(__entry->to),
		  __entry->why)
);

TRACE_EVENT(mlk_decision,
	TP_PROTO(const char *model, const struct mlk_decision *decision),
	TP_ARGS(model, decision),
	TP_STRUCT__entry(
		__array(char, model, MLK_NAME_BYTES)
		__field(u64, seq)
		__field(u8, arm)
		__field(u8, verdict)
		__field(s64, value)
		__field(s64, advice)
	),
	TP_fast_assign(
		memcpy(__entry->model, model, MLK_NAME_BYTES);
		__entry->seq = decision->seq;
		__entry->arm = decision->arm;
		__entry->verdict = decision->verdict;
		__entry->value = decision->value[0];
		__entry->advice = decision->advice[0];
	),
	TP_printk("%s: seq=%llu %s verdict=%u value=%lld advice=%lld",
		  __entry->model, __entry->seq, mlk_trace_arm(__entry->arm),
		  __entry->verdict, __entry->value, __entry->advice)
);

TRACE_EVENT(mlk_score,
	TP_PROTO(const char *model, s64 model_mean, s64 default_mean,
		 s64 gain_permil),
	TP_ARGS(model, model_mean, default_mean, gain_permil),
	TP_STRUCT__entry(
		__array(char, model, MLK_NAME_BYTES)
		__field(s64, model_mean)
		__field(s64, default_mean)
		__field(s64, gain_permil)
	),
	TP_fast_assign(
		memcpy(__entry->model, model, MLK_NAME_BYTES);
		__entry->model_mean = model_mean;
		__entry->default_mean = default_mean;
		__entry->gain_permil = gain_permil;
	),
	TP_printk("%s: model=%lld default=%lld gain=%lld permil",
		  __entry->model, __entry->model_mean, __entry->default_mean,
		  __entry->gain_permil)
);

TRACE_EVENT(mlk_recommendation,
	TP_PROTO(const char *model, u64 seq, s64 value, int err),
	TP_ARGS(model, seq, value, err),
	TP_STRUCT__entry(
		__array(char, model, MLK_NAME_BYTES)
		__field(u64, seq)
		__field(s64, value)
		__field(int, err)
	),
	TP_fast_assign(
		memcpy(__entry->model, model, MLK_NAME_BYTES);
		__entry->seq = seq;
		__entry->value = value;
		__entry->err = err;
	),
	TP_printk("%s: seq=%llu value=%lld err=%d", __entry->model,
		  __entry->seq, __entry->value, __entry->err)
);

TRACE_EVENT(mlk_program,
	TP_PROTO(const char *model, u64 id, int err),
	TP_ARGS(model, id, err),
	TP_STRUCT__entry(
		__array(char, model, MLK_NAME_BYTES)
		__field(u64, id)
		__field(int, err)
	),
	TP_fast_assign(
		memcpy(__entry->model, model, MLK_NAME_BYTES);
		__entry->id = id;
		__entry->err = err;
	),
	TP_printk("%s: id=%llu err=%d", __entry->model, __entry->id,
		  __entry->err)
);

#endif /* MLK_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE mlk_trace
#include <trace/define_trace.h>
