const data = JSON.parse(document.getElementById("data").textContent);
document.documentElement.classList.add("js");
const MODE_NAMES = { head: "head mode", composite: "composite" };
const player = new Player(document.querySelector("[data-player]"), document.querySelector("video"), data);
const wipe = new Wipe(document.querySelector("[data-wipe]"), player);
const charts = {};
const frames = data.series.frames;
const seconds = frames.map((frame) => frame / data.fps);
const followed = [];

function chart(name, spec) {
  const root = document.querySelector(`[data-chart="${name}"]`);
  if (charts[name]) charts[name].set(spec);
  else charts[name] = new Chart(root, spec);
  return charts[name];
}

// A missing frame between two measured ones must break the line.
function gapped(values) {
  const [x, y] = [[], []];
  frames.forEach((frame, index) => {
    if (index && frame - frames[index - 1] > 1) {
      x.push((frames[index - 1] + 0.5) / data.fps);
      y.push(null);
    }
    x.push(seconds[index]);
    y.push(values[index]);
  });
  return { x, y };
}

const heldOut = {
  follow: player,
  toX: (frame) => frame / data.fps,
  xMin: seconds[0],
  xMax: seconds[seconds.length - 1],
  xUnit: " s",
  xTitle: (second) => `frame ${Math.round(second * data.fps)}`,
  seek: (second, step) => (second === null ? player.step(step) : player.goToFrame(second * data.fps)),
};

function drawHeldOut(mode) {
  const pair = (key) => [
    { name: "true", kind: "truth", ...gapped(data.series.truth[key]) },
    { name: MODE_NAMES[mode], kind: mode, ...gapped(data.series[mode][key]) },
  ];
  const none = "No face was found in these pictures, so there is nothing to compare.";
  chart("lip_opening", { ...heldOut, title: "Lip opening", unit: "gap over the eyes’ distance", series: pair("lip_opening"), yMin: 0, digits: 3, empty: none });
  chart("lip_width", { ...heldOut, title: "Lip width", unit: "corners over the eyes’ distance", series: pair("lip_width"), digits: 3, empty: none });
  const blinks = data.clip.blinks.filter((frame) => frame >= frames[0] && frame <= frames[frames.length - 1]);
  chart("eye_open", { ...heldOut, title: "Eye openness", unit: "0 shut, 1 open", series: pair("eye_open"), yMin: 0, yMax: 1.5, empty: none, marks: blinks.map((frame) => ({ x: frame / data.fps, label: "blink" })) });
  const scores = [["head", "third", "psnr_head"], ["mouth", mode, "psnr_mouth"], ["whole picture", "plain", "psnr_full"]];
  chart("psnr", { ...heldOut, title: `PSNR of each frame, ${MODE_NAMES[mode]}`, unit: "dB", digits: 1, series: scores.map(([name, kind, key]) => ({ name, kind, ...gapped(data.series[mode][key]) })) });
}

function drawWave() {
  const { second, low, high } = data.waveform;
  const most = Math.max(0.02, ...high, ...low.map((value) => -value));
  const loud = { name: "sound", kind: "plain", x: second, y: high, low, high, wave: true };
  chart("waveform", { ...heldOut, title: "Sound", unit: data.waveform.heard > 0 ? "" : "silent here", height: 84, noY: true, yMin: -most, yMax: most, series: [loud], empty: "The clip has no sound here." });
}

function drawTraining(axis) {
  const parts = Object.entries(data.training);
  const kinds = { head: "head", torso: "composite" };
  const along = (history) => (axis === "step" ? history.step : history.second.map((value) => value / 60));
  const series = (key, more) => parts.map(([name, history]) => ({ name, kind: kinds[name], x: along(history), y: history[key], ...(more ? more(history) : {}) }));
  const marks = [];
  const place = data.lips_from === null ? -1 : data.training.head.step.findIndex((step) => step >= data.lips_from);
  if (place > 0) marks.push({ x: along(data.training.head)[place], label: "lips" });
  const common = {
    xTitle: axis === "step" ? (step) => `step ${Math.round(step)}` : (minute) => `${show(minute, 2)} min`,
    xUnit: axis === "step" ? "" : " min",
    xMin: 0,
    marks,
    empty: "The history holds no point.",
  };
  chart("loss", { ...common, title: "Loss", unit: "log scale, with its range", log: true, digits: 5, series: series("loss", (history) => ({ low: history.loss_low, high: history.loss_high })) });
  chart("train_psnr", { ...common, title: "PSNR while training", unit: "dB, on its own rays", digits: 2, series: series("psnr_db") });
  chart("rate", { ...common, title: "Learning rate", unit: "of the grids, log scale", log: true, digits: 5, series: series("rate") });
}

