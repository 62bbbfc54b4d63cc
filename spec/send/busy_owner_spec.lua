local support = require 'support'

describe('a send to a connection of another worker that takes nothing in', function()
  after_each(support.cleanup)

  -- What was not sent once counted as queued for ever, and all later sends to that client failed with 1008.
  it('is given up, and later sends go through', function()
    local app = support.boot('BASE', [[
      local server = new_server {
        worker_num = 2, buffer_output_size = '4M', send_yield = false, enable_coroutine = false,
      }
      server:on('connect', function(s, fd) s:send(fd, ('%d %d\n'):format(fd, s:getWorkerId())) end)
      server:on('receive', function(s, fd, _, data)
        local order, number = data:match '^(%a+) ?(%d*)\n$'
        if order == 'block' then
          s:send(fd, 'blocked\n')
          os.execute 'sleep 6.5'
        elseif order == 'big' then
          local ok, _, code = s:send(tonumber(number), ('x'):rep(3 * 1048576))
          s:send(fd, ('%s %s\n'):format(ok, code))
        elseif order == 'small' then
          local ok, _, code = s:send(tonumber(number), 'hello\n')
          s:send(fd, ('%s %s\n'):format(ok, code))
        end
      end)
      run(server)
    ]])
    local clients, ids = {}, {}
    for _ = 1, 200 do -- one of each worker
      local client = app:connect()
      local id, worker = client:line():match '(%d+) (%d+)'
      clients[worker], ids[worker] = client, id
      if clients['0'] and clients['1'] then break end
    end
    clients['1']:send 'block\n'
    assert.equal('blocked', clients['1']:line())
    clients['0']:send(('big %d\n'):format(ids['1']))
    assert.equal('false 1008', clients['0']:line()) -- after five seconds
    clients['0']:send(('small %d\n'):format(ids['1']))
    assert.equal('true nil', clients['0']:line())
    assert.equal('hello', clients['1']:line())
    app:stop()
  end)
end)
