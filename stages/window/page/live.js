const told = JSON.parse(document.getElementById("data").textContent);
const find = (name) => document.querySelector(`[data-${name}]`);
const canvas = find("canvas"), listen = find("listen"), speak = find("speak"), remark = find("remark"), loudness = find("loudness");
const brush = canvas.getContext("2d", { alpha: false });
const address = (name) => `${location.href.replace(/^http/, "ws").replace(/[?#].*$/, "")}${name}`;
const RATE = 16000, FRAME = 640, LEAST_AHEAD_S = 0.35, MOST_AHEAD_S = 3.0;

// Sound is held back as long as pictures take; these wait for the sound that they belong to.
let aheadS = 0.6, ears = null, volume = null, playsUntil = 0, nextSample = 0, waiting = [], newest = null;
const soundTime = () => (ears === null ? null : nextSample / RATE - (playsUntil - ears.currentTime));
const hear = (first, data) => {
  if (ears === null || ears.state !== "running") { nextSample = first + data.length; playsUntil = ears ? ears.currentTime : 0; return; }
  const ahead = playsUntil - ears.currentTime;
  if (ahead < 0.01 || ahead > MOST_AHEAD_S) playsUntil = ears.currentTime + aheadS;
  const buffer = ears.createBuffer(1, data.length, RATE);
  buffer.copyToChannel(Float32Array.from(data, (value) => value / 32768), 0);
  const source = ears.createBufferSource();
  source.buffer = buffer;
  // Two sound cards never agree: a little faster or slower keeps what is ahead as it is, for hours.
  const speed = 1 + Math.max(-0.005, Math.min(0.005, (playsUntil - ears.currentTime - aheadS) * 0.02));
  source.playbackRate.value = speed;
  source.connect(volume);
  source.start(playsUntil);
  playsUntil += data.length / RATE / speed;
  nextSample = first + data.length;
};

let shown = 0, times = [], drawing = false;
const draw = async ({ number, data }) => {
  drawing = true;
  const picture = await createImageBitmap(new Blob([data], { type: "image/jpeg" }));
  drawing = false;
  if (canvas.width !== picture.width) { canvas.width = picture.width; canvas.height = picture.height; }
  brush.drawImage(picture, 0, 0);
  const now = performance.now();
  times = [...times.filter((time) => now - time < 1500), now];
  shown += 1;
  const rate = times.length > 4 ? (times.length - 1) / (times[times.length - 1] - times[0]) * 1000 : 0;
  find("rate").textContent = `${rate ? `${rate.toFixed(0)} frames a second, ` : ""}${picture.width} × ${picture.height}`;
  picture.close();
  Object.assign(canvas.dataset, { shown, frame: number });
  document.documentElement.dataset.ready = "true";
};
const look = () => {
  const time = ears !== null && ears.state === "running" ? soundTime() : null;
  while (waiting.length && (time === null || waiting[0].number * FRAME / RATE <= time + 0.02)) newest = waiting.shift();
  if (newest !== null && !drawing) { draw(newest); newest = null; }
  requestAnimationFrame(look);
};
requestAnimationFrame(look);

const socket = new WebSocket(address("watch"));
socket.binaryType = "arraybuffer";
socket.onmessage = ({ data }) => {
  const view = new DataView(data), kind = view.getUint8(0), number = Number(view.getBigUint64(1));
  if (kind === 1) {
    waiting.push({ number, data: data.slice(9) });
    if (waiting.length > 50) waiting.shift();
  } else if (kind === 2) {
    hear(number, new Int16Array(data.slice(9)));
    canvas.dataset.samples = nextSample;
  } else {
    const words = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 9)));
    aheadS = Math.max(LEAST_AHEAD_S, Math.min(MOST_AHEAD_S - 1, words.p95_ms / 1000 + 0.1));
    find("delay").textContent = `${(words.latency_ms / 1000).toFixed(2)} s behind the speaker, ${words.dropped} pictures left out`;
  }
};
socket.onclose = () => {
  remark.textContent = "The live speech has ended.";
  document.querySelectorAll("button, input").forEach((part) => { part.disabled = true; });
};

listen.onclick = async () => {
  if (ears === null) {
    ears = new AudioContext();
    volume = ears.createGain();
    volume.gain.value = Number(loudness.value);
    volume.connect(ears.destination);
    await ears.resume();
  } else if (ears.state === "running") await ears.suspend(); else await ears.resume();
  listen.textContent = ears.state === "running" ? "Mute" : "Listen";
  listen.setAttribute("aria-pressed", String(ears.state === "running"));
};
loudness.oninput = () => { if (volume !== null) volume.gain.value = Number(loudness.value); };

let mouthpiece = null;
speak.hidden = !told.speak;
speak.onclick = async () => {
  if (mouthpiece !== null) {
    mouthpiece.end();
    mouthpiece = null;
  } else {
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, echoCancellation: true } });
      const context = new AudioContext({ sampleRate: RATE });
      await context.audioWorklet.addModule("microphone.js");
      const source = context.createMediaStreamSource(stream), worklet = new AudioWorkletNode(context, "microphone");
      const words = new WebSocket(address("speak"));
      worklet.port.onmessage = ({ data }) => { if (words.readyState === WebSocket.OPEN) words.send(data.buffer); };
      source.connect(worklet);
      mouthpiece = { end: () => { stream.getTracks().forEach((track) => track.stop()); words.close(); context.close(); } };
    } catch (error) {
      remark.textContent = `The microphone cannot be used: ${error.message}`;
    }
  }
  speak.textContent = mouthpiece === null ? "Speak here" : "Stop speaking";
  speak.setAttribute("aria-pressed", String(mouthpiece !== null));
};
