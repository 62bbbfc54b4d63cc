/* tls_files.c: certificates and keys: from files into one piece of bytes, and from there into what mbedTLS works with.
 *
 * The bytes are a row of entries: kind, length, that many bytes (texts with their NUL). A pair is [NAME] [PASSPHRASE] CERTIFICATE KEY;
 * the port's own, without NAME, is the first.
 * runs in: sv_tls_files_read(): the process that configures; the parser: reactors as well. Reading may block for the disk. */
#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include <mbedtls/oid.h>
#include <mbedtls/platform_util.h>

#include "base/errors.h"
#include "net/tls_internal.h"

#define FILE_MAX (4u << 20)
#define ALL_FILES_MAX (16u << 20)
#define FILES_OF_PATH_MAX 4096u

enum kind { NAME = 1, PASSPHRASE, CERTIFICATE, KEY, NAMED_AUTHORITIES, AUTHORITIES };

/* ------------------------------------------------------------------------------------------------------------ bytes */

void sv_tls_bytes_free(struct sv_tls_bytes *bytes) {
    if (bytes->data)
        mbedtls_platform_zeroize(bytes->data, bytes->length);
    free(bytes->data);
    *bytes = (struct sv_tls_bytes){0};
}

/* Not realloc(), which would leave copies of keys behind. */
static int append(struct sv_tls_bytes *bytes, enum kind kind, const void *data, size_t length) {
    uint32_t head[2] = {kind, (uint32_t)length};
    size_t total = bytes->length + sizeof head + length;
    if (total > ALL_FILES_MAX)
        return -EFBIG;
    unsigned char *larger = malloc(total);
    if (!larger)
        return -ENOMEM;
    if (bytes->length > 0)
        memcpy(larger, bytes->data, bytes->length);
    memcpy(larger + bytes->length, head, sizeof head);
    memcpy(larger + bytes->length + sizeof head, data, length);
    sv_tls_bytes_free(bytes);
    *bytes = (struct sv_tls_bytes){.data = larger, .length = total};
    return 0;
}

struct entry {
    uint32_t kind, length;
    const unsigned char *data;
};

/* The entry at *offset; false: the end, or bytes that are none. */
static bool next_entry(const struct sv_tls_bytes *bytes, size_t *offset, struct entry *entry) {
    uint32_t head[2];
    if (bytes->length - *offset < sizeof head)
        return false;
    memcpy(head, bytes->data + *offset, sizeof head);
    if (head[1] == 0 || head[1] > bytes->length - *offset - sizeof head)
        return false;
    *entry = (struct entry){.kind = head[0], .length = head[1], .data = bytes->data + *offset + sizeof head};
    if (entry->data[entry->length - 1] != 0)
        return false;
    *offset += sizeof head + head[1];
    return true;
}

/* ---------------------------------------------------------------------------------------------------------- parsing */

static bool is_pem(const unsigned char *text) { return strstr((const char *)text, "-----BEGIN ") != NULL; }

static int check_pair(const mbedtls_x509_crt *chain, const mbedtls_pk_context *key, struct sv_tls_random *random) {
#if SV_MBEDTLS_3
    return mbedtls_pk_check_pair(&chain->pk, key, mbedtls_ctr_drbg_random, &random->generator);
#else
    (void)random;
    return mbedtls_pk_check_pair(&chain->pk, key);
#endif
}

static struct sv_tls_pair *new_pair(void) {
    struct sv_tls_pair *pair = calloc(1, sizeof *pair);
    if (pair) {
        mbedtls_x509_crt_init(&pair->chain);
        mbedtls_pk_init(&pair->key);
    }
    return pair;
}

static void free_pair(struct sv_tls_pair *pair) {
    mbedtls_x509_crt_free(&pair->chain);
    mbedtls_pk_free(&pair->key);
    free(pair->name);
    free(pair);
}

static char *lower_copy(const char *text) {
    char *copy = strdup(text);
    for (char *c = copy; c && *c; c++)
        *c = (char)tolower((unsigned char)*c);
    return copy;
}

