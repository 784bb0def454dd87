"use strict";
// The page of `rlsuite play --web`. It keeps nothing but what the server last said (`now`) and what is shown of it.

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
let now = null; // the newest position, as the server told it
let shown = null; // the position on the screen: `now`, or an earlier one
let busy = false;
let from = null; // chess: the square that was clicked first
let offered = []; // chess: what a pawn can become, where it was clicked on to its last row
let focused = null; // the cell that had the keyboard's focus

function node(name, attributes, parent) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (parent) parent.appendChild(made);
  return made;
}

async function ask(path, body) {
  const options = body === undefined ? {} : { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
  let answer;
  try {
    answer = await fetch("api/" + path, options);
  } catch {
    throw new Error("the server does not answer; is it still running?");
  }
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error);
  return found;
}

function tell(text, wrong) {
  $("status").textContent = text;
  $("status").classList.toggle("error", Boolean(wrong));
}

// Does one thing at a time, and lets the player answer where it is to move.
async function act(path, body, waiting) {
  if (busy) return;
  busy = true;
  offered = [];
  buttons();
  if (waiting) tell(waiting);
  try {
    now = shown = await ask(path, body);
    draw();
    while (now.game && !now.over && !now.mine) {
      const before = now.plies;
      tell(`${now.player} is thinking…`);
      const found = await ask("answer", { ply: before });
      const latest = shown.ply === shown.plies;
      now = found;
      if (latest) shown = now;
      draw();
      if (now.plies === before && !now.over) break;
    }
    busy = false;
    draw();
  } catch (error) {
    busy = false;
    draw();
    tell(error.message, true);
  }
}

function play(action) {
  from = null;
  return act("move", { action, ply: now.plies });
}

async function step(ply) {
  offered = [];
  try {
    shown = ply >= now.plies ? now : await ask(`state?ply=${Math.max(ply, 0)}`);
    draw();
  } catch (error) {
    tell(error.message, true);
  }
}

function status() {
  if (!shown) return "";
  const names = now.sides;
  if (shown !== now) return `Behind move ${shown.ply} of ${now.plies}`;
  if (now.over) {
    if (now.points === 0.5) return "A draw.";
    const winner = now.points > 0.5 ? 0 : 1;
    const how = now.resigned === null ? "" : " by resignation";
    if (now.side === "0" || now.side === "1") return (Number(now.side) === winner ? "You have won" : "You have lost") + how + ".";
    return `${names[winner]} has won${how}.`;
  }
  if (now.mine) return `${names[now.turn]}: your move.`;
  return `${names[now.turn]}: ${now.player} to move.`;
}

function draw() {
  document.title = shown.game ? `${shown.game} – rlsuite` : "Videos – rlsuite";
  $("game").textContent = shown.game || "rlsuite";
  films();
  if (!shown.game) return;
  $("table").hidden = false;
  $("player").textContent = `against ${now.player}`;
  if (!busy) tell(status());
  board();
  choices();
  moves();
  chart();
  thought();
  buttons();
}

function buttons() {
  if (!shown || !shown.game) return;
  const here = shown === now;
  $("board").setAttribute("aria-busy", String(busy));
  $("undo").disabled = busy || !now.plies;
  $("hint").disabled = busy || !now.thinks || now.over || !here;
  $("resign").disabled = busy || now.over || now.side === "watch";
  const pass = now.legal.find((move) => move.text === "pass");
  $("pass").hidden = !pass;
  $("pass").disabled = busy || !now.mine || !here;
  $("strength").hidden = !now.thinks;
  $("start").disabled = busy;
  $("ply").max = now.plies;
  $("ply").value = shown.ply;
  $("back").disabled = shown.ply === 0;
  $("on").disabled = shown.ply >= now.plies;
}

// Where the middle of a cell lies: unit squares, or hexagons whose rows lean to the right.
function centre(layout, cell) {
  const row = Math.floor(cell / layout.width), column = cell % layout.width;
  if (layout.shape === "hexes") return [column * 0.9 + row * 0.45 + 0.5, row * 0.78 + 0.5];
  return [column + 0.5, row + 0.5];
}

function cellName(layout, cell) {
  const row = Math.floor(cell / layout.width), column = cell % layout.width;
  if (layout.shape === "columns") return String.fromCharCode(97 + column);
  return String.fromCharCode(97 + column) + (layout.shape === "chess" ? layout.height - row : row + 1);
}

