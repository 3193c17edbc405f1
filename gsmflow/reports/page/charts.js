// The charts of a run, drawn by Chart.js in the colours of the page's style sheet.

const DASHES = [[], [7, 3], [2, 3], [9, 3, 2, 3], [14, 4]];

/** Red, green and blue of a colour of the style sheet. */
function channels(name) {
  return colour(name).match(/[\d.]+/g).slice(0, 3).map(Number);
}

/** Contrast of two colours as WCAG 2 defines it, from 1 to 21. */
function contrast(...pair) {
  const [darker, lighter] = pair.map((rgb) => {
    const [r, g, b] = rgb.map((value) => value / 255)
      .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  }).sort((a, b) => a - b);
  return (lighter + 0.05) / (darker + 0.05);
}

/** Colours of n classes, neighbours far apart, all as dark or as light as the theme asks. */
function classColours(n) {
  const dark = isDark();
  const [lightness, chroma] = dark ? [0.78, 0.13] : [0.55, 0.15];
  return Array.from({ length: n }, (_, i) =>
    oklch(lightness, chroma, (i * 137.508) % 360));
}

/** A colour of Björn Ottosson's perceptual space OKLCH (2020) in sRGB. */
function oklch(lightness, chroma, hue) {
  const [a, b] = [Math.cos, Math.sin].map((f) => chroma * f((hue * Math.PI) / 180));
  const [l, m, s] = [
    lightness + 0.3963377774 * a + 0.2158037573 * b,
    lightness - 0.1055613458 * a - 0.0638541728 * b,
    lightness - 0.0894841775 * a - 1.291485548 * b,
  ].map((root) => root ** 3);
  const linear = [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
  ].map((value) => Math.min(1, Math.max(0, value)));
  const bytes = linear.map((value) =>
    Math.round(255 * (value <= 0.0031308 ? 12.92 * value : 1.055 * value ** (1 / 2.4) - 0.055)));
  return `rgb(${bytes.join(", ")})`;
}

function percentAxis(title) {
  return axis(title, { min: 0, max: 100 });
}

/** A series of a line chart. */
function line(i, label, points, more = {}) {
  const item = seriesColour(i);
  return {
    label,
    data: points,
    borderColor: item,
    backgroundColor: item,
    borderDash: DASHES[i % DASHES.length],
    pointStyle: SHAPES[i % SHAPES.length],
    pointRadius: points.length > 40 ? 0 : 3,
    borderWidth: 2,
    borderJoinStyle: "round",
    ...more,
  };
}

function pointsOf(xs, ys, factor = 1) {
  return Array.from(xs, (x, i) => ({ x, y: factor * ys[i] }));
}

/**
 * S over U: a line for each method, its points of the table, and where gamma is now.
 * A close-up has the points of the table in its middle.
 */
function drawCurve(part, order, closeUp) {
  const methods = order.filter((name) => part.points.some((point) => point.method === name));
  const lines = methods.flatMap((method, i) => {
    const item = (part.curves ?? []).find((curve) => curve.method === method);
    if (!item) return [];
    const label = `${method}, area ${fixed(100 * part.areas[method])}`;
    const [u, s] = [unpack(item.U), unpack(item.S)];
    const points = Array.from(u, (value, j) => ({ x: 100 * value, y: 100 * s[j] }));
    const more = { pointRadius: 0, pointHitRadius: 4, showLine: true, pointStyle: "line" };
    return [line(i, label, points, more)];
  });
  const marks = [[false, "not calibrated", "circle"], [true, "calibrated on validation classes", "rectRot"]];
  const markers = marks.map(([calibrated, label, pointStyle]) => {
    const item = part.points.filter((point) => point.calibrated === calibrated);
    const fills = item.map((point) => seriesColour(methods.indexOf(point.method)));
    return {
      label,
      pointStyle,
      data: item.map((point) => ({ x: 100 * point.U, y: 100 * point.S, method: point.method })),
      pointRadius: calibrated ? 7 : 5,
      pointHoverRadius: 8,
      backgroundColor: fills,
      borderColor: colour("paper"),
      order: -1,
    };
  }).filter((markers) => markers.data.length);
  const now = {
    label: "the gamma set here",
    data: [],
    pointStyle: "circle",
    pointRadius: 10,
    pointHoverRadius: 10,
    borderWidth: 3,
    borderColor: colour("ink"),
    backgroundColor: "transparent",
    order: -2,
  };
  const limits = (side) => (closeUp
    ? limitsAround(part.points.map((point) => 100 * point[side])) : { min: 0, max: 100 });
  drawChart("curve", `Curves of S over U of ${methods.join(", ")}`, {
    type: "scatter",
    data: { datasets: [...lines, ...markers, ...(part.answers ? [now] : [])] },
    options: {
      scales: { x: axis("U, percent", limits("U")), y: axis("S, percent", limits("S")) },
      plugins: {
        legend: { labels: { sort: (a, b) => a.datasetIndex - b.datasetIndex } },
        tooltip: {
          callbacks: {
            label: ({ dataset, raw }) =>
              `${raw.method ?? ""} ${dataset.label}: U ${fixed(raw.x)}, S ${fixed(raw.y)}`.trim(),
          },
        },
      },
    },
  });
}

