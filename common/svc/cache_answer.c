/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of a kept answer: what is in them, and which answers last. */
#include <string.h>

#include "base/str.h"
#include "svc/cache_http.h"
#include "svc/kit.h"

static bool forbids_keeping(const struct req *req)
{
	struct str rest = buf_str(&req->headers);

	while (rest.n != 0) {
		struct str line = str_split(&rest, '\n'), value = line, name = str_split(&value, ':');

		if (str_ieq(name, STR("set-cookie")))
			return true;
		if (str_ieq(name, STR("cache-control")) &&
		    (memmem(value.p, value.n, "no-store", 8) != NULL || memmem(value.p, value.n, "private", 7) != NULL))
			return true;
	}
	return false;
}

/* What holds for this moment alone is told, not kept. */
bool cache_answer_is_lasting(const struct req *req)
{
	return !req->database_only && req->sync != SYNC_IN_FLIGHT && req->content_type == NULL && !req->answered &&
	       (req->status == 0 || req->status == 200) && !forbids_keeping(req);
}

struct kept {
	int64_t version, due_us;
	uint32_t status, sync, headers_n, body_n;
	uint64_t hash; /* of a body that nothing is put behind any more: taken once, not for each answer */
};

/* RFC 9110 7.6.1: these are said to the next one alone. */
static bool is_for_one_hop(struct str name)
{
	static const char *const names[] = {"connection", "keep-alive",        "proxy-connection", "te",
					    "trailer",    "transfer-encoding", "upgrade"};

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (str_ieq(name, str_of(names[i])))
			return true;
	}
	return false;
}

static void put_headers(const struct req *req, struct buf *out)
{
	struct str rest = {req->headers.p + req->kept_headers, req->headers.n - req->kept_headers};

	while (rest.n != 0) {
		struct str line = str_split(&rest, '\n'), value = line;

		if (!is_for_one_hop(str_split(&value, ':')))
			buf_put(out, line.p, line.n + 1);
	}
}

void cache_answer_put(const struct req *req, struct buf *out)
{
	struct kept k = {.version = req->version,
			 .due_us = req->due_us,
			 .status = (uint32_t)(req->status != 0 ? req->status : 200),
			 .sync = (uint32_t)req->sync,
			 .body_n = (uint32_t)req->body.n,
			 .hash = req->sync == SYNC_NONE ? answer_hash(buf_str(&req->body)) : 0};
	size_t at = out->n;

	buf_put(out, &k, sizeof(k));
	put_headers(req, out);
	k.headers_n = (uint32_t)(out->n - at - sizeof(k));
	memcpy(out->p + at, &k, sizeof(k));
	buf_puts(out, buf_str(&req->body));
}

enum err cache_answer_take(struct req *req, struct str bytes)
{
	struct kept k;

	if (bytes.n < sizeof(k))
		return ERR_CORRUPT;
	memcpy(&k, bytes.p, sizeof(k));
	if (bytes.n != sizeof(k) + (size_t)k.headers_n + k.body_n || k.sync > SYNC_DONE)
		return ERR_CORRUPT;
	req->version = k.version;
	req->due_us = k.due_us;
	req->status = (int)k.status;
	req->sync = (enum sync_state)k.sync;
	req->body_hash = k.hash;
	buf_put(&req->headers, bytes.p + sizeof(k), k.headers_n);
	req->body = (struct buf){.p = (char *)(uintptr_t)bytes.p + sizeof(k) + k.headers_n,
				 .n = k.body_n,
				 .cap = k.body_n, /* full, so that appending copies it */
				 .arena = req->arena};
	return OK;
}