function drawClip() {
  const x = data.clip.frame.map((frame) => frame / data.fps);
  const line = (name, kind, key) => ({ name, kind, x, y: data.clip[key] });
  const common = {
    follow: player,
    toX: (frame) => frame / data.fps,
    xUnit: " s",
    xTitle: (second) => `frame ${Math.round(second * data.fps)}`,
    shades: [{ from: data.held_out[0] / data.fps, to: data.held_out[1] / data.fps }],
    empty: "No pose was measured.",
  };
  chart("angles", { ...common, title: "Head turned", unit: "degrees", digits: 1, series: [line("yaw", "head", "yaw"), line("pitch", "composite", "pitch"), line("roll", "third", "roll")] });
  chart("places", { ...common, title: "Head moved", unit: "cm from its median place", digits: 1, series: [line("right", "head", "x"), line("down", "composite", "y"), line("away", "third", "z")] });
  chart("clip_eyes", { ...common, title: "Eyes and blinks of the clip", unit: "0 shut, 1 open", height: 130, yMin: 0, yMax: 1.5, series: [line("true", "truth", "eye_open")], marks: data.clip.blinks.map((frame) => ({ x: frame / data.fps })) });
  chart("clip_brows", { ...common, title: "Brows of the clip", unit: "mm above their usual place", digits: 1, height: 130, series: [line("true", "truth", "brow_mm")] });
}

function drawReading() {
  document.querySelector("[data-frame-number]").textContent = player.frame;
  const list = document.querySelector("[data-reading]");
  const at = frames.indexOf(player.frame);
  const { mode } = player;
  const rows = [["", "true", MODE_NAMES[mode]]];
  const value = (series, key, digits) => show(at < 0 ? null : data.series[series][key][at], digits);
  for (const [name, key, digits] of [["Lip opening", "lip_opening", 3], ["Lip width", "lip_width", 3], ["Eye openness", "eye_open", 2]])
    rows.push([name, value("truth", key, digits), value(mode, key, digits)]);
  for (const [name, key] of [["PSNR, whole picture", "psnr_full"], ["PSNR, head", "psnr_head"], ["PSNR, mouth", "psnr_mouth"]])
    rows.push([name, "", `${value(mode, key, 1)} dB`]);
  list.replaceChildren();
  rows.forEach((row, index) => {
    const group = element("div", index ? {} : { class: "headings" }, list);
    element("dt", {}, group, row[0]);
    for (const text of row.slice(1)) element("dd", {}, group, text);
  });
  if (at < 0) element("dt", {}, element("div", {}, list), "not compared: no measured pose");
}

// The mouth of the frame, enlarged; its box follows the head and keeps its size.
function drawCloseups() {
  const at = frames.indexOf(player.frame);
  if (!player.ready || at < 0) return;
  const [x, y] = data.mouth.centre[at];
  for (const canvas of document.querySelectorAll("[data-closeup]")) {
    if (canvas.width !== 256) canvas.width = canvas.height = 256;
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    player.cut(context, canvas.dataset.closeup, x, y, data.mouth.side);
  }
}

function setMode(mode) {
  player.mode = mode;
  document.documentElement.dataset.mode = mode;
  for (const place of document.querySelectorAll("[data-mode-name]")) place.textContent = MODE_NAMES[mode];
  drawHeldOut(mode);
  player.show();
}

for (const choice of document.querySelectorAll("input[name=mode]"))
  choice.addEventListener("change", () => setMode(choice.value));
for (const choice of document.querySelectorAll("input[name=axis]"))
  choice.addEventListener("change", () => drawTraining(choice.value));
player.listeners.push(drawReading, drawCloseups, () => {
  document.documentElement.dataset.frame = player.frame;
  for (const one of Object.values(charts)) one.follow();
});
drawWave();
drawTraining(document.querySelector("input[name=axis]:checked").value);
drawClip();
setMode(document.querySelector("input[name=mode]:checked").value);
document.documentElement.dataset.ready = "true";
