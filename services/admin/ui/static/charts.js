// Charts over time, drawn by uPlot. An element with data-chart names a script element of JSON:
// {x: [seconds], series: [{label, values}], kind: "bars" | "line", unit: "usd" | "whole" | "percent",
//  step: "day" | "hour" | "minute"}. Bars are stacked in the order of the series, the first lowest.
(() => {
  "use strict";

  const COLORS = 6;
  const PER_STEP = { day: 86400, hour: 3600, minute: 60 };

  function style(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  function usd(value) {
    const places = Math.abs(value) >= 1 || value === 0 ? 2 : 4;
    return `$${value.toLocaleString("en-US", { minimumFractionDigits: places, maximumFractionDigits: places })}`;
  }

  function shown(value, unit) {
    if (value === null || value === undefined) return "–";
    if (unit === "usd") return usd(value);
    if (unit === "percent") return `${value.toFixed(0)}%`;
    return value.toLocaleString("en-US");
  }

  function onAxis(value, unit) {
    if (unit === "percent") return `${value}%`;
    const sign = unit === "usd" ? "$" : "";
    for (const [scale, letter] of [[1e9, "B"], [1e6, "M"], [1e3, "K"]]) {
      if (value >= scale) return `${sign}${value / scale}${letter}`;
    }
    return `${sign}${value}`;
  }

  function timeText(seconds, step) {
    const options = step === "day"
      ? { month: "short", day: "numeric" }
      : { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hour12: false };
    return new Date(seconds * 1000).toLocaleString("en-US", { ...options, timeZone: "UTC" });
  }

  function stacked(series) {
    const sums = [];
    let below = null;
    for (const { values } of series) {
      below = values.map((value, index) => (value ?? 0) + (below ? below[index] : 0));
      sums.push(below);
    }
    return sums;
  }

  function tooltip(data) {
    let box;
    return {
      hooks: {
        init: (plot) => {
          box = document.createElement("div");
          box.className = "chart-tip";
          box.hidden = true;
          plot.over.append(box);
          plot.over.addEventListener("mouseleave", () => { box.hidden = true; });
        },
        setCursor: (plot) => {
          const { idx, left, top } = plot.cursor;
          if (idx === null || idx === undefined || left < 0) { box.hidden = true; return; }
          box.replaceChildren();
          const head = document.createElement("p");
          head.className = "tip-head";
          head.textContent = timeText(data.x[idx], data.step);
          box.append(head);
          const lines = data.series.map(({ label, values }) => [label, values[idx]]);
          for (const [label, value] of lines.filter(([, v]) => v).reverse()) {
            const line = document.createElement("p");
            const name = document.createElement("span");
            name.textContent = label;
            const number = document.createElement("span");
            number.textContent = shown(value, data.unit);
            line.append(name, number);
            box.append(line);
          }
          if (data.kind === "bars" && data.series.length > 1) {
            const total = lines.reduce((sum, [, value]) => sum + (value ?? 0), 0);
            const line = document.createElement("p");
            line.innerHTML = "<strong>Total</strong><strong></strong>";
            line.lastChild.textContent = shown(total, data.unit);
            box.append(line);
          }
          box.hidden = false;
          const width = box.offsetWidth;
          const over = plot.over.clientWidth;
          box.style.left = `${left + width + 16 > over ? Math.max(0, left - width - 12) : left + 12}px`;
          box.style.top = `${Math.max(0, Math.min(top, plot.over.clientHeight - box.offsetHeight))}px`;
        },
      },
    };
  }

  function options(element, data, width) {
    const text = style("--text-soft");
    const line = style("--line");
    const isBars = data.kind === "bars";
    const font = "12px Inter, sans-serif";
    const bars = uPlot.paths.bars({ size: [0.72, 34], radius: 0 });
    const order = data.series.map((_, index) => index);
    if (isBars) order.reverse(); // the highest sum is drawn first, the lower ones over it
    const half = PER_STEP[data.step] / 2;
    return {
      order,
      config: {
        width,
        height: Number(element.dataset.height) || 220,
        padding: [8, 16, 0, 0],
        legend: { show: false },
        tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
        cursor: { y: false, points: { show: !isBars }, drag: { setScale: false, x: false, y: false } },
        scales: {
          x: { time: true, range: (_, min, max) => isBars ? [min - half, max + half] : [min, max] },
          y: { range: (_, min, max) => [0, data.top || (max > 0 ? max * 1.08 : 1)] },
        },
        axes: [
          { stroke: text, font, grid: { show: false }, ticks: { show: false }, space: 64, size: 28, gap: 6,
            values: (_, splits) => splits.map((value) => timeText(value, data.step === "day" ? "day" : "hour").replace(/^.*, /, (head) => data.step === "day" ? head : "")) },
          { stroke: text, font, grid: { stroke: line, width: 1 }, ticks: { show: false }, size: 52, space: 44,
            values: (_, splits) => splits.map((value) => onAxis(value, data.unit)) },
        ],
        series: [
          {},
          ...order.map((index) => {
            const color = style(`--chart-${(index % COLORS) + 1}`);
            return isBars
              ? { label: data.series[index].label, fill: color, stroke: color, width: 0, paths: bars, points: { show: false } }
              : { label: data.series[index].label, stroke: color, width: 2, points: { show: data.x.length < 3 } };
          }),
        ],
        plugins: [tooltip(data)],
      },
    };
  }

  function draw(element) {
    const data = JSON.parse(document.getElementById(element.dataset.chart).textContent);
    const sums = data.kind === "bars" ? stacked(data.series) : data.series.map(({ values }) => values);
    element.plot?.destroy();
    const { order, config } = options(element, data, element.clientWidth);
    element.plot = new uPlot(config, [data.x, ...order.map((index) => sums[index])], element);
  }

  const watcher = new ResizeObserver((entries) => {
    for (const { target, contentRect } of entries) {
      if (target.plot && Math.abs(target.plot.width - contentRect.width) > 1) {
        target.plot.setSize({ width: contentRect.width, height: target.plot.height });
      }
    }
  });

  function drawAll(root) {
    for (const element of root.querySelectorAll("[data-chart]")) {
      if (!element.plot) { draw(element); watcher.observe(element); }
    }
  }

  document.addEventListener("tallygate:theme", () => document.querySelectorAll("[data-chart]").forEach(draw));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => document.querySelectorAll("[data-chart]").forEach(draw));
  document.addEventListener("htmx:afterSwap", (event) => drawAll(event.target));
  drawAll(document);
})();
