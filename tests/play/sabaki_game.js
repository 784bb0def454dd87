// Plays games of 7x7 Go through @sabaki/gtp as a GUI does: with analysis, handicap and clocks. Arguments: the engine's command line.
const { ControllerStateTracker } = require("@sabaki/gtp");

const INFO = /^info move \S+ visits \d+ .*winrate ([\d.]+) .*pv \S+/;

async function main() {
  const [path, ...args] = process.argv.slice(2);
  const tracker = ControllerStateTracker.fromController(path, args);
  const engine = tracker.controller;
  engine.start();
  const ask = async (name, ...words) => {
    const response = await engine.sendCommand({ name, args: words.map(String) });
    if (response.error) throw new Error(`${name} ${words}: ${response.content}`);
    return response.content;
  };
  const report = { reports: 0, rates: [], moves: [], name: await ask("name"), commands: (await ask("list_commands")).split("\n") };
  const note = ({ line }) => {
    const found = line.match(INFO);
    if (found) report.reports++, report.rates.push(found[1]);
  };

  // A record with handicap stones, on which the user steps to and fro: the tracker undoes, or replays from the start.
  const stones = { name: "set_free_handicap", args: ["C3", "E5"] };
  const play = (colour, vertex) => ({ name: "play", args: [colour, vertex] });
  const timeSettings = { mainTime: 0, byoyomiTime: 1, byoyomiStones: 1 };
  const start = { komi: 9, boardsize: [7, 7], timeSettings };
  for (const moves of [[], [play("W", "C5"), play("B", "D5")], [play("W", "C5"), play("B", "D6")], [play("W", "D4")]]) {
    await tracker.sync({ ...start, history: [stones, ...moves] });
  }
  report.replayed = (await ask("move_history")).split("\n").reverse();
  await ask("clear_board");
  report.fixed = await ask("fixed_handicap", 3);
  report.reply = await ask("genmove", "W");
  await ask("clear_board");
  report.free = await ask("place_free_handicap", 5);

  // A whole game by clocks of three kinds: the engine is told its time before every move, and analyses in between.
  await tracker.sync({ ...start, history: [] });
  await ask("kgs-time_settings", "byoyomi", 2, 1, 3);
  let passes = 0;
  for (let turn = 0; passes < 2 && turn < 120; turn++) {
    const colour = turn % 2 ? "W" : "B";
    if (turn === 10) await ask("kgs-time_settings", "canadian", 0, 5, 10);
    if (turn === 20) await ask("time_settings", 30, 0, 0);
    await ask("time_left", colour, 1, turn < 20 ? 1 : 0);
    // As the GUI does it: the next command ends the analysis.
    const words = turn % 3 ? [colour, "2", "ownership", "true", "maxmoves", "3"] : [colour, "2"];
    const analysis = engine.sendCommand({ name: turn % 3 ? "kata-analyze" : "lz-analyze", args: words }, note);
    await new Promise((done) => setTimeout(done, 40));
    const form = ["lz-genmove_analyze", "kata-genmove_analyze", "genmove"][turn % 3];
    let move = null;
    const response = await engine.sendCommand({ name: form, args: form === "genmove" ? [colour] : [colour, "10"] }, (event) => {
      note(event);
      const found = event.line.match(/^play (\S+)/);
      if (found) move = found[1];
    });
    if (response.error || (await analysis).error) throw new Error(`${form}: ${response.content}`);
    move = move || response.content;
    passes = move === "pass" ? passes + 1 : 0;
    report.moves.push(move);
  }
  report.tracked = tracker.state.history.map((command) => command.args[1]);
  report.score = await ask("final_score");
  await engine.stop(60000);
  console.log(JSON.stringify(report));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
