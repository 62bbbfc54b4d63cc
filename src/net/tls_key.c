/* tls_key.c: private keys from PEM, also such as OpenSSL 3 encrypts them by default (PKCS#8, PBES2 with AES: RFC 8018), which mbedTLS
 * reads since 3.5 only. runs in: as tls_files.c. */
#include <string.h>

#include <mbedtls/asn1.h>
#include <mbedtls/cipher.h>
#include <mbedtls/md.h>
#include <mbedtls/oid.h>
#include <mbedtls/pem.h>
#include <mbedtls/pkcs5.h>
#include <mbedtls/platform_util.h>

#include "net/tls_internal.h"

static int parse(mbedtls_pk_context *key, const unsigned char *data, size_t size, const char *passphrase, struct sv_tls_random *random) {
    const unsigned char *word = (const unsigned char *)passphrase;
    size_t length = passphrase ? strlen(passphrase) : 0;
#if SV_MBEDTLS_3
    return mbedtls_pk_parse_key(key, data, size, word, length, mbedtls_ctr_drbg_random, &random->generator);
#else
    (void)random;
    return mbedtls_pk_parse_key(key, data, size, word, length);
#endif
}

#if MBEDTLS_VERSION_NUMBER < 0x03050000 && defined(MBEDTLS_PKCS5_C) && defined(MBEDTLS_CIPHER_MODE_CBC)

#define ENCRYPTED_BEGIN "-----BEGIN ENCRYPTED PRIVATE KEY-----"
#define ENCRYPTED_END "-----END ENCRYPTED PRIVATE KEY-----"
#define ITERATIONS_MAX 10000000 /* seconds */
#define IV_SIZE 16u
#define KEY_MAX 32u

struct scheme { /* how it is encrypted */
    mbedtls_asn1_buf salt, iv, data;
    int iterations;
    mbedtls_md_type_t digest;
    mbedtls_cipher_type_t cipher;
};

static bool is_oid(const mbedtls_asn1_buf *oid, const char *expected, size_t length) {
    return oid->len == length && memcmp(oid->p, expected, length) == 0;
}

/* aes128-CBC-PAD, aes192-, aes256-: 2.16.840.1.101.3.4.1.{2,22,42} */
static mbedtls_cipher_type_t find_cipher(const mbedtls_asn1_buf *oid) {
    if (oid->len != 9 || memcmp(oid->p, "\x60\x86\x48\x01\x65\x03\x04\x01", 8) != 0)
        return MBEDTLS_CIPHER_NONE;
    switch (oid->p[8]) {
    case 2:
        return MBEDTLS_CIPHER_AES_128_CBC;
    case 22:
        return MBEDTLS_CIPHER_AES_192_CBC;
    case 42:
        return MBEDTLS_CIPHER_AES_256_CBC;
    default:
        return MBEDTLS_CIPHER_NONE;
    }
}

static bool take_octets(unsigned char **at, const unsigned char *end, mbedtls_asn1_buf *octets) {
    if (mbedtls_asn1_get_tag(at, end, &octets->len, MBEDTLS_ASN1_OCTET_STRING) != 0)
        return false;
    octets->p = *at;
    *at += octets->len;
    return true;
}

/* PBKDF2-params: salt, count, perhaps the key's length, perhaps the digest (else SHA-1). */
static bool parse_derivation(const mbedtls_asn1_buf *parameters, struct scheme *scheme) {
    unsigned char *at = parameters->p;
    const unsigned char *end = at + parameters->len;
    mbedtls_asn1_buf prf;
    int ignored;
    if (!take_octets(&at, end, &scheme->salt) || mbedtls_asn1_get_int(&at, end, &scheme->iterations) != 0)
        return false;
    if (at < end && *at == MBEDTLS_ASN1_INTEGER && mbedtls_asn1_get_int(&at, end, &ignored) != 0)
        return false;
    scheme->digest = MBEDTLS_MD_SHA1;
    if (at == end)
        return true;
    return mbedtls_asn1_get_alg_null(&at, end, &prf) == 0 && mbedtls_oid_get_md_hmac(&prf, &scheme->digest) == 0;
}

