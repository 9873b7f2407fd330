// One run: what it is worth, its figures, how they went over time, what was checked and where it was made.

/** The parts of a report on run `place`, in the colour of its server. */
function runParts(place, color) {
  const outcome = outcomes[place];
  const run = data.runs[place];
  return [
    verdictBox(outcome, run),
    section("Main figures", null, tiles(run)),
    ...timePlots(outcome, color),
    ...latencyPlots(outcome, color),
    checksTable(outcome, run),
    make("div", { class: "pairs" }, ...runDefinitions(outcome)),
  ];
}

function verdictBox(outcome, run) {
  const [word, kind, sentence] = VERDICTS[run.verdict];
  const wrong = run.checks.filter((check) => check.count > 0).map((check) => `${check.name}: ${whole(check.count)}`);
  const reasons = run.verdict === "void" ? outcome.void : wrong;
  return make("div", { class: `verdict ${kind}` },
    make("span", { class: "word" }, word), make("span", null, sentence),
    reasons.length > 0 ? make("ul", null, reasons.map((reason) => make("li", null, reason))) : null);
}

/** A tile for each figure that was measured; what counts faults has the table of checks. */
function tiles(run) {
  const measured = data.figures.map((figure, place) => [figure, run.values[place]])
    .filter(([figure, value]) => value !== null && !figure.count && !(figure["more-is-better"] && value === 0));
  return make("dl", { class: "tiles" }, measured.map(([figure, value]) => make("div", { class: "tile" },
    make("dt", null, figure.label),
    make("dd", { class: "value number" }, shown(figure, value), make("span", { class: "unit" }, figure.unit)),
    make("dd", { class: "soft" }, figure.meaning))));
}

function timePlots(outcome, color) {
  const { series } = outcome;
  if (series.length === 0) return [];
  const x = series.map((second) => second.at);
  const any = (name) => series.some((second) => second[name] > 0);
  const one = (title, unit, label, name, show, scale = 1) => {
    const values = series.map((second) => second[name] / scale);
    const summary = `From ${number(Math.min(...values))} to ${number(Math.max(...values))} ${unit}.`;
    return plot(title, {
      x, unit, summary, sync: "time", labelX: "second", showY: show,
      series: [{ label, color, values, fill: 12 }],
    });
  };
  const cards = [
    any("gbit") ? one("Delivered", "Gbit/s", "delivered", "gbit", (value) => `${number(value)} Gbit/s`) : null,
    any("requests") ? one("Requests", "answered a second", "answered", "requests", (value) => whole(Math.round(value))) : null,
    one("CPU of the server", "cores", "in use", "cpu", (value) => `${number(value)} cores`),
    any("latency-p99") ? plot("Latency", {
      x, unit: "ms", sync: "time", labelX: "second", showY: (value) => `${number(value)} ms`,
      summary: `p99 up to ${number(Math.max(...series.map((second) => second["latency-p99"])))} ms.`,
      series: [
        { label: "median", color, values: series.map((second) => second["latency-p50"]), fill: 12 },
        { label: "p99", color, dash: [6, 4], values: series.map((second) => second["latency-p99"]) },
      ],
    }) : null,
    one("Memory of the server", "MiB resident", "resident", "memory", (value) => `${number(value)} MiB`, 1024 * 1024),
    any("viewers") ? one("Viewers that play", "viewers", "playing", "viewers", whole) : null,
  ].filter((card) => card !== null);
  // Only viewers that ask have anything answered.
  const asks = any("requests");
  const seconds = make("details", null, make("summary", null, "The same as a table"),
    table("Figures of each second",
      ["second", "Gbit/s", "CPU, cores", "latency p50, ms", "latency p99, ms", "memory, MiB", "viewers", ...(asks ? ["requests"] : [])]
        .map((name) => ({ name, number: true })),
      series.map((second) => ({ cells: [number(second.at), number(second.gbit), number(second.cpu), number(second["latency-p50"]),
        number(second["latency-p99"]), number(second.memory / 1024 / 1024), whole(second.viewers),
        ...(asks ? [whole(Math.round(second.requests))] : [])] }))));
  return [section("Over time", `Each second of the ${number(outcome.seconds)} s that were measured.`,
    make("div", { class: "plots" }, cards), seconds)];
}

function latencyPlots(outcome, color) {
  const histogram = outcome["latency-histogram"];
  if (histogram.length === 0) return [];
  return [section("Latency", "From a picture leaving its publisher until a viewer has it whole, over all pictures that were checked.",
    make("div", { class: "plots" },
      percentilePlot("By share of pictures", "Read: at 99 %, all but the slowest hundredth of the pictures took at most so long. Lower is better.",
        [{ label: "latency", color, histogram }], 220),
      histogramPlot("How it is spread", "Each step is wider than the one before by the same ratio.", histogram, color)))];
}

