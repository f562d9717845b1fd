/* Module kt.metrics: the registry of core/metrics.h. Nothing here yields.
 *
 *   metrics.counter(name, help, {"label", …}?) -> m     m:inc(labels?, n = 1)
 *   metrics.gauge(name, help, {…}?) -> m                m:set(labels?, value)  m:inc(labels?, n)
 *   metrics.histogram(name, help, {…}?) -> m            m:observe(labels?, seconds)
 *   m:series(labels?) -> s     s:inc(n = 1), s:observe(seconds): for labels that come again and again
 *   metrics.render() -> text for Prometheus
 *
 * labels is {label = value}; a label that is left out is "", one that was not declared raises. */
#include "bind/bind.h"
#include "core/metrics.h"

#define METRIC "kt.metric"
#define SERIES "kt.metric.series"

struct series {
    struct kt_series *of;
    enum kt_metric_kind kind;
};

static struct kt_metric *check_metric(lua_State *L) {
    return *(struct kt_metric **)luaL_checkudata(L, 1, METRIC);
}

/* values[i] for the labels of the table at arg; the texts stay on the stack. */
static void values_of(lua_State *L, int arg, const struct kt_metric *m, const char **values) {
    const char *const *labels;
    int count = kt_metric_labels(m, &labels), given = 0;
    luaL_checkstack(L, count + 4, NULL);
    for (int i = 0; i < count; i++)
        values[i] = "";
    if (lua_isnoneornil(L, arg))
        return;
    luaL_checktype(L, arg, LUA_TTABLE);
    for (int i = 0; i < count; i++) {
        lua_getfield(L, arg, labels[i]);
        if (lua_isnil(L, -1))
            continue;
        given++;
        values[i] = lua_tostring(L, -1);
        if (values[i] == NULL)
            luaL_error(L, "label %s is a %s", labels[i], luaL_typename(L, -1));
    }
    lua_pushnil(L);
    while (lua_next(L, arg) != 0) {
        given--;
        lua_pop(L, 1);
    }
    if (given != 0)
        luaL_error(L, "a label that the metric does not have");
}

static int l_inc(lua_State *L) {
    const char *values[KT_METRIC_LABELS_MAX];
    struct kt_metric *m = check_metric(L);
    double n = luaL_optnumber(L, 3, 1);
    luaL_argcheck(L, kt_metric_kind(m) != KT_HISTOGRAM, 1, "a histogram observes");
    luaL_argcheck(L, n >= 0 || kt_metric_kind(m) == KT_GAUGE, 3, "a counter never falls");
    values_of(L, 2, m, values);
    kt_metric_add(m, values, n);
    return 0;
}

static int l_set(lua_State *L) {
    const char *values[KT_METRIC_LABELS_MAX];
    struct kt_metric *m = check_metric(L);
    double value = luaL_checknumber(L, 3);
    luaL_argcheck(L, kt_metric_kind(m) == KT_GAUGE, 1, "only a gauge is set");
    values_of(L, 2, m, values);
    kt_metric_set(m, values, value);
    return 0;
}

static int l_observe(lua_State *L) {
    const char *values[KT_METRIC_LABELS_MAX];
    struct kt_metric *m = check_metric(L);
    double value = luaL_checknumber(L, 3);
    luaL_argcheck(L, kt_metric_kind(m) == KT_HISTOGRAM, 1, "only a histogram observes");
    values_of(L, 2, m, values);
    kt_metric_observe(m, values, value);
    return 0;
}

static int l_series(lua_State *L) {
    const char *values[KT_METRIC_LABELS_MAX];
    struct kt_metric *m = check_metric(L);
    values_of(L, 2, m, values);
    struct kt_series *of = kt_metric_series(m, values);
    struct series *s = lua_newuserdata(L, sizeof *s);
    *s = (struct series){of, kt_metric_kind(m)};
    luaL_getmetatable(L, SERIES);
    lua_setmetatable(L, -2);
    return 1;
}

static int l_series_inc(lua_State *L) {
    struct series *s = luaL_checkudata(L, 1, SERIES);
    double n = luaL_optnumber(L, 2, 1);
    luaL_argcheck(L, s->kind != KT_HISTOGRAM, 1, "a histogram observes");
    luaL_argcheck(L, n >= 0 || s->kind == KT_GAUGE, 2, "a counter never falls");
    kt_series_add(s->of, n);
    return 0;
}

static int l_series_observe(lua_State *L) {
    struct series *s = luaL_checkudata(L, 1, SERIES);
    double value = luaL_checknumber(L, 2);
    luaL_argcheck(L, s->kind == KT_HISTOGRAM, 1, "only a histogram observes");
    kt_series_observe(s->of, value);
    return 0;
}

static int make(lua_State *L, enum kt_metric_kind kind) {
    const char *labels[KT_METRIC_LABELS_MAX];
    struct kt_error err;
    int count = 0;
    const char *name = luaL_checkstring(L, 1), *help = luaL_checkstring(L, 2);
    if (!lua_isnoneornil(L, 3)) {
        luaL_checktype(L, 3, LUA_TTABLE);
        count = (int)lua_objlen(L, 3);
        luaL_argcheck(L, count <= KT_METRIC_LABELS_MAX, 3, "too many labels");
        for (int i = 0; i < count; i++) {
            lua_rawgeti(L, 3, i + 1);
            labels[i] = luaL_checkstring(L, -1);
        }
    }
    struct kt_metric *m = kt_metric(name, help, kind, labels, count, &err);
    if (m == NULL)
        return luaL_error(L, "%s", err.message);
    *(struct kt_metric **)lua_newuserdata(L, sizeof(struct kt_metric *)) = m;
    luaL_getmetatable(L, METRIC);
    lua_setmetatable(L, -2);
    return 1;
}

static int l_counter(lua_State *L) {
    return make(L, KT_COUNTER);
}
static int l_gauge(lua_State *L) {
    return make(L, KT_GAUGE);
}
static int l_histogram(lua_State *L) {
    return make(L, KT_HISTOGRAM);
}

static int l_render(lua_State *L) {
    struct kt_buf *out = kt_scratch();
    kt_metrics_render(out);
    if (out->failed)
        return luaL_error(L, "not enough memory");
    lua_pushlstring(L, out->len > 0 ? out->data : "", out->len);
    return 1;
}

static const luaL_Reg functions[] = {
    {"counter", l_counter}, {"gauge", l_gauge}, {"histogram", l_histogram}, {"render", l_render},
    {NULL, NULL},
};
static const luaL_Reg methods[] = {
    {"inc", l_inc}, {"set", l_set}, {"observe", l_observe}, {"series", l_series}, {NULL, NULL},
};
static const luaL_Reg series_methods[] = {
    {"inc", l_series_inc}, {"observe", l_series_observe}, {NULL, NULL},
};

int luaopen_kt_metrics(lua_State *L) {
    kt_class(L, METRIC, methods);
    kt_class(L, SERIES, series_methods);
    lua_newtable(L);
    luaL_setfuncs(L, functions, 0);
    return 1;
}
