// Plays the stream that this page's address names, /APP/STREAM/, in the best form that this browser takes (forms.js), or in
// the one that the address asks for: ?form=hls, ?form=flv, ?form=webrtc.
//
// One player at a time ("take"). Whatever ends a take, an error, the stream's end or a picture that stands still, leads to
// `retry`, and only the viewer's own pause stops that.

import { FORMS, load } from "/assets/forms.js";

const $ = (id) => document.getElementById(id);
const video = $("video"), stage = $("stage");

const name = location.pathname.replace(/^\/+|\/+$/g, "");
/** The address's query without what is meant for this page: perhaps a key, so it is left as it is written. */
const query = location.search.slice(1).split("&").filter((pair) => pair && !pair.startsWith("form="));

/** What stands over the picture, and the word in the corner, per state. */
const STATES = {
  connecting: { word: "Connecting", headline: "Connecting", detail: "", spinner: true },
  live: { word: "Live" },
  stalled: { word: "Stalled", headline: "Waiting for the stream", detail: "The picture will go on by itself.", spinner: true },
  offline: { word: "Offline", headline: "Nobody is live here", detail: "Looking again by itself.", spinner: false },
  paused: { word: "Paused", headline: "Paused", detail: "Playing goes on at the live moment.", start: true },
  blocked: { word: "Ready", headline: "Ready", detail: "This browser starts video only on a tap.", start: true },
  unsupported: { word: "Unsupported", headline: "This browser cannot play the stream", detail: "It has no Media Source Extensions. Try a current Chrome, Edge, Firefox or Safari, or open the stream's address in VLC, mpv or ffplay." },
};

const RETRY_FIRST_MS = 1000, RETRY_LAST_MS = 8000;
/** A picture that stands still this long counts as stalled, and one that stands still longer gets a new connection. */
const STALLED_MS = 1500, GIVE_UP_MS = 8000;
/** Bytes came but no picture: some publishers announce a track that never comes. */
const NO_PICTURE_MS = 5000;
/** A server that has said nothing for this long gets a new connection. It may let us wait for a publisher. */
const NO_ANSWER_MS = 20_000;

const forms = FORMS.filter((form) => form.takes(video));
/** The name of the form that the viewer wants, or null. */
let choice = new URLSearchParams(location.search).get("form");
/** Moves on where a form has turned out not to play here. */
let turn = 0;

let take = null;
let state = "";
let retryTimer = 0, retryWait = RETRY_FIRST_MS;

function show(next, detail) {
  const face = STATES[next];
  if (state !== next) $("state").textContent = face.word;
  state = next;
  document.body.dataset.state = next;
  $("notice").hidden = !face.headline;
  $("headline").textContent = face.headline || "";
  $("detail").textContent = detail || face.detail || "";
  $("spinner").hidden = !face.spinner;
  $("start").hidden = !face.start;
  $("sound").hidden = !(next === "live" && video.muted);
  const playing = next !== "paused" && next !== "blocked";
  icon($("toggle"), "pause", playing);
  icon($("toggle"), "play", !playing);
  $("toggle").setAttribute("aria-label", playing ? "Pause" : "Play");
}

function icon(button, which, visible) {
  button.querySelector(`[data-icon="${which}"]`).toggleAttribute("hidden", !visible);
}

/** The form that is next: of those with the name that the viewer wants, if there are any, else of all. */
function current() {
  const wanted = forms.filter((form) => form.name === choice);
  const candidates = wanted.length ? wanted : forms;
  return candidates[turn % candidates.length];
}

async function connect() {
  end();
  show("connecting");
  const form = current();
  $("form").value = form.name;
  const now = performance.now();
  const mine = { form, player: null, position: 0, moved: now, began: now, live: false };
  take = mine;
  try {
    if (form.library) await load(form.library);
  } catch {
    if (take !== mine) return;
    turn += 1;
    return retry("A part of this page did not come.");
  }
  if (take !== mine) return;
  const ours = (then) => (fact) => { if (take === mine) then(fact); };
  mine.player = form.start(video, source(form), {
    ended: ours(() => retry("The stream has ended.")),
    lost: ours(lost),
  });
  if (take === mine) start();
  else mine.player.destroy(); // It was lost before it was here.
}

