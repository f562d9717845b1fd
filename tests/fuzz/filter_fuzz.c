/* Filters and the order of values: the engine narrows by keys and index ranges, the matcher decides;
 * what is found through an index must be what the matcher takes of all documents. And the bytes of
 * two keys compare as their values do. */
#include "fuzz.h"

#include <ftw.h>
#include <unistd.h>

#include "store/engine.h"
#include "store/val.h"

enum { DOCS = 6, DEPTH = 2 };
static const char *const fields[] = {"v", "w", "s.x", "_id"};
static const char *const texts[] = {"", "a", "ab", "b", "\xc3\xa9", "0", "aa"};

static struct kt_engine *engine;
static char dir[64];

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw) {
    (void)st;
    (void)flag;
    (void)ftw;
    return remove(path);
}

static void cleanup(void) {
    engine->class->close(engine);
    nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static struct kt_commit *next_commit(void *ud) {
    struct kt_commit **slot = ud, *c = *slot;
    *slot = NULL;
    return c;
}

static int run(struct kt_write *writes, int count, struct kt_commit *c) {
    memset(c, 0, sizeof *c);
    c->writes = writes;
    c->count = count;
    struct kt_commit *slot = c;
    engine->class->write(engine, "fuzz", next_commit, &slot);
    return c->rc;
}

static void ensure_index(const char *name, const char *path, bool desc) {
    struct kt_write w = {.kind = KT_ENSURE_INDEX};
    struct kt_commit c;
    struct kt_error err;
    strcpy(w.coll, "c");
    strcpy(w.index, name);
    kt_sort_add(&w.keys, path, strlen(path), desc, &err);
    FUZZ_CHECK(run(&w, 1, &c) == 0, "index %s: %s", name, c.error.message);
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    struct kt_error err;
    strcpy(dir, access("/dev/shm", W_OK) == 0 ? "/dev/shm/kt-fuzz-XXXXXX" : "/tmp/kt-fuzz-XXXXXX");
    FUZZ_CHECK(mkdtemp(dir) != NULL, "no directory %s", dir);
    struct kt_store_config config = {.dir = dir, .sync_normal = true};
    engine = kt_engine_sqlite.open(&config, &err);
    FUZZ_CHECK(engine != NULL, "%s", err.message);
    atexit(cleanup);
    FUZZ_CHECK(engine->class->create(engine, "fuzz", &err) == 0, "%s", err.message);
    ensure_index("by_v", "v", false);
    ensure_index("by_w", "w", true);
    ensure_index("by_s", "s.x", false);
    return 0;
}

static double number(struct fuzz_in *in) {
    static const double some[] = {0, -0.0, 0.5, 1, 9007199254740992.0, 9223372036854775808.0,
                                  -9223372036854775808.0, 1e300, -1e-300, 2};
    if (fuzz_byte(in) & 1)
        return some[fuzz_below(in, 10)];
    uint64_t bits = fuzz_u64(in);
    double d;
    memcpy(&d, &bits, sizeof d);
    return d == d ? d : 3;
}

/* Append a value as `name`; arrays: also those (not for indexed fields). */
static void append(struct fuzz_in *in, bson_t *doc, const char *name, bool arrays, int depth) {
    /* libbson's macros evaluate their arguments more than once. */
    const char *text = texts[fuzz_below(in, 7)];
    bson_t sub;
    switch (fuzz_below(in, arrays ? 12 : 11)) {
    case 0:
        BSON_APPEND_NULL(doc, name);
        break;
    case 1:
    case 2:
        BSON_APPEND_INT64(doc, name, fuzz_below(in, 5) - 2);
        break;
    case 3:
        BSON_APPEND_INT64(doc, name, (int64_t)fuzz_u64(in));
        break;
    case 4:
        BSON_APPEND_DOUBLE(doc, name, number(in));
        break;
    case 5:
    case 6:
        BSON_APPEND_UTF8(doc, name, text);
        break;
    case 7:
        BSON_APPEND_BOOL(doc, name, fuzz_byte(in) & 1);
        break;
    case 8:
        BSON_APPEND_DATE_TIME(doc, name, fuzz_below(in, 3) - 1);
        break;
    case 9:
        bson_append_binary(doc, name, -1, BSON_SUBTYPE_BINARY, (const uint8_t *)"ab\0",
                           (uint32_t)fuzz_below(in, 4));
        break;
    case 10:
        BSON_APPEND_DOCUMENT_BEGIN(doc, name, &sub);
        if (depth < DEPTH && fuzz_byte(in) & 1)
            append(in, &sub, text[0] == 'a' ? "x" : "y", arrays, depth + 1);
        bson_append_document_end(doc, &sub);
        break;
    default: {
        static const char *const index[] = {"0", "1", "2"};
        int n = fuzz_below(in, 4);
        BSON_APPEND_ARRAY_BEGIN(doc, name, &sub);
        for (int i = 0; i < n; i++)
            append(in, &sub, index[i], depth < DEPTH, depth + 1);
        bson_append_array_end(doc, &sub);
    }
    }
}

static void condition(struct fuzz_in *in, struct kt_filter *f) {
    static const char *const ops[] = {"eq", "ne", "in", "nin", "gt", "gte", "lt", "lte", "exists",
                                      "prefix"};
    const char *path = fields[fuzz_below(in, 4)];
    enum kt_cmp op = (enum kt_cmp)kt_cmp_of_name(ops[fuzz_below(in, 10)]);
    bson_t doc = BSON_INITIALIZER, list;
    struct kt_error err;
    if (op == KT_IN || op == KT_NIN) {
        static const char *const index[] = {"0", "1", "2"};
        int n = fuzz_below(in, 4);
        BSON_APPEND_ARRAY_BEGIN(&doc, "v", &list);
        for (int i = 0; i < n; i++)
            append(in, &list, index[i], false, 0);
        bson_append_array_end(&doc, &list);
    } else {
        append(in, &doc, "v", true, 0);
    }
    bson_iter_t it;
    if (bson_iter_init_find(&it, &doc, "v"))
        kt_filter_add(f, path, strlen(path), op, bson_iter_value(&it), &err); /* may be refused */
    bson_destroy(&doc);
}

static int sign(int x) {
    return (x > 0) - (x < 0);
}

static void check_keys(const bson_t *a, const bson_t *b) {
    bson_iter_t x, y;
    if (!bson_iter_init_find(&x, a, "v") || !bson_iter_init_find(&y, b, "v"))
        return;
    struct kt_buf p = {0}, q = {0};
    kt_key_add(&p, bson_iter_value(&x));
    kt_key_add(&q, bson_iter_value(&y));
    size_t n = p.len < q.len ? p.len : q.len;
    int bytes = memcmp(p.data, q.data, n);
    if (bytes == 0)
        bytes = (p.len > q.len) - (p.len < q.len);
    int values = kt_val_cmp(bson_iter_value(&x), bson_iter_value(&y));
    FUZZ_CHECK(sign(bytes) == sign(values), "keys compare as %d, values as %d", bytes, values);
    FUZZ_CHECK(sign(kt_val_cmp(bson_iter_value(&y), bson_iter_value(&x))) == -sign(values),
               "the order of two values depends on their places");
    kt_buf_free(&p);
    kt_buf_free(&q);
}

static void insert(bson_t *docs, int count) {
    struct kt_write w[2] = {{.kind = KT_DELETE, .many = true}, {.kind = KT_INSERT}};
    struct kt_commit c;
    strcpy(w[0].coll, "c");
    strcpy(w[1].coll, "c");
    for (int i = 0; i < count; i++)
        kt_buf_add(&w[1].docs, bson_get_data(&docs[i]), docs[i].len);
    FUZZ_CHECK(run(w, count > 0 ? 2 : 1, &c) == 0, "insert: %s", c.error.message);
    kt_buf_free(&w[1].docs);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fuzz_in in = {data, data + size};
    struct kt_filter filter = {0}, copy = {0};
    struct kt_error err;
    /* The filter twice: a read owns its own. */
    struct fuzz_in again = in;
    for (int pass = 0; pass < 2; pass++) {
        struct kt_filter *f = pass == 0 ? &filter : &copy;
        struct fuzz_in *from = pass == 0 ? &in : &again;
        for (int n = fuzz_below(from, 3); n > 0; n--)
            condition(from, f);
        for (int n = fuzz_below(from, 4); n > 1; n--) {
            struct kt_filter *branch = kt_filter_or(f, &err);
            if (branch != NULL)
                condition(from, branch);
        }
    }
    bson_t docs[DOCS];
    int count = fuzz_below(&in, DOCS + 1);
    for (int i = 0; i < count; i++) {
        char id[2] = {(char)('a' + i), '\0'};
        bson_t sub;
        bson_init(&docs[i]);
        BSON_APPEND_UTF8(&docs[i], "_id", id);
        uint8_t which = fuzz_byte(&in);
        if (which & 1)
            append(&in, &docs[i], "v", false, 0);
        if (which & 2)
            append(&in, &docs[i], "w", false, 0);
        if (which & 4) {
            BSON_APPEND_DOCUMENT_BEGIN(&docs[i], "s", &sub);
            append(&in, &sub, "x", false, 1);
            bson_append_document_end(&docs[i], &sub);
        }
        for (int j = 0; j < i; j++)
            check_keys(&docs[j], &docs[i]);
    }
    insert(docs, count);

    struct kt_read r = {.kind = KT_FIND, .filter = copy};
    strcpy(r.coll, "c");
    const char *sorted = fields[fuzz_below(&in, 4)];
    kt_sort_add(&r.sort, sorted, strlen(sorted), fuzz_byte(&in) & 1, &err);
    kt_sort_finish(&r.sort);
    FUZZ_CHECK(engine->class->read(engine, "fuzz", &r, &err) == 0, "find: %s", err.message);
    unsigned found = 0, expected = 0;
    for (size_t at = 0; at < r.out.len;) {
        uint32_t len;
        memcpy(&len, r.out.data + at, 4);
        bson_t doc;
        bson_iter_t it;
        FUZZ_CHECK(bson_init_static(&doc, (const uint8_t *)r.out.data + at, len) &&
                       bson_iter_init_find(&it, &doc, "_id"),
                   "a document of the answer");
        unsigned bit = 1u << (bson_iter_utf8(&it, NULL)[0] - 'a');
        FUZZ_CHECK(!(found & bit), "a document comes twice");
        found |= bit;
        at += len;
    }
    for (int i = 0; i < count; i++)
        if (kt_filter_match(&filter, &docs[i]))
            expected |= 1u << i;
    FUZZ_CHECK(found == expected, "found %x, the matcher takes %x", found, expected);
    kt_read_free(&r);
    kt_filter_free(&filter);
    for (int i = 0; i < count; i++)
        bson_destroy(&docs[i]);
    return 0;
}
