/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of every daemon, and its exit codes: 0 done, 1 failed, 2 wrong configuration, tables or options. */
#include "svc/service.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "svc/cache_admin.h"
#include "svc/kit.h"

#define KIT_ROWS_MAX 32

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_WRONG = 2 };

static void show(FILE *to, struct buf *text)
{
	fwrite(text->p, 1, text->n, to);
	text->n = 0;
}

static int help(const struct service *service)
{
	_cleanup_(buf_done) struct buf out = {0};

	buf_printf(&out,
		   "schools24-%s [--config FILE] [--check-config | --print-routes | --print-entities | --print-openapi | "
		   "--show-record ENTITY ID | --version | --help]\n\n"
		   "Settings come from FILE (flat YAML, names in lower case), then from the environment, which wins; NAME_FILE "
		   "names a file with the value.\n\n",
		   service->name);
	daemon_help(service, &out);
	show(stdout, &out);
	return EXIT_OK;
}

static int print(const struct service *service, void (*write)(const struct service *s, struct buf *out))
{
	_cleanup_(buf_done) struct buf out = {0}, problems = {0};

	if (table_check(service, &problems) != OK) {
		show(stderr, &problems);
		return EXIT_WRONG;
	}
	write(service, &out);
	show(stdout, &out);
	return EXIT_OK;
}

static int show_one(const struct service *service, const char *entity, const char *id)
{
	_cleanup_(buf_done) struct buf out = {0};
	enum err e = show_record(service, entity, id, stdin, &out);

	if (e != OK)
		fprintf(stderr, "schools24-%s: %s\n", service->name, err_title(e));
	show(stdout, &out);
	return e == OK ? EXIT_OK : EXIT_FAILED;
}

struct words {
	const char *conf_path;
	bool check;
	char **rest; /* words of the service's own */
	int n_rest;
};

/* The exit code when the words are answered by it, else -1. */
static int read_words(int argc, char **argv, const struct service *service, struct words *w)
{
	for (int i = 1; i < argc; i++) {
		const char *word = argv[i];

		if (strcmp(word, "--help") == 0)
			return help(service);
		if (strcmp(word, "--version") == 0)
			return printf("schools24-%s %s\n", service->name, SERVICE_VERSION) < 0 ? EXIT_FAILED : EXIT_OK;
		if (strcmp(word, "--print-routes") == 0)
			return print(service, print_routes);
		if (strcmp(word, "--print-entities") == 0)
			return print(service, print_entities);
		if (strcmp(word, "--print-openapi") == 0)
			return print(service, openapi_write);
		if (strcmp(word, "--show-record") == 0 && i + 2 < argc)
			return show_one(service, argv[i + 1], argv[i + 2]);
		if (strcmp(word, "--check-config") == 0) {
			w->check = true;
		} else if (strcmp(word, "--config") == 0 && i + 1 < argc) {
			w->conf_path = argv[++i];
		} else if (service->command != NULL) {
			w->rest = argv + i;
			w->n_rest = argc - i;
			return -1;
		} else {
			fprintf(stderr, "schools24-%s: unknown option %s (--help lists them)\n", service->name, word);
			return EXIT_WRONG;
		}
	}
	return -1;
}

static int serve(struct daemon *d)
{
	int code = EXIT_FAILED;
	sigset_t ends;

	if (daemon_open(d) == OK) {
		daemon_run(d);
		code = EXIT_OK;
	}
	/* A second SIGTERM (the orchestrator's and the operator's) must not end with its default what ends well by itself. */
	sigemptyset(&ends);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGINT);
	sigaddset(&ends, SIGHUP);
	sigprocmask(SIG_BLOCK, &ends, NULL);
	daemon_close(d);
	return code;
}

/* The table with the kit's own rows behind the service's; both live as long as the process. */
static const struct service *with_kit_rows(const struct service *service)
{
	static struct service whole;
	static struct route *rows;
	size_t n = 0;

	while (service->routes != NULL && service->routes[n].path != NULL)
		n++;
	rows = mem_zalloc((n + KIT_ROWS_MAX + 1) * sizeof(*rows));
	if (n != 0)
		memcpy(rows, service->routes, n * sizeof(*rows));
	n += cache_admin_rows(service, rows + n, KIT_ROWS_MAX);
	rows[n] = (struct route)ROUTE_END;
	whole = *service;
	whole.routes = rows;
	return &whole;
}

int service_main(int argc, char **argv, const struct service *own)
{
	const struct service *service = with_kit_rows(own);
	_cleanup_(buf_done) struct buf problems = {0};
	_cleanup_(freep) struct daemon *d = mem_zalloc(sizeof(*d));
	struct words w = {0};
	int code = read_words(argc, argv, service, &w);

	if (code >= 0)
		return code;
	if (daemon_load(d, service, w.conf_path, &problems) != OK) {
		show(stderr, &problems);
		d->arena = arena_free(d->arena);
		return EXIT_WRONG;
	}
	if (w.n_rest > 0) {
		code = service->command(d, w.n_rest, w.rest);
		d->arena = arena_free(d->arena);
		if (code < 0)
			fprintf(stderr, "schools24-%s: unknown option %s (--help lists them)\n", service->name, w.rest[0]);
		return code < 0 ? EXIT_WRONG : code;
	}
	if (w.check) {
		d->arena = arena_free(d->arena);
		return EXIT_OK;
	}
	return serve(d);
}