void sv_tls_credentials_free(struct sv_tls_credentials *credentials) {
    for (struct sv_tls_pair *pair = credentials->pairs, *next; pair; pair = next) {
        next = pair->next;
        free_pair(pair);
    }
    mbedtls_x509_crt_free(&credentials->authorities);
    *credentials = (struct sv_tls_credentials){0};
}

int sv_tls_credentials_parse(struct sv_tls_credentials *credentials, const struct sv_tls_bytes *bytes, struct sv_tls_random *random,
                             struct srvlua_status *status) {
    struct sv_tls_pair **place = &credentials->pairs, *pair = NULL;
    const char *passphrase = NULL;
    struct entry entry;
    size_t offset = 0;
    int result = 0;

    *credentials = (struct sv_tls_credentials){0};
    mbedtls_x509_crt_init(&credentials->authorities);
    while (result >= 0 && next_entry(bytes, &offset, &entry)) {
        if (!pair && entry.kind <= KEY) { /* a pair begins */
            pair = *place = new_pair();
            if (!pair)
                goto no_memory;
            place = &pair->next;
            passphrase = NULL;
        }
        switch ((enum kind)entry.kind) {
        case NAME:
            pair->name = lower_copy((const char *)entry.data);
            if (!pair->name)
                goto no_memory;
            break;
        case PASSPHRASE:
            passphrase = (const char *)entry.data;
            break;
        case CERTIFICATE:
            result = mbedtls_x509_crt_parse(&pair->chain, entry.data, entry.length);
            break;
        case KEY:
            result = sv_tls_key_parse(&pair->key, entry.data, entry.length, passphrase, random);
            if (result == 0)
                result = check_pair(&pair->chain, &pair->key, random);
            pair = NULL;
            break;
        case NAMED_AUTHORITIES:
            credentials->has_named_authorities = true;
            /* fall through */
        case AUTHORITIES:
            result = mbedtls_x509_crt_parse(&credentials->authorities, entry.data, entry.length);
            credentials->has_authorities = true;
            break;
        default:
            result = MBEDTLS_ERR_X509_BAD_INPUT_DATA;
        }
    }
    if (result < 0) {
        char text[160];
        sv_tls_describe_error(result, text, sizeof text);
        return sv_fail(status, SRVLUA_ERROR_INVALID_PARAMS, "certificates cannot be used: %s", text);
    }
    if (pair || !credentials->pairs || credentials->pairs->name || offset != bytes->length)
        return sv_fail(status, SRVLUA_ERROR_INVALID_PARAMS, "certificates cannot be used: they are not complete");
    return 0;
no_memory:
    return sv_fail(status, SRVLUA_ERROR_MALLOC_FAIL, "certificates cannot be used: no memory");
}

/* ---------------------------------------------------------------------------------------------------------- reading */

struct reader {
    struct sv_tls_bytes *bytes;
    struct srvlua_status *status;
    struct sv_tls_random random;
};

static int fail_file(struct reader *reader, int code, const char *setting, const char *path, const char *what) {
    return sv_fail(reader->status, code, "%s %s: %s", setting, path, what);
}

static int fail_errno(struct reader *reader, int code, const char *setting, const char *path) {
    return fail_file(reader, code, setting, path, srvlua_strerror(code));
}

/* A whole file with a NUL behind it, malloc'ed. 0 or errno. A pipe or a device could block for ever. */
static int read_text(const char *path, unsigned char **text, size_t *size) {
    struct stat about;
    unsigned char *data = NULL;
    int error = 0;
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (file < 0)
        return errno;
    if (fstat(file, &about) < 0)
        error = errno;
    else if (S_ISDIR(about.st_mode))
        error = EISDIR;
    else if (!S_ISREG(about.st_mode))
        error = EINVAL;
    else if (about.st_size > (off_t)FILE_MAX)
        error = EFBIG;
    size_t length = 0;
    if (!error && !(data = malloc((size_t)about.st_size + 1)))
        error = ENOMEM;
    while (!error && length < (size_t)about.st_size) {
        ssize_t got = read(file, data + length, (size_t)about.st_size - length);
        if (got < 0 && errno != EINTR)
            error = errno;
        if (got == 0)
            break;
        length += got > 0 ? (size_t)got : 0;
    }
    close(file);
    if (error) {
        free(data);
        return error;
    }
    data[length] = 0;
    *text = data;
    *size = length + 1;
    return 0;
}

