--- An output handler for busted: a mark for each spec as the plain terminal's, and the name of the one that runs in the
-- file $SPEC_RUNNING, for whoever finds out that it does not end.

return function(options)
  local busted = require 'busted'
  local handler = require 'busted.outputHandlers.plainTerminal'(options)
  local path = os.getenv 'SPEC_RUNNING'

  busted.subscribe({ 'test', 'start' }, function(element)
    local file = path and io.open(path, 'w')
    if file then
      file:write(handler.getFullName(element), '\n')
      file:close()
    end
    return nil, true
  end)

  return handler
end
