/* SPDX-License-Identifier: Apache-2.0 */
/* Runs the buffer's real scripts in liblua5.1, with a `redis` of its own over the small keyspace. */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/str.h"
#include "keyspace.h"

#define ARGS_MOST 4096
#define PATCHES_MOST 4

struct patch {
	const char *script, *from, *to;
};

struct scripts {
	lua_State *l;
	struct keyspace *ks; /* of the running script */
	struct patch patches[PATCHES_MOST];
	size_t n_patches;
};

static struct scripts *self_of(lua_State *l)
{
	return lua_touserdata(l, lua_upvalueindex(1));
}

static void push_reply(lua_State *l, const struct redis_reply *r)
{
	switch (r->type) {
	case REDIS_NIL:
		lua_pushboolean(l, 0);
		break;
	case REDIS_STRING:
		lua_pushlstring(l, r->s.p, r->s.n);
		break;
	case REDIS_INTEGER:
		lua_pushnumber(l, (lua_Number)r->i);
		break;
	case REDIS_STATUS:
	case REDIS_ERROR:
		lua_newtable(l);
		lua_pushlstring(l, r->s.p, r->s.n);
		lua_setfield(l, -2, r->type == REDIS_STATUS ? "ok" : "err");
		break;
	case REDIS_ARRAY:
		lua_createtable(l, (int)r->n, 0);
		for (size_t i = 0; i < r->n; i++) {
			push_reply(l, &r->v[i]);
			lua_rawseti(l, -2, (int)i + 1);
		}
		break;
	}
}

/* Numbers go into commands with seventeen digits, as in Redis. */
static int redis_dot_call(lua_State *l)
{
	static struct str args[ARGS_MOST];
	static char numbers[ARGS_MOST][32];
	int n = lua_gettop(l);
	struct redis_reply r;

	luaL_argcheck(l, n > 0 && n <= ARGS_MOST, 1, "number of arguments");
	for (int i = 0; i < n; i++) {
		if (lua_type(l, i + 1) == LUA_TNUMBER) {
			args[i].p = numbers[i];
			args[i].n = (size_t)snprintf(numbers[i], sizeof(numbers[i]), "%.17g", lua_tonumber(l, i + 1));
		} else {
			args[i].p = luaL_checklstring(l, i + 1, &args[i].n);
		}
	}
	r = keyspace_command(self_of(l)->ks, args, (size_t)n);
	push_reply(l, &r);
	return 1;
}

static int redis_dot_error_reply(lua_State *l)
{
	luaL_checkstring(l, 1);
	lua_newtable(l);
	lua_pushvalue(l, 1);
	lua_setfield(l, -2, "err");
	return 1;
}

struct scripts *scripts_new(void)
{
	struct scripts *s = mem_zalloc(sizeof(*s));
	lua_State *l = s->l = luaL_newstate();

	if (!l)
		abort();
	luaL_openlibs(l);
	lua_open_struct(l);
	lua_newtable(l);
	lua_pushlightuserdata(l, s);
	lua_pushcclosure(l, redis_dot_call, 1);
	lua_setfield(l, -2, "call");
	lua_pushcfunction(l, redis_dot_error_reply);
	lua_setfield(l, -2, "error_reply");
	lua_setglobal(l, "redis");
	lua_newtable(l);
	lua_setfield(l, LUA_REGISTRYINDEX, "loaded scripts");
	lua_settop(l, 0);
	return s;
}

void scripts_free(struct scripts *s)
{
	lua_close(s->l);
	free(s);
}

void scripts_patch(struct scripts *s, const char *name, const char *from, const char *to)
{
	if (name == NULL) {
		s->n_patches = 0;
	} else {
		if (s->n_patches == PATCHES_MOST)
			abort();
		s->patches[s->n_patches++] = (struct patch){name, from, to};
	}
	lua_newtable(s->l);
	lua_setfield(s->l, LUA_REGISTRYINDEX, "loaded scripts");
}

