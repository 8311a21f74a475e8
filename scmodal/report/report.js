// Draws the scatter plots of the report and answers to its few controls. No library, no network.
"use strict";
(() => {
  const DEGREE = 2 * Math.PI;
  const clouds = new Map();   // name -> points shared by several panels
  const panels = [];

  const numbers = (text) => {
    const raw = atob(text);
    const out = new Uint16Array(raw.length / 2);
    for (let i = 0; i < out.length; i++) out[i] = raw.charCodeAt(2 * i) | (raw.charCodeAt(2 * i + 1) << 8);
    return out;
  };
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function cloud(name) {
    if (!clouds.has(name)) {
      const data = JSON.parse(document.getElementById("data-" + name).textContent);
      for (const group of Object.values(data.groups)) {
        group.codes = numbers(group.codes);
        group.hidden = new Set();
      }
      data.view = null;        // zoomed part as shares of the ranges: [x0, x1, y0, y1]
      data.visible = (i) => Object.values(data.groups).every((g) => !g.hidden.has(g.codes[i]));
      clouds.set(name, data);
    }
    return clouds.get(name);
  }

  function points(data, index) {
    const one = data.series[index];
    if (typeof one.x === "string") { one.x = numbers(one.x); one.y = numbers(one.y); }
    return one;
  }

  // A round point of one colour, drawn once and stamped thousands of times.
  function stamp(shade, radius, scale, alpha) {
    const size = Math.ceil(2 * radius * scale) + 2;
    const sprite = document.createElement("canvas");
    sprite.width = sprite.height = size;
    const pen = sprite.getContext("2d");
    pen.globalAlpha = alpha;
    pen.fillStyle = shade;
    pen.beginPath();
    pen.arc(size / 2, size / 2, radius * scale, 0, DEGREE);
    pen.fill();
    return sprite;
  }

  function ticks(low, high, wanted) {
    const raw = (high - low) / wanted;
    if (!(raw > 0)) return [low];
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
    const out = [];
    for (let k = Math.ceil(low / step); k * step <= high; k++) out.push(k * step);
    return out;
  }

  class Panel {
    constructor(box) {
      this.box = box;
      this.canvas = box.querySelector("canvas");
      this.name = box.dataset.source;
      this.group = box.dataset.colour;
      this.series = Number(box.dataset.series || 0);
      this.axes = box.dataset.series !== "";
      this.tip = box.appendChild(Object.assign(document.createElement("div"), { className: "tip", hidden: true }));
      this.listen();
    }

    // Positions of all points in CSS pixels, as last drawn.
    layout() {
      const data = cloud(this.name), one = points(data, this.series);
      const w = this.canvas.clientWidth, h = this.canvas.clientHeight;
      const pad = this.axes ? { l: 54, r: 10, t: 10, b: 34 } : { l: 14, r: 14, t: 14, b: 14 };
      const [x0, x1, y0, y1] = data.view || [0, 1, 0, 1];
      const fx = (w - pad.l - pad.r) / (x1 - x0) / 65535, fy = (h - pad.t - pad.b) / (y1 - y0) / 65535;
      return { data, one, w, h, pad, x0, x1, y0, y1,
        px: (i) => pad.l + (one.x[i] - 65535 * x0) * fx,
        py: (i) => h - pad.b - (one.y[i] - 65535 * y0) * fy };
    }

    draw() {
      const at = this.layout(), { data, one, w, h, pad } = at;
      if (!w || !h) return;
      const scale = Math.min(3, window.devicePixelRatio || 1);
      this.canvas.width = Math.round(w * scale);
      this.canvas.height = Math.round(h * scale);
      const pen = this.canvas.getContext("2d");
      pen.scale(scale, scale);
      if (this.axes) this.frame(pen, at);
      const n = one.x.length, group = data.groups[this.group];
      const zoom = data.view ? 1 / Math.max(data.view[1] - data.view[0], data.view[3] - data.view[2]) : 1;
      const size = Math.min(w, h) / 460;
      const radius = Math.min(4.5, Math.max(1.1, 62 * size / Math.sqrt(n)) * Math.min(2, Math.sqrt(zoom)));
      const stamps = group.colours.map((c) => stamp(c, radius, scale, n > 400 ? 0.8 : 0.85));
      pen.setTransform(1, 0, 0, 1, 0, 0);
      for (let i = 0; i < n; i++) {
        if (!data.visible(i)) continue;
        const x = at.px(i), y = at.py(i);
        if (x < pad.l - 6 || x > w - pad.r + 6 || y < pad.t - 6 || y > h - pad.b + 6) continue;
        const sprite = stamps[group.codes[i]];
        pen.drawImage(sprite, x * scale - sprite.width / 2, y * scale - sprite.height / 2);
      }
      if (!this.axes) {
        pen.scale(scale, scale);
        pen.fillStyle = colour("--soft");
        pen.font = "11px Helvetica, Arial, sans-serif";
        pen.fillText(this.box.dataset.x + " →", 8, h - 7);
        pen.save();
        pen.translate(13, h - 22);
        pen.rotate(-Math.PI / 2);
        pen.fillText(this.box.dataset.y + " →", 0, 0);
        pen.restore();
      }
    }

    frame(pen, { one, w, h, pad, x0, x1, y0, y1 }) {
      const range = ([low, high], a, b) => [low + (high - low) * a, low + (high - low) * b];
      const xr = range(one.xr, x0, x1), yr = range(one.yr, y0, y1);
      const text = (t) => {
        const size = Math.abs(t);
        return (size > 0 && size < 1e-3 ? Number(t.toPrecision(2)).toExponential() : String(Number(t.toFixed(6)))).replaceAll("-", "−");
      };
      const share = (t, [low, high]) => high > low ? (t - low) / (high - low) : 0;
      pen.font = "11px Helvetica, Arial, sans-serif";
      pen.strokeStyle = colour("--grid");
      pen.fillStyle = colour("--soft");
      pen.textAlign = "center";
      pen.beginPath();
      for (const t of ticks(xr[0], xr[1], 4)) {
        const x = pad.l + share(t, xr) * (w - pad.l - pad.r);
        pen.moveTo(x, pad.t); pen.lineTo(x, h - pad.b);
        pen.fillText(text(t), x, h - pad.b + 14);
      }
      pen.textAlign = "right";
      for (const t of ticks(yr[0], yr[1], 4)) {
        const y = h - pad.b - share(t, yr) * (h - pad.t - pad.b);
        pen.moveTo(pad.l, y); pen.lineTo(w - pad.r, y);
        pen.fillText(text(t), pad.l - 5, y + 4);
      }
      pen.stroke();
      pen.fillStyle = colour("--ink");
      pen.textAlign = "center";
      pen.fillText(this.box.dataset.x, (pad.l + w - pad.r) / 2, h - 5);
      pen.save();
      pen.translate(11, (pad.t + h - pad.b) / 2);
      pen.rotate(-Math.PI / 2);
      pen.fillText(this.box.dataset.y, 0, 0);
      pen.restore();
    }

    listen() {
      let start = null, lasso = null;
      const place = (event) => {
        const r = this.canvas.getBoundingClientRect();
        return [event.clientX - r.left, event.clientY - r.top];
      };
      this.canvas.addEventListener("pointermove", (event) => {
        const [x, y] = place(event);
        if (start) {
          lasso = lasso || this.box.appendChild(Object.assign(document.createElement("div"), { className: "lasso" }));
          Object.assign(lasso.style, { left: Math.min(x, start[0]) + "px", top: Math.min(y, start[1]) + "px",
            width: Math.abs(x - start[0]) + "px", height: Math.abs(y - start[1]) + "px" });
        } else this.tell(x, y);
      });
      this.canvas.addEventListener("pointerleave", () => { this.tip.hidden = true; });
      this.canvas.addEventListener("pointerdown", (event) => {
        if (event.pointerType === "mouse" && event.button === 0) {
          start = place(event);
          this.tip.hidden = true;
          this.canvas.setPointerCapture(event.pointerId);
        }
      });
      this.canvas.addEventListener("pointerup", (event) => {
        if (!start) return;
        const end = place(event), from = start, { data, w, h, pad, x0, x1, y0, y1 } = this.layout();
        start = null;
        if (lasso) { lasso.remove(); lasso = null; }
        if (Math.abs(end[0] - from[0]) < 8 || Math.abs(end[1] - from[1]) < 8) return;
        const sx = (v) => x0 + (v - pad.l) / (w - pad.l - pad.r) * (x1 - x0);
        const sy = (v) => y0 + (h - pad.b - v) / (h - pad.t - pad.b) * (y1 - y0);
        data.view = [sx(Math.min(end[0], from[0])), sx(Math.max(end[0], from[0])),
          sy(Math.max(end[1], from[1])), sy(Math.min(end[1], from[1]))];
        redraw(this.name);
      });
      this.canvas.addEventListener("pointercancel", () => { start = null; if (lasso) { lasso.remove(); lasso = null; } });
      this.canvas.addEventListener("dblclick", () => { cloud(this.name).view = null; redraw(this.name); });
    }

    tell(x, y) {
      const at = this.layout(), { data, one, w } = at;
      let best = -1, least = 100;
      for (let i = 0; i < one.x.length; i++) {
        const dx = at.px(i) - x, dy = at.py(i) - y, d = dx * dx + dy * dy;
        if (d < least && data.visible(i)) { least = d; best = i; }
      }
      this.tip.hidden = best < 0;
      if (best < 0) return;
      const names = Object.values(data.groups).map((g) => g.names[g.codes[best]]).filter((v) => v !== "cells");
      this.tip.textContent = [data.cells[best], ...names].join(" · ");
      const right = x > w / 2;
      Object.assign(this.tip.style, { top: Math.max(0, y - 34) + "px", left: right ? "auto" : x + 10 + "px",
        right: right ? w - x + 10 + "px" : "auto" });
    }
  }

  const redraw = (name) => panels.forEach((p) => { if (!name || p.name === name) p.draw(); });

  document.querySelectorAll(".scatter").forEach((box) => panels.push(new Panel(box)));
  panels.forEach((p) => p.draw());
  const sized = new ResizeObserver((entries) => entries.forEach((e) => panels.find((p) => p.box === e.target).draw()));
  panels.forEach((p) => sized.observe(p.box));

  document.querySelectorAll(".legend[data-source]").forEach((list) => {
    const group = () => cloud(list.dataset.source).groups[list.dataset.colour];
    const buttons = [...list.querySelectorAll("button")];
    const show = () => {
      buttons.forEach((b) => b.setAttribute("aria-pressed", String(!group().hidden.has(Number(b.dataset.code)))));
      redraw(list.dataset.source);
    };
    buttons.forEach((button) => {
      const code = Number(button.dataset.code);
      button.addEventListener("click", () => {
        const hidden = group().hidden;
        if (!hidden.delete(code)) hidden.add(code);
        show();
      });
      button.addEventListener("dblclick", () => {
        const others = buttons.map((b) => Number(b.dataset.code)).filter((c) => c !== code);
        const alone = others.length > 0 && others.every((c) => group().hidden.has(c));
        group().hidden = new Set(alone ? [] : others);
        show();
      });
    });
  });

  document.querySelectorAll(".picker select").forEach((select) => {
    const panel = panels.find((p) => select.closest(".picker").contains(p.box));
    select.addEventListener("change", () => {
      panel.series = Number(select.value);
      panel.draw();
    });
  });

  document.querySelectorAll(".listing input").forEach((input) => {
    const rows = [...input.closest(".listing").querySelectorAll("tbody tr")];
    input.addEventListener("input", () => {
      const wanted = input.value.trim().toLowerCase();
      rows.forEach((row) => { row.hidden = !row.textContent.toLowerCase().includes(wanted); });
    });
  });

  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  document.getElementById("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const now = root.dataset.theme || (dark.matches ? "dark" : "light");
    root.dataset.theme = now === "dark" ? "light" : "dark";
    redraw();
  });
  dark.addEventListener("change", () => redraw());
  // Printing: every panel must have been drawn, in the colours of paper.
  window.addEventListener("beforeprint", () => panels.forEach((p) => p.draw()));
  window.addEventListener("afterprint", () => redraw());
})();
