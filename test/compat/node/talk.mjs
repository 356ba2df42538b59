// How a test talks with a program of this folder: one JSON object per line, events out on stdout, commands in on stdin.

import readline from "node:readline";

/** Tells the test that something happened. */
export function tell(event, fields = {}) {
  process.stdout.write(JSON.stringify({ event, ...fields }) + "\n");
}

/** Runs commands of the test, one after the other: {"do": name, ...} calls actions[name]. Ends with its stdin. */
export function obey(actions) {
  const lines = readline.createInterface({ input: process.stdin });
  let before = Promise.resolve();
  lines.on("line", (line) => {
    const command = JSON.parse(line);
    before = before.then(async () => {
      try {
        const result = await actions[command.do](command);
        tell("done", { did: command.do, ...result });
      } catch (err) {
        tell("failed", { did: command.do, error: String(err?.message ?? err) });
      }
    });
  });
  lines.on("close", () => process.exit(0));
}

export const hex = (bytes) => Buffer.from(bytes).toString("hex");
export const unhex = (text) => new Uint8Array(Buffer.from(text, "hex"));
