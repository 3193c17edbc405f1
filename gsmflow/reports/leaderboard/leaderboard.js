// The leaderboard: fills its sections from its document, as the choices say.

const methods = new Map(content.methods.map((method) => [method.key, method]));
const cells = new Map(content.cells.map((cell) => [`${cell.method}\n${cell.dataset}`, cell]));
const kinds = distinct("kind");
const NOT_RUN = { state: "missing", sentence: "", seeds: [], figures: {}, seconds: null, peak_mib: null, page: null };
const COMPARED = "H_calibrated";
// Columns that are not shown at first, the figures without calibration being those that papers have.
const hidden = new Set(["preset", "U_calibrated", "S_calibrated"]);

let dataset = content.datasets[0];
let measure = content.metrics.find(({ key }) => key === COMPARED) ?? content.metrics.at(-1);
let points = [];
let pointed = null;

function distinct(field) {
  return [...new Set(content.methods.map((method) => method[field]))];
}

function cellOf(method, { key }) {
  return cells.get(`${method.key}\n${key}`) ?? NOT_RUN;
}

/** A figure of a cell, or null where it has none. */
function figureOf(cell, key) {
  const figure = (cell.state === "done" && cell.figures?.[key]) || null;
  return typeof figure?.mean === "number" ? figure : null;
}

function nameOf({ dataset: name, features, semantics }) {
  return [name, features, semantics].filter(Boolean).join(", ");
}

// --- figures as text -----------------------------------------------------------------------------

const isNumber = (value) => typeof value === "number";

function figureText({ mean, std }) {
  return fixed(mean) + (isNumber(std) ? ` ± ${fixed(std)}` : "");
}

function secondsText(seconds) {
  return isNumber(seconds) ? fixed(seconds, seconds < 100 ? 1 : 0) : "";
}

/** The mark of what is among the best, or its empty place. */
function markOf(isBest) {
  const mark = element("span", isBest ? " ★" : "", "mark star");
  if (isBest) {
    mark.setAttribute("role", "img");
    mark.setAttribute("aria-label", "among the best");
  }
  return mark;
}

/** A figure; what one of its column has, such as a mark, leaves its place free in all others. */
function figureCell(figure, { anyStd, anyBest, intervals }) {
  const place = element("span", undefined, `${figure?.best ? "best" : ""} ${anyBest ? "marked" : ""}`);
  place.append(element("span", figure ? fixed(figure.mean) : "–", "mean"));
  if (anyStd) place.append(element("span", isNumber(figure?.std) ? ` ± ${fixed(figure.std)}` : "", "std"));
  if (anyBest) place.append(markOf(figure?.best));
  if (intervals && isNumber(figure?.low) && isNumber(figure?.high)) {
    place.append(element("span", `${fixed(figure.low)} to ${fixed(figure.high)}`, "interval"));
  }
  return place;
}

/** A column of one metric; `figure` of a row is the one that it shows. */
function figureColumn(more, rows, figure, intervals = false) {
  const all = rows.map(figure).filter(Boolean);
  const has = { intervals, anyStd: all.some(({ std }) => isNumber(std)), anyBest: all.some(({ best }) => best) };
  return {
    ...more,
    isNumber: true,
    isOfCell: true,
    value: (row) => figure(row)?.mean ?? null,
    cell: (row) => figureCell(figure(row), has),
  };
}

// --- which methods -------------------------------------------------------------------------------

