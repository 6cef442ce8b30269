"use strict";
// Joins the data of this page with Tabulator (tables) and Plotly (plot). Raw values stay raw: only show() makes digits.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const byName = new Map(data.models.map((model) => [model.model, model]));
  const state = { units: "exact", convention: "", side: 0, open: [] };
  const NUMBERS = new Set(["count", "bytes", "share", "scaled"]);
  const HINTS = { count: "> 10 M", bytes: "> 10 M", share: "> 50 %", depth: "10..20", receptive_field: "> 200" };
  let models = null;
  let panes = [];

  // ------------------------------------------------------------------------------------------------- values

  const digits = new Intl.NumberFormat("en-US", { maximumFractionDigits: 20 });
  const grouped = (value) => digits.format(value);
  function scaled(value, unit, kilo) {
    if (Math.abs(value) < 1000) return `${value} ${unit}`.trim();
    const prefixes = `${kilo}MGTPE`;
    for (let power = 1; power <= 6; power++) {
      const size = value / 1000 ** power;
      if (Math.abs(size) < 999.95) return `${size.toPrecision(4)} ${prefixes[power - 1]}${unit}`;
    }
    return String(value);
  }
  function show(value, form) {
    if (value === null || value === undefined) return "";
    if (form === "flag") return value ? "✓" : "✗";
    if (Array.isArray(value)) return Array.isArray(value[0]) ? value.map((one) => show(one, "shape")).join(", ") : value.join("×");
    if (form === "scaled") return scaled(Number(value.toPrecision(4)), "", "K");
    if (form === "share") return `${(100 * value).toFixed(1)} %`;
    if (form === "count") return state.units === "scaled" ? scaled(value, "", "K") : grouped(value);
    if (form === "bytes") return state.units === "scaled" ? scaled(value, "B", "k") : `${grouped(value)} B`;
    return String(value);
  }
  // a shape is ordered by its elements, unknown comes last in either direction
  const rank = (value) => Array.isArray(value) ? value.flat(2).reduce((a, b) => a * b, 1) : value === true ? 1 : value === false ? 0 : value;
  function ordered(a, b, _one, _other, _column, direction) {
    const [x, y] = [rank(a), rank(b)];
    const none = (v) => v === null || v === undefined || v === "";
    if (none(x) || none(y)) return none(x) && none(y) ? 0 : (none(x) ? 1 : -1) * (direction === "asc" ? 1 : -1);
    return typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y), "en", { numeric: true });
  }

  // ------------------------------------------------------------------------- models at a size, by a convention

  const side = () => (state.side ? data.sides[state.side - 1] : null);
  function at(model) {
    // the row that is shown: at the chosen side, where the model runs there; every figure was computed, none is scaled
    const row = { ...model, runs: true };
    const chosen = side();
    let counted = model.as;
    if (chosen !== null && model.side !== null) {
      const found = model.sizes[chosen];
      row.input = [...model.input.slice(0, -2), chosen, chosen];
      if (!found) {
        row.runs = false;
        for (const key of data.moving) row[key] = null;
        counted = {};
      } else {
        for (const key of data.moving) row[key] = found[key];
        counted = found.as;
      }
    }
    if (state.convention) row.macs = counted[state.convention] ?? null;
    return row;
  }
  const convention = () => data.conventions.find((one) => one.key === state.convention);
  const macsTitle = () => (convention() ? `${convention().calls} by ${convention().title}` : "MACs");
  const titleOf = (column) => (column.key === "macs" ? macsTitle() : column.title);

  // ------------------------------------------------------------------------------------------------- the table

  function formatter(form) {
    return (cell) => {
      const value = cell.getValue();
      const row = cell.getRow().getData();
      const off = row.runs === false && data.moving.includes(cell.getField());
      return off ? '<span class="off">does not run</span>' : escaped(show(value, form));
    };
  }
  const escaped = (text) => String(text).replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);
  function filtered(wanted, value, row) {
    // `> 5e6`, `<= 10 M`, `100..200 k`, or a text that occurs
    const text = String(wanted).trim();
    const unit = { "": 1, "%": 0.01, k: 1e3, m: 1e6, g: 1e9, t: 1e12 };
    const number = (digits, prefix) => parseFloat(digits.replace(/,/g, "")) * unit[(prefix || "").toLowerCase()];
    const found = /^(<=|>=|<|>|=)\s*([\d.,e+]+)\s*([kmgt%]?)b?$/i.exec(text);
    const own = rank(value);
    if (found && typeof own === "number") {
      const limit = number(found[2], found[3]);
      return { "<": own < limit, ">": own > limit, "<=": own <= limit, ">=": own >= limit, "=": own === limit }[found[1]];
    }
    const span = /^([\d.,e+]+)\s*([kmgt%]?)b?\s*\.\.\s*([\d.,e+]+)\s*([kmgt%]?)b?$/i.exec(text);
    if (span && typeof own === "number") return own >= number(span[1], span[2] || span[4]) && own <= number(span[3], span[4]);
    const shown = Array.isArray(value) ? value.join("×") : typeof value === "number" ? `${value} ${grouped(value)}` : value === true ? "✓ yes" : value === false ? "✗ no" : String(value ?? "");
    return shown.toLowerCase().includes(text.toLowerCase().replace(/(\d)x(?=\d)/g, "$1×"));
  }
  // as wide as its longest text: the table need not measure every cell, nor draw its rows again (`autoResize: false`)
  // once it knows its own size: a click between two drawings would be lost
  function widthOf(title, form, values, most) {
    const longest = Math.max(...values.map((value) => show(value, form).length), 0);
    return Math.round(Math.min(most, Math.max(title.length * 9.2 + 42, longest * (form === "shape" ? 9.8 : 8.7) + 16, 84)));
  }
  function columnFor(column, values) {
    const plain = {
      width: widthOf(titleOf(column), column.form, values, 420), resizable: "header",
      field: column.key, title: titleOf(column), headerTooltip: column.means || column.title, sorter: ordered,
      hozAlign: NUMBERS.has(column.form) ? "right" : "left", headerHozAlign: NUMBERS.has(column.form) ? "right" : "left",
      formatter: formatter(column.form), headerFilter: "input", headerFilterFunc: filtered, headerFilterLiveFilter: true,
      headerFilterPlaceholder: HINTS[column.key] || HINTS[column.form] || "", headerSortTristate: true,
      headerFilterParams: { elementAttributes: { "aria-label": `Filter ${column.title}` } },
      headerSortStartingDir: NUMBERS.has(column.form) ? "desc" : "asc", visible: data.shown.includes(column.key),
    };
    if (column.key === "model") {
      plain.frozen = window.innerWidth > 500;
      plain.formatter = (cell) => `<a href="#${encodeURIComponent(cell.getValue())}">${escaped(cell.getValue())}</a>`;
    }
    return plain;
  }
  function shownRows() { return models.getRows("active").map((row) => row.getData()); }
  function told() {
    const rows = shownRows();
    const off = rows.filter((row) => row.runs === false).length;
    $("count").textContent = `${rows.length} of ${data.models.length} models` + (off ? `, ${off} do not run on ${side()}` : "");
  }
  function reachable(table) {
    // headers that sort are reached and used with the keyboard
    for (const column of table.getColumns()) {
      const element = column.getElement();
      const title = element.querySelector(".tabulator-col-title");
      if (!title || title.tabIndex === 0) continue;
      title.tabIndex = 0;
      title.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        event.stopPropagation();
        title.click();
      });
    }
  }
  function buildModels() {
    const rows = data.models.map(at);
    models = new Tabulator("#models", {
      data: rows, index: "model", columns: data.columns.map((column) => columnFor(column, rows.map((row) => row[column.key]))),
      renderVertical: "basic", autoResize: false, printAsHtml: true, printStyled: false, printRowRange: "active", placeholder: "No model is left: loosen a filter", movableColumns: true,
    });
    models.on("tableBuilt", () => { reachable(models); told(); mark(); });
    models.on("dataFiltered", () => setTimeout(() => { told(); drawPlot(); }, 0));
    models.on("rowClick", (event, row) => { if (!event.target.closest("a")) location.hash = encodeURIComponent(row.getData().model); });
    return new Promise((done) => models.on("tableBuilt", done));
  }
  function mark() {
    for (const row of models.getRows()) row.getElement().classList.toggle("chosen", state.open.includes(row.getData().model));
  }
  async function refresh() {
    await models.updateData(data.models.map(at));
    models.getRows().forEach((row) => row.reformat());
    const title = models.getColumn("macs").getElement().querySelector(".tabulator-col-title");
    title.textContent = macsTitle();
    models.getColumn("macs").getDefinition().title = macsTitle();
    models.getColumn("macs").setWidth(widthOf(macsTitle(), "count", data.models.map((model) => model.macs), 420));
    const sorters = models.getSorters();
    if (sorters.length) models.setSort(sorters.map((one) => ({ column: one.field, dir: one.dir })));
    models.refreshFilter();
    mark();
    explain();
    told();
    drawPlot();
    if (state.open.length) drawFacts();
    [...panes, ...(runs ? [runs] : [])].forEach((pane) => pane.getRows().forEach((row) => row.reformat()));
  }
  function explain() {
    const visible = models.getColumns().filter((column) => column.isVisible()).map((column) => column.getField());
    const own = data.columns.filter((column) => visible.includes(column.key) && column.means);
    const texts = own.map((column) => (column.key === "macs" && convention() ? `${convention().calls} by ${convention().title}${convention().means ? `: ${convention().means}` : ""}.` : column.means));
    $("means").textContent = texts.join(" ");
  }

  // --------------------------------------------------------------------------------------------------- copying

  function gridOf(table, columns, rows) {
    const shown = table.getColumns().filter((column) => column.isVisible()).map((column) => columns.find((one) => one.key === column.getField()));
    return { head: shown.map(titleOf), forms: shown.map((c) => c.form), raw: rows.map((row) => shown.map((c) => row[c.key])) };
  }
  const TEX = { "&": "\\&", "%": "\\%", $: "\\$", "#": "\\#", _: "\\_", "{": "\\{", "}": "\\}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "\\": "\\textbackslash{}", "×": "$\\times$", "·": "$\\cdot$", "⌊": "$\\lfloor$", "⌋": "$\\rfloor$", "⌈": "$\\lceil$", "⌉": "$\\rceil$", "−": "$-$", "✓": "$\\checkmark$", "✗": "$\\times$" };
  const WRITERS = {
    md({ head, forms, raw }) {
      const cell = (text) => text.replace(/[|\\`*~[\]<]/g, "\\$&");
      const line = (cells) => `| ${cells.join(" | ")} |`;
      return [line(head.map(cell)), line(forms.map((form) => (NUMBERS.has(form) ? "--:" : ":--"))), ...raw.map((row) => line(row.map((value, i) => cell(show(value, forms[i])))))].join("\n") + "\n";
    },
    latex({ head, forms, raw }) {
      const cell = (text) => text.replace(/[&%$#_{}~^\\×·⌊⌋⌈⌉−✓✗]/g, (c) => TEX[c]);
      const line = (cells) => `${cells.map(cell).join(" & ")} \\\\`;
      return [`\\begin{tabular}{${forms.map((form) => (NUMBERS.has(form) ? "r" : "l")).join("")}}`, "\\toprule", line(head), "\\midrule", ...raw.map((row) => line(row.map((value, i) => show(value, forms[i])))), "\\bottomrule", "\\end{tabular}", ""].join("\n");
    },
    csv({ head, raw }) {
      const cell = (value) => {
        const text = value === null || value === undefined ? "" : Array.isArray(value) ? show(value, "shape") : String(value);
        return /[",\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
      };
      return [head, ...raw].map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
    },
  };
  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    $("copied").textContent = `copied: ${text.split("\n").length - 1} lines`;
    setTimeout(() => ($("copied").textContent = ""), 4000);
  }

  // ------------------------------------------------------------------------------------------------------ plot

  const axes = data.columns.filter((column) => NUMBERS.has(column.form));
  const OKABE = ["#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#B8A800", "#888888"];
  function drawPlot() {
    if (!window.Plotly || !models.initialized) return;
    const style = getComputedStyle(document.documentElement);
    const ink = style.getPropertyValue("--ink").trim();
    const line = style.getPropertyValue("--line").trim();
    const [x, y, z] = ["x", "y", "z"].map((id) => axes.find((column) => column.key === $(id).value));
    const log = $("log").checked;
    const plain = (value) => (Array.isArray(value) ? Math.max(...value) : value);
    const rows = shownRows().filter((row) => [x, y].every((c) => typeof plain(row[c.key]) === "number" && (!log || plain(row[c.key]) > 0)));
    const largest = Math.max(1, ...rows.map((row) => (z ? plain(row[z.key]) || 0 : 1)));
    const families = [...new Set(data.models.map((model) => model.family))];
    const traces = families.map((family, i) => {
      const mine = rows.filter((row) => row.family === family);
      return {
        type: "scatter", mode: "markers", name: family, x: mine.map((row) => plain(row[x.key])), y: mine.map((row) => plain(row[y.key])),
        customdata: mine.map((row) => row.model),
        text: mine.map((row) => `<b>${escaped(row.model)}</b><br>` + [...new Set([x, y, z].filter(Boolean))].map((c) => `${escaped(titleOf(c))}: ${show(row[c.key], c.form)}`).join("<br>")),
        hovertemplate: "%{text}<extra></extra>",
        marker: { color: OKABE[i % OKABE.length], symbol: i < OKABE.length ? "circle" : "diamond", opacity: 0.75, line: { color: ink, width: 0.6 }, size: mine.map((row) => (z ? Math.max(7, 44 * Math.sqrt((plain(row[z.key]) || 0) / largest)) : 11)) },
      };
    }).filter((one) => one.x.length);
    const axis = (column) => ({ title: { text: titleOf(column) }, type: log ? "log" : "linear", gridcolor: line, linecolor: line, zerolinecolor: line, exponentformat: "SI", automargin: true });
    Plotly.react("plot", traces, {
      xaxis: axis(x), yaxis: axis(y), paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink },
      margin: { t: 10, r: 10 }, legend: { orientation: "h", y: -0.18, itemsizing: "constant" }, hoverlabel: { align: "left" },
    }, { responsive: true, displaylogo: false, displayModeBar: false });
  }

  // -------------------------------------------------------------------------------------------------- measured

  let runs = null;
  const block = () => data.runs[Number($("block").value)];
  function showRuns() {
    const one = block();
    if (runs) runs.destroy();
    runs = new Tabulator("#runs", {
      data: one.rows, renderVertical: "basic", autoResize: false, printAsHtml: true, printStyled: false, printRowRange: "active",
      columns: one.columns.map((column) => ({
        ...columnFor(column, one.rows.map((row) => row[column.key])), visible: true, headerFilter: false,
        formatter: (cell) => {
          const text = escaped(show(cell.getValue(), column.form));
          return column.key === "model" && byName.has(cell.getValue()) ? `<a href="#${encodeURIComponent(cell.getValue())}">${text}</a>` : text;
        },
      })),
    });
    runs.on("tableBuilt", () => reachable(runs));
    $("run-notes").innerHTML = one.notes.map((text) => `<li>${escaped(text)}</li>`).join("");
    const kinds = { speed: one.points.length, curves: one.lines.length };
    for (const choice of $("figure").options) choice.disabled = !kinds[choice.value];
    if (!kinds[$("figure").value]) $("figure").value = kinds.speed ? "speed" : "curves";
    $("figure-box").hidden = $("runs-plot").hidden = !(kinds.speed || kinds.curves);
    drawRuns();
  }
  function drawRuns() {
    if (!window.Plotly || !data.runs.length || $("runs-plot").hidden) return;
    const style = getComputedStyle(document.documentElement);
    const ink = style.getPropertyValue("--ink").trim();
    const line = style.getPropertyValue("--line").trim();
    const axis = (title, more) => ({ title: { text: title }, gridcolor: line, linecolor: line, zerolinecolor: line, automargin: true, ...more });
    const look = { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink }, margin: { t: 10, r: 10 }, legend: { orientation: "h", y: -0.22 }, hoverlabel: { align: "left" } };
    const percent = (value) => 100 * value;
    const one = block();
    let traces;
    if ($("figure").value === "speed") {
      const largest = Math.max(1, ...one.points.map((point) => point.params || 0));
      traces = one.points.map((point, i) => ({
        type: "scatter", mode: "markers+text", name: point.name, x: [point.examples_per_second], y: [percent(point.test_accuracy[0])],
        error_y: { type: "data", symmetric: false, array: [percent(point.test_accuracy[2] - point.test_accuracy[0])], arrayminus: [percent(point.test_accuracy[0] - point.test_accuracy[1])], color: ink, thickness: 1, visible: point.seeds > 1 },
        text: [escaped(point.name)], textposition: "middle right", showlegend: false,
        hovertemplate: `<b>${escaped(point.name)}</b><br>Test: %{y:.1f} %<br>Examples/s: %{x:.4s}<br>Parameters: ${show(point.params, "count")}<extra></extra>`,
        marker: { color: OKABE[i % OKABE.length], opacity: 0.75, line: { color: ink, width: 0.6 }, size: Math.max(8, 44 * Math.sqrt((point.params || 0) / largest)) },
      }));
      const rates = one.points.map((point) => Math.log10(point.examples_per_second));
      const seen = one.points.flatMap((point) => point.test_accuracy.map(percent));
      const room = Math.max(1.5, 0.2 * (Math.max(...seen) - Math.min(...seen)));
      Object.assign(look, {
        xaxis: axis("Examples/s", { type: "log", exponentformat: "SI", range: [Math.min(...rates) - 0.2, Math.max(...rates) + 0.3] }),
        yaxis: axis("Test accuracy (%)", { range: [Math.min(...seen) - room, Math.max(...seen) + room] }),
      });
    } else {
      const accuracies = [["test_accuracy", "test", "solid"], ["validation_accuracy", "validation", "dot"], ["train_accuracy", "train", "dash"]];
      traces = one.lines.flatMap((net, i) => [["train_loss", "train loss", "solid"], ...accuracies].filter(([key]) => net[key].some(Boolean)).map(([key, what, dash]) => ({
        type: "scatter", mode: "lines+markers", name: net.name, legendgroup: net.name, showlegend: key === "train_loss",
        x: net.epochs, y: net[key].map((span) => span && (key === "train_loss" ? span[0] : percent(span[0]))),
        xaxis: key === "train_loss" ? "x" : "x2", yaxis: key === "train_loss" ? "y" : "y2",
        hovertemplate: `<b>${escaped(net.name)}</b>, ${what}<br>epoch %{x}: %{y:.4~g}${key === "train_loss" ? "" : " %"}<extra></extra>`,
        line: { color: OKABE[i % OKABE.length], dash, width: 2 }, marker: { size: 5, color: OKABE[i % OKABE.length] },
      })));
      Object.assign(look, {
        xaxis: axis("Epoch", { domain: [0, 0.45] }), yaxis: axis("Train loss"),
        xaxis2: axis("Epoch", { domain: [0.55, 1] }), yaxis2: axis("Accuracy (%)", { anchor: "x2" }), margin: { t: 28, r: 10 },
        annotations: [{ text: "solid: test, dotted: validation, dashed: train", xref: "paper", yref: "paper", x: 1, y: 1.02, yanchor: "bottom", showarrow: false }],
      });
    }
    Plotly.react("runs-plot", traces, look, { responsive: true, displaylogo: false, displayModeBar: false });
  }

  // --------------------------------------------------------------------------------------------------- details

  function drawFacts() {
    const open = state.open.map((name) => at(byName.get(name)));
    const lines = data.columns.filter((column) => column.key !== "model" && open.some((row) => row[column.key] !== null && row[column.key] !== ""));
    const head = `<tr><th scope="col"></th>${open.map((row) => `<th scope="col">${escaped(row.model)}</th>`).join("")}${open.length === 2 ? '<th scope="col">ratio</th>' : ""}</tr>`;
    const body = lines.map((column) => {
      const values = open.map((row) => row[column.key]);
      const ratio = open.length === 2 && values.every((v) => typeof v === "number" && v > 0) ? `${(values[1] / values[0]).toPrecision(3)}×` : "";
      const cell = (row, value) => (row.runs === false && data.moving.includes(column.key) ? '<span class="off">does not run</span>' : escaped(show(value, column.form)));
      return `<tr><th scope="row">${escaped(titleOf(column))}</th>${open.map((row, i) => `<td>${cell(row, values[i])}</td>`).join("")}${open.length === 2 ? `<td>${ratio}</td>` : ""}</tr>`;
    });
    $("facts").innerHTML = `<table>${head}${body.join("")}</table>`;
  }
  function layerRows(model) {
    return model.layers.map((values, i) => ({ at: i, ...Object.fromEntries(data.layer_columns.map((column, k) => [column.key, values[k]])) }));
  }
  function paneFor(model, two) {
    const home = document.createElement("div");
    const told = [...model.notes, ...model.told];
    home.innerHTML = `<h3>${escaped(model.model)}, layer by layer, input ${escaped(model.input_text)}</h3>${model.drawing ? `<details><summary>Drawing</summary><div class="drawing" tabindex="0">${model.drawing}</div></details>` : ""}<div class="layers"></div>` + (told.length ? `<ul class="told">${told.map((text) => `<li>${escaped(text)}</li>`).join("")}</ul>` : "");
    $("panes").append(home);
    const hidden = two ? ["macs_formula", "flops", "activations", "neurons", "receptive_field", "params_formula"] : ["flops", "neurons"];
    const rows = layerRows(model);
    const table = new Tabulator(home.querySelector(".layers"), {
      data: rows, index: "at", maxHeight: "70vh", printAsHtml: true, printStyled: false, printRowRange: "active",
      columns: data.layer_columns.map((column) => ({ ...columnFor(column, rows.map((row) => row[column.key])), frozen: false, title: column.title, visible: !hidden.includes(column.key), headerTooltip: column.means || column.title, formatter: (cell) => escaped(show(cell.getValue(), column.form)), headerFilterPlaceholder: "" })),
    });
    table.on("tableBuilt", () => reachable(table));
    table.layerModel = model;
    return table;
  }
  function openFrom(hash) {
    let names = [];
    try {
      names = decodeURIComponent(hash.replace(/^#/, "")).split(",").filter((name) => byName.has(name)).slice(0, 2);
    } catch { /* a hash that is no text names no model */ }
    state.open = names;
    panes.forEach((pane) => pane.destroy());
    panes = [];
    $("panes").innerHTML = "";
    $("detail").hidden = !names.length;
    if (models) mark();
    document.title = names.length ? `${names.join(" and ")}: architectures compared` : "Architectures compared";
    if (!names.length) return;
    $("detail-heading").textContent = names.join(" and ");
    $("beside").value = names[1] || "";
    $("panes").classList.toggle("two", names.length === 2);
    drawFacts();
    panes = names.map((name) => paneFor(byName.get(name), names.length === 2));
    $("detail").scrollIntoView({ behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
    $("detail-heading").focus({ preventScroll: true });
  }

  // ----------------------------------------------------------------------------------------------------- theme

  function theme(dark) {
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    $("theme").textContent = dark ? "Light" : "Dark";
    $("theme").setAttribute("aria-pressed", String(dark));
    if (models) drawPlot();
    drawRuns();
  }
  const preferred = matchMedia("(prefers-color-scheme: dark)");
  theme(preferred.matches);
  preferred.addEventListener("change", (event) => theme(event.matches));

  // paper is white
  let before = null;
  addEventListener("beforeprint", () => { before = document.documentElement.dataset.theme; theme(false); });
  addEventListener("afterprint", () => { theme(before === "dark"); });

  // ------------------------------------------------------------------------------------------------------ begin

  const option = (value, text) => new Option(text, value);
  $("convention").append(option("", "archscope: multiply–accumulates"), ...data.conventions.map((one) => option(one.key, `${one.title}: “${one.calls}”`)));
  $("beside").append(option("", "nothing"), ...data.models.map((model) => option(model.model, model.model)));
  for (const [id, first] of [["x", "macs"], ["y", "params"], ["z", "activations"]]) {
    if (id === "z") $(id).append(option("", "all the same"));
    $(id).append(...axes.map((column) => option(column.key, column.title)));
    $(id).value = first;
    $(id).addEventListener("change", drawPlot);
  }
  $("log").addEventListener("change", drawPlot);
  $("side").max = String(data.sides.length);
  function sideText() {
    const text = side() === null ? "each model’s own" : `${side()}×${side()}`;
    $("side-text").textContent = text;
    $("side").setAttribute("aria-valuetext", text);
  }
  sideText();
  $("side").addEventListener("input", () => { state.side = Number($("side").value); sideText(); refresh(); });
  $("units").addEventListener("change", () => { state.units = $("units").value; refresh(); });
  $("convention").addEventListener("change", () => { state.convention = $("convention").value; refresh(); });
  $("theme").addEventListener("click", () => theme(document.documentElement.dataset.theme !== "dark"));
  $("find").addEventListener("input", () => {
    const words = $("find").value.toLowerCase().split(/\s+/).filter(Boolean);
    models.setFilter((row) => words.every((word) => `${row.model} ${row.family} ${row.paper}`.toLowerCase().includes(word)));
  });
  for (const column of data.columns) {
    const label = document.createElement("label");
    const box = document.createElement("input");
    box.type = "checkbox";
    box.checked = data.shown.includes(column.key);
    box.disabled = column.key === "model";
    box.addEventListener("change", () => { models[box.checked ? "showColumn" : "hideColumn"](column.key); reachable(models); explain(); });
    label.append(box, ` ${column.title}`);
    $("columns").append(label);
  }
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.addEventListener("click", () => copy(WRITERS[button.dataset.copy](gridOf(models, data.columns, shownRows()))));
  }
  for (const button of document.querySelectorAll("[data-copy-layers]")) {
    button.addEventListener("click", () => copy(panes.map((pane) => WRITERS[button.dataset.copyLayers](gridOf(pane, data.layer_columns, pane.getRows("active").map((row) => row.getData())))).join("\n")));
  }
  $("beside").addEventListener("change", () => { location.hash = [state.open[0], $("beside").value].filter(Boolean).map(encodeURIComponent).join(","); });
  $("close").addEventListener("click", () => { history.pushState("", "", location.pathname + location.search); openFrom(""); $("table-heading").focus(); });
  addEventListener("hashchange", () => openFrom(location.hash));
  addEventListener("popstate", () => openFrom(location.hash));
  const verified = data.models.filter((model) => model.verified).length;
  $("summary").textContent = `${data.models.length} models; every derivation holds in ${verified} of them.`;
  if (data.runs.length) {
    $("block").append(...data.runs.map((one, i) => option(String(i), one.title)));
    $("block").addEventListener("change", showRuns);
    $("figure").addEventListener("change", drawRuns);
    $("measured").hidden = false;
    showRuns();
  }
  buildModels().then(() => {
    explain();
    openFrom(location.hash);
    document.documentElement.dataset.ready = "yes";
  });
  // the library of the plot stands behind this script, so that the table need not wait for it
  addEventListener("DOMContentLoaded", () => {
    drawPlot();
    drawRuns();
    $("plot").on("plotly_click", (event) => { location.hash = encodeURIComponent(event.points[0].customdata); });
    document.documentElement.dataset.plot = "yes";
  });
})();
