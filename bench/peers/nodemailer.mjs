// Nodemailer with a pool of kept connections (one if not said); the protocol is that of bench/smtp_clients.py.
// node nodemailer.mjs PORT MESSAGES SENDER RECIPIENT TOKEN [CONNECTIONS]
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import nodemailer from "nodemailer";

const [port, file, sender, recipient, token, connections = "1"] = process.argv.slice(2);
const messages = JSON.parse(readFileSync(file, "ascii")).map((text) => Buffer.from(text, "ascii"));
const transport = nodemailer.createTransport({
  pool: true,
  maxConnections: Number(connections),
  maxMessages: Infinity,
  host: "127.0.0.1",
  port: Number(port),
  name: "localhost",
  secure: false,
  ignoreTLS: true,
  auth: { type: "OAuth2", user: sender, accessToken: token },
});
const envelope = { from: sender, to: [recipient] };
let next = 0;

function send() {
  next = (next + 1) % messages.length;
  return transport.sendMail({ envelope, raw: messages[next] });
}

function say(answer) {
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}

function cpuSeconds() {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

try {
  await send();
  say({ ready: "nodemailer" });
  for await (const line of createInterface({ input: process.stdin })) {
    const number = Number(line);
    const cpu = cpuSeconds();
    const began = process.hrtime.bigint();
    await Promise.all(Array.from({ length: number }, send));
    const seconds = Number(process.hrtime.bigint() - began) / 1e9;
    say({ delivered: number, seconds, cpu_s: cpuSeconds() - cpu });
  }
} catch (error) {
  say({ error: error.message });
}
transport.close();
