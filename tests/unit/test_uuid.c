/* SPDX-License-Identifier: Apache-2.0 */
/* UUIDs: the RFC's vectors, order, natural ids, text. */
#include "unit/unit.h"

#include <openssl/sha.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/str.h"
#include "base/timefmt.h"
#include "base/uuid.h"

static struct uuid parsed(const char *text)
{
	struct uuid id;

	assert_true(uuid_parse(str_of(text), &id));
	return id;
}

#define assert_uuid(id, want)                       \
	do {                                        \
		char text_[UUID_TEXT + 1];          \
		uuid_text((id), text_);             \
		assert_string_equal(text_, (want)); \
	} while (0)

#define DNS "6ba7b810-9dad-11d1-80b4-00c04fd430c8"

static void version_5_has_the_rfc_vectors(void **state)
{
	(void)state;
	/* RFC 9562 A.4, and the one that RFC 4122's readers know from other implementations */
	assert_uuid(uuid_v5(parsed(DNS), STR("www.example.com")), "2ed6657d-e927-568b-95e1-2665a8aea6a2");
	assert_uuid(uuid_v5(parsed(DNS), STR("python.org")), "886313e1-3b8a-5372-9b90-0c9aee199e5d");
}

static void version_5_is_sha1_at_every_length(void **state)
{
	char name[300];
	uint64_t seed = 8;
	uint8_t in[16 + sizeof(name)], digest[20];
	struct uuid space = parsed(DNS);

	(void)state;
	memcpy(in, space.b, 16);
	for (size_t n = 0; n < sizeof(name); n++) {
		struct uuid id = uuid_v5(space, (struct str){name, n});

		memcpy(in + 16, name, n);
		SHA1(in, 16 + n, digest);
		digest[6] = (uint8_t)((digest[6] & 0x0F) | 0x50);
		digest[8] = (uint8_t)((digest[8] & 0x3F) | 0x80);
		assert_memory_equal(id.b, digest, 16);
		name[n] = (char)unit_random(&seed);
	}
}

static void a_natural_id_joins_its_parts_by_unit_separators(void **state)
{
	struct uuid school = parsed("0191d3c0-0000-7000-8000-000000000001");
	struct str parts[] = {STR("8f14e45f-ceea-467f-a8f5-000000000002"), STR("2026-11-21")};
	struct str empty[] = {STR("a"), STR("")}, one[] = {STR("a")}, moved[] = {STR("ab"), STR("c")},
		   other[] = {STR("a"), STR("bc")};

	(void)state;
	assert_true(uuid_eq(uuid_natural(school, "attendance", parts, 2),
			    uuid_v5(school, STR("attendance\x1F"
						"8f14e45f-ceea-467f-a8f5-000000000002\x1F"
						"2026-11-21"))));
	assert_true(uuid_eq(uuid_natural(school, "x", NULL, 0), uuid_v5(school, STR("x"))));
	assert_false(uuid_eq(uuid_natural(school, "x", empty, 2), uuid_natural(school, "x", one, 1)));
	assert_false(uuid_eq(uuid_natural(school, "x", moved, 2), uuid_natural(school, "x", other, 2)));
	assert_false(uuid_eq(uuid_natural(school, "x", one, 1), uuid_natural(parsed(DNS), "x", one, 1)));
}

/* Runs first: the counter only grows within a process. */
static void version_7_shows_its_millisecond(void **state)
{
	struct uuid id = uuid_v7(INT64_C(1645557742000) * 1000); /* RFC 9562 A.6 */
	char text[UUID_TEXT + 1];

	(void)state;
	uuid_text(id, text);
	text[13] = '\0';
	assert_string_equal(text, "017f22e2-79b0");
	assert_int_equal(id.b[6] >> 4, 7);
	assert_int_equal(id.b[8] >> 6, 2);
	assert_int_equal((id.b[6] & 0x0F) << 8 | id.b[7], 0); /* no fraction of a millisecond */
	id = uuid_v7(INT64_C(1645557742000) * 1000 + 999);
	assert_int_equal((id.b[6] & 0x0F) << 8 | id.b[7], 999 * 4096 / 1000);
}

static void version_7_is_ordered_inside_a_millisecond(void **state)
{
	int64_t now = clock_real_us() / 1000 * 1000;
	struct uuid before = uuid_v7(now);
	int64_t at_ms = 0;

	(void)state;
	/* 4096 fit a millisecond; more than that borrow from the next ones and stay in order */
	for (int i = 0; i < 20000; i++) {
		struct uuid id = uuid_v7(now);

		assert_true(memcmp(before.b, id.b, 16) < 0);
		assert_true(memcmp(before.b, id.b, 8) < 0); /* by time and counter, not by luck */
		assert_int_equal(id.b[6] >> 4, 7);
		assert_int_equal(id.b[8] >> 6, 2);
		before = id;
	}
	for (int i = 0; i < 6; i++)
		at_ms = at_ms << 8 | before.b[i];
	assert_in_range(at_ms, now / 1000 + 4, now / 1000 + 6);
}

static void version_7_stays_ordered_when_the_clock_goes_back(void **state)
{
	int64_t now = clock_real_us() + 60 * US_PER_S;
	struct uuid a = uuid_v7(now), b = uuid_v7(now - 3600 * US_PER_S), c = uuid_v7(-5), d = uuid_v7(now + 1);

	(void)state;
	assert_true(memcmp(a.b, b.b, 16) < 0);
	assert_true(memcmp(b.b, c.b, 16) < 0);
	assert_true(memcmp(c.b, d.b, 16) < 0);
}

