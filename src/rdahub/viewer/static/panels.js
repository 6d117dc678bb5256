// What stands around the traces: health, events, quality, spectrum, head map, losses. Texts from outside are set as text only.

const WORDS = {
  streaming: "streaming", stalled: "stalled: the Recorder is acquiring, but nothing comes",
  idle: "idle: the Recorder is not acquiring", disconnected: "no Recorder", unreachable: "hub unreachable",
  viewer: "the viewer's server is unreachable",
};
const RECORDER = { 0: "idle", 1: "monitoring", 3: "impedance check" };
const CAUSES = {
  gaps: "gaps: the Recorder dropped blocks", missing_samples: "samples missing in gaps", repeated_blocks: "blocks that came twice, dropped",
  protocol_errors: "times the Recorder's stream was not RDA", reconnects: "connections to the Recorder lost",
  refused: "requests of clients refused or told BUSY", undelivered: "answers that a client did not take",
  refused_peers: "peers turned away", cut_peers: "peers cut off", unchecked_steps: "odd steps of the block counter", notes: "oddities in the stream",
};
const ENDS = {
  stop: "acquisition was stopped", restart: "a new start, or another workspace", lost: "the connection to the Recorder was lost",
  counter: "blocks were lost, nobody knows how many",
};
const byId = (id) => document.getElementById(id);
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function make(tag, text, attributes = {}) {
  const element = document.createElement(tag);
  element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text; // a screen reader is told of changes only
}

export function showState(state, why) {
  const element = byId("state");
  element.dataset.is = state;
  setText(element, (WORDS[state] ?? state) + (why ? `: ${why}` : ""));
}

export function showHealth(health, frames) {
  setText(byId("name"), health.name ?? "");
  const { recorder, counters } = health;
  const ms = (value) => (value === null ? "-" : `${Number(value.toPrecision(3))} ms`);
  const shown = {
    Recorder: recorder.address + (RECORDER[recorder.state] ? ` (${RECORDER[recorder.state]})` : ""),
    "Recorder's jitter": ms(health.jitter_ms),
    "hub's delay": ms(health.delay_ms),
    "jitter here": ms(health.here_ms),
    "hub's answer": ms(health.answer_ms),
    "last block": health.block_age === null ? "none" : `${health.block_age.toFixed(2)} s ago`,
    clients: health.clients,
    "furthest behind": behind(health),
    gaps: counters.gaps,
    page: `${frames} frames/s`,
  };
  byId("health").replaceChildren(...Object.entries(shown).map(([name, value]) => {
    const pair = document.createElement("div");
    pair.append(make("dt", name), make("dd", String(value), { "data-of": name }));
    return pair;
  }));
  const losses = Object.entries(CAUSES).filter(([name]) => counters[name] > 0)
    .map(([name, text]) => make("li", `${counters[name]} ${text}`, { "data-counter": name }));
  for (const [reason, n] of Object.entries(health.losses?.segment_ends ?? {})) losses.push(make("li", `${n} segments ended: ${ENDS[reason] ?? reason}`, { "data-end": reason }));
  if (health.history_pages) losses.push(make("li", `${health.history_pages} pages of history fetched by clients, for repair or for reading back`));
  const readers = (health.readers ?? []).map((reader) => make(
    "li", `${reader.name} · ${reader.behind ?? "?"} samples · ${reader.age.toFixed(0)} s ago`, { "data-behind": reader.behind ?? "" }));
  byId("readers").replaceChildren(...(readers.length ? readers : [make("li", "none has said so")]));
  byId("losses").replaceChildren(...(losses.length ? losses : [make("li", "none")]));
}

function behind(health) {
  const slow = (health.readers ?? []).filter((reader) => reader.behind !== null)[0];
  return slow ? `${slow.behind} samples (${slow.name})` : "–";
}

export function showEvents(happenings, sfreq) {
  const newest = happenings.slice(-40).reverse().map(([kind, start, stop, text]) => {
    const label = { marker: text, start: `${text} begins`, end: `segment ends: ${text}`, gap: `gap of ${stop - start} samples (${text})` }[kind];
    return make("li", `${start} · ${(start / sfreq).toFixed(3)} s · ${label}`, { "data-kind": kind, "data-index": start });
  });
  byId("events").replaceChildren(...newest);
}

