"use strict";
// Draws boards and the chart as SVG. Nothing here knows the state of the game: positions come in, elements go out.
// A layout is the board of a position as the server describes it: shape, width, height, columns and rows (their names), cells, clicks.

const SVG = "http://www.w3.org/2000/svg";
const PIECES = { k: "♚", q: "♛", r: "♜", b: "♝", n: "♞", p: "♟" };

function node(name, attributes, parent) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (parent) parent.appendChild(made);
  return made;
}

// The board as an SVG element. `view`: sides (their names), open (a move can be made), clickable(cell), focused and selected (a cell or
// null), last (an action or null), policy (action -> share of visits). `on`: the handlers click(cell), focus(cell), key(event, cell).
function drawBoard(layout, view, on) {
  const hexes = layout.shape === "hexes";
  const width = hexes ? layout.width * 0.9 + layout.height * 0.45 + 0.1 : layout.width;
  const height = hexes ? layout.height * 0.78 + 0.22 : layout.height;
  const svg = node("svg", { viewBox: `-0.6 -0.6 ${width + 0.7} ${height + 0.7}`, class: layout.shape, role: "grid", "aria-label": "board" });
  drawBackground(svg, layout);
  if (hexes) drawHexEdges(svg, layout);
  drawNames(svg, layout);
  const most = Math.max(0.0001, ...Object.values(view.policy));
  const last = lastCell(layout, view.last);
  let tabbable = view.focused; // one cell at a time is in the tab order
  for (let cell = 0; cell < layout.cells.length; cell++) {
    const [x, y] = centre(layout, cell), action = layout.clicks[cell], stone = layout.cells[cell], can = view.clickable(cell);
    if (tabbable === null && can) tabbable = cell;
    const attributes = { role: "gridcell", tabindex: cell === tabbable && view.open ? 0 : -1, "data-cell": cell, "aria-label": `${cellName(layout, cell)}, ${stoneName(layout, stone, view.sides)}` };
    const group = node("g", { class: can ? "cell can" : "cell", transform: `translate(${x} ${y})`, ...attributes }, svg);
    if (hexes) node("polygon", { class: "ring", points: hexagon(0.5) }, group);
    else node("rect", { class: "ring", x: -0.48, y: -0.48, width: 0.96, height: 0.96 }, group);
    if (cell === view.selected) node("rect", { class: "selected", x: -0.5, y: -0.5, width: 1, height: 1 }, group);
    drawStone(group, layout, stone);
    if (cell === last) node("circle", { class: "last", r: layout.shape === "squares" ? 0.44 : 0.2 }, group);
    const share = action >= 0 ? view.policy[action] : undefined;
    if (share !== undefined && (layout.shape !== "columns" || isLowestFree(layout, cell))) {
      node("circle", { class: "heat", r: 0.12 + 0.24 * Math.sqrt(share / most), opacity: 0.35 + 0.4 * (share / most) }, group);
    }
    group.addEventListener("click", () => on.click(cell));
    group.addEventListener("focus", () => on.focus(cell));
    group.addEventListener("keydown", (event) => on.key(event, cell));
  }
  return svg;
}

// The middle of a cell: unit squares, or hexagons in rows that lean to the right.
function centre(layout, cell) {
  const row = Math.floor(cell / layout.width), column = cell % layout.width;
  if (layout.shape === "hexes") return [column * 0.9 + row * 0.45 + 0.5, row * 0.78 + 0.5];
  return [column + 0.5, row + 0.5];
}

function hexagon(r) {
  return [0, 1, 2, 3, 4, 5].map((i) => `${(r * Math.sin((i * Math.PI) / 3)).toFixed(3)},${(r * Math.cos((i * Math.PI) / 3)).toFixed(3)}`).join(" ");
}

function cellName(layout, cell) {
  return layout.columns[cell % layout.width] + layout.rows[Math.floor(cell / layout.width)];
}

function stoneName(layout, stone, sides) {
  if (layout.shape === "chess") return stone === "." ? "empty" : stone;
  return stone ? sides[stone - 1] : "empty";
}

