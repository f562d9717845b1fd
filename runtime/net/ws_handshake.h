/* The client's half of the WebSocket handshake, checked before a socket is handed on: libwebsockets
 * 4.1.6 takes any version and any key. */
#pragma once

#include "net/http_parser.h"

enum { KT_WS_KEY_LEN = 24 };

/* key gets Sec-WebSocket-Key with a NUL. upgrade_required: no WebSocket version 13 (answer 426 with
 * Sec-WebSocket-Version: 13); malformed_request: the rest. */
int kt_ws_handshake(const struct kt_http_parser *head, char key[KT_WS_KEY_LEN + 1],
                    struct kt_error *err);
