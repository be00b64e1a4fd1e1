/* SPDX-License-Identifier: Apache-2.0 */
/* Audit records: who, what, from where, and the values that changed. */
#include "svc/audit.h"

#include <string.h>

#include "base/uuid.h"
#include "svc/req.h"
#include "svc/service.h"

const struct entity *audit_entity(const struct req *req)
{
	const struct entity *const *all = daemon_service(req->daemon)->entities;

	for (size_t i = 0; all && all[i]; i++) {
		if (all[i]->schema == &audit_row_schema)
			return all[i];
	}
	return NULL;
}

uint64_t row_changes(const struct schema *s, const void *old, const void *row)
{
	uint64_t set = row ? ((const struct fields *)row)->set : 0, was = old ? ((const struct fields *)old)->set : 0;
	uint64_t changes = set ^ was;

	if (!old || !row)
		return changes;
	for (size_t i = 0; i < s->n; i++) {
		if ((set & was) >> i & 1 && !field_equal(&s->fields[i], old, row))
			changes |= UINT64_C(1) << i;
	}
	return changes;
}

static struct str values(struct req *req, const struct schema *s, const void *row, uint64_t mask)
{
	struct buf out = buf_in(req->arena);

	if (!row)
		return (struct str){NULL, 0};
	json_encode_some(s, row, mask, &out);
	return buf_str(&out);
}

void audit_values(struct req *req, const struct schema *s, const void *old, const void *row, struct str *ret_old,
		  struct str *ret_new)
{
	uint64_t mask = row_changes(s, old, row);

	*ret_old = values(req, s, old, mask);
	*ret_new = values(req, s, row, mask);
}

static struct str cut(struct str s, size_t most)
{
	return s.n > most ? (struct str){s.p, most} : s;
}

struct audit_row *audit_new(struct req *req, const char *action, const char *entity, struct uuid id, struct str old_json,
			    struct str new_json)
{
	struct audit_row *a = arena_zalloc(req->arena, sizeof(*a));
	struct str agent = cut(http_header(req->x, "user-agent"), 512);

	a->row.id = uuid_v7(req->now_us);
	a->row.school_id = req->who.school_id;
	a->row.created_at = a->row.updated_at = req->now_us;
	if (!uuid_is_nil(req->who.user_id))
		FIELD_PUT(a, audit_row, actor, req->who.user_id);
	FIELD_PUT(a, audit_row, role, str_of(role_name(req->who.role)));
	FIELD_PUT(a, audit_row, action, str_of(action));
	FIELD_PUT(a, audit_row, entity_type, str_of(entity));
	if (!uuid_is_nil(id))
		FIELD_PUT(a, audit_row, entity_id, id);
	if (old_json.n != 0)
		FIELD_PUT(a, audit_row, old_values, old_json);
	if (new_json.n != 0)
		FIELD_PUT(a, audit_row, new_values, new_json);
	FIELD_PUT(a, audit_row, ip, cut(req_client_ip(req), 64));
	if (str_is_utf8(agent) && agent.n != 0)
		FIELD_PUT(a, audit_row, user_agent, agent);
	FIELD_PUT(a, audit_row, request_id, str_of(req->id));
	return a;
}
