/* SPDX-License-Identifier: Apache-2.0 */
/* Lua's module `struct`, as far as the scripts use it: little-endian B H I4 I8, cN, and c0 behind its length. */
#include <ctype.h>
#include <lauxlib.h>
#include <lua.h>
#include <string.h>

#include "keyspace.h"

/* One item of a format: its letter, and the digits behind it (0: none). */
static char next_item(const char **format, size_t *ret_n)
{
	char letter;

	while (**format == '<')
		(*format)++;
	letter = *(*format);
	if (letter == '\0')
		return '\0';
	*ret_n = 0;
	for ((*format)++; isdigit((unsigned char)**format); (*format)++)
		*ret_n = *ret_n * 10 + (size_t)(**format - '0');
	return letter;
}

static size_t number_size(lua_State *l, char letter, size_t n)
{
	size_t size = letter == 'B' ? 1 : letter == 'H' ? 2 : letter == 'I' ? n : 0;

	if (size == 0 || size > 8)
		luaL_error(l, "struct: unknown format '%c'", letter);
	return size;
}

static int pack(lua_State *l)
{
	const char *format = luaL_checkstring(l, 1);
	luaL_Buffer b;
	size_t n;
	int arg = 1;

	luaL_buffinit(l, &b);
	for (char letter = next_item(&format, &n); letter != '\0'; letter = next_item(&format, &n)) {
		arg++;
		if (letter == 'c') {
			size_t have;
			const char *s = luaL_checklstring(l, arg, &have);

			luaL_argcheck(l, n == 0 || have >= n, arg, "string too short");
			luaL_addlstring(&b, s, n == 0 ? have : n);
		} else {
			uint64_t v = (uint64_t)luaL_checknumber(l, arg);

			for (size_t size = number_size(l, letter, n); size > 0; size--, v >>= 8)
				luaL_addchar(&b, (char)(v & 255));
		}
	}
	luaL_pushresult(&b);
	return 1;
}

static int unpack(lua_State *l)
{
	const char *format = luaL_checkstring(l, 1);
	size_t have, n;
	const char *s = luaL_checklstring(l, 2, &have);
	size_t at = (size_t)luaL_optinteger(l, 3, 1) - 1;
	int top = lua_gettop(l);

	for (char letter = next_item(&format, &n); letter != '\0'; letter = next_item(&format, &n)) {
		if (letter == 'c') {
			if (n == 0) { /* the number before it is its length, and is no result */
				n = (size_t)lua_tonumber(l, -1);
				lua_pop(l, 1);
			}
			luaL_argcheck(l, at + n <= have, 2, "data string too short");
			lua_pushlstring(l, s + at, n);
		} else {
			uint64_t v = 0;

			n = number_size(l, letter, n);
			luaL_argcheck(l, at + n <= have, 2, "data string too short");
			for (size_t i = n; i > 0; i--)
				v = v << 8 | (uint8_t)s[at + i - 1];
			lua_pushnumber(l, (lua_Number)v);
		}
		at += n;
	}
	lua_pushinteger(l, (lua_Integer)at + 1);
	return lua_gettop(l) - top;
}

int lua_open_struct(lua_State *l)
{
	static const luaL_Reg functions[] = {{"pack", pack}, {"unpack", unpack}, {NULL, NULL}};

	luaL_register(l, "struct", functions);
	return 1;
}
