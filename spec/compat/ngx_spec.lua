local support = require 'support'

describe('srvlua.compat.ngx', function()
  after_each(support.cleanup)

  it('sets one global, once, and takes nobody else\'s place', function()
    local app = support.boot('PROCESS', [[
      local compat = require 'srvlua.compat.ngx'
      emit('fields', rawget(srvlua, 'compat'), ngx)
      ngx = { other = true }
      emit('foreign', (pcall(compat.install)), ngx.other)
      ngx = nil
      compat.install()
      local first = ngx
      compat.install()
      emit('same', first == ngx)
    ]], { start = false })
    assert.same({}, { app:expect 'fields' })
    app:expect('foreign', false, true)
    app:expect('same', true)
  end)

  it('raises for what it does not have', function()
    local app = support.boot('PROCESS', [[
      require('srvlua.compat.ngx').install()
      for _, read in ipairs { function() return ngx.say end, function() return ngx.socket.stream end,
        function() return ngx.ctx end, function() ngx.ctx = {} end } do
        emit('raised', pcall(read))
      end
      ngx.own = 1
      emit('own', ngx.own)
    ]], { start = false })
    for _, text in ipairs { 'ngx.say is not available in srvlua', 'ngx.socket.stream is not available in srvlua',
      'ngx.ctx', 'ngx.ctx cannot be replaced' } do
      local _, message = app:expect('raised', false)
      assert.truthy(message:find(text, 1, true), message)
    end
    app:expect('own', 1)
  end)

  it('has the functions on texts', function()
    local app = support.boot('PROCESS', [=[
      require('srvlua.compat.ngx').install()
      emit('digests', ngx.md5 'abc', #ngx.md5_bin '', ngx.md5(nil), ngx.md5(12), #ngx.sha1_bin 'x',
        ngx.encode_base64(ngx.hmac_sha1('key', 'The quick brown fox jumps over the lazy dog')),
        ngx.crc32_short '123456789', ngx.crc32_short '')
      emit('encode', ngx.encode_base64 'a\0b?', ngx.encode_base64 '', ngx.encode_base64('a', true),
        ngx.encode_base64(1))
      emit('decode', ngx.decode_base64 'aGk=', ngx.decode_base64 'aGk', ngx.decode_base64 '', ngx.decode_base64 'a',
        ngx.decode_base64 'a b=', (pcall(ngx.decode_base64)))
      local all = {}
      for i = 0, 255 do all[i + 1] = string.char(i) end
      all = table.concat(all)
      emit('round', ngx.decode_base64(ngx.encode_base64(all)) == all, ngx.unescape_uri(ngx.escape_uri(all)) == all)
      emit('escape', ngx.escape_uri "a b&c/-._~!*'()+ü\0", ngx.escape_uri('/a b?c#d%e&f', 0),
        (pcall(ngx.escape_uri, 'x', 1)))
      emit('unescape', ngx.unescape_uri 'a%20b+c%zz%4', ngx.unescape_uri(nil))
      emit('constants', ngx.EMERG, ngx.ALERT, ngx.CRIT, ngx.ERR, ngx.WARN, ngx.NOTICE, ngx.INFO, ngx.DEBUG)
      emit('others', ngx.null == srvlua.json.null, ngx.get_phase(), ngx.config.ngx_lua_version >= 10000,
        ngx.update_time(), ngx.worker.id(), ngx.worker.exiting())
    ]=], { start = false })
    app:expect('digests', '900150983cd24fb0d6963f7d28e17f72', 16, 'd41d8cd98f00b204e9800998ecf8427e',
      'c20ad4d76fe97759aa27a0c99bff6710', 20, '3nybhbi3iqa8ino29wqQcBydtNk=', 3421780262, 0)
    app:expect('encode', 'YQBiPw==', '', 'YQ', 'MQ==')
    app:expect('decode', 'hi', 'hi', '', nil, nil, false)
    app:expect('round', true, true)
    app:expect('escape', "a%20b%26c%2F-._~!*'()%2B%C3%BC%00", '/a%20b%3Fc%23d%25e&f', false)
    app:expect('unescape', 'a b c%zz%4', '')
    app:expect('constants', 1, 2, 3, 4, 5, 6, 7, 8)
    app:expect('others', true, 'timer', true, nil, nil, false)
  end)

  support.in_both_modes(function(mode)
    it('is there in every process, ' .. mode, function()
      local app = support.boot(mode, [[
        require('srvlua.compat.ngx').install()
        local server = new_server { worker_num = 2, log_level = 'debug' }
        server:on('receive', function(_, _, _, data)
          emit('worker', ngx.worker.pid() == srvlua.getpid(), ngx.worker.id(), ngx.worker.count(), ngx.worker.exiting())
          emit('time', math.abs(ngx.now() - os.time()) < 5, math.abs(ngx.time() - os.time()) < 5, ngx.sleep(0.01))
          ngx.ctx.mark = data
          ngx.sleep(0)
          emit('ctx', ngx.ctx.mark)
          ngx.log(ngx.WARN, 'warned of ', 7, nil, true)
          ngx.log(ngx.CRIT, 'critical')
          emit('bad level', (pcall(ngx.log, 9, 'x')), (pcall(ngx.log, 'x')))
        end)
        run(server)
      ]])
      app:connect():send 'one'
      local _, id = app:expect('worker', true)
      assert.is_true(id == 0 or id == 1)
      app:expect('time', true, true, nil)
      app:expect('ctx', 'one')
      app:logs 'warned of 7niltrue'
      app:logs 'critical'
      app:expect('bad level', false, false)
    end)

    it('runs timers, early when the worker is to leave, ' .. mode, function()
      local app = support.boot(mode, [[
        require('srvlua.compat.ngx').install()
        local server = new_server { max_wait_time = 20 }
        server:on('receive', function()
          emit('at', ngx.timer.at(0.01, function(...) ngx.sleep(0.01) emit('fired', ...) end, 'x', nil, 3))
          local turns = 0
          ngx.timer.every(0.01, function(premature, name)
            turns = turns + 1
            if turns == 3 or premature then emit('turn', premature, name) end
          end, 'y')
          ngx.timer.at(1000, function(...) emit('late', ...) emit('refused', ngx.timer.at(1, print)) end, 'z')
          for _, call in ipairs { { -1, print }, { 'x', print }, { 1 } } do
            emit('raised', (pcall(ngx.timer.at, unpack(call))), (pcall(ngx.timer.every, unpack(call))))
          end
          emit('every', (pcall(ngx.timer.every, 0, print)))
        end)
        run(server)
      ]])
      app:connect():send 'go'
      app:expect('at', 1)
      app:expect('fired', false, 'x', nil, 3)
      app:expect('turn', false, 'y')
      for _ = 1, 3 do
        app:expect('raised', false, false)
      end
      app:expect('every', false)
      local begin = support.now()
      assert.equal(0, app:stop())
      app:expect('turn', true, 'y')
      app:expect('late', true, 'z')
      app:expect('refused', nil, 'process exiting')
      assert.is_true(support.now() - begin < 10)
    end)

    it('spawns, waits for and kills threads, ' .. mode, function()
      local app = support.boot(mode, [[
        require('srvlua.compat.ngx').install()
        local server, lock = new_server(), srvlua.Lock()
        server:on('receive', function()
          lock:lock()
          local spawn, wait, kill = ngx.thread.spawn, ngx.thread.wait, ngx.thread.kill
          local function after(seconds, ...) ngx.sleep(seconds) return ... end
          emit('at once', wait(spawn(function(...) return ... end, 1, nil, 3)))
          local slow, quick = spawn(after, 0.2, 'slow'), spawn(after, 0.02, 'quick')
          emit('first', wait(slow, quick))
          emit('second', wait(slow))
          emit('again', wait(slow))
          emit('error', wait(spawn(function() ngx.sleep(0) error('broken', 0) end)))
          local ran = false
          local victim = spawn(function() ngx.sleep(0.02) ran = true end)
          emit('killed', kill(victim))
          emit('twice', kill(victim))
          emit('waited', wait(victim))
          ngx.sleep(0.05)
          emit('ran', ran)
          local waits = spawn(function() lock:lock() end)
          emit('no lock', kill(waits))
          lock:unlock()
          ngx.sleep(0.05)
          emit('free', lock:trylock())
          local done = spawn(function() return 1 end)
          emit('dead', kill(done))
          emit('raised', (pcall(spawn)), (pcall(wait)), (pcall(wait, {})), (pcall(kill, {})))
        end)
        run(server)
      ]])
      app:connect():send 'go'
      app:expect('at once', true, 1, nil, 3)
      app:expect('first', true, 'quick')
      app:expect('second', true, 'slow')
      app:expect('again', nil, 'already waited or killed')
      app:expect('error', false, 'broken')
      app:logs 'uncaught error in ngx.thread: broken'
      app:expect('killed', 1)
      app:expect('twice', nil, 'already waited or killed')
      app:expect('waited', nil, 'already waited or killed')
      app:expect('ran', false)
      app:expect('no lock', 1)
      app:expect('free', true)
      app:expect('dead', nil, 'already terminated')
      app:expect('raised', false, false, false, false)
    end)
  end)
end)
