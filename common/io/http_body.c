/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies of requests: the chunked coding, collecting, streaming to a fiber, skipping. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/str.h"
#include "base/timefmt.h"
#include "io/fiber.h"
#include "io/http_internal.h"

enum {
	CHUNK_DIGITS = 15,      /* a size below 2^60 */
	CHUNK_EXTRA_MAX = 4096, /* extensions of a body; the same for trailers */
	SKIP_MAX = 65536,       /* a rest of a body that is worth reading for keeping the connection */
	GROW_BYTES = 65536,     /* nobody gets more memory than he has sent, but for this */
	BODY_MS = 15000,        /* when the plan does not say */
};

/* ---- the chunked coding ---- */

enum chunked_state { SIZE, EXTENSION, SIZE_LF, DATA, DATA_CR, DATA_LF, LINE, TRAILER_NAME, TRAILER_VALUE, TRAILER_LF, LAST_LF };

static unsigned hex_value(char c)
{
	return c <= '9' ? (unsigned)(c - '0') : (unsigned)((c | 0x20) - 'a' + 10);
}

static int size_byte(struct http_chunked *d, char c)
{
	if (http_is(c, HTTP_C_HEX)) {
		d->left = d->left << 4 | hex_value(c);
		return ++d->digits <= CHUNK_DIGITS ? SIZE : HTTP_CHUNKED_BAD;
	}
	if (d->digits == 0)
		return HTTP_CHUNKED_BAD;
	return c == '\r' ? SIZE_LF : c == ';' ? EXTENSION : HTTP_CHUNKED_BAD;
}

static int extension_byte(struct http_chunked *d, char c)
{
	if (c == '\r')
		return SIZE_LF;
	return http_is(c, HTTP_C_VALUE) && ++d->extension_bytes <= CHUNK_EXTRA_MAX ? EXTENSION : HTTP_CHUNKED_BAD;
}

/* One byte of anything but data: the next state. */
static int framing_byte(struct http_chunked *d, char c)
{
	if (d->state >= LINE && ++d->trailer_bytes > CHUNK_EXTRA_MAX)
		return HTTP_CHUNKED_BAD;
	switch ((enum chunked_state)d->state) {
	case SIZE:
		return size_byte(d, c);
	case EXTENSION:
		return extension_byte(d, c);
	case SIZE_LF:
		d->digits = 0;
		return c != '\n' ? HTTP_CHUNKED_BAD : d->left > 0 ? DATA : LINE;
	case DATA_CR:
		return c == '\r' ? DATA_LF : HTTP_CHUNKED_BAD;
	case DATA_LF:
		return c == '\n' ? SIZE : HTTP_CHUNKED_BAD;
	case LINE:
		return c == '\r' ? LAST_LF : http_is(c, HTTP_C_TOKEN) ? TRAILER_NAME : HTTP_CHUNKED_BAD;
	case TRAILER_NAME:
		return c == ':' ? TRAILER_VALUE : http_is(c, HTTP_C_TOKEN) ? TRAILER_NAME : HTTP_CHUNKED_BAD;
	case TRAILER_VALUE:
		return c == '\r' ? TRAILER_LF : http_is(c, HTTP_C_VALUE) ? TRAILER_VALUE : HTTP_CHUNKED_BAD;
	case TRAILER_LF:
		return c == '\n' ? LINE : HTTP_CHUNKED_BAD;
	case LAST_LF:
		return c == '\n' ? HTTP_CHUNKED_DONE : HTTP_CHUNKED_BAD;
	case DATA:
		break;
	}
	return HTTP_CHUNKED_BAD;
}

size_t http_chunked_decode(struct http_chunked *d, char *p, size_t n, size_t *ret_used)
{
	size_t at = 0, out = 0;

	while (at < n && d->state < HTTP_CHUNKED_DONE) {
		if (d->state == DATA) {
			size_t take = d->left < n - at ? (size_t)d->left : n - at;

			memmove(p + out, p + at, take);
			out += take;
			at += take;
			d->left -= take;
			if (d->left == 0)
				d->state = DATA_CR;
		} else {
			d->state = (uint8_t)framing_byte(d, p[at]);
			if (d->state != HTTP_CHUNKED_BAD)
				at++;
		}
	}
	*ret_used = at;
	return out;
}

/* ---- where a body goes ---- */

void http_body_plan(struct http_conn *c)
{
	struct http_exchange_own *x = c->x;
	uint32_t have = c->end - c->at;

	if (x->rest == HTTP_R_LENGTH) {
		int64_t room = x->plan.body == HTTP_BODY_WHOLE ? (int64_t)(c->rb->cap - c->at) : (int64_t)have;

		if (x->rest_bytes <= room) {
			x->in_place = true;
			return;
		}
		if (x->plan.body == HTTP_BODY_WHOLE) {
			buf_put(&x->body, c->rb->p + c->at, have);
			x->rest_bytes -= have;
			c->at = c->end;
			return;
		}
	}
	/* The head's bytes stay where they are; the connection reads on elsewhere. */
	x->pinned = c->rb;
	c->rb = http_rbuf_take(c->server, have > HTTP_RBUF_LARGE ? have : HTTP_RBUF_LARGE);
	memcpy(c->rb->p, x->pinned->p + c->at, have);
	c->at = 0;
	c->end = have;
}

