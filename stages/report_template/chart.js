// Line charts in SVG that fit their box, say what lies under the cursor, and can be read without a mouse.
const SVG = "http://www.w3.org/2000/svg";

function element(name, attributes, parent, text) {
  const made = name.startsWith("svg:") ? document.createElementNS(SVG, name.slice(4)) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

function niceTicks(low, high, count) {
  const raw = (high - low) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= raw * 0.999);
  const ticks = [];
  for (let index = Math.ceil(low / step - 1e-9); index * step <= high + step * 1e-9; index += 1) ticks.push(index * step);
  return ticks;
}

function logTicks(low, high) {
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); 10 ** power <= high * 1.001; power += 1)
    for (const factor of high / low < 30 ? [1, 2, 5] : [1])
      if (factor * 10 ** power >= low * 0.999 && factor * 10 ** power <= high * 1.001) ticks.push(factor * 10 ** power);
  return ticks;
}

// A short number: no more digits than a reader can use.
function show(value, digits) {
  if (!isNumber(value)) return "–";
  const text = Math.abs(value) > 0 && Math.abs(value) < 10 ** -digits / 2 ? value.toExponential(1) : value.toFixed(digits);
  return text.replace(/^-(?=0(\.0*)?$)/, "").replace("-", "−");
}

const exponent = (value) => {
  const [digits, power] = value.toExponential(1).split("e");
  const raised = [...String(Number(power))].map((sign) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[Number(sign)] || "⁻").join("");
  return Number(digits) === 1 ? `10${raised}` : `${Number(digits)}·10${raised}`;
};

/* A chart.
   spec: title, unit, x (function to a title), height, yMin, yMax, log, digits, xDigits, xTitle,
         series: [{name, kind, x, y, low, high, dash, wave, dots}], shades: [{from, to}], marks: [{x, label}],
         follow (a store of the frame shown), toX, seek, empty. */
class Chart {
  constructor(root, spec) {
    this.root = root;
    this.width = 0;
    root.classList.add("chart");
    new ResizeObserver(() => {
      if (Math.abs(root.clientWidth - this.width) >= 1) this.draw();
    }).observe(root);
    this.set(spec);
  }

  set(spec) {
    this.spec = spec;
    this.held = null;
    this.root.replaceChildren();
    const top = element("div", { class: "chart-top" }, this.root);
    const title = element("h3", {}, top, `${spec.title} `);
    if (spec.unit) element("small", {}, title, spec.unit);
    const there = spec.series.some((series) => series.y.some(isNumber));
    if (!there) {
      element("p", { class: "empty" }, this.root, spec.empty || "Nothing was measured.");
      this.svg = null;
      return;
    }
    this.values = [];
    const legend = element("ul", { class: "legend" }, top);
    for (const series of spec.series) {
      if (series.wave) continue;
      const item = element("li", {}, legend);
      element("i", { class: `${series.kind}${series.dash ? " dash" : ""}` }, item);
      item.append(`${series.name} `);
      this.values.push([series, element("b", {}, item)]);
    }
    this.where = element("li", {}, legend);
    const interactive = this.values.length > 0;
    this.svg = element("svg:svg", { tabindex: interactive ? 0 : -1, role: interactive ? "slider" : "img", "aria-label": spec.title }, this.root);
    if (spec.seek) this.svg.classList.add("seek");
    this.listen();
    if (interactive) this.numbers();
    this.draw();
  }

  bounds() {
    const { series, log } = this.spec;
    const xs = series.flatMap((one) => one.x);
    const ys = series.flatMap((one) => [...one.y, ...(one.low || []), ...(one.high || [])]).filter((y) => isNumber(y) && (!log || y > 0));
    let low = this.spec.yMin ?? Math.min(...ys);
    let high = this.spec.yMax ?? Math.max(...ys);
    if (high - low < 1e-12) [low, high] = log ? [low / 2, high * 2] : [low - 0.5, high + 0.5];
    const room = log ? 0 : 0.06 * (high - low);
    if (this.spec.yMin === undefined) low = log ? low / 1.2 : low - room;
    if (this.spec.yMax === undefined) high = log ? high * 1.2 : high + room;
    let [first, last] = [this.spec.xMin ?? Math.min(...xs), this.spec.xMax ?? Math.max(...xs)];
    if (last - first < 1e-9) [first, last] = [first - 0.5, last + 0.5];
    return { first, last, low, high };
  }

