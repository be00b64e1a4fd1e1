/* SPDX-License-Identifier: Apache-2.0 */
/* Settings by table: defaults, then the file's pairs, then the environment. Values of secrets never reach a message. */
#include "base/conf.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/str.h"

enum {
	VALUE_MAX = 64 * 1024, /* bytes of a text or a file of NAME_FILE */
	SHOWN_MAX = 80,        /* bytes of a value in a message */
	NAME_MAX_BYTES = 128,
};

struct load {
	const struct conf_row *row;
	struct arena *arena;
	struct buf *problems;
	const char *origin; /* where the value at hand came from: "environment", "default", "line 7" */
	size_t found;       /* problems so far */
};

static void problem(struct load *l, const char *fmt, ...) PRINTF(2, 3);

static void problem(struct load *l, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	buf_puts(l->problems, str_of(l->row->name));
	buf_puts(l->problems, STR(": "));
	buf_puts(l->problems, str_of(arena_vprintf(l->arena, fmt, ap)));
	if (l->origin != NULL)
		buf_printf(l->problems, " (%s)", l->origin);
	buf_putc(l->problems, '\n');
	va_end(ap);
	l->found++;
}

/* The value as a message may show it: quoted, short, and nothing at all of a secret. */
static const char *shown(struct load *l, struct str value)
{
	struct buf b = buf_in(l->arena);

	if ((l->row->flags & CONF_SECRET) != 0)
		return "the value";
	if (value.n > SHOWN_MAX)
		value.n = SHOWN_MAX;
	buf_put_json(&b, value);
	return buf_cstr(&b);
}

/* BATCH_PROCESSOR_INTERVAL is batch_processor_interval in YAML, and nothing else is. */
static bool is_key_of(const struct conf_row *row, struct str key)
{
	if (key.n != strlen(row->name))
		return false;
	for (size_t i = 0; i < key.n; i++) {
		char c = row->name[i];

		if (c >= 'A' && c <= 'Z')
			c = (char)(c + ('a' - 'A'));
		if (c != key.p[i])
			return false;
	}
	return true;
}

bool conf_knows(const struct conf_row *rows, struct str key)
{
	for (; rows->name != NULL; rows++) {
		if (is_key_of(rows, key))
			return true;
	}
	return false;
}

/* NAME_FILE: the file's bytes without the line end that editors and `echo` put there. */
static bool read_file(struct load *l, const char *path, struct str *ret_value)
{
	_cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	char *bytes;
	size_t n = 0;
	ssize_t got = 0;

	if (fd < 0) {
		problem(l, "%s_FILE cannot be opened: %s", l->row->name, strerrorname_np(errno));
		return false;
	}
	bytes = arena_alloc(l->arena, VALUE_MAX + 1);
	while (n <= VALUE_MAX) {
		got = read(fd, bytes + n, VALUE_MAX + 1 - n);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		n += (size_t)got;
	}
	if (got < 0) {
		problem(l, "%s_FILE cannot be read: %s", l->row->name, strerrorname_np(errno));
		return false;
	}
	if (n > 0 && bytes[n - 1] == '\n')
		n--;
	if (n > 0 && bytes[n - 1] == '\r')
		n--;
	*ret_value = (struct str){bytes, n};
	return true;
}

static bool parse_bool(struct str s, bool *ret)
{
	static const char *const yes[] = {"true", "yes", "on", "1"}, *const no[] = {"false", "no", "off", "0"};

	for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
		if (str_ieq(s, str_of(yes[i])) || str_ieq(s, str_of(no[i]))) {
			*ret = str_ieq(s, str_of(yes[i]));
			return true;
		}
	}
	return false;
}

static void set_text(struct load *l, void *to, struct str value)
{
	if (value.n > VALUE_MAX) {
		problem(l, "longer than %d bytes", VALUE_MAX);
	} else if (!str_is_utf8(value)) {
		problem(l, "not UTF-8 text");
	} else if (value.n == 0 && (l->row->flags & CONF_REQUIRED) != 0) {
		problem(l, "required, but empty");
	} else {
		*(const char **)to = arena_cstr(l->arena, value);
	}
}

static void set_int(struct load *l, void *to, struct str value)
{
	const struct conf_row *row = l->row;
	int64_t v;

	if (!str_to_i64(value, &v))
		problem(l, "%s is not a whole number", shown(l, value));
	else if (v < row->min || v > row->max)
		problem(l, "%s is not between %" PRId64 " and %" PRId64, shown(l, value), row->min, row->max);
	else
		*(int64_t *)to = v;
}

