// Several servers: what each is worth, each figure side by side, ratios, latency, and each run on demand.

function comparisonParts(comparison) {
  const names = comparison.servers.map((standing) => standing.server);
  return [
    make("header", null,
      make("h1", null, comparison.scenario),
      make("p", { class: "soft" },
        `${plural(names.length, "server")} in turn, ${plural(outcomes.length, "run")}, begun ${outcomes[0] ? outcomes[0].began : "never"}. `
        + `Ratios are to ${comparison.base}.`)),
    standings(comparison),
    section("Side by side", "The bar reaches to the median, each dot is a run, × is the median of each run's ratio to the run of "
      + `${comparison.base} beside it. Void runs are left out.`,
      make("div", { class: "plots" }, figuresOf(comparison).map((figure) => bars(comparison, names, figure)))),
    latencyOf(names),
    section("Ratios", `To ${comparison.base}, run by run: its k-th run against the other's k-th, because a machine's speed drifts.`,
      ratios(comparison, names)),
    chooser(names),
    circumstances(),
  ].filter((part) => part !== null);
}

function swatch(names, server) {
  return make("span", { class: "swatch", style: { "--tone": tone(names.indexOf(server)) }, "aria-hidden": "true" });
}

/** How many runs of each count, and whatever speaks against them. */
function standings(comparison) {
  const names = comparison.servers.map((standing) => standing.server);
  const about = (server) => outcomes.find((outcome) => outcome.server === server).about;
  const rows = comparison.servers.map((standing) => {
    const counting = standing.runs - standing.void;
    const passed = counting - standing.failed - standing.unchecked;
    const kind = standing.failed > 0 || counting === 0 ? "bad" : standing.void > 0 ? "warn" : "good";
    const word = counting === 0 ? "✗ nothing counts" : standing.failed > 0 ? "✗ faults" 
      : standing.unchecked === counting ? "not checked" : standing.void > 0 ? "✓ some void" : "✓ passed";
    return { class: standing.unchecked === counting && counting > 0 ? "plain" : kind, cells: [
      make("span", null, swatch(names, standing.server), standing.server, standing.server === comparison.base ? make("span", { class: "tag" }, " base") : null,
        about(standing.server) ? make("div", { class: "small soft legend" }, about(standing.server)) : null),
      word, whole(standing.runs), whole(standing.void), whole(standing.failed), whole(standing.unchecked), whole(passed)] };
  });
  const reasons = comparison.servers.flatMap((standing) => [
    ...standing["void-reasons"].map((reason) => `${standing.server}, void: ${reason}`),
    ...standing.faults.map((fault) => `${standing.server}, one run: ${fault}`),
  ]);
  const list = (items) => make("ul", null, items.map((item) => make("li", null, item)));
  return section("What the runs are worth", null,
    comparison.caveats.length > 0
      ? make("div", { class: "verdict warn" }, make("span", { class: "word" }, "CAUTION"), list(comparison.caveats)) : null,
    table("What the runs are worth", [{ name: "server" }, { name: "", class: "state" }, { name: "runs", number: true }, { name: "void", number: true },
      { name: "with faults", number: true }, { name: "not checked", number: true }, { name: "passed", number: true }], rows),
    reasons.length > 0 ? make("div", { class: "small soft" }, list(reasons)) : null);
}

/** The figures that apply, in their order. */
function figuresOf(comparison) {
  return data.figures.filter((figure) => comparison.rows.some((row) => row.figure === figure.figure));
}

function rowsOf(comparison, figure) {
  return comparison.rows.filter((row) => row.figure === figure.figure);
}

function bars(comparison, names, figure) {
  const place = data.figures.indexOf(figure);
  const rows = rowsOf(comparison, figure);
  const high = Math.max(...rows.map((row) => row.value.highest), 0) || 1;
  const at = (value) => `${Math.max(0, value / high) * 100}%`;
  return make("div", { class: "card" },
    make("div", { class: "head" },
      make("h3", null, figure.label, figure.unit ? make("span", { class: "soft" }, `, ${figure.unit}`) : null),
      make("span", { class: "tag" }, better(figure))),
    make("p", { class: "about" }, figure.meaning),
    make("div", { class: "bars" }, rows.map((row) => {
      const runs = outcomes.map((outcome, run) => [outcome, data.runs[run]])
        .filter(([outcome, run]) => outcome.server === row.server && run.verdict !== "void" && run.values[place] !== null);
      const tones = { "--tone": tone(names.indexOf(row.server)) };
      return [
        make("span", { class: "name", title: row.server }, swatch(names, row.server), row.server),
        make("div", { class: "track", style: tones, "aria-hidden": "true" },
          make("div", { class: "bar", style: { width: at(row.value.median) } }),
          runs.map(([, run]) => make("i", { class: "dot", style: { left: at(run.values[place]) } })),
          make("div", { class: "middle", style: { left: at(row.value.median) } })),
        make("span", { class: "result number" }, make("span", null, shown(figure, row.value.median)),
          make("span", { class: "ratio" }, row.ratio ? `× ${ratio(row.ratio.median)}` : row.server === comparison.base ? "base" : "")),
      ];
    })));
}

