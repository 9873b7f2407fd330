// Plays the stream that this page's address names: /APP/STREAM/ plays /APP/STREAM.flv.
//
// One connection at a time ("take"). Whatever ends a take, an error, the stream's end or a picture that stands still,
// leads to `retry`, and only the viewer's own pause stops that.
"use strict";

const $ = (id) => document.getElementById(id);
const video = $("video"), stage = $("stage");

const name = location.pathname.replace(/^\/+|\/+$/g, "");
const source = new URL(`/${name}.flv${location.search}`, location.href).href;

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

let take = null;
let state = "";
let retryTimer = 0, retryWait = RETRY_FIRST_MS;
/** Tracks to believe in, or undefined to believe the stream. */
let tracks = {};
let guesses = 0;

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

function connect() {
  end();
  show("connecting");
  const player = mpegts.createPlayer(
    { type: "flv", isLive: true, url: source, ...tracks },
    {
      enableStashBuffer: false,
      lazyLoad: false,
      // Two ways back to the live moment: a little faster for a little lag, and a jump for a lot.
      liveSync: true,
      liveSyncTargetLatency: 0.8,
      liveSyncMaxLatency: 1.4,
      liveSyncPlaybackRate: 1.1,
      liveBufferLatencyChasing: true,
      liveBufferLatencyMaxLatency: 4,
      liveBufferLatencyMinRemain: 0.8,
      autoCleanupSourceBuffer: true,
      autoCleanupMaxBackwardDuration: 30,
      autoCleanupMinBackwardDuration: 10,
      statisticsInfoReportInterval: 500,
    },
  );
  const mine = { player, position: 0, moved: performance.now(), began: performance.now(), bytes: false, shown: false };
  take = mine;
  const ours = (then) => (...facts) => { if (take === mine) then(...facts); };
  player.on(mpegts.Events.ERROR, ours((type, detail, info) => lost(type, detail, info)));
  player.on(mpegts.Events.LOADING_COMPLETE, ours(() => retry("The stream has ended.")));
  player.on(mpegts.Events.MEDIA_INFO, ours((info) => {
    mine.shown = true;
    $("codecs").textContent = [info.videoCodec, info.audioCodec].filter(Boolean).map(codec).join(" + ") || "–";
  }));
  player.on(mpegts.Events.STATISTICS_INFO, ours((info) => {
    if (info.speed > 0) mine.bytes = true;
    mine.speed = mine.speed === undefined ? info.speed : mine.speed * 0.8 + info.speed * 0.2;
  }));
  player.attachMediaElement(video);
  player.load();
  start();
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
  for (const id of ["size", "latency", "rate", "dropped", "codecs"]) $(id).textContent = "–";
  $("figures").textContent = "";
}

/** An error of the player's: nobody live is one of them. */
function lost(type, detail, info) {
  if (type === mpegts.ErrorTypes.NETWORK_ERROR && detail === mpegts.ErrorDetails.NETWORK_STATUS_CODE_INVALID) {
    const why = { 401: "This stream asks for a key.", 403: "This stream asks for a key.", 404: "", 503: "The server is full or going down." }[info?.code];
    return retry(why ?? `The server answered ${info?.code}.`);
  }
  retry(type === mpegts.ErrorTypes.MEDIA_ERROR ? "This browser could not decode the stream." : "The connection was lost.");
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

/** Seconds in the buffer ahead of the picture: what is known of the distance to the live moment. */
function behind() {
  const { buffered } = video;
  return buffered.length ? Math.max(0, buffered.end(buffered.length - 1) - video.currentTime) : NaN;
}

/** Looks at the picture twice a second: does it move, and what are its figures? */
function watch() {
  if (!take) return;
  const now = performance.now();
  if (video.currentTime !== take.position) {
    take.position = video.currentTime;
    take.moved = now;
    if (video.readyState >= 2 && !video.paused && state !== "live") {
      retryWait = RETRY_FIRST_MS;
      show("live");
    }
  }
  const still = now - take.moved;
  if (document.hidden) {
    take.moved = now; // Browsers slow hidden pages down; that is no stall.
  } else if (take.bytes && !take.shown && now - take.began > NO_PICTURE_MS) {
    // Believe in the picture alone, then in the sound alone, then in the stream again.
    tracks = [{ hasAudio: false, hasVideo: true }, { hasAudio: true, hasVideo: false }, {}][guesses++ % 3];
    return connect();
  } else if (state === "connecting" && now - take.began > NO_ANSWER_MS) {
    return retry("The server does not answer.");
  } else if (still > GIVE_UP_MS && state !== "connecting") {
    return retry("The stream stands still.");
  } else if (still > STALLED_MS && state === "live") {
    show("stalled");
  }
  if (video.paused && state === "live") pause(); // From a headset's button or the picture-in-picture window.
  figures();
}

function figures() {
  const quality = video.getVideoPlaybackQuality?.();
  const size = video.videoWidth ? `${video.videoWidth} × ${video.videoHeight}` : state === "live" ? "Sound only" : "–";
  const lag = behind();
  const latency = Number.isFinite(lag) ? `${lag.toFixed(1)} s` : "–";
  $("size").textContent = size;
  $("latency").textContent = latency;
  $("rate").textContent = take?.speed ? rate(take.speed * 1024 * 8) : "–";
  $("dropped").textContent = quality?.totalVideoFrames ? `${quality.droppedVideoFrames} of ${quality.totalVideoFrames}` : "–";
  $("figures").textContent = state === "live" ? `${size} · ${latency}` : "";
}

/** The name that people use for a codec string. */
function codec(text) {
  const names = { avc1: "H.264", hvc1: "HEVC", hev1: "HEVC", vvc1: "VVC", av01: "AV1", vp09: "VP9", mp4a: "AAC", opus: "Opus", mp3: "MP3" };
  return names[text.toLowerCase().split(".")[0]] ?? text;
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
  ArrowUp: () => setVolume((video.muted ? 0 : video.volume) + 0.1),
  ArrowDown: () => setVolume((video.muted ? 0 : video.volume) - 0.1),
};

addEventListener("keydown", (event) => {
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
$("full").addEventListener("click", fullScreen);
$("picture").addEventListener("click", pictureInPicture);
$("picture").hidden = !document.pictureInPictureEnabled;
video.addEventListener("dblclick", fullScreen);
video.addEventListener("resize", () => {
  if (video.videoWidth) stage.style.setProperty("--ratio", video.videoWidth / video.videoHeight);
});

$("name").textContent = name;
document.title = `${name} · shardcast`;
setMuted(true);
wake();
if (mpegts.getFeatureList().mseLivePlayback) {
  mpegts.LoggingControl.applyConfig({ enableVerbose: false, enableDebug: false, enableInfo: false, enableWarn: false, enableError: false });
  setInterval(watch, 500);
  connect();
} else {
  show("unsupported");
}
