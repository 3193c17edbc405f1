// Accuracy against time: a point for each method, with its name.

const NAME_HEIGHT = 14;

/** The points that no other point is both faster and better than, the fastest first. */
function frontOf(points) {
  let highest = -Infinity;
  return [...points].sort((a, b) => a.x - b.x || b.y - a.y).filter(({ y }) => {
    const isHigher = y > highest;
    highest = Math.max(highest, y);
    return isHigher;
  });
}

/** Places for a name of this width around a point, the nearest first. */
function placesAround({ x, y }, width) {
  return [0, 1, 2].flatMap((ring) => {
    const [across, up] = [9 + 12 * ring, 12 + NAME_HEIGHT * ring];
    const [right, left] = [x + across, x - across - width];
    const corners = [[right, y], [left, y], [x - width / 2, y - up], [x - width / 2, y + up],
      [right, y - up], [right, y + up], [left, y - up], [left, y + up]];
    return corners.map(([start, middle]) => ({ left: start, right: start + width,
      top: middle - NAME_HEIGHT / 2, bottom: middle + NAME_HEIGHT / 2 }));
  });
}

function overlap(a, b) {
  return a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
}

/** A place for each name, where there is one that covers no point and no other name. */
function placeNames(items, area) {
  const taken = items.map(({ x, y }) => ({ left: x - 6, right: x + 6, top: y - 6, bottom: y + 6 }));
  return items.map((item) => {
    const box = placesAround(item, item.width).find((place) =>
      place.left >= area.left && place.right <= area.right && place.top >= area.top
      && place.bottom <= area.bottom && taken.every((other) => !overlap(place, other)));
    if (box) taken.push(box);
    return box ?? null;
  });
}

/** A plugin that writes the names of points beside them, and tells how many have no place. */
function pointNames(tellUnnamed) {
  return {
    id: "point-names",
    afterDatasetsDraw(chart) {
      const { ctx, chartArea } = chart;
      const items = chart.data.datasets.flatMap(({ data }, i) => (chart.isDatasetVisible(i)
        ? data.flatMap(({ name, y }, place) => (name === undefined ? []
          : [{ name, value: y, ...chart.getDatasetMeta(i).data[place].getProps(["x", "y"]) }])) : []));
      ctx.save();
      ctx.font = "12px system-ui, sans-serif";
      ctx.textBaseline = "middle";
      ctx.lineWidth = 3;
      ctx.lineJoin = "round";
      // The best are named first.
      items.sort((a, b) => b.value - a.value);
      for (const item of items) item.width = ctx.measureText(item.name).width + 4;
      const boxes = placeNames(items, chartArea);
      boxes.forEach((box, i) => {
        if (!box) return;
        const { x, y, name } = items[i];
        const [edge, middle] = [Math.max(box.left, Math.min(box.right, x)), (box.top + box.bottom) / 2];
        if (Math.hypot(edge - x, middle - y) > 16) {
          ctx.lineWidth = 1;
          ctx.strokeStyle = colour("control");
          ctx.beginPath();
          ctx.moveTo(x, y);
          ctx.lineTo(edge, middle);
          ctx.stroke();
        }
        ctx.lineWidth = 3;
        ctx.strokeStyle = colour("paper");
        ctx.fillStyle = colour("ink");
        ctx.strokeText(name, box.left + 2, middle);
        ctx.fillText(name, box.left + 2, middle);
      });
      ctx.restore();
      tellUnnamed(boxes.filter((box) => !box).length);
    },
  };
}

/** Methods of one kind: their colour and shape is that of no other of the first 25 kinds. */
function kindSeries(kind, i, points) {
  const item = seriesColour(i + Math.floor(i / 5));
  return {
    label: kind || "other",
    data: points,
    pointStyle: SHAPES[i % SHAPES.length],
    pointRadius: 5,
    pointHoverRadius: 9,
    borderWidth: 2,
    borderColor: item,
    backgroundColor: item,
  };
}

function frontSeries(points) {
  return {
    type: "line",
    label: "no other is both faster and better",
    data: frontOf(points).map(({ x, y }) => ({ x, y })),
    stepped: "before",
    borderColor: colour("control"),
    backgroundColor: colour("control"),
    borderDash: [5, 4],
    borderWidth: 1.5,
    pointStyle: "line",
    pointRadius: 0,
    pointHitRadius: 0,
    order: 1,
  };
}

/** An axis of seconds, logarithmic, with marks at 1, 2 and 5 of each power of ten. */
function secondsAxis(points) {
  const seconds = points.map(({ x }) => x);
  return axis("seconds of a run", {
    type: "logarithmic",
    min: Math.min(...seconds) / 1.7,
    max: Math.max(...seconds) * 1.7,
    afterBuildTicks(scale) {
      const powers = Array.from({ length: 13 }, (_, i) => 10 ** (i - 4));
      scale.ticks = powers.flatMap((power) => [1, 2, 5].map((digit) => ({ value: digit * power })))
        .filter(({ value }) => value >= scale.min && value <= scale.max);
    },
    ticks: { callback: (value) => String(Number(value.toPrecision(3))) },
  });
}

/**
 * Draw the points: x are seconds, y percent; each has a name, a kind and lines of text.
 * Kinds keep their colours whichever of them are shown.
 */
function drawScatter(points, kinds, { label, title, tellUnnamed }) {
  const groups = kinds.map((kind, i) => kindSeries(kind, i, points.filter((point) => point.kind === kind)));
  const percents = axis(title, {
    ...limitsAround(points.map(({ y }) => y), 1 / 12),
    ticks: { includeBounds: false },
  });
  drawChart("scatter", label, {
    type: "scatter",
    data: { datasets: [...groups.filter(({ data }) => data.length), frontSeries(points)] },
    plugins: [pointNames(tellUnnamed)],
    options: {
      scales: { x: secondsAxis(points), y: percents },
      plugins: {
        tooltip: {
          filter: ({ raw }) => raw.name !== undefined,
          callbacks: {
            title: (items) => items.map(({ raw }) => raw.name).join(", "),
            label: ({ raw }) => raw.lines,
          },
        },
      },
    },
  });
}

/** Show a point as if the pointer were on it. */
function pointAt(wanted) {
  const chart = charts.get("scatter");
  const places = chart.data.datasets.flatMap(({ data }, datasetIndex) =>
    data.map((point, index) => ({ point, datasetIndex, index })));
  const found = places.filter(({ point }) => point === wanted);
  const active = found.map(({ datasetIndex, index }) => ({ datasetIndex, index }));
  chart.setActiveElements(active);
  chart.tooltip.setActiveElements(active, { x: 0, y: 0 });
  chart.update();
}
