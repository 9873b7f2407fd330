// The forms in which this page can play a stream, the best first. Each is an object with the same few members:
//
//   name      what `?form=` in the page's address calls it
//   label     what a viewer reads
//   path      what its address has after the stream's name
//   library   the script that plays it and the global that this makes, or null
//   takes(video)              whether this browser has what it needs
//   start(video, url, tell)   begins to play, and gives back the player: `destroy()`, and `figures()`, which says what is
//                             known of { behind (seconds), bits (per second), codecs (text), bytes (whether any came) }
//   doubt()                   bytes came and no picture: says whether another start would be different. Not all have it.
//
// A player that cannot go on says so: `tell.ended()`, or `tell.lost({ status, media })` with an HTTP status other than
// 200, or with `media` where this browser could not decode what came.

/** Media Source Extensions, which newer iPhones have under another name. */
const mediaSource = () => {
  const source = window.ManagedMediaSource ?? window.MediaSource;
  return source?.isTypeSupported('video/mp4; codecs="avc1.42E01E,mp4a.40.2"') ?? false;
};

/** LL-HLS, by hls.js. */
const hls = {
  name: "hls",
  label: "LL-HLS",
  path: "/index.m3u8",
  library: { script: "/assets/hls.js", global: "Hls" },
  takes: mediaSource,

  start(video, url, tell) {
    const { Hls } = window;
    // A take asks once; whether and when to ask again, the page decides. The server may let us wait for a publisher.
    const once = { default: { maxTimeToFirstByteMs: Infinity, maxLoadTimeMs: 20_000, timeoutRetry: null, errorRetry: null } };
    const player = new Hls({
      lowLatencyMode: true,
      streamController: exact(Hls.DefaultConfig.streamController),
      // Where the picture is to be, in seconds before the newest part. The playlist's own PART-HOLD-BACK, three parts, leaves
      // nothing for a browser that is late by one.
      liveSyncDuration: 1,
      liveSyncOnStallIncrease: 0.5,
      // Two ways back to the live moment: a little faster for a little lag, and a jump for a lot.
      maxLiveSyncPlaybackRate: 1.1,
      liveMaxLatencyDuration: 5,
      backBufferLength: 10,
      maxBufferLength: 10,
      // Nothing of a live stream is to be sought in.
      liveDurationInfinity: true,
      // Fragments of MP4 go to the browser as they are: a worker has nothing to do, and would need leave to run a blob.
      enableWorker: false,
      // One variant: there is nothing to choose by bandwidth.
      testBandwidth: false,
      manifestLoadPolicy: once,
    });
    const traffic = meter();
    const codecs = {};
    player.on(Hls.Events.BUFFER_CODECS, (_, { video: pictures, audio }) => {
      if (pictures) codecs.video = pictures.codec;
      if (audio) codecs.audio = audio.codec;
    });
    player.on(Hls.Events.FRAG_LOADED, (_, { frag, part, payload }) => {
      traffic.count(frag.type, payload.byteLength, (part ?? frag).duration);
    });
    player.on(Hls.Events.ERROR, (_, error) => {
      if (error.fatal) tell.lost({ status: error.response?.code, media: error.type === Hls.ErrorTypes.MEDIA_ERROR });
    });
    player.loadSource(url);
    player.attachMedia(video);
    return {
      destroy: () => player.destroy(),
      figures: () => ({
        behind: behindByDates(player.playingDate?.getTime(), player.latency || NaN),
        bits: traffic.bits(),
        codecs: names(codecs.video, codecs.audio),
        bytes: traffic.bits() > 0,
      }),
    };
  },
};

