/* SPDX-License-Identifier: Apache-2.0 */
/* Settings, the private key, the hashing pool, and the command that issues service tokens. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "auth.h"
#include "base/log.h"
#include "base/timefmt.h"
#include "base/uuid.h"
#include "svc/buffers.h"

#define SERVICE_TOKEN_S (400 * 86400)
#define HASH_QUEUE 200

/* clang-format off */
const struct conf_row auth_conf_rows[] = {
	CONF_STR("AUTH_PRIVATE_KEY", struct auth_conf, private_key, "", "PEM file of the Ed25519 key that signs tokens"),
	CONF_INT("AUTH_HASH_THREADS", struct auth_conf, hash_threads, "0", 0, 64, "threads for password hashes; 0: one for each core"),
	CONF_INT("AUTH_SESSION_SECONDS", struct auth_conf, session_s, "86400", 60, 31536000, "life of a session"),
	CONF_INT("AUTH_REMEMBER_SECONDS", struct auth_conf, remember_s, "2592000", 60, 31536000, "life of a session with remember_me"),
	CONF_INT("AUTH_SHORT_TOKEN_SECONDS", struct auth_conf, short_token_s, "600", 10, 86400, "life of an access token that is refreshed"),
	CONF_END,
};
/* clang-format on */

enum err auth_start(struct daemon *d)
{
	const struct auth_conf *conf = daemon_conf(d);
	struct auth_state *state = mem_zalloc(sizeof(*state));
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	enum err e;

	daemon_set_state(d, state);
	e = jwt_key_load(conf->private_key, &state->key);
	if (e != OK) {
		log_error("the private key cannot be used", LOG_S("path", conf->private_key), LOG_E(e));
		return e;
	}
	state->hashing = work_pool_new(daemon_loop(d), "hashing", (unsigned)(conf->hash_threads > 0 ? conf->hash_threads : cores),
				       HASH_QUEUE);
	return password_hash(STR("nobody has this password"), state->dummy_hash);
}

void auth_stop(struct daemon *d)
{
	struct auth_state *state = daemon_state(d);

	if (!state)
		return;
	work_pool_free(state->hashing);
	jwt_key_free(state->key);
	free(state);
	daemon_set_state(d, NULL);
}

/* --choose-buffer SCHOOL_ID: where a school that is being made goes. Its row keeps the name: nothing computes it again. */
static int choose_buffer(const struct daemon *d, const char *id)
{
	struct uuid school;
	const char *name = uuid_parse(str_of(id), &school) ? buffers_for_school(d, school) : NULL;

	if (!name) {
		fprintf(stderr, "--choose-buffer: needs a school's id, and REDIS_BUFFER_URLS\n");
		return 1;
	}
	printf("%s\n", name);
	return 0;
}

/* --service-token NAME: prints the token that daemon NAME shows to the others. It needs the private key and nothing else. */
int auth_command(struct daemon *d, int argc, char **argv)
{
	static const char *const daemons[] = {"auth",      "dashboard", "quiz",     "homework", "attendance", "fee",
					      "inventory", "busroute",  "calendar", "report",   "worker"};
	const struct auth_conf *conf = daemon_conf(d);
	struct str aud[ARRAY_LEN(daemons)];
	struct service_token claims = {0};
	struct arena *arena;
	struct jwt_key *key;
	struct buf payload, token;
	enum err e;

	if (argc == 2 && strcmp(argv[0], "--choose-buffer") == 0)
		return choose_buffer(d, argv[1]);
	if (argc != 2 || strcmp(argv[0], "--service-token") != 0)
		return -1;
	e = jwt_key_load(conf->private_key, &key);
	if (e != OK) {
		fprintf(stderr, "AUTH_PRIVATE_KEY %s: %s\n", conf->private_key, err_code(e));
		return 1;
	}
	for (size_t i = 0; i < ARRAY_LEN(daemons); i++)
		aud[i] = str_of(daemons[i]);
	arena = arena_new();
	payload = buf_in(arena);
	token = buf_in(arena);
	FIELD_PUT(&claims, service_token, sub, str_of(argv[1]));
	FIELD_PUT(&claims, service_token, aud, ((struct list){aud, ARRAY_LEN(aud)}));
	FIELD_PUT(&claims, service_token, iss, STR(TOKEN_ISSUER));
	FIELD_PUT(&claims, service_token, iat, clock_real_us() / US_PER_S);
	FIELD_PUT(&claims, service_token, exp, clock_real_us() / US_PER_S + SERVICE_TOKEN_S);
	json_encode(&service_token_schema, &claims, 0, &payload);
	e = jwt_sign(key, SERVICE_TOKEN_TYPE, buf_str(&payload), &token);
	if (e == OK)
		printf("%s\n", buf_cstr(&token));
	arena_free(arena);
	jwt_key_free(key);
	return e == OK ? 0 : 1;
}
