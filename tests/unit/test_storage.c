/* SPDX-License-Identifier: Apache-2.0 */
/* Files by key in a directory: streaming, same content, what a crash, a full disk or a lost fiber leaves, and keys that nobody may ask for. */
#include "unit/unit.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/str.h"
#include "base/timefmt.h"
#include "base/uuid.h"
#include "io/crypto.h"
#include "io/storage.h"
#include "unit/fiber_case.h"

static const struct uuid school = {{1, 2, 3, 4, 5, 6, 0x70, 8, 0x80, 10, 11, 12, 13, 14, 15, 16}};
static const struct uuid other_school = {{9, 2, 3, 4, 5, 6, 0x70, 8, 0x80, 10, 11, 12, 13, 14, 15, 16}};
static const struct deadline never = {INT64_MAX};
static struct work_pool *pool;
static struct storage *storage;
static struct arena *arena;
static char dir[128], url[160];
static char small_disk[] = "/tmp/s24-small-disk-XXXXXX";
static bool has_small_disk;

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

static int fresh(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/s24-storage-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(url, sizeof(url), "file://%s", dir);
	loop = loop_new();
	pool = work_pool_new(loop, "files", 2, 100);
	arena = arena_new();
	assert_int_equal(storage_open(loop, pool, url, &storage), OK);
	return 0;
}

static int stale(void **state)
{
	(void)state;
	arena = arena_free(arena);
	storage = storage_close(storage);
	pool = work_pool_free(pool);
	loop = loop_free(loop);
	nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	return 0;
}

static char *path_of(struct str key)
{
	return arena_printf(arena, "%s/%.*s", dir, STR_FMT(key));
}

static size_t count_files(const char *below)
{
	DIR *d = opendir(arena_printf(arena, "%s/%s", dir, below));
	struct dirent *entry;
	size_t n = 0;

	while (d != NULL && (entry = readdir(d)) != NULL)
		n += entry->d_name[0] != '.';
	if (d != NULL)
		closedir(d);
	return n;
}

static char *school_text(struct uuid id)
{
	char *text = arena_alloc(arena, UUID_TEXT + 1);

	uuid_text(id, text);
	return text;
}

static void make_old(const char *path)
{
	struct timespec old[2] = {{.tv_sec = 1000000000}, {.tv_sec = 1000000000}};

	utimensat(AT_FDCWD, path, old, 0);
}

SUSPENDS static enum err put(struct uuid in, struct str bytes, struct stored_file *ret)
{
	struct storage_writer *w;
	enum err e = storage_begin(storage, in, arena, never, &w);

	if (e == OK)
		e = storage_append(w, bytes, never);
	return e == OK ? storage_commit(w, never, ret) : e;
}

SUSPENDS static enum err get(struct str key, struct buf *out)
{
	struct storage_reader *r;
	struct str bytes;
	int64_t size;
	enum err e = storage_read_open(storage, key, arena, never, &size, &r);

	while (e == OK) {
		e = storage_read(r, never, &bytes);
		if (e == OK && bytes.n == 0)
			return out->n == (size_t)size ? OK : ERR_BUG;
		if (e == OK && bytes.n > 65536)
			return ERR_BUG;
		if (e == OK)
			buf_puts(out, bytes);
	}
	return e;
}

FIBER_TEST(twenty_mebibytes_stream_through)
{
	static char piece[10007];
	struct sha256_stream *want = sha256_new();
	struct storage_writer *w;
	struct stored_file file;
	struct buf back = {0};
	uint64_t seed = 24;
	uint8_t hash[32];
	size_t n = 0;

	CHECK(storage_begin(storage, school, arena, never, &w) == OK);
	while (n < 20u << 20) {
		for (size_t i = 0; i + 8 <= sizeof(piece); i += 8) {
			uint64_t r = unit_random(&seed);

			memcpy(piece + i, &r, 8);
		}
		sha256_add(want, (struct str){piece, sizeof(piece)});
		CHECK(storage_append(w, (struct str){piece, sizeof(piece)}, never) == OK);
		n += sizeof(piece);
	}
	CHECK(storage_commit(w, never, &file) == OK);
	sha256_end(want, hash);
	CHECK(memcmp(file.sha256, hash, 32) == 0);
	CHECK(file.size_bytes == (int64_t)n);
	CHECK(str_is(file.content_type, "application/octet-stream"));
	CHECK(get(file.key, &back) == OK);
	CHECK(back.n == n);
	sha256(buf_str(&back), hash);
	CHECK(memcmp(file.sha256, hash, 32) == 0);
	buf_done(&back);
	CHECK(count_files(".staging") == 0);
	/* Whoever finished may not go on. */
	CHECK(storage_append(w, STR("x"), never) == ERR_BUG);
	CHECK(storage_commit(w, never, &file) == ERR_BUG);
}

