/* SPDX-License-Identifier: Apache-2.0 */
/* A flat YAML mapping, event by event: nothing is built that the configuration does not have. */
#include "io/yaml.h"

#include <errno.h>
#include <fcntl.h>
#include <yaml.h>

#include "base/cleanup.h"
#include "base/str.h"

#define PAIRS_MAX 1000
#define PROBLEMS_MAX 50
#define DEPTH_MAX 64

struct reader {
	yaml_parser_t parser;
	struct arena *arena;
	struct buf *problems;
	const char *path; /* NULL: text */
	size_t n_problems;
	struct conf_pair *pairs;
	size_t n;
	unsigned documents;
};

static void PRINTF(3, 4) problem(struct reader *r, size_t line, const char *fmt, ...)
{
	va_list ap;

	if (r->n_problems++ >= PROBLEMS_MAX)
		return;
	if (r->path != NULL)
		buf_printf(r->problems, "%s:%zu: ", r->path, line + 1);
	else
		buf_printf(r->problems, "line %zu: ", line + 1);
	va_start(ap, fmt);
	buf_puts(r->problems, str_of(arena_vprintf(r->arena, fmt, ap)));
	va_end(ap);
	buf_putc(r->problems, '\n');
}

/* The next event, which the caller deletes. False when the text is no YAML from here on. */
static bool next_event(struct reader *r, yaml_event_t *ret)
{
	if (yaml_parser_parse(&r->parser, ret) == 1)
		return true;
	problem(r, r->parser.problem_mark.line, "%s", r->parser.problem != NULL ? r->parser.problem : "not YAML");
	return false;
}

/* Goes on behind the map or list that has just begun. */
static bool skip_nested(struct reader *r)
{
	size_t depth = 1;
	bool deep = false;

	while (depth != 0) {
		yaml_event_t event;

		if (!next_event(r, &event))
			return false;
		if (event.type == YAML_MAPPING_START_EVENT || event.type == YAML_SEQUENCE_START_EVENT)
			deep = ++depth > DEPTH_MAX;
		else if (event.type == YAML_MAPPING_END_EVENT || event.type == YAML_SEQUENCE_END_EVENT)
			depth--;
		yaml_event_delete(&event);
		if (deep)
			return false; /* the library's time grows with the square of the depth */
	}
	return true;
}

static struct str scalar_text(struct reader *r, const yaml_event_t *event)
{
	struct str text = {(const char *)event->data.scalar.value, event->data.scalar.length};

	if (event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && (str_is(text, "~") || str_is(text, "null")))
		text.n = 0;
	return arena_str(r->arena, text);
}

/* What may not be where a scalar is expected is said and stepped over, so that the problems behind it are found too. */
static bool take_scalar(struct reader *r, yaml_event_t *event, const char *what, struct str *ret_text, bool *ret_ok)
{
	size_t line = event->start_mark.line;
	bool ok = false, go_on = true;

	if (event->type == YAML_MAPPING_START_EVENT || event->type == YAML_SEQUENCE_START_EVENT) {
		problem(r, line, "%s must be plain text, not a %s", what,
			event->type == YAML_MAPPING_START_EVENT ? "map" : "list");
		go_on = skip_nested(r);
	} else if (event->type == YAML_ALIAS_EVENT) {
		problem(r, line, "%s is an alias: there are none here", what);
	} else if (event->data.scalar.anchor != NULL) {
		problem(r, line, "%s has an anchor: there are none here", what);
	} else if (event->data.scalar.tag != NULL) {
		problem(r, line, "%s has a tag: there are none here", what);
	} else if (event->data.scalar.length != 0 && memchr(event->data.scalar.value, '\0', event->data.scalar.length) != NULL) {
		problem(r, line, "%s has a NUL in it", what);
	} else {
		*ret_text = scalar_text(r, event);
		ok = true;
	}
	*ret_ok = ok;
	return go_on;
}

static void add_pair(struct reader *r, struct str key, struct str value, size_t line)
{
	for (size_t i = 0; i < r->n; i++) {
		if (str_eq(r->pairs[i].key, key)) {
			problem(r, line, "%.*s is here twice, first in line %d", STR_FMT(key), r->pairs[i].line);
			return;
		}
	}
	if (key.n == 0)
		problem(r, line, "a name is missing");
	else if (r->n == PAIRS_MAX)
		problem(r, line, "more than %d settings", PAIRS_MAX);
	else
		r->pairs[r->n++] = (struct conf_pair){.key = key, .value = value, .line = (int)line + 1};
}

