/* SPDX-License-Identifier: Apache-2.0 */
/* Parsing and looking up the address of a Redis server. */
#include "io/redis_url.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/log.h"
#include "base/str.h"
#include "base/timefmt.h"

enum { DEFAULT_PORT = 6379, TEXT_MOST = 1024, DB_MOST = 1000000, HOST_MOST = 255, PATH_MOST = 107 };

static char *decoded(struct str s)
{
	char *text = mem_alloc(s.n + 1);
	size_t n;

	if (!str_percent_decode(text, s, false, &n)) {
		free(text);
		return NULL;
	}
	text[n] = '\0';
	return text;
}

/* Takes "user:password@" off the front of what ends at a slash or at the end. */
static bool take_userinfo(struct str *rest, struct redis_url *url)
{
	size_t end = 0, at = SIZE_MAX;
	struct str info;

	/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): the scheme stood there, so there is text */
	for (; end < rest->n && rest->p[end] != '/'; end++)
		if (rest->p[end] == '@')
			at = end;
	if (at == SIZE_MAX)
		return true;
	info = (struct str){rest->p, at};
	rest->p += at + 1;
	rest->n -= at + 1;
	url->user = decoded(str_split(&info, ':'));
	url->password = decoded(info);
	return url->user && url->password;
}

static bool number(struct str s, int64_t least, int64_t most, int64_t *ret)
{
	int64_t v;

	if (!str_to_i64(s, &v) || v < least || v > most)
		return false;
	*ret = v;
	return true;
}

static bool parse_unix(struct str rest, struct redis_url *url)
{
	struct str path;

	if (!take_userinfo(&rest, url))
		return false;
	path = str_split(&rest, '?');
	if (rest.n != 0) {
		if (!str_has_prefix(rest, STR("db=")) || !number((struct str){rest.p + 3, rest.n - 3}, 0, DB_MOST, &url->db))
			return false;
	}
	if (path.n < 2 || path.p[0] != '/')
		return false;
	url->path = decoded(path);
	return url->path && strlen(url->path) <= PATH_MOST;
}

static bool parse_tcp(struct str rest, struct redis_url *url)
{
	struct str host, db, port;
	int64_t v = DEFAULT_PORT;
	const char *close;

	if (!take_userinfo(&rest, url))
		return false;
	host = str_split(&rest, '/');
	db = rest;
	if (host.n > 0 && host.p[0] == '[') {
		close = memchr(host.p, ']', host.n);
		if (!close)
			return false;
		port = (struct str){close + 1, (size_t)(host.p + host.n - close) - 1};
		host = (struct str){host.p + 1, (size_t)(close - host.p) - 1};
		if (port.n > 0 && (port.p[0] != ':' || port.n == 1))
			return false;
		port = port.n > 0 ? (struct str){port.p + 1, port.n - 1} : port;
	} else {
		close = memchr(host.p, ':', host.n);
		port = host;
		host = str_split(&port, ':');
		if (close && port.n == 0)
			return false;
	}
	if (host.n == 0 || host.n > HOST_MOST || (port.n > 0 && !number(port, 1, 65535, &v)))
		return false;
	url->port = (int)v;
	if (db.n > 0 && !number(db, 0, DB_MOST, &url->db))
		return false;
	url->host = decoded(host);
	return url->host != NULL;
}

enum err redis_url_parse(const char *text, struct redis_url *ret)
{
	struct redis_url url = {0};
	struct str s = str_of(text);
	bool good = false;

	if (s.n > TEXT_MOST)
		return ERR_INVALID;
	if (str_has_prefix(s, STR("redis://")))
		good = parse_tcp((struct str){s.p + 8, s.n - 8}, &url);
	else if (str_has_prefix(s, STR("unix://")))
		good = parse_unix((struct str){s.p + 7, s.n - 7}, &url);
	if (!good) {
		redis_url_done(&url);
		return ERR_INVALID;
	}
	*ret = url;
	return OK;
}

static char *address_of(const char *host)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_family = AF_UNSPEC};
	struct addrinfo *list;
	char text[INET6_ADDRSTRLEN];
	int failed;

	if (getaddrinfo(host, NULL, &hints, &list) != 0)
		return NULL;
	failed = getnameinfo(list->ai_addr, list->ai_addrlen, text, sizeof(text), NULL, 0, NI_NUMERICHOST);
	freeaddrinfo(list);
	return failed ? NULL : mem_strdup(text);
}

enum err redis_url_resolve(struct redis_url *url)
{
	if (!url->host || url->address)
		return OK;
	url->address = address_of(url->host);
	url->lookup.begun_us = clock_mono_us();
	return url->address ? OK : ERR_IO;
}

static void *look_up(void *host)
{
	return address_of(host);
}

void redis_url_refresh(struct redis_url *url)
{
	static const struct afresh_kind kind = {look_up, free, free};
	char *found;

	if (!url->address || strcmp(url->host, url->address) == 0)
		return;
	found = afresh_take(&url->lookup);
	if (found) {
		free(url->address);
		url->address = found;
	}
	if (afresh_is_due(&url->lookup, clock_mono_us()))
		afresh_begin(&url->lookup, &kind, mem_strdup(url->host), clock_mono_us());
}

enum err redis_url_open(const char *text, const char *name, enum err fault, struct redis_url *ret)
{
	struct redis_url url;
	enum err e = redis_url_parse(text, &url);

	if (e != OK)
		return e;
	if (redis_url_resolve(&url) != OK) {
		log_error("the host of redis is unknown", LOG_S("redis", name));
		redis_url_done(&url);
		return fault;
	}
	*ret = url;
	return OK;
}

void redis_url_done(struct redis_url *url)
{
	afresh_done(&url->lookup);
	if (url->password)
		explicit_bzero(url->password, strlen(url->password));
	free(url->host);
	free(url->path);
	free(url->address);
	free(url->user);
	free(url->password);
	*url = (struct redis_url){0};
}