function chosenMethods() {
  const words = at("name-filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const fits = (id, value) => at(id).value === "all" || at(id).value === `is ${value}`;
  return content.methods.filter((method) => {
    const text = [method.label, method.key, method.paper].join(" ").toLowerCase();
    return fits("kind-filter", method.kind) && fits("classifier-filter", method.classifier)
      && words.every((word) => text.includes(word));
  });
}

function prepareChoices() {
  for (const field of ["kind", "classifier"]) {
    const values = distinct(field);
    at(`${field}-choice`).hidden = values.length < 2;
    at(`${field}-filter`).replaceChildren(new Option("all", "all"),
      ...values.map((value) => new Option(value || "none", `is ${value}`)));
  }
  at("measure").replaceChildren(...content.metrics.map(({ key, label }) =>
    new Option(label, key, false, key === measure.key)));
  at("dataset").replaceChildren(...content.datasets.map((item) => new Option(nameOf(item), item.key)));
  at("dataset-choice").hidden = content.datasets.length < 2;
  for (const id of ["name-filter", "kind-filter", "classifier-filter", "intervals"]) at(id).oninput = draw;
  at("measure").oninput = ({ target }) => {
    measure = content.metrics.find(({ key }) => key === target.value);
    draw();
  };
  at("dataset").oninput = ({ target }) => {
    dataset = content.datasets.find(({ key }) => key === target.value);
    draw();
  };
  at("show-all").onclick = () => {
    at("name-filter").value = "";
    for (const field of ["kind", "classifier"]) at(`${field}-filter`).value = "all";
    draw();
  };
}

// --- all datasets --------------------------------------------------------------------------------

const overview = sortableTable("overview-table", dataset.key);

function showOverview(chosen) {
  for (const id of ["overview", "overview-link"]) at(id).hidden = content.datasets.length < 2;
  const all = content.methods.map((method) => ({ method }));
  const states = { failed: ["failed", "failed"], missing: ["not run", "absent"] };
  const columns = content.datasets.map((item) => {
    const figure = (row) => figureOf(cellOf(row.method, item), measure.key);
    const below = [item.features, item.semantics].filter(Boolean).join(", ");
    const column = figureColumn({ key: item.key, name: item.dataset, below }, all, figure);
    const stateOf = ({ method }) => states[cellOf(method, item).state];
    return { ...column, cell: (row) => (stateOf(row) ? element("span", ...stateOf(row)) : column.cell(row)) };
  });
  at("overview-heading").textContent = `${measure.label} on all datasets`;
  overview.show([{ key: "method", name: "method", value: ({ method }) => method.label }, ...columns],
    chosen.map((method) => ({ method })));
}

function showFailures() {
  const failed = content.cells.filter(({ state }) => state === "failed");
  at("failures").hidden = !failed.length;
  at("failures-summary").textContent = failed.length === 1 ? "One run failed" : `${failed.length} runs failed`;
  const names = new Map(content.datasets.map((item) => [item.key, nameOf(item)]));
  fillTable(at("failures-table"), columnsOf("method").concat([{ name: "dataset" }, { name: "why" }]),
    failed.map((cell) => [methods.get(cell.method)?.label ?? cell.method, names.get(cell.dataset) ?? cell.dataset,
      cell.sentence ?? ""]));
}

// --- one dataset ---------------------------------------------------------------------------------

const figures = sortableTable("figures-table", measure.key, ({ cell }) => {
  if (cell.state === "failed") return `failed: ${cell.sentence}`;
  return cell.state === "done" ? null : "not run";
});

/** A link to the page of a run, which lies beside this one: never to another place. */
function pageLink({ method, cell: { page } }) {
  if (!page) return "";
  const link = element("a", "page");
  link.href = `./${page.split("/").map(encodeURIComponent).join("/")}`;
  link.setAttribute("aria-label", `page of ${method.label} on ${nameOf(dataset)}`);
  return link;
}

/** All columns of a dataset's table, whether shown or not. */
function datasetColumns(rows) {
  const text = (key) => ({ key, name: key, value: ({ method }) => method[key] });
  const count = { isNumber: true, isOfCell: true };
  const ofMethod = ["kind", "classifier", "preset"].filter((key) => distinct(key).some(Boolean));
  return [
    { key: "method", name: "method", value: ({ method }) => method.label },
    ...ofMethod.map(text),
    { ...count, key: "seeds", name: "seeds", value: ({ cell }) => cell.seeds?.length || null },
    ...content.metrics.map(({ key, label, description }) =>
      figureColumn({ key, name: label, description }, rows, ({ cell }) => figureOf(cell, key), at("intervals").checked)),
    { ...count, key: "seconds", name: "seconds", lowestFirst: true, value: ({ cell }) => cell.seconds,
      cell: ({ cell }) => secondsText(cell.seconds) },
    { ...count, key: "peak_mib", name: "peak MiB", lowestFirst: true, value: ({ cell }) => cell.peak_mib,
      cell: ({ cell }) => (isNumber(cell.peak_mib) ? fixed(cell.peak_mib, 0) : "") },
    { key: "page", name: "run", isOfCell: true, value: ({ cell }) => cell.page, cell: pageLink },
  ];
}

function rowsOf(chosen) {
  const states = { failed: "failed", missing: "absent" };
  return chosen.map((method) => {
    const cell = cellOf(method, dataset);
    return { method, cell, className: states[cell.state] };
  });
}

function showDataset(chosen) {
  const columns = datasetColumns(rowsOf(content.methods));
  const { seen, unseen, rows } = dataset;
  at("figures-heading").textContent = nameOf(dataset);
  at("dataset-note").textContent = `${seen} seen and ${unseen} unseen classes, ${rows} test rows.`;
  figures.show(columns.filter(({ key }) => !hidden.has(key)), rowsOf(chosen));
}

function prepareColumns() {
  const columns = datasetColumns([]);
  const isNarrow = matchMedia("(max-width: 40rem)").matches;
  for (const key of ["kind", "classifier"]) if (isNarrow || distinct(key).length < 2) hidden.add(key);
  if (distinct("preset").length > 1) hidden.delete("preset");
  // A row that failed says why in what is left of its line: the first and the last column stay.
  at("columns").replaceChildren(...columns.slice(1, -1).map(({ key, name }) => {
    const box = element("input");
    box.type = "checkbox";
    box.value = key;
    box.checked = !hidden.has(key);
    box.oninput = () => {
      if (box.checked) hidden.delete(key);
      else hidden.add(key);
      draw();
    };
    const label = element("label", box);
    label.append(name);
    return label;
  }));
  const all = content.cells.flatMap((cell) => Object.values(cell.figures ?? {}));
  at("intervals-choice").hidden = !all.some((figure) => isNumber(figure?.low));
}

// --- accuracy and time ---------------------------------------------------------------------------

function pointsOf(chosen) {
  return rowsOf(chosen).flatMap(({ method, cell }) => {
    const figure = figureOf(cell, measure.key);
    if (!figure || !(cell.seconds > 0)) return [];
    const lines = [`${measure.label} ${figureText(figure)}`, `${secondsText(cell.seconds)} seconds`];
    if (isNumber(cell.peak_mib)) lines.push(`${fixed(cell.peak_mib, 0)} MiB`);
    return [{ x: cell.seconds, y: figure.mean, name: method.label, kind: method.kind, lines }];
  });
}

function showTime(chosen) {
  points = pointsOf(chosen);
  pointed = null;
  at("time-heading").textContent = `${measure.label} and time on ${nameOf(dataset)}`;
  at("time-body").hidden = !points.length;
  at("time-missing").hidden = Boolean(points.length);
  at("time-missing").textContent = `No method that is shown has both ${measure.label} and seconds on this dataset.`;
  at("time-readout").textContent = "";
  if (!points.length) {
    dropCharts();
    return;
  }
  drawScatter(points, kinds, {
    label: `${measure.label} over seconds of ${points.length} methods on ${nameOf(dataset)}`,
    title: `${measure.label}, percent`,
    tellUnnamed: (count) => {
      at("unnamed").hidden = !count;
      at("unnamed").textContent = `${count === 1 ? "One name has" : `${count} names have`} no room beside their points: the pointer and the arrow keys show them.`;
    },
  });
  const front = frontOf(points).map(({ name, x, y }) => `${name} (${secondsText(x)} s, ${fixed(y)})`);
  at("front").textContent = `No other method is both faster and better than ${front.join("; ")}.`;
}

/** Arrow keys go from point to point: to the sides by seconds, up and down by the measure. */
function pointByKey(event) {
  const [field, step] = { ArrowRight: ["x", 1], ArrowLeft: ["x", -1], ArrowUp: ["y", 1], ArrowDown: ["y", -1] }[event.key] ?? [];
  if (!field || !points.length) return;
  event.preventDefault();
  const order = [...points].sort((a, b) => a[field] - b[field]);
  const place = pointed ? order.indexOf(pointed) + step : step > 0 ? 0 : order.length - 1;
  pointed = order[Math.max(0, Math.min(order.length - 1, place))];
  pointAt(pointed);
  at("time-readout").textContent = `${pointed.name}: ${pointed.lines.join(", ")}`;
}

// --- ranks, published figures, methods, command --------------------------------------------------

function rankTrack(rank, reach, last) {
  const share = (value) => `${(100 * value) / Math.max(1, last - 1)}%`;
  const [track, line, dot] = ["track", "reach", "dot"].map((name) => element("div", undefined, name));
  line.style.left = share(rank - 1);
  line.style.width = share(Math.min(reach, last - rank));
  dot.style.left = share(rank - 1);
  track.setAttribute("aria-hidden", "true");
  track.append(line, dot);
  return track;
}

function rankCell(rank, isTied) {
  const place = element("span", fixed(rank, 2));
  place.append(markOf(isTied));
  return place;
}

function showRanks() {
  const { ranks } = content;
  for (const id of ["ranks", "ranks-link"]) at(id).hidden = !ranks?.methods.length;
  if (!ranks?.methods.length) return;
  const label = content.metrics.find(({ key }) => key === ranks.metric)?.label ?? ranks.metric;
  const order = sortRows(ranks.methods, ({ rank }) => rank, true);
  const reach = ranks.critical_difference ?? 0;
  const limit = order[0].rank + reach;
  const last = order.length;
  const sentences = [`Ranks of ${last} methods by ${label}, averaged over ${ranks.datasets} datasets; 1 is the highest.`];
  if (isNumber(ranks.p)) sentences.push(`Friedman's test that all are the same: p = ${ranks.p < 0.001 ? ranks.p.toExponential(1) : fixed(ranks.p, 3)}.`);
  if (reach) sentences.push(`Ranks that differ by less than the critical difference of ${fixed(reach, 2)} (the bars; Nemenyi's test, Demšar 2006) do not differ significantly; ★: not significantly different from the first.`);
  at("ranks-note").textContent = sentences.join(" ");
  const ends = element("span", undefined, "ends");
  ends.append(element("span", "1"), element("span", String(last)));
  const isTied = ({ rank }) => reach > 0 && rank <= limit;
  fillTable(at("ranks-table"), [{ name: "method" }, { name: "average rank", isNumber: true }, { name: ends }],
    order.map((item) => [methods.get(item.key)?.label ?? item.key, rankCell(item.rank, isTied(item)),
      rankTrack(item.rank, reach, last)]),
    { classes: order.map((item) => (isTied(item) ? "tied" : "")) });
}

const published = sortableTable("published-table", "year");

function showPublished() {
  const rows = content.published.filter((item) => item.dataset === dataset.dataset);
  at("published-heading").textContent = `Published figures on ${dataset.dataset}`;
  at("published-body").hidden = !rows.length;
  at("published-missing").hidden = Boolean(rows.length);
  at("published-missing").textContent = `No published figures on ${dataset.dataset} are known here.`;
  const text = (key, name = key) => ({ key, name, value: (row) => row[key] });
  const known = content.metrics.filter(({ key }) => rows.some(({ measures }) => isNumber(measures[key])));
  published.show([
    ...["method", "year", "venue", "setting", "features", "semantics"].map((key) => text(key)),
    text("figures", "how known"),
    ...known.map(({ key, label }) => ({ key, name: label, isNumber: true, value: ({ measures }) => measures[key] ?? null,
      cell: ({ measures }) => (isNumber(measures[key]) ? fixed(measures[key]) : "") })),
  ], rows);
}

function showMethods() {
  const fields = ["label", "key", "kind", "classifier", "preset", "paper"];
  const names = ["method", "name", "kind", "classifier", "settings", "where it comes from"];
  fillTable(at("methods-table"), names.map((name) => ({ name })),
    content.methods.map((method) => fields.map((field) => method[field] ?? "")));
}

async function copy(id) {
  const place = at(id);
  try {
    await navigator.clipboard.writeText(place.textContent);
    at("copied").textContent = "Copied.";
  } catch { // not allowed here, as in some browsers for a page that is a file
    getSelection().selectAllChildren(place);
    at("copied").textContent = "Selected: copy it with Ctrl and C.";
  }
}

function showMaking() {
  at("command").textContent = content.command;
  at("versions").textContent = flatten(content.made).map(([name, value]) => `${name}: ${value}`).join("\n");
  for (const id of ["command", "versions"]) at(`copy-${id}`).onclick = () => copy(id);
}

// --- all of it -----------------------------------------------------------------------------------

function showHead() {
  const [m, d] = [content.methods.length, content.datasets.length];
  const seeds = Math.max(0, ...content.cells.map((cell) => cell.seeds?.length ?? 0));
  at("title").textContent = content.title;
  at("subtitle").textContent = `${m} ${m === 1 ? "method" : "methods"} on ${d} ${d === 1 ? "dataset" : "datasets"}`
    + (seeds > 1 ? `, up to ${seeds} seeds` : "")
    + (content.class_splits ? `, ${content.class_splits} random class splits` : "");
  at("spread-over").textContent = content.class_splits ? "class splits" : "seeds";
  at("protocol").textContent = content.protocol;
  at("glossary").textContent = `${content.metrics.map(({ label, description }) => `${label}: ${description}`).join("; ")}.`;
}

function draw() {
  const chosen = chosenMethods();
  at("methods-shown").textContent = `${chosen.length} of ${content.methods.length} methods`;
  showOverview(chosen);
  showDataset(chosen);
  showTime(chosen);
  showPublished();
}

showHead();
showFailures();
prepareChoices();
prepareColumns();
showRanks();
showMethods();
showMaking();
at("scatter").onkeydown = pointByKey;
prepareTheme(draw);
draw();
