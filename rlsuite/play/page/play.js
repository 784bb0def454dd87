"use strict";
// The page of `rlsuite play --web`. Its only state is what the server last sent (`current`) and which position of it is shown.

const $ = (id) => document.getElementById(id);
let current = null; // the newest position, as the server sent it
let shown = null; // the position on the screen: `current`, or an earlier one
let busy = false;
let from = null; // chess: the square that was clicked first
let promotions = []; // chess: the moves to choose from once a pawn was moved to its last rank
let focused = null; // the cell that has the keyboard focus

async function ask(path, body) {
  const options = body === undefined ? {} : { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
  let answer;
  try {
    answer = await fetch("api/" + path, options);
  } catch {
    throw new Error("The server does not answer. Is it still running?");
  }
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error);
  return found;
}

function say(text, wrong) {
  $("status").textContent = text;
  $("status").classList.toggle("error", Boolean(wrong));
}

// Sends one request at a time; then the player moves for as long as it is its turn.
async function act(path, body, waiting) {
  if (busy) return;
  busy = true;
  promotions = [];
  buttons();
  if (waiting) say(waiting);
  try {
    current = shown = await ask(path, body);
    draw();
    while (current.game && !current.over && !current.mine) {
      const before = current.plies;
      say(pending());
      const found = await ask("answer", { ply: before });
      const follow = shown.ply === shown.plies; // not if an earlier position was chosen meanwhile
      current = found;
      if (follow) shown = current;
      draw();
      if (current.plies === before && !current.over) break;
    }
    busy = false;
    draw();
  } catch (error) {
    busy = false;
    draw();
    say(error.message, true);
  }
}

// What there is to say while the player thinks: the first search has to be compiled.
function pending() {
  return current.waits ? `${current.waits[0].toUpperCase()}${current.waits.slice(1)}…` : `${current.player} is thinking…`;
}

function play(action) {
  from = null;
  return act("move", { action, ply: current.plies });
}

async function step(ply) {
  promotions = [];
  try {
    shown = ply >= current.plies ? current : await ask(`state?ply=${Math.max(ply, 0)}`);
    draw();
  } catch (error) {
    say(error.message, true);
  }
}

function status() {
  if (!shown) return "";
  if (shown !== current) return `After move ${shown.ply} of ${current.plies}`;
  if (current.over) {
    if (current.points === 0.5) return "A draw.";
    const winner = current.points > 0.5 ? 0 : 1;
    const how = current.resigned === null ? "" : " by resignation";
    if (current.side === "0" || current.side === "1") return (Number(current.side) === winner ? "You have won" : "You have lost") + how + ".";
    return `${current.sides[winner]} has won${how}.`;
  }
  return `${current.sides[current.turn]}: ${current.mine ? "your move" : `${current.player} to move`}.`;
}

function draw() {
  document.title = shown.game ? `${shown.game} – rlsuite` : "Videos – rlsuite";
  $("game").textContent = shown.game || "rlsuite";
  videos();
  if (!shown.game) return;
  $("table").hidden = false;
  $("player").textContent = `against ${current.player}`;
  if (!busy) say([status(), ...current.notes.map((note) => `(${note})`)].join(" "));
  board();
  choices();
  moves();
  drawChart($("chart"), current.values, shown.ply, current.sides);
  hint();
  buttons();
}

function buttons() {
  if (!shown || !shown.game) return;
  const here = shown === current;
  const pass = current.legal.find((move) => move.text === "pass");
  $("board").setAttribute("aria-busy", String(busy));
  $("undo").disabled = busy || !current.plies;
  $("hint").disabled = busy || !current.searches || current.over || !here;
  $("resign").disabled = busy || current.over || current.side === "watch";
  $("pass").hidden = !pass;
  $("pass").disabled = busy || !current.mine || !here;
  $("strength").hidden = !current.searches;
  $("start").disabled = busy;
  $("ply").max = current.plies;
  $("ply").value = shown.ply;
  $("back").disabled = shown.ply === 0;
  $("on").disabled = shown.ply >= current.plies;
}

function canMove() {
  return shown === current && current.mine && !busy;
}

