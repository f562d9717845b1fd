/* libcurl asks for sockets and a timer, libuv watches them. Nothing is added to or removed from the
 * multi handle inside a callback of curl; results are collected after each socket action. */
#include "net/fetch.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "core/egress.h"

enum { CONNECT_MS = 10000, HEADERS_MAX = 65536, HOST_CONNECTIONS = 32, KEPT_CONNECTIONS = 128 };

struct kt_fetcher {
    uv_loop_t *loop;
    CURLM *multi;
    uv_timer_t *timer; /* while something is in flight */
    struct kt_fetch *fetches;
};

struct kt_fetch {
    struct kt_fetcher *fetcher;
    CURL *easy;
    struct curl_slist *headers;
    struct kt_fetch_answer answer;
    size_t max_body;
    bool overflow;
    struct kt_egress *egress;     /* NULL: no policy */
    bool named;                   /* the list names the host */
    char denied[INET6_ADDRSTRLEN]; /* the address that the policy has refused */
    char error[CURL_ERROR_SIZE];
    kt_fetch_fn done;
    void *ud;
    struct kt_fetch *prev, *next;
};

/* A socket that curl wants watched. Freed when libuv has closed the handle. */
struct watch {
    uv_poll_t poll;
    struct kt_fetcher *fetcher;
    curl_socket_t fd;
};

static void collect(struct kt_fetcher *fetcher);

static void free_handle(uv_handle_t *handle) {
    free(handle);
}

static void on_poll(uv_poll_t *poll, int status, int events) {
    struct watch *watch = (struct watch *)poll;
    struct kt_fetcher *fetcher = watch->fetcher;
    int running, flags = 0;
    if (status < 0)
        flags = CURL_CSELECT_ERR;
    if (events & UV_READABLE)
        flags |= CURL_CSELECT_IN;
    if (events & UV_WRITABLE)
        flags |= CURL_CSELECT_OUT;
    curl_multi_socket_action(fetcher->multi, watch->fd, flags, &running);
    collect(fetcher);
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *ud, void *assigned) {
    struct kt_fetcher *fetcher = ud;
    struct watch *watch = assigned;
    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        if (watch != NULL) {
            uv_poll_stop(&watch->poll);
            uv_close((uv_handle_t *)&watch->poll, free_handle);
            curl_multi_assign(fetcher->multi, fd, NULL);
        }
        return 0;
    }
    if (watch == NULL) {
        watch = calloc(1, sizeof *watch);
        if (watch == NULL || uv_poll_init_socket(fetcher->loop, &watch->poll, fd) != 0) {
            free(watch);
            return -1;
        }
        watch->fetcher = fetcher;
        watch->fd = fd;
        curl_multi_assign(fetcher->multi, fd, watch);
    }
    int events =
        (what != CURL_POLL_OUT ? UV_READABLE : 0) | (what != CURL_POLL_IN ? UV_WRITABLE : 0);
    return uv_poll_start(&watch->poll, events, on_poll) == 0 ? 0 : -1;
}

