---@meta kt.http
-- For editors; the module is runtime/bind/lua_http.c. Failures are nil, err unless said; what is
-- wrong in the program (bad arguments, a header field of the server's own) raises.

---@class kontor.Http
local http = {}

---@class kontor.HttpLimits all optional
---@field headers? integer bytes of all header lines, 16384; more is answered with 431
---@field target? integer bytes, 8192; more: 414
---@field body? integer a larger Content-Length is refused unread with 413; 0 (=): the handler decides
---@field write_queue? integer bytes of an answer that wait before write does, 262144
---@field connections? integer 10000, at most 3/4 of the descriptors; more wait in the kernel's queue
---@field header_time? number seconds for a head, 10
---@field body_time? number seconds without a byte of a wanted body, 30
---@field idle_time? number seconds between requests, 60
---@field write_time? number seconds without progress of an answer, 60
---@field linger_time? number seconds of reading on after the last answer, 5

---Serve the listening socket fd, which is the server's from now on. Each request runs handler(req)
---as a root task; a client that goes away cancels it; a handler that ends without an answer is a 500.
---@param options {fd: integer, handler: fun(req: kontor.HttpRequest), limits?: kontor.HttpLimits, via?: "tcp"|"unix"}
---@return kontor.HttpServer|nil server
---@return kontor.Error|nil
function http.serve(options) end

---@param address string "127.0.0.1:0"
---@return integer|nil fd
---@return integer|kontor.Error port
function http.listen(address) end

---Requests of all servers whose handlers run, those not counted that said req:streaming().
---@return integer
function http.active() end

---@class kontor.HttpServer
local server = {}

---Accept no more, answer what runs with `Connection: close`. Yields.
---@param seconds number
---@return boolean empty all connections and WebSockets are gone; the handlers close these (1001)
function server:drain(seconds) end

---Cut every connection; their tasks are cancelled.
function server:close() end

---@return integer
function server:connections() end

---A request. The table is the handler's: it may keep fields of its own in it.
---@class kontor.HttpRequest
---@field method string
---@field target string as sent
---@field path string as sent, still percent-encoded, up to `?`
---@field query? string behind `?`
---@field headers table<string, string> names in lower case; repeated fields joined by ", "
---@field id string X-Request-Id, taken or made
---@field remote string address of the client, "" for a unix socket
---@field via "tcp"|"unix"
---@field version "1.0"|"1.1"
local req = {}

---The whole body; once. Yields. body_too_large, request_timeout, malformed_request, cancelled.
---@param max? integer bytes, 1 MiB
---@return string|nil body
---@return kontor.Error|nil
function req:body(max) end

---Some of the body, nil at its end. Yields. The client is held back by not reading.
---@return string|nil chunk
---@return kontor.Error|nil
function req:read() end

---The whole answer. For HEAD, 204 and 304 the body stays unsent.
---@param status integer
---@param headers? table<string, string|number|string[]>
---@param body? string
---@return true|nil ok
---@return kontor.Error|nil
function req:respond(status, headers, body) end

---Begin a streamed answer. headers: `content-length` announces its length, else it is chunked;
---`connection = "close"` ends the connection after it.
---@param status integer
---@param headers? table<string, string|number|string[]>
---@return true|nil ok
---@return kontor.Error|nil
function req:start(status, headers) end

---Yields while more than write_queue bytes wait for the client.
---@param chunk string
---@return true|nil ok
---@return kontor.Error|nil
function req:write(chunk) end

---@param chunk? string the last bytes of it. Of an answer of announced length give them here: its client may
--- go as soon as it has them, which before the end counts as broken off
---@return true|nil ok
---@return kontor.Error|nil
function req:finish(chunk) end

---@return boolean answered an answer was begun, or the client is gone
function req:answered() end

---From here on the answer is a stream of open end: http.active() counts it no longer.
function req:streaming() end

---Make it a WebSocket. upgrade_required: answer 426 with `sec-websocket-version = "13"` and
---`upgrade = "websocket"`; malformed_request: 400; draining: 503.
---@param options? {max_frame?: integer, queue?: integer, queue_count?: integer, ping_time?: number, send_time?: number, close_time?: number}
---@return kontor.WebSocket|nil
---@return kontor.Error|nil
function req:upgrade(options) end

---What a client sends is read and ignored. One that nobody holds any more closes with 1000.
---@class kontor.WebSocket
local ws = {}

---Queue a text message. Yields while the queue is full. too_slow: it stayed full for send_time;
---cancelled: the socket is closed.
---@param text string UTF-8
---@return true|nil ok
---@return kontor.Error|nil
function ws:send(text) end

---1000 and 1001 after what is queued, other codes at once and without it.
---@param code? integer 1000
---@param reason? string at most 123 bytes are sent
function ws:close(code, reason) end

---@return boolean
function ws:closed() end

---Yields until the socket is gone, whoever closed it.
---@return true|nil
---@return kontor.Error|nil
function ws:wait_closed() end

return http
