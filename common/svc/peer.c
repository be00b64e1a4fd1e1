/* SPDX-License-Identifier: Apache-2.0 */
/* Calls to other daemons: along declared edges only, with the service token, the caller's user passed along. */
#include "base/log.h"
#include "base/uuid.h"
#include "svc/authn_internal.h"
#include "svc/buffers.h"
#include "svc/req.h"

#define PEER_TRY_MS 3000

static bool is_declared(const struct service *s, const char *peer)
{
	if (str_eq(str_of(s->name), str_of(peer)))
		return true; /* auth asks its own listener for sessions and directory */
	for (size_t i = 0; i < ARRAY_LEN(s->uses) && s->uses[i]; i++) {
		if (str_eq(str_of(s->uses[i]), str_of(peer)))
			return true;
	}
	return false;
}

/* A daemon finds its own listener without a setting. */
static const char *address_of(struct req *req, const char *service)
{
	const struct daemon *d = req->daemon;
	const char *url = settings_peer_url(&d->settings, service);

	if (!url && str_eq(str_of(d->service->name), str_of(service)))
		url = arena_printf(req->arena, "http://%s", d->settings.admin_listen);
	return url;
}

enum err peer_call(struct req *req, const char *service, enum http_method method, const char *target, struct str body,
		   struct http_reply *ret)
{
	struct daemon *d = req->daemon;
	const struct authn *a = d->authn;
	const char *base = address_of(req, service);
	struct buf headers = buf_in(req->arena);
	struct http_call call = {.base = base, .method = method, .target = str_of(target), .body = body};

	if (!is_declared(d->service, service)) {
		log_error("a peer is called that the service does not declare", LOG_S("peer", service));
		return ERR_BUG;
	}
	if (!base || !a->service_token)
		return ERR_PEER;
	buf_printf(&headers, "Authorization: Bearer %s\r\nX-Request-Id: %s\r\nX-School-Id: ", a->service_token, req->id);
	buf_put_uuid(&headers, req->who.school_id);
	buf_puts(&headers, STR("\r\nX-User-Id: "));
	buf_put_uuid(&headers, req->who.user_id);
	buf_puts(&headers, STR("\r\nX-School-Buffer: "));
	buf_puts(&headers, req_buffer_name(req));
	buf_puts(&headers, STR("\r\n"));
	if (body.n != 0)
		buf_puts(&headers, STR("Content-Type: application/json\r\n"));
	call.headers = buf_str(&headers);
	return http_call(d->http, &call, req->arena, deadline_sooner(req->deadline, deadline_in(d->loop, PEER_TRY_MS)), ret);
}
