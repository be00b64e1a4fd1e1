/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The storage port on a directory:
 *	<root>/<school>/<sha256>   the files
 *	<root>/.staging/<id>       what is being written; a crash leaves it here, and opening removes it after a day
 *	<root>/.lock               held shared while a file is put in its place, exclusively while the sweep removes one
 *
 * A writer, a reader and a sweep are counted, because their job may still run when the fiber has walked away. While a job runs it alone touches
 * the object; the loop's side looks only at `failed` and the count. Once a call failed, no other job is started.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/str.h"
#include "base/timefmt.h"
#include "base/uuid.h"
#include "io/crypto.h"
#include "io/storage.h"

#define CHUNK_SIZE (256u << 10) /* written by one job */
#define READ_SIZE (64u << 10)
#define HEAD_SIZE 4096 /* what the type is told from */
#define STAGED_MAX_S 86400
#define HASH_TEXT 64
#define KEY_TEXT (UUID_TEXT + 1 + HASH_TEXT)
#define SWEEP_BATCH 100

struct storage {
	struct loop *loop;
	struct work_pool *pool;
	int root_fd, staging_fd;
	unsigned refs;
};

struct storage_writer {
	struct storage *s;
	unsigned refs;
	enum err failed; /* the loop's */
	bool done;       /* committed, or given up */
	struct arena *arena;
	struct uuid school;
	char staged_name[UUID_TEXT + 1];
	bool staged; /* the staged file exists */
	int fd;
	struct sha256_stream *hash;
	uint8_t sha256[32];
	char key[KEY_TEXT + 1];
	int64_t size_bytes;
	size_t n, head_n;
	char *chunk;
	char head[HEAD_SIZE];
};

struct storage_reader {
	struct storage *s;
	unsigned refs;
	enum err failed;
	int fd;
	int64_t size_bytes;
	size_t n;
	char key[KEY_TEXT + 1];
	char bytes[READ_SIZE];
};

/* ---- the directory --------------------------------------------------------------------------------------------------------- */

static void storage_unref(struct storage *s)
{
	if (--s->refs > 0)
		return;
	if (s->root_fd >= 0)
		close(s->root_fd);
	if (s->staging_fd >= 0)
		close(s->staging_fd);
	free(s);
}

