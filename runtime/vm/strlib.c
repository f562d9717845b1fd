/* String functions of a script VM. */
#include "vm/strlib.h"

#include <lauxlib.h>
#include <stdbool.h>
#include <string.h>

#include "core/buf.h"
#include "vm/hook.h"
#include "vm/pattern.h"

#define CALL_STEPS 1000000u /* of one call, with 4 for each byte of the subject */
#define PIECE_STEPS 500000u /* gsub goes back to Lua after so many, where a slice can end */

struct subject {
    const char *s, *p, *end;
    size_t len;
    struct kt_match m;
};

static void check_subject(lua_State *L, struct subject *a) {
    size_t pattern_len;
    a->s = luaL_checklstring(L, 1, &a->len);
    a->p = luaL_checklstring(L, 2, &pattern_len);
    a->end = kt_pattern_end(a->p, pattern_len);
    uint64_t limit = CALL_STEPS + 4 * (uint64_t)a->len, left = kt_hook_left(L);
    kt_match_init(&a->m, a->s, a->len, limit < left ? limit : left);
}

/* Charge what the match took; raise its error. */
static void settle(lua_State *L, struct subject *a) {
    kt_hook_charge(L, a->m.steps);
    if (a->m.error != NULL)
        luaL_error(L, "%s", a->m.error);
}

/* The offset of argument `arg`, counted from 1, from the end when negative; at most len. */
static size_t offset_of(lua_State *L, int arg, size_t len) {
    double at = luaL_optnumber(L, arg, 1);
    if (at < 0)
        at += (double)len;
    else
        at -= 1;
    if (!(at > 0))
        return 0;
    return at > (double)len ? len : (size_t)at;
}

static void push_capture(lua_State *L, const struct subject *a, int i) {
    ptrdiff_t len = a->m.capture[i].len;
    if (len == KT_CAPTURE_POSITION)
        lua_pushinteger(L, a->m.capture[i].from - a->s + 1);
    else if (len < 0)
        luaL_error(L, "unfinished capture");
    else
        lua_pushlstring(L, a->m.capture[i].from, (size_t)len);
}

/* All captures; the whole match when there are none and `whole`. */
static int push_captures(lua_State *L, const struct subject *a, const char *from, const char *to,
                         bool whole) {
    if (a->m.level == 0 && whole) {
        lua_pushlstring(L, from, (size_t)(to - from));
        return 1;
    }
    luaL_checkstack(L, a->m.level, "too many captures");
    for (int i = 0; i < a->m.level; i++)
        push_capture(L, a, i);
    return a->m.level;
}

static bool has_specials(const char *p, const char *end) {
    for (; p < end; p++)
        if (*p != '\0' && strchr("^$*+?.([%-", *p) != NULL)
            return true;
    return false;
}

static int find(lua_State *L, bool want_captures) {
    struct subject a;
    size_t pattern_len;
    check_subject(L, &a);
    size_t from = offset_of(L, 3, a.len);
    lua_tolstring(L, 2, &pattern_len);
    if (!want_captures && (lua_toboolean(L, 4) || !has_specials(a.p, a.p + pattern_len))) {
        const char *at = memmem(a.s + from, a.len - from, a.p, pattern_len);
        kt_hook_charge(L, (a.len - from) / 16);
        if (at == NULL) {
            lua_pushnil(L);
            return 1;
        }
        lua_pushinteger(L, at - a.s + 1);
        lua_pushinteger(L, at - a.s + (lua_Integer)pattern_len);
        return 2;
    }
    const char *start = a.s + from, *to;
    if (a.p < a.end && *a.p == '^')
        to = kt_match_at(&a.m, start, a.p + 1, a.end);
    else
        to = kt_match_from(&a.m, start, a.p, a.end, &start);
    settle(L, &a);
    if (to == NULL) {
        lua_pushnil(L);
        return 1;
    }
    if (want_captures)
        return push_captures(L, &a, start, to, true);
    lua_pushinteger(L, start - a.s + 1);
    lua_pushinteger(L, to - a.s);
    return 2 + push_captures(L, &a, start, to, false);
}