static char *patched(const struct scripts *s, const struct redis_script *script)
{
	/* The first line says things to Redis and is no Lua. */
	char *text = mem_strdup(strchr(script->text, '\n'));

	for (size_t i = 0; i < s->n_patches; i++) {
		const struct patch *p = &s->patches[i];
		char *at, *longer;
		size_t before;

		if (strcmp(p->script, script->name) != 0)
			continue;
		at = strstr(text, p->from);
		if (!at || strstr(at + 1, p->from)) {
			fprintf(stderr, "%s.lua does not have this once, so the mutant is none: %s\n", script->name, p->from);
			exit(2);
		}
		before = (size_t)(at - text);
		longer = mem_alloc(strlen(text) + strlen(p->to) + 1);
		memcpy(longer, text, before);
		strcpy(longer + before, p->to);
		strcat(longer, at + strlen(p->from));
		free(text);
		text = longer;
	}
	return text;
}

static void push_script(struct scripts *s, const struct redis_script *script)
{
	lua_State *l = s->l;
	char *text;

	lua_getfield(l, LUA_REGISTRYINDEX, "loaded scripts");
	lua_getfield(l, -1, script->name);
	if (lua_isnil(l, -1)) {
		lua_pop(l, 1);
		text = patched(s, script);
		if (luaL_loadbuffer(l, text, strlen(text), script->name) != 0) {
			fprintf(stderr, "%s\n", lua_tostring(l, -1));
			exit(2);
		}
		free(text);
		lua_pushvalue(l, -1);
		lua_setfield(l, -3, script->name);
	}
	lua_remove(l, -2);
}

static bool string_field(lua_State *l, const char *name, struct arena *arena, struct str *ret)
{
	size_t n = 0;
	const char *p;

	lua_getfield(l, -1, name);
	p = lua_type(l, -1) == LUA_TSTRING ? lua_tolstring(l, -1, &n) : NULL;
	if (p)
		*ret = arena_str(arena, (struct str){p, n});
	lua_pop(l, 1);
	return p != NULL;
}

/* What is on top, as Redis answers it: a number without its fraction, a table up to its first nil. */
static struct redis_reply to_reply(lua_State *l, struct arena *arena)
{
	struct redis_reply r = {.type = REDIS_NIL};
	size_t n;
	const char *p;

	switch (lua_type(l, -1)) {
	case LUA_TNUMBER:
		return (struct redis_reply){.type = REDIS_INTEGER, .i = (int64_t)lua_tonumber(l, -1)};
	case LUA_TSTRING:
		p = lua_tolstring(l, -1, &n);
		return (struct redis_reply){.type = REDIS_STRING, .s = arena_str(arena, (struct str){p, n})};
	case LUA_TBOOLEAN:
		return lua_toboolean(l, -1) ? (struct redis_reply){.type = REDIS_INTEGER, .i = 1} : r;
	case LUA_TTABLE:
		break;
	default:
		return r;
	}
	if (string_field(l, "err", arena, &r.s)) {
		r.type = REDIS_ERROR;
		return r;
	}
	if (string_field(l, "ok", arena, &r.s)) {
		r.type = REDIS_STATUS;
		return r;
	}
	r.type = REDIS_ARRAY;
	n = lua_objlen(l, -1);
	r.v = arena_array(arena, n + 1, sizeof(*r.v));
	for (r.n = 0; r.n < n; r.n++) {
		lua_rawgeti(l, -1, (int)r.n + 1);
		r.v[r.n] = to_reply(l, arena);
		lua_pop(l, 1);
	}
	return r;
}

void scripts_run(struct scripts *s, struct keyspace *ks, const struct redis_script *script, struct redis_args args,
		 struct arena *arena, struct redis_reply *ret)
{
	lua_State *l = s->l;

	s->ks = ks;
	lua_createtable(l, (int)args.n, 0);
	for (size_t i = 0; i < args.n; i++) {
		lua_pushlstring(l, args.v[i].n ? args.v[i].p : "", args.v[i].n);
		lua_rawseti(l, -2, (int)i + 1);
	}
	lua_setglobal(l, "ARGV");
	push_script(s, script);
	if (lua_pcall(l, 0, 1, 0) != 0 && lua_type(l, -1) != LUA_TTABLE) {
		*ret = (struct redis_reply){.type = REDIS_ERROR, .s = arena_str(arena, str_of(lua_tostring(l, -1)))};
	} else {
		*ret = to_reply(l, arena);
	}
	lua_settop(l, 0);
}
