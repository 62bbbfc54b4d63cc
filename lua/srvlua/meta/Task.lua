---@meta

--- Tasks as they wait in a System V message queue (`task_ipc_mode` 2 and 3): `require 'srvlua.Task'`. A program that
--- puts such a string into the queue with the server's `message_queue_key` gives it a task. The type of the message is
--- 1 + the index of the task worker (mode 3: any). Nobody gets the result. The form: src/ipc/task_message.h.
---@class srvlua.TaskModule
local Task = {}

--- A value in that form; of more than about 8 KiB it is too long for a queue. Raises for what cannot be sent.
---@param value any
---@return string
function Task.pack(value) end

--- The value in such a string.
---@param text string
---@return any value, string? message, integer? code  false, 1204: that is none, or it is damaged
function Task.unpack(text) end

return Task
