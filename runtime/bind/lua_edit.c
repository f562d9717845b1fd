/* Module kt.edit: lines typed by a person (libedit), and Ctrl-C. For commands, not for the service.
 *
 *   edit.tty() -> bool        standard input and output are a terminal
 *   edit.secret(prompt) -> line | nil at its end | nil, {code="cancelled"} | false
 *       typed unseen, without an editor; false: standard input is no terminal. Blocks as ed:read does
 *   edit.open{history=path?, complete=fn?} -> ed    one at a time
 *       history: a file, 0600, read now and written after each line; the last 1,000 lines
 *       complete(text before the cursor) -> what to insert there, what to show below (or nil)
 *   ed:read(prompt) -> line without its end | nil at the end of input (Ctrl-D)
 *       | nil, {code="cancelled"} when the line was given up (Ctrl-C)
 *       Blocks the whole process: nothing else goes on in it meanwhile.
 *   ed:add(line)              to the history
 *   ed:close()
 *   edit.interrupted() -> true | nil, err    yields until Ctrl-C; without such a wait it ends the
 *       process as usual, or is nothing while an editor is open */
#include <errno.h>
#include <histedit.h>
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "bind/bind.h"

#define EDITOR "kt.edit"
#define HISTORY_LINES 1000
#define PROMPT_MAX 128
#define SECRET_MAX 65536

struct editor {
    EditLine *el; /* NULL once closed */
    History *history;
    char *path; /* NULL: not kept */
    char prompt[PROMPT_MAX];
    int complete; /* registry ref, LUA_NOREF without */
    lua_State *L; /* of the read under way */
    bool cancelled;
};

/* While an editor is open, a Ctrl-C that nobody waits for is nothing. */
static bool editing;

static char *prompt_of(EditLine *el) {
    struct editor *ed;
    el_get(el, EL_CLIENTDATA, &ed);
    return ed->prompt;
}

static unsigned char on_cancel(EditLine *el, int key) {
    struct editor *ed;
    (void)key;
    el_get(el, EL_CLIENTDATA, &ed);
    ed->cancelled = true;
    fputs("^C\n", stdout);
    fflush(stdout);
    el_deletestr(el, 0);
    return CC_EOF;
}

/* A terminal's bell, where nothing fits. */
static unsigned char on_complete(EditLine *el, int key) {
    struct editor *ed;
    const LineInfo *line = el_line(el);
    unsigned char code = CC_ERROR;
    (void)key;
    el_get(el, EL_CLIENTDATA, &ed);
    lua_State *L = ed->L;
    if (ed->complete == LUA_NOREF || L == NULL)
        return CC_ERROR;
    lua_rawgeti(L, LUA_REGISTRYINDEX, ed->complete);
    lua_pushlstring(L, line->buffer, (size_t)(line->cursor - line->buffer));
    if (lua_pcall(L, 1, 2, 0) != 0) {
        lua_pop(L, 1);
        return CC_ERROR;
    }
    const char *insert = lua_tostring(L, -2), *show = lua_tostring(L, -1);
    if (insert != NULL && *insert != '\0' && el_insertstr(el, insert) == 0)
        code = CC_REFRESH;
    if (show != NULL) {
        fprintf(stdout, "\n%s\n", show);
        fflush(stdout);
        code = CC_REDISPLAY;
    }
    lua_pop(L, 2);
    return code;
}

static void close_editor(lua_State *L, struct editor *ed) {
    if (ed->el != NULL) {
        el_end(ed->el);
        editing = false;
        signal(SIGINT, SIG_DFL);
    }
    if (ed->history != NULL)
        history_end(ed->history);
    free(ed->path);
    luaL_unref(L, LUA_REGISTRYINDEX, ed->complete);
    *ed = (struct editor){.complete = LUA_NOREF};
}

static int l_tty(lua_State *L) {
    lua_pushboolean(L, isatty(STDIN_FILENO) && isatty(STDOUT_FILENO));
    return 1;
}

/* What is typed up to the end of a line. Keys come one by one and unseen, Ctrl-C among them: it must not
 * end the process before the terminal shows again what is typed. */
