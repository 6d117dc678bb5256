// The page: settings and their controls, messages to their panels, one drawing per frame of the screen.
// A message is confirmed when it has been drawn, so that a slow browser is sent fewer.

import { Link } from "./link.js";
import { Traces } from "./traces.js";
import { Spectrum, showEvents, showHead, showHealth, showQuality, showState } from "./panels.js";

const KEY = "rdahub-view";
const GAINS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 50000];
const byId = (id) => document.getElementById(id);
const form = byId("controls");
const traces = new Traces(byId("traces"));
const spectrum = new Spectrum(byId("spectrum"));
const settings = { gain: "50", seconds: "10", high_pass: "1", low_pass: "", notch: "", montage: "recorded", channels: null, spectrum: null, ...remembered() };
let layout = { names: [], units: [], sfreq: 1, instance: "" };
let quality = [], paused = false, dirty = false, pending = [], frames = 0, newest = null;

function remembered() {
  try { return JSON.parse(localStorage.getItem(KEY)) ?? {}; } catch { return {}; }
}

function remember() {
  try { localStorage.setItem(KEY, JSON.stringify(settings)); } catch { /* a private window: not kept */ }
}

function ask() {
  remember();
  const number = (text) => (text === "" ? null : Number(text));
  link.show({
    channels: settings.channels, seconds: Number(settings.seconds), pixels: traces.pixels(), montage: settings.montage,
    high_pass: number(settings.high_pass), low_pass: number(settings.low_pass), notch: number(settings.notch),
    spectrum: settings.spectrum,
  });
}

// --- messages ---------------------------------------------------------------------------------------------

function onMessage(head, floats) {
  if (head.layout) {
    layout = head.layout;
    traces.layout = layout.names;
    traces.sfreq = layout.sfreq;
    showChannels();
  }
  if (head.columns) traces.take(head.columns, floats);
  if (head.happenings) {
    traces.happenings = head.happenings;
    showEvents(head.happenings, layout.sfreq);
  }
  if (head.spectrum) spectrum.show({ ...head.spectrum, unit: layout.units[layout.names.indexOf(head.spectrum.channel)] });
  if (head.health) {
    newest = head.health;
    quality = newest.quality;
    showState(newest.state, newest.state === "streaming" ? "" : newest.why);
    showHealth(newest, frames);
    showQuality(quality, chooseSpectrum);
    showHead(newest.impedances);
    traces.settle();
    frames = 0;
  }
  dirty = true;
  pending.push(head.number);
}

function onState(connected) {
  pending = [];
  if (!connected) showState("viewer");
}

const link = new Link(onMessage, onState);

function frame() {
  requestAnimationFrame(frame);
  if (!dirty) return;
  dirty = false;
  if (!paused) traces.draw();
  frames++;
  byId("axis").textContent = `sample ${traces.right()} · ${(traces.right() / layout.sfreq).toFixed(2)} s since the hub's start`;
  document.body.dataset.next = traces.right();
  document.body.dataset.instance = layout.instance;
  for (const number of pending.splice(0)) link.drawn(number);
}

// --- controls ---------------------------------------------------------------------------------------------

function showChannels() {
  byId("channels").replaceChildren(...layout.names.map((name) => {
    const label = document.createElement("label");
    const box = Object.assign(document.createElement("input"), { type: "checkbox", value: name, checked: settings.channels === null || settings.channels.includes(name) });
    box.onchange = () => choose([...byId("channels").querySelectorAll("input")].filter((each) => each.checked).map((each) => each.value));
    label.append(box, ` ${name}`);
    return label;
  }));
  sayChosen();
  if (!layout.names.includes(settings.spectrum)) settings.spectrum = layout.names[0] ?? null;
  byId("spectrum-channel").replaceChildren(...layout.names.map((name) => new Option(name, name, false, name === settings.spectrum)));
  byId("traces").setAttribute("aria-label", `scrolling traces of ${layout.names.length} channels at ${layout.sfreq} Hz`);
  ask();
}

function sayChosen() {
  const known = settings.channels?.filter((name) => layout.names.includes(name)).length;
  byId("chosen").textContent = `${known || layout.names.length} of ${layout.names.length}` + (known === 0 ? " (none is chosen here, so all)" : "");
}

function choose(names) {
  settings.channels = names.length === layout.names.length ? null : names;
  for (const box of byId("channels").querySelectorAll("input")) box.checked = settings.channels === null || settings.channels.includes(box.value);
  sayChosen();
  ask();
}

function chooseSpectrum(name) {
  settings.spectrum = name;
  byId("spectrum-channel").value = name;
  ask();
}

function setGain(gain) {
  settings.gain = String(gain);
  form.gain.value = settings.gain;
  traces.setGain(Number(gain));
  dirty = true;
  remember();
}

function pause() {
  paused = !paused;
  byId("pause").setAttribute("aria-pressed", paused);
  byId("pause").textContent = paused ? "Go on" : "Pause";
  dirty = true;
}

form.gain.append(...GAINS.map((gain) => new Option(`${gain} µV/row`, gain)));
for (const name of ["gain", "seconds", "high_pass", "low_pass", "notch", "montage"]) {
  form[name].value = settings[name];
  form[name].onchange = () => {
    settings[name] = form[name].value;
    if (name === "gain") setGain(settings.gain);
    else ask();
  };
}
form.onsubmit = (event) => event.preventDefault();
setGain(settings.gain);
byId("pause").onclick = pause;
byId("all").onclick = () => choose(layout.names);
byId("none").onclick = () => choose([]);
byId("good").onclick = () => choose(quality.filter(([, word]) => word === "good").map(([name]) => name));
byId("spectrum-channel").onchange = (event) => chooseSpectrum(event.target.value);
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, button, summary")) return;
  const step = { "+": -1, "=": -1, "-": 1 }[event.key];
  const at = GAINS.indexOf(Number(settings.gain)) + (step ?? 0);
  if (step && GAINS[at]) setGain(GAINS[at]);
  else if (event.key === " ") pause();
  else return;
  event.preventDefault();
});
let resized;
addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(ask, 300); });

window.rdahub = { traces, get health() { return newest; } }; // for tests and the curious
ask();
requestAnimationFrame(frame);
