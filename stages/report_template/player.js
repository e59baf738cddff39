// One video holds every picture of a frame as tiles, so nothing can get out of step; canvases show the tiles.
class Player {
  constructor(root, video, data) {
    this.video = video;
    this.info = data.video;
    this.index = 0;
    this.wanted = null;
    this.listeners = [];
    this.canvases = [];
    this.mode = "head";
    this.ready = false;
    video.removeAttribute("controls");
    video.setAttribute("tabindex", "-1");
    video.setAttribute("aria-hidden", "true");
    video.muted = !this.info.sound;
    for (const event of ["loadeddata", "seeked"]) video.addEventListener(event, () => this.arrived());
    for (const event of ["play", "pause", "ended"]) video.addEventListener(event, () => this.changed());
    video.addEventListener("error", () => this.failed(root));
    this.useBlob();
    this.find(root);
  }

  // Some browsers do not seek in a data URI.
  useBlob() {
    const text = atob(this.video.getAttribute("src").split(",")[1]);
    const bytes = new Uint8Array(text.length);
    for (let index = 0; index < text.length; index += 1) bytes[index] = text.charCodeAt(index);
    this.video.src = URL.createObjectURL(new Blob([bytes], { type: "video/mp4" }));
  }

  find(root) {
    const part = (name) => root.querySelector(`[data-${name}]`);
    this.button = part("play");
    this.scrub = part("scrub");
    this.time = part("time");
    this.scrub.max = this.info.frames.length - 1;
    this.button.addEventListener("click", () => this.toggle());
    this.scrub.addEventListener("input", () => {
      this.video.pause();
      this.goTo(Number(this.scrub.value));
    });
    for (const button of root.querySelectorAll("[data-step]"))
      button.addEventListener("click", () => this.step(Number(button.dataset.step)));
    part("speed").addEventListener("change", (event) => {
      this.video.playbackRate = Number(event.target.value);
    });
    part("loop").addEventListener("change", (event) => {
      this.video.loop = event.target.checked;
    });
    this.video.loop = part("loop").checked;
    part("sound").addEventListener("change", (event) => {
      this.video.muted = !event.target.checked;
    });
    if (!this.info.sound) part("sound-choice").hidden = true;
    for (const canvas of root.querySelectorAll("canvas[data-tile]")) this.addCanvas(canvas, canvas.dataset.tile);
  }

  addCanvas(canvas, tile) {
    canvas.width = canvas.height = this.info.tile_px;
    this.canvases.push([canvas.getContext("2d"), tile]);
  }

  get frame() {
    return this.info.frames[this.index];
  }

  get playing() {
    return !this.video.paused && !this.video.ended;
  }

  failed(root) {
    root.querySelector("[data-video-error]").hidden = false;
    root.dataset.failed = "true";
  }

  toggle() {
    if (this.playing) this.video.pause();
    else this.video.play().catch(() => this.changed());
  }

  changed() {
    this.button.textContent = this.playing ? "Pause" : "Play";
    this.button.setAttribute("aria-pressed", String(this.playing));
    if (this.playing) this.watch();
  }

  watch() {
    this.watcher = (this.watcher || 0) + 1;
    const mine = this.watcher;
    const look = (second) => {
      this.index = Math.min(this.info.frames.length - 1, Math.max(0, Math.floor(second * this.info.fps + 0.01)));
      this.show();
      if (this.playing && mine === this.watcher) this.nextPicture(look);
    };
    this.nextPicture(look);
  }

  nextPicture(then) {
    if (this.video.requestVideoFrameCallback) this.video.requestVideoFrameCallback((_, picture) => then(picture.mediaTime));
    else requestAnimationFrame(() => then(this.video.currentTime));
  }

  step(by) {
    this.video.pause();
    this.goTo((this.wanted ?? this.index) + by);
  }

  // Show a frame by its place in the video; while one seek is under way, only the latest other one waits.
  goTo(index) {
    const place = Math.min(this.info.frames.length - 1, Math.max(0, Math.round(index)));
    this.wanted = place;
    if (!this.video.seeking && this.ready) this.video.currentTime = (place + 0.5) / this.info.fps;
  }

