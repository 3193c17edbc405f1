// What every chart is drawn with: Chart.js in the colours of the page's style sheet.

const charts = new Map();
const SHAPES = ["circle", "rect", "triangle", "rectRot", "star"];

Chart.defaults.animation = false;
Chart.defaults.maintainAspectRatio = false;
Chart.defaults.font.family = "system-ui, sans-serif";
Chart.defaults.plugins.legend.labels.usePointStyle = true;
Chart.defaults.plugins.legend.labels.boxHeight = 7;
Chart.defaults.plugins.legend.position = "bottom";

/** A colour of the style sheet, as the theme has it now. */
function colour(name) {
  const probe = document.body.appendChild(document.createElement("i"));
  probe.style.color = `var(--${name})`;
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}

/** The same colour, partly transparent. */
function faded(value, alpha) {
  return value.replace(/^rgba?\(([^,]+),([^,]+),([^,)]+).*$/, `rgba($1,$2,$3,${alpha})`);
}

function seriesColour(i) {
  return colour(`series-${(i % 5) + 1}`);
}

/** Draw a chart in place of the one that the canvas had; the label says it in words. */
function drawChart(id, label, config) {
  charts.get(id)?.destroy();
  Chart.defaults.color = colour("quiet");
  Chart.defaults.borderColor = colour("line");
  const canvas = document.getElementById(id);
  canvas.setAttribute("aria-label", label);
  charts.set(id, new Chart(canvas, config));
}

function dropCharts() {
  for (const chart of charts.values()) chart.destroy();
  charts.clear();
}

function axis(title, more = {}) {
  return { type: "linear", title: { display: true, text: title }, ...more };
}

/** Limits of an axis of percent that has the values in its middle, with a share of their range around. */
function limitsAround(values, around = 1 / 3) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const margin = Math.max(3, around * (high - low));
  return {
    min: Math.max(0, 5 * Math.floor((low - margin) / 5)),
    max: Math.min(100, 5 * Math.ceil((high + margin) / 5)),
  };
}
