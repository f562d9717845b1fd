/* The table of Lua modules written in C. One line a module, sorted by name. */
#pragma once

#include <lua.h>

#define KT_MODULES(X)                                                                              \
    X("cjson", luaopen_cjson)                                                                      \
    X("json", luaopen_json)                                                                        \
    X("kt.clock", luaopen_kt_clock)                                                                \
    X("kt.config", luaopen_kt_config)                                                              \
    X("kt.crypto", luaopen_kt_crypto)                                                              \
    X("kt.edit", luaopen_kt_edit)                                                                  \
    X("kt.fault", luaopen_kt_fault)                                                                \
    X("kt.fetch", luaopen_kt_fetch)                                                                \
    X("kt.file", luaopen_kt_file)                                                                  \
    X("kt.http", luaopen_kt_http)                                                                  \
    X("kt.ingest", luaopen_kt_ingest)                                                              \
    X("kt.log", luaopen_kt_log)                                                                    \
    X("kt.metrics", luaopen_kt_metrics)                                                            \
    X("kt.part", luaopen_kt_part)                                                                  \
    X("kt.proc", luaopen_kt_proc)                                                                  \
    X("kt.sandbox", luaopen_kt_sandbox)                                                            \
    X("kt.script", luaopen_kt_script)                                                              \
    X("kt.store", luaopen_kt_store)                                                                \
    X("kt.table", luaopen_kt_table)                                                                \
    X("kt.tar", luaopen_kt_tar)                                                                    \
    X("kt.task", luaopen_kt_task)                                                                  \
    X("kt.vault", luaopen_kt_vault)                                                                \
    X("kt.watch", luaopen_kt_watch)                                                                \
    X("value", luaopen_value)

#define X(name, open) int open(lua_State *L);
KT_MODULES(X)
#undef X
