/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One JSON object per line on stderr: time, level, service, msg, then the fields given. Programs log; libraries return errors.
 * The exceptions in common/ are lifecycle lines (connected, lost, retrying). Never log bodies, tokens, passwords or SQL parameters.
 *
 *	log_info("flushed", LOG_S("entity", name), LOG_I("rows", n));
 */
#ifndef S24_BASE_LOG_H
#define S24_BASE_LOG_H

#include "base/defs.h"
#include "base/err.h"
#include "base/str.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

struct log_field {
	const char *name; /* NULL ends the list */
	enum { LOG_T_STR, LOG_T_INT, LOG_T_NUM, LOG_T_BOOL } type;
	struct str s;
	int64_t i;
	double d;
};

#define LOG_S(name_, value) ((struct log_field){.name = (name_), .type = LOG_T_STR, .s = str_of(value)})
#define LOG_STR(name_, value) ((struct log_field){.name = (name_), .type = LOG_T_STR, .s = (value)})
#define LOG_I(name_, value) ((struct log_field){.name = (name_), .type = LOG_T_INT, .i = (int64_t)(value)})
#define LOG_D(name_, value) ((struct log_field){.name = (name_), .type = LOG_T_NUM, .d = (value)})
#define LOG_B(name_, value) ((struct log_field){.name = (name_), .type = LOG_T_BOOL, .i = (value)})
#define LOG_E(value) ((struct log_field){.name = "err", .type = LOG_T_STR, .s = str_of(err_name(value))})

void log_setup(const char *service, enum log_level least);
bool log_level_parse(const char *text, enum log_level *ret);
void log_write(enum log_level level, const char *msg, const struct log_field *fields);

#define LOG_END ((struct log_field){.name = NULL})
#define log_at(level, msg, ...) log_write((level), (msg), (const struct log_field[]){__VA_ARGS__})
#define log_debug(...) log_at(LOG_DEBUG, __VA_ARGS__, LOG_END)
#define log_info(...) log_at(LOG_INFO, __VA_ARGS__, LOG_END)
#define log_warn(...) log_at(LOG_WARN, __VA_ARGS__, LOG_END)
#define log_error(...) log_at(LOG_ERROR, __VA_ARGS__, LOG_END)

#endif
