/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A daemon of a test's own on real sockets, without databases: its tables are the test's, its callers are named by the token alone
 * ("Bearer teacher"). The client is a thread that sends bytes and reads until the end; the loop runs meanwhile.
 */
#ifndef S24_KIT_FIXTURE_H
#define S24_KIT_FIXTURE_H

#include "unit.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/str.h"
#include "io/loop.h"
#include "svc/authn.h"
#include "svc/kit.h"
#include "svc/rules.h"

/* ---- who calls ---- */

enum err authn_open(struct daemon *d)
{
	(void)d;
	return OK;
}

void authn_close(struct daemon *d)
{
	(void)d;
}

enum err authn_check(struct req *req)
{
	struct str token = http_header(req->x, "Authorization");

	if (!str_has_prefix(token, STR("Bearer ")))
		return req_fail(req, ERR_UNAUTHENTICATED, "no token");
	token = (struct str){token.p + 7, token.n - 7};
	if (str_is(token, "service")) {
		req->who.role = ROLE_SERVICE;
		return OK;
	}
	return role_parse(token, &req->who.role) ? OK : ERR_UNAUTHENTICATED;
}

static int limited; /* requests to refuse */

enum err rate_check(struct req *req)
{
	req_header(req, "RateLimit", "\"user\";r=%d", limited);
	if (limited == 0)
		return OK;
	limited--;
	req->retry_after_s = 7;
	return ERR_RATE_LIMITED;
}

enum err rule_check(struct req *req)
{
	return req->route->rule.check != NULL ? req->route->rule.check(req) : OK;
}

/* ---- the daemon ---- */

struct kit {
	struct daemon daemon;
	struct arena *arena;
	char folder[64];
};

static inline struct kit *kit_open(const struct service *service)
{
	struct kit *k = mem_zalloc(sizeof(*k));
	struct buf problems = {0};

	k->arena = arena_new();
	snprintf(k->folder, sizeof(k->folder), "/tmp/s24-kit-XXXXXX");
	assert_non_null(mkdtemp(k->folder));
	setenv("LISTEN", "127.0.0.1:0", 1);
	setenv("ADMIN_LISTEN", "127.0.0.1:0", 1);
	setenv("S24_DRAIN_WAIT_MS", "0", 1);
	setenv("LOG_LEVEL", "error", 1);
	setenv("SCHOOLS24_ENV", "test", 1);
	setenv("STORAGE_URL", arena_printf(k->arena, "file://%s", k->folder), 1);
	if (daemon_load(&k->daemon, service, NULL, &problems) != OK)
		fail_msg("%.*s", (int)problems.n, problems.p);
	assert_int_equal(daemon_open(&k->daemon), OK);
	buf_done(&problems);
	return k;
}

static inline void kit_close(struct kit *k)
{
	char command[128];

	daemon_close(&k->daemon);
	snprintf(command, sizeof(command), "rm -rf %s", k->folder);
	assert_int_equal(system(command), 0);
	arena_free(k->arena);
	free(k);
}

/* ---- the client ---- */

struct kit_call {
	struct kit *kit;
	struct loop *loop;
	int port;
	struct str bytes;
	char *answer;
	size_t n, cap;
};

static inline void kit_stop(void *loop)
{
	loop_stop(loop);
}

