/* SPDX-License-Identifier: Apache-2.0 */
/* multipart/form-data in pieces of every size; what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/str.h"
#include "io/multipart.h"

#define TYPE "multipart/form-data; boundary=XX"

/* Everything that was found, as one text: "name|file|type|bytes\n". */
struct found {
	struct buf text;
	enum err fail_with;
};

static enum err on_begin(void *ctx, const struct multipart_part *part)
{
	struct found *f = ctx;

	buf_printf(&f->text, "%.*s|%s%.*s|%.*s|", STR_FMT(part->name), part->file_name.p ? "f:" : "", STR_FMT(part->file_name),
		   STR_FMT(part->content_type));
	return f->fail_with;
}

static enum err on_data(void *ctx, struct str bytes)
{
	struct found *f = ctx;

	buf_puts(&f->text, bytes);
	return OK;
}

static enum err on_end(void *ctx)
{
	struct found *f = ctx;

	buf_putc(&f->text, '\n');
	return OK;
}

static enum err parse(const char *type, struct str body, size_t piece, struct found *f)
{
	const struct multipart_events events = {f, on_begin, on_data, on_end};
	struct arena *arena = arena_new();
	struct multipart *m;
	enum err e;

	f->text.n = 0;
	e = multipart_new(str_of(type), arena, &events, &m);
	for (size_t at = 0; at < body.n && e == OK; at += piece) {
		size_t n = body.n - at < piece ? body.n - at : piece;
		char *copy = malloc(n);

		memcpy(copy, body.p + at, n);
		e = multipart_feed(m, (struct str){copy, n});
		free(copy);
	}
	if (e == OK)
		e = multipart_finish(m);
	arena_free(arena);
	return e;
}

static void forms_are_found_in_pieces_of_any_size(void **state)
{
	const struct {
		const char *type;
		struct str body;
		const char *found;
	} rows[] = {
		{TYPE, STR("--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nb\r\n--XX--\r\n"), "a|||b\n"},
		{TYPE,
		 STR("--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n\r\n--XX\r\ncontent-disposition: FORM-DATA; "
		     "name=b; "
		     "filename=\"c d.txt\"\r\nContent-Type: text/plain\r\nX: y\r\n\r\nline\r\n\r\n-\r\n--X\r\n--XY\r\n--XX--"),
		 "a|||\nb|f:c d.txt|text/plain|line\r\n\r\n-\r\n--X\r\n--XY\n"},
		{TYPE,
		 STR("preamble\r\n--X\r\n--XX \t\r\nContent-Disposition: form-data; "
		     "name=\"a\"\r\n\r\n\r\r\n\r\r\n--XX--\r\nepilogue --XX"),
		 "a|||\r\r\n\r\n"},
		{"Multipart/Form-Data ; charset=x; boundary=\"a b:c\"",
		 STR("--a b:c\r\nContent-Disposition: form-data; name=\"n\\\"q\\\\\"; filename=\"\"\r\n\r\nx\r\n--a b:c--"),
		 "n\"q\\|f:||x\n"},
		{TYPE, STR("--XX\r\nContent-Disposition: form-data; name=\"a\"; filename=\"C:\\dir\\f.txt\"\r\n\r\nx\r\n--XX--"),
		 "a|f:C:\\dir\\f.txt||x\n"},
		{TYPE, STR("--XX\r\nContent-Disposition: form-data; name=a\r\n\r\n--XX--"),
		 "a|||\n"}, /* RFC 2046: no body at all */
		{TYPE, STR("--XX--\r\n"), ""},
	};
	struct found f = {0};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		for (size_t piece = 1; piece <= rows[i].body.n; piece++) {
			assert_int_equal(parse(rows[i].type, rows[i].body, piece, &f), OK);
			if (!str_is(buf_str(&f.text), rows[i].found))
				fail_msg("row %zu in pieces of %zu: %s", i, piece, buf_cstr(&f.text));
		}
	}
	buf_done(&f.text);
}

static void binary_content_is_untouched(void **state)
{
	struct buf body = {0}, want = {0};
	struct found f = {0};

	(void)state;
	buf_puts(&want, STR("a|f:x||"));
	buf_puts(&body, STR("--XX\r\nContent-Disposition: form-data; name=\"a\"; filename=\"x\"\r\n\r\n"));
	for (int i = 0; i < 100000; i++) {
		char c = "\r\n-X\0\xff"[i * 7919 / 13 % 6];

		buf_putc(&body, c);
		buf_putc(&want, c);
	}
	buf_puts(&body, STR("\r\n--XX--"));
	buf_putc(&want, '\n');
	for (size_t piece = 1; piece < 100; piece += 7) {
		assert_int_equal(parse(TYPE, buf_str(&body), piece, &f), OK);
		assert_true(str_eq(buf_str(&f.text), buf_str(&want)));
	}
	buf_done(&body);
	buf_done(&want);
	buf_done(&f.text);
}

