// Draws the plots of a page with uPlot: values at the cursor, zoom, and a cursor that all plots share.
// The table below a plot holds its data for readers without JavaScript.
const HEIGHT = 200;
const COLOURS = 8;
const NEAR_PX = 6;
const TIME = uPlot.fmtDate("{YYYY}-{MM}-{DD} {HH}:{mm}:{ss}");
const AXIS_TIMES = [[86400, uPlot.fmtDate("{MM}/{DD}")], [60, uPlot.fmtDate("{HH}:{mm}")], [0, uPlot.fmtDate("{HH}:{mm}:{ss}")]];
const DURATIONS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400];
const shown = new Map(); // by the id of the figure: {chart, names, plot, figure}

const resizes = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const view = shown.get(target.closest("figure")?.id);
    if (view && target.clientWidth > 0) view.chart.setSize({ width: target.clientWidth, height: HEIGHT });
  }
});

/** Draws the plots of a part of the page. A plot that has the same id and series as before keeps its zoom. */
export function draw(part) {
  for (const figure of part.querySelectorAll("figure[data-plot]")) show(figure);
  for (const [id, view] of shown) {
    if (view.figure.isConnected) continue;
    view.chart.destroy();
    shown.delete(id);
  }
}

function show(figure) {
  const plot = JSON.parse(figure.dataset.plot);
  const names = plot.lines.map((line) => line.name).join("\n");
  const box = figure.querySelector(".drawn");
  const data = [Array.from({ length: plot.count }, (_, n) => plot.start + n * plot.step), ...plot.lines.map((line) => line.values)];
  let view = shown.get(figure.id);
  if (view?.names === names) {
    const { chart } = view;
    const { min, max } = chart.scales.x;
    const zoomed = min > chart.data[0].at(0) || max < chart.data[0].at(-1);
    Object.assign(view, { plot, figure });
    box.append(chart.root);
    chart.batch(() => {
      chart.setData(data, !zoomed);
      if (zoomed) chart.setScale("x", { min, max });
    });
  } else {
    view?.chart.destroy();
    view = { names, plot, figure };
    shown.set(figure.id, view);
    view.chart = new uPlot(options(view, box.clientWidth), data, box);
  }
  resizes.observe(box);
  label(view);
}

function options(view, width) {
  const { scale, lines, filled } = view.plot;
  const grid = { stroke: () => colour("--line"), width: 1 };
  const axis = { stroke: () => colour("--soft"), font: "11px system-ui, sans-serif", grid, ticks: { show: false }, gap: 6 };
  return {
    width,
    height: HEIGHT,
    padding: [8, 12, 0, 0],
    legend: { show: false },
    focus: { alpha: 0.3 },
    cursor: { y: false, sync: { key: "page" }, focus: { prox: 24 }, drag: { x: true, y: false } },
    scales: { y: { range: (_, low, high) => range(view.plot, low, high) } },
    axes: [
      { ...axis, size: 28, space: 64, values: (_chart, times, _axis, _space, step) => times.map((at) => clock(at, step)) },
      {
        ...axis,
        size: (_chart, texts) => 14 + 6.6 * Math.max(4, ...(texts ?? []).map((text) => text.length)),
        values: (_chart, values) => values.map((value) => format(value, scale)),
        ...increments(scale),
      },
    ],
    series: [
      {},
      ...lines.map((line, n) => ({
        label: line.name,
        stroke: () => colour(`--c${n % COLOURS}`),
        fill: filled ? () => `${colour(`--c${n % COLOURS}`)}17` : undefined,
        width: 1.8,
        points: { show: true, size: 4, filter: lonely },
      })),
    ],
    hooks: { draw: [lineMarks(view)], setCursor: [() => label(view)], setSeries: [() => label(view)] },
  };
}

/** Indices of points without a neighbour, which no line reaches. */
function lonely(chart, series) {
  const values = chart.data[series];
  return values.flatMap((value, n) => (value != null && values[n - 1] == null && values[n + 1] == null ? [n] : []));
}

