// The page: fills the sections from its document and follows the calibration factor gamma.

const percent = (share, digits = 1) => (share === null ? "–" : fixed(100 * share, digits));
const number = (value, digits = 2) => (value === null ? "–" : fixed(value, digits));

const matrix = matrixView(at("matrix"), describeCell, openCell);
let part = content.parts[0];
let answers = null;
let gallery = null;
let countsAt = null;
let counts = null;
let gamma = 0;
let mapped = { chosen: null, named: false };

// --- tables ------------------------------------------------------------------------------------

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

/** Show a body if the run has what it shows, else the sentence on why there is none, if any. */
function present(name, body) {
  const sentence = part.missing[name];
  const known = (part[name] ?? null) !== null;
  const place = at(body);
  place.parentElement.querySelectorAll(`.missing[data-of="${body}"]`).forEach((item) => item.remove());
  place.hidden = !known;
  if (sentence) {
    const note = element("p", sentence, "missing");
    note.dataset.of = body;
    place.before(note);
  }
  return known;
}

/** Show a section and its link, or neither. */
function offer(section, offered) {
  at(section).hidden = !offered;
  document.querySelector(`nav a[href="#${section}"]`).hidden = !offered;
}

/** Whether a run has something, or should have it: what it has none of by nature has no section. */
const expected = (name) => (part[name] ?? null) !== null || name in part.missing;

// --- the head and the figures ------------------------------------------------------------------

function figureText(figure) {
  if (!figure) return "–";
  const ends = figure.interval?.map((end) => fixed(end)).join(" to ");
  return fixed(figure.mean) + (figure.std ? ` ± ${fixed(figure.std)}` : "") + (ends ? ` (${ends})` : "");
}

function hasIntervals() {
  return content.rows.some(({ figures }) => figures.some((figure) => figure?.interval));
}

function showFigures() {
  const which = content.over ?? part.name;
  at("title").textContent = `${content.model} on ${content.dataset}`;
  at("subtitle").textContent =
    `Features ${content.features}, semantics ${content.semantics}, ${which}; run ${content.run}`;
  at("spread").textContent = content.over
    ? `Mean ± standard deviation over ${content.over}; all below this section is of one of them${content.few_shot ? ", few-shot figures of all of them, too" : ""}.${hasIntervals() ? " In brackets: 95% interval of the mean (Student's t)." : ""}` : "";
  const rows = content.rows.map(({ method, figures }) => [method, ...figures.map(figureText)]);
  fillTable(at("headline"), columnsOf("method", ...content.columns), rows, {
    classes: content.rows.map(({ kind }) => kind),
  });
  at("glossary").textContent = content.glossary;
  at("protocol").textContent = content.protocol;
  at("extra").replaceChildren(...content.extra.map((text) =>
    element("p", text, text.startsWith("SELECTED") ? "notice" : "")));
}

// --- in words ----------------------------------------------------------------------------------

/** How many pictures of how many a share is: of 10, or of more where all or none would be wrong. */
function frequency(share) {
  const whole = [10, 100, 1000].find((n) => {
    const right = Math.round(n * share);
    return (right > 0 && right < n) || share === right / n;
  });
  return whole ? [`of ${whole}`, String(Math.round(whole * share))] : ["of many", share > 0.5 ? "nearly all" : "hardly any"];
}

function frequencySentence(kind, share) {
  const [whole, right] = frequency(share);
  const line = element("li", element("strong", `${whole[0].toUpperCase()}${whole.slice(1)} new pictures of ${kind} classes, ${right} ${right === "1" ? "is" : "are"} right`));
  line.append(` (${percent(share)} %).`);
  return line;
}

function listed(names) {
  const [first, more] = [names.slice(0, 3), names.length - 3];
  if (more > 0) return `${first.join(", ")} and ${more} more`;
  return first.length > 1 ? `${first.slice(0, -1).join(", ")} and ${first.at(-1)}` : first[0];
}

/** Classes that are equally well known, and how well. */
function describeGroup(group, found) {
  const names = listed(group.map(({ name }) => name));
  if (group.length > 1) return `${names} (${percent(group[0].share)} % right each)`;
  const [{ c, rows, share }] = group;
  const mistake = mistakesIn(found, part.classes).find((item) => item.c === c);
  const taken = mistake ? `, ${mistake.rows} taken for ${part.classes[mistake.answer].name}` : "";
  return `${names} (${Math.round(rows * share)} of ${rows} test pictures right${taken})`;
}