static int read_unseen(char *line, size_t size, size_t *len, struct kt_error *err) {
    char c;
    ssize_t n;
    *len = 0;
    while ((n = read(STDIN_FILENO, &c, 1)) == 1 || (n < 0 && errno == EINTR)) {
        if (n < 0)
            continue;
        if (c == '\n' || c == '\r')
            return 1;
        if (c == 3) /* Ctrl-C */
            return kt_fail(err, KT_CANCELLED, "the line was given up");
        if (c == 4 && *len == 0) /* Ctrl-D */
            return 0;
        if (c == 21) /* Ctrl-U */
            *len = 0;
        else if (c == 8 || c == 127) {
            while (*len > 0 && (line[--*len] & 0xC0) == 0x80) {
            }
        } else if (*len == size)
            return kt_fail(err, KT_BODY_TOO_LARGE, "the line is longer than %zu bytes", size);
        else
            line[(*len)++] = c;
    }
    return n < 0 ? kt_fail(err, KT_INTERNAL, "cannot read: %s", strerror(errno)) : *len > 0;
}

static int l_secret(lua_State *L) {
    char line[SECRET_MAX];
    size_t len;
    struct kt_error err;
    struct termios was, unseen;
    const char *prompt = luaL_checkstring(L, 1);
    if (tcgetattr(STDIN_FILENO, &was) != 0) {
        lua_pushboolean(L, false);
        return 1;
    }
    unseen = was;
    unseen.c_lflag &= ~(tcflag_t)(ECHO | ECHONL | ICANON | ISIG | IEXTEN);
    unseen.c_cc[VMIN] = 1;
    unseen.c_cc[VTIME] = 0;
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &unseen);
    fputs(prompt, stderr);
    int rc = read_unseen(line, sizeof line, &len, &err);
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &was);
    fputs("\n", stderr);
    if (rc == 1)
        lua_pushlstring(L, line, len);
    OPENSSL_cleanse(line, sizeof line);
    return rc < 0 ? kt_push_error(L, &err) : rc;
}

static int l_open(lua_State *L) {
    HistEvent event;
    luaL_checktype(L, 1, LUA_TTABLE);
    const char *path = kt_opt_string(L, 1, "history", NULL);
    struct editor *ed = lua_newuserdata(L, sizeof *ed);
    *ed = (struct editor){.complete = LUA_NOREF};
    luaL_getmetatable(L, EDITOR);
    lua_setmetatable(L, -2);
    lua_getfield(L, 1, "complete");
    if (lua_isfunction(L, -1))
        ed->complete = luaL_ref(L, LUA_REGISTRYINDEX);
    else
        lua_pop(L, 1);
    if (setlocale(LC_CTYPE, "") == NULL || MB_CUR_MAX == 1)
        setlocale(LC_CTYPE, "C.UTF-8"); /* what scripts and answers are written in */
    ed->el = el_init("kontor", stdin, stdout, stderr);
    ed->history = history_init();
    ed->path = path != NULL ? strdup(path) : NULL;
    if (ed->el == NULL || ed->history == NULL || (path != NULL && ed->path == NULL)) {
        close_editor(L, ed);
        return luaL_error(L, "no line editing: not enough memory, or no terminal");
    }
    el_set(ed->el, EL_CLIENTDATA, ed);
    el_set(ed->el, EL_PROMPT, prompt_of);
    el_set(ed->el, EL_EDITOR, "emacs");
    el_set(ed->el, EL_HIST, history, ed->history);
    history(ed->history, &event, H_SETSIZE, HISTORY_LINES);
    history(ed->history, &event, H_SETUNIQUE, 1);
    if (path != NULL)
        history(ed->history, &event, H_LOAD, path); /* none yet: an empty one */
    el_set(ed->el, EL_ADDFN, "kt-complete", "Complete the word", on_complete);
    el_set(ed->el, EL_ADDFN, "kt-cancel", "Give the line up", on_cancel);
    el_set(ed->el, EL_BIND, "\t", "kt-complete", NULL);
    el_set(ed->el, EL_BIND, "^R", "em-inc-search-prev", NULL);
    el_set(ed->el, EL_SETTY, "-d", "-isig", NULL); /* Ctrl-C is a key while a line is edited */
    el_set(ed->el, EL_BIND, "^C", "kt-cancel", NULL);
    el_set(ed->el, EL_SIGNAL, 0);
    editing = true;
    signal(SIGINT, SIG_IGN);
    return 1;
}

