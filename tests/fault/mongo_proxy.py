"""A proxy for faults between a driver and a MongoDB server: forwards whole messages, and misbehaves on request.

It runs in a thread of its own. A fault waits for a command and is used `times` times:

    proxy.add("drop_before", "insert")        the connection ends before the server sees the command
    proxy.add("drop_after", "insert")         the server has answered, the answer is lost
    proxy.add("cut", "find")                  half of the answer comes, then the connection ends
    proxy.add("delay", "find", seconds=1)     the answer comes late
    proxy.add("hang", "update")               no answer ever; the connection stays open
    proxy.add("reply", "update", document={}) this answer instead of the server's, which never sees the command
    proxy.add("replace", "update", document={}) this answer instead of the server's, which did what was asked
    proxy.add("change", "find", document={"$db": "x"}) the server sees the command with these fields instead

`proxy.hello` changes what the server says of itself in hello and isMaster; `proxy.refuse` closes every new
connection; cut_all() ends those that are open. `proxy.seen` counts commands by name, `proxy.commands` keeps them;
`proxy.most_open` is how many connections there were at a time.
Behind it only directConnection=true stays here: else the driver goes to the address that hello names.
"""
import asyncio
import collections
import struct
import threading

import bson

HEADER = struct.Struct("<iiii")
OP_REPLY, OP_QUERY, OP_MSG, CHECKSUM = 1, 2004, 2013, 1
# A server that answers so changes, and its hello says so at once: the driver's waiting hello has to end then.
CHANGES = (91, 189, 10107, 11600, 11602, 13435, 13436)
# In every command, and of no use to a test.
NOISE = ("lsid", "$clusterTime", "$readPreference", "txnNumber")


def document_of(message):
    """(the command or answer in a message, its code)."""
    code = HEADER.unpack_from(message)[3]
    if code == OP_QUERY:
        end = message.index(b"\0", 20)
        return bson.decode(message[end + 9:end + 9 + struct.unpack_from("<i", message, end + 9)[0]]), code
    if code == OP_REPLY:
        return bson.decode(message[36:36 + struct.unpack_from("<i", message, 36)[0]]), code
    if code != OP_MSG:
        return {}, code
    body, at = {}, 20
    end = len(message) - (4 if struct.unpack_from("<I", message, 16)[0] & CHECKSUM else 0)
    while at < end:
        kind, size = message[at], struct.unpack_from("<i", message, at + 1)[0]
        if kind == 0:
            body.update(bson.decode(message[at + 1:at + 1 + size]))
        else:  # a sequence of documents under a name
            name_end = message.index(b"\0", at + 5)
            body[message[at + 5:name_end].decode()] = bson.decode_all(message[name_end + 1:at + 1 + size])
        at += 1 + size
    return body, code


def changed(request, body, fields):
    """The bytes of the command with other values of these fields; OP_MSG."""
    body = b"\0\0\0\0\0" + bson.encode({**body, **fields})
    return HEADER.pack(16 + len(body), HEADER.unpack_from(request)[1], 0, OP_MSG) + body


def answer(request, document):
    """The bytes of an answer to the request."""
    _, number, _, code = HEADER.unpack_from(request)
    if code == OP_QUERY:
        body = struct.pack("<iqii", 8, 0, 0, 1) + bson.encode(document)
        return HEADER.pack(16 + len(body), 1, number, OP_REPLY) + body
    body = b"\0\0\0\0\0" + bson.encode(document)
    return HEADER.pack(16 + len(body), 1, number, OP_MSG) + body


class Fault:
    def __init__(self, kind, command, times, seconds, document, when):
        self.kind, self.command, self.left, self.used = kind, command, times, 0
        self.seconds, self.document, self.when = seconds, document, when

    def takes(self, name, body):
        meant = self.when is None or self.when(name, body)
        if self.left == 0 or name != self.command or not meant:
            return False
        self.left, self.used = self.left - 1, self.used + 1
        return True


