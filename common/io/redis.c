/* SPDX-License-Identifier: Apache-2.0 */
/* Commands over a few pipelined connections: choosing one, matching replies, stuck connections, and what a loss means for each command. */
#include "io/redis.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "io/fiber.h"
#include "io/redis_link.h"

enum {
	IN_FLIGHT_MOST = 4096,
	CONNECTIONS_MOST = 64,
	OPENING_MOST = 8,   /* at a time, when load calls for more */
	TURN_BYTES = 16384, /* what Redis reads of one connection in a turn of its loop (PROTO_IOBUF_LEN) */
};

struct redis_op {
	struct op op; /* first member */
	struct redis_op *next;
	uint64_t end;  /* in its connection's stream of bytes */
	int64_t at_us; /* when it was sent */
	const struct redis_reply *root;
	struct redis_resp_memory memory;
	struct buf command; /* while no connection is ready */
};

struct op_list {
	struct redis_op *head, *tail;
	size_t n;
};

struct conn {
	struct redis_link link;
	struct redis *redis;
	struct op_list sent;
	uint64_t answered; /* end of the last command that was answered, in the connection's stream of bytes */
	struct timer grace;
	bool leaving; /* the server behind it may not write any more: no new commands, gone when the old ones are answered */
};

struct redis {
	struct loop *loop;
	struct redis_url url;
	char *name;
	enum err fault;
	int64_t grace_us;
	struct op_list waiting; /* for the first connection, or for one that was lost a moment ago */
	uint64_t commands, errors, reconnects;
	bool is_closing;
	char error[160];
	unsigned n, most; /* opened; at most */
	int64_t connect_ms;
	struct conn conn[];
};

static void list_push(struct op_list *list, struct redis_op *op)
{
	op->next = NULL;
	if (list->head)
		list->tail->next = op;
	else
		list->head = op;
	list->tail = op;
	list->n++;
}

static struct redis_op *list_pop(struct op_list *list)
{
	struct redis_op *op = list->head;

	if (op) {
		list->head = op->next;
		list->n--;
	}
	return op;
}

static void op_free(struct op *base)
{
	struct redis_op *op = CONTAINER_OF(base, struct redis_op, op);

	redis_resp_memory_free(&op->memory);
	buf_done(&op->command);
	free(op);
}

static void note_error(struct redis *r, const char *text)
{
	snprintf(r->error, sizeof(r->error), "%s", text);
}

/* ---- stuck connections: one lazy timer each, not one a command */

static void on_grace(void *ctx)
{
	struct conn *c = ctx;
	int64_t at_us;

	if (!c->sent.head)
		return;
	at_us = c->sent.head->at_us + c->redis->grace_us;
	if (at_us <= loop_mono_us(c->redis->loop))
		redis_link_fail(&c->link, "no answer in time", true);
	else
		timer_set_at(&c->grace, c->redis->loop, at_us, on_grace, c);
}

static void sent(struct conn *c, struct redis_op *op)
{
	op->at_us = loop_mono_us(c->redis->loop);
	list_push(&c->sent, op);
	if (c->grace.slot == 0)
		timer_set(&c->grace, c->redis->loop, c->redis->grace_us, on_grace, c);
}

/* ---- what the link tells */

static void on_ready(void *ctx)
{
	struct conn *c = ctx;
	struct redis *r = c->redis;

	c->leaving = false;
	c->answered = c->link.put_bytes;
	if (c->link.times_ready > 1)
		r->reconnects++;
	for (struct redis_op *op; c->sent.n < IN_FLIGHT_MOST && (op = list_pop(&r->waiting)) != NULL;) {
		/* Its fiber has left: nobody would hear the answer, so nothing is done. */
		if (op->op.refs == 1) {
			op_complete(&op->op, ERR_CANCELLED);
			continue;
		}
		op->end = redis_link_put_bytes(&c->link, buf_str(&op->command));
		buf_done(&op->command);
		sent(c, op);
	}
}

