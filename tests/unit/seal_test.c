/* Sealed boxes against those that Python's cryptography makes, every way to spoil one, keys and their
 * file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/config.h"
#include "core/fault.h"
#include "core/keyring.h"

#define HEX "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define BASE64 "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
#define ID "k_111380e7d337fdcc"
#define OTHER "//////////////////////////////////////////8="

static char dir[] = "/tmp/kontor-seal-XXXXXX";

static size_t unhex(const char *hex, unsigned char *out) {
    size_t n = strlen(hex) / 2;
    for (size_t i = 0; i < n; i++)
        sscanf(hex + 2 * i, "%2hhx", &out[i]);
    return n;
}

static struct kt_seal_key key_of(const char *text) {
    struct kt_seal_key key;
    assert_true(kt_seal_key_parse(text, strlen(text), &key));
    return key;
}

static void keys_have_two_texts(void **state) {
    (void)state;
    static const char *const none[] = {
        "", "x", HEX "0", "zz", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8==",
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9=", /* bits behind the end */
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8 ", "=AECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHg==", /* 31 bytes */
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g"};
    struct kt_seal_key hex = key_of(HEX), base64 = key_of(BASE64), key;
    assert_memory_equal(&hex, &base64, sizeof hex);
    assert_string_equal(hex.id, ID);
    key = key_of("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"); /* without padding */
    assert_memory_equal(&hex, &key, sizeof hex);
    hex = key_of("//////////////////////////////////////////8=");
    key = key_of("__________________________________________8");
    assert_memory_equal(&hex, &key, sizeof hex);
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        assert_false(kt_seal_key_parse(none[i], strlen(none[i]), &key));
        struct kt_seal_key zero = {0};
        assert_memory_equal(&key, &zero, sizeof key);
    }
}

/* Made by cryptography 46, AESGCM(key).encrypt(nonce, text, b"kontor secret 1\n" + id + b"\n" + what). */
static const struct {
    const char *what, *nonce, *text, *box;
} vectors[] = {
    {"master\nOPENAI_API_KEY", "6465666768696a6b6c6d6e6f", "sk-a secret value",
     "3b70f307599a33fd4c072bc8ac0406882793c397be1e094fa27e053fd3b481406d"},
    {"project/acme\nx", "000000000000000000000000", "", "b88fdf397b314459bf244ae1bcdbcec6"},
    {"project/acme\nlong", "ffffffffffffffffffffffff",
     "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
     "7bc0ae8821fa9f87ca1fef906d6fe20df192a253b6057ea0751dfe8cade55e04065205adaf0e3a3d126e85757a2c317594de"
     "2094f564468d47bc85756bd657ec65e2e1917b8592f563e932b48c7e33deef102d3e7b1bbb9c9aff8d4889b94b64c627cdd1"
     "2afb69ce1dcf5683bcc823e1879ab483"},
};

static void opens_what_others_have_sealed(void **state) {
    (void)state;
    struct kt_seal_key key = key_of(HEX);
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        unsigned char nonce[16], box[200];
        struct kt_buf text = KT_BUF_INIT;
        struct kt_error err;
        size_t nonce_len = unhex(vectors[i].nonce, nonce), len = unhex(vectors[i].box, box);
        assert_int_equal(kt_unseal(&key, vectors[i].what, nonce, nonce_len, box, len, &text, &err), 0);
        assert_string_equal(kt_buf_cstr(&text), vectors[i].text);
        kt_buf_free(&text);
    }
}

static int open_box(const struct kt_seal_key *key, const char *what, const unsigned char *nonce,
                    size_t nonce_len, const char *box, size_t len) {
    struct kt_buf text = KT_BUF_INIT;
    struct kt_error err;
    kt_buf_adds(&text, "before");
    int rc = kt_unseal(key, what, nonce, nonce_len, box, len, &text, &err);
    if (rc != 0)
        assert_string_equal(kt_buf_cstr(&text), "before");
    kt_buf_free(&text);
    return rc;
}

