/* HTTP requests: what the parser makes of the bytes does not depend on how they arrive, and a
 * request that is taken has the bounds and the offsets that the header promises. */
#include "fuzz.h"

#include "net/http_parser.h"

enum { TARGET_MAX = 256, HEADERS_MAX = 1024 };

struct outcome {
    int code; /* 0: complete or not yet */
    bool head, body_done;
    size_t rest;
    struct kt_buf body, text; /* text: all that was understood of the head */
};

static void note_head(struct outcome *o, const struct kt_http_parser *p) {
    kt_buf_addf(&o->text, "%s %.*s|%.*s|%.*s %d %d%d%d%d %lld\n", p->method, (int)p->target.len,
                p->target.data, (int)p->path.len, p->path.data, (int)p->query.len,
                p->query.data != NULL ? p->query.data : "", p->minor, p->keep_alive, p->chunked,
                p->expect_continue, p->wants_upgrade, (long long)p->length);
    FUZZ_CHECK(p->target.len <= TARGET_MAX, "a target of %zu bytes", p->target.len);
    FUZZ_CHECK(p->head.len <= TARGET_MAX + HEADERS_MAX + 64, "a head of %zu bytes", p->head.len);
    FUZZ_CHECK(p->field_count <= KT_HTTP_FIELDS_MAX, "%d fields", p->field_count);
    for (int i = 0; i < p->field_count; i++) {
        const struct kt_http_field *f = &p->fields[i];
        FUZZ_CHECK((size_t)f->name + f->name_len <= p->head.len, "field %d", i);
        FUZZ_CHECK((size_t)f->value + f->value_len <= p->head.len, "value %d", i);
        const char *name = p->head.data + f->name, *value = p->head.data + f->value;
        for (int k = 0; k < f->name_len; k++)
            FUZZ_CHECK(name[k] > ' ' && name[k] != ':' && !(name[k] >= 'A' && name[k] <= 'Z'),
                       "name %.*s", f->name_len, name);
        for (int k = 0; k < f->value_len; k++)
            FUZZ_CHECK(value[k] != '\r' && value[k] != '\n' && value[k] != '\0', "value of %.*s",
                       f->name_len, name);
        kt_buf_addf(&o->text, "%.*s=", f->name_len, name);
        kt_buf_add(&o->text, value, f->value_len);
        kt_buf_addc(&o->text, '\n');
    }
}

static bool same(const struct kt_buf *a, const struct kt_buf *b) {
    return a->len == b->len && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

static void parse(struct outcome *o, const char *data, size_t size, size_t step) {
    struct kt_http_parser p;
    struct kt_error err;
    kt_http_parser_init(&p, TARGET_MAX, HEADERS_MAX);
    size_t at = 0;
    while (at < size && !(p.head_done && p.body_done)) {
        size_t n = size - at < step ? size - at : step;
        ssize_t used = p.head_done ? kt_http_parse_body(&p, data + at, n, &o->body, &err)
                                   : kt_http_parse_head(&p, data + at, n, &err);
        if (used < 0) {
            o->code = (int)-used;
            break;
        }
        FUZZ_CHECK((size_t)used <= n, "took %zd of %zu", used, n);
        at += (size_t)used;
        if (p.head_done && !o->head) {
            o->head = true;
            note_head(o, &p);
        }
        if (used == 0 && !p.head_done)
            break;
    }
    o->rest = size - at;
    o->body_done = p.head_done && p.body_done;
    kt_http_parser_free(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const size_t steps[] = {1, 2, 7};
    const char *text = (const char *)data;
    struct outcome whole = {0};
    parse(&whole, text, size, size + 1);
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        struct outcome pieces = {0};
        parse(&pieces, text, size, steps[i]);
        FUZZ_CHECK(pieces.code == whole.code, "code %d in pieces of %zu, %d whole", pieces.code,
                   steps[i], whole.code);
        FUZZ_CHECK(pieces.head == whole.head && pieces.body_done == whole.body_done,
                   "how far it came, in pieces of %zu", steps[i]);
        FUZZ_CHECK(same(&pieces.text, &whole.text), "the head, in pieces of %zu", steps[i]);
        if (whole.code == 0) {
            FUZZ_CHECK(pieces.rest == whole.rest, "rest %zu in pieces of %zu, %zu whole",
                       pieces.rest, steps[i], whole.rest);
            FUZZ_CHECK(same(&pieces.body, &whole.body), "the body, in pieces of %zu", steps[i]);
        }
        kt_buf_free(&pieces.text);
        kt_buf_free(&pieces.body);
    }
    kt_buf_free(&whole.text);
    kt_buf_free(&whole.body);
    return 0;
}
