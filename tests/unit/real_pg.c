/* SPDX-License-Identifier: Apache-2.0 */
/* Starts and stops a PostgreSQL for tests. */
#include "unit/real_pg.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <libpq-fe.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct real_pg {
	char dir[64];
	char bin[128];
	char url[256];
	int port;
	pid_t pid;
};

static void die(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));
static void die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fputs("real_pg: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	exit(99);
}

static void nap(long ms)
{
	struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

	nanosleep(&t, NULL);
}

/* Newest installed version. */
static void find_bin(char to[128])
{
	const char *own = getenv("S24_PG_BIN");
	DIR *d;
	struct dirent *e;
	int best = 0;

	if (own) {
		snprintf(to, 128, "%s", own);
		return;
	}
	d = opendir("/usr/lib/postgresql");
	while (d && (e = readdir(d)))
		if (strtol(e->d_name, NULL, 10) > best)
			best = (int)strtol(e->d_name, NULL, 10);
	if (d)
		closedir(d);
	if (best == 0)
		die("no PostgreSQL server below /usr/lib/postgresql; S24_PG_BIN may name its bin directory");
	snprintf(to, 128, "/usr/lib/postgresql/%d/bin", best);
}

static void drop_root(void)
{
	struct passwd *who;

	if (geteuid() != 0)
		return;
	who = getpwnam("postgres");
	if (!who || initgroups("postgres", who->pw_gid) != 0 || setgid(who->pw_gid) != 0 || setuid(who->pw_uid) != 0)
		die("cannot become postgres");
}

static void give_away(const char *path)
{
	struct passwd *who = getpwnam("postgres");

	if (geteuid() == 0 && (!who || chown(path, who->pw_uid, who->pw_gid) != 0))
		die("cannot give %s to postgres", path);
}

/* Runs a program as the server's user and waits for it. */
static void run(bool as_server, const char *const argv[])
{
	/* execvp takes the words as char *, but does not change them. */
	const union {
		const char *const *ours;
		char *const *theirs;
	} words = {argv};
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		int null = open("/dev/null", O_WRONLY);

		if (as_server)
			drop_root();
		if (chdir("/") != 0)
			_exit(98);
		dup2(null, STDOUT_FILENO);
		execvp(argv[0], words.theirs);
		_exit(98);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
		die("%s failed", argv[0]);
}

/* mkdir -p of one path. */
static bool make_dirs(const char *path)
{
	char part[256];

	for (size_t i = 1; i < sizeof(part); i++) {
		if (path[i] != '/' && path[i] != '\0')
			continue;
		snprintf(part, sizeof(part), "%.*s", (int)i, path);
		if (mkdir(part, 0755) != 0 && errno != EEXIST)
			return false;
		if (path[i] == '\0')
			return access(path, W_OK) == 0;
	}
	return false;
}

static void cache_dir(char to[256])
{
	const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");

	if (xdg && xdg[0] == '/')
		snprintf(to, 256, "%s/schools24", xdg);
	else
		snprintf(to, 256, "%s/.cache/schools24", home && home[0] == '/' ? home : "/nonexistent");
	if (make_dirs(to))
		return;
	snprintf(to, 256, "/tmp/schools24-cache-%u", (unsigned)geteuid());
	if (!make_dirs(to))
		die("no cache directory");
}

/* The pristine cluster that every test copies; made by the first one. */
static void template_dir(const char *bin, char to[400])
{
	char cache[256], fresh[] = "/tmp/s24-initdb-XXXXXX", data[64], program[160], kept[420];
	const char *tag = strrchr(bin, '/');

	cache_dir(cache);
	/* The version is the directory above bin. */
	while (tag > bin && tag[-1] != '/')
		tag--;
	snprintf(to, 400, "%s/pg-%.*s", cache, (int)strcspn(tag, "/"), tag);
	if (access(to, F_OK) == 0)
		return;
	if (!mkdtemp(fresh))
		die("mkdtemp");
	give_away(fresh);
	snprintf(data, sizeof(data), "%s/data", fresh);
	snprintf(program, sizeof(program), "%s/initdb", bin);
	run(true, (const char *const[]){program, "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8",
					"--no-sync", NULL});
	snprintf(kept, sizeof(kept), "%s.%d", to, (int)getpid());
	run(false, (const char *const[]){"cp", "-a", data, kept, NULL});
	/* Two tests may do this at once: the first rename wins. */
	if (rename(kept, to) != 0)
		run(false, (const char *const[]){"rm", "-rf", kept, NULL});
	run(false, (const char *const[]){"rm", "-rf", fresh, NULL});
}

static int free_port(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&a, n) != 0 || getsockname(fd, (struct sockaddr *)&a, &n) != 0)
		die("no free port");
	close(fd);
	return ntohs(a.sin_port);
}

