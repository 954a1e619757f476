// What follows the chosen source and band; plots and table are Bokeh's, found by their names.
"use strict";
(() => {
const info = JSON.parse(document.getElementById("report-data").textContent);
const by = (id) => document.getElementById(id);
const bands = info.bands;
let doc, sources, table, shown = [], chosen = 0, redraws = 0;
const model = (name) => doc.get_model_by_name(name);
const value = (name, i) => (sources.data[name] === undefined ? NaN : sources.data[name][i]);
const digits = (x, n = 3) => (Number.isFinite(x) ? String(Number(x.toPrecision(n))) : "–");
const fixed = (x, n) => (Number.isFinite(x) ? x.toFixed(n) : "–");
const give = (name, data) => { const source = model(name); if (source) source.data = data; };

// ---- positions and dates in words

function sexagesimal(ra, dec) {
  const parts = (x, seconds) => {
    let total = Math.round(Math.abs(x) * 3600 * 10 ** seconds);
    const unit = 10 ** seconds, s = total % (60 * unit), m = Math.floor(total / (60 * unit)) % 60;
    const pad = (s / unit).toFixed(seconds).padStart(seconds ? seconds + 3 : 2, "0");
    return `${String(Math.floor(total / (3600 * unit))).padStart(2, "0")}:${String(m).padStart(2, "0")}:${pad}`;
  };
  return `${parts(ra / 15, 3)} ${dec < 0 ? "−" : "+"}${parts(dec, 2)}`;
}
const toDate = (mjd) => (mjd - 40587) * 86400000;
const dateWords = (mjd) => new Date(toDate(mjd)).toISOString().slice(0, 10);

// ---- stamps: parts of the tiles

const loaded = new Map();
function loadTile(key, kind, text) {
  if (!loaded.has(key)) {
    if (loaded.size > 80) loaded.delete(loaded.keys().next().value);
    const image = new Image();
    image.src = `data:${kind};base64,${text}`;
    loaded.set(key, image.decode().then(() => image));
  }
  return loaded.get(key);
}

// Draws what a square of `size` arcsec around pixel (x, y) of a mosaic shows; canvases have y down, tiles too.
async function drawTiles(context, name, tiles, scale, x, y, size) {
  const width = context.canvas.width, half = size / 2 / (scale * tiles.step), zoom = width / (2 * half);
  const u = (x + 0.5) / tiles.step, v = (y + 0.5) / tiles.step, across = Math.ceil(tiles.shape[1] / tiles.side);
  const first = (c) => Math.max(Math.floor((c - half) / tiles.side), 0);
  const last = (c, n) => Math.min(Math.floor((c + half) / tiles.side), Math.ceil(n / tiles.side) - 1);
  context.imageSmoothingEnabled = false;
  for (let row = first(v); row <= last(v, tiles.shape[0]); row++) {
    for (let column = first(u); column <= last(u, tiles.shape[1]); column++) {
      const k = row * across + column, image = await loadTile(`${name} ${k}`, tiles.kind, tiles.images[k]);
      const left = (column * tiles.side - u + half) * zoom;
      const top = (v + half - row * tiles.side - image.height) * zoom;
      context.drawImage(image, left, top, image.width * zoom, image.height * zoom);
    }
  }
}

// Edges of segments, from labels that are colours: [x0, y0, x1, y1, own] in shares of the stamp.
async function findEdges(id, x, y, size) {
  const labels = info.labels, side = Math.min(Math.ceil(size / (info.scale * labels.step)) + 1, 600);
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = side;
  const context = canvas.getContext("2d", {willReadFrequently: true}), pixel = info.scale * labels.step;
  // Whole pixels: the canvas begins at one.
  const u = Math.floor((x + 0.5) / labels.step - side / 2), v = Math.floor((y + 0.5) / labels.step - side / 2);
  const middle = (c) => (c + side / 2) * labels.step - 0.5;
  await drawTiles(context, "labels", labels, info.scale, middle(u), middle(v), side * pixel);
  const data = context.getImageData(0, 0, side, side).data, edges = [];
  const label = (column, row) => {
    const k = 4 * (row * side + column);
    return data[k] + 256 * data[k + 1] + 65536 * data[k + 2];
  };
  const across = (column) => ((u + column) - (x + 0.5) / labels.step) * pixel / size + 0.5;
  const down = (row) => ((y + 0.5) / labels.step - (v + side - row)) * pixel / size + 0.5;
  for (let row = 0; row < side - 1; row++) {
    for (let column = 0; column < side - 1; column++) {
      const here = label(column, row), right = label(column + 1, row), below = label(column, row + 1);
      const own = (other) => here === id || other === id;
      if (here !== right) edges.push([across(column + 1), down(row), across(column + 1), down(row + 1), own(right)]);
      if (here !== below) edges.push([across(column), down(row + 1), across(column + 1), down(row + 1), own(below)]);
    }
  }
  return edges;
}

function stampSize(i) {
  const asked = Number(by("size").value), kron = value("major", i);
  return asked || Math.min(Math.max(3, 5 * (Number.isFinite(kron) ? kron : 0.5)), 20);
}

function drawOverlay(context, i, size, edges) {
  const width = context.canvas.width, scale = width / size;
  const line = (colour, thickness, dash = []) => {
    context.strokeStyle = colour; context.lineWidth = thickness * width / 150; context.setLineDash(dash);
    context.beginPath();
  };
  for (const own of [false, true]) {
    line(own ? "#D55E00" : "#0072B2", 1.2);
    for (const [x0, y0, x1, y1, mine] of edges) {
      if (mine === own) { context.moveTo(x0 * width, y0 * width); context.lineTo(x1 * width, y1 * width); }
    }
    context.stroke();
  }
  const major = value("major", i) * scale, minor = value("minor", i) * scale;
  if (Number.isFinite(major) && Number.isFinite(minor)) {
    line("#009E73", 1.4, [4 * width / 150, 3 * width / 150]);
    context.ellipse(width / 2, width / 2, major, minor, -value("theta", i) * Math.PI / 180, 0, 2 * Math.PI);
    context.stroke();
  }
  if (info.diameters.length) {
    line("#E69F00", 1);
    context.arc(width / 2, width / 2, info.diameters[info.reference] / 2 * scale, 0, 2 * Math.PI);
    context.stroke();
  }
}

const dark = window.matchMedia("(prefers-color-scheme: dark)");
const place = (map, x, y) => [map[0] + map[1] * x + map[2] * y, map[3] + map[4] * x + map[5] * y];

async function drawBand(canvas, band, i, size, edges) {
  const [x, y] = place(band.map, value("x", i), value("y", i)), context = canvas.getContext("2d");
  const width = canvas.width, contrast = Number(by("contrast").value);
  context.fillStyle = "#000"; context.fillRect(0, 0, width, width);
  await drawTiles(context, band.label, band.tiles, band.scale, x, y, size);
  if (contrast > 1) {
    context.globalCompositeOperation = "lighter";
    context.drawImage(canvas, 0, 0);
  }
  if (!dark.matches) {  // dark sources on a light page
    context.globalCompositeOperation = "difference";
    context.fillStyle = "#fff"; context.fillRect(0, 0, width, width);
  }
  context.globalCompositeOperation = "source-over";
  drawOverlay(context, i, size, edges);
}

async function drawStamps(i) {
  const box = by("stamps");
  if (!box) return;
  const turn = ++redraws, size = stampSize(i), old = box.childElementCount;
  const edges = info.labels ? await findEdges(value("id", i), value("x", i), value("y", i), size) : [];
  const figures = [];
  for (const band of bands) {
    if (!band.tiles) continue;
    const figure = document.createElement("figure"), canvas = document.createElement("canvas");
    const caption = document.createElement("figcaption"), name = document.createElement("b");
    canvas.width = canvas.height = 300;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `source ${value("id", i)} in ${band.label}`);
    name.textContent = band.label;
    const flux = value(`${band.key}.f`, i), error = value(`${band.key}.e`, i);
    caption.append(name, Number.isFinite(flux) ? ` S/N ${digits(flux / error)}` : "");
    figure.append(canvas, caption);
    await drawBand(canvas, band, i, size, edges);
    if (turn !== redraws) return;
    figures.push(figure);
  }
  box.replaceChildren(...figures);
  box.title = `${digits(size)}″ wide`;
  if (!old) window.dispatchEvent(new Event("resize"));
}

// ---- plots of the source

function drawSpectrum(i) {
  const points = {x: [], y: [], low: [], high: [], band: []}, limits = {x: [], y: [], band: []};
  for (const band of bands) {
    const flux = value(`${band.key}.f`, i), error = value(`${band.key}.e`, i);
    if (!Number.isFinite(band.wavelength) || !(error > 0) || !Number.isFinite(flux)) continue;
    if (flux >= 3 * error) {
      points.x.push(band.wavelength); points.y.push(flux); points.band.push(band.label);
      points.low.push(flux - error); points.high.push(flux + error);
    } else {
      limits.x.push(band.wavelength); limits.y.push(3 * error); limits.band.push(`${band.label}, below`);
    }
  }
  give("spectrum points", points); give("spectrum limits", limits);
}

function drawGrowth(i) {
  const curves = {x: [], y: [], colour: [], band: []};
  const points = {x: [], y: [], low: [], high: [], colour: [], band: []};
  for (const band of bands) {
    const x = [], y = [];
    info.diameters.forEach((diameter, k) => {
      const flux = value(`${band.key}.a${k}`, i), error = value(`${band.key}.e${k}`, i);
      if (!Number.isFinite(flux)) return;
      x.push(diameter); y.push(flux);
      points.x.push(diameter); points.y.push(flux); points.low.push(flux - error); points.high.push(flux + error);
      points.colour.push(band.colour); points.band.push(band.label);
    });
    curves.x.push(x); curves.y.push(y); curves.colour.push(band.colour); curves.band.push(band.label);
  }
  give("growth curves", curves); give("growth points", points);
}

const numbersOf = (text, Type) => new Type(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);

// The visits that saw a source in a band: [time, seconds, name].
function findVisits(band, i) {
  const all = band.visits;
  if (!all) return [];
  if (typeof all.first === "string") {
    const types = {first: Uint32Array, visit: Uint16Array, day: Float32Array, seconds: Float32Array};
    for (const [name, Type] of Object.entries(types)) all[name] = numbersOf(all[name], Type);
  }
  const found = [];
  for (let k = all.first[i]; k < all.first[i + 1]; k++) {
    if (Number.isFinite(all.day[k])) found.push([all.start + all.day[k], all.seconds[k], all.names[all.visit[k]]]);
  }
  return found;
}

function drawEpochs(i) {
  const spans = {band: [], first: [], mean: [], last: [], dot: [], note: []};
  const visits = {band: [], time: [], size: [], note: []}, found = bands.map((band) => findVisits(band, i));
  const most = Math.max(...found.flat().map(([, seconds]) => seconds), 1);
  bands.forEach((band, k) => {
    for (const [day, seconds, name] of found[k]) {
      visits.band.push(band.label); visits.time.push(toDate(day)); visits.size.push(9 + 17 * Math.sqrt(seconds / most));
      visits.note.push(`visit ${name}, ${dateWords(day)}, ${digits(seconds / 1000)} ks`);
    }
    const [first, mean, last] = ["t0", "t1", "t2"].map((name) => value(`${band.key}.${name}`, i));
    if (!Number.isFinite(mean)) return;
    const time = digits(value(`${band.key}.s`, i) / 1000), number = value(`${band.key}.n`, i);
    spans.band.push(band.label); spans.first.push(toDate(first)); spans.mean.push(toDate(mean));
    spans.last.push(toDate(last)); spans.dot.push(found[k].length ? 0 : 7);
    const inVisits = found[k].length ? ` in ${found[k].length} visits` : "";
    spans.note.push(`${number} exposures${inVisits}, ${time} ks, ${dateWords(first)} to ${dateWords(last)}`);
  });
  give("epochs spans", spans); give("epochs visits", visits);
}

function writeNumbers(i) {
  const box = by("numbers");
  if (!box) return;
  const k = info.reference, diameter = info.diameters.length ? `${info.diameters[k].toFixed(2)}″` : "";
  const rows = [["band", "flux (µJy)", `in ${diameter} (µJy)`, "5σ limit (AB mag)", "neighbours", "exposures", "ks"]];
  for (const band of bands) {
    if (band.key === null) continue;
    const get = (name) => value(`${band.key}.${name}`, i);
    const both = (flux, error) => {  // two digits of the error decide
      if (!Number.isFinite(flux) || !(error > 0)) return "–";
      const places = Math.min(Math.max(1 - Math.floor(Math.log10(error)), 0), 6);
      return `${flux.toFixed(places)} ± ${error.toFixed(places)}`.replace("-", "−");
    };
    const limit = 23.9 - 2.5 * Math.log10(5 * get(`m${k}`)), share = 100 * get(`c${k}`);
    rows.push([band.label, both(get("f"), get("e")), both(get(`a${k}`), get(`e${k}`)), fixed(limit, 2),
      Number.isFinite(share) ? `${fixed(share, 1)} %` : "–", get("n") > 0 ? String(get("n")) : "–",
      digits(get("s") / 1000)]);
  }
  const html = document.createElement("table");
  html.className = "plain";
  rows.forEach((row, k) => {
    const line = html.insertRow();
    for (const text of row) {
      const cell = document.createElement(k ? "td" : "th");
      cell.textContent = text;
      line.append(cell);
    }
  });
  box.replaceChildren(html);
}

function show(i) {
  chosen = i;
  const ra = value("ra", i), dec = value("dec", i), mag = value("mag", i), half = value("radius", i);
  by("name").textContent = `Source ${value("id", i)}`;
  const words = [`RA ${ra.toFixed(6)}  Dec ${dec.toFixed(6)}`, sexagesimal(ra, dec)];
  if (Number.isFinite(mag)) words.push(`${mag.toFixed(2)} AB mag`);
  if (Number.isFinite(value("snr", i))) words.push(`S/N ${digits(value("snr", i))}`);
  if (Number.isFinite(half)) words.push(`half of the light within ${half.toFixed(2)}″`);
  by("place").textContent = words.join("  ·  ");
  const flags = info.flags.filter(([bit]) => (value("flag", i) & bit) !== 0);
  by("flags").textContent = flags.length ? `Flags: ${flags.map(([, , text]) => text).join("; ")}.` : info.flags.length ? "No flags." : "";
  give("chosen", {x: [value("fx", i)], y: [value("fy", i)]});
  drawSpectrum(i); drawGrowth(i); drawEpochs(i); writeNumbers(i);
  drawStamps(i);
}

// ---- plots of the band

function showBand(k) {
  const band = bands[k], number = info.reference, n = sources.data.id.length;
  const points = {flux: [], error: [], empty: [], id: []};
  for (let i = 0; i < n; i++) {
    const flux = value(`${band.key}.a${number}`, i), error = value(`${band.key}.e${number}`, i);
    if (flux > error && error > 0) {
      points.flux.push(flux); points.error.push(error); points.id.push(value("id", i));
      points.empty.push(value(`${band.key}.m${number}`, i));
    }
  }
  give("errors points", points);
  give("factor curves", band.curves); give("factor points", band.points); give("matching curves", band.matching);
  const zones = by("zones");
  if (zones) {
    zones.replaceChildren(...band.curves.zone.flatMap((zone, k, all) => {
      const key = document.createElement("span");
      key.className = "key"; key.style.borderColor = band.curves.colour[k];
      return [key, k + 1 < all.length ? `${zone}, ` : `${zone}. `];
    }));
  }
  const view = model("depth shown");
  if (view) {
    const colours = model("depth colours");
    if (band.depths) [colours.low, colours.high] = band.depths;
    view.indices = band.map_row === null ? [] : [band.map_row];
    model("depth bar").visible = band.map_row !== null;
  }
  // An empty plot is told.
  const tell = (part, known, words) => {
    const line = by(`without-${part}`);
    if (line) line.textContent = known ? "" : `${band.label}: ${words}.`;
  };
  tell("errors", points.id.length, "no flux is above its error");
  tell("factor", band.curves.x.length, "a(r) is not known");
  tell("depth", band.map_row !== null, "no image, no data, or a(r) is not known");
  tell("matching", band.matching.x.length, "it has the PSF of the target, or was not matched");
}

// ---- search

const CONDITION = /^(id|mag|snr|s\/n|radius|r50|ra|dec|share)\s*(<|>)\s*(-?[\d.]+)$/i;
function matches(text) {
  const n = sources.data.id.length, every = Array.from({length: n}, (_, i) => i);
  const words = text.trim().toLowerCase().replace("−", "-");
  if (!words) return every;
  const numbers = words.split(/[\s,]+/).map(Number);
  if (numbers.length === 2 && numbers.every(Number.isFinite)) {
    const [ra, dec] = numbers, cos = Math.cos(dec * Math.PI / 180);
    const off = (i) => Math.hypot((value("ra", i) - ra) * cos, value("dec", i) - dec) * 3600;
    const near = every.filter((i) => off(i) < 30);
    return near.sort((one, two) => off(one) - off(two));
  }
  let rows = every;
  for (const part of words.split(/\s*(?:&|,|\band\b)\s*/)) {
    const condition = part.match(CONDITION), name = condition && {"s/n": "snr", r50: "radius"}[condition[1]] || condition?.[1];
    if (condition) {
      const bound = Number(condition[3]);
      rows = rows.filter((i) => (condition[2] === "<" ? value(name, i) < bound : value(name, i) > bound));
    } else if (/^\d+$/.test(part)) {
      rows = rows.filter((i) => String(value("id", i)) === part);
    } else {
      rows = rows.filter((i) => sources.data.words[i].toLowerCase().includes(part));
    }
  }
  return rows;
}

function search() {
  const box = by("search"), rows = matches(box.value), typing = document.activeElement === box, kept = chosen;
  model("found").indices = rows;
  if (sources.selected.indices[0] !== kept) choose(kept);  // the table goes back to the last that was clicked
  if (typing) box.focus({preventScroll: true});  // the table takes it as it fills
  shown = rows;
  by("found").textContent = rows.length === sources.data.id.length ? `${rows.length} sources` : `${rows.length} of ${sources.data.id.length}`;
}

const choose = (i) => { sources.selected.indices = [i]; };
function step(by_) {
  if (!shown.length) return;
  const k = shown.indexOf(chosen);
  choose(shown[(k + by_ + shown.length) % shown.length]);
}

function showInField() {
  const plot = model("field"), x = value("fx", chosen), y = value("fy", chosen), half = 4 * stampSize(chosen) / 60;
  const ratio = (plot.y_range.end - plot.y_range.start) / (plot.x_range.end - plot.x_range.start);
  plot.x_range.setv({start: x - half, end: x + half});
  plot.y_range.setv({start: y - half * ratio, end: y + half * ratio});
  document.querySelector("[aria-label=Field]").scrollIntoView({behavior: "smooth"});
}

// The more outlines are in view, the fainter they are: those of thousands would hide the picture.
function fadeOutlines() {
  const plot = model("field"), outlines = model("outlines"), [x, y] = [plot.x_range, plot.y_range];
  const within = (name, range) => (i) => (value(name, i) - range.start) * (value(name, i) - range.end) < 0;
  const [across, up] = [within("fx", x), within("fy", y)];
  let seen = 0;
  for (let i = 0; i < sources.data.id.length; i++) if (across(i) && up(i)) seen++;
  const alpha = Math.min(0.55, Math.max(0.12, 800 / seen));
  for (const glyph of [outlines.glyph, outlines.nonselection_glyph]) glyph.line_alpha = alpha;
}

function begin() {
  doc = Bokeh.documents[0];
  table = model("table"); sources = table.source;
  shown = Array.from({length: sources.data.id.length}, (_, i) => i);
  sources.selected.properties.indices.change.connect(() => {
    const [i] = sources.selected.indices;
    if (i !== undefined && i !== chosen) show(i);
  });
  by("search").addEventListener("input", search);
  by("search").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && shown.length) choose(shown[0]);
  });
  by("size")?.addEventListener("change", () => drawStamps(chosen));
  by("contrast")?.addEventListener("change", () => drawStamps(chosen));
  by("outlines").addEventListener("change", (event) => { model("outlines").visible = event.target.checked; });
  if (model("picture")) {
    let waiting = 0;
    const later = () => { clearTimeout(waiting); waiting = setTimeout(fadeOutlines, 150); };
    for (const range of [model("field").x_range, model("field").y_range]) range.change.connect(later);
    fadeOutlines();
  }
  by("zoom")?.addEventListener("click", showInField);
  dark.addEventListener("change", () => { drawStamps(chosen); window.dispatchEvent(new Event("resize")); });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || /INPUT|SELECT|TEXTAREA/.test(document.activeElement.tagName)) {
      if (event.key === "Escape") document.activeElement.blur();
      return;
    }
    if (event.key === "/") { event.preventDefault(); by("search").focus(); }
    if (event.key === "n") step(1);
    if (event.key === "p") step(-1);
  });
  const menu = by("band");
  if (menu) {
    bands.forEach((band, k) => { if (band.key !== null) menu.add(new Option(band.label, k)); });
    menu.addEventListener("change", () => showBand(Number(menu.value)));
    showBand(Number(menu.value));
  }
  search();
  const first = info.first;
  sources.selected.indices = [first];
  show(first);
  document.documentElement.dataset.ready = "yes";
}

const wait = () => {
  const ready = window.Bokeh && Bokeh.documents.length && Bokeh.documents[0].get_model_by_name("table");
  if (ready) begin(); else setTimeout(wait, 30);
};
wait();
})();
