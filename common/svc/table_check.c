/* SPDX-License-Identifier: Apache-2.0 */
/* A daemon with a wrong table does not start: all that is wrong is told at once, a line each. */
#include <stdio.h>

#include "base/str.h"
#include "svc/cache_warm.h"
#include "svc/kit.h"

struct check {
	const struct service *service;
	struct buf *problems;
	const char *what; /* of the row: "GET /teacher/homework" */
	char edge[256];   /* what it is, of an edge */
};

static void complain(const struct check *c, const char *fmt, ...) PRINTF(2, 3);
static void complain(const struct check *c, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	buf_printf(c->problems, "%s: %s: %s\n", c->service->name, c->what, text);
}

static bool is_name(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if ((s.p[i] < 'a' || s.p[i] > 'z') && (s.p[i] < '0' || s.p[i] > '9') && s.p[i] != '_')
			return false;
	return s.n != 0;
}

static bool is_literal(struct str s)
{
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];

		if ((c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && strchr("-._~", c) == NULL)
			return false;
	}
	return s.n != 0;
}

/* ---- routes ---- */

static void check_path(const struct check *c, const struct route *r)
{
	struct str rest, params[ROUTE_PARAMS_MAX];
	size_t n_params = 0, n_segments = 0;

	if (r->path[0] != '/') {
		complain(c, "the path does not begin with /");
		return;
	}
	rest = str_of(r->path + 1);
	while (rest.p != NULL) {
		struct str segment = str_split(&rest, '/'), name;

		n_segments++;
		if (!route_param(segment, &name)) {
			if (!is_literal(segment))
				complain(c, "\"%.*s\" is no path segment", STR_FMT(segment));
			continue;
		}
		if (!is_name(name))
			complain(c, "{%.*s} is no parameter name", STR_FMT(name));
		for (size_t i = 0; i < n_params; i++)
			if (str_eq(params[i], name))
				complain(c, "{%.*s} stands twice", STR_FMT(name));
		if (n_params == ROUTE_PARAMS_MAX)
			complain(c, "more than %d parameters", ROUTE_PARAMS_MAX);
		else
			params[n_params++] = name;
	}
	/* Two more for /api/v1. */
	if (n_segments + 2 > ROUTE_SEGMENTS_MAX)
		complain(c, "more than %d segments", ROUTE_SEGMENTS_MAX - 2);
	if (route_is_internal(r) != (strncmp(r->path, "/internal/", 10) == 0))
		complain(c, "internal routes, and they alone, are below /internal/");
}

static bool has_param(const struct route *r, struct str wanted)
{
	struct str rest = str_of(r->path);

	while (rest.p != NULL) {
		struct str name;

		if (route_param(str_split(&rest, '/'), &name) && str_eq(name, wanted))
			return true;
	}
	return false;
}

/* A rule that loads an object needs to know which, and by what its owner or class is found. */
static void check_object_rule(const struct check *c, const struct route *r)
{
	const struct entity *e = r->rule.entity;
	char param[80];

	if (e == NULL) {
		complain(c, "the rule names no entity");
		return;
	}
	snprintf(param, sizeof(param), "%s_id", e->name);
	if (!has_param(r, str_of(r->rule.param != NULL ? r->rule.param : param)))
		complain(c, "the path has no {%s} to load the %s by", r->rule.param != NULL ? r->rule.param : param, e->name);
	else if (!route_param_is_id(str_of(r->rule.param != NULL ? r->rule.param : param)))
		complain(c, "{%s} is no {…_id}", r->rule.param);
	if (r->rule.kind == RULE_OWNS && e->owner == NULL)
		complain(c, "the entity %s names no owner", e->name);
	if (r->rule.kind == RULE_ASSIGNED && e->class_field == NULL)
		complain(c, "the entity %s names no class_field", e->name);
	if (r->rule.kind == RULE_ABOUT_ME && e->student_field == NULL)
		complain(c, "the entity %s names no student_field", e->name);
}

