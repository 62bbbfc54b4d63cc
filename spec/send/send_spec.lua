local support = require 'support'

describe('send', function()
  after_each(support.cleanup)

  support.in_both_modes(function(mode)
    describe('in ' .. mode .. ' mode', function()
      it('refuses what it cannot do, with a code', function()
        local app = support.boot(mode, [[
          local server = new_server { buffer_output_size = 100000 }
          local function code(...) return (...) == false and (select(3, ...)) or (...) end
          emit('before', code(server:send(1, 'x')))
          server:on('receive', function(s, fd)
            emit('codes', code(s:send(0, 'x')), code(s:send(-1, 'x')), code(s:send(99, 'x')), code(s:send(2 ^ 53, 'x')),
              code(s:send(fd, '')), code(s:send(fd, ('x'):rep(100001))), code(s:send('/no/such', 'x')))
            emit('last', s:getLastError())
            emit('raises', (pcall(s.send, s)), (pcall(s.send, s, fd)), (pcall(s.send, s, nil, 'x')),
              (pcall(s.send, s, 'path', 'x')), (pcall(s.send, s, fd, {})), (pcall(s.send, s, 1.5, 'x')),
              (pcall(s.send, s, '1', 'x')))
            emit('good', s:send(fd, ('x'):rep(100000)))
          end)
          run(server)
        ]])
        app:expect('before', 509)
        local client = app:connect()
        client:send 'x'
        assert.same({ 1006, 1006, 1005, 1005, 550, 1202, 507 }, { app:expect 'codes' })
        app:expect('last', 507)
        assert.same({ false, false, false, false, false, false, false }, { app:expect 'raises' })
        app:expect('good', true)
        client:receive(100000)
      end)

      it('works from every kind of process and callback', function()
        local app = support.boot(mode, [[
          local server = new_server { worker_num = 2 }
          local function watch(s, name)
            s:tick(5, function(id)
              if not s:exist(1) and arg[1] == 'PROCESS' then return end
              local ok = s:send(1, name .. '\n')
              if ok then s:clearTimer(id) end
            end)
          end
          server:on('workerStart', function(s, id) watch(s, 'worker ' .. id) end)
          server:on('managerStart', function(s) watch(s, 'manager') end)
          server:on('connect', function(s, fd)
            s:send(fd, 'connect\n')
            s:defer(function() s:send(fd, 'deferred\n') end)
          end)
          server:on('receive', function() end)
          run(server, function(s) watch(s, 'start') end)
        ]])
        local client = app:connect()
        local lines = {}
        for _ = 1, 6 do
          lines[client:line()] = true
        end
        assert.same({ connect = true, deferred = true, manager = true, start = true, ['worker 0'] = true,
          ['worker 1'] = true }, lines)
      end)

      it('of several processes to one client never mixes', function()
        local app = support.boot(mode, [[
          local server = new_server { worker_num = 4, socket_buffer_size = '64M' }
          server:on('receive', function() end)
          server:on('workerStart', function(s, id)
            local letter = string.char(97 + id)
            local left = 10
            s:tick(3, function(timer)
              if not s:send(1, '<' .. letter:rep(99998) .. '>') then return end
              left = left - 1
              if left == 0 then s:clearTimer(timer) end
            end)
          end)
          run(server)
        ]])
        local client = app:connect()
        local counts = {}
        for _ = 1, 40 do
          local block = client:receive(100000)
          local letter = block:match '^<(%a)%a+>$'
          assert.is_true(block == '<' .. letter:rep(99998) .. '>')
          counts[letter] = (counts[letter] or 0) + 1
        end
        assert.same({ a = 10, b = 10, c = 10, d = 10 }, counts)
      end)

      it('keeps the order of one process', function()
        local app = support.boot(mode, [[
          local server = new_server()
          server:on('receive', function(s, fd)
            for i = 1, 2000 do s:send(fd, i .. '\n') end
          end)
          run(server)
        ]])
        local client = app:connect()
        client:send 'x'
        for i = 1, 2000 do
          assert.equal(tostring(i), client:line())
        end
      end)

      it('to a full connection fails with 1008 outside of coroutines, and hurts nobody else', function()
        local app = support.boot(mode, [[
          local server = new_server { enable_coroutine = false, socket_buffer_size = 65536,
                                      kernel_socket_send_buffer_size = 65536 }
          server:on('receive', function(s, fd, _, data)
            if data ~= 'fill' then return s:send(fd, data) end
            local accepted = 0
            for _ = 1, 1000 do
              local ok, _, code = s:send(fd, ('x'):rep(60000))
              if not ok then
                emit('full', accepted, code, s:getClientInfo(fd).send_queued_bytes)
                break
              end
              accepted = accepted + 1
            end
          end)
          run(server)
        ]])
        local stuck = app:connect()
        stuck:send 'fill'
        local accepted, code, queued = app:expect 'full'
        assert.equal(1008, code)
        assert.is_true(accepted >= 2 and queued >= 65536)
        assert.equal('fine', app:connect():echo 'fine')
        assert.is_true(#stuck:receive(accepted * 60000) == accepted * 60000)
        assert.equal('again', stuck:echo 'again')
      end)

      it('waits in coroutines under send_yield', function()
        local app = support.boot(mode, [[
          local server = new_server { socket_buffer_size = 65536, kernel_socket_send_buffer_size = 65536 }
          server:on('receive', function(s, fd)
            for i = 1, 50 do
              local ok, message, code = s:send(fd, ('x'):rep(100000))
              if not ok then return emit('failed', i, message, code) end
              if i == 1 then emit 'first' end
            end
            emit 'all'
          end)
          run(server)
        ]])
        local client = app:connect()
        client:send 'x'
        app:expect 'first'
        assert.is_true(#client:receive(5000000) == 5000000)
        app:expect 'all'
      end)

      it('tells of full and empty queues in turn', function()
        local app = support.boot(mode, [[
          local server = new_server { socket_buffer_size = '32M', kernel_socket_send_buffer_size = 65536,
                                      buffer_high_watermark = 200000, buffer_low_watermark = 50000 }
          server:on('receive', function(s, fd)
            for _ = 1, 200 do s:send(fd, ('x'):rep(50000)) end
            emit 'sent'
          end)
          server:on('bufferFull', function(_, fd) emit('full', fd) end)
          server:on('bufferEmpty', function(_, fd) emit('empty', fd) end)
          run(server)
        ]])
        local client = app:connect()
        for _ = 1, 2 do
          client:send 'x'
          app:expect('full', 1)
          app:expect 'sent'
          assert.equal(0, app:count 'empty')
          assert.equal(10000000, #client:receive(10000000))
          app:expect('empty', 1)
          assert.same({}, app:names())
        end
      end)
    end)
  end)
end)

describe('sendfile', function()
  after_each(support.cleanup)

  support.in_both_modes(function(mode)
    it('sends files and parts of files between data, ' .. mode, function()
      local path = support.write_file(support.directory() .. '/file', ('0123456789'):rep(100000))
      local app = support.boot(mode, [[
        local server = new_server()
        server:on('receive', function(s, fd)
          local results = { s:send(fd, '<'), s:sendfile(fd, arg[2]), s:send(fd, '|'), s:sendfile(fd, arg[2], 5, 10),
            s:send(fd, '|'), s:sendfile(fd, arg[2], 999999), s:send(fd, '>') }
          os.remove(arg[2])
          emit('results', results)
          s:close(fd)
        end)
        run(server)
      ]], { args = { path } })
      local client = app:connect()
      client:send 'x'
      assert.same({ true, true, true, true, true, true, true }, (app:expect 'results'))
      local data = client:rest()
      assert.is_true(data == '<' .. ('0123456789'):rep(100000) .. '|5678901234|9>')
    end)

    it('refuses what is no such file or part, ' .. mode, function()
      local directory = support.directory()
      support.write_file(directory .. '/file', '0123456789')
      support.write_file(directory .. '/empty', '')
      local app = support.boot(mode, [[
        local server = new_server { worker_num = 2 }
        local function code(...) return (...) == false and (select(3, ...)) or (...) end
        local file = arg[2] .. '/file'
        server:on('receive', function(s, fd)
          emit('codes', code(s:sendfile(fd, arg[2] .. '/none')), code(s:sendfile(fd, arg[2])),
            code(s:sendfile(fd, arg[2] .. '/empty')), code(s:sendfile(fd, file, 10)), code(s:sendfile(fd, file, -1)),
            code(s:sendfile(fd, file, 0, 11)), code(s:sendfile(fd, file, 0, -1)), code(s:sendfile(fd, ('x'):rep(5000))),
            code(s:sendfile(99, file)), code(s:sendfile(0, file)))
        end)
        run(server, function(s) emit('master', code(s:sendfile(1, file))) end)
      ]], { args = { directory } })
      app:connect():send 'x'
      assert.same({ 2, 9013, 702, 702, 505, 505, 505, 504, 1005, 1006 }, { app:expect 'codes' })
      app:expect('master', mode == 'PROCESS' and 9009 or 1005)
    end)

    it('works from another process, ' .. mode, function()
      local path = support.write_file(support.directory() .. '/file', ('abc'):rep(100000))
      local app = support.boot(mode, [[
        local server = new_server { worker_num = 2 }
        server:on('receive', function() end)
        server:on('managerStart', function(s)
          s:tick(5, function(id)
            if s:sendfile(1, arg[2]) then s:clearTimer(id) end
          end)
        end)
        run(server)
      ]], { args = { path } })
      assert.is_true(app:connect():receive(300000) == ('abc'):rep(100000))
    end)
  end)
end)

describe('sendwait', function()
  after_each(support.cleanup)

  it('blocks until all is out, in BASE mode', function()
    local app = support.boot('BASE', [[
      local server = new_server { kernel_socket_send_buffer_size = 65536 }
      server:on('receive', function(s, fd)
        emit('sent', s:send(fd, 'first '), s:sendwait(fd, ('x'):rep(3000000)))
        emit('left', s:getClientInfo(fd).send_queued_bytes)
        emit('codes', (select(3, s:sendwait(fd, ''))), (select(3, s:sendwait(99, 'x'))))
      end)
      run(server)
    ]])
    local client = app:connect()
    client:send 'x'
    assert.is_true(client:receive(3000006) == 'first ' .. ('x'):rep(3000000))
    app:expect('sent', true, true)
    app:expect('left', 0)
    app:expect('codes', 550, 1005)
  end)

  it('is not for PROCESS mode', function()
    local app = support.boot('PROCESS', [[
      local server = new_server()
      server:on('receive', function(s, fd) emit('code', (select(3, s:sendwait(fd, 'x')))) end)
      run(server)
    ]])
    app:connect():send 'x'
    app:expect('code', 507)
  end)
end)
