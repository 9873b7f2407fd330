// The players that people embed, each set up for low latency where it knows that. The page's address says which one plays
// what: ?player=NAME&url=URL.
//
// Each is { script, start(video, url, fail) }: `start` gives back a function that says how many seconds the player takes
// itself to be behind the live moment, and calls `fail` with whatever the player complains of.

const PLAYERS = {
  hls: {
    script: "/hls.js",
    start(video, url, fail) {
      const { Hls } = window;
      // As in the server's own page: hls.js 1.7.4 takes a segment for whole that lacks a part of 200 ms at an end.
      const streamController = class extends Hls.DefaultConfig.streamController {
        constructor(hls, tracker, ...rest) {
          super(hls, tracker, ...rest);
          tracker.bufferPadding = 0.05;
        }
      };
      const player = new Hls({ lowLatencyMode: true, streamController, maxLiveSyncPlaybackRate: 1.1, backBufferLength: 10 });
      player.on(Hls.Events.ERROR, (_, { type, details, fatal }) => fail(`${type} ${details}${fatal ? " fatal" : ""}`));
      player.loadSource(url);
      player.attachMedia(video);
      // By the stream's dates: all of the way from the server.
      return () => (Date.now() - player.playingDate) / 1000;
    },
  },

  shaka: {
    script: "/shaka.js",
    start(video, url, fail) {
      const { shaka } = window;
      shaka.polyfill.installAll();
      const player = new shaka.Player();
      const told = (error) => fail(error.stack ?? `severity ${error.severity}, code ${error.code}: ${error.data}`);
      player.addEventListener("error", ({ detail }) => told(detail));
      const isDash = new URL(url).pathname.endsWith(".mpd");
      // HLS by whole segments. By parts, Shaka 5.2.12 may abort its buffer between any two of them, and then loses what is
      // left of the group: where it corrects a negative offset by a millisecond, rounding decides.
      player.configure({ streaming: { lowLatencyMode: isDash } });
      if (isDash) {
        // A segment is in the manifest's timeline as soon as it begins. Shaka takes the end of that for the present, which may
        // be a segment ahead of it, and would begin too close to it.
        const dash = { autoCorrectDrift: false, ignoreSuggestedPresentationDelay: true };
        player.configure({ manifest: { defaultPresentationDelay: 4, dash } });
      }
      player.attach(video).then(() => player.load(url)).catch(told);
      return () => player.getStats().liveLatency;
    },
  },

  dash: {
    script: "/dash.js",
    start(video, url, fail) {
      const { dashjs } = window;
      const player = dashjs.MediaPlayer().create();
      player.on("error", ({ error }) => fail(`${error.code ?? ""} ${error.message ?? error}`));
      player.updateSettings({ streaming: { delay: { liveDelay: 2 }, liveCatchup: { enabled: true } } });
      player.initialize(video, url, true);
      return () => player.getCurrentLiveLatency();
    },
  },

  videojs: {
    script: "/video.js",
    start(video, url, fail) {
      const { videojs } = window;
      // By whole segments. By parts, video.js 8 fetches the same part of the sound again and again, and stops for seconds
      // (videojs/http-streaming#1576 is such a case of somebody else's).
      const player = videojs(video, { autoplay: true, muted: true, liveui: true, html5: { vhs: { llhls: false } } });
      player.on("error", () => fail(`code ${player.error().code}: ${player.error().message}`));
      player.src({ src: url, type: "application/x-mpegURL" });
      return () => player.liveTracker.liveCurrentTime() - player.currentTime();
    },
  },

  mpegts: {
    script: "/mpegts.js",
    start(video, url, fail) {
      const { mpegts } = window;
      const type = new URL(url).pathname.endsWith(".ts") ? "mpegts" : "flv";
      const player = mpegts.createPlayer({ type, isLive: true, url }, { enableStashBuffer: false, liveSync: true });
      player.on(mpegts.Events.ERROR, (...facts) => fail(facts.slice(0, 2).join(" ")));
      player.attachMediaElement(video);
      player.load();
      player.play();
      return () => NaN;
    },
  },
};

const asked = new URLSearchParams(location.search);
const player = PLAYERS[asked.get("player")];
const script = document.createElement("script");
script.src = player.script;
script.onload = () => {
  const fail = (what) => window.witness.errors.push(what);
  window.witness.latency = player.start(document.querySelector("video"), asked.get("url"), fail);
};
document.head.append(script);
