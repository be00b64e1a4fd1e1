/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a URL to libpq's options. Host names are resolved here, because PQconnectStart would do it in the middle of the loop; the name stays beside the
 * address for certificates (verify-full). Before further connections they are looked up again, on a thread: a server may move.
 */
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/timefmt.h"
#include "io/pg_pool.h"

#define ADDRESSES_MAX 16

struct options {
	char **keys, **values;
	size_t n, cap;
};

/* Replaces what is there. */
static void option_set(struct options *o, const char *key, const char *value)
{
	for (size_t i = 0; i < o->n; i++)
		if (strcmp(o->keys[i], key) == 0) {
			free(o->values[i]);
			o->values[i] = mem_strdup(value);
			return;
		}
	if (o->n + 1 >= o->cap) {
		o->cap = o->cap ? o->cap * 2 : 32;
		o->keys = mem_realloc(o->keys, o->cap * sizeof(char *));
		o->values = mem_realloc(o->values, o->cap * sizeof(char *));
	}
	o->keys[o->n] = mem_strdup(key);
	o->values[o->n++] = mem_strdup(value);
	o->keys[o->n] = NULL;
	o->values[o->n] = NULL;
}

static const char *option_get(const struct options *o, const char *key)
{
	for (size_t i = 0; i < o->n; i++)
		if (strcmp(o->keys[i], key) == 0)
			return o->values[i];
	return NULL;
}

static void option_default(struct options *o, const char *key, const char *value)
{
	if (!option_get(o, key))
		option_set(o, key, value);
}

struct addresses {
	struct buf hosts, addresses, ports;
	size_t n;
};

static void address_add(struct addresses *a, struct str host, const char *address, struct str port)
{
	if (a->n++ != 0) {
		buf_putc(&a->hosts, ',');
		buf_putc(&a->addresses, ',');
		buf_putc(&a->ports, ',');
	}
	buf_puts(&a->hosts, host);
	buf_puts(&a->addresses, str_of(address));
	buf_puts(&a->ports, port);
}

/* Every address of one host: a name may have an IPv6 address where nobody listens. */
static bool host_resolve(struct addresses *a, struct str host, struct str port, struct arena *arena)
{
	struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *found, *i;
	char text[NI_MAXHOST];

	if (host.n == 0 || host.p[0] == '/' || host.p[0] == '@') { /* a socket in the file system */
		address_add(a, host, "", port);
		return true;
	}
	if (getaddrinfo(arena_cstr(arena, host), NULL, &hints, &found) != 0)
		return false;
	for (i = found; i && a->n < ADDRESSES_MAX; i = i->ai_next)
		if (getnameinfo(i->ai_addr, i->ai_addrlen, text, sizeof(text), NULL, 0, NI_NUMERICHOST) == 0)
			address_add(a, host, text, port);
	freeaddrinfo(found);
	return true;
}

static enum err hosts_resolve(struct options *o)
{
	struct arena *arena = arena_new();
	struct addresses a = {.hosts = buf_in(arena), .addresses = buf_in(arena), .ports = buf_in(arena)};
	struct str hosts = str_of(option_get(o, "host")), ports = str_of(option_get(o, "port")), one_port = STR("");
	bool ok = true;

	if (hosts.n == 0 || option_get(o, "hostaddr")) {
		arena_free(arena);
		return OK;
	}
	while (ok && hosts.n != 0) {
		struct str host = str_split(&hosts, ',');

		if (ports.n != 0) /* fewer ports than hosts: one for all */
			one_port = str_split(&ports, ',');
		ok = host_resolve(&a, host, one_port, arena);
	}
	if (ok && a.n != 0) {
		option_set(o, "host", buf_cstr(&a.hosts));
		option_set(o, "hostaddr", buf_cstr(&a.addresses));
		option_set(o, "port", buf_cstr(&a.ports));
	}
	arena_free(arena);
	return ok ? OK : ERR_DB;
}

static void session_options(struct options *o, const struct pg_conf *conf)
{
	struct arena *arena = arena_new();
	const char *own = option_get(o, "options");

	/* What the URL says comes last and wins. client_connection_check_interval ends statements whose client has left. */
	option_set(o, "options",
		   arena_printf(arena,
				"-c statement_timeout=%lld -c lock_timeout=%lld -c idle_in_transaction_session_timeout=15000"
				" -c TimeZone=UTC -c client_connection_check_interval=1000 %s",
				(long long)conf->statement_ms, (long long)conf->lock_ms, own ? own : ""));
	arena_free(arena);
}

