const told = JSON.parse(document.getElementById("data").textContent);
const find = (name) => document.querySelector(`[data-${name}]`);
const canvas = find("canvas"), sound = find("sound"), scrub = find("scrub"), play = find("play"), speech = find("speech");
const yaw = find("yaw"), pitch = find("pitch"), eyes = find("eyes"), mouth = find("mouth"), remark = find("remark");
const blinks = find("blinks"), follows = find("follows"), alive = find("alive"), size = find("size");
const brush = canvas.getContext("2d", { alpha: false });
const minutes = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
const degrees = (value) => { const whole = Math.round(value); return `${whole > 0 ? "+" : whole < 0 ? "−" : ""}${Math.abs(whole)}°`; };

// What is wanted, as the server takes it.
let chosen = null, ready = false, frames = 0, wishToPlay = false;
const playing = () => chosen !== null && ready && !sound.paused && !sound.ended;
const behind = () => {
  const kind = document.querySelector("input[name=background]:checked").value;
  return kind === "colour" ? find("colour").value : kind;
};
const controls = () => ({
  kind: "controls", yaw: Number(yaw.value), pitch: Number(pitch.value), eyes: blinks.checked ? null : Number(eyes.value),
  mouth: follows.checked ? null : Number(mouth.value), background: behind(), size: Number(size.value),
  alive: alive.checked, speech: chosen, time: sound.currentTime || 0, playing: playing(),
});

const socket = new WebSocket(`${location.href.replace(/^http/, "ws").replace(/[?#].*$/, "")}frames`);
socket.binaryType = "arraybuffer";
let asked = false;
const say = () => {
  // However often something changes between two pictures of the screen, only the last of it is worth sending.
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(controls()));
  });
};
socket.onopen = () => { say(); };
socket.onclose = () => {
  sound.pause();
  remark.textContent = "The program behind this page has ended. Start it again; it prints a new address.";
  document.querySelectorAll("button, input, select").forEach((part) => { part.disabled = true; });
};

let newest = 0, times = [];
const show = async (data) => {
  const length = new DataView(data).getUint32(0);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
  const picture = await createImageBitmap(new Blob([new Uint8Array(data, 4 + length)], { type: "image/jpeg" }));
  socket.send(JSON.stringify({ kind: "shown", number: head.number, time: sound.currentTime || 0 }));
  if (head.number < newest) return;
  newest = head.number;
  if (canvas.width !== picture.width) { canvas.width = picture.width; canvas.height = picture.height; }
  brush.drawImage(picture, 0, 0);
  picture.close();
  const now = performance.now();
  times = [...times.filter((time) => now - time < 1500), now];
  const rate = times.length > 2 ? (times.length - 1) / (times[times.length - 1] - times[0]) * 1000 : 0;
  const smooth = head.moving && times.length > 4;
  find("rate").textContent = `${smooth ? `${rate.toFixed(0)} frames a second, ` : ""}${head.size} × ${head.size}`;
  find("clock").textContent = smooth ? `${head.ms.toFixed(0)} ms a frame` : "";
  const held = Math.abs(head.turn[0] - head.wanted[0]) > 0.25 || Math.abs(head.turn[1] - head.wanted[1]) > 0.25;
  limit(held);
  Object.assign(canvas.dataset, { number: head.number, side: head.size, final: head.final, rate: rate.toFixed(1),
    frame: head.frame, turn: head.turn.map((value) => value.toFixed(1)).join(",") });
  document.documentElement.dataset.ready = "true";
};
let fading = 0;
const limit = (held) => {
  const text = held ? "No farther: the clip does not show it" : "";
  clearTimeout(fading);
  if (text) { if (find("limit").textContent !== text) find("limit").textContent = text; }
  else fading = setTimeout(() => { find("limit").textContent = ""; }, 600);
};
socket.onmessage = ({ data }) => {
  if (typeof data !== "string") { show(data); return; }
  const message = JSON.parse(data);
  if (message.problem) { remark.textContent = message.problem; if (message.speech === chosen) stop(); return; }
  if (message.speech !== undefined && message.speech === chosen) {
    ready = true; frames = message.frames;
    sound.src = `sound/${chosen}`;
    Object.assign(scrub, { disabled: false, max: message.seconds, value: 0 });
    play.disabled = false;
    play.textContent = "Play";
    remark.textContent = "";
    label();
    if (wishToPlay) begin();
    say();
  }
};

