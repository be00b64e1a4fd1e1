/* SPDX-License-Identifier: Apache-2.0 */
/* What a file is, from its first bytes: the client's word decides nothing. */
#include "base/str.h"
#include "io/storage.h"

static const struct magic {
	size_t at;
	struct str bytes;
	const char *type;
} magics[] = {
	// clang-format off
	{0, {"%PDF-", 5}, "application/pdf"},
	{0, {"\x89PNG\r\n\x1a\n", 8}, "image/png"},
	{0, {"\xff\xd8\xff", 3}, "image/jpeg"},
	{0, {"GIF87a", 6}, "image/gif"},
	{0, {"GIF89a", 6}, "image/gif"},
	{8, {"WEBP", 4}, "image/webp"},
	{4, {"ftypheic", 8}, "image/heic"},
	{4, {"ftypmif1", 8}, "image/heif"},
	{4, {"ftypavif", 8}, "image/avif"},
	{4, {"ftypqt  ", 8}, "video/quicktime"},
	{4, {"ftypM4A ", 8}, "audio/mp4"},
	{4, {"ftyp", 4}, "video/mp4"},
	{0, {"\x1a\x45\xdf\xa3", 4}, "video/webm"},
	{0, {"OggS", 4}, "audio/ogg"},
	{0, {"ID3", 3}, "audio/mpeg"},
	{8, {"WAVE", 4}, "audio/wav"},
	{0, {"{\\rtf", 5}, "application/rtf"},
	{0, {"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", 8}, "application/x-ole-storage"},
	{0, {"7z\xbc\xaf\x27\x1c", 6}, "application/x-7z-compressed"},
	{0, {"\x1f\x8b", 2}, "application/gzip"},
	// clang-format on
};

/* The names of the first members tell which office program wrote a ZIP. */
static const char *zip_type(struct str head)
{
	static const struct {
		const char *name, *type;
	} members[] = {
		{"mimetypeapplication/vnd.oasis.opendocument.text", "application/vnd.oasis.opendocument.text"},
		{"mimetypeapplication/vnd.oasis.opendocument.spreadsheet", "application/vnd.oasis.opendocument.spreadsheet"},
		{"mimetypeapplication/vnd.oasis.opendocument.presentation", "application/vnd.oasis.opendocument.presentation"},
		{"mimetypeapplication/epub+zip", "application/epub+zip"},
		{"word/", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"},
		{"xl/", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"},
		{"ppt/", "application/vnd.openxmlformats-officedocument.presentationml.presentation"},
	};

	for (size_t i = 0; i < ARRAY_LEN(members); i++) {
		if (memmem(head.p, head.n, members[i].name, strlen(members[i].name)) != NULL)
			return members[i].type;
	}
	return "application/zip";
}

/* Text that a browser shows as text: UTF-8 without control characters. The head may end inside a character. */
static bool is_text(struct str head)
{
	for (size_t i = 0; i < head.n; i++) {
		unsigned char c = (unsigned char)head.p[i];

		if ((c < 0x20 && c != '\n' && c != '\r' && c != '\t' && c != '\f') || c == 0x7f)
			return false;
	}
	for (size_t cut = 0; cut <= 3 && cut < head.n; cut++) {
		if (str_is_utf8((struct str){head.p, head.n - cut}))
			return true;
	}
	return false;
}

const char *content_sniff(struct str head)
{
	for (size_t i = 0; i < ARRAY_LEN(magics); i++) {
		const struct magic *m = &magics[i];

		if (head.n >= m->at + m->bytes.n && memcmp(head.p + m->at, m->bytes.p, m->bytes.n) == 0 &&
		    (m->at != 8 || memcmp(head.p, "RIFF", 4) == 0))
			return m->type;
	}
	if (str_has_prefix(head, STR("PK\x03\x04")))
		return zip_type(head);
	/* HTML and SVG are text too: they must never be shown as what they say they are. */
	return head.n != 0 && is_text(head) ? "text/plain" : "application/octet-stream";
}