enum { PER_THREAD = 5000 };
static void *make_many(void *to)
{
	struct uuid *ids = to;

	for (size_t i = 0; i < PER_THREAD; i++)
		ids[i] = uuid_v7(clock_real_us());
	return NULL;
}

static void a_forked_child_draws_other_random_bytes(void **state)
{
	struct uuid mine = uuid_v7(clock_real_us()), his; /* by then there are spare bytes to inherit */
	int ends[2], status = -1;
	pid_t pid;

	(void)state;
	assert_int_equal(pipe(ends), 0);
	pid = fork();
	if (pid == 0) {
		his = uuid_v7(clock_real_us());
		_exit(write(ends[1], &his, sizeof(his)) == sizeof(his) ? 0 : 1);
	}
	mine = uuid_v7(clock_real_us());
	assert_int_equal(read(ends[0], &his, sizeof(his)), sizeof(his));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_memory_not_equal(mine.b + 8, his.b + 8, 8);
	close(ends[0]);
	close(ends[1]);
}

static int by_bytes(const void *a, const void *b)
{
	return memcmp(a, b, 8); /* the random tail would hide a counter given twice */
}

static void threads_never_get_the_same_counter(void **state)
{
	static struct uuid ids[4][PER_THREAD];
	struct uuid *all = ids[0];
	pthread_t t[4];

	(void)state;
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&t[i], NULL, make_many, ids[i]), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	for (int i = 0; i < 4; i++) {
		for (int j = 1; j < PER_THREAD; j++)
			assert_true(by_bytes(&ids[i][j - 1], &ids[i][j]) < 0);
	}
	qsort(all, 4 * PER_THREAD, sizeof(*all), by_bytes);
	for (int i = 1; i < 4 * PER_THREAD; i++)
		assert_true(by_bytes(&all[i - 1], &all[i]) < 0);
}

static void text_is_read_in_either_case_and_written_in_lower(void **state)
{
	(void)state;
	assert_uuid(parsed("2ED6657D-E927-568B-95E1-2665A8AEA6A2"), "2ed6657d-e927-568b-95e1-2665a8aea6a2");
	assert_uuid(parsed("ffffffff-ffff-ffff-ffff-ffffffffffff"), "ffffffff-ffff-ffff-ffff-ffffffffffff");
	assert_true(uuid_is_nil(parsed("00000000-0000-0000-0000-000000000000")));
	assert_false(uuid_is_nil(parsed("00000000-0000-0000-0000-000000000001")));
}

static void other_forms_are_refused(void **state)
{
	static const char *const bad[] = {"",
					  "2ed6657d-e927-568b-95e1-2665a8aea6a",
					  "2ed6657d-e927-568b-95e1-2665a8aea6a22",
					  "{2ed6657d-e927-568b-95e1-2665a8aea6a}",
					  "2ed6657de927568b95e12665a8aea6a2",
					  "2ed6657d-e927-568b-95e1-2665a8aea6ag",
					  "2ed6657d-e927-568b-95e12-665a8aea6a2",
					  "2ed6657d_e927_568b_95e1_2665a8aea6a2",
					  " ed6657d-e927-568b-95e1-2665a8aea6a2",
					  "2ed6657d-e927-568b-95e1-2665a8aea6-2",
					  "+ed6657d-e927-568b-95e1-2665a8aea6a2"};
	struct uuid id = {{9}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_false(uuid_parse(str_of(bad[i]), &id));
	assert_int_equal(id.b[0], 9); /* untouched on failure */
}

static void text_and_bytes_are_the_same_id(void **state)
{
	(void)state;
	for (int i = 0; i < 1000; i++) {
		struct uuid id, back;
		char text[UUID_TEXT + 1];

		random_bytes(id.b, 16);
		uuid_text(id, text);
		assert_true(uuid_parse(str_of(text), &back));
		assert_true(uuid_eq(id, back));
	}
}

static void random_bytes_fill_exactly(void **state)
{
	uint8_t p[600] = {0};
	unsigned ones = 0;

	(void)state;
	random_bytes(p, 0);
	random_bytes(p + 10, 512); /* more than one call of the kernel gives at once for sure */
	for (int i = 0; i < 10; i++)
		assert_int_equal(p[i], 0);
	for (int i = 522; i < 600; i++)
		assert_int_equal(p[i], 0);
	for (int i = 10; i < 522; i++)
		ones += (unsigned)__builtin_popcount(p[i]);
	assert_in_range(ones, 1700, 2400); /* 2048 expected, deviation 32 */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(version_7_shows_its_millisecond),
		cmocka_unit_test(version_7_is_ordered_inside_a_millisecond),
		cmocka_unit_test(version_7_stays_ordered_when_the_clock_goes_back),
		cmocka_unit_test(threads_never_get_the_same_counter),
		cmocka_unit_test(a_forked_child_draws_other_random_bytes),
		cmocka_unit_test(version_5_has_the_rfc_vectors),
		cmocka_unit_test(version_5_is_sha1_at_every_length),
		cmocka_unit_test(a_natural_id_joins_its_parts_by_unit_separators),
		cmocka_unit_test(text_is_read_in_either_case_and_written_in_lower),
		cmocka_unit_test(other_forms_are_refused),
		cmocka_unit_test(text_and_bytes_are_the_same_id),
		cmocka_unit_test(random_bytes_fill_exactly),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
