/* The client's half of the opening handshake (RFC 6455 4.2.1). */
#include "net/ws_handshake.h"

#include <string.h>

/* 16 bytes in base64: 22 characters, of which the last carries two bits, and "==". */
static bool key_ok(struct kt_http_span key) {
    if (key.len != KT_WS_KEY_LEN || memcmp(key.data + 22, "==", 2) != 0)
        return false;
    for (int i = 0; i < 22; i++) {
        char c = key.data[i];
        if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
              c == '+' || c == '/'))
            return false;
    }
    return strchr("AQgw", key.data[21]) != NULL;
}

static bool single(const struct kt_http_parser *head, const char *name,
                   struct kt_http_span *value) {
    int count = 0;
    for (int i = 0; i < head->field_count; i++) {
        const struct kt_http_field *f = &head->fields[i];
        if (f->name_len == strlen(name) &&
            memcmp(head->head.data + f->name, name, f->name_len) == 0) {
            *value = kt_http_value(head, f);
            count++;
        }
    }
    return count == 1;
}

int kt_ws_handshake(const struct kt_http_parser *head, char key[KT_WS_KEY_LEN + 1],
                    struct kt_error *err) {
    struct kt_http_span value;
    if (strcmp(head->method, "GET") != 0 || head->minor != 1 || head->length != 0)
        return kt_fail(err, KT_MALFORMED_REQUEST,
                       "a WebSocket is opened by an HTTP/1.1 GET without a body");
    if (!head->wants_upgrade)
        return kt_fail(
            err, KT_UPGRADE_REQUIRED,
            "this address speaks WebSocket: send Connection: Upgrade and Upgrade: websocket");
    if (!single(head, "sec-websocket-version", &value) || value.len != 2 ||
        memcmp(value.data, "13", 2) != 0)
        return kt_fail(err, KT_UPGRADE_REQUIRED, "the WebSocket version is not 13");
    if (!single(head, "sec-websocket-key", &value) || !key_ok(value))
        return kt_fail(err, KT_MALFORMED_REQUEST, "Sec-WebSocket-Key is not 16 bytes in base64");
    memcpy(key, value.data, KT_WS_KEY_LEN);
    key[KT_WS_KEY_LEN] = '\0';
    return 0;
}