FIBER_TEST(same_content_twice_is_one_file)
{
	struct stored_file a, b, c;
	struct buf back = buf_in(arena);

	CHECK(put(school, STR("%PDF-1.7 homework"), &a) == OK);
	CHECK(put(school, STR("%PDF-1.7 homework"), &b) == OK);
	CHECK(str_eq(a.key, b.key));
	CHECK(count_files(school_text(school)) == 1);
	CHECK(str_is(a.content_type, "application/pdf"));
	/* Another school's is another file: one school's erasure takes nothing from the other. */
	CHECK(put(other_school, STR("%PDF-1.7 homework"), &c) == OK);
	CHECK(!str_eq(a.key, c.key));
	CHECK(get(a.key, &back) == OK && str_is(buf_str(&back), "%PDF-1.7 homework"));
	CHECK(str_has_prefix(a.key, str_of(school_text(school))));
}

FIBER_TEST(an_empty_file_is_a_file)
{
	struct stored_file file;
	struct buf back = buf_in(arena);

	CHECK(put(school, (struct str){NULL, 0}, &file) == OK);
	CHECK(file.size_bytes == 0 && str_is(file.content_type, "application/octet-stream"));
	CHECK(get(file.key, &back) == OK && back.n == 0);
}

FIBER_TEST(what_is_given_up_leaves_nothing)
{
	struct arena *request = arena_new();
	struct storage_writer *w;
	struct stored_file file;

	CHECK(storage_begin(storage, school, request, never, &w) == OK);
	CHECK(storage_append(w, STR("half of it"), never) == OK);
	CHECK(count_files(".staging") == 1);
	storage_abort(w);
	CHECK(count_files(".staging") == 0);
	CHECK(storage_commit(w, never, &file) == ERR_BUG);
	/* The same without a word: the request just ends. */
	CHECK(storage_begin(storage, school, request, never, &w) == OK);
	CHECK(storage_append(w, STR("half of it"), never) == OK);
	CHECK(count_files(".staging") == 1);
	arena_free(request);
	CHECK(count_files(".staging") == 0);
	CHECK(count_files(school_text(school)) == 0);
}

FIBER_TEST(a_writer_beyond_the_bound_is_refused)
{
	static char piece[1 << 20];
	struct storage_writer *w;
	struct stored_file file;
	int64_t n = 0;

	CHECK(storage_begin(storage, school, arena, never, &w) == OK);
	for (; n < STORAGE_SIZE_MAX; n += (int64_t)sizeof(piece))
		CHECK(storage_append(w, (struct str){piece, sizeof(piece)}, never) == OK);
	CHECK(storage_append(w, STR("x"), never) == ERR_TOO_LARGE);
	CHECK(storage_commit(w, never, &file) == ERR_TOO_LARGE);
	storage_abort(w);
	CHECK(count_files(".staging") == 0);
}