enum err pg_target(const struct pg_conf *conf, char ***ret_keys, char ***ret_values)
{
	char *message = NULL;
	PQconninfoOption *parsed = PQconninfoParse(conf->url, &message);
	struct options o = {0};
	enum err e;

	PQfreemem(message); /* it may quote a password */
	if (!parsed)
		return ERR_INVALID;
	for (const PQconninfoOption *i = parsed; i->keyword; i++)
		if (i->val)
			option_set(&o, i->keyword, i->val);
	PQconninfoFree(parsed);

	session_options(&o, conf);
	option_set(&o, "client_encoding", "UTF8");
	option_default(&o, "fallback_application_name", "schools24");
	option_default(&o, "target_session_attrs", "read-write");
	option_default(&o, "tcp_user_timeout", "5000");
	option_default(&o, "keepalives", "1");
	option_default(&o, "keepalives_idle", "10");
	option_default(&o, "keepalives_interval", "3");
	option_default(&o, "keepalives_count", "3");
	e = hosts_resolve(&o);
	if (e != OK) {
		pg_target_free(o.keys, o.values);
		return e;
	}
	*ret_keys = o.keys;
	*ret_values = o.values;
	return OK;
}

void pg_target_free(char **keys, char **values)
{
	for (size_t i = 0; keys && keys[i]; i++) {
		free(keys[i]);
		free(values[i]);
	}
	free(keys);
	free(values);
}

/* ---- again ----------------------------------------------------------------------------------------------------------------- */

struct question {
	char *url;
	int64_t statement_ms, lock_ms;
};
struct answer {
	char **keys, **values;
};

static void *look_up(void *arg)
{
	const struct question *q = arg;
	const struct pg_conf conf = {.url = q->url, .statement_ms = q->statement_ms, .lock_ms = q->lock_ms};
	struct answer *found = mem_zalloc(sizeof(*found));

	if (pg_target(&conf, &found->keys, &found->values) == OK)
		return found;
	free(found);
	return NULL;
}

static void answer_drop(void *made)
{
	struct answer *found = made;

	pg_target_free(found->keys, found->values);
	free(found);
}

static void url_free(char *url)
{
	if (url)
		explicit_bzero(url, strlen(url)); /* it has the password */
	free(url);
}

static void question_free(void *arg)
{
	struct question *q = arg;

	url_free(q->url);
	free(q);
}

void pg_names_init(struct pg_names *n, const struct pg_conf *conf)
{
	*n = (struct pg_names){.url = mem_strdup(conf->url),
			       .statement_ms = conf->statement_ms,
			       .lock_ms = conf->lock_ms,
			       .lookup = {.begun_us = clock_mono_us()}};
}

/* Does it name a server by anything but numbers? */
static bool has_names(char **keys, char **values)
{
	const char *host = NULL, *address = NULL;

	for (size_t i = 0; keys[i]; i++) {
		if (strcmp(keys[i], "host") == 0)
			host = values[i];
		else if (strcmp(keys[i], "hostaddr") == 0)
			address = values[i];
	}
	return host && address && address[0] != '\0' && strcmp(host, address) != 0; /* "": a socket in the file system */
}

void pg_names_refresh(struct pg_names *n, char ***keys, char ***values)
{
	static const struct afresh_kind kind = {look_up, answer_drop, question_free};
	struct question *q;
	struct answer *found;

	if (!has_names(*keys, *values))
		return;
	found = afresh_take(&n->lookup);
	if (found) {
		pg_target_free(*keys, *values);
		*keys = found->keys;
		*values = found->values;
		free(found);
	}
	if (!afresh_is_due(&n->lookup, clock_mono_us()))
		return;
	q = mem_zalloc(sizeof(*q));
	*q = (struct question){mem_strdup(n->url), n->statement_ms, n->lock_ms};
	afresh_begin(&n->lookup, &kind, q, clock_mono_us());
}

void pg_names_done(struct pg_names *n)
{
	afresh_done(&n->lookup);
	url_free(n->url);
	n->url = NULL;
}
