/* The one file that includes libwebsockets. */
#include "net/websocket.h"

#include <libwebsockets.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

const struct kt_ws_limits kt_ws_default_limits = {
    .frame = 4096, .queue = 1 << 20, .queue_count = 256, .ping_s = 20, .close_s = 5};

enum {
    FDS_MAX = 65536, /* lws allocates tables for every fd that the process may open */
    FREE_TURNS = 16, /* of the loop, in which lws's handles close; it takes two or three */
    MISSED_PONGS = 2,
};

struct message {
    struct message *next;
    size_t len;
    unsigned char bytes[]; /* LWS_PRE, then the text */
};

struct kt_ws {
    struct kt_ws_context *context;
    struct lws *wsi; /* NULL once it is gone */
    struct kt_ws *prev, *next;
    struct kt_ws_limits limits;
    const struct kt_ws_handler *handler; /* NULL once released */
    void *ud;
    struct message *first, *last;
    size_t queued;
    int queued_count;
    int unanswered; /* pings */
    bool was_full, ping_due, closing, close_due, close_sent;
    int close_code;
    char close_reason[124];
    char request_id[72];
};

struct kt_ws_context {
    uv_loop_t *loop;
    struct lws_context *lws;
    struct lws_vhost *vhost;
    struct kt_ws *sockets, *opening;
    int open;
    uv_idle_t idle; /* counts turns while freeing */
    int turns;
    void (*freed)(void *ud);
    void *ud;
};

static void drop_queue(struct kt_ws *ws) {
    while (ws->first != NULL) {
        struct message *m = ws->first;
        ws->first = m->next;
        free(m);
    }
    ws->last = NULL;
    ws->queued = 0;
    ws->queued_count = 0;
}

static void gone(struct kt_ws *ws) {
    if (ws->wsi == NULL)
        return;
    ws->wsi = NULL;
    ws->closing = true;
    if (ws == ws->context->opening)
        return; /* kt_ws_open has it still */
    ws->context->open--;
    if (ws->next != NULL)
        ws->next->prev = ws->prev;
    if (ws->prev != NULL)
        ws->prev->next = ws->next;
    else
        ws->context->sockets = ws->next;
    drop_queue(ws);
    if (ws->handler != NULL)
        ws->handler->closed(ws, ws->ud);
    else
        free(ws);
}

static void arm(struct kt_ws *ws, double seconds) {
    lws_set_timer_usecs(ws->wsi, (lws_usec_t)(seconds * 1e6) + 1);
}

/* Cut it, without the closing handshake. */
static void kill_socket(struct kt_ws *ws) {
    lws_set_timeout(ws->wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_ASYNC);
}

/* A close or a ping is due, the closing handshake takes too long, or the peer is dead. The close
 * starts here and not in on_writable: Debian's build closes a socket twice when that callback
 * fails, and the second time takes the close frame away. */
static int on_timer(struct kt_ws *ws) {
    if (ws->close_due) {
        ws->close_due = false;
        ws->close_sent = true;
        arm(ws, ws->limits.close_s);
        lws_close_reason(ws->wsi, (enum lws_close_status)ws->close_code,
                         (unsigned char *)ws->close_reason, strlen(ws->close_reason));
        return -1;
    }
    if (ws->closing || ws->unanswered >= MISSED_PONGS) {
        kill_socket(ws);
        return 0;
    }
    ws->unanswered++;
    ws->ping_due = true;
    arm(ws, ws->limits.ping_s);
    lws_callback_on_writable(ws->wsi);
    return 0;
}

static int on_writable(struct kt_ws *ws) {
    struct message *m = ws->first;
    if (ws->ping_due) {
        unsigned char ping[LWS_PRE + 2] = {0}; /* of an empty pong it would not tell us */
        memcpy(ping + LWS_PRE, "kt", 2);
        ws->ping_due = false;
        if (lws_write(ws->wsi, ping + LWS_PRE, 2, LWS_WRITE_PING) < 0)
            return -1;
        lws_callback_on_writable(ws->wsi);
        return 0;
    }
    if (m != NULL) { /* one lws_write a callback is its rule */
        ws->first = m->next;
        if (ws->first == NULL)
            ws->last = NULL;
        ws->queued -= m->len;
        ws->queued_count--;
        int rc = lws_write(ws->wsi, m->bytes + LWS_PRE, m->len, LWS_WRITE_TEXT);
        free(m);
        if (rc < 0)
            return -1;
        if (ws->first != NULL || ws->closing)
            lws_callback_on_writable(ws->wsi);
        if (ws->was_full && ws->queued <= ws->limits.queue / 2 &&
            ws->queued_count <= ws->limits.queue_count / 2) {
            ws->was_full = false;
            if (ws->handler != NULL)
                ws->handler->drained(ws, ws->ud);
        }
        return 0;
    }
    if (ws->closing && !ws->close_sent) {
        ws->close_due = true;
        arm(ws, 0);
    }
    return 0;
}

