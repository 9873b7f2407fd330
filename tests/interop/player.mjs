// Opens the server's own page and judges what a viewer would see.
//
//   node player.mjs URL [--seconds 6] [--asks KIND] [--protocol NAME] [--latency SECONDS] [--key KEY --then KIND] [--no-mse] [--screenshot FILE]
//
// --protocol is what all of it has to come by, `h2`. --asks is the kind of file that the page has to ask for: `.#.m4s` for parts of segments, `.flv`, `whep`. --key is pressed
// afterwards, and the page has to ask for --then and play on. --no-mse hides Media Source Extensions from the page, as some
// phones have none.
//
// Prints one JSON object and exits 0 when all is well, 3 when the picture is late and nothing else is wrong, else 1. Wrong arguments: 2.

import { parseArgs } from "node:util";
import { judge, playing, report } from "./judge.mjs";

const { url, values } = arguments_();
report(await judge({
  url,
  seconds: Number(values.seconds),
  asks: values.asks,
  protocol: values.protocol,
  latencyMax: values.latency && Number(values.latency),
  screenshot: values.screenshot,
  prepare: values["no-mse"] ? hide : undefined,
  then: afterwards,
}));

function hide() {
  delete globalThis.MediaSource;
  delete globalThis.ManagedMediaSource;
}

async function afterwards(page, found) {
  const problems = [];
  found.figures = await page.evaluate(() => Object.fromEntries([...document.querySelectorAll(".stats div")].map((figure) => [
    figure.querySelector("dt").textContent, figure.querySelector("dd").textContent,
  ])));
  // Without Media Source Extensions the browser keeps the rate and the codecs to itself.
  const known = values["no-mse"] ? ["Picture"] : Object.keys(found.figures);
  for (const figure of known) if (found.figures[figure] === "–") problems.push(`no figure for "${figure}"`);
  if (found.picture?.state !== "live") problems.push(`the page says that it is ${found.picture?.state}`);
  if (values.key) problems.push(...await press(page, found));
  return problems;
}

/** Another form, by the keyboard. */
async function press(page, found) {
  found.asked = {};
  await page.keyboard.press(values.key);
  await page.waitForFunction(() => document.body.dataset.state !== "live");
  await page.waitForFunction(() => document.body.dataset.state === "live", null, { timeout: 20_000 });
  await playing(page);
  found.address = page.url();
  return found.asked[values.then] ? [] : [`nobody asked for ${values.then} after the key`];
}

function arguments_() {
  try {
    const text = { type: "string" };
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        seconds: { ...text, default: "6" }, asks: text, protocol: text, latency: text, key: text, then: text, screenshot: text,
        "no-mse": { type: "boolean" },
      },
    });
    if (positionals.length !== 1 || !(Number(values.seconds) > 0)) throw new Error("one URL, and a positive number of seconds");
    return { url: new URL(positionals[0]).href, values };
  } catch (error) {
    console.error(`player.mjs: ${error.message}`);
    process.exit(2);
  }
}
