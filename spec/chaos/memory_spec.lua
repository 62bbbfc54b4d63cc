local ffi = require 'ffi'
local support = require 'support'

if not pcall(ffi.typeof, 'struct spec_rlimit') then
  ffi.cdef [[
    struct spec_rlimit { unsigned long soft, hard; };
    int getrlimit(int resource, struct spec_rlimit *limit);
    int setrlimit(int resource, const struct spec_rlimit *limit);
    int setsockopt(int fd, int level, int name, const void *value, unsigned length);
  ]]
end

local RLIMIT_NOFILE, SOL_SOCKET, SO_RCVBUF = 7, 1, 8
local CLIENTS, LIMIT = 10000, 32 * 1024 * 1024

-- One worker sends to everybody, again and again, until nothing more is accepted.
local APP = ([[
  local server = new_server {
    worker_num = 2, max_connection = %d, output_memory_limit = %d, backlog = 4096,
    kernel_socket_send_buffer_size = 4096, send_yield = false,
  }
  local news = ('news '):rep(200)
  local function broadcast(s)
    local accepted = 0
    for fd in s.connections() do
      if s:send(fd, news) then accepted = accepted + 1 end
    end
    return accepted
  end
  server:on('receive', function(s, fd, _, data)
    if data == 'count\n' then return s:send(fd, s:stats().connection_num .. '\n') end
    local quiet, total = 0, 0
    local timer
    timer = s:tick(5, function()
      local accepted = broadcast(s)
      total, quiet = total + accepted, accepted == 0 and quiet + 1 or 0
      if quiet == 5 then
        s:clearTimer(timer)
        emit('full', total)
      end
    end)
  end)
  run(server)
]]):format(CLIENTS + 100, LIMIT)

local function allow_descriptors(count)
  local limit = ffi.new 'struct spec_rlimit'
  ffi.C.getrlimit(RLIMIT_NOFILE, limit)
  if limit.hard < count then limit.hard = count end -- works for root
  limit.soft = math.max(tonumber(limit.soft), count)
  return ffi.C.setrlimit(RLIMIT_NOFILE, limit) == 0
end

-- Memory of its own and its share of what it shares, in bytes.
local function memory(pid)
  local text = assert(support.read_file('/proc/' .. pid .. '/smaps_rollup'))
  return tonumber(text:match 'Pss:%s+(%d+) kB') * 1024
end

describe('ten thousand clients that never read', function()
  after_each(support.cleanup)

  for _, mode in ipairs { 'PROCESS', 'BASE' } do
    it('cost no more than output_memory_limit allows, mode ' .. mode, function()
      if support.sanitizer then
        pending 'a sanitizer needs memory of its own'
        return
      end
      if not allow_descriptors(CLIENTS + 200) then
        pending 'the limit of open files cannot be raised here'
        return
      end
      local app = support.boot(mode, APP)
      local small, clients = ffi.new('int[1]', 2048), {}
      local asking = app:connect()
      for i = 1, CLIENTS do
        clients[i] = app:connect().sock
        ffi.C.setsockopt(clients[i]:getfd(), SOL_SOCKET, SO_RCVBUF, small, 4)
      end
      support.eventually(function()
        asking:send 'count\n'
        return tonumber(asking:line()) == CLIENTS + 1
      end, 30)
      local function total()
        local sum = 0
        for _, pid in ipairs(mode == 'PROCESS' and { app.pid } or app:members()) do -- who owns the sockets
          sum = sum + memory(pid)
        end
        return sum
      end
      local before = total()
      asking:send 'go\n'
      local deadline, most = support.now() + 90, 0
      while app:count 'full' == 0 do
        assert.is_true(support.now() < deadline, 'the broadcast never ends')
        most = math.max(most, total() - before)
      end
      most = math.max(most, total() - before)
      assert.is_true(most > LIMIT / 4, ('only %d KiB were queued'):format(most / 1024))
      -- besides the queues: BASE, the worker's Lua garbage; pages of the rings
      assert.is_true(most < LIMIT * 1.1 + 8 * 1024 * 1024, ('%d KiB more in use'):format(most / 1024))
    end)
  end
end)