/* The members of the top map until its end. */
static bool read_members(struct reader *r)
{
	for (;;) {
		struct str key = {NULL, 0}, value = {NULL, 0};
		bool key_ok, value_ok, go_on;
		yaml_event_t event;
		size_t line;

		if (!next_event(r, &event))
			return false;
		if (event.type == YAML_MAPPING_END_EVENT) {
			yaml_event_delete(&event);
			return true;
		}
		line = event.start_mark.line;
		go_on = take_scalar(r, &event, "a name", &key, &key_ok);
		yaml_event_delete(&event);
		if (!go_on || !next_event(r, &event))
			return false;
		go_on = take_scalar(r, &event, key_ok && key.n != 0 ? key.p : "a value", &value, &value_ok);
		yaml_event_delete(&event);
		if (!go_on)
			return false;
		if (key_ok && value_ok)
			add_pair(r, key, value, line);
		if (r->n_problems >= PROBLEMS_MAX)
			return false;
	}
}

static bool read_top(struct reader *r, const yaml_event_t *event)
{
	size_t line = event->start_mark.line;

	switch (event->type) {
	case YAML_DOCUMENT_START_EVENT:
		if (++r->documents > 1) {
			problem(r, line, "a second document begins");
			return false;
		}
		return true;
	case YAML_MAPPING_START_EVENT:
		if (event->data.mapping_start.anchor != NULL || event->data.mapping_start.tag != NULL) {
			problem(r, line, "the file has an anchor or a tag: there are none here");
			return false;
		}
		return read_members(r);
	case YAML_SCALAR_EVENT:
		/* A document of nothing but comments is an empty scalar. */
		if (event->data.scalar.length == 0 && event->data.scalar.anchor == NULL && event->data.scalar.tag == NULL)
			return true;
		problem(r, line, "the file must be a map of names and values");
		return false;
	case YAML_SEQUENCE_START_EVENT:
	case YAML_SEQUENCE_END_EVENT:
	case YAML_ALIAS_EVENT:
		problem(r, line, "the file must be a map of names and values");
		return false;
	case YAML_NO_EVENT:
	case YAML_STREAM_START_EVENT:
	case YAML_STREAM_END_EVENT:
	case YAML_DOCUMENT_END_EVENT:
	case YAML_MAPPING_END_EVENT:
		return true;
	}
	return false;
}

static void read_all(struct reader *r)
{
	bool go_on = true, end = false;

	while (go_on && !end) {
		yaml_event_t event;

		if (!next_event(r, &event))
			return;
		end = event.type == YAML_STREAM_END_EVENT;
		go_on = read_top(r, &event);
		yaml_event_delete(&event);
	}
}

static enum err parse(const char *path, struct str text, struct arena *arena, struct conf_pair **ret, size_t *ret_n,
		      struct buf *problems)
{
	struct reader r = {.arena = arena, .problems = problems, .path = path};

	if (text.n > YAML_SIZE_MAX) {
		problem(&r, 0, "larger than %d bytes", YAML_SIZE_MAX);
		return ERR_TOO_LARGE;
	}
	r.pairs = arena_array(arena, PAIRS_MAX, sizeof(*r.pairs));
	if (yaml_parser_initialize(&r.parser) != 1)
		return ERR_OVERLOAD;
	yaml_parser_set_input_string(&r.parser, (const unsigned char *)(text.n != 0 ? text.p : ""), text.n);
	yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
	read_all(&r);
	yaml_parser_delete(&r.parser);
	if (r.n_problems != 0)
		return ERR_INVALID;
	*ret = r.pairs;
	*ret_n = r.n;
	return OK;
}

enum err yaml_parse(struct str text, struct arena *arena, struct conf_pair **ret, size_t *ret_n, struct buf *problems)
{
	return parse(NULL, text, arena, ret, ret_n, problems);
}

enum err yaml_load(const char *path, struct arena *arena, struct conf_pair **ret, size_t *ret_n, struct buf *problems)
{
	_cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	char *text = arena_alloc(arena, YAML_SIZE_MAX + 1);
	ssize_t got = fd < 0 ? -1 : 1;
	size_t n = 0;

	while (got > 0 && n <= YAML_SIZE_MAX) {
		got = read(fd, text + n, YAML_SIZE_MAX + 1 - n);
		if (got > 0)
			n += (size_t)got;
		else if (got < 0 && errno == EINTR)
			got = 1;
	}
	if (got < 0) {
		int reason = errno;

		buf_printf(problems, "%s: cannot be read: %s\n", path, strerrordesc_np(reason));
		return reason == ENOENT ? ERR_NOT_FOUND : ERR_IO;
	}
	return parse(path, (struct str){text, n}, arena, ret, ret_n, problems);
}
