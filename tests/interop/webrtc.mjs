// A page of another origin than the server's in which a browser plays a stream by WHEP, beside one in which it publishes its camera by
// WHIP, and a verdict on what a viewer would see.
//
//   node webrtc.mjs URL [--camera] [--codec NAME] [--seconds 6] [--until FILE] [--frames MIN:MAX] [--bearer KEY] [--through PORT]
//       [--report FILE]
//
// URL is that of a stream, http://HOST/APP/STREAM. --camera publishes it, by the codec of that name; else somebody else does. It is watched
// for some seconds, and then until there is a file of that name. --frames is how many pictures a second may be decoded.
// --through is the port of a bad network on loopback by which the viewer's media comes: it may stand for a second there.
//
// A camera's stream is ended by DELETE in the end, and its viewer has to notice. Says `playing` once it does. Prints one JSON object and
// exits 0 when all is well, 3 when nothing is wrong but that the picture stood, else 1. Wrong arguments: 2.

import { existsSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { parseArgs } from "node:util";
import { chromium } from "playwright-core";
import { LAUNCH } from "./judge.mjs";

const START_MS = 20_000, SETTLE_MS = 2_000, SAMPLE_MS = 500, UNTIL_MS = 60_000;
const LATE = 3;
/** Within this the picture is back whatever was lost. */
const RECOVERY_MAX_S = 1;
const PACE_MIN = 0.85, PACE_MAX = 1.2;

const { url, values } = arguments_();
const found = { url, ok: false, problems: [], console: [], failed: [] };
const claim = (holds, problem) => { if (!holds) found.problems.push(problem); };

const server = createServer(async (_, answer) => {
  const file = await readFile(new URL("webrtc/page.html", import.meta.url));
  answer.writeHead(200, { "Content-Type": "text/html; charset=utf-8" }).end(file);
});
await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: [
    ...LAUNCH, "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
    // The page that is looked at is the other one.
    "--disable-background-timer-throttling", "--disable-renderer-backgrounding", "--disable-backgrounding-occluded-windows",
  ],
});
try {
  await visit();
} catch (error) {
  found.problems.push(String(error));
} finally {
  await browser.close();
  server.close();
}
found.ok = found.problems.length === 0;
if (values.report) await writeFile(values.report, JSON.stringify(found, null, 2));
console.log(JSON.stringify({ ...found, samples: undefined }, null, 2));
process.exitCode = found.ok ? 0 : found.stood && found.problems.length === 1 ? LATE : 1;

async function visit() {
  const camera = values.camera ? await open("camera") : null;
  if (camera) await camera.evaluate(([where, codec, key]) => publish(where, codec, key), [`${url}/whip`, values.codec, values.bearer]);
  const viewer = await open("viewer");
  await viewer.evaluate(([where, key, port]) => play(where, key, port), [`${url}/whep`, values.bearer, values.through]);
  const plays = () => {
    const video = document.querySelector("video");
    return video.readyState >= 2 && video.currentTime > 0;
  };
  await viewer.waitForFunction(plays, null, { timeout: START_MS });
  console.log("playing");
  await viewer.waitForTimeout(SETTLE_MS);

  const samples = [await viewer.evaluate(() => look())];
  const began = Date.now();
  const lasts = () => {
    const passed = Date.now() - began;
    return passed < Number(values.seconds) * 1000 || (values.until && !existsSync(values.until) && passed < UNTIL_MS);
  };
  while (lasts()) {
    await viewer.waitForTimeout(SAMPLE_MS);
    samples.push(await viewer.evaluate(() => look()));
  }
  if (camera) found.sent = await camera.evaluate(() => look());
  judge(samples);
  if (camera) await end(camera, viewer);
}

async function open(name) {
  const page = await browser.newPage();
  page.on("console", (message) => {
    found.console.push(`${name}: ${message.text()}`);
    if (message.type() === "error") found.problems.push(`${name}, console: ${message.text()}`);
  });
  page.on("pageerror", (error) => found.problems.push(`${name}: ${error}`));
  page.on("crash", () => found.problems.push(`${name} crashed`));
  page.on("response", (response) => {
    if (response.status() >= 400) found.failed.push(`${response.status()} ${response.url()}`);
  });
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  return page;
}

function judge(samples) {
  const [first, last] = [samples[0], samples.at(-1)];
  found.samples = samples;
  const of = (sample) => sample.tracks.video ?? {};
  const grown = (name) => (of(last)[name] ?? 0) - (of(first)[name] ?? 0);
  const seconds = last.at - first.at;
  found.seconds = seconds;
  found.pace = (last.current_time - first.current_time) / seconds;
  found.video = of(last);
  found.audio = last.tracks.audio ?? null;
  found.frames_per_second = grown("framesDecoded") / seconds;
  found.grown = Object.fromEntries(
    ["framesDecoded", "framesDropped", "freezeCount", "totalFreezesDuration", "packetsLost"].map((name) => [name, grown(name)]),
  );
  claim(last.state === "connected", `the connection is ${last.state}`);
  claim(found.pace >= PACE_MIN && found.pace <= PACE_MAX, `the picture ran at ${found.pace.toFixed(2)} of the pace of time`);
  claim(grown("framesDecoded") > 0, "no picture was decoded");
  claim(values.through || grown("packetsLost") <= 0, `${grown("packetsLost")} packets were lost`);
  claim(samples.every((sample, at) => at === 0 || sample.current_time >= samples[at - 1].current_time), "the time went back");
  if (values.frames) {
    const [least, most] = values.frames.split(":").map(Number);
    const rate = found.frames_per_second;
    claim(rate >= least && rate <= most, `${rate.toFixed(1)} pictures a second were decoded`);
  }
  if (values.camera) {
    const heard = last.tracks.audio?.totalSamplesReceived - first.tracks.audio?.totalSamplesReceived;
    claim(heard >= 48_000 * seconds * 0.8, `${heard} samples of sound in ${seconds.toFixed(1)} s`);
  }
  found.longest = Math.max(...samples.slice(1).map(({ longest }) => longest));
  if (values.through) {
    found.stood = found.longest > RECOVERY_MAX_S;
    claim(!found.stood, `the picture stood for ${found.longest} s`);
    claim(last.tracks.video?.nackCount > 0, "nothing was lost");
  } else {
    found.stood = grown("freezeCount") > 0;
    claim(!found.stood, `the picture stood ${grown("freezeCount")} times, ${grown("totalFreezesDuration")} s in all`);
  }
}

/** The camera says that it ends; whoever watches is told. */
async function end(camera, viewer) {
  found.ended = await camera.evaluate(() => stop());
  claim(found.ended === 200, `DELETE was answered ${found.ended}`);
  await viewer.waitForFunction(() => over(), null, { timeout: START_MS }).catch(() => claim(false, "the viewer was not told of the end"));
}

function arguments_() {
  try {
    const text = { type: "string" };
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        camera: { type: "boolean" }, codec: text, seconds: { ...text, default: "6" }, until: text, frames: text, bearer: text,
        through: text, report: text,
      },
    });
    if (positionals.length !== 1 || !(Number(values.seconds) > 0)) throw new Error("one URL, and a positive number of seconds");
    return { url: new URL(positionals[0]).href, values };
  } catch (error) {
    console.error(`webrtc.mjs: ${error.message}`);
    process.exit(2);
  }
}
