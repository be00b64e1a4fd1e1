/* SPDX-License-Identifier: Apache-2.0 */
/* Request heads: pieces get the verdict of the whole, slices stay inside. With HTTP_VERDICT set, prints what was read (compare_node.mjs). */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "io/http_internal.h"

static void require(bool ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "%s\n", what);
		abort();
	}
}

static void inside(struct str s, const char *bytes, size_t n)
{
	require(s.n == 0 || (s.p >= bytes && s.p + s.n <= bytes + n), "a slice leaves the bytes");
}

static void check(const struct http_head *head, const char *bytes, size_t used)
{
	struct str path, query;

	inside(head->method_text, bytes, used);
	inside(head->target, bytes, used);
	for (size_t i = 0; i < head->n_headers; i++) {
		inside(head->headers[i].name, bytes, used);
		inside(head->headers[i].value, bytes, used);
		require(head->headers[i].name.n > 0, "an empty name");
		require(!memchr(head->headers[i].value.p, '\n', head->headers[i].value.n), "a line feed in a value");
	}
	http_target_split(head->target, &path, &query);
	require(path.n > 0, "an empty path");
	require(!(head->chunked && head->content_length >= 0), "two framings");
	require(head->minor == 1 || !head->chunked, "chunked in HTTP/1.0");
}

static void put_json(struct str s)
{
	putchar('"');
	for (size_t i = 0; i < s.n; i++)
		printf(s.p[i] == '"' || s.p[i] == '\\' ? "\\%c" : "%c", s.p[i]);
	putchar('"');
}

static void print(const struct http_head *head, int r)
{
	if (r <= 0) {
		printf("{\"status\":%d}\n", -r);
		return;
	}
	printf("{\"used\":%d,\"fields\":%zu,\"length\":%lld,\"chunked\":%s,\"method\":", r, head->n_headers,
	       (long long)(head->content_length > 0 ? head->content_length : 0), head->chunked ? "true" : "false");
	put_json(head->method_text);
	printf(",\"target\":");
	put_json(head->target);
	printf("}\n");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct http_header headers[64];
	struct http_head head = {.headers = headers, .max_headers = 64};
	struct http_reply_head reply = {.headers = headers, .max_headers = 64};
	char *bytes = malloc(size ? size : 1);
	int whole, pieces = 0;

	memcpy(bytes, data, size);
	whole = http_parse_head(bytes, size, &http_limits_default, &head);
	require(whole <= (int)size, "more used than there is");
	if (whole > 0)
		check(&head, bytes, (size_t)whole);
	if (getenv("HTTP_VERDICT"))
		print(&head, whole);
	for (size_t n = 1; n <= size && pieces == 0; n += n < 400 || size - n < 97 ? 1 : 97) {
		/* Its own allocation, so that a read past the piece is seen. */
		char *piece = malloc(n);

		memcpy(piece, bytes, n);
		pieces = http_parse_head(piece, n, &http_limits_default, &head);
		free(piece);
	}
	require(whole == pieces, "pieces get another verdict than the whole");
	require(http_parse_reply(bytes, size, &http_limits_default, &reply) <= (int)size, "more used than there is");
	free(bytes);
	return 0;
}
