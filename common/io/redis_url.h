/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses of Redis: redis://[user[:password]@]host[:port][/db] and unix://[user[:password]@]/path[?db=n]; parts may be %-escaped. */
#ifndef S24_IO_REDIS_URL_H
#define S24_IO_REDIS_URL_H

#include "base/err.h"
#include "io/afresh.h"

struct redis_url {
	char *host, *path; /* one of them */
	char *address;     /* the host as a number, after redis_url_resolve */
	char *user, *password;
	int port;
	int64_t db;
	struct afresh lookup;
};

/* ERR_INVALID, also for rediss:// (this build has no TLS towards Redis, and an address is never downgraded). */
MUST_CHECK enum err redis_url_parse(const char *text, struct redis_url *ret);
/* Looks the host up, which may block: at start only. ERR_IO. */
MUST_CHECK enum err redis_url_resolve(struct redis_url *url);
/* Both, for a client of that name: ERR_INVALID, or `fault` with a line of the log. */
MUST_CHECK enum err redis_url_open(const char *text, const char *name, enum err fault, struct redis_url *ret);
/* Before each attempt to connect: a server may have another address by now. Takes what was found since the last attempt and has it looked up
 * again, on a thread; never waits. */
void redis_url_refresh(struct redis_url *url);
void redis_url_done(struct redis_url *url);

#endif
