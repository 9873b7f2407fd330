// What the tests of players have in common: a page in the machine's own Chromium, a witness inside it, and a verdict on
// what a viewer would have seen.
//
// CHROMIUM names another browser than /usr/bin/chromium.

import { chromium } from "playwright-core";

const START_MS = 20_000;
/** A player settles first: it may seek to where it wants to be, or hurry there. */
const SETTLE_MS = 2_000;
const SAMPLE_MS = 500;
/** The clock of the picture may run a little fast or slow where the player catches up. */
const PACE_MIN = 0.85, PACE_MAX = 1.2;
/** How long a picture may wait for what is to come: less than a viewer takes for a stall. */
const WAIT_MAX_MS = 300;
/** Of the frames of a watch. A machine with two cores that decodes in software loses some. */
const DROPPED_MAX = 0.1;

/** What is said of a late picture: whoever asked may look again when the machine is less busy. */
const LATE = 3;

export const LAUNCH = [
  // For root in a container, and for a browser that talks to nobody but the servers of the test.
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required",
];

/**
 * Opens `url`, watches its video for `seconds` and says what was found. `ok` holds when the picture moved at the pace of
 * time without a wait, is not black, changes, and nobody complained: not the console, not the page, not the player.
 *
 * - `origins`: whom the page may ask for something, beside its own origin
 * - `asks`: a kind of file that the page has to ask for, as `kindOf` has it
 * - `protocol`: what all of it has to come by, as ALPN names it
 * - `latencyMax`: seconds from the clock in the picture to the wall, in the median
 * - `screenshot`: a file to write
 * - `prepare`: a function for the page before it has loaded anything
 * - `then`: a function that looks at the page afterwards and gives back problems
 */
export async function judge({ url, seconds, origins = [], asks, protocol, latencyMax, screenshot, prepare, then }) {
  const found = { url, ok: false, problems: [], console: [], asked: {}, foreign: [], failed: [] };
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: LAUNCH });
  try {
    // The server's certificate is of its own making.
    const page = await browser.newPage({ viewport: { width: 1280, height: 800 }, ignoreHTTPSErrors: true });
    listen(page, found, [new URL(url).origin, ...origins]);
    await page.addInitScript(witness);
    if (prepare) await page.addInitScript(prepare);
    await watch(page, found, { url, seconds, latencyMax });
    found.protocols = await page.evaluate(
      () => [...new Set(performance.getEntries().map((entry) => entry.nextHopProtocol).filter(Boolean))],
    );
    if (protocol && found.protocols.join() !== protocol) found.problems.push(`it came by ${found.protocols}`);
    if (asks && !found.asked[asks]) found.problems.push(`nobody asked for ${asks}`);
    if (screenshot) await page.screenshot({ path: screenshot });
    if (then) found.problems.push(...await then(page, found));
    if (found.foreign.length > 0) found.problems.push("another origin was asked for something");
  } catch (error) {
    found.problems.push(String(error));
  } finally {
    await browser.close();
  }
  found.ok = found.problems.length === 0;
  return found;
}

/** Prints what was found, and makes it the exit code: 0 when it is well, LATE when nothing but a late picture is wrong, else 1. */
export function report(found) {
  console.log(JSON.stringify(found, null, 2));
  process.exitCode = found.ok ? 0 : found.late && found.problems.length === 1 ? LATE : 1;
}

/** Waits until `video` plays, at most as long as a viewer would. */
export async function playing(page) {
  await page.waitForFunction(
    () => { const video = document.querySelector("video"); return video?.readyState >= 2 && video.currentTime > 0; },
    null,
    { timeout: START_MS },
  );
}

function listen(page, found, origins) {
  page.on("console", (message) => {
    found.console.push(`${message.type()}: ${message.text()}`);
    if (message.type() === "error") found.problems.push(`console: ${message.text()}`);
  });
  page.on("pageerror", (error) => found.problems.push(`page: ${error}`));
  page.on("crash", () => found.problems.push("the page crashed"));
  page.on("request", (request) => {
    const asked = new URL(request.url());
    if (asked.protocol === "blob:" || asked.protocol === "data:") return;
    const kind = kindOf(asked);
    found.asked[kind] = (found.asked[kind] ?? 0) + 1;
    if (!origins.includes(asked.origin)) found.foreign.push(asked.href);
  });
  page.on("response", (response) => {
    if (response.status() >= 400) found.failed.push(`${response.status()} ${response.url()}`);
  });
}