static int l_find(lua_State *L) {
    return find(L, false);
}

static int l_match(lua_State *L) {
    return find(L, true);
}

/* scan(s, pattern, from, anchored, one) -> first, last, captures or the whole match… | nil: the
 * next match at or after the 1-based from; one: the first capture alone. */
static int l_scan(lua_State *L) {
    struct subject a;
    check_subject(L, &a);
    size_t from = offset_of(L, 3, a.len);
    const char *start = a.s + from, *to;
    if (lua_toboolean(L, 4))
        to = kt_match_at(&a.m, start, a.p, a.end);
    else
        to = kt_match_from(&a.m, start, a.p, a.end, &start);
    settle(L, &a);
    if (to == NULL)
        return 0;
    if (lua_toboolean(L, 5) && a.m.level > 1)
        a.m.level = 1;
    lua_pushinteger(L, start - a.s + 1);
    lua_pushinteger(L, to - a.s);
    return 2 + push_captures(L, &a, start, to, true);
}

static struct kt_buf *out_buffer(void) {
    static struct kt_buf buf; /* outlives an error that is raised while it is in use */
    if (buf.cap > 1 << 20)
        kt_buf_free(&buf);
    kt_buf_clear(&buf);
    return &buf;
}

static void check_room(lua_State *L, const struct kt_buf *out) {
    struct kt_vm *vm = kt_vm_of(L);
    if (out->failed || (vm->cap != 0 && out->len > vm->cap)) {
        vm->denied = true;
        luaL_error(L, "not enough memory");
    }
}

static void add_replacement(lua_State *L, const struct subject *a, struct kt_buf *out,
                            const char *text, size_t len, const char *from, const char *to) {
    for (size_t i = 0; i < len; i++) {
        const char *percent = memchr(text + i, '%', len - i);
        size_t plain = percent == NULL ? len - i : (size_t)(percent - text) - i;
        kt_buf_add(out, text + i, plain);
        i += plain;
        if (i >= len)
            return;
        char c = ++i < len ? text[i] : '\0';
        if (c < '0' || c > '9') {
            kt_buf_addc(out, c);
        } else if (c == '0' || (c == '1' && a->m.level == 0)) {
            kt_buf_add(out, from, (size_t)(to - from));
        } else {
            size_t n;
            if (c - '1' >= a->m.level)
                luaL_error(L, "invalid capture index");
            push_capture(L, a, c - '1');
            const char *value = lua_tolstring(L, -1, &n);
            kt_buf_add(out, value, n);
            lua_pop(L, 1);
        }
    }
}

/* gsub_text(s, pattern, replacement, max, done, from) -> text, done, from | nil: a piece of
 * string.gsub with a text as replacement; from nil: the end was reached. */
static int l_gsub_text(lua_State *L) {
    struct subject a;
    size_t len;
    check_subject(L, &a);
    const char *text = luaL_checklstring(L, 3, &len);
    double max = luaL_checknumber(L, 4);
    int done = (int)luaL_checkinteger(L, 5);
    const char *at = a.s + offset_of(L, 6, a.len), *subject_end = a.s + a.len;
    bool anchored = a.p < a.end && *a.p == '^', more = false;
    struct kt_buf *out = out_buffer();
    if (anchored)
        a.p++;
    while (done < max) {
        const char *to = kt_match_at(&a.m, at, a.p, a.end);
        if (a.m.error != NULL)
            settle(L, &a);
        if (to != NULL) {
            done++;
            add_replacement(L, &a, out, text, len, at, to);
            check_room(L, out);
        }
        if (to != NULL && to > at)
            at = to;
        else if (at < subject_end)
            kt_buf_addc(out, *at++);
        else
            break;
        if (anchored)
            break;
        if (a.m.steps + out->len > PIECE_STEPS) {
            more = true;
            break;
        }
    }
    settle(L, &a);
    if (!more)
        kt_buf_add(out, at, (size_t)(subject_end - at));
    check_room(L, out);
    kt_hook_charge(L, out->len / 16);
    lua_pushlstring(L, out->len ? out->data : "", out->len);
    lua_pushinteger(L, done);
    if (!more)
        return 2;
    lua_pushinteger(L, at - a.s + 1);
    return 3;
}

