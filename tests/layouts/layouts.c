/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Can today's code read what any released one has left in the buffer? For each buffered entity of a service and each of its layouts, samples/ has sealed
 * payloads (<entity>.<layout>.<case>.<codec>) and what must come out of them (<entity>.<layout>.<case>.json). --write makes those that are missing
 * for the layouts of today; it changes none that is there, for a sample is what was once written.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "layouts.h"
#include "svc/buffer.h"
#include "svc/dicts.h"

#define PASTE_(a, b) a##b
#define PASTE(a, b) PASTE_(a, b)
#define TEXT_(a) #a
#define TEXT(a) TEXT_(a)
#define FILE_MOST (1u << 20)

extern const struct entity *const PASTE(S24_SERVICE, _entities)[];
static int wrong;

struct sample {
	const struct entity *e;
	unsigned layout;
	const char *name; /* of the case */
	struct arena *arena;
};

static const struct {
	const char *name;
	void *(*row)(const struct schema *s, struct arena *arena);
} cases[] = {{"full", layouts_full}, {"empty", layouts_empty}};

static void complain(const struct sample *s, const char *what)
{
	wrong++;
	printf("%s, layout %u, %s: %s\n", s->e->name, s->layout, s->name, what);
}

static const char *path_of(const struct sample *s, const char *kind)
{
	return arena_printf(s->arena, SAMPLES "/%s.%u.%s.%s", s->e->name, s->layout, s->name, kind);
}

/* ---- files ---- */

static bool read_whole(const char *path, struct arena *arena, struct str *ret)
{
	FILE *f = fopen(path, "rb");
	char *bytes;

	if (!f)
		return false;
	bytes = arena_alloc(arena, FILE_MOST);
	*ret = (struct str){bytes, fread(bytes, 1, FILE_MOST, f)};
	fclose(f);
	return true;
}

static void write_new(const struct sample *s, const char *kind, struct str bytes)
{
	const char *path = path_of(s, kind);
	FILE *f = fopen(path, "wbx");

	if (!f)
		return; /* it is there */
	if (fwrite(bytes.p, 1, bytes.n, f) != bytes.n || fclose(f) != 0)
		complain(s, "cannot be written");
	else
		printf("written: %s\n", path);
}

/* ---- what a record says, hidden fields and those of single roles too, and only those of its layout ---- */

static const struct schema *seen_by_all(const struct schema *s, unsigned layout, struct arena *arena)
{
	struct field *fields = arena_dup(arena, s->fields, s->n * sizeof(*fields));
	struct schema *all = arena_dup(arena, s, sizeof(*s));

	for (size_t i = 0; i < s->n; i++) {
		fields[i].flags &= ~(unsigned)(HIDDEN | OMIT);
		fields[i].flags |= fields[i].since > layout ? HIDDEN : 0;
		fields[i].roles = 0;
		if (fields[i].sub)
			fields[i].sub = seen_by_all(fields[i].sub, layout, arena);
	}
	all->fields = fields;
	return all;
}

static struct str said(const struct sample *s, const struct row *row)
{
	struct buf out = buf_in(s->arena);

	buf_printf(&out, "{\"deleted_at\":%lld,\"row\":", (long long)row->deleted_at);
	json_encode(seen_by_all(s->e->schema, s->layout, s->arena), row, UINT32_MAX, &out);
	buf_put(&out, "}\n", 2);
	return buf_str(&out);
}

static bool same_json(struct str a, struct str b)
{
	json_t *x = json_loadb(a.p, a.n, 0, NULL), *y = json_loadb(b.p, b.n, 0, NULL);
	bool same = x && y && json_equal(x, y);

	json_decref(x);
	json_decref(y);
	return same;
}

/* ---- writing ---- */

static void write_samples(struct sample *s, void *row)
{
	struct buf packed = buf_in(s->arena);

	row_pack(s->e->schema, row, &packed);
	for (enum codec c = CODEC_RAW; c < CODEC_COUNT; c++) {
		struct buf sealed = buf_in(s->arena);
		enum codec used = codec_seal_with(c, c == CODEC_ZSTD ? dict_newest(s->e->name) : NULL, (uint8_t)s->layout,
						  buf_str(&packed), &sealed);

		if (used == c)
			write_new(s, codec_name(c), buf_str(&sealed));
	}
	write_new(s, "json", said(s, row));
}

/* ---- checking ---- */

static void check_payload(const struct sample *s, enum codec codec, struct str sealed, struct str expected)
{
	struct buffer_record r = {.codec = codec, .deleted = strcmp(s->name, "empty") == 0, .sealed = sealed};
	struct buf again = buf_in(s->arena);
	struct str packed;
	uint8_t layout = 0;
	void *row;

	if (buffer_record_row(s->e, (struct uuid){{0}}, &r, s->arena, &row) != OK) {
		complain(s, arena_printf(s->arena, "today's code cannot read its %s sample", codec_name(codec)));
		return;
	}
	if (!same_json(said(s, row), expected))
		complain(s, arena_printf(s->arena, "its %s sample is read as another row: %.*s", codec_name(codec),
					 STR_FMT(said(s, row))));
	if (codec_open_with(codec, dict_numbered(s->e->name, codec_dict_number(sealed)), sealed, s->arena, &layout, &packed) !=
		    OK ||
	    layout != s->layout)
		complain(s, "its envelope names another layout");
	row_pack(s->e->schema, row, &again);
	if (s->layout == s->e->schema->layout && !str_eq(packed, buf_str(&again)))
		complain(s, "it is packed differently today: a new layout needs a new number");
}

static void check_samples(struct sample *s)
{
	struct str expected, sealed;
	size_t n = 0;

	if (!read_whole(path_of(s, "json"), s->arena, &expected)) {
		complain(s, s->layout == s->e->schema->layout ? "it has no sample. Make it, and commit it: tests/layouts_" TEXT(
									S24_SERVICE) " --write (in the build directory)"
							      : "its sample is gone: it is in the history of the repository");
		return;
	}
	for (enum codec c = CODEC_RAW; c < CODEC_COUNT; c++) {
		if (!read_whole(path_of(s, codec_name(c)), s->arena, &sealed))
			continue;
		check_payload(s, c, sealed, expected);
		n |= c == CODEC_RAW;
	}
	if (n == 0)
		complain(s, "its uncompressed sample is gone: it is in the history of the repository");
}

int main(int argc, char **argv)
{
	bool write = argc == 2 && strcmp(argv[1], "--write") == 0;
	size_t n = 0;

	for (const struct entity *const *e = PASTE(S24_SERVICE, _entities); *e; e++) {
		unsigned newest = (*e)->schema->layout;

		for (unsigned layout = write ? newest : 1; (*e)->write != THROUGH && layout <= newest; layout++) {
			for (size_t i = 0; i < ARRAY_LEN(cases); i++, n++) {
				struct sample s = {*e, layout, cases[i].name, arena_new()};

				if (write)
					write_samples(&s, cases[i].row((*e)->schema, s.arena));
				else
					check_samples(&s);
				arena_free(s.arena);
			}
		}
	}
	printf("%s: %zu samples, %d wrong\n", TEXT(S24_SERVICE), n, wrong);
	return wrong > 0;
}
