/* SPDX-License-Identifier: Apache-2.0 */
/* Published vectors for hashes, keys and tokens; tokens that must be refused; passwords. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/evp.h>
#include <sodium.h>

#include "base/str.h"
#include "base/uuid.h"
#include "io/crypto.h"

/* RFC 8037, appendix A: the key as PKCS #8 and SubjectPublicKeyInfo. */
static const char rfc_private[] = "-----BEGIN PRIVATE KEY-----\n"
				  "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n"
				  "-----END PRIVATE KEY-----\n";
static const char rfc_public[] = "-----BEGIN PUBLIC KEY-----\n"
				 "MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n"
				 "-----END PUBLIC KEY-----\n";
static const char rfc_x[] = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
static const char rfc_kid[] = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k";

struct fixture {
	struct arena *arena;
	struct jwt_key *key, *public_key, *other;
};

static char *write_file(const char *text)
{
	char *path = mem_strdup("/tmp/s24-crypto-XXXXXX");
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
	return path;
}

static enum err load(const char *pem, struct jwt_key **ret)
{
	char *path = write_file(pem);
	enum err e = jwt_key_load(path, ret);

	unlink(path);
	free(path);
	return e;
}

static int setup(void **state)
{
	struct fixture *f = mem_zalloc(sizeof(*f));

	f->arena = arena_new();
	assert_int_equal(load(rfc_private, &f->key), OK);
	assert_int_equal(load(rfc_public, &f->public_key), OK);
	/* The test key 2 of RFC 8032, 7.1. */
	assert_int_equal(load("-----BEGIN PRIVATE KEY-----\n"
			      "MC4CAQAwBQYDK2VwBCIEIEzNCJso/5baqV8NLZwxz4JErBlszamBcrKrRQG9uwfs\n"
			      "-----END PRIVATE KEY-----\n",
			      &f->other),
			 OK);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	jwt_key_free(f->key);
	jwt_key_free(f->public_key);
	jwt_key_free(f->other);
	arena_free(f->arena);
	free(f);
	return 0;
}

static struct str text_of(struct arena *arena, struct buf *b)
{
	return arena_str(arena, buf_str(b));
}

static struct str encoded(struct arena *arena, struct str bytes)
{
	struct buf b = buf_in(arena);

	base64url_put(&b, bytes);
	return text_of(arena, &b);
}

static struct str sign(struct fixture *f, const struct jwt_key *k, const char *type, const char *payload)
{
	struct buf b = buf_in(f->arena);

	assert_int_equal(jwt_sign(k, type, str_of(payload), &b), OK);
	return text_of(f->arena, &b);
}

static enum err verify(struct fixture *f, const char *type, struct str token, struct str *ret)
{
	const struct jwt_key *keys[] = {f->public_key};

	return jwt_verify(keys, 1, type, token, f->arena, ret);
}

/* A token of any header and payload with a right signature: what is refused then is refused for its header. */
static struct str forge(struct fixture *f, const char *header, const char *payload)
{
	static const uint8_t seed[32] = {0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a,
					 0xf4, 0x92, 0xec, 0x2c, 0xc4, 0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32,
					 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60};
	uint8_t public_key[32], secret_key[64], signature[64];
	struct buf b = buf_in(f->arena);

	base64url_put(&b, str_of(header));
	buf_putc(&b, '.');
	base64url_put(&b, str_of(payload));
	crypto_sign_seed_keypair(public_key, secret_key, seed);
	crypto_sign_detached(signature, NULL, (const uint8_t *)b.p, b.n, secret_key);
	buf_putc(&b, '.');
	base64url_put(&b, (struct str){(const char *)signature, 64});
	return text_of(f->arena, &b);
}

