/* Reading keys from variables and from the key file, and writing that file. */
#include "core/keyring.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/config.h"
#include "core/files.h"

#define FILE_MAX 8192

static const char head[] =
    "# The keys that secrets of this data directory are sealed under, the newest first.\n"
    "# Without them no secret opens. Keep a copy, apart from copies of the data.\n";

static const char *next_word(const char **at, const char *separators, size_t *len) {
    *at += strspn(*at, separators);
    const char *word = *at;
    *len = strcspn(word, separators);
    *at += *len;
    return *len > 0 ? word : NULL;
}

const char *kt_keyring_fault(const char *text) {
    struct kt_seal_key key;
    size_t len;
    int count = 0;
    for (const char *word; (word = next_word(&text, ", \t", &len)) != NULL; count++) {
        bool fits = kt_seal_key_parse(word, len, &key);
        OPENSSL_cleanse(&key, sizeof key);
        if (!fits)
            return "is not 32 bytes in base64 or hex";
    }
    return count < KT_KEYS_MAX ? NULL : "has too many keys";
}

const struct kt_seal_key *kt_keyring_find(const struct kt_keyring *ring, const char *id) {
    for (int i = 0; i < ring->count; i++)
        if (strcmp(ring->keys[i].id, id) == 0)
            return &ring->keys[i];
    return NULL;
}

void kt_keyring_wipe(struct kt_keyring *ring) {
    OPENSSL_cleanse(ring, sizeof *ring);
    ring->current = -1;
}

/* False when the text is no key, or one too many. */
static bool add(struct kt_keyring *ring, const char *text, size_t len) {
    if (ring->count == KT_KEYS_MAX)
        return false;
    struct kt_seal_key *key = &ring->keys[ring->count];
    if (!kt_seal_key_parse(text, len, key))
        return false;
    if (kt_keyring_find(ring, key->id) == NULL)
        ring->count++;
    return true;
}

static void add_variable(struct kt_keyring *ring, const char *name) {
    const char *text = kt_config_text(name), *word;
    size_t len;
    while ((word = next_word(&text, ", \t", &len)) != NULL)
        add(ring, word, len); /* what it holds was checked when it was read */
}

/* --- The file ------------------------------------------------------------------------------ */

static int path_of(const char *dir, char path[PATH_MAX], struct kt_error *err) {
    int n = snprintf(path, PATH_MAX, "%s/master.key", dir);
    return n < PATH_MAX ? 0 : kt_fail(err, KT_INVALID_ARGUMENT, "path too long");
}

static int refuse(struct kt_error *err, const char *path, const char *why) {
    return kt_fail(err, KT_INVALID_STATE, "the key file %s %s", path, why);
}

static int check_file(int fd, const char *path, struct kt_error *err) {
    struct stat st;
    if (fstat(fd, &st) != 0)
        return refuse(err, path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return refuse(err, path, "is no plain file");
    if (st.st_uid != geteuid())
        return refuse(err, path, "belongs to another user");
    if ((st.st_mode & 07177) != 0)
        return kt_fail(err, KT_INVALID_STATE,
                       "the key file %s has mode %04o, others may have read it: chmod 600 it, "
                       "and rotate the key (kontor secret rotate)",
                       path, (unsigned)st.st_mode & 07777);
    return 0;
}

/* Its text, terminated; "" when there is none. */
static int read_file(const char *path, char text[FILE_MAX], struct kt_error *err) {
    text[0] = '\0';
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 && errno == ENOENT)
        return 0;
    if (fd < 0)
        return refuse(err, path, errno == ELOOP ? "is a link" : strerror(errno));
    int rc = check_file(fd, path, err);
    ssize_t n = 0, len = 0;
    while (rc == 0 && len < FILE_MAX && (n = read(fd, text + len, (size_t)(FILE_MAX - len))) > 0)
        len += n;
    if (rc == 0 && n < 0)
        rc = refuse(err, path, strerror(errno));
    else if (rc == 0 && len == FILE_MAX)
        rc = refuse(err, path, "is too long");
    else if (rc == 0) {
        text[len] = '\0';
        if (strlen(text) != (size_t)len)
            rc = refuse(err, path, "holds a NUL byte");
    }
    close(fd);
    return rc;
}

