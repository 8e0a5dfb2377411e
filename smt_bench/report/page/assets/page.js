"use strict";
// Sorting, filtering, CSV, live figures and the pages of runs. Text from records only ever becomes text (`textContent`).

const make = (tag, given = {}, ...inside) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...inside.filter((part) => part !== undefined && part !== null && part !== false));
  return element;
};

// ---- what lies compressed in the page

const unpacked = (id) => {
  const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
};
const once = (work) => { let made; return () => (made ??= work()); };
const data = once(async () => JSON.parse(await unpacked("packed")));
const vega = once(async () => {
  const script = document.createElement("script");
  script.type = "module";
  const ready = new Promise((done) => { window.vegaReady = done; });
  script.textContent = (await unpacked("vega")) + "\nwindow.vegaReady();";
  document.head.append(script);
  await ready;
  return window.vegaEmbed;
});

// ---- tables

const NUMBER = /^[*(≥≤≈ ]*([-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?)/i;
const number = (text) => { const found = NUMBER.exec(text.replace("−", "-")); return found ? Number(found[1].replaceAll(",", "")) : NaN; };

function sorted(table, column, falling) {
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row, place) => ({ row, place, text: row.cells[column]?.textContent.trim() ?? "" }));
  const filled = rows.filter((r) => r.text);
  const numeric = filled.every((r) => !Number.isNaN(number(r.text)));
  const order = (a, b) => (numeric ? number(a.text) - number(b.text) : a.text.localeCompare(b.text, "en", { numeric: true }));
  filled.sort((a, b) => (falling ? order(b, a) : order(a, b)) || a.place - b.place);
  body.append(...filled.map((r) => r.row), ...rows.filter((r) => !r.text).map((r) => r.row)); // what is missing stays last
}

