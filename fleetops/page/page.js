"use strict";
// Draws the charts of the page, in the colours of the screen or of paper, and reads their figures out by keyboard.
(() => {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const paper = matchMedia("print");
  // Each colour has a contrast of at least 3:1 to its ground; lines differ in their dashes as well.
  const COLOURS = {
    light: ["#0b62b8", "#b34700", "#1b7a3d", "#7a3ff0", "#a8175a", "#5b6770"],
    dark: ["#7ab8ff", "#ffb066", "#6fd08c", "#c4a1ff", "#ff8fc0", "#aab6c2"],
  };
  const DASHES = ["solid", "dashed", "dotted"];
  const drawn = [];

  const shade = () => (dark.matches && !paper.matches ? "dark" : "light");

  function coloured(option, shadeName) {
    const isDark = shadeName === "dark";
    const text = isDark ? "#e8edf2" : "#1a1f24";
    const line = isDark ? "#3a444f" : "#c9d1d9";
    const axis = (one) => ({
      ...one,
      nameTextStyle: { color: text },
      axisLabel: { color: text, hideOverlap: true, ...one.axisLabel },
      axisLine: { lineStyle: { color: line } },
      splitLine: { show: one.type === "value", lineStyle: { color: line } },
    });
    let at = 0;
    const series = option.series.map((one) => {
      if (one.name === "") {
        return { ...one, silent: true, itemStyle: { color: "transparent" }, tooltip: { show: false } };
      }
      const color = COLOURS[shadeName][(one.tone ?? at) % COLOURS[shadeName].length];
      const dash = one.areaStyle ? "solid" : DASHES[at % DASHES.length];
      at += 1;
      return {
        ...one,
        color,
        itemStyle: { color, ...one.itemStyle },
        lineStyle: { color, width: 2, type: dash, ...one.lineStyle },
        label: { color: text, ...one.label },
      };
    });
    return {
      animation: false,
      textStyle: { fontFamily: "system-ui, sans-serif" },
      grid: { left: 8, right: 24, top: 40, bottom: option.xAxis.name ? 32 : 8, containLabel: true },
      ...option,
      legend: {
        show: series.filter((one) => one.name).length > 1,
        top: 0,
        selectedMode: false,
        textStyle: { color: text },
        data: series.map((one) => one.name).filter(Boolean),
        ...option.legend,
      },
      tooltip: {
        confine: true,
        backgroundColor: isDark ? "#1b2128" : "#ffffff",
        borderColor: line,
        textStyle: { color: text },
        ...option.tooltip,
      },
      xAxis: axis(option.xAxis),
      yAxis: axis(option.yAxis),
      series,
    };
  }

  function drawOne({ chart, option }) {
    chart.setOption(coloured(option, shade()), true);
    chart.resize();
  }

  function draw() {
    drawn.forEach(drawOne);
  }

  function readAloud(place, event) {
    const rows = place.parentElement.querySelectorAll("tbody tr");
    const head = [...place.parentElement.querySelectorAll("thead th")].map((cell) => cell.textContent);
    const last = rows.length - 1;
    const from = Number(place.dataset.row ?? -1);
    const to = { ArrowRight: from + 1, ArrowLeft: from - 1, Home: 0, End: last }[event.key];
    if (to === undefined || last < 0) {
      return;
    }
    event.preventDefault();
    const row = Math.min(Math.max(to, 0), last);
    place.dataset.row = row;
    const cells = [...rows[row].children].map((cell, at) => `${head[at]} ${cell.textContent}`);
    place.parentElement.querySelector("output").textContent = cells.join(", ");
  }

  document.documentElement.classList.add("drawn");
  charts.forEach(({ option }, number) => {
    const place = document.getElementById(`chart-${number}`);
    const chart = echarts.init(place, null, { renderer: "svg" });
    drawn.push({ chart, option });
    place.addEventListener("keydown", (event) => readAloud(place, event));
  });
  draw();
  dark.addEventListener("change", draw);
  paper.addEventListener("change", draw);
  addEventListener("resize", draw);
  // Figures that have changed: numbers of charts, and their options.
  document.addEventListener("figures", ({ detail }) => {
    for (const [number, option] of detail) {
      drawn[number].option = option;
      drawOne(drawn[number]);
    }
  });
  document.documentElement.dataset.charts = String(drawn.length);
})();
