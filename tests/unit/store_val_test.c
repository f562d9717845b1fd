/* BSON order and its keys: every pair of awkward values, compared both ways. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "store/names.h"
#include "store/val.h"

static int sign(int x) {
    return (x > 0) - (x < 0);
}

static int cmp_keys(const struct kt_buf *a, const struct kt_buf *b) {
    size_t n = a->len < b->len ? a->len : b->len;
    int c = memcmp(a->data, b->data, n);
    return c ? sign(c) : (a->len > b->len) - (a->len < b->len);
}

/* In ascending order; values on one line are equal. */
static const char *const ascending[] = {
    "{\"v\":{\"$minKey\":1}}",
    "{\"v\":null}",
    "{\"v\":{\"$numberDouble\":\"NaN\"}}",
    "{\"v\":{\"$numberDouble\":\"-Infinity\"}}",
    "{\"v\":-1e300}",
    "{\"v\":{\"$numberLong\":\"-9223372036854775808\"}}|{\"v\":-9223372036854775808.0}",
    "{\"v\":{\"$numberLong\":\"-9223372036854775807\"}}",
    "{\"v\":{\"$numberLong\":\"-9007199254740993\"}}",
    "{\"v\":{\"$numberLong\":\"-9007199254740992\"}}|{\"v\":-9007199254740992.0}",
    "{\"v\":-1.5}",
    "{\"v\":{\"$numberInt\":\"-1\"}}|{\"v\":-1.0}|{\"v\":{\"$numberLong\":\"-1\"}}",
    "{\"v\":-5e-324}",
    "{\"v\":{\"$numberInt\":\"0\"}}|{\"v\":0.0}|{\"v\":-0.0}",
    "{\"v\":5e-324}",
    "{\"v\":0.5}",
    "{\"v\":{\"$numberLong\":\"1\"}}|{\"v\":1.0}",
    "{\"v\":255}|{\"v\":255.0}",
    "{\"v\":256}",
    "{\"v\":{\"$numberLong\":\"9007199254740992\"}}|{\"v\":9007199254740992.0}",
    "{\"v\":{\"$numberLong\":\"9007199254740993\"}}",
    "{\"v\":{\"$numberLong\":\"9007199254740994\"}}|{\"v\":9007199254740994.0}",
    "{\"v\":{\"$numberLong\":\"9223372036854774784\"}}|{\"v\":9223372036854774784.0}",
    "{\"v\":{\"$numberLong\":\"9223372036854775807\"}}",
    "{\"v\":9223372036854775808.0}",
    "{\"v\":{\"$numberDouble\":\"Infinity\"}}",
    "{\"v\":\"\"}",
    "{\"v\":\"A\"}",
    "{\"v\":\"a\"}",
    "{\"v\":\"a\\u0000\"}",
    "{\"v\":\"a\\u0000b\"}",
    "{\"v\":\"aa\"}",
    "{\"v\":\"b\"}",
    "{\"v\":\"\\u00e9\"}",
    "{\"v\":\"\\ud83d\\ude00\"}",
    "{\"v\":{}}",
    "{\"v\":{\"a\":null}}",
    "{\"v\":{\"a\":1}}|{\"v\":{\"a\":1.0}}",
    "{\"v\":{\"a\":1,\"b\":1}}",
    "{\"v\":{\"a\":2}}",
    "{\"v\":{\"b\":0}}",
    "{\"v\":{\"a\":\"\"}}",
    "{\"v\":{\"a\":\"x\"}}",
    "{\"v\":{\"a\":\"x\\u0000\"}}",
    "{\"v\":{\"a\":{\"b\":1}}}",
    "{\"v\":[]}",
    "{\"v\":[1]}",
    "{\"v\":[1,2]}",
    "{\"v\":[2]}",
    "{\"v\":[\"a\"]}",
    "{\"v\":{\"$binary\":{\"base64\":\"\",\"subType\":\"00\"}}}",
    "{\"v\":{\"$binary\":{\"base64\":\"AQ==\",\"subType\":\"00\"}}}",
    "{\"v\":{\"$binary\":{\"base64\":\"AA==\",\"subType\":\"05\"}}}",
    "{\"v\":{\"$binary\":{\"base64\":\"AAA=\",\"subType\":\"00\"}}}",
    "{\"v\":{\"$oid\":\"000000000000000000000001\"}}",
    "{\"v\":{\"$oid\":\"ff0000000000000000000000\"}}",
    "{\"v\":false}",
    "{\"v\":true}",
    "{\"v\":{\"$date\":{\"$numberLong\":\"-1\"}}}",
    "{\"v\":{\"$date\":{\"$numberLong\":\"0\"}}}",
    "{\"v\":{\"$date\":{\"$numberLong\":\"1700000000000\"}}}",
    "{\"v\":{\"$timestamp\":{\"t\":1,\"i\":2}}}",
    "{\"v\":{\"$timestamp\":{\"t\":2,\"i\":1}}}",
    "{\"v\":{\"$maxKey\":1}}",
};

#define MAX 200
static struct {
    bson_t *doc;
    bson_value_t value;
    struct kt_buf key;
    int rank;
} values[MAX];
static int count;

static int setup(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof ascending / sizeof *ascending; i++) {
        char *text = strdup(ascending[i]), *rest = text, *one;
        while ((one = strsep(&rest, "|")) != NULL) {
            bson_error_t error;
            bson_iter_t it;
            bson_t *doc = bson_new_from_json((const uint8_t *)one, -1, &error);
            if (doc == NULL)
                fail_msg("%s: %s", one, error.message);
            assert_true(bson_iter_init_find(&it, doc, "v"));
            values[count].doc = doc;
            values[count].value = *bson_iter_value(&it);
            values[count].rank = (int)i;
            kt_key_add(&values[count].key, &values[count].value);
            count++;
        }
        free(text);
    }
    return 0;
}