function csv(table) {
  const cell = (text) => {
    const plain = text.trim().replace(/\s+/g, " ");
    const safe = /^[=+\-@]/.test(plain) && Number.isNaN(Number(plain)) ? "'" + plain : plain; // no formula for a spreadsheet
    return /[",\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  const rows = [table.tHead.rows[0], ...[...table.tBodies[0].rows].filter((row) => !row.hidden)];
  return rows.map((row) => [...row.cells].map((c) => cell(c.textContent)).join(",")).join("\n") + "\n";
}

function saved(name, text) {
  const link = make("a", { href: URL.createObjectURL(new Blob([text], { type: "text/csv" })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function enhanced(table) {
  const title = table.caption?.textContent ?? "table";
  for (const [column, head] of [...table.tHead.rows[0].cells].entries()) {
    const button = make("button", { type: "button" }, ...head.childNodes);
    button.addEventListener("click", () => {
      const falling = head.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      sorted(table, column, falling);
    });
    head.append(button);
  }
  const rows = [...table.tBodies[0].rows];
  const count = make("span", { "aria-live": "polite" });
  const state = { keys: null };
  const input = make("input", { type: "search", placeholder: "words", size: 14 });
  const every = make("button", { type: "button", hidden: true, onclick: () => table.choose(null) }, "All rows");
  const apply = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = (row.found ??= row.textContent.toLowerCase());
      row.hidden = !(words.every((word) => text.includes(word)) && (!state.keys || state.keys.has(row.dataset.key)));
      shown += !row.hidden;
    }
    count.textContent = `${shown} of ${rows.length} rows`;
    every.hidden = !state.keys;
    table.closest("section")?.classList.toggle("chosen", shown < rows.length || rows.length < 60);
  };
  table.choose = (keys) => { state.keys = keys && new Set(keys); input.value = ""; apply(); };
  input.addEventListener("input", apply);
  const save = make("button", { type: "button", onclick: () => saved(title.replace(/[^\w.-]+/g, "-").slice(0, 60) + ".csv", csv(table)) }, "CSV");
  save.setAttribute("aria-label", `CSV of what is shown: ${title}`);
  const tools = make("div", { class: "tools" }, rows.length > 3 && make("label", {}, "Filter", input), rows.length > 3 && count, every, save);
  (table.closest(".scroll") ?? table).before(tools);
  if (rows.length > 40) table.closest(".scroll")?.classList.add("tall");
  apply();
}

// ---- figures

// As `projected` in fronts.py: the rows of a front with its axes set.
function projected(rows, axes, states, x, y) {
  const title = Object.fromEntries(axes.map((axis) => [axis.name, axis.title]));
  const one = (row) => {
    const made = { ...row, state: row[`state_${x}_${y}`] ?? "open", x_title: title[x], y_title: title[y] };
    for (const [a, q] of [["x", x], ["y", y]]) for (const end of ["", "_low", "_high"]) made[a + end] = row[q + end] ?? row[q];
    made.standing = states[made.state];
    return made;
  };
  const known = (row) => row[x] !== undefined && row[y] !== undefined;
  return { cells: rows.cells.filter(known).map(one), runs: rows.runs.filter(known).map(one) };
}

// As `expanded` in charts.py.
const expanded = (runs, details) => runs.flatMap((run) => details[run.run].losses.map(([step, loss]) => ({ ...run, step, loss })));

function filled(spec, values) {
  const made = structuredClone(spec);
  made.datasets = { ...made.datasets, ...values };
  made.width = "container";
  const columns = Math.max(2, Math.min(6, Math.floor(document.body.clientWidth / 110)));
  const large = document.body.clientWidth < 600 && { labelFontSize: 15, symbolSize: 150, rowPadding: 6 };
  made.config = { ...made.config, legend: { ...made.config.legend, columns, ...large } };
  return made;
}

function reaxed(spec, axes, x, y) {
  const by = Object.fromEntries(axes.map((axis) => [axis.name, axis]));
  for (const layer of spec.layer) for (const [channel, q] of [["x", x], ["y", y]]) {
    const encoded = layer.encoding[channel];
    if (!encoded?.scale) continue;
    encoded.title = by[q].title;
    encoded.scale = { padding: encoded.scale.padding, ...(by[q].log ? { type: "log", nice: false } : { type: "linear", nice: true, zero: false }) };
  }
  return spec;
}

async function drawn(place, spec) {
  const embed = await vega();
  place.view?.finalize();
  place.style.minHeight = `${place.offsetHeight}px`; // drawn again, with other axes, it moves nothing below it either
  place.replaceChildren();
  const target = make("div");
  place.append(target);
  const result = await embed(target, spec, { actions: false, renderer: "svg", tooltip: { theme: "custom" } });
  target.querySelector("svg").setAttribute("aria-hidden", "true"); // the figure's label says what it shows
  result.view.addEventListener("click", (_, item) => { if (item?.datum?.href) location.hash = item.datum.href; });
  place.view = result.view;
}

async function live(figure) {
  const { charts, runs, states } = await data();
  const { spec, axes, rows } = charts[figure.dataset.chart];
  const place = figure.querySelector(".live"), still = figure.querySelector(".static");
  place.classList.add("drawing");
  place.hidden = false;
  const draw = async () => {
    if (axes.length) {
      const [x, y] = chosen.map((select) => select.value);
      await drawn(canvas, reaxed(filled(spec, projected(rows, axes, states, x, y)), axes, x, y));
    } else await drawn(canvas, filled(spec, rows.curves ? { curves: expanded(rows.curves, runs) } : {}));
  };
  const canvas = make("div");
  const options = (some, value) => some.map((axis) => make("option", { value: axis.name, selected: axis.name === value }, axis.title));
  const judged = axes.filter((axis) => axis.gives);
  const chosen = axes.length ? [
    make("select", { name: "x", onchange: draw }, ...options(axes, axes[0].name)),
    make("select", { name: "y", onchange: draw }, ...options(judged, judged[0].name)),
  ] : [];
  if (axes.length) place.append(make("div", { class: "axes" }, make("label", {}, "Across ", chosen[0]), make("label", {}, "Up ", chosen[1])));
  place.append(canvas);
  try {
    await draw();
    still.hidden = true;
    place.classList.remove("drawing");
  } catch (error) {
    place.hidden = true; // the static figure stays
    throw error;
  }
}

// ---- the page of a run

const flat = (value, path = "") => value !== null && typeof value === "object" && !Array.isArray(value)
  ? Object.entries(value).flatMap(([name, inner]) => flat(inner, path ? `${path}.${name}` : name))
  : [[path, Array.isArray(value) ? value.map((v) => (v !== null && typeof v === "object" ? JSON.stringify(v) : String(v))).join(", ") : String(value ?? "")]];

function values(title, given) {
  const rows = flat(given ?? {}).filter(([name]) => name);
  if (!rows.length) return null;
  const body = rows.map(([name, value]) => make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, value)));
  const table = make("table", { class: "values" }, make("caption", {}, title), make("tbody", {}, ...body));
  return make("section", {}, make("h3", {}, title), make("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": title }, table));
}

const fact = (title, value) => value !== undefined && value !== null && value !== "" && make("li", {}, make("b", {}, value), title);

function answersOf(task, result) {
  const rows = [];
  const word = (list, i) => (result.words ? result.words["ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789".indexOf(list[i])] : list[i]);
  for (let i = 0; i < (result.said?.length ?? 0); i++) {
    const right = result.right[i] === "1";
    rows.push(make("tr", {}, make("th", { scope: "row" }, String(i)), make("td", {}, word(result.gold, i)), make("td", { class: right ? undefined : "wrong" }, word(result.said, i)), make("td", {}, right ? "right" : "wrong")));
  }
  const head = `${task}: ${result.accuracy === undefined ? "no answers" : (100 * result.accuracy).toFixed(1) + " %"} of ${result.n ?? 0}` + (result.format_failures ? `, ${result.format_failures} unreadable` : "");
  if (!rows.length) return make("p", {}, head);
  const columns = ["example", "gold", "prediction", "right?"].map((name) => make("th", { scope: "col" }, name));
  const table = make("table", { class: "data" }, make("caption", {}, `Predictions on ${task}`), make("thead", {}, make("tr", {}, ...columns)), make("tbody", {}, ...rows));
  const inside = make("details", {}, make("summary", {}, head), make("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": `Predictions on ${task}` }, table));
  enhanced(table);
  return inside;
}

