/* SPDX-License-Identifier: Apache-2.0 */
/* The error table, looked up by value. */
#include "base/err.h"

struct err_row {
	enum err e;
	int status;
	const char *name, *code, *title;
};

static const struct err_row rows[] = {
#define ERR_ROW(symbol, value, status_, code_, title_) \
	{.e = symbol, .status = (status_), .name = #symbol, .code = (code_), .title = (title_)},
	ERR_TABLE(ERR_ROW)
#undef ERR_ROW
};

/* A value outside the table is our own mistake, and is shown as one rather than as a crash in the error path. */
static const struct err_row *find(enum err e)
{
	static const struct err_row unknown = {ERR_BUG, 500, "ERR_UNKNOWN", "internal", "Internal error"};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (rows[i].e == e)
			return &rows[i];
	}
	return &unknown;
}

const char *err_name(enum err e)
{
	return find(e)->name;
}

const char *err_code(enum err e)
{
	return find(e)->code;
}

const char *err_title(enum err e)
{
	return find(e)->title;
}

int err_status(enum err e)
{
	return find(e)->status;
}