static void sha256_and_hmac_give_published_values(void **state)
{
	struct sha256_stream *s = sha256_new();
	uint8_t hash[32];
	char hex[65];

	(void)state;
	sha256(STR("abc"), hash);
	hex_text(hash, 32, hex);
	assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	sha256_add(s, STR("a"));
	sha256_add(s, (struct str){NULL, 0});
	sha256_add(s, STR("bc"));
	sha256_end(s, hash);
	hex_text(hash, 32, hex);
	assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	sha256_free(sha256_new());
	/* RFC 4231, test case 2, and a key longer than a block: test case 6. */
	hmac_sha256(STR("Jefe"), STR("what do ya want for nothing?"), hash);
	hex_text(hash, 32, hex);
	assert_string_equal(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
	{
		char key[131];

		memset(key, 0xaa, sizeof(key));
		hmac_sha256((struct str){key, sizeof(key)}, STR("Test Using Larger Than Block-Size Key - Hash Key First"), hash);
		hex_text(hash, 32, hex);
		assert_string_equal(hex, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
	}
}

static void base64url_is_strict(void **state)
{
	static const char *const refused[] = {"Zg==", "Zh", "Zm9=", "Zm9", "Zm+v", "Zm/v", "Z", "Zm 9v", "Zm9v\n", "Zm9vY"};
	struct fixture *f = *state;
	struct buf b = buf_in(f->arena);

	assert_true(str_is(encoded(f->arena, STR("")), ""));
	assert_true(str_is(encoded(f->arena, STR("f")), "Zg"));
	assert_true(str_is(encoded(f->arena, STR("fo")), "Zm8"));
	assert_true(str_is(encoded(f->arena, STR("\xfb\xff\xbf")), "-_-_"));
	assert_true(base64url_get(STR("Zm9vYg"), &b));
	assert_true(base64url_get(STR(""), &b));
	assert_true(str_is(buf_str(&b), "foob"));
	for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
		if (base64url_get(str_of(refused[i]), &b))
			fail_msg("%s was taken", refused[i]);
		assert_int_equal(b.n, 4); /* nothing is appended */
	}
	/* Whatever goes in comes out. */
	for (size_t n = 0; n < 200; n++) {
		char bytes[200];
		struct buf out = buf_in(f->arena);

		random_bytes(bytes, n);
		assert_true(base64url_get(encoded(f->arena, (struct str){bytes, n}), &out));
		assert_true(str_eq(buf_str(&out), (struct str){bytes, n}));
	}
}

static void thumbprint_is_that_of_rfc_8037(void **state)
{
	struct fixture *f = *state;
	struct buf b = buf_in(f->arena);

	assert_string_equal(jwt_key_id(f->key), rfc_kid);
	assert_string_equal(jwt_key_id(f->public_key), rfc_kid);
	jwt_key_jwk(f->key, &b);
	assert_non_null(strstr(buf_cstr(&b), rfc_x));
	assert_non_null(strstr(buf_cstr(&b), "\"crv\":\"Ed25519\""));
	assert_null(strstr(buf_cstr(&b), "\"d\"")); /* the private half stays here */
}

static void tokens_are_signed_as_rfc_8037_says(void **state)
{
	struct fixture *f = *state;
	struct str payload = {NULL, 0};
	struct str rfc = STR("eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc."
			     "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg");

	/* The vector of appendix A.4 pins the signing input; it has neither typ nor kid, so it is no token of ours. */
	assert_true(str_eq(forge(f, "{\"alg\":\"EdDSA\"}", "Example of Ed25519 signing"), rfc));
	assert_int_equal(verify(f, "at+jwt", rfc, &payload), ERR_UNAUTHENTICATED);
	assert_null(payload.p);
	/* Ed25519 is deterministic: with our header, ours is byte for byte what anybody would sign. */
	assert_true(str_eq(sign(f, f->key, "at+jwt", "{\"sub\":\"x\"}"),
			   forge(f, arena_printf(f->arena, "{\"alg\":\"EdDSA\",\"typ\":\"at+jwt\",\"kid\":\"%s\"}", rfc_kid),
				 "{\"sub\":\"x\"}")));
}

static void another_library_accepts_our_signature(void **state)
{
	struct fixture *f = *state;
	struct str token = sign(f, f->key, "at+jwt", "{\"sub\":\"x\"}"), rest = token, head, body;
	struct buf public_key = buf_in(f->arena), signature = buf_in(f->arena);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	EVP_PKEY *key;

	head = str_split(&rest, '.');
	body = str_split(&rest, '.');
	assert_true(base64url_get(rest, &signature) && base64url_get(str_of(rfc_x), &public_key));
	key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, (const uint8_t *)public_key.p, public_key.n);
	assert_int_equal(EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, key), 1);
	assert_int_equal(
		EVP_DigestVerify(ctx, (const uint8_t *)signature.p, signature.n, (const uint8_t *)token.p, head.n + 1 + body.n),
		1);
	EVP_PKEY_free(key);
	EVP_MD_CTX_free(ctx);
}