static int on_receive(struct kt_ws *ws, size_t len) {
    static unsigned char reason[] = "the frame is too large";
    if (len + lws_remaining_packet_payload(ws->wsi) <= ws->limits.frame)
        return 0;
    ws->closing = true;
    lws_close_reason(ws->wsi, LWS_CLOSE_STATUS_MESSAGE_TOO_LARGE, reason, sizeof reason - 1);
    return -1;
}

static int add_headers(struct kt_ws *ws, struct lws_process_html_args *args) {
    static const unsigned char name[] = "x-request-id:";
    unsigned char **p = (unsigned char **)&args->p, *end = *p + args->max_len;
    return ws == NULL ? 0
                      : lws_add_http_header_by_name(ws->wsi, name, (unsigned char *)ws->request_id,
                                                    (int)strlen(ws->request_id), p, end);
}

static int callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                    size_t len) {
    struct kt_ws *ws = wsi != NULL ? lws_get_opaque_user_data(wsi) : NULL;
    struct kt_ws_context *context = wsi != NULL ? lws_context_user(lws_get_context(wsi)) : NULL;
    (void)user;
    switch (reason) {
    case LWS_CALLBACK_FILTER_PROTOCOL_CONNECTION: /* inside kt_ws_open */
        context->opening->wsi = wsi;
        lws_set_opaque_user_data(wsi, context->opening);
        return 0;
    case LWS_CALLBACK_ADD_HEADERS:
        return add_headers(ws, in);
    case LWS_CALLBACK_ESTABLISHED:
        arm(ws, ws->limits.ping_s);
        return 0;
    case LWS_CALLBACK_RECEIVE:
        return on_receive(ws, len);
    case LWS_CALLBACK_RECEIVE_PONG:
        ws->unanswered = 0;
        return 0;
    case LWS_CALLBACK_SERVER_WRITEABLE:
        return on_writable(ws);
    case LWS_CALLBACK_TIMER:
        return ws != NULL ? on_timer(ws) : 0;
    case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
        ws->closing = ws->close_sent = true;
        return 0;
    case LWS_CALLBACK_CLOSED:
    case LWS_CALLBACK_WSI_DESTROY:
        if (ws != NULL) {
            lws_set_opaque_user_data(wsi, NULL);
            gone(ws);
        }
        return 0;
    default:
        return 0;
    }
}

static const struct lws_protocols protocols[] = {{.name = "kontor", .callback = callback}, {0}};

struct kt_ws_context *kt_ws_context_new(uv_loop_t *loop, struct kt_error *err) {
    struct kt_ws_context *context = calloc(1, sizeof *context);
    if (context == NULL) {
        kt_fail(err, KT_NO_MEMORY, "out of memory");
        return NULL;
    }
    context->loop = loop;
    lws_set_log_level(0, NULL); /* it reports the adoption of a socket as an error */
    void *loops[] = {loop};
    struct lws_context_creation_info info = {
        .options = LWS_SERVER_OPTION_LIBUV | LWS_SERVER_OPTION_EXPLICIT_VHOSTS,
        .port = CONTEXT_PORT_NO_LISTEN_SERVER,
        .foreign_loops = loops,
        .protocols = protocols,
        .pcontext = &context->lws,
        .user = context,
    };
    struct rlimit limit, lower;
    bool lowered = getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur > FDS_MAX;
    lower = limit;
    lower.rlim_cur = FDS_MAX;
    if (lowered)
        setrlimit(RLIMIT_NOFILE, &lower);
    context->lws = lws_create_context(&info);
    if (lowered)
        setrlimit(RLIMIT_NOFILE, &limit);
    if (context->lws != NULL)
        context->vhost = lws_create_vhost(context->lws, &info);
    if (context->vhost == NULL) {
        kt_fail(err, KT_INTERNAL,
                "libwebsockets does not start (is libwebsockets-evlib-uv installed?)");
        kt_ws_context_free(context, NULL, NULL);
        return NULL;
    }
    return context;
}

static void on_idle_closed(uv_handle_t *handle) {
    struct kt_ws_context *context = handle->data;
    if (context->freed != NULL)
        context->freed(context->ud);
    free(context);
}

