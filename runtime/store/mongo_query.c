/* Filters, sorts and updates as MongoDB takes them. */
#include <string.h>

#include "store/mongo.h"
#include "store/val.h"

static void index_key(int i, char text[16], const char **key) {
    bson_uint32_to_string((uint32_t)i, key, text, 16);
}

/* The least text that is above every text beginning with `text`: its last character that has a
 * following one, raised; UTF-8 sorts as its code points do. False: there is none. */
static bool successor(const char *text, size_t len, char *out, size_t *out_len) {
    while (len > 0) {
        size_t start = len - 1;
        while (start > 0 && ((unsigned char)text[start] & 0xC0) == 0x80)
            start--;
        bson_unichar_t c = bson_utf8_get_char(text + start);
        if (c < 0x10FFFF) {
            uint32_t n;
            char one[6];
            c = c == 0xD7FF ? 0xE000 : c + 1; /* surrogates are no characters */
            bson_utf8_from_unichar(c, one, &n);
            memcpy(out, text, start);
            memcpy(out + start, one, n);
            *out_len = start + n;
            return true;
        }
        len = start;
    }
    return false;
}

static void add_prefix(bson_t *out, const bson_value_t *v) {
    const char *text = v->value.v_utf8.str;
    size_t len = v->value.v_utf8.len, n;
    char *next = bson_malloc(len + 8);
    bson_append_utf8(out, "$gte", 4, text, (int)len);
    if (successor(text, len, next, &n))
        bson_append_utf8(out, "$lt", 3, next, (int)n);
    bson_free(next);
}

/* {path: {operator: value}} */
static void add_cond(const struct kt_cond *c, bson_t *out) {
    static const char *const names[] = {"$eq",  "$ne", "$in",  "$nin",   "$gt",
                                        "$gte", "$lt", "$lte", "$exists"};
    bson_t test;
    bson_append_document_begin(out, c->path, -1, &test);
    if (c->op == KT_PREFIX)
        add_prefix(&test, &c->value);
    else
        bson_append_value(&test, names[c->op], -1, &c->value);
    bson_append_document_end(out, &test);
}

static bool repeats(const struct kt_filter *f) {
    for (int i = 1; i < f->count; i++)
        for (int j = 0; j < i; j++)
            if (strcmp(f->conds[i].path, f->conds[j].path) == 0)
                return true;
    return false;
}

void mg_filter(const struct kt_filter *f, bson_t *out) {
    bson_t list, one;
    char text[16];
    const char *key;
    if (repeats(f)) { /* a name stands once in a document */
        bson_append_array_begin(out, "$and", 4, &list);
        for (int i = 0; i < f->count; i++) {
            index_key(i, text, &key);
            bson_append_document_begin(&list, key, -1, &one);
            add_cond(&f->conds[i], &one);
            bson_append_document_end(&list, &one);
        }
        bson_append_array_end(out, &list);
    } else
        for (int i = 0; i < f->count; i++)
            add_cond(&f->conds[i], out);
    if (f->branch_count == 0)
        return;
    bson_append_array_begin(out, "$or", 3, &list);
    for (int i = 0; i < f->branch_count; i++) {
        index_key(i, text, &key);
        bson_append_document_begin(&list, key, -1, &one);
        mg_filter(&f->branches[i], &one);
        bson_append_document_end(&list, &one);
    }
    bson_append_array_end(out, &list);
}

/* The types of BSON, in its order of comparison, each with the class it belongs to. */
static const struct {
    enum kt_class class;
    const char *name;
} types[] = {
    {KT_CLASS_NUMBER, "number"}, {KT_CLASS_STRING, "string"},  {KT_CLASS_DOCUMENT, "object"},
    {KT_CLASS_ARRAY, "array"},   {KT_CLASS_BINARY, "binData"}, {KT_CLASS_OID, "objectId"},
    {KT_CLASS_BOOL, "bool"},     {KT_CLASS_DATE, "date"},      {KT_CLASS_TIMESTAMP, "timestamp"}};

/* {path: {$type: [those above or below the class]}} as an alternative; false: there are none. */
static bool add_types(bson_t *list, int at, const char *path, enum kt_class class, bool above) {
    bson_t one, test, names;
    char text[16];
    const char *key;
    int n = 0;
    index_key(at, text, &key);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        n += above ? types[i].class > class : types[i].class < class;
    if (n == 0)
        return false;
    bson_append_document_begin(list, key, -1, &one);
    bson_append_document_begin(&one, path, -1, &test);
    bson_append_array_begin(&test, "$type", 5, &names);
    n = 0;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (above ? types[i].class > class : types[i].class < class) {
            index_key(n++, text, &key);
            bson_append_utf8(&names, key, -1, types[i].name, -1);
        }
    bson_append_array_end(&test, &names);
    bson_append_document_end(&one, &test);
    bson_append_document_end(list, &one);
    return true;
}

/* What comes behind `v` in a sort by `path`. Ranges keep to the class of their operand, so the
 * other classes are said apart; _id is never null. */
