local socket = require 'socket'
local support = require 'support'

-- Every message is 32 bytes that say whose it is and which one: `CCCC SSSSSSSS xxx…\n`.
local SIZE, CLIENTS, DEPTH = 32, 200, 8
local SECONDS = tonumber(os.getenv 'CHAOS_SECONDS') or 30
local KILL_EVERY, RELOAD_EVERY = 0.2, 1
local PATIENCE = 2 -- seconds without an answer after which a client gives its window up for lost

local APP = [[
  local server = new_server { worker_num = 2, reactor_num = 2, respawn_burst = 1000 }
  server:on('workerStart', function(_, id) emit('worker', id, srvlua.getpid()) end)
  server:on('workerError', function(_, id, pid, code, signal) emit('workerError', id, pid, code, signal) end)
  server:on('afterReload', function(_, ok) emit('afterReload', ok) end)
  server:on('receive', function(s, fd, _, data) s:send(fd, data) end)
  run(server)
]]

local function message(client, number)
  local text = ('%04d %08d '):format(client.number, number)
  return text .. ('x'):rep(SIZE - #text - 1) .. '\n'
end

local function new_client(app, number)
  local sock = app:connect().sock
  sock:settimeout(0)
  return {
    number = number, sock = sock, input = '', output = '',
    sent = 0, expected = 0, answered = 0, losses = 0, -- losses: gaps in what came back
  }
end

-- Keeps DEPTH messages under way; a window that is answered by nothing for long is given up.
local function talk(client, now)
  while client.sent - client.expected < DEPTH do
    client.output = client.output .. message(client, client.sent)
    client.sent = client.sent + 1
  end
  if client.output ~= '' then
    local last, failure, partial = client.sock:send(client.output)
    assert(last or failure == 'timeout', failure)
    client.output = client.output:sub((last or partial) + 1)
  end
  if client.waits_for ~= client.expected then
    client.waits_for, client.since = client.expected, now
  elseif now - client.since > PATIENCE then
    client.losses = client.losses + 1
    client.expected = client.sent
  end
end

-- Answers must be this client's, in order, none twice; a gap is what a killed worker was running.
local function listen(client)
  local data, failure, partial = client.sock:receive(65536)
  assert(data or failure == 'timeout', ('client %d: connection lost: %s'):format(client.number, tostring(failure)))
  client.input = client.input .. (data or partial)
  while #client.input >= SIZE do
    local answer = client.input:sub(1, SIZE)
    client.input = client.input:sub(SIZE + 1)
    local number = assert(tonumber(answer:match '^%d+ (%d+)'), answer)
    assert.equal(message(client, number), answer)
    assert.is_true(number >= client.expected,
                   ('client %d: %d came after %d'):format(client.number, number, client.expected - 1))
    if number > client.expected then
      client.losses = client.losses + 1
    end
    client.expected, client.answered = number + 1, client.answered + 1
  end
end

-- The pids of the workers as they are announced; a killed one is not killed twice.
local function follow_workers(app, pids)
  while app:count 'worker' > 0 do
    local id, pid = app:expect 'worker'
    pids[id] = pid
  end
end

describe('a server whose workers are killed and reloaded all the time', function()
  after_each(support.cleanup)

  it('loses no connection, mixes nothing up, and names what it lost', function()
    local app = support.boot('PROCESS', APP)
    local clients, socks, of_sock, pids = {}, {}, {}, {}
    for i = 1, CLIENTS do
      clients[i] = new_client(app, i)
      socks[i], of_sock[clients[i].sock] = clients[i].sock, clients[i]
    end
    local now = support.now()
    local last, next_kill, next_reload, kills, reloads = now + SECONDS, now + KILL_EVERY, now + RELOAD_EVERY, 0, 0
    while now < last do
      for _, client in ipairs(clients) do
        talk(client, now)
      end
      for _, sock in ipairs((socket.select(socks, nil, 0.005))) do
        listen(of_sock[sock])
      end
      now = support.now()
      if now >= next_kill then
        follow_workers(app, pids)
        local victim = math.random(0, 1)
        if pids[victim] and support.kill(pids[victim], 'KILL') then kills = kills + 1 end
        pids[victim], next_kill = nil, now + KILL_EVERY
      end
      if now >= next_reload then
        app:kill 'USR1'
        reloads, next_reload = reloads + 1, now + RELOAD_EVERY
      end
    end
    local answered, losses = 0, 0
    for _, client in ipairs(clients) do
      assert.is_true(client.answered > 0)
      answered, losses = answered + client.answered, losses + client.losses
    end
    local named = app:log_count 'that request is lost'
    assert.is_true(answered > CLIENTS * DEPTH)
    assert.is_true(kills >= SECONDS and reloads >= SECONDS * 0.7, ('%d kills, %d reloads'):format(kills, reloads))
    assert.is_true(app:count('afterReload', true) >= 1)
    assert.is_true(losses <= named, ('%d gaps, but %d losses are named in the log'):format(losses, named))
    -- the victim may be a successor that was not ready yet: then its reload has failed, and that is said
    local failed = app:log_count 'failed before it was ready' + app:log_count 'the reload failed'
    assert.equal(failed, app:log_count ' ERROR ')
    assert.equal(0, app:stop())
  end)
end)
