/* SPDX-License-Identifier: Apache-2.0 */
/* Ed25519 keys and the compact tokens signed with them (RFC 7515, 8037), nothing else: no other algorithm can be named. */
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <sodium.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/schema.h"
#include "io/crypto.h"

#define PEM_SIZE_MAX 16384

struct jwt_key {
	bool private;
	uint8_t public_key[crypto_sign_PUBLICKEYBYTES];
	uint8_t secret_key[crypto_sign_SECRETKEYBYTES];
	char x[44], kid[44]; /* base64url of 32 bytes: 43 characters */
};

/* An encrypted key would make OpenSSL ask on the terminal. */
/* NOLINTNEXTLINE(readability-non-const-parameter): OpenSSL's type */
static int no_passphrase(char *to, int size, int writing, void *ctx)
{
	(void)to, (void)size, (void)writing, (void)ctx;
	return -1;
}

static void base64url_32(const uint8_t bytes[32], char to[44])
{
	sodium_bin2base64(to, 44, bytes, 32, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
}

/* RFC 7638: the hash of the required members in their order, without white space. */
static void set_names(struct jwt_key *k)
{
	_cleanup_(buf_done) struct buf b = {0};
	uint8_t hash[32];

	base64url_32(k->public_key, k->x);
	buf_printf(&b, "{\"crv\":\"Ed25519\",\"kty\":\"OKP\",\"x\":\"%s\"}", k->x);
	sha256(buf_str(&b), hash);
	base64url_32(hash, k->kid);
}

static enum err read_pem(const char *path, char *to, size_t *ret_n)
{
	_cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	size_t n = 0;

	if (fd < 0)
		return errno == ENOENT ? ERR_NOT_FOUND : ERR_IO;
	while (n < PEM_SIZE_MAX) {
		ssize_t got = read(fd, to + n, PEM_SIZE_MAX - n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return ERR_IO;
		if (got == 0) {
			*ret_n = n;
			return OK;
		}
		n += (size_t)got;
	}
	return ERR_INVALID;
}

static bool key_from_pem(struct jwt_key *k, const char *pem, size_t n)
{
	BIO *bio = BIO_new_mem_buf(pem, (int)n);
	EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL);
	uint8_t seed[crypto_sign_SEEDBYTES];
	size_t length = sizeof(seed);
	bool ok;

	k->private = key != NULL;
	if (key == NULL) {
		BIO_free(bio);
		bio = BIO_new_mem_buf(pem, (int)n);
		key = PEM_read_bio_PUBKEY(bio, NULL, no_passphrase, NULL);
	}
	ok = key != NULL && EVP_PKEY_get_id(key) == EVP_PKEY_ED25519;
	if (ok && k->private) {
		ok = EVP_PKEY_get_raw_private_key(key, seed, &length) == 1 && length == sizeof(seed) &&
		     crypto_sign_seed_keypair(k->public_key, k->secret_key, seed) == 0;
		sodium_memzero(seed, sizeof(seed));
	} else if (ok) {
		length = sizeof(k->public_key);
		ok = EVP_PKEY_get_raw_public_key(key, k->public_key, &length) == 1 && length == sizeof(k->public_key);
	}
	EVP_PKEY_free(key);
	BIO_free(bio);
	return ok;
}

enum err jwt_key_load(const char *path, struct jwt_key **ret)
{
	char *pem = mem_alloc(PEM_SIZE_MAX);
	struct jwt_key *k = NULL;
	size_t n = 0;
	enum err e = read_pem(path, pem, &n);

	if (e == OK) {
		k = mem_zalloc(sizeof(*k));
		if (!key_from_pem(k, pem, n))
			e = ERR_INVALID;
	}
	sodium_memzero(pem, PEM_SIZE_MAX);
	free(pem);
	if (e != OK) {
		jwt_key_free(k);
		return e;
	}
	set_names(k);
	*ret = k;
	return OK;
}

struct jwt_key *jwt_key_free(struct jwt_key *k)
{
	if (k != NULL)
		sodium_memzero(k, sizeof(*k));
	free(k);
	return NULL;
}

const char *jwt_key_id(const struct jwt_key *k)
{
	return k->kid;
}

void jwt_key_jwk(const struct jwt_key *k, struct buf *out)
{
	buf_printf(out, "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"%s\",\"kid\":\"%s\",\"alg\":\"EdDSA\",\"use\":\"sig\"}",
		   k->x, k->kid);
}

enum err jwt_sign(const struct jwt_key *k, const char *type, struct str payload, struct buf *out)
{
	_cleanup_(buf_done) struct buf header = {0};
	uint8_t signature[crypto_sign_BYTES];
	size_t from = out->n;

	if (!k->private)
		return ERR_BUG;
	buf_puts(&header, STR("{\"alg\":\"EdDSA\",\"typ\":"));
	buf_put_json(&header, str_of(type));
	buf_printf(&header, ",\"kid\":\"%s\"}", k->kid);
	base64url_put(out, buf_str(&header));
	buf_putc(out, '.');
	base64url_put(out, payload);
	if (crypto_sign_detached(signature, NULL, (const unsigned char *)out->p + from, out->n - from, k->secret_key) != 0)
		return ERR_BUG;
	buf_putc(out, '.');
	base64url_put(out, (struct str){(const char *)signature, sizeof(signature)});
	return OK;
}

/* Is the member the string `want`, spelled as we spell it? Escapes are refused: nobody who signs our tokens writes them. */
static bool member_is(struct str object, const char *name, const char *want)
{
	struct str value;
	size_t n = strlen(want);

	return json_member(object, name, &value) && value.n == n + 2 && value.p[0] == '"' && memcmp(value.p + 1, want, n) == 0 &&
	       value.p[n + 1] == '"';
}

/* jku, jwk, x5u and the like are never looked at; crit names extensions that we do not have, so RFC 7515 says to refuse. */
static const struct jwt_key *key_of_header(struct str header, const struct jwt_key *const *keys, size_t n, const char *type)
{
	struct str ignored;

	if (!json_is_valid(header) || !member_is(header, "alg", "EdDSA") || !member_is(header, "typ", type) ||
	    json_member(header, "crit", &ignored))
		return NULL;
	for (size_t i = 0; i < n; i++) {
		if (member_is(header, "kid", keys[i]->kid))
			return keys[i];
	}
	return NULL;
}

enum err jwt_verify(const struct jwt_key *const *keys, size_t n, const char *type, struct str token, struct arena *arena,
		    struct str *ret_payload)
{
	struct str rest = token, part[3];
	struct buf decoded[3] = {buf_in(arena), buf_in(arena), buf_in(arena)};
	const struct jwt_key *key;
	size_t signed_n;

	if (token.n == 0 || token.n > JWT_SIZE_MAX)
		return ERR_UNAUTHENTICATED;
	for (size_t i = 0; i < 3; i++)
		part[i] = str_split(&rest, '.');
	if (rest.p != NULL || part[0].n == 0 || part[1].n == 0 || part[2].n == 0)
		return ERR_UNAUTHENTICATED;
	for (size_t i = 0; i < 3; i++) {
		if (!base64url_get(part[i], &decoded[i]))
			return ERR_UNAUTHENTICATED;
	}
	key = key_of_header(buf_str(&decoded[0]), keys, n, type);
	signed_n = part[0].n + 1 + part[1].n;
	if (key == NULL || decoded[2].n != crypto_sign_BYTES ||
	    crypto_sign_verify_detached((const unsigned char *)decoded[2].p, (const unsigned char *)token.p, signed_n,
					key->public_key) != 0)
		return ERR_UNAUTHENTICATED;
	/* Which claims there are is the caller's business, that it is an object of claims is ours. */
	if (!json_is_valid(buf_str(&decoded[1])) || decoded[1].p[0] != '{')
		return ERR_UNAUTHENTICATED;
	*ret_payload = buf_str(&decoded[1]);
	return OK;
}
