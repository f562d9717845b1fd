// follow.cjs URL NODE_MODULES: print every message of a WebSocket, a line each; 0 when the server
// closed it well (1000).
const { WebSocket } = require(process.argv[3] + "/ws");
const socket = new WebSocket(process.argv[2], { handshakeTimeout: 10000 });
socket.on("message", (data) => console.log(data.toString()));
socket.on("error", (error) => { console.error(error.message); process.exitCode = 1; });
socket.on("close", (code) => { if (code !== 1000) { console.error("closed with " + code); process.exitCode = 1; } });
