/* compat.c: see compat.h. */
#include "lua/compat.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include <mbedtls/base64.h>
#include <mbedtls/md.h>

#include "lua/errors.h"
#include "lua/values.h"

/* ---------------------------------------------------------------------------------------------------------- digests */

static int push_digest(lua_State *L, mbedtls_md_type_t type) {
    const mbedtls_md_info_t *info = mbedtls_md_info_from_type(type);
    unsigned char digest[MBEDTLS_MD_MAX_SIZE];
    size_t length;
    const char *data = sv_lua_check_string(L, 1, &length);

    if (!info || mbedtls_md(info, (const unsigned char *)data, length, digest) != 0)
        return luaL_error(L, "mbedTLS was built without this digest");
    lua_pushlstring(L, (const char *)digest, mbedtls_md_get_size(info));
    return 1;
}

/* compat.md5(data) -> 16 bytes */
static int md5(lua_State *L) { return push_digest(L, MBEDTLS_MD_MD5); }

/* compat.sha1(data) -> 20 bytes */
static int sha1(lua_State *L) { return push_digest(L, MBEDTLS_MD_SHA1); }

/* compat.hmacSha1(key, data) -> 20 bytes */
static int hmac_sha1(lua_State *L) {
    const mbedtls_md_info_t *info = mbedtls_md_info_from_type(MBEDTLS_MD_SHA1);
    unsigned char digest[MBEDTLS_MD_MAX_SIZE];
    size_t key_length, length;
    const char *key = sv_lua_check_string(L, 1, &key_length);
    const char *data = sv_lua_check_string(L, 2, &length);

    if (!info ||
        mbedtls_md_hmac(info, (const unsigned char *)key, key_length, (const unsigned char *)data, length, digest) != 0)
        return luaL_error(L, "mbedTLS was built without SHA-1");
    lua_pushlstring(L, (const char *)digest, mbedtls_md_get_size(info));
    return 1;
}

/* compat.hex(bytes) -> text */
static int hex(lua_State *L) {
    static const char digits[] = "0123456789abcdef";
    size_t length, i;
    const char *bytes = sv_lua_check_string(L, 1, &length);
    luaL_Buffer buffer;

    luaL_buffinit(L, &buffer);
    for (i = 0; i < length; i++) {
        luaL_addchar(&buffer, digits[(unsigned char)bytes[i] >> 4]);
        luaL_addchar(&buffer, digits[(unsigned char)bytes[i] & 15]);
    }
    luaL_pushresult(&buffer);
    return 1;
}

/* compat.crc32(data) -> number: CRC-32 as zlib and Ethernet have it */
static int crc32(lua_State *L) {
    size_t length, i;
    const char *data = sv_lua_check_string(L, 1, &length);
    uint32_t sum = UINT32_MAX;
    int bit;

    for (i = 0; i < length; i++) {
        sum ^= (unsigned char)data[i];
        for (bit = 0; bit < 8; bit++)
            sum = sum >> 1 ^ (0xedb88320u & -(sum & 1));
    }
    lua_pushnumber(L, ~sum);
    return 1;
}

/* ----------------------------------------------------------------------------------------------------------- base64 */

/* compat.encodeBase64(data) -> text */
static int encode_base64(lua_State *L) {
    size_t length, used;
    const char *data = sv_lua_check_string(L, 1, &length);
    size_t size = (length + 2) / 3 * 4 + 1;
    unsigned char *text = lua_newuserdata(L, size);

    if (mbedtls_base64_encode(text, size, &used, (const unsigned char *)data, length) != 0)
        return luaL_error(L, "text too long for base64");
    lua_pushlstring(L, (const char *)text, used);
    return 1;
}

/* compat.decodeBase64(text) -> data | nil; with all of its padding */
static int decode_base64(lua_State *L) {
    size_t length, used;
    const char *text = sv_lua_check_string(L, 1, &length);
    size_t size = length / 4 * 3 + 3;
    unsigned char *data = lua_newuserdata(L, size);

    if (mbedtls_base64_decode(data, size, &used, (const unsigned char *)text, length) != 0)
        lua_pushnil(L);
    else
        lua_pushlstring(L, (const char *)data, used);
    return 1;
}

/* ----------------------------------------------------------------------------------------------------------- others */

/* compat.shutdown(descriptor, how) -> true | false, message, code; how: "receive", "send", "both" */
static int shut_down(lua_State *L) {
    int fd = sv_lua_check_int(L, 1);
    const char *how = sv_lua_check_text(L, 2);
    int number = strcmp(how, "receive") == 0 ? SHUT_RD : strcmp(how, "send") == 0 ? SHUT_WR : SHUT_RDWR;

    if (number == SHUT_RDWR && strcmp(how, "both") != 0)
        return sv_lua_argument_error(L, 2, "'receive', 'send' or 'both' expected");
    if (shutdown(fd, number) != 0)
        return sv_lua_fail_code(L, errno);
    lua_pushboolean(L, 1);
    return 1;
}

/* compat.worker() -> id, -1: no worker; how many event workers there are; whether this one was told to leave */
static int worker(lua_State *L) {
    const struct sv_lua *lua = sv_lua_of(L);
    srvlua_server *server = lua->server ? lua->server->server : NULL;
    int id = server ? srvlua_get_worker_id(server) : -1;
    struct srvlua_value count;

    lua_pushinteger(L, id);
    if (server && srvlua_get_setting(server, "worker_num", &count) == 0 && count.type == SRVLUA_VALUE_NUMBER)
        lua_pushnumber(L, count.number);
    else
        lua_pushinteger(L, 0);
    lua_pushboolean(L, id >= 0 && srvlua_get_worker_status(server, -1, NULL) == SRVLUA_WORKER_EXIT);
    return 3;
}

void sv_lua_push_compat_module(lua_State *L, struct sv_lua *lua) {
    static const struct sv_lua_function functions[] = {
        SV_LUA_FUNCTION("md5", md5),
        SV_LUA_FUNCTION("sha1", sha1),
        SV_LUA_FUNCTION("hmacSha1", hmac_sha1),
        SV_LUA_FUNCTION("hex", hex),
        SV_LUA_FUNCTION("crc32", crc32),
        SV_LUA_FUNCTION("encodeBase64", encode_base64),
        SV_LUA_FUNCTION("decodeBase64", decode_base64),
        SV_LUA_FUNCTION("shutdown", shut_down),
        SV_LUA_FUNCTION("worker", worker),
        SV_LUA_END,
    };

    lua_newtable(L);
    sv_lua_register(L, lua, functions);
    lua_pushlightuserdata(L, NULL); /* the null of lua-cjson */
    lua_setfield(L, -2, "null");
}