static void opens_nothing_that_was_changed(void **state) {
    (void)state;
    static const char value[] = "a value";
    struct kt_seal_key key = key_of(HEX), other = key_of(OTHER), renamed = key;
    unsigned char nonce[KT_SEAL_NONCE], again[KT_SEAL_NONCE];
    struct kt_buf box = KT_BUF_INIT, second = KT_BUF_INIT;
    struct kt_error err;
    assert_int_equal(kt_seal(&key, "master\nname", value, sizeof value - 1, nonce, &box, &err), 0);
    assert_int_equal(kt_seal(&key, "master\nname", value, sizeof value - 1, again, &second, &err), 0);
    assert_int_equal(box.len, sizeof value - 1 + KT_SEAL_TAG);
    assert_memory_not_equal(nonce, again, sizeof nonce);
    assert_memory_not_equal(box.data, second.data, box.len);
    assert_int_equal(open_box(&key, "master\nname", nonce, sizeof nonce, box.data, box.len), 0);

    for (size_t i = 0; i < 8 * box.len; i++) { /* each bit of the text and of the tag */
        box.data[i / 8] ^= (char)(1 << i % 8);
        assert_int_equal(open_box(&key, "master\nname", nonce, sizeof nonce, box.data, box.len),
                         -KT_STORE_CORRUPT);
        box.data[i / 8] ^= (char)(1 << i % 8);
    }
    for (size_t i = 0; i < 8 * sizeof nonce; i++) {
        nonce[i / 8] ^= (unsigned char)(1 << i % 8);
        assert_int_equal(open_box(&key, "master\nname", nonce, sizeof nonce, box.data, box.len),
                         -KT_STORE_CORRUPT);
        nonce[i / 8] ^= (unsigned char)(1 << i % 8);
    }
    for (size_t len = 0; len < box.len; len++)
        assert_int_equal(open_box(&key, "master\nname", nonce, sizeof nonce, box.data, len), -KT_STORE_CORRUPT);
    assert_int_equal(open_box(&key, "master\nname", nonce, 11, box.data, box.len), -KT_STORE_CORRUPT);
    assert_int_equal(open_box(&key, "master\nname", again, sizeof again, box.data, box.len), -KT_STORE_CORRUPT);

    static const char *const elsewhere[] = {"master\nnam", "master\nname2", "master\nNAME", "project/master\nname",
                                            "master\n", ""};
    for (size_t i = 0; i < sizeof elsewhere / sizeof elsewhere[0]; i++)
        assert_int_equal(open_box(&key, elsewhere[i], nonce, sizeof nonce, box.data, box.len), -KT_STORE_CORRUPT);
    assert_int_equal(open_box(&other, "master\nname", nonce, sizeof nonce, box.data, box.len), -KT_STORE_CORRUPT);
    renamed.id[3] ^= 1; /* the right key under a wrong name */
    assert_int_equal(open_box(&renamed, "master\nname", nonce, sizeof nonce, box.data, box.len),
                     -KT_STORE_CORRUPT);
    kt_buf_free(&box);
    kt_buf_free(&second);
}

/* HMAC-SHA256 as Python's hmac makes it. */
static void a_password_comes_from_the_key_and_what_it_is_for(void **state) {
    (void)state;
    struct kt_seal_key key;
    struct kt_error err;
    char text[65], other[65], long_name[300];
    assert_true(kt_seal_key_parse(
        "7777777777777777777777777777777777777777777777777777777777777777", 64, &key));
    assert_int_equal(kt_seal_password(&key, "project user of a", text, &err), 0);
    assert_string_equal(text, "a1fa4fd0b66d9aca61a8c55913ecc39b158db8f33cee1702bb6de31ea18c6478");
    assert_int_equal(kt_seal_password(&key, "project user of b", other, &err), 0);
    assert_string_not_equal(text, other);
    memset(long_name, 'x', sizeof long_name);
    long_name[sizeof long_name - 1] = '\0';
    assert_int_equal(kt_seal_password(&key, long_name, other, &err), -KT_INTERNAL);
}

/* --- The keys of a process ----------------------------------------------------------------- */

static char path[100];

static void configure(const char *current, const char *old) {
    struct kt_buf faults = KT_BUF_INIT;
    setenv("KONTOR_MASTER_KEY", current, 1);
    setenv("KONTOR_MASTER_KEY_OLD", old, 1);
    if (kt_config_load("/dev/null", &faults) != 0)
        fail_msg("%s", kt_buf_cstr(&faults));
    kt_buf_free(&faults);
}