async function runPage(key) {
  const { runs, charts, where } = await data();
  const run = runs[key];
  const page = document.getElementById("run");
  if (!run) {
    page.replaceChildren(make("h2", { id: "run-title" }, `No run ${key}`), make("p", {}, make("a", { href: "#runs" }, "All runs")));
    return page;
  }
  const asked = run.run, measured = asked.kind !== undefined;
  const share = asked.method?.fraction == null ? "" : ` ${+(100 * asked.method.fraction).toPrecision(4)} %`;
  const name = measured ? `${asked.kind} on ${asked.model.name}` : `${asked.method.name}${share}, seed ${asked.seed}, on ${asked.model.name}`;
  const tests = Object.entries(run.tests ?? {});
  const mean = tests.length ? tests.reduce((sum, [, t]) => sum + t.accuracy, 0) / tests.length : undefined;
  const mega = (n) => (n === undefined ? undefined : `${(n / 1e6).toPrecision(3)} MB`);
  const figure = (id, title, rows) => {
    const canvas = make("div", { class: "live", role: "group", "aria-label": title });
    drawn(canvas, filled(charts[id].spec, { values: rows }));
    return make("figure", { class: "chart" }, make("figcaption", {}, title), canvas);
  };
  const curve = (list) => list.map(([step, value]) => ({ step, value }));
  const parts = [
    make("p", { class: "links" }, make("a", { href: "#runs" }, "← All runs"), " · ", make("a", { href: "#answer" }, "The answer")),
    make("h2", { id: "run-title" }, name),
    make("p", {}, make("code", {}, key), " ", make("span", { class: `badge ${run.status === "done" ? "holds" : "fails"}` }, run.status.replaceAll("_", " ")),
      run.message ? ` ${run.message}` : "", run.step ? ` (step ${run.step})` : ""),
    make("ul", { class: "facts" },
      fact("accuracy, mean over tasks", mean === undefined || Number.isNaN(mean) ? null : `${(100 * mean).toFixed(1)} %`),
      fact("held-out loss, all its examples", run.heldout && `${run.heldout.nll.toFixed(4)} nats`),
      fact("really trainable", run.capacity && `${(100 * run.capacity.fraction).toPrecision(3)} %`),
      fact("training", run.seconds?.tuning !== undefined && `${(run.seconds.tuning + (run.seconds.warmup ?? 0)).toFixed(1)} s`),
      fact("trained weights", mega(run.memory_bytes?.trainable_parameters)),
      fact("optimizer state", mega(run.memory_bytes?.optimizer_state))),
  ];
  const curves = make("div", { class: "two" });
  if (run.losses?.length) curves.append(figure("run-loss", "Training loss", curve(run.losses)));
  if (run.norms?.length) curves.append(figure("run-norm", "Gradient norm", curve(run.norms)));
  parts.push(curves);
  if (run.blocks?.length) {
    const found = run.blocks.filter(([layer]) => layer !== null);
    const many = new Map(found.map(([layer, matrix, blocks]) => [`${layer} ${matrix}`, blocks]));
    const layers = Array.from({ length: 1 + Math.max(-1, ...found.map(([layer]) => layer)) }, (_, layer) => layer);
    const matrices = [...new Set(found.map(([, matrix]) => matrix))]; // those without a block have 0 of them, and their place
    const rows = layers.flatMap((layer) => matrices.map((matrix) => ({ layer, matrix, blocks: many.get(`${layer} ${matrix}`) ?? 0 })));
    const chosen = make("div", { class: "two" }, figure("run-blocks", "Chosen blocks by layer and matrix", rows));
    const names = Object.keys(run.positions ?? {});
    if (names.length) {
      const canvas = make("div", { class: "live", role: "group", "aria-label": "Places of the chosen blocks" });
      const select = make("select", {}, ...names.map((n) => make("option", { value: n }, n)));
      const show = () => {
        const flatly = run.positions[select.value], rows = [];
        for (let i = 0; i < flatly.length; i += 2) rows.push({ row: flatly[i], column: flatly[i + 1] });
        const spec = filled(charts["run-places"].spec, { values: rows });
        for (const [channel, odd] of [["x", 1], ["y", 0]]) { // all rows and columns up to the last that this kind of matrix has a block in
          const alike = names.filter((n) => n.split(".").pop() === select.value.split(".").pop());
          const last = Math.max(...alike.flatMap((n) => run.positions[n].filter((_, i) => i % 2 === odd)));
          spec.layer[0].encoding[channel].scale = { domain: Array.from({ length: last + 1 }, (_, i) => i) };
        }
        drawn(canvas, spec);
      };
      select.addEventListener("change", show);
      show();
      chosen.append(make("figure", { class: "chart" }, make("figcaption", {}, "Where in a matrix"), make("div", { class: "axes" }, make("label", {}, "Matrix ", select)), canvas));
    }
    parts.push(chosen);
  }
  if (tests.length) parts.push(make("h3", {}, "Predictions"), ...tests.map(([task, result]) => answersOf(task, result)));
  parts.push(make("div", { class: "two" }, values("Configuration", asked), make("div", {}, values("What the method reports", run.method), values("Capacity", run.capacity), values("Seconds", run.seconds),
    values("Memory (bytes)", run.memory_bytes), values("More", run.others), values("Environment", run.environment),
    make("p", { class: "note" }, `Started ${run.started ?? ""}, finished ${run.finished ?? ""}.`))));
  const places = where[key] ?? [];
  if (places.length) {
    const links = places.flatMap((place, i) => [i ? ", " : "", make("a", { href: "#study-" + place.replace(/[^A-Za-z0-9]+/g, "-").replace(/^-|-$/g, "").toLowerCase() }, place)]);
    parts.push(make("p", { class: "links" }, "In the tables of ", ...links));
  }
  page.replaceChildren(...parts.filter(Boolean));
  return page;
}

