/* SPDX-License-Identifier: Apache-2.0 */
/* Hashes, base64url and passwords; keys and tokens are in jwt.c. */
#include "io/crypto.h"

#include <openssl/evp.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

#define ARGON2_MEMORY_BYTES (19u * 1024 * 1024)
#define ARGON2_PASSES 2
#define ARGON2_MEMORY_KIB_MAX (256ul * 1024)
#define ARGON2_PASSES_MAX 16

struct sha256_stream {
	EVP_MD_CTX *ctx;
};

/* A hash of these libraries fails only when memory runs out, which is the whole tree's reason to abort. */
static void must(bool ok)
{
	if (!ok)
		abort();
}

void sha256(struct str bytes, uint8_t to[32])
{
	must(crypto_hash_sha256(to, (const unsigned char *)bytes.p, bytes.n) == 0);
}

/* OpenSSL's is several times as fast where the CPU has the instructions, which only counts for long content. */
struct sha256_stream *sha256_new(void)
{
	struct sha256_stream *s = mem_zalloc(sizeof(*s));

	s->ctx = EVP_MD_CTX_new();
	must(s->ctx != NULL && EVP_DigestInit_ex(s->ctx, EVP_sha256(), NULL) == 1);
	return s;
}

void sha256_add(struct sha256_stream *s, struct str bytes)
{
	must(EVP_DigestUpdate(s->ctx, bytes.p, bytes.n) == 1);
}

void sha256_end(struct sha256_stream *s, uint8_t to[32])
{
	must(EVP_DigestFinal_ex(s->ctx, to, NULL) == 1);
	sha256_free(s);
}

struct sha256_stream *sha256_free(struct sha256_stream *s)
{
	if (s != NULL)
		EVP_MD_CTX_free(s->ctx);
	free(s);
	return NULL;
}

void hmac_sha256(struct str key, struct str bytes, uint8_t to[32])
{
	crypto_auth_hmacsha256_state state;

	must(crypto_auth_hmacsha256_init(&state, (const unsigned char *)key.p, key.n) == 0 &&
	     crypto_auth_hmacsha256_update(&state, (const unsigned char *)bytes.p, bytes.n) == 0 &&
	     crypto_auth_hmacsha256_final(&state, to) == 0);
	sodium_memzero(&state, sizeof(state));
}

void hex_text(const uint8_t *bytes, size_t n, char *to)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < n; i++) {
		to[2 * i] = digits[bytes[i] >> 4];
		to[2 * i + 1] = digits[bytes[i] & 15];
	}
	to[2 * n] = '\0';
}

void base64url_put(struct buf *out, struct str bytes)
{
	/* The room counts the NUL that the library writes. */
	size_t room = sodium_base64_ENCODED_LEN(bytes.n, sodium_base64_VARIANT_URLSAFE_NO_PADDING);

	sodium_bin2base64(buf_room(out, room), room, (const unsigned char *)bytes.p, bytes.n,
			  sodium_base64_VARIANT_URLSAFE_NO_PADDING);
	out->n += room - 1;
}

bool base64url_get(struct str text, struct buf *out)
{
	size_t most = text.n / 4 * 3 + 3, n;

	if (text.n == 0)
		return true;
	if (sodium_base642bin((unsigned char *)buf_room(out, most), most, text.p, text.n, NULL, &n, NULL,
			      sodium_base64_VARIANT_URLSAFE_NO_PADDING) != 0)
		return false;
	out->n += n;
	return true;
}

enum err password_hash(struct str password, char to[PASSWORD_HASH_SIZE])
{
	_Static_assert(PASSWORD_HASH_SIZE == crypto_pwhash_STRBYTES, "the library fills exactly this much");

	if (password.n > PASSWORD_SIZE_MAX)
		return ERR_TOO_LARGE;
	must(sodium_init() >= 0);
	if (crypto_pwhash_str_alg(to, password.n != 0 ? password.p : "", password.n, ARGON2_PASSES, ARGON2_MEMORY_BYTES,
				  crypto_pwhash_ALG_ARGON2ID13) != 0)
		return ERR_OVERLOAD;
	return OK;
}

/* The cost stands in the stored text, so it is looked at before memory is taken for it. */
static bool hash_is_affordable(const char *hash)
{
	static const char head[] = "$argon2id$v=19$m=";
	unsigned long memory_kib, passes;
	const char *p;
	char *end;

	if (hash == NULL || strnlen(hash, PASSWORD_HASH_SIZE) == PASSWORD_HASH_SIZE || strncmp(hash, head, sizeof(head) - 1) != 0)
		return false;
	p = hash + sizeof(head) - 1;
	memory_kib = strtoul(p, &end, 10);
	if (end == p || strncmp(end, ",t=", 3) != 0)
		return false;
	p = end + 3;
	passes = strtoul(p, &end, 10);
	return end != p && *end == ',' && memory_kib <= ARGON2_MEMORY_KIB_MAX && passes <= ARGON2_PASSES_MAX;
}

bool password_verify(const char *hash, struct str password)
{
	char padded[PASSWORD_HASH_SIZE] = {0}; /* the library declares that it may read all of them */

	if (password.n > PASSWORD_SIZE_MAX || !hash_is_affordable(hash))
		return false;
	must(sodium_init() >= 0);
	memcpy(padded, hash, strlen(hash));
	return crypto_pwhash_str_verify(padded, password.n != 0 ? password.p : "", password.n) == 0;
}

bool password_needs_rehash(const char *hash)
{
	char padded[PASSWORD_HASH_SIZE] = {0};

	if (!hash_is_affordable(hash))
		return true;
	memcpy(padded, hash, strlen(hash));
	return crypto_pwhash_str_needs_rehash(padded, ARGON2_PASSES, ARGON2_MEMORY_BYTES) != 0;
}
