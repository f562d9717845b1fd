/* Patterns: the matcher with a step budget finds what LuaJIT's own string.find finds, captures
 * included, or both refuse. Where ours takes many steps, LuaJIT's is not asked: it might not end. */
#include "fuzz.h"

#include <lauxlib.h>
#include <lualib.h>
#include <luajit.h>
#include <stdbool.h>

#include "vm/pattern.h"

enum { STEPS_ASKED = 20000 };

static lua_State *L;

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    L = luaL_newstate();
    luaL_openlibs(L);
    luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
    lua_getglobal(L, "string");
    lua_getfield(L, -1, "find");
    return 0;
}

/* string.find(subject, pattern); ours leaves no trace of it but the results on the stack. */
static int theirs(const char *s, size_t n, const char *p, size_t p_len) {
    lua_settop(L, 2);
    lua_pushvalue(L, 2);
    lua_pushlstring(L, s, n);
    lua_pushlstring(L, p, p_len);
    return lua_pcall(L, 2, LUA_MULTRET, 0);
}

/* string.find looks for plain text when the pattern has none of these. */
static bool has_specials(const char *p, const char *end) {
    for (; p < end; p++)
        if (*p != '\0' && strchr("^$*+?.([%-", *p) != NULL)
            return true;
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0)
        return 0;
    size_t p_len = data[0] % size;
    const char *p = (const char *)data + 1, *s = p + p_len;
    size_t n = size - 1 - p_len;
    const char *end = kt_pattern_end(p, p_len);
    if (!has_specials(p, end))
        return 0;

    struct kt_match m;
    kt_match_init(&m, s, n, STEPS_ASKED);
    const char *from = s, *start = NULL, *to;
    if (p < end && *p == '^') {
        to = kt_match_at(&m, from, p + 1, end);
        start = from;
    } else {
        to = kt_match_from(&m, from, p, end, &start);
    }
    /* The last piece of work before the bound may be one scan of the subject with a set of the pattern. */
    FUZZ_CHECK(m.steps <= STEPS_ASKED + (p_len + 2) * (n + 2), "%llu steps", (unsigned long long)m.steps);
    if (m.steps >= STEPS_ASKED)
        return 0;
    /* A copy, so that neither sees what lies behind the pattern. */
    char *copy = malloc(p_len + 1);
    memcpy(copy, p, p_len);
    copy[p_len] = '\0';
    int rc = theirs(s, n, copy, p_len);
    free(copy);
    bool unfinished = false;
    for (int i = 0; to != NULL && i < m.level; i++)
        unfinished = unfinished || (m.capture[i].len < 0 && m.capture[i].len != KT_CAPTURE_POSITION);
    if (rc != 0) {
        FUZZ_CHECK(m.error != NULL || unfinished, "only LuaJIT refuses: %s", lua_tostring(L, -1));
        return 0;
    }
    FUZZ_CHECK(m.error == NULL, "only ours refuses: %s", m.error);
    if (lua_isnil(L, 3)) {
        FUZZ_CHECK(to == NULL, "only ours finds something");
        return 0;
    }
    FUZZ_CHECK(to != NULL, "only LuaJIT finds something");
    FUZZ_CHECK(lua_tointeger(L, 3) == start - s + 1 && lua_tointeger(L, 4) == to - s,
               "LuaJIT %d..%d, ours %td..%td", (int)lua_tointeger(L, 3), (int)lua_tointeger(L, 4),
               start - s + 1, to - s);
    FUZZ_CHECK(lua_gettop(L) - 4 == m.level, "%d captures, ours %d", lua_gettop(L) - 4, m.level);
    for (int i = 0; i < m.level; i++) {
        if (m.capture[i].len == KT_CAPTURE_POSITION) {
            FUZZ_CHECK(lua_tointeger(L, 5 + i) == m.capture[i].from - s + 1, "position %d", i);
            continue;
        }
        size_t len;
        const char *text = lua_tolstring(L, 5 + i, &len);
        FUZZ_CHECK(len == (size_t)m.capture[i].len && memcmp(text, m.capture[i].from, len) == 0,
                   "capture %d: %.*s, ours %.*s", i, (int)len, text, (int)m.capture[i].len,
                   m.capture[i].from);
    }
    return 0;
}