static void on_turn(uv_idle_t *idle) {
    struct kt_ws_context *context = idle->data;
    if (++context->turns < FREE_TURNS)
        return;
    if (context->lws != NULL)
        lws_context_destroy(context->lws); /* the second call frees; its handles are closed now */
    uv_close((uv_handle_t *)idle, on_idle_closed);
}

void kt_ws_context_free(struct kt_ws_context *context, void (*freed)(void *ud), void *ud) {
    context->freed = freed;
    context->ud = ud;
    uv_idle_init(context->loop, &context->idle);
    context->idle.data = context;
    uv_idle_start(&context->idle, on_turn);
    if (context->lws != NULL)
        lws_context_destroy(context->lws); /* starts to close; frees nothing on a foreign loop */
    while (context->sockets != NULL) {
        lws_set_opaque_user_data(context->sockets->wsi, NULL);
        gone(context->sockets);
    }
}

int kt_ws_context_open(const struct kt_ws_context *context) {
    return context->open;
}

/* lws parses this and never sees what the client wrote. */
static int canonical(char *out, size_t size, const char *key) {
    return snprintf(
        out, size,
        "GET / HTTP/1.1\r\nHost: kontor\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n",
        key);
}

struct kt_ws *kt_ws_open(struct kt_ws_context *context, int fd, const char *key,
                         const char *request_id, const void *rest, size_t rest_len,
                         const struct kt_ws_limits *limits, const struct kt_ws_handler *handler,
                         void *ud, struct kt_error *err) {
    char head[256];
    int head_len = canonical(head, sizeof head, key);
    struct kt_ws *ws = calloc(1, sizeof *ws);
    char *first = malloc((size_t)head_len + rest_len);
    if (ws == NULL || first == NULL) {
        free(ws);
        free(first);
        close(fd);
        kt_fail(err, KT_NO_MEMORY, "out of memory");
        return NULL;
    }
    memcpy(first, head, (size_t)head_len);
    if (rest_len > 0)
        memcpy(first + head_len, rest, rest_len);
    ws->context = context;
    ws->limits = limits ? *limits : kt_ws_default_limits;
    snprintf(ws->request_id, sizeof ws->request_id, "%s", request_id);
    context->opening = ws;
    struct lws *wsi =
        lws_adopt_socket_vhost_readbuf(context->vhost, fd, first, (size_t)head_len + rest_len);
    context->opening = NULL;
    free(first);
    if (wsi == NULL || ws->wsi == NULL) { /* it closed the socket */
        free(ws);
        kt_fail(err, KT_CANCELLED, "the client went away");
        return NULL;
    }
    ws->handler = handler;
    ws->ud = ud;
    ws->next = context->sockets;
    if (ws->next != NULL)
        ws->next->prev = ws;
    context->sockets = ws;
    context->open++;
    lws_callback_on_writable(wsi); /* also makes lws look at what came with the request */
    return ws;
}

int kt_ws_send(struct kt_ws *ws, const char *text, size_t len, struct kt_error *err) {
    if (ws->closing)
        return kt_fail(err, KT_CANCELLED, "the WebSocket is closed");
    struct message *m = malloc(sizeof *m + LWS_PRE + len);
    if (m == NULL)
        return kt_fail(err, KT_NO_MEMORY, "out of memory");
    m->next = NULL;
    m->len = len;
    memcpy(m->bytes + LWS_PRE, text, len);
    if (ws->last != NULL)
        ws->last->next = m;
    else
        ws->first = m;
    ws->last = m;
    ws->queued += len;
    ws->queued_count++;
    lws_callback_on_writable(ws->wsi);
    return 0;
}

bool kt_ws_full(struct kt_ws *ws) {
    bool full = !ws->closing &&
                (ws->queued >= ws->limits.queue || ws->queued_count >= ws->limits.queue_count);
    ws->was_full = ws->was_full || full;
    return full;
}

bool kt_ws_closed(const struct kt_ws *ws) {
    return ws->closing;
}

void kt_ws_close(struct kt_ws *ws, int code, const char *reason) {
    if (ws->closing)
        return;
    ws->closing = true;
    ws->close_code = code;
    snprintf(ws->close_reason, sizeof ws->close_reason, "%s", reason ? reason : "");
    if (code != 1000 && code != 1001)
        drop_queue(ws);
    arm(ws, ws->limits.close_s);
    lws_callback_on_writable(ws->wsi);
    lws_cancel_service(
        ws->context->lws); /* makes it look at the timer when nothing can be written */
}

void kt_ws_release(struct kt_ws *ws) {
    if (ws->wsi == NULL) {
        free(ws);
        return;
    }
    kt_ws_close(ws, 1000, "");
    ws->handler = NULL;
}
