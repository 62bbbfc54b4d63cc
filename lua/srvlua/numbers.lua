--- How modules of srvlua write numbers. Not for programs.

local format, tonumber = string.format, tonumber

local M = {}

--- The shortest of the usual forms that reads back as the same number; for finite ones.
function M.shortest(number)
  for digits = 15, 16 do
    local text = format('%.' .. digits .. 'g', number)
    if tonumber(text) == number then return text end
  end
  return format('%.17g', number)
end

return M
