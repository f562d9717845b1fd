/* Module kt.table: links the kernels of runtime/table into the program, where LuaJIT's FFI finds
 * them by name (lua/erp/table/ffi.lua). It has no functions of its own. */
#include "bind/bind.h"
#include "table/calendar.h"
#include "table/cells.h"
#include "table/decimal.h"
#include "table/dict.h"
#include "table/group.h"
#include "table/kernels.h"
#include "table/raw.h"
#include "table/series.h"
#include "table/sort.h"
#include "table/vec.h"

const int32_t *kt_table_sizes(void);

/* One function of every file: a static library gives only the files that somebody names. Not
 * static, or the compiler would see that nobody reads it. */
typedef void (*fn)(void);
extern const fn kt_table_linked[];
const fn kt_table_linked[] = {
    (fn)kt_dec_add,   (fn)kt_day_of, (fn)kt_dict_new, (fn)kt_cells_number, (fn)kt_raw_read,
    (fn)kt_group_new, (fn)kt_k_and,  (fn)kt_k_sort,   (fn)kt_vec_alloc,    (fn)kt_k_as_of,
};

/* Sizes that the FFI declarations are checked against, in their order. */
const int32_t *kt_table_sizes(void) {
    static const int32_t sizes[] = {sizeof(struct kt_dec),   sizeof(struct kt_keycol),
                                    sizeof(struct kt_error), sizeof(struct kt_cell_error),
                                    sizeof(struct kt_raw),   sizeof(struct kt_k_supply)};
    return sizes;
}

int luaopen_kt_table(lua_State *L) {
    lua_createtable(L, 0, 1);
    lua_pushinteger(L, (lua_Integer)(sizeof(kt_table_linked) / sizeof(kt_table_linked[0])));
    lua_setfield(L, -2, "files");
    return 1;
}
