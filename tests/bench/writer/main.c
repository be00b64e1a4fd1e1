/* SPDX-License-Identifier: Apache-2.0 */
/* Routes and handlers of the bench daemon. */
#include "base/uuid.h"
#include "svc/audit.h"
#include "svc/envelope.h"
#include "writer.h"
#include "writer_entity_sql.h"
#include "writer_sql.h"

#define DONE_FIELDS(F, T) F(T, INT, version)
SCHEMA_STRUCT(done, DONE_FIELDS);
SCHEMA_TABLE(done, DONE_FIELDS);

/* Row, audit record and event in one statement, which is one round trip and one commit: what a careful service without a buffer would do. */
SUSPENDS static enum err put_alone(struct req *req, const struct entity *e, void *row)
{
	const struct service *service = daemon_service(req->daemon);
	const struct event_row *event;
	struct str old_json, new_json, envelope;
	struct audit_row *audit;
	struct pg_params of_row, of_audit;
	struct pg_param *all;
	struct done done;
	size_t from = 0;
	enum err err;

	((struct row *)row)->updated_at = req->now_us;
	audit_values(req, e->schema, NULL, row, &old_json, &new_json);
	audit = audit_new(req, "create", e->name, ((struct row *)row)->id, old_json, new_json);
	event = envelope_next(service, e, NULL, row, &from);
	envelope = envelope_new(req, event->type, ((struct row *)row)->id, envelope_data(req, event, NULL, row));
	of_row = pg_row_params(e->schema, row, req->arena);
	of_audit = pg_row_params(&audit_row_schema, audit, req->arena);
	all = arena_array(req->arena, of_row.n + of_audit.n + 4, sizeof(*all));
	memcpy(all, of_row.v, of_row.n * sizeof(*all));
	memcpy(all + of_row.n, of_audit.v, of_audit.n * sizeof(*all));
	all[of_row.n + of_audit.n] = PG_UUID(uuid_v7(req->now_us));
	all[of_row.n + of_audit.n + 1] = PG_TEXT(str_of(service->name));
	all[of_row.n + of_audit.n + 2] = PG_TEXT(envelope_channel(req->arena, event->type));
	all[of_row.n + of_audit.n + 3] = PG_JSONB(envelope);
	err = db_query_one(req, &SQL_PUT_ALONE, (struct pg_params){all, of_row.n + of_audit.n + 4}, &done_schema, &done);
	if (err == OK)
		req->version = done.version;
	return err;
}

/* As homework's own handler: the same checks, the same names from the directory, the same answer. */
SUSPENDS static enum err assign(struct req *req)
{
	const struct entity *e = req->route->creates;
	struct homework *hw = entity_edit(req, e, NULL);
	struct homework_out out = {0};
	struct dir_class class;
	struct dir_subject subject;
	enum err err;

	row_merge(&homework_schema, hw, &assign_in_schema, req->in);
	FIELD_PUT(hw, homework, teacher_id, req->who.teacher_id);
	FIELD_PUT(hw, homework, status, HOMEWORK_ACTIVE);
	FIELD_PUT(hw, homework, attachments, STR("[]"));
	schema_project(&homework_out_schema, &out, &homework_schema, hw);
	err = directory_class(req, hw->class_id, &class);
	if (err == OK)
		err = directory_subject(req, hw->subject_id, &subject);
	if (err != OK)
		return err;
	FIELD_PUT(&out, homework_out, class_name, class.name);
	FIELD_PUT(&out, homework_out, students_count, class.total_students);
	FIELD_PUT(&out, homework_out, subject_name, subject.name);
	req->status = 201;
	err = req_reply(req, &homework_out_schema, &out);
	if (err != OK)
		return err;
	return e == &single_entity ? put_alone(req, e, hw) : entity_put(req, e, hw);
}

SUSPENDS static enum err hand_in(struct req *req)
{
	struct quiz *quiz = entity_edit(req, &quiz_entity, NULL);

	row_merge(&quiz_schema, quiz, &quiz_in_schema, req->in);
	FIELD_PUT(quiz, quiz, student_id, req->who.user_id);
	req->status = 201;
	return entity_put(req, &quiz_entity, quiz);
}

/* clang-format off */
#define OF_HOMEWORK {"title", "class_id", "subject_id", "teacher_id", "student_ids", "due_date", "status"}
static const struct event_row events[] = {
	{"homework.assigned", &homework_entity, ON_CREATE, {0}, OF_HOMEWORK},
	{"homework.assigned", &single_entity, ON_CREATE, {0}, OF_HOMEWORK},
	{"homework.assigned", &through_entity, ON_CREATE, {0}, OF_HOMEWORK},
	{"homework.submitted", &quiz_entity, ON_CREATE, {0}, {"quiz_id", "attempt_id", "student_id"}},
	{0},
};

#define ASSIGN(path, entity) {HTTP_POST, path, ROLE_TEACHER, MAY_TEACH, .in = &assign_in_schema, .out = &homework_out_schema, .creates = &(entity), \
	.handler = assign, .summary = "Assign homework"}
static const struct route routes[] = {
	ASSIGN("/teacher/homework", homework_entity),
	ASSIGN("/teacher/single", single_entity),
	ASSIGN("/teacher/through", through_entity),
	{HTTP_POST, "/teacher/quiz", ROLE_TEACHER, MAY_SELF, .in = &quiz_in_schema, .out = &quiz_schema, .creates = &quiz_entity,
		.handler = hand_in, .summary = "Hand in a quiz"},
	{HTTP_GET, "/teacher/homework/options", ROLE_TEACHER, MAY_SELF, .handler = directory_options, .summary = "Classes and subjects"},
	ROUTE_END,
};
/* clang-format on */

static const struct service writer = {
	.name = "homework",
	.routes = routes,
	.entities = writer_entities,
	.entity_sql = writer_entity_sql,
	.events = events,
	.uses = {"auth"},
};

int main(int argc, char **argv)
{
	return service_main(argc, argv, &writer);
}