function board() {
  const layout = shown.board, place = $("board");
  if (!layout) {
    const text = document.createElement("pre");
    text.textContent = shown.text;
    place.replaceChildren(text);
    return;
  }
  const hexes = layout.shape === "hexes";
  const width = hexes ? layout.width * 0.9 + layout.height * 0.45 + 0.1 : layout.width;
  const height = hexes ? layout.height * 0.78 + 0.22 : layout.height;
  const svg = node("svg", { viewBox: `-0.6 -0.6 ${width + 0.7} ${height + 0.7}`, class: layout.shape, role: "grid", "aria-label": "board" });
  background(svg, layout);
  edges(svg, layout);
  const heat = shown.hint && shown.hint.policy ? shown.hint.policy : {};
  const most = Math.max(0.0001, ...Object.values(heat));
  const open = shown === now && now.mine && !busy;
  const reachable = layout.shape === "chess" ? new Set(layout.moves.map((move) => (from === null ? move.from : move.from === from ? move.to : move.from))) : null;
  const lastCell = lastOne(layout);
  let first = true;
  for (let cell = 0; cell < layout.cells.length; cell++) {
    const [x, y] = centre(layout, cell), action = layout.clicks[cell];
    const can = open && (reachable ? reachable.has(cell) : action >= 0);
    const tabbable = open && (focused === null ? first && can : cell === focused);
    if (tabbable) first = false;
    const stone = layout.cells[cell];
    const state = layout.shape === "chess" ? (stone === "." ? "empty" : stone) : stone ? now.sides[stone - 1] : "empty";
    const group = node("g", { class: can ? "cell can" : "cell", transform: `translate(${x} ${y})`, role: "gridcell", tabindex: tabbable ? 0 : -1, "data-cell": cell, "aria-label": `${cellName(layout, cell)}, ${state}` }, svg);
    if (hexes) node("polygon", { class: "ring", points: hexagon(0.5) }, group);
    else node("rect", { class: "ring", x: -0.48, y: -0.48, width: 0.96, height: 0.96 }, group);
    if (reachable && cell === from) node("rect", { x: -0.5, y: -0.5, width: 1, height: 1, fill: "#1d5fbf", opacity: 0.35 }, group);
    mark(group, layout, stone);
    if (cell === lastCell) node("circle", { class: "last", r: layout.shape === "squares" ? 0.44 : 0.2 }, group);
    const share = action >= 0 ? heat[action] : undefined;
    if (share !== undefined && (layout.shape !== "columns" || lowest(layout, cell))) {
      node("circle", { class: "heat", r: 0.12 + 0.24 * Math.sqrt(share / most), opacity: 0.35 + 0.4 * (share / most) }, group);
    }
    group.addEventListener("click", () => choose(cell));
    group.addEventListener("focus", () => { focused = cell; });
    group.addEventListener("keydown", (event) => key(event, layout, cell));
  }
  const held = document.activeElement && document.activeElement.dataset && document.activeElement.dataset.cell;
  place.replaceChildren(svg);
  if (held !== undefined && held !== null) {
    const again = svg.querySelector(`[data-cell="${held}"]`);
    if (again) again.focus();
  }
}

function hexagon(r) {
  return [0, 1, 2, 3, 4, 5].map((i) => `${(r * Math.sin((i * Math.PI) / 3)).toFixed(3)},${(r * Math.cos((i * Math.PI) / 3)).toFixed(3)}`).join(" ");
}

function background(svg, layout) {
  const { shape, width, height } = layout;
  if (shape === "points") {
    node("rect", { x: -0.1, y: -0.1, width: width + 0.2, height: height + 0.2, fill: "var(--wood)", rx: 0.1 }, svg);
    for (let i = 0; i < height; i++) node("line", { x1: 0.5, x2: width - 0.5, y1: i + 0.5, y2: i + 0.5, stroke: "var(--grid)", "stroke-width": 0.03 }, svg);
    for (let i = 0; i < width; i++) node("line", { y1: 0.5, y2: height - 0.5, x1: i + 0.5, x2: i + 0.5, stroke: "var(--grid)", "stroke-width": 0.03 }, svg);
  } else if (shape === "columns") {
    node("rect", { x: -0.05, y: -0.05, width: width + 0.1, height: height + 0.1, fill: "#2456a6", rx: 0.15 }, svg);
    for (let cell = 0; cell < width * height; cell++) {
      const [x, y] = centre(layout, cell);
      node("circle", { cx: x, cy: y, r: 0.4, fill: "var(--paper)" }, svg);
    }
  } else {
    for (let cell = 0; cell < width * height; cell++) {
      const [x, y] = centre(layout, cell), odd = (Math.floor(cell / width) + (cell % width)) % 2;
      if (shape === "hexes") node("polygon", { transform: `translate(${x} ${y})`, points: hexagon(0.5), fill: "#e9e2d0", stroke: "#8b8370", "stroke-width": 0.03 }, svg);
      else {
        const fill = shape === "felt" ? "var(--felt)" : shape === "chess" ? (odd ? "#b58863" : "#f0d9b5") : "transparent";
        node("rect", { x: x - 0.5, y: y - 0.5, width: 1, height: 1, fill, stroke: shape === "felt" ? "#1c4d31" : "var(--line)", "stroke-width": 0.03 }, svg);
      }
    }
  }
  if (shape === "hexes") { // whose sides are whose
    const at = (cell) => centre(layout, cell), last = width * height - 1;
    const [a, b, c, d] = [at(0), at(width - 1), at(last), at(last - width + 1)];
    const side = (p, q, dx, dy, colour) => node("line", { x1: p[0] + dx, y1: p[1] + dy, x2: q[0] + dx, y2: q[1] + dy, stroke: colour, "stroke-width": 0.12, "stroke-linecap": "round" }, svg);
    side(a, b, 0, -0.52, "#c0392b"); side(d, c, 0, 0.52, "#c0392b");
    side(a, d, -0.48, 0.12, "#2468b4"); side(b, c, 0.48, -0.12, "#2468b4");
  }
}

