// A backend on the published @hathora/server-sdk. What it does is decided by what clients say to it:
//
//   echo X   send X back to who said it          all X    broadcast X to the room
//   who      send this backend's storeId back    kick     close the connection of who said it
//
// and by the environment:
//
//   COORDINATOR_HOST  bare host name or address; the SDK adds port 7147
//   APP_SECRET, STORE_ID
//   WELCOME           send "WELCOME storeId" to a user who subscribes
//   CHATTER_MS        broadcast a numbered message to every room, so often
//   LOOKUP            HOST=ADDRESS: let HOST take LOOKUP_MS to resolve, as a name on the Internet does
//
// Every call of the SDK into the store is told to the test, and the test can make the SDK's calls itself.

import dns from "node:dns";
import { register } from "@hathora/server-sdk";
import { hex, obey, tell, unhex } from "./talk.mjs";

const { COORDINATOR_HOST, APP_SECRET, STORE_ID, WELCOME, CHATTER_MS, LOOKUP, LOOKUP_MS } = process.env;

if (LOOKUP !== undefined) {
  const [name, address] = LOOKUP.split("=");
  const original = dns.lookup;
  dns.lookup = (host, options, callback) => {
    if (host !== name) return original(host, options, callback);
    const answer = options?.all ? [[{ address, family: 4 }]] : [address, 4];
    setTimeout(() => callback(null, ...answer), Number(LOOKUP_MS ?? 15));
  };
}

const rooms = new Set();
const decode = (data) => Buffer.from(data).toString();
const encode = (text) => new Uint8Array(Buffer.from(text));
const named = (roomId, userId, more) => ({ room: roomId.toString(36), user: userId, ...more });

// The SDK calls the store only after register() has resolved, or so late that the promise has: at first nobody is there.
let coordinator;

const store = {
  newState(roomId, userId, data) {
    rooms.add(roomId);
    tell("newState", named(roomId, userId, { hex: hex(data) }));
  },
  subscribeUser(roomId, userId) {
    rooms.add(roomId);
    tell("subscribe", named(roomId, userId));
    if (WELCOME !== undefined) coordinator.sendMessage(roomId, userId, encode(`${WELCOME} ${STORE_ID}`));
  },
  unsubscribeUser(roomId, userId) {
    tell("unsubscribe", named(roomId, userId));
  },
  onMessage(roomId, userId, data) {
    tell("message", named(roomId, userId, { hex: hex(data) }));
    const [verb, ...rest] = decode(data).split(" ");
    const text = encode(rest.join(" "));
    if (verb === "echo") coordinator.sendMessage(roomId, userId, text);
    if (verb === "all") coordinator.broadcastMessage(roomId, text);
    if (verb === "who") coordinator.sendMessage(roomId, userId, encode(STORE_ID));
    if (verb === "kick") coordinator.closeConnection(roomId, userId, "kicked");
  },
};

// What the SDK says about its connection goes to the console; the test wants to know too.
for (const level of ["log", "error"]) {
  const original = console[level];
  console[level] = (...args) => {
    tell("sdk", { text: String(args[0]) });
    if (level === "error") original(...args);
  };
}

coordinator = await register({
  coordinatorHost: COORDINATOR_HOST,
  appSecret: APP_SECRET,
  storeId: STORE_ID,
  authInfo: { anonymous: { separator: "-" }, nickname: {} },
  store,
});
tell("registered", { store: STORE_ID });

if (CHATTER_MS !== undefined) {
  let n = 0;
  setInterval(() => {
    n++;
    // The payload holds a brace: whoever searches for the registration by its first character is led astray.
    rooms.forEach((roomId) => coordinator.broadcastMessage(roomId, encode(`chatter {${n}}`)));
  }, Number(CHATTER_MS));
}

const room = (command) => [...command.room].reduce((r, c) => r * 36n + BigInt(parseInt(c, 36)), 0n);

obey({
  send: (c) => coordinator.sendMessage(room(c), c.user, unhex(c.hex)),
  broadcast: (c) => coordinator.broadcastMessage(room(c), unhex(c.hex)),
  kick: (c) => coordinator.closeConnection(room(c), c.user, "kicked"),
  subscribers: (c) => ({ users: coordinator.getSubscribers(room(c)) }),
});
