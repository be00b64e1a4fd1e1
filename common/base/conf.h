/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Configuration by table: one row per setting says name, type, place, default, bounds and help. A setting comes from the daemon's
 * YAML file (lower-case key), then from the environment (the name as written), the environment wins; NAME_FILE names a file that
 * holds the value (secrets). An unknown YAML key is an error; an unknown environment name is not ours.
 * The YAML reader is io/yaml.h, so this file knows only pairs of text.
 *
 *	static const struct conf_row rows[] = {
 *		CONF_INT("BATCH_PROCESSOR_INTERVAL", struct worker_conf, interval_s, "3600", 1, 86400, "seconds a record may wait"),
 *		CONF_END };
 */
#ifndef S24_BASE_CONF_H
#define S24_BASE_CONF_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"

enum conf_type { CONF_T_STR, CONF_T_INT, CONF_T_BOOL };
enum { CONF_SECRET = 1, CONF_REQUIRED = 2 };

struct conf_row {
	const char *name; /* NULL ends the table */
	enum conf_type type;
	size_t offset; /* const char *, int64_t or bool */
	const char *value; /* default as text; NULL: "" / 0 / false */
	int64_t min, max;
	unsigned flags;
	const char *help;
};

#define CONF_STR(name_, type_, member, value_, help_) \
	{.name = (name_), .type = CONF_T_STR, .offset = offsetof(type_, member), .value = (value_), .help = (help_)}
#define CONF_SECRET_STR(name_, type_, member, value_, help_) \
	{.name = (name_), .type = CONF_T_STR, .offset = offsetof(type_, member), .value = (value_), .flags = CONF_SECRET, .help = (help_)}
#define CONF_INT(name_, type_, member, value_, min_, max_, help_) \
	{.name = (name_), .type = CONF_T_INT, .offset = offsetof(type_, member), .value = (value_), .min = (min_), .max = (max_), .help = (help_)}
#define CONF_BOOL(name_, type_, member, value_, help_) \
	{.name = (name_), .type = CONF_T_BOOL, .offset = offsetof(type_, member), .value = (value_), .help = (help_)}
#define CONF_REQUIRED_STR(name_, type_, member, help_) \
	{.name = (name_), .type = CONF_T_STR, .offset = offsetof(type_, member), .flags = CONF_REQUIRED, .help = (help_)}
#define CONF_REQUIRED_SECRET(name_, type_, member, help_) \
	{.name = (name_), .type = CONF_T_STR, .offset = offsetof(type_, member), .flags = CONF_SECRET | CONF_REQUIRED, .help = (help_)}
#define CONF_END {.name = NULL}

struct conf_pair {
	struct str key, value;
	int line; /* of the YAML file */
};

/* Fills `to` from defaults, pairs and the environment; several tables may share one set of pairs (`known`: all rows of all tables).
 * Keys that `rows` do not know are passed over: the caller has all tables and reports them by conf_knows. NAME and NAME_FILE together,
 * a key twice, a number out of bounds, text that is not UTF-8, and an empty required value are problems; an empty variable is set.
 * Booleans: true false yes no on off 1 0. Text lives in the arena and is never NULL. ERR_INVALID: every problem is appended to `problems`, a line each ("BATCH_PROCESSOR_INTERVAL: …"). */
MUST_CHECK enum err conf_load(const struct conf_row *rows, void *to, const struct conf_pair *pairs, size_t n, struct arena *arena,
			      struct buf *problems);
bool conf_knows(const struct conf_row *rows, struct str key); /* is the YAML key one of the table's */
void conf_help(const struct conf_row *rows, struct buf *out);  /* a Markdown table: name, default, bounds, help */

#endif