static void free_text(unsigned char *text, size_t size) {
    if (text)
        mbedtls_platform_zeroize(text, size);
    free(text);
}

/* A certificate that says what it is for must be for servers: mbedTLS would not use it, and each handshake would fail. */
static bool is_for_servers(const mbedtls_x509_crt *certificate) {
#if defined(MBEDTLS_X509_CHECK_KEY_USAGE) || SV_MBEDTLS_3
    if (mbedtls_x509_crt_check_key_usage(certificate, MBEDTLS_X509_KU_DIGITAL_SIGNATURE) != 0 &&
        mbedtls_x509_crt_check_key_usage(certificate, MBEDTLS_X509_KU_KEY_ENCIPHERMENT) != 0)
        return false;
#endif
#if defined(MBEDTLS_X509_CHECK_EXTENDED_KEY_USAGE) || SV_MBEDTLS_3
    if (mbedtls_x509_crt_check_extended_key_usage(certificate, MBEDTLS_OID_SERVER_AUTH,
                                                  MBEDTLS_OID_SIZE(MBEDTLS_OID_SERVER_AUTH)) != 0)
        return false;
#endif
    return true;
}

/* The library sends a chain in one record, or fails. */
static bool fits_into_record(const mbedtls_x509_crt *chain) {
    const size_t head = SV_HAS_TLS_1_3 ? 8 : 7, each = SV_HAS_TLS_1_3 ? 5 : 3;
    size_t total = head;
    for (const mbedtls_x509_crt *certificate = chain; certificate; certificate = certificate->next)
        total += each + certificate->raw.len;
    return total <= MBEDTLS_SSL_OUT_CONTENT_LEN;
}

static int check_certificates(struct reader *reader, const char *path, const unsigned char *text, size_t size, mbedtls_x509_crt *chain) {
    char what[160];
    int result = is_pem(text) ? mbedtls_x509_crt_parse(chain, text, size) : MBEDTLS_ERR_X509_CERT_UNKNOWN_FORMAT;
    if (result == MBEDTLS_ERR_X509_CERT_UNKNOWN_FORMAT || (result == 0 && chain->version == 0))
        return fail_file(reader, SRVLUA_ERROR_INVALID_PARAMS, "ssl_cert_file", path, "no PEM certificate");
    if (result != 0) { /* > 0: so many of the file are broken */
        sv_tls_describe_error(result < 0 ? result : MBEDTLS_ERR_X509_INVALID_FORMAT, what, sizeof what);
        return fail_file(reader, SRVLUA_ERROR_INVALID_PARAMS, "ssl_cert_file", path, what);
    }
    if (!is_for_servers(chain))
        return fail_file(reader, SRVLUA_ERROR_INVALID_PARAMS, "ssl_cert_file", path, "not a certificate for servers (key usage)");
    if (!fits_into_record(chain))
        return fail_file(reader, SRVLUA_ERROR_INVALID_PARAMS, "ssl_cert_file", path, "more certificates than fit into a handshake (16 KiB)");
    return 0;
}

static int check_key(struct reader *reader, const char *path, const unsigned char *text, size_t size, const char *passphrase,
                     mbedtls_pk_context *key) {
    char what[160];
    int result = sv_tls_key_parse(key, text, size, passphrase, &reader->random);
    if (result == 0)
        return 0;
    if (result == MBEDTLS_ERR_PK_PASSWORD_REQUIRED)
        snprintf(what, sizeof what, "it is encrypted, and there is no ssl_passphrase");
    else if (result == MBEDTLS_ERR_PK_PASSWORD_MISMATCH)
        snprintf(what, sizeof what, "wrong ssl_passphrase");
    else if (result == MBEDTLS_ERR_PK_KEY_INVALID_FORMAT)
        snprintf(what, sizeof what, "no PEM private key");
    else
        sv_tls_describe_error(result, what, sizeof what);
    return fail_file(reader, SRVLUA_ERROR_INVALID_PARAMS, "ssl_key_file", path, what);
}