static void on_timeout(uv_timer_t *timer) {
    struct kt_fetcher *fetcher = timer->data;
    int running;
    curl_multi_socket_action(fetcher->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    collect(fetcher);
}

static int on_timer(CURLM *multi, long ms, void *ud) {
    struct kt_fetcher *fetcher = ud;
    (void)multi;
    if (ms < 0 || fetcher->timer == NULL) {
        if (fetcher->timer != NULL)
            uv_timer_stop(fetcher->timer);
        return 0;
    }
    uv_update_time(fetcher->loop);
    return uv_timer_start(fetcher->timer, on_timeout, (uint64_t)ms, 0) == 0 ? 0 : -1;
}

static bool allowed(struct kt_fetch *fetch, const struct sockaddr *address) {
    if (fetch->egress == NULL || fetch->named || kt_egress_allows(fetch->egress, address)) {
        fetch->denied[0] = '\0'; /* what is wrong with it from here on is something else */
        return true;
    }
    const void *raw = address->sa_family == AF_INET
                          ? (const void *)&((const struct sockaddr_in *)address)->sin_addr
                          : (const void *)&((const struct sockaddr_in6 *)address)->sin6_addr;
    inet_ntop(address->sa_family, raw, fetch->denied, sizeof fetch->denied);
    return false;
}

/* What is about to be connected to, whatever a name has meant before. libcurl 7.88 opens its sockets
 * without close-on-exec: children would inherit them. */
static curl_socket_t on_open(void *ud, curlsocktype purpose, struct curl_sockaddr *address) {
    (void)purpose;
    if (!allowed(ud, &address->addr))
        return CURL_SOCKET_BAD;
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/* A kept connection may have been opened by a request without this policy. */
static int on_connected(void *ud, char *remote, char *local, int port, int local_port) {
    struct kt_fetch *fetch = ud;
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    const struct sockaddr *address = NULL;
    (void)local;
    (void)local_port;
    if (inet_pton(AF_INET, remote, &in.sin_addr) == 1)
        address = (const struct sockaddr *)&in;
    else if (inet_pton(AF_INET6, remote, &in6.sin6_addr) == 1)
        address = (const struct sockaddr *)&in6;
    return address != NULL && allowed(fetch, address) ? CURL_PREREQFUNC_OK : CURL_PREREQFUNC_ABORT;
}

static size_t on_body(char *data, size_t size, size_t n, void *ud) {
    struct kt_fetch *fetch = ud;
    if (fetch->answer.body.len + size * n > fetch->max_body) {
        fetch->overflow = true;
        return 0;
    }
    kt_buf_add(&fetch->answer.body, data, size * n);
    return fetch->answer.body.failed ? 0 : size * n;
}

static size_t on_header(char *data, size_t size, size_t n, void *ud) {
    struct kt_fetch *fetch = ud;
    size_t len = size * n;
    if (len >= 5 && memcmp(data, "HTTP/", 5) == 0) { /* also of a 100 Continue before */
        kt_buf_clear(&fetch->answer.headers);
        return len;
    }
    if (fetch->answer.headers.len + len > HEADERS_MAX) {
        fetch->overflow = true;
        return 0;
    }
    if (len > 2)
        kt_buf_add(&fetch->answer.headers, data, len);
    return fetch->answer.headers.failed ? 0 : len;
}

static void remove_fetch(struct kt_fetch *fetch) {
    struct kt_fetcher *fetcher = fetch->fetcher;
    if (fetch->next != NULL)
        fetch->next->prev = fetch->prev;
    if (fetch->prev != NULL)
        fetch->prev->next = fetch->next;
    else
        fetcher->fetches = fetch->next;
    curl_multi_remove_handle(fetcher->multi, fetch->easy);
    if (fetcher->fetches == NULL && fetcher->timer != NULL) {
        uv_close((uv_handle_t *)fetcher->timer, free_handle);
        fetcher->timer = NULL;
    }
}

static void free_fetch(struct kt_fetch *fetch) {
    curl_easy_cleanup(fetch->easy);
    curl_slist_free_all(fetch->headers);
    kt_buf_free(&fetch->answer.headers);
    kt_buf_free(&fetch->answer.body);
    kt_egress_free(fetch->egress);
    free(fetch);
}

static void finish(struct kt_fetch *fetch, CURLcode code) {
    struct kt_error err;
    const struct kt_error *why = &err;
    long status = 0;
    curl_easy_getinfo(fetch->easy, CURLINFO_RESPONSE_CODE, &status);
    fetch->answer.status = (int)status;
    const char *text = fetch->error[0] != '\0' ? fetch->error : curl_easy_strerror(code);
    if (code == CURLE_OK)
        why = NULL;
    else if (fetch->denied[0] != '\0')
        kt_fail(&err, KT_FORBIDDEN, "the egress policy does not allow %s", fetch->denied);
    else if (fetch->overflow)
        kt_fail(&err, KT_UPSTREAM_FAILED, "the answer is larger than %zu bytes", fetch->max_body);
    else if (code == CURLE_OPERATION_TIMEDOUT)
        kt_fail(&err, KT_DEADLINE_EXCEEDED, "%s", text);
    else
        kt_fail(&err, KT_UPSTREAM_FAILED, "%s", text);
    remove_fetch(fetch);
    fetch->done(why == NULL ? &fetch->answer : NULL, why, fetch->ud);
    free_fetch(fetch);
}

static void collect(struct kt_fetcher *fetcher) {
    CURLMsg *msg;
    int left;
    while ((msg = curl_multi_info_read(fetcher->multi, &left)) != NULL) {
        struct kt_fetch *fetch = NULL;
        CURLcode code = msg->data.result; /* the message dies with the handle */
        if (msg->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, (char **)&fetch);
        finish(fetch, code);
    }
}

struct kt_fetcher *kt_fetcher_new(uv_loop_t *loop, struct kt_error *err) {
    static bool initialised;
    struct kt_fetcher *fetcher = calloc(1, sizeof *fetcher);
    if (!initialised && curl_global_init(CURL_GLOBAL_DEFAULT) == 0)
        initialised = true;
    if (fetcher != NULL && initialised)
        fetcher->multi = curl_multi_init();
    if (fetcher == NULL || fetcher->multi == NULL) {
        free(fetcher);
        kt_fail(err, KT_NO_MEMORY, "libcurl does not start");
        return NULL;
    }
    fetcher->loop = loop;
    curl_multi_setopt(fetcher->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(fetcher->multi, CURLMOPT_SOCKETDATA, fetcher);
    curl_multi_setopt(fetcher->multi, CURLMOPT_TIMERFUNCTION, on_timer);
    curl_multi_setopt(fetcher->multi, CURLMOPT_TIMERDATA, fetcher);
    curl_multi_setopt(fetcher->multi, CURLMOPT_MAX_HOST_CONNECTIONS, (long)HOST_CONNECTIONS);
    /* By default four for each transfer of the moment: in a lull between two waves most were closed. */
    curl_multi_setopt(fetcher->multi, CURLMOPT_MAXCONNECTS, (long)KEPT_CONNECTIONS);
    return fetcher;
}

void kt_fetcher_free(struct kt_fetcher *fetcher) {
    while (fetcher->fetches != NULL)
        kt_fetch_cancel(fetcher->fetches);
    curl_multi_cleanup(fetcher->multi);
    free(fetcher);
}

static bool set_options(struct kt_fetch *fetch, const struct kt_fetch_request *r) {
    CURL *easy = fetch->easy;
    bool ok = true;
#define SET(option, value) ok = curl_easy_setopt(easy, option, value) == CURLE_OK && ok
    SET(CURLOPT_PRIVATE, (char *)fetch);
    SET(CURLOPT_ERRORBUFFER, fetch->error);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_URL, r->url);
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_OPENSOCKETFUNCTION, on_open);
    SET(CURLOPT_OPENSOCKETDATA, fetch);
    SET(CURLOPT_WRITEFUNCTION, on_body);
    SET(CURLOPT_WRITEDATA, fetch);
    SET(CURLOPT_HEADERFUNCTION, on_header);
    SET(CURLOPT_HEADERDATA, fetch);
    SET(CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
    if (r->timeout_s > 0)
        SET(CURLOPT_TIMEOUT_MS, (long)(r->timeout_s * 1000) + 1);
    if (r->unix_path != NULL) {
        SET(CURLOPT_UNIX_SOCKET_PATH, r->unix_path);
        SET(CURLOPT_PROXY, "");
    }
    if (fetch->egress != NULL) {
        SET(CURLOPT_PREREQFUNCTION, on_connected);
        SET(CURLOPT_PREREQDATA, fetch);
        SET(CURLOPT_PROXY, ""); /* it would connect in our place */
    }
    if (r->once)
        SET(CURLOPT_FRESH_CONNECT, 1L);
    if (r->decode)
        SET(CURLOPT_ACCEPT_ENCODING, "gzip, deflate");
    if (r->body != NULL) {
        SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body_len);
        SET(CURLOPT_COPYPOSTFIELDS, r->body);
    }
    if (strcasecmp(r->method, "HEAD") == 0)
        SET(CURLOPT_NOBODY, 1L);
    else
        SET(CURLOPT_CUSTOMREQUEST, r->method);
    if (fetch->headers != NULL)
        SET(CURLOPT_HTTPHEADER, fetch->headers);
#undef SET
    return ok;
}

static int make_headers(struct kt_fetch *fetch, const struct kt_fetch_request *r,
                        struct kt_error *err) {
    static const char *const expect[] = {"Expect:", NULL}; /* no second of waiting for a 100 */
    const char *const *lists[] = {expect, r->headers};
    for (size_t l = 0; l < 2; l++) {
        for (const char *const *h = lists[l]; h != NULL && *h != NULL; h++) {
            /* "Name;" is curl's way to send an empty value */
            if (strpbrk(*h, ":;") == NULL || strpbrk(*h, "\r\n") != NULL)
                return kt_fail(err, KT_INVALID_ARGUMENT, "not a header line");
            struct curl_slist *list = curl_slist_append(fetch->headers, *h);
            if (list == NULL)
                return kt_fail(err, KT_NO_MEMORY, "out of memory");
            fetch->headers = list;
        }
    }
    return 0;
}

/* curl would only say so when it begins. Says also whether the egress list names the host. */
static int check_url(struct kt_fetch *fetch, const char *url, struct kt_error *err) {
    CURLU *u = curl_url();
    if (u == NULL)
        return kt_fail(err, KT_NO_MEMORY, "out of memory");
    char *scheme = NULL, *host = NULL, *port = NULL;
    CURLUcode rc = curl_url_set(u, CURLUPART_URL, url, 0);
    if (rc == CURLUE_OK)
        rc = curl_url_get(u, CURLUPART_SCHEME, &scheme, 0);
    if (rc == CURLUE_OK)
        rc = curl_url_get(u, CURLUPART_HOST, &host, 0);
    if (rc == CURLUE_OK)
        rc = curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT);
    bool ok = rc == CURLUE_OK && (strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0);
    if (ok && fetch->egress != NULL)
        fetch->named = kt_egress_names(fetch->egress, host, atoi(port));
    curl_free(scheme);
    curl_free(host);
    curl_free(port);
    curl_url_cleanup(u);
    return ok ? 0 : kt_fail(err, KT_INVALID_ARGUMENT, "not a URL of http or https: %s", url);
}

