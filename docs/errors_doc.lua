--- Writes docs/errors.md from the table of codes to standard output:
--   build/srvlua docs/errors_doc.lua > docs/errors.md
local srvlua = require 'srvlua'

print [[
# Errors

Made from the table in `src/base/errors.c` by `make docs`.

What fails returns `false, message, code` in Lua, `-code` in C (with `struct srvlua_status`). Wrong arguments raise
a Lua error. Codes below 500 are errno values, as 98 for an address in use; `srvlua.strerror(code)` and
`srvlua_strerror()` have the texts of both. `server:getLastError()` has the code of the last failure in this
process. In Lua a code's name begins with `srvlua.ERROR_`, in C with `SRVLUA_ERROR_`. Some are only seen in the log,
where a line tells its code.

| Code | Name | Meaning |
|---|---|---|]]

local names, codes = {}, {}
for name, code in pairs(srvlua) do
  if type(name) == 'string' and name:find '^ERROR_' then
    names[code] = name:match '^ERROR_(.*)$'
    codes[#codes + 1] = code
  end
end
table.sort(codes)
for _, code in ipairs(codes) do
  print(('| %d | %s | %s |'):format(code, names[code], srvlua.strerror(code)))
end
