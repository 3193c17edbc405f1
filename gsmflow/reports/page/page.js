// The page: fills the sections from its document and follows the penalty.

const told = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const percent = (share, digits = 1) => (share === null ? "–" : (100 * share).toFixed(digits));
const number = (value, digits = 2) => (value === null ? "–" : value.toFixed(digits));

const matrix = matrixView(at("matrix"), describeCell);
let part = told.parts[0];
let countsAt = null;
let counts = null;
let penalty = 0;
let mapped = { chosen: null, named: false };

// --- tables ------------------------------------------------------------------------------------

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

/** Fill a table; columns are headings, those of numbers marked; rows are cells, the first a head. */
function fillTable(table, columns, rows, { caption, classes = [] } = {}) {
  const head = element("tr");
  for (const { name, isNumber } of columns) {
    const cell = element("th", name, isNumber ? "number" : "");
    cell.scope = "col";
    head.append(cell);
  }
  const body = element("tbody");
  rows.forEach((cells, place) => {
    const line = element("tr", undefined, classes[place]);
    cells.forEach((text, i) => {
      const cell = element(i ? "td" : "th", text, columns[i].isNumber ? "number" : "");
      if (!i) cell.scope = "row";
      line.append(cell);
    });
    body.append(line);
  });
  const heading = element("thead");
  heading.append(head);
  table.replaceChildren(...(caption ? [element("caption", caption)] : []), heading, body);
}

const columnsOf = (first, ...numbers) => [{ name: first },
  ...numbers.map((name) => ({ name, isNumber: true }))];

/** A table that is made when it is first asked for, and again when what it shows has changed. */
function tableOnDemand(id, make) {
  const place = at(id);
  const details = place.closest("details");
  const fill = () => {
    if (!details.open) return;
    const [columns, rows, caption] = make();
    const table = element("table");
    fillTable(table, columns, rows, { caption });
    const scroll = element("div", undefined, "scroll tall");
    scroll.tabIndex = 0;
    scroll.setAttribute("role", "region");
    scroll.setAttribute("aria-label", details.querySelector("summary").textContent);
    scroll.append(table);
    place.replaceChildren(scroll);
  };
  details.ontoggle = fill;
  fill();
}

/** Show a section's body, or the sentence on why there is none; says which. */
function present(name, body) {
  const sentence = part.missing[name];
  const place = at(body);
  place.parentElement.querySelectorAll(`.missing[data-of="${body}"]`).forEach((own) => own.remove());
  place.hidden = sentence !== undefined;
  if (sentence) {
    const note = element("p", sentence, "missing");
    note.dataset.of = body;
    place.before(note);
  }
  return !sentence;
}

// --- the head and the figures ------------------------------------------------------------------

function figureText(figure) {
  if (!figure) return "–";
  return figure.mean.toFixed(1) + (figure.std ? ` ± ${figure.std.toFixed(1)}` : "");
}

function showFigures() {
  const which = told.seeds ? `${told.seeds.length} seeds` : part.name;
  at("title").textContent = `${told.model} on ${told.dataset}`;
  at("subtitle").textContent =
    `Features ${told.features}, semantics ${told.semantics}, ${which}; run ${told.run}`;
  at("spread").textContent = told.seeds
    ? `Mean ± standard deviation over ${told.seeds.length} seeds; all below this section is of one of them${told.few_shot ? ", few-shot figures of all of them, too" : ""}.` : "";
  const rows = told.rows.map(({ method, figures }) => [method, ...figures.map(figureText)]);
  fillTable(at("headline"), columnsOf("method", ...told.columns), rows, {
    classes: told.rows.map(({ kind }) => kind),
  });
  at("protocol").textContent = told.protocol;
  at("extra").replaceChildren(...told.extra.map((text) =>
    element("p", text, text.startsWith("SELECTED") ? "notice" : "")));
}

// --- few-shot learning -------------------------------------------------------------------------