function board() {
  const layout = shown.board, place = $("board");
  if (!layout) {
    const text = document.createElement("pre");
    text.textContent = shown.text;
    place.replaceChildren(text);
    return;
  }
  const open = canMove();
  const squares = new Set((layout.moves || []).map((move) => (from === move.from ? move.to : move.from)));
  const clickable = (cell) => open && (layout.moves ? squares.has(cell) : layout.clicks[cell] >= 0);
  const view = { sides: current.sides, open, clickable, focused, selected: from, last: shown.last, policy: shown.hint ? shown.hint.policy : {} };
  const svg = drawBoard(layout, view, { click: choose, focus: (cell) => { focused = cell; }, key: (event, cell) => key(event, layout, cell) });
  const held = document.activeElement && document.activeElement.dataset && document.activeElement.dataset.cell;
  place.replaceChildren(svg);
  const again = held === undefined || held === null ? null : svg.querySelector(`[data-cell="${held}"]`);
  if (again) again.focus();
}

function choose(cell) {
  if (!canMove()) return;
  const layout = shown.board;
  focused = cell;
  if (!layout.moves) {
    if (layout.clicks[cell] >= 0) play(layout.clicks[cell]);
    return;
  }
  const fitting = layout.moves.filter((move) => move.from === from && move.to === cell);
  if (fitting.length === 1) return play(fitting[0].action);
  promotions = fitting;
  if (!promotions.length) from = layout.moves.some((move) => move.from === cell) ? cell : null;
  board();
  choices();
  say(promotions.length ? "What should the pawn become?" : status());
  if (promotions.length) $("moves-here").querySelector("button").focus();
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

// Buttons for promotions, and for moves that no cell stands for.
function choices() {
  const layout = shown.board;
  const covered = layout ? new Set([...layout.clicks, ...(layout.moves || []).map((move) => move.action)]) : new Set();
  const others = shown === current && current.mine ? current.legal.filter((move) => !covered.has(move.action) && move.text !== "pass") : [];
  $("moves-here").replaceChildren(...[...promotions, ...others].map((move) => {
    const button = document.createElement("button");
    button.textContent = move.text;
    button.disabled = busy;
    button.addEventListener("click", () => play(move.action));
    return button;
  }));
}

function moves() {
  const list = $("moves");
  list.replaceChildren(...current.moves.map((text, i) => {
    const item = document.createElement("li"), button = document.createElement("button");
    button.textContent = `${i + 1}. ${text}`;
    if (i + 1 === shown.ply) button.setAttribute("aria-current", "true");
    button.addEventListener("click", () => step(i + 1));
    item.appendChild(button);
    return item;
  }));
  const place = list.querySelector("[aria-current]");
  if (place) list.scrollTop = place.offsetTop - list.offsetTop - 60;
}

function hint() {
  const found = shown.hint;
  if (!found) {
    $("thought").textContent = current.searches ? "" : `${current.player} does not search, so it has no hints.`;
    return;
  }
  const proven = found.proven ? " (proven)" : "", next = found.variation.slice(1, 9).join(" ") || "–";
  $("thought").textContent = `Best: ${found.variation[0]}. You can expect ${found.value.toFixed(2)}${proven}. Then: ${next}. ${found.simulations.toLocaleString("en")} simulations.`;
}

function videos() {
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
$("hint").addEventListener("click", () => act("think", {}, pending()));
$("resign").addEventListener("click", () => act("resign", {}));
$("pass").addEventListener("click", () => play(current.legal.find((move) => move.text === "pass").action));
$("back").addEventListener("click", () => step(shown.ply - 1));
$("on").addEventListener("click", () => step(shown.ply + 1));
$("ply").addEventListener("input", () => step(Number($("ply").value)));
$("new").addEventListener("submit", (event) => {
  event.preventDefault();
  focused = from = null;
  const simulations = Math.round(Number($("simulations").value)) || current.simulations;
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
    current = shown = await ask("state");
  } catch (error) {
    $("table").hidden = false;
    say(error.message, true);
    return;
  }
  if (current.game) {
    const names = current.sides, order = current.first === 0 ? [0, 1] : [1, 0];
    const options = [[String(order[0]), `${names[order[0]]}, first`], [String(order[1]), `${names[order[1]]}, second`], ["both", "both sides"], ["watch", "a spectator"]];
    $("side").replaceChildren(...options.map(([value, text]) => new Option(text, value, false, value === current.side)));
    $("simulations").value = current.simulations;
  }
  draw();
  if (current.game && !current.over && !current.mine) act("state"); // it is the player's turn
})();
