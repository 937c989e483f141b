// Calls a running orchestrator the way a Node service would: @grpc/grpc-js and the .proto files, nothing generated.
// Usage: node client.js TARGET PROMPT. Prints one JSON object with what a unary and a streaming call gave.
"use strict";

const path = require("node:path");
const grpc = require("@grpc/grpc-js");
const protoLoader = require("@grpc/proto-loader");

const PROTOS = path.resolve(__dirname, "../../../protos");
const [target, prompt] = process.argv.slice(2);

const definition = protoLoader.loadSync("spillway/v1/orchestrator.proto", {
  includeDirs: [PROTOS],
  keepCase: true,
  longs: Number,
  enums: String,
  oneofs: true,
});
const { OrchestratorService } = grpc.loadPackageDefinition(definition).spillway.v1;
const client = new OrchestratorService(target, grpc.credentials.createInsecure());
const deadline = () => ({ deadline: Date.now() + 60_000 });
const request = { chat: { messages: [{ role: "ROLE_USER", parts: [{ text: prompt }] }] } };

const textOf = (message) => message.parts.map((part) => part.text).join("");

function unary(req) {
  return new Promise((resolve, reject) => {
    client.Complete(req, deadline(), (error, response) => (error ? reject(error) : resolve(response.completion)));
  });
}

function stream(req) {
  return new Promise((resolve, reject) => {
    const seen = { deltas: "", completion: null };
    const call = client.StreamComplete({ request: req }, deadline());
    call.on("data", (event) => {
      if (event.event === "delta") seen.deltas += event.delta.text;
      else seen.completion = event.completion;
    });
    call.on("error", reject);
    call.on("end", () => resolve(seen));
  });
}

(async () => {
  const completion = await unary(request);
  const streamed = await stream({ ...request, options: { cache_mode: "CACHE_MODE_BYPASS" } });
  const refused = await unary({}).then(() => null, (error) => ({ code: error.code, details: error.details }));
  console.log(JSON.stringify({
    unary: { text: textOf(completion.message), tier: completion.tier, attempts: completion.attempts.length },
    stream: { deltas: streamed.deltas, text: textOf(streamed.completion.message), tier: streamed.completion.tier },
    refused,
  }));
  client.close();
})().catch((error) => { console.error(error); process.exit(1); });