function drawBackground(svg, layout) {
  const { shape, width, height } = layout;
  if (shape === "points") {
    node("rect", { x: -0.1, y: -0.1, width: width + 0.2, height: height + 0.2, fill: "var(--wood)", rx: 0.1 }, svg);
    for (let i = 0; i < height; i++) node("line", { class: "grid", x1: 0.5, x2: width - 0.5, y1: i + 0.5, y2: i + 0.5 }, svg);
    for (let i = 0; i < width; i++) node("line", { class: "grid", y1: 0.5, y2: height - 0.5, x1: i + 0.5, x2: i + 0.5 }, svg);
    return;
  }
  if (shape === "columns") node("rect", { x: -0.05, y: -0.05, width: width + 0.1, height: height + 0.1, fill: "#2456a6", rx: 0.15 }, svg);
  for (let cell = 0; cell < width * height; cell++) {
    const [x, y] = centre(layout, cell), odd = (Math.floor(cell / width) + (cell % width)) % 2;
    if (shape === "columns") node("circle", { cx: x, cy: y, r: 0.4, fill: "var(--paper)" }, svg);
    else if (shape === "hexes") node("polygon", { class: "hex", transform: `translate(${x} ${y})`, points: hexagon(0.5) }, svg);
    else node("rect", { class: shape === "chess" && odd ? "square dark" : "square", x: x - 0.5, y: y - 0.5, width: 1, height: 1 }, svg);
  }
}

// The two pairs of edges that the players of Hex connect.
function drawHexEdges(svg, layout) {
  const last = layout.width * layout.height - 1;
  const [a, b, c, d] = [0, layout.width - 1, last, last - layout.width + 1].map((cell) => centre(layout, cell));
  const edge = (p, q, dx, dy, player) => node("line", { class: `edge ${player}`, x1: p[0] + dx, y1: p[1] + dy, x2: q[0] + dx, y2: q[1] + dy }, svg);
  edge(a, b, 0, -0.52, "first"); edge(d, c, 0, 0.52, "first");
  edge(a, d, -0.48, 0.12, "second"); edge(b, c, 0.48, -0.12, "second");
}

function drawNames(svg, layout) {
  for (let column = 0; column < layout.width; column++) {
    node("text", { class: "name", x: centre(layout, column)[0], y: -0.35 }, svg).textContent = layout.columns[column];
  }
  for (let row = 0; row < layout.height; row++) {
    const [x, y] = centre(layout, row * layout.width);
    node("text", { class: "name", x: x - 0.8, y }, svg).textContent = layout.rows[row];
  }
}

function drawStone(group, layout, stone) {
  if (!stone || stone === ".") return;
  const player = stone === 1 ? "first" : "second";
  if (layout.shape === "chess") {
    const white = stone !== stone.toLowerCase();
    node("text", { class: white ? "piece white" : "piece" }, group).textContent = PIECES[stone.toLowerCase()] + "\ufe0e";
  } else if (layout.shape === "hexes") node("polygon", { class: player, points: hexagon(0.44) }, group);
  else if (layout.shape !== "squares") node("circle", { class: player, r: layout.shape === "columns" ? 0.4 : 0.44 }, group);
  else if (stone === 1) node("path", { class: player, d: "M-0.28 -0.28 L0.28 0.28 M0.28 -0.28 L-0.28 0.28" }, group);
  else node("circle", { class: player, r: 0.3 }, group);
}

function isLowestFree(layout, cell) {
  return !layout.cells[cell] && (cell + layout.width >= layout.cells.length || layout.cells[cell + layout.width]);
}

// The cell of the last action, which is a column on a board of columns; -1 if it has none.
function lastCell(layout, action) {
  if (action === null || layout.shape === "chess") return -1;
  if (layout.shape !== "columns") return action < layout.cells.length ? action : -1;
  for (let cell = action; cell < layout.cells.length; cell += layout.width) if (layout.cells[cell]) return cell;
  return -1;
}

// Draws values for the first side, of which some are null, over the moves of a game.
function drawChart(svg, values, ply, sides) {
  const last = Math.max(values.length - 1, 1);
  const x = (i) => (8 + (284 * i) / last).toFixed(1), y = (value) => (45 - 37 * value).toFixed(1);
  const known = values.map((value, i) => [i, value]).filter(([, value]) => value !== null);
  svg.replaceChildren();
  node("line", { class: "zero", x1: 8, x2: 292, y1: y(0), y2: y(0) }, svg);
  node("line", { class: "shown", x1: x(ply), x2: x(ply), y1: 4, y2: 86 }, svg);
  node("polyline", { points: known.map(([i, value]) => `${x(i)},${y(value)}`).join(" ") }, svg);
  for (const [i, value] of known) node("circle", { cx: x(i), cy: y(value), r: 2.2 }, svg);
  node("text", { x: 10, y: 12 }, svg).textContent = `${sides[0]} wins`;
  node("text", { x: 10, y: 86 }, svg).textContent = `${sides[1]} wins`;
}
