// Plots: what uPlot needs to draw ours, in the colours of the sheet.

const plots = [];

/** What the sheet's `color` resolves to now: a canvas takes no variables. */
function resolved(color) {
  const probe = make("span", { style: { color } });
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}

/**
 * A card with a plot. `series` are `{ label, color, values, dash, fill }`, all over the same `x`. It is drawn when it comes onto
 * the page, and again when its width or the system's colours change.
 */
function plot(title, { about, x, series, unit, xLabel, summary, height = 190, wide = false, ...rest }) {
  const place = make("div", { class: "plot", role: "img", "aria-label": `${title}. ${summary || ""}` });
  const tag = make("span", { class: "tag number" }, unit || "");
  const card = make("div", { class: wide ? "card wide" : "card" },
    make("div", { class: "head" }, make("h3", null, title), tag),
    about ? make("p", { class: "about" }, about) : null, place);
  plots.push({ place, tag, unit, x, series, xLabel, height, drawn: null, ...rest });
  return card;
}

function draw(entry) {
  if (!entry.place.isConnected) return;
  if (entry.drawn) entry.drawn.destroy();
  const [ink, grid] = [resolved("var(--soft)"), resolved("var(--line)")];
  const axis = {
    stroke: ink, font: "12px system-ui, sans-serif", grid: { stroke: grid, width: 1 }, ticks: { show: false }, gap: 6,
  };
  const show = entry.showY || number;
  const showX = entry.showX || number;
  // One curve needs no legend: what the cursor is at stands where the unit stood. Several have names, and values beside them.
  const many = entry.series.length > 1;
  const follow = (drawn) => {
    const { idx } = drawn.cursor;
    const inside = idx !== null && idx !== undefined && drawn.cursor.left >= 0;
    entry.place.classList.toggle("followed", inside);
    const value = inside && !many ? entry.series[0].values[idx] : null;
    const where = inside ? `${entry.labelX || "at"} ${showX(entry.x[idx])}` : entry.unit || "";
    entry.tag.textContent = value === null || value === undefined ? where : `${where}: ${show(value)}`;
  };
  entry.drawn = new uPlot({
    width: Math.max(200, entry.place.clientWidth),
    height: entry.height,
    padding: [10, 14, 0, 0],
    cursor: { sync: entry.sync ? { key: entry.sync } : undefined, drag: { x: false, y: false }, points: { size: 7 } },
    legend: { show: many, markers: { dash: (_, place) => (entry.series[place - 1].dash ? "dashed" : "solid") } },
    hooks: { setCursor: [follow] },
    scales: {
      x: { time: false, range: entry.rangeX || ((_, low, high) => [low, high > low ? high : low + 1]) },
      // From 0 always: a plot that begins elsewhere makes noise look like news.
      y: { range: entry.rangeY || ((_, low, high) => [Math.min(0, low), high > 0 ? high * 1.08 : 1]) },
    },
    axes: [
      { ...axis, size: 26, label: entry.xLabel, labelSize: 18, labelFont: axis.font, labelGap: 0, grid: { show: false },
        ...(entry.axisX || {}) },
      { ...axis, size: 54, values: (_, ticks) => ticks.map((tick) => tick === null ? "" : tickText(tick)), ...(entry.axisY || {}) },
    ],
    series: [
      {},
      ...entry.series.map((one) => {
        const stroke = resolved(one.color);
        return {
          label: one.label, stroke, width: 2, dash: one.dash, paths: one.paths, points: { show: entry.x.length === 1 },
          fill: one.fill ? resolved(`color-mix(in srgb, ${one.color} ${one.fill}%, transparent)`) : undefined,
          value: (_, value) => value === null || value === undefined ? "-" : show(value),
        };
      }),
    ],
  }, [entry.x, ...entry.series.map((one) => one.values)], entry.place);
}

/** A tick is round already; more digits than it needs would be noise. */
function tickText(tick) {
  return tick.toLocaleString("en-US", { maximumSignificantDigits: 4 });
}

/** Draws what is new on the page and forgets what has left it. */
function drawPlots() {
  for (let at = plots.length - 1; at >= 0; at -= 1) {
    if (plots[at].drawn && !plots[at].place.isConnected) plots.splice(at, 1)[0].drawn.destroy();
  }
  for (const entry of plots) if (!entry.drawn) { draw(entry); widths.observe(entry.place); }
}

const widths = new ResizeObserver((changes) => {
  for (const change of changes) {
    const entry = plots.find((one) => one.place === change.target);
    const width = Math.max(200, Math.floor(change.contentRect.width));
    if (entry && entry.drawn && entry.drawn.width !== width) entry.drawn.setSize({ width, height: entry.height });
  }
});

for (const query of ["(prefers-color-scheme: dark)", "print"]) {
  matchMedia(query).addEventListener("change", () => plots.forEach((entry) => entry.drawn && draw(entry)));
}

/** The histograms of several runs as one; bounds rise, buckets without pictures are left out. */
function merged(histograms) {
  const buckets = new Map();
  for (const [bound, count] of histograms.flat()) buckets.set(bound, (buckets.get(bound) || 0) + count);
  return [...buckets].sort((one, other) => one[0] - other[0]);
}

