/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tokens from anybody. The first byte chooses: 't' the rest is a token; 'h' the rest is a header and, behind a newline, a payload, which are
 * signed rightly, so that the checks behind the signature are reached too.
 */
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/schema.h"
#include "io/crypto.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t seed[32] = "a seed that everybody may know.";
static struct jwt_key *key;

/* The seed as PKCS #8, by the file that the loader wants. */
static void load_key(void)
{
	static const uint8_t head[16] = {0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20};
	char path[] = "/tmp/s24-fuzz-jwt-XXXXXX", base64[80];
	uint8_t der[48];
	int fd = mkstemp(path);
	FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;

	memcpy(der, head, 16);
	memcpy(der + 16, seed, 32);
	sodium_bin2base64(base64, sizeof(base64), der, sizeof(der), sodium_base64_VARIANT_ORIGINAL);
	if (file == NULL)
		abort();
	fprintf(file, "-----BEGIN PRIVATE KEY-----\n%s\n-----END PRIVATE KEY-----\n", base64);
	fclose(file);
	if (jwt_key_load(path, &key) != OK)
		abort();
	unlink(path);
}

static struct str signed_token(struct arena *arena, struct str text)
{
	uint8_t public_key[32], secret_key[64], signature[64];
	struct buf b = buf_in(arena);

	base64url_put(&b, str_split(&text, '\n'));
	buf_putc(&b, '.');
	base64url_put(&b, text);
	crypto_sign_seed_keypair(public_key, secret_key, seed);
	crypto_sign_detached(signature, NULL, (const uint8_t *)b.p, b.n, secret_key);
	buf_putc(&b, '.');
	base64url_put(&b, (struct str){(const char *)signature, sizeof(signature)});
	return buf_str(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *arena = arena_new();
	struct str token, payload;

	if (key == NULL)
		load_key();
	if (size > 0 && size < 8192) {
		token = (struct str){(const char *)data + 1, size - 1};
		if (data[0] == 'h')
			token = signed_token(arena, token);
		if (jwt_verify((const struct jwt_key *const[]){key}, 1, "at+jwt", token, arena, &payload) == OK &&
		    !json_is_valid(payload))
			abort();
	}
	arena_free(arena);
	return 0;
}