class Proxy:
    def __init__(self, host, port):
        self.target, self.port = (host, port), None
        self.faults, self.hello, self.refuse = [], {}, False
        self.seen, self.commands = collections.Counter(), []
        self.open = self.most_open = 0  # connections of clients
        self.writers, self.monitors = set(), set()  # connections; those whose hello waits for a change
        self.changing = 0
        self.lock, self.ready, self.loop = threading.Lock(), threading.Event(), asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.run, daemon=True)

    @property
    def url(self):
        return f"mongodb://127.0.0.1:{self.port}/?directConnection=true"

    def __enter__(self):
        self.thread.start()
        self.ready.wait(30)
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.ended.set)
        self.thread.join(30)

    def add(self, kind, command, times=1, seconds=0, document=None, when=None):
        """`when(name, command)` sees every command and says for which the fault is. Gives the fault, whose `used` counts."""
        fault = Fault(kind, command, times, seconds, document, when)
        with self.lock:
            self.faults.append(fault)
        return fault

    def clear(self):
        with self.lock:
            self.faults.clear()
            self.seen.clear()
            self.commands.clear()

    def cut_all(self):
        self.loop.call_soon_threadsafe(lambda: [writer.close() for writer in list(self.writers)])

    def away(self, yes):
        """Nobody is there: what is open ends, what comes is refused. Or it is back."""
        self.refuse = yes
        if yes:
            self.cut_all()

    # ---- the proxy's own thread ----

    def run(self):
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self.serve())
        self.loop.close()

    async def serve(self):
        self.ended = asyncio.Event()
        server = await asyncio.start_server(self.client, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self.ready.set()
        await self.ended.wait()
        server.close()
        tasks = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def client(self, reader, writer):
        self.writers.add(writer)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        upstream = None
        try:
            if not self.refuse:
                upstream = await asyncio.open_connection(*self.target)
                self.writers.add(upstream[1])
                while await self.exchange(reader, writer, *upstream):
                    pass
        except (OSError, EOFError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open -= 1
            for stream in (writer, upstream[1] if upstream else None):
                if stream is not None:
                    self.writers.discard(stream)
                    self.monitors.discard(stream)
                    stream.close()

    @staticmethod
    async def message(reader):
        head = await reader.readexactly(16)
        return head + await reader.readexactly(HEADER.unpack(head)[0] - 16)

    def fault_for(self, name, body):
        with self.lock:
            self.seen[name] += 1
            self.commands.append({k: v for k, v in body.items() if k not in NOISE})
            return next((f for f in self.faults if f.takes(name, body)), None)

    async def exchange(self, reader, writer, up_reader, up_writer):
        """One command and its answer; False: the connection is done."""
        request = await self.message(reader)
        body, code = document_of(request)
        name = next(iter(body), "")
        fault = self.fault_for(name, body)
        kind = fault.kind if fault else None
        if "maxAwaitTimeMS" in body and name == "hello":
            if self.loop.time() < self.changing:
                return False
            self.monitors.add(writer)
        if kind == "drop_before":
            return False
        if kind == "hang":
            await reader.read()  # until the client gives up
            return False
        if kind == "reply":
            writer.write(answer(request, fault.document))
            await writer.drain()
            if fault.document.get("code") in CHANGES:
                self.changing = self.loop.time() + 0.3  # one that was about to wait shall not, either
                for monitor in list(self.monitors):
                    monitor.close()
            return True
        up_writer.write(changed(request, body, fault.document) if kind == "change" else request)
        while True:
            reply = await self.message(up_reader)
            if kind == "delay":
                await asyncio.sleep(fault.seconds)
            if kind == "drop_after":
                return False
            if kind == "cut":
                writer.write(reply[:len(reply) // 2])
                await writer.drain()
                return False
            more = code == OP_MSG and struct.unpack_from("<I", reply, 16)[0] & 2  # an awaitable hello goes on
            if kind == "replace":
                reply = answer(request, fault.document)
            elif self.hello and name.lower() in ("hello", "ismaster"):
                told = {**document_of(reply)[0], **self.hello}
                reply = answer(request, {k: v for k, v in told.items() if v is not None})
                more = False
            writer.write(reply)
            await writer.drain()
            if not more:
                return True
