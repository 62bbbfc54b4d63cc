/* callbacks.h: from an event of the server to the Lua function that the user registered for it (events.md 1-4, 8).
 *
 * runs in: every process of the server. */
#ifndef SV_LUA_CALLBACKS_H
#define SV_LUA_CALLBACKS_H

#include "lua/binding.h"

/* srvlua_callback; user_data is a struct sv_lua_callback. */
int sv_lua_on_event(srvlua_server *server, const struct srvlua_event_data *data, void *user_data);

/* Learns what this process is, once after each fork and at the end: called before anything of the user runs in it. */
void sv_lua_adopt_process(struct sv_lua *lua);

/* The same in a child that the program has forked by itself: it is no process of a server, and has no loop. */
void sv_lua_leave_parent(lua_State *L, struct sv_lua *lua);

/* Adds the settings that start() derived to the table at `setting` (settings.md 0.1). */
void sv_lua_add_effective_settings(lua_State *L, srvlua_server *server, int setting);

/* Body of `on` of a server (`port` NULL) or a port: index 1 is the object, 2 names the event, 3 is callable. */
int sv_lua_register_callback(lua_State *L, struct sv_lua_server *self, struct sv_lua_port *port);
/* Body of `getCallback`: the function at index 1's object for the event that argument 2 names, or nil. */
int sv_lua_get_callback(lua_State *L, bool is_server);

/* Takes every callback of the server and its ports into the registry, or gives them back. The object is at index 1. */
void sv_lua_hold_callbacks(lua_State *L, struct sv_lua_server *self);
void sv_lua_release_callbacks(lua_State *L, struct sv_lua_server *self);

#endif
