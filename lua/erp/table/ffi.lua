--- The C side of tables (runtime/table/*.h) for LuaJIT's FFI, and the memory of columns.
-- Trusted: a rule never gets hold of what is here, because a raw pointer reads and writes anything.
local ffi = require "ffi"
require "kt.table" -- links the kernels into the program

local M = {}

ffi.cdef [[
struct kt_dict; struct kt_group;
typedef struct kt_dec { uint64_t lo; int64_t hi; int32_t scale; } kt_dec;
typedef struct kt_wide { uint64_t lo; int64_t hi; } kt_wide; /* kt_i128 in memory */
struct kt_keycol { const void *data; int32_t width; int32_t desc; const struct kt_dict *dict; };
struct kt_error { int code; char message[500]; };
struct kt_cell_error { long long line; char *column; const char *code; char message[160]; };
struct kt_cell_errors { struct kt_cell_error list[100]; int count; long long rejected; };
struct kt_raw_column { char *name; struct kt_dict *dict; int32_t *codes; };
struct kt_raw { long long rows, bytes; int columns; struct kt_raw_column column[1024]; int32_t *lines;
  struct kt_cell_errors errors; };
const int32_t *kt_table_sizes(void);
const char *kt_code_name(int code);

void *kt_vec_alloc(size_t bytes); void kt_vec_free(void *p); size_t kt_vec_in_use(void);

int kt_dec_add(const kt_dec *a, const kt_dec *b, kt_dec *out);
int kt_dec_sub(const kt_dec *a, const kt_dec *b, kt_dec *out);
int kt_dec_mul(const kt_dec *a, const kt_dec *b, kt_dec *out);
int kt_dec_div(const kt_dec *a, const kt_dec *b, int scale, kt_dec *out);
int kt_dec_round(const kt_dec *a, int scale, kt_dec *out);
int kt_dec_cmp(const kt_dec *a, const kt_dec *b);
int kt_dec_sign(const kt_dec *a);
int kt_dec_text(const kt_dec *a, int places, char *buf);
int kt_dec_parse(const char *s, size_t n, kt_dec *out);

int32_t kt_day_of(int year, int month, int day);
int32_t kt_day_monday(int32_t day);
void kt_day_text(int32_t day, char *buf); void kt_week_text(int32_t day, char *buf);
int kt_day_parse(const char *s, size_t n, int32_t *day, int *stamp);
int64_t kt_k_spread(const int32_t *start, const int32_t *finish, const int64_t *amount, const int32_t *sel,
  int64_t n, int32_t until, int even, int32_t *out_row, int32_t *out_week, int64_t *out_part);

struct kt_dict *kt_dict_new(void); void kt_dict_free(struct kt_dict *d);
int32_t kt_dict_intern(struct kt_dict *d, const char *s, size_t n);
int32_t kt_dict_find(const struct kt_dict *d, const char *s, size_t n);
int32_t kt_dict_count(const struct kt_dict *d);
const char *kt_dict_text(const struct kt_dict *d, int32_t code, size_t *n);
int kt_dict_merge(struct kt_dict *to, const struct kt_dict *from, int32_t *map);
void kt_dict_translate(const struct kt_dict *to, const struct kt_dict *from, int32_t *map);
int kt_dict_norm(struct kt_dict *d, int32_t from, int32_t to, int32_t *map);

int32_t kt_cells_number(const struct kt_dict *d, int32_t count, int scale, int64_t *out, uint8_t *bad);
int32_t kt_cells_integer(const struct kt_dict *d, int32_t count, int64_t *out, uint8_t *bad);
int32_t kt_cells_day(const struct kt_dict *d, int32_t count, int32_t *out, uint8_t *bad, uint8_t *stamps);
int32_t kt_cells_flag(const struct kt_dict *d, int32_t count, int32_t *out, uint8_t *bad);
int32_t kt_cells_allowed(const struct kt_dict *d, int32_t count, const struct kt_dict *allowed, uint8_t *bad);

struct kt_raw *kt_raw_read(const char *path, int format, struct kt_error *err);
struct kt_raw *kt_raw_parse(const char *data, size_t n, int format, struct kt_error *err);
void kt_raw_release_cells(struct kt_raw *raw);
void kt_raw_free(struct kt_raw *raw);

struct kt_group *kt_group_new(const struct kt_keycol *keys, int32_t nkeys, const int32_t *sel, int64_t n,
  int32_t null_skips, int32_t *ids);
void kt_group_free(struct kt_group *g);
int32_t kt_group_count(const struct kt_group *g);
const int32_t *kt_group_first(const struct kt_group *g);
int32_t kt_group_probe(const struct kt_group *g, const struct kt_keycol *keys, const int32_t *sel, int64_t n,
  int32_t *out);
void kt_k_members(const int32_t *ids, int64_t n, int32_t groups, int32_t *start, int32_t *members);

int32_t kt_k_sort(const struct kt_keycol *keys, int32_t nkeys, int32_t *rows, int64_t n);
int32_t kt_k_sort_segments(const struct kt_keycol *keys, int32_t nkeys, const int32_t *start, int32_t segments,
  int32_t *rows);

void kt_k_cmp32(uint8_t *mask, const int32_t *v, const int32_t *sel, int64_t n, int32_t op, int32_t c);
void kt_k_cmp_dec(uint8_t *mask, const void *v, int32_t width, int32_t scale, const int32_t *sel, int64_t n,
  int32_t op, const kt_dec *c);
void kt_k_cmp_col(uint8_t *mask, const void *a, int32_t width_a, int32_t scale_a, const void *b,
  int32_t width_b, int32_t scale_b, int64_t plus, const int32_t *sel, int64_t n, int32_t op);
void kt_k_null(uint8_t *mask, const void *v, int32_t width, const int32_t *sel, int64_t n, int32_t want_null);
void kt_k_in(uint8_t *mask, const int32_t *codes, const int32_t *sel, int64_t n, const uint8_t *set,
  int32_t set_n);
void kt_k_found(uint8_t *mask, const int32_t *idx, const int32_t *sel, int64_t n, int32_t want);
void kt_k_and(uint8_t *mask, const uint8_t *other, int64_t n);
void kt_k_or(uint8_t *mask, const uint8_t *other, int64_t n);
void kt_k_not(uint8_t *mask, int64_t n);
int64_t kt_k_select(const uint8_t *mask, const int32_t *sel, int64_t n, int32_t *out);
void kt_k_decide(int32_t *out, const uint8_t *mask, int64_t n, int32_t v);
void kt_k_fill32(int32_t *out, int64_t n, int32_t v);
void kt_k_fill64(int64_t *out, int64_t n, int64_t v);
void kt_k_iota(int32_t *out, int64_t n, int32_t from);
void kt_k_gather(void *out, const void *v, int32_t width, const int32_t *idx, int64_t n);
void kt_k_map32(int32_t *out, const int32_t *codes, const int32_t *map, int64_t n);
void kt_k_map64(int64_t *out, const int32_t *codes, const int64_t *map, int64_t n);
void kt_k_compose(int32_t *out, const int32_t *idx, const int32_t *sel, int64_t n);
void kt_k_coalesce(void *out, const void *a, const void *b, int32_t width, int64_t n);
void kt_k_widen(kt_wide *out, const int64_t *v, int64_t n);
void kt_k_plus32(int32_t *out, const int32_t *v, int64_t n, int32_t plus);
void kt_k_monday(int32_t *out, const int32_t *day, int64_t n);
int32_t kt_k_add64(int64_t *out, const int64_t *a, const int64_t *b, int32_t sign, int64_t n);
int32_t kt_k_times(kt_wide *out, const void *a, int32_t width_a, const void *b, int32_t width_b, const kt_dec *c,
  int64_t n);
int64_t kt_k_bad(const int32_t *codes, const uint8_t *bad, int64_t n, int32_t *rows, int32_t max);
int32_t kt_k_sum(kt_wide *acc, const void *v, int32_t width, const int32_t *sel, const int32_t *ids,
  const uint8_t *mask, int64_t n);
void kt_k_count(int64_t *acc, const void *v, int32_t width, const int32_t *sel, const int32_t *ids,
  const uint8_t *mask, int64_t n);
void kt_k_min(void *acc, const void *v, int32_t width, const int32_t *sel, const int32_t *ids,
  const uint8_t *mask, int64_t n, int32_t max);
void kt_k_fifo(const int32_t *start, const int32_t *members, int32_t groups, const int64_t *qty,
  const void *used, int32_t used_width, int64_t *out);
int32_t kt_k_ratio(int64_t *out, const int64_t *v, int32_t from, const int32_t *ids, const int64_t *num,
  const int64_t *den, int64_t n);
void kt_k_repeats(uint8_t *mask, const int32_t *ids, const int32_t *first, const struct kt_keycol *all,
  int32_t columns, int64_t n);

void kt_k_as_of(int32_t *out, const int32_t *ids, const int32_t *start, const int32_t *members, const int32_t *from,
  const int32_t *until, const int32_t *at, int64_t n);
int32_t kt_k_trailing_mean(int64_t *out, const int32_t *start, const int32_t *members, int32_t groups, const kt_wide *v,
  int32_t scale, const int32_t *other, int32_t last, int32_t least);
int32_t kt_k_windows(int32_t *out, const int32_t *start, const int32_t *members, int32_t groups, const int32_t *date,
  int32_t days, const uint8_t *each, const kt_wide *v, int32_t scale, const int64_t *limit, int32_t limit_scale);
struct kt_k_supply { const int32_t *start, *members; const int64_t *qty; const int32_t *date; };
void kt_k_serve(int64_t *filled, int32_t *last, int64_t *late, const int32_t *start, const int32_t *members,
  int32_t groups, const int64_t *qty, const int32_t *limit, const int32_t *other, const struct kt_k_supply *supply);
int32_t kt_k_running(kt_wide *out, const int32_t *start, const int32_t *members, int32_t groups, const kt_wide *v);
int32_t kt_k_add128(kt_wide *out, const kt_wide *a, const kt_wide *b, int32_t sign, int64_t n);
void kt_k_days(int64_t *out, const int32_t *a, const int32_t *b, int64_t n);
int32_t kt_k_quotient(int64_t *out, const void *a, int32_t width_a, int32_t scale_a, const void *b, int32_t width_b,
  int32_t scale_b, int32_t scale, int64_t n);
int32_t kt_k_unit_price(int64_t *out, const int64_t *price, const int64_t *unit, const int32_t *ids, const int64_t *num,
  const int64_t *den, int64_t n);
int32_t kt_k_round_to(int64_t *out, const void *v, int32_t width, int32_t scale, const int64_t *unit, int64_t n);
]]