FIBER_TEST(only_real_keys_reach_the_disk)
{
	static const char *const suffixes[] = {"", "/", "/../../etc/passwd", "/..", "/.staging", "/*", "/\n"};
	char *hash = arena_alloc(arena, 65), *text = school_text(school);
	struct stored_file file;
	struct buf back = buf_in(arena);
	char dots[94];
	FILE *secret;

	memset(hash, 'a', 64);
	hash[64] = '\0';
	/* A file that is really there, with a name of the right length. */
	secret = fopen(arena_printf(arena, "%s/secret", dir), "w");
	CHECK(secret != NULL);
	fclose(secret);
	CHECK(put(school, STR("x"), &file) == OK);
	CHECK(get(STR(""), &back) == ERR_NOT_FOUND);
	CHECK(get(STR("secret"), &back) == ERR_NOT_FOUND);
	for (size_t i = 0; i < ARRAY_LEN(suffixes); i++)
		CHECK(get(str_of(arena_printf(arena, "%s%s", text, suffixes[i])), &back) == ERR_NOT_FOUND);
	CHECK(get(str_of(arena_printf(arena, "%s/%s", text, hash)), &back) == ERR_NOT_FOUND);
	CHECK(get(str_of(arena_printf(arena, "%s/%.60s/../", text, hash)), &back) == ERR_NOT_FOUND);
	CHECK(get(str_of(arena_printf(arena, "../%s/%.61s", text, hash)), &back) == ERR_NOT_FOUND);
	memcpy(hash, "A", 1);
	CHECK(get(str_of(arena_printf(arena, "%s/%s", text, hash)), &back) == ERR_NOT_FOUND);
	memcpy(hash, "\0", 1);
	CHECK(get((struct str){arena_printf(arena, "%s/a%s", text, hash + 1), 101}, &back) == ERR_NOT_FOUND);
	/* Right length, a file that is there, and no key all the same. */
	secret = fopen(arena_printf(arena, "%s/secret!", dir), "w");
	CHECK(secret != NULL);
	fclose(secret);
	for (int i = 0; i < 94; i++)
		dots[i] = i % 2 == 0 ? '.' : '/';
	CHECK(get(str_of(arena_printf(arena, "%.94ssecret!", dots)), &back) == ERR_NOT_FOUND);
	CHECK(get(file.key, &back) == OK);
	/* A symbolic link in a key's place is not followed. */
	CHECK(unlink(path_of(file.key)) == 0 && symlink("/etc/passwd", path_of(file.key)) == 0);
	CHECK(get(file.key, &back) == ERR_IO);
}

static void leftovers_of_a_crash_go_after_a_day(void **state)
{
	char *old = arena_printf(arena, "%s/.staging/old", dir), *young = arena_printf(arena, "%s/.staging/young", dir);

	(void)state;
	fclose(fopen(old, "w"));
	fclose(fopen(young, "w"));
	make_old(old);
	storage = storage_close(storage);
	assert_int_equal(storage_open(loop, pool, url, &storage), OK);
	assert_int_equal(access(old, F_OK), -1);
	assert_int_equal(access(young, F_OK), 0); /* another process may be writing it */
}

static void addresses_that_are_no_directory_are_refused(void **state)
{
	struct storage *s = NULL;

	(void)state;
	assert_int_equal(storage_open(loop, pool, "s3://bucket", &s), ERR_INVALID);
	assert_int_equal(storage_open(loop, pool, "/var/lib", &s), ERR_INVALID);
	assert_int_equal(storage_open(loop, pool, "file://relative", &s), ERR_INVALID);
	assert_int_equal(storage_open(loop, pool, "file:///dev/null/x", &s), ERR_IO);
	assert_null(s);
	assert_null(storage_close(NULL));
}

static char big[3 << 20];

FIBER_TEST(a_full_disk_is_an_error_and_no_file)
{
	struct stored_file file;
	struct storage_writer *w;
	struct storage *mine = storage;
	struct storage *small;

	if (!has_small_disk)
		return;
	CHECK(storage_open(loop, pool, arena_printf(arena, "file://%s", small_disk), &small) == OK);
	storage = small;
	memset(big, 'z', sizeof(big));
	CHECK(put(school, (struct str){big, sizeof(big)}, &file) == ERR_IO);
	/* Found at the end, when the rest is written: no file either. */
	CHECK(storage_begin(storage, school, arena, never, &w) == OK);
	CHECK(storage_append(w, (struct str){big, 100}, never) == OK);
	arena_clear(arena);
	CHECK(access(arena_printf(arena, "%s/%s", small_disk, school_text(school)), F_OK) != 0);
	/* And there is room again. */
	CHECK(put(school, (struct str){big, 100}, &file) == OK);
	storage = mine;
	storage_close(small);
}

