/* SPDX-License-Identifier: Apache-2.0 */
/* SQLSTATE to enum err, by the longest prefix that a table knows. */
#include "io/pg_error.h"

#include <string.h>

#include "base/str.h"

// clang-format off
static const struct {
	const char *prefix;
	enum err err;
} states[] = {
	{"23505", ERR_EXISTS},    /* unique_violation */
	{"23502", ERR_INVALID},   /* not_null_violation */
	{"23514", ERR_INVALID},   /* check_violation */
	{"23503", ERR_CONFLICT},  /* foreign_key_violation */
	{"23001", ERR_CONFLICT},  /* restrict_violation */
	{"23P01", ERR_CONFLICT},  /* exclusion_violation */
	{"22P03", ERR_BUG},       /* invalid_binary_representation: we encode, so it is ours */
	{"22",    ERR_INVALID},   /* data exceptions: too long, out of range, bad value */
	{"40",    ERR_DB},        /* serialization lost, deadlock, rolled back */
	{"55P03", ERR_TIMEOUT},   /* lock_timeout */
	{"57014", ERR_TIMEOUT},   /* statement_timeout */
	{"57",    ERR_DB},        /* operator intervention: shutting down, starting up */
	{"08",    ERR_DB},        /* connection */
	{"08P01", ERR_BUG},       /* protocol: a wrong number of parameters */
	{"53",    ERR_DB},        /* out of memory, disk, connections */
	{"58",    ERR_DB},        /* system error outside PostgreSQL */
	{"25006", ERR_DB},        /* read only: it became a standby */
	{"25P03", ERR_DB},        /* idle_in_transaction_session_timeout */
	{"28",    ERR_DB},        /* authorization at connect */
	{"3D",    ERR_DB},        /* no such database */
	{"XX001", ERR_CORRUPT},   /* data_corrupted */
	{"XX002", ERR_CORRUPT},   /* index_corrupted */
	{"P0001", ERR_CONFLICT},  /* RAISE in one of our functions: the rule refuses */
	{"P0002", ERR_NOT_FOUND}, /* no_data_found, raised so by our functions */
};
// clang-format on

enum err pg_error_of_state(const char *sqlstate)
{
	enum err e = ERR_BUG;
	size_t best = 0;

	for (size_t i = 0; i < ARRAY_LEN(states); i++) {
		size_t n = strlen(states[i].prefix);

		if (n > best && strncmp(sqlstate, states[i].prefix, n) == 0) {
			best = n;
			e = states[i].err;
		}
	}
	return e;
}

static void field_copy(char *to, size_t size, const char *from)
{
	size_t n = from ? strnlen(from, size - 1) : 0;

	if (n != 0)
		memcpy(to, from, n);
	to[n] = '\0';
}

void pg_error_set(struct pg_fail *fail, const char *sqlstate)
{
	field_copy(fail->sqlstate, sizeof(fail->sqlstate), sqlstate);
	fail->constraint[0] = '\0';
}

enum err pg_error_of_result(const PGresult *res, struct pg_fail *ret_fail)
{
	const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);

	if (!state) { /* libpq made the error itself: the connection broke */
		pg_error_set(ret_fail, "");
		return ERR_DB;
	}
	pg_error_set(ret_fail, state);
	field_copy(ret_fail->constraint, sizeof(ret_fail->constraint), PQresultErrorField(res, PG_DIAG_CONSTRAINT_NAME));
	return pg_error_of_state(state);
}

bool pg_error_is_contention(const char *sqlstate)
{
	return strcmp(sqlstate, "40001") == 0 || strcmp(sqlstate, "40P01") == 0;
}

bool pg_error_is_stale(const char *sqlstate)
{
	return strcmp(sqlstate, "0A000") == 0 || strcmp(sqlstate, "26000") == 0 || strcmp(sqlstate, "42P05") == 0;
}

bool pg_error_is_away(const char *sqlstate)
{
	return sqlstate[0] == '\0' || strncmp(sqlstate, "57P", 3) == 0 ||
	       (strncmp(sqlstate, "08", 2) == 0 && strcmp(sqlstate, "08P01") != 0) || strcmp(sqlstate, "25006") == 0 ||
	       strcmp(sqlstate, "25P03") == 0;
}

bool pg_stmt_reads(const struct pg_stmt *stmt)
{
	struct str rest = str_of(stmt->sql);
	bool first = true;

	while (rest.n != 0) {
		struct str line = str_trim(str_split(&rest, '\n'));

		if (line.n != 0 && !str_has_prefix(line, STR("--")))
			return str_ieq((struct str){line.p, line.n < 6 ? line.n : 6}, STR("SELECT")) ||
			       str_ieq((struct str){line.p, line.n < 6 ? line.n : 6}, STR("VALUES"));
		if (first && line.n != 0 && memmem(line.p, line.n, "writes", 6))
			return false;
		first = false;
	}
	return false;
}