static void add_behind(bson_t *out, const char *path, bool desc, const bson_value_t *v) {
    bson_t list, one, test;
    bool null = kt_val_is_null(v), id = strcmp(path, "_id") == 0;
    int n = 0;
    char text[16];
    const char *key;
    bson_append_array_begin(out, "$or", 3, &list);
    if (!null) {
        index_key(n++, text, &key);
        bson_append_document_begin(&list, key, -1, &one);
        bson_append_document_begin(&one, path, -1, &test);
        bson_append_value(&test, desc ? "$lt" : "$gt", -1, v);
        bson_append_document_end(&one, &test);
        bson_append_document_end(&list, &one);
    }
    if (add_types(&list, n, path, kt_val_class(v), !desc))
        n++;
    if (desc && !null && !id) {
        index_key(n++, text, &key);
        bson_append_document_begin(&list, key, -1, &one);
        bson_append_null(&one, path, -1);
        bson_append_document_end(&list, &one);
    }
    if (n == 0) { /* nothing is below null */
        bson_append_document_begin(&list, "0", 1, &one);
        bson_append_document_begin(&one, "_id", 3, &test);
        bson_t none;
        bson_append_array_begin(&test, "$in", 3, &none);
        bson_append_array_end(&test, &none);
        bson_append_document_end(&one, &test);
        bson_append_document_end(&list, &one);
    }
    bson_append_array_end(out, &list);
}

void mg_filter_after(const struct kt_filter *f, const struct kt_sort *sort, const bson_t *after,
                     bson_t *out) {
    bson_value_t values[KT_SORT_MAX + 1];
    bson_iter_t it;
    bson_t both, part, list, branch, test;
    int n = 0;
    char text[16];
    const char *key;
    bson_iter_init(&it, after);
    while (n < sort->count && bson_iter_next(&it))
        values[n++] = *bson_iter_value(&it);
    bson_append_array_begin(out, "$and", 4, &both);
    bson_append_document_begin(&both, "0", 1, &part);
    mg_filter(f, &part);
    bson_append_document_end(&both, &part);
    bson_append_document_begin(&both, "1", 1, &part);
    bson_append_array_begin(&part, "$or", 3, &list);
    for (int i = 0; i < n; i++) { /* equal up to i, and behind there */
        index_key(i, text, &key);
        bson_append_document_begin(&list, key, -1, &branch);
        for (int j = 0; j < i; j++) {
            bson_append_document_begin(&branch, sort->keys[j].path, -1, &test);
            bson_append_value(&test, "$eq", 3, &values[j]);
            bson_append_document_end(&branch, &test);
        }
        add_behind(&branch, sort->keys[i].path, sort->keys[i].desc, &values[i]);
        bson_append_document_end(&list, &branch);
    }
    bson_append_array_end(&part, &list);
    bson_append_document_end(&both, &part);
    bson_append_array_end(out, &both);
}

void mg_sort(const struct kt_sort *s, bson_t *out) {
    for (int i = 0; i < s->count; i++)
        bson_append_int32(out, s->keys[i].path, -1, s->keys[i].desc ? -1 : 1);
}

void mg_fields(const char *fields, bson_t *out) {
    bson_append_int32(out, "_id", 3, 1);
    for (const char *f = fields; *f != '\0'; f += strlen(f) + 1)
        if (strcmp(f, "_id") != 0)
            bson_append_int32(out, f, -1, 1);
}

void mg_update(const struct kt_update *u, const char *new_id, bson_t *out) {
    static const char *const names[] = {"$set",         "$unset", "$inc",      "$min", "$max",
                                        "$setOnInsert", "$push",  "$addToSet", "$pull"};
    for (int op = KT_SET; op <= KT_PULL; op++) {
        bson_t changes, each;
        bool id = op == KT_SET_ON_INSERT && new_id != NULL, any = id;
        if (id) {
            bson_append_document_begin(out, names[op], -1, &changes);
            bson_append_utf8(&changes, "_id", 3, new_id, -1);
        }
        for (int i = 0; i < u->count; i++) {
            const struct kt_update_entry *e = &u->entries[i];
            if ((int)e->op != op)
                continue;
            if (!any)
                bson_append_document_begin(out, names[op], -1, &changes);
            any = true;
            if (op == KT_PUSH || op == KT_ADD_TO_SET) {
                bson_append_document_begin(&changes, e->path, -1, &each);
                bson_append_value(&each, "$each", 5, &e->value);
                bson_append_document_end(&changes, &each);
            } else
                bson_append_value(&changes, e->path, -1, &e->value);
        }
        if (any)
            bson_append_document_end(out, &changes);
    }
    if (u->count == 0 && new_id == NULL) { /* nothing to change is no replacement by nothing */
        bson_t none;
        bson_append_document_begin(out, "$unset", 6, &none);
        bson_append_utf8(&none, "_", 1, "", 0);
        bson_append_document_end(out, &none);
    }
}
