/* ticket_keys.c: session tickets (RFC 5077, RFC 8446 4.6.1): sessions that clients keep for us, encrypted with keys that all processes of
 * a port share.
 *
 * Time is cut into epochs as long as a ticket lives. An epoch's key lies in entry[epoch & 1]; the next one replaces the one before it, so
 * that the last key still decrypts and older ones are gone. It is a hash of its predecessor and its number: whoever needs it first makes
 * it, and processes that do so at once write the same. Nothing locks. A writer may be stopped half-way and go on an epoch later; a
 * reader therefore believes an entry only if its check fits to key and epoch.
 * What can go wrong in such a race is a ticket that nobody can read, which costs a full handshake. runs in: reactors, any process. */
#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include <mbedtls/gcm.h>
#include <mbedtls/md.h>
#include <mbedtls/platform_util.h>

#include "base/clock.h"
#include "net/tls_internal.h"

#define WORDS (SV_TLS_KEY_SIZE / sizeof(uint64_t))
#define NONCE_SIZE 12u
#define TAG_SIZE 16u
#define HEAD_SIZE (sizeof(uint64_t) + NONCE_SIZE) /* epoch, nonce */
#define STAMP_SIZE sizeof(int64_t)                /* encrypted before the session: when it was made */

#define HELLOS 1024u

struct entry {
    _Atomic uint64_t epoch; /* 0: none; written last */
    _Atomic uint64_t check;
    _Atomic uint64_t key[WORDS];
};

struct sv_tls_shared {
    int64_t start_ns, life_ns; /* constant */
    unsigned char cookie_key[SV_TLS_KEY_SIZE]; /* constant */
    _Alignas(64) struct entry entries[2];      /* written by whoever makes the next key */
    _Alignas(64) _Atomic uint64_t hellos[HELLOS]; /* DTLS: those that were answered with a connection; an older one gives way */
};

size_t sv_tls_shared_bytes(void) { return sizeof(struct sv_tls_shared); }

const unsigned char *sv_tls_shared_cookie_key(const struct sv_tls_shared *shared) { return shared->cookie_key; }

bool sv_tls_shared_take_hello(struct sv_tls_shared *shared, uint64_t hello) {
    return atomic_exchange_explicit(&shared->hellos[hello % HELLOS], hello, memory_order_relaxed) != hello;
}

void sv_tls_shared_give_hello(struct sv_tls_shared *shared, uint64_t hello) {
    atomic_compare_exchange_strong_explicit(&shared->hellos[hello % HELLOS], &hello, 0, memory_order_relaxed, memory_order_relaxed);
}

uint64_t sv_tls_shared_epoch(const struct sv_tls_shared *shared, int64_t now_ns) {
    return now_ns < shared->start_ns ? 1 : (uint64_t)((now_ns - shared->start_ns) / shared->life_ns) + 1;
}

/* HMAC of a word and an epoch by a key. */
static void derive(const unsigned char key[SV_TLS_KEY_SIZE], const char *word, uint64_t epoch, unsigned char result[32]) {
    unsigned char input[16] = {0};
    strncpy((char *)input, word, 8);
    memcpy(input + 8, &epoch, sizeof epoch);
    mbedtls_md_hmac(mbedtls_md_info_from_type(MBEDTLS_MD_SHA256), key, SV_TLS_KEY_SIZE, input, sizeof input, result);
}

static uint64_t check_of(const unsigned char key[SV_TLS_KEY_SIZE], uint64_t epoch) {
    unsigned char hash[32];
    uint64_t check;
    derive(key, "check", epoch, hash);
    memcpy(&check, hash, sizeof check);
    return check;
}

static void write_entry(struct entry *entry, uint64_t epoch, const unsigned char key[SV_TLS_KEY_SIZE]) {
    uint64_t words[WORDS];
    memcpy(words, key, sizeof words);
    atomic_store_explicit(&entry->epoch, 0, memory_order_relaxed);
    atomic_store_explicit(&entry->check, check_of(key, epoch), memory_order_relaxed);
    for (size_t i = 0; i < WORDS; i++)
        atomic_store_explicit(&entry->key[i], words[i], memory_order_relaxed);
    atomic_store_explicit(&entry->epoch, epoch, memory_order_release);
    mbedtls_platform_zeroize(words, sizeof words);
}