static void check_rule(const struct check *c, const struct route *r)
{
	bool anyone = (r->roles & ROLE_ANYONE) != 0;

	switch (r->rule.kind) {
	case RULE_NONE:
		complain(c, "no rule");
		break;
	case RULE_PUBLIC:
		if (!anyone)
			complain(c, "MAY_PUBLIC is for ROLE_ANYONE");
		return;
	case RULE_OWNS:
	case RULE_ASSIGNED:
	case RULE_ABOUT_ME:
		check_object_rule(c, r);
		break;
	case RULE_INTERNAL:
		if (r->roles != ROLE_SERVICE)
			complain(c, "MAY_INTERNAL is for ROLE_SERVICE alone");
		return;
	case RULE_CHECK:
		if (r->rule.check == NULL)
			complain(c, "MAY_CHECK without a function");
		/* A webhook has no token, but a signature that its check verifies. */
		return;
	case RULE_SELF:
	case RULE_SCHOOL:
	case RULE_TEACHES:
		if (r->rule.entity != NULL) /* loaded by them too */
			check_object_rule(c, r);
		break;
	}
	if (anyone && r->rule.kind != RULE_NONE)
		complain(c, "ROLE_ANYONE goes with MAY_PUBLIC or MAY_CHECK");
	if ((r->roles & ROLE_SERVICE) != 0)
		complain(c, "ROLE_SERVICE goes with MAY_INTERNAL");
}

/* What cache_http.c can give a value to. */
static bool is_known_to(const struct route *r, struct str name)
{
	static const char *const known[] = {"me.user_id",   "me.teacher_id", "me.student_id",   "me.staff_id",
					    "me.school_id", "student_id",    "student.class_id"};
	struct str rest = str_of(r->path), param;

	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		if (str_is(name, known[i]))
			return true;
	while (rest.p != NULL)
		if (route_param(str_split(&rest, '/'), &param) && str_eq(param, name))
			return true;
	return r->query != NULL && schema_find(r->query, name) != NULL;
}

/* "class:{class_id}": an answer whose tags cannot be made is never kept, and nobody would see why. */
static void check_answer_tag(const struct check *c, const struct route *r, const char *tag)
{
	struct str rest = str_of(tag);

	str_split(&rest, '{');
	while (rest.p != NULL) {
		struct str name = str_split(&rest, '}');

		if (rest.p == NULL)
			complain(c, "the tag \"%s\" lacks its }", tag);
		else if (!is_known_to(r, name))
			complain(c, "the tag \"%s\" names what a request of this route has not", tag);
		str_split(&rest, '{');
	}
}

static void check_vary(const struct check *c, const char *vary)
{
	static const char *const words[] = {"user", "student", "school", "today"};
	struct str rest = str_of(vary != NULL ? vary : "");

	while (rest.n != 0) {
		struct str word = str_split(&rest, ' ');
		bool known = false;

		for (size_t i = 0; i < ARRAY_LEN(words); i++)
			known |= str_is(word, words[i]);
		if (!known)
			complain(c, "answers cannot differ by \"%.*s\"", STR_FMT(word));
	}
}

static void check_cache(const struct check *c, const struct route *r)
{
	static const char *const policies[] = {"browser", "cdn", "redis", "full", "no-store"};
	const struct cache_policy *p = &r->cache;
	bool known = p->policy == NULL,
	     keeps = p->policy != NULL && (strcmp(p->policy, "redis") == 0 || strcmp(p->policy, "full") == 0);

	for (size_t i = 0; i < ARRAY_LEN(policies) && p->policy != NULL; i++)
		known |= strcmp(p->policy, policies[i]) == 0;
	if (!known)
		complain(c, "no cache policy \"%s\"", p->policy);
	if (p->policy != NULL && strcmp(p->policy, "cdn") == 0 && r->roles != ROLE_ANYONE)
		complain(c, "a public cache on a route with roles");
	if (keeps && (r->method != HTTP_GET || (r->flags & ROUTE_STREAM) != 0))
		complain(c, "only the answer of a GET that is not streamed can be kept");
	for (size_t i = 0; i < TAGS_MAX && p->tags[i] != NULL; i++)
		check_answer_tag(c, r, p->tags[i]);
	check_vary(c, p->vary);
	if (keeps && p->tags[0] == NULL && p->reads[0] == NULL && p->names == NULL)
		complain(c, "a kept answer without .tags, .reads and .names, so nothing can drop it");
}