/** What the chart shows of a table of few-shot figures: a line for each measure. */
function shotSeries({ columns, rows }) {
  return ["T1", "H", "H pen."].flatMap((name) => {
    const place = columns.indexOf(name);
    const points = rows.filter((row) => row[place])
      .map((row) => ({ k: Number(row[0]), ...row[place], text: figureText(row[place]) }));
    return points.length ? [{ name, points }] : [];
  });
}

function showShots() {
  const tables = { all: told.few_shot, one: part.few_shot };
  const known = Object.values(tables).filter(Boolean);
  for (const id of ["few-shot", "few-shot-link"]) at(id).hidden = !known.length;
  if (!known.length) return;
  const ends = known.flatMap(shotSeries).flatMap(({ points }) =>
    points.flatMap(({ mean, std }) => [mean - std, mean + std]));
  for (const [which, table] of Object.entries(tables)) {
    at(`shots-${which}`).hidden = !table;
    if (!table) continue;
    const who = which === "all" ? `${told.seeds.length} seeds` : part.name;
    const series = shotSeries(table);
    const label = `${series.map(({ name }) => name).join(", ")} over the number of labelled rows`;
    drawShots(`shots-${which}-chart`, `${told.model}, ${who}: ${label}`, series, limitsAround(ends));
    const rows = table.rows.map(([k, ...figures]) => [k, ...figures.map(figureText)]);
    const caption = `Percent, ${who}: ${table.draws === 1 ? "one draw"
      : `mean ± standard deviation over ${table.draws} draws`}.`;
    fillTable(at(`shots-${which}-table`), columnsOf(...table.columns), rows, { caption });
  }
  const { draws, notes } = known.at(-1);
  at("few-shot-draws").textContent =
    `${draws === 1 ? "one draw" : `each of ${draws} draws`}${told.seeds ? " of a seed" : ""}`;
  at("few-shot-notes").replaceChildren(...notes.map((text) => element("p", `${text}.`)));
}

// --- the penalty -------------------------------------------------------------------------------

function slideOf(value) {
  const [low, high] = part.answers.range;
  return Math.round((1000 * (value - low)) / (high - low));
}

function setPenalty(value) {
  penalty = value;
  followPenalty();
}

function noteOn(value) {
  if (value === 0) return "No penalty: this run's U, S and H.";
  if (value === part.penalty) {
    return "The penalty chosen on validation classes: this run's U pen., S pen. and H pen.";
  }
  return "A penalty of your choice, made in sight of test rows: to be explored, not to be reported.";
}

/** Everything that depends on the penalty. */
function followPenalty() {
  if (!countsAt) return;
  counts = countsAt(penalty);
  const accuracies = classAccuracies(counts, part.classes.length);
  showAccuracies(accuracies);
  matrix.set(counts, part.classes);
  tableOnDemand("mistakes", mistakesTable);
  if (!part.answers) return;
  const measures = measuresOf(part.classes, accuracies);
  for (const [name, value] of Object.entries(measures)) {
    at(`value-${name}`).textContent = percent(value);
    at(`value-${name}`).dataset.value = value;
  }
  const slider = at("penalty");
  slider.value = slideOf(penalty);
  slider.dataset.penalty = penalty;
  const said = Object.entries(measures).map(([name, value]) => `${name} ${percent(value)}`);
  slider.setAttribute("aria-valuetext", `penalty ${penalty.toPrecision(4)}: ${said.join(", ")}`);
  if (document.activeElement !== at("penalty-number")) {
    at("penalty-number").value = String(Number(penalty.toPrecision(6)));
  }
  at("penalty-note").textContent = noteOn(penalty);
  moveOnCurve(measures);
}

function preparePenalty() {
  at("penalty-model").textContent = told.model;
  at("penalty-chosen").disabled = part.penalty === null;
  at("penalty").oninput = ({ target }) => {
    const [low, high] = part.answers.range;
    setPenalty(low + ((high - low) * Number(target.value)) / 1000);
  };
  at("penalty-number").oninput = ({ target }) => {
    if (Number.isFinite(target.valueAsNumber)) setPenalty(target.valueAsNumber);
  };
  at("close-up").oninput = () => {
    showCurve();
    followPenalty();
  };
  at("penalty-none").onclick = () => setPenalty(0);
  at("penalty-chosen").onclick = () => setPenalty(part.penalty);
}

