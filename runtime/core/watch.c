/* One uv_fs_event per folder; what changed is gathered and told after a quiet moment. */
#include "core/watch.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define FOLDERS_MAX 4096

struct folder {
    uv_fs_event_t event; /* first */
    struct kt_watch *watch;
    struct folder *next;
    char path[]; /* relative to the root, "" for the root itself */
};

struct name {
    struct name *next;
    char path[];
};

struct kt_watch {
    uv_loop_t *loop;
    uv_timer_t quiet;
    struct folder *folders;
    struct name *changed;
    int folder_count, handles;
    bool closing;
    void (*fn)(void *ud, const char *path);
    void *ud;
    char dir[];
};

static int count;

int kt_watch_count(void) {
    return count;
}

static void on_closed(uv_handle_t *handle) {
    struct kt_watch *w = handle->data;
    if (handle != (uv_handle_t *)&w->quiet)
        free(handle);
    if (--w->handles > 0)
        return;
    for (struct name *n = w->changed, *next; n != NULL; n = next) {
        next = n->next;
        free(n);
    }
    free(w);
    count--;
}

static void drop_folder(struct kt_watch *w, struct folder *f) {
    struct folder **at = &w->folders;
    while (*at != f)
        at = &(*at)->next;
    *at = f->next;
    w->folder_count--;
    uv_close((uv_handle_t *)&f->event, on_closed);
}

static void note(struct kt_watch *w, const char *path) {
    for (struct name *n = w->changed; n != NULL; n = n->next)
        if (strcmp(n->path, path) == 0)
            return;
    struct name *n = malloc(sizeof *n + strlen(path) + 1);
    if (n == NULL)
        return;
    strcpy(n->path, path);
    n->next = w->changed;
    w->changed = n;
}

static void on_quiet(uv_timer_t *timer) {
    struct kt_watch *w = timer->data;
    struct name *list = w->changed;
    w->changed = NULL;
    for (struct name *n = list, *next; n != NULL; n = next) {
        next = n->next;
        if (!w->closing) /* the callback may close us */
            w->fn(w->ud, n->path);
        free(n);
    }
}

static bool ignored(const char *name) {
    size_t len = strlen(name);
    return name[0] == '.' || (len > 0 && name[len - 1] == '~');
}

static int add_tree(struct kt_watch *w, const char *path, bool note_files, struct kt_error *err);

static void on_event(uv_fs_event_t *event, const char *name, int events, int status) {
    struct folder *f = (struct folder *)event;
    struct kt_watch *w = f->watch;
    char path[PATH_MAX], full[PATH_MAX * 2];
    struct stat st;
    (void)events;
    if (status < 0 || name == NULL || ignored(name) || w->closing)
        return;
    snprintf(path, sizeof path, "%s%s%s", f->path, f->path[0] != '\0' ? "/" : "", name);
    snprintf(full, sizeof full, "%s/%s", w->dir, path);
    bool there = lstat(full, &st) == 0;
    if (there && S_ISLNK(st.st_mode))
        return;
    if (there && S_ISDIR(st.st_mode))
        add_tree(w, path, true, NULL); /* files may have come into it before we watched */
    else
        note(w, path);
    uv_timer_start(&w->quiet, on_quiet, KT_WATCH_DEBOUNCE_MS, 0);
}

static int add_folder(struct kt_watch *w, const char *path, const char *full, struct kt_error *err) {
    for (struct folder *f = w->folders, *next; f != NULL; f = next) {
        next = f->next;
        if (strcmp(f->path, path) == 0)
            drop_folder(w, f); /* made anew under its name: the old watch is of a gone folder */
    }
    if (w->folder_count >= FOLDERS_MAX)
        return kt_fail(err, KT_INVALID_ARGUMENT, "more than %d folders below %s", FOLDERS_MAX, w->dir);
    struct folder *f = calloc(1, sizeof *f + strlen(path) + 1);
    if (f == NULL)
        return kt_fail(err, KT_NO_MEMORY, "no memory");
    uv_fs_event_init(w->loop, &f->event);
    f->event.data = w;
    f->watch = w;
    strcpy(f->path, path);
    f->next = w->folders;
    w->folders = f;
    w->folder_count++;
    w->handles++;
    int rc = uv_fs_event_start(&f->event, on_event, full, 0);
    if (rc == 0)
        return 0;
    drop_folder(w, f);
    return kt_fail(err, kt_code_of_errno(-rc), "cannot watch %s: %s", full, uv_strerror(rc));
}

static int add_tree(struct kt_watch *w, const char *path, bool note_files, struct kt_error *err) {
    char full[PATH_MAX * 2], child[PATH_MAX];
    snprintf(full, sizeof full, "%s%s%s", w->dir, path[0] != '\0' ? "/" : "", path);
    int rc = add_folder(w, path, full, err);
    DIR *dir = rc == 0 ? opendir(full) : NULL;
    if (dir == NULL)
        return rc;
    for (struct dirent *e; rc == 0 && (e = readdir(dir)) != NULL;) {
        struct stat st;
        if (ignored(e->d_name))
            continue;
        snprintf(child, sizeof child, "%s%s%s", path, path[0] != '\0' ? "/" : "", e->d_name);
        snprintf(full, sizeof full, "%s/%s", w->dir, child);
        if (lstat(full, &st) != 0 || S_ISLNK(st.st_mode))
            continue;
        if (S_ISDIR(st.st_mode))
            rc = add_tree(w, child, note_files, err);
        else if (note_files)
            note(w, child);
    }
    closedir(dir);
    return rc;
}

struct kt_watch *kt_watch_open(uv_loop_t *loop, const char *dir,
                               void (*changed)(void *ud, const char *path), void *ud,
                               struct kt_error *err) {
    struct kt_watch *w = calloc(1, sizeof *w + strlen(dir) + 1);
    if (w == NULL) {
        kt_fail(err, KT_NO_MEMORY, "no memory");
        return NULL;
    }
    count++;
    strcpy(w->dir, dir);
    w->loop = loop;
    w->fn = changed;
    w->ud = ud;
    uv_timer_init(loop, &w->quiet);
    w->quiet.data = w;
    w->handles = 1;
    if (add_tree(w, "", false, err) != 0) {
        kt_watch_close(w);
        return NULL;
    }
    return w;
}

void kt_watch_close(struct kt_watch *w) {
    if (w->closing)
        return;
    w->closing = true;
    while (w->folders != NULL)
        drop_folder(w, w->folders);
    uv_close((uv_handle_t *)&w->quiet, on_closed);
}
