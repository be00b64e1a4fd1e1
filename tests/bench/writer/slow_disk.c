/* SPDX-License-Identifier: Apache-2.0 */
/* Preloaded into a server: every fsync takes S24_SHIM_FSYNC_MS longer, as on the disks that clouds rent out. */
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

static void wait_for_disk(void)
{
	static long ms = -1;
	const char *text = ms < 0 ? getenv("S24_SHIM_FSYNC_MS") : NULL;
	struct timespec pause;

	if (ms < 0)
		ms = text ? strtol(text, NULL, 10) : 0;
	pause = (struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
	if (ms > 0)
		nanosleep(&pause, NULL);
}

static int after_waiting(const char *name, int fd)
{
	int (*next)(int);

	*(void **)&next = dlsym(RTLD_NEXT, name);
	wait_for_disk();
	return next(fd);
}

int fsync(int fd);
int fsync(int fd)
{
	return after_waiting("fsync", fd);
}

int fdatasync(int fd);
int fdatasync(int fd)
{
	return after_waiting("fdatasync", fd);
}