/** Percentiles are drawn over the number of nines in them (99 % is 2), because what hurts is in the tail. */
const NINES = [0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999];
const nines = (share) => -Math.log10(1 - share);
const percent = (share) => `${Number((share * 100).toPrecision(8))} %`;

/** Latency at each share of the pictures, for plots over nines. */
function percentiles(histogram) {
  const total = histogram.reduce((sum, [, count]) => sum + count, 0);
  const points = [];
  let seen = 0;
  for (const [bound, count] of histogram) {
    // A bucket begins where the one before ended; its bound is reached by all that are in it.
    points.push([nines(seen / total), bound]);
    seen += count;
  }
  const last = histogram[histogram.length - 1];
  if (last) points.push([nines(1 - 0.5 / total), last[0]]);
  return points;
}

/** A plot of latency over the share of pictures, one curve per `{ label, color, dash, histogram }`. */
function percentilePlot(title, about, curves, height, wide) {
  const drawn = curves.map((curve) => ({ ...curve, points: percentiles(curve.histogram) })).filter((curve) => curve.points.length > 0);
  // All curves over one row of places: each bucket's bound holds until the next begins.
  const x = [...new Set(drawn.flatMap((curve) => curve.points.map(([at]) => at)))].sort((one, other) => one - other);
  const series = drawn.map((curve) => {
    let next = 0;
    const end = curve.points[curve.points.length - 1][0];
    const values = x.map((at) => {
      while (next + 1 < curve.points.length && curve.points[next + 1][0] <= at) next += 1;
      return at > end ? null : curve.points[next][1];
    });
    return { label: curve.label, color: curve.color, dash: curve.dash, values, paths: uPlot.paths.stepped({ align: 1 }) };
  });
  const high = x[x.length - 1];
  const ticks = NINES.map(nines).filter((tick) => tick <= high);
  const share = (at) => 1 - 10 ** -at;
  return plot(title, {
    about, x, series, height, unit: "ms", xLabel: "share of pictures that were at least so fast", labelX: "share",
    wide, rangeX: () => [0, high],
    showX: (at) => `${(share(at) * 100).toFixed(Math.min(5, Math.max(1, Math.ceil(at))))} %`,
    showY: (value) => `${number(value)} ms`,
    summary: drawn.map((curve) => `${curve.label}: up to ${number(curve.points[curve.points.length - 1][1])} ms`).join(". "),
    axisX: {
      splits: () => ticks, values: (_, marks) => marks.map((mark) => percent(NINES[ticks.indexOf(mark)])),
      grid: { show: true, stroke: resolved("var(--line)"), width: 1 },
    },
  });
}

/** How pictures are spread over latencies: their share in each of many steps that are equally wide on a scale of ratios. */
function histogramPlot(title, about, histogram, color) {
  const total = histogram.reduce((sum, [, count]) => sum + count, 0);
  // Bounds of 0 have no place on such a scale.
  const bounds = histogram.map(([bound]) => Math.log10(Math.max(bound, 1e-3)));
  const first = bounds[0] - (bounds.length > 1 ? Math.min(bounds[1] - bounds[0], 0.3) : 0.1);
  const last = bounds[bounds.length - 1];
  const steps = Math.max(1, Math.min(60, bounds.length));
  let at = 0;
  let below = 0;
  // The share of pictures that came before `place`; within a bucket they are taken as evenly spread.
  const before = (place) => {
    while (at < bounds.length && bounds[at] <= place + 1e-12) { below += histogram[at][1]; at += 1; }
    if (at === bounds.length) return 1;
    const from = at === 0 ? first : bounds[at - 1];
    return (below + histogram[at][1] * Math.max(0, (place - from) / (bounds[at] - from))) / total;
  };
  const width = (last - first) / steps;
  const x = Array.from({ length: steps }, (_, step) => first + step * width);
  let previous = 0;
  const values = x.map((low) => {
    const now = before(low + width);
    const share = (now - previous) * 100;
    previous = now;
    return share;
  });
  const marks = [];
  const digits = last - first < 1.3 ? [1, 1.5, 2, 3, 5, 7] : [1, 2, 5];
  for (let power = -3; power <= 6; power += 1) for (const digit of digits) marks.push(Math.log10(digit) + power);
  return plot(title, {
    about, x, unit: "% of pictures", xLabel: "milliseconds", labelX: "from", height: 220,
    series: [{ label: "share", color, values, fill: 45, paths: uPlot.paths.bars({ size: [1, 1000], align: 1, gap: 1 }) }],
    rangeX: () => [first, last],
    showX: (place) => `${number(10 ** place)} to ${number(10 ** (place + width))} ms`,
    showY: (value) => `${number(value)} %`,
    summary: `From ${number(10 ** first)} to ${number(10 ** last)} ms.`,
    axisX: {
      splits: () => marks.filter((mark) => mark >= first && mark <= last),
      values: (_, ticks) => ticks.map((mark) => tickText(Number((10 ** mark).toPrecision(3)))),
    },
  });
}
