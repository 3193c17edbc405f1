// The confusion matrix: a canvas that is moved and zoomed by pointer, wheel, buttons and keys.

const SMALLEST_VIEW = 4; // classes across
const NAMED_CELL = 10; // pixels from which on lines and columns have their names

/** Make a canvas a matrix view; tells `onCell` of the cell that is pointed at, `onOpen` of one that is pressed. */
function matrixView(canvas, onCell, onOpen) {
  const context = canvas.getContext("2d");
  let [counts, classes, totals, seen] = [null, [], [], 0];
  let view = { x: 0, y: 0, size: 1 }; // in classes: left, top, and how many are across
  let cursor = { row: 0, column: 0 };
  let frame = { gutter: 0, area: 0, cell: 0 };
  let ramps = null;
  let drag = null;

  const clamp = (value, low, high) => Math.max(low, Math.min(high, value));

  /** Shades from one colour of the style sheet to another, each with the text colour it bears. */
  function ramp(low, high) {
    const [from, to, ink, paper] = [low, high, "ink", "paper"].map(channels);
    return Array.from({ length: 65 }, (_, i) => {
      const shade = from.map((value, j) => Math.round(value + ((to[j] - value) * i) / 64));
      const text = contrast(shade, ink) >= contrast(shade, paper) ? ink : paper;
      return { fill: `rgb(${shade.join(",")})`, text: `rgb(${text.join(",")})` };
    });
  }

  function settle() {
    const n = classes.length;
    view.size = clamp(view.size, Math.min(SMALLEST_VIEW, n), n);
    view.x = clamp(view.x, 0, n - view.size);
    view.y = clamp(view.y, 0, n - view.size);
    canvas.style.touchAction = view.size < n ? "none" : "pan-y";
  }

  function draw() {
    const width = canvas.clientWidth;
    if (!width || !counts) return;
    settle();
    const gutter = gutterIn(width);
    const area = width - gutter - 1;
    const ratio = devicePixelRatio || 1;
    const cell = area / view.size;
    frame = { gutter, area, cell };
    canvas.style.height = `${width}px`;
    canvas.width = canvas.height = Math.round(width * ratio);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, width);
    context.save();
    context.beginPath();
    context.rect(gutter, gutter, area, area);
    context.clip();
    context.fillStyle = colour("cell");
    context.fillRect(gutter, gutter, area, area);
    drawCells();
    drawLines();
    context.restore();
    if (cell >= NAMED_CELL) drawNames();
    else drawKinds();
  }

  /** Room for names where the cells are large enough for them, else for what kind they are. */
  function gutterIn(width) {
    const most = width < 520 ? 84 : 150;
    if ((width - most) / view.size < NAMED_CELL) return 84;
    context.font = "bold 13px system-ui, sans-serif";
    return Math.min(most, 12 + Math.max(...classes.map(({ name }) => context.measureText(name).width)));
  }

  const left = (column) => frame.gutter + (column - view.x) * frame.cell;
  const top = (row) => frame.gutter + (row - view.y) * frame.cell;
  const range = (from) => {
    const last = Math.min(classes.length, Math.ceil(from + view.size));
    return Array.from({ length: last - Math.floor(from) }, (_, i) => Math.floor(from) + i);
  };

  function drawCells() {
    const { cell } = frame;
    const edge = cell > 8 ? 1 : 0;
    context.font = `${Math.min(13, cell / 2.6)}px system-ui, sans-serif`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    const inView = (c, from) => c + 1 > from && c < from + view.size;
    for (const [place, rows] of counts) {
      const [row, column] = [Math.floor(place / classes.length), place % classes.length];
      if (!inView(row, view.y) || !inView(column, view.x)) continue;
      const share = rows / totals[row];
      const shade = Math.round(12 + 52 * Math.sqrt(share)); // so that rare mistakes are seen, too
      const { fill, text } = (row === column ? ramps.right : ramps.wrong)[shade];
      context.fillStyle = fill;
      context.fillRect(left(column), top(row), cell - edge, cell - edge);
      if (cell >= 26) {
        context.fillStyle = text;
        context.fillText(fixed(100 * share, 0), left(column) + cell / 2, top(row) + cell / 2);
      }
    }
  }

  function drawLines() {
    const { gutter, area, cell } = frame;
    context.strokeStyle = colour("control");
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(left(seen), gutter);
    context.lineTo(left(seen), gutter + area);
    context.moveTo(gutter, top(seen));
    context.lineTo(gutter + area, top(seen));
    context.stroke();
    context.strokeStyle = colour("ink");
    context.lineWidth = 2;
    context.strokeRect(left(cursor.column) - 1, top(cursor.row) - 1, cell + 1, cell + 1);
  }

  /** Text at a line's start or, turned, above a column, cut to what the gutter holds. */
  function write(text, place, turned) {
    const room = frame.gutter - 10;
    let shown = text;
    while (shown.length > 2 && context.measureText(shown).width > room) {
      shown = `${shown.slice(0, shown.endsWith("…") ? -2 : -1)}…`;
    }
    context.save();
    if (turned) {
      context.translate(place, frame.gutter - 5);
      context.rotate(-Math.PI / 2);
      context.textAlign = "left";
    } else {
      context.translate(frame.gutter - 5, place);
      context.textAlign = "right";
    }
    context.fillText(shown, 0, 0);
    context.restore();
  }

  function drawNames() {
    const size = Math.min(13, 0.9 * frame.cell);
    context.textBaseline = "middle";
    for (const [turned, from, place] of [[false, view.y, top], [true, view.x, left]]) {
      for (const c of range(from)) {
        const middle = place(c) + frame.cell / 2;
        if (middle < frame.gutter || middle > frame.gutter + frame.area) continue;
        const item = c === (turned ? cursor.column : cursor.row);
        context.font = `${item ? "bold " : ""}${size}px system-ui, sans-serif`;
        context.fillStyle = colour(classes[c].seen ? "seen" : "unseen");
        write(classes[c].name, middle, turned);
      }
    }
  }

  /** Which lines and columns are of seen and of unseen classes, where there is no room for names. */
  function drawKinds() {
    const { gutter, area } = frame;
    context.textBaseline = "middle";
    context.font = "13px system-ui, sans-serif";
    for (const [turned, place] of [[false, top], [true, left]]) {
      for (const [kind, from, to] of [["seen", 0, seen], ["unseen", seen, classes.length]]) {
        const [low, high] = [from, to].map((c) => clamp(place(c), gutter, gutter + area));
        if (high - low < 14) continue;
        context.fillStyle = colour(kind);
        write(`${to - from} ${kind}`, (low + high) / 2, turned);
      }
    }
  }

  function zoom(factor, at) {
    const size = clamp(view.size * factor, Math.min(SMALLEST_VIEW, classes.length), classes.length);
    // The class at this place stays where it is.
    view.x = at.column - ((at.column - view.x) * size) / view.size;
    view.y = at.row - ((at.row - view.y) * size) / view.size;
    view.size = size;
    draw();
  }

  function show(row, column) {
    const n = classes.length;
    cursor = { row: clamp(row, 0, n - 1), column: clamp(column, 0, n - 1) };
    view.x = clamp(view.x, cursor.column + 1 - view.size, cursor.column);
    view.y = clamp(view.y, cursor.row + 1 - view.size, cursor.row);
    draw();
    tell();
  }

  function tell() {
    const place = classes.length * cursor.row + cursor.column;
    onCell(cursor.row, cursor.column, counts.get(place) ?? 0);
  }

  function placeOf(event) {
    const box = canvas.getBoundingClientRect();
    return {
      column: view.x + (event.clientX - box.left - frame.gutter) / frame.cell,
      row: view.y + (event.clientY - box.top - frame.gutter) / frame.cell,
    };
  }

  /** Point at the cell where an event is; false if there is none. */
  function pointAt(event) {
    const place = placeOf(event);
    const [row, column] = [Math.floor(place.row), Math.floor(place.column)];
    if (Math.min(row, column) < 0 || Math.max(row, column) >= classes.length) return false;
    if (row !== cursor.row || column !== cursor.column) {
      cursor = { row, column };
      draw();
      tell();
    }
    return true;
  }

  function middle() {
    return { row: cursor.row + 0.5, column: cursor.column + 0.5 };
  }

  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = event.shiftKey ? 10 : 1;
    const { row, column } = cursor;
    const act = {
      ArrowUp: () => show(row - step, column),
      ArrowDown: () => show(row + step, column),
      ArrowLeft: () => show(row, column - step),
      ArrowRight: () => show(row, column + step),
      Home: () => show(row, 0),
      End: () => show(row, classes.length - 1),
      "+": () => zoom(1 / 1.5, middle()),
      "=": () => zoom(1 / 1.5, middle()),
      "-": () => zoom(1.5, middle()),
      0: () => all(),
      Enter: () => onOpen(row, column),
    }[event.key];
    if (act) {
      act();
      event.preventDefault();
    }
  });
  canvas.addEventListener("wheel", (event) => {
    // Without the key the page scrolls, unless the matrix is what one works with.
    if (!event.ctrlKey && document.activeElement !== canvas) return;
    event.preventDefault();
    zoom(event.deltaY > 0 ? 1.2 : 1 / 1.2, placeOf(event));
  }, { passive: false });
  canvas.addEventListener("dblclick", (event) => zoom(1 / 2, placeOf(event)));
  canvas.addEventListener("pointerdown", (event) => {
    drag = { x: event.clientX, y: event.clientY, view: { ...view } };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointerup", (event) => {
    const still = drag && Math.hypot(event.clientX - drag.x, event.clientY - drag.y) < 4;
    drag = null;
    if (still && pointAt(event)) onOpen(cursor.row, cursor.column);
  });
  canvas.addEventListener("pointercancel", () => { drag = null; });
  canvas.addEventListener("pointermove", (event) => {
    if (drag && view.size < classes.length) {
      view.x = drag.view.x - (event.clientX - drag.x) / frame.cell;
      view.y = drag.view.y - (event.clientY - drag.y) / frame.cell;
      draw();
      return;
    }
    pointAt(event);
  });
  new ResizeObserver(draw).observe(canvas.parentElement);

  function all() {
    view = { x: 0, y: 0, size: classes.length };
    draw();
  }

  return {
    /** Show other counts, and from the beginning if they are of other classes. */
    set(newCounts, newClasses) {
      counts = newCounts;
      ramps = { right: ramp("cell", "right"), wrong: ramp("cell", "wrong") };
      if (classes !== newClasses) {
        classes = newClasses;
        totals = classes.map(({ rows }) => rows);
        seen = classes.filter((item) => item.seen).length;
        cursor = { row: 0, column: 0 };
        all();
      }
      draw();
      tell();
    },
    all,
    /** Show the unseen classes alone. */
    unseen() {
      view = { x: seen, y: seen, size: classes.length - seen };
      show(Math.max(cursor.row, seen), Math.max(cursor.column, seen));
    },
    zoom: (factor) => zoom(factor, {
      row: view.y + view.size / 2, column: view.x + view.size / 2,
    }),
    /** Show a class and some neighbours. */
    find(c) {
      const size = Math.min(classes.length, 20);
      view = { x: c - size / 2, y: c - size / 2, size };
      show(c, c);
    },
    shown: () => ({ ...view, ...cursor }),
  };
}
