local support = require 'support'

describe('accepting in PROCESS mode', function()
  after_each(support.cleanup)

  it("goes on with one reactor while a callback keeps the master's main thread", function()
    local app = support.boot('PROCESS', [[
      local heard = srvlua.Atomic()
      local server = new_server { reactor_num = 1 }
      server:on('receive', function(s, fd, _, data)
        heard:set(1)
        s:send(fd, data)
      end)
      run(server, function()
        srvlua.Timer.after(1, function()
          emit 'busy'
          local last = os.time() + 10
          while heard:get() == 0 and os.time() < last do end
          emit('done', heard:get())
        end)
      end)
    ]])
    app:expect 'busy'
    local client = app:connect()
    client:send 'hello'
    assert.equal('hello', client:receive(5))
    app:expect('done', 1)
  end)

  it('deals clients out to several reactors in turn', function()
    local app = support.boot('PROCESS', [[
      local server = new_server { reactor_num = 3, worker_num = 3 }
      server:on('connect', function(_, fd, reactor_id) emit('connect', fd, reactor_id) end)
      server:on('receive', function() end)
      run(server)
    ]])
    local clients, seen = {}, {}
    for fd = 1, 6 do
      clients[fd] = app:connect()
      local _, reactor_id = app:expect('connect', fd)
      seen[fd] = reactor_id
    end
    assert.same({ 0, 1, 2, 0, 1, 2 }, seen)
    for _, client in ipairs(clients) do
      client:close()
    end
  end)

  it('ends with one reactor, too, when the server shuts down', function()
    local app = support.boot('PROCESS', [[
      local server = new_server { reactor_num = 1 }
      server:on('receive', function(s, fd, _, data) s:send(fd, data) end)
      run(server)
    ]])
    local client = app:connect()
    client:send 'hello'
    assert.equal('hello', client:receive(5))
    app:kill 'TERM'
    assert.equal(0, app:wait())
    assert.is_nil(require('socket').connect('127.0.0.1', app.where[1]))
  end)
end)
