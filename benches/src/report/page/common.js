// What both kinds of report share: making elements, showing numbers, words for what a run is worth.

const data = JSON.parse(document.getElementById("data").textContent);
const outcomes = data.comparison ? data.comparison.outcomes : [data.outcome];

/** An element. Text goes in as text only, so that no name can become markup. */
function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name === "style") for (const [rule, text] of Object.entries(value)) element.style.setProperty(rule, text);
    else if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

/** About three digits that mean something. */
function number(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "-";
  const size = Math.abs(value);
  if (size >= 99.95) return Math.round(value).toLocaleString("en-US");
  if (size === 0) return "0";
  return value.toFixed(size >= 9.995 ? 1 : size >= 0.9995 ? 2 : size >= 0.0995 ? 3 : 4);
}

/** A count; the median of an even number of them may have a half. */
function whole(value) {
  return value.toLocaleString("en-US", { maximumFractionDigits: 1 });
}

/** Two decimals, as a hundredth is about what runs of one server differ by. */
function ratio(value) {
  const digits = Math.abs(value) >= 100 ? 0 : 2;
  return value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

function sized(value, step, units) {
  let unit = 0;
  while (Math.abs(value) >= step && unit + 1 < units.length) { value /= step; unit += 1; }
  return `${unit === 0 ? whole(Math.round(value)) : number(value)} ${units[unit]}`;
}

/** Memory, in powers of 1,024. */
const bytes = (count) => sized(count, 1024, ["B", "KiB", "MiB", "GiB", "TiB"]);
/** Traffic, in powers of 1,000, as costs are given per 10⁹ bytes. */
const volume = (count) => sized(count, 1000, ["B", "kB", "MB", "GB", "TB"]);

function shown(figure, value) {
  return figure.count ? whole(value) : number(value / figure.scale);
}

function better(figure) {
  return figure["more-is-better"] ? "more is better" : "less is better";
}

function plural(count, noun) {
  return `${whole(count)} ${noun}${count === 1 ? "" : "s"}`;
}

/** For each verdict a word, its tone and what it says. */
const VERDICTS = {
  void: ["VOID", "bad", "The load side failed, not the server: these figures mean nothing."],
  failed: ["FAILED", "bad", "The run counts, but the server did something wrong."],
  unchecked: ["COUNTS", "warn", "Nobody looked at what was delivered; figures only."],
  passed: ["PASSED", "good", "Everything that was looked at was as it should be."],
};

function section(title, about, ...children) {
  return make("section", null,
    make("div", null, make("h2", null, title), about ? make("p", { class: "about" }, about) : null), ...children);
}

/** A table that scrolls by itself where the screen is narrow. Cells are strings or elements. */
function table(label, heads, rows) {
  const numeric = heads.map((head) => head.number);
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label },
    make("table", { class: "plain-table" },
      make("thead", null, make("tr", null,
        heads.map((head) => make("th", { scope: "col", class: [head.number ? "number" : "", head.class || ""].join(" ") }, head.name)))),
      make("tbody", null, rows.map((row) => row.group
        ? make("tr", { class: "group" }, make("th", { colspan: heads.length, scope: "colgroup" }, row.group))
        : make("tr", { class: row.class }, row.cells.map((cell, place) => place === 0
          ? make("th", { scope: "row" }, cell)
          : make("td", { class: [numeric[place] ? "number" : "", heads[place].class || ""].join(" ") }, cell)))))));
}

function definitions(title, entries) {
  return make("div", { class: "card" }, make("h3", null, title),
    make("dl", null, entries.map(([name, value]) => [make("dt", null, name), make("dd", null, value)])));
}

/** The colour of the server with this number, as a variable of the sheet. */
function tone(server) {
  return `var(--server-${server % 8})`;
}