function extremesSentence(found, accuracies) {
  const known = part.classes.map((item, c) => ({ ...item, c, share: accuracies[c] }))
    .filter(({ seen, share }) => !seen && share !== null).sort((a, b) => b.share - a.share || a.c - b.c);
  if (known.length < 2) return [];
  const [best, worst] = [known[0], known.at(-1)].map(({ share }) => known.filter((item) => item.share === share));
  const text = best[0].share === worst[0].share
    ? `It knows all ${known.length} unseen classes equally well.`
    : `Of the unseen classes, it knows ${describeGroup(best, found)} best, and ${describeGroup(worst, found)} worst.`;
  return [element("li", text)];
}

/** What a practitioner asks first, at the run's own gamma. */
function showWords() {
  offer("words", Boolean(countsAt));
  if (!countsAt) return;
  const found = countsAt(part.gamma ?? 0);
  const accuracies = classAccuracies(found, part.classes.length);
  const { U, S } = measuresOf(part.classes, accuracies);
  const sentences = [["unseen", U], ["seen", S]].filter(([, share]) => !Number.isNaN(share))
    .map(([kind, share]) => frequencySentence(kind, share));
  at("says").replaceChildren(...sentences, ...extremesSentence(found, accuracies));
  const pictures = part.classes.reduce((sum, { rows }) => sum + rows, 0);
  const calibrated = part.answers && part.gamma ? "; calibrated on validation classes, as new pictures are answered" : "";
  const how = part.recipe.gate ? "; without the run's gate" : calibrated;
  at("words-note").textContent = `Unseen classes are those that the model knows by description alone. Each answer is one of ${part.classes.length} classes, of which guessing would get one in ${part.classes.length}. Measured on ${pictures} test pictures${content.parts.length > 1 ? ` (${part.name})` : ""}, where each class counts alike${how}.`;
}

// --- few-shot learning -------------------------------------------------------------------------

/** What the chart shows of a table of few-shot figures: a line for each measure. */
function shotSeries({ columns, charted, rows }) {
  return charted.flatMap((name) => {
    const place = columns.indexOf(name);
    const points = rows.filter((row) => row[place])
      .map((row) => ({ k: Number(row[0]), ...row[place], text: figureText(row[place]) }));
    return points.length ? [{ name, points }] : [];
  });
}

function showShots() {
  const tables = { all: content.few_shot, one: part.few_shot };
  const known = Object.values(tables).filter(Boolean);
  if (!known.length) return;
  const ends = known.flatMap(shotSeries).flatMap(({ points }) =>
    points.flatMap(({ mean, std }) => [mean - std, mean + std]));
  for (const [which, table] of Object.entries(tables)) {
    at(`shots-${which}`).hidden = !table;
    if (!table) continue;
    const who = which === "all" ? content.over : part.name;
    const series = shotSeries(table);
    const label = `${series.map(({ name }) => name).join(", ")} over the number of labelled rows`;
    drawShots(`shots-${which}-chart`, `${content.model}, ${who}: ${label}`, series, limitsAround(ends));
    const rows = table.rows.map(([k, ...figures]) => [k, ...figures.map(figureText)]);
    const caption = `Percent, ${who}: ${table.draws === 1 ? "one draw"
      : `mean ± standard deviation over ${table.draws} draws`}.`;
    fillTable(at(`shots-${which}-table`), columnsOf(...table.columns), rows, { caption });
  }
  const { draws, notes } = known.at(-1);
  at("few-shot-draws").textContent =
    `${draws === 1 ? "one draw" : `each of ${draws} draws`}${content.seeds ? " of a seed" : ""}`;
  at("few-shot-notes").replaceChildren(...notes.map((text) => element("p", `${text}.`)));
}

// --- the calibration factor --------------------------------------------------------------------

function slideOf(value) {
  const [low, high] = part.answers.range;
  return Math.round((1000 * (value - low)) / (high - low));
}

function setGamma(value) {
  gamma = value;
  followGamma();
}

function noteOn(value) {
  const choice = part.choice ? ` ${part.choice[0].toUpperCase()}${part.choice.slice(1)}.` : "";
  if (value === 0) return `Not calibrated: this run's U, S and H.${part.gamma === 0 ? choice : ""}`;
  if (value === part.gamma) {
    return `The gamma chosen on validation classes: this run's U cal., S cal. and H cal.${choice}`;
  }
  return "A gamma chosen by hand, in sight of test rows: to be explored, not to be reported.";
}