static void write_file(const char *text, int mode) {
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fchmod(fileno(file), (mode_t)mode), 0);
    fclose(file);
}

static int setup(void **state) {
    (void)state;
    if (mkdtemp(strcpy(dir, "/tmp/kontor-seal-XXXXXX")) == NULL)
        return 1;
    snprintf(path, sizeof path, "%s/master.key", dir);
    configure("", "");
    return 0;
}

/* Nothing but the key file is left, no half of one either. */
static int teardown(void **state) {
    (void)state;
    kt_fault_clear();
    remove(path);
    kt_config_free();
    return rmdir(dir);
}

static void the_file_is_made_and_grows(void **state) {
    (void)state;
    struct kt_keyring ring;
    struct kt_error err;
    struct stat st;
    char first[KT_SEAL_ID], second[KT_SEAL_ID];
    assert_int_equal(kt_keyring_load(dir, true, &ring, &err), 0);
    assert_int_equal(ring.count, 0);
    assert_int_equal(ring.current, -1);
    assert_int_equal(kt_keyring_next(dir, "", &ring, &err), 0);
    assert_int_equal(ring.count, 1);
    strcpy(first, ring.keys[ring.current].id);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    /* Who asks too late gets what is there. */
    assert_int_equal(kt_keyring_next(dir, "", &ring, &err), 0);
    assert_string_equal(ring.keys[ring.current].id, first);
    char half[120]; /* of a crash */
    snprintf(half, sizeof half, "%s.0123.tmp", path);
    fclose(fopen(half, "w"));
    assert_int_equal(kt_keyring_next(dir, first, &ring, &err), 0);
    assert_int_not_equal(access(half, F_OK), 0);
    strcpy(second, ring.keys[ring.current].id);
    assert_string_not_equal(first, second);
    assert_int_equal(ring.count, 2);
    assert_non_null(kt_keyring_find(&ring, first));
    assert_int_equal(kt_keyring_next(dir, first, &ring, &err), 0);
    assert_string_equal(ring.keys[ring.current].id, second);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    /* Of another engine the file opens, and does not seal. */
    assert_int_equal(kt_keyring_load(dir, false, &ring, &err), 0);
    assert_int_equal(ring.current, -1);
    assert_int_equal(ring.count, 2);
}

static void one_of_many_processes_makes_it(void **state) {
    (void)state;
    struct kt_keyring ring;
    struct kt_error err;
    for (int i = 0; i < 8; i++)
        if (fork() == 0)
            _exit(kt_keyring_next(dir, "", &ring, &err) != 0 || ring.count != 1);
    for (int i = 0; i < 8; i++) {
        int status;
        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
    }
    assert_int_equal(kt_keyring_load(dir, true, &ring, &err), 0);
    assert_int_equal(ring.count, 1);
}

static void a_full_disk_changes_nothing(void **state) {
    (void)state;
    struct kt_keyring ring;
    struct kt_error err;
    char first[KT_SEAL_ID];
    assert_int_equal(kt_keyring_next(dir, "", &ring, &err), 0);
    strcpy(first, ring.keys[0].id);
    kt_fault_arm("file.write", 1);
    assert_int_equal(kt_keyring_next(dir, first, &ring, &err), -KT_STORAGE_FULL);
    assert_int_equal(kt_keyring_load(dir, true, &ring, &err), 0);
    assert_string_equal(ring.keys[ring.current].id, first);
}

static void the_order_of_keys(void **state) {
    (void)state;
    struct kt_keyring ring;
    struct kt_error err;
    write_file("# a comment\n\n  " BASE64 "  # mine\r\n" OTHER, 0600);
    assert_int_equal(kt_keyring_load(dir, true, &ring, &err), 0);
    assert_int_equal(ring.count, 2);
    assert_string_equal(ring.keys[ring.current].id, ID);
    configure(OTHER, HEX ", " OTHER);
    assert_int_equal(kt_keyring_load(dir, true, &ring, &err), 0);
    assert_int_equal(ring.count, 2);
    assert_true(ring.from_env);
    assert_int_equal(ring.current, 0);
    assert_string_not_equal(ring.keys[0].id, ID);
    configure("", OTHER); /* keys to open with, and the file's first to seal */
    assert_int_equal(kt_keyring_load(dir, true, &ring, &err), 0);
    assert_int_equal(ring.count, 2);
    assert_int_equal(ring.current, 1);
    assert_string_equal(ring.keys[1].id, ID);
    assert_int_equal(kt_keyring_load(dir, false, &ring, &err), 0);
    assert_int_equal(ring.current, -1);
    kt_keyring_wipe(&ring);
    assert_int_equal(ring.count, 0);
}

