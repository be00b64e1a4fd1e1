/* SPDX-License-Identifier: Apache-2.0 */
/* multipart/form-data (RFC 7578) as a push parser without I/O: feed bytes as they come, get parts as they are found. */
#ifndef S24_IO_MULTIPART_H
#define S24_IO_MULTIPART_H

#include "base/arena.h"
#include "base/err.h"

struct multipart_part {
	struct str name, file_name, content_type; /* file_name.p NULL: a plain field */
};
struct multipart_events {
	void *ctx;
	enum err (*begin)(void *ctx, const struct multipart_part *part);
	enum err (*data)(void *ctx, struct str bytes);
	enum err (*end)(void *ctx);
};
struct multipart;
/* ERR_MEDIA_TYPE: not multipart/form-data, or no usable boundary. Limits: 64 parts, 4 KiB of headers a part. */
MUST_CHECK enum err multipart_new(struct str content_type, struct arena *arena, const struct multipart_events *events,
				  struct multipart **ret);
MUST_CHECK enum err multipart_feed(struct multipart *m, struct str bytes); /* ERR_MALFORMED, or what an event returned */
MUST_CHECK enum err multipart_finish(struct multipart *m);                 /* ERR_MALFORMED: cut off */
#endif
