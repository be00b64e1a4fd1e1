/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small Redis: the commands that the buffer's scripts use, over strings, hashes, sorted sets and counted streams, with a clock that is given.
 * A reply points into the keyspace and is good until the next command. What a script of ours would not say aborts.
 */
#ifndef S24_FAULT_SIM_KEYSPACE_H
#define S24_FAULT_SIM_KEYSPACE_H

#include "io/redis.h"

struct keyspace;
struct keyspace *keyspace_new(void);
void keyspace_free(struct keyspace *ks);
void keyspace_clock(struct keyspace *ks, int64_t now_us);
struct redis_reply keyspace_command(struct keyspace *ks, const struct str *args, size_t n);

/* For the checks, which look without touching. */
bool keyspace_string(struct keyspace *ks, struct str key, struct str *ret);
bool keyspace_score(struct keyspace *ks, struct str key, struct str member, double *ret);
bool keyspace_field(struct keyspace *ks, struct str key, struct str field, struct str *ret);
size_t keyspace_size(struct keyspace *ks, struct str key); /* members, or fields; 0: no such key */
struct str keyspace_member(struct keyspace *ks, struct str key, size_t i);
size_t keyspace_prefix(struct keyspace *ks, struct str prefix, void (*fn)(void *ctx, struct str key), void *ctx); /* number of living keys */

/* The scripts: the real files, one Lua state. */
struct scripts;
struct scripts *scripts_new(void);
void scripts_free(struct scripts *s);
/* Changes a script's text before it runs for the first time; the text must be there exactly once. NULL takes every change back. */
void scripts_patch(struct scripts *s, const char *name, const char *from, const char *to);
/* EVALSHA without keys. A script's error is a reply of type REDIS_ERROR. */
void scripts_run(struct scripts *s, struct keyspace *ks, const struct redis_script *script, struct redis_args args, struct arena *arena,
		 struct redis_reply *ret);
struct lua_State;
int lua_open_struct(struct lua_State *l); /* the module `struct` with what the scripts use of it */

#endif