/** Move the ring of the curve chart. */
function moveOnCurve({ U, S }) {
  const chart = charts.get("curve");
  const now = chart?.data.datasets.find((item) => item.label === "the gamma set here");
  if (!now) return;
  now.data = [{ x: 100 * U, y: 100 * S }];
  chart.update();
}

/** Accuracy over the probability of the answers, of seen and of unseen rows, and the diagonal. */
function drawReliability(sides) {
  const datasets = sides.map(({ name, bins }, i) => {
    const points = bins.map((bin) => ({ x: 100 * bin.probability, y: 100 * bin.accuracy, rows: bin.rows }));
    return line(i, `${name} rows`, points, { showLine: true, pointRadius: 4, pointHitRadius: 6 });
  });
  const diagonal = {
    ...line(0, "as it says", [{ x: 0, y: 0 }, { x: 100, y: 100 }]),
    showLine: true,
    pointRadius: 0,
    pointHitRadius: 0,
    pointStyle: "line",
    borderWidth: 1,
    borderColor: colour("quiet"),
    borderDash: [4, 4],
  };
  drawChart("reliability-chart", "Accuracy over the probability of the answers", {
    type: "scatter",
    data: { datasets: [...datasets, diagonal] },
    options: {
      scales: { x: percentAxis("probability of the answer, percent"), y: percentAxis("right, percent") },
      plugins: {
        tooltip: {
          callbacks: {
            label: ({ dataset, raw }) =>
              `${dataset.label}: probability ${fixed(raw.x)}, right ${fixed(raw.y)}, ${raw.rows} rows`,
          },
        },
      },
    },
  });
}

/** A plugin that draws the standard deviation of each point that has one, down and up from it. */
const whiskers = {
  id: "whiskers",
  beforeDatasetsDraw(chart) {
    const { ctx, chartArea, scales: { y: scale } } = chart;
    Chart.helpers.clipArea(ctx, chartArea); // it may reach beyond 100 percent
    ctx.lineWidth = 1.5;
    chart.data.datasets.forEach(({ data, borderColor }, i) => {
      if (!chart.isDatasetVisible(i)) return;
      ctx.strokeStyle = borderColor;
      ctx.beginPath();
      data.forEach(({ y, std }, place) => {
        if (!std) return;
        const { x } = chart.getDatasetMeta(i).data[place];
        const [low, high] = [y - std, y + std].map((value) => scale.getPixelForValue(value));
        ctx.moveTo(x, low);
        ctx.lineTo(x, high);
        for (const end of [low, high]) {
          ctx.moveTo(x - 4, end);
          ctx.lineTo(x + 4, end);
        }
      });
      ctx.stroke();
    });
    Chart.helpers.unclipArea(ctx);
  },
};

/** Measures over the number k of labelled rows, of which each doubling is one step. */
function drawShots(id, label, series, limits) {
  const place = (k) => Math.log2(1 + k);
  const shots = [...new Set(series.flatMap(({ points }) => points.map(({ k }) => k)))];
  const [first, last] = [Math.min(...shots), Math.max(...shots)].map(place);
  const margin = (last - first) / 20 || 1;
  const datasets = series.map(({ name, points }, i) => {
    const aside = (margin / 4) * (i - (series.length - 1) / 2); // or one would hide another
    const data = points.map((item) => ({ ...item, x: place(item.k) + aside, y: item.mean }));
    return line(i, name, data, { showLine: true, pointRadius: 3, pointHitRadius: 6 });
  });
  const ticks = {
    afterBuildTicks: (item) => { item.ticks = shots.map((k) => ({ value: place(k) })); },
    ticks: { callback: (value) => Math.round(2 ** value - 1) },
    min: first - margin,
    max: last + margin,
  };
  drawChart(id, label, {
    type: "scatter",
    data: { datasets },
    plugins: [whiskers],
    options: {
      scales: { x: axis("k, labelled rows of each unseen class", ticks), y: axis("percent", limits) },
      plugins: {
        tooltip: {
          callbacks: { label: ({ dataset, raw }) => `${dataset.label}, k = ${raw.k}: ${raw.text}` },
        },
      },
    },
  });
}

