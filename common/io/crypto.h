/* SPDX-License-Identifier: Apache-2.0 */
/* OpenSSL and libsodium behind the few words the system needs: SHA-256, HMAC, base64url, Ed25519 keys and JWTs, Argon2id. */
#ifndef S24_IO_CRYPTO_H
#define S24_IO_CRYPTO_H

#include "base/buf.h"
#include "base/err.h"

void sha256(struct str bytes, uint8_t to[32]);
struct sha256_stream;
struct sha256_stream *sha256_new(void);
void sha256_add(struct sha256_stream *s, struct str bytes);
void sha256_end(struct sha256_stream *s, uint8_t to[32]); /* frees */
void hex_text(const uint8_t *bytes, size_t n, char *to);  /* 2n + 1 */
void base64url_put(struct buf *out, struct str bytes);    /* without padding */
bool base64url_get(struct str text, struct buf *out);     /* strict: no padding, canonical */

struct jwt_key; /* Ed25519; has a kid; a private one signs, a public one verifies */
MUST_CHECK enum err jwt_key_load(const char *path, struct jwt_key **ret); /* PEM, private or public; kid = RFC 7638 thumbprint */
struct jwt_key *jwt_key_free(struct jwt_key *k);
const char *jwt_key_id(const struct jwt_key *k);
void jwt_key_jwk(const struct jwt_key *k, struct buf *out); /* the public JWK's JSON */
/* Signs payload JSON: header {"alg":"EdDSA","typ":type,"kid":…}. ERR_BUG without a private key. */
MUST_CHECK enum err jwt_sign(const struct jwt_key *k, const char *type, struct str payload, struct buf *out);
/* Checks form, alg (EdDSA only), typ, kid among the keys, signature. Claims are the caller's to check. ERR_UNAUTHENTICATED. */
MUST_CHECK enum err jwt_verify(const struct jwt_key *const *keys, size_t n, const char *type, struct str token, struct arena *arena,
			       struct str *ret_payload);

/* Argon2id, 19 MiB, t = 2, p = 1, PHC string. Blocking: call in a work pool. */
#define PASSWORD_HASH_SIZE 128
MUST_CHECK enum err password_hash(struct str password, char to[PASSWORD_HASH_SIZE]);
bool password_verify(const char *hash, struct str password);
bool password_needs_rehash(const char *hash);
#endif