/**
 * The end of a file's name, with a # where a number is before it: `.m4s` is a segment, `.#.m4s` a part of one. What has no end is its
 * name: `whep`.
 */
function kindOf({ pathname }) {
  const end = pathname.match(/(\.\d+)?\.[a-z0-9]+$/)?.[0].replace(/\d+(?=\.)/, "#");
  return end ?? (pathname.split("/").pop() || "/");
}

async function watch(page, found, { url, seconds, latencyMax }) {
  const answer = await page.goto(url, { waitUntil: "load" });
  if (answer.status() !== 200) found.problems.push(`the page answered ${answer.status()}`);
  const began = Date.now();
  await playing(page).catch(() => found.problems.push(`no picture in ${START_MS / 1000} s`));
  found.start_ms = Date.now() - began;
  await page.waitForTimeout(SETTLE_MS);

  const samples = [await page.evaluate(look)];
  const end = Date.now() + seconds * 1000;
  while (Date.now() < end) {
    await page.waitForTimeout(Math.min(SAMPLE_MS, end - Date.now()));
    samples.push(await page.evaluate(look));
  }
  const claim = (holds, problem) => { if (!holds) found.problems.push(problem); };
  if (samples.includes(null)) return claim(false, "the page has no video");
  const [first, last] = [samples[0], samples.at(-1)];
  found.picture = last;
  judgePicture(samples, found, claim);
  judgeWaits(first, last, found, claim);
  judgeLatency(samples, latencyMax, found, claim);
  delete last.light;
}

function judgePicture(samples, found, claim) {
  const [first, last] = [samples[0], samples.at(-1)];
  found.pace = (last.current_time - first.current_time) / (last.at - first.at);
  claim(!last.error, `the video failed: ${last.error}`);
  claim(!last.paused, "the video is paused");
  claim(last.width > 0 && last.height > 0, "the picture has no size");
  claim(found.pace >= PACE_MIN && found.pace <= PACE_MAX, `the picture ran at ${found.pace.toFixed(2)} of the pace of time`);
  const frames = last.frames - first.frames;
  found.frames = { shown: frames, dropped: last.dropped - first.dropped };
  claim(frames > 0, "no frame was shown");
  claim(found.frames.dropped <= frames * DROPPED_MAX, `${found.frames.dropped} of ${frames} frames were dropped`);
  // Limited-range black is 16 and comes out as 0; noise and dark scenes stay under 8.
  claim(last.mean > 8 && last.spread > 2, `the picture is black or of one colour (mean ${last.mean.toFixed(1)}, spread ${last.spread.toFixed(1)})`);
  const still = samples.filter((sample, at) => at > 0 && sample.light === samples[at - 1].light).length;
  claim(still === 0, `the picture stood still between two looks, ${still} times`);
}

function judgeWaits(first, last, found, claim) {
  const waits = last.waits.filter(({ to }) => to > first.at);
  found.waits = waits.map(({ from, to }) => {
    const begin = Math.max(from, first.at);
    return { at_ms: Math.round((begin - first.at) * 1000), ms: Math.round((to - begin) * 1000) };
  });
  const longest = Math.max(0, ...found.waits.map(({ ms }) => ms));
  claim(longest <= WAIT_MAX_MS, `the picture waited ${longest} ms`);
  found.seeks = last.seeks - first.seeks;
  claim(found.seeks === 0, `the player jumped ${found.seeks} times`);
  found.errors = last.errors;
  claim(last.errors.length === 0, `the player: ${last.errors.join("; ")}`);
}

function judgeLatency(samples, latencyMax, found, claim) {
  const clock = samples.map(({ clock }) => clock).filter((latency) => latency !== null);
  const own = samples.map(({ latency }) => latency).filter(Number.isFinite);
  found.latency = { clock: spread(clock), player: spread(own), clocks: clock.length, samples: samples.length };
  if (latencyMax === undefined) return;
  claim(clock.length > samples.length / 2, `the clock in the picture was read ${clock.length} of ${samples.length} times`);
  found.late = found.latency.clock?.median > latencyMax;
  claim(found.latency.clock?.median <= latencyMax, `the picture is ${found.latency.clock?.median} s late in the median`);
}