/** HTTP-FLV, by mpegts.js. */
const flv = {
  name: "flv",
  label: "FLV",
  path: ".flv",
  library: { script: "/assets/mpegts.js", global: "mpegts" },
  takes: mediaSource,
  doubts: 0,

  /** Some publishers announce a track that never comes: other starts believe in other tracks. */
  doubt() {
    this.doubts += 1;
    return this.doubts % 3 > 0;
  },

  start(video, url, tell) {
    const { mpegts } = window;
    mpegts.LoggingControl.applyConfig({ enableVerbose: false, enableDebug: false, enableInfo: false, enableWarn: false, enableError: false });
    // What the stream says, then the picture alone, then the sound alone.
    const tracks = [{}, { hasAudio: false, hasVideo: true }, { hasAudio: true, hasVideo: false }][this.doubts % 3];
    const player = mpegts.createPlayer(
      { type: "flv", isLive: true, url, ...tracks },
      {
        enableStashBuffer: false,
        lazyLoad: false,
        // As above: a little faster for a little lag, and a jump for a lot.
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
    let codecs = "", bits, bytes = false;
    player.on(mpegts.Events.MEDIA_INFO, (info) => { codecs = names(info.videoCodec, info.audioCodec); });
    player.on(mpegts.Events.STATISTICS_INFO, ({ speed }) => {
      if (speed > 0) bytes = true;
      const now = speed * 1024 * 8;
      bits = bits === undefined ? now : bits * 0.8 + now * 0.2;
    });
    player.on(mpegts.Events.LOADING_COMPLETE, tell.ended);
    player.on(mpegts.Events.ERROR, (type, detail, info) => {
      const answered = detail === mpegts.ErrorDetails.NETWORK_STATUS_CODE_INVALID;
      tell.lost({ status: answered ? info?.code : undefined, media: type === mpegts.ErrorTypes.MEDIA_ERROR });
    });
    player.attachMediaElement(video);
    player.load();
    return {
      destroy: () => player.destroy(),
      figures: () => ({ behind: buffered(video), bits, codecs, bytes }),
    };
  },
};

/** WebRTC, by WHEP: no buffer but the browser's own, a few frames long. For streams without B-frames. */
const webrtc = {
  name: "webrtc",
  label: "WebRTC",
  path: "/whep",
  library: null,
  takes: () => "RTCPeerConnection" in window,

  start(video, url, tell) {
    const peer = new RTCPeerConnection();
    const stream = new MediaStream();
    const controller = new AbortController();
    const seen = { bits: 0, bytes: 0, at: 0, behind: NaN, codecs: "" };
    let resource;
    for (const kind of ["video", "audio"]) peer.addTransceiver(kind, { direction: "recvonly" });
    peer.ontrack = ({ track }) => stream.addTrack(track);
    peer.onconnectionstatechange = () => {
      if (peer.connectionState === "failed") tell.lost({});
    };
    // A goodbye closes what encrypts. The connection fails much later, of silence.
    const transport = () => peer.getReceivers().map((receiver) => receiver.transport).find(Boolean);
    const over = () => transport()?.state === "closed";
    video.srcObject = stream;
    (async () => {
      await peer.setLocalDescription();
      const headers = { "Content-Type": "application/sdp" };
      const { signal } = controller;
      const answer = await fetch(url, { method: "POST", headers, body: peer.localDescription.sdp, signal });
      if (!answer.ok) return tell.lost({ status: answer.status, why: (await answer.text()).trim() });
      resource = new URL(answer.headers.get("Location"), url);
      await peer.setRemoteDescription({ type: "answer", sdp: await answer.text() });
      transport()?.addEventListener("statechange", () => { if (over()) tell.ended(); });
    })().catch(() => { if (!controller.signal.aborted) tell.lost({}); });
    const timer = setInterval(async () => look(await peer.getStats(), seen), 500);
    return {
      destroy() {
        clearInterval(timer);
        controller.abort();
        video.srcObject = null;
        const close = () => peer.close();
        // The session would else live until its silence is noticed. One whose peer has said goodbye is not there to be ended.
        if (!resource || over()) close();
        else fetch(resource, { method: "DELETE", keepalive: true }).then(close, close);
      },
      figures: () => ({ ...seen, bytes: seen.bytes > 0 }),
    };
  },
};

/** What a connection's statistics say that this page shows. */
function look(report, seen) {
  const all = [...report.values()];
  const tracks = all.filter(({ type }) => type === "inbound-rtp");
  const bytes = tracks.reduce((sum, { bytesReceived }) => sum + bytesReceived, 0);
  const at = tracks[0]?.timestamp ?? 0;
  if (at > seen.at && seen.at > 0) {
    const bits = ((bytes - seen.bytes) * 8000) / (at - seen.at);
    seen.bits = seen.bits ? seen.bits * 0.8 + bits * 0.2 : bits;
  }
  Object.assign(seen, { bytes, at });
  const codec = ({ codecId }) => report.get(codecId)?.mimeType.split("/")[1];
  seen.codecs = names(...tracks.map(codec));
  const video = tracks.find(({ kind }) => kind === "video") ?? tracks[0];
  // When the picture that is shown now was sent, by the server's clock, counted from 1900.
  const shown = video?.estimatedPlayoutTimestamp - 2_208_988_800_000;
  const waited = video?.jitterBufferDelay / video?.jitterBufferEmittedCount;
  seen.behind = behindByDates(shown, waited);
}

/** HLS by the browser itself: for iPhones that have no Media Source Extensions. */
const native = {
  name: "hls",
  label: "HLS",
  path: "/index.m3u8",
  library: null,
  takes: (video) => video.canPlayType("application/vnd.apple.mpegurl") !== "",

  start(video, url, tell) {
    const controller = new AbortController();
    const { signal } = controller;
    video.addEventListener("error", async () => {
      // The element does not say what the server answered.
      const answer = await fetch(url, { signal }).catch(() => ({}));
      if (!signal.aborted) tell.lost({ status: answer.status, media: answer.ok });
    }, { signal });
    video.src = url;
    return {
      destroy() {
        controller.abort();
        video.removeAttribute("src");
        video.load();
      },
      figures() {
        // The date of the beginning, which only Apple's players know; NaN until they do.
        const beginning = video.getStartDate?.().getTime();
        return { behind: behindByDates(beginning + video.currentTime * 1000, NaN) };
      },
    };
  },
};

/**
 * hls.js 1.7.4 takes a segment for whole that lacks 0.2 s at either end. Where that is a part of 200 ms, it never fetches the
 * part, and the picture stands until somebody connects anew: one start in ten, with the default.
 */
function exact(StreamController) {
  return class extends StreamController {
    constructor(hls, tracker, ...rest) {
      super(hls, tracker, ...rest);
      tracker.bufferPadding = 0.05;
    }
  };
}

export const FORMS = [hls, flv, native, webrtc];

/** Loads the script of a form's library, once. */
export function load({ script, global }) {
  if (global in window) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const element = document.createElement("script");
    element.src = script;
    element.onload = resolve;
    element.onerror = () => {
      element.remove();
      reject(new Error(`${script} was not loaded`));
    };
    document.head.append(element);
  });
}

