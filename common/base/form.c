/* SPDX-License-Identifier: Apache-2.0 */
/* Query strings and multipart fields into a struct, by the same table and with the same problems as JSON. */
#include "base/field_in.h"

struct form_state {
	struct field_in in;
	uint64_t seen;
	uint64_t whole;  /* arrays that came as JSON text, and take no repetition */
	uint64_t told;   /* fields of which every further pair would be the same problem again */
	size_t caps[64]; /* room of the arrays that come by repetition; 0: none yet */
};

/* Decimal digits with an optional sign: people type leading zeros, and JSON's grammar has none. */
static bool number_of(struct str text, struct json_number *ret)
{
	struct json_scan scan;
	size_t sign = text.n != 0 && text.p[0] == '-', zeros = 0;

	while (sign == 0 && text.n > zeros + 1 && text.p[zeros] == '0' && text.p[zeros + 1] >= '0' && text.p[zeros + 1] <= '9')
		zeros++;
	scan = json_scan_of((struct str){text.p + zeros, text.n - zeros});
	return text.n != 0 && json_scan_number(&scan, ret) && scan.p == scan.end;
}

static bool scalar(struct field_in *in, const struct field *f, enum field_type type, const struct field_path *at,
		   struct str value, void *to)
{
	struct json_number number;

	switch ((int)type) {
	case FIELD_INT:
	case FIELD_DECIMAL:
	case FIELD_MONEY:
	case FIELD_FLOAT:
		if (number_of(value, &number))
			return field_number(in, f, type, at, number, to);
		break;
	case FIELD_BOOL:
		*(bool *)to = str_eq(value, STR("true"));
		if (*(bool *)to || str_eq(value, STR("false")))
			return true;
		break;
	case FIELD_JSON:
		value = str_trim(value);
		if (json_is_valid(value))
			return field_json(in, f, at, value, to);
		field_problem(in, at, "json", "must be JSON");
		return false;
	default:
		return field_text(in, f, type, at, value, to);
	}
	field_wrong_type(in, f, type, at);
	return false;
}

/* One more element of an array that comes by repetition. */
static bool repeated(struct form_state *state, const struct field *f, size_t i, const struct field_path *at, struct str value,
		     struct list *list)
{
	size_t size = field_element_size(f), max = field_max_items(f);
	struct field_path here = {.up = at, .index = list->n};
	void *v;

	if (f->type == FIELD_LIST) {
		field_wrong_type(&state->in, f, f->type, at);
		return false;
	}
	if (list->n >= max) {
		state->told |= UINT64_C(1) << i;
		field_problem(&state->in, at, "too_many", "must have at most %zu items", max);
		return false;
	}
	if (list->n == state->caps[i]) {
		size_t more = state->caps[i] == 0 ? 8 : state->caps[i] * 4;

		state->caps[i] = more < max ? more : max;
		v = arena_array(state->in.arena, state->caps[i], size);
		if (list->n != 0)
			memcpy(v, list->v, list->n * size);
		list->v = v;
	}
	if (!scalar(&state->in, f, field_element_type(f), &here, value, (char *)list->v + list->n * size))
		return false;
	list->n++;
	return true;
}

static bool take(struct form_state *state, const struct field *f, size_t i, const struct field_path *at, struct str value,
		 void *to)
{
	uint64_t bit = UINT64_C(1) << i;
	bool again = (state->seen & bit) != 0;

	state->seen |= bit;
	if ((state->told & bit) != 0)
		return false;
	if (again && (!field_is_array(f) || (state->whole & bit) != 0)) {
		state->told |= bit;
		field_problem(&state->in, at, "duplicate", "is there twice");
		return false;
	}
	if (field_is_array(f) && !again && field_is_array_text(value)) {
		state->whole |= bit;
		return field_array_text(&state->in, f, at, value, to);
	}
	if (field_is_array(f))
		return repeated(state, f, i, at, value, to);
	return scalar(&state->in, f, f->type, at, value, to);
}

enum err form_decode(const struct schema *s, const struct form_pair *pairs, size_t n, struct arena *arena, void *to,
		     struct problems *problems)
{
	struct form_state state = {.in = {.arena = arena, .problems = problems}};
	struct field_path root = {0};
	struct fields *head = to;

	memset(to, 0, s->size);
	if (problems != NULL && problems->arena == NULL)
		problems->arena = arena;
	for (size_t k = 0; k < n; k++) {
		const struct field *f = schema_find(s, pairs[k].name);
		struct field_path here = {.up = &root, .name = f != NULL ? f->name : NULL};
		bool blank;
		size_t i;

		if (f == NULL || (f->flags & SERVER) != 0)
			continue;
		blank = (f->type == FIELD_TEXT && (f->flags & RAW_TEXT) == 0 ? str_trim(pairs[k].value) : pairs[k].value).n == 0;
		i = (size_t)(f - s->fields);
		if (!str_is_utf8(pairs[k].value)) {
			state.seen |= UINT64_C(1) << i;
			field_problem(&state.in, &here, "utf8", "must be UTF-8 without U+0000");
			continue;
		}
		if (blank && (f->flags & BLANK_NULL) != 0) {
			head->nulls |= UINT64_C(1) << i;
			continue;
		}
		if (blank && f->type != FIELD_TEXT)
			continue;
		if (take(&state, f, i, &here, pairs[k].value, (char *)to + f->offset))
			head->set |= UINT64_C(1) << i;
	}
	head->nulls &= ~state.seen;
	field_required(&state.in, s, &root, head, state.seen);
	return state.in.invalid ? ERR_INVALID : OK;
}