  draw() {
    if (!this.svg) return;
    this.width = this.root.clientWidth;
    if (this.width < 40) return;
    const { spec, svg, width } = this;
    const height = spec.height || 170;
    const box = { left: 46, right: width - 10, top: 8, bottom: height - 22 };
    const { first, last, low, high } = this.bounds();
    const level = spec.log ? Math.log10 : (value) => value;
    this.toX = (x) => box.left + ((x - first) / (last - first)) * (box.right - box.left);
    this.fromX = (pixel) => first + ((pixel - box.left) / (box.right - box.left)) * (last - first);
    this.toY = (y) => box.bottom - ((level(Math.max(y, spec.log ? low : y)) - level(low)) / (level(high) - level(low))) * (box.bottom - box.top);
    svg.replaceChildren();
    svg.setAttribute("height", height);
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    for (const shade of spec.shades || [])
      element("svg:rect", { class: "shade", x: this.toX(Math.max(first, shade.from)), y: box.top, width: Math.max(0, this.toX(Math.min(last, shade.to)) - this.toX(Math.max(first, shade.from))), height: box.bottom - box.top }, svg);
    if (!spec.noY) {
      const ticks = spec.log ? logTicks(low, high) : niceTicks(low, high, 4);
      for (const tick of ticks) {
        element("svg:line", { class: "gridline", x1: box.left, x2: box.right, y1: this.toY(tick), y2: this.toY(tick) }, svg);
        const label = spec.log ? exponent(tick) : show(tick, ticks.length > 1 ? Math.max(0, Math.min(6, -Math.floor(Math.log10(ticks[1] - ticks[0]) + 1e-9))) : 2);
        element("svg:text", { x: box.left - 7, y: this.toY(tick) + 4, "text-anchor": "end" }, svg, label);
      }
    }
    element("svg:line", { class: "axis", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }, svg);
    const across = niceTicks(first, last, Math.max(3, Math.floor(width / 85)));
    const digits = across.length > 1 ? Math.max(0, -Math.floor(Math.log10(across[1] - across[0]) + 1e-9)) : 1;
    for (const tick of across) {
      element("svg:line", { class: "axis", x1: this.toX(tick), x2: this.toX(tick), y1: box.bottom, y2: box.bottom + 4 }, svg);
      const anchor = this.toX(tick) > box.right - 18 ? "end" : "middle";
      element("svg:text", { x: this.toX(tick), y: height - 4, "text-anchor": anchor }, svg, `${show(tick, digits)}${spec.xUnit || ""}`);
    }
    for (const mark of spec.marks || []) {
      if (mark.x < first || mark.x > last) continue;
      element("svg:line", { class: "mark", x1: this.toX(mark.x), x2: this.toX(mark.x), y1: box.top, y2: box.bottom }, svg);
      if (mark.label) {
        const far = this.toX(mark.x) > box.right - 80;
        element("svg:text", { x: this.toX(mark.x) + (far ? -5 : 5), y: box.top + 10, "text-anchor": far ? "end" : "start" }, svg, mark.label);
      }
    }
    for (const series of spec.series) this.drawSeries(series);
    this.cursor = element("svg:line", { class: "cursor", x1: 0, x2: 0, y1: box.top, y2: box.bottom, visibility: "hidden" }, svg);
    this.dots = this.values.map(([series]) => element("svg:circle", { class: `dot ${series.kind}`, r: 4, visibility: "hidden" }, svg));
    this.point(this.held ?? this.followed());
  }

  drawSeries(series) {
    const { svg, toX, toY } = this;
    const usable = (y) => isNumber(y) && (!this.spec.log || y > 0);
    if (series.low) {
      const { first, last } = this.bounds();
      const inside = (x) => x >= first - 1e-9 && x <= last + 1e-9;
      const places = series.x.map((_, index) => index).filter((index) => inside(series.x[index]) && usable(series.low[index]) && usable(series.high[index]));
      const above = places.map((index) => `${toX(series.x[index]).toFixed(1)},${toY(series.high[index]).toFixed(1)}`);
      const below = places.reverse().map((index) => `${toX(series.x[index]).toFixed(1)},${toY(series.low[index]).toFixed(1)}`);
      if (above.length) element("svg:path", { class: `${series.wave ? "wave" : "area"} ${series.kind}`, d: `M${above.join("L")}L${below.join("L")}Z` }, svg);
    }
    if (series.wave) return;
    let path = "";
    let down = false;
    series.y.forEach((y, index) => {
      if (usable(y)) path += `${down ? "L" : "M"}${toX(series.x[index]).toFixed(1)},${toY(y).toFixed(1)}`;
      down = usable(y);
    });
    element("svg:path", { class: `line ${series.kind}${series.dash ? " dash" : ""}`, d: path || "M0,0" }, svg);
    const few = series.y.filter(usable).length <= 3;
    if (few) series.y.forEach((y, index) => usable(y) && element("svg:circle", { class: `dot ${series.kind}`, r: 3.5, cx: toX(series.x[index]), cy: toY(y) }, svg));
  }

