rockspec_format = '3.0'
package = 'srvlua'
version = 'scm-1'

source = {
  url = 'git+https://example.invalid/srvlua.git',
}

description = {
  summary = 'Network server runtime: processes, reactors and a Lua surface',
  detailed = [[
    TCP, UDP and unix socket servers whose callbacks are written in Lua. A master with reactor threads owns the
    connections, worker processes run the callbacks; a worker that dies loses no connection.
  ]],
  license = 'MIT',
}

supported_platforms = { 'linux' }

-- LuaJIT, that is: PUC-Rio's Lua 5.1 does not do. `srvlua.json` also takes lua-cjson, which distributions package and
-- LuaRocks may not know of: not named here, so that all else installs without a network.
dependencies = { 'lua == 5.1' }

external_dependencies = {
  EV = { header = 'ev.h' },
  MBEDTLS = { header = 'mbedtls/ssl.h' },
  CARES = { header = 'ares.h' },
}

build = {
  type = 'make',
  build_target = 'all',
  -- The Makefile asks pkg-config for LuaJIT first: LuaRocks' LUA_INCDIR may be that of PUC-Rio's Lua 5.1.
  build_variables = {
    LUA_INCDIR = '$(LUA_INCDIR)',
  },
  -- What LuaRocks calls LIBDIR holds Lua modules only: the libraries for C hosts stay in the rock's own folder.
  install_variables = {
    PREFIX = '$(PREFIX)',
    BINDIR = '$(BINDIR)',
    LUADIR = '$(LUADIR)',
    LUACDIR = '$(LIBDIR)',
    LIBDIR = '$(PREFIX)/host',
  },
}