static int teardown(void **state) {
    (void)state;
    for (int i = 0; i < count; i++) {
        kt_buf_free(&values[i].key);
        bson_destroy(values[i].doc);
    }
    return 0;
}

static void all_pairs_agree(void **state) {
    (void)state;
    for (int i = 0; i < count; i++)
        for (int j = 0; j < count; j++) {
            int want = sign(values[i].rank - values[j].rank);
            int cmp = sign(kt_val_cmp(&values[i].value, &values[j].value));
            int keys = cmp_keys(&values[i].key, &values[j].key);
            if (cmp != want || keys != want)
                fail_msg("%s against %s: want %d, cmp %d, keys %d", ascending[values[i].rank],
                         ascending[values[j].rank], want, cmp, keys);
        }
}

static uint64_t next_random(uint64_t *seed) {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

/* Random int64 and double with random bits: keys and comparison agree, and a double that is an
 * integer equals that integer. */
static void numbers_agree(void **state) {
    uint64_t seed = 88172645463325252ULL;
    (void)state;
    for (int i = 0; i < 200000; i++) {
        bson_value_t v[2];
        struct kt_buf key[2] = {KT_BUF_INIT, KT_BUF_INIT};
        for (int k = 0; k < 2; k++) {
            uint64_t bits = next_random(&seed);
            int how = (int)(next_random(&seed) % 4);
            v[k].value_type = how < 2 ? BSON_TYPE_INT64 : BSON_TYPE_DOUBLE;
            if (how == 0)
                v[k].value.v_int64 = (int64_t)bits;
            else if (how == 1)
                v[k].value.v_int64 = (int64_t)bits >> (bits & 63);
            else if (how == 2)
                memcpy(&v[k].value.v_double, &bits, 8);
            else /* near the other one */
                v[k].value.v_double = (double)((int64_t)bits >> (bits & 63));
        }
        if (i % 3 == 0 && v[0].value_type == BSON_TYPE_INT64) {
            v[1].value_type = BSON_TYPE_DOUBLE;
            v[1].value.v_double = (double)v[0].value.v_int64;
        }
        kt_key_add(&key[0], &v[0]);
        kt_key_add(&key[1], &v[1]);
        assert_int_equal(sign(kt_val_cmp(&v[0], &v[1])), cmp_keys(&key[0], &key[1]));
        assert_int_equal(sign(kt_val_cmp(&v[0], &v[1])), -sign(kt_val_cmp(&v[1], &v[0])));
        kt_buf_free(&key[0]);
        kt_buf_free(&key[1]);
    }
}

static void long_strings(void **state) {
    char a[2000], b[2000];
    bson_value_t v = {.value_type = BSON_TYPE_UTF8}, w = v;
    struct kt_buf x = KT_BUF_INIT, y = KT_BUF_INIT;
    (void)state;
    memset(a, 'q', sizeof a);
    memcpy(b, a, sizeof b);
    b[1900] = 'r';
    v.value.v_utf8.str = a;
    w.value.v_utf8.str = b;
    v.value.v_utf8.len = w.value.v_utf8.len = sizeof a;
    assert_false(kt_key_exact(&v));
    kt_key_add(&x, &v);
    kt_key_add(&y, &w);
    assert_int_equal(x.len, 1 + KT_KEY_PREFIX + 32);
    assert_int_not_equal(cmp_keys(&x, &y), 0); /* different values, different keys */
    kt_buf_clear(&y);
    w.value.v_utf8.str = a;
    kt_key_add(&y, &w);
    assert_int_equal(cmp_keys(&x, &y), 0);
    v.value.v_utf8.len = KT_KEY_PREFIX;
    assert_true(kt_key_exact(&v));
    kt_buf_free(&x);
    kt_buf_free(&y);
}

static void names(void **state) {
    static const char *const good[] = {"a", "ktern-masterdb", "ktern-project-acme-corp-2024", "0",
                                       "a_b"};
    static const char *const wrong[] = {"",    "A", "-a",    "a-",    "a/b",    "..",  "a.b",
                                        "a b", "é", "admin", "local", "config", "a$b", "a\\b"};
    char name[80];
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_int_equal(kt_db_name_check(good[i], strlen(good[i]), NULL), 0);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(kt_db_name_check(wrong[i], strlen(wrong[i]), NULL), -KT_INVALID_ARGUMENT);
    assert_int_not_equal(kt_db_name_check("a\0b", 3, NULL), 0);
    memset(name, 'a', sizeof name);
    assert_int_equal(kt_db_name_check(name, 63, NULL), 0);
    assert_int_not_equal(kt_db_name_check(name, 64, NULL), 0);
    assert_int_equal(kt_coll_name_check("kt_p_results", 12, NULL), 0);
    assert_int_not_equal(kt_coll_name_check("kt-p", 4, NULL), 0);
    assert_int_not_equal(kt_coll_name_check("system.x", 8, NULL), 0);
    assert_int_equal(kt_path_check("a.b.c-d", 7, NULL), 0);
    assert_int_not_equal(kt_path_check("a..b", 4, NULL), 0);
    assert_int_not_equal(kt_path_check("a.$b", 4, NULL), 0);
    assert_int_not_equal(kt_path_check("a'b", 3, NULL), 0);
    assert_int_not_equal(kt_path_check("a.", 2, NULL), 0);
    assert_int_not_equal(kt_path_check("a\nb", 3, NULL), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(all_pairs_agree),
                                       cmocka_unit_test(numbers_agree),
                                       cmocka_unit_test(long_strings), cmocka_unit_test(names)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
