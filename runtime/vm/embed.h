/* The Lua sources that the binary carries: runtime/vm/NAME.lua (tools/embed.cmake). */
#pragma once

#include <stddef.h>

#define KT_EMBEDDED(name)                                                                          \
    extern const unsigned char kt_lua_##name[];                                                    \
    extern const size_t kt_lua_##name##_len

KT_EMBEDDED(coroutine);
KT_EMBEDDED(sandbox);
KT_EMBEDDED(prelude);