static void set(struct load *l, void *conf, struct str value)
{
	void *to = (char *)conf + l->row->offset;

	switch (l->row->type) {
	case CONF_T_STR:
		set_text(l, to, value);
		break;
	case CONF_T_INT:
		set_int(l, to, value);
		break;
	case CONF_T_BOOL:
		if (!parse_bool(value, to))
			problem(l, "%s is not true or false", shown(l, value));
		break;
	}
}

/* What a setting without a value has; so a text is never NULL, whatever goes wrong. */
static void set_nothing(const struct conf_row *row, void *to)
{
	switch (row->type) {
	case CONF_T_STR:
		*(const char **)to = "";
		break;
	case CONF_T_INT:
		*(int64_t *)to = 0;
		break;
	case CONF_T_BOOL:
		*(bool *)to = false;
		break;
	}
}

/* False: not there, or broken, and then told. */
static bool from_environment(struct load *l, struct str *ret_value)
{
	char name[NAME_MAX_BYTES];
	const char *direct = getenv(l->row->name), *path;
	size_t n = strlen(l->row->name);

	if (n + sizeof("_FILE") > sizeof(name))
		abort(); /* a name of our own table */
	memcpy(name, l->row->name, n);
	memcpy(name + n, "_FILE", sizeof("_FILE"));
	path = getenv(name);
	l->origin = "environment";
	if (direct != NULL && path != NULL) {
		problem(l, "set twice, with and without _FILE");
		return false;
	}
	if (direct != NULL) {
		*ret_value = str_of(direct);
		return true;
	}
	return path != NULL && read_file(l, path, ret_value);
}

static bool from_pairs(struct load *l, const struct conf_pair *pairs, size_t n, struct str *ret_value)
{
	const struct conf_pair *found = NULL;

	for (size_t i = 0; i < n; i++) {
		if (!is_key_of(l->row, pairs[i].key))
			continue;
		l->origin = arena_printf(l->arena, "line %d", pairs[i].line);
		if (found != NULL)
			problem(l, "set twice, first in line %d", found->line);
		found = &pairs[i];
	}
	if (found == NULL)
		return false;
	*ret_value = found->value;
	return true;
}

static void load_row(struct load *l, void *to, const struct conf_pair *pairs, size_t n)
{
	const struct conf_row *row = l->row;
	size_t before = l->found;
	struct str value;
	bool from_file;

	set_nothing(row, (char *)to + row->offset);

	/* The file is read even when the environment wins, so that what is wrong in it is told. */
	from_file = from_pairs(l, pairs, n, &value);
	if (from_file && l->found == before)
		set(l, to, value);
	if (from_environment(l, &value)) {
		set(l, to, value);
		return;
	}
	if (from_file || l->found != before)
		return;
	l->origin = "default";
	if (row->value != NULL) {
		set(l, to, str_of(row->value));
	} else if ((row->flags & CONF_REQUIRED) != 0) {
		l->origin = NULL;
		problem(l, "required, but not set");
	}
}

enum err conf_load(const struct conf_row *rows, void *to, const struct conf_pair *pairs, size_t n, struct arena *arena,
		   struct buf *problems)
{
	struct load l = {.arena = arena, .problems = problems};

	for (; rows->name != NULL; rows++) {
		l.row = rows;
		load_row(&l, to, pairs, n);
	}
	return l.found == 0 ? OK : ERR_INVALID;
}

/* A cell of the Markdown table: a bar would end it. */
static void put_cell(struct buf *out, const char *text)
{
	for (const char *p = text; *p != '\0'; p++) {
		if (*p == '|')
			buf_putc(out, '\\');
		buf_putc(out, *p == '\n' ? ' ' : *p);
	}
}

void conf_help(const struct conf_row *rows, struct buf *out)
{
	buf_puts(out, STR("| name | default | bounds | meaning |\n|---|---|---|---|\n"));
	for (; rows->name != NULL; rows++) {
		buf_printf(out, "| `%s` | ", rows->name);
		if ((rows->flags & CONF_REQUIRED) != 0 && rows->value == NULL) {
			buf_puts(out, STR("required"));
		} else if (rows->value != NULL && rows->value[0] != '\0' && (rows->flags & CONF_SECRET) == 0) {
			buf_putc(out, '`');
			put_cell(out, rows->value);
			buf_putc(out, '`');
		}
		buf_puts(out, STR(" | "));
		if (rows->type == CONF_T_INT)
			buf_printf(out, "%" PRId64 " to %" PRId64, rows->min, rows->max);
		else if (rows->type == CONF_T_BOOL)
			buf_puts(out, STR("true, false"));
		else if ((rows->flags & CONF_SECRET) != 0)
			buf_printf(out, "secret; or `%s_FILE`", rows->name);
		buf_puts(out, STR(" | "));
		put_cell(out, rows->help != NULL ? rows->help : "");
		buf_puts(out, STR(" |\n"));
	}
}
