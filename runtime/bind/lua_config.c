/* Module kt.config: the configuration that the process read when it started. Nothing here yields.
 *
 *   config.get(NAME) -> string | number | boolean; "" when unset. An unknown name raises. Of a
 *       secret: "(set)" when it is; C alone has its text
 *   config.all() -> {NAME = value}
 *   config.home() -> folder of lua/, agents/, migrations/      config.program() -> the binary
 *   config.version() -> "0.1.0"
 *   config.loopback("HOST:PORT") -> is it an address of this machine alone */
#include <string.h>

#include "bind/bind.h"
#include "core/config.h"
#include "core/home.h"

static void push(lua_State *L, const struct kt_config_var *var) {
    const char *text = kt_config_text(var->name);
    if (var->type == KT_CONFIG_INT && *text != '\0')
        lua_pushnumber(L, (lua_Number)kt_config_int(var->name));
    else if (var->type == KT_CONFIG_BOOL)
        lua_pushboolean(L, kt_config_bool(var->name));
    else
        lua_pushstring(L, var->type == KT_CONFIG_SECRET && *text != '\0' ? "(set)" : text);
}

static int l_get(lua_State *L) {
    const char *name = luaL_checkstring(L, 1);
    const struct kt_config_var *var = kt_config_find(name);
    if (var == NULL)
        return luaL_error(L, "no configuration variable %s", name);
    push(L, var);
    return 1;
}

static int l_all(lua_State *L) {
    lua_newtable(L);
    for (int i = 0; i < kt_config_count; i++) {
        push(L, &kt_config_vars[i]);
        lua_setfield(L, -2, kt_config_vars[i].name);
    }
    return 1;
}

static int l_home(lua_State *L) {
    struct kt_error err;
    const char *home = kt_home(&err);
    if (home == NULL)
        return kt_raise(L, &err);
    lua_pushstring(L, home);
    return 1;
}

static int l_program(lua_State *L) {
    lua_pushstring(L, kt_program());
    return 1;
}

static int l_loopback(lua_State *L) {
    char host[64];
    int port;
    lua_pushboolean(L, kt_config_address(luaL_checkstring(L, 1), host, &port) &&
                           kt_config_loopback(host));
    return 1;
}

static int l_version(lua_State *L) {
    lua_pushliteral(L, KT_VERSION);
    return 1;
}

static const luaL_Reg functions[] = {
    {"get", l_get},         {"all", l_all},         {"home", l_home},
    {"program", l_program}, {"version", l_version}, {"loopback", l_loopback},
    {NULL, NULL},
};

int luaopen_kt_config(lua_State *L) {
    lua_newtable(L);
    luaL_setfuncs(L, functions, 0);
    return 1;
}
