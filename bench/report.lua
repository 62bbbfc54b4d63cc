-- report.lua FOLDER: makes the tables and FOLDER/{echo,idle,framing,tls,tasks}.json of the figures that bench/run collected.
-- They come on stdin, one line each; run says what is in them. A ratio is better when higher; 1 is like the raw loop.
--
-- On a machine that does other things, too, look at "quiet": CPU time per echo where it was least disturbed (the 20th
-- percentile of the rounds), raw loop to server. It moves by 1 or 2 % from run to run, the others by more.
local folder = assert(arg[1], 'usage: report.lua FOLDER <FIGURES')

local TITLES = {
  raw = 'raw epoll, C',
  ['lua-BASE'] = 'BASE, Lua',
  ['lua-PROCESS'] = 'PROCESS, Lua',
  ['c-BASE'] = 'BASE, C host',
  ['c-PROCESS'] = 'PROCESS, C host',
  ['raw-tls'] = 'raw epoll, mbedTLS',
  ['tls-BASE'] = 'BASE, TLS',
  ['tls-PROCESS'] = 'PROCESS, TLS',
  ['BASE-raw'] = 'BASE, no framing',
  ['BASE-length'] = 'BASE, length',
  ['BASE-eof'] = 'BASE, EOF split',
  ['PROCESS-raw'] = 'PROCESS, no framing',
  ['PROCESS-length'] = 'PROCESS, length',
  ['PROCESS-eof'] = 'PROCESS, EOF split',
}
local SERVERS = { 'raw', 'lua-BASE', 'lua-PROCESS', 'c-BASE', 'c-PROCESS' }
local DEPTHS = { 1, 16 }
local AIMS = {
  [1] = { ['lua-BASE'] = 0.9, ['lua-PROCESS'] = 0.8 },
  [16] = { ['lua-BASE'] = 0.85, ['lua-PROCESS'] = 0.6 },
}
-- by number of CPUs; what is missing has no aim of its own
local TASK_AIMS = { [2] = { given = 2e6, finished = 0.5e6, p50 = 5 }, [1] = { p50 = 15 } }
local FRAMING_SERVERS =
  { 'raw', 'BASE-raw', 'BASE-length', 'BASE-eof', 'PROCESS-raw', 'PROCESS-length', 'PROCESS-eof' }
local TLS_SERVERS, TLS_AIM, TLS_IDLE_AIM = { 'raw-tls', 'tls-BASE', 'tls-PROCESS' }, 0.85, 40960
local TLS_KINDS = {
  { 'full-ecdsa', 'full handshakes, P-256' },
  { 'full-rsa', 'full handshakes, RSA 2048' },
  { 'resumed', 'resumed handshakes' },
  { 'send', 'MiB by send' },
  { 'sendfile', 'MiB by sendfile' },
  { 'receive', 'MiB received' },
}
local LOAD_IS_LIMIT = 0.9 -- a raw loop that used less of its CPU than this had not enough to do

-- ---------------------------------------------------------------------------------------------------------- figures

local run, idle = nil, {}
local samples = {} -- depth → server → round → figures
local task_rounds = {} -- "MODE CPUS" → rounds
local compared = { framing = {}, tls = {} } -- part → load or kind → server → round → figures
local framing_loads = {} -- in order

