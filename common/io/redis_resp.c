/* SPDX-License-Identifier: Apache-2.0 */
/* Writing commands, and building replies in blocks of memory under hiredis' reader. */
#include "io/redis_resp.h"

#include <hiredis/hiredis.h>
#include <stdlib.h>

#include "base/str.h"

enum {
	BLOCK_LEAST = 256, /* a short reply with its header: glibc keeps such blocks at hand */
	GIVE_BYTES = 4096, /* above this a copy costs more than a deferred free */
	ELEMENTS_MOST = 1024 * 1024,
};

struct redis_resp_block {
	struct redis_resp_block *older;
	size_t used, cap;
	_Alignas(16) char data[];
};

static void put_count(struct buf *out, char kind, size_t n)
{
	char text[24];
	size_t at = sizeof(text);

	text[--at] = '\n';
	text[--at] = '\r';
	do {
		text[--at] = (char)('0' + n % 10);
		n /= 10;
	} while (n > 0);
	text[--at] = kind;
	buf_put(out, text + at, sizeof(text) - at);
}

static void put_strings(struct buf *out, struct redis_args args)
{
	for (size_t i = 0; i < args.n; i++) {
		put_count(out, '$', args.v[i].n);
		buf_puts(out, args.v[i]);
		buf_put(out, "\r\n", 2);
	}
}

void redis_resp_put(struct buf *out, struct redis_args head, struct redis_args args)
{
	put_count(out, '*', head.n + args.n);
	put_strings(out, head);
	put_strings(out, args);
}

/* ---- replies */

static void *take(struct redis_resp_memory *m, size_t size)
{
	struct redis_resp_block *b = m->blocks;
	void *p;

	size = (size + 15) & ~(size_t)15;
	if (!b || b->cap - b->used < size) {
		size_t cap = b ? b->cap * 2 : BLOCK_LEAST - sizeof(*b);

		if (cap < size)
			cap = size;
		b = mem_alloc(sizeof(*b) + cap);
		*b = (struct redis_resp_block){.older = m->blocks, .cap = cap};
		m->blocks = b;
	}
	p = b->data + b->used;
	b->used += size;
	return p;
}

static struct redis_reply *node(const redisReadTask *task, enum redis_type type)
{
	struct redis_reply *r = task->parent ? &((struct redis_reply *)task->parent->obj)->v[task->idx]
					     : take(task->privdata, sizeof(struct redis_reply));

	*r = (struct redis_reply){.type = type};
	return r;
}

static void *on_string(const redisReadTask *task, char *bytes, size_t n)
{
	struct redis_reply *r = node(task, task->type == REDIS_REPLY_ERROR    ? REDIS_ERROR
					   : task->type == REDIS_REPLY_STATUS ? REDIS_STATUS
									      : REDIS_STRING);
	char *copy = take(task->privdata, n + 1);

	memcpy(copy, bytes, n);
	copy[n] = '\0';
	r->s = (struct str){copy, n};
	return r;
}

#if HIREDIS_MAJOR >= 1
static void *on_array(const redisReadTask *task, size_t count)
#else
static void *on_array(const redisReadTask *task, int count)
#endif
{
	struct redis_reply *r = node(task, REDIS_ARRAY);
	size_t n = (size_t)count;

	if (n > ELEMENTS_MOST)
		return NULL; /* the reader takes it for want of memory and fails */
	r->v = take(task->privdata, n * sizeof(*r->v));
	r->n = n;
	/* All are filled before anybody looks, but a reader that fails half-way leaves the rest as they are. */
	for (size_t i = 0; i < n; i++)
		r->v[i] = (struct redis_reply){.type = REDIS_NIL};
	return r;
}

static void *on_integer(const redisReadTask *task, long long value)
{
	struct redis_reply *r = node(task, REDIS_INTEGER);

	r->i = value;
	return r;
}

static void *on_nil(const redisReadTask *task)
{
	return node(task, REDIS_NIL);
}

static void on_free(void *reply)
{
	(void)reply; /* it lives in the blocks */
}

struct redisReader *redis_resp_reader_new(struct redis_resp_memory *memory)
{
	/* hiredis asks for a pointer to something that it never writes to. */
	static redisReplyObjectFunctions functions = {
		.createString = on_string,
		.createArray = on_array,
		.createInteger = on_integer,
		.createNil = on_nil,
		.freeObject = on_free,
	};
	redisReader *reader = redisReaderCreateWithFunctions(&functions);

	if (!reader)
		abort();
	reader->privdata = memory;
	return reader;
}

static void blocks_free(void *ptr)
{
	for (struct redis_resp_block *b = ptr, *older; b; b = older) {
		older = b->older;
		free(b);
	}
}

void redis_resp_memory_free(struct redis_resp_memory *memory)
{
	blocks_free(memory->blocks);
	memory->blocks = NULL;
}

static struct redis_reply copied(struct arena *arena, const struct redis_reply *from)
{
	struct redis_reply r = *from;

	if (r.n > 0) {
		struct redis_reply *v = arena_alloc(arena, r.n * sizeof(*v));

		/* As deep as hiredis reads: nine levels at most. */
		for (size_t i = 0; i < r.n; i++)
			v[i] = copied(arena, &r.v[i]);
		r.v = v;
	}
	if (r.s.p)
		r.s = arena_str(arena, r.s);
	return r;
}

struct redis_reply redis_resp_give(struct arena *arena, struct redis_resp_memory *memory, const struct redis_reply *root)
{
	struct redis_reply r;

	if (memory->blocks->used > GIVE_BYTES || memory->blocks->older) {
		r = *root;
		arena_defer(arena, blocks_free, memory->blocks);
		memory->blocks = NULL;
	} else {
		r = copied(arena, root);
		redis_resp_memory_free(memory);
	}
	return r;
}

bool redis_resp_is_error(const struct redis_reply *reply, const char *code)
{
	size_t n = strlen(code);

	return reply->type == REDIS_ERROR && reply->s.n >= n && memcmp(reply->s.p, code, n) == 0 &&
	       (reply->s.n == n || reply->s.p[n] == ' ');
}

bool redis_resp_is_server_fault(const struct redis_reply *reply)
{
	static const char *const codes[] = {"LOADING",    "READONLY", "MISCONF", "OOM",        "NOREPLICAS",
					    "MASTERDOWN", "BUSY",     "NOAUTH",  "CLUSTERDOWN"};

	if (reply->type != REDIS_ERROR)
		return false;
	for (size_t i = 0; i < ARRAY_LEN(codes); i++)
		if (redis_resp_is_error(reply, codes[i]))
			return true;
	return false;
}