function showCurve() {
  const methods = told.rows.filter(({ kind }) => kind !== "oracle").map(({ method }) => method);
  drawCurve(part, methods.reverse(), at("close-up").checked);
}

function curveTable() {
  const rows = part.points.map(({ method, chosen, U, S }) =>
    [`${method}, ${chosen ? "penalty from validation classes" : "no penalty"}`, percent(U), percent(S)]);
  for (const curve of part.curves ?? []) {
    const [u, s] = [unpack(curve.U), unpack(curve.S)];
    const step = Math.max(1, Math.floor(u.length / 20));
    for (let i = 0; i < u.length; i += step) rows.push([curve.method, percent(u[i]), percent(s[i])]);
  }
  return [columnsOf("method", "U", "S"), rows, "Points of the table, then every twentieth part of each curve."];
}

// --- classes -----------------------------------------------------------------------------------

let bars = [];

function prepareClasses() {
  bars = part.classes.map((own, c) => {
    const line = element("tr", undefined, own.seen ? "seen" : "unseen");
    const name = element("th", own.name);
    name.scope = "row";
    const [track, fill, share] = [element("div", undefined, "track"), element("div", undefined, "fill"), element("span", "", "share")];
    track.append(fill);
    const bar = element("div");
    bar.append(share, track);
    const cell = element("td", undefined, "bar");
    cell.append(bar);
    const zsl = own.seen ? "" : percent(own.zsl);
    line.append(name, element("td", own.seen ? "seen" : "unseen"), element("td", own.rows, "number"),
      cell, element("td", zsl, "number"));
    return { c, line, fill, share, own, value: null };
  });
  for (const id of ["class-kind", "class-order", "class-filter"]) at(id).oninput = orderClasses;
}

function showAccuracies(accuracies) {
  for (const bar of bars) {
    bar.value = accuracies[bar.c];
    bar.fill.style.width = `${100 * (bar.value ?? 0)}%`;
    bar.share.textContent = percent(bar.value);
  }
  orderClasses();
}

const ORDERS = {
  given: (a, b) => a.own.seen - b.own.seen || a.c - b.c,
  worst: (a, b) => (a.value ?? 2) - (b.value ?? 2) || a.c - b.c,
  best: (a, b) => (b.value ?? -1) - (a.value ?? -1) || a.c - b.c,
  name: (a, b) => a.own.name.localeCompare(b.own.name) || a.c - b.c,
};

function orderClasses() {
  const [kind, wanted] = [at("class-kind").value, at("class-filter").value.toLowerCase()];
  const shown = bars.filter(({ own }) => (kind === "all" || own.seen === (kind === "seen"))
    && own.name.toLowerCase().includes(wanted));
  shown.sort(ORDERS[at("class-order").value]);
  const body = at("class-table").tBodies[0];
  const lines = shown.map(({ line }) => line);
  // Lines are put anew only where their order has changed, so that moving the penalty stays swift.
  if (lines.length !== body.rows.length || lines.some((line, i) => line !== body.rows[i])) {
    body.replaceChildren(...lines);
  }
  const known = shown.filter(({ value }) => value !== null);
  const mean = known.reduce((sum, { value }) => sum + value, 0) / known.length;
  at("classes-shown").textContent = known.length
    ? `${shown.length} classes, mean accuracy ${percent(mean)}` : `${shown.length} classes`;
}

// --- the confusion matrix ----------------------------------------------------------------------

function describeCell(row, column, rows) {
  const [own, answer] = [part.classes[row], part.classes[column]];
  const share = own.rows ? `${rows} of ${own.rows} rows, ${percent(rows / own.rows)} %` : "no test rows";
  const verdict = row === column ? "answered right" : `answered ${answer.name} (${answer.seen ? "seen" : "unseen"})`;
  at("matrix-readout").textContent =
    `${own.name} (${own.seen ? "seen" : "unseen"}), ${verdict}: ${share}`;
}

