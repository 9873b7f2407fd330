// Opens a player page in the machine's own Chromium and judges what a viewer would see.
//
//   node player.mjs URL [--seconds 6] [--screenshot FILE.png]
//
// Prints one JSON object and exits 0 when the picture moves at the pace of time, is not black, changes, and neither the
// console nor the page said anything bad and no other origin was asked for anything; else 1. Wrong arguments: 2.
// CHROMIUM names another browser than /usr/bin/chromium.

import { parseArgs } from "node:util";
import { chromium } from "playwright-core";

const START_MS = 20_000;
/** The clock of the picture may run a little fast or slow where the player catches up, or stop for a moment. */
const PACE_MIN = 0.8, PACE_MAX = 1.3;

const { url, seconds, screenshot } = arguments_();
const found = { url, ok: false, problems: [], console: [], requests: 0, foreign: [] };

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  // For root in a container, and for a browser that talks to nobody but the page's server.
  args: [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required",
  ],
});
try {
  await watch(await browser.newPage({ viewport: { width: 1280, height: 800 } }));
} catch (error) {
  found.problems.push(String(error));
} finally {
  await browser.close();
}
found.ok = found.problems.length === 0;
console.log(JSON.stringify(found, null, 2));
process.exitCode = found.ok ? 0 : 1;

async function watch(page) {
  const origin = new URL(url).origin;
  page.on("console", (message) => {
    found.console.push(`${message.type()}: ${message.text()}`);
    if (message.type() === "error") found.problems.push(`console: ${message.text()}`);
  });
  page.on("pageerror", (error) => found.problems.push(`page: ${error}`));
  page.on("crash", () => found.problems.push("the page crashed"));
  page.on("request", (request) => {
    found.requests += 1;
    const asked = new URL(request.url());
    if (asked.protocol !== "blob:" && asked.protocol !== "data:" && asked.origin !== origin) found.foreign.push(asked.href);
  });

  const answer = await page.goto(url, { waitUntil: "load" });
  if (answer.status() !== 200) found.problems.push(`the page answered ${answer.status()}`);
  const began = Date.now();
  try {
    await page.waitForFunction(
      () => { const video = document.querySelector("video"); return video?.readyState >= 2 && video.currentTime > 0; },
      null,
      { timeout: START_MS },
    );
  } catch {
    found.problems.push(`no picture in ${START_MS / 1000} s`);
  }
  found.start_ms = Date.now() - began;

  const first = await page.evaluate(look);
  await page.waitForTimeout(seconds * 1000);
  const last = await page.evaluate(look);
  found.picture = last;
  judge(first, last);
  if (screenshot) await page.screenshot({ path: screenshot });
  if (found.foreign.length > 0) found.problems.push("another origin was asked for something");
}

/** In the page: the state of its video, and of 64 x 36 samples of the picture. */
function look() {
  const video = document.querySelector("video");
  if (!video) return null;
  const canvas = new OffscreenCanvas(64, 36);
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.drawImage(video, 0, 0, canvas.width, canvas.height);
  const { data } = pen.getImageData(0, 0, canvas.width, canvas.height);
  const light = [];
  for (let at = 0; at < data.length; at += 4) light.push(Math.round(0.299 * data[at] + 0.587 * data[at + 1] + 0.114 * data[at + 2]));
  const mean = light.reduce((sum, value) => sum + value, 0) / light.length;
  const spread = Math.sqrt(light.reduce((sum, value) => sum + (value - mean) ** 2, 0) / light.length);
  const quality = video.getVideoPlaybackQuality();
  const { buffered } = video;
  return {
    at: performance.now() / 1000,
    current_time: video.currentTime,
    paused: video.paused,
    ready_state: video.readyState,
    error: video.error?.message ?? null,
    width: video.videoWidth,
    height: video.videoHeight,
    behind: buffered.length ? buffered.end(buffered.length - 1) - video.currentTime : null,
    frames: quality.totalVideoFrames,
    dropped: quality.droppedVideoFrames,
    state: document.body.dataset.state ?? null,
    mean, spread, light: light.join(","),
  };
}

function judge(first, last) {
  const claim = (holds, problem) => { if (!holds) found.problems.push(problem); };
  if (!first || !last) return claim(false, "the page has no video");
  found.advanced = last.current_time - first.current_time;
  found.pace = found.advanced / (last.at - first.at);
  claim(!last.error, `the video failed: ${last.error}`);
  claim(!last.paused, "the video is paused");
  claim(last.width > 0 && last.height > 0, "the picture has no size");
  claim(found.pace >= PACE_MIN && found.pace <= PACE_MAX, `the picture ran at ${found.pace.toFixed(2)} of the pace of time`);
  claim(last.frames > first.frames, "no frame was shown");
  // Limited-range black is 16 and comes out as 0; noise and dark scenes stay under 8.
  claim(last.mean > 8 && last.spread > 2, `the picture is black or of one colour (mean ${last.mean.toFixed(1)}, spread ${last.spread.toFixed(1)})`);
  claim(last.light !== first.light, "the picture stands still");
  for (const sample of [first, last]) delete sample.light;
}

function arguments_() {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: { seconds: { type: "string", default: "6" }, screenshot: { type: "string" } },
    });
    const seconds = Number(values.seconds);
    if (positionals.length !== 1 || !(seconds > 0)) throw new Error("one URL, and a positive number of seconds");
    return { url: new URL(positionals[0]).href, seconds, screenshot: values.screenshot };
  } catch (error) {
    console.error(`player.mjs: ${error.message}\nusage: node player.mjs URL [--seconds 6] [--screenshot FILE.png]`);
    process.exit(2);
  }
}
