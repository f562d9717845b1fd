/* The pattern matcher agrees with the stock string library on a random corpus, and gives up in its
 * step budget on patterns that blow up. */
#include "lua_unit.h"

#include <lauxlib.h>
#include <stdio.h>

#include "vm/pattern.h"

/* All uses of one subject and pattern, as one text. */
static const char uses[] =
    "local s, p, repl = ... local out = {} "
    "local function note(what, ok, ...) out[#out + 1] = what if not ok then out[#out + 1] = "
    "'error' return end "
    "  for i = 1, select('#', ...) do out[#out + 1] = type((select(i, ...))) .. ':' .. "
    "tostring((select(i, ...))) end end "
    "note('find', pcall(string.find, s, p)) note('find3', pcall(string.find, s, p, 3)) "
    "note('find-2', pcall(string.find, s, p, -2)) "
    "note('plain', pcall(string.find, s, p, 1, true)) note('match', pcall(string.match, s, p)) "
    "note('match2', pcall(string.match, s, p, 2)) "
    "note('past', pcall(string.find, s, p, 100)) "
    "note('gmatch', pcall(function() local t = {} for a, b in s:gmatch(p) do t[#t + 1] = "
    "tostring(a) .. '/' .. tostring(b) if #t > 50 then break end end return table.concat(t, ';') "
    "end)) "
    "note('gsub', pcall(string.gsub, s, p, repl)) note('gsub2', pcall(string.gsub, s, p, '<%0>', "
    "2)) "
    "note('gsubf', pcall(string.gsub, s, p, function(a, b) return b and tostring(a) .. tostring(b) "
    "or nil end)) "
    "note('gsubt', pcall(string.gsub, s, p, {a='A', b=1, ['']='-'})) "
    "return table.concat(out, '\\n')";

static unsigned rng = 12345;
static unsigned draw(unsigned n) {
    rng = rng * 1103515245u + 12345u;
    return (rng >> 16) % n;
}

struct use {
    const char *s, *p, *repl;
    size_t s_len, p_len;
    char out[16384];
};

static int load_uses(lua_State *L, void *ud) {
    (void)ud;
    if (luaL_loadstring(L, uses) != 0)
        return lua_error(L);
    lua_setfield(L, LUA_REGISTRYINDEX, "uses");
    return 0;
}

static int run_uses(lua_State *L, void *ud) {
    struct use *use = ud;
    lua_getfield(L, LUA_REGISTRYINDEX, "uses");
    lua_pushlstring(L, use->s, use->s_len);
    lua_pushlstring(L, use->p, use->p_len);
    lua_pushstring(L, use->repl);
    lua_call(L, 3, 1);
    size_t len;
    const char *text = lua_tolstring(L, -1, &len);
    size_t out = 0;
    for (size_t i = 0; i < len && out + 1 < sizeof use->out; i++) /* NUL bytes shown */
        use->out[out++] = text[i] == '\0' ? '\1' : text[i];
    use->out[out] = '\0';
    return 0;
}

static const char *const pieces[] = {
    "a",   "b",     ".",    "%a",     "%d",     "%s",     "%w", "%p",   "%l",   "%u",    "%x",
    "%c",  "%A",    "%D",   "%S",     "%W",     "%z",     "%g", "[ab]", "[^a]", "[a-c]", "[%d_]",
    "[]]", "[^]b]", "[a-]", "[%a-z]", "(",      ")",      "()", "*",    "+",    "-",     "?",
    "^",   "$",     "%b()", "%bxy",   "%f[%w]", "%f[^a]", "%1", "%2",   "%%",   "%",     "[",
    "[^",  "x",     "%.",   "\xe4",   "%b",     "%f",     "%Z", "[a",   "%h",   "\0"};

static void agrees_with_stock(void **state) {
    struct kt_error err = {0};
    static struct use mine, stock;
    struct kt_vm *script = kt_vm_new(NULL, KT_VM_SCRIPT, 0, &err),
                 *host = kt_vm_new(NULL, KT_VM_HOST, 0, &err);
    static const char alphabet[] = "aabbcx1 _()y\n.%\xe4\0";
    static const char *const repls[] = {"%0", "<%1>", "%%", "x", "", "%2%1", "%9", "%", "a%zb"};
    (void)state;
    assert_int_equal(kt_vm_call(script, load_uses, NULL, &err), 0);
    assert_int_equal(kt_vm_call(host, load_uses, NULL, &err), 0);
    for (int i = 0; i < 40000; i++) {
        char s[24], p[64];
        size_t s_len = draw(16), p_len = 0;
        for (size_t k = 0; k < s_len; k++)
            s[k] = alphabet[draw(sizeof alphabet)];
        for (unsigned k = draw(7); k > 0; k--) {
            unsigned which = draw(sizeof pieces / sizeof *pieces);
            size_t n = which == sizeof pieces / sizeof *pieces - 1 ? 1 : strlen(pieces[which]);
            memcpy(p + p_len, pieces[which], n);
            p_len += n;
        }
        p[p_len] = '\0';
        mine.s = stock.s = s;
        mine.s_len = stock.s_len = s_len;
        mine.p = stock.p = p;
        mine.p_len = stock.p_len = p_len;
        mine.repl = stock.repl = repls[draw(sizeof repls / sizeof *repls)];
        assert_int_equal(kt_vm_call(script, run_uses, &mine, &err), 0);
        assert_int_equal(kt_vm_call(host, run_uses, &stock, &err), 0);
        if (strcmp(mine.out, stock.out) != 0)
            fail_msg("subject '%.*s' pattern '%s' replacement '%s'\nours:\n%s\nstock:\n%s",
                     (int)s_len, s, p, mine.repl, mine.out, stock.out);
    }
    kt_vm_free(script);
    kt_vm_free(host);
    lua_unit_no_leftovers();
}

static void gives_up_in_its_budget(void **state) {
    (void)state;
    char subject[1000], pattern[200] = "";
    struct kt_match m;
    const char *start;
    memset(subject, 'a', sizeof subject);
    for (int i = 0; i < 27; i++)
        strcat(pattern, "a?");
    for (int i = 0; i < 27; i++)
        strcat(pattern, "a");
    const char *patterns[] = {pattern, "a*a*a*a*a*a*a*a*a*a*b", ".-.-.-.-b", "(.-)(.-)(.-)(.-)b"};
    size_t sizes[] = {27, 200, 400, 400};
    for (int i = 0; i < 4; i++) {
        kt_match_init(&m, subject, sizes[i], 100000);
        const char *end = patterns[i] + strlen(patterns[i]);
        assert_null(kt_match_from(&m, subject, patterns[i], end, &start));
        assert_non_null(m.error);
        assert_true(m.steps <= 100000 + 1000); /* at most one more run over the subject */
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(agrees_with_stock),
                                       cmocka_unit_test(gives_up_in_its_budget)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