static void node_accepts_our_token_too(void **state)
{
	struct fixture *f = *state;
	struct buf jwk = buf_in(f->arena);
	char answer[8] = "";
	FILE *node;

	jwt_key_jwk(f->key, &jwk);
	node = popen(arena_printf(f->arena,
				  "node -e 'const c = require(\"crypto\"), [h, p, s] = process.argv[2].split(\".\");"
				  "console.log(c.verify(null, Buffer.from(h + \".\" + p), c.createPublicKey({key: "
				  "JSON.parse(process.argv[1]), "
				  "format: \"jwk\"}), Buffer.from(s, \"base64url\")))' '%s' '%s' 2>/dev/null",
				  buf_cstr(&jwk), sign(f, f->key, "at+jwt", "{\"sub\":\"x\"}").p),
		     "r");
	if (node == NULL || fgets(answer, sizeof(answer), node) == NULL) {
		print_message("node is not installed: its opinion is skipped\n");
		if (node != NULL)
			pclose(node);
		skip();
	}
	pclose(node);
	assert_string_equal(answer, "true\n");
}

static void own_token_comes_back(void **state)
{
	struct fixture *f = *state;
	const struct jwt_key *keys[] = {f->other, f->public_key};
	struct str payload;

	assert_int_equal(verify(f, "at+jwt", sign(f, f->key, "at+jwt", "{\"sub\":\"1\",\"n\":[1,2]}"), &payload), OK);
	assert_true(str_is(payload, "{\"sub\":\"1\",\"n\":[1,2]}"));
	/* Two keys at a time, for rotation; a private one verifies too. */
	assert_int_equal(jwt_verify(keys, 2, "at+jwt", sign(f, f->other, "at+jwt", "{}"), f->arena, &payload), OK);
	assert_int_equal(jwt_verify(keys, 2, "at+jwt", sign(f, f->key, "at+jwt", "{}"), f->arena, &payload), OK);
}

/* A header with the fixture's kid where it says KID. */
static char *with_kid(struct arena *arena, const char *header)
{
	const char *at = strstr(header, "KID");

	return arena_printf(arena, "%.*s%s%s", (int)(at - header), header, rfc_kid, at + 3);
}

static void foreign_headers_are_refused_although_the_signature_is_right(void **state)
{
	static const char *const refused[] = {
		"{\"alg\":\"none\",\"typ\":\"at+jwt\",\"kid\":\"KID\"}",
		"{\"alg\":\"HS256\",\"typ\":\"at+jwt\",\"kid\":\"KID\"}",
		"{\"alg\":\"eddsa\",\"typ\":\"at+jwt\",\"kid\":\"KID\"}",
		"{\"alg\":[\"EdDSA\"],\"typ\":\"at+jwt\",\"kid\":\"KID\"}",
		"{\"alg\":\"EdDSA\",\"alg\":\"none\",\"typ\":\"at+jwt\",\"kid\":\"KID\"}",
		"{\"typ\":\"at+jwt\",\"kid\":\"KID\"}",
		"{\"alg\":\"EdDSA\",\"kid\":\"KID\"}",
		"{\"alg\":\"EdDSA\",\"typ\":\"JWT\",\"kid\":\"KID\"}",
		"{\"alg\":\"EdDSA\",\"typ\":\"at+jwt\",\"kid\":\"KID \"}",
		"{\"alg\":\"EdDSA\",\"typ\":\"at+jwt\",\"kid\":\"KID\",\"crit\":[\"exp\"]}",
		"{\"alg\":\"EdDSA\",\"typ\":\"at+jwt\",\"kid\":\"KID\"",
		"[{\"alg\":\"EdDSA\",\"typ\":\"at+jwt\",\"kid\":\"KID\"}]",
	};
	struct fixture *f = *state;
	struct str payload;
	char *header;

	for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
		header = with_kid(f->arena, refused[i]);
		if (verify(f, "at+jwt", forge(f, header, "{}"), &payload) != ERR_UNAUTHENTICATED)
			fail_msg("%s was taken", header);
	}
	/* The members that name other keys are not looked at, wherever they point. */
	header = arena_printf(f->arena,
			      "{\"alg\":\"EdDSA\",\"typ\":\"at+jwt\",\"kid\":\"%s\",\"jku\":\"x\",\"jwk\":{\"kty\":\"OKP\"}}",
			      rfc_kid);
	assert_int_equal(verify(f, "at+jwt", forge(f, header, "{}"), &payload), OK);
}