/** Where the stream is in a form. */
function source(form) {
  return new URL(`/${name}${form.path}${query.length ? "?" : ""}${query.join("&")}`, location.href).href;
}

/** Starts the picture. A browser may refuse sound, or refuse everything until a tap. */
async function start() {
  const mine = take;
  try {
    await video.play();
  } catch (error) {
    if (take !== mine || error.name !== "NotAllowedError") return;
    if (!video.muted) {
      setMuted(true);
      return start();
    }
    end();
    show("blocked");
  }
}

function end() {
  clearTimeout(retryTimer);
  const { player } = take ?? {};
  take = null;
  player?.destroy();
  video.playbackRate = 1; // A player that was catching up leaves it as it is.
  for (const id of ["size", "latency", "rate", "dropped", "codecs"]) $(id).textContent = "–";
  $("figures").textContent = "";
}

/** The player cannot go on: nobody live is one of the reasons. */
function lost({ status, media, why: said }) {
  if (media) {
    if (!take.live) turn += 1;
    return retry("This browser could not decode the stream.");
  }
  if (!status) return retry("The connection was lost.");
  const why = { 401: "This stream asks for a key.", 403: "This stream asks for a key.", 404: "", 503: "The server is full or going down." }[status];
  retry(why ?? (said ? `The server says: ${said}.` : `The server answered ${status}.`));
}

function retry(detail) {
  end();
  const seconds = Math.round(retryWait / 1000);
  show("offline", `${detail ? detail + " " : ""}Looking again in ${seconds} s.`);
  retryTimer = setTimeout(connect, retryWait);
  retryWait = Math.min(retryWait * 2, RETRY_LAST_MS);
}

function pause() {
  end();
  video.pause();
  show("paused");
}

function resume() {
  retryWait = RETRY_FIRST_MS;
  connect();
}

function toggle() {
  if (state === "unsupported") return;
  state === "paused" || state === "blocked" ? resume() : pause();
}

/** The viewer wants this form. Only the page's address remembers it. */
function choose(form) {
  choice = form;
  turn = 0;
  history.replaceState(null, "", `?${[...query, `form=${form}`].join("&")}`);
  $("form").value = form;
  if (state !== "paused" && state !== "blocked") resume();
}

function chooseNext() {
  const options = [...$("form").options];
  if (state !== "unsupported") choose(options[($("form").selectedIndex + 1) % options.length].value);
}

function setMuted(muted) {
  video.muted = muted;
  icon($("mute"), "muted", muted);
  icon($("mute"), "loud", !muted);
  $("mute").setAttribute("aria-label", muted ? "Sound on" : "Sound off");
  $("volume").value = muted ? 0 : video.volume;
  $("sound").hidden = !(state === "live" && muted);
}

function setVolume(volume) {
  video.volume = Math.min(1, Math.max(0, volume));
  setMuted(video.volume === 0);
}

/** Looks at the picture twice a second: does it move, and what are its figures? */
function watch() {
  if (!take) return;
  const now = performance.now();
  const known = take.player?.figures() ?? {};
  if (video.currentTime !== take.position) {
    take.position = video.currentTime;
    take.moved = now;
    if (video.readyState >= 2 && !video.paused && state !== "live") {
      retryWait = RETRY_FIRST_MS;
      take.live = true;
      show("live");
    }
  }
  const still = now - take.moved;
  if (document.hidden) {
    take.moved = now; // Browsers slow hidden pages down; that is no stall.
  } else if (known.bytes && !known.codecs && now - take.began > NO_PICTURE_MS) {
    if (!take.form.doubt?.()) turn += 1;
    return connect();
  } else if (state === "connecting" && now - take.began > NO_ANSWER_MS) {
    return retry("The server does not answer.");
  } else if (still > GIVE_UP_MS && state !== "connecting") {
    return retry("The stream stands still.");
  } else if (still > STALLED_MS && state === "live") {
    show("stalled");
  }
  if (video.paused && state === "live") pause(); // From a headset's button or the picture-in-picture window.
  figures(known);
}

