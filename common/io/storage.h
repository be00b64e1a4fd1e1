/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The storage port: files by key. A directory here (storage_dir.c); object storage is another driver of the same functions. Bytes are streamed
 * through the work pool, hashed on the way (SHA-256), and staged under school and hash before any row names them: the same content twice is one
 * file. A sweep removes staged files that no row has named for a day (the caller asks the rows).
 */
#ifndef S24_IO_STORAGE_H
#define S24_IO_STORAGE_H

#include "base/arena.h"
#include "base/err.h"
#include "io/work.h"

struct storage;
MUST_CHECK enum err storage_open(struct loop *loop, struct work_pool *pool, const char *url, struct storage **ret); /* "file:///var/lib/…" */
struct storage *storage_close(struct storage *s);

struct stored_file {
	struct str key;          /* "<school>/<sha256>" */
	struct str content_type; /* from the content's first bytes, never from the client's word */
	int64_t size_bytes;
	uint8_t sha256[32];
};
struct storage_writer;
SUSPENDS MUST_CHECK enum err storage_begin(struct storage *s, struct uuid school, struct arena *arena, struct deadline d, struct storage_writer **ret);
/* ERR_TOO_LARGE beyond STORAGE_SIZE_MAX; ERR_IO: the disk is full or broken. After an error every later call on the writer gives it again. */
#define STORAGE_SIZE_MAX (INT64_C(64) << 20) /* the route's own bound is smaller */
SUSPENDS MUST_CHECK enum err storage_append(struct storage_writer *w, struct str bytes, struct deadline d);
/* fsynced and renamed to its key, which is fsynced too. The key's text is the arena's. After an error nothing is there, except after
 * ERR_TIMEOUT and ERR_CANCELLED: then the file may be there all the same, and the sweep will find it. */
SUSPENDS MUST_CHECK enum err storage_commit(struct storage_writer *w, struct deadline d, struct stored_file *ret);
void storage_abort(struct storage_writer *w); /* also when the arena is cleared without a commit */

struct storage_reader;
SUSPENDS MUST_CHECK enum err storage_read_open(struct storage *s, struct str key, struct arena *arena, struct deadline d, int64_t *ret_size,
					       struct storage_reader **ret); /* ERR_NOT_FOUND */
/* ≤ 64 KiB, good until the next call; empty at the end */
SUSPENDS MUST_CHECK enum err storage_read(struct storage_reader *r, struct deadline d, struct str *ret_bytes);

/* Removes the files that were last committed more than `older_s` ago (a day, so that the row had time to come) and that no row names: `named` is
 * asked about up to 100 keys at a time. Content that is committed again meanwhile stays. */
typedef SUSPENDS enum err (*storage_named_fn)(void *ctx, const struct str *keys, size_t n, bool *ret_named, struct deadline d);
SUSPENDS MUST_CHECK enum err storage_sweep(struct storage *s, int64_t older_s, storage_named_fn named, void *ctx, struct deadline d,
					   size_t *ret_removed);

/* Type from the first bytes: "application/pdf", "image/png", …, else "application/octet-stream". */
const char *content_sniff(struct str head);
#endif