bool http_body_is_small_rest(const struct http_exchange_own *x)
{
	const struct http_conn *c = x->conn;

	if (x->rest == HTTP_R_NONE)
		return true;
	if (x->read_error != OK || x->expect)
		return false;
	if (x->plan.body == HTTP_BODY_REFUSE)
		return x->rest == HTTP_R_LENGTH && x->rest_bytes <= (int64_t)(c->end - c->at);
	return x->rest == HTTP_R_CHUNKED || x->rest_bytes <= SKIP_MAX;
}

/* ---- collecting ---- */

/* More bytes into the emptied or half-empty buffer: > 0; 0: nothing there; -1: gone. */
static int more(struct http_conn *c)
{
	if (c->at == c->end)
		c->at = c->end = 0;
	return c->readable ? http_conn_fill(c) : 0;
}

static enum http_collect of_fill(int n)
{
	return n < 0 ? HTTP_COLLECT_GONE : HTTP_COLLECT_MORE;
}

static enum http_collect collect_in_place(struct http_conn *c)
{
	struct http_exchange_own *x = c->x;

	while (c->end - c->at < x->rest_bytes) {
		int n = c->readable ? http_conn_fill(c) : 0;

		if (n <= 0)
			return of_fill(n);
	}
	x->x.body = (struct str){c->rb->p + c->at, (size_t)x->rest_bytes};
	c->at += (uint32_t)x->rest_bytes;
	x->rest_bytes = 0;
	return HTTP_COLLECT_DONE;
}

/* Straight from the socket to where it stays. */
static enum http_collect collect_length(struct http_conn *c)
{
	struct http_exchange_own *x = c->x;

	while (x->rest_bytes > 0) {
		size_t room = x->rest_bytes < GROW_BYTES ? (size_t)x->rest_bytes : GROW_BYTES;
		ssize_t n;

		if (!c->readable)
			return HTTP_COLLECT_MORE;
		n = recv(c->fd, buf_room(&x->body, room), room, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			c->readable = false;
			return HTTP_COLLECT_MORE;
		}
		if (n <= 0)
			return HTTP_COLLECT_GONE;
		x->body.n += (size_t)n;
		x->rest_bytes -= n;
		if ((size_t)n < room && !c->shut)
			c->readable = false;
	}
	return HTTP_COLLECT_DONE;
}

static enum http_collect collect_chunked(struct http_conn *c, int *ret_refuse)
{
	struct http_exchange_own *x = c->x;

	for (;;) {
		char *p = c->rb->p + c->at;
		size_t used, n = http_chunked_decode(&x->chunked, p, c->end - c->at, &used);
		int filled;

		c->at += (uint32_t)used;
		if (x->body.n + n > x->plan.body_max)
			*ret_refuse = 413;
		else if (x->chunked.state == HTTP_CHUNKED_BAD)
			*ret_refuse = 400;
		if (*ret_refuse != 0)
			return HTTP_COLLECT_MORE;
		buf_put(&x->body, p, n);
		if (x->chunked.state == HTTP_CHUNKED_DONE)
			return HTTP_COLLECT_DONE;
		filled = more(c);
		if (filled <= 0)
			return of_fill(filled);
	}
}

enum http_collect http_body_collect(struct http_conn *c, int *ret_refuse)
{
	struct http_exchange_own *x = c->x;
	enum http_collect r;

	if (x->in_place)
		r = collect_in_place(c);
	else if (x->rest == HTTP_R_LENGTH)
		r = collect_length(c);
	else
		r = collect_chunked(c, ret_refuse);
	if (r != HTTP_COLLECT_DONE)
		return r;
	x->rest = HTTP_R_NONE;
	x->expect = false;
	if (!x->in_place)
		x->x.body = buf_str(&x->body);
	return r;
}

/* ---- skipping ---- */

static void skip_buffered(struct http_conn *c)
{
	size_t used = c->end - c->at;

	if (c->rest == HTTP_R_LENGTH) {
		if ((int64_t)used > c->rest_bytes)
			used = (size_t)c->rest_bytes;
		c->rest_bytes -= (int64_t)used;
		if (c->rest_bytes == 0)
			c->rest = HTTP_R_NONE;
	} else if (used > 0) {
		IGNORE(http_chunked_decode(&c->chunked, c->rb->p + c->at, used, &used) >
		       0); /* the bytes themselves are for nobody */
		if (c->chunked.state == HTTP_CHUNKED_DONE)
			c->rest = HTTP_R_NONE;
	}
	c->at += (uint32_t)used;
	c->skipped += (uint32_t)used;
}