local function note_compared(part, kind, server, round, figures)
  local kinds = compared[part]
  if part == 'framing' and not kinds[kind] then framing_loads[#framing_loads + 1] = kind end
  kinds[kind] = kinds[kind] or {}
  kinds[kind][server] = kinds[kind][server] or {}
  kinds[kind][server][round] = figures
end

for line in io.lines() do
  local words = {}
  for word in line:gmatch('%S+') do words[#words + 1] = tonumber(word) or word end
  if words[1] == 'run' then
    run = { kind = words[2], connections = words[3], seconds = words[4], rounds = words[5] }
  elseif words[1] == 'idle' then
    local held = words[3]
    idle[#idle + 1] = {
      server = words[2],
      connections = held,
      pss_bytes = (words[6] - words[4]) * 1024 / held,
      owner_bytes = (words[7] - words[5]) * 1024 / held,
    }
  elseif words[1] == 'framing' then
    local _, round, server, connections, depth, bytes, rate, _, _, packets, cpu_ns = unpack(words)
    if packets > 0 then
      local load = ('%d-byte packets, %d connections, depth %d'):format(bytes, connections, depth)
      note_compared('framing', load, server, round, { rate = rate, cpu_ns = cpu_ns / packets })
    end
  elseif words[1] == 'tls' then
    local _, round, server, kind, rate, units, cpu_ns = unpack(words)
    if units > 0 then note_compared('tls', kind, server, round, { rate = rate, cpu_ns = cpu_ns / units }) end
  elseif words[1] == 'tasks' then
    local _, _, mode, cpus, given, given_cpu, finished, p50, p99 = unpack(words)
    local name = mode .. ' ' .. cpus
    task_rounds[name] = task_rounds[name] or {}
    table.insert(task_rounds[name], { given = given, given_cpu = given_cpu, finished = finished, p50 = p50, p99 = p99 })
  else
    local _, round, server, depth, rate, p50, p99, echoes, cpu_ns = unpack(words)
    samples[depth] = samples[depth] or {}
    samples[depth][server] = samples[depth][server] or {}
    samples[depth][server][round] =
      { rate = rate, p50 = p50, p99 = p99, cpu_ns = cpu_ns / echoes, cpu_share = cpu_ns / 1e9 * rate / echoes }
  end
end

-- The least, the 20th percentile, the median and the greatest of what `pick` returns for each round.
local function spread(rounds, pick)
  local values = {}
  for round, figures in pairs(rounds) do values[#values + 1] = pick(figures, round) end
  table.sort(values)
  local middle = #values / 2
  local median = #values % 2 == 1 and values[middle + 0.5] or (values[middle] + values[middle + 1]) / 2
  return { min = values[1], p20 = values[math.ceil(#values / 5)], median = median, max = values[#values] }
end

local function summary(server, depth)
  local rounds, raw = samples[depth][server], samples[depth].raw
  local result = { server = server, depth = depth, aim = AIMS[depth][server] }
  for _, name in ipairs { 'rate', 'p50', 'p99', 'cpu_ns', 'cpu_share' } do
    result[name] = spread(rounds, function(figures) return figures[name] end)
  end
  result.ratio = spread(rounds, function(figures, round) return figures.rate / raw[round].rate end)
  result.cpu_ratio = spread(rounds, function(figures, round) return raw[round].cpu_ns / figures.cpu_ns end)
  result.quiet_ratio = spread(raw, function(figures) return figures.cpu_ns end).p20 / result.cpu_ns.p20
  return result
end

local echo = {}
for _, depth in ipairs(samples[1] and DEPTHS or {}) do
  for _, server in ipairs(SERVERS) do echo[#echo + 1] = summary(server, depth) end
end

-- Of one load or kind: each server next to the first of them.
local function compare(rows, kinds, kind, title, servers, aim)
  for _, server in ipairs(kinds[kind] and servers or {}) do
    local rounds, raw = kinds[kind][server], kinds[kind][servers[1]]
    if rounds and raw then
      local row = { server = server, kind = title, aim = server ~= servers[1] and aim or nil }
      for _, name in ipairs { 'rate', 'cpu_ns' } do
        row[name] = spread(rounds, function(figures) return figures[name] end)
      end
      row.cpu_ratio = spread(rounds, function(figures, round)
        return (raw[round] or figures).cpu_ns / figures.cpu_ns
      end)
      row.quiet_ratio = spread(raw, function(figures) return figures.cpu_ns end).p20 / row.cpu_ns.p20
      rows[#rows + 1] = row
    end
  end
end

local framing, tls = {}, {}
for _, load in ipairs(framing_loads) do compare(framing, compared.framing, load, load, FRAMING_SERVERS) end
for _, kind in ipairs(TLS_KINDS) do compare(tls, compared.tls, kind[1], kind[2], TLS_SERVERS, TLS_AIM) end

local tasks = {}
for _, mode in ipairs { 'BASE', 'PROCESS' } do
  for _, cpus in ipairs { 2, 1 } do
    local rounds = task_rounds[mode .. ' ' .. cpus]
    local row = rounds and { mode = mode, cpus = cpus, aims = TASK_AIMS[cpus] }
    for _, name in ipairs(rounds and { 'given', 'given_cpu', 'finished', 'p50', 'p99' } or {}) do
      row[name] = spread(rounds, function(figures) return figures[name] end)
    end
    tasks[#tasks + 1] = row
  end
end

-- ------------------------------------------------------------------------------------------------------------- table

local function first_match(path, pattern)
  local file = io.open(path)
  local found = file and file:read('*a'):match(pattern)
  if file then file:close() end
  return found or '?'
end
run.cpu = first_match('/proc/cpuinfo', 'model name%s*:%s*([^\n]*)')
run.kernel = first_match('/proc/sys/kernel/osrelease', '[^\n]*')

local function range(values)
  return ('%.2f %.2f %.2f'):format(values.min, values.median, values.max)
end

print(('%s, Linux %s'):format(run.cpu, run.kernel))
if #echo > 0 then
  print(('%d connections, messages of 64 bytes, %d rounds of %g s. One CPU for the server, one for the load.'):format(
    run.connections, run.rounds, run.seconds))
  print('Medians; ratios to the raw loop of the same round: min median max.')
end
for _, depth in ipairs(#echo > 0 and DEPTHS or {}) do
  print(('\n%-16s %9s %7s %7s %7s %9s  %-14s  %-14s %6s %5s'):format('depth ' .. depth, 'echoes/s', 'p50 us',
    'p99 us', 'CPU ns', 'CPU used', 'echoes/s ratio', 'per CPU second', 'quiet', 'aim'))
  for _, row in ipairs(echo) do
    if row.depth == depth then
      print(('%-16s %9.0f %7.0f %7.0f %7.0f %8.0f%%  %14s  %14s %6.2f %5s'):format(TITLES[row.server], row.rate.median,
        row.p50.median, row.p99.median, row.cpu_ns.median, row.cpu_share.median * 100, range(row.ratio),
        range(row.cpu_ratio), row.quiet_ratio, row.aim or ''))
    end
  end
end
if #idle > 0 then print() end
for _, row in ipairs(idle) do
  print(('%-18s %d idle connections: %.0f bytes each (Pss of all processes), %.0f in the owning process%s'):format(
    TITLES[row.server], row.connections, row.pss_bytes, row.owner_bytes,
    row.server:find '^tls' and ('; aim %d'):format(TLS_IDLE_AIM) or ''))
end
for _, row in ipairs(echo) do
  if row.server == 'raw' and row.cpu_share.median < LOAD_IS_LIMIT then
    print(('Depth %d: the raw loop had its CPU for %.0f %% of the time only: something else ran there, or the load was '
      .. 'not enough. Look at the ratio per CPU second.'):format(row.depth, row.cpu_share.median * 100))
  end
end

local function print_compared(rows, unit)
  local kind
  for _, row in ipairs(rows) do
    if row.kind ~= kind then
      kind = row.kind
      print(('\n%-44s %9s %11s  %-14s %6s %5s'):format(kind, unit .. '/s', 'CPU us each', 'per CPU second', 'quiet', 'aim'))
    end
    print(('%-44s %9.0f %11.2f  %14s %6.2f %5s'):format(TITLES[row.server], row.rate.median, row.cpu_ns.median / 1e3,
      range(row.cpu_ratio), row.quiet_ratio, row.aim or ''))
  end
end
print_compared(framing, 'packets')
print_compared(tls, 'units')

if #tasks > 0 then
  print(('\n%-16s %18s %18s %18s %16s %9s'):format('tasks', 'given/s', 'per CPU second', 'finished/s', 'taskwait p50 us',
    'p99 us'))
  for _, row in ipairs(tasks) do
    local function cell(name, form)
      local aim = row.aims[name]
      return (form .. '%s'):format(row[name].median, aim and (' (' .. form .. ')'):format(aim) or '')
    end
    print(('%-16s %18s %18s %18s %16s %9s'):format(('%s, %d CPU%s'):format(row.mode, row.cpus, row.cpus > 1 and 's' or ''),
      cell('given', '%.0f'), cell('given_cpu', '%.0f'), cell('finished', '%.0f'), cell('p50', '%.1f'), cell('p99', '%.1f')))
  end
  print('Tables of five keys, one task worker; medians of the rounds, in brackets what is aimed at.')
end

-- -------------------------------------------------------------------------------------------------------------- JSON

local function to_json(value)
  if type(value) == 'string' then return ('"%s"'):format(value:gsub('[%c"\\]', ' ')) end
  if type(value) ~= 'table' then return ('%.6g'):format(value) end
  local parts = {}
  if #value > 0 then
    for i, item in ipairs(value) do parts[i] = to_json(item) end
    return '[' .. table.concat(parts, ',\n ') .. ']'
  end
  for key, item in pairs(value) do parts[#parts + 1] = ('"%s": %s'):format(key, to_json(item)) end
  table.sort(parts)
  return '{' .. table.concat(parts, ', ') .. '}'
end

local function write(name, value)
  local file = assert(io.open(folder .. '/' .. name, 'w'))
  file:write(to_json(value), '\n')
  file:close()
end

for name, results in pairs { echo = echo, idle = idle, framing = framing, tls = tls, tasks = tasks } do
  if #results > 0 then write(name .. '.json', { run = run, results = results }) end
end
