/* SPDX-License-Identifier: Apache-2.0 */
/* Names in the cache's Redis. Each has its school in braces, so that what belongs together lies on one node of a cluster. */
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "base/uuid.h"
#include "cache/cache_internal.h"
#include "io/crypto.h"

#define HASH_TEXT 32

static bool is_plain(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '.' || c == '_';
}

/* Nothing of a part is a separator, a brace or a pattern's special, so different parts give different names. */
static void put_part(struct buf *b, struct str part)
{
	for (size_t i = 0; i < part.n; i++) {
		if (is_plain(part.p[i]))
			buf_putc(b, part.p[i]);
		else
			buf_printf(b, "%%%02X", (unsigned)(uint8_t)part.p[i]);
	}
}

static void put_school(struct buf *b, struct uuid school)
{
	buf_putc(b, '{');
	if (uuid_is_nil(school))
		buf_puts(b, STR("all"));
	else
		buf_put_uuid(b, school);
	buf_puts(b, STR("}:"));
}

/* A name past the bound keeps its beginning, and a hash of the whole; '~' stands in no other name. */
static struct str shortened(struct buf *b)
{
	uint8_t hash[32];
	char text[65];

	if (b->n <= CACHE_KEY_MAX)
		return buf_str(b);
	sha256(buf_str(b), hash);
	hex_text(hash, HASH_TEXT / 2, text);
	b->n = CACHE_KEY_MAX - HASH_TEXT - 1;
	buf_putc(b, '~');
	buf_put(b, text, HASH_TEXT);
	return buf_str(b);
}

static struct str put_rest(struct buf *b, struct uuid school, const char *kind, const struct str *parts, size_t n)
{
	put_school(b, school);
	buf_puts(b, str_of(kind));
	for (size_t i = 0; i < n; i++) {
		buf_putc(b, ':');
		put_part(b, parts[i]);
	}
	return shortened(b);
}

struct str cache_key(const struct cache *c, struct arena *arena, struct uuid school, const char *kind, const struct str *parts,
		     size_t n)
{
	struct buf b = buf_in(arena);

	buf_puts(&b, str_of(c->prefix));
	return put_rest(&b, school, kind, parts, n);
}

struct str cache_key_of(const struct cache *c, struct arena *arena, const char *owner, struct uuid school, const char *kind,
			const struct str *parts, size_t n)
{
	struct buf b = buf_in(arena);

	buf_printf(&b, "%s%s:v%lld:", c->shared, owner, (long long)c->generation);
	return put_rest(&b, school, kind, parts, n);
}

static struct str tag_key(const struct cache *c, struct arena *arena, const char *what, struct uuid school, struct str tag)
{
	struct buf b = buf_in(arena);

	buf_puts(&b, str_of(c->shared));
	buf_puts(&b, str_of(what));
	put_school(&b, school);
	buf_puts(&b, tag);
	return shortened(&b);
}

struct str link_epoch_key(const struct cache *c, struct arena *arena, struct uuid school, struct str tag)
{
	return tag_key(c, arena, "epoch:", school, tag);
}

struct str link_index_key(const struct cache *c, struct arena *arena, struct uuid school, struct str tag)
{
	return tag_key(c, arena, "index:", school, tag);
}

struct str *link_epoch_keys(const struct cache *c, struct arena *arena, const struct cache_tags *tags)
{
	struct str *keys = arena_array(arena, tags->n + tags->n_told + 1, sizeof(*keys));

	for (size_t i = 0; i < tags->n; i++)
		keys[i] = link_epoch_key(c, arena, tags->school, tags->v[i]);
	return keys;
}

/* ---- tags ---- */

void cache_tag(struct cache_tags *tags, struct arena *arena, const char *kind, struct str value)
{
	struct buf b = buf_in(arena);

	buf_puts(&b, str_of(kind));
	put_part(&b, value);
	cache_tag_again(tags, arena, buf_str(&b));
}

void cache_tag_again(struct cache_tags *tags, struct arena *arena, struct str tag)
{
	for (size_t i = 0; i < tags->n; i++) {
		if (str_eq(tags->v[i], tag))
			return;
	}
	if (tags->n == tags->cap) {
		size_t cap = tags->cap ? 2 * tags->cap : CACHE_TAGS_MAX;
		struct str *v = arena_array(arena, cap, sizeof(*v));

		if (tags->n != 0)
			memcpy(v, tags->v, tags->n * sizeof(*v));
		tags->v = v;
		tags->cap = cap;
	}
	tags->v[tags->n++] = tag;
}

void cache_tag_id(struct cache_tags *tags, struct arena *arena, const char *kind, struct uuid id)
{
	char text[UUID_TEXT + 1];

	uuid_text(id, text);
	cache_tag(tags, arena, kind, (struct str){text, UUID_TEXT});
}
