-- What set() and start() say about the settings of framing, and which ports get them.
local support = require 'support'

describe('settings of framing', function()
  after_each(support.cleanup)

  -- Runs `source` in an app that has `server` and `try(port_or_server, settings)`, and is not started.
  local function boot(source, mode)
    return support.boot(mode or 'PROCESS', [[
      local server = new_server()
      server:on('receive', function() end)
      local function try(settings, object)
        object = object or server
        local ok, message = pcall(object.set, object, settings)
        emit('try', ok, tostring(message))
      end
    ]] .. source, { start = false })
  end

  it('are judged by set', function()
    local app = boot [[
      for _, settings in ipairs {
        { package_eof = '' }, { package_eof = '123456789' }, { package_eof = 5 },
        { package_length_type = 'x' }, { package_length_type = 'NN' }, { package_length_type = '' },
        { package_length_type = 'i' }, { package_length_offset = 8181 }, { package_length_offset = -1 },
        { package_body_offset = 8181 }, { package_body_start = 1.5 }, { open_length_check = 'yes' },
        { open_eof_split = 2 }, { package_timeout = -1 }, { package_length_func = 5 },
        { open_mqtt_protocol = 'x' }, { open_redis_protocol = 7 },
      } do try(settings) end
      emit('setting', server.setting)
    ]]
    for _, name in ipairs { 'package_eof', 'package_eof', 'package_eof', 'package_length_type', 'package_length_type',
      'package_length_type', 'package_length_type', 'package_length_offset', 'package_length_offset',
      'package_body_offset', 'package_body_start', 'open_length_check', 'open_eof_split', 'package_timeout',
      'package_length_func', 'open_mqtt_protocol', 'open_redis_protocol' } do
      local ok, message = app:expect 'try'
      assert.is_false(ok)
      assert.truthy(message:find("bad setting '" .. name .. "'", 1, true), message)
    end
    assert.same({ worker_num = 1 }, (app:expect 'setting'))
  end)

  it('take every letter, and a mark that holds NUL', function()
    local app = boot [[
      for letter in ('cCsSlLnNvVqQJP'):gmatch '.' do try { package_length_type = letter } end
      try { package_eof = '\0\0' }
      try { package_eof = '12345678' }
      try { package_length_offset = 8180, package_body_offset = 8180 }
      try { package_length_offset = false, package_body_offset = false, package_timeout = 1.5 }
      try { open_length_check = 1, open_eof_check = 0 }
    ]]
    for _ = 1, 14 + 5 do app:expect('try', true) end
  end)

  it('refuse a function with upvalues and name the first', function()
    local app = boot [[
      local first, second = 1, 2
      try { package_length_func = function() return first + second end }
      try { package_length_func = print }
      try { package_length_func = setmetatable({}, { __call = function() return 3 end }) }
      try { package_length_func = function(data) return #data end }
    ]]
    for _, word in ipairs { "upvalue 'first'", 'C function', 'table' } do
      local ok, message = app:expect 'try'
      assert.is_false(ok)
      assert.truthy(message:find(word, 1, true), message)
    end
    app:expect('try', true)
  end)

  support.in_both_modes(function(mode)
    it('that switch on two framings: the first in the order wins, and one warning names both, ' .. mode, function()
      local app = support.boot(mode, [[
        local server = new_server { open_redis_protocol = true, open_length_check = true, package_body_offset = 4 }
        server:addListener('127.0.0.1', 0, srvlua.SOCK_TCP)
        server:addListener('127.0.0.1', 0, srvlua.SOCK_TCP):set { open_length_check = true, open_eof_split = true,
          open_eof_check = true, package_eof = '\n' }
        server:addListener('127.0.0.1', 0, srvlua.SOCK_TCP):set { open_eof_split = true, open_eof_check = true }
        server:on('receive', function(self, fd, reactor, data) self:send(fd, '<' .. data .. '>') end)
        run(server)
      ]])
      local function name(port) return ('port 127.0.0.1:%d: '):format(app.where[port]) end
      assert.truthy(app:logs(name(1)):find('WARNING.*open_length_check and open_redis_protocol'))
      assert.truthy(app:logs(name(3)):find('WARNING.*open_eof_split and open_length_check'))
      assert.equal(0, app:log_count(name(2)))
      assert.equal(0, app:log_count(name(4)))
      assert.equal(1, app:log_count(name(1)))
      for _, port in ipairs { 1, 2 } do
        local client = app:connect(port)
        client:send '\0\0\0\1x\0\0\0\2yz'
        assert.equal('<\0\0\0\1x><\0\0\0\2yz>', client:receive(15))
      end
      local client = app:connect(3)
      client:send '\0\0\0\1\nx\n'
      assert.equal('<\0\0\0\1\n><x\n>', client:receive(11))
    end)

    it('are inherited by ports without settings of their own, and by no others, ' .. mode, function()
      local app = support.boot(mode, [[
        local server = srvlua.Server('127.0.0.1', 0, srvlua[arg[1] ])
        local heir = server:addListener('127.0.0.1', 0, srvlua.SOCK_TCP)
        local raw = server:addListener('127.0.0.1', 0, srvlua.SOCK_TCP)
        local mqtt = server:addListener('127.0.0.1', 0, srvlua.SOCK_TCP)
        local datagrams = server:addListener('127.0.0.1', 0, srvlua.SOCK_UDP)
        raw:set {}
        mqtt:set { open_mqtt_protocol = true }
        server:set { worker_num = 1, open_eof_split = true, package_eof = '\0\0' }
        server:on('receive', function(self, fd, reactor, data) self:send(fd, #data .. ' ') end)
        server:on('packet', function(self, data, from) self:sendto(from.address, from.port, #data .. ' ') end)
        run(server)
      ]])
      local function answers(port, data, expected)
        local client = app:connect(port)
        client:send_at_once(data)
        assert.equal(expected, client:receive(#expected))
      end
      answers(1, 'a\0b\0\0cd\0\0', '5 4 ')
      answers(2, 'a\0b\0\0cd\0\0', '5 4 ')
      answers(3, 'a\0b\0\0cd\0\0', '9 ')
      answers(4, '\xc0\0\x30\3\0\1a', '2 5 ')
      local client = app:datagrams(5)
      client:send 'a\0b\0\0c'
      assert.equal('6 ', client:receive())
      assert.equal(0, app:log_count 'no effect')
    end)

    it('that the socket cannot use get one notice, on the port they were set on, ' .. mode, function()
      local directory = support.directory()
      local app = support.boot(mode, [[
        local server = new_server { open_tcp_nodelay = true, open_eof_check = true }
        server:addListener('127.0.0.1', 0, srvlua.SOCK_UDP)
        server:addListener('127.0.0.1', 0, srvlua.SOCK_UDP):set { open_length_check = true,
          kernel_socket_recv_buffer_size = 65536 }
        server:addListener(arg[2], 0, srvlua.SOCK_UNIX_STREAM):set { tcp_keepidle = 5, open_mqtt_protocol = true }
        server:on('receive', function() end)
        server:on('packet', function() end)
        run(server)
      ]], { args = { directory .. '/socket' } })
      local udp = ('port 127.0.0.1:%d/udp'):format(app.where[3])
      assert.truthy(app:logs("'open_length_check' has no effect on " .. udp):find 'NOTICE')
      assert.truthy(app:logs("'tcp_keepidle' has no effect on port " .. directory .. '/socket'):find 'NOTICE')
      assert.equal(2, app:log_count 'has no effect')
    end)
  end)

  it('whose switch is off get a notice each', function()
    local app = support.boot('BASE', [[
      local server = new_server { package_length_func = function() return 3 end, package_eof = '\n',
        package_length_type = 'n', proxy_protocol_trusted = { '10.0.0.0/8' } }
      server:addListener('127.0.0.1', 0, srvlua.SOCK_TCP)
      server:addListener('127.0.0.1', 0, srvlua.SOCK_TCP):set { open_eof_split = true, package_eof = '\n' }
      server:on('receive', function(self, fd, reactor, data) self:send(fd, data) end)
      run(server)
    ]])
    for name, switch in pairs {
      package_length_func = 'open_length_check', package_eof = 'open_eof_split',
      package_length_type = 'open_length_check', proxy_protocol_trusted = 'open_proxy_protocol',
    } do
      local line = ("'%s' has no effect on port 127.0.0.1:%d: %s is off"):format(name, app.where[1], switch)
      assert.truthy(app:logs(line):find 'NOTICE')
    end
    assert.equal(4, app:log_count 'has no effect')
    assert.equal('abcd', app:connect():echo 'abcd')
  end)

  it('of a unix socket are named by its path when a client breaks them', function()
    local path = support.directory() .. '/socket'
    local app = support.boot('PROCESS', [[
      local server = srvlua.Server(arg[2], 0, srvlua[arg[1] ], srvlua.SOCK_UNIX_STREAM)
      server:set { worker_num = 1, open_eof_split = true, package_max_length = '64k' }
      server:on('receive', function() end)
      run(server)
    ]], { args = { path }, where = { path } })
    app:connect():send_at_once(('x'):rep(70000))
    assert.truthy(app:logs(('session 1 (unix socket %s) is closed, error 1201'):format(path)):find 'WARNING')
  end)

  it('leave a stream port in need of a receive callback', function()
    local app = support.boot('PROCESS', [[
      local server = new_server { open_redis_protocol = true }
      emit('started', server:start())
    ]], { start = false })
    local ok, message, code = app:expect 'started'
    assert.is_false(ok)
    assert.equal(9015, code)
    assert.truthy(message:find "'receive'", message)
  end)
end)
