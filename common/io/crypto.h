/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OpenSSL and libsodium behind the few words the system needs: SHA-256, HMAC, base64url, Ed25519 keys and JWTs, Argon2id.
 *
 * Hashes and PEM files are OpenSSL's, signatures and passwords libsodium's (an Ed25519 signature is checked in 51 µs, OpenSSL 3.0 takes 101).
 * Everything may be called from any thread; a key does not change once it is loaded.
 */
#ifndef S24_IO_CRYPTO_H
#define S24_IO_CRYPTO_H

#include "base/buf.h"
#include "base/err.h"

void sha256(struct str bytes, uint8_t to[32]);
struct sha256_stream;
struct sha256_stream *sha256_new(void);
void sha256_add(struct sha256_stream *s, struct str bytes);
void sha256_end(struct sha256_stream *s, uint8_t to[32]); /* frees */
struct sha256_stream *sha256_free(struct sha256_stream *s); /* for a stream that is given up before its end */
void hmac_sha256(struct str key, struct str bytes, uint8_t to[32]); /* compare with str_eq_secret */
void hex_text(const uint8_t *bytes, size_t n, char *to);  /* 2n + 1 */
void base64url_put(struct buf *out, struct str bytes);    /* without padding */
bool base64url_get(struct str text, struct buf *out);     /* strict: no padding, canonical; appends, nothing on failure */

struct jwt_key; /* Ed25519; has a kid; a private one signs, a public one verifies */
/* PEM, private or public; kid = RFC 7638 thumbprint. ERR_NOT_FOUND: no such file; ERR_IO: it cannot be read; ERR_INVALID: no Ed25519 key in it. */
MUST_CHECK enum err jwt_key_load(const char *path, struct jwt_key **ret);
struct jwt_key *jwt_key_free(struct jwt_key *k);
const char *jwt_key_id(const struct jwt_key *k);
void jwt_key_jwk(const struct jwt_key *k, struct buf *out); /* the public JWK's JSON */
/* Signs payload JSON: header {"alg":"EdDSA","typ":type,"kid":…}. ERR_BUG without a private key. */
MUST_CHECK enum err jwt_sign(const struct jwt_key *k, const char *type, struct str payload, struct buf *out);
/* Checks form, alg (EdDSA only), typ, kid among the keys, signature. Claims are the caller's to check. ERR_UNAUTHENTICATED. */
#define JWT_SIZE_MAX 4096
MUST_CHECK enum err jwt_verify(const struct jwt_key *const *keys, size_t n, const char *type, struct str token, struct arena *arena,
			       struct str *ret_payload);

/* Argon2id, 19 MiB, t = 2, p = 1, PHC string. Blocking: call in a work pool. ERR_TOO_LARGE above PASSWORD_SIZE_MAX bytes; ERR_OVERLOAD: no memory. */
#define PASSWORD_HASH_SIZE 128
#define PASSWORD_SIZE_MAX 1024
MUST_CHECK enum err password_hash(struct str password, char to[PASSWORD_HASH_SIZE]);
/* False too for a hash that is no Argon2id one, or whose cost is beyond what this system ever wrote (a damaged row must not take the memory). */
bool password_verify(const char *hash, struct str password);
bool password_needs_rehash(const char *hash);
#endif