/**
 * Seconds since the moment of the picture, which the stream dates. That is all of the way from the server, if this clock goes
 * like the server's. If it does not, the distance to the newest that there is must do.
 */
function behindByDates(date, distance) {
  const seconds = (Date.now() - date) / 1000;
  const plausible = Number.isNaN(distance) ? seconds >= 0 && seconds < 60 : Math.abs(seconds - distance) < 1;
  return plausible ? seconds : distance;
}

/** Seconds in the buffer ahead of the picture: without dates, what is known of the distance to the live moment. */
function buffered(video) {
  const ranges = video.buffered;
  return ranges.length ? Math.max(0, ranges.end(ranges.length - 1) - video.currentTime) : NaN;
}

/** The bit rate of what was loaded last, by the stream's own time: what comes, comes in bursts. */
function meter() {
  const renditions = {};
  return {
    count(rendition, bytes, seconds) {
      if (!(seconds > 0)) return;
      const before = renditions[rendition] ?? { bits: 0, seconds: 0 };
      // The weight of what was counted before halves each three seconds.
      const weight = 0.5 ** (seconds / 3);
      renditions[rendition] = { bits: before.bits * weight + bytes * 8, seconds: before.seconds * weight + seconds };
    },
    bits: () => Object.values(renditions).reduce((sum, { bits, seconds }) => sum + bits / seconds, 0),
  };
}

/** The names that people use for codec strings. */
function names(...codecs) {
  const known = {
    avc1: "H.264", avc3: "H.264", hvc1: "HEVC", hev1: "HEVC", vvc1: "VVC", vvi1: "VVC", av01: "AV1", vp09: "VP9",
    h264: "H.264", h265: "HEVC", vp8: "VP8", vp9: "VP9", av1: "AV1", pcma: "G.711", pcmu: "G.711", g722: "G.722",
    mp4a: "AAC", "mp4a.40.34": "MP3", mp3: "MP3", opus: "Opus",
  };
  const name = (text) => known[text.toLowerCase()] ?? known[text.toLowerCase().split(".")[0]] ?? text;
  return codecs.filter(Boolean).map(name).join(" + ");
}