static struct editor *check_editor(lua_State *L) {
    struct editor *ed = luaL_checkudata(L, 1, EDITOR);
    luaL_argcheck(L, ed->el != NULL, 1, "an editor that is not closed");
    return ed;
}

static int l_read(lua_State *L) {
    struct editor *ed = check_editor(L);
    struct kt_error err;
    int len = 0;
    snprintf(ed->prompt, sizeof ed->prompt, "%s", luaL_checkstring(L, 2));
    ed->L = L;
    ed->cancelled = false;
    fflush(stdout);
    const char *line = el_gets(ed->el, &len);
    ed->L = NULL;
    if (ed->cancelled) {
        el_reset(ed->el);
        kt_fail(&err, KT_CANCELLED, "the line was given up");
        return kt_push_error(L, &err);
    }
    if (line == NULL || len <= 0)
        return 0;
    while (len > 0 && (line[len - 1] == '\n' || line[len - 1] == '\r'))
        len--;
    lua_pushlstring(L, line, (size_t)len);
    return 1;
}

static int l_add(lua_State *L) {
    struct editor *ed = check_editor(L);
    HistEvent event;
    history(ed->history, &event, H_ENTER, luaL_checkstring(L, 2));
    if (ed->path == NULL)
        return 0;
    mode_t old = umask(0177); /* lines may hold what is nobody else's business */
    history(ed->history, &event, H_SAVE, ed->path);
    umask(old);
    return 0;
}

static int l_close(lua_State *L) {
    close_editor(L, luaL_checkudata(L, 1, EDITOR));
    return 0;
}

/* Ctrl-C while something else goes on */

struct interrupt_op {
    struct kt_op op;
    uv_signal_t *signal; /* has its own memory: libuv closes it later */
};

static void signal_closed(uv_handle_t *handle) {
    free(handle);
}

static int push_true(lua_State *L, struct kt_op *op) {
    (void)op;
    lua_pushboolean(L, true);
    return 1;
}

static void interrupted(uv_signal_t *signal, int number) {
    (void)number;
    kt_op_settle(signal->data, push_true);
}

static void interrupt_cancel(struct kt_op *op) {
    kt_op_settle(op, NULL);
}

static void interrupt_free(struct kt_op *op) {
    struct interrupt_op *wait = (struct interrupt_op *)op;
    if (wait->signal != NULL)
        uv_close((uv_handle_t *)wait->signal, signal_closed);
    wait->signal = NULL;
    if (editing)
        signal(SIGINT, SIG_IGN); /* libuv has put the default back */
}

static const struct kt_op_class interrupt_class = {"edit.interrupted", sizeof(struct interrupt_op),
                                                   interrupt_cancel, interrupt_free};

static int l_interrupted(lua_State *L) {
    struct interrupt_op *wait = kt_op_new(L, &interrupt_class);
    wait->signal = malloc(sizeof *wait->signal);
    if (wait->signal == NULL) {
        kt_op_drop(&wait->op);
        return luaL_error(L, "not enough memory");
    }
    uv_signal_init(kt_vm_of(L)->loop, wait->signal);
    wait->signal->data = wait;
    uv_signal_start(wait->signal, interrupted, SIGINT);
    return kt_op_yield(&wait->op);
}

static const luaL_Reg functions[] = {
    {"tty", l_tty},   {"secret", l_secret},           {"open", l_open},
    {"interrupted", l_interrupted}, {NULL, NULL}};
static const luaL_Reg methods[] = {
    {"read", l_read}, {"add", l_add}, {"close", l_close}, {"__gc", l_close}, {NULL, NULL}};

#ifdef KT_ASAN
/* libedit copies the names of added functions and never frees them. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) {
    return "leak:wcsdup\n";
}
#endif

int luaopen_kt_edit(lua_State *L) {
    kt_class(L, EDITOR, methods);
    lua_newtable(L);
    luaL_setfuncs(L, functions, 0);
    return 1;
}