/** All pictures of all runs that count, one curve per server. */
function latencyOf(names) {
  const curves = names.map((server, place) => ({
    label: server, color: tone(place), dash: place >= 8 ? [6, 4] : undefined,
    histogram: merged(outcomes.filter((outcome, run) => outcome.server === server && data.runs[run].verdict !== "void")
      .map((outcome) => outcome["latency-histogram"])),
  })).filter((curve) => curve.histogram.length > 0);
  if (curves.length === 0) return null;
  return section("Latency", "From a picture leaving its publisher until a viewer has it whole, over all pictures of all runs that count.",
    make("div", { class: "plots" }, percentilePlot("By share of pictures",
      "Read: at 99 %, all but the slowest hundredth of the pictures took at most so long. Lower is better.", curves, 300, true)));
}

function ratios(comparison, names) {
  const reach = (spread, show) => `${show(spread.lowest)} to ${show(spread.highest)}`;
  const rows = figuresOf(comparison).flatMap((figure) => [
    { group: `${figure.label}${figure.unit ? `, ${figure.unit}` : ""} (${better(figure)})` },
    ...rowsOf(comparison, figure).map((row) => ({ cells: [
      make("span", null, swatch(names, row.server), row.server),
      shown(figure, row.value.median),
      row.runs > 1 ? reach(row.value, (value) => shown(figure, value)) : "one run",
      row.ratio ? ratio(row.ratio.median) : row.server === comparison.base ? "base" : "-",
      row.ratio ? (row.pairs > 1 ? reach(row.ratio, ratio) : "one pair") : "",
    ] })),
  ]);
  return table("Ratios", [{ name: "server" }, { name: "median", number: true }, { name: "lowest to highest", number: true },
    { name: "ratio", number: true }, { name: "lowest to highest", number: true }], rows);
}

/** What all runs had in common, and what they had not. */
function circumstances() {
  const rows = [["processor", (outcome) => outcome.machine.processor], ["cores", (outcome) => whole(outcome.machine.cores)],
    ["kernel", (outcome) => outcome.machine.kernel], ["network", (outcome) => outcome.machine.network],
    ["measured", (outcome) => `${number(outcome.seconds)} s`],
    ...[...new Set(outcomes.flatMap((outcome) => Object.keys(outcome.settings)))].map((name) => [name, (outcome) => outcome.settings[name] || "-"])];
  const same = [];
  const different = [];
  for (const [name, value] of rows) {
    const values = new Map();
    for (const outcome of outcomes) values.set(value(outcome), (values.get(value(outcome)) || new Set()).add(outcome.server));
    if (values.size === 1) same.push([name, [...values.keys()][0]]);
    else different.push([name, [...values].map(([text, servers]) => `${text} (${[...servers].join(", ")})`).join("; ")]);
  }
  return make("div", { class: "pairs" }, definitions("The same in all runs", same),
    different.length > 0 ? definitions("Not the same in all runs", different) : null);
}

/** A list to choose a run from; its report comes below, so that twenty of them need not be drawn at once. */
function chooser(names) {
  const rounds = new Map();
  const options = outcomes.map((outcome, run) => {
    const round = (rounds.get(outcome.server) || 0) + 1;
    rounds.set(outcome.server, round);
    return make("option", { value: run }, `${outcome.server}, run ${round}: ${VERDICTS[data.runs[run].verdict][0].toLowerCase()}`);
  });
  const choice = make("select", { id: "run" }, make("option", { value: "" }, "choose a run"), options);
  const chosen = make("div", { class: "chosen", "aria-live": "polite" });
  const show = () => {
    const outcome = outcomes[choice.value === "" ? -1 : Number(choice.value)];
    chosen.replaceChildren(...(outcome ? runParts(Number(choice.value), tone(names.indexOf(outcome.server))) : []));
    drawPlots();
  };
  choice.addEventListener("change", show);
  // An address that ends in #run=3 opens with that run, so that it can be pointed at.
  const asked = /^#run=(\d+)$/.exec(location.hash);
  if (asked && outcomes[Number(asked[1]) - 1]) {
    choice.value = String(Number(asked[1]) - 1);
    queueMicrotask(show);
  }
  return section("Each run", "Its figures, how they went over time, and what was checked.",
    make("div", { class: "chooser" }, make("label", { for: "run" }, "Run"), choice), chosen);
}

if (data.comparison) {
  document.body.append(make("main", null, comparisonParts(data.comparison)), footer());
  drawPlots();
}
