/* command.h: server:addCommand and server:command (methods.md 11). */
#ifndef SV_LUA_COMMAND_H
#define SV_LUA_COMMAND_H

#include "lua/binding.h"

/* server:addCommand(name, accepted_process_types, callback) -> true. Before start. */
int sv_lua_add_command(lua_State *L, struct sv_lua_server *self);
/* server:command(name, process_id, process_type, data [, json_decode = true]) -> answer. Suspends. */
int sv_lua_command(lua_State *L, struct sv_lua_server *self);

#endif