function range({ floor, thresholds }, low, high) {
  low = Math.min(low ?? Infinity, ...thresholds, floor ?? Infinity);
  high = Math.max(high ?? -Infinity, ...thresholds);
  if (!Number.isFinite(low)) low = 0;
  if (!(high > low)) high = low + (Math.abs(low) || 1);
  const [bottom, top] = uPlot.rangeNum(low, high, 0.1, true);
  return [floor ?? bottom, top];
}

/** Bytes and durations have round numbers of their own. */
function increments(scale) {
  const factors = scale.map(([, factor]) => factor);
  if (factors.includes(1024)) return { incrs: Array.from({ length: 60 }, (_, power) => 2 ** power) };
  if (factors.includes(60)) return { incrs: [...Array.from({ length: 21 }, (_, n) => [1, 2, 5][n % 3] * 10 ** (Math.floor(n / 3) - 7)), ...DURATIONS] };
  return {};
}

/** Draws thresholds and annotations. */
function lineMarks(view) {
  return (chart) => {
    const { ctx, bbox } = chart;
    const line = (x0, y0, x1, y1, stroke) => {
      if (x0 < bbox.left || x1 > bbox.left + bbox.width || y0 < bbox.top || y1 > bbox.top + bbox.height) return;
      ctx.strokeStyle = stroke;
      ctx.beginPath();
      ctx.moveTo(x0, y0);
      ctx.lineTo(x1, y1);
      ctx.stroke();
    };
    ctx.save();
    ctx.lineWidth = 1.3 * devicePixelRatio;
    ctx.setLineDash([4 * devicePixelRatio, 4 * devicePixelRatio]);
    for (const value of view.plot.thresholds) {
      const y = chart.valToPos(value, "y", true);
      line(bbox.left, y, bbox.left + bbox.width, y, colour("--bad"));
    }
    for (const [at] of view.plot.marks) {
      const x = chart.valToPos(at, "x", true);
      line(x, bbox.top, x, bbox.top + bbox.height, colour("--ok"));
    }
    ctx.restore();
  };
}

/** Shows the time and the values at the cursor in the table, or the last values without a cursor. */
function label({ chart, plot, figure }) {
  if (!chart) return; // uPlot calls its hooks while it is made
  const { idx, left } = chart.cursor;
  const hovered = left >= 0 && idx != null;
  const notes = hovered ? plot.marks.filter(([at]) => Math.abs(chart.valToPos(at, "x") - left) < NEAR_PX) : [];
  figure.querySelector("[data-time]").textContent = hovered ? [TIME(new Date(chart.data[0][idx] * 1000)), ...notes.map(([, text]) => text)].join(" · ") : "";
  figure.querySelector("[data-heading]").textContent = hovered ? "value" : "last";
  figure.querySelectorAll("tbody tr").forEach((row, n) => {
    const cell = row.querySelector("[data-last]");
    const value = hovered ? chart.data[n + 1][idx] : undefined;
    cell.textContent = !hovered ? cell.dataset.last : value == null ? "–" : format(value, plot.scale);
    row.classList.toggle("near", hovered && chart.series.length > 2 && chart.series[n + 1]._focus === true);
  });
}

function clock(at, step) {
  return AXIS_TIMES.find(([least]) => step >= least)[1](new Date(at * 1000));
}

/** The text of a number, by the steps of its unit: see `text.figure` in Python. */
export function format(value, scale) {
  const size = Math.abs(value);
  const zero = scale.find(([, factor]) => factor === 1) ?? scale.at(-1);
  const [, factor, suffix, digits] = value === 0 ? zero : (scale.find(([start]) => size >= start * 0.9995) ?? scale.at(-1));
  const number = value / factor;
  const text = Math.abs(number) >= 999.5 ? Math.round(number).toLocaleString("en").replaceAll(",", "\u202f") : String(Number(number.toPrecision(digits)));
  return text + suffix;
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => shown.forEach(({ chart }) => chart.redraw(false)));
