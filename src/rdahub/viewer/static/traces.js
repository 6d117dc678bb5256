// The traces: columns in, a chart out. uPlot draws axes and keeps the scales; x is the sample's index, trace i stands in
// row i from the top. The traces themselves are on a sheet of their own that moves left, so that a frame costs its new
// columns only: a phone draws 64 traces. Of each column the least and the greatest value are drawn, so no spike is lost.

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const LABELS = 28; // pixels above the traces, for two lanes of texts

export class Traces {
  constructor(element) {
    this.element = element;
    this.names = [];
    this.layout = []; // names of all channels, for markers of one
    this.happenings = [];
    this.gain = 50; // units per row
    this.plot = null;
    this.width = 1; // samples per column
    this.shown = 1; // columns in the picture
    this.next = 0; // column after the newest
    this.values = []; // of each trace a ring of columns: least, greatest
    this.sfreq = 1;
    this.sheet = document.createElement("canvas");
    this.painted = null; // column after the newest that is on the sheet; null if all is to be painted
    new ResizeObserver(() => this.plot && this.plot.setSize(this.size())).observe(element);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.plot && this.build());
  }

  size() {
    return { width: Math.max(200, this.element.clientWidth), height: Math.max(150, this.element.clientHeight) };
  }

  // Pixels between the axes, for the server to thin out to.
  pixels() {
    return Math.max(50, Math.min(1200, this.element.clientWidth - 70));
  }

  take(columns, floats) {
    const { n, first, anew } = columns;
    if (anew) {
      this.names = columns.names;
      this.width = columns.width;
      this.shown = columns.shown;
      this.values = this.names.map(() => new Float32Array(2 * this.shown).fill(NaN));
    }
    this.values.forEach((ring, i) => {
      for (let k = Math.max(0, n - this.shown); k < n; k++) {
        const slot = 2 * ((first + k) % this.shown), from = 2 * (n * i + k);
        ring[slot] = floats[from];
        ring[slot + 1] = floats[from + 1];
      }
    });
    this.next = first + n;
    if (anew) this.build();
  }

  // Traces that have drifted far from their rows are put back; called now and then.
  settle() {
    if (this.middles?.some((middle, i) => Math.abs(this.mean(i) - middle) > this.gain / 3)) this.painted = null;
  }

  setGain(gain) {
    this.gain = gain;
    this.painted = null;
  }

  mean(i) {
    let sum = 0, count = 0;
    for (const value of this.values[i]) if (Number.isFinite(value)) { sum += value; count++; }
    return count ? sum / count : 0;
  }

  right() {
    return this.next * this.width;
  }

  left() {
    return this.right() - this.shown * this.width;
  }

  build() {
    if (this.plot) this.plot.destroy();
    this.painted = null;
    const rows = this.names.length;
    const soft = css("--soft"), line = css("--line");
    const every = () => Math.max(1, Math.ceil((rows * 11) / this.size().height));
    this.plot = new uPlot({
      ...this.size(),
      padding: [LABELS, 8, 0, 0],
      legend: { show: false },
      cursor: { show: false },
      scales: {
        x: { time: false, range: (_, from, to) => [from, to] },
        y: { auto: false, range: () => [0, Math.max(1, rows)] },
      },
      axes: [
        { stroke: soft, grid: { stroke: line }, ticks: { stroke: line }, size: 30,
          splits: () => this.seconds(), values: (_, at) => at.map((i) => `${Math.round((i / this.sfreq) * 100) / 100} s`) },
        { stroke: soft, grid: { show: false }, ticks: { show: false }, size: 62,
          splits: () => this.names.map((_, i) => rows - i - 0.5).filter((_, i) => i % every() === 0),
          values: (_, at) => at.map((y) => this.names[Math.round(rows - y - 0.5)]) },
      ],
      series: [{}, { show: false }],
      hooks: {
        drawAxes: [(u) => this.drawGaps(u)],
        draw: [(u) => this.drawTraces(u), (u) => this.drawHappenings(u)],
        setSize: [() => { this.painted = null; }],
      },
    }, [[this.left(), this.right()], [0, 0]], this.element);
  }

  // Ticks on whole seconds of the index.
  seconds() {
    const step = Math.max(1, Math.round((this.shown * this.width) / this.sfreq / (this.element.clientWidth < 600 ? 4 : 10))) * this.sfreq;
    const found = [];
    for (let at = Math.ceil(this.left() / step) * step; at <= this.right(); at += step) found.push(at);
    return found;
  }

  draw() {
    if (!this.plot) return;
    this.plot.setScale("x", { min: this.left(), max: this.right() });
    this.plot.redraw(false);
  }

  drawTraces(u) {
    const { left, top, width, height } = u.bbox;
    const sheet = this.sheet, ctx = sheet.getContext("2d");
    const at = (column) => Math.round((column * width) / this.shown); // whole pixels, so that what moves stays sharp
    const rows = this.names.length;
    const oldest = this.next - this.shown;
    if (this.painted === null || this.painted < oldest || this.painted > this.next) {
      sheet.width = width;
      sheet.height = height;
      this.middles = this.names.map((_, i) => this.mean(i));
      this.pens = this.names.map(() => NaN); // where each trace's last column ended
      this.painted = oldest;
    } else if (this.painted < this.next) {
      ctx.globalCompositeOperation = "copy";
      ctx.drawImage(sheet, at(this.painted) - at(this.next), 0);
      ctx.globalCompositeOperation = "source-over";
    }
    const scale = height / rows / this.gain, shift = width - at(this.next);
    const wide = width < 2 * this.shown;
    const colours = [css("--trace"), css("--trace2")];
    ctx.lineWidth = Math.max(1, devicePixelRatio * 0.75);
    ctx.lineJoin = "bevel";
    colours.forEach((colour, parity) => {
      ctx.strokeStyle = colour;
      ctx.beginPath();
      for (let i = parity; i < rows; i += colours.length) {
        const ring = this.values[i], row = ((i + 0.5) * height) / rows;
        const y = (value) => row - (value - this.middles[i]) * scale;
        let pen = this.pens[i];
        if (Number.isFinite(pen)) ctx.moveTo(at(this.painted - 1) + shift + 0.5, y(pen));
        for (let k = this.painted; k < this.next; k++) {
          const slot = 2 * (((k % this.shown) + this.shown) % this.shown);
          let [from, to] = [ring[slot], ring[slot + 1]];
          if (!Number.isFinite(from)) { pen = NaN; continue; }
          const x = at(k) + shift + 0.5;
          if (Math.abs(pen - to) < Math.abs(pen - from)) [from, to] = [to, from];
          if (Number.isFinite(pen)) ctx.lineTo(x, y(from));
          else ctx.moveTo(x, y(from));
          ctx.lineTo(x, from === to ? y(to) + 0.01 : y(to));
          pen = to;
          if (wide && at(k + 1) - at(k) > 1) { // or a dense trace would show where a column is two pixels wide
            ctx.lineTo(x + 1, y(to));
            ctx.lineTo(x + 1, y(from));
            pen = from;
          }
        }
        this.pens[i] = pen;
      }
      ctx.stroke();
    });
    this.painted = this.next;
    u.ctx.drawImage(sheet, left, top);
  }

  within(u, at) {
    return u.bbox.left + ((at - this.left()) / (this.right() - this.left())) * u.bbox.width;
  }

  clip(u, paint) {
    const { left, top, width, height } = u.bbox;
    u.ctx.save();
    u.ctx.beginPath();
    u.ctx.rect(left, 0, width, top + height);
    u.ctx.clip();
    paint(u.ctx, top, height);
    u.ctx.restore();
  }

  drawGaps(u) {
    this.clip(u, (ctx, top, height) => {
      ctx.fillStyle = css("--gap");
      for (const [kind, start, stop] of this.happenings) {
        if (kind !== "gap") continue;
        const from = this.within(u, start);
        ctx.fillRect(from, top, Math.max(2, this.within(u, stop) - from), height);
      }
    });
  }

  drawHappenings(u) {
    const scale = devicePixelRatio, rows = this.names.length;
    const colours = { marker: css("--marker"), gap: css("--end"), end: css("--end"), start: css("--begin") };
    this.clip(u, (ctx, top, height) => {
      ctx.font = `${11 * scale}px system-ui, sans-serif`;
      ctx.textBaseline = "alphabetic";
      ctx.textAlign = "left";
      ctx.lineWidth = scale;
      const free = [-Infinity, -Infinity]; // from where on each lane has room
      const seen = this.happenings.filter(([, start, stop]) => Math.max(start, stop) >= this.left() && start <= this.right());
      for (const [kind, start, stop, text, channel] of seen.sort((a, b) => a[1] - b[1])) {
        const at = Math.round(this.within(u, Math.max(start, this.left()))) + 0.5;
        ctx.strokeStyle = ctx.fillStyle = colours[kind];
        const row = channel < 0 ? -1 : this.names.indexOf(this.layout[channel]);
        const [from, to] = row < 0 ? [top, top + height] : [top + (height * row) / rows, top + (height * (row + 1)) / rows];
        if (kind !== "gap") {
          ctx.setLineDash(kind === "marker" ? [] : [6 * scale, 4 * scale]);
          ctx.beginPath();
          ctx.moveTo(at, from);
          ctx.lineTo(at, to);
          ctx.stroke();
        }
        const label = { marker: text, start: text, end: `end: ${text}`, gap: `gap of ${stop - start}` }[kind];
        const wide = ctx.measureText(label).width + 6 * scale;
        const x = Math.min(at, u.bbox.left + u.bbox.width - wide);
        const lane = free.findIndex((from) => from <= x);
        if (lane < 0) continue; // the list of events has it
        free[lane] = x + wide;
        ctx.fillText(label, x + 2 * scale, top - (4 + 12 * lane) * scale);
      }
      ctx.setLineDash([]);
    });
  }
}
