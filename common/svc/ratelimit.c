/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How often: GCRA. Normal routes count in this process's memory (a limit against runaway clients, so exactness across replicas is not worth a
 * round trip); logins and heavy routes count in Redis, exactly, and in memory while Redis is away.
 */
#include <string.h>

#include "base/timefmt.h"
#include "base/uuid.h"
#include "svc/authn_internal.h"
#include "svc/buffers.h"
#include "svc/rules.h"
#include "svc_lua.h"

#define REDIS_TRY_MS 300

struct limit {
	const char *name;
	int64_t requests, window_s, burst;
};

struct verdict {
	bool allowed;
	int64_t left, wait_us, full_us;
};

static struct limit limit_of(const struct req *req)
{
	const struct settings *s = &req->daemon->settings;

	switch (req->route->rate) {
	case RATE_LOGIN: /* a whole school sits behind one address, so this only stops floods; wrong passwords are auth's to slow down */
		return (struct limit){"login", s->rate_per_minute, 60, s->rate_per_minute};
	case RATE_HEAVY:
		return (struct limit){"heavy", s->rate_per_minute / 20 + 1, 60, s->rate_per_minute / 40 + 1};
	case RATE_NORMAL:
	case RATE_NONE:
		break;
	}
	return (struct limit){"user", s->rate_per_minute, 60, s->rate_per_minute / 4 + 1};
}

/* The session, the service, or the address of a caller without a token. */
static struct str caller_key(const struct req *req, const struct limit *limit)
{
	struct buf b = buf_in(req->arena);

	buf_printf(&b, "rate:%s:%s:", req->daemon->service->name, limit->name);
	if (!uuid_is_nil(req->who.sid))
		buf_put_uuid(&b, req->who.sid);
	else
		buf_puts(&b, req_client_ip(req));
	return buf_str(&b);
}

static struct verdict in_memory(struct req *req, const struct limit *limit, struct str key)
{
	struct authn *a = req->daemon->authn;
	int64_t interval = limit->window_s * US_PER_S / limit->requests, now = loop_mono_us(req->daemon->loop), tat = 0, after,
		wait;
	struct str stored;

	if (lru_get(a->limits, key, now, &stored) && stored.n == sizeof(tat))
		memcpy(&tat, stored.p, sizeof(tat));
	after = (tat > now ? tat : now) + interval;
	wait = after - limit->burst * interval - now;
	if (wait > 0)
		return (struct verdict){.wait_us = wait, .full_us = tat - now};
	lru_put(a->limits, key, (struct str){(const char *)&after, sizeof(after)}, after);
	return (struct verdict){
		.allowed = true, .left = (limit->burst * interval - (after - now)) / interval, .full_us = after - now};
}

SUSPENDS static bool in_redis(struct req *req, const struct limit *limit, struct str key, struct verdict *ret)
{
	struct deadline d = deadline_sooner(req->deadline, deadline_in(req->daemon->loop, REDIS_TRY_MS));
	struct buf interval = buf_in(req->arena), burst = buf_in(req->arena);
	struct redis *redis = req_buffer(req); /* a login has no school yet: the first */
	struct redis_reply r;

	if (!redis)
		return false;
	buf_put_i64(&interval, limit->window_s * US_PER_S / limit->requests);
	buf_put_i64(&burst, limit->burst);
	if (redis_script_call(redis, &LUA_GCRA, REDIS_ARGS(key, buf_str(&interval), buf_str(&burst)), req->arena, d, &r) != OK ||
	    r.type != REDIS_ARRAY || r.n != 4)
		return false;
	*ret = (struct verdict){r.v[0].i == 1, r.v[1].i, r.v[2].i, r.v[3].i};
	return true;
}

static int64_t seconds_up(int64_t us)
{
	return (us + US_PER_S - 1) / US_PER_S;
}

enum err rate_check(struct req *req)
{
	struct limit limit = limit_of(req);
	struct verdict v;
	struct str key;

	if (limit.requests == 0 || req->daemon->settings.rate_per_minute == 0 || req->who.role == ROLE_SERVICE)
		return OK;
	key = caller_key(req, &limit);
	if (req->route->rate == RATE_NORMAL || !in_redis(req, &limit, key, &v))
		v = in_memory(req, &limit, key);
	req_header(req, "RateLimit-Policy", "\"%s\";q=%lld;w=%lld", limit.name, (long long)limit.requests,
		   (long long)limit.window_s);
	req_header(req, "RateLimit", "\"%s\";r=%lld;t=%lld", limit.name, (long long)v.left, (long long)seconds_up(v.full_us));
	if (v.allowed)
		return OK;
	req->retry_after_s = seconds_up(v.wait_us);
	return req_fail(req, ERR_RATE_LIMITED, "too many requests; the limit is %lld a minute", (long long)limit.requests);
}