static inline void *kit_client(void *arg)
{
	struct kit_call *call = arg;
	struct sockaddr_in at = {
		.sin_family = AF_INET, .sin_port = htons((uint16_t)call->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct timeval patience = {.tv_sec = 20};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	size_t sent = 0;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (connect(fd, (struct sockaddr *)&at, sizeof(at)) == 0) {
		while (sent < call->bytes.n) {
			ssize_t n = send(fd, call->bytes.p + sent, call->bytes.n - sent, MSG_NOSIGNAL);

			if (n <= 0)
				break;
			sent += (size_t)n;
		}
		for (;;) {
			ssize_t n;

			if (call->cap - call->n < 65536)
				call->answer = mem_realloc(call->answer, call->cap += 1 << 18);
			n = recv(fd, call->answer + call->n, call->cap - call->n - 1, 0);
			if (n <= 0)
				break;
			call->n += (size_t)n;
		}
	}
	close(fd);
	loop_post(call->loop, kit_stop, call->loop);
	return NULL;
}

/* What the port answers to these bytes, until it closes. */
static inline struct str kit_exchange(struct kit *k, int port, struct str bytes)
{
	struct kit_call call = {.kit = k, .loop = k->daemon.loop, .port = port, .bytes = bytes};
	pthread_t thread;
	struct str answer;

	assert_int_equal(pthread_create(&thread, NULL, kit_client, &call), 0);
	loop_run(k->daemon.loop);
	pthread_join(thread, NULL);
	answer = arena_str(k->arena, (struct str){call.answer, call.n});
	free(call.answer);
	return answer;
}

struct kit_answer {
	int status;
	struct str head, body; /* both terminated */
};

static inline struct kit_answer kit_split(struct kit *k, struct str bytes)
{
	struct kit_answer a = {0};
	const char *end = bytes.n != 0 ? memmem(bytes.p, bytes.n, "\r\n\r\n", 4) : NULL;

	if (end == NULL)
		return a;
	a.head = arena_str(k->arena, (struct str){bytes.p, (size_t)(end - bytes.p) + 2});
	a.body = arena_str(k->arena, (struct str){end + 4, bytes.n - (size_t)(end + 4 - bytes.p)});
	a.status = a.head.n > 12 ? atoi(a.head.p + 9) : 0;
	return a;
}

/* headers: complete lines; body may be empty. One request, then close. */
static inline struct kit_answer kit_send(struct kit *k, int port, const char *method, const char *target, const char *headers,
					 struct str body)
{
	struct buf b = buf_in(k->arena);

	buf_printf(&b, "%s %s HTTP/1.1\r\nHost: test\r\nConnection: close\r\n%s", method, target, headers);
	if (body.n != 0)
		buf_printf(&b, "Content-Length: %zu\r\n", body.n);
	buf_puts(&b, STR("\r\n"));
	buf_puts(&b, body);
	return kit_split(k, kit_exchange(k, port, buf_str(&b)));
}

static inline int kit_port(const struct kit *k)
{
	return http_server_port(k->daemon.people.server);
}

static inline int kit_admin_port(const struct kit *k)
{
	return http_server_port(k->daemon.admin.server);
}

#define TEACHER "Authorization: Bearer teacher\r\n"
#define JSON_TYPE "Content-Type: application/json\r\n"

static inline struct kit_answer kit_get(struct kit *k, const char *target, const char *headers)
{
	return kit_send(k, kit_port(k), "GET", target, headers, STR(""));
}

static inline struct kit_answer kit_admin_get(struct kit *k, const char *target)
{
	return kit_send(k, kit_admin_port(k), "GET", target, "", STR(""));
}

static inline struct kit_answer kit_json(struct kit *k, const char *method, const char *target, const char *headers,
					 const char *json)
{
	return kit_send(k, kit_port(k), method, target, arena_printf(k->arena, "%s" JSON_TYPE, headers), str_of(json));
}

/* The value of a header line of the answer, or "". */
static inline const char *kit_header(struct kit *k, struct kit_answer a, const char *name)
{
	struct str rest = a.head, wanted = str_of(name);

	while (rest.n != 0) {
		struct str line = str_split(&rest, '\n');

		if (line.n > wanted.n && line.p[wanted.n] == ':' && str_ieq((struct str){line.p, wanted.n}, wanted))
			return arena_cstr(k->arena, str_trim((struct str){line.p + wanted.n + 1, line.n - wanted.n - 1}));
	}
	return "";
}

#define assert_holds(text, part)                                                               \
	do {                                                                                   \
		if ((text).n == 0 || memmem((text).p, (text).n, (part), strlen(part)) == NULL) \
			fail_msg("no \"%s\" in: %.*s", (part), STR_FMT(text));                 \
	} while (0)
#define assert_lacks(text, part)                                                               \
	do {                                                                                   \
		if ((text).n != 0 && memmem((text).p, (text).n, (part), strlen(part)) != NULL) \
			fail_msg("\"%s\" in: %.*s", (part), STR_FMT(text));                    \
	} while (0)

#endif
