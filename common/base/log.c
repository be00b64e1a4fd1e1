/* SPDX-License-Identifier: Apache-2.0 */
/* JSON lines on stderr, each with one write, so that lines of several threads do not mix. */
#include "base/log.h"

#include <errno.h>
#include <math.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/timefmt.h"

enum {
	LINE_MAX_BYTES = 8192,
	VALUE_MAX_BYTES = 1024, /* escaping may make six of one, and the message must fit with its head */
	TAIL_BYTES = 16,        /* ,"cut":true}\n */
};

static const char *const level_names[] = {"debug", "info", "warn", "error"};

/* Set once by log_setup before there are threads; the level may be moved while they run. */
static char service_name[64] = "schools24";
static _Atomic int least_level = LOG_INFO;

void log_setup(const char *service, enum log_level least)
{
	size_t n = strlen(service);

	if (n >= sizeof(service_name))
		n = sizeof(service_name) - 1;
	memmove(service_name, service, n);
	service_name[n] = '\0';
	atomic_store_explicit(&least_level, (int)least, memory_order_relaxed);
}

bool log_level_parse(const char *text, enum log_level *ret)
{
	for (size_t i = 0; i < ARRAY_LEN(level_names); i++) {
		if (str_ieq(str_of(text), str_of(level_names[i]))) {
			*ret = (enum log_level)i;
			return true;
		}
	}
	return false;
}

/* Cuts between two characters, so that the cut itself does not make broken text. Returns true if it cut. */
static bool put_value(struct buf *b, struct str s)
{
	bool cut = s.n > VALUE_MAX_BYTES;

	if (cut) {
		s.n = VALUE_MAX_BYTES;
		for (int back = 0; back < 3 && ((unsigned char)s.p[s.n] & 0xC0) == 0x80; back++)
			s.n--;
	}
	buf_put_json(b, s);
	return cut;
}

static bool put_field(struct buf *b, const struct log_field *field)
{
	bool cut = false;

	buf_putc(b, ',');
	buf_put_json(b, str_of(field->name));
	buf_putc(b, ':');
	switch (field->type) {
	case LOG_T_STR:
		cut = put_value(b, field->s);
		break;
	case LOG_T_INT:
		buf_put_i64(b, field->i);
		break;
	case LOG_T_NUM:
		if (isfinite(field->d))
			buf_printf(b, "%.9g", field->d);
		else
			buf_puts(b, STR("null")); /* JSON has no name for it */
		break;
	case LOG_T_BOOL:
		buf_puts(b, field->i != 0 ? STR("true") : STR("false"));
		break;
	}
	return cut;
}

static void write_line(struct str line)
{
	while (line.n != 0) {
		ssize_t done = write(STDERR_FILENO, line.p, line.n);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return; /* nobody reads the log: the service goes on */
		line.p += done;
		line.n -= (size_t)done;
	}
}

void log_write(enum log_level level, const char *msg, const struct log_field *fields)
{
	_cleanup_(buf_done) struct buf b = {0};
	char time[TIME_TEXT + 1];
	int saved = errno; /* a caller may log before it looks at errno */
	bool cut;

	if ((int)level < atomic_load_explicit(&least_level, memory_order_relaxed))
		return;
	time_text(clock_real_us(), time);
	buf_printf(&b, "{\"time\":\"%s\",\"level\":\"%s\",\"service\":", time, level_names[level]);
	buf_put_json(&b, str_of(service_name));
	buf_puts(&b, STR(",\"msg\":"));
	cut = put_value(&b, str_of(msg));
	for (; fields->name != NULL; fields++) {
		size_t before = b.n;
		bool shortened = put_field(&b, fields);

		if (b.n > LINE_MAX_BYTES - TAIL_BYTES) {
			b.n = before; /* this one does not fit; a smaller one behind it may */
			shortened = true;
		}
		cut |= shortened;
	}
	if (cut)
		buf_puts(&b, STR(",\"cut\":true"));
	buf_puts(&b, STR("}\n"));
	write_line(buf_str(&b));
	errno = saved;
}