const MOST_MISTAKES = 300;

function mistakesTable() {
  const found = mistakesIn(counts, part.classes);
  const rows = found.slice(0, MOST_MISTAKES).map(({ c, answer, rows: n, share }) =>
    [part.classes[c].name, part.classes[answer].name, String(n), percent(share)]);
  const more = found.length > MOST_MISTAKES ? `the ${MOST_MISTAKES} most frequent of ` : "";
  const columns = [{ name: "true class" }, { name: "answer" }, { name: "rows", isNumber: true },
    { name: "percent of its rows", isNumber: true }];
  return [columns, rows, `Wrong answers: ${more}${found.length} kinds.`];
}

function prepareMatrix() {
  at("class-names").replaceChildren(...part.classes.map(({ name }) => {
    const option = element("option");
    option.value = name;
    return option;
  }));
  at("matrix-in").onclick = () => matrix.zoom(1 / 1.5);
  at("matrix-out").onclick = () => matrix.zoom(1.5);
  at("matrix-all").onclick = () => matrix.all();
  at("matrix-unseen").onclick = () => matrix.unseen();
  at("matrix-class").oninput = ({ target }) => {
    const c = part.classes.findIndex(({ name }) => name === target.value);
    if (c >= 0) matrix.find(c);
  };
}

// --- the map -----------------------------------------------------------------------------------

function prepareMap() {
  const names = part.classes.filter(({ seen }) => !seen).map(({ name }) => name);
  const [x, y, labels] = ["x", "y", "labels"].map((name) => Array.from(unpack(part.map[name])));
  const mean = (c, wanted) => {
    const own = labels.map((_, i) => i).filter((i) => labels[i] === c && (i < part.map.real) === wanted);
    const middle = (values) => own.reduce((sum, i) => sum + values[i], 0) / own.length;
    return { x: middle(x), y: middle(y), rows: own.length };
  };
  const means = names.map((_, c) => ({ real: mean(c, true), synthesized: mean(c, false) }));
  mapped = { ...part.map, x, y, labels, means, names, chosen: null, named: names.length <= 20 };
  at("map-method").textContent = part.map.method;
  at("map-names").checked = mapped.named;
  at("map-class").replaceChildren(...["all", ...names].map((name, i) => new Option(name, String(i - 1))));
  at("map-class").oninput = ({ target }) => pickOnMap(target.value === "-1" ? null : Number(target.value));
  at("map-names").oninput = ({ target }) => {
    mapped.named = target.checked;
    showMap();
  };
  tableOnDemand("map-table", () => {
    const rows = means.map(({ real, synthesized }, c) => {
      const apart = Math.hypot(real.x - synthesized.x, real.y - synthesized.y);
      return [names[c], ...[real, synthesized].flatMap(({ x: a, y: b }) => [number(a), number(b)]), number(apart)];
    });
    const columns = columnsOf("class", "real, x", "real, y", "synthesized, x", "synthesized, y", "distance");
    return [columns, rows, "Means of the features that are shown, in the plane of the map."];
  });
}

function pickOnMap(c) {
  mapped.chosen = c;
  at("map-class").value = String(c ?? -1);
  showMap();
}

function showMap() {
  drawMap(mapped, mapped.names, mapped.chosen, mapped.named, pickOnMap);
}

// --- training, shifts, settings ----------------------------------------------------------------

/** Columns of numbers by name as a table, an epoch a row. */
function epochTable(columns, format) {
  const { epoch, ...others } = columns;
  const rows = epoch.map((own, i) =>
    [String(own), ...Object.values(others).map((values) => format(values[i]))]);
  return [columnsOf("epoch", ...Object.keys(others)), rows];
}

