"use strict";
// The table of all rows: only what is in view is drawn; filters and sorts work on columns of numbers.
(() => {
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("rows-data").textContent);
  const MOST_HEIGHT_PX = 8_000_000; // browsers draw nothing beyond some tens of millions
  const MOST_CHOICES = 2_000;
  const MOST_PRINTED = 1_000;
  const BESIDES = 10; // rows drawn above and below those in view
  const OUTCOMES = ["accepted", "confirmed", "failed", "unknown", "skipped", "not_started"];
  const TIMES = new Set(["first_sent_at", "finished_at"]);

  // Texts by code: equal texts have one code, so that most work is done once for each different text.
  class Texts {
    constructor({ values, codes }) {
      this.values = values;
      this.codes = Uint32Array.from(codes ?? values.keys());
      this.lower = [];
    }
    text(row) {
      return this.values[this.codes[row]];
    }
    set(row, text) {
      this.known ??= new Map(this.values.map((value, code) => [value, code]));
      let code = this.known.get(text);
      if (code === undefined) {
        code = this.values.push(text) - 1;
        this.known.set(text, code);
      }
      this.codes[row] = code;
      this.sorted = undefined;
    }
    // For each code, whether its text has the word in it.
    hits(word) {
      return this.values.map((value, code) => (this.lower[code] ??= value.toLowerCase()).includes(word));
    }
    order() {
      if (!this.sorted) {
        const byText = Uint32Array.from(this.values.keys()).sort((one, other) =>
          this.values[one] < this.values[other] ? -1 : this.values[one] > this.values[other] ? 1 : 0,
        );
        const start = new Uint32Array(this.values.length + 1);
        const rank = new Uint32Array(this.values.length);
        byText.forEach((code, at) => {
          // Codes of equal texts have one rank.
          rank[code] = at > 0 && this.values[byText[at - 1]] === this.values[code] ? rank[byText[at - 1]] : at;
        });
        for (const code of this.codes) {
          start[rank[code] + 1] += 1;
        }
        for (let at = 1; at < start.length; at += 1) {
          start[at] += start[at - 1];
        }
        this.sorted = new Uint32Array(this.codes.length);
        this.codes.forEach((code, row) => {
          this.sorted[start[rank[code]]++] = row;
        });
      }
      return this.sorted;
    }
  }

  class Numbers {
    constructor({ steps }, written) {
      let before = 0;
      this.numbers = Float64Array.from(steps, (step) => (step === null ? Infinity : (before += step)));
      this.written = written;
    }
    text(row) {
      const value = this.numbers[row];
      return value === Infinity ? "" : this.written(value);
    }
    set(row, value) {
      this.numbers[row] = value ?? Infinity;
      this.sorted = undefined;
    }
    order() {
      const of = this.numbers;
      this.sorted ??= Uint32Array.from(of.keys()).sort((one, other) =>
        of[one] < of[other] ? -1 : of[one] > of[other] ? 1 : one - other,
      );
      return this.sorted;
    }
  }

  const written = {
    first_sent_at: (ms) => new Date(data.base_ms + ms).toISOString(),
    finished_at: (ms) => new Date(data.base_ms + ms).toISOString(),
    duration_s: (ms) => (ms % 1000 ? String(ms / 1000) : (ms / 1000).toFixed(1)),
  };
  const columns = Object.fromEntries(
    Object.entries(data.columns).map(([name, column]) => [
      name,
      column.steps ? new Numbers(column, written[name] ?? String) : new Texts(column),
    ]),
  );
  const carried = data.carried.map((column) => new Texts(column));
  const searched = ["serial_number", "operation", "group", "outcome", "reason", "operation_id", "detail", "note"]
    .map((name) => columns[name])
    .filter(Boolean)
    .concat(carried);
  const rows = columns.row.numbers.length;
  const SHOWN = [
    ["row", "row", 4.5],
    ["serial_number", "serial number", 11],
    ["outcome", "outcome", 7],
    ["reason", "reason", 10],
    ["operation", "operation", 7.5],
    ["group", "group", 8],
    ["http_status", "HTTP", 4],
    ["attempts", "tries", 4],
    ["first_sent_at", "first sent", 13],
    ["finished_at", "finished", 13],
    ["duration_s", "seconds", 5],
    ["detail", "detail", 16],
  ];

  const cell = (name, row) => {
    const text = columns[name].text(row);
    return TIMES.has(name) ? text.replace("T", " ").replace("Z", "") : name === "outcome" || name === "reason" ? text.replaceAll("_", " ") : text;
  };
  const element = (tag, text, properties = {}) => Object.assign(document.createElement(tag), { textContent: text }, properties);
  const count = (number, word) => `${number.toLocaleString("en")} ${word}${number === 1 ? "" : "s"}`;

  // What is shown: row numbers in order.
  let view = new Uint32Array(0);
  let sort = { name: "row", down: false };
  let active = -1;
  let drawnFrom = -1;
  let drawnTo = -1;

  const grid = byId("grid");
  const scroller = byId("scroller");
  const sizer = byId("sizer");
  const [head, body] = [grid.tHead, grid.tBodies[0]];
  let rowPx = 32;
  let headPx = 32;
  const bodyPx = () => Math.min(view.length * rowPx, MOST_HEIGHT_PX);
  const seenRows = () => Math.max(1, Math.floor((scroller.clientHeight - headPx) / rowPx));
  // Where the whole table would be too high, a pixel of the scroll bar is worth more than one of the table.
  const scale = () => {
    const room = bodyPx() - seenRows() * rowPx;
    return room > 0 ? Math.max(1, (view.length - seenRows()) * rowPx) / room : 1;
  };

  function rowElement(at) {
    const row = view[at];
    const line = document.createElement("tr");
    line.id = `row-${at}`;
    line.ariaRowIndex = String(at + 2);
    line.dataset.at = at;
    line.className = at === active ? "active" : "";
    line.ariaSelected = String(at === active);
    for (const [name] of SHOWN) {
      const one = element("td", cell(name, row));
      if (name === "outcome") {
        one.className = columns.outcome.text(row);
      } else if (columns[name] instanceof Numbers && !TIMES.has(name)) {
        one.className = "number";
      }
      line.append(one);
    }
    return line;
  }

  function draw(force) {
    const top = Math.floor((scroller.scrollTop * scale()) / rowPx);
    const from = Math.max(0, Math.min(top, view.length - seenRows()) - BESIDES);
    const to = Math.min(view.length, from + seenRows() + 2 * BESIDES + 1);
    if (!force && from === drawnFrom && to === drawnTo) {
      return;
    }
    [drawnFrom, drawnTo] = [from, to];
    body.replaceChildren(...Array.from({ length: to - from }, (_, at) => rowElement(from + at)));
    sizer.style.height = `${bodyPx() + headPx}px`;
    grid.style.top = `${Math.max(0, from * rowPx - scroller.scrollTop * (scale() - 1))}px`;
    if (active >= from && active < to) {
      grid.setAttribute("aria-activedescendant", `row-${active}`);
    } else {
      grid.removeAttribute("aria-activedescendant");
    }
  }

  function filtered() {
    const keep = new Uint8Array(rows).fill(1);
    const only = (column, wanted) => {
      for (let row = 0; row < rows; row += 1) {
        keep[row] &= wanted[column.codes[row]];
      }
    };
    const outcomes = new Set([...byId("by-outcome").querySelectorAll(":checked")].map((box) => box.value));
    if (outcomes.size) {
      only(columns.outcome, columns.outcome.values.map((value) => outcomes.has(value)));
    }
    for (const name of ["operation", "reason", "group"]) {
      const choice = byId(`by-${name}`).value;
      if (choice !== "") {
        only(columns[name], columns[name].values.map((value) => `=${value}` === choice));
      }
    }
    for (const word of byId("search").value.toLowerCase().split(/\s+/).filter(Boolean)) {
      const found = searched.map((column) => [column.codes, column.hits(word)]).filter(([, hits]) => hits.includes(true));
      for (let row = 0; row < rows; row += 1) {
        keep[row] &= found.some(([codes, hits]) => hits[codes[row]]);
      }
    }
    return keep;
  }

  function refresh() {
    const keep = filtered();
    const activeRow = view[active];
    view = columns[sort.name].order().filter((row) => keep[row]);
    if (sort.down) {
      view.reverse();
    }
    active = activeRow === undefined ? -1 : view.indexOf(activeRow);
    grid.ariaRowCount = String(view.length + 1);
    const shown = view.length === rows ? `${count(rows, "row")}` : `${view.length.toLocaleString("en")} of ${count(rows, "row")}`;
    if (byId("shown").textContent !== shown) {
      byId("shown").textContent = shown;
    }
    byId("download-csv").disabled = byId("download-manifest").disabled = view.length === 0;
    draw(true);
  }

  function go(to) {
    if (!view.length) {
      return;
    }
    active = Math.min(Math.max(to, 0), view.length - 1);
    const top = (scroller.scrollTop * scale()) / rowPx;
    if (active < top) {
      scroller.scrollTop = (active * rowPx) / scale();
    } else if (active > top + seenRows() - 1) {
      scroller.scrollTop = ((active - seenRows() + 1) * rowPx) / scale();
    }
    draw(true);
  }

  function showDevice(at) {
    const serial = columns.serial_number.text(view[at]);
    const panel = byId("device");
    const extra = ["operation_id", ...(columns.note ? ["note"] : [])];
    const names = SHOWN.map(([name, title]) => [name, title]).filter(([name]) => name !== "serial_number" && name !== "group");
    const titles = [...names.map(([, title]) => title), "operation id", ...extra.slice(1), ...data.csv.slice(data.csv.length - carried.length)];
    const table = document.createElement("table");
    table.createCaption().textContent = "Its steps, in the order of the manifest";
    const headings = table.createTHead().insertRow();
    headings.append(...titles.map((title) => element("th", title, { scope: "col" })));
    const steps = table.createTBody();
    for (let row = 0; row < rows; row += 1) {
      if (columns.serial_number.text(row) === serial) {
        const texts = [...names.map(([name]) => cell(name, row)), ...extra.map((name) => columns[name].text(row)), ...carried.map((one) => one.text(row))];
        steps.insertRow().append(...texts.map((text) => element("td", text)));
      }
    }
    const group = columns.group.text(view[at]);
    const close = element("button", "Close", { type: "button" });
    close.addEventListener("click", closeDevice);
    const scroll = element("div", "", { className: "scroll", tabIndex: 0, role: "region", ariaLabel: "Steps" });
    scroll.append(table);
    panel.replaceChildren(element("h3", `Device ${serial}${group ? ` in group ${group}` : ""}`), scroll, close);
    panel.hidden = false;
    panel.focus();
  }

  function closeDevice() {
    byId("device").hidden = true;
    grid.focus();
  }

  // As fleetops writes them itself: a cell that a spreadsheet would run is put behind an apostrophe.
  const neutralised = (text) => (text && data.formula_marks.includes(text[0]) ? `'${text}` : text);
  const quoted = (text) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

  function save(name, names, cellsOf) {
    const order = view.slice().sort();
    const lines = [names.map(neutralised).map(quoted).join(",")];
    for (const row of order) {
      lines.push(cellsOf(row).map(quoted).join(","));
    }
    const address = URL.createObjectURL(new Blob([`${lines.join("\n")}\n`], { type: "text/csv" }));
    element("a", "", { href: address, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
  }

  function saveCsv() {
    const ours = data.csv.slice(0, data.csv.length - carried.length);
    save(`${data.run_id}.csv`, data.csv, (row) => [
      ...ours.map((name) => (name === "run_id" ? data.run_id : neutralised(columns[name].text(row)))),
      ...carried.map((column) => neutralised(column.text(row))),
    ]);
  }

  function saveManifest() {
    const harmless = new RegExp(`^(?:${data.harmless})$`);
    const serial = columns.serial_number;
    const harmful = view.find((row) => neutralised(serial.text(row)) !== serial.text(row) && !harmless.test(serial.text(row)));
    if (harmful !== undefined) {
      byId("shown").textContent = `No manifest was made: a spreadsheet would run the serial number of row ${columns.row.text(harmful)} as a formula.`;
      return;
    }
    const ours = data.manifest.slice(2, data.manifest.length - carried.length);
    save(`${data.run_id}-again.csv`, data.manifest, (row) => [
      serial.text(row),
      columns.operation.text(row),
      ...ours.map((name) => neutralised(columns[name].text(row))),
      ...carried.map((column) => neutralised(column.text(row))),
    ]);
  }

  function buildHead() {
    const line = head.insertRow();
    line.ariaRowIndex = "1";
    const widths = document.createElement("colgroup");
    for (const [name, title, width] of SHOWN) {
      const heading = element("th", "", { scope: "col" });
      heading.dataset.name = name;
      heading.className = columns[name] instanceof Numbers && !TIMES.has(name) ? "number" : "text";
      const button = element("button", title, { type: "button" });
      button.addEventListener("click", () => {
        sort = { name, down: sort.name === name && !sort.down };
        markSort();
        scroller.scrollTop = 0;
        refresh();
      });
      heading.append(button);
      line.append(heading);
      const column = document.createElement("col");
      column.style.width = `${width}rem`;
      widths.append(column);
    }
    grid.prepend(widths);
    markSort();
  }

  function markSort() {
    for (const heading of head.rows[0].cells) {
      if (heading.dataset.name === sort.name) {
        heading.ariaSort = sort.down ? "descending" : "ascending";
      } else {
        heading.removeAttribute("aria-sort");
      }
    }
  }

  // Choices that a filter offers: those that some row has.
  function choices(name) {
    const select = byId(`by-${name}`);
    const used = new Set(columns[name].codes);
    const values = [...new Set([...used].map((code) => columns[name].values[code]))].filter(Boolean).sort();
    const before = select.value;
    const options = values.map((value) => element("option", name === "reason" ? value.replaceAll("_", " ") : value, { value: `=${value}` }));
    select.replaceChildren(element("option", "all", { value: "" }), ...options.slice(0, MOST_CHOICES));
    select.value = before && options.some((option) => option.value === before) ? before : "";
    select.parentElement.hidden = values.length === 0 || values.length > MOST_CHOICES;
  }

  function countOutcomes() {
    const byCode = new Uint32Array(columns.outcome.values.length);
    for (const code of columns.outcome.codes) {
      byCode[code] += 1;
    }
    for (const label of byId("by-outcome").querySelectorAll("label")) {
      const of = byCode[columns.outcome.values.indexOf(label.firstChild.value)] ?? 0;
      label.lastChild.textContent = `${label.firstChild.value.replaceAll("_", " ")} ${of.toLocaleString("en")}`;
    }
  }

  function buildFilters() {
    for (const outcome of OUTCOMES) {
      const label = document.createElement("label");
      label.append(element("input", "", { type: "checkbox", value: outcome }), element("span", ""));
      byId("by-outcome").append(label);
    }
    ["operation", "reason", "group"].forEach(choices);
    countOutcomes();
    let soon;
    const changed = () => {
      scroller.scrollTop = 0;
      refresh();
    };
    byId("filters").addEventListener("submit", (event) => event.preventDefault());
    byId("filters").addEventListener("reset", () => setTimeout(changed));
    byId("filters").addEventListener("change", changed);
    byId("search").addEventListener("input", () => {
      clearTimeout(soon);
      soon = setTimeout(changed, 80);
    });
  }

  function listen() {
    let asked = false;
    scroller.addEventListener("scroll", () => {
      if (!asked) {
        asked = true;
        requestAnimationFrame(() => {
          asked = false;
          draw(false);
        });
      }
    });
    addEventListener("resize", () => draw(true));
    grid.addEventListener("keydown", (event) => {
      if (event.target !== grid) {
        return;
      }
      if ((event.key === "Enter" || event.key === " ") && active >= 0) {
        event.preventDefault();
        showDevice(active);
        return;
      }
      const page = seenRows();
      const to = { ArrowDown: active + 1, ArrowUp: active - 1, PageDown: active + page, PageUp: active - page, Home: 0, End: view.length - 1 }[event.key];
      if (to !== undefined) {
        event.preventDefault();
        go(to);
      }
    });
    body.addEventListener("click", (event) => {
      const line = event.target.closest("tr");
      if (line && !String(getSelection())) {
        go(Number(line.dataset.at));
        showDevice(active);
      }
    });
    byId("device").addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        closeDevice();
      }
    });
    byId("download-csv").addEventListener("click", saveCsv);
    byId("download-manifest").addEventListener("click", saveManifest);
    addEventListener("beforeprint", () => {
      body.replaceChildren(...Array.from({ length: Math.min(view.length, MOST_PRINTED) }, (_, at) => rowElement(at)));
      grid.style.top = "0";
      const rest = view.length - MOST_PRINTED;
      byId("print-rest").textContent = rest > 0 ? `and ${count(rest, "more row")}: the CSV has them all` : "";
    });
    addEventListener("afterprint", () => draw(true));
    // Rows that have changed: the number of each, counted from 0, and its cells in the order of data.changing.
    document.addEventListener("rows", ({ detail }) => {
      for (const [row, ...cells] of detail) {
        data.changing.forEach((name, at) => columns[name].set(row, cells[at]));
      }
      choices("reason");
      countOutcomes();
      refresh();
    });
  }

  byId("rows").hidden = false;
  buildHead();
  buildFilters();
  listen();
  refresh();
  // What a row and the heading measure depends on the size of letters.
  headPx = head.offsetHeight || headPx;
  rowPx = body.rows[0]?.offsetHeight || rowPx;
  draw(true);
  document.documentElement.dataset.rows = String(rows);
})();
