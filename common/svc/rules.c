/* SPDX-License-Identifier: Apache-2.0 */
/* Object rules: default deny; the relations of security.md 5.3 over the directory and the loaded row. */
#include "svc/rules.h"

#include <string.h>

#include "base/uuid.h"
#include "svc/directory.h"
#include "svc/router.h"

static bool is_admin(const struct req *req)
{
	return (req->who.role & (ROLE_ADMIN | ROLE_SUPER_ADMIN)) != 0;
}

/* A UUID field of a described struct; nil when the table lacks it or it is not set. */
static struct uuid id_of(const struct schema *s, const void *from, const char *name)
{
	const struct field *f = s ? schema_find(s, str_of(name)) : NULL;
	struct uuid id = {{0}};

	if (f && from && f->type == FIELD_UUID && (((const struct fields *)from)->set >> (f - s->fields) & 1) != 0)
		memcpy(&id, (const char *)from + f->offset, sizeof(id));
	return id;
}

/* By name in the path, the query or the body. */
static struct uuid named_id(const struct req *req, const char *name)
{
	struct uuid id;

	for (size_t i = 0; i < req->n_params; i++) {
		if (str_is(req->entry->params[i], name))
			return req->params[i];
	}
	id = id_of(req->route->query, req->query, name);
	return uuid_is_nil(id) ? id_of(req->route->in, req->in, name) : id;
}

/* ---- whom a student's or parent's request is about ---- */

SUSPENDS static enum err find_student(struct req *req)
{
	struct uuid named = named_id(req, "student_id");
	struct dir_children children;
	const struct dir_student *child;
	enum err e;

	if (req->who.role == ROLE_STUDENT) {
		req->student_id = req->who.student_id;
		if (!uuid_is_nil(named) && !uuid_eq(named, req->student_id))
			return req_fail(req, ERR_FORBIDDEN, "students see themselves alone");
		return uuid_is_nil(req->student_id) ? req_fail(req, ERR_FORBIDDEN, "this account has no student profile") : OK;
	}
	e = directory_children(req, req->who.user_id, &children);
	if (e != OK && e != ERR_NOT_FOUND)
		return e;
	child = children.students.v;
	for (size_t i = 0; e == OK && i < children.students.n; i++) {
		if (uuid_eq(child[i].id, named) || (uuid_is_nil(named) && children.students.n == 1)) {
			req->student_id = child[i].id;
			return OK;
		}
	}
	if (uuid_is_nil(named) && e == OK && children.students.n > 1)
		return req_invalid(req, "/student_id", "required", "names which of your children");
	return req_fail(req, ERR_FORBIDDEN, "no linked child");
}

/* Routes for students and parents alone, and rules that need to know; elsewhere (a parent's own account) nobody is meant. */
static bool is_about_a_student(const struct req *req)
{
	enum rule_kind kind = req->route->rule.kind;

	if ((req->who.role & (ROLE_STUDENT | ROLE_PARENT)) == 0)
		return false;
	return kind == RULE_ASSIGNED || kind == RULE_ABOUT_ME ||
	       (req->route->roles & ~(unsigned)(ROLE_STUDENT | ROLE_PARENT)) == 0;
}

/* ---- rules about a row ---- */

SUSPENDS static enum err load(struct req *req, const struct rule *rule)
{
	const char *param = rule->param ? rule->param : arena_printf(req->arena, "%s_id", rule->entity->name);
	struct uuid id = req_param(req, param);
	/* What will be kept is made of the row as it is now; to a reader otherwise a kept row is as good. */
	bool kept = !req_is_write(req) && !req->filling;
	enum err e = kept ? entity_look(req, rule->entity, id, &req->object) : entity_get(req, rule->entity, id, &req->object);

	req->object_entity = rule->entity;
	return e == ERR_NOT_FOUND ? req_fail(req, e, "there is no such %s", rule->entity->name) : e;
}

static enum err owns(struct req *req, const struct rule *rule)
{
	struct uuid owner = id_of(rule->entity->schema, req->object, rule->entity->owner);

	if (is_admin(req) || (!uuid_is_nil(owner) && uuid_eq(owner, req->who.teacher_id)))
		return OK;
	return req_fail(req, ERR_FORBIDDEN, "this %s is somebody else's", rule->entity->name);
}

static bool among_chosen(const struct entity *e, const void *row, struct uuid student_id)
{
	const struct field *f = e->students_field ? entity_field(e, e->students_field) : NULL;
	const struct list *chosen = f ? (const struct list *)(const void *)((const char *)row + f->offset) : NULL;
	const struct uuid *v = chosen ? chosen->v : NULL;

	for (size_t i = 0; chosen && i < chosen->n; i++) {
		if (uuid_eq(v[i], student_id))
			return true;
	}
	return !chosen || chosen->n == 0;
}

SUSPENDS static enum err assigned(struct req *req, const struct rule *rule)
{
	const struct entity *e = rule->entity;
	struct dir_student student;
	enum err err;

	if ((req->who.role & (ROLE_STUDENT | ROLE_PARENT)) == 0)
		return is_admin(req) ? OK : req_fail(req, ERR_FORBIDDEN, "this is for students");
	err = directory_student(req, req->student_id, &student);
	if (err != OK)
		return err;
	if (!uuid_eq(student.class_id, id_of(e->schema, req->object, e->class_field)) ||
	    !among_chosen(e, req->object, req->student_id))
		return req_fail(req, ERR_NOT_FOUND, "there is no such %s", e->name);
	return OK;
}

static enum err about_me(struct req *req, const struct rule *rule)
{
	if (is_admin(req) || uuid_eq(id_of(rule->entity->schema, req->object, rule->entity->student_field), req->student_id))
		return OK;
	return req_fail(req, ERR_NOT_FOUND, "there is no such %s", rule->entity->name);
}

/* ---- rules about a class ---- */

SUSPENDS static enum err teaches(struct req *req)
{
	struct uuid class_id = named_id(req, "class_id"), subject_id = named_id(req, "subject_id");
	struct dir_class class;
	enum err e;

	if (uuid_is_nil(class_id))
		return req_invalid(req, "/class_id", "required", "names a class");
	e = directory_class(req, class_id, &class);
	if (e != OK)
		return e == ERR_NOT_FOUND ? req_fail(req, e, "there is no such class") : e;
	if (is_admin(req))
		return OK;
	e = directory_teaches(req, req->who.teacher_id, class_id, subject_id);
	return e == ERR_FORBIDDEN ? req_fail(req, e, "you do not teach this class and subject") : e;
}

enum err rule_check(struct req *req)
{
	const struct rule *rule = &req->route->rule;
	enum err e = OK;

	if (is_about_a_student(req))
		e = find_student(req);
	if (e == OK && rule->entity)
		e = load(req, rule);
	if (e != OK)
		return e;
	if (!rule->entity && (rule->kind == RULE_OWNS || rule->kind == RULE_ASSIGNED || rule->kind == RULE_ABOUT_ME))
		return ERR_BUG; /* table_check lets no such row start */
	switch (rule->kind) {
	case RULE_PUBLIC:
	case RULE_SELF:
	case RULE_SCHOOL:
	case RULE_INTERNAL: /* authn_check has seen the service token and its declared edge */
		return OK;
	case RULE_OWNS:
		return owns(req, rule);
	case RULE_ASSIGNED:
		return assigned(req, rule);
	case RULE_TEACHES:
		return teaches(req);
	case RULE_ABOUT_ME:
		return about_me(req, rule);
	case RULE_CHECK:
		return rule->check(req);
	case RULE_NONE:
		break;
	}
	return ERR_FORBIDDEN;
}
