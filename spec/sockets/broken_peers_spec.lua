local support = require 'support'
local peers = require 'support.peer'

-- A conversation with all kinds of receiving. Whatever the peer does: results or `nil, err[, partial]`; and what was
-- returned, with the partial data, is what was sent, in its order.
local APP = [[
  local server = new_server()
  local PORT = tonumber(arg[2])
  server:on('receive', function(s, fd, rid, data)
    local sock = srvlua.socket.tcp()
    sock:settimeouts(2000, 2000, 2000)
    local got, calls = {}, {
      function() return sock:receive(3) end,
      function() local line, err, partial = sock:receive() return line and line .. '\n', err, partial end,
      function() return sock:receiveany(1) end,
      sock:receiveuntil('##', { inclusive = true }),
      function() return sock:receive(2) end,
      function() return sock:receive '*a' end,
    }
    local ok, err = sock:connect('127.0.0.1', PORT)
    local partial
    for i = 1, ok and #calls or 0 do
      ok, err, partial = calls[i]()
      got[i] = ok or partial or ''
      if not ok then break end
    end
    local sent, why = sock:send 'x'
    emit('got', table.concat(got), err, sent or why)
    sock:close()
    collectgarbage 'step'
  end)
  run(server)
]]
local TEXT = 'abcline\nzinc##lu##part##de and the rest'

describe('client sockets with broken peers', function()
  after_each(function()
    peers.cleanup()
    support.cleanup()
  end)

  for _, way in ipairs { 'close', 'reset' } do
    for _, manner in ipairs { 'send', 'drip' } do
      it(('lose nothing that came before the end (%s, %s)'):format(way, manner), function()
        local listener = peers.listen()
        local app = support.boot('BASE', APP, { args = { listener.port } })
        local client = app:connect()
        for length = 0, #TEXT do
          client:send 'x'
          local peer = listener:accept()
          if length > 0 then peer[manner](peer, TEXT:sub(1, length)) end
          peer[way](peer)
          local got, err = app:expect 'got'
          if way == 'close' then
            assert.equal(TEXT:sub(1, length), got)
            assert.is_true(err == nil or err == 'closed', err)
          else -- a reset takes what was not read yet with it
            assert.equal(TEXT:sub(1, #got), got)
            assert.is_true(err == nil or err == 'closed' or err == 'connection reset by peer', err)
          end
        end
        assert.equal(0, app:log_count 'ERROR')
      end)
    end
  end

  it('end a send with an error when the peer goes', function()
    local listener = peers.listen()
    local app = support.boot('PROCESS', [[
      local server = new_server()
      local PORT = tonumber(arg[2])
      server:on('receive', function(s, fd, rid, data)
        local sock = assert(srvlua.socket.connect('127.0.0.1', PORT))
        emit('sent', sock:send { ('x'):rep(2^22), ('y'):rep(2^22) })
        emit('then', sock:send 'z')
      end)
      run(server)
    ]], { args = { listener.port } })
    local client = app:connect()
    for _, way in ipairs { 'close', 'reset' } do
      client:send 'go'
      local peer = listener:accept()
      peer:receive(1000)
      peer[way](peer)
      local sent, err = app:expect 'sent'
      assert.is_nil(sent)
      assert.is_true(err == 'connection reset by peer' or err == 'broken pipe', err)
      assert.same({ nil, 'closed' }, { app:expect 'then' })
    end
  end)
end)