bool http_body_skip(struct http_conn *c)
{
	for (;;) {
		int n;

		skip_buffered(c);
		if (c->rest == HTTP_R_NONE) {
			c->state = HTTP_S_HEAD;
			c->parse_next = 0;
			if (c->wait != HTTP_W_BUSY)
				http_wait_set(c, HTTP_W_BUSY);
			return true;
		}
		if (c->skipped > 2 * SKIP_MAX || c->chunked.state == HTTP_CHUNKED_BAD) {
			http_conn_break(c);
			return false;
		}
		if (!c->rb)
			c->rb = http_rbuf_take(c->server, 1);
		n = more(c);
		if (n < 0)
			http_conn_break(c);
		if (n <= 0)
			return false;
	}
}

/* ---- streaming ---- */

void http_body_wake(struct http_exchange_own *x, enum err e)
{
	struct op *op = x->reader;

	x->reader = NULL;
	if (op)
		op_complete(op, e);
}

static void reader_free(struct op *op)
{
	free(op);
}

/* Was the client too slow over the last window in which we waited for it? Time in which the handler did something else does not count. */
static bool too_slow(struct http_exchange_own *x, int64_t waited_us)
{
	int64_t window_ms = x->server->limits.rate_window_ms;
	bool slow;

	x->rate_us += waited_us;
	if (x->plan.min_rate_bps == 0 || x->rate_us < window_ms * US_PER_MS)
		return false;
	slow = x->rate_bytes < x->plan.min_rate_bps * window_ms / 1000;
	x->rate_us = x->rate_bytes = 0;
	return slow;
}

/* Waits for bytes. The client's own deadlines end the connection with 408; the caller's only end the call. */
static SUSPENDS enum err wait_readable(struct http_exchange_own *x, struct deadline d)
{
	struct loop *loop = x->server->loop;
	int64_t began_us = loop_mono_us(loop), left_us = x->server->limits.rate_window_ms * US_PER_MS - x->rate_us;
	struct deadline body = {began_us + (x->plan.body_ms > 0 ? x->plan.body_ms : BODY_MS) * US_PER_MS}, client = body;
	struct op *op;
	enum err e;

	if (x->plan.min_rate_bps > 0)
		client = deadline_sooner(body, (struct deadline){began_us + left_us});
	op = mem_alloc(sizeof(*op));
	op_init(op, "http_read", reader_free);
	x->reader = op;
	e = await(op, deadline_sooner(client, d));
	if (x->reader == op)
		http_body_wake(x, e);
	op_unref(op);
	if (!x->conn)
		return ERR_CANCELLED;
	if ((e == ERR_TIMEOUT && loop_mono_us(loop) >= body.at_us) || too_slow(x, loop_mono_us(loop) - began_us)) {
		x->server->stats.timed_out++;
		if (x->answered) /* its own answer has begun: nothing else can be said */
			http_conn_break(x->conn);
		else
			http_conn_refuse(x->conn, 408);
		return x->read_error = ERR_TIMEOUT;
	}
	/* The window was over, and fast enough. */
	return e == ERR_TIMEOUT && loop_mono_us(loop) < d.at_us ? OK : e;
}

/* What the buffer has of the body; sets rest to NONE at the end. */
static struct str take(struct http_exchange_own *x)
{
	struct http_conn *c = x->conn;
	char *p = c->rb->p + c->at;
	size_t used = c->end - c->at, n;

	if (x->rest == HTTP_R_LENGTH) {
		n = (int64_t)used > x->rest_bytes ? (size_t)x->rest_bytes : used;
		used = n;
		x->rest_bytes -= (int64_t)n;
		if (x->rest_bytes == 0)
			x->rest = HTTP_R_NONE;
	} else {
		n = http_chunked_decode(&x->chunked, p, used, &used);
		if (x->chunked.state == HTTP_CHUNKED_DONE)
			x->rest = HTTP_R_NONE;
		else if (x->chunked.state == HTTP_CHUNKED_BAD)
			x->read_error = ERR_MALFORMED;
	}
	c->at += (uint32_t)used;
	x->taken_bytes += (int64_t)n;
	x->rate_bytes += (int64_t)n;
	if ((uint64_t)x->taken_bytes > x->plan.body_max)
		x->read_error = ERR_TOO_LARGE;
	return (struct str){p, n};
}

enum err http_read(struct http_exchange *public, struct str *ret_bytes, struct deadline d)
{
	struct http_exchange_own *x = CONTAINER_OF(public, struct http_exchange_own, x);

	for (;;) {
		struct http_conn *c = x->conn;
		enum err e = x->read_error;
		int n;

		if (e != OK)
			return e;
		if (x->rest == HTTP_R_NONE) {
			*ret_bytes = (struct str){NULL, 0};
			return OK;
		}
		if (!c)
			return ERR_CANCELLED;
		if (c->at < c->end) {
			struct str bytes = take(x);

			if (x->read_error == OK && bytes.n > 0) {
				*ret_bytes = bytes;
				return OK;
			}
			continue;
		}
		n = more(c);
		if (n > 0)
			continue;
		if (n < 0 || (x->expect && !x->answered && !http_continue_send(c))) {
			http_conn_break(c);
			return ERR_CANCELLED;
		}
		if (c->out)
			http_resume(c);
		e = wait_readable(x, d);
		if (e != OK)
			return e;
	}
}