function edges(svg, layout) {
  for (let column = 0; column < layout.width; column++) {
    node("text", { class: "name", x: centre(layout, column)[0], y: -0.35 }, svg).textContent = String.fromCharCode(97 + column);
  }
  if (layout.shape === "columns") return;
  for (let row = 0; row < layout.height; row++) {
    const [x, y] = centre(layout, row * layout.width);
    node("text", { class: "name", x: x - 0.8, y }, svg).textContent = layout.shape === "chess" ? layout.height - row : row + 1;
  }
}

const PIECES = { k: "♚", q: "♛", r: "♜", b: "♝", n: "♞", p: "♟" };

function mark(group, layout, stone) {
  if (!stone || stone === ".") return;
  if (layout.shape === "chess") {
    const white = stone !== stone.toLowerCase();
    node("text", { class: white ? "piece white" : "piece" }, group).textContent = PIECES[stone.toLowerCase()] + "\ufe0e";
  } else if (layout.shape === "squares") {
    if (stone === 1) node("path", { class: "first", d: "M-0.28 -0.28 L0.28 0.28 M0.28 -0.28 L-0.28 0.28" }, group);
    else node("circle", { class: "second", r: 0.3 }, group);
  } else if (layout.shape === "hexes") node("polygon", { class: stone === 1 ? "first" : "second", points: hexagon(0.44) }, group);
  else node("circle", { class: stone === 1 ? "first" : "second", r: layout.shape === "columns" ? 0.4 : 0.44 }, group);
}

function lowest(layout, cell) {
  return !layout.cells[cell] && (cell + layout.width >= layout.cells.length || layout.cells[cell + layout.width]);
}

function lastOne(layout) {
  if (shown.last === null) return -1;
  if (layout.shape === "chess") return -1;
  if (layout.shape !== "columns") return shown.last < layout.cells.length ? shown.last : -1;
  for (let cell = shown.last; cell < layout.cells.length; cell += layout.width) if (layout.cells[cell]) return cell;
  return -1;
}

function choose(cell) {
  if (busy || shown !== now || !now.mine) return;
  const layout = shown.board;
  focused = cell;
  if (layout.shape !== "chess") {
    if (layout.clicks[cell] >= 0) play(layout.clicks[cell]);
    return;
  }
  const fitting = layout.moves.filter((move) => move.from === from && move.to === cell);
  if (from !== null && fitting.length === 1) return play(fitting[0].action);
  offered = from === null ? [] : fitting;
  if (!offered.length) from = layout.moves.some((move) => move.from === cell) ? cell : null;
  board();
  choices();
  tell(offered.length ? "What shall the pawn become?" : status());
  if (offered.length) $("moves-here").querySelector("button").focus();
}

function key(event, layout, cell) {
  const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -layout.width, ArrowDown: layout.width }[event.key];
  if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    choose(cell);
  } else if (by !== undefined) {
    event.preventDefault();
    const to = cell + by;
    if (to < 0 || to >= layout.cells.length || (Math.abs(by) === 1 && Math.floor(to / layout.width) !== Math.floor(cell / layout.width))) return;
    const next = $("board").querySelector(`[data-cell="${to}"]`);
    next.setAttribute("tabindex", 0);
    next.focus();
  }
}

// Moves that no cell stands for, and those among which a click did not choose.
function choices() {
  const layout = shown.board, list = $("moves-here");
  const covered = layout ? new Set([...layout.clicks, ...(layout.moves || []).map((move) => move.action)]) : new Set();
  const left = shown === now && now.mine ? now.legal.filter((move) => !covered.has(move.action) && move.text !== "pass") : [];
  list.replaceChildren(...[...offered, ...left].map((move) => {
    const button = document.createElement("button");
    button.textContent = move.text;
    button.disabled = busy;
    button.addEventListener("click", () => play(move.action));
    return button;
  }));
}

