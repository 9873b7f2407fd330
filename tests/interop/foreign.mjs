// Serves a page of another origin than the server's, in which one of the players that people embed plays a stream, and
// judges what a viewer would see.
//
//   node foreign.mjs PLAYER URL [--seconds 12] [--asks KIND] [--latency SECONDS] [--screenshot FILE]
//
// PLAYER is one of those in foreign/players.js, URL what it is given to play.
//
// Prints one JSON object and exits 0 when all is well, 3 when the picture is late and nothing else is wrong, else 1. Wrong arguments: 2.

import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import { judge, report } from "./judge.mjs";

const here = (path) => new URL(path, import.meta.url);
/** What the page is made of. hls.js and mpegts.js are those that the server's own page has. */
const FILES = {
  "/": here("foreign/page.html"),
  "/players.js": here("foreign/players.js"),
  "/dash.js": here("node_modules/dashjs/dist/modern/umd/dash.all.min.js"),
  "/hls.js": here("../../engine/src/http/page/hls/hls.js"),
  "/mpegts.js": here("../../engine/src/http/page/mpegts/mpegts.js"),
  "/video.js": here("node_modules/video.js/dist/video.min.js"),
  "/shaka.js": here("node_modules/shaka-player/dist/shaka-player.compiled.js"),
};

const { player, url, values } = arguments_();
const server = createServer(serve);
await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
const page = new URL(`http://127.0.0.1:${server.address().port}/`);
page.search = new URLSearchParams({ player, url });
report(await judge({
  url: page.href,
  seconds: Number(values.seconds),
  origins: [new URL(url).origin],
  asks: values.asks,
  latencyMax: values.latency && Number(values.latency),
  screenshot: values.screenshot,
}));
server.close();

async function serve(request, answer) {
  const { pathname } = new URL(request.url, page);
  const file = FILES[pathname];
  if (!file) return answer.writeHead(404).end();
  const type = pathname.endsWith(".js") ? "text/javascript" : "text/html";
  try {
    answer.writeHead(200, { "Content-Type": `${type}; charset=utf-8` }).end(await readFile(file));
  } catch (error) {
    answer.writeHead(500).end(String(error));
  }
}

function arguments_() {
  try {
    const text = { type: "string" };
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: { seconds: { ...text, default: "12" }, asks: text, latency: text, screenshot: text },
    });
    const [player, url] = positionals;
    if (positionals.length !== 2 || !(Number(values.seconds) > 0)) throw new Error("a player, a URL, and a positive number of seconds");
    return { player, url: new URL(url).href, values };
  } catch (error) {
    console.error(`foreign.mjs: ${error.message}`);
    process.exit(2);
  }
}