static void unknown_and_exchanged_keys_are_refused(void **state)
{
	struct fixture *f = *state;
	struct str payload;
	char *header = arena_printf(f->arena, "{\"alg\":\"EdDSA\",\"typ\":\"at+jwt\",\"kid\":\"%s\"}", jwt_key_id(f->other));
	const struct jwt_key *keys[] = {f->public_key, f->other};

	assert_int_equal(verify(f, "at+jwt", sign(f, f->other, "at+jwt", "{}"), &payload), ERR_UNAUTHENTICATED);
	/* The kid of one trusted key over the signature of another. */
	assert_int_equal(jwt_verify(keys, 2, "at+jwt", forge(f, header, "{}"), f->arena, &payload), ERR_UNAUTHENTICATED);
	assert_int_equal(jwt_verify(NULL, 0, "at+jwt", sign(f, f->key, "at+jwt", "{}"), f->arena, &payload), ERR_UNAUTHENTICATED);
}

static void any_changed_byte_is_refused(void **state)
{
	struct fixture *f = *state;
	struct str good = sign(f, f->key, "at+jwt", "{\"role\":\"student\"}"), payload;
	char *bad = arena_cstr(f->arena, good);

	for (size_t i = 0; i < good.n; i++) {
		for (int bit = 0; bit < 8; bit++) {
			bad[i] ^= (char)(1 << bit);
			if (verify(f, "at+jwt", (struct str){bad, good.n}, &payload) == OK)
				fail_msg("byte %zu bit %d", i, bit);
			bad[i] ^= (char)(1 << bit);
		}
	}
	for (size_t n = 0; n < good.n; n++)
		assert_int_equal(verify(f, "at+jwt", (struct str){good.p, n}, &payload), ERR_UNAUTHENTICATED);
}

static void garbage_and_bulk_are_refused(void **state)
{
	static const char *const refused[] = {"",         ".",        "..",
					      "...",      "a",        "a.b",
					      "a.b.c",    "e30.e30.", "e30.e30.e30.e30",
					      ".e30.e30", "e30..e30", "\xff\xfe.\x01.\x02"};
	struct fixture *f = *state;
	struct str payload, good = sign(f, f->key, "at+jwt", "{}");
	char *big = arena_zalloc(f->arena, JWT_SIZE_MAX + 1);

	for (size_t i = 0; i < ARRAY_LEN(refused); i++)
		assert_int_equal(verify(f, "at+jwt", str_of(refused[i]), &payload), ERR_UNAUTHENTICATED);
	assert_int_equal(verify(f, "at+jwt", str_of(arena_printf(f->arena, "%.*s.", STR_FMT(good))), &payload),
			 ERR_UNAUTHENTICATED);
	assert_int_equal(verify(f, "at+jwt", str_of(arena_printf(f->arena, " %.*s", STR_FMT(good))), &payload),
			 ERR_UNAUTHENTICATED);
	memset(big, 'A', JWT_SIZE_MAX - 4);
	assert_int_equal(verify(f, "at+jwt", sign(f, f->key, "at+jwt", arena_printf(f->arena, "{\"x\":\"%s\"}", big)), &payload),
			 ERR_UNAUTHENTICATED);
	/* Well signed, but no object of claims. */
	assert_int_equal(verify(f, "at+jwt", sign(f, f->key, "at+jwt", "[1]"), &payload), ERR_UNAUTHENTICATED);
	assert_int_equal(verify(f, "at+jwt", sign(f, f->key, "at+jwt", "{"), &payload), ERR_UNAUTHENTICATED);
}

