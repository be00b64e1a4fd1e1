/* SPDX-License-Identifier: Apache-2.0 */
/* What the admin listener serves beside the internal routes: probes, metrics, the fibers, the API's description. */
#include "base/arena.h"
#include "base/str.h"
#include "io/fiber.h"
#include "svc/buffers.h"
#include "svc/documents.h"
#include "svc/kit.h"

/* ---- /health: the process alone, so a dead database restarts nobody ---- */

SUSPENDS static enum err health(struct req *req)
{
	req->version = -1;
	req_header(req, "Cache-Control", "no-store");
	req_json_begin(req);
	req_json_key(req, "status");
	buf_put_json(&req->body, STR("ok"));
	req_json_key(req, "service");
	buf_put_json(&req->body, str_of(daemon_service(req->daemon)->name));
	req_json_end(req);
	return OK;
}

/* ---- /ready: degraded but able is ready (platform.md), so one dead dependency never takes every replica out ---- */

static const char *not_able(struct daemon *d, size_t needed, size_t away)
{
	if (d->state == DAEMON_DRAINING)
		return "draining";
	if (d->state != DAEMON_SERVING)
		return "starting";
	if (needed != 0 && needed == away)
		return "nothing that it needs is there";
	return buffers_not_able(d);
}

SUSPENDS bool admin_ready(struct daemon *d, struct buf *out)
{
	struct {
		const char *name;
		bool needed, here;
	} stores[] = {
		{"buffer", (d->service->flags & SERVICE_NO_BUFFER) == 0, buffers_any_up(d)},
		{"database", (d->service->flags & SERVICE_NO_PG) == 0, d->pg != NULL && pg_is_up(d->pg)},
	};
	struct buf more = {.arena = out->arena};
	size_t needed = 0, away = 0, listed = 0;
	const char *why;

	buf_puts(out, STR("\"away\":["));
	for (size_t i = 0; i < ARRAY_LEN(stores); i++) {
		needed += stores[i].needed;
		if (!stores[i].needed || stores[i].here)
			continue;
		buf_printf(out, "%s\"%s\"", listed++ != 0 ? "," : "", stores[i].name);
		away++;
	}
	if (d->cache != NULL && !redis_is_up(d->cache))
		buf_printf(out, "%s\"cache\"", listed++ != 0 ? "," : "");
	if (documents_away(d))
		buf_printf(out, "%s\"documents\"", listed++ != 0 ? "," : "");
	if (d->service->flags & SERVICE_NO_BUFFER && daemon_buffers(d) != 0 && !buffers_any_up(d))
		buf_printf(out, "%s\"sessions\"", listed++ != 0 ? "," : "");
	/* The schools of the others go on as always, so one of several is no reason to take this replica out. */
	for (size_t i = 0; buffers_any_up(d) && i < daemon_buffers(d); i++)
		if (!redis_is_up(daemon_buffer_at(d, i)))
			buf_printf(out, "%s\"buffer %s\"", listed++ != 0 ? "," : "", daemon_buffer_name(d, i));
	buf_putc(out, ']');
	why = not_able(d, needed, away);
	if (why == NULL && d->service->ready != NULL && d->service->ready(d, &more) != OK)
		why = more.n != 0 ? buf_cstr(&more) : "the service is not ready";
	if (why != NULL) {
		buf_puts(out, STR(",\"why\":"));
		buf_put_json(out, str_of(why));
	}
	buf_printf(out, ",\"status\":\"%s\"", why != NULL ? "not_ready" : listed != 0 ? "degraded" : "ready");
	if ((d->service->flags & SERVICE_NO_BUFFER) == 0)
		buf_printf(out, ",\"durability\":\"%s\"", buffers_durability(d));
	return why == NULL;
}

SUSPENDS static enum err ready(struct req *req)
{
	req->version = -1;
	req_header(req, "Cache-Control", "no-store");
	req_json_begin(req);
	req->status = admin_ready(req->daemon, &req->body) ? 200 : 503;
	req_json_end(req);
	return OK;
}

SUSPENDS static enum err metrics(struct req *req)
{
	req->content_type = "text/plain; version=0.0.4; charset=utf-8";
	req_header(req, "Cache-Control", "no-store");
	metrics_write(req->daemon, &req->body);
	return OK;
}

/* ---- /debug/fibers ---- */

static void put_fiber(void *ctx, const char *label, int64_t age_us, const char *waits_for)
{
	struct buf *out = ctx;

	if (out->p[out->n - 1] != '[')
		buf_putc(out, ',');
	buf_puts(out, STR("{\"label\":"));
	buf_put_json(out, str_of(label));
	buf_printf(out, ",\"age_ms\":%lld,\"waits_for\":", (long long)(age_us / 1000));
	buf_put_json(out, waits_for != NULL ? str_of(waits_for) : STR(""));
	buf_putc(out, '}');
}

SUSPENDS static enum err debug_fibers(struct req *req)
{
	struct fiber_stats stats = fiber_stats();

	req->version = -1;
	req_header(req, "Cache-Control", "no-store");
	req_json_begin(req);
	buf_printf(&req->body,
		   "\"live\":%zu,\"peak\":%zu,\"limit\":%zu,\"stacks_pooled\":%zu,\"stack_high_water_bytes\":%zu,\"fibers\":[",
		   stats.live, stats.peak, stats.limit, stats.stacks_pooled, stats.stack_high_water_bytes);
	fiber_each(put_fiber, &req->body);
	buf_putc(&req->body, ']');
	req_json_end(req);
	return OK;
}

/* The tables do not change while the process lives, so it is written once. */
SUSPENDS static enum err openapi(struct req *req)
{
	struct daemon *d = req->daemon;

	if (d->openapi.p == NULL) {
		struct buf out = buf_in(d->arena);

		openapi_write(d->service, &out);
		d->openapi = buf_str(&out);
	}
	req->body.n = 0;
	buf_puts(&req->body, d->openapi);
	return OK;
}

/* clang-format off */
#define KIT_ROUTE(path_, fn, text) {HTTP_GET, path_, ROLE_ANYONE, MAY_PUBLIC, .flags = ROUTE_BARE, .rate = RATE_NONE, .handler = (fn), .summary = (text)}
const struct route admin_routes[] = {
	KIT_ROUTE("/health", health, "Is the process alive"),
	KIT_ROUTE("/ready", ready, "Can it do its work"),
	KIT_ROUTE("/metrics", metrics, "Prometheus text"),
	KIT_ROUTE("/debug/fibers", debug_fibers, "What is running and waiting"),
	ROUTE_END,
};
const struct route openapi_route = KIT_ROUTE("/openapi.json", openapi, "This description");
/* clang-format on */
