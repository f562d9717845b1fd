---@meta kt.fetch
-- For editors; the module is runtime/bind/lua_fetch.c, and is this function.

---One HTTP request. Yields. No redirects are followed; a status of 400 and more is an answer.
---upstream_failed: no answer, cut off or too large; deadline_exceeded; cancelled. Bad arguments raise.
---@param request {url: string, method?: string, headers?: table<string, string>, body?: string, unix?: string, timeout?: number, max?: integer, egress?: string, once?: boolean, decode?: boolean}
--- timeout: seconds of all of it, 30; max: bytes of the answer's body, 16 MiB; unix: path of a socket;
--- egress: only public addresses and those of this list, else the error forbidden; once: never sent again by
--- libcurl; decode: take gzip and deflate
---@return {status: integer, headers: table<string, string>, body: string}|nil answer headers in lower case
---@return kontor.Error|nil
local function fetch(request) end

return fetch
