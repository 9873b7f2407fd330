// Serves RTMP and HTTP-FLV by node-media-server: `node host.js MODULES ADDRESS RTMP_PORT HTTP_PORT`.
//
// The package's own program cannot be told to be quiet: it logs every viewer and keeps a history of them on the disk. So
// its two media servers are started here, and nothing else of it: no store, no history, no relay, no web console.
"use strict";

const path = require("node:path");

const [modules, address, rtmpPort, httpPort] = process.argv.slice(2);
if (httpPort === undefined) {
  console.error("usage: node host.js MODULES ADDRESS RTMP_PORT HTTP_PORT");
  process.exit(2);
}

const NodeMediaServer = require(path.join(modules, "node-media-server"));
const logger = require(path.join(modules, "node-media-server/src/core/logger.js"));

const server = new NodeMediaServer({
  bind: address,
  rtmp: { port: Number(rtmpPort) },
  http: { port: Number(httpPort) },
  webadmin: { enable: false },
});
// After the constructor, which sets it to "debug".
logger.level = "error";
server.httpServer.run();
server.rtmpServer.run();
