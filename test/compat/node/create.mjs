// Creates a state the way builder clients did: axios 0.27 posts the whole buffer behind a typed array, so that what was
// written by bin-serde arrives with the rest of its 64 bytes. Prints what was answered.
//
//   API_BASE, APP_ID, TOKEN
//   KIND   writer: three bytes by a bin-serde Writer; empty: no body; plain: three bytes that own their buffer

import axios from "axios";
import { Writer } from "bin-serde";
import { tell } from "./talk.mjs";

const { API_BASE, APP_ID, TOKEN, KIND } = process.env;

const bodies = {
  writer: () => new Writer().writeUInt8(1).writeUInt8(2).writeUInt8(3).toBuffer(),
  plain: () => new Uint8Array([1, 2, 3]),
  empty: () => new Uint8Array(0),
};

const { status, data } = await axios.post(`${API_BASE}/${APP_ID}/create`, bodies[KIND](), {
  headers: { Authorization: TOKEN, "Content-Type": "application/octet-stream" },
});
tell("created", { status, stateId: data.stateId });
