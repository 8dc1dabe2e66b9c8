// Prints what became of our requests, a line each: node outcomes.js QUEUE
import { connect } from "amqplib";

const connection = await connect(process.env.MAILROOM_BROKER_URL);
const channel = await connection.createChannel();
await channel.prefetch(20);

await channel.consume(process.argv[2], (message) => {
  const event = JSON.parse(message.content.toString());
  console.log(message.properties.type, JSON.stringify(event));
  // After the event is stored on our side, by its id (messageId): it may come twice.
  channel.ack(message);
});
