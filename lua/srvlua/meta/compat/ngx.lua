---@meta

--- What client libraries for OpenResty need (`require 'srvlua.compat.ngx'`): lua-resty-redis and pgmoon run on it. The
--- global `ngx` then has
---
--- - `socket.tcp`, `.udp`, `.connect`: those of `srvlua.socket`; `null`: that of `srvlua.json`
--- - `sleep`, `now`, `time`, `update_time`, `log` with `EMERG` … `DEBUG`, `get_phase` (`'timer'`),
---   `config.ngx_lua_version`
--- - `worker.pid`, `.id`, `.count`, `.exiting`; `ctx`: `srvlua.coroutine.context()`
--- - `timer.at`, `.every`: their callbacks run early, with `premature` true, in a worker that is to leave
--- - `thread.spawn`, `.wait`, `.kill`: coroutines of srvlua
--- - `encode_base64`, `decode_base64`, `md5`, `md5_bin`, `sha1_bin`, `hmac_sha1`, `crc32_short`, `escape_uri`,
---   `unescape_uri`
---
--- Reading anything else raises `ngx.NAME is not available in srvlua`.
---@class srvlua.compat.ngx
local compat = {}

--- Sets the global `ngx`: before `start()` for all processes, or in a worker. A second time nothing; raises if
--- something else has that name.
function compat.install() end

return compat