static void server_exec(const struct real_pg *pg)
{
	char program[160], data[80], log[80], port[16];
	int fd;

	snprintf(program, sizeof(program), "%s/postgres", pg->bin);
	snprintf(data, sizeof(data), "%s/data", pg->dir);
	snprintf(log, sizeof(log), "%s/log", pg->dir);
	snprintf(port, sizeof(port), "%d", pg->port);
	drop_root();
	/* Dies with the test, even with a test that crashes. */
	prctl(PR_SET_PDEATHSIG, SIGQUIT);
	fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0644);
	dup2(fd, STDOUT_FILENO);
	dup2(fd, STDERR_FILENO);
	if (chdir("/") != 0)
		_exit(98);
	execl(program, program, "-D", data, "-k", pg->dir, "-p", port, "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off",
	      "-c", "full_page_writes=off", "-c", "synchronous_commit=off", "-c", "shared_buffers=32MB", "-c",
	      "max_connections=60", "-c", "log_min_messages=fatal", "-c", "deadlock_timeout=50ms", (char *)NULL);
	_exit(98);
}

static void server_run(struct real_pg *pg)
{
	pg->pid = fork();
	if (pg->pid < 0)
		die("fork");
	if (pg->pid == 0)
		server_exec(pg);
	for (int i = 0; i < 1500; i++) {
		if (PQping(real_pg_url(pg, NULL)) == PQPING_OK)
			return;
		if (waitpid(pg->pid, NULL, WNOHANG) == pg->pid)
			die("the server ended; see %s/log", pg->dir);
		nap(10);
	}
	die("the server does not answer; see %s/log", pg->dir);
}

struct real_pg *real_pg_start(void)
{
	struct real_pg *pg = calloc(1, sizeof(*pg));
	char data[80], pristine[400];

	if (!pg)
		die("memory");
	find_bin(pg->bin);
	template_dir(pg->bin, pristine);
	strcpy(pg->dir, "/tmp/s24-pg-XXXXXX");
	if (!mkdtemp(pg->dir))
		die("mkdtemp");
	give_away(pg->dir);
	snprintf(data, sizeof(data), "%s/data", pg->dir);
	run(false, (const char *const[]){"cp", "-a", pristine, data, NULL});
	pg->port = free_port();
	server_run(pg);
	return pg;
}

void real_pg_stop(struct real_pg *pg)
{
	if (pg->pid == 0)
		return;
	kill(pg->pid, SIGQUIT);
	waitpid(pg->pid, NULL, 0);
	pg->pid = 0;
}

void real_pg_restart(struct real_pg *pg)
{
	real_pg_stop(pg);
	server_run(pg);
}

struct real_pg *real_pg_free(struct real_pg *pg)
{
	if (!pg)
		return NULL;
	real_pg_stop(pg);
	run(false, (const char *const[]){"rm", "-rf", pg->dir, NULL});
	free(pg);
	return NULL;
}

const char *real_pg_url(struct real_pg *pg, const char *user)
{
	snprintf(pg->url, sizeof(pg->url), "postgresql:///postgres?host=%s&port=%d&user=%s", pg->dir, pg->port,
		 user ? user : "postgres");
	return pg->url;
}

const char *real_pg_tcp_url(struct real_pg *pg, int port)
{
	snprintf(pg->url, sizeof(pg->url), "postgresql://postgres@127.0.0.1:%d/postgres?sslmode=disable", port ? port : pg->port);
	return pg->url;
}

int real_pg_port(const struct real_pg *pg)
{
	return pg->port;
}

pid_t real_pg_pid(const struct real_pg *pg)
{
	return pg->pid;
}

static PGresult *super(struct real_pg *pg, const char *sql)
{
	PGconn *link = PQconnectdb(real_pg_url(pg, NULL));
	PGresult *res = PQexec(link, sql);
	ExecStatusType status = PQresultStatus(res);

	if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
		die("%s: %s", sql, PQerrorMessage(link));
	PQfinish(link);
	return res;
}

void real_pg_sql(struct real_pg *pg, const char *sql)
{
	PQclear(super(pg, sql));
}

void real_pg_migrate(struct real_pg *pg, const char *name)
{
	static const char here[] = __FILE__; /* …/tests/unit/real_pg.c */
	char path[600], *text = NULL;
	size_t n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%.*s../../db/migrations/%s", (int)(strrchr(here, '/') + 1 - here), here, name);
	f = fopen(path, "re");
	if (f == NULL || getdelim(&text, &n, '\0', f) < 0) {
		fprintf(stderr, "%s cannot be read\n", path);
		abort();
	}
	fclose(f);
	real_pg_sql(pg, text);
	free(text);
}

long real_pg_number(struct real_pg *pg, const char *sql)
{
	PGresult *res = super(pg, sql);
	long n = PQntuples(res) ? strtol(PQgetvalue(res, 0, 0), NULL, 10) : -1;

	PQclear(res);
	return n;
}
