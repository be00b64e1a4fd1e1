/* SPDX-License-Identifier: Apache-2.0 */
/* A preloaded library that makes a server's disk and clock fail on command; shim.h says how, control.py commands it. */
#include "shim.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static struct shim_control idle, *control = &idle;

__attribute__((constructor)) static void shim_open(void)
{
	const char *delay = getenv("S24_SHIM_FSYNC_MS");

	control = shim_map(&idle);
	if (delay != NULL)
		control->fsync_ms = (int32_t)strtol(delay, NULL, 10);
}

#define REAL(name, ...)                         \
	static int (*real_##name)(__VA_ARGS__); \
	if (real_##name == NULL)                \
	*(void **)(&real_##name) = dlsym(RTLD_NEXT, #name)

/* ---- disk ---- */

/* Only files of data count: what a log says is nobody's business, and a log cannot be told from them by its descriptor alone. */
static bool is_data(int fd, struct stat *st)
{
	return fd > 2 && fstat(fd, st) == 0 && S_ISREG(st->st_mode);
}

/* What was written before the call is on the disk behind it. Writers of one file come one after the other, so the last entry wins. */
static void note_synced(const struct stat *st)
{
	for (size_t i = 0; i < SHIM_FILES; i++) {
		struct shim_file *f = &control->files[i];
		uint64_t none = 0;

		if (atomic_load(&f->inode) == (uint64_t)st->st_ino ||
		    atomic_compare_exchange_strong(&f->inode, &none, (uint64_t)st->st_ino)) {
			atomic_store(&f->synced_bytes, (uint64_t)st->st_size);
			return;
		}
	}
	atomic_fetch_add(&control->forgotten, 1);
}

static int sync_with(int fd, int (*sync)(int))
{
	struct stat st;
	bool data = is_data(fd, &st);
	int code;

	if (data && control->fsync_ms > 0) {
		struct timespec pause = {control->fsync_ms / 1000, control->fsync_ms % 1000 * 1000000L};

		while (nanosleep(&pause, &pause) != 0)
			continue;
	}
	if (data && control->fsync_errno != 0) {
		atomic_fetch_add(&control->failed, 1);
		errno = control->fsync_errno;
		return -1;
	}
	code = control->fsync_skip ? 0 : sync(fd);
	if (data && code == 0)
		note_synced(&st);
	return code;
}

int fsync(int fd)
{
	REAL(fsync, int);
	return sync_with(fd, real_fsync);
}

int fdatasync(int fd)
{
	REAL(fdatasync, int);
	return sync_with(fd, real_fdatasync);
}

ssize_t write(int fd, const void *bytes, size_t n)
{
	static ssize_t (*real)(int, const void *, size_t);
	struct stat st;

	if (real == NULL)
		*(void **)(&real) = dlsym(RTLD_NEXT, "write");
	if (control->write_errno != 0 && is_data(fd, &st)) {
		atomic_fetch_add(&control->failed, 1);
		/* A full disk takes what fits first. */
		if (n > 1 && control->write_errno == ENOSPC && atomic_exchange(&control->short_write, 0) == 1)
			return real(fd, bytes, n / 2);
		errno = control->write_errno;
		return -1;
	}
	return real(fd, bytes, n);
}

/* ---- clock: the wall's alone; a monotonic clock never steps ---- */

int clock_gettime(clockid_t id, struct timespec *ts)
{
	static int (*real)(clockid_t, struct timespec *);
	int code;

	if (real == NULL)
		*(void **)(&real) = dlsym(RTLD_NEXT, "clock_gettime");
	code = real(id, ts);
	if (code == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE) && control->clock_ms != 0) {
		int64_t ns = (int64_t)ts->tv_sec * 1000000000 + ts->tv_nsec + control->clock_ms * 1000000;

		ts->tv_sec = ns / 1000000000;
		ts->tv_nsec = ns % 1000000000;
	}
	return code;
}

int gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
	struct timespec ts;

	(void)zone;
	if (clock_gettime(CLOCK_REALTIME, &ts) != 0)
		return -1;
	*tv = (struct timeval){ts.tv_sec, ts.tv_nsec / 1000};
	return 0;
}

time_t time(time_t *ret)
{
	struct timespec ts = {0, 0};

	clock_gettime(CLOCK_REALTIME, &ts);
	if (ret != NULL)
		*ret = ts.tv_sec;
	return ts.tv_sec;
}
