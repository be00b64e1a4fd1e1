/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The settings that every daemon has, by the names of architecture.md 10. A service's own are in its struct service.
 *
 * To add one: a member here, a row in settings.c; --help and docs show it, an unknown YAML key is refused.
 */
#ifndef S24_SVC_SETTINGS_H
#define S24_SVC_SETTINGS_H

#include "base/conf.h"
#include "io/codec.h"

struct service;

/* Every process that has an internal listener: <NAME>_INTERNAL_URL. */
#define SETTINGS_PEERS(X)                                                                                         \
	X(AUTH, auth)                                                                                             \
	X(DASHBOARD, dashboard)                                                                                   \
	X(QUIZ, quiz)                                                                                             \
	X(HOMEWORK, homework)                                                                                     \
	X(ATTENDANCE, attendance) X(FEE, fee) X(INVENTORY, inventory) X(BUSROUTE, busroute) X(CALENDAR, calendar) \
		X(REPORT, report) X(WORKER, worker)

/* A school lives on one of several write buffers (write-path.md 9). */
#define BUFFERS_MAX 8
#define BUFFER_DEFAULT "main" /* the name of a bare address, and of a school that was made before there were names */

struct settings {
	const char *listen, *admin_listen;
	const char *redis_host, *redis_password;
	int64_t redis_port, redis_db, redis_pool_size;
	const char *redis_buffer_urls, *redis_cache_url;
	const char *database_url;
	int64_t pg_connections;
	const char *mongo_uri; /* "": documents are in PostgreSQL */
	int64_t mongo_pool_size;
#define SETTINGS_PEER_MEMBER(upper, lower) const char *peer_##lower;
	SETTINGS_PEERS(SETTINGS_PEER_MEMBER)
#undef SETTINGS_PEER_MEMBER
	const char *public_keys, *service_token_file;
	const char *storage_url, *env, *log_level;
	bool compression_enabled;
	const char *compression_algorithm;
	const char *durability;
	int64_t batch_interval_s, buffer_ttl_s, high_mark, limit;
	int64_t drain_wait_ms, request_timeout_ms;
	bool prometheus;
	int64_t rate_per_minute;
	int64_t sweep_interval_s;
	bool cache_enabled;
	int64_t cache_timeout_ms, cache_memory_mb, cache_jitter_percent;
	bool warm_at_start;
	int64_t warm_interval_s, warm_concurrency;
	int64_t health_interval_s, health_window_s, health_min_sample;
	struct health_limits { /* above which (of the hit rate: below which) the cache is in a bad way (cache_health.h) */
		int64_t hit_rate, error_rate, latency_ms, memory, response_ms;
	} health_warning, health_critical;
	struct { /* of each enum cache_kind (route.h), in s */
		int64_t v[13];
	} cache_ttl;

	/* Made from the above by settings_finish. */
	enum codec codec; /* CODEC_RAW when compression is off */
	/* The write buffers by name, in the order of REDIS_BUFFER_URLS; the first serves what belongs to no school. */
	struct buffer_address {
		const char *name, *url;
	} buffers[BUFFERS_MAX];
	size_t n_buffers;
	const char *cache_url; /* "": none */
	unsigned buffer_connections, cache_connections;
};

extern const struct conf_row settings_rows[];

/* What no single row can say: addresses, levels, what this service cannot do without. ERR_INVALID: every problem is appended, a line each. */
MUST_CHECK enum err settings_finish(struct settings *s, const struct service *service, struct arena *arena, struct buf *problems);
/* "http://127.0.0.1:9101"; NULL: no such daemon, or not configured. */
const char *settings_peer_url(const struct settings *s, const char *name);

/* Durability modes in order (write-path.md 9): false for anything else. */
enum durability { DURABILITY_MEMORY, DURABILITY_AOF, DURABILITY_REPLICATED };
bool durability_parse(struct str text, enum durability *ret);

#endif
