// Tables whose columns sort them.

/** Falling for numbers, of which missing ones are always last; equal ones stay in their order. */
function sortRows(rows, value, isRising) {
  const isMissing = (item) => item === null || item === undefined || item === "";
  const compare = (a, b) => (typeof a === "number" ? a - b
    : a.localeCompare(b, "en", { sensitivity: "base", numeric: true }));
  return [...rows].sort((first, second) => {
    const [a, b] = [value(first), value(second)];
    if (isMissing(a) || isMissing(b)) return isMissing(a) - isMissing(b);
    return isRising ? compare(a, b) : compare(b, a);
  });
}

/**
 * A table that is sorted by the column whose heading is pressed, and the other way when pressed again.
 *
 * A column has a `key`, a `name`, a `value` of a row (null where there is none), and may have a
 * `cell` of a row, a second line `below` its name, and say that it `isNumber` or that its `lowestFirst`.
 * `wide` of a row is a text in place of all its columns that say that they are `isOfCell`, or null.
 */
function sortableTable(id, sortedBy, wide = () => null) {
  const table = at(id);
  let [columns, rows, order] = [[], [], { key: sortedBy, isRising: null }];

  const startsRising = (column) => !column.isNumber || Boolean(column.lowestFirst);
  const current = () => columns.find(({ key }) => key === order.key) ?? columns[0];
  const isRising = () => order.isRising ?? startsRising(current());

  function heading(column) {
    const button = element("button");
    button.type = "button";
    button.dataset.key = column.key;
    button.append(element("span", column.name, "name"));
    if (column.below) button.append(element("small", column.below));
    if (column.description) button.title = column.description;
    button.onclick = () => {
      order = { key: column.key, isRising: current() === column ? !isRising() : startsRising(column) };
      draw();
      [...table.querySelectorAll("thead button")].find((item) => item.dataset.key === column.key).focus();
    };
    return button;
  }

  function cellsOf(row) {
    const sentence = wide(row);
    const shown = columns.filter(({ isOfCell }) => !sentence || !isOfCell);
    const cells = shown.map(({ cell, value }) => (cell ? cell(row) : value(row) ?? ""));
    return sentence ? [...cells, sentence] : cells;
  }

  function draw() {
    const sorted = sortRows(rows, current().value, isRising());
    const headings = columns.map((column) => ({ name: heading(column), isNumber: column.isNumber }));
    fillTable(table, headings, sorted.map(cellsOf), { classes: sorted.map(({ className }) => className) });
    const place = columns.indexOf(current());
    table.tHead.rows[0].cells[place].setAttribute("aria-sort", isRising() ? "ascending" : "descending");
  }

  return {
    show(newColumns, newRows) {
      [columns, rows] = [newColumns, newRows];
      draw();
    },
  };
}