/* EncryptedPrivateKeyInfo with PBES2, PBKDF2 and AES; false: something else. */
static bool parse_scheme(unsigned char *at, size_t length, struct scheme *scheme) {
    const unsigned char *end = at + length;
    mbedtls_asn1_buf oid, parameters, derivation, derivation_parameters, cipher, iv;
    size_t size;
    if (mbedtls_asn1_get_tag(&at, end, &size, MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_SEQUENCE) != 0 ||
        mbedtls_asn1_get_alg(&at, end, &oid, &parameters) != 0 || !take_octets(&at, end, &scheme->data) ||
        !is_oid(&oid, MBEDTLS_OID_PKCS5_PBES2, MBEDTLS_OID_SIZE(MBEDTLS_OID_PKCS5_PBES2)))
        return false;
    at = parameters.p;
    end = at + parameters.len;
    if (mbedtls_asn1_get_alg(&at, end, &derivation, &derivation_parameters) != 0 || mbedtls_asn1_get_alg(&at, end, &cipher, &iv) != 0 ||
        !is_oid(&derivation, MBEDTLS_OID_PKCS5_PBKDF2, MBEDTLS_OID_SIZE(MBEDTLS_OID_PKCS5_PBKDF2)))
        return false;
    scheme->cipher = find_cipher(&cipher);
    scheme->iv = iv;
    return scheme->cipher != MBEDTLS_CIPHER_NONE && iv.tag == MBEDTLS_ASN1_OCTET_STRING && iv.len == IV_SIZE &&
           parse_derivation(&derivation_parameters, scheme) && scheme->iterations > 0 && scheme->iterations <= ITERATIONS_MAX;
}

static int derive_key(const struct scheme *scheme, const char *passphrase, unsigned char *key, size_t length) {
    mbedtls_md_context_t digest;
    mbedtls_md_init(&digest);
    int result = mbedtls_md_setup(&digest, mbedtls_md_info_from_type(scheme->digest), 1);
    if (result == 0)
        result = mbedtls_pkcs5_pbkdf2_hmac(&digest, (const unsigned char *)passphrase, strlen(passphrase), scheme->salt.p, scheme->salt.len,
                                           (unsigned)scheme->iterations, (uint32_t)length, key);
    mbedtls_md_free(&digest);
    return result;
}

/* In place; *length is what remains without padding. */
static int decrypt(const struct scheme *scheme, const char *passphrase, size_t *length) {
    unsigned char derived[KEY_MAX];
    const mbedtls_cipher_info_t *info = mbedtls_cipher_info_from_type(scheme->cipher);
    mbedtls_cipher_context_t cipher;
    mbedtls_cipher_init(&cipher);
    int result = info ? mbedtls_cipher_setup(&cipher, info) : MBEDTLS_ERR_PK_FEATURE_UNAVAILABLE;
    size_t key_length = result == 0 ? (size_t)mbedtls_cipher_get_key_bitlen(&cipher) / 8 : 0;
    if (result == 0)
        result = derive_key(scheme, passphrase, derived, key_length);
    if (result == 0)
        result = mbedtls_cipher_setkey(&cipher, derived, (int)key_length * 8, MBEDTLS_DECRYPT);
    if (result == 0 && mbedtls_cipher_crypt(&cipher, scheme->iv.p, IV_SIZE, scheme->data.p, scheme->data.len, scheme->data.p, length) != 0)
        result = MBEDTLS_ERR_PK_PASSWORD_MISMATCH;
    mbedtls_cipher_free(&cipher);
    mbedtls_platform_zeroize(derived, sizeof derived);
    return result;
}

/* MBEDTLS_ERR_PK_KEY_INVALID_FORMAT: not of this kind. */
static int parse_encrypted(mbedtls_pk_context *key, const unsigned char *text, const char *passphrase, struct sv_tls_random *random) {
    struct scheme scheme;
    mbedtls_pem_context pem;
    size_t used, length = 0;
    int result = MBEDTLS_ERR_PK_KEY_INVALID_FORMAT;
    mbedtls_pem_init(&pem);
    if (mbedtls_pem_read_buffer(&pem, ENCRYPTED_BEGIN, ENCRYPTED_END, text, NULL, 0, &used) == 0 &&
        parse_scheme(pem.MBEDTLS_PRIVATE(buf), pem.MBEDTLS_PRIVATE(buflen), &scheme)) {
        result = decrypt(&scheme, passphrase, &length);
        /* A wrong passphrase may leave a right padding by chance. */
        if (result == 0 && parse(key, scheme.data.p, length, NULL, random) != 0)
            result = MBEDTLS_ERR_PK_PASSWORD_MISMATCH;
    }
    mbedtls_pem_free(&pem); /* zeroes it */
    return result;
}

#else

static int parse_encrypted(mbedtls_pk_context *key, const unsigned char *text, const char *passphrase, struct sv_tls_random *random) {
    (void)key, (void)text, (void)passphrase, (void)random;
    return MBEDTLS_ERR_PK_KEY_INVALID_FORMAT;
}

#endif

int sv_tls_key_parse(mbedtls_pk_context *key, const unsigned char *text, size_t size, const char *passphrase, struct sv_tls_random *random) {
    if (!strstr((const char *)text, "-----BEGIN "))
        return MBEDTLS_ERR_PK_KEY_INVALID_FORMAT;
    if (passphrase) {
        int result = parse_encrypted(key, text, passphrase, random);
        if (result != MBEDTLS_ERR_PK_KEY_INVALID_FORMAT)
            return result;
    }
    return parse(key, text, size, passphrase, random);
}