static void only_ed25519_files_are_keys(void **state)
{
	struct fixture *f = *state;
	struct buf b = buf_in(f->arena);
	struct jwt_key *k = NULL;
	char *huge = arena_zalloc(f->arena, 20001);

	assert_int_equal(jwt_key_load("/nonexistent/key.pem", &k), ERR_NOT_FOUND);
	assert_int_equal(jwt_key_load("/tmp", &k), ERR_IO);
	assert_int_equal(load("", &k), ERR_INVALID);
	assert_int_equal(load("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", &k), ERR_INVALID);
	assert_int_equal(load("-----BEGIN PUBLIC KEY-----\n" /* P-256 */
			      "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEEVs/o5+uQbTjL3chynL4wXgUg2R9\n"
			      "q9UU8I5mEovUf86QZ7kOBIjJwqnzD1omageEHWwHdBO6B+dFabmdT9POxg==\n"
			      "-----END PUBLIC KEY-----\n",
			      &k),
			 ERR_INVALID);
	memset(huge, '\n', 20000);
	assert_int_equal(load(huge, &k), ERR_INVALID);
	assert_null(k);
	assert_int_equal(jwt_sign(f->public_key, "at+jwt", STR("{}"), &b), ERR_BUG);
	assert_null(jwt_key_free(NULL));
}

static void passwords_verify_and_old_hashes_are_renewed(void **state)
{
	char hash[PASSWORD_HASH_SIZE], again[PASSWORD_HASH_SIZE];
	char *longest = mem_zalloc(PASSWORD_SIZE_MAX + 2);

	(void)state;
	assert_int_equal(password_hash(STR("correct horse"), hash), OK);
	assert_int_equal(password_hash(STR("correct horse"), again), OK);
	assert_string_not_equal(hash, again); /* salted */
	assert_memory_equal(hash, "$argon2id$v=19$m=19456,t=2,p=1$", 31);
	assert_true(password_verify(hash, STR("correct horse")));
	assert_false(password_verify(hash, STR("correct horsf")));
	assert_false(password_verify(hash, STR("")));
	assert_false(password_needs_rehash(hash));
	assert_int_equal(password_hash((struct str){NULL, 0}, hash), OK);
	assert_true(password_verify(hash, STR("")));
	/* The bound, and one beyond. */
	memset(longest, 'x', PASSWORD_SIZE_MAX + 1);
	assert_int_equal(password_hash((struct str){longest, PASSWORD_SIZE_MAX}, hash), OK);
	assert_true(password_verify(hash, (struct str){longest, PASSWORD_SIZE_MAX}));
	assert_false(password_verify(hash, (struct str){longest, PASSWORD_SIZE_MAX - 1}));
	assert_int_equal(password_hash((struct str){longest, PASSWORD_SIZE_MAX + 1}, hash), ERR_TOO_LARGE);
	free(longest);
	/* Made by the reference program: echo -n password | argon2 somesalt -id -t 2 -k 65536 -p 1. */
	assert_true(password_verify("$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
				    STR("password")));
	assert_true(
		password_needs_rehash("$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"));
}

static void damaged_hashes_never_verify(void **state)
{
	static const char *const damaged[] = {
		"",
		"x",
		"$argon2id$",
		"$argon2id$v=19$m=,t=2,p=1$c29tZXNhbHQ$CTFh",
		"$argon2i$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFh",
		/* A cost that would take the machine with it. */
		"$argon2id$v=19$m=4194304,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
		"$argon2id$v=19$m=65536,t=4000000,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
		/* Longer than any that we wrote. */
		("$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$"
		 "CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPcCTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb"),
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(damaged); i++) {
		assert_false(password_verify(damaged[i], STR("password")));
		assert_true(password_needs_rehash(damaged[i]));
	}
	assert_false(password_verify(NULL, STR("password")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sha256_and_hmac_give_published_values),
		cmocka_unit_test(base64url_is_strict),
		cmocka_unit_test(thumbprint_is_that_of_rfc_8037),
		cmocka_unit_test(tokens_are_signed_as_rfc_8037_says),
		cmocka_unit_test(another_library_accepts_our_signature),
		cmocka_unit_test(node_accepts_our_token_too),
		cmocka_unit_test(own_token_comes_back),
		cmocka_unit_test(foreign_headers_are_refused_although_the_signature_is_right),
		cmocka_unit_test(unknown_and_exchanged_keys_are_refused),
		cmocka_unit_test(any_changed_byte_is_refused),
		cmocka_unit_test(garbage_and_bulk_are_refused),
		cmocka_unit_test(only_ed25519_files_are_keys),
		cmocka_unit_test(passwords_verify_and_old_hashes_are_renewed),
		cmocka_unit_test(damaged_hashes_never_verify),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
