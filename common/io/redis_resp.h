/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of the protocol, shared by the three clients: commands out, replies in.
 *
 * hiredis' reader is told to build our own tree inside one block of memory (two for a large reply), so a reply costs one malloc
 * whatever its size, and a large one is handed to the caller's arena without being copied again.
 */
#ifndef S24_IO_REDIS_RESP_H
#define S24_IO_REDIS_RESP_H

#include "base/buf.h"
#include "io/redis.h"

struct redisReader;
struct redis_resp_block;

struct redis_resp_memory { /* of the reply that is being read, then of the reply */
	struct redis_resp_block *blocks;
};

/* `head` and then `args`, as one command. */
void redis_resp_put(struct buf *out, struct redis_args head, struct redis_args args);

struct redisReader *redis_resp_reader_new(struct redis_resp_memory *memory) NEVER_NULL;
void redis_resp_memory_free(struct redis_resp_memory *memory);
/* The reply for its caller: copied when small, else its memory becomes the arena's. Empties *memory. */
struct redis_reply redis_resp_give(struct arena *arena, struct redis_resp_memory *memory, const struct redis_reply *root);

/* -LOADING, -READONLY and the like: the server is not able to serve, whoever asks. */
bool redis_resp_is_server_fault(const struct redis_reply *reply);
bool redis_resp_is_error(const struct redis_reply *reply, const char *code);

#endif