function moves() {
  const list = $("moves");
  list.replaceChildren(...now.moves.map((text, i) => {
    const item = document.createElement("li"), button = document.createElement("button");
    button.textContent = `${i + 1}. ${text}`;
    if (i + 1 === shown.ply) button.setAttribute("aria-current", "true");
    button.addEventListener("click", () => step(i + 1));
    item.appendChild(button);
    return item;
  }));
  const current = list.querySelector("[aria-current]");
  if (current) list.scrollTop = current.offsetTop - list.offsetTop - 60;
}

function chart() {
  const svg = $("chart"), values = now.values, last = Math.max(values.length - 1, 1);
  const x = (i) => 8 + (284 * i) / last, y = (v) => 45 - 37 * v;
  svg.replaceChildren();
  node("line", { class: "zero", x1: 8, x2: 292, y1: y(0), y2: y(0) }, svg);
  node("line", { class: "now", x1: x(shown.ply), x2: x(shown.ply), y1: 4, y2: 86 }, svg);
  const known = values.map((v, i) => [i, v]).filter(([, v]) => v !== null);
  node("polyline", { points: known.map(([i, v]) => `${x(i).toFixed(1)},${y(v).toFixed(1)}`).join(" ") }, svg);
  for (const [i, v] of known) node("circle", { cx: x(i).toFixed(1), cy: y(v).toFixed(1), r: 2.2 }, svg);
  node("text", { x: 10, y: 12 }, svg).textContent = `${now.sides[0]} wins`;
  node("text", { x: 10, y: 86 }, svg).textContent = `${now.sides[1]} wins`;
}

function thought() {
  const hint = shown.hint;
  if (!hint) {
    $("thought").textContent = now.thinks ? "" : `${now.player} does not say what it thinks.`;
    return;
  }
  const sure = hint.proven ? " (proven)" : "";
  $("thought").textContent = `Best: ${hint.variation[0]}. You can expect ${hint.value.toFixed(2)}${sure}. Then: ${hint.variation.slice(1, 9).join(" ") || "–"}. ${hint.simulations.toLocaleString("en")} simulations.`;
}

function films() {
  $("videos").hidden = !shown.videos.length;
  if ($("films").childElementCount === shown.videos.length) return;
  $("films").replaceChildren(...shown.videos.map((name) => {
    const figure = document.createElement("figure"), video = document.createElement("video"), caption = document.createElement("figcaption");
    figure.className = "film";
    video.src = "videos/" + encodeURIComponent(name);
    video.controls = true;
    video.preload = "metadata";
    caption.textContent = name;
    figure.append(video, caption);
    return figure;
  }));
}

$("undo").addEventListener("click", () => act("undo", {}));
$("hint").addEventListener("click", () => act("think", {}, "Thinking…"));
$("resign").addEventListener("click", () => act("resign", {}));
$("pass").addEventListener("click", () => play(now.legal.find((move) => move.text === "pass").action));
$("back").addEventListener("click", () => step(shown.ply - 1));
$("on").addEventListener("click", () => step(shown.ply + 1));
$("ply").addEventListener("input", () => step(Number($("ply").value)));
$("new").addEventListener("submit", (event) => {
  event.preventDefault();
  focused = from = null;
  const simulations = Math.round(Number($("simulations").value)) || now.simulations;
  act("new", { side: $("side").value, simulations });
});
$("load").addEventListener("change", async () => {
  const file = $("load").files[0];
  if (file) await act("load", { record: await file.text() });
  $("load").value = "";
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || ["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName)) return;
  const wanted = { u: "undo", h: "hint", ",": "back", ".": "on" }[event.key.toLowerCase()];
  if (wanted && !$(wanted).disabled) $(wanted).click();
});

(async () => {
  try {
    now = shown = await ask("state");
  } catch (error) {
    $("table").hidden = false;
    tell(error.message, true);
    return;
  }
  if (now.game) {
    const names = now.sides, order = now.first === 0 ? [0, 1] : [1, 0];
    const options = [[String(order[0]), `${names[order[0]]}, first`], [String(order[1]), `${names[order[1]]}, second`], ["both", "both sides"], ["watch", "a spectator"]];
    $("side").replaceChildren(...options.map(([value, text]) => new Option(text, value, false, value === now.side)));
    $("simulations").value = now.simulations;
  }
  draw();
  if (now.game && !now.over && !now.mine) act("state"); // it is the player's turn
})();