static void refuse(const char *why) {
    struct kt_keyring ring;
    struct kt_error err;
    assert_int_equal(kt_keyring_load(dir, true, &ring, &err), -KT_INVALID_STATE);
    assert_int_equal(ring.count, 0);
    if (strstr(err.message, why) == NULL || strstr(err.message, path) == NULL)
        fail_msg("%s", err.message);
    assert_int_equal(kt_keyring_next(dir, "", &ring, &err), -KT_INVALID_STATE);
}

static void refuses_a_file_that_is_not_its_own(void **state) {
    (void)state;
    static const int modes[] = {0644, 0640, 0660, 0604, 0602, 0601, 0700, 04600};
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        char mode[8];
        write_file(BASE64 "\n", modes[i]);
        snprintf(mode, sizeof mode, "%04o", (unsigned)modes[i]);
        refuse(mode);
    }
    struct kt_keyring ring;
    struct kt_error err;
    write_file(BASE64 "\n", 0400);
    assert_int_equal(kt_keyring_load(dir, true, &ring, &err), 0);
    if (geteuid() == 0) {
        assert_int_equal(chown(path, 65534, 65534), 0);
        refuse("another user");
    }
    remove(path);
    assert_int_equal(symlink("/dev/null", path), 0);
    refuse("link");
    remove(path);
    assert_int_equal(mkdir(path, 0700), 0);
    refuse("plain file");
    rmdir(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    refuse("plain file");
}

static void refuses_a_file_of_something_else(void **state) {
    (void)state;
    char many[70 * 66] = "";
    write_file("-----BEGIN PRIVATE KEY-----\n", 0600);
    refuse("line 1");
    write_file("# x\n" BASE64 "\n" BASE64 " " OTHER "\n", 0600);
    refuse("line 3");
    for (int i = 0; i < 70; i++)
        sprintf(many + strlen(many), "%062x%02x\n", i, i);
    write_file(many, 0600);
    refuse("line 65");
    char *big = malloc(9000);
    memset(big, '#', 8999);
    big[8999] = '\0';
    write_file(big, 0600);
    free(big);
    refuse("too long");
}

static void the_variables_are_checked(void **state) {
    (void)state;
    struct kt_buf faults = KT_BUF_INIT;
    setenv("KONTOR_MASTER_KEY", BASE64 "," OTHER, 1);
    setenv("KONTOR_MASTER_KEY_OLD", BASE64 ",hunter2", 1);
    assert_int_not_equal(kt_config_load("/dev/null", &faults), 0);
    const char *text = kt_buf_cstr(&faults);
    assert_non_null(strstr(text, "KONTOR_MASTER_KEY: is more than one key"));
    assert_non_null(strstr(text, "KONTOR_MASTER_KEY_OLD: is not 32 bytes in base64 or hex"));
    assert_null(strstr(text, "hunter2"));
    assert_null(strstr(text, "AAEC"));
    kt_buf_free(&faults);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_have_two_texts),
        cmocka_unit_test(opens_what_others_have_sealed),
        cmocka_unit_test(opens_nothing_that_was_changed),
        cmocka_unit_test(a_password_comes_from_the_key_and_what_it_is_for),
        cmocka_unit_test_setup_teardown(the_file_is_made_and_grows, setup, teardown),
        cmocka_unit_test_setup_teardown(one_of_many_processes_makes_it, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_disk_changes_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(the_order_of_keys, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses_a_file_that_is_not_its_own, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses_a_file_of_something_else, setup, teardown),
        cmocka_unit_test_setup_teardown(the_variables_are_checked, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