/** Losses by epoch, on the axes that the document names: the first left, all others right. */
function drawHistory(history, axes) {
  const { epoch, ...losses } = history;
  const names = Object.keys(losses);
  const scales = { x: axis("epoch", { ticks: { precision: 0 } }) };
  const idOf = (i) => (i ? `y${i}` : "y");
  axes.forEach(({ title, logarithmic }, i) => {
    scales[idOf(i)] = axis(title, {
      type: logarithmic ? "logarithmic" : "linear",
      position: i ? "right" : "left",
      grid: { drawOnChartArea: i === 0 },
    });
  });
  const datasets = names.map((name, i) => {
    const known = pointsOf(epoch, losses[name]).filter((_, j) => losses[name][j] !== null);
    return line(i, name, known, {
      yAxisID: idOf(axes.findIndex(({ parts }) => parts.includes(name))),
      // Colours repeat after as many series as there are dashes: the same pair must not.
      borderDash: DASHES[(i + Math.floor(i / DASHES.length)) % DASHES.length],
    });
  });
  drawChart("history", `Losses by epoch: ${names.join(", ")}`, {
    type: "line", data: { datasets }, options: { scales },
  });
}

/** Measures on validation classes by epoch. */
function drawValidation(curve) {
  const { epoch, ...measures } = curve;
  const datasets = Object.entries(measures).map(([label, values], i) =>
    line(i, label, pointsOf(epoch, values, 100)));
  drawChart("validation", `${Object.keys(measures).join(", ")} on validation classes by epoch`, {
    type: "line",
    data: { datasets },
    options: { scales: { x: axis("epoch", { ticks: { precision: 0 } }), y: percentAxis("percent") } },
  });
}

/** A plugin that writes texts at their places, moved a little where another text stands. */
function nameWriter(texts) {
  const height = 14;
  return {
    id: "names",
    afterDatasetsDraw({ ctx, scales: { x, y }, chartArea }) {
      const taken = [];
      const isFree = (box) => taken.every((other) =>
        box.left > other.right || box.right < other.left || Math.abs(box.y - other.y) > height);
      ctx.save();
      ctx.font = "12px system-ui, sans-serif";
      ctx.textAlign = "center";
      ctx.textBaseline = "middle";
      ctx.lineWidth = 4;
      ctx.lineJoin = "round";
      ctx.strokeStyle = colour("paper");
      ctx.fillStyle = colour("ink");
      for (const { text, x: across, y: up } of texts) {
        const half = ctx.measureText(text).width / 2 + 2;
        const middle = Math.max(chartArea.left + half,
          Math.min(chartArea.right - half, x.getPixelForValue(across)));
        const box = [0, -1, 1, -2, 2, -3, 3, -4, 4]
          .map((lines) => ({ left: middle - half, right: middle + half, y: y.getPixelForValue(up) + lines * height }))
          .find(isFree);
        if (!box) continue; // too crowded: the menu and the pointer name it
        taken.push(box);
        ctx.strokeText(text, middle, box.y);
        ctx.fillText(text, middle, box.y);
      }
      ctx.restore();
    },
  };
}

/** The map: discs are real rows, triangles synthesized; one class may stand out. */
function drawMap(map, names, chosen, named, onPick) {
  const colours = classColours(names.length);
  const [away, ink] = [faded(colour("control"), 0.25), colour("ink")];
  const order = map.labels.map((_, i) => i);
  const groups = [
    ["real rows", order.filter((i) => i < map.real), "circle"],
    ["synthesized", order.filter((i) => i >= map.real), "triangle"],
  ];
  const datasets = groups.map(([label, rows, pointStyle]) => {
    const last = (i) => (map.labels[i] === chosen ? 1 : 0); // what stands out is drawn last
    const item = [...rows].sort((a, b) => last(a) - last(b));
    const shades = item.map((i) =>
      chosen === null || map.labels[i] === chosen ? colours[map.labels[i]] : away);
    return {
      label,
      pointStyle,
      data: item.map((i) => ({ x: map.x[i], y: map.y[i], c: map.labels[i] })),
      pointRadius: pointStyle === "circle" ? 3 : 4,
      pointHoverRadius: 7,
      borderColor: shades,
      backgroundColor: pointStyle === "circle" ? shades : "transparent",
      pointHoverBackgroundColor: shades,
      pointHoverBorderColor: ink,
    };
  });
  const [x, y] = [map.x, map.y].map((values, i) => {
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const margin = (high - low) / 40 || 1;
    return axis(map.axes[i], {
      min: low - margin, max: high + margin, ticks: { display: false }, grid: { display: false },
    });
  });
  const wanted = names.map((_, c) => c).filter((c) => (chosen === null ? named : c === chosen));
  drawChart("map-canvas", `${map.method} of real and synthesized features of ${names.length} unseen classes`, {
    type: "scatter",
    data: { datasets },
    plugins: [nameWriter(wanted.map((c) => ({ text: names[c], ...map.means[c].real })))],
    options: {
      scales: { x, y },
      plugins: {
        legend: {
          labels: {
            generateLabels: (chart) => groups.map(([text, , pointStyle], i) => ({
              text,
              pointStyle,
              datasetIndex: i,
              fontColor: colour("quiet"),
              strokeStyle: ink,
              fillStyle: pointStyle === "circle" ? ink : "transparent",
              hidden: !chart.isDatasetVisible(i),
            })),
          },
        },
        tooltip: { callbacks: { label: ({ dataset, raw }) => `${names[raw.c]}, ${dataset.label}` } },
      },
      onClick: (event, elements, chart) => {
        if (elements.length) {
          const { datasetIndex, index } = elements[0];
          onPick(chart.data.datasets[datasetIndex].data[index].c);
        }
      },
    },
  });
}