function showTraining() {
  if (present("history", "history-body")) {
    drawHistory(part.history, part.loss_axes);
    tableOnDemand("history-table", () =>
      epochTable(part.history, (value) => (value === null ? "" : value.toPrecision(5))));
  }
  if (present("validation", "validation-body")) {
    drawValidation(part.validation);
    tableOnDemand("validation-table", () => epochTable(part.validation, (value) => percent(value)));
  }
}

function showShifts() {
  if (!present("shifts", "shifts-body")) return;
  const columns = columnsOf("method", "samples a class", "consistency", "of real rows",
    "variance ratio, seen", "unseen", "rank correlation");
  fillTable(at("shift-table"), columns, part.shifts.map((own) => [own.method, String(own.samples),
    number(own.among_all, 1), number(own.real_among_all, 1), number(own.seen_ratio),
    number(own.unseen_ratio), number(own.correlation)]));
  const detailed = Boolean(part.class_shifts) && part.class_shifts.length > 1;
  for (const id of ["shift-charts", "shift-details"]) at(id).hidden = !detailed;
  if (!detailed) return;
  const shifts = part.class_shifts.map((own) => ({ ...own, consistency: Array.from(unpack(own.consistency), (share) => (Number.isNaN(share) ? null : share)) }));
  const unseen = part.classes.filter(({ seen }) => !seen).map(({ name }) => name);
  drawConsistency(shifts, unseen);
  drawVariances(shifts, part.classes);
  tableOnDemand("class-shift-table", () => {
    const seen = part.classes.length - unseen.length;
    const label = ({ method }) => method || "real rows";
    const headings = ["consistency", "variance"].flatMap((what) => shifts.map((own) => `${what}, ${label(own)}`));
    const rows = part.classes.map(({ name }, c) => [name,
      ...shifts.map((own) => (c < seen ? "" : percent(own.consistency[c - seen]))),
      ...shifts.map((own) => (own.variances[c] === null ? "–" : own.variances[c].toPrecision(4)))]);
    return [columnsOf("class", ...headings), rows];
  });
}

/** An object as lines of a table, objects inside it with their names joined. */
function flatten(value, above = "") {
  return Object.entries(value).flatMap(([name, own]) => (own !== null && typeof own === "object" && !Array.isArray(own)
    ? flatten(own, `${above}${name} `) : [[`${above}${name}`, own === null ? "–" : String(own)]]));
}

function showSettings() {
  const columns = [{ name: "setting" }, { name: "value" }];
  fillTable(at("recipe"), columns, flatten(part.recipe));
  if (present("environment", "environment-body")) {
    fillTable(at("environment"), [{ name: "what" }, { name: "value" }], flatten(part.environment));
  }
  if (present("command", "command-body")) at("command").textContent = part.command;
}

// --- all of it ---------------------------------------------------------------------------------

function draw() {
  dropCharts();
  showShots();
  if (present("answers", "tradeoff-body")) {
    showCurve();
    tableOnDemand("curve-table", curveTable);
  }
  if (present("map", "map-body")) showMap();
  showTraining();
  showShifts();
  followPenalty();
}

function show(chosen) {
  part = chosen;
  countsAt = counter(part);
  penalty = part.penalty ?? 0;
  const known = present("classes", "classes-body");
  present("counts", "confusion-body");
  if (known) prepareClasses();
  if (countsAt) prepareMatrix();
  if (part.answers) preparePenalty();
  else penalty = 0;
  if (part.map) prepareMap();
  showSettings();
  draw();
}

function prepareTheme() {
  const button = at("theme");
  const say = () => button.setAttribute("aria-pressed", String(isDark()));
  button.onclick = () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    say();
    draw();
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    say();
    draw();
  });
  say();
}

function prepareSeeds() {
  if (told.parts.length < 2) return;
  at("seed-choice").hidden = false;
  at("seed").replaceChildren(...told.parts.map(({ name }, i) => new Option(name, String(i))));
  at("seed").oninput = ({ target }) => show(told.parts[Number(target.value)]);
}

showFigures();
prepareSeeds();
prepareTheme();
show(part);