/** Everything that depends on gamma. */
function followGamma() {
  if (!countsAt) return;
  counts = countsAt(gamma);
  const accuracies = classAccuracies(counts, part.classes.length);
  showAccuracies(accuracies);
  matrix.set(counts, part.classes);
  tableOnDemand("mistakes", mistakesTable);
  gallery?.show(gamma, counts);
  closeCell();
  if (!part.answers) return;
  const measures = measuresOf(part.classes, accuracies);
  for (const [name, value] of Object.entries(measures)) {
    at(`value-${name}`).textContent = percent(value);
    at(`value-${name}`).dataset.value = value;
  }
  const slider = at("gamma");
  slider.value = slideOf(gamma);
  slider.dataset.gamma = gamma;
  const texts = Object.entries(measures).map(([name, value]) => `${name} ${percent(value)}`);
  slider.setAttribute("aria-valuetext", `gamma ${gamma.toPrecision(4)}: ${texts.join(", ")}`);
  if (document.activeElement !== at("gamma-number")) {
    at("gamma-number").value = String(Number(gamma.toPrecision(6)));
  }
  at("gamma-note").textContent = noteOn(gamma);
  moveOnCurve(measures);
}

function prepareGamma() {
  at("gamma-model").textContent = content.model;
  at("gamma-chosen").disabled = part.gamma === null;
  at("gamma").oninput = ({ target }) => {
    const [low, high] = part.answers.range;
    setGamma(low + ((high - low) * Number(target.value)) / 1000);
  };
  at("gamma-number").oninput = ({ target }) => {
    if (Number.isFinite(target.valueAsNumber)) setGamma(target.valueAsNumber);
  };
  at("close-up").oninput = () => {
    showCurve();
    followGamma();
  };
  at("gamma-none").onclick = () => setGamma(0);
  at("gamma-chosen").onclick = () => setGamma(part.gamma);
}

function showCurve() {
  const methods = content.rows.filter(({ kind }) => kind !== "oracle").map(({ method }) => method);
  drawCurve(part, methods.reverse(), at("close-up").checked);
}

function curveTable() {
  const rows = part.points.map(({ method, calibrated, U, S }) =>
    [`${method}, ${calibrated ? "calibrated on validation classes" : "not calibrated"}`, percent(U), percent(S)]);
  for (const curve of part.curves ?? []) {
    const [u, s] = [unpack(curve.U), unpack(curve.S)];
    const step = Math.max(1, Math.floor(u.length / 20));
    for (let i = 0; i < u.length; i += step) rows.push([curve.method, percent(u[i]), percent(s[i])]);
  }
  return [columnsOf("method", "U", "S"), rows, "Points of the table, then every twentieth part of each curve."];
}

// --- probabilities -----------------------------------------------------------------------------

function showReliability() {
  drawReliability(part.reliability);
  for (const { name, error } of part.reliability) at(`error-${name}`).textContent = percent(error);
  tableOnDemand("reliability-table", () => {
    const rows = part.reliability.flatMap(({ name, bins }) => bins.map((bin) =>
      [name, percent(bin.probability), percent(bin.accuracy), percent(bin.share), String(bin.rows)]));
    return [columnsOf("rows", "probability", "right", "share", "number"), rows, "Percent of the rows of each bin."];
  });
}

// --- classes -----------------------------------------------------------------------------------

let bars = [];

