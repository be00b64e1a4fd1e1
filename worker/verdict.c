/* SPDX-License-Identifier: Apache-2.0 */
/* SQLSTATE classes, waiting times, the breaker. */
#include "verdict.h"

#include <string.h>

#include "base/str.h"

// clang-format off
static const struct {
	const char *prefix;
	enum verdict verdict;
} verdicts[] = { /* the first that fits */
	{"08",    VERDICT_TRANSIENT},
	{"57P0",  VERDICT_TRANSIENT},  /* shutting down, crashed, starting up */
	{"53",    VERDICT_TRANSIENT},  /* memory, disk, connections */
	{"25P03", VERDICT_TRANSIENT},
	{"25006", VERDICT_TRANSIENT},  /* read only: a standby took our place, or we its */
	{"40001", VERDICT_CONTENTION},
	{"40P01", VERDICT_CONTENTION},
	{"55P03", VERDICT_CONTENTION},
	{"23503", VERDICT_PARENT},
	{"22",    VERDICT_PERMANENT},
	{"23502", VERDICT_PERMANENT},
	{"23514", VERDICT_PERMANENT},
	{"23505", VERDICT_PERMANENT},
	{"42",    VERDICT_PERMANENT},
	{"0A000", VERDICT_PERMANENT},
};
// clang-format on

static bool begins(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

enum verdict verdict_of(enum err e, const char *sqlstate)
{
	if (e == ERR_UNCERTAIN)
		return VERDICT_TRANSIENT;
	for (size_t i = 0; i < ARRAY_LEN(verdicts); i++)
		if (begins(sqlstate, verdicts[i].prefix))
			return verdicts[i].verdict;
	/* Without a code the connection broke, unless it is our own mistake. */
	return sqlstate[0] == '\0' && (e == ERR_DB || e == ERR_TIMEOUT) ? VERDICT_TRANSIENT : VERDICT_UNKNOWN;
}

bool verdict_is_of_schema(const char *sqlstate)
{
	return begins(sqlstate, "42") || begins(sqlstate, "0A000");
}

int64_t backoff_transient_ms(unsigned tries, uint64_t random)
{
	int64_t base = INT64_C(200) << (tries < 8 ? tries : 8);

	return base + (int64_t)(random % (uint64_t)base);
}

int64_t backoff_away_ms(uint64_t random)
{
	return 3000 + (int64_t)(random % 4000);
}

int64_t backoff_counted_ms(int64_t attempts, uint64_t random)
{
	int64_t base = attempts < 8 ? INT64_C(1000) << attempts : INT64_C(180000);

	if (base > 180000)
		base = 180000;
	return base + (int64_t)(random % (uint64_t)(base / 4));
}

void breaker_trip(struct breaker *b, int64_t now_us)
{
	b->opened += !b->open;
	b->open = true;
	b->probe_at_us = now_us + BREAKER_PROBE_US;
}

bool breaker_wants_probe(const struct breaker *b, int64_t now_us)
{
	return b->open && now_us >= b->probe_at_us;
}

void breaker_probed(struct breaker *b, bool well, int64_t now_us)
{
	b->open = b->open && !well;
	b->probe_at_us = now_us + BREAKER_PROBE_US;
}