  goToFrame(frame) {
    this.video.pause();
    this.goTo(nearest(this.info.frames, frame));
  }

  arrived() {
    if (!this.ready) {
      this.ready = true;
      this.goTo(this.wanted ?? 0);
      return;
    }
    if (this.playing) return;
    const reached = Math.floor(this.video.currentTime * this.info.fps);
    if (this.wanted !== null && this.wanted !== reached) return this.goTo(this.wanted);
    this.wanted = null;
    this.index = Math.min(this.info.frames.length - 1, reached);
    this.show();
  }

  tileOf(name) {
    if (name === "mode") return this.info.tiles.indexOf(this.mode);
    if (name === "error") return this.info.tiles.indexOf(`${this.mode}_error`);
    return this.info.tiles.indexOf(name);
  }

  // Draw a tile of the current picture into a square of a canvas's context.
  draw(context, name, left, top, width, height, from = 0, to = 1) {
    const side = this.info.tile_px;
    const tile = this.tileOf(name);
    const [x, y] = [(tile % this.info.columns) * side, Math.floor(tile / this.info.columns) * side];
    if (to > from) context.drawImage(this.video, x + from * side, y, (to - from) * side, side, left + from * width, top, (to - from) * width, height);
  }

  // Enlarge a square of a tile, given by its centre and side as shares of the tile, to a whole canvas.
  cut(context, name, x, y, side) {
    const tile = this.tileOf(name);
    const size = this.info.tile_px;
    const left = Math.min(1 - side, Math.max(0, x - side / 2)) + (tile % this.info.columns);
    const top = Math.min(1 - side, Math.max(0, y - side / 2)) + Math.floor(tile / this.info.columns);
    context.drawImage(this.video, left * size, top * size, side * size, side * size, 0, 0, context.canvas.width, context.canvas.height);
  }

  show() {
    if (this.ready) for (const [context, tile] of this.canvases) this.draw(context, tile, 0, 0, context.canvas.width, context.canvas.height);
    this.scrub.value = this.index;
    const seconds = (this.frame / this.info.fps).toFixed(2);
    this.scrub.setAttribute("aria-valuetext", `frame ${this.frame}, ${seconds} s`);
    this.time.textContent = `frame ${this.frame} · ${seconds} s`;
    for (const listener of this.listeners) listener();
  }
}

// True on the left of a divider, rendered on its right.
class Wipe {
  constructor(root, player) {
    this.player = player;
    this.canvas = root.querySelector("canvas");
    this.divider = root.querySelector("[data-divider]");
    this.context = this.canvas.getContext("2d");
    this.canvas.width = this.canvas.height = Math.max(512, player.info.tile_px);
    this.divider.addEventListener("input", () => this.draw());
    const drag = (event) => {
      const box = this.canvas.getBoundingClientRect();
      this.divider.value = (100 * (event.clientX - box.left)) / box.width;
      this.draw();
    };
    this.canvas.addEventListener("pointerdown", (event) => {
      this.canvas.setPointerCapture(event.pointerId);
      drag(event);
    });
    this.canvas.addEventListener("pointermove", (event) => event.buttons && drag(event));
    player.listeners.push(() => this.draw());
  }

  draw() {
    const { context, canvas, player } = this;
    const [side, share] = [canvas.width, Number(this.divider.value) / 100];
    this.divider.setAttribute("aria-valuetext", `${Math.round(100 * share)} % true`);
    if (!player.ready) return;
    context.imageSmoothingQuality = "high";
    player.draw(context, "truth", 0, 0, side, side);
    player.draw(context, "mode", 0, 0, side, side, share, 1);
    context.fillStyle = "#fff";
    context.fillRect(share * side - 1.5, 0, 3, side);
    context.beginPath();
    context.arc(share * side, side / 2, 15, 0, 2 * Math.PI);
    context.fill();
    context.fillStyle = "#222";
    for (const way of [-1, 1]) {
      context.beginPath();
      context.moveTo(share * side + way * 11, side / 2);
      context.lineTo(share * side + way * 4, side / 2 - 6);
      context.lineTo(share * side + way * 4, side / 2 + 6);
      context.fill();
    }
  }
}
