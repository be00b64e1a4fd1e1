/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A redis-server of the test's own: on a Unix socket in a new temporary directory, no TCP, nothing saved.
 *
 *	struct real_redis s;
 *	real_redis_start(&s, NULL);            -- or "requirepass x" and other lines of configuration
 *	… s.url, s.path …
 *	real_redis_kill(&s); real_redis_again(&s);     -- kill -9, and the same address again
 *	real_redis_freeze(&s); real_redis_thaw(&s);    -- SIGSTOP, SIGCONT
 *	real_redis_stop(&s);                           -- and removes the directory
 */
#ifndef S24_REAL_REDIS_H
#define S24_REAL_REDIS_H

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct real_redis {
	pid_t pid;
	char dir[64], path[80], conf[80], url[96];
};

static inline void real_redis_again(struct real_redis *s)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	const struct timespec pause = {.tv_nsec = 5000000};
	int fd, tries = 0, null;

	s->pid = fork();
	if (s->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		null = open("/dev/null", O_RDWR);
		dup2(null, 0);
		dup2(null, 1);
		execlp("redis-server", "redis-server", s->conf, (char *)NULL);
		_exit(127);
	}
	memcpy(addr.sun_path, s->path, strlen(s->path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	while (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) != 0) {
		if (++tries > 2000) {
			fprintf(stderr, "redis-server does not start\n");
			abort();
		}
		nanosleep(&pause, NULL);
	}
	close(fd);
}

static inline void real_redis_start(struct real_redis *s, const char *more)
{
	FILE *f;

	snprintf(s->dir, sizeof(s->dir), "/tmp/s24-redis-XXXXXX");
	if (!mkdtemp(s->dir))
		abort();
	snprintf(s->path, sizeof(s->path), "%s/sock", s->dir);
	snprintf(s->conf, sizeof(s->conf), "%s/conf", s->dir);
	snprintf(s->url, sizeof(s->url), "unix://%s", s->path);
	f = fopen(s->conf, "we");
	fprintf(f, "port 0\nunixsocket %s\ndir %s\nsave \"\"\n%s\n", s->path, s->dir, more ? more : "");
	fclose(f);
	real_redis_again(s);
}

static inline void real_redis_kill(struct real_redis *s)
{
	if (s->pid <= 0)
		return;
	kill(s->pid, SIGKILL);
	waitpid(s->pid, NULL, 0);
	s->pid = 0;
}

static inline void real_redis_freeze(struct real_redis *s)
{
	int status;

	kill(s->pid, SIGSTOP);
	waitpid(s->pid, &status, WUNTRACED); /* it stands still from here on */
}

static inline void real_redis_thaw(struct real_redis *s)
{
	kill(s->pid, SIGCONT);
}

static inline void real_redis_stop(struct real_redis *s)
{
	real_redis_kill(s);
	unlink(s->path);
	unlink(s->conf);
	rmdir(s->dir);
}

#endif