function checksTable(outcome, run) {
  const looked = outcome.checks.viewers;
  const about = outcome.checks.pictures > 0
    ? `${plural(looked, "viewer")} read everything they were sent: ${plural(outcome.checks.pictures, "picture")}. The others were only counted.`
    : outcome.recording && outcome.recording.pictures > 0
      ? `Nobody watched; ${plural(outcome.recording.pictures, "picture")} were read back from the recordings.`
      : "No viewer read what it was sent, so what is said here of pictures says nothing.";
  return section("Checks", about, table("Checks",
    [{ name: "what may go wrong" }, { name: "how often", number: true }, { name: "" , class: "state" }, { name: "what it means", class: "meaning" }],
    run.checks.map((check) => ({
      class: check.count > 0 ? "bad" : "good",
      cells: [check.name, whole(check.count), check.count > 0 ? "✗ wrong" : "✓ none", check.meaning],
    }))));
}

function runDefinitions(outcome) {
  const { traffic, viewers, memory, load, machine, recording, requests } = outcome;
  const ms = (quantiles) => `${number(quantiles.p50)} ms median, ${number(quantiles.p99)} p99, ${number(quantiles.max)} worst`;
  const cards = [
    definitions("Settings", Object.entries(outcome.settings)),
    definitions("Traffic", [
      ["published", `${volume(traffic["published-bytes"])} in ${plural(traffic["published-frames"], "frame")} by ${plural(traffic.publishers, "publisher")}`],
      ["delivered", volume(traffic["delivered-bytes"])],
      ["viewers asked for", whole(viewers.asked)],
      ["came in all", whole(viewers.joined)],
      ["playing at the end", whole(viewers.playing)],
      ["stalling on purpose", whole(viewers.stalling)],
      ["slow on purpose", whole(viewers.slow)],
      ["closed for slowness", whole(viewers["closed-for-slowness"])],
    ].filter(([name, value]) => !/purpose|slowness/.test(name) || value !== "0")),
    definitions("Memory of the server", [
      ["before publishers", bytes(memory.idle)],
      ["before viewers", bytes(memory.published)],
      ["first", bytes(memory.first)],
      ["last", bytes(memory.last)],
      ["peak", bytes(memory.peak)],
    ]),
    definitions("Load side", [
      ["CPU of its thread", `${number(load["cpu-share"])} cores`],
      ["publishers late", ms(load["publisher-lateness"])],
      ["frames held back", whole(load["publisher-held"])],
      ["one round", ms(load.round)],
    ]),
    definitions("Machine", [
      ["processor", machine.processor],
      ["cores", whole(machine.cores)],
      ["memory", bytes(machine["memory-bytes"])],
      ["kernel", machine.kernel],
      ["network", machine.network],
    ]),
  ];
  if (requests) {
    cards.splice(2, 0, definitions("Requests", [
      ["answered", `${whole(requests.answered)}, ${whole(Math.round(requests["per-second"]))} a second`],
      ["playlists", `${whole(requests.playlists)}, ${volume(requests["playlist-bytes"])}`],
      ["segments and parts", `${whole(requests.pieces)}, ${volume(traffic["delivered-bytes"])}`],
      ["held back", requests.hold.count > 0 ? ms(requests.hold) : "none"],
      ["reconnects", whole(requests.reconnects)],
    ]));
  }
  if (recording) {
    cards.splice(2, 0, definitions("Recording", [
      ["files", `${whole(recording.files)}, ${volume(recording.bytes)}`],
      ["written meanwhile", volume(recording["written-bytes"])],
      ["page cache grew by", bytes(recording["page-cache-growth"])],
      ["pictures in files", whole(recording.pictures)],
    ]));
  }
  const metrics = Object.entries(outcome.metrics);
  if (metrics.length > 0) {
    cards.push(definitions("What the server says of itself", metrics.map(([name, value]) => [name, Number.isInteger(value) ? whole(value) : number(value)])));
  }
  return cards.filter((card) => card.querySelector("dt"));
}

const footer = () => make("footer", null,
  "Made by shardcast-bench. CPU and memory are the server's, of all its threads and processes. 1 GB is 10⁹ bytes, 1 MiB is 1,048,576.");

if (!data.comparison) {
  const { scenario, server, about, began, seconds } = data.outcome;
  document.body.append(make("main", null,
    make("header", null,
      make("h1", null, `${scenario} on ${server}`),
      about ? make("p", null, about) : null,
      make("p", { class: "soft" }, `${began}, ${number(seconds)} s measured`)),
    ...runParts(0, tone(0))), footer());
  drawPlots();
}