static void what_is_no_form_is_refused(void **state)
{
	static const char *const types[] = {
		"application/json",
		"multipart/mixed; boundary=XX",
		"multipart/form-data",
		"multipart/form-data; boundary=",
		"multipart/form-data; boundary=\"\"",
		"multipart/form-data; boundary=XX; boundary=YY",
		"multipart/form-data; boundary=\"XX",
		"multipart/form-data; boundary=\"X\x01\"",
		"multipart/form-data; boundary=\"XX \"",
		"multipart/form-data boundary=XX",
		"multipart/form-databoundary=XX",
		"multipart/form-data; boundary=12345678901234567890123456789012345678901234567890123456789012345678901"};
	const struct str bodies[] = {
		STR(""),
		STR("--XX"),
		STR("--XX-"),
		STR("--XX\r\n"),
		STR("--XX\r\n\r\nno headers\r\n--XX--"),
		STR("--XX\r\nContent-Disposition: form-data\r\n\r\nx\r\n--XX--"),
		STR("--XX\r\nContent-Disposition: form-data; name=\"\"\r\n\r\nx\r\n--XX--"),
		STR("--XX\r\nContent-Disposition: attachment; name=\"a\"\r\n\r\nx\r\n--XX--"),
		STR("--XX\r\nContent-Disposition: form-data; name=\"a\"; name=\"b\"\r\n\r\nx\r\n--XX--"),
		STR("--XX\r\nContent-Disposition: form-data; name=\"a\xff\"\r\n\r\nx\r\n--XX--"),
		STR("--XX\r\nContent-Disposition: form-data; name=\"a\"\r\nContent-Disposition: form-data; "
		    "name=\"b\"\r\n\r\nx\r\n--XX--"),
		STR("--XX\r\nContent-Disposition: form-data; name=\"a\"\r\nContent-Transfer-Encoding: base64\r\n\r\nx\r\n--XX--"),
		STR("--XX\r\nContent-Disposition : form-data; name=\"a\"\r\n\r\nx\r\n--XX--"),
		STR("--XX\r\nContent-Disposition: form-data;\r\n name=\"a\"\r\n\r\nx\r\n--XX--"),
		STR("--XX\r\nContent-Disposition: form-data; name=\"a\"\n\nx\r\n--XX--"),
		STR("--XX\nContent-Disposition: form-data; name=\"a\"\r\n\r\nx\r\n--XX--"),
		STR("--XX\r\nContent-Disposition: form-data; name=\"a\0\"\r\n\r\nx\r\n--XX--"),
		STR("--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nx\r\n--XXX\r\n"),
		STR("--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nx\r\n--XX"),
		STR("--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nx"),
	};
	struct found f = {0};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(types); i++) {
		if (parse(types[i], STR("--XX--"), 10, &f) != ERR_MEDIA_TYPE)
			fail_msg("%s", types[i]);
	}
	for (size_t i = 0; i < ARRAY_LEN(bodies); i++) {
		for (size_t piece = 1; piece <= bodies[i].n + 1; piece++) {
			if (parse(TYPE, bodies[i], piece, &f) != ERR_MALFORMED)
				fail_msg("body %zu in pieces of %zu", i, piece);
		}
	}
	buf_done(&f.text);
}

static void parts_and_their_headers_are_bounded(void **state)
{
	struct buf body = {0};
	struct found f = {0};

	(void)state;
	for (int i = 0; i < 64; i++)
		buf_puts(&body, STR("--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nx\r\n"));
	buf_puts(&body, STR("--XX--"));
	assert_int_equal(parse(TYPE, buf_str(&body), 1000, &f), OK);
	body.n -= 6;
	buf_puts(&body, STR("--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nx\r\n--XX--"));
	assert_int_equal(parse(TYPE, buf_str(&body), 1000, &f), ERR_MALFORMED);

	body.n = 0;
	buf_puts(&body, STR("--XX\r\nX: "));
	for (int i = 0; i < 5000; i++)
		buf_putc(&body, 'x');
	buf_puts(&body, STR("\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nx\r\n--XX--"));
	assert_int_equal(parse(TYPE, buf_str(&body), 1000, &f), ERR_MALFORMED);
	buf_done(&body);
	buf_done(&f.text);
}

static void an_events_error_ends_it(void **state)
{
	struct found f = {.fail_with = ERR_TOO_LARGE};

	(void)state;
	assert_int_equal(parse(TYPE, STR("--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nb\r\n--XX--"), 1, &f),
			 ERR_TOO_LARGE);
	assert_true(str_is(buf_str(&f.text), "a|||"));
	buf_done(&f.text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(forms_are_found_in_pieces_of_any_size),
		cmocka_unit_test(binary_content_is_untouched),
		cmocka_unit_test(what_is_no_form_is_refused),
		cmocka_unit_test(parts_and_their_headers_are_bounded),
		cmocka_unit_test(an_events_error_ends_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