static void check_route(const struct check *c, const struct route *r)
{
	bool reads = r->method == HTTP_GET;

	if (r->method == HTTP_HEAD || r->method == HTTP_OPTIONS || r->method >= HTTP_OTHER)
		complain(c, "HEAD and OPTIONS are the kit's, other methods nobody's");
	check_path(c, r);
	if (r->roles == 0)
		complain(c, "no role");
	if ((r->roles & ROLE_ANYONE) != 0 && r->roles != ROLE_ANYONE)
		complain(c, "ROLE_ANYONE and other roles");
	if ((r->roles & ~(unsigned)(ROLE_PEOPLE | ROLE_SERVICE | ROLE_ANYONE)) != 0)
		complain(c, "an unknown role");
	check_rule(c, r);
	if (r->handler == NULL)
		complain(c, "no handler");
	if (reads && r->in != NULL)
		complain(c, "GET takes no body");
	if ((r->flags & ROUTE_MULTIPART) != 0 && r->in == NULL)
		complain(c, "ROUTE_MULTIPART without .in");
	if ((r->flags & ROUTE_BODY_OPTIONAL) != 0 && r->in == NULL)
		complain(c, "ROUTE_BODY_OPTIONAL without .in");
	if ((r->flags & ROUTE_FULL_STATE) != 0 && (reads || r->creates == NULL))
		complain(c, "ROUTE_FULL_STATE is for writes, and needs .creates");
	check_cache(c, r);
}

/* Do both take the same requests? Names of parameters do not matter. */
static bool same_shape(const struct route *a, const struct route *b)
{
	struct str left = str_of(a->path), right = str_of(b->path);

	if (a->method != b->method || route_is_internal(a) != route_is_internal(b) || ((a->flags ^ b->flags) & ROUTE_BARE) != 0)
		return false;
	while (left.p != NULL && right.p != NULL) {
		struct str l = str_split(&left, '/'), r = str_split(&right, '/'), l_name, r_name;
		bool l_param = route_param(l, &l_name), r_param = route_param(r, &r_name);

		if (l_param != r_param)
			return false;
		if (l_param ? route_param_is_id(l_name) != route_param_is_id(r_name) : !str_eq(l, r))
			return false;
	}
	return left.p == NULL && right.p == NULL;
}

static void check_routes(struct check *c)
{
	char what[256];

	c->what = what;
	for (const struct route *r = c->service->routes; r != NULL && r->path != NULL; r++) {
		snprintf(what, sizeof(what), "%s %s", http_method_name(r->method), r->path);
		check_route(c, r);
		for (const struct route *before = c->service->routes; before != r; before++)
			if (same_shape(before, r))
				complain(c, "stands twice");
	}
	c->what = NULL;
}

/* ---- entities ---- */

static void need_field(const struct check *c, const struct entity *e, struct str name, const char *where)
{
	if (str_is(name, "id") || str_is(name, "school_id"))
		return;
	if (schema_find(e->schema, name) == NULL)
		complain(c, "%s names the field \"%.*s\", which it has not", where, STR_FMT(name));
}

static void need_optional(const struct check *c, const struct entity *e, const char *name, const char *where)
{
	if (name != NULL)
		need_field(c, e, str_of(name), where);
}

/* "date+class_id", "student_ids[]" */
static void check_scope(const struct check *c, const struct entity *e, const char *scope)
{
	struct str rest = str_of(scope);

	while (rest.p != NULL) {
		struct str name = str_split(&rest, '+');

		if (name.n > 2 && memcmp(name.p + name.n - 2, "[]", 2) == 0)
			name.n -= 2;
		need_field(c, e, name, ".scopes");
	}
}

