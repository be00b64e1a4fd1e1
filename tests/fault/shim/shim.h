/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control file of shim.so: a page that the harness and the servers under LD_PRELOAD have in common (S24_SHIM_CONTROL names it), so that a fault
 * begins and ends while they run; shim_memory.so has the same. tests/fault/control.py has the same layout. S24_SHIM_FSYNC_MS alone delays fsync without a control file.
 */
#ifndef S24_FAULT_SHIM_H
#define S24_FAULT_SHIM_H

#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define SHIM_FILES 64

struct shim_file {
	_Atomic uint64_t inode; /* 0: free */
	_Atomic uint64_t synced_bytes;
};

struct shim_control {
	int32_t fsync_ms;    /* before each fsync */
	int32_t fsync_errno; /* it fails so; 0: it does not */
	int32_t fsync_skip;  /* it succeeds without having been done: only what a power cut leaves is asked for, and that is counted here */
	int32_t write_errno; /* writes to data files fail so */
	_Atomic int32_t short_write; /* 1: the next refused write takes half */
	uint32_t malloc_ppb; /* allocations refused in a thousand million */
	int64_t clock_ms;    /* added to the wall clock */
	uint64_t seed;
	_Atomic uint64_t failed;    /* faults done */
	_Atomic uint64_t forgotten; /* files that found no place */
	struct shim_file files[SHIM_FILES];
};

/* Without a control file everything is as it was. */
static inline struct shim_control *shim_map(struct shim_control *idle)
{
	const char *path = getenv("S24_SHIM_CONTROL");
	int fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void *map = fd >= 0 ? mmap(NULL, sizeof(*idle), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;

	if (fd >= 0)
		close(fd);
	return map == MAP_FAILED ? idle : map;
}

#endif