/* What crashes left. Another process may be writing here at this moment, so only what is old goes. */
static void sweep_staging(struct storage *s)
{
	int fd = openat(s->staging_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	time_t now = (time_t)(clock_real_us() / US_PER_S);
	struct dirent *entry;
	struct stat st;

	if (dir == NULL) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((entry = readdir(dir)) != NULL) {
		if (fstatat(s->staging_fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
		    now - st.st_mtime > STAGED_MAX_S)
			unlinkat(s->staging_fd, entry->d_name, 0); /* if not now, then at the next start */
	}
	closedir(dir);
}

static bool make_dir(int at_fd, const char *name)
{
	return mkdirat(at_fd, name, 0750) == 0 || errno == EEXIST;
}

enum err storage_open(struct loop *loop, struct work_pool *pool, const char *url, struct storage **ret)
{
	static const char scheme[] = "file://";
	const char *path = url + sizeof(scheme) - 1;
	struct storage *s;

	if (strncmp(url, scheme, sizeof(scheme) - 1) != 0 || path[0] != '/')
		return ERR_INVALID;
	s = mem_zalloc(sizeof(*s));
	*s = (struct storage){.loop = loop, .pool = pool, .refs = 1, .root_fd = -1, .staging_fd = -1};
	if (make_dir(AT_FDCWD, path))
		s->root_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->root_fd >= 0 && make_dir(s->root_fd, ".staging"))
		s->staging_fd = openat(s->root_fd, ".staging", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (s->staging_fd < 0) {
		storage_unref(s);
		return ERR_IO;
	}
	sweep_staging(s);
	*ret = s;
	return OK;
}

struct storage *storage_close(struct storage *s)
{
	if (s != NULL)
		storage_unref(s);
	return NULL;
}

/* A lock belongs to an open file, so each holder opens its own; closing it lets go. */
static int lock_open(struct storage *s, int operation)
{
	int fd = openat(s->root_fd, ".lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);

	while (fd >= 0 && flock(fd, operation) != 0) {
		if (errno != EINTR) {
			close(fd);
			return -1;
		}
	}
	return fd;
}

static bool is_hash(struct str s)
{
	if (s.n != HASH_TEXT)
		return false;
	for (size_t i = 0; i < s.n; i++) {
		if (!((s.p[i] >= '0' && s.p[i] <= '9') || (s.p[i] >= 'a' && s.p[i] <= 'f')))
			return false;
	}
	return true;
}

static bool is_school(struct str s)
{
	char text[UUID_TEXT + 1];
	struct uuid id;

	if (!uuid_parse(s, &id))
		return false;
	uuid_text(id, text);
	return str_is(s, text); /* lower case, as it was written */
}

/* The only keys that there are: nothing else reaches the file system. */
static bool is_key(struct str key)
{
	return key.n == KEY_TEXT && key.p[UUID_TEXT] == '/' && is_school((struct str){key.p, UUID_TEXT}) &&
	       is_hash((struct str){key.p + UUID_TEXT + 1, HASH_TEXT});
}

/* ---- writing ---------------------------------------------------------------------------------------------------------------- */

static void writer_unref(void *ptr)
{
	struct storage_writer *w = ptr;

	if (--w->refs > 0)
		return;
	if (w->fd >= 0)
		close(w->fd);
	if (w->staged)
		unlinkat(w->s->staging_fd, w->staged_name, 0); /* if it stays, the next start finds it */
	sha256_free(w->hash);
	free(w->chunk);
	storage_unref(w->s);
	free(w);
}

static enum err begin_job(void *arg)
{
	struct storage_writer *w = arg;

	w->fd = openat(w->s->staging_fd, w->staged_name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (w->fd < 0)
		return ERR_IO;
	w->staged = true;
	return OK;
}

static enum err write_job(void *arg)
{
	struct storage_writer *w = arg;
	size_t done = 0;

	sha256_add(w->hash, (struct str){w->chunk, w->n});
	while (done < w->n) {
		ssize_t put = write(w->fd, w->chunk + done, w->n - done);

		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			return ERR_IO;
		done += (size_t)put;
	}
	w->n = 0;
	return OK;
}

/* The school's directory, made and fsynced on its first file. */
static int school_open(struct storage *s, const char *school)
{
	int fd = openat(s->root_fd, school, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	if (fd >= 0 || errno != ENOENT)
		return fd;
	if (!make_dir(s->root_fd, school) || fsync(s->root_fd) != 0)
		return -1;
	return openat(s->root_fd, school, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
}

static enum err commit_job(void *arg)
{
	struct storage_writer *w = arg;
	_cleanup_(closep) int dir = -1, lock = -1;
	enum err e = write_job(w);

	if (e != OK)
		return e;
	sha256_end(TAKE_PTR(w->hash), w->sha256);
	uuid_text(w->school, w->key);
	w->key[UUID_TEXT] = '\0';
	dir = school_open(w->s, w->key);
	if (dir < 0 || fsync(w->fd) != 0)
		return ERR_IO;
	hex_text(w->sha256, sizeof(w->sha256), w->key + UUID_TEXT + 1);
	/* The same content may be there: it is replaced by its like, which also tells the sweep that it is young again. */
	lock = lock_open(w->s, LOCK_SH);
	if (lock < 0 || renameat(w->s->staging_fd, w->staged_name, dir, w->key + UUID_TEXT + 1) != 0)
		return ERR_IO;
	w->staged = false;
	w->key[UUID_TEXT] = '/';
	return fsync(dir) == 0 ? OK : ERR_IO;
}

SUSPENDS static enum err writer_run(struct storage_writer *w, enum err (*fn)(void *), struct deadline d)
{
	enum err e;

	w->refs++;
	e = work_run(w->s->pool, (struct work_job){.fn = fn, .release = writer_unref, .arg = w}, d);
	w->failed = e;
	return e;
}

enum err storage_begin(struct storage *s, struct uuid school, struct arena *arena, struct deadline d, struct storage_writer **ret)
{
	struct storage_writer *w = mem_zalloc(sizeof(*w));
	enum err e;

	w->s = s;
	w->refs = 1;
	w->arena = arena;
	w->school = school;
	w->fd = -1;
	w->hash = sha256_new();
	w->chunk = mem_alloc(CHUNK_SIZE);
	uuid_text(uuid_v7(clock_real_us()), w->staged_name);
	s->refs++;
	arena_defer(arena, writer_unref, w);
	e = writer_run(w, begin_job, d);
	if (e != OK)
		return e;
	*ret = w;
	return OK;
}

enum err storage_append(struct storage_writer *w, struct str bytes, struct deadline d)
{
	if (w->done)
		return ERR_BUG;
	while (w->failed == OK && bytes.n != 0) {
		size_t n = bytes.n < CHUNK_SIZE - w->n ? bytes.n : CHUNK_SIZE - w->n;

		if (w->size_bytes + (int64_t)bytes.n > STORAGE_SIZE_MAX) {
			w->failed = ERR_TOO_LARGE;
			break;
		}
		if (w->head_n < HEAD_SIZE) {
			size_t head_n = n < HEAD_SIZE - w->head_n ? n : HEAD_SIZE - w->head_n;

			memcpy(w->head + w->head_n, bytes.p, head_n);
			w->head_n += head_n;
		}
		memcpy(w->chunk + w->n, bytes.p, n);
		w->n += n;
		w->size_bytes += (int64_t)n;
		bytes = (struct str){bytes.p + n, bytes.n - n};
		if (w->n == CHUNK_SIZE)
			IGNORE(writer_run(w, write_job, d)); /* it is kept in failed */
	}
	return w->failed;
}

enum err storage_commit(struct storage_writer *w, struct deadline d, struct stored_file *ret)
{
	if (w->done)
		return ERR_BUG;
	if (w->failed != OK)
		return w->failed;
	w->done = true;
	if (writer_run(w, commit_job, d) != OK)
		return w->failed;
	*ret = (struct stored_file){
		.key = arena_str(w->arena, (struct str){w->key, KEY_TEXT}),
		.content_type = str_of(content_sniff((struct str){w->head, w->head_n})),
		.size_bytes = w->size_bytes,
	};
	memcpy(ret->sha256, w->sha256, sizeof(ret->sha256));
	return OK;
}

void storage_abort(struct storage_writer *w)
{
	w->done = true;
	if (w->refs > 1 || !w->staged)
		return;                                /* a job still runs, or there is nothing: the arena's end takes the rest */
	unlinkat(w->s->staging_fd, w->staged_name, 0); /* if it stays, the next start finds it */
	w->staged = false;
}

/* ---- reading ----------------------------------------------------------------------------------------------------------------- */

static void reader_unref(void *ptr)
{
	struct storage_reader *r = ptr;

	if (--r->refs > 0)
		return;
	if (r->fd >= 0)
		close(r->fd);
	storage_unref(r->s);
	free(r);
}

static enum err read_open_job(void *arg)
{
	struct storage_reader *r = arg;
	struct stat st;

	r->fd = openat(r->s->root_fd, r->key, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (r->fd < 0)
		return errno == ENOENT ? ERR_NOT_FOUND : ERR_IO;
	if (fstat(r->fd, &st) != 0 || !S_ISREG(st.st_mode))
		return ERR_IO;
	r->size_bytes = st.st_size;
	return OK;
}

static enum err read_job(void *arg)
{
	struct storage_reader *r = arg;
	ssize_t got = 1;

	r->n = 0;
	while (got > 0 && r->n < READ_SIZE) {
		got = read(r->fd, r->bytes + r->n, READ_SIZE - r->n);
		if (got > 0)
			r->n += (size_t)got;
		else if (got < 0 && errno == EINTR)
			got = 1;
	}
	return got < 0 ? ERR_IO : OK;
}

SUSPENDS static enum err reader_run(struct storage_reader *r, enum err (*fn)(void *), struct deadline d)
{
	r->refs++;
	r->failed = work_run(r->s->pool, (struct work_job){.fn = fn, .release = reader_unref, .arg = r}, d);
	return r->failed;
}

enum err storage_read_open(struct storage *s, struct str key, struct arena *arena, struct deadline d, int64_t *ret_size,
			   struct storage_reader **ret)
{
	struct storage_reader *r;
	enum err e;

	if (!is_key(key))
		return ERR_NOT_FOUND;
	r = mem_alloc(sizeof(*r));
	r->s = s;
	r->refs = 1;
	r->failed = OK;
	r->fd = -1;
	memcpy(r->key, key.p, KEY_TEXT);
	r->key[KEY_TEXT] = '\0';
	s->refs++;
	arena_defer(arena, reader_unref, r);
	e = reader_run(r, read_open_job, d);
	if (e != OK)
		return e;
	*ret_size = r->size_bytes;
	*ret = r;
	return OK;
}

enum err storage_read(struct storage_reader *r, struct deadline d, struct str *ret_bytes)
{
	if (r->failed != OK || reader_run(r, read_job, d) != OK)
		return r->failed;
	*ret_bytes = (struct str){r->bytes, r->n};
	return OK;
}

/* ---- the sweep ---------------------------------------------------------------------------------------------------------------- */

struct sweep {
	struct storage *s;
	unsigned refs;
	time_t before;
	DIR *schools, *files; /* where the walk is */
	char school[UUID_TEXT + 1];
	char keys[SWEEP_BATCH][KEY_TEXT + 1];
	bool named[SWEEP_BATCH];
	size_t n, removed;
};

static void sweep_unref(void *ptr)
{
	struct sweep *w = ptr;

	if (--w->refs > 0)
		return;
	if (w->schools != NULL)
		closedir(w->schools);
	if (w->files != NULL)
		closedir(w->files);
	storage_unref(w->s);
	free(w);
}

static DIR *dir_open(int at_fd, const char *name)
{
	int fd = openat(at_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;

	if (dir == NULL && fd >= 0)
		close(fd);
	return dir;
}

static bool is_old(struct sweep *w, const char *key)
{
	struct stat st;

	return fstatat(w->s->root_fd, key, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) && st.st_mtime < w->before;
}

/* Gathers the next old files; none: the walk is over. */
static enum err sweep_next_job(void *arg)
{
	struct sweep *w = arg;
	struct dirent *entry;

	w->n = 0;
	if (w->schools == NULL && (w->schools = dir_open(w->s->root_fd, ".")) == NULL)
		return ERR_IO;
	for (;;) {
		while (w->files != NULL && w->n < SWEEP_BATCH && (entry = readdir(w->files)) != NULL) {
			if (!is_hash(str_of(entry->d_name)))
				continue;
			snprintf(w->keys[w->n], sizeof(w->keys[0]), "%s/%.64s", w->school, entry->d_name);
			w->n += is_old(w, w->keys[w->n]);
		}
		if (w->n == SWEEP_BATCH)
			return OK;
		if (w->files != NULL)
			closedir(TAKE_PTR(w->files));
		if ((entry = readdir(w->schools)) == NULL)
			return OK;
		if (is_school(str_of(entry->d_name))) {
			memcpy(w->school, entry->d_name, UUID_TEXT);
			w->files = dir_open(w->s->root_fd, w->school);
		}
	}
}

/* While the lock is held no commit can make a file young between the look and the removal. */
static enum err sweep_remove_job(void *arg)
{
	struct sweep *w = arg;
	_cleanup_(closep) int lock = lock_open(w->s, LOCK_EX);

	if (lock < 0)
		return ERR_IO;
	for (size_t i = 0; i < w->n; i++) {
		if (!w->named[i] && is_old(w, w->keys[i]) && unlinkat(w->s->root_fd, w->keys[i], 0) == 0)
			w->removed++;
	}
	return OK;
}

SUSPENDS static enum err sweep_run(struct sweep *w, enum err (*fn)(void *), struct deadline d)
{
	w->refs++;
	return work_run(w->s->pool, (struct work_job){.fn = fn, .release = sweep_unref, .arg = w}, d);
}

enum err storage_sweep(struct storage *s, int64_t older_s, storage_named_fn named, void *ctx, struct deadline d,
		       size_t *ret_removed)
{
	struct sweep *w = mem_zalloc(sizeof(*w));
	struct str keys[SWEEP_BATCH];
	enum err e;

	w->s = s;
	w->refs = 1;
	w->before = (time_t)(clock_real_us() / US_PER_S - older_s);
	s->refs++;
	for (;;) {
		e = sweep_run(w, sweep_next_job, d);
		if (e != OK || w->n == 0)
			break;
		for (size_t i = 0; i < w->n; i++) {
			keys[i] = str_of(w->keys[i]);
			w->named[i] = true; /* an answer that says nothing keeps the file */
		}
		e = named(ctx, keys, w->n, w->named, d);
		if (e == OK)
			e = sweep_run(w, sweep_remove_job, d);
		if (e != OK)
			break;
	}
	if (e == OK)
		*ret_removed = w->removed;
	sweep_unref(w);
	return e;
}
