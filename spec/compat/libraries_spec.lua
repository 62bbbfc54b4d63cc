-- The client libraries themselves, where they are installed: LUA_PATH names the folder of others.
local support = require 'support'

local function is_there(program)
  local handle = io.popen('command -v ' .. program)
  local path = handle:read '*l'
  handle:close()
  return path
end

-- `it`, or what `it` would be if all of these modules and the program were there.
local function needing(program, ...)
  if program and not is_there(program) then return pending end
  for _, name in ipairs { ... } do
    if not package.searchpath(name, package.path) then return pending end
  end
  return it
end

local function start_redis()
  local port, directory = support.free_ports(1), support.directory()
  support.launch { 'redis-server', '--port', port, '--bind', '127.0.0.1', '--save', '', '--dir', directory,
    '--unixsocket', directory .. '/redis.sock' }
  assert.is_true(support.eventually(function() return (pcall(support.stream, port)) end))
  return port, directory .. '/redis.sock'
end

describe('client libraries', function()
  after_each(support.cleanup)

  support.in_both_modes(function(mode)
    needing('redis-server', 'resty.redis')('lua-resty-redis runs on srvlua.compat.ngx, ' .. mode, function()
      local port, path = start_redis()
      local app = support.boot(mode, [[
        require('srvlua.compat.ngx').install()
        local redis = require 'resty.redis'
        local server = new_server()
        local function connect(...)
          local red = redis:new()
          red:set_timeouts(1000, 1000, 1000)
          assert(red:connect(...))
          return red
        end
        server:on('receive', function(_, fd, _, data)
          if data == 'ping' then return server:send(fd, 'pong') end
          local red = connect('127.0.0.1', tonumber(arg[2]))
          if data == 'wait' then
            emit 'waiting'
            return emit('waited', unpack(red:blpop('list', 5)))
          end
          local value = ('v\r\n\0'):rep(10000)
          emit('get', red:get 'none' == ngx.null, red:set('key', value), red:get 'key' == value, red:incr 'n',
            red:incr 'n')
          emit('error', red:incr 'key')
          red:init_pipeline()
          red:set('a', 1) red:get 'a' red:lpop 'none'
          local results = red:commit_pipeline()
          emit('pipeline', results[1], results[2], results[3] == ngx.null)
          red:hmset('h', { x = '1', y = '2' })
          local hash = red:array_to_hash(red:hgetall 'h')
          emit('hash', hash.x, hash.y)
          emit('reused', red:get_reused_times(), red:set_keepalive(10000, 10))
          red = connect('127.0.0.1', tonumber(arg[2]))
          emit('reused', red:get_reused_times())
          emit('subscribe', red:subscribe('channel')[3])
          local other = connect('unix:' .. arg[3])
          emit('publish', other:publish('channel', 'news'))
          emit('message', unpack(red:read_reply()))
          red:set_timeout(50)
          emit('nothing', red:read_reply())
          emit('close', red:close(), other:rpush('list', 'item'))
        end)
        run(server)
      ]], { args = { tostring(port), path } })
      app:connect():send 'wait'
      app:expect 'waiting'
      local client = app:connect()
      client:send 'ping'
      assert.equal('pong', client:receive(4))
      app:connect():send 'go'
      app:expect('get', true, 'OK', true, 1, 2)
      local _, message = app:expect('error', false)
      assert.truthy(message:find 'not an integer')
      app:expect('pipeline', 'OK', '1', true)
      app:expect('hash', '1', '2')
      app:expect('reused', 0, 1)
      app:expect('reused', 1)
      app:expect('subscribe', 1)
      app:expect('publish', 1)
      app:expect('message', 'message', 'channel', 'news')
      app:expect('nothing', nil, 'timeout')
      app:expect('close', 1, 1)
      app:expect('waited', 'list', 'item')
    end)
  end)

  -- PostgreSQL does not run as root.
  local as_postgres = 'setpriv --reuid=postgres --regid=postgres --clear-groups '
  local initdb = io.popen('ls /usr/lib/postgresql/*/bin/initdb 2>/dev/null || command -v initdb'):read '*l'

  local function start_postgres()
    local port, directory = support.free_ports(1), support.directory()
    local script = ([[
      chown postgres %s && printf %%s secret > %s/password && cd / &&
      %s%s -D %s/data -U app -A md5 --pwfile=%s/password --no-sync >/dev/null &&
      exec %s%s -D %s/data -p %d -h 127.0.0.1 -k '' -F
    ]]):format(directory, directory, as_postgres, initdb, directory, directory, as_postgres,
      initdb:gsub('initdb$', 'postgres'), directory, port)
    local postgres = support.launch { 'sh', '-c', script }
    postgres:logs 'ready to accept connections'
    return port, postgres
  end

  support.in_both_modes(function(mode)
    needing(initdb, 'pgmoon')('pgmoon runs on srvlua.compat.ngx, ' .. mode, function()
      local port, postgres = start_postgres()
      local app = support.boot(mode, [[
        require('srvlua.compat.ngx').install()
        local pgmoon = require 'pgmoon'
        local server = new_server()
        server:on('receive', function(_, fd, _, data)
          if data == 'ping' then return server:send(fd, 'pong') end
          local pg = pgmoon.new { host = '127.0.0.1', port = arg[2], database = 'postgres', user = 'app',
            password = 'secret' }
          assert(pg:connect())
          emit('type', pg.sock_type, pg.sock:getreusedtimes())
          if data == 'slow' then
            emit 'waiting'
            return emit('slow', pg:query("select pg_sleep(0.5), 1 as one")[1].one)
          end
          pg:query 'create table if not exists t (id int, name text)'
          pg:query('insert into t values ($1, $2)', 7, "it's")
          local rows = pg:query 'select * from t'
          emit('rows', #rows, rows[1].id, rows[1].name)
          emit('error', (pg:query 'select nonsense'))
          emit('large', #pg:query("select repeat('x', 1000000) as text")[1].text)
          emit('keep', pg:keepalive())
        end)
        run(server)
      ]], { args = { tostring(port) } })
      app:connect():send 'slow'
      app:expect 'waiting'
      local client = app:connect()
      client:send 'ping'
      assert.equal('pong', client:receive(4))
      assert.equal(0, app:count 'slow')
      app:connect():send 'go'
      app:expect('type', 'nginx', 0)
      app:expect('rows', 1, 7, "it's")
      app:expect('error', nil)
      app:expect('large', 1000000)
      app:expect('keep', 1)
      app:expect('slow', 1)
      app:connect():send 'again'
      app:expect('type', 'nginx', 1)
      app:stop()
      postgres:kill 'INT'
      postgres:wait()
    end)
  end)
end)