/* "homework:{id}" */
static void check_tag(const struct check *c, const struct entity *e, const char *tag)
{
	struct str rest = str_of(tag);

	while (rest.p != NULL) {
		struct str close;

		str_split(&rest, '{');
		if (rest.p == NULL)
			return;
		close = str_split(&rest, '}');
		if (rest.p == NULL)
			complain(c, "the tag \"%s\" lacks its }", tag);
		else
			need_field(c, e, close, ".tags");
	}
}

static void check_fields(const struct check *c, const struct schema *s)
{
	for (size_t i = 0; i < s->n; i++)
		for (size_t j = 0; j < i; j++) {
			if (strcmp(s->fields[i].name, s->fields[j].name) == 0)
				complain(c, "the field %s stands twice", s->fields[i].name);
			if (strcmp(field_column(&s->fields[i]), field_column(&s->fields[j])) == 0)
				complain(c, "the column %s stands twice", field_column(&s->fields[i]));
		}
}

static void check_entity(const struct check *c, const struct entity *e)
{
	if (!is_name(str_of(e->name)))
		complain(c, "the name is not lower case, digits and _");
	if (e->table == NULL || strchr(e->table, '.') == NULL)
		complain(c, "the table has no schema");
	if (e->schema == NULL || !e->schema->row) {
		complain(c, "its fields are no ROW_TABLE");
		return;
	}
	check_fields(c, e->schema);
	for (size_t i = 0; i < SCOPES_MAX && e->scopes[i] != NULL; i++)
		check_scope(c, e, e->scopes[i]);
	for (size_t i = 0; i < TAGS_MAX && e->tags[i] != NULL; i++)
		check_tag(c, e, e->tags[i]);
	for (size_t i = 0; i < TAG_WHENS_MAX && e->when[i].tag != NULL; i++) {
		check_tag(c, e, e->when[i].tag);
		need_field(c, e, str_of(e->when[i].field), ".when");
	}
	for (size_t i = 0; i < LIST_FIELDS_MAX && e->list_fields[i] != NULL; i++)
		need_field(c, e, str_of(e->list_fields[i]), ".list_fields");
	need_optional(c, e, e->owner, ".owner");
	need_optional(c, e, e->class_field, ".class_field");
	need_optional(c, e, e->student_field, ".student_field");
	need_optional(c, e, e->students_field, ".students_field");
}

static bool is_ours(const struct service *s, const struct entity *wanted)
{
	for (size_t i = 0; s->entities != NULL && s->entities[i] != NULL; i++)
		if (s->entities[i] == wanted)
			return true;
	return false;
}

static void check_entities(struct check *c)
{
	const struct service *s = c->service;

	for (size_t i = 0; s->entities != NULL && s->entities[i] != NULL; i++) {
		const struct entity *e = s->entities[i];

		c->what = e->name != NULL ? e->name : "an entity without a name";
		if (e->name == NULL) {
			complain(c, "no name");
			continue;
		}
		check_entity(c, e);
		for (size_t j = 0; j < i; j++)
			if (s->entities[j]->name != NULL && strcmp(s->entities[j]->name, e->name) == 0)
				complain(c, "stands twice");
		if (s->entity_sql != NULL && (s->entity_sql[i].entity == NULL || strcmp(s->entity_sql[i].entity, e->name) != 0)) {
			complain(c, ".entity_sql is not in the order of .entities");
			return;
		}
		if (e->collection != NULL &&
		    (e->write == THROUGH || (s->flags & SERVICE_DOCUMENTS) == 0 || !is_name(str_of(e->collection))))
			complain(c, "a collection is buffered, its name is plain, and its service says SERVICE_DOCUMENTS");
		if (e->write != THROUGH && (s->flags & SERVICE_NO_BUFFER) != 0)
			complain(c, "is buffered, but the service says SERVICE_NO_BUFFER");
	}
}

/* ---- events ---- */