local C = ffi.C
M.ffi, M.C = ffi, C

-- LuaJIT tries to compile a function that is called often by itself, fails when it has no loop, and after some tries never takes
-- it into a trace again: then no loop that calls it is compiled either. What all rules call would end like that.
local hot = {} -- main chunks of modules
--- Called in the main chunk of a module whose functions the loops of rules call.
function M.hot() hot[#hot + 1] = debug.getinfo(2, "f").func end
--- Allows the functions of hot modules in traces again; before each rule.
function M.reheat()
  for _, chunk in ipairs(hot) do jit.on(chunk, true) end
end
M.hot()

-- The declarations above repeat the headers: a difference in layout must not go unseen.
local sizes = C.kt_table_sizes()
for i, name in ipairs { "kt_dec", "struct kt_keycol", "struct kt_error", "struct kt_cell_error", "struct kt_raw",
  "struct kt_k_supply" } do
  assert(sizes[i - 1] == ffi.sizeof(name), name .. " differs from its C header")
end

M.NULL32 = -2147483648
M.NULL64 = ffi.cast("int64_t", 0x8000000000000000ULL)

local types = {
  [1] = ffi.typeof "uint8_t *", [4] = ffi.typeof "int32_t *", [8] = ffi.typeof "int64_t *",
  [16] = ffi.typeof "kt_wide *",
}

-- The collector sees a pointer of a few bytes, not the megabytes behind it; so it is driven from here.
local GARBAGE = 384 * 1024 * 1024
local after = 0 -- bytes in use when it last ran from here

--- An array of n values of 1, 4, 8 or 16 bytes, not zeroed, freed by the collector.
---@param width integer
---@param n integer
---@return ffi.cdata*
function M.alloc(width, n)
  local bytes = width * math.max(n, 1)
  if tonumber(C.kt_vec_in_use()) + bytes > after + GARBAGE then
    collectgarbage()
    after = tonumber(C.kt_vec_in_use())
  end
  local p = C.kt_vec_alloc(bytes)
  if p == nil then
    collectgarbage()
    p = C.kt_vec_alloc(bytes)
    if p == nil then error("not enough memory for " .. n .. " rows") end
  end
  return ffi.gc(ffi.cast(types[width], p), C.kt_vec_free)
end

--- Give an array back at once; the caller must be its only owner.
---@param p ffi.cdata*?
function M.free(p)
  if p ~= nil then C.kt_vec_free(ffi.gc(p, nil)) end
end

---@return ffi.cdata*
function M.new_dict()
  local d = C.kt_dict_new()
  if d == nil then error "not enough memory" end
  return ffi.gc(d, C.kt_dict_free)
end

local length = ffi.new "size_t[1]"
--- Text of a code.
---@param dict ffi.cdata*
---@param code integer
---@return string
function M.text(dict, code)
  local s = C.kt_dict_text(dict, code, length)
  local text = ffi.string(s, length[0]) -- a tail call here would not be compiled
  return text
end

return M
