// A player on the published @hathora/client-sdk: logs in, opens a lobby, asks where its room is, talks to it.
//
//   API_BASE   what https://api.hathora.dev becomes; the SDK has that address built in
//   APP_ID

import { HathoraClient } from "@hathora/client-sdk";
import { hex, obey, tell, unhex } from "./talk.mjs";

const { API_BASE, APP_ID } = process.env;

const original = globalThis.fetch;
globalThis.fetch = async (url, options) => {
  const response = await original(String(url).replace("https://api.hathora.dev", API_BASE), options);
  tell("fetched", { path: new URL(url).pathname, status: response.status });
  return response;
};

const client = new HathoraClient(APP_ID);
let token;
let connection;

tell("ready");
obey({
  async login({ nickname }) {
    token = nickname === undefined ? await client.loginAnonymous() : await client.loginNickname(nickname);
    return { token, claims: HathoraClient.getUserFromToken(token) };
  },
  async createPublic({ region, initialConfig }) {
    return { room: await client.createPublicLobby(token, { region, initialConfig }) };
  },
  async createPrivate({ initialConfig }) {
    return { room: await client.createPrivateLobby(token, { initialConfig }) };
  },
  async lobbies({ region }) {
    return { lobbies: await client.getPublicLobbies(token, region) };
  },
  async details({ room }) {
    return { details: await client.getConnectionDetailsForRoomId(room) };
  },
  async connect({ room, token: other }) {
    connection = await client.newConnection(room);
    connection.onMessage((data) => tell("received", { hex: hex(data) }));
    connection.onClose(({ code, reason }) => tell("closed", { code, reason }));
    await connection.connect(other ?? token);
  },
  write: ({ hex: bytes }) => connection.write(unhex(bytes)),
  writeJson: ({ value }) => connection.writeJson(value),
  disconnect: ({ code }) => connection.disconnect(code),
});