/* Stock functions, charged by what they are asked for. */

static int call_stock(lua_State *L) {
    int n = lua_gettop(L);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, n, LUA_MULTRET);
    return lua_gettop(L);
}

static int l_rep(lua_State *L) {
    size_t len, sep = 0;
    luaL_checklstring(L, 1, &len);
    double n = luaL_checknumber(L, 2);
    if (!lua_isnoneornil(L, 3))
        luaL_checklstring(L, 3, &sep);
    double size = n > 0 ? n * (double)(len + sep) : 0;
    struct kt_vm *vm = kt_vm_of(L);
    if (vm->cap != 0 && size > (double)vm->cap) {
        vm->denied = true;
        return luaL_error(L, "not enough memory");
    }
    kt_hook_charge(L, (uint64_t)(size / 16));
    return call_stock(L);
}

/* insert(t, at, v) and remove(t, at): what lies behind the place moves. */
static int shift(lua_State *L, int args) {
    luaL_checktype(L, 1, LUA_TTABLE);
    double len = (double)lua_objlen(L, 1), at = lua_tonumber(L, 2);
    if (lua_gettop(L) == args && at >= 1 && at < len)
        kt_hook_charge(L, (uint64_t)(len - at) * 2);
    return call_stock(L);
}

static int l_insert(lua_State *L) {
    return shift(L, 3);
}

static int l_remove(lua_State *L) {
    return shift(L, 2);
}

static int l_concat(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    kt_hook_charge(L, lua_objlen(L, 1));
    return call_stock(L);
}

/* format without %p, whose addresses would differ from run to run. What is neither text nor number
 * was turned into text by sandbox.lua, where a __tostring may be interrupted. */
static int l_format(lua_State *L) {
    size_t len;
    const char *f = luaL_checklstring(L, 1, &len), *end = f + len;
    while (f < end) {
        if (*f++ != '%')
            continue;
        while (f < end && *f != '\0' && strchr("-+ #0123456789.", *f) != NULL)
            f++;
        if (f < end && *f == 'p')
            return luaL_error(L, "string.format: %%p is not available");
        f++;
    }
    kt_hook_charge(L, len / 8);
    return call_stock(L);
}

static void wrap(lua_State *L, int lib, const char *name, lua_CFunction fn) {
    lua_getfield(L, lib, name);
    lua_pushcclosure(L, fn, 1);
    lua_setfield(L, lib, name);
}

static const luaL_Reg replaced[] = {{"find", l_find}, {"match", l_match}, {NULL, NULL}};

void kt_strlib_open(lua_State *L) {
    int parts = lua_gettop(L);
    lua_getglobal(L, "table");
    wrap(L, lua_gettop(L), "concat", l_concat);
    wrap(L, lua_gettop(L), "insert", l_insert);
    wrap(L, lua_gettop(L), "remove", l_remove);
    lua_pop(L, 1);

    lua_getglobal(L, "string");
    int lib = lua_gettop(L);
    luaL_setfuncs(L, replaced, 0);
    wrap(L, lib, "rep", l_rep);
    lua_getfield(L, lib, "format");
    lua_pushcclosure(L, l_format, 1);
    lua_setfield(L, parts, "format");
    lua_pushnil(L);
    lua_setfield(L, lib, "dump");
    lua_pop(L, 1);

    lua_pushcfunction(L, l_scan);
    lua_setfield(L, parts, "scan");
    lua_pushcfunction(L, l_gsub_text);
    lua_setfield(L, parts, "gsub_text");
}