/* The entry's epoch and key; 0: there is none. */
static uint64_t read_entry(const struct entry *entry, unsigned char key[SV_TLS_KEY_SIZE]) {
    uint64_t words[WORDS];
    uint64_t epoch = atomic_load_explicit(&entry->epoch, memory_order_acquire);
    for (size_t i = 0; i < WORDS; i++)
        words[i] = atomic_load_explicit(&entry->key[i], memory_order_relaxed);
    memcpy(key, words, sizeof words);
    mbedtls_platform_zeroize(words, sizeof words);
    if (epoch == 0 || check_of(key, epoch) != atomic_load_explicit(&entry->check, memory_order_relaxed))
        return 0;
    return epoch;
}

int sv_tls_shared_init(struct sv_tls_shared *shared, int64_t ticket_life_ns) {
    struct sv_tls_random random;
    unsigned char key[SV_TLS_KEY_SIZE];
    int result = sv_tls_random_init(&random);
    if (result == 0)
        result = mbedtls_ctr_drbg_random(&random.generator, key, sizeof key);
    if (result == 0)
        result = mbedtls_ctr_drbg_random(&random.generator, shared->cookie_key, sizeof shared->cookie_key);
    sv_tls_random_free(&random);
    for (size_t i = 0; i < HELLOS; i++)
        atomic_store_explicit(&shared->hellos[i], 0, memory_order_relaxed);
    shared->start_ns = sv_now_ns();
    shared->life_ns = ticket_life_ns > 0 ? ticket_life_ns : SV_NS_PER_SECOND;
    atomic_store_explicit(&shared->entries[0].epoch, 0, memory_order_relaxed);
    if (result == 0)
        write_entry(&shared->entries[1], 1, key);
    mbedtls_platform_zeroize(key, sizeof key);
    return result == 0 ? 0 : -EIO;
}

/* Makes the key of the present epoch from the newest one. Without any (see above) tickets have to do without. */
static bool make_key(struct sv_tls_shared *shared, uint64_t epoch, unsigned char key[SV_TLS_KEY_SIZE]) {
    unsigned char other[SV_TLS_KEY_SIZE];
    uint64_t newest = read_entry(&shared->entries[0], key), second = read_entry(&shared->entries[1], other);
    if (second > newest) {
        newest = second;
        memcpy(key, other, sizeof other);
    }
    mbedtls_platform_zeroize(other, sizeof other);
    if (newest == 0 || newest > epoch)
        return false;
    unsigned char next[32];
    derive(key, "next", epoch, next);
    memcpy(key, next, SV_TLS_KEY_SIZE);
    mbedtls_platform_zeroize(next, sizeof next);
    write_entry(&shared->entries[epoch & 1], epoch, key);
    if (newest + 1 < epoch) /* nobody needed one for long: what is left is too old */
        atomic_store_explicit(&shared->entries[(epoch + 1) & 1].epoch, 0, memory_order_relaxed);
    return true;
}

bool sv_tls_shared_key(struct sv_tls_shared *shared, int64_t now_ns, uint64_t epoch, unsigned char key[SV_TLS_KEY_SIZE]) {
    uint64_t present = sv_tls_shared_epoch(shared, now_ns);
    if (epoch > present || epoch + 1 < present || epoch == 0)
        return false;
    if (read_entry(&shared->entries[epoch & 1], key) == epoch)
        return true;
    return epoch == present && make_key(shared, epoch, key);
}

#if SV_HAS_TICKETS

static int seal(const unsigned char key[SV_TLS_KEY_SIZE], const unsigned char *head, unsigned char *data, size_t length,
                unsigned char *tag) {
    mbedtls_gcm_context gcm;
    mbedtls_gcm_init(&gcm);
    int result = mbedtls_gcm_setkey(&gcm, MBEDTLS_CIPHER_ID_AES, key, SV_TLS_KEY_SIZE * 8);
    if (result == 0)
        result = mbedtls_gcm_crypt_and_tag(&gcm, MBEDTLS_GCM_ENCRYPT, length, head + sizeof(uint64_t), NONCE_SIZE, head, sizeof(uint64_t),
                                           data, data, TAG_SIZE, tag);
    mbedtls_gcm_free(&gcm);
    return result;
}