FIBER_TEST(a_write_that_the_system_cuts_is_an_error)
{
	struct rlimit limit = {.rlim_cur = 1 << 20, .rlim_max = RLIM_INFINITY}, before;
	struct stored_file file;
	struct storage_writer *w;
	enum err e;

	getrlimit(RLIMIT_FSIZE, &before);
	limit.rlim_max = before.rlim_max;
	signal(SIGXFSZ, SIG_IGN);
	CHECK(storage_begin(storage, school, arena, never, &w) == OK);
	setrlimit(RLIMIT_FSIZE, &limit);
	e = storage_append(w, (struct str){big, sizeof(big)}, never);
	setrlimit(RLIMIT_FSIZE, &before);
	CHECK(e == ERR_IO);
	CHECK(storage_append(w, STR("more"), never) == ERR_IO);
	CHECK(storage_commit(w, never, &file) == ERR_IO);
	storage_abort(w);
	CHECK(count_files(".staging") == 0);
	CHECK(count_files(school_text(school)) == 0);
}

FIBER_TEST(a_school_that_cannot_be_made_is_an_error)
{
	struct stored_file file;
	FILE *f = fopen(arena_printf(arena, "%s/%s", dir, school_text(school)), "w");

	CHECK(f != NULL);
	fclose(f);
	CHECK(put(school, STR("x"), &file) == ERR_IO);
	arena_clear(arena);
	CHECK(count_files(".staging") == 0);
}

FIBER_TEST(a_past_deadline_is_told_and_leaves_nothing)
{
	struct deadline past = {loop_mono_us(loop) - 1};
	struct storage_writer *w;
	struct storage_reader *r;
	struct stored_file file;
	struct str bytes;
	int64_t size;

	CHECK(put(school, STR("x"), &file) == OK);
	CHECK(storage_read_open(storage, file.key, arena, past, &size, &r) == ERR_TIMEOUT);
	CHECK(storage_read_open(storage, file.key, arena, never, &size, &r) == OK);
	CHECK(storage_read(r, past, &bytes) == ERR_TIMEOUT);
	CHECK(storage_read(r, never, &bytes) == ERR_TIMEOUT); /* what the lost job did to the place is unknown */
	CHECK(storage_begin(storage, school, arena, past, &w) == ERR_TIMEOUT);
	CHECK(storage_begin(storage, school, arena, never, &w) == OK);
	CHECK(storage_append(w, STR("y"), never) == OK);
	CHECK(storage_commit(w, past, &file) == ERR_TIMEOUT);
}

struct rows {
	struct str named;
	size_t asked;
	enum err answer;
};

SUSPENDS static enum err named_by_rows(void *ctx, const struct str *keys, size_t n, bool *ret_named, struct deadline d)
{
	struct rows *rows = ctx;

	(void)d;
	for (size_t i = 0; i < n; i++)
		ret_named[i] = str_eq(keys[i], rows->named);
	rows->asked += n;
	return rows->answer;
}

FIBER_TEST(the_sweep_takes_what_is_old_and_unnamed)
{
	struct stored_file named, unnamed, young, again;
	struct rows rows = {.answer = ERR_DB};
	struct buf back = buf_in(arena);
	size_t removed = 0;

	CHECK(put(school, STR("named"), &named) == OK);
	CHECK(put(school, STR("unnamed"), &unnamed) == OK);
	CHECK(put(other_school, STR("again"), &again) == OK);
	CHECK(put(other_school, STR("young"), &young) == OK);
	make_old(path_of(named.key));
	make_old(path_of(unnamed.key));
	make_old(path_of(again.key));
	CHECK(put(other_school, STR("again"), &again) == OK); /* committed again: as young as the last time */
	rows.named = named.key;
	/* Nobody knows what the rows say: nothing goes. */
	CHECK(storage_sweep(storage, 86400, named_by_rows, &rows, never, &removed) == ERR_DB);
	CHECK(get(unnamed.key, &back) == OK);
	rows.answer = OK;
	rows.asked = 0;
	CHECK(storage_sweep(storage, 86400, named_by_rows, &rows, never, &removed) == OK);
	CHECK(removed == 1 && rows.asked == 2);
	CHECK(get(unnamed.key, &back) == ERR_NOT_FOUND);
	back.n = 0;
	CHECK(get(named.key, &back) == OK && str_is(buf_str(&back), "named"));
	CHECK(count_files(school_text(school)) == 1 && count_files(school_text(other_school)) == 2);
}