// ---- the way through the page

function opened(element) {
  for (let at = element; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
}

async function arrived() {
  const hash = decodeURIComponent(location.hash.slice(1));
  const main = document.getElementById("main"), page = document.getElementById("run");
  const isRun = hash.startsWith("run-") && !document.getElementById(hash);
  if (isRun) {
    await runPage(hash.slice(4));
    main.hidden = true;
    page.hidden = false;
    window.scrollTo(0, 0);
    page.focus({ preventScroll: true });
    return;
  }
  const back = main.hidden;
  main.hidden = false;
  page.hidden = true;
  const few = hash.startsWith("runs:") && hash.slice(5).split(",");
  if (few) document.getElementById("all-runs").choose(few);
  const target = document.getElementById(few ? "runs" : hash);
  if (target) {
    opened(target);
    if (back || few || target.closest("details")) target.scrollIntoView({ behavior: "instant" });
  }
}

document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[data-runs]");
  if (!link) return;
  event.preventDefault();
  location.hash = "#runs:" + link.dataset.runs.replaceAll(" ", ",");
});
for (const table of document.querySelectorAll("table.data")) enhanced(table);
addEventListener("hashchange", arrived);
if ("DecompressionStream" in window) {
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) { seen.unobserve(entry.target); live(entry.target); }
  }, { rootMargin: "200px" });
  for (const figure of document.querySelectorAll("figure[data-chart]")) seen.observe(figure);
}
let closed = [];
addEventListener("beforeprint", () => { closed = [...document.querySelectorAll("#answer details:not([open])")]; for (const one of closed) one.open = true; });
addEventListener("afterprint", () => { for (const one of closed) one.open = false; });
arrived();
