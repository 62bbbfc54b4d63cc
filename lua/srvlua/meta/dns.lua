---@meta

--- Host names to addresses (`require 'srvlua.dns'`): the hosts file, then the servers of resolv.conf or `dns_server`.
--- Answers of servers are kept in the process that asked, no longer than their TTL and `dns_cache_expire`.
---@class srvlua.dns
local dns = {}

---@class srvlua.dns.Options
---@field family? 'any' | 'inet' | 'inet6' 'any'
---@field timeout? number seconds above 0; `socket_dns_timeout`

--- In a coroutine only that coroutine waits. An address is returned as it is.
---@param name string
---@param options? srvlua.dns.Options
---@return string[] | false addresses, string? message, integer? code  IPv4 first; 712: timeout, 711: all else
function dns.resolve(name, options) end

--- Forgets what this process knows.
---@return true
function dns.clearCache() end

return dns