static int read_pair(struct reader *reader, const char *name, const char *cert_file, const char *key_file, const char *passphrase) {
    unsigned char *certificates = NULL, *key = NULL;
    size_t certificates_size = 0, key_size = 0;
    struct sv_tls_pair *pair = new_pair();
    int result = -ENOMEM;

    if (!pair)
        goto out;
    if ((result = read_text(cert_file, &certificates, &certificates_size))) {
        result = fail_errno(reader, result, "ssl_cert_file", cert_file);
        goto out;
    }
    if ((result = read_text(key_file, &key, &key_size))) {
        result = fail_errno(reader, result, "ssl_key_file", key_file);
        goto out;
    }
    if ((result = check_certificates(reader, cert_file, certificates, certificates_size, &pair->chain)) ||
        (result = check_key(reader, key_file, key, key_size, passphrase, &pair->key)))
        goto out;
    if (check_pair(&pair->chain, &pair->key, &reader->random) != 0) {
        result = sv_fail(reader->status, SRVLUA_ERROR_INVALID_PARAMS, "ssl_key_file %s: not the key of the certificate in %s", key_file,
                         cert_file);
        goto out;
    }
    if (name)
        result = append(reader->bytes, NAME, name, strlen(name) + 1);
    if (result == 0 && passphrase)
        result = append(reader->bytes, PASSPHRASE, passphrase, strlen(passphrase) + 1);
    if (result == 0)
        result = append(reader->bytes, CERTIFICATE, certificates, certificates_size);
    if (result == 0)
        result = append(reader->bytes, KEY, key, key_size);
    if (result != 0)
        result = fail_errno(reader, -result, "ssl_cert_file", cert_file);
out:
    free_text(certificates, certificates_size);
    free_text(key, key_size);
    if (pair)
        free_pair(pair);
    return result;
}

/* How many certificates a text has; what mbedTLS does not understand among them does not count. */
static size_t count_certificates(const unsigned char *text, size_t size) {
    mbedtls_x509_crt chain;
    size_t count = 0;
    mbedtls_x509_crt_init(&chain);
    if (is_pem(text) && mbedtls_x509_crt_parse(&chain, text, size) >= 0)
        for (const mbedtls_x509_crt *one = &chain; one && one->version != 0; one = one->next)
            count++;
    mbedtls_x509_crt_free(&chain);
    return count;
}

static int read_authorities(struct reader *reader, enum kind kind, const char *setting, const char *path) {
    unsigned char *text;
    size_t size;
    int error = read_text(path, &text, &size);
    if (error)
        return fail_errno(reader, error, setting, path);
    int result = 0;
    if (count_certificates(text, size) == 0)
        result = fail_file(reader, SRVLUA_ERROR_INVALID_PARAMS, setting, path, "no PEM certificate");
    else if ((error = append(reader->bytes, kind, text, size)))
        result = fail_errno(reader, -error, setting, path);
    free(text);
    return result;
}

struct seen { /* files of a directory: names and links that OpenSSL makes stand for the same ones */
    dev_t device;
    ino_t inode;
};