// Sound is the clock: pictures follow it, never the other way round.
const label = () => {
  find("time").textContent = ready ? `${minutes(sound.currentTime)} / ${minutes(Number(scrub.max))}` : "0:00";
  scrub.setAttribute("aria-valuetext", minutes(sound.currentTime || 0));
};
const begin = () => {
  wishToPlay = false;
  if (sound.ended) sound.currentTime = 0;
  sound.play().catch((error) => { remark.textContent = `The sound cannot be played: ${error.message}`; });
};
const stop = () => { wishToPlay = false; sound.pause(); play.disabled = chosen === null && told.speeches.length === 0; };
play.onclick = () => {
  if (chosen === null) { wishToPlay = true; speech.value = "0"; choose(); return; }
  if (sound.paused || sound.ended) begin(); else sound.pause();
};
for (const name of ["play", "pause", "ended", "seeked"]) sound.addEventListener(name, () => {
  play.textContent = playing() ? "Pause" : "Play";
  say();
});
sound.addEventListener("timeupdate", () => { if (!scrubbing) scrub.value = sound.currentTime; label(); });
let scrubbing = false;
scrub.oninput = () => { scrubbing = true; sound.currentTime = Number(scrub.value); label(); say(); };
scrub.onchange = () => { scrubbing = false; };
const choose = () => {
  sound.pause();
  sound.removeAttribute("src");
  ready = false;
  chosen = speech.value === "" ? null : Number(speech.value);
  Object.assign(scrub, { disabled: true, value: 0 });
  if (chosen !== null) { play.disabled = true; play.textContent = "Hearing …"; } else { play.textContent = "Play"; play.disabled = told.speeches.length === 0; }
  label();
  say();
};
speech.onchange = choose;

// Controls.
const says = () => {
  find("yaw-says").textContent = degrees(yaw.value);
  find("pitch-says").textContent = degrees(pitch.value);
  find("eyes-says").textContent = blinks.checked ? "auto" : `${Math.round(eyes.value * 100)} %`;
  find("mouth-says").textContent = follows.checked ? "auto" : `${Math.round(mouth.value * 100)} %`;
  say();
};
const hold = (value, slider) => Math.min(Math.max(value, Number(slider.min)), Number(slider.max));
const turn = (right, up) => {
  const wanted = [Number(yaw.value) + right, Number(pitch.value) + up];
  const kept = [hold(wanted[0], yaw), hold(wanted[1], pitch)];
  yaw.value = kept[0]; pitch.value = kept[1];
  if (kept[0] !== wanted[0] || kept[1] !== wanted[1]) { limit(true); limit(false); }
  says();
};
[yaw, pitch, alive, blinks, follows].forEach((part) => { part.oninput = says; });
eyes.oninput = () => { blinks.checked = false; says(); };
mouth.oninput = () => { follows.checked = false; says(); };
size.onchange = say;
find("straight").onclick = () => { yaw.value = 0; pitch.value = 0; says(); };
document.querySelectorAll("input[name=background]").forEach((part) => { part.onchange = say; });
find("colour").oninput = () => { document.querySelector("input[value=colour]").checked = true; say(); };
find("picture").onchange = async ({ target }) => {
  const file = target.files[0];
  if (!file) return;
  const answer = await fetch("background", { method: "POST", body: file });
  const radio = document.querySelector("input[value=picture]");
  if (!answer.ok) { remark.textContent = (await answer.json()).problem; return; }
  remark.textContent = "";
  radio.disabled = false;
  radio.checked = true;
  say();
};

let from = null;
canvas.addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return;
  canvas.setPointerCapture(event.pointerId);
  from = { x: event.clientX, y: event.clientY, yaw: Number(yaw.value), pitch: Number(pitch.value) };
});
canvas.addEventListener("pointermove", (event) => {
  if (from === null) return;
  // Half of the picture's width turns by 45 degrees.
  const scale = 90 / canvas.getBoundingClientRect().width;
  turn(from.yaw + (event.clientX - from.x) * scale - Number(yaw.value), from.pitch - (event.clientY - from.y) * scale - Number(pitch.value));
});
for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) canvas.addEventListener(name, () => { from = null; });
canvas.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
  if (step) turn(...step);
  else if (event.key === "Home") find("straight").click();
  else return;
  event.preventDefault();
});

// What the server told of the subject.
[[yaw, told.yaw], [pitch, told.pitch]].forEach(([slider, [least, most]]) => Object.assign(slider, { min: least, max: most, value: 0 }));
find("range").textContent = `The clip shows ${degrees(told.seen.yaw[0])} to ${degrees(told.seen.yaw[1])} sideways, ${degrees(told.seen.pitch[0])} to ${degrees(told.seen.pitch[1])} up and down; it turns ${told.beyond}° farther, and no more.`;
speech.append(new Option("Silence", ""), ...told.speeches.map((name, index) => new Option(name, String(index))));
size.append(new Option("As much as keeps up", "0"), ...told.sizes.map((side) => new Option(`${side} × ${side} at most`, String(side))));
size.value = String(told.size);
play.disabled = told.speeches.length === 0;
if (!told.mouth) { mouth.disabled = true; }
says();