export function showQuality(all, onPress) {
  const rank = { railed: 0, flat: 0, line: 1, none: 2, good: 3 };
  const quality = [...all].sort((a, b) => rank[a[1]] - rank[b[1]]); // those that need a look first; sort is stable
  const list = byId("quality");
  const focused = list.contains(document.activeElement) ? document.activeElement.dataset.name : null;
  const bad = quality.filter(([, word]) => word !== "good" && word !== "none").length;
  setText(byId("quality-sum"), quality.length ? (bad ? `${bad} of ${quality.length} need a look` : "all good") : "");
  if (list.children.length !== quality.length || quality.some(([name], i) => list.children[i].firstChild.dataset.name !== name)) {
    list.replaceChildren(...quality.map(([name]) => {
      const item = document.createElement("li");
      const button = make("button", "", { type: "button", "data-name": name });
      button.onclick = () => onPress(name);
      item.append(button);
      return item;
    }));
    if (focused !== null) [...list.querySelectorAll("button")].find((b) => b.dataset.name === focused)?.focus();
  }
  quality.forEach(([name, word, rms, line, mains], i) => {
    const button = list.children[i].firstChild;
    button.dataset.word = word;
    setText(button, `${name} ${word}`);
    button.title = `${name}: ${word}; RMS ${rms}` + (mains ? `, at ${mains} Hz ${line}` : "");
  });
}

function decades(min, max) {
  const found = [];
  for (let power = Math.floor(Math.log10(min)); power <= Math.ceil(Math.log10(max)); power++) found.push(Number(`1e${power}`));
  return found;
}

export class Spectrum {
  constructor(element) {
    this.element = element;
    this.plot = null;
    this.dark = matchMedia("(prefers-color-scheme: dark)");
    this.dark.addEventListener("change", () => { if (this.plot) { this.plot.destroy(); this.plot = null; } });
  }

  show({ hz, density, unit }) {
    const data = [hz, density.map((value) => (value > 0 ? value : null))];
    if (this.plot && this.unit === unit) return this.plot.setData(data);
    if (this.plot) this.plot.destroy();
    this.unit = unit;
    const axis = { stroke: css("--soft"), grid: { stroke: css("--line") }, ticks: { stroke: css("--line") } };
    this.plot = new uPlot({
      width: Math.max(200, this.element.clientWidth), height: 200, legend: { show: false }, cursor: { show: false },
      scales: { x: { time: false }, y: { distr: 3 } },
      axes: [{ ...axis, values: (_, at) => at.map((v) => `${v} Hz`) }, {
        ...axis, size: 60, label: `${unit}/√Hz`, labelSize: 18, splits: (_, __, min, max) => decades(min, max), values: (_, at) => at.map(String),
      }],
      series: [{}, { stroke: css("--trace"), width: 1.5, points: { show: false } }],
    }, data, this.element);
  }
}

// kΩ to a colour and a word, so that colour is not all that tells.
function judge(kohm) {
  if (kohm < 0) return ["var(--soft)", "off"];
  return kohm <= 10 ? ["var(--good)", "good"] : kohm <= 25 ? ["var(--warn)", "fair"] : ["var(--bad)", "bad"];
}

export function showHead(impedances) {
  const head = byId("head");
  const told = JSON.stringify(impedances);
  if (head.dataset.told === told) return;
  head.dataset.told = told;
  head.replaceChildren();
  byId("head-hint").textContent = impedances ? "kΩ: good up to 10, fair up to 25; × is not connected. Places go by the electrodes' names." : "The Recorder has measured none.";
  if (!impedances) return;
  const svg = (tag, attributes, text) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const lost = impedances.filter(([, , place]) => !place);
  const rows = Math.ceil(lost.length / 8);
  const picture = svg("svg", { viewBox: `-130 -130 260 ${260 + 34 * rows}`, role: "img", "aria-label": "head from above, nose up, with impedances" });
  picture.append(svg("path", { d: "M-12,-98 L0,-116 L12,-98", fill: "none", stroke: "var(--soft)", "stroke-width": 2 }),
    svg("circle", { r: 100, fill: "none", stroke: "var(--soft)", "stroke-width": 2 }));
  let i = 0;
  for (const [name, kohm, place] of impedances) {
    const [x, y] = place ? [place[0] * 100, -place[1] * 100] : [-112 + 32 * (i % 8), 146 + 34 * Math.floor(i++ / 8)];
    const [colour, word] = judge(kohm);
    const group = svg("g", { transform: `translate(${x},${y})`, "data-electrode": name, "data-kohm": kohm });
    group.append(svg("title", {}, `${name}: ${kohm < 0 ? "not connected" : `${kohm} kΩ, ${word}`}`),
      svg("circle", { r: 10.5, fill: "var(--back)", stroke: colour, "stroke-width": 2.5 }),
      svg("text", { "text-anchor": "middle", y: -1, "font-size": 7, fill: "var(--ink)" }, name),
      svg("text", { "text-anchor": "middle", y: 7, "font-size": 8, "font-weight": 700, fill: colour }, kohm < 0 ? "×" : kohm));
    picture.append(group);
  }
  head.append(picture);
}
