"use strict";
// Tables, slider and curves of the page. Texts of runs are only ever set as text, never as HTML.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const all = (selector, place = document) => [...place.querySelectorAll(selector)];
  const one = (id) => document.getElementById(id);
  const state = { shown: data.names.map(() => true), front: new Set(), filtered: data.names.map(() => true) };

  // Sorting: numbers as numbers, what is missing last in both directions, equal ones as they stand.
  const compare = (a, b, sign) => {
    if (a === null || b === null) return (a === null) - (b === null);
    const [x, y] = [Number(a), Number(b)];
    const numbers = a.trim() !== "" && b.trim() !== "" && !Number.isNaN(x) && !Number.isNaN(y);
    return sign * (numbers ? x - y : a.localeCompare(b, undefined, { numeric: true }));
  };
  for (const head of all("th[aria-sort]")) {
    head.querySelector("button").addEventListener("click", () => {
      const table = head.closest("table"), column = head.cellIndex, body = table.tBodies[0];
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      for (const other of all("th[aria-sort]", table)) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
      const value = (row) => row.cells[column].getAttribute("data-v");
      body.append(...[...body.rows].sort((a, b) => compare(value(a), value(b), sign)));
    });
  }

  // Filter, seeds, which curves are shown and which stand in front.
  const filter = () => {
    const words = one("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    const fits = (row, more = []) => {  // more: of averaged seeds, the runs' names and states
      const text = [row.textContent, ...more].join(" ").toLowerCase();
      return words.every((word) => text.includes(word));
    };
    for (const row of all("#runs tbody tr")) {
      row.hidden = !fits(row);
      state.filtered[row.dataset.run] = !row.hidden;
    }
    for (const row of all("#groups tbody tr")) row.hidden = !fits(row, all("[title]", row).map((cell) => cell.title));
    for (const figure of all("figure[data-run]")) figure.hidden = !state.filtered[figure.dataset.run];
    draw();
  };
  one("filter").addEventListener("input", filter);
  if (one("average")) {
    one("average").addEventListener("change", (event) => {
      one("groups-box").hidden = !event.target.checked;
      one("runs-box").hidden = event.target.checked;
    });
  }
  for (const box of all("#runs input[data-run]")) {
    box.addEventListener("change", () => { state.shown[box.dataset.run] = box.checked; draw(); });
  }
  for (const button of all("button[data-show]")) {
    button.addEventListener("click", () => {
      for (const box of all("#runs input[data-run]")) {
        box.checked = button.dataset.show === "all" || (button.dataset.show === "best" && box.dataset.run < 10);
        state.shown[box.dataset.run] = box.checked;
      }
      draw();
    });
  }
  for (const row of all("#runs tbody tr")) {
    row.addEventListener("click", (event) => {
      if (event.target.closest(".pick")) return;
      const index = Number(row.dataset.run), front = !state.front.has(index);
      if (front) state.front.add(index); else state.front.delete(index);
      row.classList.toggle("front", front);
      row.querySelector("button.name").setAttribute("aria-pressed", front);
      draw();
    });
  }

  // Samples: the slider chooses which frame of each run is seen.
  if (one("stop")) {
    const stops = one("stop").dataset.stops.split(" ").map(Number);
    const slide = () => {
      const now = one("stop").value, said = stops[now].toLocaleString("en");
      one("stop-said").textContent = said;
      one("stop").setAttribute("aria-valuetext", said + " training images");
      for (const frame of all(".frame")) frame.hidden = !frame.dataset.stops.split(" ").includes(now);
    };
    one("stop").addEventListener("input", slide);
    slide();  // a browser may come back with the slider where it was left
  }

  for (const button of all("button.copy")) {
    button.addEventListener("click", async () => {
      const code = button.parentElement.querySelector("code");
      try {
        await navigator.clipboard.writeText(code.textContent);
      } catch {  // not allowed for files in some browsers: select it, for the keyboard
        getSelection().selectAllChildren(code);
        if (!document.execCommand("copy")) return;
      }
      button.textContent = "copied";
      setTimeout(() => { button.textContent = "copy"; }, 1500);
    });
  }

  // Curves: tables of float32, (2 + metrics, points); the first two rows are images and seconds.
  const numbers = (text) => new Float32Array(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  for (const tables of data.runs) for (const table of tables) table[2] = numbers(table[2]);
  data.metrics.forEach((name, index) => one("metric").add(new Option(name, index)));
  const curve = (run, metric, axis) => {
    for (const [metrics, points, table] of data.runs[run]) {
      const row = metrics.indexOf(metric);
      if (row < 0) continue;
      const x = [], y = [];
      for (let i = 0; i < points; i++) {
        const [a, b] = [table[axis * points + i], table[(2 + row) * points + i]];
        if (Number.isFinite(a) && Number.isFinite(b)) { x.push(a); y.push(b); }
      }
      return [x, y];
    }
    return [[], []];
  };
  const range = (values, log) => {  // where a few values lie far outside, the others are to be seen
    const sorted = Float64Array.from(log ? values.filter((v) => v > 0).map(Math.log10) : values).sort();
    if (!sorted.length) return [log ? 0.1 : 0, 1, false];
    const at = (share) => sorted[Math.round(share * (sorted.length - 1))];
    let [low, high] = [sorted[0], sorted[sorted.length - 1]];
    const [least, most] = [at(0.02), at(0.98)], room = 2 * (most - least);
    const cut = room > 0 && (low < least - room || high > most + room);
    if (cut) [low, high] = [Math.max(low, least - room / 4), Math.min(high, most + room / 4)];
    const edge = 0.05 * (high - low) || Math.abs(high) * 0.1 || 1;
    [low, high] = [low - edge, high + edge];
    return log ? [10 ** low, 10 ** high, cut] : [low, high, cut];
  };
  let plots = null;
  function draw() {
    if (!plots) return;
    const metric = Number(one("metric").value), axis = Number(one("axis").value), log = one("log").checked;
    const found = { xs: [], ys: [], name: [], colour: [], width: [], alpha: [], dash: [] };
    const ink = getComputedStyle(document.body).color, xs = [], ys = [];
    const grey = (run) => data.colours[run] === "#8f8f8f";
    const order = data.names.map((_, run) => run).filter((run) => state.shown[run] && state.filtered[run]);
    order.sort((a, b) => state.front.has(a) - state.front.has(b) || grey(b) - grey(a) || b - a);  // the best on top
    for (const run of order) {
      const [x, y] = curve(run, metric, axis);
      if (!x.length) continue;
      const front = state.front.has(run), faint = state.front.size > 0 && !front;
      found.xs.push(x);
      found.ys.push(y);
      found.name.push(data.names[run]);
      found.colour.push(front && grey(run) ? ink : data.colours[run]);
      found.width.push(front ? 4 : grey(run) ? 1.2 : 2);
      found.alpha.push(faint ? 0.3 : grey(run) && !front ? 0.65 : 1);
      found.dash.push(data.dashes[run] === "dashed" ? [6, 3] : []);
      for (const v of x) xs.push(v);
      for (const v of y) ys.push(v);
    }
    const wide = xs.reduce((most, v) => Math.max(most, v), 0) || 1, [low, high, cut] = range(ys, log);
    const last = (lines) => lines.map((line) => line[line.length - 1]);
    plots.source.data = found;
    plots.ends.data = { x: last(found.xs), y: last(found.ys), colour: found.colour, alpha: found.alpha };
    const plot = log ? plots.log : plots.linear;
    for (const one of [plots.linear, plots.log]) one.visible = one === plot;
    plot.x_range.setv({ start: 0, end: wide * 1.02, reset_start: 0, reset_end: wide * 1.02 });
    plot.y_range.setv({ start: low, end: high, reset_start: low, reset_end: high });
    plot.below[0].axis_label = axis ? "seconds of training" : "training images";
    plot.left[0].axis_label = data.metrics[metric] ?? "";
    const some = order.length ? "No run shown has this metric." : "No run is shown.";
    const none = data.metrics.length ? some : "No run has curves.";
    one("cut").textContent = xs.length ? "Some values lie far outside and are cut off; zoom out to see them." : none;
    one("cut").hidden = xs.length > 0 && !cut;
  }
  const paint = () => {  // Bokeh's plots do not know the page's theme
    const css = getComputedStyle(document.documentElement), ink = css.getPropertyValue("--soft").trim();
    const line = css.getPropertyValue("--line").trim();
    for (const document of Bokeh.documents) for (const plot of document.roots()) {
      for (const axis of [...plot.below, ...plot.left]) {
        axis.setv({ axis_label_text_color: ink, major_label_text_color: ink, axis_line_color: ink,
          major_tick_line_color: ink, minor_tick_line_color: null, axis_label_text_font_style: "normal" });
      }
      for (const grid of plot.center) if ("grid_line_color" in grid) grid.grid_line_color = line;
    }
    draw();
  };
  const begin = () => {
    const document = (window.Bokeh?.documents ?? []).find((some) => some.get_model_by_name("curves_log"));
    if (!document) return setTimeout(begin, 50);
    plots = { linear: document.get_model_by_name("curves_linear"), log: document.get_model_by_name("curves_log"),
      source: document.get_model_by_name("lines"), ends: document.get_model_by_name("ends") };
    const first = data.names.flatMap((_, run) => curve(run, 0, 0)[1]).sort((a, b) => a - b);
    one("log").checked = first[0] > 0 && first[first.length - 1] > 5 * first[first.length >> 1];  // else a line at the bottom
    for (const id of ["metric", "axis", "log"]) one(id).addEventListener("change", draw);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
    paint();
    window.documentReady = true;  // for whoever drives the page
  };
  begin();
})();