function figures({ behind, bits, codecs }) {
  const quality = video.getVideoPlaybackQuality?.();
  const size = video.videoWidth ? `${video.videoWidth} × ${video.videoHeight}` : state === "live" ? "Sound only" : "–";
  const latency = Number.isFinite(behind) ? `${behind.toFixed(1)} s` : "–";
  $("size").textContent = size;
  $("latency").textContent = latency;
  $("rate").textContent = bits ? rate(bits) : "–";
  $("dropped").textContent = quality?.totalVideoFrames ? `${quality.droppedVideoFrames} of ${quality.totalVideoFrames}` : "–";
  $("codecs").textContent = codecs || "–";
  $("figures").textContent = state === "live" ? `${size} · ${latency}` : "";
}

function rate(bits) {
  return bits >= 1e6 ? `${(bits / 1e6).toFixed(1)} Mbit/s` : `${Math.round(bits / 1e3)} kbit/s`;
}

function fullScreen() {
  if (document.fullscreenElement) return document.exitFullscreen();
  if (stage.requestFullscreen) return stage.requestFullscreen();
  video.webkitEnterFullscreen?.(); // iPhones show nothing but the video itself in full.
}

function pictureInPicture() {
  document.pictureInPictureElement ? document.exitPictureInPicture() : video.requestPictureInPicture().catch(() => {});
}

const KEYS = {
  " ": toggle,
  k: toggle,
  m: () => setMuted(!video.muted),
  f: fullScreen,
  p: () => { if (!$("picture").hidden) pictureInPicture(); },
  l: chooseNext,
  ArrowUp: () => setVolume((video.muted ? 0 : video.volume) + 0.1),
  ArrowDown: () => setVolume((video.muted ? 0 : video.volume) - 0.1),
};

addEventListener("keydown", (event) => {
  // A menu has a use for every key.
  if (event.target.closest("select")) return;
  const onControl = event.target.closest("button, input, a");
  if (event.ctrlKey || event.metaKey || event.altKey || (onControl && (event.key === " " || event.key.startsWith("Arrow")))) return;
  const act = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!act) return;
  event.preventDefault();
  wake();
  act();
});

// The bar goes when nothing moves, and comes back when something does.
let quietTimer = 0;
function wake() {
  delete stage.dataset.quiet;
  clearTimeout(quietTimer);
  quietTimer = setTimeout(() => { if (state === "live") stage.dataset.quiet = ""; }, 3000);
}
for (const kind of ["pointermove", "pointerdown", "focusin"]) stage.addEventListener(kind, wake);

$("toggle").addEventListener("click", toggle);
$("start").addEventListener("click", resume);
$("sound").addEventListener("click", () => setMuted(false));
$("mute").addEventListener("click", () => {
  if (video.muted && video.volume === 0) video.volume = 1;
  setMuted(!video.muted);
});
$("volume").addEventListener("input", (event) => setVolume(Number(event.target.value)));
$("form").addEventListener("change", () => choose($("form").value));
$("full").addEventListener("click", fullScreen);
$("picture").addEventListener("click", pictureInPicture);
$("picture").hidden = !document.pictureInPictureEnabled;
video.addEventListener("ended", () => { if (take) retry("The stream has ended."); });
video.addEventListener("dblclick", fullScreen);
video.addEventListener("resize", () => {
  if (video.videoWidth) stage.style.setProperty("--ratio", video.videoWidth / video.videoHeight);
});

$("name").textContent = name;
document.title = `${name} · shardcast`;
setMuted(true);
wake();
for (const form of forms) {
  // Two ways to play one form are one choice.
  if (!$("form").querySelector(`[value="${form.name}"]`)) $("form").add(new Option(form.label, form.name));
}
$("form").hidden = $("form").options.length < 2;
if (forms.length) {
  setInterval(watch, 500);
  connect();
} else {
  show("unsupported");
}