FIBER_TEST(the_sweep_walks_more_than_one_batch)
{
	struct rows rows = {.answer = OK};
	size_t removed = 0;

	for (int i = 0; i < 230; i++) {
		struct stored_file file;

		CHECK(put(i % 2 ? school : other_school, str_of(arena_printf(arena, "file %d", i)), &file) == OK);
		make_old(path_of(file.key));
	}
	CHECK(storage_sweep(storage, 86400, named_by_rows, &rows, never, &removed) == OK);
	CHECK(removed == 230 && rows.asked == 230);
}

static void types_come_from_the_content(void **state)
{
	static const struct {
		struct str head;
		const char *type;
	} cases[] = {
		{{"%PDF-1.4\n", 9}, "application/pdf"},
		{{"\x89PNG\r\n\x1a\n....", 12}, "image/png"},
		{{"\xff\xd8\xff\xe0..", 6}, "image/jpeg"},
		{{"GIF89a..", 8}, "image/gif"},
		{{"RIFF1234WEBPVP8 ", 16}, "image/webp"},
		{{"RIFF1234WAVEfmt ", 16}, "audio/wav"},
		{{"XXXX1234WEBPVP8 ", 16}, "text/plain"},
		{{"\0\0\0\x18"
		  "ftypmp42",
		  12},
		 "video/mp4"},
		{{"PK\x03\x04....[Content_Types].xml....word/document.xml", 49},
		 "application/vnd.openxmlformats-officedocument.wordprocessingml.document"},
		{{"PK\x03\x04....a.txt", 13}, "application/zip"},
		{{"hello\n", 6}, "text/plain"},
		{{"<html><script>", 14}, "text/plain"},
		{{"<svg xmlns=", 11}, "text/plain"},
		{{"\xe0\xa4\xb9\xe0\xa4", 5}, "text/plain"}, /* cut inside a character */
		{{"\xe0\xa4", 2}, "application/octet-stream"},
		{{"MZ\x90\0", 4}, "application/octet-stream"},
		{{"a\0b", 3}, "application/octet-stream"},
		{{"%PDF", 4}, "text/plain"},
		{{"", 0}, "application/octet-stream"},
		{{NULL, 0}, "application/octet-stream"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		if (strcmp(content_sniff(cases[i].head), cases[i].type) != 0)
			fail_msg("case %zu: %s", i, content_sniff(cases[i].head));
	}
}

/* In a mount namespace of this process alone: it is gone when the process is. Before any thread, which would stay outside. */
static void mount_small_disk(void)
{
	has_small_disk = unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
			 mkdtemp(small_disk) != NULL && mount("tmpfs", small_disk, "tmpfs", 0, "size=1m") == 0;
	if (!has_small_disk)
		print_message("not root: the disk that is really full is skipped, the write that the system cuts is not\n");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, fresh, stale)
	const struct CMUnitTest tests[] = {
		T(twenty_mebibytes_stream_through),
		T(same_content_twice_is_one_file),
		T(an_empty_file_is_a_file),
		T(what_is_given_up_leaves_nothing),
		T(a_writer_beyond_the_bound_is_refused),
		T(only_real_keys_reach_the_disk),
		T(leftovers_of_a_crash_go_after_a_day),
		T(addresses_that_are_no_directory_are_refused),
		T(a_full_disk_is_an_error_and_no_file),
		T(a_write_that_the_system_cuts_is_an_error),
		T(a_school_that_cannot_be_made_is_an_error),
		T(a_past_deadline_is_told_and_leaves_nothing),
		T(the_sweep_takes_what_is_old_and_unnamed),
		T(the_sweep_walks_more_than_one_batch),
		T(types_come_from_the_content),
	};
	int failed;

	mount_small_disk();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	if (has_small_disk)
		umount2(small_disk, MNT_DETACH);
	rmdir(small_disk);
	return failed;
}