static int unseal(const unsigned char key[SV_TLS_KEY_SIZE], const unsigned char *head, unsigned char *data, size_t length) {
    mbedtls_gcm_context gcm;
    mbedtls_gcm_init(&gcm);
    int result = mbedtls_gcm_setkey(&gcm, MBEDTLS_CIPHER_ID_AES, key, SV_TLS_KEY_SIZE * 8);
    if (result == 0)
        result = mbedtls_gcm_auth_decrypt(&gcm, length, head + sizeof(uint64_t), NONCE_SIZE, head, sizeof(uint64_t), data + length,
                                          TAG_SIZE, data, data);
    mbedtls_gcm_free(&gcm);
    return result;
}

int sv_tls_ticket_write(void *context, const mbedtls_ssl_session *session, unsigned char *start, const unsigned char *end,
                        size_t *length, uint32_t *lifetime) {
    struct sv_tls_port *port = context;
    unsigned char key[SV_TLS_KEY_SIZE];
    int64_t now_ns = sv_now_ns();
    uint64_t epoch = sv_tls_shared_epoch(port->shared, now_ns);
    size_t saved = 0;

    if ((size_t)(end - start) < HEAD_SIZE + STAMP_SIZE + TAG_SIZE)
        return MBEDTLS_ERR_SSL_BUFFER_TOO_SMALL;
    unsigned char *sealed = start + HEAD_SIZE, *blob = sealed + STAMP_SIZE;
    int result = mbedtls_ssl_session_save(session, blob, (size_t)(end - blob) - TAG_SIZE, &saved);
    if (result == 0)
        result = mbedtls_ctr_drbg_random(&port->random.generator, start + sizeof epoch, NONCE_SIZE);
    if (result == 0 && !sv_tls_shared_key(port->shared, now_ns, epoch, key))
        result = MBEDTLS_ERR_SSL_INTERNAL_ERROR;
    if (result != 0)
        return result;
    memcpy(start, &epoch, sizeof epoch);
    memcpy(sealed, &now_ns, sizeof now_ns);
    result = seal(key, start, sealed, STAMP_SIZE + saved, blob + saved);
    mbedtls_platform_zeroize(key, sizeof key);
    *length = HEAD_SIZE + STAMP_SIZE + saved + TAG_SIZE;
    *lifetime = (uint32_t)(port->shared->life_ns / SV_NS_PER_SECOND);
    return result;
}

int sv_tls_ticket_parse(void *context, mbedtls_ssl_session *session, unsigned char *data, size_t length) {
    struct sv_tls_port *port = context;
    unsigned char key[SV_TLS_KEY_SIZE];
    int64_t now_ns = sv_now_ns(), made_ns;
    uint64_t epoch;

    if (length < HEAD_SIZE + STAMP_SIZE + TAG_SIZE)
        return MBEDTLS_ERR_SSL_BAD_INPUT_DATA;
    memcpy(&epoch, data, sizeof epoch);
    if (!sv_tls_shared_key(port->shared, now_ns, epoch, key))
        return MBEDTLS_ERR_SSL_SESSION_TICKET_EXPIRED;
    unsigned char *sealed = data + HEAD_SIZE;
    size_t sealed_length = length - HEAD_SIZE - TAG_SIZE;
    int result = unseal(key, data, sealed, sealed_length);
    mbedtls_platform_zeroize(key, sizeof key);
    if (result != 0)
        return MBEDTLS_ERR_SSL_INVALID_MAC;
    memcpy(&made_ns, sealed, sizeof made_ns);
    if (now_ns - made_ns > port->shared->life_ns)
        return MBEDTLS_ERR_SSL_SESSION_TICKET_EXPIRED;
    return mbedtls_ssl_session_load(session, sealed + STAMP_SIZE, sealed_length - STAMP_SIZE);
}

#endif