static void check_events(struct check *c)
{
	for (const struct event_row *row = c->service->events; row != NULL && row->type != NULL; row++) {
		c->what = row->type;
		if (strchr(row->type, '.') == NULL)
			complain(c, "the type is not domain.event");
		if (row->on == 0)
			complain(c, "no .on");
		if (row->entity == NULL || !is_ours(c->service, row->entity)) {
			complain(c, "its entity is none of the service's");
			continue;
		}
		for (size_t i = 0; i < ARRAY_LEN(row->fields) && row->fields[i] != NULL; i++)
			need_field(c, row->entity, str_of(row->fields[i]), ".fields");
		for (size_t i = 0; i < ARRAY_LEN(row->data) && row->data[i] != NULL; i++)
			need_field(c, row->entity, str_of(row->data[i]), ".data");
	}
	for (const struct listen_row *row = c->service->listens; row != NULL && row->channel != NULL; row++) {
		c->what = row->channel;
		if (row->handle == NULL && row->tags[0] == NULL)
			complain(c, "neither a handler nor tags");
		if (strchr(row->channel, ':') == NULL)
			complain(c, "the channel is not domain:event");
	}
}

/* ---- dependency edges of tags ---- */

static bool has_star(const char *tag)
{
	size_t n = strlen(tag);

	return n != 0 && tag[n - 1] == '*';
}

/* Can a tag that one stands for be one that the other stands for? */
static bool tags_meet(const char *a, const char *b)
{
	size_t a_n = strlen(a) - has_star(a), b_n = strlen(b) - has_star(b), n = a_n < b_n ? a_n : b_n;

	if (strncmp(a, b, n) != 0)
		return false;
	return a_n == b_n || (a_n < b_n ? has_star(a) : has_star(b));
}

/* From the end of edge `at` on: back to where `first` begins? Each edge is gone once. */
static bool leads_back(const struct cache_edge *edges, size_t n, size_t at, size_t first, uint32_t *been)
{
	if (tags_meet(edges[at].to, edges[first].from))
		return true;
	*been |= 1U << at;
	for (size_t i = 0; i < n; i++)
		if ((*been >> i & 1) == 0 && tags_meet(edges[at].to, edges[i].from) && leads_back(edges, n, i, first, been))
			return true;
	return false;
}

static void check_edge(struct check *c, const struct cache_edge *edges, size_t n, size_t i)
{
	const char *from = edges[i].from, *to = edges[i].to;
	uint32_t been = 0;

	if (strcspn(from, "*") + 1 < strlen(from) || strcspn(to, "*") + 1 < strlen(to))
		complain(c, "the * stands for the end of a tag");
	if (has_star(from) && !has_star(to))
		complain(c, "the value of %s is in no tag that depends on it", from);
	for (size_t j = 0; j < i; j++)
		if (strcmp(edges[j].from, from) == 0 && strcmp(edges[j].to, to) == 0)
			complain(c, "stands twice");
	if (leads_back(edges, n, i, i, &been))
		complain(c, "goes in a circle");
}

static void check_edges(struct check *c)
{
	const struct cache_edge *edges = c->service->cache_edges;
	size_t n = 0;

	c->what = c->edge;
	for (; edges != NULL && edges[n].from != NULL; n++) {
		const char *to = edges[n].to != NULL ? edges[n].to : "";

		snprintf(c->edge, sizeof(c->edge), "the cache edge %s -> %s", edges[n].from, to);
		if (n == CACHE_EDGES_MAX || edges[n].from[0] == '\0' || edges[n].from[0] == '*' || to[0] == '\0' ||
		    to[0] == '*') {
			complain(c, "%s", n == CACHE_EDGES_MAX ? "one too many" : "names no kind of tags");
			return;
		}
	}
	for (size_t i = 0; i < n; i++) {
		snprintf(c->edge, sizeof(c->edge), "the cache edge %s -> %s", edges[i].from, edges[i].to);
		check_edge(c, edges, n, i);
	}
}

enum err table_check(const struct service *s, struct buf *problems)
{
	struct check c = {.service = s, .problems = problems};
	size_t before = problems->n;

	check_routes(&c);
	check_entities(&c);
	check_events(&c);
	check_edges(&c);
	cache_warm_check(s, problems);
	return problems->n == before ? OK : ERR_INVALID;
}
