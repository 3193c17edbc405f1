// What every page does: its document, its elements and tables, its theme.

const content = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);

/**
 * A number with so many decimals, a half rounded away from zero, as core/rounding.py does: the
 * value counts to six decimals.
 */
function fixed(value, digits = 1) {
  const exact = Math.abs(value).toFixed(6);
  const text = Number(`${Math.round(Number(`${exact}e${digits}`))}e-${digits}`).toFixed(digits);
  return value < 0 && Number(text) > 0 ? `-${text}` : text;
}

/** An element of a page; its content is a text or another element. */
function element(name, content, className) {
  const made = document.createElement(name);
  if (content !== undefined) made.append(content);
  if (className) made.className = className;
  return made;
}

/**
 * Fill a table; columns are headings, those of numbers marked; rows are cells, the first a head.
 * The last cell of a row with too few spans the columns that are left.
 */
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
    cells.forEach((content, i) => {
      const isWide = i === cells.length - 1 && cells.length < columns.length;
      const cell = element(i ? "td" : "th", content, columns[i].isNumber && !isWide ? "number" : "");
      if (!i) cell.scope = "row";
      else if (!isWide) cell.dataset.column = columns[i].name;
      if (isWide) cell.colSpan = columns.length - i;
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

/** An object as lines of a table, objects inside it with their names joined. */
function flatten(value, above = "") {
  return Object.entries(value).flatMap(([name, item]) => (item !== null && typeof item === "object" && !Array.isArray(item)
    ? flatten(item, `${above}${name} `) : [[`${above}${name}`, item === null ? "–" : String(item)]]));
}

// --- the theme ---------------------------------------------------------------------------------

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

/** Light or dark as the system or the button says, light on paper; charts are drawn anew in it. */
function prepareTheme(draw) {
  const root = document.documentElement;
  const button = at("theme");
  const show = () => {
    button.setAttribute("aria-pressed", String(isDark()));
    draw();
  };
  const choose = (theme) => {
    if (theme) root.dataset.theme = theme;
    else delete root.dataset.theme;
    show();
  };
  button.onclick = () => choose(isDark() ? "light" : "dark");
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  let onScreen;
  addEventListener("beforeprint", () => {
    onScreen = root.dataset.theme;
    choose("light");
  });
  addEventListener("afterprint", () => choose(onScreen));
  button.setAttribute("aria-pressed", String(isDark()));
}