struct kt_fetch *kt_fetch_start(struct kt_fetcher *fetcher, const struct kt_fetch_request *request,
                                kt_fetch_fn done, void *ud, struct kt_error *err) {
    struct kt_fetch *fetch = calloc(1, sizeof *fetch);
    if (fetch == NULL) {
        kt_fail(err, KT_NO_MEMORY, "out of memory");
        return NULL;
    }
    *fetch = (struct kt_fetch){
        .fetcher = fetcher, .max_body = request->max_body, .done = done, .ud = ud};
    if (request->egress != NULL && (fetch->egress = kt_egress_parse(request->egress, err)) == NULL) {
        free_fetch(fetch);
        return NULL;
    }
    if (check_url(fetch, request->url, err) != 0 || make_headers(fetch, request, err) != 0) {
        free_fetch(fetch);
        return NULL;
    }
    fetch->easy = curl_easy_init();
    if (fetch->easy == NULL) {
        free_fetch(fetch);
        kt_fail(err, KT_NO_MEMORY, "out of memory");
        return NULL;
    }
    if (!set_options(fetch, request)) {
        kt_fail(err, KT_INVALID_ARGUMENT, "libcurl refuses the request");
        free_fetch(fetch);
        return NULL;
    }
    if (fetcher->timer == NULL) {
        fetcher->timer = calloc(1, sizeof *fetcher->timer);
        if (fetcher->timer == NULL) {
            free_fetch(fetch);
            kt_fail(err, KT_NO_MEMORY, "out of memory");
            return NULL;
        }
        uv_timer_init(fetcher->loop, fetcher->timer);
        fetcher->timer->data = fetcher;
    }
    fetch->next = fetcher->fetches;
    if (fetch->next != NULL)
        fetch->next->prev = fetch;
    fetcher->fetches = fetch;
    curl_multi_add_handle(fetcher->multi, fetch->easy); /* sets the timer, which begins it */
    return fetch;
}

void kt_fetch_cancel(struct kt_fetch *fetch) {
    remove_fetch(fetch);
    free_fetch(fetch);
}