/** Consistency of each unseen class with rows, the least consistent last. */
function drawConsistency(shifts, names) {
  const order = names.map((_, c) => c).filter((c) => shifts[0].consistency[c] !== null)
    .sort((a, b) => shifts[1].consistency[b] - shifts[1].consistency[a]);
  const datasets = shifts.map(({ method, consistency }, i) => {
    const item = i ? seriesColour(i - 1) : colour("quiet");
    return {
      label: method || "real rows",
      data: order.map((c, place) => ({ x: 100 * consistency[c], y: place, c })),
      pointStyle: i ? SHAPES[i - 1] : "line",
      rotation: i ? 0 : 90,
      pointRadius: i ? 5 : 7,
      borderWidth: 2,
      borderColor: item,
      backgroundColor: item,
    };
  });
  document.getElementById("consistency-box").style.height = `${20 * order.length + 110}px`;
  const shorten = (name) => (name.length > 22 ? `${name.slice(0, 21)}…` : name);
  drawChart("consistency", "Consistency of each unseen class, real rows and synthesized samples", {
    type: "scatter",
    data: { datasets },
    options: {
      scales: {
        x: axis("percent nearest to their item class", { min: -2, max: 102, position: "top", afterBuildTicks: (item) => { item.ticks = [0, 25, 50, 75, 100].map((value) => ({ value })); } }),
        y: {
          reverse: true,
          min: -0.5,
          max: order.length - 0.5,
          afterBuildTicks: (item) => { item.ticks = order.map((_, value) => ({ value })); },
          ticks: { autoSkip: false, callback: (place) => shorten(names[order[place]]) },
        },
      },
      plugins: {
        legend: { position: "top" },
        tooltip: { callbacks: { label: ({ dataset, raw }) => `${names[raw.c]}, ${dataset.label}: ${fixed(raw.x)} %` } },
      },
    },
  });
}

/** Synthesized over real variance within each class. */
function drawVariances(shifts, classes) {
  const real = shifts[0].variances;
  const known = (item) => classes.map((_, c) => c).filter((c) => real[c] > 0 && item[c] > 0);
  const datasets = shifts.slice(1).flatMap(({ method, variances }, i) =>
    [true, false].map((seen) => ({
      label: `${method}, ${seen ? "seen" : "unseen"}`,
      data: known(variances).filter((c) => classes[c].seen === seen)
        .map((c) => ({ x: real[c], y: variances[c], c })),
      pointStyle: SHAPES[i],
      pointRadius: 4,
      borderColor: seriesColour(i),
      backgroundColor: seen ? "transparent" : seriesColour(i),
    })));
  const values = datasets.flatMap(({ data }) => data.flatMap(({ x, y }) => [x, y]));
  if (!values.length) return;
  const [min, max] = [Math.min(...values) / 1.1, Math.max(...values) * 1.1];
  const equal = {
    label: "equal",
    data: [{ x: min, y: min }, { x: max, y: max }],
    showLine: true,
    pointRadius: 0,
    pointStyle: "line",
    borderColor: colour("control"),
    borderWidth: 1,
  };
  const logarithmic = (title) => axis(title, { type: "logarithmic", min, max, ticks: { maxTicksLimit: 6, callback: (value) => Number(value.toPrecision(2)) } });
  drawChart("variances", "Variance within each class, synthesized over real", {
    type: "scatter",
    data: { datasets: [...datasets, equal] },
    options: {
      scales: { x: logarithmic("real rows"), y: logarithmic("synthesized samples") },
      plugins: {
        tooltip: {
          callbacks: {
            label: ({ dataset, raw }) =>
              raw.c === undefined ? dataset.label
                : `${classes[raw.c].name}, ${dataset.label}: ${fixed(raw.y / raw.x, 2)} of the real variance`,
          },
        },
      },
    },
  });
}
