// Asks Mailroom to send a mail: node publish.js < request.json
import { randomUUID } from "node:crypto";
import { text } from "node:stream/consumers";
import { connect } from "amqplib";

const url = new URL(process.env.MAILROOM_BROKER_URL);
const request = JSON.parse(await text(process.stdin));

const connection = await connect(url.href);
const channel = await connection.createConfirmChannel();
const returned = [];
channel.on("return", (message) => returned.push(message));

channel.publish("mailroom", "mail.send", Buffer.from(JSON.stringify(request)), {
  messageId: randomUUID(), // of this event; another one is another event
  type: "mail.send",
  userId: decodeURIComponent(url.username), // RabbitMQ proves it
  timestamp: Math.floor(Date.now() / 1000),
  contentType: "application/json",
  persistent: true, // survives a restart of RabbitMQ
  mandatory: true, // comes back if there is no queue for it
});
await channel.waitForConfirms();
await connection.close();

if (returned.length > 0) {
  throw new Error("RabbitMQ has no queue for mail.send: run `mailroom migrate`");
}
console.log(request.idempotency_key);