  followed() {
    return this.spec.follow ? this.spec.toX(this.spec.follow.frame) : null;
  }

  // Put the cursor at x of the axis; null takes it away.
  point(x) {
    if (!this.svg || !this.cursor) return;
    const hidden = x === null || x < this.bounds().first - 1e-6 || x > this.bounds().last + 1e-6;
    this.cursor.setAttribute("visibility", hidden ? "hidden" : "visible");
    if (!hidden) for (const end of ["x1", "x2"]) this.cursor.setAttribute(end, this.toX(x));
    const said = [];
    let at = x;
    this.values.forEach(([series, output], index) => {
      const place = hidden ? -1 : nearest(series.x, x);
      const y = place < 0 ? null : series.y[place];
      output.textContent = hidden ? "" : show(y, this.spec.digits ?? 2);
      const dot = this.dots[index];
      const seen = isNumber(y) && (!this.spec.log || y > 0);
      dot.setAttribute("visibility", seen ? "visible" : "hidden");
      if (seen) {
        dot.setAttribute("cx", this.toX(series.x[place]));
        dot.setAttribute("cy", this.toY(y));
      }
      if (!hidden) {
        said.push(`${series.name} ${show(y, this.spec.digits ?? 2)}`);
        at = series.x[place];
      }
    });
    this.where.textContent = hidden ? "" : this.spec.xTitle(at);
    if (this.values.length) {
      this.svg.setAttribute("aria-valuetext", hidden ? "no point chosen" : `${this.spec.xTitle(at)}: ${said.join(", ")}`);
      this.svg.setAttribute("aria-valuemin", this.bounds().first);
      this.svg.setAttribute("aria-valuemax", this.bounds().last);
      this.svg.setAttribute("aria-valuenow", hidden ? this.bounds().first : at);
    }
  }

  follow() {
    if (this.held === null) this.point(this.followed());
  }

  listen() {
    const { svg, spec } = this;
    const under = (event) => this.fromX(event.clientX - svg.getBoundingClientRect().left);
    svg.addEventListener("pointermove", (event) => {
      if (spec.seek && event.buttons) spec.seek(under(event));
      this.held = Math.min(this.bounds().last, Math.max(this.bounds().first, under(event)));
      this.point(this.held);
    });
    svg.addEventListener("pointerdown", (event) => spec.seek && spec.seek(under(event)));
    svg.addEventListener("pointerleave", () => {
      this.held = null;
      this.follow();
    });
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1, ArrowDown: -1, ArrowUp: 1, PageDown: -10, PageUp: 10, Home: -1e9, End: 1e9 }[event.key];
      if (!step || !this.values.length) return;
      event.preventDefault();
      if (spec.seek) return spec.seek(null, step);
      const { x } = this.values[0][0];
      const now = this.held === null ? (step > 0 ? -1 : x.length) : nearest(x, this.held);
      this.held = x[Math.min(x.length - 1, Math.max(0, now + step))];
      this.point(this.held);
    });
    svg.addEventListener("blur", () => {
      this.held = null;
      this.follow();
    });
  }

  // The same as a table, made when somebody asks for it.
  numbers() {
    const details = element("details", {}, this.root);
    element("summary", {}, details, "Numbers");
    const shown = this.values.map(([series]) => series);
    details.addEventListener("toggle", () => {
      if (!details.open || details.querySelector("table")) return;
      const table = element("table", {}, element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `Numbers of ${this.spec.title}` }, details));
      const head = element("tr", {}, element("thead", {}, table));
      const body = element("tbody", {}, table);
      const byX = new Map();
      shown.forEach((series, column) => series.x.forEach((x, index) => {
        if (!byX.has(x)) byX.set(x, []);
        byX.get(x)[column] = series.y[index];
      }));
      element("th", { scope: "col" }, head, "at");
      for (const series of shown) element("th", { scope: "col" }, head, series.name);
      for (const x of [...byX.keys()].sort((a, b) => a - b)) {
        const row = element("tr", {}, body);
        element("th", { scope: "row" }, row, this.spec.xTitle(x));
        shown.forEach((_, column) => element("td", {}, row, show(byX.get(x)[column], this.spec.digits ?? 2)));
      }
    });
  }
}

function nearest(values, wanted) {
  let [low, high] = [0, values.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (values[middle] <= wanted) low = middle;
    else high = middle;
  }
  return high >= 0 && Math.abs(values[high] - wanted) < Math.abs(values[low] - wanted) ? high : low;
}