/* The keys of its text, after those that the ring has; *first: the file's first one, -1 without. */
static int parse_file(const char *path, const char *text, struct kt_keyring *ring, int *first,
                      struct kt_error *err) {
    struct kt_seal_key key;
    *first = -1;
    for (int number = 1; *text != '\0'; number++) {
        const char *word = text + strspn(text, " \t\r");
        size_t len = strcspn(word, " \t\r\n#");
        const char *rest = word + len + strspn(word + len, " \t\r");
        text += strcspn(text, "\n");
        text += *text == '\n';
        if (len == 0 && (*rest == '\0' || *rest == '\n' || *rest == '#'))
            continue;
        if ((*rest != '\0' && *rest != '\n' && *rest != '#') || !add(ring, word, len))
            return kt_fail(err, KT_INVALID_STATE,
                           "the key file %s: line %d is no key, or one too many", path, number);
        if (*first < 0 && kt_seal_key_parse(word, len, &key))
            *first = (int)(kt_keyring_find(ring, key.id) - ring->keys);
    }
    OPENSSL_cleanse(&key, sizeof key);
    return 0;
}

static int load(bool use_file, const char *path, char text[FILE_MAX], struct kt_keyring *ring,
                int *first, struct kt_error *err) {
    memset(ring, 0, sizeof *ring);
    add_variable(ring, "KONTOR_MASTER_KEY");
    ring->from_env = ring->count > 0;
    add_variable(ring, "KONTOR_MASTER_KEY_OLD");
    int rc = read_file(path, text, err);
    if (rc == 0)
        rc = parse_file(path, text, ring, first, err);
    ring->current = ring->from_env ? 0 : use_file ? *first : -1;
    if (rc != 0)
        kt_keyring_wipe(ring);
    return rc;
}

int kt_keyring_load(const char *dir, bool use_file, struct kt_keyring *ring, struct kt_error *err) {
    char path[PATH_MAX], text[FILE_MAX];
    int first, rc = path_of(dir, path, err);
    if (rc != 0)
        return rc;
    rc = load(use_file, path, text, ring, &first, err);
    OPENSSL_cleanse(text, sizeof text);
    return rc;
}

/* What a crash in writing it has left. Under the lock nobody else is writing. */
static void remove_halves(const char *dir) {
    struct kt_buf names = KT_BUF_INIT;
    char path[PATH_MAX + NAME_MAX + 2];
    int count = 0;
    if (kt_file_list(dir, &names, &count, NULL) == 0)
        for (const char *at = names.data; count-- > 0; at += strlen(at) + 1) {
            size_t len = strlen(at + 1);
            snprintf(path, sizeof path, "%s/%s", dir, at + 1);
            if (len > 15 && strncmp(at + 1, "master.key.", 11) == 0 &&
                strcmp(at + 1 + len - 4, ".tmp") == 0)
                unlink(path);
        }
    kt_buf_free(&names);
}

/* The file with a new key before those that it has. */
static int write_file(const char *path, const char *text, struct kt_error *err) {
    struct kt_buf out = KT_BUF_INIT;
    struct kt_seal_key key;
    char line[45];
    int rc = kt_seal_key_new(&key, line, err);
    if (rc != 0)
        return rc;
    size_t comment = strncmp(text, head, sizeof head - 1) == 0 ? sizeof head - 1 : 0;
    kt_buf_addf(&out, "%s%s\n%s", head, line, text + comment);
    rc = out.failed ? kt_fail(err, KT_NO_MEMORY, "no memory for the key file")
                    : kt_file_write_private(path, out.data, out.len, err);
    if (out.data != NULL)
        OPENSSL_cleanse(out.data, out.cap);
    kt_buf_free(&out);
    OPENSSL_cleanse(line, sizeof line);
    OPENSSL_cleanse(&key, sizeof key);
    return rc;
}

int kt_keyring_next(const char *dir, const char *after, struct kt_keyring *ring,
                    struct kt_error *err) {
    char path[PATH_MAX], text[FILE_MAX];
    int first, rc = path_of(dir, path, err);
    if (rc != 0)
        return rc;
    /* The folder is what all processes of a service have; it takes a lock as a file does. */
    int lock = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (lock < 0 || flock(lock, LOCK_EX) != 0) {
        rc = kt_fail(err, kt_code_of_errno(errno), "cannot lock %s: %s", dir, strerror(errno));
        goto out;
    }
    rc = load(true, path, text, ring, &first, err);
    if (rc == 0 && strcmp(first >= 0 ? ring->keys[first].id : "", after) == 0) {
        if (ring->count == KT_KEYS_MAX)
            rc = kt_fail(err, KT_INVALID_STATE,
                         "there are %d keys: remove from %s those that nothing needs", KT_KEYS_MAX,
                         path);
        remove_halves(dir);
        if (rc == 0)
            rc = write_file(path, text, err);
        if (rc == 0)
            rc = load(true, path, text, ring, &first, err);
    }
    if (rc == 0 && ring->current < 0)
        rc = refuse(err, path, "has no key any more");
out:
    OPENSSL_cleanse(text, sizeof text);
    if (lock >= 0)
        close(lock);
    return rc;
}