function prepareClasses() {
  bars = part.classes.map((item, c) => {
    const line = element("tr", undefined, item.seen ? "seen" : "unseen");
    const name = element("th", item.name);
    name.scope = "row";
    const [track, fill, share] = [element("div", undefined, "track"), element("div", undefined, "fill"), element("span", "", "share")];
    track.append(fill);
    const bar = element("div");
    bar.append(share, track);
    const cell = element("td", undefined, "bar");
    cell.append(bar);
    const zsl = item.seen ? "" : percent(item.zsl);
    line.append(name, element("td", item.seen ? "seen" : "unseen"), element("td", item.rows, "number"),
      cell, element("td", zsl, "number"));
    return { c, line, fill, share, item, value: null };
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
  given: (a, b) => a.item.seen - b.item.seen || a.c - b.c,
  worst: (a, b) => (a.value ?? 2) - (b.value ?? 2) || a.c - b.c,
  best: (a, b) => (b.value ?? -1) - (a.value ?? -1) || a.c - b.c,
  name: (a, b) => a.item.name.localeCompare(b.item.name) || a.c - b.c,
};

function orderClasses() {
  const [kind, wanted] = [at("class-kind").value, at("class-filter").value.toLowerCase()];
  const shown = bars.filter(({ item }) => (kind === "all" || item.seen === (kind === "seen"))
    && item.name.toLowerCase().includes(wanted));
  shown.sort(ORDERS[at("class-order").value]);
  const body = at("class-table").tBodies[0];
  const lines = shown.map(({ line }) => line);
  // Lines are put anew only where their order has changed, so that moving gamma stays swift.
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
  const [item, answer] = [part.classes[row], part.classes[column]];
  const share = item.rows ? `${rows} of ${item.rows} rows, ${percent(rows / item.rows)} %` : "no test rows";
  const verdict = row === column ? "answered right" : `answered ${answer.name} (${answer.seen ? "seen" : "unseen"})`;
  at("matrix-readout").textContent =
    `${item.name} (${item.seen ? "seen" : "unseen"}), ${verdict}: ${share}`;
}

function closeCell() {
  at("cell-note").textContent = gallery ? "Press a cell, or Enter on it, to see its pictures." : "";
  at("cell-pictures").replaceChildren();
}

/** The pictures of a cell, below the matrix. */
function openCell(row, column) {
  gallery?.showCell(row, column, gamma, counts);
}

const MOST_MISTAKES = 300;

function mistakesTable() {
  const found = mistakesIn(counts, part.classes);
  const rows = found.slice(0, MOST_MISTAKES).map(({ c, answer, rows: n, share }) =>
    [part.classes[c].name, part.classes[answer].name, String(n), percent(share)]);
  const more = found.length > MOST_MISTAKES ? `the ${MOST_MISTAKES} most frequent of ` : "";
  const columns = [{ name: "true class" }, { name: "answer" }, { name: "rows", isNumber: true },
    { name: "percent", isNumber: true }];
  return [columns, rows, `Wrong answers: ${more}${found.length} kinds; percent of the class's rows.`];
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
    const item = labels.map((_, i) => i).filter((i) => labels[i] === c && (i < part.map.real) === wanted);
    const middle = (values) => item.reduce((sum, i) => sum + values[i], 0) / item.length;
    return { x: middle(x), y: middle(y), rows: item.length };
  };
  const means = names.map((_, c) => ({ real: mean(c, true), synthesized: mean(c, false) }));
  mapped = { ...part.map, x, y, labels, means, names, chosen: null, named: names.length <= 20 };
  const { method, sampled } = part.map;
  at("map-method").textContent = sampled ? `${method}; a sample of ${sampled} classes` : method;
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
  const rows = epoch.map((item, i) =>
    [String(item), ...Object.values(others).map((values) => format(values[i]))]);
  return [columnsOf("epoch", ...Object.keys(others)), rows];
}

function showTraining() {
  if (!expected("history")) return;
  if (present("history", "history-body")) {
    drawHistory(part.history, part.loss_axes);
    tableOnDemand("history-table", () =>
      epochTable(part.history, (value) => (value === null ? "" : value.toPrecision(5))));
  }
  if (present("validation", "validation-body")) {
    // A single point is no curve: its table alone is shown.
    const several = part.validation.epoch.length > 1;
    at("validation-chart").hidden = !several;
    at("validation-details").open = !several;
    if (several) drawValidation(part.validation);
    tableOnDemand("validation-table", () => epochTable(part.validation, (value) => percent(value)));
  }
}

/** The seconds of each stage; a run made before its log had them shows none. */
function showStages() {
  at("stages-body").hidden = !part.stages;
  if (!part.stages) return;
  const total = part.stages.reduce((sum, { seconds }) => sum + seconds, 0);
  const rows = part.stages.map((item) => [item.name, number(item.seconds), percent(item.share),
    item.seconds_per_epoch === null ? "" : item.seconds_per_epoch.toPrecision(3)]);
  fillTable(at("stages"), columnsOf("stage", "seconds", "percent", "seconds per epoch"),
    [...rows, ["all", number(total), percent(1), ""]]);
}

function showShifts() {
  if (!present("shifts", "shifts-body")) return;
  const columns = columnsOf("method", "samples a class", "consistency", "of real rows",
    "variance ratio, seen", "unseen", "rank correlation");
  fillTable(at("shift-table"), columns, part.shifts.map((item) => [item.method, String(item.samples),
    number(item.among_all, 1), number(item.real_among_all, 1), number(item.seen_ratio),
    number(item.unseen_ratio), number(item.correlation)]));
  const detailed = Boolean(part.class_shifts) && part.class_shifts.length > 1;
  for (const id of ["shift-charts", "shift-details"]) at(id).hidden = !detailed;
  if (!detailed) return;
  const shifts = part.class_shifts.map((item) => ({ ...item, consistency: Array.from(unpack(item.consistency), (share) => (Number.isNaN(share) ? null : share)) }));
  const unseen = part.classes.filter(({ seen }) => !seen).map(({ name }) => name);
  drawConsistency(shifts, unseen);
  drawVariances(shifts, part.classes);
  tableOnDemand("class-shift-table", () => {
    const seen = part.classes.length - unseen.length;
    const label = ({ method }) => method || "real rows";
    const headings = ["consistency", "variance"].flatMap((what) => shifts.map((item) => `${what}, ${label(item)}`));
    const rows = part.classes.map(({ name }, c) => [name,
      ...shifts.map((item) => (c < seen ? "" : percent(item.consistency[c - seen]))),
      ...shifts.map((item) => (item.variances[c] === null ? "–" : item.variances[c].toPrecision(4)))]);
    return [columnsOf("class", ...headings), rows];
  });
}

function showSettings() {
  const columns = [{ name: "setting" }, { name: "value" }];
  fillTable(at("recipe"), columns, flatten(part.recipe));
  if (present("environment", "environment-body")) {
    // What is not known, such as the commit of an installed package, has no line.
    const known = flatten(part.environment).filter(([, value]) => value !== "–");
    fillTable(at("environment"), [{ name: "what" }, { name: "value" }], known);
  }
  if (present("command", "command-body")) at("command").textContent = part.command;
}

// --- all of it ---------------------------------------------------------------------------------

/** Charts are drawn where they can be seen: those of a closed fold have no size. */
function draw() {
  dropCharts();
  if (at("research").open) drawResearch();
  followGamma();
}

function drawResearch() {
  showShots();
  if (present("answers", "tradeoff-body")) {
    showCurve();
    tableOnDemand("curve-table", curveTable);
  }
  if (present("reliability", "reliability-body")) showReliability();
  if (present("map", "map-body")) showMap();
  showTraining();
  showShifts();
}

function openResearch() {
  if (at("research").open) return;
  at("research").open = true;
  draw();
}

function prepareResearch() {
  // Opened by its summary, it tells so afterwards; by a link or for print, what it shows is needed at once.
  at("research").addEventListener("toggle", ({ target }) => {
    if (target.open && !charts.size) draw();
  });
  for (const link of document.querySelectorAll("nav a")) {
    link.addEventListener("click", () => {
      if (at("research").contains(document.querySelector(link.hash))) openResearch();
    });
  }
  let wasOpen;
  addEventListener("beforeprint", () => {
    wasOpen = at("research").open;
    openResearch();
  });
  addEventListener("afterprint", () => { at("research").open = wasOpen; });
}

function show(chosen) {
  part = chosen;
  answers = answersOf(part);
  countsAt = counter(part, answers);
  gallery = part.gallery ? galleryView(part.gallery, answers, part.classes) : null;
  offer("pictures", Boolean(gallery));
  at("gallery-class").oninput = () => gallery.show(gamma, counts);
  gamma = part.gamma ?? 0;
  const known = present("classes", "classes-body");
  present("counts", "confusion-body");
  if (known) prepareClasses();
  if (countsAt) prepareMatrix();
  if (part.answers) prepareGamma();
  else gamma = 0;
  for (const [section, name] of [["map", "map"], ["training", "history"], ["shifts", "shifts"]]) {
    offer(section, expected(name));
  }
  offer("few-shot", Boolean(content.few_shot || part.few_shot));
  if (part.map) prepareMap();
  showWords();
  showStages();
  showSettings();
  draw();
}

function prepareSeeds() {
  if (content.parts.length < 2) return;
  at("seed-choice").hidden = false;
  at("seed").replaceChildren(...content.parts.map(({ name }, i) => new Option(name, String(i))));
  at("seed").oninput = ({ target }) => show(content.parts[Number(target.value)]);
}

showFigures();
prepareSeeds();
prepareResearch();
prepareTheme(draw);
show(part);
