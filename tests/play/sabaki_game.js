// Plays a whole game through @sabaki/gtp, with an analysis before every move. Arguments: the engine's command line.
const { Controller } = require("@sabaki/gtp");

async function main() {
  const [path, ...args] = process.argv.slice(2);
  const engine = new Controller(path, args);
  engine.start();
  const ask = async (name, ...words) => {
    const response = await engine.sendCommand({ name, args: words });
    if (response.error) throw new Error(`${name} ${words}: ${response.content}`);
    return response.content;
  };
  const report = { reports: 0, moves: [], name: await ask("name"), commands: (await ask("list_commands")).split("\n") };
  await ask("boardsize", "9");
  await ask("clear_board");
  await ask("komi", "6.5");
  await ask("time_settings", "0", "1", "1");
  let passes = 0;
  for (let turn = 0; passes < 2 && turn < 200; turn++) {
    const colour = turn % 2 ? "W" : "B";
    // As the GUI does it: the next command ends the analysis.
    const analysis = engine.sendCommand({ name: turn % 3 ? "kata-analyze" : "lz-analyze", args: [colour, "2"] }, ({ line }) => {
      if (/^info move \S+ visits \d+ .*winrate [\d.]+ .*pv \S+/.test(line)) report.reports++;
    });
    await new Promise((done) => setTimeout(done, 60));
    const move = turn % 4 === 3
      ? (await ask("kata-genmove_analyze", colour, "10")).match(/play (\S+)/)[1]
      : await ask("genmove", colour);
    if ((await analysis).error) throw new Error("the analysis was refused");
    passes = move === "pass" ? passes + 1 : 0;
    report.moves.push(move);
  }
  report.score = await ask("final_score");
  await engine.stop(60000);
  console.log(JSON.stringify(report));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