function spread(values) {
  if (values.length === 0) return null;
  const sorted = [...values].sort((a, b) => a - b).map((value) => Math.round(value * 1000) / 1000);
  return { min: sorted[0], median: sorted[Math.floor(sorted.length / 2)], max: sorted.at(-1) };
}

/** In the page, before it has loaded anything: notes what its video says. */
function witness() {
  const seen = { waits: [], errors: [], seeks: 0, latency: () => null };
  let from = null;
  // Media events do not bubble, but are caught on their way down.
  const on = (kind, note) => addEventListener(kind, note, { capture: true });
  on("waiting", () => { from ??= performance.now() / 1000; });
  on("playing", () => {
    if (from !== null) seen.waits.push({ from, to: performance.now() / 1000 });
    from = null;
  });
  on("seeking", () => { seen.seeks += 1; });
  on("error", ({ target }) => {
    if (target instanceof HTMLVideoElement) seen.errors.push(`video: ${target.error?.message}`);
  });
  // One that has not ended lasts until now.
  seen.all = () => (from === null ? seen.waits : [...seen.waits, { from, to: performance.now() / 1000 }]);
  globalThis.witness = seen;
}

/** In the page: the state of its video, 64 x 36 samples of the picture, and the clock in it. */
function look() {
  const video = document.querySelector("video");
  if (!video) return null;
  const canvas = new OffscreenCanvas(64, 36);
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  const lights = (...area) => {
    const { data } = pen.getImageData(...area);
    const light = [];
    for (let at = 0; at < data.length; at += 4) light.push(Math.round(0.299 * data[at] + 0.587 * data[at + 1] + 0.114 * data[at + 2]));
    return light;
  };
  pen.drawImage(video, 0, 0, canvas.width, canvas.height);
  const light = lights(0, 0, canvas.width, canvas.height);
  const mean = light.reduce((sum, value) => sum + value, 0) / light.length;
  const spread = Math.sqrt(light.reduce((sum, value) => sum + (value - mean) ** 2, 0) / light.length);

  // The clock: two rows of sixteen squares, together as wide as the picture, at its upper edge. White is 1, the lowest bit
  // is to the left, the second row is the first turned over. It counts units of 8 ms since 1970.
  const SQUARES = 16, UNIT_MS = 8;
  const now = Date.now() / UNIT_MS;
  const side = video.videoWidth / SQUARES;
  pen.drawImage(video, 0, 0, video.videoWidth, side * 2, 0, 0, SQUARES * 4, 8);
  let count = 0, legible = video.videoWidth > 0;
  for (let square = 0; square < SQUARES; square += 1) {
    const [upper, lower] = [1, 5].map((y) => lights(square * 4 + 1, y, 2, 2).reduce((sum, value) => sum + value, 0) / 4);
    if (Math.abs(upper - lower) < 96) legible = false;
    if (upper > lower) count += 2 ** square;
  }
  const age = ((now - count) % 2 ** SQUARES + 2 ** SQUARES) % 2 ** SQUARES;

  const quality = video.getVideoPlaybackQuality();
  const { buffered } = video;
  return {
    at: performance.now() / 1000,
    current_time: video.currentTime,
    rate: video.playbackRate,
    paused: video.paused,
    ready_state: video.readyState,
    error: video.error?.message ?? null,
    width: video.videoWidth,
    height: video.videoHeight,
    buffered: buffered.length ? buffered.end(buffered.length - 1) - video.currentTime : null,
    frames: quality.totalVideoFrames,
    dropped: quality.droppedVideoFrames,
    state: document.body.dataset.state ?? null,
    clock: legible ? age * UNIT_MS / 1000 : null,
    latency: globalThis.witness.latency(),
    waits: globalThis.witness.all(),
    seeks: globalThis.witness.seeks,
    errors: globalThis.witness.errors,
    mean, spread, light: light.join(","),
  };
}