static void on_reply(void *ctx, const struct redis_reply *reply)
{
	struct conn *c = ctx;
	struct redis *r = c->redis;
	struct redis_op *op = list_pop(&c->sent);
	enum err e = OK;

	if (!op) {
		/* Nobody asked: the server says why it throws us out. */
		redis_link_fail(&c->link, reply->type == REDIS_ERROR ? reply->s.p : "an answer without a question", true);
		return;
	}
	c->answered = op->end;
	if (reply->type == REDIS_ERROR) {
		r->errors++;
		if (redis_resp_is_server_fault(reply)) {
			e = r->fault;
			note_error(r, reply->s.p);
			c->leaving = c->leaving || redis_resp_is_error(reply, "READONLY");
		}
	}
	op->root = reply;
	op->memory = c->link.memory;
	c->link.memory.blocks = NULL;
	op_complete(&op->op, e);
	/* A new connection to the same address may lead to the new primary. */
	if (c->leaving && c->sent.n == 0)
		redis_link_fail(&c->link, "the server is read-only", true);
}

static bool is_worth_waiting(const struct redis *r)
{
	for (unsigned i = 0; i < r->n; i++)
		if (r->conn[i].redis && (r->conn[i].link.state == REDIS_LINK_READY || r->conn[i].link.failures == 0))
			return !r->is_closing;
	return false;
}

static void on_lost(void *ctx)
{
	struct conn *c = ctx;
	struct redis *r = c->redis;
	uint64_t written = redis_link_written(&c->link);

	timer_stop(&c->grace);
	note_error(r, c->link.error);
	/* What did not leave whole cannot have been done; of the rest nobody knows. */
	for (struct redis_op *op; (op = list_pop(&c->sent)) != NULL;)
		op_complete(&op->op, op->end <= written ? ERR_UNCERTAIN : r->fault);
	if (is_worth_waiting(r))
		return;
	for (struct redis_op *op; (op = list_pop(&r->waiting)) != NULL;)
		op_complete(&op->op, r->fault);
}

static const struct redis_link_events events = {.ready = on_ready, .reply = on_reply, .lost = on_lost};

/* ---- life */

static void open_one(struct redis *r)
{
	struct conn *c = &r->conn[r->n++];

	c->redis = r;
	redis_link_open(&c->link, r->loop, &r->url, r->name, r->connect_ms, &events, c);
}

enum err redis_open(struct loop *loop, const struct redis_conf *conf, struct redis **ret)
{
	unsigned n = conf->connections > 0 ? conf->connections : 1, most = conf->most > n ? conf->most : n;
	struct redis_url url;
	struct redis *r;
	enum err e;

	if (most > CONNECTIONS_MOST)
		return ERR_INVALID;
	e = redis_url_open(conf->url, conf->name, conf->fault, &url);
	if (e != OK)
		return e;
	r = mem_zalloc(sizeof(*r) + most * sizeof(r->conn[0]));
	r->loop = loop;
	r->url = url;
	r->name = mem_strdup(conf->name);
	r->fault = conf->fault;
	r->grace_us = (conf->grace_ms > 0 ? conf->grace_ms : 2000) * 1000;
	r->most = most;
	r->connect_ms = conf->connect_ms;
	while (r->n < n)
		open_one(r);
	*ret = r;
	return OK;
}

struct redis *redis_close(struct redis *r)
{
	if (!r)
		return NULL;
	r->is_closing = true;
	for (unsigned i = 0; i < r->n; i++)
		redis_link_close(&r->conn[i].link);
	for (struct redis_op *op; (op = list_pop(&r->waiting)) != NULL;)
		op_complete(&op->op, r->fault);
	redis_url_done(&r->url);
	free(r->name);
	free(r);
	return NULL;
}

bool redis_is_up(const struct redis *r)
{
	for (unsigned i = 0; i < r->n; i++)
		if (r->conn[i].link.state == REDIS_LINK_READY && !r->conn[i].leaving)
			return true;
	return false;
}

const char *redis_last_error(const struct redis *r)
{
	return r->error;
}

struct redis_stats redis_stats(const struct redis *r)
{
	struct redis_stats s = {r->commands, r->errors, r->reconnects, r->waiting.n, 0};

	for (unsigned i = 0; i < r->n; i++) {
		s.in_flight += r->conn[i].sent.n;
		s.connected += r->conn[i].link.state == REDIS_LINK_READY;
	}
	return s;
}

/* ---- commands */