/* All certificates of a directory; other files may lie there too. */
static int read_authority_directory(struct reader *reader, const char *path) {
    DIR *directory = opendir(path);
    if (!directory)
        return fail_errno(reader, errno, "ssl_capath", path);
    struct seen *seen = calloc(FILES_OF_PATH_MAX, sizeof *seen);
    size_t seen_count = 0, found = 0;
    int error = seen ? 0 : ENOMEM;
    for (struct dirent *file; !error && (file = readdir(directory));) {
        char name[PATH_MAX];
        struct stat about;
        if (file->d_name[0] == '.' || fstatat(dirfd(directory), file->d_name, &about, 0) < 0 || !S_ISREG(about.st_mode))
            continue;
        bool is_known = false;
        for (size_t i = 0; i < seen_count && !is_known; i++)
            is_known = seen[i].device == about.st_dev && seen[i].inode == about.st_ino;
        if (is_known || snprintf(name, sizeof name, "%s/%s", path, file->d_name) >= (int)sizeof name)
            continue;
        if (seen_count == FILES_OF_PATH_MAX) {
            error = E2BIG;
            break;
        }
        seen[seen_count++] = (struct seen){about.st_dev, about.st_ino};
        unsigned char *text;
        size_t size;
        if (read_text(name, &text, &size) != 0)
            continue;
        if (count_certificates(text, size) > 0) {
            error = -append(reader->bytes, AUTHORITIES, text, size);
            found++;
        }
        free(text);
    }
    free(seen);
    closedir(directory);
    if (error)
        return fail_errno(reader, error, "ssl_capath", path);
    if (found == 0)
        return fail_file(reader, SRVLUA_ERROR_INVALID_PARAMS, "ssl_capath", path, "no PEM certificates");
    return 0;
}

/* A host name, perhaps with "*." before it. An address is none: clients do not send them. */
static bool is_name(const char *name) {
    unsigned char address[16];
    if (strncmp(name, "*.", 2) == 0)
        name += 2;
    size_t length = strlen(name);
    if (length == 0 || length > 253 || inet_pton(AF_INET, name, address) == 1)
        return false;
    for (size_t i = 0, label = 0; i <= length; i++) {
        if (i == length || name[i] == '.') {
            if (label == 0 || label > 63)
                return false;
            label = 0;
        } else if (isalnum((unsigned char)name[i]) || name[i] == '-' || name[i] == '_') {
            label++;
        } else {
            return false;
        }
    }
    return true;
}

static int read_sni(struct reader *reader, const struct sv_tls_paths *paths, size_t index) {
    const struct sv_tls_sni_paths *pair = &paths->sni[index];
    if (!is_name(pair->name))
        return sv_fail(reader->status, SRVLUA_ERROR_INVALID_PARAMS, "ssl_sni_certs: '%.100s' is not the name of a host", pair->name);
    for (size_t i = 0; i < index; i++)
        if (strcasecmp(paths->sni[i].name, pair->name) == 0)
            return sv_fail(reader->status, SRVLUA_ERROR_INVALID_PARAMS, "ssl_sni_certs: '%.100s' is there twice", pair->name);
    return read_pair(reader, pair->name, pair->cert_file, pair->key_file, pair->passphrase);
}

int sv_tls_files_read(const struct sv_tls_paths *paths, struct sv_tls_bytes *bytes, struct srvlua_status *status) {
    struct reader reader = {.bytes = bytes, .status = status};
    int result = 0;

    *bytes = (struct sv_tls_bytes){0};
    if (!paths->cert_file || !paths->key_file)
        return sv_fail(status, SRVLUA_ERROR_INVALID_PARAMS, "ssl_cert_file and ssl_key_file are needed");
    if (sv_tls_random_init(&reader.random) != 0)
        result = sv_fail(status, EIO, "no random numbers");
    if (result == 0)
        result = read_pair(&reader, NULL, paths->cert_file, paths->key_file, paths->passphrase);
    for (size_t i = 0; result == 0 && i < paths->sni_count; i++)
        result = read_sni(&reader, paths, i);
    if (result == 0 && paths->client_cert_file)
        result = read_authorities(&reader, NAMED_AUTHORITIES, "ssl_client_cert_file", paths->client_cert_file);
    if (result == 0 && paths->ca_file)
        result = read_authorities(&reader, AUTHORITIES, "ssl_cafile", paths->ca_file);
    if (result == 0 && paths->ca_path)
        result = read_authority_directory(&reader, paths->ca_path);
    sv_tls_random_free(&reader.random);
    if (result != 0)
        sv_tls_bytes_free(bytes);
    return result;
}
