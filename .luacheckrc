std = 'luajit'
max_line_length = 120
-- Callbacks name all of their arguments, used or not.
unused_args = false

files['spec'] = { std = '+busted' }
-- LuaLS definitions declare classes and functions without bodies.
files['lua/srvlua/meta'] = { unused = false, allow_defined_top = true }