/* The first ready connection that has room in the server's next turn, else the one with the fewest bytes under way. So one connection, which costs least,
 * carries what fits into it, and under load, where one fsync covers one turn, a turn gets as many commands as there are connections for. */
static struct conn *choose(struct redis *r)
{
	struct conn *best = NULL;
	uint64_t least = UINT64_MAX;
	unsigned opening = 0;

	for (unsigned i = 0; i < r->n; i++) {
		struct conn *c = &r->conn[i];
		uint64_t bytes = c->link.put_bytes - c->answered;

		opening += c->link.state != REDIS_LINK_READY;
		if (c->link.state != REDIS_LINK_READY || c->leaving || bytes >= least)
			continue;
		if (bytes < TURN_BYTES && c->sent.n < IN_FLIGHT_MOST)
			return c;
		best = c;
		least = bytes;
	}
	/* All are busy. A server that takes no more is not asked for ever more. */
	if (best && r->n < r->most && !r->is_closing && opening < OPENING_MOST)
		open_one(r);
	return best;
}

static struct redis_op *start(struct redis *r, struct redis_args head, struct redis_args args)
{
	struct redis_op *op = mem_zalloc(sizeof(*op));
	struct conn *c = choose(r);

	op_init(&op->op, "redis", op_free);
	if (c && c->sent.n < IN_FLIGHT_MOST) {
		r->commands++;
		op->end = redis_link_put(&c->link, head, args);
		sent(c, op);
	} else if (!c && is_worth_waiting(r) && r->waiting.n < IN_FLIGHT_MOST) {
		r->commands++;
		redis_resp_put(&op->command, head, args);
		list_push(&r->waiting, op);
	} else {
		op_complete(&op->op, c || is_worth_waiting(r) ? ERR_OVERLOAD : r->fault);
	}
	return op;
}

struct redis_op *redis_start(struct redis *r, struct redis_args args)
{
	return start(r, (struct redis_args){NULL, 0}, args);
}

SUSPENDS enum err redis_finish(struct redis_op *op, struct arena *arena, struct deadline d, struct redis_reply *ret)
{
	enum err e = await(&op->op, d);

	if (e == OK && ret)
		*ret = redis_resp_give(arena, &op->memory, op->root);
	op_unref(&op->op);
	return e;
}

void redis_post(struct redis *r, struct redis_args args)
{
	op_unref(&start(r, (struct redis_args){NULL, 0}, args)->op); /* the answer frees it */
}

SUSPENDS static enum err call(struct redis *r, struct redis_args head, struct arena *arena, struct deadline d,
			      struct redis_args args, struct redis_reply *ret)
{
	/* Too late is too late: what is not sent is surely not done. */
	if (fiber_is_cancelled())
		return ERR_CANCELLED;
	if (d.at_us <= loop_mono_us(r->loop))
		return ERR_TIMEOUT;
	return redis_finish(start(r, head, args), arena, d, ret);
}

SUSPENDS enum err redis_call(struct redis *r, struct arena *arena, struct deadline d, struct redis_args args,
			     struct redis_reply *ret)
{
	return call(r, (struct redis_args){NULL, 0}, arena, d, args, ret);
}

SUSPENDS enum err redis_script_call(struct redis *r, const struct redis_script *script, struct redis_args args,
				    struct arena *arena, struct deadline d, struct redis_reply *ret)
{
	const struct str head[] = {STR("EVALSHA"), {script->sha, sizeof(script->sha) - 1}, STR("0")};
	const struct redis_args evalsha = {head, ARRAY_LEN(head)};
	struct redis_reply reply;
	enum err e;

	e = call(r, evalsha, arena, d, args, &reply);
	if (e == OK && redis_resp_is_error(&reply, "NOSCRIPT")) {
		e = redis_call(r, arena, d, REDIS_ARGS(STR("SCRIPT"), STR("LOAD"), str_of(script->text)), &reply);
		if (e == OK && reply.type == REDIS_ERROR) {
			note_error(r, reply.s.p);
			return r->fault;
		}
		if (e == OK)
			e = call(r, evalsha, arena, d, args, &reply);
		if (e == OK && redis_resp_is_error(&reply, "NOSCRIPT")) {
			note_error(r, reply.s.p);
			return r->fault;
		}
	}
	if (e == OK && ret)
		*ret = reply;
	return e;
}
