/* SPDX-License-Identifier: Apache-2.0 */
/* The kit's configuration table, and what no single row can check. */
#include "svc/settings.h"

#include <stdio.h>

#include "base/log.h"
#include "base/str.h"
#include "svc/service.h"

#define PEER_ROW(upper, lower)                                              \
	CONF_STR(#upper "_INTERNAL_URL", struct settings, peer_##lower, "", \
		 "where " #lower "'s internal listener is: http://host:port"),

/* clang-format off */
const struct conf_row settings_rows[] = {
	CONF_STR("LISTEN", struct settings, listen, "127.0.0.1:8080", "host:port for people, behind the gateway"),
	CONF_STR("ADMIN_LISTEN", struct settings, admin_listen, "127.0.0.1:9080", "host:port for probes, metrics and the other daemons"),
	CONF_STR("REDIS_HOST", struct settings, redis_host, "", "the cache's Redis; the buffer's too unless REDIS_BUFFER_URLS is given"),
	CONF_INT("REDIS_PORT", struct settings, redis_port, "6379", 1, 65535, "its port"),
	CONF_SECRET_STR("REDIS_PASSWORD", struct settings, redis_password, "", "its password"),
	CONF_INT("REDIS_DB", struct settings, redis_db, "0", 0, 15, "its database number"),
	CONF_INT("REDIS_POOL_SIZE", struct settings, redis_pool_size, "2", 1, 16, "connections to each Redis; to a buffer that fsyncs always at least 4"),
	CONF_SECRET_STR("REDIS_BUFFER_URLS", struct settings, redis_buffer_urls, "", "the write buffers: name=redis://[user:password@]host:port[/db], comma-separated; one without a name is main"),
	CONF_SECRET_STR("REDIS_CACHE_URL", struct settings, redis_cache_url, "", "the cache as an address, instead of REDIS_HOST and friends"),
	CONF_SECRET_STR("DATABASE_URL", struct settings, database_url, "", "PostgreSQL: postgres://…"),
	CONF_INT("POSTGRES_MAX_CONNECTIONS", struct settings, pg_connections, "8", 1, 100, "most connections to PostgreSQL"),
	CONF_SECRET_STR("S24_MONGO_URI", struct settings, mongo_uri, "", "documents in MongoDB: mongodb://…; empty: in PostgreSQL"),
	CONF_INT("MONGO_MAX_POOL_SIZE", struct settings, mongo_pool_size, "10", 1, 100, "most connections to MongoDB, each with a thread"),
	SETTINGS_PEERS(PEER_ROW)
	CONF_STR("AUTH_PUBLIC_KEYS", struct settings, public_keys, "", "PEM files of the keys that sign access tokens, comma-separated"),
	CONF_STR("SERVICE_TOKEN_FILE", struct settings, service_token_file, "", "the token that this daemon shows to the others"),
	CONF_STR("STORAGE_URL", struct settings, storage_url, "", "where files are: file:///var/lib/…, which exists; each service has a folder of its name in it"),
	CONF_STR("SCHOOLS24_ENV", struct settings, env, "development", "development, test or production"),
	CONF_STR("LOG_LEVEL", struct settings, log_level, "info", "debug, info, warn or error"),
	CONF_BOOL("REDIS_COMPRESSION_ENABLED", struct settings, compression_enabled, "true", "compress the buffer's records"),
	CONF_STR("REDIS_COMPRESSION_ALGORITHM", struct settings, compression_algorithm, "snappy", "snappy, lz4 or zstd"),
	CONF_STR("WRITE_BUFFER_DURABILITY", struct settings, durability, "aof", "what the buffer's Redis must guarantee: memory, aof or replicated"),
	CONF_INT("WRITE_BUFFER_HIGH_MARK", struct settings, high_mark, "200000", 1, 100000000, "unsynced records above which writes wait for the database"),
	CONF_INT("WRITE_BUFFER_LIMIT", struct settings, limit, "500000", 1, 100000000, "unsynced records above which writes are refused"),
	CONF_INT("REDIS_WRITE_BUFFER_TTL", struct settings, buffer_ttl_s, "7200", 60, 604800, "seconds after which an unsynced record is an incident"),
	CONF_INT("BATCH_PROCESSOR_INTERVAL", struct settings, batch_interval_s, "3600", 1, 86400, "seconds that a record may wait for the database"),
	CONF_INT("S24_DRAIN_WAIT_MS", struct settings, drain_wait_ms, "5000", 0, 60000, "after SIGTERM: not ready, but still serving"),
	/* The marker of a synced record lives 60 s, and a change must arrive within that of reading its base. */
	CONF_INT("REQUEST_TIMEOUT_MS", struct settings, request_timeout_ms, "10000", 50, 55000, "a request's time, without the reading of its body"),
	CONF_INT("RATE_LIMIT_PER_MINUTE", struct settings, rate_per_minute, "1200", 0, 100000000, "requests of one session a minute; 0: no limit"),
	CONF_INT("S24_SWEEP_INTERVAL_S", struct settings, sweep_interval_s, "86400", 0, 2592000, "seconds between two sweeps of files and documents that nothing names; 0: never"),
	CONF_BOOL("CACHE_ENABLED", struct settings, cache_enabled, "true", "keep answers in memory and in the cache's Redis"),
	CONF_INT("CACHE_TIMEOUT_MS", struct settings, cache_timeout_ms, "4", 1, 1000, "what a cache that does not answer may cost a request"),
	CONF_INT("CACHE_MEMORY_MB", struct settings, cache_memory_mb, "32", 0, 65536, "most MiB of answers in the process's own memory; 0: none"),
	CONF_INT("CACHE_JITTER_PERCENT", struct settings, cache_jitter_percent, "10", 0, 50, "lifetimes vary by so much, so that entries of one moment do not end in one"),
	CONF_INT("CACHE_DEFAULT_TTL", struct settings, cache_ttl.v[0], "300", 1, 604800, "seconds that answers of no other kind are kept"),
	CONF_INT("CACHE_TTL_LIST", struct settings, cache_ttl.v[1], "300", 1, 604800, "seconds that lists are kept"),
	CONF_INT("CACHE_TTL_DETAIL", struct settings, cache_ttl.v[2], "900", 1, 604800, "seconds that one object are kept"),
	CONF_INT("CACHE_TTL_ANALYTICS", struct settings, cache_ttl.v[3], "60", 1, 604800, "seconds that figures are kept"),
	CONF_INT("CACHE_TTL_PROFILE", struct settings, cache_ttl.v[4], "3600", 1, 604800, "seconds that a person's own profile are kept"),
	CONF_INT("CACHE_TTL_PERMISSIONS", struct settings, cache_ttl.v[5], "600", 1, 604800, "seconds that permissions are kept"),
	CONF_INT("CACHE_TTL_SCHOOL", struct settings, cache_ttl.v[6], "3600", 1, 604800, "seconds that a school's data are kept"),
	CONF_INT("CACHE_TTL_ROSTER", struct settings, cache_ttl.v[7], "1800", 1, 604800, "seconds that rosters are kept"),
	CONF_INT("CACHE_TTL_SUBMISSIONS", struct settings, cache_ttl.v[8], "1800", 1, 604800, "seconds that lists of submissions are kept"),
	CONF_INT("CACHE_TTL_DASHBOARD", struct settings, cache_ttl.v[9], "1800", 1, 604800, "seconds that dashboards are kept"),
	CONF_INT("CACHE_TTL_INVENTORY", struct settings, cache_ttl.v[10], "3600", 1, 604800, "seconds that inventory are kept"),
	CONF_INT("CACHE_TTL_CALENDAR", struct settings, cache_ttl.v[11], "43200", 1, 604800, "seconds that the calendar are kept"),
	CONF_INT("CACHE_TTL_STATIC", struct settings, cache_ttl.v[12], "604800", 1, 604800, "seconds that what hardly ever changes are kept"),
	CONF_BOOL("CACHE_WARM_ON_STARTUP", struct settings, warm_at_start, "true", "fill what the service says when a daemon starts"),
	CONF_INT("CACHE_WARM_INTERVAL", struct settings, warm_interval_s, "900", 0, 86400, "seconds between two warmings of a job that does not say so itself; 0: no job runs by itself"),
	CONF_INT("CACHE_WARM_CONCURRENCY", struct settings, warm_concurrency, "4", 1, 64, "answers that a job makes at once"),
	CONF_INT("CACHE_HEALTH_CHECK_INTERVAL", struct settings, health_interval_s, "10", 1, 3600, "seconds between two looks at the cache's health"),
	CONF_INT("CACHE_HEALTH_WINDOW", struct settings, health_window_s, "300", 2, 86400, "seconds over which its rates are taken"),
	CONF_INT("CACHE_HEALTH_MIN_SAMPLE", struct settings, health_min_sample, "100", 1, 100000000, "reads in the window below which rates say nothing"),
	CONF_INT("CACHE_HIT_RATE_WARNING", struct settings, health_warning.hit_rate, "80", 0, 100, "per cent of hits below which there is a warning"),
	CONF_INT("CACHE_HIT_RATE_CRITICAL", struct settings, health_critical.hit_rate, "60", 0, 100, "… below which it is critical"),
	CONF_INT("CACHE_ERROR_RATE_WARNING", struct settings, health_warning.error_rate, "1", 0, 100, "per cent of reads that the cache fails, above which there is a warning"),
	CONF_INT("CACHE_ERROR_RATE_CRITICAL", struct settings, health_critical.error_rate, "5", 0, 100, "… above which it is critical"),
	CONF_INT("CACHE_LATENCY_WARNING_MS", struct settings, health_warning.latency_ms, "10", 1, 60000, "Redis' answer time above which there is a warning"),
	CONF_INT("CACHE_LATENCY_CRITICAL_MS", struct settings, health_critical.latency_ms, "50", 1, 60000, "… above which it is critical"),
	CONF_INT("CACHE_MEMORY_WARNING", struct settings, health_warning.memory, "80", 1, 100, "per cent of Redis' memory above which there is a warning"),
	CONF_INT("CACHE_MEMORY_CRITICAL", struct settings, health_critical.memory, "95", 1, 100, "… above which it is critical"),
	CONF_INT("CACHE_RESPONSE_WARNING_MS", struct settings, health_warning.response_ms, "100", 1, 60000, "mean time of a cached read, its source's included, above which there is a warning"),
	CONF_INT("CACHE_RESPONSE_CRITICAL_MS", struct settings, health_critical.response_ms, "500", 1, 60000, "… above which it is critical"),
	CONF_BOOL("ENABLE_PROMETHEUS", struct settings, prometheus, "true", "serve /metrics on the admin listener"),
	CONF_END,
};
/* clang-format on */

const char *settings_peer_url(const struct settings *s, const char *name)
{
	const char *url = NULL;

#define PEER_FIND(upper, lower)        \
	if (strcmp(name, #lower) == 0) \
		url = s->peer_##lower;
	SETTINGS_PEERS(PEER_FIND)
#undef PEER_FIND
	return url != NULL && url[0] != '\0' ? url : NULL;
}

bool durability_parse(struct str text, enum durability *ret)
{
	static const char *const names[] = {
		[DURABILITY_MEMORY] = "memory", [DURABILITY_AOF] = "aof", [DURABILITY_REPLICATED] = "replicated"};

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (!str_is(text, names[i]))
			continue;
		*ret = (enum durability)i;
		return true;
	}
	return false;
}

/* A password may hold what an address gives a meaning to. */
static void put_escaped(struct buf *out, const char *text)
{
	for (; *text != '\0'; text++) {
		unsigned char c = (unsigned char)*text;

		if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || strchr("-._~", c) != NULL)
			buf_putc(out, (char)c);
		else
			buf_printf(out, "%%%02X", (unsigned)c);
	}
}

static const char *host_url(const struct settings *s, struct arena *arena)
{
	struct buf out = buf_in(arena);

	if (s->redis_host[0] == '\0')
		return "";
	buf_puts(&out, STR("redis://"));
	if (s->redis_password[0] != '\0') {
		buf_putc(&out, ':');
		put_escaped(&out, s->redis_password);
		buf_putc(&out, '@');
	}
	buf_printf(&out, "%s:%lld/%lld", s->redis_host, (long long)s->redis_port, (long long)s->redis_db);
	return buf_cstr(&out);
}

static bool is_buffer_name(struct str name)
{
	if (name.n == 0 || name.n > 32 || name.p[0] < 'a' || name.p[0] > 'z')
		return false;
	for (size_t i = 1; i < name.n; i++) {
		char c = name.p[i];

		if ((c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-')
			return false;
	}
	return true;
}

/* "name=redis://…": the name ends before the scheme, for an address may hold a = of its own. */
static struct str buffer_name(struct str *address)
{
	for (size_t i = 0; i < address->n && address->p[i] != ':'; i++) {
		struct str name = {address->p, i};

		if (address->p[i] != '=')
			continue;
		*address = (struct str){address->p + i + 1, address->n - i - 1};
		return str_trim(name);
	}
	return STR(BUFFER_DEFAULT);
}

static void add_buffer(struct settings *s, struct str address, struct arena *arena, struct buf *problems)
{
	struct str name = buffer_name(&address);

	/* The address is a secret, so only the name is told. */
	if (!is_buffer_name(name)) {
		buf_printf(
			problems,
			"REDIS_BUFFER_URLS: a name is up to 32 of a-z, 0-9 and -, and begins with a letter: \"%.*s\" is none\n",
			STR_FMT(name));
		return;
	}
	for (size_t i = 0; i < s->n_buffers; i++) {
		if (!str_is(name, s->buffers[i].name))
			continue;
		buf_printf(problems, "REDIS_BUFFER_URLS: two buffers are called \"%.*s\"\n", STR_FMT(name));
		return;
	}
	if (s->n_buffers == BUFFERS_MAX) {
		buf_printf(problems, "REDIS_BUFFER_URLS: at most %d buffers\n", BUFFERS_MAX);
		return;
	}
	s->buffers[s->n_buffers++] = (struct buffer_address){.name = arena_cstr(arena, name),
							     .url = arena_cstr(arena, str_trim(address))};
}

static void split_buffers(struct settings *s, struct arena *arena, struct buf *problems)
{
	struct str rest = str_of(s->redis_buffer_urls[0] != '\0' ? s->redis_buffer_urls : host_url(s, arena));

	s->n_buffers = 0;
	while (rest.n != 0) {
		struct str address = str_trim(str_split(&rest, ','));

		if (address.n != 0)
			add_buffer(s, address, arena, problems);
	}
}

static bool is_address(const char *text)
{
	const char *colon = strrchr(text, ':');
	int64_t port;

	return colon != NULL && str_to_i64(str_of(colon + 1), &port) && port >= 0 && port <= 65535;
}

static bool one_of(const char *text, const char *const *names)
{
	for (; *names != NULL; names++)
		if (strcmp(text, *names) == 0)
			return true;
	return false;
}

static void check_words(const struct settings *s, struct buf *problems)
{
	static const char *const envs[] = {"development", "test", "production", NULL};
	enum log_level level;
	enum durability durability;
	enum codec codec;

	if (!is_address(s->listen))
		buf_printf(problems, "LISTEN: \"%s\" is not host:port\n", s->listen);
	if (!is_address(s->admin_listen))
		buf_printf(problems, "ADMIN_LISTEN: \"%s\" is not host:port\n", s->admin_listen);
	if (!one_of(s->env, envs))
		buf_printf(problems, "SCHOOLS24_ENV: \"%s\" is not development, test or production\n", s->env);
	if (!log_level_parse(s->log_level, &level))
		buf_printf(problems, "LOG_LEVEL: \"%s\" is not debug, info, warn or error\n", s->log_level);
	if (!durability_parse(str_of(s->durability), &durability))
		buf_printf(problems, "WRITE_BUFFER_DURABILITY: \"%s\" is not memory, aof or replicated\n", s->durability);
	if (!codec_parse(s->compression_algorithm, &codec))
		buf_printf(problems, "REDIS_COMPRESSION_ALGORITHM: \"%s\" is unknown\n", s->compression_algorithm);
	if (s->high_mark > s->limit)
		buf_printf(problems, "WRITE_BUFFER_HIGH_MARK: is above WRITE_BUFFER_LIMIT\n");
}

/* A critical limit that is reached before its warning would hide it. */
static void check_limits(const struct settings *s, struct buf *problems)
{
	const struct health_limits *w = &s->health_warning, *c = &s->health_critical;

	if (c->hit_rate > w->hit_rate)
		buf_printf(problems, "CACHE_HIT_RATE_CRITICAL: is above CACHE_HIT_RATE_WARNING\n");
	if (c->error_rate < w->error_rate)
		buf_printf(problems, "CACHE_ERROR_RATE_CRITICAL: is below CACHE_ERROR_RATE_WARNING\n");
	if (c->latency_ms < w->latency_ms)
		buf_printf(problems, "CACHE_LATENCY_CRITICAL_MS: is below CACHE_LATENCY_WARNING_MS\n");
	if (c->memory < w->memory)
		buf_printf(problems, "CACHE_MEMORY_CRITICAL: is below CACHE_MEMORY_WARNING\n");
	if (c->response_ms < w->response_ms)
		buf_printf(problems, "CACHE_RESPONSE_CRITICAL_MS: is below CACHE_RESPONSE_WARNING_MS\n");
	if (s->health_window_s < s->health_interval_s)
		buf_printf(problems, "CACHE_HEALTH_WINDOW: is below CACHE_HEALTH_CHECK_INTERVAL\n");
}

static void check_needs(const struct settings *s, const struct service *service, struct buf *problems)
{
	if ((service->flags & SERVICE_NO_PG) == 0 && s->database_url[0] == '\0')
		buf_printf(problems, "DATABASE_URL: is needed\n");
	if ((service->flags & SERVICE_NO_BUFFER) == 0 && s->n_buffers == 0)
		buf_printf(problems, "REDIS_BUFFER_URLS: is needed (or REDIS_HOST)\n");
	if ((service->flags & SERVICE_STORAGE) != 0 && s->storage_url[0] == '\0')
		buf_printf(problems, "STORAGE_URL: is needed\n");
	if ((service->flags & SERVICE_DOCUMENTS) != 0 && (service->flags & SERVICE_NO_PG) != 0 && s->mongo_uri[0] == '\0')
		buf_printf(problems, "S24_MONGO_URI: is needed, for this service has no PostgreSQL\n");
	for (size_t i = 0; i < ARRAY_LEN(service->uses) && service->uses[i] != NULL; i++) {
		const char *url = settings_peer_url(s, service->uses[i]);

		if (url == NULL)
			buf_printf(problems, "%s's internal address is needed: <NAME>_INTERNAL_URL\n", service->uses[i]);
		else if (strncmp(url, "http://", 7) != 0)
			buf_printf(problems, "\"%s\" is no http:// address of %s\n", url, service->uses[i]);
	}
}

enum err settings_finish(struct settings *s, const struct service *service, struct arena *arena, struct buf *problems)
{
	size_t before = problems->n;
	enum durability durability = DURABILITY_AOF;

	s->cache_url = s->redis_cache_url[0] != '\0' ? s->redis_cache_url : host_url(s, arena);
	split_buffers(s, arena, problems);
	check_words(s, problems);
	check_limits(s, problems);
	check_needs(s, service, problems);
	if (!codec_parse(s->compression_algorithm, &s->codec) || !s->compression_enabled)
		s->codec = CODEC_RAW;
	/* One fsync covers what arrived in one turn of Redis, and a connection brings at most 16 KiB a turn. */
	IGNORE(durability_parse(str_of(s->durability), &durability)); /* checked above */
	s->cache_connections = (unsigned)s->redis_pool_size;
	s->buffer_connections = durability != DURABILITY_MEMORY && s->redis_pool_size < 4 ? 4 : (unsigned)s->redis_pool_size;
	return problems->n == before ? OK : ERR_INVALID;
}
